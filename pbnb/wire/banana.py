"""Banana: trees of byte strings, integers, floats and lists, as bytes and back.

A token is a prefix, a type byte of at least 0x80, and for two types a body. The prefix is a
number in base 128, least significant digit first, each digit below 0x80. Writers send zero as
one ``00`` and waste no digits; readers take a missing prefix for zero and bear redundant high
zeros.

==== ======= ====================================== =========================
byte type    prefix                                 body
==== ======= ====================================== =========================
80   LIST    how many items                         that many tokens, nested
81   INT     magnitude, written for 0 .. 2^31-1     none
82   STRING  length                                 that many bytes
83   NEG     magnitude, written for 1 .. 2^31       none
84   FLOAT   none; readers ignore one               IEEE double, big-endian
85   LONGINT magnitude, written above 2^31-1        none
86   LONGNEG magnitude, written above 2^31          none
87   VOCAB   number of a word                       none
==== ======= ====================================== =========================

Readers do not check the ranges: INT and LONGINT read alike. There is no text, no None and no
dictionary. A tuple is sent as a list, a bool as INT 0 or 1.

VOCAB exists in the dialect "pb" only. There a writer sends any byte string that equals a word,
a user's included, by the word's number; a reader takes it spelled out as well:

==  =============  ==  =============  ==  =============  ==  =============
1   None           9   module         17  local          25  cachemessage
2   class          10  persistent     18  lcache         26  message
3   dereference    11  tuple          19  version        27  answer
4   reference      12  unpersistable  20  login          28  error
5   dictionary     13  copy           21  password       29  decref
6   function       14  cache          22  challenge      30  decache
7   instance       15  cached         23  logged_in      31  uncache
8   list           16  remote         24  not_logged_in
==  =============  ==  =============  ==  =============  ==  =============

The wire's own limits are 64 digits of prefix, so integers to 2^448-1, and 655360 bytes or items
in one string or list: a reader disconnects beyond them. `pbnb.Limits` holds them and adds depth,
bytes and tokens of one whole message.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Iterator, Sequence
from operator import length_hint
from typing import Any, Final, TypeAlias

from ..errors import BananaError, LimitExceeded, LocalProtocolError, RemoteProtocolError
from ..limits import Limits
from .memory import Memory
from .runs import LONGEST_PREFIX, float_run, int_run

__all__ = [
    "FLOAT",
    "INT",
    "LIST",
    "LONGINT",
    "LONGNEG",
    "NEED_DATA",
    "NEG",
    "PB_TOKENS",
    "PB_WORDS",
    "SMALL_INTS",
    "STRING",
    "VOCAB",
    "Decoder",
    "NeedData",
    "Tree",
    "decode",
    "encode",
    "write_int",
    "write_token",
]

Tree: TypeAlias = bytes | int | float | list["Tree"]

LIST, INT, STRING, NEG, FLOAT, LONGINT, LONGNEG, VOCAB = range(0x80, 0x88)

#: The vocabulary of the dialect "pb"; the first word has number 1.
PB_WORDS: Final[tuple[bytes, ...]] = (
    b"None", b"class", b"dereference", b"reference", b"dictionary", b"function", b"instance",
    b"list", b"module", b"persistent", b"tuple", b"unpersistable", b"copy", b"cache", b"cached",
    b"remote", b"local", b"lcache", b"version", b"login", b"password", b"challenge",
    b"logged_in", b"not_logged_in", b"cachemessage", b"message", b"answer", b"error", b"decref",
    b"decache", b"uncache",
)  # fmt: skip

_DEFAULT = Limits()


class NeedData(enum.Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = enum.auto()


#: What `Decoder.next` returns while the next tree is incomplete.
NEED_DATA: Final = NeedData.NEED_DATA


# Writing


def write_token(number: int, kind: int) -> bytes:
    """Returns the prefix and the type byte of a token.

    Args:
        number: The prefix.
        kind: The type byte.
    """
    if number < 128:
        return bytes((number, kind))
    if number < 128**3:
        low, middle, high = number & 0x7F, number >> 7 & 0x7F, number >> 14
        return bytes((low, middle, high, kind) if high else (low, middle, kind))
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F)
        number >>= 7
    digits.append(number)
    digits.append(kind)
    return bytes(digits)


class _IntTokens(dict[int, bytes]):
    """The tokens of integers of one or two digits, each made when it is first sent."""

    def __missing__(self, number: int) -> bytes:
        token = self[number] = write_token(number, INT)
        return token


#: The tokens of integers below 128 * 128, by their value.
SMALL_INTS: Final = _IntTokens()


def write_int(number: int) -> bytes:
    """Returns the token of an integer, however large it is.

    Args:
        number: The integer.
    """
    if 0 <= number < 128 * 128:
        # Not from SMALL_INTS: most are numbers of calls, of which none comes again.
        return bytes((number & 0x7F, number >> 7, INT) if number > 0x7F else (number, INT))
    if number >= 0:
        return write_token(number, INT if number < 2**31 else LONGINT)
    return write_token(-number, NEG if number >= -(2**31) else LONGNEG)


_SHORT_LISTS = tuple(write_token(n, LIST) for n in range(128))
_SHORT_STRINGS = tuple(write_token(n, STRING) for n in range(128))
_pack_float = struct.Struct(">Bd").pack


@functools.lru_cache(maxsize=16)
def _word_tokens(words: tuple[bytes, ...]) -> tuple[dict[bytes, bytes], int]:
    """Returns the token of each word, and the length of the longest word."""
    tokens = {word: write_token(number, VOCAB) for number, word in enumerate(words, 1)}
    return tokens, max(map(len, words), default=-1)


_LONGEST_PB_WORD = max(map(len, PB_WORDS))
#: The tokens of the vocabulary of the dialect "pb", by the words.
PB_TOKENS: Final = _word_tokens(PB_WORDS)[0]


def encode(
    tree: object, words: Sequence[bytes] | None = PB_WORDS, limits: Limits = _DEFAULT
) -> bytes:
    """Returns a tree as bytes.

    Args:
        tree: A byte string, an integer, a float, or a list or tuple of trees; subclasses of
            these count as what they derive from.
        words: The vocabulary; None for the dialect "none", which has none.
        limits: What one message may cost.

    Raises:
        BananaError: The tree holds something that banana cannot send, or goes over a limit; the
            text says what and where.
    """
    if words is PB_WORDS:
        word_tokens, longest_word = PB_TOKENS, _LONGEST_PB_WORD
    else:
        word_tokens, longest_word = _word_tokens(tuple(words or ()))
    small_ints = 128 * 128 if limits.prefix_bytes > 1 else 128
    short_strings = min(127, limits.string_bytes)
    most_items, most_depth = min(limits.list_items, limits.message_items), limits.depth
    out: list[bytes] = []
    append = out.append
    # The lists around the current item and their lengths: an explicit stack, so that deep and
    # cyclic lists end in a BananaError on every Python. The outermost is not sent.
    stack: list[tuple[Iterator[Any], int]] = []
    iterator: Iterator[Any] = iter((tree,))
    size = items = 1
    try:
        while True:
            for item in iterator:
                kind = type(item)
                if kind is bytes:
                    length = len(item)
                    # Longer strings are not looked up: that would cost hashing them.
                    token = word_tokens.get(item) if length <= longest_word else None
                    if token is not None:
                        append(token)
                        continue
                    if length <= short_strings:
                        append(_SHORT_STRINGS[length])
                    else:
                        append(_string_token(length, limits))
                    append(item)
                elif kind is int:
                    if 0 <= item < small_ints:
                        append(SMALL_INTS[item])
                    else:
                        append(_int_token(item, limits))
                elif kind is float:
                    append(_pack_float(FLOAT, item))
                elif kind is list or kind is tuple or isinstance(item, (list, tuple)):
                    if kind is not list and kind is not tuple:
                        item = list(item)  # a subclass may iterate over other than it holds
                    length = len(item)
                    items += length
                    if length < 128 and items <= most_items and len(stack) < most_depth:
                        append(_SHORT_LISTS[length])
                    else:
                        append(_list_token(length, len(stack) + 1, items, limits))
                    stack.append((iterator, size))
                    iterator, size = iter(item), length
                    break
                else:
                    append(_subclass_token(item, word_tokens, limits))
            else:
                if not stack:
                    break
                iterator, size = stack.pop()
    except BananaError as error:
        stack.append((iterator, size))
        raise BananaError(f"cannot send {error}{_where(stack)}") from None
    message = b"".join(out)
    if len(message) > limits.message_bytes:
        raise BananaError(
            f"cannot send a message of {len(message)} bytes: the limit message_bytes is "
            f"{limits.message_bytes}"
        )
    return message


def _int_token(number: int, limits: Limits) -> bytes:
    """Returns the token of an integer."""
    if number.bit_length() > 7 * limits.prefix_bytes:
        raise BananaError(
            f"an integer of {number.bit_length()} bits: the limit prefix_bytes is "
            f"{limits.prefix_bytes}, of 7 bits each"
        )
    return write_int(number)


def _string_token(length: int, limits: Limits) -> bytes:
    """Returns what stands before the bytes of a string."""
    if length > limits.string_bytes:
        raise BananaError(f"{length} bytes: the limit string_bytes is {limits.string_bytes}")
    _check_prefix(length, limits)
    return write_token(length, STRING)


def _list_token(length: int, depth: int, items: int, limits: Limits) -> bytes:
    """Returns what stands before the items of a list."""
    if length > limits.list_items:
        raise BananaError(f"{length} items: the limit list_items is {limits.list_items}")
    if depth > limits.depth:
        raise BananaError(f"lists nested this deep: the limit depth is {limits.depth}")
    if items > limits.message_items:
        raise BananaError(f"this many items: the limit message_items is {limits.message_items}")
    _check_prefix(length, limits)
    return write_token(length, LIST)


def _check_prefix(length: int, limits: Limits) -> None:
    if length.bit_length() > 7 * limits.prefix_bytes:
        raise BananaError(
            f"a length of {length}: the limit prefix_bytes is {limits.prefix_bytes}, of 7 bits each"
        )


def _subclass_token(item: object, word_tokens: dict[bytes, bytes], limits: Limits) -> bytes:
    """Returns the token of an instance of a subclass, taken for the type it derives from."""
    if isinstance(item, int):
        return _int_token(int.__index__(item), limits)
    if isinstance(item, float):
        return _pack_float(FLOAT, item)
    if isinstance(item, bytes):
        plain = bytes(memoryview(item))
        return word_tokens.get(plain) or _string_token(len(plain), limits) + plain
    cls = type(item)
    raise BananaError(f"{cls.__module__}.{cls.__qualname__}, which banana does not have")


def _where(stack: list[tuple[Iterator[Any], int]]) -> str:
    """Returns the place of the current item, as the subscripts that lead to it."""
    # Each iterator has just handed out its current item. The outermost holds only the tree.
    path = [f"[{size - length_hint(iterator) - 1}]" for iterator, size in stack[1:]]
    if len(path) > 12:
        path[6:-6] = ["..."]
    return f" (at {''.join(path)})" if path else ""


# Reading

_unpack_float = struct.Struct(">d").unpack_from

# Strings from this length on are received in place where they do not come as a whole; but not
# before so much has come: nothing is kept ready for who says a length and no more.
_IN_PLACE = 32 * 1024
_BEGUN = 8 * 1024


@functools.lru_cache(maxsize=16)
def _numbered(words: tuple[bytes, ...]) -> dict[int, bytes]:
    """Returns each word by its number."""
    return dict(enumerate(words, 1))


class Decoder:
    """Reads trees from the bytes of one peer, however these are split.

    The work is linear in the bytes fed. What goes over a limit is refused as soon as its prefix
    says so, before anything is stored for it. After an error the stream can no longer be
    followed: what was fed is dropped, and every further `next` raises the same error.

    `next` runs no foreign code and keeps its state in the object between two calls, so whoever
    handles a tree may feed and read further trees before coming back.

    Args:
        limits: What one message may cost.
        words: The vocabulary; None for the dialect "none", which has none.

    Attributes:
        limits: May be set at any time. A tree that is half read goes on under the new ones.
        readable: Whether something was fed at which `next` has not looked.
        in_place: Whether a long string is on its way in: `room` may say where the next bytes are
            wanted.
    """

    def __init__(self, limits: Limits = _DEFAULT, words: Sequence[bytes] | None = PB_WORDS) -> None:
        self.limits = limits
        self.words = words
        self.readable = False
        self._error: RemoteProtocolError | None = None
        self._forget()

    def _forget(self) -> None:
        # Unread are the bytes of _buffer from _position on, then those of _fed.
        self._buffer = b""
        self._position = 0
        self._fed = bytearray()
        # How many bytes have to be unread before the current token can be complete.
        self._needed = 1
        # The list that is being filled, how many items it lacks, and the same of those around it.
        self._list: list[Tree] | None = None
        self._lacking = 0
        self._around: list[tuple[list[Tree] | None, int]] = []
        # Of the current tree: bytes read before _buffer began (negative when the tree starts
        # inside it), and tokens that it has announced so far.
        self._bytes_before = 0
        self._items = 1
        # The long string that is being received in place, and how much of it is there.
        self.in_place = False
        self._string: Memory | None = None
        self._string_at = 0

    @property
    def words(self) -> Sequence[bytes] | None:
        """The vocabulary, or None. Set between two trees, when a dialect has been chosen."""
        return self._words

    @words.setter
    def words(self, words: Sequence[bytes] | None) -> None:
        self._words = words
        self._word_of = _numbered(tuple(words or ()))

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Stores bytes from the peer.

        Args:
            data: The bytes; they are copied unless they are `bytes`.
        """
        self.readable = True
        if self._error is not None:
            return
        if not self._fed and self._position == len(self._buffer) and data:
            # The usual case, a segment that begins with a token: read it where it lies.
            self._bytes_before += self._position
            self._buffer = data if type(data) is bytes else bytes(memoryview(data))
            self._position = 0
        else:
            self._fed += data

    def next(self) -> Tree | NeedData:
        """Returns the next complete tree, or `NEED_DATA`.

        Raises:
            RemoteProtocolError: The peer sent what banana does not have.
            LimitExceeded: The peer sent more than the limits allow.
        """
        if self._error is None:
            try:
                tree = self._read()
                if tree is NEED_DATA:
                    self.readable = False
                return tree
            except RemoteProtocolError as error:
                # A traceback would keep the frames of the reader alive, and with them the data.
                self._error = error.with_traceback(None)
                self._forget()
        raise self._error

    def unread(self) -> bytes:
        """Returns what was fed and belongs to no tree yet returned, and forgets it.

        Raises:
            LocalProtocolError: A list is half read, so that part of it has been consumed.
        """
        if self._list is not None or self._string is not None:
            raise LocalProtocolError("the bytes of a list that is half read cannot be handed back")
        rest = self._buffer[self._position :] + self._fed
        self._forget()
        return rest

    def room(self) -> memoryview | None:
        """Returns where the next bytes are wanted, in place of `feed`, if anywhere."""
        if self._string is None or self._fed or self._position != len(self._buffer):
            return None
        return self._string.view[self._string_at :]

    def filled(self, count: int) -> None:
        """Counts bytes that were received into the last `room`."""
        self.readable = True
        self._string_at += count
        self._bytes_before += count

    def _read(self) -> Tree | NeedData:
        if len(self._buffer) - self._position + len(self._fed) < self._needed:
            return NEED_DATA
        if self._list is None and self._string is None:
            self._bytes_before, self._tokens = -self._position, 1
        tree: Tree | NeedData
        while True:
            tree = NEED_DATA
            if self._string is not None:
                if not self._fill(self._string):
                    return NEED_DATA
                value = self._string.result()
                assert isinstance(value, bytes)
                self._string, self.in_place = None, False
                tree = self._put(value)
            if tree is NEED_DATA:
                tree = self._parse()
            if tree is not NEED_DATA:
                self._check_message_bytes(self._position)
                return tree
            # Keep the incomplete token only; every byte is moved here once or twice.
            rest = self._buffer[self._position :]
            self._bytes_before += self._position
            self._position = 0
            if self._string is not None:
                self._buffer = rest
                if self._fill(self._string):
                    continue
                return NEED_DATA
            if not self._fed or len(rest) + len(self._fed) < self._needed:
                self._buffer = rest
                # At least one more byte belongs to this message.
                self._check_message_bytes(len(rest) + len(self._fed) + 1)
                return NEED_DATA
            self._buffer = rest + self._fed
            self._fed = bytearray()

    def _fill(self, string: Memory) -> bool:
        """Moves unread bytes to the string that they belong to; returns whether it is whole."""
        if self._fed:
            self._bytes_before += self._position
            self._buffer, self._position = self._buffer[self._position :] + self._fed, 0
            self._fed = bytearray()
        room = string.view[self._string_at :]
        part = memoryview(self._buffer)[self._position : self._position + len(room)]
        room[: len(part)] = part
        self._position += len(part)
        self._string_at += len(part)
        return self._string_at == string.size

    def _put(self, value: Tree) -> Tree | NeedData:
        """Puts a value into its list; returns the tree where that completes it."""
        items, lacking = self._list, self._lacking
        while items is not None:
            items.append(value)
            lacking -= 1
            if lacking:
                self._list, self._lacking = items, lacking
                return NEED_DATA
            value = items
            items, lacking = self._around.pop()
        self._list, self._needed = None, 1
        return value

    def _parse(self) -> Tree | NeedData:
        """Reads tokens until a tree is complete or the buffer ends; the hot loop."""
        buffer, position, end = self._buffer, self._position, len(self._buffer)
        items, lacking, around = self._list, self._lacking, self._around
        limits, word_of, tokens = self.limits, self._word_of, self._tokens
        string_bytes, list_items = limits.string_bytes, limits.list_items
        longest_prefix = 7 * limits.prefix_bytes
        next_run = 0 if limits.prefix_bytes >= LONGEST_PREFIX else end
        needed = 0
        value: Tree | None
        try:
            while True:
                # One token; the position moves on only when all of it is there.
                number = 0
                kind = buffer[position]
                at = position + 1
                if kind < 0x80:
                    number = kind
                    kind = buffer[at]
                    at += 1
                    shift = 7
                    while kind < 0x80:
                        if shift >= longest_prefix:
                            raise _over("prefix_bytes", limits.prefix_bytes, "a longer prefix")
                        number |= kind << shift
                        shift += 7
                        kind = buffer[at]
                        at += 1
                if kind == STRING:
                    if number > string_bytes:
                        what = f"a string of {_figure(number)} bytes"
                        raise _over("string_bytes", string_bytes, what)
                    start = at
                    at += number
                    if at > end:
                        self._check_message_bytes(at)
                        needed = at - position
                        if number >= _IN_PLACE:
                            needed = start + _BEGUN - position
                            if end - start >= _BEGUN:
                                # From here on its bytes are received where it will stand.
                                self._string, self.in_place = Memory(number, True), True
                                self._string_at, position, needed = 0, start, 0
                        break
                    value = buffer[start:at]
                elif kind == INT or kind == LONGINT:
                    value = number
                elif kind == LIST:
                    tokens += number
                    if (
                        number > list_items
                        or tokens > limits.message_items
                        or len(around) >= limits.depth
                    ):
                        raise self._refused_list(number, tokens)
                    if number:
                        around.append((items, lacking))
                        items, lacking = [], number
                        position = at
                        continue
                    value = []
                elif kind == VOCAB:
                    value = word_of.get(number)
                    if value is None:
                        raise self._unknown_word(number)
                elif kind == FLOAT:
                    at += 8
                    if at > end:
                        needed = at - position
                        break
                    value = _unpack_float(buffer, at - 8)[0]
                elif kind == NEG or kind == LONGNEG:
                    value = -number
                else:
                    raise RemoteProtocolError(f"unknown type byte 0x{kind:02x}")
                position = at
                # Put it into its list, and each list that this completes into the one around.
                while items is not None:
                    items.append(value)
                    lacking -= 1
                    if lacking:
                        break
                    value = items
                    items, lacking = around.pop()
                else:
                    self._position, self._list, self._needed = position, None, 1
                    return value
                if lacking > 15 and position >= next_run and (kind == INT or kind == FLOAT):
                    # A number, and many items to come: more numbers, perhaps. The last item of
                    # a list is left to the code above, which completes it.
                    read = int_run if kind == INT else float_run
                    run, position = read(buffer, position, lacking - 1)
                    items += run
                    lacking -= len(run)
                    if len(run) < 16:
                        next_run = position + 256
        except IndexError:
            needed = end - position + 1
        self._position, self._needed = position, needed
        self._list, self._lacking, self._tokens = items, lacking, tokens
        return NEED_DATA

    def _refused_list(self, length: int, tokens: int) -> LimitExceeded:
        """Returns why a list is refused by its prefix, before any of its items."""
        limits = self.limits
        if length > limits.list_items:
            return _over("list_items", limits.list_items, f"a list of {_figure(length)} items")
        if tokens > limits.message_items:
            return _over("message_items", limits.message_items, f"a message of {tokens} items")
        return _over("depth", limits.depth, "lists nested deeper")

    def _unknown_word(self, number: int) -> RemoteProtocolError:
        if self._words is None:
            return RemoteProtocolError("a vocabulary word in a dialect without vocabulary")
        return RemoteProtocolError(f"unknown vocabulary word {_figure(number)}")

    def _check_message_bytes(self, position: int) -> None:
        size, most = self._bytes_before + position, self.limits.message_bytes
        if size > most:
            raise _over("message_bytes", most, f"a message of {size} bytes or more")


def _over(limit: str, most: int, what: str) -> LimitExceeded:
    return LimitExceeded(f"received {what}: the limit {limit} is {most}")


def _figure(number: int) -> str:
    """Returns a peer's number for an error text, which a long one must not flood."""
    return str(number) if number < 10**18 else f"2**{number.bit_length() - 1} or more"


def decode(
    data: bytes | bytearray | memoryview,
    words: Sequence[bytes] | None = PB_WORDS,
    limits: Limits = _DEFAULT,
) -> Tree:
    """Returns the one tree that the bytes hold.

    Args:
        data: The bytes of exactly one tree.
        words: The vocabulary; None for the dialect "none", which has none.
        limits: What the tree may cost.

    Raises:
        BananaError: The tree is incomplete, or something follows it.
        RemoteProtocolError: The bytes are not banana.
        LimitExceeded: The tree goes over a limit.
    """
    decoder = Decoder(limits, words)
    decoder.feed(data)
    tree = decoder.next()
    if tree is NEED_DATA:
        raise BananaError("the bytes end before the tree does")
    rest = decoder.unread()
    if rest:
        raise BananaError(f"{len(rest)} bytes follow the tree")
    return tree
