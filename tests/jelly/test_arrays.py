"""Arrays of numpy: there and back in both dialects, and from a peer that lies about them."""

from __future__ import annotations

import asyncio
import ctypes
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

import pbnb as pb
from pbnb.errors import BananaError, InsecureJelly
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.jelly.arrays import ARRAY_READERS
from pbnb.jelly.extras import EXTRA_TYPES
from pbnb.wire.banana import decode, encode
from tests.support.pair import BrokerPair
from tests.support.serving import served


def there_and_back(value: Any) -> Any:
    """Returns what arrives, through the bytes of PB's own dialect."""
    return unjelly(decode(encode(jelly(value))))


def check_same(made: Any, value: Any) -> None:
    assert type(made) is type(value)
    assert made.dtype == value.dtype
    assert made.shape == value.shape
    assert not made.flags.writeable
    if value.size and value.dtype.itemsize:
        assert made.flags.c_contiguous or not value.flags.c_contiguous
        assert made.flags.f_contiguous or not value.flags.f_contiguous
    assert made.tobytes() == np.ascontiguousarray(value).tobytes()


class Echo(pb.Root):
    def __init__(self) -> None:
        self.got: list[Any] = []

    def remote_echo(self, value: Any) -> Any:
        self.got.append(value)
        return value


DTYPES = [
    *("?", "i1", "u1", "<i2", ">i4", "u8", "f2", ">f8", "g", "G", ">g", "c8", ">c16"),
    *("S5", "U7", ">U3", "V8", "M8[ns]", ">m8[25s]", "M8", "m8[D]", "S0", "U0", "V0"),
    [("a", "i4"), ("größe", ">f8", (2, 3)), ("c", [("x", "U3"), ("y", "?", (2,))])],
    [("e", "S0"), ("d", "i4")],
    [],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_arrives_as_it_was(dtype: Any, shape: tuple[int, ...], order: Any) -> None:
    value = np.zeros(shape, dtype, order)
    if value.nbytes and value.dtype.kind not in "VmM":
        value.flat = [1, 0]
    check_same(there_and_back(value), value)


def plain_dtypes() -> Any:
    scalars = st.one_of(
        shapes.scalar_dtypes(),
        shapes.byte_string_dtypes(max_len=9),
        shapes.unicode_string_dtypes(max_len=9),
    )
    columns = st.tuples(scalars, st.sampled_from([(), (2,), (1, 3)]))
    rows = st.lists(columns, min_size=1, max_size=3).map(
        lambda columns: np.dtype([(f"f{i}", *each) for i, each in enumerate(columns)])
    )
    return st.one_of(scalars, rows)


@given(st.data())
def test_arrays_of_every_plain_dtype_and_shape_arrive(data: Any) -> None:
    dtype = data.draw(plain_dtypes())
    shape = data.draw(shapes.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    size = math.prod(shape) * dtype.itemsize
    # Neither makes an invalid truth value, and zeros make valid text.
    bits = st.integers(0, 0 if "U" in str(dtype) else 1)
    memory = data.draw(st.lists(bits, min_size=size, max_size=size))
    value = np.ndarray(shape, dtype, bytes(memory))
    axes = data.draw(st.permutations(range(value.ndim)))
    value = value.transpose(axes)
    if axes and data.draw(st.booleans()):
        value = value[::-1]
    check_same(there_and_back(value), value)


SCALARS = [
    np.float64(1.5),
    np.float32("nan"),
    np.half(2),
    np.longdouble(1) / 3,
    np.complex64(1 - 2j),
    np.bool_(True),
    np.int32(-4),
    np.uint64(2**64 - 1),
    np.str_("größe\0"),
    np.str_(""),
    np.bytes_(b"x\0"),
    np.bytes_(b""),
    np.datetime64("2026-11-22T12:00", "ns"),
    np.datetime64("NaT", "ns"),
    np.timedelta64(3, "s"),
    np.void(b"abc"),
    np.zeros((), [("a", "i4"), ("b", "?")])[()],
]


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_a_scalar_arrives_as_itself(value: Any) -> None:
    made = there_and_back(value)
    assert type(made) is type(value)
    assert made.dtype == value.dtype
    assert repr(made) == repr(value)
    assert significant(made) == significant(value)


def significant(value: Any) -> bytes:
    """Returns the bytes of a scalar; of a long double those that Intel's processors look at."""
    data: bytes = value.tobytes()
    return data[:10] if value.dtype.char == "g" else data


def test_a_scalar_can_be_a_key() -> None:
    assert there_and_back({np.int64(3): np.str_("x")}) == {3: "x"}


def test_an_array_that_does_not_lie_in_a_row_arrives_in_one() -> None:
    table = np.arange(24).reshape(4, 6)
    for value in (table[:, ::2], table[::-1], table.T[1:], np.broadcast_to(table[0], (3, 6))):
        made = there_and_back(value)
        assert (made == value).all()
        assert made.flags.c_contiguous


def test_a_file_in_memory_arrives_as_an_array(tmp_path: Any) -> None:
    value = np.memmap(tmp_path / "numbers", np.int16, "w+", shape=(5,))
    value[:] = range(5)
    made = there_and_back(value)
    assert type(made) is np.ndarray
    assert made.tolist() == [0, 1, 2, 3, 4]


def test_memory_between_the_fields_stays_here() -> None:
    rows = np.array([(1, b"secret", 2)], [("a", "i2"), ("password", "S6"), ("b", "i2")])
    for dtype_of in (lambda rows: rows, lambda rows: rows.reshape(1, 1).T):
        value = dtype_of(rows[["a", "b"]])
        tree = jelly(value)
        assert b"secret" not in encode(tree)
        made = unjelly(tree)
        assert made.dtype == value.dtype
        assert made.tolist() == value.tolist()
    scalar = rows[["a", "b"]][0]
    assert b"secret" not in encode(jelly(scalar))
    assert there_and_back(scalar) == scalar


def test_one_array_met_twice_arrives_as_one() -> None:
    value, other = np.arange(3), np.arange(3)
    one, two, three = there_and_back([value, value, other])
    assert one is two
    assert three is not one
    assert there_and_back({"a": (value, [value])})["a"][1][0].tolist() == [0, 1, 2]


class Masked(np.ndarray[Any, Any]):
    pass


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.array([object()]), "its items are Python objects"),
        (np.zeros(1, [("a", "i4"), ("b", "O")]), "its items are Python objects"),
        (np.array(["a"], np.dtypes.StringDType()), "its items are Python objects"),
        (np.zeros(2, [(("a title", "a"), "i4")]), "none of numpy's plain ones"),
        (np.ma.array([1], mask=[True]), "numpy.ma.MaskedArray is not sent: it is an array and"),
        (np.zeros(3).view(Masked), "Masked is not sent: it is an array and"),
        (np.zeros((2_000_000, 0)), "so many items without memory"),
    ],
    ids=["objects", "a field", "strings", "a title", "masked", "a subclass", "no memory"],
)
def test_what_is_more_than_memory_is_refused_here(value: Any, why: str) -> None:
    with pytest.raises(InsecureJelly, match=why):
        jelly([value])


