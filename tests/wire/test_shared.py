"""Parts of shared memory: lent, looked at, given back; and what a hostile peer says of them."""

from __future__ import annotations

import gc
import hashlib
import os
import struct
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbnb.errors import RemoteProtocolError
from pbnb.wire.segments import PAGE
from pbnb.wire.shared import Lending, Reading

MIB = 1024 * 1024
TOKEN = bytes(range(16))
HASH = hashlib.sha256(TOKEN).digest()


class Pair:
    """Memory that is lent, and its reader, who have agreed.

    Args:
        size: How much may be lent.
    """

    def __init__(self, size: int = 64 * PAGE) -> None:
        self.notes: list[int] = []
        self.lending = Lending(size, token=TOKEN)
        self.reading = Reading(lambda: self.notes.append(1))
        self.lending.accepted(self.reading.offered(self.lending.offer(), 2**40))
        assert self.lending.ready

    def send(self, data: bytes) -> memoryview | None:
        """Returns a view of what was placed, or None where there was no room."""
        part = self.lending.take(len(data))
        if part is None:
            return None
        self.lending.write(part, memoryview(data))
        return self.reading.view(*self.reading.placed(self.lending.tell(part, len(data))))

    def settle(self) -> None:
        """Gives back what nobody looks at."""
        if body := self.reading.gone():
            self.lending.released(body)

    def close(self) -> None:
        self.lending.close()
        self.reading.close()


@pytest.fixture
def pair() -> Any:
    pair = Pair()
    yield pair
    pair.close()


def test_what_is_placed_is_looked_at_in_place(pair: Pair) -> None:
    view = pair.send(b"here")
    assert view is not None and bytes(view) == b"here" and view.readonly
    assert pair.lending.lent == PAGE
    del view
    pair.settle()
    assert pair.notes and pair.lending.lent == 0


def test_a_part_is_free_when_its_last_slice_is_gone(pair: Pair) -> None:
    view = pair.send(b"0123456789")
    assert view is not None
    part = view[3:5]
    del view
    pair.settle()
    assert pair.lending.lent == PAGE and bytes(part) == b"34"
    del part
    pair.settle()
    assert pair.lending.lent == 0


def test_a_view_may_end_in_any_thread(pair: Pair) -> None:
    views = [pair.send(b"here")]
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert pair.notes == [1]
    pair.settle()
    assert pair.lending.lent == 0


def test_where_it_is_full_there_is_no_room(pair: Pair) -> None:
    views = [pair.send(bytes(16 * PAGE)) for _ in range(4)]
    assert None not in views and pair.send(b"more") is None
    del views[1]
    pair.settle()
    assert pair.send(bytes(17 * PAGE)) is None
    views.append(pair.send(bytes(16 * PAGE)))
    assert None not in views


