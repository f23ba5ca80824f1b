"""The side that connects."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..cred import Anonymous, Invitation, Secret, UsernamePassword, user_of_token
from ..errors import ConnectError, ConnectTimeout
from ..flavors import Referenceable
from ..jelly.security import SecurityOptions
from ..limits import Limits
from ..refs import RemoteReference
from .address import numeric_address, parse_address
from .backoff import Backoff
from .connection import Connection
from .deferred import Deferred
from .keeping import keep as keep_connected
from .login import Credentials, log_in
from .reaching import not_opened, way_to

__all__ = ["PBClientFactory", "connect"]

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
        legacy_auth: Log in with PB's own login, with MD5, at servers that have no better one.
        server_address: The address that the server has on its own end, where a tunnel leads to it.
    """

    def __init__(
        self,
        unsafeTracebacks: bool = False,
        security: SecurityOptions | None = None,
        *,
        limits: Limits | None = None,
        dialects: Sequence[str] | None = None,
        legacy_auth: bool = False,
        server_address: str | None = None,
    ) -> None:
        self._legacy_auth = legacy_auth
        self._channel = None if server_address is None else _as_seen_there(server_address)
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
        # In this order: another thread may be opening the connection at this moment.
        self._waiting.append(root)
        if self._connection is not None:
            self._give(self._connection)
        return root

    def _give(self, connection: Connection) -> None:
        while self._waiting:
            try:
                waiter = self._waiting.pop(0)
            except IndexError:
                return  # another thread has given the last one
            waiter.callback(connection.root())

    def login(
        self, credentials: Credentials, mind: Referenceable | None = None
    ) -> Deferred[RemoteReference]:
        """Logs in, and returns a Deferred of the avatar.

        Like `getRootObject` it may be called before the connection is made.

        Args:
            credentials: A `UsernamePassword`, or `Anonymous`.
            mind: An object of this side's that the avatar may call, or None.
        """
        return self.getRootObject().addCallback(
            log_in, credentials, mind, legacy_auth=self._legacy_auth, channel=self._channel
        )

    def disconnect(self) -> None:
        """Ends the connection, if there is one."""
        if self._connection is not None:
            self._connection.disconnect()

    def _on_opened(self, connection: Connection) -> None:
        self._connection = connection
        self._give(connection)

    def _on_ended(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            return
        # It ended in the opening: whoever waits learns why.
        waiting, self._waiting = self._waiting, []
        for root in waiting:
            root.errback(not_opened(connection))


async def connect(
    address: str | Invitation,
    *,
    token: str | None = None,
    username: str | None = None,
    password: str | bytes | None = None,
    anonymous: bool = False,
    mind: Referenceable | None = None,
    cafile: str | os.PathLike[str] | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    legacy_auth: bool = False,
    server_address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 (covers three steps and names each)
    limits: Limits | None = None,
    dialects: Sequence[str] | None = None,
    security: SecurityOptions | None = None,
    unsafe_tracebacks: bool = False,
    keep: bool | Backoff = False,
) -> RemoteReference:
    """Connects to a server and returns a reference to the object it serves.

    With a token, or a name and a password, it logs in. Both sides then prove that they know the
    secret, which does not travel.

    Args:
        address: An invitation: its line, or the `Invitation`. Or ``"host:port"``, with a numeric
            IPv6 host in brackets. Or ``"unix:"`` and the path of a socket.
        token: The server's token, where it asks for one.
        username: The name to log in with at a server of avatars.
        password: The password for it.
        anonymous: Log in as a guest at a server of avatars.
        mind: An object of this side's that the avatar may call, or None.
        cafile: A file or directory of CAs, one of which vouches for the server's certificate and
            its name. The connection is then encrypted, as it is where the invitation says so.
        certfile: The certificate to show to a server that wants one, as PEM.
        keyfile: The key of that, if it is in a file of its own.
        legacy_auth: Log in with PB's own login, with MD5, at servers that have no better one, as
            Twisted's.
        server_address: The address that the server has on its own end, as ``host:port`` with a
            numeric host, where a tunnel or a changed port leads to it. A login is good for one
            address, so that nobody in between can use it. Under TLS it is good for one
            certificate, and this is not needed.
        timeout: Seconds that connecting, the opening and the login may take together.
        limits: What the peer may cost.
        dialects: Names of the dialects to speak, in the order of preference.
        security: What may come in; PB's global options where it is None.
        unsafe_tracebacks: Send tracebacks of this process with the failures of its methods.
        keep: Connect again whenever the connection has ended, with these pauses between the
            attempts where they are given. The result is then a `KeptReference`.

    Returns:
        The object, or the avatar. Its ``broker`` is the connection, and
        ``await ref.broker.close()`` ends it.

    Raises:
        ConnectError: There is no connection; the text says why.
        ConnectTimeout: The time was up.
        UnauthorizedLogin: The server refused the login, or could not prove itself.
        ValueError: The address cannot be read.
        TypeError: It was said in two ways, or by half, who logs in or what TLS is spoken with.
        OSError: A file of a certificate cannot be read.
    """
    # By these names alone, whose reprs show no secret: a traceback may be one with variables.
    if isinstance(address, str) and Invitation.is_line(address):
        address = Secret(address)
    token = None if token is None else Secret(token)
    if keep:
        # All that this call was given, for each connection anew.
        given = {**locals(), "keep": False}
        if isinstance(password, str):
            given["password"] = Secret(password)
        return await keep_connected(partial(connect, **given), keep if keep is not True else None)
    invitation = Invitation.of(address, token)
    credentials = _credentials(invitation.token, username, password, anonymous)
    way = way_to(invitation, cafile, certfile, keyfile)
    factory = PBClientFactory(
        unsafe_tracebacks,
        security=security,
        limits=limits,
        dialects=dialects,
        legacy_auth=legacy_auth,
        server_address=server_address,
    )
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            # Asked for first: a peer may have hung up before the connection is returned here.
            opened = factory.getRootObject()
            connection = await way.open(factory)
            root = await opened
            if credentials is None:
                return root
            return await factory.login(credentials, mind)
    except TimeoutError as error:
        if connection is not None:
            connection.abort()
        if isinstance(error, ConnectError):
            raise
        what = "answered" if connection is None else "finished opening the connection"
        text = f"{way.where} has not {what} within {timeout:g} s"
        if connection is not None:
            # The system has taken the connection, and the program has not looked at it.
            text += ": its kernel may be busy"
        if connection is not None and way.tls is None and way.path is None:
            # Which waits for the client's first word, as the client of PB does for its own.
            text += "; if it serves with TLS, connect with its invitation"
        raise ConnectTimeout(text) from None
    except BaseException:
        if connection is not None:
            connection.abort()
        raise


def _credentials(
    token: str | None, username: str | None, password: str | bytes | None, anonymous: bool
) -> Credentials | None:
    if (token is not None) + (username is not None) + anonymous > 1:
        raise TypeError("log in with one of token=, username= and anonymous=True, not with several")
    if (username is None) != (password is None):
        raise TypeError("username= and password= are given together")
    if token is not None:
        return UsernamePassword(user_of_token(token), token)
    if username is not None and password is not None:
        return UsernamePassword(username, password)
    return Anonymous() if anonymous else None


def _as_seen_there(server_address: str) -> str:
    host, port = parse_address(server_address)
    try:
        return numeric_address(host, port)
    except ValueError:
        raise ValueError(
            f"server_address={server_address!r} needs a number for the host, such as 127.0.0.1"
        ) from None
