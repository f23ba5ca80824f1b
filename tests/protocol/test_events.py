"""Events cannot be changed, and pending calls say what they are."""

from __future__ import annotations

import pytest

from pbnb.protocol import events
from pbnb.refs import RemoteReference
from tests.support.pair import End

KINDS = [
    kind
    for name in events.__all__
    if isinstance(kind := getattr(events, name), type) and hasattr(kind, "_fields")
]


@pytest.mark.parametrize("kind", KINDS)
def test_events_are_immutable(kind: type) -> None:
    event = kind(*range(len(kind._fields)))  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        setattr(event, kind._fields[0], None)  # type: ignore[attr-defined]


def test_all_kinds_are_events() -> None:
    assert set(KINDS) - {events.Ended} == set(events.Event.__args__)


def test_a_pending_call_says_what_it_is() -> None:
    call = events.PendingCall(3, RemoteReference(End(False), b"root"), "echo", [])
    assert repr(call) == "<PendingCall 3: echo on <RemoteReference root at the other end>>"
