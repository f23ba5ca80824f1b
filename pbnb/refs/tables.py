"""The tables of one connection: objects lent to the peer, references borrowed from it.

An object that is sent gets a luid, 1, 2, 3… for each connection and direction, never used
twice. Each sending adds one to its count; each ``decref`` of the peer takes one away; at zero
the entry goes, and with it the strong reference that kept the object alive.

Sending is a transaction: a `Loan` collects what one message lends, and only `Loan.commit`
changes a table, when the whole message is encoded.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

from ..errors import Error, InsecureJelly, RemoteProtocolError

if TYPE_CHECKING:
    from ..flavors import Serializable
from .reference import Peer, RemoteReference

__all__ = ["Borrowed", "Lent", "Loan", "Refs"]

ROOT = b"root"


class Lent:
    """One object that the peer may hold references to.

    Attributes:
        luid: Its number on this connection.
        obj: The object; held strongly until the peer has let go.
        count: How often it was sent and not yet released.
        pins: Pending calls that named it. A pinned entry stays when its count is zero: the peer
            may release the reference before its answer, which names the object, has arrived.
    """

    __slots__ = ("count", "key", "luid", "obj", "pins")

    def __init__(self, luid: int, obj: Serializable, key: Hashable) -> None:
        self.luid = luid
        self.obj = obj
        self.key = key
        self.count = 0
        self.pins = 0

    def __repr__(self) -> str:
        return f"<Lent {self.luid}: {type(self.obj).__name__}, count {self.count}>"


class Borrowed(weakref.ref[RemoteReference]):
    """One reference of the peer's that is alive here.

    Attributes:
        luid: The peer's number for the object.
        count: How often the peer sent it: so many decrefs are due when it is gone.
    """

    __slots__ = ("count", "key", "luid")

    luid: int
    count: int
    key: Hashable


class Refs:
    """Both tables of one connection.

    Args:
        peer: What the references that are borrowed will call through.
        limit: How many objects may be lent at one time.
        note: Called when a borrowed reference is gone, from whichever thread collected it. It
            may do no more than arrange for `released` to be read.
    """

    def __init__(self, peer: Peer, limit: int, note: Callable[[], object]) -> None:
        self.limit = limit
        self.named: dict[bytes, Serializable] = {}
        self._peer = peer
        self._note = note
        self._last_luid = 0
        self._lent: dict[int, Lent] = {}
        self._by_key: dict[Hashable, Lent] = {}
        self._borrowed: dict[Hashable, Borrowed] = {}
        self._gone: deque[Borrowed] = deque()
        self._on_gone = self._leave_note  # one bound method for all the weak references

    # Lent

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

    def unpin(self, pinned: list[Lent]) -> list[Serializable]:
        """Takes back the pins of a call that was answered; returns the objects let go."""
        gone = []
        for entry in pinned:
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

    def borrowed(self) -> Iterator[tuple[RemoteReference, int]]:
        """Yields each live reference of the peer's with its count."""
        for entry in list(self._borrowed.values()):
            ref = entry()
            if ref is not None:
                yield ref, entry.count

    def borrow(self, luid: int, perspective: object = None) -> RemoteReference:
        """Returns the reference for a luid that the peer has sent, and counts the sending.

        Args:
            luid: The peer's number for its object.
            perspective: The avatar in whose call it was received, or None.
        """
        key: Hashable = luid if perspective is None else (luid, id(perspective))
        entry = self._borrowed.get(key)
        ref = None if entry is None else entry()
        if entry is not None and ref is not None:
            entry.count += 1
            return ref
        # An entry whose reference is gone stays in the queue of notes with its own count: the
        # new one replaces it here, and each pays for the sendings it has counted itself.
        ref = RemoteReference(self._peer, luid, perspective)
        entry = Borrowed(ref, self._on_gone)
        entry.luid, entry.count, entry.key = luid, 1, key
        self._borrowed[key] = entry
        return ref

    def released(self) -> list[tuple[int, int]]:
        """Returns what is gone since the last time, as pairs of luid and decrefs due."""
        gone: list[tuple[int, int]] = []
        while self._gone:
            entry = self._gone.popleft()
            if self._borrowed.get(entry.key) is entry:
                del self._borrowed[entry.key]
            gone.append((entry.luid, entry.count))
        return gone

    def _leave_note(self, entry: weakref.ref[RemoteReference]) -> None:
        # A finalizer, in any thread and at any moment: appending to a deque is all it may do.
        assert isinstance(entry, Borrowed)
        self._gone.append(entry)
        self._note()

    # Both

    def clear(self) -> list[Serializable]:
        """Empties the tables of a connection that has ended; returns the objects let go."""
        objects = [entry.obj for entry in self._lent.values()]
        self._lent.clear()
        self._by_key.clear()
        self._borrowed.clear()
        self._gone.clear()
        self.named.clear()
        return objects

    def loan(self) -> Loan:
        """Begins the transaction of one outgoing message."""
        return Loan(self)


class Loan:
    """What one outgoing message lends: nothing until `commit`.

    Dropping a loan without committing it is the rollback: the tables never knew of it.
    """

    __slots__ = ("_new", "_refs", "_sent")

    def __init__(self, refs: Refs) -> None:
        self._refs = refs
        self._sent: list[Lent] = []
        self._new: dict[Hashable, Lent] = {}

    def lend(self, obj: Serializable) -> int:
        """Returns the luid under which an object goes out with this message.

        Args:
            obj: An object that the peer will hold a reference to.

        Raises:
            Error: The peer holds as many references as `Limits.references` allows.
        """
        refs, key = self._refs, obj.processUniqueID()
        entry = refs._by_key.get(key) or self._new.get(key)
        if entry is None:
            if len(refs._lent) + len(self._new) >= refs.limit:
                # Twisted's words, which its programs know, and ours after them.
                raise Error(
                    "Maximum PB reference count exceeded. "
                    f"The peer holds {len(refs._lent)} objects and {refs.limit} are allowed; "
                    "raise Limits(references=...) or let some go."
                )
            refs._last_luid += 1
            entry = self._new[key] = Lent(refs._last_luid, obj, key)
        self._sent.append(entry)
        return entry.luid

    def home(self, ref: RemoteReference) -> int | bytes:
        """Returns the luid by which a reference goes home to the peer that owns the object.

        Raises:
            InsecureJelly: The reference came by another connection.
        """
        if ref.broker is not self._refs._peer:
            raise InsecureJelly(
                f"{ref!r} belongs to another connection and cannot be sent over this one: "
                "wrap it in a Referenceable of your own that passes calls on"
            )
        return ref.luid

    def commit(self, pin: bool = False) -> list[Lent]:
        """Makes the message's loans real.

        Args:
            pin: Keep the objects lent until `Refs.unpin`, whatever the peer releases.

        Returns:
            The entries that were pinned.
        """
        if not self._sent:
            return []
        refs = self._refs
        for entry in self._new.values():
            refs._lent[entry.luid] = entry
            refs._by_key[entry.key] = entry
        for entry in self._sent:
            # While the message was encoded, user code ran (getStateToCopy) and the peer may have
            # released an entry: it was promised a luid, so the entry is put back.
            refs._lent.setdefault(entry.luid, entry)
            refs._by_key.setdefault(entry.key, entry)
            entry.count += 1
            entry.pins += pin
        return self._sent if pin else []
