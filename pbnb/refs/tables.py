"""The tables of one connection: objects lent to the peer, references borrowed from it.

`pbnb.refs.caches` has the tables of live copies, which share the luids.

An object that is sent gets a luid, 1, 2, 3… for each connection and direction, never used
twice. Each sending adds one to its count; each ``decref`` of the peer takes one away; at zero
the entry goes, and with it the strong reference that kept the object alive.

Sending is a transaction: a `Loan` collects what one message lends, and only `Loan.commit`
changes a table, when the whole message is encoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import Error, InsecureJelly, LimitExceeded, RemoteProtocolError

if TYPE_CHECKING:
    from ..flavors import Cacheable, RemoteCache, Serializable
from .caches import Alias, CachedRemotely, Caches
from .reference import BorrowedReference, Peer, RemoteReference

__all__ = ["Borrowed", "Lent", "Loan", "Refs"]

ROOT = b"root"
# Seconds within which what is lent or borrowed counts as come at one time.
TOGETHER = 0.01


class Lent:
    """One object that the peer may hold references to.

    Attributes:
        luid: Its number on this connection.
        obj: The object; held strongly until the peer has let go.
        count: How often it was sent and not yet released.
        pins: Pending calls that named it. A pinned entry stays when its count is zero: the peer
            may release the reference before its answer, which names the object, has arrived.
        since: When it was lent, by `Refs.clock`.
    """

    __slots__ = ("count", "key", "luid", "obj", "pins", "since")

    def __init__(self, luid: int, obj: Serializable, key: Hashable, since: float) -> None:
        self.luid = luid
        self.obj = obj
        self.key = key
        self.count = 0
        self.pins = 0
        self.since = since

    def __repr__(self) -> str:
        return f"<Lent {self.luid}: {type(self.obj).__name__}, count {self.count}>"


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What is known of an object of the peer's to which there are references here.

    Attributes:
        count: How often the peer sent it and was not yet told that a reference is gone.
        since: When it came first, by `Refs.clock`.
    """

    count: int
    since: float


