"""The tables of live copies: objects that the peer keeps a copy of, copies of the peer's objects.

A `Cacheable` goes out with its state once, as ``[type, luid, state]``, and as
``["cached", luid]`` from then on; each sending counts. The peer's copy is one master for each
luid. What its users hold is an alias that shares the master's attributes; when the alias is
gone, one ``decache`` goes back for each time the object came. At zero the owner stops observing
and sends ``uncache``, and only that lets the peer drop the master: until then changes and
further ``cached`` may be on their way.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol

from ..errors import Error, InsecureJelly, LimitExceeded, ProtocolError, RemoteProtocolError
from ..flavors import Cacheable, RemoteCache

__all__ = ["Alias", "Cached", "CachedRemotely", "Caches", "Observer"]


class Observed(Protocol):
    """What an observer asks of its connection."""

    def call_cache(
        self, cached: CachedRemotely, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Any:
        """Sends a call to the peer's copy and returns a Deferred of its answer."""


class Observer:
    """Whom a `Cacheable` tells of its changes: the copy of it at one peer.

    Observers of one object, connection and avatar are equal.
    """

    __slots__ = ("_cached", "_peer")

    def __init__(self, peer: Observed, cached: CachedRemotely) -> None:
        self._peer = peer
        self._cached = cached

    @property
    def perspective(self) -> object:
        """The avatar that the copy was sent to, or None."""
        return self._cached.perspective

    @property
    def luid(self) -> int:
        """The object's number on this connection."""
        return self._cached.luid

    def callRemote(self, _name: str, /, *args: Any, **kw: Any) -> Any:
        """Runs the method ``observe_name`` of the copy.

        Returns:
            A Deferred of what it returns.

        Raises:
            ProtocolError: The copy has not been sent yet, or the peer has let go of it.
        """
        if not self._cached.count and not getattr(self._peer, "lost", False):
            kind = type(self._cached.obj).__name__
            raise ProtocolError(
                f"the peer has no copy of this {kind}: "
                "it is observed from when the object is sent until the peer lets go of it"
            )
        return self._peer.call_cache(self._cached, _name, args, kw)

    def remoteMethod(self, name: str) -> Callable[..., Any]:
        """Returns one method of the copy as something to call."""
        return lambda *args, **kw: self.callRemote(name, *args, **kw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Observer):
            return NotImplemented
        return self._peer is other._peer and self._cached is other._cached

    def __hash__(self) -> int:
        return hash((id(self._peer), id(self._cached)))

    def __repr__(self) -> str:
        at = getattr(self._peer, "peer", "a peer")
        return f"<Observer of {type(self._cached.obj).__name__} {self._cached.luid} at {at}>"


class CachedRemotely:
    """An object that the peer keeps a live copy of.

    Attributes:
        luid: Its number on this connection.
        obj: The object.
        count: How often it was sent and not yet given back.
        pins: Pending calls that named it. A Twisted peer lets go of a copy before its answer,
            in which that copy comes home, has arrived.
        perspective: The avatar that it was sent to.
        observer: What its owner calls with changes.
        since: When it was first sent.
    """

    __slots__ = ("count", "key", "luid", "obj", "observer", "perspective", "pins", "since")

    def __init__(
        self, luid: int, obj: Cacheable, key: Hashable, perspective: object, peer: Observed
    ) -> None:
        self.luid = luid
        self.obj = obj
        self.key = key
        self.count = 0
        self.pins = 0
        self.since = 0.0
        self.perspective = perspective
        self.observer = Observer(peer, self)

    def stop(self) -> None:
        """Tells the object that it is no longer observed."""
        self.obj.stoppedObserving(self.perspective, self.observer)


class Cached:
    """A live copy of an object of the peer's.

    Attributes:
        luid: The peer's number for the object.
        master: Takes the changes; kept until the peer says ``uncache``. None for a copy that
            was not let in.
        ready: Whether the master has its state.
        alias: What users hold, while they hold it.
        since: When it came.
    """

    __slots__ = ("alias", "luid", "master", "ready", "since")

    def __init__(self, luid: int, master: RemoteCache | None, since: float) -> None:
        self.luid = luid
        self.master = master
        self.since = since
        self.ready = False
        self.alias: Alias | None = None


class Alias(weakref.ref[RemoteCache]):
    """The copy that users hold, and how often the peer has sent it."""

    __slots__ = ("count", "luid")

    luid: int
    count: int


