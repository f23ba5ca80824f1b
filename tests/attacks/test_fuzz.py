"""Anything at all that a peer may send: the stream goes on or ends, and nothing is left of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbnb.wire.banana import encode
from tests.attacks.fuzz import (
    OPENED,
    RECORDED,
    TARGETS,
    begin,
    broker,
    end,
    feed,
    plain,
)

ATOMS = st.sampled_from(
    [
        *(b"tuple", b"list", b"dictionary", b"set", b"frozenset", b"unicode", b"boolean", b"None"),
        *(b"reference", b"dereference", b"local", b"remote", b"cached", b"decimal", b"datetime"),
        *(b"date", b"time", b"timedelta", b"class", b"module", b"function", b"method"),
        *(b"instance", b"persistent", b"unpersistable", b"root", b"pbnb", b"echo", b"true"),
        b"twisted.spread.pb.CopyableFailure",
    ]
)
LEAVES = st.one_of(
    ATOMS,
    st.integers(-3, 3),
    st.integers(-(2**448) + 1, 2**448 - 1),
    st.floats(),
    st.binary(max_size=8),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.builds(lambda head, rest: [head, *rest], ATOMS, st.lists(inner, max_size=4)),
    ),
    max_leaves=25,
)
COMMANDS = st.sampled_from(
    [
        *(b"message", b"answer", b"error", b"decref", b"version", b"cachemessage", b"decache"),
        *(b"uncache", b"didNotUnderstand"),
    ]
)
ARGUMENTS = st.builds(lambda items: [b"tuple", *items], st.lists(TREES, max_size=4))
CALLS = st.builds(
    lambda args, kw: [b"message", 1, b"root", b"echo", 1, args, kw],
    st.one_of(ARGUMENTS, TREES),
    st.one_of(st.just([b"dictionary"]), TREES),
)
MESSAGES = st.one_of(
    CALLS,
    st.builds(lambda command, rest: [command, *rest], COMMANDS, st.lists(TREES, max_size=7)),
    TREES,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGES, max_size=4), st.booleans())
def test_any_tree_in_any_place_harms_nobody(messages: list[Any], guarded: bool) -> None:
    machine = broker(guarded)
    feed(machine, OPENED)
    for message in messages:
        feed(machine, encode(message))
    end(machine)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_any_bytes_harm_nobody(parts: list[bytes], opened: bool) -> None:
    machine = broker()
    if opened:
        feed(machine, OPENED)
    for part in parts:
        feed(machine, part)
    end(machine)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_recorded_sessions_with_changes_harm_nobody(data: st.DataObject) -> None:
    said = bytearray(data.draw(st.sampled_from(RECORDED)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(said) - 1))
        said[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    machine = broker()
    feed(machine, bytes(said))
    end(machine)


def test_recorded_sessions_are_there() -> None:
    assert len(RECORDED) > 20


@pytest.mark.parametrize("target", TARGETS)
def test_what_fuzzing_begins_with_harms_nobody(target: str) -> None:
    assert len(begin(target)) >= 6
    for data in begin(target):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_near_it_harms_nobody(target: str) -> None:
    assert plain(target, seconds=0.5) > 3


# What fuzzing has found, each once: the target, and its input.
FOUND: list[tuple[str, bytes]] = [
    # The length of a text that is no length but a number, with another behind it.
    (
        "plain",
        b"\x00\x03\x80\x1b\x87\x07\x81\x02\x80\x07\x82unicode\x83\x01\x82" + b"x" * 131,
    ),
]


def test_what_was_found_stays_mended() -> None:
    for target, data in FOUND:
        TARGETS[target](data)
