"""Arrays and scalars of numpy, as the memory that they are.

::

    numpy.ndarray   ["pbnb.ndarray", ["list", dtype, order, ["list", length, …], memory]]
    numpy.float64…  ["pbnb.scalar", ["list", dtype, memory]]

``order`` is ``C`` or ``F``; an array whose items do not lie in a row in either is copied to C.
``memory`` is a byte string or travels beside the message (`pbnb.jelly.tagging`). A ``dtype`` is
what `numpy.dtype.str` writes, with the byte order always said; a long double has the number of
bits of its mantissa behind it, since machines differ there, as in ``<f16/63``. Of a structured one
it is ``["list", size, ["list", name, dtype, offset, length, …], …]``.

An array that arrives is a read-only view of the memory that was received. Every dtype is rebuilt
from what the grammar here allows, never by numpy's own reading of a peer's words, and none that
holds objects. Items that numpy trusts to be valid, truth values and text, are checked.

Nothing here imports numpy before an array is there: one to be sent, or one that has come.
"""

from __future__ import annotations

import math
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly
from ..wire.banana import Tree
from ..wire.segments import is_shared
from .tagging import (
    Foreign,
    carried,
    check_reads,
    check_size,
    malformed,
    parts_of,
    shape_in,
    tagged,
)

if TYPE_CHECKING:
    from .jelly import Jellier
    from .unjelly import Promise, Unjellier

__all__ = ["ARRAY_READERS", "numpy_jellier"]

ARRAY = b"pbnb.ndarray"
SCALAR = b"pbnb.scalar"

