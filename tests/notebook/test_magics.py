"""The magics in real kernels: one serves, another calls, and everything that can be mistyped."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import pbnb as pb
from tests.support.kernels import Kernel
from tests.support.ports import free_port

SAID = re.compile(r"serving Echoer on (127\.0\.0\.1:\d+) — connect with: %pb_connect \1\n")


def serve(kernel: Kernel, options: str = "") -> str:
    """Serves an Echoer; returns its address."""
    address = kernel.run(f"server = %pb_serve Echoer() {options}\nserver.address").result
    assert address is not None
    return address.strip("'")


def test_one_kernel_serves_and_another_calls(kernel: Kernel, peer: Kernel) -> None:
    served = kernel.run("%pb_serve Echoer()")
    found = SAID.fullmatch(served.stdout)
    assert found
    # One line in all: no value below it, and nothing else.
    assert (served.result, served.stderr) == (None, "")
    peer.run(f"ref = %pb_connect {found[1]}")
    cell = peer.run('await ref.callRemote("echo", "hello network")')
    assert cell.result == "'hello network'"
    assert peer.run("is_nested()").result == kernel.run("is_nested()").result == "False"


def test_one_cell_that_loads_connects_and_calls(
    new_kernel: Callable[..., Kernel], tmp_path: Path
) -> None:
    kernel = new_kernel()
    cell = kernel.run(
        "%load_ext pbnb\n"
        "%pb_serve Echoer() --name both\n"
        "ref = %pb_connect both\n"
        'await ref.callRemote("echo", "hello")'
    )
    assert cell.result == "'hello'"


def test_the_cell_that_loads_shows_one_line_too(new_kernel: Callable[..., Kernel]) -> None:
    kernel = new_kernel()
    cell = kernel.run("%load_ext pbnb\n%pb_serve Echoer() --port 0")
    assert SAID.fullmatch(cell.stdout)
    assert cell.result is None
    assert kernel.run("is_nested()").result == "False"
    assert (kernel.run("%reload_ext pbnb\nserver = %pb_serve Echoer()\nserver").result or "")[
        :7
    ] == ("<Server")


def test_a_server_that_its_user_closes_is_gone_at_once(kernel: Kernel, peer: Kernel) -> None:
    kernel.run("server = %pb_serve Echoer() --name brief")
    kernel.run("await server.close()")
    # The other kernel finds no file of it, and takes the name.
    assert "brief" in peer.run("other = %pb_serve Echoer() --name brief").stdout
    assert "brief" not in kernel.run("%pb_status").stdout
    peer.run("%pb_stop brief")


def test_run_all_leaves_no_cell_unanswered(new_kernel: Callable[..., Kernel]) -> None:
    kernel = new_kernel()
    cells = [
        "%load_ext pbnb",
        "server = %pb_serve Echoer() --name echoes",
        "ref = %pb_connect echoes",
        'await ref.callRemote("echo", 1)',
        "def get():\n    found = %pb_connect echoes\n    return found\nagain = get()",
        'await again.callRemote("echo", 2)',
        "%time third = %pb_connect echoes",
        'await asyncio.gather(*(ref.callRemote("echo", n) for n in range(3)))',
        "%pb_stop",
        '"the end"',
    ]
    numbers = [kernel.send(cell) for cell in cells]
    ended = [kernel.wait(number) for number in numbers]
    assert [cell.status for cell in ended] == ["ok"] * len(cells)
    assert ended[3].result == "1"
    assert ended[5].result == "2"
    assert ended[7].result == "[0, 1, 2]"
    assert ended[9].result == "'the end'"


def test_a_server_answers_while_its_kernel_awaits(kernel: Kernel, peer: Kernel) -> None:
    kernel.run(
        "class Ender(pb.Root):\n"
        "    def remote_end(self):\n        over.set()\n"
        "over = asyncio.Event()\n"
        "%pb_serve Ender() --name ender"
    )
    peer.run("ref = %pb_connect ender")
    # This cell ends only because a call came while it awaited.
    waiting = kernel.send("await over.wait()")
    peer.run('await ref.callRemote("end")')
    assert kernel.wait(waiting).result == "True"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_hosts(kernel: Kernel, peer: Kernel, host: str) -> None:
    address = serve(kernel, f"--host {host.strip('[]')}")
    port = address.rpartition(":")[2]
    peer.run(f"ref = %pb_connect {host}:{port}")
    assert peer.run('await ref.callRemote("echo", 1)').result == "1"


def test_a_port_of_ones_own_choice(kernel: Kernel) -> None:
    port = free_port()
    assert serve(kernel, f"--port {port}") == f"127.0.0.1:{port}"


def test_the_connection_file(kernel: Kernel, runtime: Path) -> None:
    address = serve(kernel, "--name foo")
    path = runtime / "pbnb-foo.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads(path.read_text())
    assert f"{written['host']}:{written['port']}" == address
    assert written["pid"] == kernel.pid
    token = written["token"]
    said = [cell.stdout + cell.stderr + str(cell.result) for cell in kernel.cells.values()]
    assert len(token) > 30 and not any(token in text for text in said)
    kernel.run("%pb_stop foo")
    assert not path.exists()


def test_shutting_down_removes_the_connection_file(
    new_kernel: Callable[..., Kernel], tmp_path: Path
) -> None:
    kernel = new_kernel()
    kernel.run("%load_ext pbnb")
    kernel.run("%pb_serve Echoer() --name foo")
    assert (tmp_path / "pbnb-foo.json").exists()
    kernel.shut_down()
    assert not (tmp_path / "pbnb-foo.json").exists()


def test_shutting_down_ends_a_thread_that_serves(
    new_kernel: Callable[..., Kernel], tmp_path: Path
) -> None:
    kernel = new_kernel()
    kernel.run("%load_ext pbnb\nserver = %pb_serve Echoer() --thread --name foo")
    said = kernel.run("print(server.address, server.token)").stdout.split()

    async def main() -> None:
        ref = await pb.connect(said[0], token=said[1])
        assert await ref.callRemote("echo", 1) == 1
        # It is busy with calls when its kernel ends.
        calls = [ref.callRemote("echo", each) for each in range(1000)]
        kernel.shut_down()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in found} <= {int, pb.PBConnectionLost}

    process = kernel.manager.provisioner.process  # type: ignore[union-attr, attr-defined]
    asyncio.run(main())
    assert process.returncode == 0
    assert list(tmp_path.glob("pbnb-*")) == []


def test_a_killed_kernel_leaves_its_name_free(
    new_kernel: Callable[..., Kernel], tmp_path: Path
) -> None:
    killed, other = new_kernel(), new_kernel()
    for kernel in (killed, other):
        kernel.run("%load_ext pbnb")
    killed.run("%pb_serve Echoer() --name foo")
    killed.close()
    assert (tmp_path / "pbnb-foo.json").exists()
    cell = other.attempt("%pb_connect foo")
    assert cell.ename == "ConnectError"
    assert "nothing is served as foo" in (cell.evalue or "")
    assert not (tmp_path / "pbnb-foo.json").exists()
    other.run("%pb_serve Echoer() --name foo")


def test_who_has_no_connection_file_is_refused(
    kernel: Kernel, new_kernel: Callable[..., Kernel], tmp_path: Path
) -> None:
    address = serve(kernel)
    stranger = new_kernel(JUPYTER_RUNTIME_DIR=str(tmp_path / "of-another-user"))
    stranger.run("%load_ext pbnb")
    stranger.run(f"ref = %pb_connect {address}")
    cell = stranger.attempt('await ref.callRemote("echo", "let me in")')
    assert cell.ename == "UnauthorizedLogin"
    assert "asks for a login first" in (cell.evalue or "")
    assert "\n" not in (cell.evalue or "")


def test_a_wrong_token_is_refused(kernel: Kernel, peer: Kernel, runtime: Path) -> None:
    serve(kernel, "--name foo")
    path = runtime / "pbnb-foo.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["token"], "wrong"))
    cell = peer.attempt("%pb_connect foo")
    assert cell.ename == "UnauthorizedLogin"
    assert cell.traceback == f"UnauthorizedLogin: {cell.evalue}"


def test_plain_clients_can_be_served(kernel: Kernel) -> None:
    cell = kernel.run("server = %pb_serve Echoer() --anonymous")
    assert ", without a login — connect with" in cell.stdout
    address = (kernel.run("server.address").result or "").strip("'")

    async def main() -> None:
        ref = await pb.connect(address)
        assert await ref.callRemote("echo", "plain") == "plain"
        await ref.broker.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("line", "ename", "sentence"),
    [
        ("127.0.0.1:1", "ConnectError", "nothing listens on 127.0.0.1:1"),
        ("::1:80", "ValueError", "write an IPv6 host in brackets"),
        ("host:no", "ValueError", "is not an address: write host:port"),
        ("nosuch", "ConnectError", "nothing is served as nosuch: write host:port, or the name"),
        ("nosuch.invalid:80", "ConnectError", "there is no host 'nosuch.invalid'"),
    ],
)
@pytest.mark.parametrize("way", ["%pb_connect {}", "def f():\n    %pb_connect {}\nf()"])
def test_errors_of_connecting_are_one_sentence(
    peer: Kernel, way: str, line: str, ename: str, sentence: str
) -> None:
    cell = peer.attempt(way.format(line))
    assert cell.ename == ename
    assert sentence in (cell.evalue or "")
    assert cell.traceback == f"{ename}: {cell.evalue}"
    assert "\n" not in cell.traceback


def test_errors_of_connecting_can_be_caught(peer: Kernel) -> None:
    cell = peer.run(
        "try:\n    ref = %pb_connect 127.0.0.1:1\n"
        "except pb.ConnectError as error:\n    print('caught')"
    )
    assert cell.stdout == "caught\n"


def test_who_does_not_answer_is_given_up(peer: Kernel) -> None:
    port = peer.run(
        "import socket\nsilent = socket.create_server(('127.0.0.1', 0))\n"
        "print(silent.getsockname()[1])"
    ).stdout.strip()
    cell = peer.attempt(f"%pb_connect 127.0.0.1:{port} --timeout 0.05")
    assert cell.ename == "ConnectTimeout"
    assert cell.traceback == f"ConnectTimeout: {cell.evalue}"
    peer.run("%config PBMagics.connect_timeout = 0.05")
    try:
        cell = peer.attempt(f"%pb_connect 127.0.0.1:{port}")
        assert cell.ename == "ConnectTimeout"
        assert "within 0.05 s" in (cell.evalue or "")
    finally:
        peer.run("%config PBMagics.connect_timeout = 10.0")
    peer.run("silent.close()")


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("%pb_serve", "say what to serve, as in %pb_serve Echoer()"),
        ("%pb_serve --name foo", "say what to serve"),
        ("%pb_serve Echoer", "Echoer is a class: serve an instance"),
        ("%pb_serve 'text'", "str objects cannot be served: derive the class from pb.Root"),
        ("%pb_serve Echoer() --port x", "argument --port: invalid int value: 'x'"),
        ("%pb_serve Echoer() --port 65536", "65536 is no port"),
        ("%pb_serve Echoer() --name 1", "'1' cannot be a name"),
        ("%pb_serve Echoer() --host 0.0.0.0 --anonymous", "can be reached from other machines"),
        ("%pb_serve Echoer() --prot 1", "--prot is not an option"),
        ("%pb_serve server.root", "this Echoer is served on 127.0.0.1:"),
        ("%pb_serve Echoer() --name here", "the name here is taken by what process"),
        ("%pb_serve Echoer() --port $PORT", "is in use, this kernel serves Echoer there"),
        ("%pb_connect", "say what to connect to, as in %pb_connect here"),
        ("%pb_connect a b", "unrecognized arguments: b"),
        ("%pb_connect here --timeout x", "argument --timeout: invalid float value: 'x'"),
        ("%pb_connect here --timeout 0", "--timeout 0 leaves no time"),
        ("%pb_connect here --timeout nan", "--timeout nan leaves no time"),
        ("%pb_stop there", "this kernel serves nothing as there: it serves here"),
        ("%pb_status x", "unrecognized arguments: x"),
    ],
)
def test_what_is_mistyped_is_answered_in_one_sentence(
    kernel: Kernel, cell: str, sentence: str
) -> None:
    address = serve(kernel, "--name here")
    ended = kernel.attempt(cell.replace("$PORT", address.rpartition(":")[2]))
    assert ended.status == "error"
    assert ended.stderr.startswith("UsageError: ")
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.ename is None  # no traceback
    # Nothing has changed.
    assert kernel.run("print(server.closed, len(server.connections))").stdout == "False 0\n"


def test_an_error_in_the_expression_is_the_users_own(kernel: Kernel) -> None:
    cell = kernel.attempt("%pb_serve Echoer(1/0)")
    assert cell.ename == "ZeroDivisionError"
    assert "Traceback" in cell.traceback
    assert kernel.attempt("%pb_serve nosuch").ename == "NameError"


def test_an_expression_is_taken_as_it_stands(kernel: Kernel) -> None:
    kernel.run(
        "class Keeper(pb.Root):\n"
        "    def __init__(self, **kept):\n        self.kept = kept\n"
        "x = 'value of x'\n"
        'server = %pb_serve Keeper(a="{x}  $x", b={1: x}) --name keeper  # a comment\n'
    )
    assert kernel.run("server.root.kept").result == "{'a': '{x}  $x', 'b': {1: 'value of x'}}"


def test_variables_of_a_function_are_seen(kernel: Kernel) -> None:
    kernel.run(
        "async def serve(root):\n"
        "    server = %pb_serve root --name local\n"
        "    return server\n"
        "root = 'of the notebook'\n"
        "server = await serve(Echoer())"
    )
    assert kernel.run("type(server.root).__name__").result == "'Echoer'"


def test_stopping(kernel: Kernel, peer: Kernel) -> None:
    nothing = kernel.attempt("%pb_stop")
    assert nothing.stderr == "UsageError: this kernel serves nothing that could be stopped\n"
    first = serve(kernel, f"--port {free_port()}")
    second = serve(kernel, "--name foo")
    kernel.run("third = %pb_serve Echoer()")
    peer.run("ref = %pb_connect foo")
    several = kernel.attempt("%pb_stop")
    assert several.stderr.startswith(
        f"UsageError: say what to stop, or all: this kernel serves {first}, foo, "
    )
    assert kernel.run("%pb_stop foo").stdout == f"stopped serving Echoer as foo on {second}\n"
    lost = peer.attempt('await ref.callRemote("echo", 1)')
    assert lost.ename in ("DeadReferenceError", "PBConnectionLost")
    assert kernel.run(f"%pb_stop {first}").stdout == f"stopped serving Echoer on {first}\n"
    assert kernel.run("%pb_stop all").stdout.startswith("stopped serving Echoer on ")
    assert peer.attempt(f"%pb_connect {first}").ename == "ConnectError"


def test_status(kernel: Kernel, peer: Kernel) -> None:
    assert kernel.run("%pb_status").stdout.startswith("serving nothing\n")
    address = serve(kernel, "--name foo")
    peer.run("ref = %pb_connect foo")
    here = kernel.run("print(server.connections[0].peer)").stdout.strip()
    rows = [line.split() for line in kernel.run("%pb_status").stdout.splitlines()]
    assert rows[1] == ["Echoer", address, "foo", "token", here]
    assert peer.run("%pb_status").stdout == f"serving nothing\nconnected to {address}\n"
    kernel.run("%pb_stop")
    peer.run("del ref")


@pytest.mark.parametrize(
    ("magic", "words"),
    [
        ("pb_serve", ["--port PORT", "--anonymous", "server = %pb_serve Echoer()", "EXPR"]),
        ("pb_connect", ["--timeout TIMEOUT", "host:port", "ref = %pb_connect"]),
        ("pb_stop", ["TARGET", "or all"]),
        ("pb_status", ["connected to"]),
    ],
)
def test_help(kernel: Kernel, magic: str, words: list[str]) -> None:
    cell = kernel.run(f"%{magic}?")
    text = cell.payload[0]["data"]["text/plain"]
    assert f"%{magic}" in text
    for word in words:
        assert word in text


def test_config_shows_the_timeout(kernel: Kernel) -> None:
    text = kernel.run("%config PBMagics").stdout
    assert "PBMagics.connect_timeout" in text
    assert "Current: 10.0" in text


ASIDE = """\
import threading, time
def serving_threads():
    return [each.name for each in threading.enumerate() if each.name.startswith('pbnb serves')]