class Refs:
    """Both tables of one connection.

    Args:
        peer: What the references that are borrowed will call through.
        limit: How many objects may be lent, and how many borrowed, at one time.
        note: Called when something borrowed is gone, from whichever thread collected it. It
            may do no more than arrange for `released` to be read.

    Attributes:
        limit: How many objects may be lent, and how many borrowed.
        named: What is offered under names, such as the root.
        clock: Tells the time at which something is lent, borrowed or copied.
    """

    __slots__ = (
        "__weakref__",
        "_borrowed",
        "_by_key",
        "_caches",
        "_due",
        "_ended",
        "_first",
        "_given_back",
        "_gone",
        "_last_luid",
        "_lent",
        "_note",
        "_peer",
        "clock",
        "limit",
        "named",
    )

    def __init__(self, peer: Peer, limit: int, note: Callable[[], object]) -> None:
        self.limit = limit
        self.clock: Callable[[], float] = float
        self.named: dict[bytes, Serializable] = {}
        self._peer = peer
        self._note = note
        self._last_luid = 0
        self._lent: dict[int, Lent] = {}
        self._by_key: dict[Hashable, Lent] = {}
        self._borrowed: dict[int, Borrowed] = {}
        # Of what was given back although it is held: how many references there still are.
        self._given_back: dict[int, int] = {}
        # A deque would take 760 bytes when it is empty, on each of many connections.
        self._gone: list[int | Alias] = []
        self._due: list[tuple[bytes, int, int]] = []
        self._caches: Caches | None = None
        self._ended = False
        # What comes at one time shares this.
        self._first = Borrowed(1, -math.inf)

    @property
    def caches(self) -> Caches:
        """The tables of live copies, made when they are first asked for: few connections do."""
        if self._caches is None:
            self._caches = Caches(self._peer, self.gone, self._next_luid, self._now)
        return self._caches

    def _now(self) -> float:
        now = self.clock()
        if now - self._first.since > TOGETHER:
            self._first = Borrowed(1, now)
        return self._first.since

    def _next_luid(self) -> int:
        # One count for references and live copies, as Twisted has.
        self._last_luid += 1
        return self._last_luid

    # Lent

    @property
    def lent_count(self) -> int:
        """How many objects are lent."""
        return len(self._lent)

    @property
    def borrowed_count(self) -> int:
        """How many objects are borrowed, or were until a moment ago."""
        return len(self._borrowed)

    @property
    def has_room(self) -> bool:
        """Whether the peer may lend one more object, without any being looked for that is gone."""
        return len(self._borrowed) < self.limit

    def lent(self) -> Iterator[Lent]:
        """Yields the entries of all objects lent."""
        return iter(list(self._lent.values()))

    def find(self, luid: object) -> Serializable | None:
        """Returns the object that the peer means by a luid or a name, or None.

        Args:
            luid: What the peer sent: an integer, or a name such as ``b"root"``.
        """
        if type(luid) is int:
            entry = self._lent.get(luid)
            return None if entry is None else entry.obj
        if type(luid) is bytes:
            return self.named.get(luid)
        return None

    def release(self, luid: object) -> Serializable | None:
        """Takes one from the count of a lent object, as the peer's ``decref`` asks.

        Returns:
            The object, when that was the last one and it is no longer lent.

        Raises:
            RemoteProtocolError: Nothing of that luid is lent.
        """
        entry = self._lent.get(luid) if type(luid) is int else None
        if entry is None or entry.count == 0:
            raise RemoteProtocolError(f"the peer released luid {luid!r:.40}, not held")
        entry.count -= 1
        return self._let_go(entry)

    def unpin(self, pinned: Sequence[Lent | CachedRemotely]) -> list[Serializable]:
        """Takes back the pins of a call that was answered; returns the objects let go."""
        gone = []
        for entry in pinned:
            if isinstance(entry, CachedRemotely):
                self.caches.unpin(entry)
                continue
            entry.pins -= 1
            obj = self._let_go(entry)
            if obj is not None:
                gone.append(obj)
        return gone

    def _let_go(self, entry: Lent) -> Serializable | None:
        if entry.count or entry.pins or self._lent.pop(entry.luid, None) is None:
            return None
        if self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]
        return entry.obj

    # Borrowed

    def borrowed(self) -> Iterator[tuple[int, Borrowed]]:
        """Yields the luid of each object that is borrowed, and what is known of it."""
        return iter(list(self._borrowed.items()))

    def borrow(self, luid: int, perspective: object = None) -> BorrowedReference:
        """Returns a reference for a luid that the peer has sent, and counts the sending.

        Args:
            luid: The peer's number for its object.
            perspective: The avatar in whose call it was received, or None.

        Raises:
            LimitExceeded: The peer has lent more than `Limits.references` allow.
        """
        known = self._borrowed.get(luid)
        if known is not None:
            self._borrowed[luid] = Borrowed(known.count + 1, known.since)
        else:
            # A Twisted peer, too, lends one more than its limit where it has no root.
            if len(self._borrowed) > self.limit:
                self._settle()
                if len(self._borrowed) > self.limit:
                    raise LimitExceeded(
                        f"the peer lent more than {self.limit} objects; Limits(references=...) on "
                        "both sides allows more"
                    )
            self._now()
            self._borrowed[luid] = self._first
        return BorrowedReference(self._peer, luid, perspective)

    def give_back(self, luid: int) -> bool:
        """Gives an object back although references are held here: calls through them will fail.

        Args:
            luid: Its number.

        Returns:
            Whether it was borrowed; `released` says what is due for it.
        """
        self._settle()
        known = self._borrowed.pop(luid, None)
        if known is None:
            return False
        self._given_back[luid] = self._given_back.get(luid, 0) + known.count
        self._due.append((b"decref", luid, known.count))
        self._note()
        return True

    def gone(self, what: Any) -> None:
        """Notes that a reference or a copy is gone; from a finalizer, in any thread.

        Args:
            what: The luid of the reference, or the `Alias` of the copy.
        """
        # At any moment, too, and so appending to a list is all that is done.
        if not self._ended:
            self._gone.append(what)
            self._note()

    def released(self) -> list[tuple[bytes, int, int]]:
        """Returns what is gone since the last time: the command, the luid, how often to send it."""
        if self._gone:
            self._settle()
        due = self._due
        if due:
            self._due = []
        return due

    def _settle(self) -> None:
        """Takes what is noted as gone from the tables."""
        # Finalizers of other threads may go on appending meanwhile, and leave their notes again.
        noted = self._gone[:]
        del self._gone[: len(noted)]
        for each in noted:
            if isinstance(each, Alias):
                self._due.append((b"decache", each.luid, each.count))
                continue
            if self._given_back and (left := self._given_back.get(each, 0)):
                # Nobody can tell which of them it is, if the object came once more. So the last
                # ones count: an object is never given back too early.
                if left > 1:
                    self._given_back[each] = left - 1
                else:
                    del self._given_back[each]
                continue
            known = self._borrowed.get(each)
            if known is None:
                continue  # noted in another thread while the connection ended
            if known.count > 1:
                self._borrowed[each] = Borrowed(known.count - 1, known.since)
            else:
                del self._borrowed[each]
            self._due.append((b"decref", each, 1))

    # Both

    def clear(self) -> list[Serializable]:
        """Empties the tables of a connection that has ended; returns the objects let go.

        `caches` are cleared by themselves.
        """
        objects = [entry.obj for entry in self._lent.values()]
        self._lent.clear()
        self._by_key.clear()
        self._borrowed.clear()
        self._given_back.clear()
        self._ended = True
        self._gone.clear()
        self._due.clear()
        self.named.clear()
        return objects

    def loan(self) -> Loan:
        """Begins the transaction of one outgoing message."""
        return Loan(self)


