"""One end of a recorded session, played by pbnb; the other end is the recording."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pbnb as pb
from pbnb.aio.connection import Connection
from pbnb.jelly.failures import FAILURE_TAG
from pbnb.wire.banana import NEED_DATA, PB_WORDS, Decoder


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and is never full."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol: Any = None
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default


@dataclass
class Line:
    """One connection of a session: our end, and what was recorded of it.

    Attributes:
        connection: Our end.
        wire: Its transport.
        sent: The recorded bytes of the side that we play, as far as the replay has come.
        hung_up: Whether the recorded peer ended the connection before our side did.
    """

    connection: Connection
    wire: Wire
    chunks: list[dict[str, Any]]
    sent: bytearray = field(default_factory=bytearray)
    hung_up: bool = False

    @property
    def written(self) -> bytes:
        return bytes(self.wire.written)


class Stage:
    """Where a session is replayed.

    Args:
        record: The recording; see the vectors' ``FORMAT.md``.
        ours: The direction in which our end sends, ``"s2c"`` or ``"c2s"``.
        step: Deliver the peer's bytes so many at a time; 0 as they came.
    """

    def __init__(self, record: dict[str, Any], ours: str, step: int = 0) -> None:
        self.record = record
        self.ours = ours
        self.step = step
        self.lines: list[Line] = []
        self.given_up = 0
        self._outcome: asyncio.Future[Any] | None = None

    @property
    def python2(self) -> bool:
        """Whether Python 2 was the end that we play."""
        return "2.7" in self.record["server" if self.ours == "s2c" else "client"]

    def native(self, text: str) -> str | bytes:
        """Returns what a plain literal was in the program that we play."""
        return text.encode() if self.python2 else text

    def open(self, factory: Callable[[], Connection]) -> Line:
        """Makes the next recorded connection with a factory of ours."""
        chunks = list(self.record["connections"][len(self.lines)]["chunks"])
        connection, wire = factory(), Wire()
        wire.protocol = connection
        line = Line(connection, wire, chunks)
        self.lines.append(line)
        connection.connection_made(wire)
        return line

    async def outcome(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Calls, waits, and returns what came: a value, or the exception."""
        try:
            self._outcome = asyncio.ensure_future(_awaited(call()))
            return await self._outcome
        except asyncio.CancelledError:
            self.given_up += 1
            return None
        except Exception as error:
            return error.with_traceback(None)
        finally:
            self._outcome = None

    async def run(self) -> None:
        """Replays all connections to their ends."""
        await settle()
        index = 0
        while any(line.chunks for line in self.lines):
            moved = False
            for line in list(self.lines):
                moved = await self._advance(line) or moved
                if self.ours == "s2c" and line.chunks and not _only_end(line):
                    break  # a server hears one connection after the other
            if not moved:
                index += 1
                await self._nudge()
            assert index < 100

    async def _advance(self, line: Line) -> bool:
        moved = False
        while line.chunks:
            chunk = line.chunks[0]
            if _only_end(line) and any(not _only_end(other) for other in self.lines):
                return moved
            data = bytes.fromhex(chunk.get("hex", ""))
            if chunk["dir"] == self.ours:
                if len(line.wire.written) < len(line.sent) + len(data) and not line.wire.closed:
                    return moved
                line.sent += data
            elif "hex" in chunk:
                self._feed(line, data)
            elif not line.wire.closed:
                line.hung_up = True
                line.wire.close()
            line.chunks.pop(0)
            moved = True
            await settle()
        return moved

    def _feed(self, line: Line, data: bytes) -> None:
        if line.wire.closed:
            return
        size = self.step or len(data) or 1
        for start in range(0, len(data), size):
            line.connection.data_received(data[start : start + size])

    async def _nudge(self) -> None:
        # Our end said less than was recorded, or waits for what never came.
        for line in self.lines:
            if line.chunks and line.chunks[0]["dir"] == self.ours:
                line.sent += bytes.fromhex(line.chunks.pop(0).get("hex", ""))
                return
        await self.give_up()

    async def give_up(self) -> None:
        """Waits no longer for the answer that a client waits for."""
        await settle()
        if self._outcome is not None:
            self._outcome.cancel()
        await settle()


def _only_end(line: Line) -> bool:
    return all("hex" not in chunk for chunk in line.chunks)


async def _awaited(value: Any) -> Any:
    return await value if value is not None else None


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)
    gc.collect()
    for _ in range(4):
        await asyncio.sleep(0)


def messages(data: bytes) -> list[Any]:
    """Returns the trees of one direction of a whole connection."""
    decoder = Decoder(pb.Limits(), None)
    decoder.feed(data)
    trees: list[Any] = []
    while (tree := decoder.next()) is not NEED_DATA:
        trees.append(tree)
        decoder.words = PB_WORDS
    return trees


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
        return sorted(pairs, key=lambda pair: str(pair[0]))
    return [plain(item) for item in tree]


# What Twisted says of a failure beyond what its peers read: its number in the process; that it
# was once pickled for a Deferred, and the frames that this leaks, with their files and lines.
_LEAKED = (b"count", b"pickled", b"_frames")
# Python 2 had classes between Exception and its own exceptions.
_PYTHON_2 = (b"exceptions.StandardError",)


def stripped(tree: Any) -> Any:
    """Returns a message without what differs from process to process in a failure."""
    if not isinstance(tree, list):
        return tree
    if tree[:1] == [FAILURE_TAG]:
        pairs = [(_text(key), key, value) for key, value in tree[1][1:]]
        kept = [
            [key, _FIELDS.get(name, lambda same: same)(value)]
            for name, key, value in sorted(pairs, key=lambda each: each[0])
            if name not in _LEAKED
        ]
        return [FAILURE_TAG, [b"dictionary", *kept]]
    return [stripped(item) for item in tree]


def _text(tree: Any) -> bytes:
    return bytes(tree if isinstance(tree, bytes) else tree[1])


def _known_parents(tree: Any) -> Any:
    return [each for each in tree if each not in _PYTHON_2]


def _last_line(tree: Any) -> Any:
    # The lines before it name the files of the program, and they are Twisted's and ours.
    line = _text(tree).strip().rpartition(b"\n")[2].removeprefix(b"Failure: ")
    return line if isinstance(tree, bytes) else [tree[0], line]


_FIELDS = {b"parents": _known_parents, b"traceback": _last_line}


def by_key(trees: list[Any]) -> dict[str, Any]:
    """Returns the messages of one direction by what they belong to."""
    keyed: dict[str, Any] = {}
    for tree in trees:
        if not isinstance(tree, list) or tree[0] not in _NUMBERED:
            key = repr(tree)
            keyed[key] = keyed.get(key, 0) + 1
            continue
        name, short = _NUMBERED[tree[0]], tree[3] if tree[0].endswith(b"message") else b""
        keyed[f"{name} {tree[1]} {short.decode()}".strip()] = tree
    return keyed


_NUMBERED = {b"message": "call", b"cachemessage": "call", b"answer": "reply", b"error": "reply"}


def differences(line: Line, python2: bool) -> dict[str, tuple[Any, Any]]:
    """Returns what we said and what was said then, of all messages in which they differ."""
    form = plain if python2 else (lambda tree: tree)
    ours = by_key([stripped(tree) for tree in messages(line.written)])
    then = by_key([stripped(tree) for tree in messages(bytes(line.sent))])
    return {
        key: (ours.get(key), then.get(key))
        for key in {**ours, **then}
        if form(ours.get(key)) != form(then.get(key))
    }
