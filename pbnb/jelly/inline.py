"""Plain values in banana, in one pass: what jelly and banana together would write, and back.

Most of what is said is plain: None, bools, numbers, text, byte strings, and lists, tuples and
dicts of these in which none appears twice. What `pbnb.jelly.jelly` and `pbnb.wire.banana` make of
such a value is written here without the tree in between, byte for byte, and read the same way::

    "x"      02 LIST 07 STRING unicode 01 STRING x
    [a, b]   03 LIST 08 VOCAB a b                      08 is the word "list"
    {k: v}   02 LIST 05 VOCAB 02 LIST k v              05 is the word "dictionary"

This is a shortcut and nothing else: whatever it does not know, in either direction, it leaves to
the two passes, and so are all errors theirs.
"""

from __future__ import annotations

import functools
import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, Final

from ..wire.banana import (
    FLOAT,
    INT,
    LIST,
    LONGINT,
    LONGNEG,
    NEG,
    PB_TOKENS,
    PB_WORDS,
    SMALL_INTS,
    STRING,
    VOCAB,
    write_int,
    write_token,
)
from ..wire.runs import LONGEST_PREFIX, float_run, int_run

__all__ = ["TEXT", "NotPlain", "read_items", "write_atom", "write_items"]

# How deep containers may lie in each other; deeper ones are left to the two passes.
_DEPTH = 24

_longest_word = max(map(len, PB_WORDS))
_words: Final = dict(enumerate(PB_WORDS, 1))
_LIST, _TUPLE, _DICTIONARY, _NONE = (
    PB_WORDS.index(word) + 1 for word in (b"list", b"tuple", b"dictionary", b"None")
)

_PAIR = write_token(2, LIST)
#: What stands before the bytes of a text.
TEXT: Final = _PAIR + write_token(7, STRING) + b"unicode"
_BOOLEAN = _PAIR + write_token(7, STRING) + b"boolean"
_TRUE = _BOOLEAN + write_token(4, STRING) + b"true"
_FALSE = _BOOLEAN + write_token(5, STRING) + b"false"
_NOTHING = write_token(1, LIST) + PB_TOKENS[b"None"]
_STRINGS = tuple(write_token(n, STRING) for n in range(128))
_TEXTS = tuple(TEXT + head for head in _STRINGS)
_KEY = _PAIR + TEXT
_TAGS: Final[dict[type, bytes]] = {
    list: PB_TOKENS[b"list"],
    tuple: PB_TOKENS[b"tuple"],
    dict: PB_TOKENS[b"dictionary"],
}
_HEADS = {
    kind: tuple(write_token(n + 1, LIST) + tag for n in range(127)) for kind, tag in _TAGS.items()
}
_FLOAT = bytes((FLOAT,))
_pack_float = struct.Struct(">Bd").pack
_unpack_float = struct.Struct(">d").unpack_from

# Keys that are text come again and again: both ways they are remembered, so many of them.
_MOST_KEYS = 1024
_LONGEST_KEY = 128
_keys_written: dict[str, bytes] = {}
_keys_read: dict[bytes, str] = {}

# From this length on it pays to look first whether all items are numbers of one type.
_LONG = 16
_SMALL = 128 * 128


class NotPlain(Exception):
    """A value, or what was received, is more than this module knows."""


def write_items(values: tuple[Any, ...], most_bits: int) -> list[bytes]:
    """Returns values one behind the other, as buffers to be joined.

    Args:
        values: Any values.
        most_bits: How long integers may be.

    Raises:
        NotPlain: One of them is not plain, or is met twice.
        UnicodeEncodeError: A text holds a lone surrogate.
    """
    out: list[bytes] = []
    append = out.append
    met: set[int] = set()
    # The containers around the current item, and whether they are dicts: then an item is a pair.
    around: list[tuple[Iterator[Any], bool]] = []
    items: Iterator[Any] = iter(values)
    pairs = False
    while True:
        for value in items:
            if pairs:
                key, value = value
                if type(key) is str:
                    append(_keys_written.get(key) or _write_key(key, most_bits))
                else:
                    append(_write_key(key, most_bits))
            kind = type(value)
            if kind is str:
                data = value.encode()
                size = len(data)
                # A text too is sent by its number where it is a word.
                if size <= _longest_word and data in PB_TOKENS:
                    append(TEXT)
                    append(PB_TOKENS[data])
                elif size < 128:
                    append(_TEXTS[size])
                    append(data)
                else:
                    append(TEXT + write_token(size, STRING))
                    append(data)
            elif kind is int:
                append(SMALL_INTS[value] if 0 <= value < _SMALL else _number(value, most_bits))
            elif kind is float:
                append(_pack_float(FLOAT, value))
            elif kind is bytes:
                size = len(value)
                if size <= _longest_word and value in PB_TOKENS:
                    append(PB_TOKENS[value])
                else:
                    append(_STRINGS[size] if size < 128 else write_token(size, STRING))
                    append(value)
            elif value is None:
                append(_NOTHING)
            elif kind is bool:
                append(_TRUE if value else _FALSE)
            elif kind in _HEADS:
                size = len(value)
                if id(value) in met or len(around) >= _DEPTH:
                    raise NotPlain
                met.add(id(value))
                append(
                    _HEADS[kind][size] if size < 127 else write_token(size + 1, LIST) + _TAGS[kind]
                )
                if size > _LONG and kind is not dict and (run := _run(value)) is not None:
                    append(run)
                    continue
                around.append((items, pairs))
                pairs = kind is dict
                items = iter(value.items() if pairs else value)
                break
            else:
                raise NotPlain
        else:
            if not around:
                return out
            items, pairs = around.pop()


