"""Buffers on their way: what a stream of frames holds, on either side."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pbnb.wire.memory import Memory
from pbnb.wire.shared import PLACED
from pbnb.wire.transfers import HEAD, PART, PIECE, Incoming, Outgoing, OutOfBand, label_of

LABEL = (b"message", 7)


class Memories:
    """Stands for memory that is shared: notes where what was copied to.

    Attributes:
        room: How many bytes are left of it.
        written: What was copied, and where.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.written: list[tuple[int, int]] = []

    def take(self, size: int, copied: bool = False) -> int | None:
        if size > self.room:
            return None
        self.room -= size
        return 1000

    def write(self, at: int, data: memoryview) -> None:
        self.written.append((at, len(data)))

    def tell(self, part: int, size: int) -> bytes:
        return b"%d bytes at %d" % (size, part)


def outgoing(*buffers: bytes, as_bytes: bool = False) -> Outgoing:
    return Outgoing(3, [OutOfBand(memoryview(each), as_bytes) for each in buffers], False, LABEL)


def test_pieces_are_of_one_buffer_each_and_the_empty_ones_are_none() -> None:
    transfer = outgoing(b"abcde", b"", b"fg")
    assert (transfer.size, transfer.left, transfer.label) == (7, 7, LABEL)
    said = []
    while transfer.buffers:
        head, piece = transfer.next(3)
        assert head == HEAD.pack(len(piece), PIECE, 3)
        said.append((bytes(piece), transfer.left))
    assert said == [(b"abc", 4), (b"de", 2), (b"fg", 0)]


def test_a_buffer_is_placed_as_a_whole_a_step_at_a_time() -> None:
    size = PART + 1
    transfer, memory = outgoing(bytes(size)), Memories(size)
    frames: list[Any] = []
    while transfer.buffers:
        placed = transfer.place(memory)  # type: ignore[arg-type]
        assert placed is not None
        frames += placed
    (frame,) = frames  # the peer hears of it when all of it is there
    body = b"%d bytes at 1000" % size
    assert frame == HEAD.pack(len(body), PLACED, 3) + body
    assert sum(length for _, length in memory.written) == size
    assert [at for at, _ in memory.written] == [1000, 1000 + PART // 2, 1000 + PART]


def test_a_byte_string_is_placed_in_parts_as_its_reader_copies_it() -> None:
    size = PART + 1
    transfer, memory = outgoing(bytes(size), as_bytes=True), Memories(size)
    while transfer.buffers:
        assert transfer.place(memory) != []  # type: ignore[arg-type]
    assert memory.written == [(1000, PART), (1000, 1)]


def test_where_nothing_is_left_of_the_memory_nothing_is_placed() -> None:
    transfer, memory = outgoing(b"abc"), Memories(2)
    assert transfer.place(memory) is None  # type: ignore[arg-type]
    assert transfer.left == 3 and bytes(transfer.next(9)[1]) == b"abc"


def test_what_comes_fills_one_memory_after_the_other() -> None:
    memories = [Memory(size, False) for size in (0, 2, 0, 3, 0)]
    transfer = Incoming(3, b"", 0, memories)
    assert (transfer.size, transfer.left) == (5, 5)
    for wanted, size in ((1, 1), (9, 1), (9, 3)):
        room = transfer.room(wanted)
        assert len(room) == size
        room[:] = b"x" * size
        room.release()
        transfer.filled(size)
    assert transfer.left == 0
    assert [bytes(memory.result()) for memory in memories] == [b"", b"xx", b"", b"xxx", b""]


@pytest.mark.parametrize("number", [0, 127, 128, 255, 2**16 - 1, 2**32 - 1, 2**64 - 1])
def test_a_message_is_labelled_before_it_can_be_read(number: int) -> None:
    body = b"head" + msgspec.msgpack.encode([b"answer", number, None])
    assert label_of(body, 4) == (b"answer", number)


@pytest.mark.parametrize(
    ("message", "label"),
    [(["answer", 1], (None, None)), ([b"answer", -1], (b"answer", None)), ([], (None, None))],
)
def test_a_message_of_another_form_is_labelled_as_far_as_it_goes(message: Any, label: Any) -> None:
    assert label_of(msgspec.msgpack.encode(message), 0) == label
