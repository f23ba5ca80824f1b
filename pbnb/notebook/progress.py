"""A bar below the cell that waits for something large to go or to come.

It shows how much has gone, how fast, and how long the rest will take, with a button that cancels
the call. It comes after half a second, and nothing of it is left when the transfer is done. What
comes right after it is shown in its place, so that a cell with many transfers stands still.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data

from ..aio.connection import Connection
from ..failure import shown
from ..protocol.events import PendingCall
from ..protocol.snapshot import TransferRow
from .cells import CellWatch

__all__ = ["ProgressBars", "progress_text"]

# Seconds that a transfer may take without a word, and between two looks at it.
_PATIENCE = 0.5
_PACE = 0.25

# Looks from which the rate is taken: five seconds, after which one that stands still has none.
_LOOKS = 20

# Longest name of a method, so that the figures behind it are seen in a narrow window, too.
_NAME = 20

_UNITS = ("B", "KiB", "MiB", "GiB")
_VIEW = "application/vnd.jupyter.widget-view+json"


def _bytes(count: float, like: float | None = None) -> str:
    """Returns an amount with its unit; without it where that of another amount is the same."""
    unit = _unit(count)
    said = f"{count / 1024**unit:.{1 if unit and count < 100 * 1024**unit else 0}f}"
    return said if like is not None and _unit(like) == unit else f"{said} {_UNITS[unit]}"


def _unit(count: float) -> int:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return unit


def _time(seconds: float) -> str:
    # Rounded up: what goes on is never 0 s from its end.
    for unit, length in (("s", 1), ("min", 60)):
        if seconds <= 100 * length:
            return f"{math.ceil(seconds / length)} {unit}"
    return f"{math.ceil(seconds / 3600)} h"


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
    said = f"{way} {shown(row.method, _NAME)}(): {_bytes(row.done, row.size)} of {_bytes(row.size)}"
    rate = (row.done - before) / seconds if seconds > 0 else 0.0
    if not rate:
        return said
    return f"{said}, {_bytes(rate)}/s, {_time((row.size - row.done) / rate)} left"


class _Transfer:
    """Something large that is on its way, and how it has gone.

    Args:
        connection: Its connection.
        call: The call that it belongs to.
        began: When it began.
        before: How many bytes had gone by then.
    """

    def __init__(
        self, connection: Connection, call: PendingCall, began: float, before: int
    ) -> None:
        self.connection = connection
        self.call = call
        self.began = began
        self._looks: deque[tuple[float, int]] = deque([(began, before)], _LOOKS)

    def text(self, row: TransferRow, now: float) -> str:
        """Returns what is said of it."""
        began, before = self._looks[0]
        self._looks.append((now, row.done))
        return progress_text(row, now - began, before)

    def cancel(self) -> None:
        """Cancels the call; in whatever thread the button is heard of."""
        waiter = self.call.waiter
        if waiter is not None:
            self.connection.call_soon(waiter.cancel)

    @property
    def cancelled(self) -> bool:
        return self.call.waiter is None or self.call.waiter.cancelled()


class _Bar:
    """A place below a cell, which shows one transfer after the other.

    JupyterLab shows fifty outputs of a cell and hides the rest: not each transfer may be one.
    """

    def __init__(self, transfer: _Transfer) -> None:
        # First of all: the button may be pressed, in another thread, as soon as there is one.
        self.transfer: _Transfer | None = transfer
        # When its transfer was through, while it may show another.
        self.free_since: float | None = None
        ipywidgets = _widgets()
        layout = ipywidgets.Layout
        # The figures change all the time, and nothing moves for it: they stand at the end, and
        # below the rest where there is no room beside it.
        self._bar = ipywidgets.FloatProgress(max=1.0, layout=layout(width="11em"))
        self._label = ipywidgets.Label(
            style={"font_variant": "tabular-nums"}, layout=layout(flex="1 1 26em")
        )
        button = ipywidgets.Button(
            description="Cancel",
            icon="times",
            tooltip="Cancel this call",
            layout=layout(width="auto", flex="0 0 auto"),
        )
        button.on_click(self.cancel)
        # Set in from the edge as far as what is printed above and below it.
        self._box = ipywidgets.HBox(
            [self._bar, button, self._label],
            layout=layout(flex_flow="row wrap", margin="0 0 0 6px"),
        )
        self._display = f"pbnb-{uuid.uuid4().hex}"
        self.is_seen = self._is_displayed = False

    def show(self, row: TransferRow, text: str) -> None:
        """Shows how far its transfer is."""
        self._bar.value = row.done / row.size if row.size else 1.0
        self._label.value = text
        if not self.is_seen:
            view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
            self._publish({"text/plain": text, _VIEW: view})
            self.is_seen = True

    def cancel(self, button: object = None) -> None:
        """Cancels the call whose transfer it shows."""
        if self.transfer is not None:
            self.transfer.cancel()

    def clear_if_idle(self, now: float) -> None:
        """Shows nothing, when no other transfer has followed."""
        if self.free_since is None or self.transfer is None:
            return
        if self.transfer.cancelled or now - self.free_since >= _PATIENCE:
            self.transfer = None
            self.clear()

    def clear(self) -> None:
        """Shows nothing."""
        if self.is_seen:
            # What is empty is nothing on the page.
            self._publish({})
            self.is_seen = False

    def close(self) -> None:
        """Takes it away, for good."""
        self.clear()
        for each in (*self._box.children, self._box):
            each.close()

    def _publish(self, data: dict[str, Any]) -> None:
        publish_display_data(  # type: ignore[no-untyped-call]
            data, transient={"display_id": self._display}, update=self._is_displayed
        )
        self._is_displayed = True


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
        self._transfers: dict[tuple[int, int, bool], _Transfer] = {}
        self._bars: list[_Bar] = []

    def look(self, now: float) -> None:
        """Shows how far each transfer is, and takes away the bars of those that are through."""
        rows = {}
        for connection in self._connections():
            for call, row in self._awaited(connection):
                key = (id(connection), call.request_id, row.outgoing)
                rows[key] = row
                if key not in self._transfers:
                    # An answer may come long after its call.
                    seen_at = (call.since, 0) if row.outgoing else (now, row.done)
                    self._transfers[key] = _Transfer(connection, call, *seen_at)
        through = [self._transfers.pop(key) for key in set(self._transfers) - set(rows)]
        for bar in self._bars:
            if bar.transfer in through:
                bar.free_since = now
        for key, row in rows.items():
            self._show(self._transfers[key], row, now)
        for bar in self._bars:
            bar.clear_if_idle(now)

    def _show(self, transfer: _Transfer, row: TransferRow, now: float) -> None:
        text = transfer.text(row, now)
        bar = next((bar for bar in self._bars if bar.transfer is transfer), None)
        if bar is None:
            # What comes right after another has waited enough: nothing shall jump up and down.
            free = [bar for bar in self._bars if bar.free_since is not None]
            bar = next((bar for bar in free if bar.is_seen), None)
            if bar is None and now - transfer.began < _PATIENCE:
                return
            bar = bar or next(iter(free), None) or _Bar(transfer)
            if bar not in self._bars:
                self._bars.append(bar)
            bar.transfer, bar.free_since = transfer, None
        bar.show(row, text)

    def end(self) -> None:
        """Takes all of them away."""
        for bar in self._bars:
            bar.close()
        self._bars.clear()
        self._transfers.clear()

    def _awaited(self, connection: Connection) -> Iterator[tuple[PendingCall, TransferRow]]:
        """Yields what is on its way of the calls that the cell, or what it began, waits for."""
        for row in list(connection.transfer_rows()):
            number = row.request_id
            call = None if number is None else connection.machine.pending.get(number)
            if call is None or call.waiter is None or not row.method:
                continue
            if self._watch.waits(self, call.waiter.awaited_in()):
                yield call, row
