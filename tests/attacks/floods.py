"""Floods: what a peer may do as fast as it can, from raw sockets, to a server of its own process.

::

    python -m tests.attacks.floods

prints for each flood the longest that the server's loop kept others waiting, and by how much the
server's memory grew, at the default limits, beside a server to which nothing is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

import pbnb as pb
from pbnb.protocol.dialects import DIALECTS
from pbnb.wire.banana import NEED_DATA, PB_WORDS, encode
from pbnb.wire.dialect import BananaDialect, Dialect

PATIENCE = 60.0
GREETING = len(encode(list(DIALECTS), None))
OPENED = encode(b"pb", None)
PRIME = 2**61 - 1  # its multiples have one hash


def call(
    name: bytes, *args: Any, number: int = 1, obj: Any = b"root", wants_answer: int = 1
) -> bytes:
    keywords = [b"dictionary"]
    return encode([b"message", number, obj, name, wants_answer, [b"tuple", *args], keywords])


FRAMES = encode(b"pbnb1", None)


def frame(body: bytes, kind: int = 0, stream: int = 0) -> bytes:
    """Returns a frame; see `pbnb.wire.frames`."""
    return struct.pack(">IBxH", len(body), kind, stream) + body


def plain_call(name: str, *args: Any, number: int = 1, wants_answer: int = 1) -> bytes:
    """Returns a call of the root in frames."""
    message = [b"message", number, b"root", name, wants_answer, list(args), {}]
    return frame(msgspec.msgpack.encode(message))


def with_buffer(name: str, data: bytes, size: int | None = None, stream: int = 1) -> bytes:
    """Returns a call with a buffer, as far as its bytes go.

    Args:
        name: The method's.
        data: The bytes.
        size: How many it is said to have.
        stream: The number of its stream.
    """
    buffer = msgspec.msgpack.Ext(4, b"\0\0")
    message = msgspec.msgpack.encode([b"message", 1, b"root", name, 1, [buffer], {}])
    table = struct.pack(">IQ", 1, len(data) if size is None else size)
    return frame(table + message, 1, stream) + (frame(data, 2, stream) if data else b"")


class Raw:
    """A client that says what it likes.

    Attributes:
        closed: Whether the server has ended the connection.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dialect: bytes = b"pb",
    ) -> None:
        self.reader, self.writer = reader, writer
        self.closed = False
        limits = pb.Limits.unlimited()
        # Of PB's own dialect what is on the wire, the trees.
        self._decoder: Dialect = BananaDialect(b"pb", PB_WORDS, limits)
        if dialect != b"pb":
            self._decoder = DIALECTS[dialect](limits)
        self._greeting = GREETING

    async def say(self, data: bytes) -> bool:
        """Says something; returns whether the server has taken it."""
        self.writer.write(data)
        try:
            await asyncio.wait_for(self.writer.drain(), PATIENCE)
        except ConnectionError:
            self.closed = True
        return not self.closed

    async def hear(self) -> Any:
        """Returns the next message of the server's, or None where it has ended."""
        while (tree := self._decoder.next()) is NEED_DATA:
            try:
                data = await asyncio.wait_for(self.reader.read(1 << 20), PATIENCE)
            except ConnectionError:
                data = b""
            if not data:
                self.closed = True
                return None
            skipped = min(self._greeting, len(data))
            self._greeting -= skipped
            self._decoder.feed(data[skipped:])
        return tree

    async def answer(self) -> Any:
        """Returns the next answer or error, or None where the connection has ended."""
        while (tree := await self.hear()) is not None and tree[0] not in (b"answer", b"error"):
            pass
        return tree

    async def answers(self, count: int) -> list[bytes]:
        """Returns which of ``answer`` and ``error`` the next so many are."""
        return [(await self.answer() or [b"closed"])[0] for _ in range(count)]

    async def is_closed(self) -> bool:
        """Waits until the server ends the connection."""
        while await self.hear() is not None:
            pass
        return True

    def close(self) -> None:
        self.writer.close()