def test_a_large_array_does_not_fit_the_old_dialect() -> None:
    with pytest.raises(BananaError, match="800000 bytes in Perspective.*both sides speak pbnb1"):
        jelly(np.zeros(100_000))
    with pytest.raises(BananaError, match="8000000000000 bytes"):
        jelly(np.broadcast_to(1.0, (10**12,)))


def test_options_let_arrays_in_when_asked_to() -> None:
    security = SecurityOptions()
    security.allowBasicTypes()
    with pytest.raises(InsecureJelly, match="pbnb.ndarray is not allowed here"):
        unjelly(jelly(np.zeros(1)), security=security)
    security.allowExtraTypes()
    assert unjelly(jelly(np.zeros(1)), security=security) == 0


def test_where_numpy_is_missing_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = [jelly(np.zeros(1)), jelly(np.float64(1))]
    monkeypatch.setitem(sys.modules, "numpy", None)
    for tree in trees:
        with pytest.raises(InsecureJelly, match="numpy is not installed here: pip install numpy"):
            unjelly(tree)


# What a peer may claim

F8 = [b"<f8", b"C", [b"list", 1], b"12345678"]


def claim(**parts: Any) -> list[Any]:
    names = ("dtype", "order", "shape", "memory")
    state = [parts.get(name, usual) for name, usual in zip(names, F8, strict=True)]
    return [b"pbnb.ndarray", [b"list", *state]]


