"""Watching the cells that run: what is shown below one while it waits, and taken back at its end.

A cell is known by the context in which it runs, which tasks and calls that it starts take along.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Generic, Protocol, TypeVar

from IPython.core.interactiveshell import InteractiveShell

from ..aio.threads import running_loop

__all__ = ["CellWatch"]


class Shown(Protocol):
    """What is shown below one cell."""

    def look(self, now: float) -> object:
        """Looks at what the cell waits for, and shows it."""

    def end(self) -> object:
        """Takes away what is shown: the cell has ended."""


S = TypeVar("S", bound=Shown)


class _Cell(Generic[S]):
    """A cell that runs."""

    def __init__(self, shown: S) -> None:
        self.shown = shown
        self.timer: asyncio.TimerHandle | None = None


# In what a cell runs, and in what it starts: what each watch shows below it.
_running: ContextVar[dict[int, object] | None] = ContextVar("pbnb_cell", default=None)


class CellWatch(Generic[S]):
    """Looks again and again at the cells of a shell, while they run.

    Args:
        shell: The shell of the cells.
        make: Makes what is shown below one cell, in the cell's context.
        first: Seconds until the first look.
        pace: Seconds between two looks.
    """

    def __init__(
        self, shell: InteractiveShell, make: Callable[[], S], *, first: float, pace: float
    ) -> None:
        self._shell = shell
        self._make = make
        self._first = first
        self._pace = pace
        # Subshells have a thread, and run one cell at a time in it.
        self._cells: dict[int, _Cell[S]] = {}

    def install(self) -> None:
        """Begins to look at each cell. Only a notebook can take back what it has shown."""
        if getattr(self._shell, "kernel", None) is not None:
            self._shell.events.register("pre_run_cell", self._begin)
            self._shell.events.register("post_run_cell", self._end)

    def uninstall(self) -> None:
        """Ends what `install` began."""
        for event, callback in (("pre_run_cell", self._begin), ("post_run_cell", self._end)):
            if callback in self._shell.events.callbacks[event]:
                self._shell.events.unregister(event, callback)
        for thread in list(self._cells):
            self._finish(self._cells.pop(thread))

    def waits(self, shown: S, contexts: Any) -> bool:
        """Returns whether a cell, or what it has started, is among those who wait.

        Args:
            shown: What is shown below the cell.
            contexts: The contexts of those who wait.
        """
        return any(_shown_in(context).get(id(self)) is shown for context in contexts)

    def _begin(self, info: object = None) -> None:
        loop = running_loop()
        self._end()
        if loop is None:
            return
        cell = self._cells[threading.get_ident()] = _Cell(self._make())
        _running.set({**(_running.get() or {}), id(self): cell.shown})
        # In the context of the cell, below which it shows.
        cell.timer = loop.call_later(self._first, self._look, cell, loop)

    def _end(self, result: object = None) -> None:
        cell = self._cells.pop(threading.get_ident(), None)
        if cell is not None:
            self._finish(cell)

    def _finish(self, cell: _Cell[S]) -> None:
        if cell.timer is not None:
            cell.timer.cancel()
        cell.timer = None
        cell.shown.end()

    def _look(self, cell: _Cell[S], loop: asyncio.AbstractEventLoop) -> None:
        if cell.timer is not None:
            cell.shown.look(loop.time())
            cell.timer = loop.call_later(self._pace, self._look, cell, loop)


def _shown_in(context: Context) -> dict[int, object]:
    return context.get(_running) or {}
