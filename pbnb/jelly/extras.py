"""The simple types that PB never had and notebooks send every day.

::

    complex                      ["pbnb.complex", ["tuple", real, imaginary]]
    bytearray                    ["pbnb.bytearray", bytes]
    range                        ["pbnb.range", ["tuple", start, stop, step]]
    uuid.UUID                    ["pbnb.UUID", 16 bytes]
    pathlib.PosixPath, …         ["pbnb.PosixPath", bytes], and so for all four classes of paths
    datetime with a time zone    ["pbnb.datetime", "YYYY-MM-DDThh:mm:ss.ssssss+hh:mm"]
    time with a time zone        ["pbnb.time", "hh:mm:ss.ssssss+hh:mm"]

They look like copies, a type and a state, so that a program on Twisted refuses them as a type it
does not know, or learns one with ``setUnjellyableFactoryForClass``. A bytearray is shared by
identity as a list is; the others are atoms.

Of a time zone the offset travels, and its name stays behind: what arrives has a
`datetime.timezone`. A path is a name and nothing more. It arrives as a concrete path where this
system has paths of its kind, and as a pure one otherwise.

Twisted ends a connection over an *answer* of a type that it does not know. Before the first of
these goes out in an answer the peer is asked, therefore, with a call of ``types`` on the object
named ``pbnb``, which every pbnb has and nobody else.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import re
import uuid
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly
from ..flavors import Referenceable
from ..wire.banana import Tree
from .arrays import ARRAY_READERS, numpy_jellier
from .buffers import ARRAY_OF_ITEMS, BUFFER_READERS, buffer_jellier
from .images import IMAGE_READERS, image_jellier
from .tables import TABLE_READERS, table_jellier
from .tagging import Foreign, PeerNotAsked, malformed, tagged

if TYPE_CHECKING:
    from .jelly import Jellier
    from .unjelly import Promise, Unjellier

__all__ = [
    "ABOUT",
    "ABOUT_NAME",
    "EXTRA_ATOMS",
    "EXTRA_READERS",
    "EXTRA_TYPES",
    "PeerNotAsked",
    "fill_bytearray",
    "foreign",
    "jelly_aware",
    "types_in",
]

ABOUT_NAME = b"pbnb"

_LONGEST_PATH = 32 * 1024  # bytes; no system has longer ones
_MOST_TYPES = 1000


class About(Referenceable):
    """What a peer may ask of every pbnb, under the name ``pbnb``."""

    def remote_types(self) -> list[bytes]:
        """Returns the names of the types that this side reads beside PB's own."""
        return sorted(EXTRA_TYPES)


def types_in(answer: Any) -> frozenset[bytes]:
    """Returns the types that a peer has named; a failure, or anything odd, names none."""
    if type(answer) is not list or len(answer) > _MOST_TYPES:
        return frozenset()
    return frozenset(each for each in answer if type(each) is bytes) & EXTRA_TYPES


def _complex(jellier: Jellier, obj: complex) -> Tree:
    return tagged(jellier, b"pbnb.complex", [b"tuple", obj.real, obj.imag])


def _range(jellier: Jellier, obj: range) -> Tree:
    return tagged(jellier, b"pbnb.range", [b"tuple", obj.start, obj.stop, obj.step])


def _uuid(jellier: Jellier, obj: uuid.UUID) -> Tree:
    return tagged(jellier, b"pbnb.UUID", obj.bytes)


def fill_bytearray(jellier: Jellier, obj: bytearray, node: list[Tree]) -> None:
    """Fills in the expression of a bytearray."""
    node.extend(tagged(jellier, b"pbnb.bytearray", bytes(obj)))


def jelly_aware(jellier: Jellier, obj: datetime.datetime | datetime.time) -> Tree:
    """Returns the expression of a datetime or time that has a time zone."""
    if obj.utcoffset() is None:
        raise InsecureJelly(
            f"the offset of {obj!r:.200} is not known without a date: send a datetime, "
            "or drop its zone"
        )
    kind = b"pbnb.datetime" if isinstance(obj, datetime.datetime) else b"pbnb.time"
    return tagged(jellier, kind, obj.isoformat().encode("ascii"))


# Names of files are bytes on POSIX and 16-bit units on Windows. Both can hold what is no text,
# which Python keeps in surrogates of two kinds.
_PATHS: dict[bytes, tuple[type[pathlib.PurePath], str]] = {
    b"pbnb.PosixPath": (
        pathlib.PosixPath if os.name == "posix" else pathlib.PurePosixPath,
        "surrogateescape",
    ),
    b"pbnb.WindowsPath": (
        pathlib.WindowsPath if os.name == "nt" else pathlib.PureWindowsPath,
        "surrogatepass",
    ),
    b"pbnb.PurePosixPath": (pathlib.PurePosixPath, "surrogateescape"),
    b"pbnb.PureWindowsPath": (pathlib.PureWindowsPath, "surrogatepass"),
}


