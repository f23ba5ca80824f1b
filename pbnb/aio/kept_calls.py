"""Calls that wait for a connection, and calls that may be made again over the next one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol

from ..errors import DeadlineExceeded, DeadReferenceError, PBConnectionLost
from ..failure import CopiedFailure, Failure
from .deadlines import seconds_for
from .deferred import Deferred

__all__ = ["KeptCall"]


class Sender(Protocol):
    """What a call asks of what keeps the connection."""

    peer: str

    def state(self) -> str:
        """Returns what is waited for, in words."""

    def send(self, call: KeptCall, seconds: float) -> Deferred[Any]:
        """Sends a call over the connection that there is now."""

    def hold(self, call: KeptCall) -> None:
        """Keeps a call until there is a connection."""

    def forget(self, call: KeptCall) -> None:
        """Keeps a call no longer."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the loop, later."""

    def time(self) -> float:
        """Returns the time of the loop."""


class KeptCall:
    """One call, from when it is made to its answer, over one connection or several.

    Args:
        sender: Keeps the connection.
        name: The method's name.
        args: What the method is given.
        kw: Keyword arguments of the method.
        deadline: The seconds that the reference gives it, or None.
        repeats: How often it may be sent again after a connection has ended.
        seconds: How long it may take where nothing else is said.
        patience: The most seconds that it waits for one connection.

    Attributes:
        waiter: Gets the answer.
        since: When it began to wait for a connection, by the loop's clock.
        signs: Take back what shows that it waits.
    """

    def __init__(
        self,
        sender: Sender,
        name: str,
        args: tuple[Any, ...],
        kw: dict[str, Any],
        *,
        deadline: float | None,
        repeats: int,
        seconds: float,
        patience: float,
    ) -> None:
        self.name = name
        self.args = args
        self.kw = kw
        self.waiter: Deferred[Any] = Deferred(self._cancel)
        self.since = 0.0
        self.signs: list[Callable[[], object]] = []
        self._sender = sender
        self._repeats = repeats
        self._patience = patience
        self._until = sender.time() + seconds_for(deadline, seconds)
        self._timer: asyncio.TimerHandle | None = None
        self._sent: Deferred[Any] | None = None
        # Output and deadlines belong to who calls, also when it is sent by somebody else.
        self._context = copy_context()

    def run_here(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs something in the context in which the call was made."""
        return self._context.run(function, *args)

    def wait(self) -> None:
        """Notes that it waits for a connection from now on."""
        self.since = now = self._sender.time()
        seconds = min(self._until - now, self._patience)
        if seconds != math.inf:
            self._timer = self._sender.call_later(seconds, self._expire)

    def go(self) -> None:
        """Sends it over the connection that there is now."""
        self.stop_waiting()
        if self.waiter.called:
            return
        seconds = self._until - self._sender.time()
        if seconds <= 0:
            self._expire()
            return
        try:
            sent: Deferred[Any] = self.run_here(self._sender.send, self, seconds)
        except DeadReferenceError:
            self._sender.hold(self)  # this one has just ended, too
        except Exception as error:
            self.waiter.errback(error)
        else:
            self._sent = sent
            sent.addCallbacks(self._on_value, self._on_failure)

    def fail(self, error: Exception) -> None:
        """Ends it with an error: there will be no connection."""
        self.stop_waiting()
        if not self.waiter.called:
            self.waiter.errback(error)

    def stop_waiting(self) -> None:
        """Notes that it waits for a connection no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        signs, self.signs = self.signs, []
        for take_back in signs:
            take_back()

    def _on_value(self, value: Any) -> None:
        self._sent = None
        if not self.waiter.called:
            self.waiter.callback(value)

    def _on_failure(self, failure: Failure) -> None:
        self._sent = None
        if self.waiter.called:
            return
        # A method may have lost a connection of its own: that is an answer like any other.
        lost = not isinstance(failure, CopiedFailure) and failure.check(
            PBConnectionLost, DeadReferenceError
        )
        if lost and self._repeats > 0:
            self._repeats -= 1
            self._sender.hold(self)
        else:
            self.waiter.errback(failure)

    def _cancel(self, waiter: Deferred[Any]) -> None:
        self._sender.forget(self)
        self.stop_waiting()
        if self._sent is not None:
            self._sent.cancel()

    def _expire(self) -> None:
        self._sender.forget(self)
        waited = self._sender.time() - self.since
        self.fail(
            DeadlineExceeded(
                f"{self.name}() was not sent to {self._sender.peer}, it waited for a connection "
                f"for {waited:.3g} s: {self._sender.state()}"
            )
        )
