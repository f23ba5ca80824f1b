"""Which connections may share memory, and when what they share is given back.

`pbnb.wire.shared` finds out whether it works. Here is only who tries: two ends on one machine,
with nothing encrypted between them.
"""

from __future__ import annotations

import asyncio
import socket

from ..protocol.broker import Broker
from .address import is_loopback

__all__ = ["Sharing", "on_one_machine"]

# Seconds without a large value after which the system gets the memory back.
_IDLE = 30.0


def on_one_machine(transport: asyncio.BaseTransport) -> bool:
    """Returns whether both ends of a connection seem to be on this machine, and unencrypted.

    A tunnel looks like it and is not: what is shared then is found not to be there.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("ssl_object") is not None:
        return False
    if sock.family == getattr(socket, "AF_UNIX", None):
        return True
    ends = (transport.get_extra_info("sockname"), transport.get_extra_info("peername"))
    return all(isinstance(end, tuple) and is_loopback(end[0]) for end in ends)


class Sharing:
    """The shared memory of one connection.

    Args:
        machine: The connection's protocol machine, which has opened.
        loop: The connection's event loop.
    """

    __slots__ = ("_loop", "_machine", "_timer")

    def __init__(self, machine: Broker, loop: asyncio.AbstractEventLoop) -> None:
        self._machine = machine
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        machine.share(self._written)

    def _written(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_IDLE, self._trim)

    def _trim(self) -> None:
        self._timer = None
        if self._machine.trim():
            self._written()

    def end(self) -> None:
        """Stops to wait for an idle time: the connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
