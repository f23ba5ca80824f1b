"""Live copies: two ends whose tables have to agree, whatever overtakes what."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import pbnb as pb
from pbnb.failure import Failure
from pbnb.wire.banana import decode, encode
from tests.support.lake import Duck, Lake, RemoteDuck, received, sent
from tests.support.pair import End


@pytest.fixture
def lake() -> Lake:
    return Lake()


def copy_of(end: End) -> int:
    """Returns the luid of the only copy."""
    (entry,) = end.broker.refs.caches.local()
    return entry.luid


def test_state_once_and_then_each_change(lake: Lake) -> None:
    duck = lake.pools[0].ducks[0]
    duck.where = 5
    copy = lake.call(1, "give", 0)
    assert (type(copy), copy.made, copy.where) == (RemoteDuck, True, 5)
    duck.move()
    lake.settle()
    assert copy.where == 6
    assert lake.pair.server.results == {1: 6}


def test_second_sending_counts_and_is_the_same_copy(lake: Lake) -> None:
    one = lake.call(1, "give", 0)
    two = lake.call(1, "give", 0)
    assert one is two
    assert sent(lake.pair.server) == received(lake.pair.client) == {1: 2}
    assert lake.pools[0].ducks[0].begun == 1


def test_twice_in_one_message_is_sent_once(lake: Lake) -> None:
    one, two = lake.call(1, "twice", 0)
    assert one is two["again"]
    assert sent(lake.pair.server) == {1: 1}
    # Arguments and keywords are two expressions, so that the second says "cached".
    lake.call(0, "take", lake.pools[0].ducks[1], other=lake.pools[0].ducks[1])
    assert sent(lake.pair.server) == received(lake.pair.client) == {1: 1, 2: 2}


def test_goes_home_as_itself(lake: Lake) -> None:
    copy = lake.call(1, "give", 0)
    lake.call(1, "take", copy, again=copy)
    assert lake.pools[0].held == [lake.pools[0].ducks[0]] * 2
    assert sent(lake.pair.server) == {1: 1}


def test_echo_returns_the_object(lake: Lake) -> None:
    duck = lake.pools[1].ducks[0]
    assert lake.call(1, "echo", duck) is duck
    lake.settle()
    assert sent(lake.pair.client) == {} and duck.observers == []


def test_echo_of_a_peer_that_lets_go_before_it_answers(lake: Lake) -> None:
    # As Twisted does: the copy is gone with the arguments, and only then is the answer written.
    duck, client = lake.pools[1].ducks[0], lake.pair.client
    request = client.root().callRemote("echo", duck)
    client.output()
    (luid,) = sent(client)
    say(client, [b"decache", luid])
    assert duck.observers == []
    say(client, [b"answer", request, [b"lcache", luid]])
    assert client.results[request] is duck
    say(client, [b"answer", client.root().callRemote("held"), [b"lcache", luid]])
    assert isinstance(client.results[request + 1].value, pb.InsecureJelly)


def say(end: End, tree: Any) -> None:
    """Lets the peer of an end say something."""
    end.feed(encode(tree))


def test_last_release_stops_observing_and_the_next_sending_is_new(lake: Lake) -> None:
    duck = lake.pools[0].ducks[0]
    copies = [lake.call(1, "give", 0), lake.call(1, "give", 0)]
    copies.pop()
    lake.settle()
    assert len(duck.observers) == 1
    copies.clear()
    lake.settle()
    assert duck.observers == []
    assert sent(lake.pair.server) == received(lake.pair.client) == {}
    assert lake.call(1, "give", 0).where == 0
    assert duck.begun == 2


def test_copies_are_equal_by_what_they_share() -> None:
    lake = Lake()
    one, other = lake.call(1, "give", 0), lake.call(1, "give", 1)
    (entry, _) = lake.pair.client.broker.refs.caches.local()
    assert one == entry.master and hash(one) == hash(entry.master)
    assert one != other and one != 1
    assert vars(one) is vars(entry.master)


def test_observers_are_equal_by_whom_they_tell(lake: Lake) -> None:
    copies = lake.call(1, "give", 0), lake.call(1, "give", 1)
    first, second = (duck.observers[0] for duck in lake.pools[0].ducks[:2])
    assert first == first and first != second and first != 1
    assert len({first, second, first}) == 2
    assert repr(first) == "<Observer of Duck 1 at the other end>"
    assert first.perspective is None
    assert first.remoteMethod("moved")(1) == 1
    lake.settle()
    assert copies[0].where == 1


def test_observer_is_told_who_the_copy_is_for() -> None:
    class Hall(pb.Avatar):
        def perspective_duck(self) -> Duck:
            return duck

    duck, hall = Duck(), Hall()
    lake = Lake()
    lake.pools[0].ducks[0] = pb.AsReferenceable(hall, "perspective")  # type: ignore[call-overload]
    copy = lake.pair.call_on(lake.call(1, "give", 0), "duck")
    assert copy.where == 0
    assert duck.perspectives == [hall] and duck.observers[0].perspective is hall


# Misuse


class Eager(Duck):
    """Calls its observer before the peer can have a copy."""

    def getStateToCacheAndObserveFor(self, perspective: Any, observer: Any) -> Any:
        state = super().getStateToCacheAndObserveFor(perspective, observer)
        self.move()
        return state


def test_observer_before_the_object_was_sent(lake: Lake) -> None:
    lake.pools[0].ducks[0] = Eager()
    with pytest.raises(pb.ProtocolError, match="no copy of this Eager"):
        lake.call(1, "give", 0)
    assert lake.pools[0].ducks[0].observers == []
    assert lake.call(1, "echo", 1) == 1


def test_observer_after_the_copy_was_let_go(lake: Lake) -> None:
    kept = lake.call(1, "give", 0)
    (observer,) = lake.pools[0].ducks[0].observers
    del kept
    lake.settle()
    with pytest.raises(pb.ProtocolError, match="no copy of this Duck"):
        observer.callRemote("moved", 1)


def test_update_that_the_copy_does_not_know(lake: Lake) -> None:
    copy = lake.call(1, "give", 0)
    request = lake.pools[0].ducks[0].observers[0].callRemote("nothing", 1)
    lake.settle()
    failure = lake.pair.server.results[request]
    assert failure.check(pb.NoSuchMethod) is pb.NoSuchMethod
    assert failure.getErrorMessage() == "No such method: observe_nothing"
    assert copy.where == 0


def test_message_that_cannot_be_sent_is_not_observed(lake: Lake) -> None:
    with pytest.raises(pb.InsecureJelly, match="instances of builtins.object"):
        lake.call(1, "unsendable", 0)
    duck = lake.pools[0].ducks[0]
    assert (duck.begun, duck.observers) == (1, [])
    assert sent(lake.pair.server) == {}
    with pytest.raises(pb.InsecureJelly):
        lake.call(0, "take", duck, object())
    assert duck.observers == []


def test_owner_that_fails_twice_tells_both(lake: Lake) -> None:
    class Clumsy(Duck):
        def getStateToCacheAndObserveFor(self, perspective: Any, observer: Any) -> Any:
            raise KeyError("no state")

    with pytest.raises(KeyError) as caught:
        lake.call(0, "take", Clumsy())
    assert "Clumsy.stoppedObserving failed: ValueError" in caught.value.__notes__[0]
    assert lake.call(0, "echo", 1) == 1


@pytest.mark.parametrize("index", [0, 2, 3], ids=["duck", "bad state", "unregistered"])
def test_expression_refused_half_way_gives_everything_back(lake: Lake, index: int) -> None:
    for _ in range(2):
        with pytest.raises(pb.InsecureJelly):
            lake.call(1, "refused", index)
        lake.settle()
        assert sent(lake.pair.server) == received(lake.pair.client) == {}
    copy = lake.call(1, "give", 0)
    with pytest.raises(pb.InsecureJelly):
        lake.call(1, "refused", 0)
    lake.settle()
    # The copy is held, so that what it came with then is given back with it.
    assert sent(lake.pair.server) == received(lake.pair.client) == {copy_of(lake.pair.client): 2}
    assert copy.where == 0
    del copy
    lake.settle()
    assert sent(lake.pair.server) == received(lake.pair.client) == {}


@pytest.mark.parametrize("index", [2, 3], ids=["bad state", "unregistered"])
def test_copy_that_was_refused_is_not_given_to_anyone(lake: Lake, index: int) -> None:
    # Sent again, and changed, before the owner hears that it was refused.
    server, client = lake.ends
    requests = [client.root().callRemote("give", index) for _ in range(2)]
    server.feed(client.output())
    lake.pools[0].ducks[index].move()
    lake.settle()
    for request in requests:
        assert isinstance(client.results[request].value, pb.InsecureJelly)
    assert server.results[1].type == "twisted.spread.jelly.InsecureJelly"
    assert sent(server) == received(client) == {}


def test_copy_for_another_connection(lake: Lake) -> None:
    copy = lake.call(1, "give", 0)
    with pytest.raises(pb.InsecureJelly, match="RemoteDuck is the copy of another connection's"):
        Lake().call(1, "take", copy)
    with pytest.raises(pb.InsecureJelly, match="of another connection's object"):
        lake.call(0, "take", RemoteDuck())


@pytest.mark.parametrize("count", [8, 9])
def test_no_more_copies_than_the_limit(count: int) -> None:
    lake = Lake(limits=pb.Limits(references=8))
    ducks = [Duck() for _ in range(count)]
    lake.pools[0].held = ducks
    if count == 8:
        copies = lake.call(1, "held")
        assert len(sent(lake.pair.server)) == 8
        with pytest.raises(pb.Error, match="Maximum PB cache count exceeded"):
            lake.call(1, "give", 0)
        assert len(copies) == 8
    else:
        with pytest.raises(pb.Error, match="Maximum PB cache count exceeded"):
            lake.call(1, "held")
        assert all(not duck.observers for duck in ducks)
        assert sent(lake.pair.server) == {}


TUPLE: list[Any] = [b"tuple"]
BREAKING: list[Any] = [
    [b"decache", 7],
    [b"decache", b"root"],
    [b"decache", [b"list"]],
    [b"uncache", 7],
    [b"uncache", b"x"],
]
REFUSED: list[Any] = [
    [b"answer", 1, [b"cached", 7]],
    [b"answer", 1, [b"cached", b"x"]],
    [b"answer", 1, [b"cached"]],
    [b"answer", 1, [b"lcache", 7]],
    [b"answer", 1, [b"lcache", [b"list"]]],
    [b"answer", 1, [Duck.__module__.encode() + b".Duck", b"1", [b"dictionary"]]],
    [b"cachemessage", 1, 7, b"moved", 1, TUPLE, [b"dictionary"]],
    [b"cachemessage", 1, b"x", b"moved", 1, TUPLE, [b"dictionary"]],
]


@pytest.mark.parametrize("tree", BREAKING, ids=str)
def test_ids_that_break_the_protocol(lake: Lake, tree: Any) -> None:
    say(lake.pair.client, tree)
    assert isinstance(lake.pair.client.broken(), pb.RemoteProtocolError)


@pytest.mark.parametrize("tree", REFUSED, ids=str)
def test_ids_that_only_this_call_pays_for(lake: Lake, tree: Any) -> None:
    client = lake.pair.client
    request = client.root().callRemote("echo", 1)
    client.output()
    say(client, tree)
    assert client.broken() is None
    if tree[0] == b"answer":
        assert isinstance(client.results[request].value, pb.InsecureJelly)
    else:
        assert decode(client.output())[:2] == [b"error", 1]


def test_new_copy_of_a_luid_that_is_taken(lake: Lake) -> None:
    copy = lake.call(1, "give", 0)
    client = lake.pair.client
    request = client.root().callRemote("echo", 1)
    name = f"{__name__}.Duck".encode()
    say(client, [b"answer", request, [name, 1, [b"dictionary", [b"where", 99]]]])
    assert isinstance(client.results[request].value, pb.InsecureJelly)
    assert copy.where == 0


# Interleavings

GOOD = (0, 1)
SIDES = st.sampled_from((0, 1))
DUCKS = st.sampled_from((0, 0, 0, 1, 2, 3))


class Interleavings(RuleBasedStateMachine):
    """Both ends send, change, drop and return ducks, while bytes wait on the way.

    `RemoteDuck.observe_moved` asserts that no update is lost and none comes twice, and
    `Duck.stoppedObserving` fails when it is called more often than observing began.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lake = Lake()
        self.ends = self.lake.ends
        self.pools = self.lake.pools
        self.on_the_way = bytearray(), bytearray()  # to the server, to the client
        self.asked: list[tuple[End, int, Any]] = []
        self.ended = False

    # What users do

    def ask(self, side: int, expected: Any, name: str, *args: Any, **kw: Any) -> None:
        """Calls the other end's pool; remembers what has to come of it."""
        end = self.ends[side]
        self.asked.append((end, end.root().callRemote(name, *args, **kw), expected))

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, index=DUCKS, name=st.sampled_from(("give", "twice")))
    def fetch(self, side: int, index: int, name: str) -> None:
        self.ask(side, None if index in GOOD else pb.InsecureJelly, name, index)

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, index=DUCKS, again=st.booleans(), which=st.lists(st.integers(0, 9)))
    def send(self, side: int, index: int, again: bool, which: list[int]) -> None:
        duck, held = self.pools[side].ducks[index], self.pools[side].held
        more = [held[each % len(held)] for each in which if held]
        kw = {"again": duck} if again else {}
        self.ask(side, None if index in GOOD else pb.InsecureJelly, "take", *more, duck, **kw)

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, index=DUCKS)
    def fetch_what_is_refused(self, side: int, index: int) -> None:
        # The good ones come first: a copy whose state was never read is refused from then on.
        self.ask(side, pb.InsecureJelly, "refused_at_last", index)

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, index=DUCKS)
    def fetch_what_cannot_be_sent(self, side: int, index: int) -> None:
        self.ask(side, pb.InsecureJelly, "unsendable", index)

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, index=DUCKS)
    def send_what_cannot_be_sent(self, side: int, index: int) -> None:
        with pytest.raises(pb.InsecureJelly, match="builtins.object"):
            self.ends[side].root().callRemote("take", self.pools[side].ducks[index], object())

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, index=st.sampled_from(GOOD))
    def echo(self, side: int, index: int) -> None:
        duck = self.pools[side].ducks[index]
        self.ask(side, duck, "echo", duck)

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, which=st.integers(0, 9))
    def send_home(self, side: int, which: int) -> None:
        copies = [each for each in self.pools[side].held if isinstance(each, RemoteDuck)]
        if copies:
            copy = copies[which % len(copies)]
            self.ask(side, copy, "echo", copy)

    @rule(side=SIDES, which=st.integers(0, 9))
    def drop(self, side: int, which: int) -> None:
        if held := self.pools[side].held:
            del held[which % len(held)]

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, index=DUCKS)
    def move(self, side: int, index: int) -> None:
        self.pools[side].ducks[index].move()

    # What the network does

    @precondition(lambda self: not self.ended)
    @rule(side=SIDES, size=st.integers(1, 300))
    def deliver(self, side: int, size: int) -> None:
        way, end = self.on_the_way[side], self.ends[side]
        way += self.ends[1 - side].output()
        data = bytes(way[:size])
        del way[:size]
        end.feed(data)
        self.note()

    def note(self) -> None:
        """Keeps what calls have brought, as a user would, and forgets everything else."""
        for end in self.ends:
            assert end.broken() is None
            end.events.clear()
        waiting = []
        for end, request, expected in self.asked:
            if request not in end.results:
                waiting.append((end, request, expected))
                continue
            value = end.results.pop(request)
            if expected is pb.InsecureJelly:
                assert isinstance(value, Failure) and value.check(pb.InsecureJelly)
            elif expected is not None:
                assert value is expected
            else:
                assert not isinstance(value, Failure), value.getErrorMessage()
                self.pools[self.ends.index(end)].held.append(value)
        self.asked = waiting

    @precondition(lambda self: not self.ended)
    @rule()
    def settle(self) -> None:
        while any(end.broker.out for end in self.ends) or any(self.on_the_way):
            for side in (0, 1):
                self.deliver(side, 1_000_000)
        assert not self.asked
        self.lake.pair.settle()  # without a collection: no copy may wait for one
        for owner, holder in ((0, 1), (1, 0)):
            assert sent(self.ends[owner]) == received(self.ends[holder])
            self.check_ducks(owner, holder)

    def check_ducks(self, owner: int, holder: int) -> None:
        at_peer = {entry.obj: entry for entry in self.ends[owner].broker.refs.caches.remote()}
        copies = {e.luid: e.master for e in self.ends[holder].broker.refs.caches.local()}
        for index, duck in enumerate(self.pools[owner].ducks):
            entry = at_peer.get(duck)
            assert len(duck.observers) == (entry is not None)
            assert entry is None or index in GOOD
            if entry is not None:
                copy = copies[entry.luid]
                assert isinstance(copy, RemoteDuck) and copy.where == duck.where

    @precondition(lambda self: not self.ended)
    @rule(chance=st.integers(0, 15))
    def close(self, chance: int) -> None:
        if chance:
            return
        self.ended = True
        for end in self.ends:
            for entry in end.broker.close().observed:
                entry.stop()

    def teardown(self) -> None:
        if not self.ended:
            self.settle()
            self.asked = []
            for pool in self.pools:
                pool.held.clear()
            self.lake.pair.settle()
        for end, pool in zip(self.ends, self.pools, strict=True):
            caches = end.broker.refs.caches
            assert not [*caches.remote(), *caches.local(), *end.broker.refs.lent()]
            assert not end.broker.pending and not caches._by_key and not caches._pinned
            assert all(duck.observers == [] for duck in pool.ducks)


Interleavings.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, phases=[Phase.generate]
)
TestInterleavings = Interleavings.TestCase
