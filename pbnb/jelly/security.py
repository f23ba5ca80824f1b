"""What may enter this process, and which instances may leave it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..errors import wire_name
from .extras import EXTRA_TYPES

__all__ = ["FAILURES_ALLOWED", "Load", "SecurityOptions", "Store", "global_security"]

# The hooks of persistent objects: (object, jellier) -> id or None, and (id, unjellier) -> object.
Store = Callable[[Any, Any], int | bytes | str | None]
Load = Callable[[Any, Any], Any]

# Twisted's two lists, by their names on the wire.
_ATOMS = frozenset(
    b"None NoneType bool boolean date datetime decimal float frozenset int set str string time "
    b"timedelta unicode".split()
)
_BASIC = frozenset(
    b"dereference dict dictionary list long long_int persistent reference tuple "
    b"unpersistable".split()
)
# The last one is what msgpack has of its own besides.
_PLAIN = frozenset((b"None", b"boolean", b"unicode", b"list", b"tuple", b"dictionary", b"datetime"))
_FLAVORS = frozenset((b"remote", b"local", b"cached", b"lcache"))
_CODE = frozenset((b"class", b"module", b"function", b"method", b"instance"))
_INSTANCE = ("instance", "class", "classobj", "module")


class SecurityOptions:
    """The types, classes and modules that a server or a connection lets in.

    New options allow the simple values, and no containers: `allowBasicTypes` adds those. A class
    is named by the object itself, never looked up by a peer's word, so that allowing it is also
    what makes it known. Nothing is ever imported.

    Attributes:
        persistentStore: See `pbnb.jelly.jelly`; for all that this server or connection sends.
        persistentLoad: See `pbnb.jelly.unjelly`; for all that it receives.
    """

    def __init__(self) -> None:
        self.allowed: set[bytes] = set(_ATOMS)
        self.classes: dict[bytes, type] = {}
        self.modules: dict[bytes, ModuleType | None] = {}
        self.registered: dict[bytes, Callable[[Any], Any]] = {}
        self.persistentStore: Store | None = None
        self.persistentLoad: Load | None = None

    def allowBasicTypes(self) -> None:
        """Allows lists, tuples, dictionaries, and the references that repeat one in a message."""
        self.allowed |= _BASIC

    def allows_plain(self) -> bool:
        """Returns whether plain values may come in, whatever they hold."""
        return _PLAIN <= self.allowed

    def allowExtraTypes(self) -> None:
        """Allows the types that PB never had: complex, range, bytearray, paths and others."""
        self.allowed |= EXTRA_TYPES

    def allowTypes(self, *types: str | bytes | type) -> None:
        """Allows types by the names that they have on the wire.

        Args:
            *types: Names, such as ``"list"``, or classes.
        """
        self.allowed.update(_tag(each) for each in types)

    def allowInstancesOf(self, *classes: type) -> None:
        """Allows instances of classes, by their attributes, in both directions.

        An instance is made without calling ``__init__``; ``__setstate__`` gets its state, where
        the class has one.

        Args:
            *classes: The classes; subclasses are not meant with them.
        """
        self.allowBasicTypes()
        self.allowTypes(*_INSTANCE)
        for cls in classes:
            self.allowed.add(_tag(cls))
            self.classes[_tag(cls)] = cls
            self.modules.setdefault(cls.__module__.encode(), None)

    def allowModules(self, *modules: str | ModuleType) -> None:
        """Allows modules: those given as objects may travel, those given by name may be named.

        Args:
            *modules: Modules or their names.
        """
        self.allowTypes("module")
        for module in modules:
            if isinstance(module, ModuleType):
                self.modules[module.__name__.encode()] = module
            else:
                self.modules.setdefault(module.encode(), None)

    def setUnjellyableForClass(self, name: str | bytes | type, unjellyable: type) -> None:
        """Names the class that a type of the peer's is rebuilt with, and allows the type.

        Args:
            name: The type's name on the wire, or the class that has that name.
            unjellyable: A subclass of `RemoteCopy`, `RemoteCache` or `Unjellyable`.
        """
        self._register(name, unjellyable)

    def setUnjellyableFactoryForClass(
        self, name: str | bytes | type, factory: Callable[[Any], Any]
    ) -> None:
        """Names the function that a type of the peer's is rebuilt with, and allows the type.

        Args:
            name: The type's name on the wire, or the class that has that name.
            factory: Called with the state; returns the object.
        """
        self._register(name, factory)

    def setUnjellyableForClassTree(
        self, module: ModuleType, base: type, prefix: str | None = None
    ) -> None:
        """Registers every subclass of a class that a module holds, each under its own name.

        Args:
            module: Where the subclasses are looked for.
            base: The class; it is registered too, if the module holds it.
            prefix: What stands before the dot in the names; the module's name where it is None,
                and the names have no dot where it is empty.
        """
        prefix = module.__name__ if prefix is None else prefix
        for name, found in vars(module).items():
            if isinstance(found, type) and issubclass(found, base):
                self._register(f"{prefix}.{name}" if prefix else name, found)

    def _register(self, name: str | bytes | type, maker: Callable[[Any], Any]) -> None:
        tag = _tag(name)
        if any(tag in names for names in (_ATOMS, _BASIC, _FLAVORS, _CODE, EXTRA_TYPES)):
            raise ValueError(f"{tag.decode()!r} is a type of PB's own and cannot be registered")
        self.registered[tag] = maker
        self.allowed.add(tag)

    def isTypeAllowed(self, name: str | bytes) -> bool:
        """Returns whether a type of that name on the wire may come in."""
        return _tag(name) in self.allowed

    def isModuleAllowed(self, name: str | bytes) -> bool:
        """Returns whether a module of that name is allowed."""
        return _tag(name) in self.modules

    def isClassAllowed(self, cls: type) -> bool:
        """Returns whether instances of a class may travel."""
        return self.classes.get(_tag(cls)) is cls


def _tag(value: Any) -> bytes:
    if isinstance(value, type):
        value = wire_name(value)
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


def _make_global() -> SecurityOptions:
    options = SecurityOptions()
    options.allowBasicTypes()
    options.allowExtraTypes()
    options.allowed |= _FLAVORS
    options.allowTypes("twisted.spread.pb.CopyableFailure")
    return options


def _make_for_failures() -> SecurityOptions:
    options = SecurityOptions()
    options.allowBasicTypes()
    options.allowTypes("twisted.spread.pb.CopyableFailure")
    return options


# However little a connection lets in, the reason why a call failed is text and always arrives.
FAILURES_ALLOWED = _make_for_failures()
global_security = _make_global()
"""What every connection allows that was not given options of its own: PB's `globalSecurity`."""
