"""References that are kept, in real kernels that are restarted, and what is seen meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from pbnb.aio import keeping
from pbnb.notebook import waits
from tests.support.kernels import DEFINE, Cell, Kernel
from tests.support.ports import free_port
from tests.support.serving import until


def prepared(kernel: Kernel) -> Kernel:
    kernel.run(DEFINE)
    kernel.run("%load_ext pbnb")
    return kernel


def texts(cell: Cell) -> list[str]:
    return [display["data"]["text/plain"] for display in cell.displays]


def test_the_same_variable_works_after_the_other_kernel_was_restarted(
    new_kernel: Callable[..., Kernel],
) -> None:
    serves, calls = prepared(new_kernel()), prepared(new_kernel())
    serves.run("%pb_serve Echoer() --name lab")
    calls.run("ref = %pb_connect lab --keep")
    calls.run("seen = []\nref.notifyOnDisconnect(lambda ref: seen.append('lost'))")
    calls.run("async def again(ref):\n    seen.append(await ref.callRemote('echo', 'set up'))")
    calls.run("await ref.notifyOnConnect(again)")
    before = calls.run("held = {ref: 1}\nref").result
    # A kernel that hangs is killed by hand, another is restarted from the menu.
    os.kill(serves.pid, signal.SIGKILL)
    serves.restart()
    calls.run("while 'is served as lab' not in repr(ref): await asyncio.sleep(0.01)")
    lines = calls.run("%pb_status").stdout.splitlines()
    assert lines[1:2] == ["connected to nothing"]
    assert "nothing is served as lab now" in lines[2]

    number = calls.send("await ref.callRemote('echo', 'hello')")
    cell = calls.wait_until(number, lambda cell: cell.displays)
    (text,) = texts(cell)
    assert text.startswith("waiting for 127.0.0.1:") and "(1 call waiting)" in text
    assert not cell.done
    prepared(serves)
    served = serves.run("%pb_serve Echoer() --name lab --port 0").stdout
    cell = calls.wait_until(number, lambda cell: cell.done and texts(cell) == [""])
    assert (cell.status, cell.result, cell.stderr) == ("ok", "'hello'", "")
    assert calls.run("seen").result == "['set up', 'lost', 'set up']"
    after = calls.run("ref").result
    assert after is not None and before != after and after[18:-1] in served
    assert calls.run("held[ref], is_nested()").result == "(1, False)"
    assert "connected to 127.0.0.1" in calls.run("%pb_status").stdout

    released = calls.run("%pb_release ref").stdout
    assert "and ended its connection, held by ref" in released
    assert calls.run("%pb_status").stdout.splitlines()[1:] == ["connected to nothing"]


def test_the_address_is_enough_where_the_port_stays(new_kernel: Callable[..., Kernel]) -> None:
    serves, calls = prepared(new_kernel()), prepared(new_kernel())
    port = free_port()
    serves.run(f"server = %pb_serve Echoer() --port {port}")
    calls.run(f"ref = %pb_connect 127.0.0.1:{port} --keep")
    for _ in range(2):
        serves.restart()
        number = calls.send("await ref.callRemote('echo', 1), ref.broker.lost")
        prepared(serves)
        serves.run(f"server = %pb_serve Echoer() --port {port}")
        assert calls.wait(number).result == "(1, False)"


def test_a_wait_is_interrupted_and_its_line_goes_away(kernel: Kernel, peer: Kernel) -> None:
    kernel.run("server = %pb_serve Echoer() --name brief")
    peer.run("ref = %pb_connect brief --keep")
    kernel.run("await server.close()")
    number = peer.send("await asyncio.gather(*(ref.callRemote('echo', n) for n in range(50)))")
    cell = peer.wait_until(number, lambda cell: cell.displays)
    assert len(cell.displays) == 1 and "(50 calls waiting)" in texts(cell)[0]
    peer.interrupt()
    cell = peer.wait_until(number, lambda cell: cell.done and texts(cell) == [""])
    assert cell.status == "error" and cell.ename in ("CancelledError", "KeyboardInterrupt")
    assert peer.run("len(ref.broker.waiting)").result == "0"
    peer.run("await ref.broker.close()")
    assert "kept no longer: closed here" in str(peer.run("ref").result)
    assert "kept no longer" in str(peer.attempt("await ref.callRemote('echo', 1)").evalue)


def test_a_variable_that_is_deleted_tries_no_more(kernel: Kernel, peer: Kernel) -> None:
    kernel.run("server = %pb_serve Echoer() --name gone")
    peer.run("ref = %pb_connect gone --keep")
    kernel.run("await server.close()")
    peer.run("while 'is served as gone' not in repr(ref): await asyncio.sleep(0.01)")
    assert "gone now" in peer.run("%pb_status").stdout
    peer.run("del ref")
    assert peer.run("%pb_status").stdout == "serving nothing\nconnected to nothing\n"


def test_a_server_with_another_object_under_the_name_is_taken_and_a_wrong_password_is_not(
    new_kernel: Callable[..., Kernel],
) -> None:
    kernel = prepared(new_kernel())
    kernel.run(
        "class Realm:\n"
        "    def requestAvatar(self, name, mind, *interfaces):\n"
        "        class User(pb.Avatar):\n"
        "            perspective_name = lambda self: name\n"
        "        return pb.IPerspective, User(), lambda: None\n"
        "async def serve(password):\n"
        "    users = pb.PasswordChecker({'alice': password})\n"
        "    return await pb.serve(pb.Portal(Realm(), [users]), port=port)\n"
        f"port = {free_port()}\n"
        "server = await serve('wonder')"
    )
    number = kernel.send("ref = %pb_connect {server.address} --user alice --keep", stdin=True)
    kernel.answer("wonder")
    kernel.wait(number)
    assert kernel.run("await ref.callRemote('name')").result == "'alice'"
    kernel.run("await server.close()\nserver = await serve('wonder')")
    assert kernel.run("await ref.callRemote('name')").result == "'alice'"
    kernel.run("await server.close()\nserver = await serve('land')")
    cell = kernel.attempt("await ref.callRemote('name')")
    # The next try to connect may have been refused before the cell has called.
    assert cell.ename in ("UnauthorizedLogin", "DeadReferenceError")
    assert "the login was refused" in cell.traceback or cell.ename == "UnauthorizedLogin"
    said = kernel.run("ref").result
    assert said is not None and "kept no longer: the login was refused" in said
    for secret in ("wonder", "land"):
        assert secret not in said + cell.traceback + str(kernel.run("%pb_status").stdout)


class Shell:
    """A shell in a terminal, which has no kernel."""


def test_a_terminal_has_no_lines() -> None:
    lines = waits.WaitLines(Shell())  # type: ignore[arg-type]
    lines.install()
    assert keeping.on_wait == []
    lines.uninstall()


class Notebook:
    """As much of a notebook's shell as lines need."""

    kernel: Any = None

    def get_parent(self) -> dict[str, Any]:
        return {"header": {"msg_id": "cell 7"}}


