"""Plain values: those that a frame can hold as they are, and what a frame may cost.

A plain value is None, a bool, an integer of 64 bits, a float, text, a byte string, or a list or
dict of plain values in which no list or dict appears twice. Types are exact: a subclass may mean
more than what it derives from. Everything else is written as an s-expression.

Each function here stands for a loop over every part of a value, and works in runs of C instead: a
walk in Python would cost several times what the encoding itself does.
"""

from __future__ import annotations

import gc
import re
from array import array
from itertools import compress
from typing import Any, Final

from ..errors import LimitExceeded, RemoteProtocolError
from ..limits import Limits

__all__ = ["ATOMS", "Numbers", "as_plain", "check_body", "check_tree", "is_plain"]

#: The plain types that have no parts.
ATOMS: Final = frozenset((type(None), bool, int, float, str, bytes))

# Whether a type has parts. Any other is a KeyError, which is what ends the search.
_in_value = {**dict.fromkeys(ATOMS, False), list: True, dict: True}.__getitem__
_in_tree = {int: False, float: False, bytes: False, memoryview: False, list: True}.__getitem__

# From this length on a list of numbers alone is worth looking for.
_MANY = 64


class Numbers:
    """A list of numbers of one type, which a frame holds as they lie in memory.

    Attributes:
        items: The numbers, of 4 or 8 bytes each.
    """

    __slots__ = ("items",)

    def __init__(self, items: array[Any]) -> None:
        self.items = items


def as_plain(values: tuple[Any, ...], depth: int) -> tuple[Any, ...] | None:
    """Returns values as a frame can hold them, or None where one of them is not plain.

    Args:
        values: Any values.
        depth: How deep they may be nested.
    """
    for value in values:
        if type(value) not in ATOMS:
            break
    else:
        return values
    if len(values) == 1 and type(value) is list and len(value) >= _MANY:
        numbers = _numbers(value)
        if numbers is not None:
            return (numbers,)
    return values if is_plain(values, depth) else None


def _numbers(items: list[Any]) -> Numbers | None:
    kind = type(items[0])
    if (kind is not int and kind is not float) or len(set(map(type, items))) != 1:
        return None
    for code in "d" if kind is float else "iq":
        try:
            return Numbers(array(code, items))
        except OverflowError:
            continue
    return None


def is_plain(values: tuple[Any, ...] | dict[Any, Any], depth: int) -> bool:
    """Returns whether everything in a container is plain; keys may be any atoms.

    The range of integers is not looked at.

    Args:
        values: The container, whose own type is of no account.
        depth: How deep the values may be nested.
    """
    level = gc.get_referents(values)
    met = {id(values)}
    count = 1
    for _ in range(depth):
        try:
            containers = list(compress(level, map(_in_value, map(type, level))))
        except KeyError:
            return False
        if not containers:
            return True
        met.update(map(id, containers))
        count += len(containers)
        if len(met) != count:
            return False  # one of them is met twice, or contains itself
        level = gc.get_referents(*containers)
    return False


def check_tree(tree: Any, depth: int) -> None:
    """Refuses what is no s-expression.

    Args:
        tree: What was read: nothing in it is shared.
        depth: How deep it may be nested.

    Raises:
        RemoteProtocolError: It is none.
        LimitExceeded: It is nested deeper.
    """
    level = [tree]
    try:
        for _ in range(depth + 1):
            lists = list(compress(level, map(_in_tree, map(type, level))))
            if not lists:
                return
            level = gc.get_referents(*lists)
    except KeyError as error:
        kind = error.args[0].__name__
        raise RemoteProtocolError(f"an expression of the peer's holds a {kind}") from None
    raise LimitExceeded(f"received lists nested deeper: the limit depth is {depth}")


# Bytes that may begin an array or a map, wherever they stand: there are never fewer of them than
# of arrays and maps.
_OTHERS = bytes(b for b in range(256) if not (0x80 <= b <= 0x9F or 0xDC <= b <= 0xDF))

# Keys that share one hash take a dict quadratic time. Text has hashes that nobody can choose, and
# of 64-bit numbers some tens share one; those of a tuple can be chosen, in a dozen bytes each. A
# body of this size has room for so few that they take some tens of milliseconds.
_SHORT = 16 * 1024