def _path(jellier: Jellier, obj: pathlib.PurePath) -> Tree:
    tag = f"pbnb.{type(obj).__name__}".encode()
    return tagged(jellier, tag, str(obj).encode("utf-8", _PATHS[tag][1]))


# Readers


def _bytes(tree: list[Tree], most: int) -> bytes:
    state = tree[1] if len(tree) == 2 else None
    if type(state) is not bytes or len(state) > most:
        raise malformed(tree, f"its state is at most {most} bytes")
    return state


def _numbers(tree: list[Tree], kind: type, count: int) -> Any:
    state = tree[1] if len(tree) == 2 else None
    if (
        type(state) is not list
        or len(state) != count + 1
        or state[0] != b"tuple"
        or any(type(part) is not kind for part in state[1:])
    ):
        raise malformed(tree, f"its state is a tuple of {count} numbers")
    return state[1:]


def _read_complex(u: Unjellier, tree: list[Tree], promise: Promise | None) -> complex:
    return complex(*_numbers(tree, float, 2))


def _read_range(u: Unjellier, tree: list[Tree], promise: Promise | None) -> range:
    start, stop, step = _numbers(tree, int, 3)
    if step == 0:
        raise malformed(tree, "a step of zero")
    return range(start, stop, step)


def _read_bytearray(u: Unjellier, tree: list[Tree], promise: Promise | None) -> bytearray:
    state = tree[1] if len(tree) == 2 else None
    if type(state) is not bytes:
        raise malformed(tree, "its state is a byte string")
    return bytearray(state)


def _read_uuid(u: Unjellier, tree: list[Tree], promise: Promise | None) -> uuid.UUID:
    state = _bytes(tree, 16)
    if len(state) != 16:
        raise malformed(tree, f"16 bytes, not {len(state)}")
    return uuid.UUID(bytes=state)


def _read_path(u: Unjellier, tree: list[Tree], promise: Promise | None) -> pathlib.PurePath:
    state = _bytes(tree, _LONGEST_PATH)
    if b"\0" in state:
        raise malformed(tree, "no path has a zero byte")
    cls, errors = _PATHS[tree[0]]  # type: ignore[index]
    try:
        return cls(state.decode("utf-8", errors))
    except UnicodeDecodeError as error:
        raise malformed(tree, error.reason) from None


# What isoformat() writes. fromisoformat() reads much more than that.
_TIME = rb"\d\d:\d\d:\d\d(?:\.\d{6})?[+-]\d\d:\d\d(?::\d\d(?:\.\d{6})?)?"


def _iso(pattern: bytes, make: Callable[[str], Any]) -> Callable[..., Any]:
    form = re.compile(pattern)

    def read(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
        state = _bytes(tree, 64)
        if form.fullmatch(state) is None:
            raise malformed(tree, "not in the form of isoformat(), with an offset")
        try:
            return make(state.decode("ascii"))
        except ValueError as error:
            raise malformed(tree, error) from None

    return read


ABOUT = About()

EXTRA_ATOMS: dict[type, Callable[[Jellier, Any], Tree]] = {
    complex: _complex,
    range: _range,
    uuid.UUID: _uuid,
    pathlib.PurePosixPath: _path,
    pathlib.PureWindowsPath: _path,
    pathlib.PosixPath: _path,
    pathlib.WindowsPath: _path,
}

# By the package that a class comes from: whoever has an object of it has imported the package.
_PACKAGES: dict[str, Callable[[type], Foreign | None]] = {
    "numpy": numpy_jellier,
    "pyarrow": table_jellier,
    "pandas": table_jellier,
    "polars": table_jellier,
    "PIL": image_jellier,
}


def foreign(obj: object) -> Foreign | None:
    """Returns how an object of another library, or one that offers its memory, is sent, or None.

    Raises:
        InsecureJelly: The library's class is known, and not sent.
    """
    if type(obj) is array:
        return ARRAY_OF_ITEMS
    for base in type(obj).__mro__:
        find = _PACKAGES.get(base.__module__.partition(".")[0])
        if find is not None and (found := find(type(obj))) is not None:
            return found
    return buffer_jellier(obj)


EXTRA_READERS: dict[bytes, Callable[[Unjellier, list[Tree], Promise | None], Any]] = {
    b"pbnb.complex": _read_complex,
    b"pbnb.bytearray": _read_bytearray,
    b"pbnb.range": _read_range,
    b"pbnb.UUID": _read_uuid,
    b"pbnb.datetime": _iso(rb"\d{4}-\d\d-\d\dT" + _TIME, datetime.datetime.fromisoformat),
    b"pbnb.time": _iso(_TIME, datetime.time.fromisoformat),
    **dict.fromkeys(_PATHS, _read_path),
    **ARRAY_READERS,
    **BUFFER_READERS,
    **IMAGE_READERS,
    **TABLE_READERS,
}

EXTRA_TYPES = frozenset(EXTRA_READERS)
"""The names of all these types on the wire."""