class Loan:
    """What one outgoing message lends: nothing until `commit`.

    Dropping a loan without committing it is the rollback: the tables never knew of it.

    Attributes:
        began: The live copies that the peer gets with this message.
        names: Whether the message names an object of either side.
    """

    __slots__ = ("_cached", "_met", "_new", "_refs", "_sent", "began", "names")

    def __init__(self, refs: Refs) -> None:
        self._refs = refs
        self.names = False
        self._cached: list[CachedRemotely] = []
        self.began: list[CachedRemotely] = []
        self._sent: list[Lent] = []
        self._new = 0
        self._met: dict[Hashable, Lent] = {}

    def lend(self, obj: Serializable) -> int:
        """Returns the luid under which an object goes out with this message.

        Args:
            obj: An object that the peer will hold a reference to.

        Raises:
            Error: The peer holds as many references as `Limits.references` allows.
        """
        refs, key = self._refs, obj.processUniqueID()
        # One luid for the whole message, whatever is lent and released while it is encoded.
        entry = self._met.get(key) or refs._by_key.get(key)
        if entry is None:
            if len(refs._lent) + self._new >= refs.limit:
                # Twisted's words, which its programs know, and ours after them.
                raise Error(
                    "Maximum PB reference count exceeded. "
                    f"The peer holds {len(refs._lent)} objects and {refs.limit} are allowed; "
                    "raise Limits(references=...) or let some go."
                )
            entry = Lent(refs._next_luid(), obj, key, refs._now())
            self._new += 1
        self._met[key] = entry
        self._sent.append(entry)
        self.names = True
        return entry.luid

    def knows(self, obj: Cacheable) -> bool:
        """Returns whether the peer has a live copy of an object, or gets it in this message."""
        return self._entry(obj) is not None

    def cache(self, obj: Cacheable, perspective: object) -> CachedRemotely:
        """Returns the entry of an object that goes out as a live copy.

        Args:
            obj: The object.
            perspective: The avatar that it is sent to.

        Raises:
            Error: The peer keeps as many copies as `Limits.references` allows.
        """
        entry = self._entry(obj)
        if entry is None:
            limit = self._refs.limit - len(self.began)
            entry = self._refs.caches.entry_for(obj, perspective, limit)
            self.began.append(entry)
        self._cached.append(entry)
        self.names = True
        return entry

    def _entry(self, obj: Cacheable) -> CachedRemotely | None:
        entry = self._refs.caches.known(obj)
        if entry is None and self.began:
            key = obj.processUniqueID()
            return next((begun for begun in self.began if begun.key == key), None)
        return entry

    def copy_home(self, copy: RemoteCache) -> int:
        """Returns the luid by which a live copy goes home to the peer that owns the object.

        Raises:
            InsecureJelly: The copy came by another connection, or by none.
        """
        peer, luid = getattr(copy, "_pb_home", (None, 0))
        if peer is not self._refs._peer:
            raise InsecureJelly(
                f"this {type(copy).__name__} is the copy of another connection's object "
                "and cannot be sent over this one"
            )
        self.names = True
        return luid

    def abandon(self, error: Exception) -> None:
        """Gives up a message that cannot be sent: whoever began to observe stops again.

        Args:
            error: Why it cannot be sent. What the owners of the objects raise now is noted on it.
        """
        for entry in self.began:
            try:
                entry.stop()
            except Exception as failed:
                kind = type(entry.obj).__name__
                error.add_note(f"and then {kind}.stoppedObserving failed: {failed!r}")

    def home(self, ref: RemoteReference) -> int | bytes:
        """Returns the luid by which a reference goes home to the peer that owns the object.

        Raises:
            InsecureJelly: The reference came by another connection.
        """
        if ref.broker is not self._refs._peer:
            # One that is kept is known by another luid over each connection.
            present = getattr(ref.broker, "current", None)
            if isinstance(present, RemoteReference) and present.broker is self._refs._peer:
                return present.luid
            raise InsecureJelly(
                f"{ref!r} belongs to another connection and cannot be sent over this one: "
                "wrap it in a Referenceable of your own that passes calls on"
            )
        self.names = True
        return ref.luid

    def commit(self, pin: bool = False) -> list[Lent | CachedRemotely]:
        """Makes the message's loans real.

        Args:
            pin: Keep the objects lent until `Refs.unpin`, whatever the peer releases.

        Returns:
            The entries that were pinned.
        """
        refs = self._refs
        if not self._sent and not self._cached:
            return []
        for cached in self._cached:
            refs.caches.commit(cached, pin)
        for entry in self._sent:
            # It may be known and not there: while the message was encoded, user code ran
            # (getStateToCopy), and the peer may have released what was promised a luid.
            if not (entry.count or entry.pins):
                refs._lent[entry.luid] = entry
                refs._by_key.setdefault(entry.key, entry)
            entry.count += 1
            entry.pins += pin
        return [*self._sent, *self._cached] if pin else []
