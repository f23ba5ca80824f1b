"""The floor: what loopback TCP and asyncio cost where nothing is encoded and no object is found.

Each call is four bytes of length and as many bytes, which come back as they are; the caller awaits
a future. Whatever a peer does in more than one round trip is as many of them here.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from . import HOST, Peer, Serving

BACKLOG = 1024
PREFIX = struct.Struct(">I")
# Longer frames are received where they stay, and sent as they are.
LARGE = 1 << 16
# What a call takes that is more than an echo.
_TRIPS = {"answer": 1, "call_back": 2}
# One for all connections of a process: what is in it is taken out before the loop goes on.
_received = memoryview(bytearray(1 << 16))


def _room(size: int) -> memoryview:
    # Unlike a bytearray, numpy's memory is not filled with zeros first.
    try:
        import numpy
    except ModuleNotFoundError:
        return memoryview(bytearray(size))
    return numpy.empty(size, "u1").data


class Frames(asyncio.BufferedProtocol, ABC):
    """Frames in, frames out. The first of a loop's turn leaves at once, the others together."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._rest = b""
        self._large: memoryview | None = None
        self._filled = 0
        self._turning = False
        self._held: list[bytes] = []

    @abstractmethod
    def handle(self, frame: bytes | memoryview) -> None:
        """Does with a frame what is to be done."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _received if self._large is None else self._large[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._large is None:
            self._read(self._rest + _received[:nbytes].tobytes())
            return
        self._filled += nbytes
        if self._filled == len(self._large):
            frame, self._large = self._large, None
            self.handle(frame)

    def _read(self, data: bytes) -> None:
        start, end = 0, len(data)
        while end - start >= 4:
            (size,) = PREFIX.unpack_from(data, start)
            first = start + 4
            if first + size <= end:
                start = first + size
                self.handle(data[first:start])
                continue
            if size > LARGE:
                self._large, self._filled = _room(size), end - first
                self._large[: self._filled] = memoryview(data)[first:]
                start = end
            break
        self._rest = data[start:]

    def send(self, frame: bytes | memoryview) -> None:
        """Sends one frame."""
        prefix = PREFIX.pack(len(frame))
        if len(frame) > LARGE:
            self._write_held()
            self.transport.writelines([prefix, frame])
        elif self._turning:
            self._held.append(prefix + frame)
        else:
            self.transport.write(prefix + frame)
            self._turning = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        self._write_held()

    def _write_held(self) -> None:
        if self._held:
            self.transport.write(b"".join(self._held))
            self._held.clear()


class Counts:
    """What all connections of a server have answered together."""

    answered = 0


class Served(Frames):
    """The server's end: sends each frame back."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self._counts = counts

    def handle(self, frame: bytes | memoryview) -> None:
        self._counts.answered += 1
        self.send(frame)


class Caller(Frames):
    """The client's end: takes the calls that a reference would, and sends bytes for them."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[asyncio.Future[bytes | memoryview]] = deque()
        self.closed = self.loop.create_future()

    def handle(self, frame: bytes | memoryview) -> None:
        self._waiting.popleft().set_result(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self._waiting:
            future.set_exception(exc or ConnectionError("the server closed the connection"))
        self.closed.set_result(None)

    def callRemote(self, name: str, /, *args: Any) -> Awaitable[Any]:
        """Makes one of the calls that `benchmarks.peers.objects` answers.

        Raises:
            NotImplementedError: It is about references that live on, of which the floor has none.
        """
        if name == "echo":
            future: asyncio.Future[bytes | memoryview] = self.loop.create_future()
            self._waiting.append(future)
            self.send(args[0])
            return future
        if name == "lend":
            return self._lend()
        if name in _TRIPS:
            return self._make(_TRIPS[name])
        raise NotImplementedError("the floor has no references")

    async def _lend(self) -> Caller:
        await self._make(1)
        return self

    async def _make(self, trips: int) -> Any:
        for _ in range(trips):
            await self.callRemote("echo", b"some of it")
        return 42


class Floor(Peer):
    """asyncio with a future for each call, and nothing else; it has no variants."""

    def serve(self, ready: Callable[[int, Serving], object]) -> None:
        async def main() -> None:
            counts = Counts()
            server = await asyncio.get_running_loop().create_server(
                lambda: Served(counts), HOST, 0, backlog=BACKLOG
            )
            ready(server.sockets[0].getsockname()[1], counts)
            await server.serve_forever()

        asyncio.run(main())

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(main())

    async def connect(self, port: int) -> Caller:
        _, root = await asyncio.get_running_loop().create_connection(Caller, HOST, port)
        return root

    async def close(self, root: Caller) -> None:
        root.transport.close()
        await root.closed

    async def gather(self, work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        return await asyncio.gather(*work)

    def pinged(self) -> None:
        return None

    def outgoing(self, value: Any) -> bytes | memoryview:
        """Returns about as many bytes as any compact encoding of the value has."""
        if isinstance(value, str):
            return value.encode()
        try:
            return memoryview(value).cast("B")
        except TypeError:
            return pickle.dumps(value, protocol=5)


PEER = Floor
