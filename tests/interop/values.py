"""Values that both ends send, and a description in which two ends can compare them.

Plain Python: the tests and the Twisted peer, each in its own process, both import it.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


def shared() -> Any:
    once: list[Any] = ["met", "twice"]
    return {"first": once, "again": [once, (once, once)]}


def cyclic_list() -> Any:
    ring: list[Any] = [1]
    ring.append(ring)
    return ring


def cyclic_dict() -> Any:
    ring: dict[str, Any] = {"name": "ring"}
    ring["self"] = ring
    ring["inside"] = [ring]
    return ring


def cyclic_tuple() -> Any:
    inside: list[Any] = []
    ring = (inside, "outside")
    inside.append(ring)
    return ring


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "small": [1, -1, 127, 128, 2**31 - 1, -(2**31)],
    "long": [2**31, -(2**31) - 1, 2**64, 2**448 - 1, -(2**448) + 1],
    "float": [0.0, -0.0, 1.5, 1e300, 5e-324, float("inf"), float("-inf"), float("nan")],
    "bytes": [b"", b"plain", bytes(range(256)), b"None", b"unicode", b"list"],
    "text": ["", "plain", "Grüße, 世界 🐍", "list", "\x00"],
    "list": [[], [1, ["two", [b"three"]]]],
    "tuple": [(), (1,), (1, ("two", (b"three",)))],
    "dict": [{}, {"text": 1, b"bytes": 2, 3: None, (1, "a"): {"deep": [{}]}}],
    "set": [set(), {1, "two", b"three", (4, 5)}],
    "frozenset": [frozenset(), frozenset({1, "two", frozenset({3})})],
    "datetime": [datetime(2026, 11, 22, 13, 14, 15, 161718), datetime(1, 1, 1)],
    "date": [date(2026, 11, 22), date(9999, 12, 31)],
    "time": [time(), time(23, 59, 59, 999999)],
    "timedelta": [timedelta(), timedelta(days=-3, seconds=5, microseconds=7)],
    "decimal": [Decimal("0"), Decimal("-12.50"), Decimal("1E+40"), Decimal("1E-40")],
    "shared": shared(),
    "cyclic list": cyclic_list(),
    "cyclic dict": cyclic_dict(),
    "cyclic tuple": cyclic_tuple(),
}

_BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("set{", "}"),
    frozenset: ("frozenset{", "}"),
    dict: ("dict{", "}"),
}


def describe(value: Any, met: dict[int, int] | None = None) -> str:
    """Returns a text that is the same only for equal values of equal types and equal sharing.

    A container met again is named by the order in which it was first met.

    Args:
        value: What to describe; its leaves are of the built-in types.
        met: The containers described so far, by identity.
    """
    met = {} if met is None else met
    brackets = _BRACKETS.get(type(value))
    # The empty tuple and frozenset are shared by everybody, which says nothing.
    if brackets is None or value in ((), frozenset()):
        return f"{type(value).__name__} {value!r}"
    if id(value) in met:
        return f"#{met[id(value)]}"
    met[id(value)] = number = len(met) + 1
    if isinstance(value, dict):
        parts = [f"{describe(key, met)}: {describe(item, met)}" for key, item in value.items()]
    else:
        parts = [describe(item, met) for item in value]
        if isinstance(value, set | frozenset):
            parts.sort()
    return f"{brackets[0]}#{number} {', '.join(parts)}{brackets[1]}"
