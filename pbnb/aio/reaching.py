"""The way to a server: which of them an address means, and a sentence for each way it can fail."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..cred import Invitation
from ..errors import ConnectError, RemoteProtocolError
from .address import format_address, parse_address
from .connection import Connection
from .tls import END_POINT, WrongKey, client_context
from .unix import PREFIX, connected

__all__ = ["Way", "not_opened", "way_to"]

P = TypeVar("P", bound=asyncio.Protocol)

File = str | os.PathLike[str]


@dataclass(frozen=True)
class Way:
    """How a server is reached.

    Attributes:
        where: The address, as it is shown.
        host: The host; empty for a Unix socket.
        port: The port.
        path: The path of a Unix socket, or None.
        tls: What TLS is spoken with, or None.
    """

    where: str
    host: str = ""
    port: int = 0
    path: str | None = None
    tls: ssl.SSLContext | None = None

    async def open(self, factory: Callable[[], P]) -> P:
        """Connects, and returns the protocol that a factory has made for it.

        Raises:
            ConnectError: There is no connection; the text says why.
        """
        try:
            return await self._open(factory)
        except WrongKey:
            raise ConnectError(
                f"the server on {self.where} has another key than its invitation says. It was "
                "started anew, or somebody stands in between: ask for a new invitation"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise ConnectError(
                f"the certificate of {self.where} is not accepted: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            raise ConnectError(
                f"{self.where} does not speak TLS 1.3: {error.reason or error}"
            ) from None
        except socket.gaierror as error:
            raise ConnectError(f"there is no host {self.host!r}: {error.strerror}") from None
        except TimeoutError:
            raise
        except (ConnectionRefusedError, FileNotFoundError):
            raise ConnectError(
                f"nothing listens on {self.where}: is the server running, and is this its address?"
            ) from None
        except (ConnectionResetError, ConnectionAbortedError) as error:
            # Python's servers hang up without the alert that would say why.
            why = error.strerror or ("does it speak TLS 1.3?" if self.tls else "try again")
            raise ConnectError(f"{self.where} hung up at once: {why}") from None
        except OSError as error:
            raise ConnectError(
                f"cannot connect to {self.where}: {error.strerror or error}"
            ) from None

    async def _open(self, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        if self.path is None:
            name = None if self.tls is None else self.host
            _, protocol = await loop.create_connection(
                factory, self.host, self.port, ssl=self.tls, server_hostname=name
            )
            return protocol
        sock = await connected(self.path)
        try:
            _, protocol = await loop.create_unix_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise
        return protocol


def way_to(
    invitation: Invitation,
    cafile: File | None = None,
    certfile: File | None = None,
    keyfile: File | None = None,
) -> Way:
    """Returns the way to a server.

    Args:
        invitation: Its address, and the fingerprint of its key where that is known.
        cafile: The CAs that vouch for the server's certificate.
        certfile: This side's certificate, where the server wants one.
        keyfile: Its key.

    Raises:
        ValueError: The address cannot be read, or a file holds no certificate.
        TypeError: What was said makes no sense together.
        OSError: A file cannot be read.
    """
    if keyfile is not None and certfile is None:
        raise TypeError("keyfile= is the key of a certificate: give certfile= too")
    encrypted = invitation.key is not None or cafile is not None
    if certfile is not None and not encrypted:
        raise TypeError(
            "a certificate is shown to a server that is known by its invitation or by cafile=, "
            "and neither was given"
        )
    if invitation.address.startswith(PREFIX):
        path = os.path.abspath(invitation.address.removeprefix(PREFIX))
        if encrypted:
            raise TypeError("a Unix socket has no TLS: leave out the key and cafile=")
        return Way(PREFIX + path, path=path)
    host, port = parse_address(invitation.address)
    tls = client_context(invitation.key, cafile, certfile, keyfile) if encrypted else None
    return Way(format_address(host, port), host, port, tls=tls)


def not_opened(connection: Connection) -> ConnectError:
    """Returns the error of a connection that has ended before a dialect was agreed on."""
    error = connection.error
    if isinstance(error, RemoteProtocolError):
        return ConnectError(f"{connection.peer} does not speak PB: {error}")
    ended = f"{connection.peer} closed the connection before it was open"
    if isinstance(error, ssl.SSLError) or connection.channel.startswith(END_POINT):
        # Python's servers hang up without the alert that would say why.
        ended += ". Where it wants a certificate, show it one of a CA that it trusts: certfile=..."
    return ConnectError(ended)
