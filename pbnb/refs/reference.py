"""References to objects that live at the peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from ..cards import card
from ..errors import LocalProtocolError

__all__ = ["BorrowedReference", "Peer", "RemoteMethod", "RemoteReference"]


class Peer(Protocol):
    """What a reference asks of the connection that it came by."""

    def call(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Any:
        """Sends a call and returns a Deferred of its answer."""

    def call_only(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        """Sends a call that is not answered."""

    def stream(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Any:
        """Returns what a method yields, for ``async for``."""

    def watch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Runs ``callback(ref)`` when the connection ends."""

    def unwatch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Takes a `watch` back."""

    def gone(self, luid: int) -> None:
        """Notes that a reference is gone which the peer has counted; called in any thread."""


class RemoteReference:
    """An object owned by the peer, known by its luid.

    Equal references name the same object over the same connection. When the last one here is
    gone the peer is told, and may let its object go.

    Attributes:
        broker: The connection by which the reference came.
        luid: The peer's number for the object, or the name of a root as bytes.
        perspective: The avatar in whose name calls through this reference are made, or None.
        deadline: Seconds that each call through this reference has, where `with_deadline` made it.
    """

    deadline: ClassVar[float | None] = None

    __slots__ = ("__weakref__", "broker", "luid", "perspective")

    def __init__(self, broker: Peer, luid: int | bytes, perspective: object = None) -> None:
        # Typed loosely: to its users it is a Connection, which this floor does not know.
        self.broker: Any = broker
        self.luid = luid
        self.perspective = perspective

    def callRemote(self, _name: str | bytes, /, *args: Any, **kw: Any) -> Any:
        """Calls a method of the object.

        Args:
            _name: The method's name, without the ``remote_`` it has at the peer.
            *args: What the method is given. Values are copied, objects of a flavor travel as
                that flavor says.
            **kw: Keyword arguments of the method.

        Returns:
            A Deferred of what the method returns. Awaiting it raises what the method raised.

        Raises:
            DeadReferenceError: The connection has ended.
        """
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        name = _name if type(_name) is str else _text(_name)
        return self.broker.call(self, name, args, kw)

    def remote_only(self, _name: str | bytes, /, *args: Any, **kw: Any) -> None:
        """Calls a method of the object without waiting for it or asking for its answer.

        Args:
            _name: The method's name.
            *args: What the method is given.
            **kw: Keyword arguments of the method.

        Raises:
            DeadReferenceError: The connection has ended.
            InsecureJelly: An argument may not be sent.
            BananaError: An argument does not fit the wire.
        """
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        self.broker.call_only(self, _text(_name), args, kw)

    def stream(self, _name: str | bytes, /, *args: Any, **kw: Any) -> Any:
        """Returns the items of a remote generator, for ``async for``.

        ::

            async for row in ref.stream("rows", "table"):
                ...

        The method is a generator, plain or async; or it returns a list, whose items come one by
        one. It runs no more than 64 items ahead of the loop (``ref.stream(...).ahead(8)`` for
        another number), and is stopped when the loop is left.

        Args:
            _name: The method's name, without the ``remote_`` it has at the peer.
            *args: What the method is given.
            **kw: Keyword arguments of the method.

        Returns:
            A `Stream`. The loop raises what the method raises, after the items before that.
        """
        return self.broker.stream(self, _text(_name), args, kw)

    def remoteMethod(self, name: str) -> RemoteMethod:
        """Returns one method of the object as something to call.

        Args:
            name: The method's name.
        """
        return RemoteMethod(self, name)

    def with_deadline(self, seconds: float) -> RemoteReference:
        """Returns a reference to the same object, with a deadline for each call.

        It equals this one, and travels as this one does. A call that has no answer in time
        fails with `DeadlineExceeded`.

        Args:
            seconds: How long a call may take.
        """
        return _Deadlined(self, seconds)

    def repeatable(self, times: int = 0) -> RemoteReference:
        """Returns, of a reference that is kept, one whose calls may be repeated.

        Args:
            times: How often one call may be sent again.

        Raises:
            LocalProtocolError: This reference ends with its connection.
        """
        raise _not_kept("repeatable")

    def notifyOnConnect(self, callback: Callable[[RemoteReference], object]) -> Any:
        """Runs a callback now and after each new connection, for a reference that is kept.

        Args:
            callback: Called with the reference.

        Raises:
            LocalProtocolError: This reference ends with its connection.
        """
        raise _not_kept("notifyOnConnect")

    def notifyOnDisconnect(self, callback: Callable[[RemoteReference], object]) -> None:
        """Runs a callback with this reference when the connection ends.

        Args:
            callback: Called once, with this reference.
        """
        self.broker.watch(self, callback)

    def dontNotifyOnDisconnect(self, callback: Callable[[RemoteReference], object]) -> None:
        """Takes back what `notifyOnDisconnect` arranged.

        Args:
            callback: The same callback.
        """
        self.broker.unwatch(self, callback)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteReference):
            return NotImplemented
        return self.broker is other.broker and self.luid == other.luid

    def __hash__(self) -> int:
        return hash((id(self.broker), self.luid))

    def __repr__(self) -> str:
        name = self.luid.decode("utf-8", "replace") if isinstance(self.luid, bytes) else self.luid
        return f"<RemoteReference {name} at {getattr(self.broker, 'peer', 'a peer')}>"

    def _repr_html_(self) -> str:
        # Nothing is asked of the peer for it, not even whether it is still there.
        name = self.luid.decode("utf-8", "replace") if isinstance(self.luid, bytes) else self.luid
        state = "ended" if getattr(self.broker, "lost", False) else ""
        where = getattr(self.broker, "peer", "a peer")
        return card("RemoteReference", luid=name, at=where, connection=state)


class BorrowedReference(RemoteReference):
    """A reference that came from the peer, which counts it and is told when it is gone."""

    # A weak reference with a callback would do without a finalizer, and takes as much memory
    # again as the reference.
    __slots__ = ()

    luid: int

    def __del__(self) -> None:
        self.broker.gone(self.luid)

    def __copy__(self) -> BorrowedReference:
        return self  # the peer has counted one

    def __deepcopy__(self, memo: dict[int, Any]) -> BorrowedReference:
        return self  # nor is the connection copied


class _Deadlined(RemoteReference):
    """A reference whose calls have a deadline."""

    # The tables know the reference that it was made of, which therefore lives as long as this.
    __slots__ = ("_made_of", "deadline")

    def __init__(self, ref: RemoteReference, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a deadline is a number of seconds above 0, not {seconds!r}")
        super().__init__(ref.broker, ref.luid, ref.perspective)
        self.deadline = seconds  # type: ignore[misc]
        self._made_of = ref


class RemoteMethod:
    """One method of an object at the peer.

    Attributes:
        obj: The reference.
        name: The method's name.
    """

    __slots__ = ("name", "obj")

    def __init__(self, obj: RemoteReference, name: str) -> None:
        self.obj = obj
        self.name = name

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Calls the method, as ``callRemote`` does."""
        return self.obj.callRemote(self.name, *args, **kw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteMethod):
            return NotImplemented
        return self.obj == other.obj and self.name == other.name

    def __hash__(self) -> int:
        return hash((self.obj, self.name))

    def __repr__(self) -> str:
        return f"<RemoteMethod {self.name!r} of {self.obj!r}>"


def _not_kept(name: str) -> LocalProtocolError:
    return LocalProtocolError(
        f"{name}() is for a reference that connects again, and this one ends with its "
        "connection: connect with keep=True, or with %pb_connect --keep"
    )


def _text(name: str | bytes) -> str:
    # Programs written for Python 2 give method names as bytes.
    return name.decode("utf-8") if isinstance(name, bytes) else name
