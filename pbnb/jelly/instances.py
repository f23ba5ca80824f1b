"""Instances of classes that were allowed, and what is said of those that were not.

::

    instance                     ["module.Name", state]
    dataclass                    ["module.Name", {field: value}]
    namedtuple                   ["module.Name", {field: value}]
    enum member                  ["module.Name", name]; flags combined: their integer

The state is what ``__getstate__`` gives, by default the attributes, and an instance is restored
from it without ``__init__``. Dataclasses and namedtuples have exactly their fields: another name
is refused, a missing one has to have a default. They may be frozen, and may have slots. A member
of an enum arrives as the member of that name.

``["instance", ["class", "module.Name"], state]``, which old peers send, is read as well.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import io
from collections.abc import Iterator
from functools import partial
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly, wire_name
from ..flavors import set_attributes
from ..wire.banana import Tree
from .failures import shown_tag

if TYPE_CHECKING:
    from .jelly import Jellier
    from .unjelly import Promise, Unjellier

__all__ = ["fill_instance", "hashed_parts", "jelly_member", "read_instance", "read_old_instance"]


def fill_instance(jellier: Jellier, obj: Any, node: list[Tree]) -> None:
    """Fills in the expression of an instance whose class the security options allow."""
    cls = type(obj)
    if not jellier.security.isClassAllowed(cls):
        raise InsecureJelly(_refusal(obj))
    if _is_namedtuple(cls):
        state = dict(zip(cls._fields, obj, strict=True))
    elif _is_dataclass(cls):
        fields = [field.name for field in dataclasses.fields(cls)]
        state = {name: getattr(obj, name) for name in fields if hasattr(obj, name)}
    else:
        # Python 2 peers cannot restore the None that an instance without attributes has.
        state = obj.__getstate__()
        state = {} if state is None else state
    node.append(wire_name(cls).encode("utf-8"))
    node.append(jellier.jelly(state))


def jelly_member(jellier: Jellier, member: enum.Enum) -> Tree:
    """Returns the expression of a member of an enum. There is only one of each: no references."""
    cls = type(member)
    if not jellier.security.isClassAllowed(cls):
        raise InsecureJelly(
            f"{cls.__name__}.{member.name} is not sent: allow the enum on both sides with "
            f"SecurityOptions.allowInstancesOf({cls.__name__}), or send its value"
        )
    name = member.name if member.name in cls.__members__ else member.value
    return [wire_name(cls).encode("utf-8"), jellier.jelly(name)]


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def _is_dataclass(cls: type) -> bool:
    # A subclass that is none itself may have attributes beyond the fields that it inherits.
    return "__dataclass_fields__" in vars(cls) and not any(
        _is_written(cls, name) for name in ("__getstate__", "__setstate__")
    )


def _is_written(cls: type, name: str) -> bool:
    # Frozen dataclasses with slots are given methods for their state, which every other class
    # has from object or not at all.
    method = getattr(cls, name, None)
    generated = getattr(method, "__module__", None) == "dataclasses"
    return method is not getattr(object, name, None) and not generated


def hashed_parts(obj: Any) -> Any:
    """Returns what Python hashes when it hashes an object: the members of containers."""
    if isinstance(obj, tuple | frozenset):
        return obj
    if dataclasses.is_dataclass(obj):
        return [getattr(obj, field.name, None) for field in dataclasses.fields(obj)]
    return ()


# Reading


def read_instance(u: Unjellier, cls: type, tree: list[Tree], promise: Promise | None) -> Any:
    """Returns the instance that an expression describes, of a class that is allowed."""
    if len(tree) != 2:
        raise InsecureJelly(f"malformed instance of {shown_tag(tree[0])}")
    if issubclass(cls, enum.Enum):
        return _member(cls, u.unjelly(tree[1]))
    if _is_namedtuple(cls):
        return _read_namedtuple(u, cls, tree[1])
    make: Any = cls.__new__
    made = make(cls)
    u.keep(promise, made)
    u.restore(tree[1], partial(_set_fields if _is_dataclass(cls) else _set_state, made))
    u.finish(made)
    return made


def read_old_instance(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    """Returns the instance of an expression in the form that PB began with."""
    cls = u.unjelly(tree[1]) if len(tree) == 3 else None
    if not isinstance(cls, type):
        raise InsecureJelly("malformed instance expression")
    return read_instance(u, cls, [tree[0], tree[2]], promise)


def _member(cls: type[enum.Enum], state: Any) -> enum.Enum:
    # Twisted sends the attributes of a member.
    name = state.get("_name_", state.get(b"_name_")) if type(state) is dict else state
    if type(name) is bytes:
        name = name.decode("utf-8", "replace")
    if type(name) is str and name in cls.__members__:
        return cls.__members__[name]
    if type(state) is int and issubclass(cls, enum.Flag):
        # Python makes a member for every combination that is asked for, and keeps it: of the
        # class's own bits alone.
        bits = 0
        for each in cls:
            bits |= each.value
        if 0 <= state and not state & ~bits:
            return cls(state)
    raise InsecureJelly(f"the enum {cls.__name__} has no member {state!r:.60}")


def _read_namedtuple(u: Unjellier, cls: Any, tree: Tree) -> Any:
    if type(tree) is not list or tree[:1] != [b"dictionary"]:
        raise InsecureJelly(f"the state of a {cls.__name__} is a dict of its fields")
    given: dict[str, Any] = {}
    for pair in tree[1:]:
        if type(pair) is not list or len(pair) != 2:
            raise InsecureJelly("a dictionary is made of pairs")
        name = u.unjelly(pair[0])
        name = name.decode("utf-8", "replace") if type(name) is bytes else name
        if type(name) is not str or name in given:
            raise InsecureJelly(f"{name!r:.60} cannot be a field of a {cls.__name__}")
        given[name] = u.unjelly(pair[1])
    _check_fields(cls, given, set(cls._fields), set(cls._field_defaults))
    values = [given.get(name, cls._field_defaults.get(name)) for name in cls._fields]
    # Not by calling the class, as for every other instance.
    return u.once_known(values, lambda known: tuple.__new__(cls, known))


def _set_fields(made: Any, state: Any) -> None:
    cls = type(made)
    if type(state) is not dict:
        raise InsecureJelly(f"the state of a {cls.__name__} is a dict of its fields")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    optional = {name for name, field in fields.items() if not field.init or _has_default(field)}
    _check_fields(cls, state, set(fields), optional)
    for name, field in fields.items():
        if name in state:
            # Frozen ones refuse every other way.
            object.__setattr__(made, name, state[name])
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(made, name, field.default_factory())
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(made, name, field.default)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _check_fields(cls: type, given: dict[Any, Any], fields: set[str], optional: set[str]) -> None:
    for name in given:
        if name not in fields:
            raise InsecureJelly(f"{name!r:.60} is no field of a {cls.__name__}")
    missing = sorted(fields - optional - given.keys())
    if missing:
        raise InsecureJelly(f"a {cls.__name__} arrived without its field {missing[0]}")


def _set_state(made: Any, state: Any) -> None:
    set_state = getattr(made, "__setstate__", None)
    if set_state is not None:
        set_state(state)
        return
    # What __getstate__ gives for a class with __slots__: attributes or None, and the slots.
    state, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
    if state is not None:
        set_attributes(made, state)
    for name, value in _slots(slots):
        if not isinstance(getattr(type(made), name, None), MemberDescriptorType):
            raise InsecureJelly(f"{name} is no slot of a {type(made).__name__}")
        setattr(made, name, value)


def _slots(slots: Any) -> Iterator[tuple[str, Any]]:
    if slots is not None and type(slots) is not dict:
        raise InsecureJelly(f"a {type(slots).__name__} where a dict was due")
    for name, value in ({} if slots is None else slots).items():
        name = name.decode("utf-8", "replace") if type(name) is bytes else name
        if type(name) is not str or not name.isidentifier() or name.startswith("__"):
            raise InsecureJelly(f"{name!r:.60} cannot be the name of an attribute")
        yield name, value


# Refusing

_PLAIN = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)


def _refusal(obj: Any) -> str:
    cls = type(obj)
    return f"instances of {wire_name(cls)} are not sent: {_instead(obj)}"


def _instead(obj: Any) -> str:
    """Returns what somebody can do who wants to send an object that is not sent."""
    cls = type(obj)
    home = cls.__module__.partition(".")[0]
    if home in ("numpy", "pandas"):
        return "send the bytes or the list of its items, obj.tobytes() or obj.tolist()"
    if inspect.isawaitable(obj):
        return "await it, and send what it returns"
    if isinstance(obj, io.IOBase):
        return "send what it reads, or page through it with pb.FilePager"
    if isinstance(obj, memoryview):
        return "send bytes(obj)"
    if hasattr(cls, "__next__") or home == "builtins" and hasattr(cls, "__iter__"):
        return "send a list of its items"
    for plain in _PLAIN:
        if isinstance(obj, plain):
            return (
                f"send {plain.__name__}(obj), or allow the class with "
                "SecurityOptions.allowInstancesOf"
            )
    return (
        "derive the class from pb.Referenceable to lend the object, or allow it with "
        "SecurityOptions.allowInstancesOf"
    )