_SIMPLE = re.compile(
    rb"\|b1|\|[iu]1|[<>](?:[iu][248]|f[248]|c8|c16|U\d{1,9})|\|[SV]\d{1,10}"
    rb"|[<>][mM]8(?:\[(?:[1-9]\d{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_LONG = re.compile(rb"([<>](?:f12|f16|c24|c32))/(\d{1,3})")
_DEEPEST = 8  # structures within structures
_MOST_FIELDS = 1000
# Items of an array that takes no memory: a loop over them is not free.
_MOST_EMPTY = 1_000_000
_LARGEST_ITEM = 2**31 - 1
_LAST_CODE_POINT = 0x10FFFF


def _numpy(tag: bytes) -> Any:
    """Returns numpy, for an array that has come."""
    try:
        import numpy
    except ImportError:
        raise InsecureJelly(
            f"a {tag.decode()} was received, and numpy is not installed here: pip install numpy"
        ) from None
    return numpy


# Sending


def numpy_jellier(kind: type) -> Foreign | None:
    """Returns how objects of a class that comes from numpy are sent.

    Args:
        kind: The class: numpy's own, or one that derives from such.

    Raises:
        InsecureJelly: It is an array and more than that.
    """
    np = sys.modules.get("numpy")
    if np is None:
        return None
    if kind is np.ndarray or kind is np.memmap:
        return _ARRAY
    if issubclass(kind, np.generic) and kind.__module__ == "numpy":
        return _SCALAR
    if issubclass(kind, np.ndarray):
        raise InsecureJelly(
            f"a {kind.__module__}.{kind.__qualname__} is not sent: it is an array and more than "
            "that; send numpy.asarray() of it"
        )
    return None


def _fill_array(jellier: Jellier, array: Any, node: list[Tree]) -> None:
    check_reads(jellier, ARRAY)
    np = sys.modules["numpy"]
    array = array.view(np.ndarray)
    dtype = _spelled(array.dtype)
    shape = array.shape
    check_size(jellier, array.nbytes, "a numpy array")
    if not array.nbytes:
        _check_empty(shape, InsecureJelly("an array of so many items without memory is not sent"))
    if _has_gaps(array.dtype):
        array = _without_gaps(array)
    order = b"C"
    if not array.flags.c_contiguous:
        if array.flags.f_contiguous:
            order, array = b"F", array.T
        else:
            array = np.ascontiguousarray(array)
    flat = array.reshape(-1).view(np.uint8) if array.nbytes else b""
    memory = carried(jellier, flat, "a numpy array")
    node.extend([ARRAY, [b"list", dtype, order, [b"list", *shape], memory]])


def _jelly_scalar(jellier: Jellier, scalar: Any) -> Tree:
    np = sys.modules["numpy"]
    if isinstance(scalar, str):  # whose zeros at the end an array would drop, as of bytes
        memory, dtype = scalar.encode("utf-32-le", "surrogatepass"), b"<U%d" % len(scalar)
    elif isinstance(scalar, bytes):
        memory, dtype = bytes(scalar), b"|S%d" % len(scalar)
    else:
        dtype = _spelled(scalar.dtype)
        array = np.asarray(scalar)
        memory = (_without_gaps(array) if _has_gaps(array.dtype) else array).tobytes()
    return tagged(jellier, SCALAR, [b"list", dtype, carried(jellier, memory, "a numpy scalar")])


_ARRAY = Foreign(False, _fill_array)
_SCALAR = Foreign(True, _jelly_scalar)


@lru_cache(256)
def _spelled(dtype: Any) -> Any:
    """Returns the expression of a dtype.

    Raises:
        InsecureJelly: It cannot be sent.
    """
    if dtype.hasobject:
        raise InsecureJelly(
            f"a numpy array of the dtype {dtype} is not sent: its items are Python objects "
            "elsewhere in memory; send its tolist(), or give it a dtype of numbers or of text"
        )
    try:
        spelled = _spell(dtype)
        same = _dtype([ARRAY], spelled, sys.modules["numpy"]) == dtype
    except InsecureJelly:
        same = False
    if not same:
        raise InsecureJelly(
            f"a numpy array of the dtype {str(dtype)[:80]} is not sent: it is none of numpy's "
            "plain ones; give it another with astype()"
        )
    return spelled


def _spell(dtype: Any) -> Any:
    if dtype.names is None:
        text = dtype.str.encode("ascii")
        if dtype.kind in "fc" and _LONG.fullmatch(text + b"/0"):
            text += b"/%d" % sys.modules["numpy"].finfo(dtype).nmant
        return text
    fields = []
    for name in dtype.names:
        field, offset, *title = dtype.fields[name]
        if title:
            raise InsecureJelly("a field has a title")
        base, shape = field.subdtype or (field, ())
        fields.append([b"list", [b"unicode", name.encode("utf-8")], _spell(base), offset, *shape])
    return [b"list", dtype.itemsize, *fields]


def _has_gaps(dtype: Any) -> bool:
    """Returns whether there is memory in an item which no field shows."""
    if dtype.names is None:
        return dtype.subdtype is not None and _has_gaps(dtype.base)
    fields = [dtype.fields[name][0] for name in dtype.names]
    return dtype.itemsize != sum(each.itemsize for each in fields) or any(map(_has_gaps, fields))


def _without_gaps(array: Any) -> Any:
    """Returns a copy in which the memory between the fields is zero: what it was stays here."""
    np = sys.modules["numpy"]
    made = np.zeros(array.shape, array.dtype, order="F" if array.flags.fnc else "C")
    _copy_fields(array, made)
    return made


def _copy_fields(source: Any, target: Any) -> None:
    if source.dtype.names is None:
        target[...] = source
        return
    for name in source.dtype.names:
        _copy_fields(source[name], target[name])


def _check_empty(shape: tuple[int, ...], error: Exception) -> None:
    if math.prod(length for length in shape if length) > _MOST_EMPTY:
        raise error


# Receiving


def _read_array(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    dtype_tree, order, lengths, memory = parts_of(
        tree, (bytes, list), bytes, list, (bytes, memoryview)
    )
    if order not in (b"C", b"F"):
        raise malformed(tree, "its order is C or F")
    shape = shape_in(tree, lengths)
    np = _numpy(ARRAY)
    made = _array(np, tree, _dtype(tree, dtype_tree, np), shape, memory, order.decode())
    u.keep(promise, made)
    return made


def _read_scalar(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    dtype_tree, memory = parts_of(tree, (bytes, list), (bytes, memoryview))
    np = _numpy(SCALAR)
    dtype = _dtype(tree, dtype_tree, np)
    made = _array(np, tree, dtype, (), memory, "C")
    if dtype.kind == "S":
        return np.bytes_(bytes(memory))
    if dtype.kind == "U":
        order = "utf-32-be" if dtype_tree[:1] == b">" else "utf-32-le"
        return np.str_(bytes(memory).decode(order, "surrogatepass"))
    return made[()]


def _array(
    np: Any, tree: list[Tree], dtype: Any, shape: tuple[int, ...], memory: Any, order: str
) -> Any:
    size = math.prod(shape) * dtype.itemsize
    if size != len(memory):
        raise malformed(tree, f"its dtype and shape make {size} bytes, and it has {len(memory)}")
    if not size:
        _check_empty(shape, malformed(tree, "it has too many items without memory"))
    if is_shared(memory) and _is_believed(dtype):
        # What the peer could change after it was checked is not worth a check.
        memory = memoryview(bytes(memory))
    try:
        if dtype.itemsize:
            made = np.ndarray(shape, dtype, memory, order=order)
        else:
            made = np.zeros(shape, dtype, order)
    except (ValueError, TypeError, MemoryError) as error:
        raise malformed(tree, error) from None
    if size:
        whole = np.dtype([("item", dtype)])
        _check_items(tree, np.frombuffer(memory, _checked(whole, np)), whole)
    made.flags.writeable = False
    return made


def _dtype(tree: list[Tree], spelled: Any, np: Any, depth: int = _DEEPEST) -> Any:
    """Returns the dtype of an expression.

    Raises:
        InsecureJelly: It is not in the grammar.
    """
    if type(spelled) is list:
        return _structure(tree, spelled, np, depth)
    if type(spelled) is not bytes or len(spelled) > 40:
        raise malformed(tree, "a dtype is a byte string or a list")
    if long := _LONG.fullmatch(spelled):
        dtype = np.dtype(np.longdouble if long[1][1:2] == b"f" else np.clongdouble)
        dtype = dtype.newbyteorder(long[1][:1].decode())
        if dtype.str.encode() != long[1] or np.finfo(dtype).nmant != int(long[2]):
            raise InsecureJelly("a long double was received, of a form that this machine has not")
        return dtype
    if not _SIMPLE.fullmatch(spelled):
        raise malformed(tree, f"{spelled[:40]!r} is no dtype that is read here")
    if spelled[1:2] in b"SVU" and int(spelled[2:]) * 4 > _LARGEST_ITEM:
        raise malformed(tree, "its items are too large")
    return np.dtype(spelled.decode("ascii"))


def _structure(tree: list[Tree], spelled: list[Any], np: Any, depth: int) -> Any:
    if not depth or len(spelled) - 2 > _MOST_FIELDS:
        raise malformed(tree, f"{_DEEPEST} structures in each other and {_MOST_FIELDS} fields")
    if len(spelled) < 2 or spelled[0] != b"list" or type(spelled[1]) is not int:
        raise malformed(tree, "a structure is a list of its size and its fields")
    size = spelled[1]
    if not 0 <= size <= _LARGEST_ITEM:
        raise malformed(tree, "its items are too large")
    names, formats, offsets = [], [], []
    for field in spelled[2:]:
        if type(field) is not list or len(field) < 4 or field[0] != b"list":
            raise malformed(tree, "a field is a list of its name, dtype and offset")
        names.append(_name(tree, field[1]))
        base = _dtype(tree, field[2], np, depth - 1)
        shape = shape_in(tree, [b"list", *field[4:]])
        room = base.itemsize * math.prod(shape)
        offset = field[3]
        if type(offset) is not int or not 0 <= offset <= size - room:
            raise malformed(tree, "a field reaches beyond its item")
        if shape and math.prod(length for length in shape if length) > _LARGEST_ITEM:
            raise malformed(tree, "a field has too many items")
        formats.append((base, shape) if shape else base)
        offsets.append(offset)
    if len(set(names)) != len(names):
        raise malformed(tree, "two of its fields have one name")
    parts = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    try:
        return np.dtype(parts)
    except (ValueError, TypeError) as error:
        raise malformed(tree, error) from None


def _name(tree: list[Tree], name: Any) -> str:
    if type(name) is list and len(name) == 2 and name[0] == b"unicode" and type(name[1]) is bytes:
        try:
            return name[1].decode("utf-8")
        except UnicodeDecodeError:
            pass  # no text, which is what is said below
    raise malformed(tree, "the name of a field is text")


def _checked(dtype: Any, np: Any) -> Any:
    """Returns a dtype of the same layout, in which truth values and text are numbers."""
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        return np.dtype(
            {
                "names": list(dtype.names),
                "formats": [_checked(field, np) for field, *_ in fields],
                "offsets": [offset for _, offset, *_ in fields],
                "itemsize": dtype.itemsize,
            }
        )
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_checked(base, np), shape))
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "U" and dtype.itemsize:
        return np.dtype((np.dtype(np.uint32).newbyteorder(dtype.byteorder), (dtype.itemsize // 4,)))
    return dtype


def _is_believed(dtype: Any) -> bool:
    """Returns whether there are items in it that `_check_items` has to look at."""
    while dtype.subdtype is not None:
        dtype = dtype.base
    if dtype.names is not None:
        return any(_is_believed(dtype.fields[name][0]) for name in dtype.names)
    return dtype.kind in "bU"


def _check_items(tree: list[Tree], items: Any, dtype: Any) -> None:
    """Refuses what numpy would believe: it counts on a bool to be 0 or 1."""
    while dtype.subdtype is not None:
        dtype = dtype.base
    if dtype.names is not None:
        for name in dtype.names:
            _check_items(tree, items[name], dtype.fields[name][0])
    elif dtype.kind == "b":
        if items.size and items.max() > 1:
            raise malformed(tree, "a truth value is 0 or 1")
    elif dtype.kind == "U" and items.size and items.max() > _LAST_CODE_POINT:
        raise malformed(tree, "text with a character that does not exist")


ARRAY_READERS = {ARRAY: _read_array, SCALAR: _read_scalar}
