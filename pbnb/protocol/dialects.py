"""The dialects in which messages travel.

A message is a list as `pbnb.protocol.broker` describes it. Its parts that say a value (arguments,
keywords, answers, failures) are plain values, or an `Expression` of what jelly makes of them, in
whatever dialect.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from ..errors import BananaError, RemoteProtocolError
from ..jelly.inline import TEXT, NotPlain, read_items, write_atom, write_items
from ..limits import Limits
from ..wire.banana import (
    LIST,
    NEED_DATA,
    PB_TOKENS,
    PB_WORDS,
    NeedData,
    Tree,
    decode,
    encode,
    write_int,
    write_token,
)
from ..wire.dialect import BananaDialect, Dialect
from ..wire.frames import Expression, FrameDialect
from ..wire.runs import LONGEST_PREFIX, number_of

__all__ = ["DIALECTS", "PBDialect"]

# What the shortcut writes and reads is nested no deeper than this.
_DEEPEST = 64
# Longer than this is not what stands between the number of a call and its arguments.
_LONGEST_HEAD = 256

_CALL = write_token(7, LIST) + PB_TOKENS[b"message"]
_ANSWER = write_token(3, LIST) + PB_TOKENS[b"answer"]
_REMOTE = write_token(2, LIST) + PB_TOKENS[b"remote"]
_DECREF = write_token(2, LIST) + PB_TOKENS[b"decref"]
_TUPLE = PB_TOKENS[b"tuple"]
_TWO, _THREE = write_token(2, LIST), write_token(3, LIST)
_NO_KEYWORDS = write_token(1, LIST) + PB_TOKENS[b"dictionary"]
_ARGUMENTS = tuple(write_token(n, LIST) + _TUPLE for n in range(128))

# The number of a request; five digits are more than anybody has calls. Of a call then everything
# up to its arguments, of which there are few, and the head of the first if that is a short text.
# What is taken for the word in front of the arguments may stand in a string: see _read_head.
_NUMBER = rb"([\x00-\x7f]{1,5})\x81"
_call = re.compile(
    re.escape(_CALL)
    + _NUMBER
    + rb"(?:%b)?" % _NUMBER
    + rb"(.{2,%d}?)([\x01-\x7f])\x80" % _LONGEST_HEAD
    + re.escape(_TUPLE)
    + rb"(?:%b([\x00-\x7f])\x82)?" % re.escape(TEXT),
    re.DOTALL,
).match
# Of an answer the same, or all of a reference. And what gives one back.
_answer = re.compile(
    re.escape(_ANSWER)
    + _NUMBER
    + rb"(?:%b([\x00-\x7f])\x82|%b" % (re.escape(TEXT), re.escape(_REMOTE))
    + _NUMBER
    + rb")?"
).match
_decref = re.compile(re.escape(_DECREF) + _NUMBER).match

# Where the values of a message stand.
_VALUES = {b"message": (7, 5), b"cachemessage": (7, 5), b"answer": (3, 2), b"error": (3, 2)}


class PBDialect(BananaDialect):
    """PB's own: s-expressions in banana, with its vocabulary or without.

    Most messages hold nothing but plain values. With the vocabulary, these are written and read
    in one pass (`pbnb.jelly.inline`), and all others by jelly and by banana.
    """

    def __init__(self, name: bytes, words: tuple[bytes, ...] | None, limits: Limits) -> None:
        self._inline = words is PB_WORDS
        super().__init__(name, words, limits)
        self._most_written = self._most
        self._most_bits = 7 * limits.prefix_bytes
        # Whether the next message begins at the next byte, and is yet to be looked at.
        self._fresh = self._most > 0

    @property
    def limits(self) -> Limits:
        """What one message of the peer's may cost."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._most = _longest(limits) if self._inline else 0
        if not self._most:
            self._fresh = False

    # Writing

    def encode(self, tree: object, ordered: bool = False) -> list[Any]:
        """Returns one message, whole, so that none overtakes another.

        Raises:
            BananaError: The tree holds what banana cannot send, or goes over a limit.
        """
        if type(tree) is list:
            if self._most_written and (message := _short_message(tree)) is not None:
                return [message]
            tree = [each.tree if type(each) is Expression else each for each in tree]
        return super().encode(tree)

    def call(self, message: list[Any]) -> list[Any] | None:
        """Returns a call, to be written; None where it holds more than plain values."""
        _, request_id, luid, name, wants_answer, args, kw = message
        count = len(args) + 1
        if count > 127 or not self._most_written:
            return None
        try:
            # The usual call has one short argument.
            if count == 2 and (atom := write_atom(args[0], self._most_bits)) is not None:
                values = [atom]
            else:
                values = write_items(args, self._most_bits)
            keywords = b"".join(write_items((kw,), self._most_bits)) if kw else _NO_KEYWORDS
            if type(luid) is int:
                head = write_int(luid) + _head(None, name, wants_answer)
            else:
                head = _head(luid, name, wants_answer)
        except (NotPlain, UnicodeEncodeError):
            return None
        values.append(keywords)
        # Joined once: a large value is copied no more than that.
        said = b"".join((_CALL, write_int(request_id), head, _ARGUMENTS[count], *values))
        return [said] if len(said) <= self._most_written else None

    def answer(self, request_id: Any, value: object) -> list[Any] | None:
        """Returns an answer, to be written; None where it holds more than plain values."""
        if not self._most_written or type(request_id) is not int or not 0 <= request_id < 2**35:
            return None
        try:
            atom = write_atom(value, self._most_bits)
            values = write_items((value,), self._most_bits) if atom is None else (atom,)
        except (NotPlain, UnicodeEncodeError):
            return None
        said = b"".join((_ANSWER, write_int(request_id), *values))
        return [said] if len(said) <= self._most_written else None

    # Reading

    def next(self) -> Any | NeedData:
        """Returns the next complete message, or `NEED_DATA`.

        Raises:
            RemoteProtocolError: The stream can no longer be followed; raised again from now on.
        """
        if self._fresh:
            buffer, position = self._buffer, self._position
            if len(buffer) == position and not self._fed:
                self.readable = False
                return NEED_DATA
            try:
                return self._read_inline(buffer, position)
            except (NotPlain, IndexError, UnicodeDecodeError, RecursionError):
                # Once for each message, which may come in any number of parts.
                self._fresh = False
        tree = super().next()
        if tree is NEED_DATA:
            return tree
        self._fresh = self._most > 0
        return _with_expressions(tree)

    def _read_inline(self, buffer: bytes, start: int) -> Any:
        message: list[Any]
        luid: int | bytes
        length = buffer[start]
        if length == 7 and (call := _call(buffer, start)) is not None:
            number, digits, head, count, size = call.groups()
            if digits is None:
                luid, name, wants_answer = _read_head(head, True)
            else:
                _, name, wants_answer = _read_head(head, False)
                luid = number_of(digits)
            values: list[Any] = []
            keywords: dict[Any, Any] = {}
            at = call.end()
            if size is not None and count == b"\x02":
                text = buffer[at : at + size[0]]
                if len(text) < size[0]:
                    raise IndexError
                values.append(text.decode())
                at += size[0]
            else:
                at = call.end(4) + 3
                at = read_items(buffer, at, count[0] - 1, values, self._limits.hash_collisions)
            if buffer.startswith(_NO_KEYWORDS, at):
                at += len(_NO_KEYWORDS)
            else:
                found: list[Any] = []
                at = read_items(buffer, at, 1, found, 0)
                keywords = found[0]
                if type(keywords) is not dict:
                    raise NotPlain
            message = [b"message", number_of(number), luid, name, wants_answer, values, keywords]
        elif length == 3 and (answer := _answer(buffer, start)) is not None:
            number, size, luid = answer.groups()
            at = answer.end()
            if luid is not None:
                value: Any = Expression([b"remote", number_of(luid)])
            elif size is not None:
                text = buffer[at : at + size[0]]
                if len(text) < size[0]:
                    raise IndexError
                value = text.decode()
                at += size[0]
            else:
                found = []
                at = read_items(buffer, at, 1, found, self._limits.hash_collisions)
                value = found[0]
            message = [b"answer", number_of(number), value]
        elif length == 2 and (decref := _decref(buffer, start)) is not None:
            message = [b"decref", number_of(decref[1])]
            at = decref.end()
        else:
            raise NotPlain
        if at - start > self._most:
            raise NotPlain
        self._position = at
        self.readable = at < len(buffer) or bool(self._fed)
        return message


