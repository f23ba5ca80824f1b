"""What a broker reports of the bytes that it was given.

Events are immutable named tuples rather than frozen dataclasses: one is made for each call and
each answer, at a third of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..failure import Failure
from ..flavors import Referenceable, RemoteCache, Serializable
from ..refs import CachedRemotely, Lent, Observer, RemoteReference

__all__ = [
    "AnswerReceived",
    "CallReceived",
    "CallRefused",
    "ConnectionBroken",
    "Ended",
    "ErrorReceived",
    "Event",
    "NotUnderstood",
    "ObjectReleased",
    "ObservingStopped",
    "Opened",
    "PendingCall",
]


class PendingCall:
    """A call that was sent and whose answer is awaited.

    Attributes:
        request_id: Its number on this connection.
        ref: The reference that was called, or the observer of a live copy.
        name: The method's name.
        waiter: Whatever the caller of `Broker.call` keeps for the answer.
        since: When it was sent, by the clock of whoever called.
    """

    __slots__ = ("name", "pinned", "ref", "request_id", "since", "waiter")

    def __init__(
        self,
        request_id: int,
        ref: RemoteReference | Observer,
        name: str,
        pinned: Sequence[Lent | CachedRemotely] = (),
    ) -> None:
        self.request_id = request_id
        self.ref = ref
        self.name = name
        self.pinned = pinned
        self.waiter: Any = None
        self.since = 0.0

    def __repr__(self) -> str:
        return f"<PendingCall {self.request_id}: {self.name} on {self.ref!r}>"


class Opened(NamedTuple):
    """A dialect was agreed on; calls can be sent.

    Attributes:
        dialect: Its name.
    """

    dialect: str


class CallReceived(NamedTuple):
    """The peer calls a method.

    Attributes:
        request_id: What its answer has to carry.
        target: The object that is called; its ``find_remote`` finds the method.
        name: The method's name.
        args: Positional arguments.
        kw: Keyword arguments.
        wants_answer: Whether the peer waits for one.
        perspective: The avatar in whose name it is made, or None.
    """

    request_id: Any
    target: Referenceable | RemoteCache
    name: str
    args: tuple[Any, ...]
    kw: dict[str, Any]
    wants_answer: bool
    perspective: object


class CallRefused(NamedTuple):
    """A call of the peer's was answered with an error, because it could not be understood.

    Attributes:
        name: The method's name, as far as it could be read.
        error: Why.
    """

    name: str
    error: Exception


class AnswerReceived(NamedTuple):
    """A call of ours has its answer.

    Attributes:
        call: The call.
        value: What its method returned.
    """

    call: PendingCall
    value: Any


class ErrorReceived(NamedTuple):
    """A call of ours has failed, or its answer could not be let in.

    Attributes:
        call: The call.
        failure: Why.
    """

    call: PendingCall
    failure: Failure


class ObjectReleased(NamedTuple):
    """The peer has let go of an object that it was lent.

    Attributes:
        obj: The object.
    """

    obj: object


class ObservingStopped(NamedTuple):
    """The peer has let go of its live copy of an object.

    Attributes:
        entry: Whose ``stop`` tells the object.
    """

    entry: CachedRemotely


class NotUnderstood(NamedTuple):
    """One side sent a command that the other does not know.

    Attributes:
        command: The command.
        by_peer: Whether it was the peer who did not know it.
    """

    command: bytes
    by_peer: bool


class ConnectionBroken(NamedTuple):
    """The peer sent what the protocol does not allow: nothing after it can be read.

    Attributes:
        error: What it was.
    """

    error: Exception


class Ended(NamedTuple):
    """What ended with a connection.

    Attributes:
        calls: The calls that will never be answered.
        observed: The objects that are no longer observed.
        released: The objects that are no longer lent.
    """

    calls: tuple[PendingCall, ...]
    observed: tuple[CachedRemotely, ...]
    released: tuple[Serializable, ...]


Event = (
    Opened
    | CallReceived
    | CallRefused
    | AnswerReceived
    | ErrorReceived
    | ObjectReleased
    | ObservingStopped
    | NotUnderstood
    | ConnectionBroken
)
