"""What an object is to its peers: the classes that users derive from.

An object that derives from none of them does not travel. The flavors only declare; how a
flavor becomes bytes is written in `pbnb.jelly`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Literal

from .errors import InsecureJelly, NoSuchMethod, wire_name

__all__ = [
    "AsReferenceable",
    "Avatar",
    "Cacheable",
    "Copyable",
    "Jellyable",
    "Referenceable",
    "RemoteCache",
    "RemoteCopy",
    "Root",
    "Serializable",
    "Unjellyable",
    "ViewPoint",
    "Viewable",
    "find_method",
    "set_attributes",
]

_LONGEST_NAME = 255


class Serializable:
    """An object that may travel in one of the ways that its subclasses name.

    Attributes:
        pb_concurrency: Whether the methods that peers call run one at a time, ``"serial"``, or
            also while others wait for something, ``"concurrent"``. A class, or an object, sets
            it. A serial method must not wait for a call that comes back to the same object.
    """

    pb_concurrency: Literal["serial", "concurrent"] = "concurrent"

    def processUniqueID(self) -> Hashable:
        """Returns what tells this object from others.

        Two objects that return the same are one object to a peer. Override it in proxies of
        one thing.
        """
        return id(self)


class Referenceable(Serializable):
    """An object that stays here, and that peers call through a reference.

    A peer reaches the methods whose names begin with ``remote_``, and nothing else. They may be
    plain methods, ``async def``, or return any awaitable, a Deferred among them.
    """

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns the method that a peer means by a name.

        Args:
            name: The name that the peer gave to ``callRemote``.

        Raises:
            NoSuchMethod: There is no ``remote_`` method of that name.
        """
        return find_method(self, "remote_", name)


class Root(Referenceable):
    """The object that a server offers first."""

    def rootObject(self, broker: object) -> Referenceable:
        """Returns the root for one connection: this object, unless a subclass chooses another.

        Args:
            broker: The connection that asks.
        """
        return self


class Viewable(Serializable):
    """An object that stays here, and that is told who calls.

    It is lent as a `ViewPoint` for the avatar that it is sent to: one object, seen differently by
    each user. Peers reach the methods whose names begin with ``view_``; the first argument of
    each is the avatar on whose behalf the call is made, which no peer can choose.
    """


class ViewPoint(Referenceable):
    """One avatar's view of a `Viewable`, or of any object that has ``view_`` methods.

    Two view points of one avatar and one object are one object to a peer.

    Attributes:
        perspective: The avatar, or None.
        object: The object.
    """

    def __init__(self, perspective: object, object: Any) -> None:  # noqa: A002 (PB's name)
        self.perspective = perspective
        self.object = object
        self.pb_concurrency = getattr(object, "pb_concurrency", "concurrent")

    def processUniqueID(self) -> Hashable:
        """Returns what tells this pair from others."""
        viewed = self.object
        known = viewed.processUniqueID() if isinstance(viewed, Serializable) else id(viewed)
        return (id(self.perspective), known)

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns the ``view_`` method of a name, bound to the avatar."""
        return partial(find_method(self.object, "view_", name), self.perspective)


class Avatar:
    """What a user may do after logging in: the methods whose names begin with ``perspective_``."""

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns the ``perspective_`` method of a name."""
        return find_method(self, "perspective_", name)


