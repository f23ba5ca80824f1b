"""The sessions of the documented examples, replayed against each of our ends.

In the recordings Twisted, on Python 2 or 3, was at both ends of a real connection. Here one end
is pbnb, with the example's own behaviour, and the other end is the recording: its bytes come in
the order and in the pieces in which they came then, and what pbnb sends has to be what Twisted
sent, byte for byte.

One order differs on purpose: pbnb sends a decref after the answer to the call that brought the
reference, so that an object which is echoed at once is still known when the answer names it.
Where Python 2 was the end that pbnb now plays, it sent failures in Python 2's notation; those
bytes are compared by what they say. Connections that died then of a fault live on here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.connection import Connection
from pbnb.wire.banana import NEED_DATA, PB_WORDS, Decoder
from tests.support.replay import Wire, settle
from tests.support.vectors import load, session_names

NAMES = ["pbsimple", "pb1", "pb2", "pb3", "exc_broken", "exc_broken2"]
SESSIONS = [name for name in session_names() if name.split(".")[0] in NAMES]


# The examples, as objects of ours. Their classes have the names that travelled in the errors.


class Echoer(pb.Root):
    def remote_echo(self, text: Any) -> Any:
        return text


class Two(pb.Referenceable):
    def remote_three(self, value: Any) -> None:
        assert value == 12

    def remote_print(self, value: Any) -> None:
        assert value == 12


class Pb1(pb.Root):
    def remote_getTwo(self) -> Two:
        return Two()


class Pb2(pb.Root):
    def __init__(self) -> None:
        self.two = Two()

    def remote_getTwo(self) -> Two:
        return self.two

    def remote_checkTwo(self, two: Two) -> None:
        assert two is self.two


class Pb3(pb.Root):
    def remote_takeTwo(self, two: pb.RemoteReference) -> None:
        two.callRemote("print", 12)


class MyError(pb.Error):
    """Expected."""


class MyError2(Exception):
    """Not expected."""


MyError.__module__ = MyError2.__module__ = "__main__"


class Exc(pb.Root):
    def remote_broken(self) -> None:
        raise MyError("fall down go boom")

    def remote_broken2(self) -> None:
        raise MyError2("hadda owie")


SERVERS: dict[str, Callable[[], pb.Root]] = {
    "pbsimple": Echoer,
    "pb1": Pb1,
    "pb2": Pb2,
    "pb3": Pb3,
    "exc_broken": Exc,
    "exc_broken2": Exc,
}


def play_pbsimple(root: Any, native: Callable[[str], Any]) -> None:
    root.callRemote("echo", native("hello network"))


def play_pb1(root: Any, native: Callable[[str], Any]) -> None:
    root.callRemote("getTwo").addCallback(lambda two: two.callRemote("three", 12) and None)


def play_pb2(root: Any, native: Callable[[str], Any]) -> None:
    root.callRemote("getTwo").addCallback(lambda two: root.callRemote("checkTwo", two) and None)


def play_pb3(root: Any, native: Callable[[str], Any]) -> None:
    root.callRemote("takeTwo", Two())


def play_exc(name: str) -> Callable[[Any, Callable[[str], Any]], None]:
    def play(root: Any, native: Callable[[str], Any]) -> None:
        def check(failure: pb.CopiedFailure) -> None:
            expected = "fall down go boom" if name == "broken" else "hadda owie"
            assert failure.getErrorMessage() == expected
            assert failure.type == ("__main__.MyError" if name == "broken" else "__main__.MyError2")

        root.callRemote(name).addErrback(check)

    return play


CLIENTS: dict[str, Callable[[Any, Callable[[str], Any]], None]] = {
    "pbsimple": play_pbsimple,
    "pb1": play_pb1,
    "pb2": play_pb2,
    "pb3": play_pb3,
    "exc_broken": play_exc("broken"),
    "exc_broken2": play_exc("broken2"),
}


async def replay(session: str, ours: str, step: int) -> tuple[bytes, bytes, Connection]:
    """Plays one end of a recorded session.

    Args:
        session: The recording's name.
        ours: The direction in which our end sends, ``"s2c"`` or ``"c2s"``.
        step: Deliver the peer's bytes so many at a time; 0 as they came.

    Returns:
        What we sent, what was sent then, and our end.
    """
    record = load(f"sessions/{session}")
    example = record["name"]
    python2 = "2.7" in record["server" if ours == "s2c" else "client"]
    wire = Wire()
    if ours == "s2c":
        wire.protocol = pb.PBServerFactory(SERVERS[example](), dialects=("pb", "none"))()
    else:
        factory = pb.PBClientFactory()
        wire.protocol = factory()
        native = str.encode if python2 else str
        root = factory.getRootObject()
        root.addCallback(lambda root: CLIENTS[example](root, native))
    wire.protocol.connection_made(wire)
    await settle()
    (recorded,) = record["connections"]
    expected = bytearray()
    for chunk in recorded["chunks"]:
        data = bytes.fromhex(chunk.get("hex", ""))
        if chunk["dir"] == ours:
            expected += data
            continue
        size = step or len(data) or 1
        for start in range(0, len(data), size):
            wire.protocol.data_received(data[start : start + size])
        await settle()
    assert not wire.closed, wire.protocol.error
    connection: Connection = wire.protocol
    return bytes(wire.written), bytes(expected), connection


def messages(data: bytes) -> list[Any]:
    """Returns the trees of one direction of a whole connection, the decrefs last."""
    decoder = Decoder(pb.Limits(), None)
    decoder.feed(data)
    trees: list[Any] = []
    while (tree := decoder.next()) is not NEED_DATA:
        trees.append(tree)
        decoder.words = PB_WORDS
    return sorted(trees, key=lambda tree: tree[0] == b"decref")


def plain(tree: Any) -> Any:
    """Returns what an expression says, apart from the notation of Python 2 or 3."""
    if isinstance(tree, bytes):
        text = tree.decode("latin-1")
        for python2 in ("exceptions.", "__builtin__."):
            if text.startswith(python2):
                return "builtins." + text.removeprefix(python2)
        return text
    if not isinstance(tree, list):
        return tree
    if tree[:1] == [b"unicode"]:
        return plain(tree[1])
    if tree[:1] == [b"dictionary"]:
        pairs = [(plain(key), plain(value)) for key, value in tree[1:]]
        return sorted((pair for pair in pairs if pair[0] != "count"), key=lambda pair: pair[0])
    return [plain(item) for item in tree]


def without_count(data: bytes) -> bytes:
    """Returns bytes in which a failure's number in its process is 0."""
    mark = bytes.fromhex("028002800782756e69636f64650582636f756e74")
    before, found, after = data.partition(mark)
    if not found:
        return data
    end = next(index for index, byte in enumerate(after) if byte >= 0x80)
    return before + found + bytes.fromhex("0081") + after[end + 1 :]


@pytest.mark.parametrize("step", [0, 1], ids=["as recorded", "byte by byte"])
@pytest.mark.parametrize("session", SESSIONS)
def test_our_server_answers_as_twisted_did(session: str, step: int) -> None:
    sent, recorded, connection = asyncio.run(replay(session, "s2c", step))
    sent, recorded = without_count(sent), without_count(recorded)
    if ".py3-server" in session:
        assert messages(sent) == messages(recorded)
        assert sorted(sent) == sorted(recorded)
        assert sent == recorded or session.startswith("pb3.")
    else:
        assert [plain(tree) for tree in messages(sent)] == [
            plain(tree) for tree in messages(recorded)
        ]
    assert not connection.lost


@pytest.mark.parametrize("step", [0, 1], ids=["as recorded", "byte by byte"])
@pytest.mark.parametrize("session", SESSIONS)
def test_our_client_calls_as_twisted_did(session: str, step: int) -> None:
    sent, recorded, connection = asyncio.run(replay(session, "c2s", step))
    assert sent == recorded
    assert connection.machine.pending == {}
    assert not connection.lost


def test_all_sessions_are_there() -> None:
    assert len(SESSIONS) == len(NAMES) * 4
