"""The dialects, and what a connection relies on in each of them."""

from __future__ import annotations

import functools
import inspect
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbnb.errors import BananaError, LimitExceeded
from pbnb.jelly.jelly import jelly
from pbnb.jelly.unjelly import unjelly
from pbnb.limits import Limits
from pbnb.protocol.dialects import DIALECTS
from pbnb.wire.banana import NEED_DATA, PB_WORDS, Decoder, encode
from pbnb.wire.dialect import Buffer, Dialect
from pbnb.wire.frames import Expression
from tests.support.meanings import meanings

ARGUMENTS = (0.5, -3, "text", b"bytes", [None, True, {"key": [1, 2.5]}])
MESSAGE = [b"message", 1, b"root", "echo", 1, [*ARGUMENTS], {"key": "word"}]


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


def sent(dialect: Dialect) -> bytes:
    """Returns a call as a dialect writes it: in one pass, or jellied first."""
    args, kw = ARGUMENTS, {"key": "word"}
    frames = dialect.call([b"message", 1, b"root", "echo", True, args, kw])
    if frames is None:
        parts = [Expression(jelly(args)), Expression(jelly(kw))]
        frames = dialect.encode([b"message", 1, b"root", b"echo", 1, *parts])
    return joined(frames)


def read(dialect: Dialect) -> Any:
    """Returns the next message, with the values of its expressions."""
    message = dialect.next()
    if message is NEED_DATA:
        return message
    values = [unjelly(each.tree) if isinstance(each, Expression) else each for each in message]
    return [
        each.decode() if at == 3 and isinstance(each, bytes) else [*each] if at == 5 else each
        for at, each in enumerate(values)
    ]


def dialect_named(name: bytes, limits: Limits | None = None) -> Dialect:
    return DIALECTS[name](limits or Limits())


def test_dialects_stand_in_order_of_preference() -> None:
    assert list(DIALECTS) == [b"pbnb1", b"pb", b"none"]


def test_only_pb_has_words() -> None:
    assert joined(dialect_named(b"pb").encode(b"message")) == b"\x1a\x87"
    assert joined(dialect_named(b"none").encode(b"message")) == b"\x07\x82message"


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_goes_by_its_name(name: bytes) -> None:
    assert dialect_named(name).name == name


@pytest.mark.parametrize("name", DIALECTS)
def test_a_message_arrives_however_it_is_split(name: bytes) -> None:
    message = sent(dialect_named(name))
    for offset in range(1, len(message)):
        dialect = dialect_named(name)
        dialect.feed(message[:offset])
        assert dialect.next() is NEED_DATA
        dialect.feed(memoryview(message)[offset:])
        assert read(dialect) == MESSAGE
        assert dialect.next() is NEED_DATA


@pytest.mark.parametrize("name", DIALECTS)
def test_unread_bytes_are_handed_back_once(name: bytes) -> None:
    dialect = dialect_named(name)
    dialect.feed(sent(dialect))
    dialect.feed(b"what another dialect follows up with")
    assert read(dialect) == MESSAGE
    assert dialect.unread() == b"what another dialect follows up with"
    assert dialect.unread() == b""


@pytest.mark.parametrize("name", DIALECTS)
def test_a_message_that_cannot_be_sent_leaves_the_next_alone(name: bytes) -> None:
    dialect = dialect_named(name)
    with pytest.raises(BananaError):
        dialect.encode([b"message", 1, object()])
    dialect.feed(sent(dialect))
    assert read(dialect) == MESSAGE


@pytest.mark.parametrize("name", DIALECTS)
def test_limits_of_a_login_bind_the_peer_only(name: bytes) -> None:
    dialect = dialect_named(name)
    dialect.limits = dialect.limits.before_login()
    long = [b"x" * 15_000] * 5
    message = joined(dialect.encode(long))
    dialect.feed(message)
    with pytest.raises(LimitExceeded, match="message_bytes is 65536"):
        dialect.next()
    other = dialect_named(name)
    other.limits = other.limits.before_login()
    other.limits = Limits()
    other.feed(message)
    assert other.next() == long


