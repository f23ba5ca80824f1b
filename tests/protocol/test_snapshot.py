from __future__ import annotations

import dataclasses
import gc
from typing import Any

import pytest

from pbnb.flavors import Cacheable, Referenceable, Root
from pbnb.protocol import snapshot
from tests.support.pair import BrokerPair


class Thing(Referenceable):
    def __repr__(self) -> str:
        raise AssertionError("nobody may ask for it")


class Shared(Cacheable):
    def getStateToCacheAndObserveFor(self, perspective: object, observer: Any) -> dict[str, Any]:
        self.observer = observer
        return {"level": 1}

    def stoppedObserving(self, perspective: object, observer: Any) -> None:
        self.observer = None


class Lender(Root):
    def __init__(self) -> None:
        self.thing = Thing()

    def remote_lend(self) -> Thing:
        return self.thing


def test_what_is_lent_is_a_row_until_it_is_given_back() -> None:
    pair = BrokerPair(Lender())
    refs = pair.server.broker.refs
    refs.clock = lambda: 7.0
    ref = pair.call("lend")
    pair.call("lend")
    root, row = snapshot.lent_rows(refs)
    assert (root.luid, root.kind, root.count) == ("root", "Lender", 0)
    assert row == snapshot.LentRow(luid=ref.luid, kind="Thing", count=2, pins=0, since=7.0)
    del ref
    pair.collect()
    assert list(snapshot.lent_rows(refs)) == [root]


def test_what_is_borrowed_is_a_row_while_it_is_held() -> None:
    pair = BrokerPair(Lender())
    refs = pair.client.broker.refs
    refs.clock = lambda: 3.0
    ref = pair.call("lend")
    pair.call("lend")
    assert list(snapshot.borrowed_rows(refs)) == [snapshot.BorrowedRow(ref.luid, 2, 3.0)]
    # The rows hold nothing themselves.
    rows = list(snapshot.borrowed_rows(refs))
    del ref
    gc.collect()
    pair.collect()
    assert rows and list(snapshot.borrowed_rows(refs)) == []


def test_rows_are_frozen() -> None:
    row = snapshot.BorrowedRow(1, 1, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.count = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"root", "root"),
        (7, 7),
        (b"<img onerror=alert(1)>", "<img onerror=alert(1)>"),
        (b"\x1b[31m\xe2\x80\xae", "\\x1b[31m\\u202e"),
        (b"x" * 10_000_000, "x" * 79 + "…"),
        (b"\xff", "\ufffd"),
    ],
)
def test_a_luid_is_safe_to_show(name: int | bytes, shown: int | str) -> None:
    assert snapshot.luid_of(name) == shown


def test_the_kind_of_an_object_runs_nothing_of_it() -> None:
    hostile = type("\x1b[31m" + "x" * 1000, (Thing,), {})
    kind = snapshot.kind_of(hostile())
    assert kind.startswith("\\x1b[31mxxx") and kind.endswith("…") and len(kind) == 80


def test_what_is_called_is_named() -> None:
    pair = BrokerPair(Lender())
    assert snapshot.target_of(pair.client.root()) == "root"
    assert snapshot.target_of(pair.call("lend")) == "1"
    assert snapshot.target_of(Thing()) == "Thing"
