"""Whether the peer is still there: while it opens the connection, and while it owes an answer.

A machine that is gone is found by the operating system, which asks for a sign of life on a quiet
connection, and counts what is not acknowledged on a busy one. A process that is alive but says
nothing, because it computes or was stopped, looks the same from here. It is asked once, and what
it does not say is counted in `Liveness.silent`; after `Limits.silence_seconds` it is given up. Who
looks on while somebody waits asks earlier, with `Liveness.ask`, and so tells a peer that is busy
from a method that takes long.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import RemoteProtocolError
from ..limits import Limits

__all__ = ["Liveness", "keep_alive", "unacknowledged", "unread"]

# Networks do lose packets for some seconds; nobody's machine is gone for that.
_PATIENCE = 30.0

# Seconds of silence after which who looks on may ask, and those that an answer may take.
_QUIET = 0.9
_ANSWER = 0.5

# Seconds without progress from which something large stands still: it goes by leaps on a slow line.
_STILL = 3.0


class Host(Protocol):
    """What liveness asks of its connection."""

    lost: bool

    def awaits_answers(self) -> bool:
        """Returns whether calls of this side are pending."""

    def waits_since(self) -> float | None:
        """Returns when the oldest call was made for which somebody waits, or None."""

    def moved_at(self) -> float:
        """Returns when something large last went on, on its way to the peer."""

    def ask_alive(self) -> None:
        """Asks the peer for a sign of life."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the connection's loop, later."""

    def time(self) -> float:
        """Returns the time of the connection's loop."""

    def give_up(self, error: Exception) -> None:
        """Ends the connection."""


