"""Banana as a dialect, and the opening that is spoken in it."""

from __future__ import annotations

import pytest

from pbnb.errors import LimitExceeded
from pbnb.limits import Limits
from pbnb.wire.banana import NEED_DATA, PB_WORDS
from pbnb.wire.dialect import BananaDialect, Buffer, opening


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


def test_trees_are_all_that_it_writes() -> None:
    dialect = BananaDialect(b"pb", PB_WORDS, Limits())
    assert dialect.call([b"message", 1, b"root", "echo", True, (), {}]) is None
    assert dialect.answer(1, 2) is None
    assert joined(dialect.encode([b"answer", 1, 2])) == b"\x03\x80\x1b\x87\x01\x81\x02\x81"
    assert (dialect.pieces(), dialect.transfers(), dialect.drop((b"message", 1))) == ([], [], None)
    dialect.feed(b"\x02\x80\x13\x87\x06")
    assert dialect.next() is NEED_DATA
    dialect.feed(b"\x81")
    assert dialect.next() == [b"version", 6]


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
    chosen = BananaDialect(b"pb", PB_WORDS, Limits())
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
