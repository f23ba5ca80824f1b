"""The opening, split at every byte."""

from __future__ import annotations

from typing import Any

import pytest

import pbnb as pb
from pbnb.protocol.handshake import Handshake
from pbnb.wire.banana import decode, encode

OFFER = bytes.fromhex("02800282706204826e6f6e65")


def server(*names: str) -> Handshake:
    return Handshake(names or ("pb", "none"), listening=True, limits=pb.Limits())


def client(*names: str) -> Handshake:
    return Handshake(names or ("pb", "none"), listening=False, limits=pb.Limits())


def test_the_listener_speaks_first() -> None:
    assert server().greeting() == OFFER
    assert client().greeting() == b""


@pytest.mark.parametrize("split", range(len(OFFER)))
def test_the_client_picks_the_first_that_it_knows(split: int) -> None:
    end = client()
    end.decoder.feed(OFFER[:split])
    assert end.next() is None
    end.decoder.feed(OFFER[split:])
    agreed = end.next()
    assert agreed is not None
    assert agreed[0].name == b"pb" and agreed[1] == encode(b"pb", None)


@pytest.mark.parametrize(
    ("offer", "choice"),
    [
        ([b"none"], b"none"),
        ([b"none", b"pb"], b"none"),
        ([b"xyz", b"pb"], b"pb"),
        ([5, b"pb"], b"pb"),
        ([b"pbnb2", b"pb", b"none"], b"pb"),
    ],
)
def test_the_order_is_the_listeners(offer: Any, choice: bytes) -> None:
    end = client()
    end.decoder.feed(encode(offer, None))
    agreed = end.next()
    assert agreed is not None and agreed[0].name == choice


@pytest.mark.parametrize("offer", [[b"xyz"], [], b"pb", 5, [[b"pb"]]], ids=repr)
def test_an_offer_without_a_dialect_of_ours(offer: Any) -> None:
    end = client()
    end.decoder.feed(encode(offer, None))
    with pytest.raises(pb.RemoteProtocolError):
        end.next()


@pytest.mark.parametrize("choice", [b"xyz", [b"pb"], 1, b""], ids=repr)
def test_a_choice_that_was_not_offered(choice: Any) -> None:
    end = server()
    end.decoder.feed(encode(choice, None))
    with pytest.raises(pb.RemoteProtocolError):
        end.next()


def test_a_choice_of_what_this_server_does_not_offer() -> None:
    end = server("pb")
    end.decoder.feed(encode(b"none", None))
    with pytest.raises(pb.RemoteProtocolError):
        end.next()


@pytest.mark.parametrize("name", [b"pb", b"none"])
def test_messages_may_follow_in_the_same_segment(name: bytes) -> None:
    words = None if name == b"none" else pb.banana.PB_WORDS
    end = server()
    end.decoder.feed(encode(name, None) + encode([b"version", 6], words))
    agreed = end.next()
    assert agreed is not None
    dialect, reply = agreed
    assert reply == b"" and dialect.next() == [b"version", 6]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n" * 4,
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" * 8,
        bytes.fromhex("16030100f8010000f40303") + b"\x00" * 300,
        b"\x00" * 65,
        b"\x7f\x7f\x7f\x7f\x7f\x7f\x82",
        bytes([2, 0x87]),
        bytes([0x84]) + b"12345678",
        b"\xff",
    ],
    ids=["http", "ssh", "tls", "prefix", "length", "word", "float", "byte"],
)
def test_a_peer_that_does_not_speak_pb(data: bytes) -> None:
    end = server()
    with pytest.raises(pb.RemoteProtocolError):
        for byte in data:
            end.decoder.feed(bytes([byte]))
            end.next()


def test_a_dialect_that_does_not_exist_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="pb, none"):
        server("klingon")


def test_the_greeting_is_an_offer_in_plain_banana() -> None:
    assert decode(server("none", "pb").greeting(), None) == [b"none", b"pb"]
