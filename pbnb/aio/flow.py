"""What waits while the peer does not read as fast as this side writes.

When more than `Limits.write_bytes` wait to be read, the answers and the calls of this side are
held back as they are, not yet encoded. Whoever awaits a call waits longer, and the memory in use
is that of the values themselves, which their owners have anyhow.

A peer that calls and does not read its answers is not read from either, until it does. The side
that waits for an answer itself always reads on: of two that wait for each other one has to.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..errors import DeadlineExceeded, LimitExceeded
from ..failure import Failure
from ..limits import Limits
from ..protocol.events import PendingCall
from .deferred import Deferred

__all__ = ["Flow"]

log = logging.getLogger("pbnb")


class Host(Protocol):
    """What flow asks of its connection."""

    peer: str

    def awaits_answers(self) -> bool:
        """Returns whether calls of this side are pending."""

    def await_answer(self, pending: PendingCall, seconds: float, waiter: Deferred[Any]) -> object:
        """Sees to it that a call which was just sent ends."""

    def cancel_at_peer(self, call: PendingCall) -> None:
        """Tells the peer that nobody waits for a call any more."""

    def lost_error(self, name: str, cause: Exception | None) -> Exception:
        """Returns the error of a call that the end of the connection ended."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the connection's loop, later."""

    def time(self) -> float:
        """Returns the time of the connection's loop."""

    def pause_reading(self) -> None:
        """Stops to read from the peer."""

    def resume_reading(self) -> None:
        """Reads from the peer again, and first what was left."""

    def give_up(self, error: Exception) -> None:
        """Ends the connection."""


class Flow:
    """What one connection holds back.

    Args:
        host: The connection.
        limits: What the peer may cost; it may be replaced.

    Attributes:
        limits: What the peer may cost.
        full: Whether calls and answers are held back.
        holds_reading: Whether nothing more is read from the peer.
    """

    __slots__ = (
        "_held",
        "_host",
        "full",
        "holds_reading",
        "limits",
    )

    def __init__(self, host: Host, limits: Limits) -> None:
        self.limits = limits
        self.full = False
        self.holds_reading = False
        self._host = host
        # Made when something is held: on each of many connections it would take 760 bytes.
        self._held: deque[Callable[[], object]] | None = None

    def __len__(self) -> int:
        return len(self._held) if self._held else 0

    def wrote(self, waiting: int) -> None:
        """Notes how many bytes wait to be read by the peer."""
        most = self.limits.write_bytes
        if waiting > most:
            self.full = True
        # What is not held back are short answers, to calls that were refused, and no peer that
        # reads makes so many of them. One message may be as long as it may be.
        if waiting > 2 * most + self.limits.message_bytes:
            self._host.give_up(
                LimitExceeded(f"the peer does not read: {waiting} bytes wait for it")
            )

    def hold(self, send: Callable[[], object]) -> None:
        """Holds back something to say."""
        if self._held is None:
            self._held = deque()
        self._held.append(send)

    def hold_answer(self, send: Callable[[], object]) -> None:
        """Holds back an answer."""
        self.hold(send)
        self.hold_reading()

    def hold_reading(self) -> None:
        """Hears the peer, who waits for an answer, no more until it has read the others."""
        if not self.holds_reading and not self._host.awaits_answers():
            self.holds_reading = True
            self._host.pause_reading()

    def hold_call(
        self, name: str, send: Callable[[], PendingCall | None], seconds: float
    ) -> Deferred[Any]:
        """Holds back a call, and returns a Deferred of its answer.

        Args:
            name: The method's name.
            send: Sends the call.
            seconds: How long it may take from now.
        """
        held = _HeldCall(self._host, name, send, seconds)
        self.hold(held)
        return held.waiter

    def resume(self) -> None:
        """Says what was held back, as much as there is room for."""
        if not self.full:
            return
        self.full = False
        while self._held and not self.full:
            send = self._held.popleft()
            try:
                send()
            except Exception:
                # A call without an answer: nobody is left to tell that it cannot be sent.
                log.exception("a call to %s could not be sent", self._host.peer)
        if not self.full and self.holds_reading:
            self.holds_reading = False
            self._host.resume_reading()

    def clear(self, cause: Exception | None) -> None:
        """Ends what is held back: the connection has ended."""
        held, self._held = self._held, None
        self.full = self.holds_reading = False
        for each in held or ():
            if isinstance(each, _HeldCall):
                each.fail(cause)


class _HeldCall:
    """A call that waits to be sent."""

    def __init__(
        self, host: Host, name: str, send: Callable[[], PendingCall | None], seconds: float
    ) -> None:
        self._host = host
        self._name = name
        self._send = send
        self._until = host.time() + seconds
        self._sent: PendingCall | None = None
        self.waiter: Deferred[Any] = Deferred(self._cancel)
        self._timer: asyncio.TimerHandle | None = None
        if seconds != math.inf:
            self._timer = host.call_later(seconds, partial(self._expire, seconds))

    def __call__(self) -> None:
        self._stop_timer()
        if self.waiter.called:
            return
        try:
            pending = self._send()
        except Exception as error:  # as in Connection, or because the connection ends
            self.waiter.errback(Failure.of(error))
            return
        assert pending is not None
        self._sent = pending
        self._host.await_answer(pending, self._until - self._host.time(), self.waiter)

    def fail(self, cause: Exception | None) -> None:
        self._stop_timer()
        if not self.waiter.called:
            self.waiter.errback(self._host.lost_error(self._name, cause))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _cancel(self, waiter: Deferred[Any]) -> None:
        self._stop_timer()
        if self._sent is not None:
            self._sent.waiter = None
            self._host.cancel_at_peer(self._sent)

    def _expire(self, seconds: float) -> None:
        if not self.waiter.called:
            text = f"{self._name}() was not sent within {seconds:g} s: {self._host.peer} does not"
            self.waiter.errback(DeadlineExceeded(f"{text} read what it is sent"))
