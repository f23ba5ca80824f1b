"""Who is told when one connection opens and ends, in whichever loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from ..refs import RemoteReference
from .answering import shielded
from .threads import tell

__all__ = ["Watcher", "Watchers"]


class Watcher(NamedTuple):
    """Who is told of the end of a connection: with which reference, and in which loop."""

    ref: RemoteReference | None
    callback: Callable[..., object]
    loop: asyncio.AbstractEventLoop | None

    def tell(self) -> None:
        """Tells it, soon or now."""
        tell(self.loop, shielded, self.callback, *(() if self.ref is None else (self.ref,)))


class Watchers:
    """Those who wait for a connection to open, and to end."""

    __slots__ = ("_opening", "_watching")

    def __init__(self) -> None:
        self._opening: list[Callable[[], object]] = []
        self._watching: list[Watcher] = []

    def __len__(self) -> int:
        return len(self._watching)

    def await_opening(self, callback: Callable[[], object]) -> None:
        """Adds a callback for the opening."""
        self._opening.append(callback)

    def opened(self) -> None:
        """Tells those who wait for the opening."""
        opening, self._opening = self._opening, []
        for callback in opening:
            shielded(callback)

    def add(self, watcher: Watcher) -> None:
        """Adds one who waits for the end."""
        self._watching.append(watcher)

    def remove(self, ref: RemoteReference | None, callback: Callable[..., object]) -> None:
        """Takes one back; one that is not there is no error."""
        for watcher in self._watching:
            if watcher[:2] == (ref, callback):
                self._watching.remove(watcher)
                return

    def ended(self) -> None:
        """Tells those who wait for the end."""
        watching, self._watching = self._watching, []
        for watcher in watching:
            watcher.tell()
