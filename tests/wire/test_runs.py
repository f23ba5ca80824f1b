"""Runs of numbers: what is read at once is what token by token would have been read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbnb.limits import Limits
from pbnb.wire.banana import Decoder, decode, encode
from pbnb.wire.runs import LONGEST_PREFIX, float_run, int_run

# Limits of fewer digits than a run may have: under these a decoder reads token by token.
TOKEN_BY_TOKEN = Limits(prefix_bytes=LONGEST_PREFIX - 1)


def test_reads_integers_until_something_else_comes() -> None:
    data = b"??" + b"".join(map(encode, [0, 127, 128, 16383, 16384, 2**31 - 1])) + b"\x05\x82hello"
    assert int_run(data, 2, 100) == ([0, 127, 128, 16383, 16384, 2**31 - 1], len(data) - 7)
    assert int_run(data, len(data) - 7, 100) == ([], len(data) - 7)


def test_reads_no_more_integers_than_it_may() -> None:
    data = b"\x01\x81\x02\x81\x00\x01\x81\x04\x81"
    assert int_run(data, 0, 3) == ([1, 2, 128], 7)
    assert int_run(data, 0, 1) == ([1], 2)


@pytest.mark.parametrize(
    "end", [b"", b"\x05", b"\x05\x05", b"\x05\x83", b"\x85", b"\x01\x80\x01\x81"]
)
def test_leaves_what_is_no_complete_integer(end: bytes) -> None:
    assert int_run(b"\x01\x81\x02\x81" + end, 0, 100) == ([1, 2], 4)


def test_bears_missing_prefixes_and_redundant_zeros() -> None:
    assert int_run(b"\x81\x81\x05\x00\x81\x05\x00\x00\x00\x81", 0, 100) == ([0, 0, 5, 5], 10)


def test_stops_in_front_of_a_long_prefix() -> None:
    longest, too_long = b"\x01" * LONGEST_PREFIX + b"\x81", b"\x01" * (LONGEST_PREFIX + 1) + b"\x81"
    expected = sum(1 << 7 * digit for digit in range(LONGEST_PREFIX))
    assert int_run(b"\x02\x81" + longest + too_long + b"\x03\x81", 0, 100) == (
        [2, expected],
        2 + len(longest),
    )


def test_reads_floats_until_something_else_comes() -> None:
    floats = [0.0, -0.5, 1e300, float("inf")]
    data = b"?" + b"".join(map(encode, floats))
    assert float_run(data + b"\x01\x81" + b"?" * 20, 1, 100) == (floats, len(data))
    assert float_run(data, 1, 100) == (floats, len(data))
    assert float_run(data[:-1], 1, 100) == (floats[:-1], len(data) - 9)
    assert float_run(data, 1, 2) == (floats[:2], 19)
    assert float_run(b"\x01\x81", 0, 100) == ([], 0)
    assert float_run(b"", 0, 100) == ([], 0)


def test_a_float_behind_a_prefix_ends_the_run() -> None:
    float_token = encode(1.5)
    assert float_run(float_token + b"\x05" + float_token * 3, 0, 100) == ([1.5], 9)


def test_the_bits_of_floats_are_kept() -> None:
    bits = [b"\x7f\xf8\0\0\0\0\0\1", b"\x80\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\1"]
    numbers, _ = float_run(b"".join(b"\x84" + eight for eight in bits), 0, 100)
    assert [struct.pack(">d", number) for number in numbers] == bits


items: st.SearchStrategy[list[object]] = st.one_of(
    st.lists(st.integers(0, 2**50), min_size=17, max_size=24),
    st.lists(st.floats(allow_nan=False), min_size=17, max_size=24),
    st.lists(st.integers(-5, 5) | st.just(b"x") | st.just([]), max_size=5),
)


@settings(deadline=None)
@given(st.lists(items, max_size=6), st.integers(0, 5000))
def test_a_list_with_runs_is_read_as_without(parts: list[list[object]], offset: int) -> None:
    tree = [item for part in parts for item in part]
    data = encode([tree, 1, tree])
    assert decode(data, limits=TOKEN_BY_TOKEN) == [tree, 1, tree]
    assert decode(data) == [tree, 1, tree]
    decoder = Decoder()
    decoder.feed(data[:offset])
    first = decoder.next()
    decoder.feed(data[offset:])
    assert [tree, 1, tree] in (first, decoder.next())


@pytest.mark.parametrize("length", [23, 24, 255, 256, 257, 5000])
def test_numbers_of_two_digits_are_read_together(length: int) -> None:
    for items in (
        [128 + n % 16256 for n in range(length)],
        [n % 200 for n in range(length)],
        [0] * 3 + [16383] * length + [5, 16384],
    ):
        data = b"".join(encode(item) for item in items) + b"\x84"
        found: list[int] = []
        at = 0
        while len(found) < len(items):
            run, at = int_run(data, at, len(items) - len(found))
            assert run
            found += run
        assert (found, data[at:]) == (items, b"\x84")