class Victim:
    """A server in a process of its own.

    Attributes:
        address: Its address.
        ref: A connection of somebody who does no harm, made before anything else.
        log: What the server has logged, as a file.
    """

    def __init__(self, address: str, ref: pb.RemoteReference, log: Path) -> None:
        self.address, self.ref, self.log = address, ref, log
        self._raw: list[Raw | socket.socket] = []

    async def raw(self, said: bytes = OPENED, in_frames: bool = False) -> Raw:
        """Connects once more."""
        host, port = self.address.rsplit(":", 1)
        dialect = b"pbnb1" if in_frames else b"pb"
        raw = Raw(*await asyncio.open_connection(host, int(port)), dialect)
        self._raw.append(raw)
        await raw.say(said)
        return raw

    async def silent(self, count: int) -> None:
        """Connects very often at once, and says nothing."""
        host, port = self.address.rsplit(":", 1)
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect((host, int(port)))
            self._raw.append(sock)

    async def measured(self, flood: Callable[[Victim], Awaitable[None]]) -> dict[str, float]:
        """Returns what a flood does to the server; see `Gauge.remote_read`."""
        await self.ref.callRemote("begin")
        await flood(self)
        # Whoever does no harm is served, whatever the others do.
        assert await self.ref.callRemote("echo", 7) == 7
        found: dict[str, float] = await self.ref.callRemote("read")
        return found

    def hang_up(self) -> None:
        """Ends all connections but that of `ref`."""
        for each in self._raw:
            each.close()
        self._raw.clear()

    async def left(self) -> list[int]:
        """Returns what is left in the server of connections that have ended; see `Gauge`."""
        self.hang_up()
        async with asyncio.timeout(PATIENCE):
            while True:
                left: list[int] = await self.ref.callRemote("left")
                if left[3] == 1:
                    return left
                await asyncio.sleep(0.01)


