"""Classes, modules, functions and bound methods: by name, and only where they were allowed.

::

    class                        ["class", "module.Name"]
    module                       ["module", "name"]
    function                     ["function", "module.name"]
    bound method                 ["method", "name", object, ["class", "module.Name"]]

What travels is a name, and what it means is looked up in the classes and module objects that
this side's `SecurityOptions` were given. Nothing is imported, and no attribute is computed: a
function counts where the module that defines it is allowed, a method where the class is.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly, wire_name
from ..wire.banana import Tree
from .failures import shown_tag

if TYPE_CHECKING:
    from .jelly import Jellier
    from .security import SecurityOptions
    from .unjelly import Promise, Unjellier

__all__ = [
    "jelly_class",
    "jelly_function",
    "jelly_method",
    "jelly_module",
    "read_class",
    "read_function",
    "read_method",
    "read_module",
]

_INSTEAD = "lend an object with a remote_ method that calls it"


def jelly_class(jellier: Jellier, cls: type) -> Tree:
    """Returns the expression of a class."""
    if not jellier.security.isClassAllowed(cls):
        raise InsecureJelly(
            f"the class {wire_name(cls)} is not sent: allow it on both sides with "
            "SecurityOptions.allowInstancesOf"
        )
    return [b"class", wire_name(cls).encode("utf-8")]


def jelly_module(jellier: Jellier, module: ModuleType) -> Tree:
    """Returns the expression of a module."""
    name = module.__name__
    tag = name.encode("utf-8")
    if b"module" not in jellier.security.allowed or tag not in jellier.security.modules:
        raise InsecureJelly(
            f"the module {name} is not sent: allow it on both sides with "
            f"SecurityOptions.allowModules({name})"
        )
    return [b"module", tag]


def jelly_function(jellier: Jellier, function: Any) -> Tree:
    """Returns the expression of a function."""
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType):
        raise InsecureJelly(f"the method {_shown(function)} is not sent: {_INSTEAD}")
    module, name = function.__module__, function.__name__
    if function.__qualname__ != name or not name.isidentifier():
        raise InsecureJelly(
            f"the function {_shown(function)} is not sent, because only functions at the top of a "
            f"module have names by which a peer could find them: {_INSTEAD}"
        )
    tag = f"{module}.{name}".encode()
    if b"function" not in jellier.security.allowed or _find(jellier.security, tag) is not function:
        raise InsecureJelly(
            f"the function {_shown(function)} is not sent: {_INSTEAD}, or allow it on both sides "
            f"with SecurityOptions.allowModules({module}) and allowTypes('function')"
        )
    return [b"function", tag]


def jelly_method(jellier: Jellier, method: MethodType) -> Tree:
    """Returns the expression of a bound method."""
    owner, name = method.__self__, method.__func__.__name__
    cls = type(owner)
    security = jellier.security
    if (
        b"method" not in security.allowed
        or not security.isClassAllowed(cls)
        or _function_of(cls, name) is not method.__func__
    ):
        raise InsecureJelly(
            f"the method {_shown(method)} is not sent: {_INSTEAD}, or allow it on both sides with "
            f"SecurityOptions.allowInstancesOf({cls.__name__}) and allowTypes('method')"
        )
    return [b"method", name.encode("utf-8"), jellier.jelly(owner), jelly_class(jellier, cls)]


def _shown(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


# Readers


def _name(tree: list[Tree], length: int) -> bytes:
    name = tree[1] if len(tree) == length else None
    if type(name) is not bytes:
        raise InsecureJelly(f"malformed {shown_tag(tree[0])} expression")
    return name


def read_class(u: Unjellier, tree: list[Tree], promise: Promise | None) -> type:
    """Returns the class that a peer names, where it is allowed."""
    name = _name(tree, 2)
    cls = u.security.classes.get(name)
    if cls is None:
        raise InsecureJelly(
            f"the class {shown_tag(name)} is not allowed here: "
            "SecurityOptions.allowInstancesOf allows classes"
        )
    return cls


def read_module(u: Unjellier, tree: list[Tree], promise: Promise | None) -> ModuleType:
    """Returns the module that a peer names, where that very module is allowed."""
    name = _name(tree, 2)
    module = u.security.modules.get(name)
    if module is None:
        raise InsecureJelly(
            f"the module {shown_tag(name)} is not allowed here: SecurityOptions.allowModules "
            "allows the modules that it is given as objects"
        )
    return module


def read_function(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    """Returns the function that a peer names, where the module that defines it is allowed."""
    name = _name(tree, 2)
    found = _find(u.security, name)
    if found is None:
        raise InsecureJelly(
            f"the function {shown_tag(name)} is not allowed here: SecurityOptions.allowModules "
            "allows the functions that a module defines, when it is given as an object"
        )
    return found


def read_method(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    """Returns the method that a peer names, bound to the object that it sends.

    Python 2 peers send a function of a class as a method of None.
    """
    name = _name(tree, 4)
    cls = u.unjelly(tree[3])
    if not isinstance(cls, type):
        raise InsecureJelly(f"a method belongs to a class, not to a {type(cls).__name__}")
    function = _function_of(cls, name.decode("utf-8", "replace"))
    if function is None:
        raise InsecureJelly(f"{shown_tag(name)} is no method of {cls.__name__}")

    def bind(owners: list[Any]) -> Any:
        (owner,) = owners
        if owner is None:
            return function
        if type(owner) is not cls:
            raise InsecureJelly(
                f"a method of {cls.__name__} cannot be bound to a {type(owner).__name__}"
            )
        return MethodType(function, owner)

    return u.once_known([u.unjelly(tree[2])], bind)


def _find(security: SecurityOptions, tag: bytes) -> Any:
    """Returns the function of a qualified name, from the module that defines it, or None."""
    name, _, short = tag.rpartition(b".")
    module = security.modules.get(name)
    if module is None:
        return None
    # From the dictionary: a module's own __getattr__ may do anything, importing included.
    found = vars(module).get(short.decode("utf-8", "replace"))
    if not isinstance(found, FunctionType | BuiltinFunctionType):
        return None
    # What a module has only imported belongs to another one, which nobody has allowed.
    return found if found.__module__ == module.__name__ else None


def _function_of(cls: type, name: str) -> FunctionType | None:
    for base in cls.__mro__:
        if name in vars(base):
            found = vars(base)[name]
            return found if isinstance(found, FunctionType) else None
    return None