class Caches:
    """The live copies of one connection, both ways.

    Args:
        peer: The connection.
        gone: Called with the `Alias` of a copy that is no longer held, from any thread.
        next_luid: Gives the number of the next object that goes out.
        clock: Tells the time at which a copy is sent or comes.
    """

    def __init__(
        self,
        peer: Any,
        gone: Callable[[Any], object],
        next_luid: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._peer = peer
        self._gone = gone
        self._next_luid = next_luid
        self._clock = clock
        self._remote: dict[int, CachedRemotely] = {}
        self._by_key: dict[Hashable, CachedRemotely] = {}
        self._pinned: dict[int, CachedRemotely] = {}  # let go of, in a call that is not answered
        self._local: dict[int, Cached] = {}

    # Objects of ours

    def remote(self) -> Iterator[CachedRemotely]:
        """Yields the objects that the peer keeps copies of."""
        return iter(list(self._remote.values()))

    def known(self, obj: Cacheable) -> CachedRemotely | None:
        """Returns the entry of an object that the peer has a copy of, or None."""
        return self._by_key.get(obj.processUniqueID())

    def entry_for(self, obj: Cacheable, perspective: object, limit: int) -> CachedRemotely:
        """Returns a new entry, which is in no table yet.

        Raises:
            Error: The peer keeps as many copies as `Limits.references` allows.
        """
        if len(self._remote) >= limit:
            raise Error(
                "Maximum PB cache count exceeded. "
                f"The peer keeps {len(self._remote)} copies and {limit} are allowed; "
                "raise Limits(references=...) or let some go."
            )
        key = obj.processUniqueID()
        return CachedRemotely(self._next_luid(), obj, key, perspective, self._peer)

    def commit(self, entry: CachedRemotely, pin: bool) -> None:
        """Counts one sending of an object, and puts it in the tables at the first."""
        self._remote[entry.luid] = entry
        self._by_key[entry.key] = entry
        entry.since = entry.since or self._clock()
        entry.count += 1
        entry.pins += pin

    def unpin(self, entry: CachedRemotely) -> None:
        """Takes back the pin of a call that was answered."""
        entry.pins -= 1
        if not entry.pins:
            self._pinned.pop(entry.luid, None)

    def find(self, luid: object) -> Cacheable | None:
        """Returns the object that a copy is sent home as, or None."""
        if type(luid) is not int:
            return None
        entry = self._remote.get(luid) or self._pinned.get(luid)
        return None if entry is None else entry.obj

    def decache(self, luid: object) -> CachedRemotely | None:
        """Takes one sending back, as the peer's ``decache`` asks.

        Returns:
            The entry, when that was the last and the object is no longer observed.

        Raises:
            RemoteProtocolError: The peer has no copy of that luid.
        """
        entry = self._remote.get(luid) if type(luid) is int else None
        if entry is None:
            raise RemoteProtocolError(f"the peer let go of copy {luid!r:.40}, not held")
        entry.count -= 1
        if entry.count:
            return None
        self._forget(entry)
        return entry

    def _forget(self, entry: CachedRemotely) -> None:
        self._remote.pop(entry.luid, None)
        if self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]
        if entry.pins:
            self._pinned[entry.luid] = entry

    # Copies of the peer's

    def local(self) -> Iterator[Cached]:
        """Yields the copies of the peer's objects."""
        return iter(list(self._local.values()))

    def begin(self, luid: int, cls: type[RemoteCache], limit: int) -> RemoteCache:
        """Makes the master of a new copy, and returns the alias that users get.

        Raises:
            InsecureJelly: There is one of that luid already.
            LimitExceeded: The peer has sent more copies than `Limits.references` allow.
        """
        if len(self._local) > limit:
            raise LimitExceeded(f"the peer sent live copies of more than {limit} objects")
        if luid in self._local:
            raise InsecureJelly(f"the peer sent the copy {luid} twice as a new one")
        # Unlike a RemoteCopy, a master is made by calling its class: PB has always done so.
        self._local[luid] = Cached(luid, cls(), self._clock())
        return self.received(luid)

    def refuse(self, luid: int, limit: int) -> bool:
        """Makes an entry for a new copy that is not let in, or whose state could not be set.

        The peer counts it as held until it is given back, and answers that with ``uncache``;
        until then it may send changes and the copy once more, which have to be refused too.

        Returns:
            Whether there is an entry; beyond the limit there is none, and nothing to give back.
        """
        if luid not in self._local and len(self._local) > limit:
            return False
        entry = self._local.setdefault(luid, Cached(luid, None, self._clock()))
        if not entry.ready:
            entry.master = None
        return True

    def has(self, luid: int) -> bool:
        """Returns whether the peer has sent a copy of that luid, let in or not."""
        return luid in self._local

    def received(self, luid: object) -> RemoteCache:
        """Returns the alias of a copy that the peer has sent, and counts the sending.

        Raises:
            InsecureJelly: There is no copy of that luid.
        """
        entry, master = self.copy(luid)
        alias = None if entry.alias is None else entry.alias()
        if alias is None:
            cls = type(master)
            alias = cls.__new__(cls)
            alias.__dict__ = master.__dict__
            alias._pb_home = (self._peer, entry.luid)
            entry.alias = Alias(alias, self._gone)
            entry.alias.luid, entry.alias.count = entry.luid, 0
        assert entry.alias is not None
        entry.alias.count += 1
        return alias

    def copy(self, luid: object) -> tuple[Cached, RemoteCache]:
        """Returns the entry of a copy, and its master.

        Raises:
            InsecureJelly: There is none of that luid, or it was not let in.
        """
        entry = self._local.get(luid) if type(luid) is int else None
        if entry is None:
            raise InsecureJelly(f"the peer means the copy {luid!r:.40}, which it has not sent")
        if entry.master is None:
            raise InsecureJelly(f"the peer means the copy {luid!r:.40}, which was not let in")
        return entry, entry.master

    def uncache(self, luid: object) -> None:
        """Drops a master, as the peer's ``uncache`` asks.

        Raises:
            RemoteProtocolError: There is no copy of that luid.
        """
        entry = self._local.pop(luid, None) if type(luid) is int else None
        if entry is None:
            raise RemoteProtocolError(f"the peer dropped copy {luid!r:.40}, which it has not sent")

    # Both

    def clear(self) -> list[CachedRemotely]:
        """Empties the tables; returns what is no longer observed."""
        entries = list(self._remote.values())
        for entry in entries:
            entry.count = 0
        self._remote.clear()
        self._by_key.clear()
        self._pinned.clear()
        self._local.clear()
        return entries
