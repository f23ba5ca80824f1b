"""Memory of the standard library, and of whatever else offers its own.

::

    memoryview, mmap, ctypes arrays, …  ["pbnb.memoryview", state]
    array.array                         ["pbnb.array", ["list", typecode, items, memory]]

where the first state is ``["list", items, ["list", length, …], memory]`` and

``items`` says of what kind they are, as numpy does: ``<i4``, ``|u1``, ``>f8``, ``|b1`` for truth
values and ``|S1`` for single bytes. What has the buffer protocol and is nothing else that is known
here arrives as a read-only memoryview, of the same shape, of the memory that was received. An
array arrives as an array of its own, which may grow.
"""

from __future__ import annotations

import math
import re
import sys
from array import array
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly
from ..wire.banana import Tree
from .tagging import Foreign, carried, check_reads, malformed, parts_of, shape_in

if TYPE_CHECKING:
    from .jelly import Jellier
    from .unjelly import Promise, Unjellier

__all__ = ["ARRAY_OF_ITEMS", "BUFFER_READERS", "buffer_jellier"]

MEMORY = b"pbnb.memoryview"
ITEMS = b"pbnb.array"

_KINDS = {"?": "b", "c": "S"}
_KINDS.update(
    dict.fromkeys("bhilqn", "i") | dict.fromkeys("BHILQN", "u") | dict.fromkeys("fd", "f")
)
_FORMATS = {
    **{b"b1": "?", b"S1": "c", b"f4": "f", b"f8": "d"},
    **{b"i1": "b", b"i2": "h", b"i4": "i", b"i8": "q"},
    **{b"u1": "B", b"u2": "H", b"u4": "I", b"u8": "Q"},
}
_CODE = re.compile(rb"\|([biuS]1)|([<>])([iu][248]|f[48])")
_NATIVE = b"<" if sys.byteorder == "little" else b">"


def buffer_jellier(obj: object) -> Foreign | None:
    """Returns how an object is sent that offers its memory, or None.

    A class that derives from one of byte strings means more than its bytes.
    """
    if isinstance(obj, bytes | bytearray):
        return None
    try:
        memoryview(obj).release()  # type: ignore[arg-type]
    except (TypeError, BufferError):
        return None
    return _MEMORY


def _items_of(format: str, size: int) -> bytes | None:
    prefix, kind = (format[0], format[1:]) if format[:1] in "@=<>!" else ("@", format)
    if kind not in _KINDS or not kind:
        return None
    order = b">" if prefix in ">!" else b"<" if prefix == "<" else _NATIVE
    return (b"|" if size == 1 else order) + f"{_KINDS[kind]}{size}".encode()


def _fill_memory(jellier: Jellier, obj: Any, node: list[Tree]) -> None:
    check_reads(jellier, MEMORY)
    view = memoryview(obj)
    items = _items_of(view.format, view.itemsize)
    if items is None or not _CODE.fullmatch(items):
        raise InsecureJelly(
            f"a {type(obj).__name__} with items of the format {view.format[:40]!r} is not sent: "
            "send memoryview().cast('B') of it, which has its bytes"
        )
    shape: Any = view.shape if view.nbytes else (0,)
    data = view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
    node.extend([MEMORY, [b"list", items, [b"list", *shape], carried(jellier, data, "memory")]])


def _fill_items(jellier: Jellier, items: array[Any], node: list[Tree]) -> None:
    check_reads(jellier, ITEMS)
    kind = _items_of(items.typecode, items.itemsize)
    if kind is None:
        raise InsecureJelly("an array of characters is not sent: send its tounicode()")
    memory = carried(jellier, items, "an array") if items else b""
    node.extend([ITEMS, [b"list", items.typecode.encode(), kind, memory]])


_MEMORY = Foreign(False, _fill_memory)
ARRAY_OF_ITEMS = Foreign(False, _fill_items)


# Receiving


def _native(tree: list[Tree], code: bytes, memory: Any) -> tuple[str, int, Any]:
    """Returns the format of items, their size, and their memory in this machine's order."""
    found = _CODE.fullmatch(code)
    if found is None:
        raise malformed(tree, "there are no items of that kind")
    kind = found[1] or found[3]
    size = int(kind[1:])
    if len(memory) % size:
        raise malformed(tree, f"{len(memory)} bytes are no items of {size}")
    if code == b"|b1" and bytes(memory).translate(None, b"\0\1"):
        raise malformed(tree, "a truth value is 0 or 1")
    if found[2] not in (None, _NATIVE):
        swapped = array(_FORMATS[b"u%d" % size], bytes(memory))
        swapped.byteswap()
        memory = swapped
    return _FORMATS[kind], size, memoryview(memory).cast("B")


def _read_memory(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    code, lengths, memory = parts_of(tree, bytes, list, (bytes, memoryview))
    shape = shape_in(tree, lengths)
    format, size, view = _native(tree, code, memory)
    if math.prod(shape) * size != len(view):
        raise malformed(tree, f"its shape does not make {len(view)} bytes")
    if not len(view) and len(shape) != 1:
        raise malformed(tree, "it has no items, and more than one dimension")
    made: Any = view.toreadonly()
    if len(shape) == 1:
        made = made.cast(format)
    else:
        made = made.cast(format, shape)
    u.keep(promise, made)
    return made


def _read_items(u: Unjellier, tree: list[Tree], promise: Promise | None) -> array[Any]:
    typecode, code, memory = parts_of(tree, bytes, bytes, (bytes, memoryview))
    format, size, view = _native(tree, code, memory)
    if code[1:] in (b"b1", b"S1"):
        raise malformed(tree, "there are no arrays of such items")
    # The letters mean different sizes on different machines: kept where this one agrees.
    letter = typecode.decode("latin-1")
    if (
        _KINDS.get(letter) == chr(code[1])
        and letter in "bBhHiIlLqQfd"
        and (array(letter).itemsize == size)
    ):
        format = letter
    made = array(format)
    made.frombytes(view)
    u.keep(promise, made)
    return made


BUFFER_READERS = {MEMORY: _read_memory, ITEMS: _read_items}