class Keeper:
    peer = "<b>lab</b>:1"
    waiting: tuple[int, ...] = ()

    def state(self) -> str:
        return "away"


def test_one_line_stands_for_all_calls_of_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(data)

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(data)
        return Handle()

    monkeypatch.setattr(waits, "display", display)
    monkeypatch.setattr(waits, "_PATIENCE", 0.0)
    monkeypatch.setattr(waits, "_PACE", 3600.0)

    async def main() -> None:
        lines = waits.WaitLines(Notebook())  # type: ignore[arg-type]
        lines.install()
        try:
            keeper: Any = Keeper()
            (show,) = keeping.on_wait
            calls: list[Any] = [object(), object()]
            ends = [show(keeper, call) for call in calls]
            await until(lambda: shown != [])
            assert [each["text/plain"] for each in shown] == ["waiting for <b>lab</b>:1, away"]
            assert "&lt;b&gt;lab" in shown[0]["text/html"]
            ends[0]()
            assert len(shown) == 1
            ends[1]()
            assert shown[1:] == [{"text/plain": "", "text/html": ""}]
            # A wait that is over soon is never shown; nor is one of an extension that is gone.
            show(keeper, calls[0])()
            show(keeper, calls[1])
        finally:
            lines.uninstall()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(shown) == 2 and keeping.on_wait == []

    asyncio.run(main())
