"""The dialects, and what a connection relies on in each of them."""

from __future__ import annotations

import pytest

from pbnb.errors import BananaError, LimitExceeded
from pbnb.limits import Limits
from pbnb.wire.banana import NEED_DATA, PB_WORDS, Tree
from pbnb.wire.dialect import DIALECTS, Buffer, Dialect, opening

TREE: Tree = [b"message", 1, b"root", b"echo", 1, [b"tuple", 0.5, -3], [b"dictionary"]]


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


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
    message = joined(dialect_named(name).encode(TREE))
    for offset in range(1, len(message)):
        dialect = dialect_named(name)
        dialect.feed(message[:offset])
        assert dialect.next() is NEED_DATA
        dialect.feed(memoryview(message)[offset:])
        assert dialect.next() == TREE
        assert dialect.next() is NEED_DATA


@pytest.mark.parametrize("name", DIALECTS)
def test_unread_bytes_are_handed_back_once(name: bytes) -> None:
    dialect = dialect_named(name)
    message = joined(dialect.encode(TREE))
    dialect.feed(message)
    dialect.feed(b"what another dialect follows up with")
    assert dialect.next() == TREE
    assert dialect.unread() == b"what another dialect follows up with"
    assert dialect.unread() == b""


@pytest.mark.parametrize("name", DIALECTS)
def test_a_message_that_cannot_be_sent_leaves_the_next_alone(name: bytes) -> None:
    dialect = dialect_named(name)
    with pytest.raises(BananaError):
        dialect.encode([b"message", 1, object()])
    dialect.feed(joined(dialect.encode(TREE)))
    assert dialect.next() == TREE


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


def test_the_opening_is_banana_without_words() -> None:
    """The offer is ``["pb", "none"]``, the choice one of these, both in plain banana."""
    listener, connector = opening(Limits()), opening(Limits())
    offer = joined(listener.encode([b"pb", b"none"]))
    assert offer.hex() == "02800282706204826e6f6e65"
    connector.feed(offer)
    assert connector.next() == [b"pb", b"none"]
    assert joined(connector.encode(b"None")) == b"\x04\x82None"
    # The choice and the first message may arrive in one segment.
    listener.feed(b"\x02\x82pb" + b"\x02\x80\x13\x87\x06\x81")
    assert listener.next() == b"pb"
    chosen = dialect_named(b"pb")
    chosen.feed(listener.unread())
    assert chosen.next() == [b"version", 6]
    assert PB_WORDS.index(b"version") == 0x13 - 1


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (b"\x01\x02\x82" + b"x" * 257, "string_bytes"),
        (b"\x01\x02\x80", "list_items"),
        (b"\x02\x80\x01\x80", "depth"),
        (b"\x10\x80" + b"\x20\x82" + b"x" * 32 + (b"\x20\x82" + b"x" * 32) * 8, "message_bytes"),
    ],
)
def test_the_opening_is_short(said: bytes, limit: str) -> None:
    dialect = opening(Limits())
    dialect.feed(said)
    with pytest.raises(LimitExceeded, match=f"the limit {limit} is"):
        dialect.next()


def test_the_opening_keeps_what_follows_it_whatever_its_size() -> None:
    dialect = opening(Limits())
    dialect.feed(b"\x02\x82pb" + b"x" * 100_000)
    assert dialect.next() == b"pb"
    assert dialect.unread() == b"x" * 100_000
