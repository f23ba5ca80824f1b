"""Banana against Twisted's vectors, and against peers who mean harm."""

from __future__ import annotations

import enum
import inspect
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbnb.errors import BananaError, LimitExceeded, LocalProtocolError, RemoteProtocolError
from pbnb.limits import Limits
from pbnb.wire.banana import NEED_DATA, PB_WORDS, Decoder, Tree, decode, encode
from tests.support.vectors import from_json, load, session_names, to_json

BANANA = load("banana")
WORDS = {"pb": PB_WORDS, "none": None}
ECHO: Tree = [b"message", 1, b"root", b"echo", 1, [b"tuple", b"hello"], [b"dictionary"]]

# Where Twisted raises these and closes the connection, pbnb raises those. It is the one
# intended difference: every error of the peer is a RemoteProtocolError.
OUR_ERRORS: dict[str, type[RemoteProtocolError]] = {
    "BananaError: Security precaution": LimitExceeded,
    "NotImplementedError: Invalid": RemoteProtocolError,
    "KeyError: ": RemoteProtocolError,
}


def read(decoder: Decoder, *segments: bytes) -> tuple[list[Tree], RemoteProtocolError | None]:
    """Feeds segments, and returns the trees that they hold and the error that ends them."""
    trees: list[Tree] = []
    for segment in segments:
        decoder.feed(segment)
        try:
            while (tree := decoder.next()) is not NEED_DATA:
                trees.append(tree)
        except RemoteProtocolError as error:
            return trees, error
    return trees, None


def is_waiting(decoder: Decoder) -> bool:
    """Whether a tree has begun and is incomplete; spends the decoder."""
    try:
        return decoder.unread() != b""
    except LocalProtocolError:
        return True


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Yields the data whole, byte by byte, and cut in two at every offset."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for offset in range(1, len(data)):
        yield [data[:offset], data[offset:]]


def is_same(read: Any, sent: Any) -> bool:
    """Whether a tree arrived as it was sent, floats to the bit; bools arrive as integers."""
    if isinstance(sent, list):
        return type(read) is list and len(read) == len(sent) and all(map(is_same, read, sent))
    if isinstance(sent, float):
        return type(read) is float and struct.pack(">d", read) == struct.pack(">d", sent)
    return type(read) is (int if type(sent) is bool else type(sent)) and bool(read == sent)


# Twisted's vectors


@pytest.mark.parametrize("dialect", ["pb", "none"])
@pytest.mark.parametrize("vector", BANANA["encode"], ids=lambda vector: vector["name"])
def test_bytes_are_those_of_twisted(vector: dict[str, Any], dialect: str) -> None:
    tree = from_json(vector["expr"])
    data = encode(tree, WORDS[dialect])
    assert is_same(decode(data, WORDS[dialect]), tree)
    if isinstance(vector[dialect], dict):
        assert len(data) == vector[dialect]["length"]
        assert data.hex().startswith(vector[dialect]["head"])
    else:
        assert data.hex() == vector[dialect]


class Text(bytes):
    def __bytes__(self) -> bytes:
        return b"not what it holds"


class Number(enum.IntEnum):
    FIVE = 5


class Row(list[Any]):
    pass


UNSENDABLE: dict[str, tuple[Any, str]] = {
    "None": (None, "builtins.NoneType"),
    "text": ("x", "builtins.str"),
    "dict": ({}, "builtins.dict"),
    "set": (set(), "builtins.set"),
    "text inside a list": ([1, ["x"]], r"builtins.str.*\(at \[1\]\[0\]\)"),
    "2**448": (2**448, "an integer of 449 bits.*prefix_bytes is 64"),
    "-2**448": (-(2**448), "an integer of 449 bits.*prefix_bytes is 64"),
    "bytes one over": (b"x" * 655361, "655361 bytes.*string_bytes is 655360"),
    "list one over": ([0] * 655361, "655361 items.*list_items is 655360"),
    "bytearray": (bytearray(b"x"), "builtins.bytearray"),
    "complex": (1j, "builtins.complex"),
    "subclass of bytes": (Text(b"x"), ""),
    "subclass of int": (Number.FIVE, ""),
    "subclass of list": (Row([1]), ""),
}


