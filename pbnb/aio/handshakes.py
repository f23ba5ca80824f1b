"""TLS handshakes of those who connect to a server: each is bounded, and so is their number.

A connection of PB begins when its handshake is done. Until then its peer is a stranger, who may say
nothing, or go on for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .address import format_address
from .logged import Warnings
from .tls import ServerContext

__all__ = ["Handshakes"]

# What is still to be written when a connection ends has this long, in seconds.
_SHUTDOWN = 2.0
_LONGEST = 24 * 3600.0


class Handshakes:
    """Makes the protocol of each connection to a server that speaks TLS, for ``create_server``.

    Args:
        context: What TLS is spoken with.
        factory: Makes the protocol of a connection whose handshake is done.
        seconds: How long a handshake may take.
        most: How many there may be at a time; the oldest makes room for a new one.
        warnings: Says what peers do wrong.
    """

    def __init__(
        self,
        context: ServerContext,
        factory: Callable[[], asyncio.Protocol],
        *,
        seconds: float,
        most: int,
        warnings: Warnings,
    ) -> None:
        self.context = context
        self.factory = factory
        self.seconds = min(seconds, _LONGEST)
        self._most = most
        self._warnings = warnings
        self._pending: dict[_Handshake, None] = {}
        self._closed = False

    def __call__(self) -> asyncio.Protocol:
        """Returns the protocol of a handshake; called by the event loop."""
        return _Handshake(self)

    def __len__(self) -> int:
        """Returns how many handshakes are not done."""
        return len(self._pending)

    def began(self, handshake: _Handshake) -> None:
        """Counts a handshake."""
        self._pending[handshake] = None
        if self._closed:
            handshake.abort()
        elif len(self._pending) > self._most:
            oldest = next(iter(self._pending))
            self._warn(oldest, f"it made room for a newer one, as there may be {self._most}")
            oldest.abort()

    def failed(self, handshake: _Handshake, error: OSError) -> None:
        """Says why a handshake has failed, where that is not this side's doing."""
        if handshake in self._pending:
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            self._warn(handshake, reason or type(error).__name__)

    def ended(self, handshake: _Handshake) -> None:
        """Forgets a handshake."""
        self._pending.pop(handshake, None)

    def close(self) -> None:
        """Ends those that are not done."""
        self._closed = True
        for handshake in list(self._pending):
            handshake.abort()

    def _warn(self, handshake: _Handshake, why: str) -> None:
        text = "the TLS handshake of %s failed: %s"
        self._warnings.say(logging.WARNING, text, handshake.peer, why)


class _Handshake(asyncio.Protocol):
    """One connection until its handshake is done, and what comes right behind that.

    Args:
        host: Where it is counted.
    """

    def __init__(self, host: Handshakes) -> None:
        self.peer = "a peer"
        self._host = host
        self._data: list[bytes] = []
        self._lost: list[Exception | None] = []
        self._raw: asyncio.Transport
        self._task: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # What is read from here on is TLS.
        transport.pause_reading()
        self._raw = transport
        name: Any = transport.get_extra_info("peername")
        self.peer = format_address(*name[:2]) if name else self.peer
        self._task = asyncio.get_running_loop().create_task(self._shake())
        self._host.began(self)

    async def _shake(self) -> None:
        host, loop = self._host, asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._raw,
                self,
                host.context,
                server_side=True,
                ssl_handshake_timeout=host.seconds,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        except OSError as error:
            host.failed(self, error)
            self._raw.abort()
            return
        finally:
            host.ended(self)
        if transport is None or self._raw.is_closing():
            if transport is not None:
                transport.abort()
            return
        protocol = host.factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        # The first words may have come in one segment with the end of the handshake.
        for data in self._data:
            protocol.data_received(data)
        for reason in self._lost:
            protocol.connection_lost(reason)

    def abort(self) -> None:
        """Ends it."""
        self._host.ended(self)
        self._raw.abort()

    def data_received(self, data: bytes) -> None:
        self._data.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.append(exc)
