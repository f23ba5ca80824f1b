"""Runs of numbers in a list, read at once: what makes long lists of them quick to read.

What a function looks at is bounded by a constant and a constant multiple of what it reads, so
that a reader which tries one every few hundred bytes stays linear.
"""

from __future__ import annotations

import functools
import re
import struct
import sys
from array import array
from operator import itemgetter
from typing import Final

__all__ = ["LONGEST_PREFIX", "float_run", "int_run", "number_of"]

#: The longest prefix that `int_run` reads; it stops in front of longer ones.
LONGEST_PREFIX: Final = 9

# So that looking at what turns out to be no run is cheap.
_MOST_FLOATS = 1024

# INT tokens: digits, and 0x81 behind them. Possessive, because no shorter match is of use.
_int_tokens = re.compile(rb"(?:[\x00-\x7f]{0,%d}+\x81)*+" % LONGEST_PREFIX).match

# Those of exactly two digits, which most numbers of most lists have. Reading them together takes a
# third of the time, from so many on; of others so many are read before these are looked for again.
_two_digit_tokens = re.compile(rb"(?:[\x00-\x7f]{2}\x81)*+").match
_WORTH = 24
_MOST_OTHERS = 256

# FLOAT tokens: 0x84 and eight bytes.
_floats = struct.Struct(">xd").iter_unpack


class _Numbers(dict[bytes, int]):
    """Numbers by their digits. Those of one or two digits are remembered."""

    def __missing__(self, digits: bytes) -> int:
        size = len(digits)
        if size == 2:
            number = self[digits] = digits[0] | digits[1] << 7
            return number
        if size == 3:
            return digits[0] | digits[1] << 7 | digits[2] << 14
        number = 0
        for digit in reversed(digits):
            number = number << 7 | digit
        if size == 1:
            self[digits] = number
        return number


#: Returns the number that some digits say.
number_of: Final = _Numbers().__getitem__


def int_run(buffer: bytes, position: int, most: int) -> tuple[list[int], int]:
    """Reads consecutive INT tokens.

    Args:
        buffer: Bytes of a stream.
        position: Where a token begins.
        most: How many to read at most.

    Returns:
        The numbers, and the position behind the last of them.
    """
    run = _two_digit_tokens(buffer, position, position + 3 * most)
    if run is not None and run.end() - position >= 3 * _WORTH:
        return _two_digit_run(buffer, position, run.end()), run.end()
    most = min(most, _MOST_OTHERS)
    run = _int_tokens(buffer, position, position + most * (LONGEST_PREFIX + 1))
    if run is None:  # cannot be: the pattern also matches nothing
        return [], position
    # 0x81 is no digit, so it splits the run into the digits of each token.
    *tokens, rest = run.group().split(b"\x81", most)
    return list(map(number_of, tokens)), run.end() - len(rest)


def _two_digit_run(buffer: bytes, position: int, end: int) -> list[int]:
    """Returns the numbers of INT tokens of two digits each."""
    digits = bytearray(2 * (end - position) // 3)
    digits[0::2] = buffer[position:end:3]
    digits[1::2] = buffer[position + 1 : end : 3]
    numbers = array("H", digits)
    if sys.byteorder == "big":
        numbers.byteswap()
    return list(itemgetter(*numbers)(_by_two_bytes()))


@functools.cache
def _by_two_bytes() -> tuple[int, ...]:
    # Of two digits, each in a byte of its own, the lower one first.
    return tuple(two & 0x7F | two >> 8 << 7 for two in range(128 * 256))


def float_run(buffer: bytes, position: int, most: int) -> tuple[list[float], int]:
    """Reads consecutive FLOAT tokens without prefix.

    Args:
        buffer: Bytes of a stream.
        position: Where a token begins.
        most: How many to read at most.

    Returns:
        The numbers, and the position behind the last of them.
    """
    most = min(most, _MOST_FLOATS, (len(buffer) - position) // 9)
    type_bytes = buffer[position : position + 9 * most : 9]
    count = most - len(type_bytes.lstrip(b"\x84"))
    end = position + 9 * count
    return [number for (number,) in _floats(buffer[position:end])], end