@pytest.mark.parametrize("vector", BANANA["cannot_encode"], ids=lambda vector: vector["name"])
def test_refuses_to_send_what_twisted_refuses(vector: dict[str, Any]) -> None:
    value, error = UNSENDABLE[vector["name"]]
    expected = vector.get("py3", vector)["pb"]
    if isinstance(expected, str):
        assert encode(value).hex() == expected
    else:
        with pytest.raises(BananaError, match=error):
            encode(value)


@pytest.mark.parametrize("vector", BANANA["decode"], ids=lambda vector: vector["name"])
def test_reads_what_twisted_reads_however_it_is_split(vector: dict[str, Any]) -> None:
    result = vector.get("py3", vector)["result"]
    expected = from_json(result.get("decoded", []))
    for segments in splits(bytes.fromhex(vector["hex"])):
        decoder = Decoder(words=WORDS[vector["dialect"]])
        trees, error = read(decoder, *segments)
        if vector["name"] == "FLOAT nan with payload":
            # The vector's notation has no payload; a decoder keeps it.
            assert [encode(tree).hex() for tree in trees] == [vector["hex"]]
        else:
            assert is_same(trees, expected)
        if "error" in result:
            (ours,) = {cls for text, cls in OUR_ERRORS.items() if result["error"].startswith(text)}
            assert type(error) is ours
        else:
            assert error is None
            assert is_waiting(decoder) is result.get("waiting", False)


@pytest.mark.parametrize("vector", BANANA["encode"], ids=lambda vector: vector["name"])
def test_reads_what_twisted_writes_however_it_is_split(vector: dict[str, Any]) -> None:
    if isinstance(vector["pb"], dict):  # long, and given by its first bytes
        data = encode(from_json(vector["expr"]))
        cuts: Iterator[list[bytes]] = iter([[data[:i], data[i:]] for i in (1, 3, 4, 5, 65536)])
    else:
        data = bytes.fromhex(vector["pb"])
        cuts = splits(data)
    tree = decode(data)
    for segments in cuts:
        trees, error = read(Decoder(), *segments)
        assert error is None
        assert is_same(trees, [tree])


def directions(connection: dict[str, Any]) -> Iterator[tuple[bytes, list[Any]]]:
    """Yields what each side of a recorded connection said, as bytes and as recorded trees."""
    for side in ("s2c", "c2s"):
        said = [c.get("hex", "") for c in connection["chunks"] if c["dir"] == side]
        heard = [line for line in connection["messages"] if line["dir"] == side]
        yield bytes.fromhex("".join(said)), [line["expr"] for line in heard if "expr" in line]


@pytest.mark.parametrize("name", session_names())
def test_reads_and_writes_recorded_sessions(name: str) -> None:
    for connection in load(f"sessions/{name}")["connections"]:
        for data, expected in directions(connection):
            decoder = Decoder(words=None)
            decoder.feed(data)
            opening = decoder.next()
            assert to_json(opening) == expected[0]
            # Every one of them goes on in the dialect "pb", the first that the server offers.
            decoder.words = PB_WORDS
            rest, error = read(decoder, b"")
            assert error is None
            assert [to_json(tree) for tree in rest] == expected[1:]
            assert encode(opening, None) + b"".join(map(encode, rest)) == data


# Any tree, any bytes

numbers = st.integers(-(2**448) + 1, 2**448 - 1) | st.integers(-300, 20_000)
atoms = numbers | st.floats() | st.binary(max_size=20) | st.sampled_from(PB_WORDS)
runs = st.lists(st.integers(0, 2**31), min_size=17, max_size=24) | st.lists(
    st.floats(), min_size=17, max_size=24
)
trees = st.recursive(atoms | runs, lambda inner: st.lists(inner, max_size=20), max_leaves=15)


