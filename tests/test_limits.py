"""Limits: the budgets of one connection."""

from __future__ import annotations

import dataclasses

import pytest

from pbnb.limits import Limits


def test_banana_s_own_limits_are_those_of_twisted() -> None:
    limits = Limits()
    assert (limits.string_bytes, limits.list_items, limits.prefix_bytes) == (655360, 655360, 64)
    assert limits.references == 1024


def test_limits_cannot_be_changed_under_a_connection() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().depth = 5  # type: ignore[misc]


def test_unlimited_keeps_what_the_wire_itself_limits() -> None:
    limits, usual = Limits.unlimited(), Limits()
    for name in ("string_bytes", "list_items", "prefix_bytes", "depth", "handshake_bytes"):
        assert getattr(limits, name) == getattr(usual, name)
    for name in ("message_bytes", "message_items", "references", "hash_collisions"):
        assert getattr(limits, name) >= 2**60
    assert limits.connections >= 2**60


@pytest.mark.parametrize("limits", [Limits(), Limits.unlimited()])
def test_a_stranger_gets_less(limits: Limits) -> None:
    before = limits.before_login()
    assert before.message_bytes == 64 * 1024
    assert before.depth == 16
    assert before.references == 8
    for field in dataclasses.fields(Limits):
        assert getattr(before, field.name) <= getattr(limits, field.name)


def test_a_stranger_never_gets_more_than_others() -> None:
    tight = Limits(string_bytes=10, list_items=5, depth=2, message_bytes=50, message_items=9)
    tight = dataclasses.replace(tight, references=1, running_calls=1, queued_calls=1, write_bytes=9)
    before = tight.before_login()
    for name in ("string_bytes", "list_items", "depth", "message_bytes", "message_items"):
        assert getattr(before, name) == getattr(tight, name)
    assert before.references == 1