def write_atom(value: object, most_bits: int) -> bytes | None:
    """Returns a value without parts, as `write_items` writes it; None for every other.

    Args:
        value: Any value.
        most_bits: How long integers may be.

    Raises:
        NotPlain: It is an integer that is longer.
        UnicodeEncodeError: It is a text that holds a lone surrogate.
    """
    kind = type(value)
    if kind is str:
        data = value.encode()  # type: ignore[attr-defined]
        size = len(data)
        if size >= _SMALL:
            return None  # to be copied no more than it has to be
        if size > _longest_word or data not in PB_TOKENS:
            return (_TEXTS[size] if size < 128 else TEXT + write_token(size, STRING)) + data  # type: ignore[no-any-return]
        return TEXT + PB_TOKENS[data]
    if kind is int:
        return _number(value, most_bits)  # type: ignore[arg-type]
    return _NOTHING if value is None else None


def _write_key(key: object, most_bits: int) -> bytes:
    """Returns a key behind the head of its pair."""
    if isinstance(key, tuple):
        raise NotPlain  # it may be met twice, among the values or among other keys
    token = _PAIR + b"".join(write_items((key,), most_bits))
    if type(key) is str and len(token) < _LONGEST_KEY:
        if len(_keys_written) >= _MOST_KEYS:
            _keys_written.clear()
        _keys_written[key] = token
    return token


def _number(value: int, most_bits: int) -> bytes:
    if value.bit_length() > most_bits:
        raise NotPlain
    return write_int(value)


def _run(items: list[Any] | tuple[Any, ...]) -> bytes | None:
    """Returns numbers of one type, one behind the other; None where they are not."""
    kinds = set(map(type, items))
    if kinds == {int} and min(items) >= 0:
        try:
            return b"".join(itemgetter(*items)(_small_ints()))
        except IndexError:
            return None  # one of them is larger
    if kinds == {float}:
        return _floats(items)
    return None


def _floats(items: list[Any] | tuple[Any, ...]) -> bytes:
    numbers = array("d", items)
    if sys.byteorder == "little":
        numbers.byteswap()
    data = numbers.tobytes()
    # No format of so many items: the module struct keeps each, with tens of bytes for an item.
    out = bytearray(9 * len(items))
    out[::9] = _FLOAT * len(items)
    for at in range(8):
        out[at + 1 :: 9] = data[at::8]
    return bytes(out)


@functools.cache
def _small_ints() -> tuple[bytes, ...]:
    # Made when a long list of numbers is first sent; looking in it takes half of what a dict takes.
    return tuple(map(SMALL_INTS.__getitem__, range(_SMALL)))


