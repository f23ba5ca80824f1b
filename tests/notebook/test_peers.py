"""Companion processes, started from here."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from pbnb.notebook.companion import TEXT, left_out
from pbnb.notebook.peers import Log, Peer, PeerEnded, PeerError, Peers
from tests.support.kernels import PATIENCE


def said(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"msg_type": "stream", "content": {"name": name, "text": text}}


def with_peers(use: Callable[[Peers], Awaitable[None]]) -> None:
    """Uses peers, which are ended afterwards."""

    async def main() -> None:
        peers = Peers()
        try:
            await use(peers)
        finally:
            peers.kill_all()

    asyncio.run(main())


async def printed(peer: Peer, code: str) -> str:
    shown: list[dict[str, Any]] = []
    await peer.run(code, shown.append)
    return "".join(message["content"]["text"] for message in shown)


def test_a_log_gives_what_it_got_once() -> None:
    log = Log()
    log.add(said("1"))
    log.add(said("2", "stderr"))
    assert log.take() == [said("1"), said("2", "stderr")]
    assert log.take() == []


def test_a_log_keeps_the_newest() -> None:
    log = Log()
    for text in ("first", "x" * TEXT, "last"):
        log.add(said(text))
    dropped = len("first") + TEXT
    assert log.take() == [said(left_out(dropped).lstrip("\n")), said("last")]
    # Messages without text are counted too.
    for _ in range(20_000):
        log.add({"msg_type": "clear_output", "content": {"wait": True}})
    assert len(log.take()) <= 10_001


def test_it_finds_what_is_found_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("value = 'found'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBNB_TEST", "as set here")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    here = f"found as set here {tmp_path.resolve()} {sys.executable}\n"

    async def use(peers: Peers) -> None:
        peer = await peers.get("one")
        code = (
            "import only_here, os, sys\n"
            "print(only_here.value, os.environ['PBNB_TEST'], os.getcwd(), sys.executable)"
        )
        assert await printed(peer, code) == here
        # Nothing of pbnb's own is among its variables or arguments.
        assert await printed(peer, "print('main' in globals(), 'Companion' in globals())") == (
            "False False\n"
        )

    with_peers(use)


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Sockets have short names: not below tmp_path.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)

        async def use(peers: Peers) -> None:
            peer = await peers.get("one")
            assert os.listdir(directory) == []
            assert await printed(peer, "print(1)") == "1\n"

        with_peers(use)
        assert os.listdir(directory) == []


def test_the_two_streams_and_displays_keep_their_order() -> None:
    async def use(peers: Peers) -> None:
        shown: list[Any] = []

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            shown.append(content.get("text") or content["data"]["text/plain"])

        peer = await peers.get("one")
        await peer.run(
            "import sys\nfor n in range(3):\n"
            "    print(n)\n    print('e', n, file=sys.stderr)\n    display(n)",
            show,
        )
        assert shown == [text for n in range(3) for text in (f"{n}\n", f"e {n}\n", str(n))]

    with_peers(use)


def test_what_belongs_to_an_earlier_cell_is_kept_in_order() -> None:
    async def use(peers: Peers) -> None:
        peer = await peers.get("one")
        # What it says while the cell still ends goes there, the rest to the log.
        early = await printed(
            peer,
            "import asyncio, sys\n"
            "async def later(n):\n"
            "    print('out', n)\n    print('err', n, file=sys.stderr)\n"
            "    if n:\n        asyncio.create_task(later(n - 1))\n    else:\n        done.set()\n"
            "done = asyncio.Event()\n"
            "start = lambda: asyncio.create_task(later(3))\n"
            "_ = asyncio.get_running_loop().call_soon(start)",
        )
        assert await printed(peer, "await done.wait(); print('waited')") == "waited\n"
        await peer.sync(lambda message: None)
        late = "".join(message["content"]["text"] for message in peer.log.take())
        assert early + late == "".join(f"out {n}\nerr {n}\n" for n in (3, 2, 1, 0))

    with_peers(use)


def test_errors_carry_what_ipython_shows() -> None:
    async def use(peers: Peers) -> None:
        peer = await peers.get("one")
        with pytest.raises(PeerError, match=r"^in one: ValueError: no\x1b?") as caught:
            await peer.run("raise ValueError('no')", lambda message: None)
        error = caught.value
        assert (error.peer, error.ename, error.evalue) == ("one", "ValueError", "no")
        assert error._render_traceback_() == [*error.traceback, "PeerError: in one"]

    with_peers(use)


def test_cells_that_are_sent_together_run_one_after_another() -> None:
    async def use(peers: Peers) -> None:
        one, same = await asyncio.gather(peers.get("one"), peers.get("one"))
        assert one is same
        assert len(peers.all()) == 1
        codes = [f"print({n})" for n in range(5)]
        texts = await asyncio.gather(*(printed(one, code) for code in codes))
        assert texts == [f"{n}\n" for n in range(5)]

    with_peers(use)


def test_an_answer_that_came_while_the_next_cell_was_sent_is_read() -> None:
    async def use(peers: Peers) -> None:
        peer = await peers.get("one")
        first = asyncio.ensure_future(printed(peer, "print(1)"))
        await asyncio.sleep(0)
        # As sending does, this takes the sign that something has come, and tells nobody.
        assert peer._client is not None
        shell: Any = zmq.Socket.shadow(peer._client.shell_channel.socket.underlying)
        while not shell.get(zmq.EVENTS) & zmq.POLLIN:
            time.sleep(0.01)  # noqa: ASYNC251
        async with asyncio.timeout(PATIENCE):
            assert await printed(peer, "print(2)") == "2\n"
            assert await first == "1\n"

    with_peers(use)


def test_one_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")

    async def use(peers: Peers) -> None:
        with pytest.raises(PeerEnded, match="^peer one did not start .exit code 1.: .*rror.*$"):
            await peers.get("one")
        assert peers.all() == []
        assert peers.find("one") is None

    with_peers(use)


def test_giving_up_the_start_leaves_no_process() -> None:
    async def use(peers: Peers) -> None:
        starting = asyncio.create_task(peers.get("one"))
        while not peers.all():  # noqa: ASYNC110  # it runs on this very loop
            await asyncio.sleep(0)
        (peer,) = peers.all()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert peer.end == "killed by SIGKILL"
        assert peers.all() == []

    with_peers(use)


def test_a_child_of_this_process_ends_no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(peers: Peers) -> None:
        peer = await peers.get("one")
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            peers.kill_all()
        assert peer.end is None
        assert await printed(peer, "print(1)") == "1\n"

    with_peers(use)
