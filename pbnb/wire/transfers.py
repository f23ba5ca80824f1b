"""The buffers of one message on their way, out or in: what a stream of `pbnb.wire.frames` holds."""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Final, NamedTuple

from .memory import Memory
from .shared import PLACED, Lending

__all__ = [
    "ANNOUNCE",
    "DROP",
    "HEAD",
    "MESSAGE",
    "PART",
    "PIECE",
    "Incoming",
    "OutOfBand",
    "Outgoing",
    "Transfer",
    "label_of",
]

#: The head of a frame: the length of its body, its kind and its stream.
HEAD: Final = struct.Struct(">IBxH")
#: The kinds of frames that messages and their buffers are sent in.
MESSAGE, ANNOUNCE, PIECE, DROP = range(4)

_head = HEAD.pack

#: Where the peer copies a buffer that is placed in shared memory, so many bytes go at a time.
PART: Final = 1024 * 1024
# Where it does not, they are copied there so many at a time.
_STEP = 512 * 1024


class OutOfBand:
    """Memory that stands in an expression, and travels beside it.

    Attributes:
        data: The bytes, contiguous; read when they are written to the transport.
        as_bytes: Whether they arrive as a byte string rather than as memory.
    """

    __slots__ = ("as_bytes", "data")

    def __init__(self, data: memoryview, as_bytes: bool = False) -> None:
        self.data = data
        self.as_bytes = as_bytes


class Transfer(NamedTuple):
    """A message whose buffers are on their way.

    Attributes:
        label: The first two items of the message, its command and its number; of the peer's
            messages whatever stands there.
        outgoing: Whether it is sent, and not received.
        done: How many bytes of the buffers have gone or come.
        size: How many there are.
    """

    label: tuple[Any, Any]
    outgoing: bool
    done: int
    size: int


class Outgoing:
    """A message's buffers, on their way out.

    Args:
        stream: The number of their stream.
        buffers: The buffers.
        ordered: Whether nothing may overtake the message.
        label: The first two items of the message, its command and its number.
    """

    __slots__ = ("at", "buffers", "label", "left", "ordered", "part", "size", "stream")

    def __init__(
        self, stream: int, buffers: list[OutOfBand], ordered: bool, label: tuple[Any, Any]
    ) -> None:
        self.stream = stream
        self.label = label
        self.size = self.left = sum(len(each.data) for each in buffers)
        self.buffers = deque(each for each in buffers if each.data)
        self.ordered = ordered
        self.at = 0
        # Where the current buffer is being copied to as a whole, in memory that is shared.
        self.part: int | None = None

    def next(self, most: int) -> list[bytes | memoryview]:
        """Returns the next frame, a piece of one buffer."""
        piece = self._advance(most)
        return [_head(len(piece), PIECE, self.stream), piece]

    def place(self, lending: Lending) -> list[bytes | memoryview] | None:
        """Copies what comes next to memory that is shared; returns None where there is none."""
        buffer = self.buffers[0]
        size = len(buffer.data)
        if self.part is None and not self.at and not buffer.as_bytes:
            self.part = lending.take(size)
        if (part := self.part) is not None:
            lending.write(part + self.at, self._advance(_STEP))
            if self.at:
                return []
            self.part = None
        else:
            size = min(size - self.at, PART)
            if (part := lending.take(size, copied=True)) is None:
                return None
            lending.write(part, self._advance(size))
        body = lending.tell(part, size)
        return [_head(len(body), PLACED, self.stream) + body]

    def _advance(self, most: int) -> memoryview:
        data = self.buffers[0].data
        piece = data[self.at : self.at + most]
        self.at += len(piece)
        self.left -= len(piece)
        if self.at == len(data):
            self.buffers.popleft()
            self.at = 0
        return piece


class Incoming:
    """A message whose buffers are on their way in.

    Args:
        stream: The number of their stream.
        body: The body of the frame that announced them.
        start: Where the message begins in it.
        memories: Where they are received.
    """

    __slots__ = ("at", "body", "index", "left", "memories", "size", "start", "stream")

    def __init__(self, stream: int, body: bytes, start: int, memories: list[Memory]) -> None:
        self.stream = stream
        self.body = body
        self.start = start
        self.memories = memories
        self.size = self.left = sum(each.size for each in memories)
        self.index = 0
        self.at = 0
        self._skip()

    def room(self, most: int) -> memoryview:
        """Returns memory for the next bytes, `most` at most."""
        return self.memories[self.index].view[self.at : self.at + most]

    def filled(self, count: int) -> None:
        """Counts bytes that have come."""
        self.at += count
        self.left -= count
        self._skip()

    def _skip(self) -> None:
        while self.index < len(self.memories) and self.at == self.memories[self.index].size:
            self.index += 1
            self.at = 0


def label_of(body: bytes, start: int) -> tuple[Any, Any]:
    """Returns the command and the number of a message that cannot be read yet.

    Args:
        body: The body of its frame.
        start: Where the message begins in it.
    """
    if body[start + 1 : start + 2] != b"\xc4":
        return None, None
    at = start + 3 + body[start + 2]
    command, first = body[start + 3 : at], int.from_bytes(body[at : at + 1], "big")
    if first < 0x80:
        return command, first
    if not 0xCC <= first <= 0xCF:
        return command, None
    return command, int.from_bytes(body[at + 1 : at + 1 + 2 ** (first - 0xCC)], "big")
