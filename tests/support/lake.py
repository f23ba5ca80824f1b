"""Ducks: objects with live copies, and two joined ends that keep them in pools."""

from __future__ import annotations

from typing import Any

import pbnb as pb
from pbnb.jelly import SecurityOptions
from tests.support.pair import BrokerPair, End


class Duck(pb.Cacheable):
    """Counts its moves, and who watches it."""

    def __init__(self) -> None:
        self.where = 0
        self.observers: list[Any] = []
        self.perspectives: list[Any] = []
        self.begun = 0
        self.calls: list[tuple[Any, int]] = []

    def move(self) -> None:
        self.where += 1
        for observer in self.observers:
            self.calls.append((observer, observer.callRemote("moved", self.where)))

    def getStateToCacheAndObserveFor(self, perspective: Any, observer: Any) -> Any:
        self.observers.append(observer)
        self.perspectives.append(perspective)
        self.begun += 1
        return {"where": self.where}

    def stoppedObserving(self, perspective: Any, observer: Any) -> None:
        self.observers.remove(observer)  # a second time, or another's, is a ValueError


class RemoteDuck(pb.RemoteCache):
    def __init__(self) -> None:
        self.made = True

    def observe_moved(self, where: int) -> int:
        assert where == self.where + 1, "an update was lost"
        self.where = where
        return where

    where: int


class Sour(Duck):
    """Is never let in: the class that is to take its state refuses it."""


class RemoteSour(pb.RemoteCache):
    def setCopyableState(self, state: Any) -> None:
        raise ValueError("sour")


class Stray(Duck):
    """Is never let in: nobody has registered it."""


class Unregistered(pb.Copyable):
    pass


class Pool(pb.Root):
    """Has ducks of its own, and keeps what it is given."""

    def __init__(self) -> None:
        self.ducks: list[Duck] = [Duck(), Duck(), Sour(), Stray()]
        self.held: list[Any] = []

    def remote_take(self, *values: Any, **kw: Any) -> None:
        self.held += [*values, *kw.values()]

    def remote_give(self, index: int) -> Any:
        return self.ducks[index]

    def remote_twice(self, index: int) -> Any:
        return [self.ducks[index], {"again": self.ducks[index]}]

    def remote_unsendable(self, index: int) -> Any:
        return [self.ducks[index], object()]

    def remote_refused(self, index: int) -> Any:
        return [self.ducks[index], Unregistered(), self.ducks[index], self.ducks[0]]

    def remote_refused_at_last(self, index: int) -> Any:
        return [self.ducks[0], self.ducks[index], self.ducks[index], Unregistered()]

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_held(self) -> Any:
        return self.held


def options() -> SecurityOptions:
    made = SecurityOptions()
    made.allowBasicTypes()
    made.allowTypes("remote", "local", "cached", "lcache")
    made.setUnjellyableForClass(Duck, RemoteDuck)
    made.setUnjellyableForClass(Sour, RemoteSour)
    return made


class Lake:
    """A pair whose ends both offer a pool."""

    def __init__(self, **kw: Any) -> None:
        self.pools = Pool(), Pool()
        self.pair = BrokerPair(self.pools[0], security=options(), **kw)
        self.pair.client.broker.refs.named[b"root"] = self.pools[1]
        self.ends = self.pair.server, self.pair.client

    def settle(self) -> None:
        self.pair.settle()
        self.pair.collect()

    def call(self, side: int, name: str, *args: Any, **kw: Any) -> Any:
        """Calls the pool of the other end."""
        return self.pair.call_on(self.ends[side].root(), name, *args, **kw)


def sent(end: End) -> dict[int, int]:
    """Returns how often the peer holds each copy, by its luid."""
    return {entry.luid: entry.count for entry in end.broker.refs.caches.remote()}


def received(end: End) -> dict[int, int]:
    """Returns how often each copy was received, of the copies that are held."""
    counts = {}
    for entry in end.broker.refs.caches.local():
        alive = entry.alias is not None and entry.alias() is not None
        counts[entry.luid] = entry.alias.count if entry.alias is not None and alive else 0
    return counts