@pytest.mark.parametrize("name", DIALECTS)
def test_limits_of_the_connection_bind_both_sides(name: bytes) -> None:
    dialect = dialect_named(name, Limits(message_bytes=20_000))
    with pytest.raises(BananaError, match="message_bytes is 20000"):
        dialect.encode([b"x" * 20_000])
    dialect.feed(joined(dialect_named(name).encode([b"x" * 20_000])))
    with pytest.raises(LimitExceeded, match="message_bytes is 20000"):
        dialect.next()


# The shortcut of PB's own dialect: what is said and read in one pass is what the two make of it.

NAMES = st.one_of(st.text(max_size=8), st.sampled_from([word.decode() for word in PB_WORDS]))
PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        NAMES,
        st.binary(max_size=8),
        st.sampled_from(PB_WORDS),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(NAMES, inner, max_size=4),
    ),
    max_leaves=12,
)
LUIDS = st.one_of(st.integers(0, 2**40), st.sampled_from([b"root", b"message", b"\x0b\x87"]))


@given(st.integers(1, 2**36), LUIDS, NAMES, st.booleans(), st.lists(PLAIN, max_size=3), PLAIN)
def test_a_plain_call_is_written_and_read_as_ever(
    request: int, luid: int | bytes, name: str, wants: bool, items: list[Any], word: Any
) -> None:
    args, kw = tuple(items), {"key": word}
    dialect = dialect_named(b"pb")
    tree = [b"message", request, luid, name.encode(), int(wants), jelly(args), jelly(kw)]
    frames = dialect.call([b"message", request, luid, name, wants, args, kw])
    assert frames is None or joined(frames) == encode(tree)
    dialect.feed(encode(tree) + b"\x02\x80\x13\x87\x06\x81")
    command, number, to, called, wanted, values, keywords = dialect.next()  # type: ignore[misc]
    assert [command, number, to, wanted] == [b"message", request, luid, int(wants)]
    if frames is None or isinstance(values, Expression):
        assert isinstance(values, Expression)
        values, keywords, called = unjelly(values.tree), unjelly(keywords.tree), called.decode()
    assert (called, tuple(values), keywords) == (name, args, kw)
    assert repr(tuple(values)) == repr(args)  # 1 is no True
    assert dialect.next() == [b"version", 6]


@given(st.integers(1, 2**36), PLAIN)
def test_a_plain_answer_is_written_and_read_as_ever(request: int, value: Any) -> None:
    dialect = dialect_named(b"pb")
    frames = dialect.answer(request, value)
    message = encode([b"answer", request, jelly(value)])
    assert frames is None or joined(frames) == message
    dialect.feed(message)
    command, number, read = dialect.next()  # type: ignore[misc]
    assert [command, number] == [b"answer", request]
    assert repr(unjelly(read.tree) if isinstance(read, Expression) else read) == repr(value)


