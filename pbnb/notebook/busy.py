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

from IPython.core.events import EventManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import publish_display_data

from ..aio.connection import Connection
from ..aio.server import Server
from ..aio.threads import running_loop, tell
from ..protocol.events import PendingCall
from .cells import CellWatch
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
        self._watch: CellWatch[_Line] = CellWatch(shell, self._line, first=_PACE, pace=_PACE)
        self._asking: asyncio.TimerHandle | None = None

    def install(self) -> None:
        """Begins to look at each cell."""
        self._watch.install()
        if getattr(self._shell, "kernel", None) is not None:
            self._shell.events.register("post_run_cell", self._after_cell)

    def uninstall(self) -> None:
        """Ends what `install` began."""
        self._watch.uninstall()
        _unregister(self._shell.events, "post_run_cell", self._after_cell)
        if self._asking is not None:
            self._asking.cancel()

    def _line(self) -> _Line:
        return _Line(self._watch, self._connections)

    def _after_cell(self, result: object = None) -> None:
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


class _Line:
    """The line below one cell.

    Args:
        watch: Knows which cell this is.
        connections: Returns the connections that it may wait for.
    """

    def __init__(
        self, watch: CellWatch[_Line], connections: Callable[[], Iterable[Connection]]
    ) -> None:
        self._watch = watch
        self._connections = connections
        self._text = ""
        self._display = f"pbnb-{uuid.uuid4().hex}"
        self._is_displayed = False
        self._told: set[PendingCall] = set()

    def look(self, now: float) -> None:
        """Says which peers are silent."""
        lines = []
        for connection in self._connections():
            connection.ask_if_silent()
            calls = list(self._awaited(connection))
            silent = connection.liveness.busy
            if calls and silent:
                lines.append(busy_with(connection, [call.name for call in calls], silent))
                for call in calls:
                    self._clear_after(call)
        self._show("\n".join(lines))

    def end(self) -> None:
        """Takes the line away."""
        self._show("")

    def _awaited(self, connection: Connection) -> Iterator[PendingCall]:
        """Yields the pending calls that the cell, or what it has started, waits for."""
        for call in list(connection.machine.pending.values()):
            if call.waiter is not None and self._watch.waits(self, call.waiter.awaited_in()):
                yield call

    def _clear_after(self, call: PendingCall) -> None:
        def ended(waiter: object) -> None:
            self._told.discard(call)
            if not self._told:
                self._show("")

        if call not in self._told and call.waiter is not None:
            self._told.add(call)
            call.waiter.add_done_callback(ended)

    def _show(self, text: str) -> None:
        if text == self._text:
            return
        self._text = text
        publish_display_data(  # type: ignore[no-untyped-call]
            # What is empty is nothing on the page, and nothing but a pair of braces in its file.
            line_of(text) if text else {},
            transient={"display_id": self._display},
            update=self._is_displayed,
        )
        self._is_displayed = True


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