def fields(*parts: Any, size: int = 8) -> list[Any]:
    return [b"list", size, *parts]


def field(name: Any = b"a", dtype: Any = b"<f8", offset: Any = 0, *shape: Any) -> list[Any]:
    return [b"list", [b"unicode", name], dtype, offset, *shape]


def deep(levels: int) -> Any:
    return b"<f8" if not levels else fields(field(dtype=deep(levels - 1)))


def test_what_is_claimed_truly_is_read() -> None:
    assert unjelly(claim()).tobytes() == b"12345678"
    assert unjelly(claim(dtype=deep(8))).tobytes() == b"12345678"


@pytest.mark.parametrize(
    "dtype",
    [
        *(b"|O", b"O", b"|O8", b"object", b"float64", b"f8", b"=f8", b"<f7", b"<i16", b"<f8\n"),
        *(b"<f8,<f8", b"(2,3)<f8", b"<U99999999999", b"|S2147483648", b"|V-8", b"|V2147483648"),
        *(b"<M8[0s]", b"<M8[s/3]", b"<M8[x]", b"<M8[s", b"<M8[99999999999s]", b"|T16", b"|b8"),
        *(b"{'names':['a'],'formats':['O']}", b"", b"<f16", "<f8", 8, None, b"<" * 50),
        [b"dictionary", [b"a", b"O"]],
        *([], [b"list"], [b"list", b"8"], fields(size=-1), fields(size=2**31), fields(size=2**63)),
        *(fields(b"a"), fields([b"list", b"a"]), fields([b"list", b"a", b"<f8", 0])),
        *(fields(field(dtype=b"|O")), fields(field(name=b"\xff")), fields(field(name="a"))),
        *(fields(field(offset=1)), fields(field(offset=-1)), fields(field(offset=2**64))),
        *(fields(field(offset=b"0")), fields(field(b"a", b"|b1", 0, 9))),
        *(fields(field(b"a", b"|b1", 0, -1)), fields(field(b"a", b"|b1", 0, b"1"))),
        fields(field(b"a", b"|V0", 0, 2**61, 2**61)),
        fields(field(b"a", b"|i1", 0, 2**62, 2**62)),
        fields(field(), field()),
        fields(*(field(b"%d" % i, b"|i1") for i in range(1001))),
        deep(9),
        deep(300),
    ],
    ids=lambda dtype: repr(dtype)[:60],
)
def test_a_dtype_that_is_none_is_refused(dtype: Any) -> None:
    with pytest.raises(InsecureJelly, match="malformed pbnb.ndarray|of a form"):
        unjelly(claim(dtype=dtype))
    with pytest.raises(InsecureJelly, match="malformed pbnb.scalar|of a form"):
        unjelly([b"pbnb.scalar", [b"list", dtype, b"12345678"]])


def test_a_long_double_of_another_machine_is_refused() -> None:
    for dtype in (b"<f16/999", b"<f12/1", b"<c24/1", b">f16/0"):
        with pytest.raises(InsecureJelly, match="of a form that this machine has not"):
            unjelly(claim(dtype=dtype, memory=b"\0" * 16))


