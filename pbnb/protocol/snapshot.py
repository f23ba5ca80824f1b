"""What a connection looks like at one moment: frozen rows, for whoever shows them.

Every word that a peer has chosen is escaped and cut short in them, and no code of the objects
that are described is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..failure import shown
from ..jelly.extras import ABOUT_NAME
from ..refs import Observer, Refs, RemoteReference

__all__ = [
    "BorrowedRow",
    "CacheRow",
    "CallRow",
    "LentRow",
    "LogRow",
    "PeerRow",
    "Snapshot",
    "TransferRow",
    "borrowed_rows",
    "cache_rows",
    "kind_of",
    "lent_rows",
    "luid_of",
    "target_of",
]

# Longest name of a class, a method or an object in a row.
_NAME = 80


@dataclass(frozen=True, slots=True)
class PeerRow:
    """The peer of a connection, and what went to and fro.

    Attributes:
        address: The peer's address.
        user: The avatars that it has logged in to, or ``""``.
        accepted: Whether it was the peer who connected.
        dialect: The dialect that is spoken, or ``""`` before one is agreed on.
        since: When the connection was made, by its clock.
        bytes_received: How many bytes have come.
        bytes_sent: How many bytes have gone.
        calls_received: How many calls have come.
        calls_sent: How many calls have gone.
        lost: Whether the connection has ended.
        busy: For how many seconds it is silent and does not say that it is alive; else 0.
    """

    address: str
    user: str
    accepted: bool
    dialect: str
    since: float
    bytes_received: int
    bytes_sent: int
    calls_received: int
    calls_sent: int
    lost: bool
    busy: float = 0.0


@dataclass(frozen=True, slots=True)
class LentRow:
    """An object that the peer may hold.

    Attributes:
        luid: Its number, or the name under which it is offered.
        kind: The name of its class.
        count: How often it was sent and not yet given back; 0 for what is offered by a name.
        pins: How many pending calls keep it.
        since: When it was lent.
    """

    luid: int | str
    kind: str
    count: int
    pins: int
    since: float


@dataclass(frozen=True, slots=True)
class BorrowedRow:
    """A reference to an object of the peer's.

    Attributes:
        luid: The peer's number for it.
        count: How often it came.
        since: When it came first.
    """

    luid: int | str
    count: int
    since: float


@dataclass(frozen=True, slots=True)
class CacheRow:
    """A live copy, or an object of which the peer has one.

    Attributes:
        luid: Its number.
        kind: The name of its class.
        owned: Whether the object is here, and the copy at the peer.
        count: How often it was sent and not yet given back.
        since: When it was first sent.
    """

    luid: int
    kind: str
    owned: bool
    count: int
    since: float


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call that has not been answered.

    Attributes:
        number: What tells it from others of its connection and direction.
        incoming: Whether the peer made it.
        method: The method's name.
        target: What is called.
        since: When it was made.
        deadline: When it will be given up, or None.
    """

    number: int
    incoming: bool
    method: str
    target: str
    since: float
    deadline: float | None


@dataclass(frozen=True, slots=True)
class LogRow:
    """A call that has ended, or something else that went wrong.

    Attributes:
        number: 1, 2, 3… for each connection.
        time: When it ended.
        incoming: Whether the peer made the call, or did what was wrong.
        method: The method's name, or ``""`` where it was no call.
        target: What was called.
        seconds: How long it took, or None where that is not known.
        error: Why it failed, or None.
    """

    number: int
    time: float
    incoming: bool
    method: str
    target: str
    seconds: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A large message that is on its way.

    Attributes:
        request_id: The number of the call that it belongs to, in the numbers of who made it.
        method: The method, where the call is of this side; else ``""``.
        outgoing: Whether it is sent, and not received.
        done: How many bytes have gone or come.
        size: How many there are.
    """

    request_id: int | None
    method: str
    outgoing: bool
    done: int
    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection at one moment.

    Attributes:
        now: The moment, by the clock of all the rows.
        peer: Who is connected, and what went to and fro.
        lent: What the peer may hold of ours.
        borrowed: What is held here of the peer's.
        caches: The live copies, both ways.
        pending: The calls that are not answered, both ways.
        log: The last errors, and the last calls that ended while somebody watched.
        transfers: The large messages that are on their way, both ways.
    """

    now: float
    peer: PeerRow
    lent: tuple[LentRow, ...]
    borrowed: tuple[BorrowedRow, ...]
    caches: tuple[CacheRow, ...]
    pending: tuple[CallRow, ...]
    log: tuple[LogRow, ...]
    transfers: tuple[TransferRow, ...] = ()


def luid_of(luid: int | bytes) -> int | str:
    """Returns a luid or a name in a form that is safe to show.

    Args:
        luid: A number, or a name as bytes.
    """
    if isinstance(luid, bytes):
        return shown(luid[: _NAME + 1].decode("utf-8", "replace"), _NAME)
    return luid


def kind_of(obj: object) -> str:
    """Returns the name of an object's class, safe to show; runs nothing of the object's.

    Args:
        obj: Any object.
    """
    return shown(type(obj).__name__, _NAME)


def target_of(target: object) -> str:
    """Returns a short text for what is called; runs nothing of the object's.

    Args:
        target: A reference to an object of the peer's, an observer of one of ours, or an object.
    """
    if isinstance(target, RemoteReference):
        return str(luid_of(target.luid))
    if isinstance(target, Observer):
        return f"copy {target.luid}"
    return kind_of(target)


def lent_rows(refs: Refs) -> Iterator[LentRow]:
    """Yields what the peer may hold.

    Args:
        refs: The tables of a connection.
    """
    for name, offered in list(refs.named.items()):
        if name == ABOUT_NAME:
            continue  # what every pbnb answers, and nothing that was served
        yield LentRow(luid_of(name), kind_of(offered), 0, 0, 0.0)
    for entry in refs.lent():
        yield LentRow(entry.luid, kind_of(entry.obj), entry.count, entry.pins, entry.since)


def borrowed_rows(refs: Refs) -> Iterator[BorrowedRow]:
    """Yields what is held of the peer's.

    Args:
        refs: The tables of a connection.
    """
    for luid, known in refs.borrowed():
        yield BorrowedRow(luid_of(luid), known.count, known.since)


def cache_rows(refs: Refs) -> Iterator[CacheRow]:
    """Yields the live copies, those at the peer first.

    Args:
        refs: The tables of a connection.
    """
    for sent in refs.caches.remote():
        yield CacheRow(sent.luid, kind_of(sent.obj), True, sent.count, sent.since)
    for copy in refs.caches.local():
        alias = copy.alias
        held = 0 if alias is None or alias() is None else alias.count
        kind = "" if copy.master is None else kind_of(copy.master)
        yield CacheRow(copy.luid, kind, False, held, copy.since)
