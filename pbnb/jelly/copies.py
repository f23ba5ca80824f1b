"""Objects that travel by value, and by live copy.

::

    Copyable                 [type, state]
    Cacheable, first time    [type, luid, state]
    Cacheable, again         ["cached", luid]
    RemoteCache, going home  ["lcache", luid]

The type is a name such as ``module.Class``. What it is rebuilt with is looked up in the
`SecurityOptions` of the connection, never by importing it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly
from ..flavors import Cacheable, Copyable, RemoteCache, RemoteCopy, Unjellyable
from ..wire.banana import Tree
from .failures import shown_tag

if TYPE_CHECKING:
    from .jelly import Jellier
    from .unjelly import Promise, Unjellier

__all__ = [
    "LARGEST_NUMBER",
    "fill_cacheable",
    "fill_copyable",
    "jelly_cacheable",
    "jelly_remote_cache",
    "number_in",
    "read_cached",
    "read_lcache",
    "read_registered",
]


# Luids and the numbers of references become keys of dicts here. Below 2**61 - 1, the modulus of
# Python's hash of integers, no two of them share a hash.
LARGEST_NUMBER = 2**60


def _type(obj: Copyable, perspective: object) -> bytes:
    name = obj.getTypeToCopyFor(perspective)
    return name if isinstance(name, bytes) else name.encode("utf-8")


def fill_copyable(jellier: Jellier, obj: Copyable, node: list[Tree]) -> None:
    """Fills in the expression of a `Copyable`."""
    node.append(_type(obj, jellier.perspective))
    node.append(jellier.jelly(obj.getStateToCopyFor(jellier.perspective)))


def jelly_cacheable(jellier: Jellier, obj: Cacheable) -> Tree | None:
    """Returns the expression of a `Cacheable` that the peer has a copy of; None if it has none."""
    if jellier.loan is None or jellier.has_met(obj):
        return None  # sent for the first time in this expression, and a dereference from then on
    if jellier.loan.knows(obj):
        return [b"cached", jellier.loan.cache(obj, jellier.perspective).luid]
    return None


def fill_cacheable(jellier: Jellier, obj: Cacheable, node: list[Tree]) -> None:
    """Fills in the expression of a `Cacheable` that goes out for the first time."""
    if jellier.loan is None:
        fill_copyable(jellier, obj, node)
        return
    entry = jellier.loan.cache(obj, jellier.perspective)
    perspective = jellier.perspective
    # State and observer in one step: nothing can change between the two.
    state = obj.getStateToCacheAndObserveFor(perspective, entry.observer)
    node.extend((_type(obj, perspective), entry.luid, jellier.jelly(state)))


def jelly_remote_cache(jellier: Jellier, copy: RemoteCache) -> Tree:
    """Returns the expression of a live copy that goes home."""
    if jellier.loan is None:
        raise InsecureJelly(f"{type(copy).__name__} can only be sent to the peer it came from")
    return [b"lcache", jellier.loan.copy_home(copy)]


def number_in(tree: list[Tree], length: int) -> int:
    """Returns the number after the type of an expression: a luid, or that of a reference.

    Raises:
        InsecureJelly: It is none, or the expression is not of that length.
    """
    number = tree[1] if len(tree) == length else None
    if type(number) is not int or not 0 < number < LARGEST_NUMBER:
        raise InsecureJelly(f"malformed {shown_tag(tree[0])}: numbers of objects count from 1")
    return number


def read_registered(
    u: Unjellier, maker: Callable[[Any], Any], tree: list[Tree], promise: Promise | None
) -> Any:
    """Returns the object of a type that the security options have registered."""
    if isinstance(maker, type) and issubclass(maker, RemoteCache):
        return _read_cacheable(u, maker, tree, promise)
    if isinstance(maker, type) and _restores_itself(maker):
        return _read_unjellyable(u, maker, tree, promise)
    if len(tree) != 2:
        raise InsecureJelly(f"malformed {shown_tag(tree[0])}: a copy is made of its type and state")
    if not isinstance(maker, type):
        return u.made_of_state(tree[1], maker, promise)
    make: Any = maker.__new__
    made = make(maker)
    u.keep(promise, made)
    if isinstance(made, RemoteCopy):
        u.restore(tree[1], made.setCopyableState)
    elif isinstance(made, Unjellyable):
        u.restore(tree[1], lambda state: made.setStateFor(u, state))
    else:
        raise InsecureJelly(
            f"{maker.__name__} is registered for {shown_tag(tree[0])} but derives from none of "
            "RemoteCopy, RemoteCache and Unjellyable"
        )
    u.finish(made)
    return made


def _restores_itself(cls: type) -> bool:
    return issubclass(cls, Unjellyable) and cls.unjellyFor is not Unjellyable.unjellyFor


def _read_unjellyable(
    u: Unjellier, cls: type[Unjellyable], tree: list[Tree], promise: Promise | None
) -> Unjellyable:
    made = cls.__new__(cls)
    u.keep(promise, made)
    restored: object = made.unjellyFor(_Parts(u, cls), tree)
    if restored is not made:
        raise InsecureJelly(f"{cls.__name__}.unjellyFor has to return the object that it restores")
    u.finish(made)
    return made


class _Parts:
    """What an object that restores itself reads its parts with.

    Attributes:
        perspective: The avatar that the expression is read for, or None.
    """

    def __init__(self, u: Unjellier, cls: type) -> None:
        self.perspective = u.perspective
        self._u = u
        self._cls = cls

    def unjelly(self, tree: Tree) -> Any:
        """Returns the value of a part."""
        (value,) = self._u.known([self._u.unjelly(tree)])
        if self._u.is_promise(value):
            raise InsecureJelly(
                f"a part of this {self._cls.__name__} refers to what comes after it"
            )
        return value


def _read_cacheable(
    u: Unjellier, cls: type[RemoteCache], tree: list[Tree], promise: Promise | None
) -> RemoteCache:
    luid = number_in(tree, 3)
    if u.refs is None:
        raise InsecureJelly("a live copy can only be read from a connection")
    caches = u.refs.caches
    alias = caches.begin(luid, cls, u.refs.limit)
    u.count(luid)
    entry, master = caches.copy(luid)

    def set_state(state: Any) -> None:
        master.setCopyableState(state)
        entry.ready = True

    u.keep(promise, alias)
    u.restore(tree[2], set_state)
    u.finish(alias)
    return alias


def read_cached(u: Unjellier, tree: list[Tree], promise: Promise | None) -> RemoteCache:
    """Returns the live copy that a peer has sent before."""
    if len(tree) != 2 or u.refs is None:
        raise InsecureJelly("malformed cached expression")
    luid: Any = tree[1]
    alias = u.refs.caches.received(luid)
    u.count(luid)
    return alias


def read_lcache(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Cacheable:
    """Returns the object of ours whose copy comes home."""
    obj = u.refs.caches.find(tree[1]) if len(tree) == 2 and u.refs is not None else None
    if obj is None:
        raise InsecureJelly(f"the peer returned {tree[1:]!r:.60}, a copy it was not sent")
    return obj