@pytest.mark.parametrize(
    "shape",
    [
        *([b"list", 2], [b"list", -1], [b"list", 2**62], [b"list", 2**32, 2**32], [b"list", 1.0]),
        *([b"list", 2**61, 8], [b"list", 2**63], [b"list", 0], [b"list", b"1"], [b"tuple", 1]),
        *([b"list", -1, -1], [b"list", 2**64], [b"list", *[1] * 65], b"1", 1, [], [1]),
    ],
    ids=repr,
)
def test_a_shape_that_does_not_match_is_refused(shape: Any) -> None:
    with pytest.raises(InsecureJelly, match="malformed pbnb.ndarray"):
        unjelly(claim(shape=shape))


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (b"<f8", [2**61, 0]),
        (b"<f8", [0, 2**40]),
        (b"|V0", [2**40]),
        (b"<U0", [2_000_000]),
        (fields(size=0), [2**40]),
    ],
    ids=str,
)
def test_an_array_without_memory_has_few_items(dtype: Any, shape: list[int]) -> None:
    with pytest.raises(InsecureJelly, match="too many items without memory"):
        unjelly(claim(dtype=dtype, shape=[b"list", *shape], memory=b""))


@pytest.mark.parametrize("order", [b"A", b"K", b"c", b"", "C", 0])
def test_an_order_that_is_none_is_refused(order: Any) -> None:
    with pytest.raises(InsecureJelly, match="malformed pbnb.ndarray"):
        unjelly(claim(order=order))


@pytest.mark.parametrize("memory", [b"", b"1234567", b"123456789", "12345678", 5, [b"list"]])
def test_memory_of_another_size_is_refused(memory: Any) -> None:
    with pytest.raises(InsecureJelly, match="malformed pbnb.ndarray"):
        unjelly(claim(memory=memory))


def test_truth_values_are_0_or_1() -> None:
    # numpy counts them by their sum, and makes room for as many.
    for memory in (b"\1\2", b"\xff\0"):
        with pytest.raises(InsecureJelly, match="a truth value is 0 or 1"):
            unjelly(claim(dtype=b"|b1", shape=[b"list", 2], memory=memory))
    with pytest.raises(InsecureJelly, match="a truth value is 0 or 1"):
        unjelly([b"pbnb.scalar", [b"list", b"|b1", b"\2"]])
    inner = fields(field(b"x", b"|b1", 3, 2), size=6)
    dtype = fields(field(b"a", b"|i1"), field(b"b", inner, 2), size=8)
    assert unjelly(claim(dtype=dtype, memory=b"\7\7\7\7\7\1\0\7"))["b"]["x"].tolist() == [[1, 0]]
    with pytest.raises(InsecureJelly, match="a truth value is 0 or 1"):
        unjelly(claim(dtype=dtype, memory=b"\7\7\7\7\7\1\2\7"))


@pytest.mark.parametrize(
    ("dtype", "copied"),
    [
        (b"|b1", True),
        (b"<U2", True),
        (fields(field(), field(b"b", fields(field(b"x", b"|b1", 3), size=8), 0), size=8), True),
        (b"<f8", False),
        (fields(field()), False),
    ],
)
def test_what_was_checked_can_not_be_changed_any_more(dtype: Any, copied: bool) -> None:
    part = (ctypes.c_char * 8).from_buffer(bytearray(8))  # as memory that is shared is
    view = memoryview(part).cast("B").toreadonly()
    count = 8 if dtype == b"|b1" else 1
    made = unjelly(claim(dtype=dtype, shape=[b"list", count], memory=view))
    part.raw = b"\2" * 8
    assert made.tobytes() == (bytes(8) if copied else b"\2" * 8)


