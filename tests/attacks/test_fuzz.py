"""Anything at all that a peer may send: the stream goes on or ends, and nothing is left of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import pbnb as pb
from pbnb.failure import Failure
from pbnb.protocol.broker import Broker
from pbnb.protocol.events import AnswerReceived, CallReceived, ConnectionBroken, ErrorReceived
from pbnb.wire.banana import encode

SESSIONS = Path(__file__).parent.parent / "vectors" / "sessions"


class Desk(pb.Root):
    def remote_echo(self, *args: Any, **kw: Any) -> Any:
        return args[0] if args else None


class Nobody:
    """The peer that borrowed references call through."""

    peer = "nobody"

    def call(self, *args: Any) -> None:
        raise AssertionError("a fuzzer is not called")

    call_only = watch = unwatch = call


def broker(guarded: bool = False) -> Broker:
    return Broker(
        Nobody(),  # type: ignore[arg-type]
        listening=True,
        root=Desk(),
        guarded=guarded,
        limits=pb.Limits(message_bytes=100_000, message_items=10_000),
    )


def feed(machine: Broker, data: bytes) -> None:
    """Does with bytes what a connection does."""
    machine.receive_data(data)
    while (event := machine.next_event()) is not None:
        if isinstance(event, CallReceived):
            try:
                value = event.target.find_remote(event.name)(*event.args, **event.kw)
            except Exception as error:
                machine.fail(event.request_id, Failure.of(error))
            else:
                machine.answer(event.request_id, value, event.perspective)
        elif isinstance(event, ConnectionBroken):
            assert isinstance(event.error, pb.ProtocolError)
            assert len(str(event.error)) < 1000
        else:
            assert not isinstance(event, (AnswerReceived, ErrorReceived))


def end(machine: Broker) -> None:
    machine.close()
    assert not machine.pending and not list(machine.refs.lent())
    assert not machine.data_to_send()


OPENED = encode(b"pb", None) + encode([b"version", 6])

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


def recorded() -> list[bytes]:
    """Returns what clients said in the recorded sessions: where fuzzing begins."""
    found = []
    for path in sorted(SESSIONS.glob("*.json")):
        for connection in json.loads(path.read_text()).get("connections", []):
            chunks = [
                bytes.fromhex(c["hex"])
                for c in connection["chunks"]
                if c["dir"] == "c2s" and "hex" in c
            ]
            found.append(b"".join(chunks))
    return [each for each in found if each]


RECORDED = recorded()


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


# What fuzzing has found, each once: bytes after the opening.
FOUND: list[bytes] = []


def test_what_was_found_stays_mended() -> None:
    for data in FOUND:
        machine = broker()
        feed(machine, OPENED + data)
        end(machine)
