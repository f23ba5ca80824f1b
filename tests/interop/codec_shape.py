"""What a value is, in a form that JSON keeps: its kind, and what is in it."""

from __future__ import annotations

from typing import Any


def shape(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """Returns the form of a value; an object inside itself is told by how far out it stands."""
    if id(value) in seen:
        return ["again", len(seen) - seen.index(id(value))]
    kind = type(value).__name__
    inside = (*seen, id(value))
    if isinstance(value, (list, tuple)):
        return [kind, [shape(each, inside) for each in value]]
    if isinstance(value, (set, frozenset)):
        return [kind, sorted((shape(each, inside) for each in value), key=repr)]
    if isinstance(value, dict):
        pairs = [[shape(key, inside), shape(each, inside)] for key, each in value.items()]
        return [kind, sorted(pairs, key=repr)]
    if isinstance(value, bytes):
        return [kind, value.hex()]
    return [kind, repr(value)]