def check_body(body: bytes, limits: Limits) -> None:
    """Refuses what would cost too much to read, before it is read.

    Args:
        body: One value in msgpack.
        limits: ``depth`` and ``message_items`` bound it.

    Raises:
        LimitExceeded: It goes over a limit, or has lists for keys and is long.
    """
    size = len(body)
    # An item takes a byte at least, and so does a level.
    if size <= limits.depth and size <= limits.message_items:
        return
    if (
        size > _SHORT
        or size > limits.message_items
        or len(body.translate(None, _OTHERS)) > limits.depth
    ):
        _walk(body, limits)


# For each first byte: how many bytes after it say a count, how many more there always are, and
# what it is that is counted.
_NOTHING, _BYTES, _ARRAY, _MAP = range(4)


def _heads() -> list[tuple[int, int, int]]:
    heads = [(0, 0, _NOTHING)] * 256
    for first, fixed in {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.items():
        heads[first] = (0, fixed, _NOTHING)
    for first, fixed in {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}.items():
        heads[first] = (0, fixed, _NOTHING)
    for first, fixed in {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}.items():
        heads[first] = (0, fixed, _NOTHING)
    for first, digits in {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}.items():
        heads[first] = (digits, 0, _BYTES)
    for first, digits in {0xC7: 1, 0xC8: 2, 0xC9: 4}.items():
        heads[first] = (digits, 1, _BYTES)
    for first in range(0xA0, 0xC0):
        heads[first] = (0, first & 0x1F, _NOTHING)
    heads[0xDC], heads[0xDD] = (2, 0, _ARRAY), (4, 0, _ARRAY)
    heads[0xDE], heads[0xDF] = (2, 0, _MAP), (4, 0, _MAP)
    return heads


_HEADS: Final = _heads()
_EXTENSIONS: Final = frozenset((*range(0xC7, 0xCA), *range(0xD4, 0xD9)))

# A number, True, False or None; and many of them in a row, which C reads at once.
_ONE = (
    rb"(?:[\x00-\x7f\xe0-\xff\xc0\xc2\xc3]|[\xcb\xcf\xd3].{8}|[\xcd\xd1]..|[\xca\xce\xd2].{4}"
    rb"|[\xcc\xd0].)"
)
_RUNS: Final = [(n, re.compile(_ONE + rb"{%d}" % n, re.DOTALL).match) for n in (1024, 64)]


def _walk(body: bytes, limits: Limits) -> None:
    """Counts the items and the levels of a body.

    One that is cut short or wrong in itself ends the walk early: whoever reads it says so.
    """
    at, end, items, most = 0, len(body), 0, limits.message_items
    # What is left of each container around the current item. In a map keys and values take
    # turns, and both count; `True` beside a number says that it is one.
    around: list[tuple[int, bool]] = []
    left, in_map = 1, False
    look = 0
    while at < end:
        while not left:
            if not around:
                return
            left, in_map = around.pop()
        if left >= 64 and at >= look:
            for length, match in _RUNS:
                while left >= length and (found := match(body, at)) is not None:
                    at, left, items = found.end(), left - length, items + length
            look = at + 256  # where there are no runs, they are not looked for at each item
            if items > most:
                break
            continue
        is_key = in_map and left % 2 == 0
        left -= 1
        items += 1
        if items > most:
            break
        first = body[at]
        if is_key and first in _EXTENSIONS:
            # A large integer: the hash of those can be chosen.
            raise LimitExceeded("received a long message with extensions for keys of a dictionary")
        digits, fixed, kind = _HEADS[first]
        at += 1
        count = 0
        if digits:
            count = int.from_bytes(body[at : at + digits], "big")
            at += digits
        elif 0x80 <= first <= 0x9F:
            count, kind = first & 0x0F, _MAP if first < 0x90 else _ARRAY
        at += fixed
        if kind == _BYTES:
            at += count
        elif kind:
            if is_key:
                raise LimitExceeded("received a long message with lists for keys of a dictionary")
            around.append((left, in_map))
            left, in_map = (2 * count, True) if kind == _MAP else (count, False)
            if len(around) > limits.depth:
                raise LimitExceeded(
                    f"received lists nested deeper: the limit depth is {limits.depth}"
                )
    if items > most:
        raise LimitExceeded(
            f"received a message of {most} items or more: the limit message_items is {most}"
        )
