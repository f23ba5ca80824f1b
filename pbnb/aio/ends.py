"""The two ends of a connection, in the words in which each is known."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, NamedTuple

from .address import format_address, numeric_address
from .tls import ServerContext, channel_of
from .unix import PREFIX, peer_process

__all__ = ["Ends"]


class Ends(NamedTuple):
    """What is known of a connection's two ends.

    Attributes:
        peer: The other end, as it is shown: ``host:port``, a path, or a process.
        channel: What a login on this connection is bound to. Both ends have the same words for
            it: under TLS a hash of the server's certificate; or else the server's address; or
            else nothing.
        own: The address of this end's socket.
        other: The address of the other end's.
    """

    peer: str
    channel: str
    own: Any
    other: Any

    @classmethod
    def of(cls, transport: asyncio.BaseTransport, listening: bool) -> Ends:
        """Returns the ends of a connection that was made.

        Args:
            transport: The connection.
            listening: Whether this side listened for it.
        """
        own, other = (transport.get_extra_info(each) for each in ("sockname", "peername"))
        server = own if listening else other
        tls = transport.get_extra_info("ssl_object")
        return cls(
            _shown(transport.get_extra_info("socket"), other, listening),
            _channel(server) if tls is None else _certificate(tls, listening),
            own,
            other,
        )


def _shown(sock: Any, name: Any, listening: bool) -> str:
    if isinstance(name, tuple):
        return format_address(*name[:2])
    if sock is not None and sock.family == getattr(socket, "AF_UNIX", None):
        if name and not listening:
            return f"{PREFIX}{_text(name)}"
        process = peer_process(sock)
        if process is not None and process.pid:
            return f"process {process.pid}"
    return _text(name) or "a peer"


def _certificate(tls: ssl.SSLObject, listening: bool) -> str:
    if not listening:
        return channel_of(tls.getpeercert(binary_form=True) or b"")
    # Python tells an end the other's certificate, and not its own.
    context = tls.context
    return context.channel if isinstance(context, ServerContext) else "a certificate not known here"


def _channel(name: Any) -> str:
    # A socket of another family, or one without a name, has no address that both ends could know.
    if isinstance(name, tuple):
        return numeric_address(*name[:2])
    return f"{PREFIX}{_text(name)}" if name else ""


def _text(name: Any) -> str:
    # A name that is no file is bytes that begin with a zero.
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")