@settings(deadline=None)
@given(trees, st.sampled_from(["pb", "none"]), st.data())
def test_a_tree_arrives_as_it_was_sent(tree: Tree, dialect: str, data: st.DataObject) -> None:
    sent = encode([tree, tree], WORDS[dialect])
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=10)))
    segments = [sent[i:j] for i, j in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    trees, error = read(Decoder(words=WORDS[dialect]), *segments)
    assert error is None
    assert is_same(trees, [[tree, tree]])


tokens = st.builds(
    lambda digits, kind: digits + bytes([kind]),
    st.binary(max_size=2).map(lambda digits: bytes(digit & 0x7F for digit in digits)),
    st.integers(0x80, 0x88),
)
streams = st.lists(tokens | st.just(b"\x05\x81") | st.binary(max_size=9), max_size=60)


@settings(deadline=None)
@given(streams.map(b"".join))
def test_any_bytes_end_in_trees_or_in_one_error(stream: bytes) -> None:
    whole = Decoder()
    trees, error = read(whole, stream)
    bytewise = Decoder()
    same_trees, same_error = read(bytewise, *(stream[i : i + 1] for i in range(len(stream))))
    assert is_same(same_trees, trees)
    assert (type(same_error), str(same_error)) == (type(error), str(error))
    assert is_waiting(bytewise) == is_waiting(whole)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_takes_every_kind_of_bytes_and_returns_bytes(kind: type) -> None:
    first, second = bytearray(encode([b"abc", b"x" * 200])), bytearray(encode(b"def"))
    decoder = Decoder()
    segments = [kind(first[:5]), kind(first[5:]), kind(second)]
    for segment in segments:
        decoder.feed(segment)
    first[:] = bytes(len(first))  # what a caller does with its buffer afterwards is its own affair
    trees = [decoder.next(), decoder.next()]
    assert is_same(trees, [[b"abc", b"x" * 200], b"def"])


def test_feeding_what_is_no_bytes_is_refused() -> None:
    for thing in (5, "text"):
        with pytest.raises(TypeError):
            Decoder().feed(thing)  # type: ignore[arg-type]


# What cannot be sent


def test_the_place_of_the_unsendable_is_named() -> None:
    with pytest.raises(BananaError, match=r"^cannot send builtins\.dict.* \(at \[2\]\[1\]\)$"):
        encode([b"x", [1, 2, 3], (1, {}, 3), 4])
    with pytest.raises(BananaError, match=r"655361 bytes.* \(at \[1\]\)$"):
        encode([b"", b"x" * 655361])
    with pytest.raises(BananaError, match=r"655361 items.* \(at \[0\]\)$"):
        encode([[0] * 655361])


def test_contents_of_the_unsendable_are_not_named() -> None:
    with pytest.raises(BananaError) as caught:
        encode(["secret"])
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None or "secret" not in str(caught.value.__context__)


class Items(list[Any]):
    """Iterates over other items than it holds."""

    def __iter__(self) -> Iterator[Any]:
        return iter([7, 8, 9])


class Ratio(float):
    pass


def test_subclasses_go_as_what_they_derive_from() -> None:
    class Pair(tuple[int, int]):
        pass

    assert encode([Items([1]), Pair((1, 2)), Ratio(0.5), True]) == encode(
        [[7, 8, 9], [1, 2], 0.5, 1]
    )
    assert encode(Text(b"None")) == encode(b"None")
    assert encode(Text(b"x" * 300)) == encode(b"x" * 300)


def nested(depth: int) -> list[Any]:
    tree: list[Any] = []
    for _ in range(depth - 1):
        tree = [tree]
    return tree


def test_a_list_in_itself_cannot_be_sent() -> None:
    tree: list[Any] = [1]
    tree.append(tree)
    with pytest.raises(BananaError, match="depth is 320"):
        encode(tree)
    wide: list[Any] = []
    wide.extend([wide] * 600_000)
    with pytest.raises(BananaError, match="message_items is 1000000"):
        encode(wide)


def test_depth_does_not_depend_on_the_stack() -> None:
    """Attack 9: the limit decides, whatever Python's own recursion limit is."""
    limits = Limits(depth=50_000)
    tree = nested(50_000)
    data = encode(tree, limits=limits)
    assert len(data) == 2 * 50_000
    found: Any = decode(data, limits=limits)
    depth = 1
    while found:
        (found,) = found
        depth += 1
    assert depth == 50_000
    with pytest.raises(BananaError, match="depth is 50000"):
        encode([tree], limits=limits)


# Limits: what just passes, and what is just too much

OVER: dict[str, tuple[Limits, Tree, Tree, str]] = {
    "string_bytes": (Limits(), b"x" * 655360, b"x" * 655361, "655361 bytes"),
    "short string_bytes": (Limits(string_bytes=5), b"12345", b"123456", "6 bytes"),
    "list_items": (Limits(), [0] * 655360, [0] * 655361, "655361 items"),
    "short list_items": (Limits(list_items=3), [1, 2, 3], [1, 2, 3, 4], "4 items"),
    "prefix_bytes": (Limits(), 2**448 - 1, 2**448, ""),
    "short prefix_bytes": (Limits(prefix_bytes=2), 2**14 - 1, 2**14, ""),
    "one prefix_bytes": (Limits(prefix_bytes=1), 127, 128, ""),
    "length's prefix_bytes": (Limits(prefix_bytes=1), [b"x" * 127], [b"x" * 128], ""),
    "list's prefix_bytes": (Limits(prefix_bytes=1), [0] * 127, [0] * 128, ""),
    "depth": (Limits(), nested(320), nested(321), ""),
    "no depth": (Limits(depth=0), 5, [], ""),
    "message_bytes": (Limits(message_bytes=10), [b"123456"], [b"1234567"], "11 bytes"),
    "numbers' message_bytes": (Limits(message_bytes=10), [1, 2, 3, 4], [1, 2, 3, 128], "11 bytes"),
    "message_items": (Limits(message_items=6), [1, [2, [3]]], [1, [2, [3], 4]], ""),
    "empty lists' message_items": (Limits(message_items=20), [[]] * 19, [[[]] * 9] * 2, ""),
}


@pytest.mark.parametrize("case", OVER)
def test_limits_hold_for_what_is_sent(case: str) -> None:
    limits, fits, too_much, _ = OVER[case]
    limit = case.split()[-1]
    assert encode(fits, limits=limits) == encode(fits, limits=Limits.unlimited())
    with pytest.raises(BananaError, match=rf"the limit {limit} is {getattr(limits, limit)}\b"):
        encode(too_much, limits=limits)


@pytest.mark.parametrize("case", OVER)
def test_limits_hold_for_what_is_received(case: str) -> None:
    limits, fits, too_much, figure = OVER[case]
    limit = case.split()[-1]
    enough = Limits(10**6, 10**6, 65, 1000, message_items=10**7)
    assert is_same(decode(encode(fits), limits=limits), fits)
    data = encode(too_much, limits=enough)
    message = rf"{figure}.*: the limit {limit} is {getattr(limits, limit)}\b"
    with pytest.raises(LimitExceeded, match=message):
        decode(data, limits=limits)
    for offset in (1, len(data) // 2, len(data) - 1):
        _, error = read(Decoder(limits), data[:offset], data[offset:])
        assert isinstance(error, LimitExceeded)
        assert f"the limit {limit} is" in str(error)


def test_budgets_of_a_message_begin_anew_with_each() -> None:
    limits = Limits(message_bytes=10, message_items=4)
    one = encode([1, 2, 3])
    trees, error = read(Decoder(limits), one * 5, one[:3], one[3:] + one[:1], one[1:])
    assert error is None
    assert trees == [[1, 2, 3]] * 7


def test_an_unfinished_message_is_refused_when_its_budget_is_spent() -> None:
    decoder = Decoder(Limits(message_bytes=10))
    data = encode([1, 2, 3, 4, 5, 6])
    for i in range(9):
        assert read(decoder, data[i : i + 1]) == ([], None)
    _, error = read(decoder, data[9:10])
    assert isinstance(error, LimitExceeded)


def test_limits_may_change_while_a_tree_is_half_read() -> None:
    before = Limits().before_login()
    data = encode([b"x" * 17_000, b"y" * 17_000])
    decoder = Decoder(before)
    decoder.feed(data[:1])
    assert decoder.next() is NEED_DATA
    decoder.limits = Limits()
    assert read(decoder, data[1:]) == ([[b"x" * 17_000, b"y" * 17_000]], None)
    decoder.limits = before
    assert isinstance(read(decoder, data)[1], LimitExceeded)


# Attacks


@pytest.mark.parametrize("kind", ["string", "list"])
@pytest.mark.parametrize("length", [b"\x01\x00\x28", b"\x7f" * 64])
def test_a_length_over_the_limit_is_refused_by_its_prefix(kind: str, length: bytes) -> None:
    """Attack 1: nothing is allocated for it."""
    header = length + (b"\x82" if kind == "string" else b"\x80")
    decoder = Decoder()
    tracemalloc.start()
    try:
        _, error = read(decoder, header)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, LimitExceeded)
    assert len(str(error)) < 200
    assert peak < 20_000


@pytest.mark.parametrize("header", [b"\x00\x00\x28\x82", b"\x00\x00\x28\x80"])
def test_a_length_within_the_limit_allocates_nothing_yet(header: bytes) -> None:
    decoder = Decoder()
    tracemalloc.start()
    try:
        assert read(decoder, header) == ([], None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


def test_many_long_strings_in_one_list_are_refused() -> None:
    """Attack 2: 655360 strings of 655360 bytes; refused by the prefix that goes over."""
    decoder = Decoder()
    limit = Limits().message_bytes
    string = b"\x00\x00\x28\x82" + bytes(655360)
    fed = len(b"\x00\x00\x28\x80")
    assert read(decoder, b"\x00\x00\x28\x80") == ([], None)
    while fed + len(string) <= limit:
        assert read(decoder, string) == ([], None)
        fed += len(string)
    _, error = read(decoder, string[:4])
    assert isinstance(error, LimitExceeded)
    assert f"message_bytes is {limit}" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x28\x80" + b"\x00\x00\x28\x80",
        b"\x00\x00\x28\x80" + b"\x01\x80\x00\x80" * 400_000,
    ],
    ids=["announced", "nested"],
)
def test_many_small_lists_are_refused(data: bytes) -> None:
    """Attack 3: a list costs the peer two bytes, and this side 56."""
    _, error = read(Decoder(), data)
    assert isinstance(error, LimitExceeded)
    assert "message_items is 1000000" in str(error)


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x7f"])
def test_a_prefix_without_end_is_refused(byte: bytes) -> None:
    """Attack 4: at 65 digits, before any type byte."""
    decoder = Decoder()
    assert read(decoder, *[byte] * 64) == ([], None)
    assert isinstance(read(decoder, byte)[1], LimitExceeded)
    assert isinstance(read(Decoder(), byte * 65)[1], LimitExceeded)
    assert isinstance(read(Decoder(), byte * 1_000_000)[1], LimitExceeded)
    assert isinstance(read(Decoder(), b"\x02\x80\x01\x81" + byte * 65)[1], LimitExceeded)


