"""What an object is to its peers: the classes that users derive from.

An object that derives from none of them does not travel. The flavors only declare; how a
flavor becomes bytes is written in `pbnb.jelly`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from .errors import NoSuchMethod

__all__ = ["Referenceable", "Root", "Serializable"]

_LONGEST_NAME = 255


class Serializable:
    """An object that may travel in one of the ways that its subclasses name."""

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
