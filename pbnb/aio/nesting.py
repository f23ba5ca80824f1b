"""Connections that go on reading while a loop is nested in what they have read.

A remote method, a callback or a task may run a loop within the callback in which the transport
reads. asyncio runs each callback in a context, which nobody can enter a second time: the nested
loop would put the reader off until its own end, and with it the answer for which it runs. Where a
loop turns although a connection still reads, it is nested; that connection gets a reader anew.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol
from weakref import WeakKeyDictionary

__all__ = ["Nesting", "read_nested"]

# Seconds after which is looked whether the loop turns while something is read: as long as a
# nested loop may have to wait for the first that it reads.
_LOOK = 0.005

_nestings: WeakKeyDictionary[asyncio.AbstractEventLoop, Nesting] = WeakKeyDictionary()
_making = threading.Lock()


class Reads(Protocol):
    """What is asked of a connection."""

    def read_nested(self) -> None:
        """Goes on reading in a loop that is nested in what was read."""


class Nesting:
    """What the connections of one loop read at the moment.

    Attributes:
        reading: Those that read, each one after the one in whose nested loop it does. Whoever
            begins to read puts itself last, and takes the last away in the end, if there is one.
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

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Looks after a while whether the loop turns although something is being read."""
        self.watched = True
        loop.call_later(_LOOK, self._look, loop)

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


def read_nested(loop: asyncio.AbstractEventLoop) -> None:
    """Lets the connections of a loop read on in a loop that is about to be nested.

    Args:
        loop: The running loop.
    """
    Nesting.of(loop).read_on()