def test_a_string_in_segments_of_one_byte() -> None:
    """Attack 5: were every byte to move what came before it, this would not end."""
    data = encode([b"x" * 600_000, 5])
    trees, error = read(Decoder(), *(data[i : i + 1] for i in range(len(data))))
    assert error is None
    assert trees == [[b"x" * 600_000, 5]]


def test_many_small_messages_in_one_segment_move_nothing() -> None:
    """Attack 6: what is read stays where it lies."""
    one = encode(ECHO)
    data = one * 20_000
    decoder = Decoder()
    decoder.feed(data)
    for _ in range(20_000):
        assert decoder.next() == ECHO
        assert decoder._buffer is data
        decoder.feed(one)
    trees, error = read(decoder, b"")
    assert (len(trees), error) == (20_000, None)


@pytest.mark.parametrize("value", [1, -1, 300, 0.5, b"x", b"None", []])
def test_many_small_items_in_one_segment(value: Tree) -> None:
    """Attack 6: 900 kB of them. Were each to move the rest, this would take minutes."""
    tree: Tree = [[value] * 100_000] * 4
    assert read(Decoder(), encode(tree)) == ([tree], None)


def test_lists_nested_100000_deep_are_refused_early() -> None:
    """Attack 9."""
    for depth in (100, 300):
        assert decode(encode(nested(depth))) == nested(depth)
    decoder = Decoder()
    assert read(decoder, b"\x01\x80" * 320) == ([], None)
    _, error = read(decoder, b"\x01\x80" * (100_000 - 320))
    assert isinstance(error, LimitExceeded)
    assert "depth is 320" in str(error)