def _short_message(message: list[Any]) -> bytes | None:
    """Returns what lends or gives back one reference; None for every other message."""
    if len(message) == 2 and message[0] == b"decref":
        return _DECREF + write_int(message[1])
    if len(message) == 3 and message[0] == b"answer" and type(message[2]) is Expression:
        request_id, tree = message[1], message[2].tree
        if type(tree) is list and len(tree) == 2 and tree[0] == b"remote":
            luid = tree[1]
            if type(request_id) is not int or type(luid) is not int:
                return None  # an object's jellyFor may have said that
            if 0 <= request_id < 2**35 and 0 < luid < 2**35:
                return b"".join((_ANSWER, write_int(request_id), _REMOTE, write_int(luid)))
    return None


def _longest(limits: Limits) -> int:
    """Returns how long a message may be of which these limits need not be looked at in detail."""
    if limits.depth < _DEEPEST or limits.prefix_bytes < LONGEST_PREFIX:
        return 0
    # A message has no more items than bytes, and no longer strings or lists.
    return min(limits.message_bytes, limits.message_items, limits.string_bytes, limits.list_items)


@functools.lru_cache(maxsize=1024)
def _head(luid: int | bytes | None, name: str, wants_answer: bool) -> bytes:
    """Returns what stands between the number of a call and its arguments, or behind a luid."""
    tree = [name.encode(), int(wants_answer)]
    return encode(tree if luid is None else [luid, *tree])[2:]


