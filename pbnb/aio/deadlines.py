"""How long calls may take, and what ends those that take longer.

A call has the time that the innermost ``with pb.deadline(seconds):`` around it gives, and that
its reference has (`RemoteReference.with_deadline`); the shorter one, where there are both. Where
there is neither it has `Limits.call_seconds`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import DeadlineExceeded
from ..protocol.events import PendingCall

__all__ = ["Deadlines", "deadline", "seconds_for"]

# Deadlines that end within so many seconds of each other may end together: one look at the table
# serves them all.
_GRAIN = 0.005

# Answered calls are swept out of the table when it has grown by so many.
_SWEEP = 1024


class _Scope:
    """One ``with pb.deadline()``; what was begun inside outlives it without its deadline."""

    __slots__ = ("ended", "outer", "seconds")

    def __init__(self, seconds: float, outer: _Scope | None) -> None:
        self.seconds = seconds
        self.outer = outer
        self.ended = False


innermost: ContextVar[_Scope | None] = ContextVar("pbnb deadline", default=None)
"""The innermost ``with pb.deadline()``, if there is any."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Gives each call that is made inside ``with pb.deadline(seconds):`` a deadline.

    A call that has no answer in time fails with `DeadlineExceeded`, and its method is cancelled
    where the peer is pbnb and the method is async.

    Args:
        seconds: How long each call may take, counted from when it is made.
    """
    if not seconds > 0:
        raise ValueError(f"a deadline is a number of seconds above 0, not {seconds!r}")
    scope = _Scope(seconds, innermost.get())
    token = innermost.set(scope)
    try:
        yield
    finally:
        scope.ended = True
        innermost.reset(token)


def seconds_for(of_reference: float | None, default: float) -> float:
    """Returns how long a call that is made here and now may take.

    Args:
        of_reference: What the reference says, or None.
        default: What counts where nothing is said.
    """
    scope = innermost.get()
    # Tasks and connections that were begun in a scope carry it with them when it has ended.
    while scope is not None and scope.ended:
        scope = scope.outer
    if scope is None:
        return default if of_reference is None else of_reference
    return scope.seconds if of_reference is None else min(scope.seconds, of_reference)


class Deadlines:
    """The calls of one connection that have a deadline, with one timer for all of them.

    Args:
        expired: Called with each call whose time is up.
    """

    __slots__ = (
        "_calls",
        "_expired",
        "_rings_at",
        "_sweep_at",
        "_timer",
    )

    def __init__(self, expired: Callable[[PendingCall, float], object]) -> None:
        self._expired = expired
        self._calls: dict[int, tuple[float, float, PendingCall]] = {}
        self._sweep_at = _SWEEP
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: PendingCall, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Gives a call a deadline.

        Args:
            call: The call; its ``waiter`` is None when it was answered.
            seconds: How long it may take from now.
            loop: The loop of its connection.
        """
        when = loop.time() + seconds
        if len(self._calls) >= self._sweep_at:
            self._sweep()
        self._calls[call.request_id] = (when, seconds, call)
        if when < self._rings_at:
            self._arm(when, loop)

    def of(self, call: PendingCall) -> float | None:
        """Returns when a call will be given up, or None where it has no deadline.

        Args:
            call: The call.
        """
        entry = self._calls.get(call.request_id)
        return None if entry is None else entry[0]

    def clear(self) -> None:
        """Forgets all of them: the connection has ended."""
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._rings_at = math.inf

    def _arm(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = loop.call_at(when, self._ring, loop)

    def _sweep(self) -> None:
        self._calls = {key: each for key, each in self._calls.items() if each[2].waiter is not None}
        self._sweep_at = 2 * len(self._calls) + _SWEEP

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._rings_at = math.inf
        self._sweep()
        now = loop.time() + _GRAIN
        due = [key for key, (when, _, _) in self._calls.items() if when <= now]
        for key in due:
            # What is done for one of them may answer others, or end the connection.
            _, seconds, call = self._calls.pop(key, (0.0, 0.0, None))
            if call is not None and call.waiter is not None:
                self._expired(call, seconds)
        if self._calls:
            first = min(when for when, _, _ in self._calls.values())
            if first < self._rings_at:
                self._arm(first, loop)


def exceeded(name: str, seconds: float, peer: str) -> DeadlineExceeded:
    """Returns the error of a call whose time is up."""
    return DeadlineExceeded(f"{name}() at {peer} was not answered within {seconds:g} s")
