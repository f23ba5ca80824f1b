"""Tables of pyarrow, pandas and polars, as streams of Arrow.

::

    pyarrow.Table, RecordBatch  ["pbnb.arrow", ["list", class, stream]]
    pandas.DataFrame, Series    ["pbnb.pandas", ["list", class, name, stream]]
    polars.DataFrame, Series    ["pbnb.polars", ["list", class, name, stream]]

``stream`` is one schema and its record batches in Arrow's own stream format, uncompressed. ``name``
is that of a series, and None of a frame. A table of pyarrow or polars is made of the memory that
was received; a frame of pandas is one of its own, as pandas wants it.

A stream is read by pyarrow, which checks it whole. Refused are compressed ones, extension types,
which would call what is registered for them, and layouts whose rows may take no memory of their
own, since a few bytes would say any number of them.

Nothing here imports a library before a table of it is there.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

from ..errors import InsecureJelly
from ..wire.banana import Tree
from ..wire.segments import is_shared
from .tagging import Foreign, carried, check_reads, check_size, malformed, parts_of

if TYPE_CHECKING:
    from .jelly import Jellier
    from .unjelly import Promise, Unjellier

__all__ = ["TABLE_READERS", "table_jellier"]

ARROW = b"pbnb.arrow"
PANDAS = b"pbnb.pandas"
POLARS = b"pbnb.polars"

_CLASSES = {
    "pyarrow": (ARROW, ("Table", "RecordBatch")),
    "pandas": (PANDAS, ("DataFrame", "Series")),
    "polars": (POLARS, ("DataFrame", "Series")),
}
# Rows that need no memory: a loop over them is not free.
_MOST_EMPTY = 1_000_000
_NAMES = (type(None), str, int, float, bytes, bool)
_DEEPEST = 32
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def table_jellier(kind: type) -> Foreign | None:
    """Returns how objects of a class that comes from one of the libraries are sent.

    Args:
        kind: The class: a library's own, or one that derives from such.

    Raises:
        InsecureJelly: It is a table and more than that.
    """
    for name, (tag, classes) in _CLASSES.items():
        module = sys.modules.get(name)
        for each in classes if module is not None else ():
            cls = getattr(module, each, None)
            if kind is cls:
                return _WRITERS[tag]
            if isinstance(cls, type) and issubclass(kind, cls):
                raise InsecureJelly(
                    f"a {kind.__module__}.{kind.__qualname__} is not sent: it is a {each} and "
                    f"more than that; send a plain {name}.{each} of it"
                )
    return None


def _imported(name: str, tag: bytes) -> Any:
    """Returns a library, for a table that has come or is to go."""
    try:
        if name == "pyarrow":
            import pyarrow
            import pyarrow.ipc

            return pyarrow
        if name == "pandas":
            import pandas

            return pandas
        import polars

        return polars
    except ImportError:
        raise InsecureJelly(
            f"a {tag.decode()} takes {name}, which is not installed here: pip install {name}"
        ) from None


# Sending


def _fill_arrow(jellier: Jellier, table: Any, node: list[Tree]) -> None:
    check_reads(jellier, ARROW)
    kind = type(table).__name__.encode()
    node.extend([ARROW, [b"list", kind, _stream(jellier, ARROW, table)]])


def _fill_pandas(jellier: Jellier, frame: Any, node: list[Tree]) -> None:
    check_reads(jellier, PANDAS)
    pa = _imported("pyarrow", PANDAS)
    kind, name = type(frame).__name__, None
    if kind == "Series":
        name, frame = frame.name, frame.to_frame("value")
        if type(name) not in _NAMES:
            raise InsecureJelly(
                f"a pandas Series is not sent under the name {name!r:.80}: rename() it to text"
            )
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InsecureJelly(f"a pandas {kind} is not sent: {error}") from None
    stream = _stream(jellier, PANDAS, table)
    node.extend([PANDAS, [b"list", kind.encode(), jellier.jelly(name), stream]])


def _fill_polars(jellier: Jellier, frame: Any, node: list[Tree]) -> None:
    check_reads(jellier, POLARS)
    _imported("pyarrow", POLARS)
    pl = sys.modules["polars"]
    kind, name = type(frame).__name__, None
    if kind == "Series":
        name, frame = frame.name, frame.alias("value").to_frame()
    if pl.Object in frame.dtypes:  # polars itself would write their addresses
        raise InsecureJelly(f"a polars {kind} of Python objects is not sent: cast() it")
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    stream = _stream(jellier, POLARS, table)
    node.extend([POLARS, [b"list", kind.encode(), jellier.jelly(name), stream]])


_WRITERS = {
    ARROW: Foreign(False, _fill_arrow),
    PANDAS: Foreign(False, _fill_pandas),
    POLARS: Foreign(False, _fill_polars),
}


def _stream(jellier: Jellier, tag: bytes, table: Any) -> Any:
    pa = _imported("pyarrow", tag)
    what = f"a {type(table).__name__} of Arrow"
    check_size(jellier, table.nbytes, what)
    for field in table.schema:
        _check_type(pa, field.type, InsecureJelly(f"a column of the type {field.type} is not sent"))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return carried(jellier, sink.getvalue(), what)


# Receiving


def _read_arrow(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    kind, stream = parts_of(tree, bytes, (bytes, memoryview))
    made = _table(tree, stream)
    if kind == b"RecordBatch" and len(made.to_batches()) == 1:
        made = made.to_batches()[0]
    elif kind != b"Table":
        raise malformed(tree, "it is a Table, or the one RecordBatch of its stream")
    u.keep(promise, made)
    return made


def _read_pandas(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    kind, name, table = _frame_in(u, tree)
    _imported("pandas", PANDAS)
    try:
        made = table.to_pandas()
    except Exception as error:  # pandas' words about itself come from the peer
        raise malformed(tree, error) from None
    if kind == b"Series":
        made = _column(tree, made, list(made.columns))
        made.name = name
    u.keep(promise, made)
    return made


def _read_polars(u: Unjellier, tree: list[Tree], promise: Promise | None) -> Any:
    kind, name, table = _frame_in(u, tree)
    pl = _imported("polars", POLARS)
    made = pl.from_arrow(table)
    if kind == b"Series":
        made = _column(tree, made, made.columns).alias(name)
    u.keep(promise, made)
    return made


def _column(tree: list[Tree], frame: Any, columns: list[Any]) -> Any:
    if columns != ["value"]:
        raise malformed(tree, "a series is one column")
    return frame["value"]


def _frame_in(u: Unjellier, tree: list[Tree]) -> tuple[bytes, Any, Any]:
    kind, name_tree, stream = parts_of(tree, bytes, (int, bytes, float, list), (bytes, memoryview))
    if kind not in (b"DataFrame", b"Series"):
        raise malformed(tree, "it is a DataFrame or a Series")
    name = u.unjelly(name_tree)
    if type(name) not in _NAMES:
        raise malformed(tree, "the name of a series is text or a number")
    return kind, name, _table(tree, stream)


def _table(tree: list[Tree], stream: Any) -> Any:
    """Returns the table of a stream, which was checked whole."""
    tag = tree[0]
    assert isinstance(tag, bytes)
    pa = _imported("pyarrow", tag)
    # What the peer could change after it was checked is not worth a check.
    buffer = pa.py_buffer(bytes(stream) if is_shared(stream) else stream)
    try:
        _check_messages(tree, pa, buffer)
        reader = pa.ipc.open_stream(buffer)
        for field in reader.schema:
            # Their names have to be text, too, which is found out by reading them.
            named = f"a column {field.name} of the type {field.type}"
            _check_type(pa, field.type, malformed(tree, named[:200]))
        table = reader.read_all()
        table.validate(full=True)
    except InsecureJelly:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, struct.error) as error:
        raise malformed(tree, str(error)[:200]) from None
    if table.num_rows > _MOST_EMPTY + 8 * len(stream):
        raise malformed(tree, "it has more rows than its bytes can hold")
    return table


def _check_messages(tree: list[Tree], pa: Any, buffer: Any) -> None:
    """Refuses what may not be read, before anything is made of it."""
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(buffer)):
        head = bytes(message.metadata)
        if number == 0 and b"ARROW:extension:" in head:
            raise malformed(tree, "extension types are not read")
        if _is_compressed(head):
            raise malformed(tree, "compressed streams are not read")


def _is_compressed(head: bytes) -> bool:
    """Returns whether a message of Arrow says that its buffers are compressed.

    It is a flatbuffer, which pyarrow has checked: a Message holds a RecordBatch, perhaps within a
    DictionaryBatch, and its fourth field is the compression.
    """
    message = _offset(head, 0)
    kind = _field(head, message, 1)
    batch = _field(head, message, 2)
    if not kind or not batch or head[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return False
    batch = _offset(head, batch)
    if head[kind] == _DICTIONARY_BATCH:
        data = _field(head, batch, 1)
        if not data:
            return False
        batch = _offset(head, data)
    return _field(head, batch, 3) != 0


def _offset(head: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", head, at)[0])


def _field(head: bytes, table: int, number: int) -> int:
    """Returns where a field of a flatbuffer's table is, or 0 where it is left out."""
    fields = table - struct.unpack_from("<i", head, table)[0]
    size = struct.unpack_from("<H", head, fields)[0]
    if 4 + 2 * number >= size:
        return 0
    at = struct.unpack_from("<H", head, fields + 4 + 2 * number)[0]
    return table + at if at else 0