@given(PLAIN, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3), st.data())
def test_whatever_a_peer_says_is_read_as_ever(
    value: Any, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    call = [b"message", 7, b"root", b"echo", 1, jelly((value,)), jelly({})]
    said = bytearray(encode(call) + encode([b"answer", 300, jelly(value)]) + encode(call))
    for at, byte in changes:
        said[at % len(said)] = byte
    cut = data.draw(st.integers(0, len(said)))
    parts = [bytes(said[:cut]), bytes(said[cut:])]
    limits = Limits(message_bytes=10_000, depth=100)
    assert meanings(DIALECTS[b"pb"](limits), parts) == meanings(Decoder(limits), parts)


@pytest.mark.parametrize(
    "said",
    [
        "0780 1a87 0181 0482726f6f74",  # the head of a call and no more
        "0780 1a87 0181 0482726f6f74 0482 0b870b87 0181 0180 0b87 0180 0587",  # the word in a name
        "0780 1a87 000081 0181 0182 78 0081 0180 0b87 0180 0587",  # zeros that say nothing
        "0380 1b87 0181 0180 0587",
        "0380 1b87 0181 0280 0482 6c697374 0581",  # a word spelled out
        "0380 1b87 0181 0080",  # a list of nothing
        "0380 1b87 0181 80",
        f"0380 1b87 0181 0380 0887 0280 0782756e69636f6465 8282 {130 * '20'} 0181",  # no prefix
        "0380 1b87 0181 0280 0782756e69636f6465 0182 ff",  # no UTF-8
        "0380 1b87 0181 0280 0782756e69636f6465 83 0182" + "78" * 131,  # a number, and more
        "0380 1b87 0181 0280 0782756e69636f6465 0287",  # a word in the place of text
        "0380 1b87 0181 0280 0782756e69636f6465 3087",  # and one that does not exist
        "0380 1b87 0181 0380 0587 0280 0181 0281 0280 0181 0381",  # one key twice
        "0380 1b87 0181 0280 0587 0280 0180 0b87 0281",  # a tuple for a key
        "0380 1b87 0181 0280 0587 0380 0181 0281 0381",  # three in a pair
        "0380 1b87 0181 0280 0782 626f6f6c65616e 0582 6d61796265",  # maybe
    ],
)
def test_what_is_odd_is_read_as_ever(said: str) -> None:
    data = bytes.fromhex(said)
    assert meanings(dialect_named(b"pb"), [data]) == meanings(Decoder(Limits()), [data])
    parts = [data[at : at + 1] for at in range(len(data))]
    assert meanings(dialect_named(b"pb"), parts) == meanings(Decoder(Limits()), [data])


@pytest.mark.parametrize(
    ("limits", "value"),
    [
        (Limits(message_bytes=3000), b"x" * 3000),
        (Limits(string_bytes=3000), "x" * 3001),
        (Limits(list_items=100), [0] * 100),
        (Limits(message_items=100), [[0]] * 30),
        (Limits(depth=70), functools.reduce(lambda inner, _: [inner], range(80), [])),
        (Limits(prefix_bytes=2), 2**20),
        (Limits(prefix_bytes=9), 2**64),
    ],
)
def test_a_limit_is_named_as_ever(limits: Limits, value: Any) -> None:
    dialect = DIALECTS[b"pb"](limits)
    assert dialect.answer(1, value) is None
    message = encode([b"answer", 1, jelly(value)])
    assert meanings(dialect, [message]) == meanings(Decoder(limits), [message])


def test_limits_of_a_login_are_looked_at_before_anything_is_made() -> None:
    said = sent_answer([[] for _ in range(30_000)])
    dialect = dialect_named(b"pb")
    dialect.limits = Limits().before_login()
    dialect.feed(said)
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match="list_items"):
            dialect.next()
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


def test_a_message_is_read_on_what_is_left_of_the_stack() -> None:
    value: Any = []
    for _ in range(20):
        value = [value]

    def read_below(frames: int) -> Any:
        dialect = dialect_named(b"pb")
        dialect.feed(sent_answer(value))
        return below(frames, dialect.next)

    def below(frames: int, act: Any) -> Any:
        return below(frames - 1, act) if frames else act()

    left = sys.getrecursionlimit() - len(inspect.stack(0))
    (_, _, value_read) = read_below(left - 20)
    assert type(value_read) is Expression


@pytest.mark.parametrize("luid", [1, 2**31, 2**35, 0, -1, b"name", 1.5, True])
def test_one_reference_is_written_as_ever(luid: Any) -> None:
    tree = [b"remote", luid]
    said = dialect_named(b"pb").encode([b"answer", 1, Expression(tree)])
    assert joined(said) == encode([b"answer", 1, tree])


def sent_answer(value: Any) -> bytes:
    return encode([b"answer", 1, jelly(value)])
