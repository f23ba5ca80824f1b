"""Memory: views, arrays of the standard library, and whatever offers its own."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import sys
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbnb.errors import BananaError, InsecureJelly
from pbnb.jelly import jelly, unjelly
from pbnb.jelly.buffers import buffer_jellier
from pbnb.wire.banana import decode, encode
from tests.jelly.test_arrays import Echo
from tests.support.serving import served


def there_and_back(value: Any) -> Any:
    return unjelly(decode(encode(jelly(value))))


VIEWS = [
    memoryview(b"abc"),
    memoryview(b""),
    memoryview(b"abcdef")[::-2],
    memoryview(b"abcd").cast("c"),
    memoryview(b"\1\0").cast("?"),
    memoryview(array("d", range(6))).cast("B").cast("d", (3, 2)),
    memoryview(array("d", [1])).cast("B").cast("d", ()),
    memoryview(bytearray(8)).cast("q"),
]


@pytest.mark.parametrize("value", VIEWS, ids=lambda view: f"{view.format}{view.shape}")
def test_a_view_arrives_as_a_view_that_nobody_writes_to(value: memoryview) -> None:
    made = there_and_back(value)
    assert type(made) is memoryview
    assert made.readonly
    assert (made.format, made.shape) == (value.format, value.shape)
    assert made.tolist() == value.tolist()


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_int)]


def test_what_offers_its_memory_arrives_as_a_view() -> None:
    table = ((ctypes.c_int32 * 2) * 3)()
    table[2][1] = 7
    made = there_and_back(table)
    assert (made.format, made.shape) == ("i", (3, 2))
    assert made.tolist() == [[0, 0], [0, 0], [0, 7]]
    with mmap.mmap(-1, 5) as memory:
        memory[:] = b"hello"
        assert there_and_back(memory) == b"hello"


@pytest.mark.parametrize("typecode", "bBhHiIlLqQfd")
def test_an_array_arrives_as_an_array(typecode: str) -> None:
    for value in (array(typecode, [1, 2, 127]), array(typecode)):
        made = there_and_back(value)
        assert type(made) is array
        assert made.typecode == typecode
        assert made == value
        made.append(3)


@given(st.lists(st.floats(allow_nan=False)))
def test_any_numbers_arrive(numbers: list[float]) -> None:
    assert there_and_back(array("d", numbers)).tolist() == numbers
    assert there_and_back(memoryview(array("d", numbers))).tolist() == numbers


def test_one_view_met_twice_arrives_as_one() -> None:
    view, items = memoryview(b"abc"), array("i", [1])
    one, two, three, four = there_and_back([view, view, items, items])
    assert one is two
    assert three is four


class Name(bytes):
    pass


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Pair(1, 2), r"items of the format .* is not sent: send memoryview\(\).cast\('B'\)"),
        (Name(b"x"), r"Name are not sent: send bytes\(obj\)"),
    ],
    ids=["structure", "subclass"],
)
def test_what_means_more_than_its_bytes_is_refused(value: Any, why: str) -> None:
    with pytest.raises(InsecureJelly, match=why):
        jelly(value)
    assert buffer_jellier(5) is None


BIG = b">" if sys.byteorder == "little" else b"<"


def test_the_other_byte_order_is_turned_round() -> None:
    memory = array("i", [1, -2])
    memory.byteswap()
    state: list[Any] = [BIG + b"i4", [b"list", 2], memory.tobytes()]
    assert unjelly([b"pbnb.memoryview", [b"list", *state]]).tolist() == [1, -2]
    state = [b"i", BIG + b"i4", memory.tobytes()]
    assert unjelly([b"pbnb.array", [b"list", *state]]) == array("i", [1, -2])


@pytest.mark.parametrize(
    "state",
    [
        *([b"<f2", [b"list", 4], b"12345678"], [b"|O1", [b"list", 8], b"12345678"]),
        *([b"i", [b"list", 2], b"12345678"], [b"<i4", [b"list", 3], b"12345678"]),
        *([b"<i4", [b"list", -2], b"12345678"], [b"<i4", [b"list", 2**61, 8], b"12345678"]),
        *([b"<i4", [b"list"], b"12345678"], [b"<i4", b"2", b"12345678"]),
        *([b"<i4", [b"list", 1], b"12345"], [b"|u1", [b"list", 2**61, 0], b""]),
        *([b"|b1", [b"list", 2], b"\1\2"], [b"<i4", [b"list", 0], 5], [], [b"<i4"]),
        *([b"i", b"<i4", b"12345"], [b"i", b"|b1", b"1"], [b"i", b"|S1", b"1"], [b"i", b"x", b""]),
        *([5, b"<i4", b""], [b"i", b"<i4", "1234"]),
    ],
    ids=repr,
)
def test_a_state_that_lies_is_refused(state: Any) -> None:
    for tag in (b"pbnb.memoryview", b"pbnb.array"):
        with pytest.raises(InsecureJelly, match=f"malformed {tag.decode()}"):
            unjelly([tag, [b"list", *state]])


def test_a_letter_that_this_machine_reads_otherwise_makes_way() -> None:
    for letter in (b"i", b"d", b"u", b"w", b"\xff", b"no", b""):
        made = unjelly([b"pbnb.array", [b"list", letter, b"<i8", (5).to_bytes(8, "little")]])
        assert made.typecode == "q"
        assert made.tolist() == [5]


def test_large_ones_travel_beside_the_message() -> None:
    async def main() -> None:
        items = array("d", range(100_000))
        view = memoryview(items).cast("B").cast("d", (1000, 100))
        echo = Echo()
        async with served(echo) as (_, ref):
            made = await ref.callRemote("echo", view)
            assert made == view
            assert made.readonly
            assert await ref.callRemote("echo", items) == items
            assert await ref.callRemote("echo", bytearray(view)) == bytearray(view)
        async with served(echo, dialects=("pb",)) as (_, ref):
            for large in (view, items):
                with pytest.raises(BananaError, match="let both sides speak pbnb1"):
                    await ref.callRemote("echo", large)
            assert await ref.callRemote("echo", array("b", [1])) == array("b", [1])

    asyncio.run(main())
