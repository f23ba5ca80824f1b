"""A bar below the cell that waits for something large to go or to come.

It shows how much has gone, how fast, and how long the rest will take, with a button that cancels
the call. It comes after half a second, and nothing of it is left when the transfer is done.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data

from ..aio.connection import Connection
from ..aio.threads import running_loop
from ..protocol.events import PendingCall
from ..protocol.snapshot import TransferRow

__all__ = ["ProgressBars", "progress_text"]

# Seconds that a transfer may take without a word, and between two looks at it.
_PATIENCE = 0.5
_PACE = 0.25

_UNITS = ("B", "KiB", "MiB", "GiB")
_VIEW = "application/vnd.jupyter.widget-view+json"


def _bytes(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.{1 if unit and count < 100 else 0}f} {_UNITS[unit]}"


def _widgets() -> Any:
    # They take a while to import, and most cells need none.
    import ipywidgets  # type: ignore[import-untyped]

    return ipywidgets


def progress_text(row: TransferRow, seconds: float, before: int = 0) -> str:
    """Returns what is said about a transfer.

    Args:
        row: The transfer.
        seconds: For how long it has been watched.
        before: How many bytes had gone by then.
    """
    way = "to" if row.outgoing else "from"
    said = f"{way} {row.method}(): {_bytes(row.done)} of {_bytes(row.size)}"
    rate = (row.done - before) / seconds if seconds > 0 else 0.0
    if not rate:
        return said
    left = (row.size - row.done) / rate
    return f"{said}, {_bytes(rate)}/s, {left:.0f} s left"


class _Bar:
    """One transfer, as it is shown: made when there is something to show."""

    def __init__(
        self, connection: Connection, call: PendingCall, began: float, before: int
    ) -> None:
        self.connection = connection
        self.call = call
        self.began = began
        self.before = before
        self.display = f"pbnb-{uuid.uuid4().hex}"
        self._box: Any = None

    def show(self, row: TransferRow, now: float) -> None:
        """Shows how far it is."""
        text = progress_text(row, now - self.began, self.before)
        part = row.done / row.size if row.size else 1.0
        if self._box is None:
            ipywidgets = _widgets()
            bar = ipywidgets.FloatProgress(value=part, max=1.0)
            button = ipywidgets.Button(description="Cancel", icon="times")
            button.on_click(self.cancel)
            self._box = ipywidgets.HBox([bar, ipywidgets.Label(text), button])
            view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
            self._publish({"text/plain": text, _VIEW: view}, update=False)
        else:
            self._box.children[0].value = part
            self._box.children[1].value = text

    def cancel(self, button: object = None) -> None:
        """Cancels the call; in whatever thread the button is heard of."""
        waiter = self.call.waiter
        if waiter is not None:
            self.connection.call_soon(waiter.cancel)

    def end(self) -> None:
        """Takes it away."""
        box, self._box = self._box, None
        if box is not None:
            # What is empty is nothing on the page.
            self._publish({}, update=True)
            for each in (*box.children, box):
                each.close()

    def _publish(self, data: dict[str, Any], *, update: bool) -> None:
        publish_display_data(  # type: ignore[no-untyped-call]
            data, transient={"display_id": self.display}, update=update
        )


class _Cell:
    """A cell that runs, and the bars below it."""

    def __init__(self) -> None:
        self.bars: dict[tuple[int, int, bool], _Bar] = {}
        self.timer: asyncio.TimerHandle | None = None


# In what a cell runs, and in what it starts.
_running: ContextVar[_Cell | None] = ContextVar("pbnb_progress", default=None)


class ProgressBars:
    """Shows below a cell how far the large arguments and answers are that it waits for.

    Args:
        shell: The shell of the cells.
        connections: Returns the connections that its cells may wait for.
    """

    def __init__(
        self, shell: InteractiveShell, connections: Callable[[], Iterable[Connection]]
    ) -> None:
        self._shell = shell
        self._connections = connections
        # Subshells have a thread, and run one cell at a time in it.
        self._cells: dict[int, _Cell] = {}

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

    def _begin(self, info: object = None) -> None:
        loop = running_loop()
        self._end()
        if loop is not None:
            cell = self._cells[threading.get_ident()] = _Cell()
            _running.set(cell)
            # In the context of the cell, below which it shows.
            cell.timer = loop.call_later(_PATIENCE, self._look, cell, loop)

    def _end(self, result: object = None) -> None:
        cell = self._cells.pop(threading.get_ident(), None)
        if cell is not None:
            self._finish(cell)

    def _finish(self, cell: _Cell) -> None:
        if cell.timer is not None:
            cell.timer.cancel()
        cell.timer = None
        for bar in cell.bars.values():
            bar.end()
        cell.bars.clear()

    def _look(self, cell: _Cell, loop: asyncio.AbstractEventLoop) -> None:
        if cell.timer is None:
            return
        now, seen = loop.time(), set()
        for connection in self._connections():
            for call, row in _awaited(connection, cell):
                key = (id(connection), call.request_id, row.outgoing)
                seen.add(key)
                bar = cell.bars.get(key)
                if bar is None:
                    # An answer may come long after its call.
                    seen_at = (call.since, 0) if row.outgoing else (now, row.done)
                    bar = cell.bars[key] = _Bar(connection, call, *seen_at)
                if now - bar.began >= _PATIENCE:
                    bar.show(row, now)
        for key in set(cell.bars) - seen:
            cell.bars.pop(key).end()
        cell.timer = loop.call_later(_PACE, self._look, cell, loop)


def _awaited(connection: Connection, cell: _Cell) -> Iterator[tuple[PendingCall, TransferRow]]:
    """Yields what is on its way of the calls that a cell, or what it has started, waits for."""
    for row in list(connection.transfer_rows()):
        number = row.request_id
        call = None if number is None else connection.machine.pending.get(number)
        waiter = None if call is None else call.waiter
        if call is not None and waiter is not None and row.method:
            if any(each.get(_running) is cell for each in waiter.awaited_in()):
                yield call, row