@asynccontextmanager
async def victim(files: int | None = None, **options: Any) -> AsyncIterator[Victim]:
    """Starts a server.

    Args:
        files: How many files it may have open.
        **options: What its process is told.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "tests.attacks.served", json.dumps(options)]
    if files is not None:
        command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        child = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=log, env=environment
        )
        assert child.stdout is not None
        try:
            address = (await child.stdout.readline()).decode().strip()
            ref = await pb.connect(
                address, token=options.get("token"), limits=pb.Limits.unlimited()
            )
            made = Victim(address, ref, Path(log.name))
            try:
                yield made
            finally:
                made.hang_up()
                ref.broker.abort()  # type: ignore[attr-defined]
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            await child.stdout.read()


# The floods of the table


async def nothing(server: Victim) -> None:
    """An idle server"""
    await asyncio.sleep(1)


async def connections(server: Victim) -> None:
    """2,000 silent connections"""
    await server.silent(2000)
    await asyncio.sleep(2)


async def garbage(server: Victim) -> None:
    """1,000 connections that say garbage"""
    for _ in range(1000):
        raw = await server.raw(b"GET / HTTP/1.1\r\n\r\n")
        raw.close()


async def calls(server: Victim) -> None:
    """100,000 calls in one go"""
    raw = await server.raw()
    await raw.say(call(b"drop", wants_answer=0) * 100_000 + call(b"echo", number=2))
    assert await raw.answer() == [b"answer", 2, [b"None"]]


async def waiting(server: Victim) -> None:
    """100,000 calls that never end"""
    raw = await server.raw()
    await raw.say(b"".join(call(b"never", number=each) for each in range(100_000)))
    assert await raw.answers(100_000 - 2048) == [b"error"] * (100_000 - 2048)


async def unread(server: Victim) -> None:
    """100,000 calls, and 10 GB of answers that are not read"""
    raw = await server.raw()
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    raw.writer.write(call(b"long") * 100_000)
    await asyncio.sleep(2)


async def strings(server: Victim) -> None:
    """60 MB of long strings in one call"""
    raw = await server.raw()
    await raw.say(call(b"drop", *[bytes(600_000)] * 100))
    assert await raw.answers(1) == [b"answer"]


async def items(server: Victim) -> None:
    """A call of 600,000 numbers"""
    raw = await server.raw()
    await raw.say(call(b"drop", [b"list", *range(600_000)]))
    assert await raw.answers(1) == [b"answer"]


async def objects(server: Victim) -> None:
    """A call of 490,000 empty lists"""
    raw = await server.raw()
    await raw.say(call(b"drop", [b"list", *([[b"list"]] * 490_000)]))
    assert await raw.answers(1) == [b"answer"]


async def promises(server: Victim) -> None:
    """A call of 160,000 tuples that wait for its last item"""
    raw = await server.raw()
    tuples = [[b"tuple", [b"dereference", 1]]] * 160_000
    await raw.say(call(b"drop", [b"list", *tuples, [b"reference", 1, [b"list"]]]))
    assert await raw.answers(1) == [b"error"]


async def decimals(server: Victim) -> None:
    """A call of 240,000 decimals of 120 digits"""
    raw = await server.raw()
    await raw.say(call(b"drop", [b"list", *([[b"decimal", 2**400, -5]] * 240_000)]))
    assert await raw.answers(1) == [b"answer"]


async def hashes(server: Victim) -> None:
    """300 calls with 3,000 keys of one hash each"""
    keys = [b"dictionary", *([n * PRIME, 0] for n in range(1, 3001))]
    raw = await server.raw()
    await raw.say(call(b"drop", keys) * 300)
    assert await raw.answers(300) == [b"error"] * 300


async def depth(server: Victim) -> None:
    """10,000 calls nested 300 deep"""
    tree: Any = [b"list"]
    for _ in range(300):
        tree = [b"list", tree]
    raw = await server.raw()
    await raw.say(call(b"drop", tree) * 10_000)
    assert await raw.answers(10_000) == [b"answer"] * 10_000


async def references(server: Victim) -> None:
    """300 calls that lend 1,000 objects each"""
    lent = call(b"drop", *([b"remote", n] for n in range(1, 1001)))
    raw = await server.raw()
    answers = asyncio.ensure_future(raw.answers(300))
    await raw.say(lent * 300)
    assert await answers == [b"answer"] * 300


async def unfinished(server: Victim) -> None:
    """200 connections with 10 MB of a call that does not end, each"""
    parts = call(b"drop", *[bytes(600_000)] * 20)[:10_000_000]
    for _ in range(200):
        if not await (await server.raw()).say(parts):
            break


async def buffers(server: Victim) -> None:
    """300 connections that announce 1 GB each, and send 100 kB of it"""
    for _ in range(300):
        raw = await server.raw(FRAMES)
        await raw.say(with_buffer("drop", bytes(100_000), size=10**9))


async def frames(server: Victim) -> None:
    """100,000 calls in frames in one go"""
    raw = await server.raw(FRAMES, in_frames=True)
    await raw.say(plain_call("drop", wants_answer=0) * 100_000 + plain_call("echo", number=2))
    assert await raw.answer() == [b"answer", 2, None]


async def lists(server: Victim) -> None:
    """A call of 990,000 empty lists in frames"""
    raw = await server.raw(FRAMES, in_frames=True)
    await raw.say(plain_call("drop", [[]] * 990_000))
    assert await raw.answers(1) == [b"answer"]


FLOODS = [
    *(nothing, connections, garbage, calls, waiting, unread, strings, items, objects, promises),
    *(decimals, hashes, depth, references, buffers, frames, lists),
]


async def table() -> None:
    """Prints what each flood does."""
    columns = "| flood | longest wait, ms | of it computing, ms | memory, MB |"
    print(f"{columns}\n|---|---|---|---|", flush=True)
    for flood in FLOODS:
        async with victim() as server:
            found = await server.measured(flood)
            late, busy, grown = found["late"] * 1000, found["busy"] * 1000, found["grown"] / 1e6
            print(f"| {flood.__doc__} | {late:.0f} | {busy:.0f} | {grown:.0f} |", flush=True)
            await server.left()


if __name__ == "__main__":
    asyncio.run(table())