class Liveness:
    """What one connection knows of its peer's being alive.

    Args:
        host: The connection.
        limits: How long the peer may take.

    Attributes:
        heard_at: When the peer last said something, by the loop's clock.
        newcomer: Whether the peer has yet to open the connection, or to log in.
        watching: Whether an answer is awaited, and the peer's silence counted.
    """

    __slots__ = (
        "_asked_at",
        "_host",
        "_limits",
        "_opening",
        "_socket",
        "_timer",
        "heard_at",
        "newcomer",
        "watching",
    )

    def __init__(self, host: Host, limits: Limits) -> None:
        self.heard_at = 0.0
        self.newcomer = True
        self.watching = False
        self._host = host
        self._limits = limits
        self._asked_at = 0.0
        self._opening: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._socket: Any = None

    @property
    def silent(self) -> float:
        """For how many seconds the peer has said nothing, while an answer of its is awaited."""
        since = None if self._host.lost else self._host.waits_since()
        # A peer of which nothing was asked has not been silent.
        return 0.0 if since is None else self._host.time() - max(self.heard_at, since)

    @property
    def busy(self) -> float:
        """For how many seconds the peer is silent that does not say that it is alive; else 0."""
        if self._asked_at <= self.heard_at:
            return 0.0  # of a connection that is not made yet, too, which has no time
        now = self._host.time()
        if now - self._asked_at < _ANSWER:
            return 0.0
        # Somebody reads what is large and goes on, and what asks for a sign of life stands behind
        # what was written before it: on a slow line, for seconds.
        still = now - self._host.moved_at()
        return 0.0 if still < _STILL else min(self.silent, still)

    def ask(self) -> None:
        """Asks a peer that is silent whether it is alive, once."""
        if self._asked_at <= self.heard_at and self.silent >= _QUIET:
            self._asked_at = self._host.time()
            self._host.ask_alive()

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """Gives the peer its time for the opening."""
        self.heard_at = self._host.time()
        self._socket = transport.get_extra_info("socket")
        keep_alive(self._socket, self._limits.keepalive_seconds)
        self._expect("opened the connection", self._limits.opening_seconds)

    def opened(self, guarded: bool) -> None:
        """Notes that a dialect was agreed on.

        Args:
            guarded: Whether the peer has to log in.
        """
        self._expected()
        self.newcomer = guarded
        if guarded:
            self._expect("logged in", self._limits.login_seconds)

    def admitted(self) -> None:
        """Notes that the peer has logged in."""
        self.newcomer = False
        self._expected()

    def watch(self) -> None:
        """Counts the peer's silence from now on, until nothing is awaited any more."""
        if self._limits.keepalive_seconds == math.inf:
            return
        self.watching = True
        # A peer of which nothing was asked has not been silent.
        self.heard_at = self._host.time()
        self._timer = self._host.call_later(self._limits.keepalive_seconds, self._look)

    def end(self) -> None:
        """Stops: the connection has ended."""
        self._expected()
        self.newcomer = self.watching = False
        self._socket = None
        if self._timer is not None:
            self._timer.cancel()

    def _expect(self, what: str, seconds: float) -> None:
        def too_slow() -> None:
            self._host.give_up(RemoteProtocolError(f"the peer has not {what} in {seconds:g} s"))

        if seconds != math.inf:
            self._opening = self._host.call_later(seconds, too_slow)

    def _expected(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def _look(self) -> None:
        if self._host.lost or not self._host.awaits_answers():
            self.watching = False
            return
        now, every = self._host.time(), self._limits.keepalive_seconds
        gone = unacknowledged(self._socket)
        if gone >= max(3 * every, _PATIENCE):
            self._host.give_up(
                RemoteProtocolError(f"its machine has acknowledged nothing for {gone:.0f} s")
            )
            return
        if now - self.heard_at >= every:
            if self._asked_at <= self.heard_at:
                self._asked_at = now
                self._host.ask_alive()
            elif now - self._asked_at >= self._limits.silence_seconds:
                text = f"the peer has said nothing for {now - self.heard_at:.0f} s"
                self._host.give_up(RemoteProtocolError(text))
                return
        self._timer = self._host.call_later(min(every, self._limits.silence_seconds), self._look)


def keep_alive(sock: Any, seconds: float) -> None:
    """Has the operating system find a peer whose machine is gone, in twice the time given.

    Args:
        sock: The socket; one that is not TCP is left alone.
        seconds: How long the connection may be quiet before the peer's machine is asked.
    """
    if sock is None or seconds == math.inf:
        return
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    idle = max(1, round(seconds))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPALIVE", idle),  # what macOS calls it
        ("TCP_KEEPINTVL", max(1, idle // 3)),
        ("TCP_KEEPCNT", 3),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def unread(sock: Any) -> bool:
    """Returns whether the peer has said something that was not read yet.

    Args:
        sock: The socket; where it cannot tell, the result is False.
    """
    try:
        with socket.fromfd(sock.fileno(), sock.family, sock.type) as copy:
            return bool(copy.recv(1, socket.MSG_PEEK))
    except (OSError, ValueError, AttributeError):  # nothing is there, or it is closed, or no socket
        return False


# Linux's struct tcp_info: eight bytes, and then 32-bit numbers, of which these are two.
_UNACKED, _LAST_ACK_RECEIVED, _TCP_INFO = 4, 12, struct.Struct("8x13I")


def unacknowledged(sock: Any) -> float:
    """Returns for how many seconds the peer's machine has not acknowledged what it was sent.

    A machine whose process does not read acknowledges all the same. Where the system does not
    tell, the result is 0, and the system's own patience counts, about 15 minutes.
    """
    option = getattr(socket, "TCP_INFO", None)
    if option is None or sock is None or not hasattr(socket, "TCP_KEEPIDLE"):
        return 0.0
    try:
        data = sock.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO.size)
    except (OSError, ValueError):  # not TCP, or closed
        return 0.0
    if len(data) < _TCP_INFO.size:
        return 0.0
    numbers = _TCP_INFO.unpack(data)
    return numbers[_LAST_ACK_RECEIVED] / 1000 if numbers[_UNACKED] else 0.0