@functools.lru_cache(maxsize=1024)
def _read_head(head: bytes, with_luid: bool) -> tuple[bytes, str, int]:
    """Returns the luid, the name and whether an answer is wanted.

    Args:
        head: What stands between the number of a call and its arguments, or begins so: then it is
            not as many tokens as it has to be.
        with_luid: Whether it begins with a luid that is no small number, as that of a root.
    """
    try:
        tree = decode((_THREE if with_luid else _TWO) + head)
    except (BananaError, RemoteProtocolError):
        raise NotPlain from None
    assert type(tree) is list
    *luids, name, wants_answer = tree
    luid = luids[0] if luids else b""
    if type(luid) is not bytes or type(name) is not bytes or type(wants_answer) is not int:
        raise NotPlain
    return luid, name.decode("utf-8", "replace"), wants_answer


def _with_expressions(message: Tree) -> Any:
    """Marks the s-expressions in a message as what they are."""
    if type(message) is list and message and type(message[0]) is bytes:
        length, first = _VALUES.get(message[0], (0, 0))
        if len(message) == length:
            return [*message[:first], *map(Expression, message[first:])]
    return message


def _pb(limits: Limits) -> Dialect:
    return PBDialect(b"pb", PB_WORDS, limits)


def _none(limits: Limits) -> Dialect:
    return PBDialect(b"none", None, limits)


#: Every dialect by its name, in order of preference.
DIALECTS: Final[Mapping[bytes, Callable[[Limits], Dialect]]] = MappingProxyType(
    {FrameDialect.name: FrameDialect, b"pb": _pb, b"none": _none}
)
