"""What a server makes of each connection, how many there may be, and what they are offered."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

from ..cred import OWNER, Guests, LoginRoot, Portal, Salts, guest_portal
from ..errors import LimitExceeded
from ..flavors import Referenceable, Root
from ..jelly.security import SecurityOptions
from ..limits import Limits
from .connection import Connection
from .handshakes import Handshakes
from .logged import Warnings
from .tls import ServerContext
from .unix import is_private

__all__ = ["PBServerFactory", "check_root"]

_BY_TOKEN = (
    "connect with %pb_connect as the user who serves, with an invitation, or with "
    "pb.connect(..., token=...)"
)
_BY_NAME = (
    "connect with %pb_connect --user NAME, or with pb.connect(..., username=..., password=...)"
)


class PBServerFactory:
    """Makes the protocol of each connection, for ``loop.create_server``.

    ::

        await loop.create_server(pb.PBServerFactory(Echoer()), port=8800)

    Args:
        root: The object to serve, or a `Portal`, which serves an avatar to each user.
        unsafeTracebacks: Send tracebacks of this process with the failures of its methods.
        security: What may come in; PB's global options where it is None.
        limits: What each peer may cost.
        dialects: Names of the dialects to offer, in the order of preference.
        token: Serve the object only to peers that log in with this token.
        legacy_auth: Also take PB's own login, with MD5, which is all that Twisted's clients have.

    Attributes:
        root: The object or the portal that is served.
        anonymous: Whether anybody may use the object.
        connections: The connections that are open.
        guests: Those who may log in with a token; None where nobody has to, and for a portal.
    """

    def __init__(
        self,
        root: Referenceable | Portal,
        unsafeTracebacks: bool = False,
        security: SecurityOptions | None = None,
        *,
        limits: Limits | None = None,
        dialects: Sequence[str] | None = None,
        token: str | None = None,
        legacy_auth: bool = False,
    ) -> None:
        check_root(root)
        if token is not None and isinstance(root, Portal):
            raise TypeError("a portal has checkers of its own: serve it without a token")
        if token == "":
            raise ValueError("the token is empty: leave it out, and one is made")
        self.root = root
        self.anonymous = token is None and not isinstance(root, Portal)
        self.connections: set[Connection] = set()
        # Those that the loop begins in its next turn; it may fail to, and tells nobody.
        self._accepted: WeakSet[Connection] = WeakSet()
        # Those that had not opened or logged in when that was last looked at, the oldest first.
        self._newcomers: dict[Connection, None] = {}
        self._opening_seconds = (limits or Limits()).opening_seconds
        self._most = min((limits or Limits()).connections, _most_files() * 3 // 4)
        self._warnings = Warnings((limits or Limits()).logged_lines)
        self.guests: Guests | None = None
        if token is not None:
            self.guests = Guests()
            self.guests.add(OWNER, token)
        self._legacy_auth = legacy_auth
        self._salts = Salts(secrets.token_bytes(32))
        self._options: dict[str, Any] = {
            "unsafe_tracebacks": unsafeTracebacks,
            "security": security,
            "limits": limits,
            "dialects": dialects,
            "warnings": self._warnings,
        }

    def __call__(self) -> asyncio.Protocol:
        """Returns the protocol of a new connection; called by the event loop.

        Where there are as many as there may be, one that has not logged in makes room.
        """
        count = len(self.connections) + len(self._accepted)
        if count >= self._most and not self._make_room():
            text = "refused a connection: there are %d, and all have logged in"
            self._warnings.say(logging.WARNING, text, count)
            return _Refused()
        connection = Connection(
            listening=True,
            root=_RootOf(self),
            guarded=not self.anonymous,
            made=self._made,
            ended=self._ended,
            **self._options,
        )
        self._accepted.add(connection)
        return connection

    async def settled(self) -> None:
        """Waits for the connections that are accepted and have not begun."""
        if self._accepted:
            await asyncio.sleep(0)

    def behind(self, context: ServerContext) -> Handshakes:
        """Returns what makes the protocol of each connection that begins with TLS.

        Args:
            context: What TLS is spoken with.
        """
        # A connection that has not begun has a file all the same.
        most = max(1, self._most // 3)
        return Handshakes(
            context, self, seconds=self._opening_seconds, most=most, warnings=self._warnings
        )

    def _make_room(self) -> bool:
        while self._newcomers:
            oldest = next(iter(self._newcomers))
            del self._newcomers[oldest]
            if oldest.liveness.newcomer:
                text = f"it made room for a newer one, as there may be {self._most}"
                oldest.give_up(LimitExceeded(text))
                return True
        return False

    def _made(self, connection: Connection, transport: asyncio.BaseTransport) -> None:
        self._accepted.discard(connection)
        self.connections.add(connection)
        _check_user(connection, transport)

    def _ended(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._newcomers.pop(connection, None)

    def root_for(self, connection: Connection) -> Referenceable:
        """Returns what one connection is offered: the object, or the login before it."""
        self._newcomers[connection] = None
        root = self.root
        if isinstance(root, Portal):
            portal, advice = root, _BY_NAME
        elif self.guests is None:
            return _root_object(root, connection)
        else:
            served = partial(_root_object, root, connection)
            portal, advice = guest_portal(self.guests, connection, served), _BY_TOKEN
        return LoginRoot(
            portal,
            self._salts,
            connection.channel,
            legacy_auth=self._legacy_auth,
            advice=advice,
        )


class _Refused(asyncio.Protocol):
    """A connection that is ended before it has begun."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _check_user(connection: Connection, transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if getattr(sock, "family", None) == getattr(socket, "AF_UNIX", ()) and not is_private(sock):
        connection.give_up(PermissionError("it is a process of another user"))


class _RootOf(Root):
    """Stands for a factory's root until it is known which connection asks."""

    def __init__(self, factory: PBServerFactory) -> None:
        self._factory = factory

    def rootObject(self, broker: object) -> Referenceable:
        assert isinstance(broker, Connection)
        return self._factory.root_for(broker)


def check_root(root: object) -> None:
    """Checks that an object can be served.

    Raises:
        TypeError: It cannot; the text says what to derive its class from.
    """
    if isinstance(root, type):
        raise TypeError(f"{root.__name__} is a class: serve an instance, {root.__name__}()")
    if isinstance(root, Portal):
        return
    if not isinstance(root, Referenceable) and not callable(getattr(root, "rootObject", None)):
        raise TypeError(
            f"{type(root).__name__} objects cannot be served: derive the class from pb.Root "
            "and name the methods that peers may call remote_..."
        )
    find = getattr(root, "rootObject", None)
    if inspect.iscoroutinefunction(find):
        raise TypeError(f"{type(root).__name__}.rootObject may not be async")


def _most_files() -> int:
    """Returns how many files the process may have open; sockets are files."""
    if not hasattr(os, "sysconf"):  # on Windows, where they are not
        return sys.maxsize
    most = os.sysconf("SC_OPEN_MAX")
    return most if most > 0 else sys.maxsize


def _root_object(root: Referenceable, connection: Connection) -> Referenceable:
    find = getattr(root, "rootObject", None)
    return find(connection) if callable(find) else root
