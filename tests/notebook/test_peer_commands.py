"""Peers as notebooks use them: ``%%pb_peer`` in real kernels."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from tests.support.kernels import PATIENCE, Cell, Kernel

SERVE = """\
%%pb_peer server --restart
import pbnb as pb, sys
class Echoer(pb.Root):
    def remote_echo(self, text):
        print('echoing', text)
        print('to stderr', text, file=sys.stderr)
        return text
    def remote_fail(self):
        raise ValueError('as asked')
    async def remote_back(self, there):
        print('calling back')
        return await there.callRemote('echo', 'back')
%pb_serve Echoer() --name echoes
"""


@pytest.fixture
def no_peers(kernel: Kernel) -> None:
    """Lets a test begin without the peers of those before it."""
    kernel.run("get_ipython().magics_manager.registry['PBMagics'].peers.stop_all()")


def pid_of(kernel: Kernel, name: str) -> int:
    return int(kernel.run(f"%%pb_peer {name}\nimport os; print(os.getpid())").stdout)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_cell_runs_in_another_process_and_keeps_its_variables(kernel: Kernel) -> None:
    cell = kernel.run("%%pb_peer new\nimport os\nx = 1\nprint(os.getpid())")
    assert int(cell.stdout) != kernel.pid
    assert (cell.stderr, cell.result) == ("", None)
    assert kernel.run("%%pb_peer new\nprint(x)").stdout == "1\n"
    assert kernel.attempt("x").ename == "NameError"


def test_serve_there_and_call_from_here(kernel: Kernel) -> None:
    assert kernel.run(SERVE).stdout.startswith("serving Echoer as echoes on ")
    kernel.run("ref = %pb_connect echoes")
    assert kernel.run("%pb_peer server").stdout == ""
    for number in range(3):
        assert kernel.run(f"await ref.callRemote('echo', {number})").result == str(number)
    shown = kernel.run("%pb_peer server")
    assert shown.stdout == "echoing 0\nechoing 1\nechoing 2\n"
    assert shown.stderr == "to stderr 0\nto stderr 1\nto stderr 2\n"
    assert kernel.run("%pb_peer server").stdout == ""
    assert kernel.run("is_nested()").result == "False"


def test_what_it_printed_before_it_answered_is_there_at_once(kernel: Kernel) -> None:
    kernel.run(SERVE)
    cell = kernel.run(
        "ref = %pb_connect echoes\n"
        "for number in range(20):\n"
        "    await ref.callRemote('echo', number)\n"
        "    %pb_peer server\n"
    )
    assert cell.stdout == "".join(f"echoing {number}\n" for number in range(20))


def test_a_peer_calls_back_while_the_cell_waits_for_it(kernel: Kernel) -> None:
    kernel.run("%pb_serve Echoer() --name here")
    cell = kernel.run(
        "%%pb_peer caller\n"
        "ref = %pb_connect here\n"
        "print(await ref.callRemote('echo', 'over there'))"
    )
    assert cell.stdout == "over there\n"


def test_an_exception_is_shown_with_its_traceback_and_stops_the_rest(kernel: Kernel) -> None:
    numbers = [kernel.send(cell) for cell in ("%%pb_peer other\n1/0", "'not run'")]
    failed, after = map(kernel.wait, numbers)
    assert failed.status == "error"
    assert (failed.ename, failed.evalue) == (
        "PeerError",
        "in other: ZeroDivisionError: division by zero",
    )
    assert "ZeroDivisionError" in failed.traceback
    assert after.status == "aborted"
    assert "invalid syntax" in kernel.attempt("%%pb_peer other\n1 1").traceback
    assert kernel.run("%%pb_peer other\nprint('goes on')").stdout == "goes on\n"


def test_results_and_displays_are_shown(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%pb_peer other\n"
        "from IPython.display import HTML, display\n"
        "display(HTML('<b>bold</b>'))\n"
        "{'a': 1}"
    )
    assert [shown["data"] for shown in cell.displays] == [
        {"text/html": "<b>bold</b>", "text/plain": "<IPython.core.display.HTML object>"},
        {"text/plain": "{'a': 1}"},
    ]


def test_output_comes_while_the_cell_runs(kernel: Kernel) -> None:
    number = kernel.send("%%pb_peer other\nimport asyncio\nprint('now')\nawait asyncio.sleep(600)")
    kernel.wait_until(number, lambda cell: cell.stdout == "now\n")
    kernel.interrupt()
    assert kernel.wait(number).status == "error"


@pytest.mark.parametrize(
    "cell",
    [
        "print('now'); await asyncio.sleep(600)",
        "print('now', flush=True); time.sleep(600)",
        "print('now', flush=True)\nwhile True: pass",
    ],
)
def test_an_interrupt_interrupts_the_peer_which_lives_on(kernel: Kernel, cell: str) -> None:
    kernel.run("%%pb_peer other\nimport asyncio, time\nx = 1")
    # It obeys, however long that takes on a machine that is busy.
    kernel.run("import pbnb.notebook.peers as peers\nbefore, peers._OBEYS = peers._OBEYS, 60.0")
    number = kernel.send(f"%%pb_peer other\n{cell}")
    kernel.wait_until(number, lambda cell: cell.stdout == "now\n")
    kernel.interrupt()
    ended = kernel.wait(number)
    kernel.run("peers._OBEYS = before")
    assert ended.status == "error"
    assert "interrupted, and with it what other did" in ended.traceback
    assert kernel.run("%%pb_peer other\nprint(x)").stdout == "1\n"


def test_a_peer_that_does_not_obey_is_ended_by_restart(kernel: Kernel) -> None:
    kernel.run("%%pb_peer other\nimport signal, time\nx = 1")
    number = kernel.send(
        "%%pb_peer other\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('now', flush=True)\nwhile True: time.sleep(600)"
    )
    kernel.wait_until(number, lambda cell: cell.stdout == "now\n")
    kernel.interrupt()
    assert "other goes on" in kernel.wait(number).traceback
    assert kernel.run("%pb_peer other --restart").stdout == "restarted peer other\n"
    assert "NameError" in kernel.attempt("%%pb_peer other\nx").traceback


@pytest.mark.parametrize(
    ("cell", "how"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("exit()", "exit code 0"),
    ],
)
def test_a_peer_that_ends_itself(kernel: Kernel, no_peers: None, cell: str, how: str) -> None:
    failed = kernel.attempt(f"%%pb_peer other\n{cell}")
    if failed.status == "ok":  # exit() ends the kernel after the cell
        wait_until_gone_in(kernel, "other")
        failed = kernel.attempt("%pb_peer other")
    assert failed.traceback == (
        f"PeerEnded: peer other has ended ({how}): %pb_peer other --restart starts it again, empty"
    )
    assert kernel.attempt("%%pb_peer other\n1").ename == "PeerEnded"
    assert kernel.run("%pb_peer --list").stdout == f"other: has ended ({how})\n"
    kernel.run("%pb_peer other --restart")
    assert kernel.run("%%pb_peer other\nprint(1)").stdout == "1\n"


def test_a_peer_that_is_killed_while_a_cell_waits(kernel: Kernel, no_peers: None) -> None:
    pid = pid_of(kernel, "other")
    number = kernel.send("%%pb_peer other\nimport time; print('now', flush=True); time.sleep(600)")
    kernel.wait_until(number, lambda cell: cell.stdout == "now\n")
    os.kill(pid, signal.SIGKILL)
    assert kernel.wait(number).ename == "PeerEnded"
    kernel.run("%pb_peer other --restart")


def wait_until_gone_in(kernel: Kernel, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while "has ended" not in kernel.run("%pb_peer --list").stdout:
        assert time.monotonic() < deadline


def test_a_hundred_megabytes(kernel: Kernel) -> None:
    cell = kernel.run("%%pb_peer other\nfor n in range(1000): print('x' * 100_000)\nprint('end')")
    assert len(cell.stdout) < 110_000
    assert "… 99,899,004 characters left out …" in cell.stdout
    assert cell.stdout.endswith("x\nend\n")
    assert kernel.run("%%pb_peer other\nprint(1)").stdout == "1\n"


def test_list_and_stop(kernel: Kernel, no_peers: None) -> None:
    assert kernel.run("%pb_peer --list").stdout == "no peers\n"
    one, two = pid_of(kernel, "one"), pid_of(kernel, "two")
    assert kernel.run("%pb_peer --list").stdout == f"one: process {one}\ntwo: process {two}\n"
    assert kernel.run("%pb_peer one --stop").stdout == "stopped peer one\n"
    assert is_gone(one)
    assert not is_gone(two)
    assert kernel.run("%pb_peer --list").stdout == f"two: process {two}\n"


def test_a_cell_may_ask_for_a_fresh_peer(kernel: Kernel) -> None:
    first = pid_of(kernel, "other")
    second = int(kernel.run("%%pb_peer other --restart\nimport os; print(os.getpid())").stdout)
    assert first != second
    assert is_gone(first)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%pb_peer", "name a peer"),
        ("%pb_peer nobody", "there is no peer nobody"),
        ("%pb_peer nobody --stop", "there is no peer nobody"),
        ("%pb_peer a --stop --restart", "choose one of --stop and --restart"),
        ("%pb_peer a --list", "takes nothing else"),
        ("%%pb_peer a --stop\n1", "with one %"),
        ("%%pb_peer\n1", "name a peer"),
        ("%%pb_peer a/b\n1", "cannot be the name of a peer"),
        ("%%pb_peer a b\n1", "unrecognized arguments: b"),
    ],
)
def test_what_is_mistyped(kernel: Kernel, no_peers: None, cell: str, said: str) -> None:
    failed = kernel.attempt(cell)
    assert failed.status == "error"
    assert failed.stderr.startswith("UsageError: ")
    assert said in failed.stderr


def test_names_and_options_are_completed(kernel: Kernel, no_peers: None) -> None:
    kernel.run("%%pb_peer other\n")
    assert kernel.attempt("%pb_peer").stderr == "UsageError: say which peer: other\n"
    assert kernel.complete("%pb_peer ") == (["other"], "")
    assert kernel.complete("%%pb_peer ot") == (["other"], "ot")
    assert kernel.complete("%pb_peer other --re") == (["--restart"], "--re")


def test_what_needs_a_page_of_its_own_is_shown_as_text(kernel: Kernel) -> None:
    view = "application/vnd.jupyter.widget-view+json"
    (shown,) = kernel.run(
        "%%pb_peer other\n"
        f"display({{'{view}': {{'model_id': '1'}}, 'text/plain': 'Slider()'}}, raw=True)"
    ).displays
    assert shown["data"] == {"text/plain": "Slider()"}
    (help,) = kernel.run("%%pb_peer other\nlen?").displays
    assert "number of items" in help["data"]["text/plain"]


def test_a_subshell_uses_the_same_peers(kernel: Kernel) -> None:
    kernel.run("%%pb_peer other\ny = 2")
    subshell = kernel.new_subshell()
    assert kernel.wait(kernel.send("%%pb_peer other\nprint(y)", subshell)).stdout == "2\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_peer_is_gone_when_the_kernel_was_killed(
    new_kernel: Callable[..., Kernel], how: signal.Signals
) -> None:
    kernel = new_kernel()
    kernel.run("%load_ext pbnb")
    pid = pid_of(kernel, "other")
    os.kill(kernel.pid, how)
    wait_until_gone(pid)


def test_the_peer_is_gone_when_the_kernel_has_shut_down(
    new_kernel: Callable[..., Kernel],
) -> None:
    kernel = new_kernel()
    kernel.run("%load_ext pbnb")
    pid = pid_of(kernel, "other")
    kernel.shut_down()
    assert is_gone(pid)


def test_unloading_ends_the_peers(new_kernel: Callable[..., Kernel]) -> None:
    kernel = new_kernel()
    kernel.run("%load_ext pbnb")
    pid = pid_of(kernel, "other")
    kernel.run("%unload_ext pbnb")
    assert is_gone(pid)
    kernel.run("%load_ext pbnb")
    assert kernel.run("%pb_peer --list").stdout == "no peers\n"


def test_run_all(new_kernel: Callable[..., Kernel]) -> None:
    kernel = new_kernel()
    cells = [
        "%load_ext pbnb",
        SERVE,
        "ref = %pb_connect echoes",
        "await ref.callRemote('echo', 1)",
        "%pb_peer server",
        "await ref.callRemote('back', Echoer())",
        "%pb_peer server",
        "%%pb_peer server\nprint('served')",
        "%%capture said\n%pb_peer server",
        "%pb_peer server --stop",
        "'the end'",
    ]
    numbers = [kernel.send(cell) for cell in cells]
    ended = [kernel.wait(number) for number in numbers]
    assert [cell.status for cell in ended] == ["ok"] * len(cells)
    assert ended[3].result == "1"
    assert ended[4].stdout == "echoing 1\n"
    assert ended[5].result == "'back'"
    assert ended[6].stdout == "calling back\n"
    assert ended[7].stdout == "served\n"
    assert ended[10].result == "'the end'"


BLOCKING = {
    "function": "def show():\n    %pb_peer other\nshow()",
    "%%time": "%%time\n%pb_peer other",
    "cell in %%time": "%%time\n%%pb_peer other\nprint('said')",
    "run_cell": "get_ipython().run_cell('%pb_peer other').raise_error()",
    "run_cell_magic": "get_ipython() . run_cell_magic('pb_peer', 'other', 'print(1)')",
}


@pytest.mark.parametrize("context", BLOCKING)
def test_where_a_cell_cannot_await(kernel: Kernel, context: str) -> None:
    kernel.run(
        "%%pb_peer other\nimport asyncio\nasyncio.get_running_loop().call_soon(print, 'said later')"
    )
    shown: Cell = kernel.run(BLOCKING[context])
    assert "said" in shown.stdout or "1\n" in shown.stdout
