"""Objects to s-expressions.

Each line is a value and what it becomes; text is UTF-8::

    5  1.5  b"x"                 themselves
    None                         ["None"]
    True                         ["boolean", "true"]
    "x"                          ["unicode", x]
    [a, b] (a, b) {a} frozenset  ["list", a, b]  ["tuple", …]  ["set", …]  ["frozenset", …]
    {k: v}                       ["dictionary", [k, v]]
    datetime, date               ["datetime", "Y M D h m s us"]  ["date", "Y M D"]
    time, timedelta              ["time", "h m s us"]  ["timedelta", "days s us"]
    Decimal                      ["decimal", signed digits, exponent]
    Referenceable                ["remote", luid]
    RemoteReference              ["local", luid], to the peer that owns it
    instance, enum member        see pbnb.jelly.instances
    Viewable                     ["remote", luid] of its ViewPoint for the perspective
    Copyable, Cacheable          see pbnb.jelly.copies
    Failure                      [CopyableFailure, state]; see pbnb.jelly.failures
    class, module                ["class", "module.Name"], ["module", name], where it is allowed
    met again                    ["reference", n, first] there, ["dereference", n] here

``n`` counts from 1 in the order in which repetitions are met. Containers and instances are
compared by identity; atoms and references are never wrapped.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from ..errors import InsecureJelly
from ..failure import Failure
from ..flavors import (
    Cacheable,
    Copyable,
    Jellyable,
    Referenceable,
    RemoteCache,
    Viewable,
    ViewPoint,
)
from ..limits import Limits
from ..refs import Loan, RemoteReference
from ..wire.banana import Tree
from .code import jelly_class, jelly_function, jelly_method, jelly_module
from .copies import fill_cacheable, fill_copyable, jelly_cacheable, jelly_remote_cache
from .extras import EXTRA_ATOMS, EXTRA_TYPES, fill_bytearray, foreign, jelly_aware
from .failures import FAILURE_TAG, failure_state
from .instances import fill_instance, jelly_member
from .security import SecurityOptions, Store, global_security

__all__ = ["Jellier", "is_lent", "jelly"]


def jelly(
    obj: object,
    loan: Loan | None = None,
    *,
    security: SecurityOptions = global_security,
    perspective: object = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    persistentStore: Store | None = None,
) -> Tree:
    """Returns the s-expression of an object.

    Args:
        obj: What to serialize.
        loan: Where the references that it holds are lent; None refuses them.
        security: Says which instances and classes may leave.
        perspective: The avatar that the result is meant for.
        limits: ``depth`` bounds the nesting.
        persistentStore: Called with each object that is no plain value, and with the `Jellier`;
            returns the id (an integer, bytes or text) under which the object travels in its
            place, or None. Where it is not given, that of the security options counts.

    Raises:
        InsecureJelly: Something in it may not be sent; the text names it.
        UnicodeEncodeError: A text holds a lone surrogate, which UTF-8 has no bytes for.
    """
    return Jellier(loan, security, perspective, limits, store=persistentStore).write(obj)


class Jellier:
    """One serialization: what was met, and where references are lent.

    Attributes:
        loan: Where references are lent, or None.
        security: Says which instances and classes may leave.
        perspective: The avatar that the result is meant for.
        peer_types: Which types of `pbnb.jelly.extras` the peer reads; None where nobody has
            asked it yet.
        limits: What the connection may carry.
        carries_memory: Whether memory may stand in the expression, to travel beside it.
    """

    __slots__ = (
        "_depth",
        "_kept",
        "_limit",
        "_met",
        "_numbered",
        "_store",
        "carries_memory",
        "limits",
        "loan",
        "peer_types",
        "perspective",
        "security",
    )

    def __init__(
        self,
        loan: Loan | None,
        security: SecurityOptions,
        perspective: object,
        limits: Limits,
        *,
        peer_types: frozenset[bytes] | None = EXTRA_TYPES,
        store: Store | None = None,
        carries_memory: bool = False,
    ) -> None:
        self.limits = limits
        self.carries_memory = carries_memory
        self.loan = loan
        self.security = security
        self.perspective = perspective
        self.peer_types = peer_types
        self._store = security.persistentStore if store is None else store
        self._limit = limits.depth
        self._depth = 0
        self._numbered = 0
        self._met: dict[int, _Met] = {}
        self._kept: list[object] = []

    def write(self, obj: object) -> Tree:
        """Returns the s-expression of a whole object."""
        try:
            return self.jelly(obj)
        except RecursionError:
            # Called from deep inside a program, where the stack ends before the limit does.
            raise InsecureJelly("nested too deep for what is left of the stack") from None

    def jelly(self, obj: object) -> Tree:
        """Returns the s-expression of an object, as a part of this serialization."""
        kind = type(obj)
        if kind is str:
            return [b"unicode", obj.encode("utf-8")]  # type: ignore[attr-defined]
        if kind is int or kind is bytes or kind is float:
            return obj  # type: ignore[return-value]
        atom = ATOMS.get(kind)
        if atom is not None:
            return atom(self, obj)
        container = CONTAINERS.get(kind)
        if container is None:
            if self._store is not None and (known := self._store(obj, self)) is not None:
                return _persistent(known)
            for base in kind.__mro__:
                flavor = FLAVORS.get(base)
                if flavor is not None and (tree := flavor(self, obj)) is not None:
                    return tree
                container = BY_VALUE.get(base)
                if container is not None:
                    break
            else:
                container = fill_instance
                if not self.security.isClassAllowed(kind) and (other := foreign(obj)) is not None:
                    if other.is_atom:
                        return other.write(self, obj)  # type: ignore[no-any-return]
                    container = other.write
        # Inline rather than a method of its own: every frame here is paid for at each level.
        met = self._met.get(id(obj))
        if met is not None:
            return [b"dereference", self._number(met)]
        met = self._met[id(obj)] = _Met()
        self._kept.append(obj)  # an id is only good while its object lives
        self._depth += 1
        if self._depth > self._limit:
            raise InsecureJelly(
                f"nested more than {self._limit} levels deep; Limits(depth=...) sets the bound"
            )
        container(self, obj, met.node)
        self._depth -= 1
        met.filled = True
        if met.number:
            _wrap(met)
        return met.node

    def has_met(self, obj: object) -> bool:
        """Returns whether an object is already a part of this serialization."""
        return id(obj) in self._met

    def _number(self, met: _Met) -> int:
        if not met.number:
            self._numbered += 1
            met.number = self._numbered
            if met.filled:
                _wrap(met)
        return met.number


class _Met:
    """An object that was met: its expression, and its number once it is met again."""

    __slots__ = ("filled", "node", "number")

    def __init__(self) -> None:
        self.node: list[Tree] = []
        self.number = 0
        self.filled = False


def _wrap(met: _Met) -> None:
    # In place, because the node already stands in the list around it.
    met.node[:] = [b"reference", met.number, met.node[:]]


# From this length on it pays to look first whether everything in a container stays as it is.
_LONG = 16
_AS_THEY_ARE = frozenset((int, float, bytes))


def _fill_sequence(tag: bytes) -> Callable[[Jellier, Any, list[Tree]], None]:
    def fill(jellier: Jellier, items: Any, node: list[Tree]) -> None:
        node.append(tag)
        if len(items) > _LONG and _AS_THEY_ARE.issuperset(map(type, items)):
            node.extend(items)
            return
        for item in items:
            kind = type(item)
            if kind is int or kind is bytes or kind is float:
                node.append(item)
            elif kind is str:
                node.append([b"unicode", item.encode("utf-8")])
            else:
                node.append(jellier.jelly(item))

    return fill


def _fill_dictionary(jellier: Jellier, mapping: Any, node: list[Tree]) -> None:
    node.append(b"dictionary")
    for key, value in mapping.items():
        node.append([jellier.jelly(key), jellier.jelly(value)])


def _persistent(known: object) -> Tree:
    if type(known) is str:
        return [b"persistent", [b"unicode", known.encode("utf-8")]]
    if type(known) is int or type(known) is bytes:
        return [b"persistent", known]
    raise TypeError(f"a persistent id is an integer, bytes or text, not {known!r:.80}")


def _words(tag: bytes, *names: str) -> Callable[[Jellier, Any], Tree]:
    def words(jellier: Jellier, obj: Any) -> Tree:
        if getattr(obj, "tzinfo", None) is not None:
            return jelly_aware(jellier, obj)
        return [tag, " ".join(str(getattr(obj, name)) for name in names).encode("ascii")]

    return words


_MOST_DIGITS = 4000  # longer texts Python does not turn into an integer; the wire ends at 135


def _decimal(jellier: Jellier, obj: Decimal) -> Tree:
    sign, digits, exponent = obj.as_tuple()
    if not isinstance(exponent, int):
        raise InsecureJelly(f"Decimal('{obj}') is not a number that PB can send")
    if len(digits) > _MOST_DIGITS:
        raise InsecureJelly(f"a Decimal of {len(digits)} digits does not fit the wire")
    value = int("".join(map(str, digits)) or "0")
    return [b"decimal", -value if sign else value, exponent]


def _jelly_referenceable(jellier: Jellier, obj: Referenceable) -> Tree:
    if jellier.loan is None:
        raise InsecureJelly(f"{type(obj).__name__} is lent by reference: that takes a connection")
    return [b"remote", jellier.loan.lend(obj)]


def _jelly_viewable(jellier: Jellier, obj: Viewable) -> Tree:
    return _jelly_referenceable(jellier, ViewPoint(jellier.perspective, obj))


def _fill_jellyable(jellier: Jellier, obj: Jellyable, node: list[Tree]) -> None:
    node.extend(obj.jellyFor(jellier))


def _jelly_reference(jellier: Jellier, ref: RemoteReference) -> Tree:
    if jellier.loan is None:
        raise InsecureJelly(f"{ref!r} can only be sent over its own connection")
    return [b"local", jellier.loan.home(ref)]


def is_lent(obj: object) -> bool:
    """Returns whether an object goes out as a reference to it, and nothing else."""
    for base in type(obj).__mro__:
        if base is Referenceable:
            return True
        if base in FLAVORS or base in BY_VALUE:
            return False
    return False


def _jelly_failure(jellier: Jellier, failure: Failure) -> Tree:
    return [FAILURE_TAG, jellier.jelly(failure_state(failure))]


_DATE = ("year", "month", "day")
_TIME = ("hour", "minute", "second", "microsecond")

ATOMS: dict[type, Callable[[Jellier, Any], Tree]] = {
    type(None): lambda jellier, value: [b"None"],
    bool: lambda jellier, value: [b"boolean", b"true" if value else b"false"],
    datetime.datetime: _words(b"datetime", *_DATE, *_TIME),
    datetime.date: _words(b"date", *_DATE),
    datetime.time: _words(b"time", *_TIME),
    datetime.timedelta: _words(b"timedelta", "days", "seconds", "microseconds"),
    Decimal: _decimal,
    FunctionType: jelly_function,
    BuiltinFunctionType: jelly_function,
    MethodType: jelly_method,
    **EXTRA_ATOMS,
}
CONTAINERS: dict[type, Callable[[Jellier, Any, list[Tree]], None]] = {
    list: _fill_sequence(b"list"),
    tuple: _fill_sequence(b"tuple"),
    set: _fill_sequence(b"set"),
    frozenset: _fill_sequence(b"frozenset"),
    dict: _fill_dictionary,
    bytearray: fill_bytearray,
}
# By base class: the first in an object's method resolution order counts. None, from a flavor,
# leaves the object to BY_VALUE.
FLAVORS: dict[type, Callable[[Jellier, Any], Tree | None]] = {
    Referenceable: _jelly_referenceable,
    Viewable: _jelly_viewable,
    Cacheable: jelly_cacheable,
    RemoteCache: jelly_remote_cache,
    RemoteReference: _jelly_reference,
    Failure: _jelly_failure,
    type: jelly_class,
    ModuleType: jelly_module,
    Enum: jelly_member,
}
BY_VALUE: dict[type, Callable[[Jellier, Any, list[Tree]], None]] = {
    Cacheable: fill_cacheable,
    Copyable: fill_copyable,
    Jellyable: _fill_jellyable,
}
