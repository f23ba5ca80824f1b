"""Connections that go on reading while a loop is nested in what they have read.

A remote method, a callback or a task may run a loop within the callback in which the transport
reads. asyncio runs each callback in a context, which nobody can enter a second time: the nested
loop would put the reader off until its own end, and with it the answer for which it runs. Where a
loop turns although a connection still reads, it is nested; that connection gets a reader anew.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakKeyDictionary

__all__ = ["Nesting", "nested"]

# Seconds after which is looked whether the loop turns while something is read: as long as a
# nested loop may have to wait for the first that it reads.
_LOOK = 0.005

_nestings: WeakKeyDictionary[asyncio.AbstractEventLoop, Nesting] = WeakKeyDictionary()
_making = threading.Lock()


class Reads(Protocol):
    """What is asked of a connection."""

    def read_nested(self) -> None:
        """Sees to it that what comes is read in a loop that is nested in what was read.

        It handles nothing itself: that could nest a loop, behind which others would wait.
        """


class Nesting:
    """What the connections of one loop read at the moment.

    Attributes:
        reading: Those that read, each one after the one in whose nested loop it does. Whoever
            begins to read puts itself last, and says in the end that it has `left`.
        watched: Whether the loop is going to look at them.
    """

    __slots__ = ("reading", "watched")

    def __init__(self) -> None:
        self.reading: list[Reads] = []
        self.watched = False

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> Nesting:
        """Returns the one of a loop."""
        with _making:
            return _nestings.setdefault(loop, Nesting())

    def left(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the last away of those that read."""
        if self.reading:
            self.reading.pop()
        else:
            # A nested loop was found in it. The turn of the loop around that one may be of a kind
            # that counts its callbacks before it runs them, and the look may have been among them.
            loop.call_soon(_nothing)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Looks after a while whether the loop turns although something is being read."""
        loop.call_later(_LOOK, self._look, loop)
        self.watched = True  # and not before: an interrupt may come in between

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.watched = False
        if self.reading:
            self.watch(loop)
            self.read_on()

    def read_on(self) -> None:
        """Lets those read on that read at the moment: a loop is nested in them."""
        nested, self.reading[:] = list(self.reading), []
        for connection in nested:
            connection.read_nested()


@contextmanager
def nested(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Prepares the running loop for being nested in what runs now.

    Connections read on in it. And as many callbacks are ready afterwards as before: the turn under
    way may be one of asyncio's own, which began before the loop could be nested. It has counted
    them, and fails where the nested loop has run some of them.

    Args:
        loop: The running loop.
    """
    ready = loop._ready  # type: ignore[attr-defined]  # nobody else tells
    before = len(ready)
    Nesting.of(loop).read_on()
    try:
        yield
    finally:
        for _ in range(before - len(ready)):
            loop.call_soon(_nothing)


def _nothing() -> None:
    """Stands for a callback that a nested loop has run."""