@pytest.mark.parametrize("recursion_limit", [200, 1000])
def test_depth_is_the_same_for_every_recursion_limit(recursion_limit: int) -> None:
    before = sys.getrecursionlimit()
    frames = len(inspect.stack(0))
    sys.setrecursionlimit(frames + recursion_limit)
    try:
        sent = encode(nested(320))
        read_back = decode(sent)
        with pytest.raises(BananaError):
            encode(nested(321))
    finally:
        sys.setrecursionlimit(before)
    assert encode(read_back) == sent


@pytest.mark.parametrize(
    "prefix", [b"", b"\x00", b"\x20", b"\x7f" * 64], ids=["", "0", "32", "huge"]
)
def test_a_word_that_there_is_not(prefix: bytes) -> None:
    """Attack 37."""
    for words in (PB_WORDS, None):
        _, error = read(Decoder(words=words), prefix + b"\x87")
        assert type(error) is RemoteProtocolError
        assert "vocabulary" in str(error)
        assert len(str(error)) < 100


def test_no_word_is_known_without_vocabulary() -> None:
    """Attack 37."""
    for number in range(1, 32):
        _, error = read(Decoder(words=None), bytes([number, 0x87]))
        assert type(error) is RemoteProtocolError
        assert read(Decoder(), bytes([number, 0x87])) == ([PB_WORDS[number - 1]], None)