def _check_type(pa: Any, kind: Any, error: Exception, depth: int = _DEEPEST) -> None:
    """Refuses a type of Arrow whose rows need not take memory, at whatever depth."""
    types = pa.types
    views = ("is_list_view", "is_large_list_view", "is_string_view", "is_binary_view")
    if (
        not depth
        or isinstance(kind, pa.BaseExtensionType)
        or types.is_run_end_encoded(kind)
        or types.is_union(kind)
        or any(getattr(types, name)(kind) for name in views)
        or (depth < _DEEPEST and _takes_no_memory(types, kind))
    ):
        raise error
    if types.is_dictionary(kind):
        _check_type(pa, kind.value_type, error, depth - 1)
    for index in range(kind.num_fields):
        part = kind.field(index)
        if type(part.name) is not str:  # which fails already where it is no text
            raise error
        _check_type(pa, part.type, error, depth - 1)


def _takes_no_memory(types: Any, kind: Any) -> bool:
    return bool(
        types.is_null(kind)
        or (types.is_struct(kind) and not kind.num_fields)
        or (types.is_fixed_size_list(kind) and not kind.list_size)
        or (types.is_fixed_size_binary(kind) and not kind.byte_width)
    )


TABLE_READERS = {ARROW: _read_arrow, PANDAS: _read_pandas, POLARS: _read_polars}
