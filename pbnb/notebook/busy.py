"""Says that a kernel is busy: below the cell that waits for it, and in the kernel that was.

A kernel whose cell computes reads nothing meanwhile. Whoever waits for its answer sees a line
below the cell that waits, which is gone when it goes on; and when the computing cell has ended, the
kernel knows for how long it has heard nobody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

from IPython.core.events import EventManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data

from ..aio.connection import Connection
from ..aio.server import Server
from ..aio.threads import running_loop, tell
from ..protocol.events import PendingCall
from .waits import line_of
from .wording import busy_with

__all__ = ["BusyLines", "Heartbeat"]

log = logging.getLogger("pbnb")

# Seconds between two looks at what a cell waits for. A peer that has said nothing since the look
# before is asked for a sign of life, and has until the next one to give it.
_PACE = 1.0

# Seconds between two beats, the shortest block that is kept, and the shortest that is said.
_BEAT = 1.0
_BLOCK = 2.0
_SAID = 3.0


class _Cell:
    """A cell that runs, and the line below it."""

    def __init__(self) -> None:
        self.line = ""
        self.display = f"pbnb-{uuid.uuid4().hex}"
        self.is_displayed = False
        self.timer: asyncio.TimerHandle | None = None
        self.told: set[PendingCall] = set()


# In what a cell runs, and in what it starts.
_running: ContextVar[_Cell | None] = ContextVar("pbnb_cell", default=None)


class BusyLines:
    """Shows below a cell for which calls it waits, while their peers say nothing.

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
        self._asking: asyncio.TimerHandle | None = None

    def install(self) -> None:
        """Begins to look at each cell. Only a notebook can take back what it has shown."""
        if getattr(self._shell, "kernel", None) is not None:
            self._shell.events.register("pre_run_cell", self._begin)
            self._shell.events.register("post_run_cell", self._end)

    def uninstall(self) -> None:
        """Ends what `install` began."""
        _unregister(self._shell.events, "pre_run_cell", self._begin)
        _unregister(self._shell.events, "post_run_cell", self._end)
        for thread in list(self._cells):
            self._finish(self._cells.pop(thread))
        if self._asking is not None:
            self._asking.cancel()

    def _begin(self, info: object = None) -> None:
        loop = running_loop()
        if loop is None:
            return
        self._end()
        cell = self._cells[threading.get_ident()] = _Cell()
        _running.set(cell)
        # In the context of the cell, below which it shows.
        cell.timer = loop.call_later(_PACE, self._look, cell, loop)

    def _end(self, result: object = None) -> None:
        cell = self._cells.pop(threading.get_ident(), None)
        if cell is not None:
            self._finish(cell)
        # The thread of a subshell may be gone when it is time to ask again.
        if self._asking is None and threading.current_thread() is threading.main_thread():
            self._ask()

    def _ask(self) -> None:
        """Keeps asking silent peers for which no cell waits, so that ``%pb_status`` knows."""
        loop, self._asking = running_loop(), None
        waited_for = [each for each in self._connections() if each.waits_since() is not None]
        for connection in waited_for:
            connection.ask_if_silent()
        if waited_for and loop is not None:
            self._asking = loop.call_later(_PACE, self._ask)

    def _finish(self, cell: _Cell) -> None:
        if cell.timer is not None:
            cell.timer.cancel()
        cell.timer = None
        self._show(cell, "")

    def _look(self, cell: _Cell, loop: asyncio.AbstractEventLoop) -> None:
        if cell.timer is None:
            return
        lines = []
        for connection in self._connections():
            connection.ask_if_silent()
            calls = list(_awaited(connection, cell))
            if calls and connection.liveness.busy:
                lines.append(busy_with(connection, [call.name for call in calls]))
                for call in calls:
                    self._clear_after(cell, call)
        self._show(cell, "\n".join(lines))
        cell.timer = loop.call_later(_PACE, self._look, cell, loop)

    def _clear_after(self, cell: _Cell, call: PendingCall) -> None:
        def ended(waiter: object) -> None:
            cell.told.discard(call)
            if not cell.told:
                self._show(cell, "")

        if call not in cell.told and call.waiter is not None:
            cell.told.add(call)
            call.waiter.add_done_callback(ended)

    def _show(self, cell: _Cell, line: str) -> None:
        if line == cell.line:
            return
        cell.line = line
        publish_display_data(  # type: ignore[no-untyped-call]
            # What is empty is nothing on the page, and nothing but a pair of braces in its file.
            line_of(line) if line else {},
            transient={"display_id": cell.display},
            update=cell.is_displayed,
        )
        cell.is_displayed = True