def read_items(
    buffer: bytes,
    at: int,
    count: int,
    into: list[Any],
    keys: int,
    names: list[Any] | None = None,
    depth: int = _DEPTH,
) -> int:
    """Reads values one behind the other.

    Args:
        buffer: Bytes of a stream.
        at: Where they begin.
        count: How many there are.
        into: Gets them.
        keys: How many keys a dict may have that are neither text nor byte strings, whose hashes
            a peer can choose.
        names: Gets the keys, where each value comes as a pair, a list of its key and itself.
        depth: How deep they may be nested.

    Returns:
        The position behind the last of them.

    Raises:
        NotPlain: They are more than plain values, or malformed.
        IndexError: The buffer ends before they do; that may be found to be `NotPlain`, too.
        UnicodeDecodeError: A text is not UTF-8, or the buffer ends within a character.
    """
    append = into.append
    while count:
        count -= 1
        if names is not None:
            # The usual key is text, of less than 128 bytes.
            token = buffer[at : at + 15 + buffer[at + 13]] if buffer[at + 3] == LIST else b""
            key = _keys_read.get(token) or _read_key(token)
            if key is not None:
                names.append(key)
                at += len(token)
            elif buffer.startswith(_PAIR, at):
                at = read_items(buffer, at + 2, 1, names, keys, None, depth)
                _check_key(names[-1], len(names) + count, keys)
            else:
                raise NotPlain
        first = buffer[at]
        start = at + 2
        if first < 3 and buffer[at + 1] == LIST:
            # Text, a bool or None; or a list or dict of one or nothing, which comes further down.
            # Slices are compared, because startswith() takes twice as long.
            if first == 1 and buffer[start] == _NONE and buffer[at + 3] == VOCAB:
                append(None)
                at += 4
                continue
            head = buffer[at : at + 11]
            if head == TEXT:
                size = buffer[at + 11]
                if buffer[at + 12] == STRING and size < 128:
                    start = at + 13
                    at = start + size
                    append(buffer[start:at].decode())
                else:
                    at = _read_text(buffer, at + 11, append)
                continue
            if head == _BOOLEAN:
                token = buffer[at : at + 13 + buffer[at + 11]]
                if token == _TRUE:
                    append(True)
                elif token == _FALSE:
                    append(False)
                else:
                    raise NotPlain
                at += len(token)
                continue
        if first < 0x80:
            kind = buffer[at + 1]
            shift = 7
            while kind < 0x80:
                if shift >= 7 * LONGEST_PREFIX:
                    raise NotPlain
                first |= kind << shift
                shift += 7
                kind = buffer[start]
                start += 1
            at = start
            if kind == INT:
                append(first)
                if count > _LONG and names is None and INT in (buffer[at + 1], buffer[at + 2]):
                    run, at = int_run(buffer, at, count)
                    into += run
                    count -= len(run)
            elif kind == LIST:
                tag = buffer[at]
                if buffer[at + 1] != VOCAB or not depth or not first:
                    raise NotPlain
                items: list[Any] = []
                inner: list[Any] | None = [] if tag == _DICTIONARY else None
                at = read_items(buffer, at + 2, first - 1, items, keys, inner, depth - 1)
                if inner is not None:
                    append(dict(zip(inner, items, strict=True)))
                elif tag == _LIST:
                    append(items)
                elif tag == _TUPLE:
                    append(tuple(items))
                else:
                    raise NotPlain
            elif kind == STRING:
                at += first
                append(buffer[start:at])
            elif kind == NEG or kind == LONGNEG:
                append(-first)
            elif kind == VOCAB and first in _words:
                append(_words[first])
            elif kind == LONGINT:
                append(first)
            else:
                raise NotPlain
        elif first == FLOAT:
            at += 9
            if at > len(buffer):
                raise IndexError
            append(_unpack_float(buffer, at - 8)[0])
            if count > _LONG and names is None and buffer[at] == FLOAT:
                floats, at = float_run(buffer, at, count)
                into += floats
                count -= len(floats)
        else:
            raise NotPlain
    if at > len(buffer):
        raise IndexError  # the last of them is a string, of which there is a part
    return at


def _read_text(buffer: bytes, at: int, append: Callable[[str], object]) -> int:
    """Reads what follows the head of a text that is not a short string; returns where it ends."""
    size, kind = buffer[at], buffer[at + 1]
    at += 2
    if size >= 0x80:
        raise NotPlain  # no prefix at all
    if kind < 0x80:
        size |= kind << 7
        kind = buffer[at]
        at += 1
    if kind == VOCAB and size in _words:
        append(_words[size].decode())
    elif kind == STRING and size < _SMALL:
        start = at
        at += size
        append(buffer[start:at].decode())
    else:
        raise NotPlain
    return at


def _read_key(token: bytes) -> str | None:
    """Returns the text of a key, whose pair begins the token; None where it is another."""
    if token[:13] != _KEY or token[14] != STRING or token[13] > 127:
        return None
    if len(token) != 15 + token[13]:
        return None  # the buffer ends before it does
    key = token[15:].decode()
    if len(_keys_read) >= _MOST_KEYS:
        _keys_read.clear()
    _keys_read[token] = key
    return key


def _check_key(key: object, size: int, most: int) -> None:
    """Refuses a key, of a dict of a size, of which only the two passes can tell what it costs."""
    kind = type(key)
    if kind not in _NAMES and (size >= most or kind not in _SIMPLE):
        raise NotPlain


_NAMES = frozenset((str, bytes))
_SIMPLE = frozenset((int, float, bool, type(None)))
