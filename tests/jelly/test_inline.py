"""Plain values in one pass, beside what the two passes make of them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from pbnb.jelly.inline import NotPlain, read_items, write_items
from pbnb.jelly.jelly import jelly
from pbnb.wire.banana import PB_WORDS, encode

BITS = 7 * 64


def written(*values: Any) -> bytes:
    return b"".join(write_items(values, BITS))


def read(data: bytes, count: int = 1, keys: int = 64) -> list[Any]:
    items: list[Any] = []
    assert read_items(data, 0, count, items, keys) == len(data)
    return items


VALUES: list[Any] = [
    *(None, True, False, 0, 1, 127, 128, 16383, 16384, 2**21, 2**31 - 1, 2**31, 2**40, 2**62),
    *(-1, -(2**31), -(2**31) - 1, 0.0, -1.5, float("inf"), "", "x", "café", "x" * 127, "x" * 128),
    *("x" * 16383, b"", b"x", b"x" * 127, b"x" * 128, b"x" * 100_000, *PB_WORDS),
    *(word.decode() for word in PB_WORDS),
    *([], (), {}, [1, "two", (3.0, None)], {"a": [{"b": ()}], b"c": {"d": True}}),
    *([0] * 126, [0] * 127, [0] * 128, list(range(20_000)), list(range(-5, 40)), (0.5,) * 300),
    *([1.5, *range(50)], [True, *range(50)], ["x"] * 20_000, {2: 2, 2.5: 3, None: 4, True: 5}),
    *({str(n): n for n in range(300)}, [[n, [n]] for n in range(100)]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_a_value_is_written_as_jelly_and_banana_write_it_and_read_again(value: Any) -> None:
    data = written(value)
    assert data == encode(jelly(value))
    assert repr(read(data)) == repr([value])
    if type(value) not in (str, bytes) or len(value) < 16384:
        for end in {*range(min(len(data), 300)), len(data) - 1}:
            with pytest.raises((IndexError, NotPlain, UnicodeDecodeError)):
                read(data[:end])


def test_lists_of_floats_leave_nothing_behind() -> None:
    values: list[Any] = [[0.5] * size for size in range(5000, 5040)]
    written(values[0])
    tracemalloc.start()
    try:
        for value in values:
            written(value)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_long_text_is_left_to_the_two_passes() -> None:
    with pytest.raises(NotPlain):
        read(written("x" * 16384))


class Text(str):
    """No text, for all that is known of it."""


SHARED = [1]
ROUND: list[Any] = []
ROUND.append(ROUND)
DEEP: list[Any] = []
for _ in range(25):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [{1}, Text("x"), object(), [SHARED, SHARED], ROUND, DEEP, {"a": SHARED, "b": SHARED}, 2**448],
    ids=lambda value: type(value).__name__,
)
def test_what_is_more_than_plain_is_not_written(value: Any) -> None:
    with pytest.raises(NotPlain):
        written(value)


def test_several_values_stand_one_behind_the_other() -> None:
    assert read(written(1, "two", [3]), 3) == [1, "two", [3]]


def test_a_peer_chooses_the_hashes_of_no_more_keys_than_it_may() -> None:
    data = written(dict.fromkeys(range(65)))
    assert read(data, keys=66) == [dict.fromkeys(range(65))]
    with pytest.raises(NotPlain):
        read(data, keys=64)
    words = {str(n): n for n in range(65)}
    assert read(written(words), keys=0) == [words]
    with pytest.raises(NotPlain):
        read(written({(1,): 2}))
