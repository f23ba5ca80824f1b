"""The side that connects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from ..cred import TOKEN_USER, respond
from ..errors import ConnectError, ConnectTimeout, RemoteProtocolError, UnauthorizedLogin
from ..flavors import Referenceable
from ..jelly.security import SecurityOptions
from ..limits import Limits
from ..refs import RemoteReference
from .address import format_address, parse_address
from .connection import Connection
from .deferred import Deferred

__all__ = ["PBClientFactory", "connect", "login"]

DEFAULT_TIMEOUT = 10.0


class PBClientFactory:
    """Makes the protocol of a connection, for ``loop.create_connection``.

    ::

        factory = pb.PBClientFactory()
        await loop.create_connection(factory, "localhost", 8800)
        root = await factory.getRootObject()

    Args:
        unsafeTracebacks: Send tracebacks of this process with the failures of its methods.
        security: What may come in; PB's global options where it is None.
        limits: What the peer may cost.
        dialects: Names of the dialects to speak.
    """

    def __init__(
        self,
        unsafeTracebacks: bool = False,
        security: SecurityOptions | None = None,
        *,
        limits: Limits | None = None,
        dialects: Sequence[str] | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "unsafe_tracebacks": unsafeTracebacks,
            "security": security,
            "limits": limits,
            "dialects": dialects,
        }
        self._connection: Connection | None = None
        self._waiting: list[Deferred[RemoteReference]] = []

    def __call__(self) -> Connection:
        """Returns the protocol of a new connection; called by the event loop."""
        return Connection(
            listening=False, opened=self._on_opened, ended=self._on_ended, **self._options
        )

    def getRootObject(self) -> Deferred[RemoteReference]:
        """Returns a Deferred of the root object.

        It may be called before the connection is made; after one has ended, it waits for the
        next.
        """
        root: Deferred[RemoteReference] = Deferred()
        if self._connection is not None:
            root.callback(self._connection.root())
        else:
            self._waiting.append(root)
        return root

    def disconnect(self) -> None:
        """Ends the connection, if there is one."""
        if self._connection is not None:
            self._connection.disconnect()

    def _on_opened(self, connection: Connection) -> None:
        self._connection = connection
        waiting, self._waiting = self._waiting, []
        for root in waiting:
            root.callback(connection.root())

    def _on_ended(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            return
        # It ended in the opening: whoever waits learns why.
        waiting, self._waiting = self._waiting, []
        for root in waiting:
            root.errback(_not_opened(connection))


async def connect(
    address: str,
    *,
    token: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 (covers three steps and names each)
    limits: Limits | None = None,
    dialects: Sequence[str] | None = None,
    security: SecurityOptions | None = None,
    unsafe_tracebacks: bool = False,
) -> RemoteReference:
    """Connects to a server and returns a reference to the object it serves.

    Args:
        address: ``"host:port"``; a numeric IPv6 host in brackets.
        token: The server's token, where it asks for one.
        timeout: Seconds that connecting, the opening and the login may take together.
        limits: What the peer may cost.
        dialects: Names of the dialects to speak, in the order of preference.
        security: What may come in; PB's global options where it is None.
        unsafe_tracebacks: Send tracebacks of this process with the failures of its methods.

    Returns:
        The object. Its ``broker`` is the connection, and ``await ref.broker.close()`` ends it.

    Raises:
        ConnectError: There is no connection; the text says why.
        ConnectTimeout: The time was up.
        UnauthorizedLogin: The server refused the token.
        ValueError: The address cannot be read.
    """
    host, port = parse_address(address)
    where = format_address(host, port)
    factory = PBClientFactory(
        unsafe_tracebacks, security=security, limits=limits, dialects=dialects
    )
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            connection = await _open(factory, host, port, where)
            root = await factory.getRootObject()
            if token is None:
                return root
            served: RemoteReference = await login(root, token)
            return served
    except TimeoutError as error:
        if connection is not None:
            connection.abort()
        if isinstance(error, ConnectError):
            raise
        what = "answered" if connection is None else "finished opening the connection"
        raise ConnectTimeout(f"{where} has not {what} within {timeout:g} s") from None
    except BaseException:
        if connection is not None:
            connection.abort()
        raise


async def _open(factory: PBClientFactory, host: str, port: int, where: str) -> Connection:
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(factory, host, port)
    except socket.gaierror as error:
        raise ConnectError(f"there is no host {host!r}: {error.strerror}") from None
    except TimeoutError:
        raise
    except ConnectionRefusedError:
        raise ConnectError(
            f"nothing listens on {where}: is the server running, and is this its address?"
        ) from None
    except OSError as error:
        raise ConnectError(f"cannot connect to {where}: {error.strerror or error}") from None
    return connection


async def login(root: RemoteReference, token: str, mind: Referenceable | None = None) -> Any:
    """Logs in with a token and returns the object that is served.

    Args:
        root: The root of a server that asks for its token.
        token: The token.
        mind: An object of this side's that the server may call, or None.

    Raises:
        UnauthorizedLogin: The token is wrong, or the server asks for none.
    """
    try:
        challenge, challenger = await root.callRemote("login", TOKEN_USER)
    except AttributeError:
        raise UnauthorizedLogin(
            "the login was refused: this server has no login, connect to it without a token"
        ) from None
    return await challenger.callRemote("respond", respond(challenge, token.encode()), mind)


def _not_opened(connection: Connection) -> ConnectError:
    if isinstance(connection.error, RemoteProtocolError):
        return ConnectError(f"{connection.peer} does not speak PB: {connection.error}")
    return ConnectError(f"{connection.peer} closed the connection before it was open")
