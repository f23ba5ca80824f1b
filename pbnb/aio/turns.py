"""Which calls of a peer run, and which wait for their turn.

A call runs at once, unless as many as `Limits` allow still run, or its object is serial and busy.
Plain methods end before the next call is read; what is counted are methods that wait for
something. Those that run when their connection ends go on to their end, as in PB, but of them
too no more than so many are kept: the oldest are cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..errors import PeerBusy
from ..failure import Failure
from ..flavors import AsReferenceable, ViewPoint
from ..limits import Limits
from ..protocol.events import CallReceived
from .control import Control

__all__ = ["Running", "Turns"]


class Running(Protocol):
    """A task or a Deferred: a method that has not ended."""

    def cancel(self) -> Any:
        """Asks it to end."""


class Host(Protocol):
    """What turns ask of their connection."""

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""

    def run(self, call: CallReceived) -> object | None:
        """Runs a method; returns the key of `Turns.started`, or None where it has ended."""

    def reply_failure(self, call: CallReceived, failure: Failure) -> None:
        """Answers a call with a failure."""

    def warn(self, level: int, text: str, *args: object) -> None:
        """Logs a line about the peer."""

    def schedule(self, callback: Callable[..., object], *args: Any) -> bool:
        """Runs a callback in the connection's loop; returns False where that is closed."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the connection's loop, later."""


class _Line:
    """The calls of one serial object: one runs, and the others stand here, whoever made them."""

    __slots__ = ("obj", "waiting")

    def __init__(self, obj: object) -> None:
        self.obj = obj  # held, so that its id is its own
        self.waiting: deque[tuple[Turns, CallReceived]] = deque()


# Of the objects that are busy, by their id. Connections of several loops may serve one object.
_lines: dict[int, _Line] = {}
_lines_lock = threading.Lock()

# What runs for nobody any more, the oldest first.
_orphans: dict[tuple[int, object], tuple[Turns, Running]] = {}


class Turns:
    """The calls that one peer has made and that have not ended.

    Args:
        host: The connection.
        limits: What the peer may cost; it may be replaced.

    Attributes:
        limits: What the peer may cost.
        running: The methods that run.
        queue: The calls that wait behind those, each with what ends its wait.
    """

    __slots__ = (
        "_host",
        "_in_line",
        "_lines",
        "limits",
        "queue",
        "running",
    )

    def __init__(self, host: Host, limits: Limits) -> None:
        self.limits = limits
        self.running: dict[object, Running] = {}
        self._host = host
        # As short as `Limits.queued_calls`, and as light as a deque is not while it is empty.
        self.queue: list[tuple[CallReceived, asyncio.TimerHandle]] = []
        self._in_line: list[CallReceived] = []
        self._lines: dict[object, _Line] = {}

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self.queue) + len(self._in_line)

    def take(self, call: CallReceived) -> None:
        """Runs a call, now or when its turn comes, or refuses it."""
        if self.queue or len(self.running) >= self.limits.running_calls:
            self.put_off(call)
        elif call.target.pb_concurrency == "serial":
            self._take_in_turn(call)
        else:
            self._host.run(call)

    def put_off(self, call: CallReceived) -> None:
        """Lets a call wait until `advance`, or refuses it where too many wait."""
        if isinstance(call.target, Control):
            self._host.run(call)  # a cancellation cannot wait for what it cancels
        elif self._has_room(call):
            timer = self._host.call_later(
                self.limits.queue_seconds, partial(self._give_up, call.request_id)
            )
            self.queue.append((call, timer))

    def advance(self) -> None:
        """Runs calls that wait, as many as there is room for."""
        while self.queue and len(self.running) < self.limits.running_calls:
            call, timer = self.queue.pop(0)
            timer.cancel()
            if call.target.pb_concurrency == "serial":
                self._take_in_turn(call)
            else:
                self._host.run(call)

    def started(self, call: CallReceived, running: Running) -> object:
        """Counts a method that waits for something; returns the key for `ended`."""
        key: object = call.request_id
        if type(key) is not int or key in self.running:
            key = object()  # a peer may send anything as a number, and the same one twice
        self.running[key] = running
        return key

    def ended(self, key: object) -> None:
        """Counts the end of a method, and runs what waited for it."""
        self.running.pop(key, None)
        _orphans.pop((id(self), key), None)
        if (line := self._lines.pop(key, None)) is not None:
            _next_in(line)
        if self.queue and not self._host.lost:
            self.advance()

    def cancel(self, request: object) -> None:
        """Ends a call that the peer no longer waits for."""
        if type(request) is not int:
            return
        running = self.running.get(request)
        if running is not None:
            running.cancel()
            return
        call = self._remove(request)
        if call is not None:
            error = asyncio.CancelledError("the call was cancelled before its turn came")
            self._refuse(call, Failure(error))

    def clear(self) -> None:
        """Forgets what waits, because the connection has ended; what runs runs on."""
        for _, timer in self.queue:
            timer.cancel()
        self.queue.clear()
        for call in list(self._in_line):
            self._leave_line(call)
        for key, running in self.running.items():
            _orphans[id(self), key] = (self, running)
        while len(_orphans) > self.limits.running_calls:
            turns, running = _orphans.pop(next(iter(_orphans)))
            turns._host.schedule(running.cancel)

    # Waiting

    def _has_room(self, call: CallReceived) -> bool:
        if self.waiting < self.limits.queued_calls:
            return True
        text = f"{len(self.running)} calls of this peer run here and {self.waiting} wait"
        self._refuse(call, Failure(PeerBusy(f"{call.name[:80]}() was refused: {text}")))
        return False

    def _refuse(self, call: CallReceived, failure: Failure) -> None:
        self._host.warn(logging.INFO, "%s", failure.getErrorMessage())
        if call.wants_answer:
            self._host.reply_failure(call, failure)

    def _give_up(self, request: object) -> None:
        call = self._remove(request)
        if call is not None:
            text = f"{call.name[:80]}() has waited {self.limits.queue_seconds:g} s for its turn"
            self._refuse(call, Failure(PeerBusy(text)))

    def _remove(self, request: object) -> CallReceived | None:
        for entry in self.queue:
            if entry[0].request_id == request:
                self.queue.remove(entry)
                entry[1].cancel()
                return entry[0]
        for call in self._in_line:
            if call.request_id == request:
                self._leave_line(call)
                return call
        return None

    # Serial objects

    def _take_in_turn(self, call: CallReceived) -> None:
        obj = _served(call.target)
        if id(obj) in _lines and not self._has_room(call):
            return
        with _lines_lock:
            line = _lines.get(id(obj))
            if line is not None:
                line.waiting.append((self, call))
                self._in_line.append(call)
                return
            line = _lines[id(obj)] = _Line(obj)
        self._run_in(line, call)

    def _leave_line(self, call: CallReceived) -> None:
        self._in_line = [each for each in self._in_line if each is not call]
        with _lines_lock:
            line = _lines.get(id(_served(call.target)))
            if line is not None:
                line.waiting = deque(each for each in line.waiting if each[1] is not call)

    def _run_in(self, line: _Line, call: CallReceived) -> None:
        key = None
        try:
            key = self._host.run(call)
        finally:
            if key is None:
                _next_in(line)
            else:
                self._lines[key] = line

    def _turn_came(self, line: _Line, call: CallReceived) -> None:
        cancelled = not any(each is call for each in self._in_line)
        self._in_line = [each for each in self._in_line if each is not call]
        if cancelled or self._host.lost:
            _next_in(line)
        else:
            self._run_in(line, call)


def _next_in(line: _Line) -> None:
    while True:
        with _lines_lock:
            if not line.waiting:
                _lines.pop(id(line.obj), None)
                return
            turns, call = line.waiting.popleft()
        # In a turn of the loop of its own: thousands may wait, and each would be a frame here.
        if turns._host.schedule(turns._turn_came, line, call):
            return


def _served(target: Any) -> object:
    return target.object if isinstance(target, (ViewPoint, AsReferenceable)) else target