def test_other_vocabularies_can_be_used() -> None:
    words = [b"alpha", b"beta"]
    data = encode([b"beta", b"gamma", b"None"], words)
    assert data.startswith(b"\x03\x80\x02\x87")
    assert decode(data, words) == [b"beta", b"gamma", b"None"]


# What comes after


def test_a_broken_stream_stays_broken_and_holds_nothing() -> None:
    segment = encode([b"x" * 5000, [b"y"]]) + b"\x02\x80\x01\x81\xff" + encode(ECHO)
    references = sys.getrefcount(segment)
    decoder = Decoder()
    decoder.feed(segment)
    assert decoder.next() == [b"x" * 5000, [b"y"]]
    with pytest.raises(RemoteProtocolError, match="unknown type byte 0xff") as caught:
        decoder.next()
    # Neither the decoder nor the error, with its traceback, keeps the segment alive.
    assert sys.getrefcount(segment) == references
    for more in (b"", encode(ECHO)):
        assert read(decoder, more) == ([], caught.value)
    assert decoder.unread() == b""


def test_one_segment_may_end_one_dialect_and_begin_another() -> None:
    decoder = Decoder(words=None)
    decoder.feed(encode(b"pb", None) + encode(ECHO)[:10])
    assert decoder.next() == b"pb"
    assert decoder.unread() == encode(ECHO)[:10]
    assert decoder.next() is NEED_DATA
    decoder.feed(encode(b"pb", None) + encode(ECHO)[:10])
    assert decoder.next() == b"pb"
    decoder.words = PB_WORDS
    decoder.feed(encode(ECHO)[10:])
    assert decoder.words is PB_WORDS
    assert decoder.next() == ECHO


