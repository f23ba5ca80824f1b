"""A busy kernel: what is seen of it where somebody waits for it, and what it knows itself."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.notebook import busy
from pbnb.notebook.busy import BusyLines, Heartbeat
from pbnb.wire.banana import encode
from tests.support.kernels import Cell, Kernel
from tests.support.serving import served, until
from tests.support.shells import Shell

SERVE = """\
import os, time
class Desk(Echoer):
    async def remote_never(self):
        await asyncio.Event().wait()
def compute(path, seconds=0):
    print('computing', flush=True)
    end = time.monotonic() + seconds
    while not os.path.exists(path) or time.monotonic() < end:
        time.sleep(0.01)
%pb_serve Desk() --name desk
"""
LINE = r"{} at 127\.0\.0\.1:\d+: peer's kernel busy for \d+ s"


def compute(kernel: Kernel, path: Path, seconds: float = 0) -> str:
    """Blocks a kernel until a file is there; returns the number of the cell, which has begun."""
    number = kernel.send(f"compute({str(path)!r}, {seconds})")
    kernel.wait_until(number, lambda cell: cell.stdout)
    return number


def lines(cell: Cell) -> list[str]:
    """Returns what was shown below a cell, one after the other; "" is nothing."""
    return [data.get("text/plain", "") for data in cell.shown]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("await ref.callRemote('echo', 1)", r"echo\(\)"),
        ("await asyncio.gather(ref.callRemote('echo', 1), ref.callRemote('echo', 2))", "2 calls"),
        ("await asyncio.wait_for(asyncio.shield(ref.callRemote('echo', 1)), 50)", r"echo\(\)"),
        ("def get():\n    again = %pb_connect desk\nget()", r"\w+\(\)"),
    ],
    ids=["a call", "two", "shielded", "nested"],
)
def test_who_waits_sees_that_the_kernel_is_busy(
    kernel: Kernel, peer: Kernel, tmp_path: Path, code: str, what: str
) -> None:
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    if "connect" in code:
        # It connects while the loop turns, and waits for the login.
        peer.run("for each in (1, 2): await ref.callRemote('echo', each)")
        code = code.replace("again = %pb_connect desk", "PBMagics_wait()")
        peer.run(
            "import nest_asyncio2\n"
            "def PBMagics_wait():\n"
            "    from pbnb.notebook.blocking import run\n"
            "    async def start(): return await ref.callRemote('echo', 1)\n"
            "    return run(start, asyncio.get_running_loop())"
        )
    path = tmp_path / "go"
    computing = compute(kernel, path)
    waiting = peer.send(code)
    peer.wait_until(waiting, lambda cell: len(lines(cell)) > 1)
    path.touch()
    cell = peer.wait(waiting)
    assert cell.status == "ok"
    *said, last = lines(cell)
    assert all(re.fullmatch(LINE.format(what), line) for line in said), said
    # Nothing of it is left, and it is one line all the time.
    assert last == ""
    assert len(cell.displays) == 1
    assert kernel.wait(computing).status == "ok"


def test_an_interrupt_takes_the_line_away(kernel: Kernel, peer: Kernel, tmp_path: Path) -> None:
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    path = tmp_path / "go"
    computing = compute(kernel, path)
    waiting = peer.send("await ref.callRemote('echo', 1)")
    peer.wait_until(waiting, lambda cell: lines(cell))
    peer.interrupt()
    cell = peer.wait(waiting)
    assert cell.ename == "CancelledError"
    assert lines(cell)[-1] == ""
    path.touch()
    kernel.wait(computing)


def test_a_method_that_takes_long_is_no_busy_kernel(kernel: Kernel, peer: Kernel) -> None:
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    # A cell waits for it all the time, and the peer is asked meanwhile.
    cell = peer.run(
        "call = asyncio.ensure_future(asyncio.wait_for(ref.callRemote('never'), 1000))\n"
        "from contextlib import redirect_stdout\n"
        "import io\n"
        "while True:\n"
        "    await asyncio.sleep(0.1)\n"
        "    with redirect_stdout(io.StringIO()) as said:\n"
        "        %pb_status\n"
        "    if 'the peer is alive' in said.getvalue(): break\n"
        "panel = %pb_show\n"
        "print(said.getvalue(), panel.panel.rows()[0]['pending'][0][-1])\n"
        "call.cancel()"
    )
    assert re.search(
        r"\nnever\(\) at 127\.0\.0\.1:\d+ pending for \d+ s, the peer is alive\n the peer is alive",
        cell.stdout,
    )
    assert lines(cell) == []


def test_status_and_panel_say_that_a_kernel_is_busy(
    kernel: Kernel, peer: Kernel, tmp_path: Path
) -> None:
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    path = tmp_path / "go"
    computing = compute(kernel, path)
    peer.run("call = ref.callRemote('echo', 1)")
    # No cell waits for it.
    peer.run("while not ref.broker.liveness.busy: await asyncio.sleep(0.1)")
    cell = peer.run("%pb_status\npanel = %pb_show\nprint(panel.panel.rows()[0]['pending'][0][-1])")
    assert re.search(
        r"\necho\(\) at 127\.0\.0\.1:\d+ pending for \d+ s, peer's kernel busy for \d+ s\n"
        r"peer's kernel busy for \d+ s\n",
        cell.stdout,
    )
    path.touch()
    kernel.wait(computing)
    peer.run("await call")


def test_the_kernel_that_was_busy_says_it_once(
    new_kernel: Callable[..., Kernel], tmp_path: Path
) -> None:
    kernel, peer = new_kernel(), new_kernel()
    for each in (kernel, peer):
        each.run("%load_ext pbnb")
    kernel.run(SERVE)
    peer.run("ref = %pb_connect desk")
    path = tmp_path / "go"
    said = []
    for _ in range(2):
        computing = compute(kernel, path, 3.1)
        waiting = peer.send("await ref.callRemote('echo', 1)")
        # Only when the call is on its way may the cell end.
        peer.wait_until(waiting, lambda cell: lines(cell))
        path.touch()
        said.append(kernel.wait(computing).stderr)
        peer.wait(waiting)
        path.unlink()
    assert re.fullmatch(
        r"while this cell ran, calls of a peer waited up to \d+ s: %pb_serve --thread answers "
        r"meanwhile\n",
        said[0],
    )
    assert said[1] == ""
    status = kernel.run("%pb_status").stdout
    assert re.search(r"\nthis kernel's loop was blocked for \d+ s, until \d+ s ago\n$", status)
    # A cell that nobody waits for has nothing to say, and neither has one beside a thread.
    kernel.run("%pb_stop\n%pb_serve Desk() --name desk --thread")
    peer.run("ref = %pb_connect desk")
    computing = compute(kernel, path, 3.1)
    assert peer.run("await ref.callRemote('echo', 1)").result == "1"
    path.touch()
    assert kernel.wait(computing).stderr == ""


def test_outside_of_a_notebook_nothing_is_shown() -> None:
    terminal, notebook = Shell(), Shell(kernel=object())
    for shell, cells in ((terminal, 0), (notebook, 1)):
        waits = BusyLines(shell, list)  # type: ignore[arg-type]
        waits.install()
        assert len(shell.events.callbacks["pre_run_cell"]) == cells
        waits.uninstall()
        waits.uninstall()
        assert not shell.events.callbacks["pre_run_cell"]
        assert not shell.events.callbacks["post_run_cell"]


def test_a_heart_beats_while_something_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seconds in (("_BEAT", 0.02), ("_BLOCK", 0.2), ("_SAID", 0.2)):
        monkeypatch.setattr(busy, name, seconds)

    class Echoer(pb.Root):
        def remote_echo(self, value: Any) -> Any:
            return value

    async def main() -> None:
        servers: list[pb.Server] = []
        heart = Heartbeat(asyncio.get_running_loop(), lambda: servers)
        shell = Shell()
        heart.install(shell.events)
        # Before anything is served a cell may take what it takes.
        heart.before_cell()
        heart.after_cell()
        assert (heart.blocked, heart._timer) == (0, None)
        async with served(Echoer()) as (server, ref):
            servers.append(server)
            heart.begin()
            heart.begin()
            time.sleep(0.3)  # noqa: ASYNC251 (what is tested)
            await until(lambda: heart.blocked >= 0.3)
            heart.blocked = 0
            # A cell that blocks, while a peer says something.
            with socket.create_connection((server.host, server.port)) as other:
                await until(lambda: len(server.connections) == 2)
                shell.events.trigger("pre_run_cell", None)
                other.send(encode(b"pb", None))
                with caplog.at_level(logging.WARNING, "pbnb"):
                    time.sleep(0.3)  # noqa: ASYNC251
                    shell.events.trigger("post_run_cell", None)
                assert heart.blocked >= 0.3
                said = f"while this cell ran, calls of a peer waited up to {heart.blocked:.0f} s"
                assert said in caplog.text
            await until(lambda: len(server.connections) == 1)
            assert await ref.callRemote("echo", 1) == 1
            # In the thread of a subshell nothing is known of this loop, which beats no more here.
            assert heart._timer is not None
            heart._timer.cancel()
            heart._beaten -= 1
            heart.blocked = 0
            await asyncio.to_thread(heart.after_cell)
            assert heart.blocked == 0
            heart.after_cell()
            assert heart.blocked >= 1
            servers.clear()
            await until(lambda: heart._timer is None)
            heart.begin()
            heart.uninstall(shell.events)
            await until(lambda: heart._timer is None)
            assert not shell.events.callbacks["post_run_cell"]

    asyncio.run(main())
