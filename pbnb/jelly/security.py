"""What may enter this process, and which instances may leave it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..errors import wire_name

__all__ = ["SecurityOptions", "global_security"]

# Twisted's two lists, by their names on the wire.
_ATOMS = frozenset(
    b"None NoneType bool boolean date datetime decimal float frozenset int set str string time "
    b"timedelta unicode".split()
)
_BASIC = frozenset(
    b"dereference dict dictionary list long long_int persistent reference tuple "
    b"unpersistable".split()
)
_FLAVORS = frozenset((b"remote", b"local", b"cached", b"lcache"))
_INSTANCE = ("instance", "class", "classobj", "module")


class SecurityOptions:
    """The types, classes and modules that a server or a connection lets in.

    New options allow the simple values, and no containers: `allowBasicTypes` adds those. A class
    is named by the object itself, never looked up by a peer's word, so that allowing it is also
    what makes it known. Nothing is ever imported.
    """

    def __init__(self) -> None:
        self.allowed: set[bytes] = set(_ATOMS)
        self.classes: dict[bytes, type] = {}
        self.modules: dict[bytes, ModuleType | None] = {}

    def allowBasicTypes(self) -> None:
        """Allows lists, tuples, dictionaries, and the references that repeat one in a message."""
        self.allowed |= _BASIC

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
    options.allowed |= _FLAVORS
    options.allowTypes("twisted.spread.pb.CopyableFailure")
    return options


global_security = _make_global()
"""What every connection allows that was not given options of its own: PB's `globalSecurity`."""