class Aside(pb.Root):
    def __init__(self):
        self.begun, self.released = threading.Event(), threading.Event()
    def remote_release(self, text):
        print('said', text, threading.current_thread() is threading.main_thread())
        # Only while the cell computes is this answered with True.
        busy = self.begun.is_set() and not self.released.is_set()
        self.released.set()
        return busy
    def remote_fail(self):
        raise ValueError('as asked')
def compute():
    aside.released.clear()
    aside.begun.set()
    while not aside.released.is_set():
        pass
    aside.begun.clear()
aside = Aside()
"""


@pytest.fixture(params=["plain", "nested"])
def busy_kernel(request: pytest.FixtureRequest, new_kernel: Callable[..., Kernel]) -> Kernel:
    """A kernel that can compute until a call was answered; also one whose loop was nested."""
    kernel = new_kernel()
    kernel.run("%load_ext pbnb")
    kernel.run(ASIDE)
    if request.param == "nested":
        kernel.run("%pb_serve Echoer() --name other")
        kernel.run("def get():\n    ref = %pb_connect other\n    return ref\nref = get()")
        assert kernel.run("is_nested()").result == "True"
        kernel.run("del ref\n%pb_stop other")
    return kernel


def test_a_thread_answers_while_its_kernel_computes(
    busy_kernel: Kernel, new_kernel: Callable[..., Kernel]
) -> None:
    kernel, peer = busy_kernel, new_kernel()
    peer.run("%load_ext pbnb")
    serving = kernel.send("%pb_serve aside --thread --name aside")
    kernel.wait(serving)
    assert re.fullmatch(
        r"serving Aside as aside on \S+, from a thread — connect with: %pb_connect aside\n",
        kernel.cells[serving].stdout,
    )
    peer.run("ref = %pb_connect aside")
    computing = kernel.send("compute()")
    call = "await ref.callRemote('release', 'hello')"
    # The computing cell ends by the call alone.
    assert peer.run(f"while not {call}: pass").status == "ok"
    assert kernel.wait(computing).status == "ok"
    assert (kernel.cells[computing].stdout, kernel.cells[computing].stderr) == ("", "")
    # What the methods print, and why they fail, appears below the cell that serves.
    peer.attempt("await ref.callRemote('fail')")
    kernel.wait_until(serving, lambda cell: "ValueError: as asked" in cell.stderr)
    assert "said hello False\n" in kernel.cells[serving].stdout
    # An interrupt ends the computing cell alone.
    computing = kernel.send("print('computing', flush=True)\ncompute()")
    kernel.wait_until(computing, lambda cell: cell.stdout)
    peer.run("ref2 = %pb_connect aside")
    kernel.interrupt()
    assert kernel.wait(computing).ename == "KeyboardInterrupt"
    assert peer.run("await ref.callRemote('release', 'again')").status == "ok"
    # Its panel and its status are those of any server.
    rows = [line.split() for line in kernel.run("%pb_status").stdout.splitlines()]
    assert rows[1][:2] == ["Aside", "(thread)"]
    panel = "panel = %pb_show\nprint(len(panel.panel.rows()[0]['peers']))"
    assert kernel.run(panel).stdout == "2\n"
    # A call from the kernel itself, and its end.
    said = kernel.run("ref = %pb_connect aside\nawait ref.callRemote('release', 'here')").stdout
    assert said == "said here False\n"
    assert kernel.run("%pb_stop").stdout.startswith("stopped serving Aside as aside on ")
    ended = "while serving_threads(): await asyncio.sleep(0.01)"
    kernel.run(ended)
    assert peer.attempt("await ref.callRemote('release', 'x')").ename == "DeadReferenceError"
    kernel.run("server = %pb_serve aside --thread --output widget\nassert serving_threads()")
    kernel.run(f"%unload_ext pbnb\n{ended}\nassert server.closed")


def test_one_call_at_a_time(kernel: Kernel) -> None:
    kernel.run(
        "class Handle(pb.Root):\n"
        "    inside = most = 0\n"
        "    async def remote_use(self):\n"
        "        self.inside += 1\n"
        "        self.most = max(self.most, self.inside)\n"
        "        await asyncio.sleep(0)\n"
        "        self.inside -= 1\n"
        "handle = Handle()"
    )
    use = (
        "refs = [await pb.connect(server.address, token=server.token) for _ in range(2)]\n"
        "await asyncio.gather(*(ref.callRemote('use') for ref in refs for _ in range(5)))\n"
        "handle.most == 1"
    )
    for options, serial in (("--serial", "True"), ("", "False"), ("--serial --thread", "True")):
        kernel.run(f"handle.most = 0\nserver = %pb_serve handle {options}")
        assert kernel.run(use).result == serial
        kernel.run("%pb_stop")


def test_calls_have_the_deadline_of_the_notebook(kernel: Kernel) -> None:
    seconds = "ref.broker.limits.call_seconds"
    served = "server.connections[0].limits.call_seconds"
    both = f"ref = %pb_connect {{server.address}} OPTIONS\n({seconds}, {served})"
    kernel.run("server = %pb_serve Echoer()")
    assert kernel.run(both.replace("OPTIONS", "")).result == "(inf, inf)"
    kernel.run("%pb_stop\n%config PBMagics.call_seconds = 30\nserver = %pb_serve Echoer()")
    assert kernel.run(both.replace("OPTIONS", "")).result == "(30.0, 30.0)"
    kernel.run("%pb_stop\nserver = %pb_serve Echoer() --deadline 7")
    assert kernel.run(both.replace("OPTIONS", "--deadline 0.05")).result == "(0.05, 7.0)"
    kernel.run("async def never(): await asyncio.Event().wait()")
    kernel.run("server.root.remote_never = never")
    assert kernel.attempt("await ref.callRemote('never')").ename == "DeadlineExceeded"
    kernel.run("%config PBMagics.call_seconds = float('inf')")
    for magic in ("%pb_connect {server.address}", "%pb_serve Echoer()"):
        failed = kernel.attempt(f"{magic} --deadline 0")
        assert failed.stderr == "UsageError: --deadline 0 leaves no time: give it some seconds\n"


def test_unloading_leaves_nothing_behind(new_kernel: Callable[..., Kernel], tmp_path: Path) -> None:
    kernel = new_kernel()
    kernel.run(
        "import logging\n"
        "def traces():\n"
        "    shell = get_ipython()\n"
        "    return [len(shell.input_transformers_post), len(shell.Completer.custom_matchers),\n"
        "        len(logging.getLogger('pbnb').handlers), len(shell.configurables),\n"
        "        sorted(shell.magics_manager.registry),\n"
        "        sorted(shell.magics_manager.lsmagic()['line'])]\n"
    )
    # IPython loads some of its own magics when they are first used, %load_ext among them.
    kernel.run("%load_ext autoreload")
    kernel.run("before = traces()")
    for _ in range(2):
        kernel.run("%load_ext pbnb")
        kernel.run("assert traces() != before")
        kernel.run("server = %pb_serve Echoer() --name foo")
        kernel.run("%unload_ext pbnb")
        assert kernel.run("server.closed").result == "True"
        kernel.run("assert traces() == before, (traces(), before)")
        assert list(tmp_path.glob("pbnb-*")) == []
    assert "not found" in kernel.attempt("%pb_status").stderr


def test_reloading_starts_anew(new_kernel: Callable[..., Kernel]) -> None:
    kernel = new_kernel()
    kernel.run("%load_ext pbnb")
    kernel.run("%pb_serve Echoer() --name foo")
    kernel.run("%reload_ext pbnb")
    assert kernel.run("%pb_status").stdout == "serving nothing\nconnected to nothing\n"
    kernel.run("%pb_serve Echoer() --name foo\nref = %pb_connect foo")


@pytest.mark.parametrize("call", ["'nothing'", "'echo', object()", "'echo'"])
def test_the_traceback_of_a_call_shows_the_cell_and_little_else(kernel: Kernel, call: str) -> None:
    kernel.run("server = %pb_serve Echoer() --name short\nref = %pb_connect short")
    cell = kernel.attempt(f"await ref.callRemote({call})")
    text = re.sub(r"\x1b\[[0-9;]*m", "", cell.traceback)
    files = [line for line in text.splitlines() if line.startswith("File ")]
    assert "callRemote" in text
    assert len(files) <= 1
    kernel.run("%pb_stop short")


def test_a_call_from_the_same_kernel_prints_under_the_calling_cell(kernel: Kernel) -> None:
    kernel.run("class Sayer(pb.Root):\n    def remote_say(self, text):\n        print(text)")
    kernel.run("server = %pb_serve Sayer() --name sayer\nref = %pb_connect sayer")
    assert kernel.run('await ref.callRemote("say", "here")').stdout == "here\n"
    kernel.run("%pb_stop sayer")
