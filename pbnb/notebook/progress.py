"""A bar below the cell that waits for something large to go or to come.

It shows how much has gone, how fast, and how long the rest will take, with a button that cancels
the call. It comes after half a second, and nothing of it is left when the transfer is done.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data

from ..aio.connection import Connection
from ..protocol.events import PendingCall
from ..protocol.snapshot import TransferRow
from .cells import CellWatch

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


class ProgressBars:
    """Shows below a cell how far the large arguments and answers are that it waits for.

    Args:
        shell: The shell of the cells.
        connections: Returns the connections that its cells may wait for.
    """

    def __init__(
        self, shell: InteractiveShell, connections: Callable[[], Iterable[Connection]]
    ) -> None:
        self._connections = connections
        self._watch: CellWatch[_Bars] = CellWatch(shell, self._bars, first=_PATIENCE, pace=_PACE)

    def install(self) -> None:
        """Begins to look at each cell."""
        self._watch.install()

    def uninstall(self) -> None:
        """Ends what `install` began."""
        self._watch.uninstall()

    def _bars(self) -> _Bars:
        return _Bars(self._watch, self._connections)


class _Bars:
    """The bars below one cell.

    Args:
        watch: Knows which cell this is.
        connections: Returns the connections that it may wait for.
    """

    def __init__(
        self, watch: CellWatch[_Bars], connections: Callable[[], Iterable[Connection]]
    ) -> None:
        self._watch = watch
        self._connections = connections
        self._shown: dict[tuple[int, int, bool], _Bar] = {}

    def look(self, now: float) -> None:
        """Shows how far each transfer is, and takes away the bars of those that are through."""
        seen = set()
        for connection in self._connections():
            for call, row in self._awaited(connection):
                key = (id(connection), call.request_id, row.outgoing)
                seen.add(key)
                bar = self._shown.get(key)
                if bar is None:
                    # An answer may come long after its call.
                    seen_at = (call.since, 0) if row.outgoing else (now, row.done)
                    bar = self._shown[key] = _Bar(connection, call, *seen_at)
                if now - bar.began >= _PATIENCE:
                    bar.show(row, now)
        for key in set(self._shown) - seen:
            self._shown.pop(key).end()

    def end(self) -> None:
        """Takes all of them away."""
        for bar in self._shown.values():
            bar.end()
        self._shown.clear()

    def _awaited(self, connection: Connection) -> Iterator[tuple[PendingCall, TransferRow]]:
        """Yields what is on its way of the calls that the cell, or what it began, waits for."""
        for row in list(connection.transfer_rows()):
            number = row.request_id
            call = None if number is None else connection.machine.pending.get(number)
            if call is None or call.waiter is None or not row.method:
                continue
            if self._watch.waits(self, call.waiter.awaited_in()):
                yield call, row