def _awaited(connection: Connection, cell: _Cell) -> Iterator[PendingCall]:
    """Yields the pending calls that a cell, or what it has started, waits for."""
    for call in list(connection.machine.pending.values()):
        waiter = call.waiter
        if waiter is not None and any(each.get(_running) is cell for each in waiter.awaited_in()):
            yield call


def _unregister(events: EventManager, event: str, callback: Callable[..., object]) -> None:
    if callback in events.callbacks[event]:
        events.unregister(event, callback)


class Heartbeat:
    """Notices that a kernel's loop was blocked, while it serves something.

    Args:
        loop: The kernel's loop.
        servers: Returns the servers that live on it.

    Attributes:
        blocked: For how many seconds it was blocked the last time; 0.0 where it never was.
        until: When that ended, by the loop's clock.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, servers: Callable[[], Iterable[Server]]
    ) -> None:
        self.blocked = 0.0
        self.until = 0.0
        self._loop = loop
        self._servers = servers
        self._beaten = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._said = False

    def install(self, events: EventManager) -> None:
        """Begins to time the cells of a shell.

        Args:
            events: Those of the shell.
        """
        events.register("pre_run_cell", self.before_cell)
        events.register("post_run_cell", self.after_cell)

    def uninstall(self, events: EventManager) -> None:
        """Ends what `install` and `begin` began.

        Args:
            events: Those of the shell.
        """
        _unregister(events, "pre_run_cell", self.before_cell)
        _unregister(events, "post_run_cell", self.after_cell)
        tell(self._loop, self.end)

    def begin(self) -> None:
        """Beats, until nothing is served any more; called in the loop."""
        if self._timer is None:
            self._said = False
            self._next()

    def end(self) -> None:
        """Stops."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def before_cell(self, info: object = None) -> None:
        """Counts from now on, for the sake of a cell that begins."""
        if self._timer is not None and running_loop() is self._loop:
            self.end()
            self._next()

    def after_cell(self, result: object = None) -> None:
        """Notes how long a cell has blocked the loop, and says so where peers were waiting."""
        if self._timer is None or running_loop() is not self._loop:
            return  # the cell of a subshell, whose thread is another
        if self._loop.time() - self._beaten < _BLOCK:
            return
        self._note()
        peers = sum(
            connection.has_unread() for each in self._servers() for connection in each.connections
        )
        # Once is enough: who knows it does not want to read it below each cell.
        if peers and self.blocked >= _SAID and not self._said:
            self._said = True
            log.warning(
                "while this cell ran, calls of %s waited up to %.0f s: %%pb_serve --thread "
                "answers meanwhile",
                "a peer" if peers == 1 else f"{peers} peers",
                self.blocked,
            )
        self.end()
        self._next()

    def _beat(self) -> None:
        if self._loop.time() - self._beaten >= _BLOCK + _BEAT:
            self._note()
        self._timer = None
        if any(True for _ in self._servers()):
            self._next()

    def _next(self) -> None:
        self._beaten = self._loop.time()
        self._timer = self._loop.call_later(_BEAT, self._beat)

    def _note(self) -> None:
        self.until = self._loop.time()
        self.blocked = self.until - self._beaten