@pytest.mark.parametrize("order", ["little", "big"])
def test_text_is_made_of_characters(order: Any) -> None:
    dtype = b"<U2" if order == "little" else b">U2"
    good, bad = ((each.to_bytes(4, order)) for each in (0x10FFFF, 0x110000))
    assert unjelly(claim(dtype=dtype, memory=good * 2)).tolist() == ["\U0010ffff" * 2]
    for memory in (good + bad, bad + good):
        with pytest.raises(InsecureJelly, match="a character that does not exist"):
            unjelly(claim(dtype=dtype, memory=memory))
        with pytest.raises(InsecureJelly, match="a character that does not exist"):
            unjelly([b"pbnb.scalar", [b"list", dtype, memory]])
        with pytest.raises(InsecureJelly, match="a character that does not exist"):
            unjelly(claim(dtype=fields(field(dtype=dtype)), memory=memory))


TREES = st.recursive(
    st.one_of(
        st.integers(),
        st.binary(max_size=9),
        st.sampled_from([b"list", b"unicode", b"<f8", b"C", b"|b1", b"<U2", b"|V0", 0, 1, 8]),
    ),
    lambda parts: st.lists(parts, max_size=6).map(lambda items: [b"list", *items]),
    max_leaves=15,
)


@given(st.sampled_from(sorted(ARRAY_READERS)), TREES)
def test_any_other_state_is_refused_or_read(tag: bytes, state: Any) -> None:
    try:
        made = unjelly([tag, state])
    except InsecureJelly:
        return
    repr(made)
    assert not made.dtype.hasobject


# Over a connection


@pytest.mark.parametrize("dialects", [("pbnb1",), ("pb",)])
def test_arrays_travel_between_two_pbnb(dialects: tuple[str, ...]) -> None:
    async def main() -> None:
        small = np.arange(5)
        echo = Echo()
        async with served(echo, dialects=dialects) as (_, ref):
            for value in (small, small.astype(">f4").reshape(5, 1), np.zeros((0, 3), "M8[s]")):
                check_same(await ref.callRemote("echo", value), value)
            one, two = await ref.callRemote("echo", [small, small])
            assert one is two
            assert await ref.callRemote("echo", np.float32(0.5)) == np.float32(0.5)
            assert type(echo.got[-1]) is np.float32
            with pytest.raises(InsecureJelly, match="Python objects"):
                await ref.callRemote("echo", np.array([None]))
            assert await ref.callRemote("echo", "alive") == "alive"

    asyncio.run(main())


def test_a_large_array_travels_beside_the_message() -> None:
    async def main() -> None:
        value = np.asfortranarray(np.random.default_rng(1).random((700, 1000)))
        text = np.full((40_000,), "größe")
        flags = np.ones(200_000, bool)
        echo = Echo()
        async with served(echo) as (_, ref):
            for each in (value, text, flags, value.reshape(-1)[::-1]):
                check_same(await ref.callRemote("echo", each), each)
            assert not any(each.flags.owndata for each in echo.got)
            one, two = await ref.callRemote("echo", [value, value])
            assert one is two
            got = await ref.callRemote("echo", {"a": value, "b": b"x" * 100_000, "c": flags})
            assert (got["a"] == value).all()
            assert got["b"] == b"x" * 100_000
        async with served(echo, dialects=("pb",)) as (_, ref):
            with pytest.raises(BananaError, match="let both sides speak pbnb1"):
                await ref.callRemote("echo", value)
            assert await ref.callRemote("echo", "alive") == "alive"

    asyncio.run(main())


def test_a_small_array_is_copied_at_the_call() -> None:
    async def main() -> None:
        async with served(Echo()) as (_, ref):
            value = np.zeros(1000)
            answer = ref.callRemote("echo", value)
            value[:] = 1
            assert (await answer == 0).all()

    asyncio.run(main())


def test_an_array_arrives_byte_by_byte() -> None:
    pair = BrokerPair(Echo(), chunk=1, dialects=("pbnb1", "pb"))
    pair.server.broker.peer_types = EXTRA_TYPES
    value = np.arange(10_000, dtype=">i8")
    check_same(pair.call("echo", value), value)