def test_a_half_read_list_cannot_be_handed_back() -> None:
    decoder = Decoder()
    assert read(decoder, b"\x02\x80\x01\x81") == ([], None)
    with pytest.raises(LocalProtocolError, match="half read"):
        decoder.unread()
    assert read(decoder, b"\x02\x81") == ([[1, 2]], None)


def test_an_incomplete_string_can_be_handed_back() -> None:
    decoder = Decoder()
    assert read(decoder, b"\x05\x82ab", b"c") == ([], None)
    assert decoder.unread() == b"\x05\x82abc"
    assert read(decoder, b"\x01\x81") == ([1], None)


def test_a_handler_may_read_on_before_it_returns() -> None:
    """A nested loop feeds and reads further trees while one is being handled."""
    read_on = [encode(b"fourth")[:3], encode(b"fourth")[3:]]
    order: list[Tree] = []
    decoder = Decoder()

    def handle_all() -> None:
        while (tree := decoder.next()) is not NEED_DATA:
            order.append(tree)
            if isinstance(tree, list):
                decoder.feed(read_on.pop(0))
                handle_all()

    decoder.feed(encode([b"first"]) + encode([b"second"]) + encode(b"third"))
    handle_all()
    assert order == [[b"first"], [b"second"], b"third", b"fourth"]


def test_decode_wants_exactly_one_tree() -> None:
    for data in (b"", b"\x05", b"\x02\x80\x01\x81", b"\x05\x82abcd"):
        with pytest.raises(BananaError, match="end before"):
            decode(data)
    with pytest.raises(BananaError, match="3 bytes follow"):
        decode(b"\x01\x81abc")
    with pytest.raises(RemoteProtocolError):
        decode(b"\x01\x88")
    # Nothing of it stays behind.
    assert decode(b"\x01\x81") == 1


# Long strings, which are received in place


LONG = [bytes([n]) * size for n, size in enumerate((40_000, 100_000, 32 * 1024, 33_000))]


def read_in_parts(data: bytes, size: int, in_place: bool) -> list[Tree]:
    """Returns the trees that come in parts, in place wherever a place is offered."""
    decoder, trees, at = Decoder(), [], 0
    while at < len(data):
        room = decoder.room() if in_place else None
        if room is None:
            decoder.feed(data[at : at + size])
            at += size
        else:
            part = data[at : at + min(size, len(room))]
            room[: len(part)] = part
            decoder.filled(len(part))
            at += len(part)
        while (tree := decoder.next()) is not NEED_DATA:
            trees.append(tree)
    assert not decoder.in_place and decoder.room() is None
    return trees


@pytest.mark.parametrize("size", [999, 33_000, 65_536, 150_000, 10**6])
@pytest.mark.parametrize("in_place", [True, False])
def test_long_strings_come_in_parts(size: int, in_place: bool) -> None:
    trees: list[Tree] = [
        [b"answer", 1, LONG[0]],
        LONG[1],
        [LONG[2], [b"list", LONG[3], 5], LONG[0], b"short"],
        [[[LONG[1]]]],
        7,
    ]
    data = b"".join(encode(tree) for tree in trees)
    assert read_in_parts(data, size, in_place) == trees


def test_a_long_string_is_bound_by_the_message() -> None:
    limits = Limits(message_bytes=100_000)
    head = encode([b"x" * 60_000, b"y" * 60_000])[:-50_000]
    decoder = Decoder(limits)
    decoder.feed(head[:50_000])
    assert decoder.next() is NEED_DATA and decoder.in_place
    decoder.feed(head[50_000:])
    with pytest.raises(LimitExceeded, match="message_bytes"):
        decoder.next()
    assert decoder.room() is None and not decoder.in_place
    decoder.feed(b"more")
    with pytest.raises(LimitExceeded, match="message_bytes"):
        decoder.next()


def test_a_string_that_is_on_its_way_is_not_handed_back() -> None:
    decoder = Decoder()
    decoder.feed(encode(LONG[0])[:-1])
    assert decoder.next() is NEED_DATA
    with pytest.raises(LocalProtocolError):
        decoder.unread()