def test_what_a_view_shows_stays_when_all_else_has_ended(pair: Pair) -> None:
    view = pair.send(b"here")
    pair.close()
    gc.collect()
    assert view is not None and bytes(view) == b"here"
    del view
    assert pair.reading.gone() == b""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 20 * PAGE), st.lists(st.integers(0, 30), max_size=4)),
        min_size=5,
        max_size=60,
    )
)
def test_nothing_is_placed_where_somebody_looks(steps: list[tuple[int, list[int]]]) -> None:
    pair = Pair()
    alive: list[tuple[memoryview, int]] = []
    for number, (size, ends) in enumerate(steps):
        view = pair.send(bytes([number]) * size)
        if view is not None:
            alive.append((view[size // 2 :], number))
            del view
        for index in ends:
            if index < len(alive):
                del alive[index]
        if number % 3 == 0:
            pair.settle()
        for kept, wanted in alive:
            assert kept.tobytes().count(wanted) == len(kept)
    kept = None
    alive.clear()
    pair.settle()
    assert pair.lending.lent == 0
    pair.close()


def test_what_is_copied_is_little_at_a_time() -> None:
    pair = Pair(64 * MIB)
    parts = []
    while (part := pair.lending.take(MIB, copied=True)) is not None:
        parts.append(part)
        pair.lending.tell(part, MIB)
    assert len(parts) == 16
    assert pair.lending.take(MIB) is not None
    pair.lending.released(struct.pack(">Q", parts[3]))
    assert pair.lending.take(MIB, copied=True) == parts[3]
    pair.close()


def test_what_the_peer_only_copies_is_answered_soon() -> None:
    lending, reading = Lending(64 * MIB, token=TOKEN), Reading(int)
    assert not lending.awaits
    body = lending.offer()
    assert lending.awaits
    lending.accepted(reading.offered(body, 2**40))
    assert not lending.awaits
    looked_at, copied = lending.take(MIB), lending.take(MIB, copied=True)
    assert looked_at is not None and copied is not None
    lending.tell(looked_at, MIB)
    assert not lending.awaits
    lending.tell(copied, MIB)
    assert lending.awaits
    lending.released(struct.pack(">Q", copied))
    assert not lending.awaits
    lending.close()
    assert not lending.awaits


def test_memory_that_was_not_used_lately_goes_back(pair: Pair) -> None:
    told: list[int] = []
    lending = Lending(64 * PAGE, lambda: told.append(1), TOKEN)
    reading = Reading(lambda: None)
    assert not lending.trim()
    lending.accepted(reading.offered(lending.offer(), 2**40))
    first, second = lending.take(PAGE), lending.take(PAGE)
    assert first is not None and second is not None
    for part in (first, second):
        lending.write(part, memoryview(b"x" * PAGE))
    assert told == [1]
    lending.tell(first, PAGE)
    lending.give_back(first)
    assert lending.trim()  # it was written just now
    assert lending.trim()  # and the second part still lies there
    seen = [bytearray(1), bytearray(1)]
    reading.copy(first, memoryview(seen[0]))
    reading.copy(second, memoryview(seen[1]))
    assert seen == [b"\0", b"x"]
    lending.give_back(second)
    assert not lending.trim()
    reading.copy(second, memoryview(seen[1]))
    assert seen[1] == b"\0"
    part = lending.take(PAGE)
    assert part is not None
    lending.write(part, memoryview(b"y"))
    assert told == [1, 1]
    lending.close()
    assert not lending.trim()
    reading.close()


# What a hostile peer says

SEGMENT = 64 * PAGE


def offer(pid: int, fd: int, size: int = SEGMENT + PAGE, digest: bytes = HASH) -> bytes:
    return struct.pack(">IIQ32s", pid, fd, size, digest)


def test_memory_is_offered_once(pair: Pair) -> None:
    assert pair.lending.offer() == b""
    with pytest.raises(RemoteProtocolError, match="second time"):
        pair.reading.offered(offer(os.getpid(), 0), 2**40)


def test_where_nothing_may_be_lent_nothing_is_offered() -> None:
    assert Lending(0).offer() == Lending(PAGE - 1).offer() == b""


@pytest.mark.parametrize("body", [b"", b"x", offer(1, 2) + b"x"])
def test_an_offer_that_is_none(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="no known way"):
        Reading(int).offered(body, 2**40)


def test_a_segment_larger_than_allowed_is_refused() -> None:
    for most, ready in ((SEGMENT - 1, False), (SEGMENT, True), (0, False)):
        lending, reading = Lending(SEGMENT), Reading(int)
        lending.accepted(reading.offered(lending.offer(), most))
        assert lending.ready is ready
        assert lending.offer() == b""
        lending.close()


def test_what_stands_in_memory_is_not_told_to_who_does_not_know_it() -> None:
    lending = Lending(SEGMENT, token=TOKEN)
    true = lending.offer()
    pid, fd, size, digest = struct.unpack(">IIQ32s", true)
    assert Reading(int).offered(offer(pid, fd, size, bytes(32)), 2**40) == b""
    assert Reading(int).offered(offer(pid, fd, size - PAGE, digest), 2**40) == b""
    assert Reading(int).offered(offer(pid, 0, size, digest), 2**40) == b""
    assert Reading(int).offered(true, 2**40) == TOKEN
    lending.close()


@pytest.mark.parametrize("body", [b"x", bytes(16), TOKEN + b"x"])
def test_who_has_not_read_the_token_has_not_accepted(body: bytes) -> None:
    lending = Lending(SEGMENT, token=TOKEN)
    with pytest.raises(RemoteProtocolError, match="not offered"):
        lending.accepted(TOKEN)
    lending.offer()
    with pytest.raises(RemoteProtocolError, match="not read"):
        lending.accepted(body)
    assert not lending.ready
    lending.close()


def test_memory_is_accepted_once(pair: Pair) -> None:
    for body in (TOKEN, b""):
        with pytest.raises(RemoteProtocolError, match="not offered"):
            pair.lending.accepted(body)


@pytest.mark.parametrize(
    "place",
    [(0, 1), (PAGE - 1, 1), (PAGE, SEGMENT + 1), (SEGMENT + PAGE, 1), (2**64 - 1, 2)],
)
def test_a_place_that_is_none(pair: Pair, place: tuple[int, int]) -> None:
    with pytest.raises(RemoteProtocolError, match="there are none"):
        pair.reading.placed(struct.pack(">QQ", *place))


def test_what_is_placed_before_anything_was_accepted() -> None:
    with pytest.raises(RemoteProtocolError, match="not accepted"):
        Reading(int).placed(struct.pack(">QQ", PAGE, 1))


def test_a_place_of_no_known_form(pair: Pair) -> None:
    with pytest.raises(RemoteProtocolError, match="in 15 bytes"):
        pair.reading.placed(bytes(15))


def test_nothing_is_placed_where_others_lie(pair: Pair) -> None:
    view = pair.send(b"first")
    with pytest.raises(RemoteProtocolError, match="others still lie"):
        pair.reading.placed(struct.pack(">QQ", PAGE, 1))
    del view
    gc.collect()  # the peer may not know it yet
    with pytest.raises(RemoteProtocolError, match="others still lie"):
        pair.reading.placed(struct.pack(">QQ", PAGE, 1))
    pair.settle()
    assert pair.reading.placed(struct.pack(">QQ", PAGE, 1)) == (PAGE, 1)


@pytest.mark.parametrize("body", [b"", b"1234567"])
def test_a_release_of_no_known_form(pair: Pair, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="releases memory in"):
        pair.lending.released(body)


def test_a_release_of_what_was_never_sent(pair: Pair) -> None:
    part = pair.lending.take(PAGE)
    for offset in (0, part, PAGE + 1, 2**64 - 1):
        with pytest.raises(RemoteProtocolError, match="does not have"):
            pair.lending.released(struct.pack(">Q", offset))


def test_a_release_comes_once(pair: Pair) -> None:
    view = pair.send(b"here")
    assert view is not None
    with pytest.raises(RemoteProtocolError, match="does not have"):
        pair.lending.released(struct.pack(">2Q", PAGE, PAGE))