class AsReferenceable(Referenceable):
    """Lends an object by methods of another prefix than ``remote_``.

    Attributes:
        object: The object.
        perspective: The avatar that calls through it are made as: the object, if it is one.
    """

    def __init__(self, object: Any, messageType: str = "remote") -> None:  # noqa: A002 (PB's name)
        self.object = object
        self.perspective = object if messageType == "perspective" else None
        self._prefix = f"{messageType}_"
        self.pb_concurrency = getattr(object, "pb_concurrency", "concurrent")

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns the method of a name that begins with the prefix."""
        if self.perspective is not None and isinstance(self.object, Avatar):
            return self.object.find_remote(name)  # which a user's class may override
        return find_method(self.object, self._prefix, name)


class Jellyable(Serializable):
    """An object that says itself how it is serialized."""

    def getStateFor(self, jellier: Any) -> Any:
        """Returns what is serialized: by default all attributes.

        Args:
            jellier: The serialization it takes part in.
        """
        return self.__dict__

    def jellyFor(self, jellier: Any) -> Any:
        """Returns the expression of this object: by default its class's name and its state.

        Args:
            jellier: Has ``jelly(value)``, which returns the expression of a part.
        """
        return [wire_name(type(self)).encode("utf-8"), jellier.jelly(self.getStateFor(jellier))]


class Unjellyable:
    """An object that restores itself. ``__init__`` is not called for it."""

    def unjellyFor(self, unjellier: Any, jellyList: list[Any]) -> Any:
        """Restores this object from its expression: by default from the state in it.

        Override it where the peer's ``jellyFor`` says more than a type and a state.

        Args:
            unjellier: Has ``unjelly(part)``, which returns the value of a part.
            jellyList: The expression, the type first.

        Returns:
            This object.
        """
        self.setStateFor(unjellier, unjellier.unjelly(jellyList[1]))
        return self

    def setStateFor(self, unjellier: Any, state: Any) -> None:
        """Takes the state that arrived: by default, a dict of attributes.

        Args:
            unjellier: The deserialization it takes part in.
            state: What the peer sent.
        """
        set_attributes(self, state)


class Copyable(Serializable):
    """An object that travels by value: its state is copied.

    The peer builds the copy with the class that it has registered for the type's name; see
    `setUnjellyableForClass`.
    """

    def getStateToCopy(self) -> Any:
        """Returns what the copy is made of: by default all attributes, as a dict."""
        return self.__dict__.copy()

    def getStateToCopyFor(self, perspective: object) -> Any:
        """Returns what the copy for one avatar is made of; by default, `getStateToCopy`.

        Args:
            perspective: The avatar that the copy is meant for, or None.
        """
        return self.getStateToCopy()

    def getTypeToCopy(self) -> str | bytes:
        """Returns the name under which the copy travels: by default that of the class."""
        return wire_name(type(self))

    def getTypeToCopyFor(self, perspective: object) -> str | bytes:
        """Returns the name for one avatar; by default, `getTypeToCopy`.

        Args:
            perspective: The avatar that the copy is meant for, or None.
        """
        return self.getTypeToCopy()


class RemoteCopy:
    """The copy of a `Copyable` of the peer's. ``__init__`` is not called for it."""

    def setCopyableState(self, state: Any) -> None:
        """Takes the state that arrived: by default, a dict of attributes, or None for no state.

        Args:
            state: What the peer sent; names that came as bytes are text by now.

        Raises:
            InsecureJelly: The state is no dict.
        """
        if state is not None:
            set_attributes(self, state)


class Cacheable(Copyable):
    """An object that travels as a live copy: its state once, and then each change.

    A subclass says the state and keeps the observer in `getStateToCacheAndObserveFor`; it calls
    ``observer.callRemote(name, …)``, which runs ``observe_name`` of the peer's copy, whenever
    something changes.
    """

    def getStateToCacheAndObserveFor(self, perspective: object, observer: Any) -> Any:
        """Returns the state for one peer, and remembers who has to hear of changes.

        Args:
            perspective: The avatar that the copy is meant for, or None.
            observer: Whom to call from now on.
        """
        return self.getStateToCopyFor(perspective)

    def stoppedObserving(self, perspective: object, observer: Any) -> None:
        """Forgets an observer: the peer has let go of its copy, or is gone.

        Args:
            perspective: As it was given to `getStateToCacheAndObserveFor`.
            observer: As it was given there, or equal to it.
        """


class RemoteCache(RemoteCopy, Serializable):
    """The live copy of a `Cacheable` of the peer's.

    Changes run its methods whose names begin with ``observe_``. ``__init__`` is called without
    arguments. Copies of one object are equal, and share their attributes.
    """

    # The connection and the luid that it came by. A slot, because the attributes are shared and
    # belong to the user.
    __slots__ = ("_pb_home",)

    _pb_home: tuple[Any, int]

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns the ``observe_`` method of a name."""
        return find_method(self, "observe_", name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteCache):
            return NotImplemented
        return self.__dict__ is other.__dict__

    def __hash__(self) -> int:
        return id(self.__dict__)


def set_attributes(obj: object, state: Any) -> None:
    """Gives an object the attributes that a peer has sent.

    Args:
        obj: The object.
        state: A dict by name.

    Raises:
        InsecureJelly: It is no dict, or names a method of the class, which no state may replace.
    """
    cls = type(obj)
    if type(state) is not dict:
        raise InsecureJelly(f"the state of {cls.__name__} is a {type(state).__name__}, not a dict")
    for name in state:
        if type(name) is not str or not name.isidentifier() or name.startswith("__"):
            raise InsecureJelly(f"{name!r:.60} cannot be the name of an attribute")
        if callable(getattr(cls, name, None)):
            raise InsecureJelly(
                f"the state of {cls.__name__} names its method {name}, which it may not replace"
            )
    obj.__dict__.update(state)


def find_method(obj: object, prefix: str, name: str) -> Callable[..., Any]:
    """Returns the method of an object that a peer may call by a name.

    Args:
        obj: The object that is called.
        prefix: What the names of such methods begin with, such as ``"remote_"``.
        name: The name that the peer sent. Only an identifier can name a method: text such as
            ``"a.b"``, or with a line break in it, finds none.

    Raises:
        NoSuchMethod: The object has no such method.
    """
    attribute = prefix + name
    if len(name) <= _LONGEST_NAME and attribute.isidentifier():
        method = getattr(obj, attribute, None)
        if callable(method):
            return method  # type: ignore[no-any-return]
    # The text is Twisted's: programs there compare it. repr() keeps a hostile name harmless.
    shown = attribute if attribute.isidentifier() else repr(attribute)
    raise NoSuchMethod(f"No such method: {shown[:_LONGEST_NAME]}")
