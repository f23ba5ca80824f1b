"""Where and how a server listens: who could reach it there, and what that asks for."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from .address import format_address, is_loopback
from .handshakes import Handshakes
from .tls import ServerContext, server_context
from .unix import PREFIX, bind, remove

__all__ = ["Door", "Listener", "open_door", "reachable"]

# Connections that may wait to be accepted. One peer opening many at once is the usual case here.
_BACKLOG = 4096
# How many of them are accepted in one turn of the loop. Each takes it a third of a millisecond.
# And where no file can be opened any more, asyncio logs as many tracebacks in each second.
_ACCEPTS = 1

File = str | os.PathLike[str]


class Factory(Protocol):
    """What makes the protocols of a server's connections."""

    def __call__(self) -> asyncio.Protocol:
        """Returns the protocol of a new connection."""

    def behind(self, context: ServerContext) -> Handshakes:
        """Returns what makes those of connections that begin with TLS."""


@dataclass(frozen=True)
class Door:
    """A socket that a server is going to listen on.

    Attributes:
        socket: The socket, bound.
        host: The host, as its number; empty for a Unix socket.
        port: The port; 0 for a Unix socket.
        path: The file of a Unix socket, or None.
        tls: What TLS is spoken with, or None.
    """

    socket: socket.socket
    host: str
    port: int
    path: str | None = None
    tls: ServerContext | None = None

    @property
    def address(self) -> str:
        """Where it is: ``host:port``, or ``unix:`` and the path."""
        return format_address(self.host, self.port) if self.path is None else PREFIX + self.path

    async def listen(self, factory: Factory) -> Listener:
        """Begins to listen, without waiting for anything.

        Args:
            factory: Makes the protocol of each connection.
        """
        loop = asyncio.get_running_loop()
        listener: asyncio.Server
        if self.path is not None:
            made = os.lstat(self.path)
            listener = await loop.create_unix_server(factory, sock=self.socket, backlog=_ACCEPTS)
            found = Listener(listener, None, partial(remove, self.path, made))
        else:
            handshakes = None if self.tls is None else factory.behind(self.tls)
            protocols = factory if handshakes is None else handshakes
            listener = await loop.create_server(protocols, sock=self.socket, backlog=_ACCEPTS)
            found = Listener(listener, handshakes)
        # asyncio has one number for what the system keeps and for what it accepts in one turn.
        self.socket.listen(_BACKLOG)
        return found


class Listener:
    """A door that is open.

    Args:
        listener: What asyncio has for it.
        handshakes: Those who have not come through yet, where there is TLS.
        tidy: What else is to be done when it is closed.

    Attributes:
        handshakes: Those who have not come through yet, or None.
    """

    def __init__(
        self,
        listener: asyncio.Server,
        handshakes: Handshakes | None,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self.handshakes = handshakes
        self._listener = listener
        self._tidy = tidy

    def close(self) -> None:
        """Stops listening."""
        self._tidy()
        self._listener.close()
        if self.handshakes is not None:
            self.handshakes.close()


def open_door(
    host: str,
    port: int,
    *,
    path: File | None,
    certfile: File | None,
    keyfile: File | None,
    client_ca: File | None,
    insecure: bool,
    open_to_all: bool,
) -> Door:
    """Returns a socket to listen on, with TLS where the address asks for it.

    Args:
        host: The address.
        port: The port; 0 takes one that is free.
        path: The path of a Unix socket, in the place of both.
        certfile: A certificate; one is made where it is needed and not given.
        keyfile: Its key.
        client_ca: The CAs of clients, which then have to show a certificate.
        insecure: Whether other machines may reach what is not encrypted, or asks for no login.
        open_to_all: Whether there is no login.

    Raises:
        PermissionError: It would be reached by those who should not.
        TypeError: What was said makes no sense together.
        ValueError: A file holds no certificate, or no key.
        OSError: The address is in use, or is none of this machine's; or a file cannot be read.
    """
    if keyfile is not None and certfile is None:
        raise TypeError("keyfile= is the key of a certificate: give certfile= too")
    if path is not None:
        if certfile is not None or client_ca is not None or (host, port) != ("127.0.0.1", 0):
            raise TypeError("a Unix socket has a path alone: no host, port or certificates")
        path = os.path.abspath(path)
        return Door(bind(path), "", 0, path)
    known = certfile is not None or client_ca is not None
    elsewhere = not is_loopback(host)
    if elsewhere and open_to_all and client_ca is None and not insecure:
        raise PermissionError(
            f"{host!r} can be reached from other machines, and everybody there could use the "
            "object: leave out anonymous=True, or pass insecure=True if you mean it"
        )
    tls = None
    if known or (elsewhere and not insecure):
        tls = server_context(certfile, keyfile, client_ca)
    bound = _bound(host, port)
    name = bound.getsockname()
    return Door(bound, name[0], name[1], tls=tls)


def _bound(host: str, port: int) -> socket.socket:
    # One address, so that one port serves it: "localhost" may have several.
    listens_on = "127.0.0.1" if host == "localhost" else host
    # Bound here and not by the loop, which would look the host up in another task: a coroutine
    # that never waits can be run in a cell without nesting the loop.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((listens_on, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(error.errno, _cannot_listen(error, host, port)) from None
    # asyncio sets it for every socket that it makes itself. Without it a call back waits 40 ms for
    # the acknowledgement of the segment before.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _cannot_listen(error: OSError, host: str, port: int) -> str:
    where = format_address(host, port)
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use: stop what serves there, choose another port, or 0 for any"
    if error.errno == errno.EACCES:
        return f"{where} may not be used by this user: choose a port above 1023"
    return f"cannot listen on {where}: {error.strerror or error}"


# Addresses of no machine (RFC 5737, RFC 3849), which only the way out is looked up for.
_ANYWHERE = {
    "0.0.0.0": (socket.AF_INET, "192.0.2.1", "127.0.0.1"),
    "::": (socket.AF_INET6, "2001:db8::1", "::1"),
}


def reachable(host: str) -> str:
    """Returns an address under which others find what listens on all addresses.

    It is the one from which this machine would send. Nothing is sent for it.

    Args:
        host: Where a server listens; any but ``0.0.0.0`` and ``::`` is the result.
    """
    if host not in _ANYWHERE:
        return host
    family, far, here = _ANYWHERE[host]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            found: str = probe.getsockname()[0]
            return found
    except OSError:  # there is no way out
        return here
