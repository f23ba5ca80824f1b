"""Names, states and memory: what is copied, what travels beside, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

import pbnb as pb
from pbnb.errors import BananaError, InsecureJelly
from pbnb.jelly.jelly import Jellier
from pbnb.jelly.tagging import (
    PeerNotAsked,
    carried,
    check_reads,
    check_size,
    malformed,
    parts_of,
    shape_in,
    tagged,
)
from pbnb.limits import Limits
from pbnb.wire.transfers import OutOfBand

LARGE = bytes(range(256)) * 256


def jellier(*types: bytes, beside: bool = False, asked: bool = True, **limits: int) -> Jellier:
    return Jellier(
        None,
        pb.global_security,
        None,
        Limits(**limits),
        peer_types=frozenset(types) if asked else None,
        carries_memory=beside,
    )


def test_a_type_goes_to_a_peer_that_reads_it() -> None:
    assert tagged(jellier(b"pbnb.x"), b"pbnb.x", 5) == [b"pbnb.x", 5]
    with pytest.raises(InsecureJelly, match="pbnb.x is not sent: this peer speaks plain"):
        check_reads(jellier(b"pbnb.y"), b"pbnb.x")
    with pytest.raises(PeerNotAsked, match="not known whether the peer reads pbnb.x"):
        check_reads(jellier(asked=False), b"pbnb.x")


def test_small_memory_is_copied() -> None:
    memory = bytearray(b"abc")
    for beside in (True, False):
        copy = carried(jellier(beside=beside), memory, "it")
        memory[:] = b"xyz"
        assert copy == b"abc"
        memory[:] = b"abc"


def test_large_memory_travels_beside_where_it_can() -> None:
    memory = bytearray(LARGE)
    leaf = carried(jellier(beside=True), memory, "it")
    assert type(leaf) is OutOfBand
    assert leaf.data.obj is memory
    assert not leaf.as_bytes
    assert carried(jellier(), memory, "it") == LARGE


def test_memory_beyond_the_limits_is_refused() -> None:
    with pytest.raises(BananaError, match="send it of 65536 bytes in Perspective Broker's own"):
        carried(jellier(string_bytes=65535), LARGE, "it")
    with pytest.raises(BananaError, match="it of 65536 bytes: the limit buffer_bytes is 65535"):
        carried(jellier(beside=True, buffer_bytes=65535), LARGE, "it")
    check_size(jellier(string_bytes=65536), 65536, "it")
    check_size(jellier(beside=True, buffer_bytes=65536), 65536, "it")


def test_the_parts_of_a_state_have_their_types() -> None:
    assert parts_of([b"x", [b"list", 1, b"2"]], int, (bytes, list)) == [1, b"2"]
    for state in (5, [], [b"list", 1], [b"tuple", 1, b"2"], [b"list", True, b"2"], [b"list", 1, 2]):
        with pytest.raises(InsecureJelly, match="malformed x"):
            parts_of([b"x", state], int, (bytes, list))
    with pytest.raises(InsecureJelly, match="malformed x"):
        parts_of([b"x"], int)


@pytest.mark.parametrize(
    "shape", [5, [], [5], [b"list", -1], [b"list", 2**62], [b"list", b"1"], [b"list", *[1] * 65]]
)
def test_a_shape_has_lengths(shape: Any) -> None:
    assert shape_in([b"x"], [b"list", 0, 2**62 - 1]) == (0, 2**62 - 1)
    with pytest.raises(InsecureJelly, match="malformed x: its shape"):
        shape_in([b"x"], shape)


def test_an_error_names_the_type() -> None:
    assert str(malformed([b"pbnb.x", 5], "too odd")) == "malformed pbnb.x: too odd"
