"""When one connection writes: at once, at the end of a turn, or when its peer has read.

Messages are joined and written once in a turn of the loop. A peer that is kept waiting for a whole
turn idles, though: a long burst is written in pieces, and a call that no other waits beside at
once. Parts of large messages go out in between, as fast as the transport takes them.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from typing import Any, Protocol

from ..protocol.broker import Broker
from .flow import Flow

__all__ = ["BURST", "Writing"]

# Messages after which a burst is written.
BURST = 24

# What is shorter is written together with what stands beside it, while large messages are sent.
_SHORT = 4096

# Parts of large messages that are written in one turn of the loop.
_PIECES = 8

# Seconds that the end of a connection waits for what the peer's dialect answers by itself.
_ANSWER_SECONDS = 2.0

# Less than this is joined: that takes less time than to hand several buffers to the system.
_JOINED = 64 * 1024

# On these Pythons writelines() does not tell that the buffer is full (CVE-2024-12254).
_NEVER_FULL = sys.version_info[:2] in ((3, 12), (3, 13)) and sys.version_info < (
    (3, 12, 9) if sys.version_info < (3, 13) else (3, 13, 2)
)


class Host(Protocol):
    """What writing asks of its connection."""

    lost: bool

    def left_behind(self) -> Exception:
        """Ends the connection, whose loop is closed; returns the error of who calls."""


class Writing:
    """What one connection writes.

    Args:
        host: The connection.
        machine: Holds what is to be written.
        flow: Holds back what the peer does not read.

    Attributes:
        bytes_sent: How many bytes have gone.
        full: Whether the transport has more than it wants.
        moved_at: When something large last went on, by the loop's clock: the peer reads it.
    """

    __slots__ = (
        "_closing",
        "_flow",
        "_host",
        "_loop",
        "_machine",
        "_paced",
        "_pumping",
        "_soon",
        "_transport",
        "_waiting",
        "bytes_sent",
        "full",
        "moved_at",
    )

    _loop: asyncio.AbstractEventLoop
    _transport: asyncio.Transport

    def __init__(self, host: Host, machine: Broker, flow: Flow) -> None:
        self.bytes_sent = 0
        self.full = False
        self.moved_at = -math.inf
        self._host = host
        self._machine = machine
        self._flow = flow
        self._soon = self._pumping = self._closing = self._waiting = False
        self._paced: list[Callable[[], bool]] = []

    def begin(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to write, to a transport."""
        self._transport = transport
        self._loop = loop

    def soon(self) -> None:
        """Sees to it that what is queued goes out."""
        machine = self._machine
        # A call that no other waits beside is written at once: there is nothing to join it with.
        if len(machine.pending) == 1 or len(machine.out) >= BURST:
            self.now()
        elif not self._soon:
            self._soon = True
            try:
                self._loop.call_soon(self._turn)
            except RuntimeError:
                raise self._host.left_behind() from None

    def _turn(self) -> None:
        self._soon = False
        self.now()

    def now(self) -> None:
        """Writes what is queued."""
        machine = self._machine
        out = machine.out
        if self._closing or machine.wire.sending:
            self._go_on()
        elif len(out) == 1 and not (self.full or self._host.lost):
            # The usual case: one message, and a transport that has nothing left to write.
            data = out.pop()
            self.bytes_sent += len(data)
            self._transport.write(data)
            if self.full:
                self._flow.wrote(self._transport.get_write_buffer_size())
        elif out:
            self._write_queued()

    def _go_on(self) -> None:
        sending = self._machine.wire.sending
        if sending and not (self._pumping or self.full or self._host.lost):
            self._pump()
            return
        self._write_queued()
        if self._closing and not sending:
            self._close_when_answered()

    def _write_queued(self) -> None:
        machine = self._machine
        if machine.out and not (self._host.lost or self._closing):
            buffers = machine.data_to_send()
            size = sum(map(len, buffers))
            self.bytes_sent += size
            if size < _JOINED or _NEVER_FULL:
                self._transport.write(b"".join(buffers))
            else:
                self._transport.writelines(buffers)
            if self.full:
                self._flow.wrote(self._transport.get_write_buffer_size())

    def _pump(self) -> None:
        """Writes parts of large messages, as many as the transport takes, and a few at a time."""
        self._pumping = False
        self.moved_at = self._loop.time()
        wire, left = self._machine.wire, _PIECES
        # A message goes out before the parts that belong to it, and with the head of the first.
        short: list[Any] = []
        if not self._closing and sum(map(len, self._machine.out)) < _SHORT:
            short = self._machine.data_to_send()
        else:
            self._write_queued()
        while left and wire.sending and not (self.full or self._host.lost):
            for part in wire.pieces():
                if len(part) < _SHORT:
                    short.append(part)
                    continue
                # One by one: on Python 3.11 writelines() joins them first.
                self._write_short(short)
                self._transport.write(part)
                self.bytes_sent += len(part)
            left -= 1
        self._write_short(short)
        if not wire.sending:
            if self._closing:
                self._close_when_answered()
        elif not (self.full or self._host.lost):
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _write_short(self, buffers: list[Any]) -> None:
        if buffers and not self._host.lost:
            data = b"".join(buffers)
            buffers.clear()
            self._transport.write(data)
            self.bytes_sent += len(data)

    def pause(self) -> None:
        """Holds what is paced: the peer reads too slowly."""
        self.full = True

    def resume(self) -> None:
        """Lets what is paced go on, or end with the connection."""
        self.full = False
        self.moved_at = self._loop.time()
        if self._machine.wire.sending and not (self._pumping or self._host.lost):
            self._pump()
        self._flow.resume()

    def resume_paced(self) -> None:
        """Lets the steps go on that `run_paced` has stopped."""
        paced, self._paced = self._paced, []
        for step in paced:
            self._loop.call_soon(self.run_paced, step)

    def run_paced(self, step: Callable[[], bool]) -> None:
        """Runs a step again and again, as fast as the peer reads, until it returns False.

        Args:
            step: Sends something, and returns whether there is more to come.
        """
        # What the step before this one has said may be what fills the buffer.
        self.now()
        if self.full and not self._host.lost:
            self._paced.append(step)
        elif step():
            self._loop.call_soon(self.run_paced, step)

    def end(self) -> None:
        """Ends the connection when everything is written; nothing more is."""
        self.now()
        self._closing = True
        if not self._machine.wire.sending:
            self._close_when_answered()

    def _close_when_answered(self) -> None:
        # What comes when nobody reads any more makes the system reset the connection, and the
        # peer lose what it has not read yet.
        if not self._machine.wire.awaits:
            self._close()
        elif not self._waiting:
            self._waiting = True
            self._loop.call_later(_ANSWER_SECONDS, self._close)

    def _close(self) -> None:
        # Under TLS, closing twice would cut off what was still to be written.
        if not self._transport.is_closing():
            self._transport.close()
