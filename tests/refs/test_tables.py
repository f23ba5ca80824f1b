"""The tables of one connection: counts, pins, limits, and what is left behind."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections import Counter
from collections.abc import Hashable
from typing import Any

import pytest

from pbnb.errors import Error, InsecureJelly, LimitExceeded, RemoteProtocolError
from pbnb.flavors import Referenceable
from pbnb.refs import Refs, RemoteReference


class Silent:
    def call(self, *_: Any) -> Any: ...
    def call_only(self, *_: Any) -> None: ...
    def watch(self, *_: Any) -> None: ...
    def unwatch(self, *_: Any) -> None: ...
    def gone(self, what: Any) -> None: ...


class Thing(Referenceable):
    pass


class Proxy(Referenceable):
    def __init__(self, of: str) -> None:
        self.of = of

    def processUniqueID(self) -> Hashable:
        return self.of


class Tables(Refs):
    """The tables of a connection, and how often they left a note."""

    def __init__(self, limit: int = 1024) -> None:
        self.peer = Silent()
        self.notes: list[threading.Thread] = []
        super().__init__(self.peer, limit, lambda: self.notes.append(threading.current_thread()))
        self.peer.gone = self.gone  # type: ignore[method-assign]

    def send(self, *objects: Any, pin: bool = False) -> list[Any]:
        """Lends objects in one message that is sent, and returns what was pinned."""
        loan = self.loan()
        for obj in objects:
            loan.lend(obj)
        return loan.commit(pin=pin)

    def counts(self) -> dict[int, int]:
        return {entry.luid: entry.count for entry in self.lent()}

    def held(self) -> dict[int, int]:
        """Returns how often each luid that is borrowed has come."""
        return {luid: known.count for luid, known in self.borrowed()}

    def due(self) -> dict[int, int]:
        """Returns how often each luid is to be given back."""
        due: Counter[int] = Counter()
        for command, luid, count in self.released():
            assert command == b"decref"
            due[luid] += count
        return due


@pytest.fixture
def tables() -> Tables:
    return Tables()


# Lending


def test_every_sending_counts(tables: Tables) -> None:
    first, second = Thing(), Thing()
    loan = tables.loan()
    assert [loan.lend(obj) for obj in (first, first, second)] == [1, 1, 2]
    assert tables.counts() == {}
    assert loan.commit() == []
    assert tables.counts() == {1: 2, 2: 1}
    tables.send(second, first)
    assert tables.counts() == {1: 3, 2: 2}
    assert tables.find(1) is first
    assert tables.find(2) is second


def test_a_loan_that_is_dropped_leaves_nothing(tables: Tables) -> None:
    kept, dropped = Thing(), Thing()
    tables.send(kept)
    loan = tables.loan()
    loan.lend(kept)
    luid = loan.lend(dropped)
    gone = weakref.ref(dropped)
    del loan, dropped
    gc.collect()
    assert tables.counts() == {1: 1}
    assert tables.find(luid) is None
    assert gone() is None


def test_a_luid_is_never_used_twice(tables: Tables) -> None:
    thing = Thing()
    luids = set()
    for _ in range(3):
        tables.send(thing)
        (luid,) = tables.counts()
        luids.add(luid)
        assert tables.release(luid) is thing
        tables.loan().lend(thing)  # dropped
    assert len(luids) == 3


def test_proxies_of_one_thing_are_one_object(tables: Tables) -> None:
    tables.send(Proxy("a"), Proxy("a"), Proxy("b"))
    assert sorted(tables.counts().values()) == [1, 2]


def test_the_object_lives_as_long_as_it_is_lent(tables: Tables) -> None:
    thing = Thing()
    gone = weakref.ref(thing)
    tables.send(thing, thing)
    del thing
    assert tables.release(1) is None
    gc.collect()
    assert gone() is not None
    assert tables.release(1) is gone()
    gc.collect()
    assert gone() is None
    assert tables.counts() == {}


@pytest.mark.parametrize("luid", [2, 0, -1, b"root", b"1", 1.0, [1], None, True, 2**448 - 1])
def test_what_was_not_lent_cannot_be_released(tables: Tables, luid: Any) -> None:
    thing = tables.named[b"root"] = Thing()
    tables.send(Thing())
    with pytest.raises(RemoteProtocolError, match="not held"):
        tables.release(luid)
    assert tables.counts() == {1: 1}
    assert tables.find(b"root") is thing


def test_a_count_does_not_go_below_zero(tables: Tables) -> None:
    tables.send(Thing())
    tables.release(1)
    with pytest.raises(RemoteProtocolError, match="luid 1, not held"):
        tables.release(1)
    pinned = tables.send(Thing(), pin=True)
    (luid,) = tables.counts()
    tables.release(luid)
    with pytest.raises(RemoteProtocolError, match="not held"):
        tables.release(luid)
    assert len(tables.unpin(pinned)) == 1


def test_objects_are_found_by_luid_and_by_name(tables: Tables) -> None:
    root, thing = Thing(), Thing()
    tables.named[b"root"] = root
    tables.send(thing)
    assert tables.find(b"root") is root
    assert tables.find(1) is thing
    for luid in (b"other", 2, True, 1.0, "root", [b"root"], [], None, b""):
        assert tables.find(luid) is None


# Pins


def test_a_pinned_object_survives_its_release(tables: Tables) -> None:
    # The decref of an argument may come before the answer that names it.
    thing = Thing()
    pinned = tables.send(thing, thing, pin=True)
    assert tables.release(1) is None
    assert tables.release(1) is None
    assert tables.find(1) is thing
    assert tables.unpin(pinned) == [thing]
    assert tables.find(1) is None


def test_an_object_that_is_held_survives_its_unpinning(tables: Tables) -> None:
    thing = Thing()
    pinned = tables.send(thing, pin=True)
    assert tables.unpin(pinned) == []
    assert tables.find(1) is thing
    assert tables.release(1) is thing


def test_a_pinned_object_that_is_sent_again_keeps_its_luid(tables: Tables) -> None:
    thing = Thing()
    first = tables.send(thing, pin=True)
    tables.release(1)
    second = tables.send(thing, pin=True)
    assert tables.counts() == {1: 1}
    assert tables.unpin(first) == []
    tables.release(1)
    assert tables.unpin(second) == [thing]


def test_what_is_released_while_a_message_is_encoded_is_sent_all_the_same(tables: Tables) -> None:
    # Code of the user's runs then, and may run the event loop.
    thing = Thing()
    tables.send(thing)
    loan = tables.loan()
    luid = loan.lend(thing)
    assert tables.release(luid) is thing
    loan.commit()
    assert tables.find(luid) is thing
    assert tables.counts() == {luid: 1}
    assert tables.release(luid) is thing


def test_two_messages_may_be_encoded_at_once(tables: Tables) -> None:
    thing = Thing()
    outer, inner = tables.loan(), tables.loan()
    luids = {outer.lend(thing), inner.lend(thing)}
    inner.commit()
    outer.commit()
    assert tables.counts() == dict.fromkeys(luids, 1)
    for luid in luids:
        assert tables.release(luid) is thing
    tables.send(thing)
    assert set(tables.counts()).isdisjoint(luids)


def test_an_object_has_one_luid_in_a_message_whatever_happens_meanwhile(tables: Tables) -> None:
    thing, other = Thing(), Thing()
    tables.send(other)
    outer = tables.loan()
    first = [outer.lend(thing), outer.lend(other)]
    tables.send(thing)  # another message, which is sent before this one
    tables.release(1)
    assert [outer.lend(thing), outer.lend(other)] == first
    outer.commit()
    assert tables.counts() == {first[0]: 2, 1: 2, 3: 1}
    assert tables.find(first[0]) is tables.find(3) is thing and tables.find(1) is other


# Limits


def test_the_limit_holds_and_passes(tables: Tables) -> None:
    things = [Thing() for _ in range(1024)]
    tables.named[b"root"] = Thing()
    tables.send(*things)
    with pytest.raises(Error, match=r"^Maximum PB reference count exceeded\. .*1024 are allowed"):
        tables.send(Thing())
    assert len(tables.counts()) == 1024
    tables.send(*things)  # what is lent already may be sent again
    tables.release(1)
    tables.release(1)
    tables.send(Thing())
    assert len(tables.counts()) == 1024


def test_a_message_that_goes_over_the_limit_lends_nothing_of_it(tables: Tables) -> None:
    things = [Thing() for _ in range(1025)]
    with pytest.raises(Error, match="Maximum PB reference count exceeded"):
        tables.send(*things)
    assert tables.counts() == {}
    tables.send(*things[:1024])
    assert len(tables.counts()) == 1024


def test_a_peer_may_not_lend_without_end() -> None:
    tables = Tables(limit=2)
    held = [tables.borrow(luid) for luid in (1, 2, 3)]
    with pytest.raises(LimitExceeded, match="more than 2 objects"):
        tables.borrow(4)
    again = tables.borrow(1)
    assert again == held[0] and tables.held() == {1: 2, 2: 1, 3: 1}


def test_references_that_are_gone_do_not_count_though_their_notes_are_unread() -> None:
    tables = Tables(limit=2)
    for luid in range(1, 100):
        tables.borrow(luid)
    gc.collect()
    assert tables.due() == dict.fromkeys(range(1, 100), 1)


# Borrowing


def test_references_for_one_luid_are_equal(tables: Tables) -> None:
    ref = tables.borrow(5)
    again = tables.borrow(5)
    assert again == ref and hash(again) == hash(ref)
    assert (ref.broker, ref.luid) == (tables.peer, 5)
    assert tables.held() == {5: 2}
    assert tables.released() == []


def test_a_copy_of_a_reference_is_the_reference(tables: Tables) -> None:
    ref = tables.borrow(5)
    assert copy.copy(ref) is ref
    assert copy.deepcopy({"ref": ref})["ref"] is ref
    del ref
    gc.collect()
    assert tables.due() == {5: 1}


def test_every_receipt_is_given_back(tables: Tables) -> None:
    ref = tables.borrow(5)
    tables.borrow(5)
    tables.borrow(6)
    gc.collect()
    assert tables.due() == {5: 1, 6: 1}
    assert tables.held() == {5: 1}
    del ref
    gc.collect()
    assert tables.due() == {5: 1}
    assert tables.due() == tables.held() == {}
    assert len(tables.notes) == 3


def test_a_luid_that_comes_again_before_the_note_is_read_survives(tables: Tables) -> None:
    tables.borrow(5)
    tables.borrow(5)
    gc.collect()
    again = tables.borrow(5)
    assert tables.held() == {5: 3}
    assert tables.due() == {5: 2}
    assert tables.held() == {5: 1}
    del again
    gc.collect()
    assert tables.due() == {5: 1}


def test_what_is_given_back_is_due_once(tables: Tables) -> None:
    refs = [tables.borrow(5), tables.borrow(5)]
    assert tables.give_back(5)
    assert tables.due() == {5: 2} and tables.held() == {}
    assert not tables.give_back(5)
    refs.clear()
    gc.collect()
    assert tables.due() == {}


def test_what_comes_again_after_it_was_given_back_is_not_given_back_early(tables: Tables) -> None:
    # It was on its way when this side gave it back.
    refs = [tables.borrow(5), tables.borrow(5)]
    tables.give_back(5)
    assert tables.due() == {5: 2}
    again = tables.borrow(5)
    refs.clear()
    gc.collect()
    assert tables.due() == {} and tables.held() == {5: 1}
    del again
    gc.collect()
    assert tables.due() == {5: 1} and tables.held() == {}


def test_avatars_have_references_of_their_own(tables: Tables) -> None:
    alice, bob = object(), object()
    hers, his = tables.borrow(5, alice), tables.borrow(5, bob)
    assert hers == his and (hers.perspective, his.perspective) == (alice, bob)
    assert tables.borrow(5).perspective is None
    gc.collect()
    assert tables.due() == {5: 1} and tables.held() == {5: 2}
    del hers, his
    gc.collect()
    assert tables.due() == {5: 2}


def test_a_reference_may_be_collected_in_any_thread(tables: Tables) -> None:
    holder = [tables.borrow(5)]
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    assert tables.notes == [thread]
    assert tables.due() == {5: 1}


def test_a_reference_in_a_cycle_is_given_back(tables: Tables) -> None:
    cycle: list[Any] = [tables.borrow(5)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert tables.due() == {5: 1}


def test_a_reference_goes_home_only_where_it_came_from(tables: Tables) -> None:
    loan = tables.loan()
    assert loan.home(tables.borrow(5)) == 5
    assert loan.home(RemoteReference(tables.peer, b"root")) == b"root"
    with pytest.raises(InsecureJelly, match="belongs to another connection"):
        loan.home(Tables().borrow(5))


# The end


def test_a_connection_that_ended_holds_nothing(tables: Tables) -> None:
    root, first, second = Thing(), Thing(), Thing()
    tables.named[b"root"] = root
    tables.send(first, second, pin=True)
    held = tables.borrow(5)
    tables.borrow(6)
    gc.collect()
    assert tables.clear() == [first, second]
    assert tables.counts() == {}
    assert tables.find(b"root") is None and tables.find(1) is None
    assert tables.due() == {}
    notes = len(tables.notes)
    del held
    gc.collect()
    assert len(tables.notes) == notes
    gone = [weakref.ref(obj) for obj in (root, first, second)]
    del root, first, second
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]
