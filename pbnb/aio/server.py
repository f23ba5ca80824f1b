"""The side that listens."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal

from ..cards import card
from ..cred import (
    Invitation,
    Portal,
    Secret,
    new_token,
)
from ..flavors import Referenceable
from ..jelly.security import SecurityOptions
from ..limits import Limits
from ..protocol.snapshot import Snapshot, kind_of
from .address import format_address, is_loopback
from .connection import Connection
from .factory import PBServerFactory, check_root
from .inviting import InvitationRow, Inviting
from .listening import Door, Listener, open_door, reachable
from .threads import await_in, run_in_thread, running_loop, tell

__all__ = ["Server", "serve"]

log = logging.getLogger("pbnb")


class Server:
    """An object that is being served.

    It is an async context manager, which closes the server at its end.

    Attributes:
        root: The object, or the portal.
        address: Where it is served: ``host:port``, or ``unix:`` and a path.
        host: The address that it is served on; empty for a Unix socket.
        port: The port; 0 for a Unix socket.
        path: The path of a Unix socket, or None.
        key: The fingerprint of the key of its TLS, or None where nothing is encrypted.
        token: What a peer must know; None where anybody may connect, and for a portal. Its repr
            is hidden.
        closed: Whether it was closed.
        thread: Whether it has a thread and an event loop of its own.
    """

    def __init__(
        self,
        factory: PBServerFactory,
        door: Door,
        listener: Listener,
        token: str | None,
        thread: bool = False,
    ) -> None:
        self.root = factory.root
        self.host, self.port, self.path = door.host, door.port, door.path
        self.address = door.address
        self.key = None if door.tls is None else door.tls.key
        self.token = token
        self.closed = False
        self.thread = thread
        self._when_closed: list[tuple[Callable[[Server], object], Any]] = []
        self._ended = asyncio.Event()
        self._factory = factory
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._inviting = None
        if factory.guests is not None:
            assert not isinstance(factory.root, Portal)
            self._inviting = Inviting(factory.guests, factory.root, self._loop)

    @property
    def invitation(self) -> Invitation:
        """What others connect with: `Invitation.reveal` returns its line."""
        return self._invitation(self.token)

    @property
    def invitations(self) -> tuple[InvitationRow, ...]:
        """The invitations that are good now, without their secrets; `OWNER` is the first."""
        return () if self._inviting is None else self._inviting.rows()

    def invite(
        self,
        name: str | None = None,
        *,
        obj: Referenceable | None = None,
        methods: Iterable[str] | None = None,
        expires: float | str | timedelta | None = None,
    ) -> Invitation:
        """Makes an invitation of its own, with a token of its own.

        What the methods return is no less than it would be for anybody: a reference that they
        give away has all its methods.

        Args:
            name: What to call it, for `revoke`; one is chosen if None.
            obj: The object that it leads to; what is served if None.
            methods: The names of the only methods that may be called of that.
            expires: How long it is good: seconds, a `timedelta`, or text such as ``"2h"``. Then
                connections that have logged in with it are cut, too.

        Raises:
            ValueError: The name is taken or is none, or the time makes no sense.
            NoSuchMethod: There is no such method.
            TypeError: Nobody needs an invitation here, or other ones.
        """
        guest = self._guest_book().invite(name, obj, methods, expires)
        return self._invitation(guest.token)

    def invitation_of(self, name: str) -> Invitation | None:
        """Returns the invitation of a name, or None where there is none.

        Raises:
            TypeError: There are no invitations here.
        """
        guest = self._guest_book().find(name)
        return None if guest is None else self._invitation(guest.token)

    def revoke(self, name: str) -> None:
        """Takes an invitation back, and cuts the connections that have logged in with it.

        Args:
            name: Its name. `OWNER` is that of `invitation`.

        Raises:
            LookupError: There is none of that name.
            TypeError: There are no invitations here.
        """
        self._guest_book().revoke(name)

    def _guest_book(self) -> Inviting:
        if self._inviting is not None:
            return self._inviting
        if self.anonymous:
            raise TypeError("anybody may use this object: serve it with a login to invite some")
        raise TypeError("a portal has users: its checkers say who they are")

    def _invitation(self, token: str | None) -> Invitation:
        if self.path is not None:
            return Invitation(self.address, None, token)
        return Invitation(format_address(reachable(self.host), self.port), self.key, token)

    @property
    def anonymous(self) -> bool:
        """Whether anybody who reaches the address may use the object."""
        return self._factory.anonymous

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that are open."""
        return tuple(self._factory.connections)

    async def close(self) -> None:
        """Stops listening and ends all connections. Closing twice is no error.

        A server with a thread of its own closes when its methods leave it the time: one that
        blocks is waited for.
        """
        if asyncio.get_running_loop() is not self._loop:
            await await_in(self._loop, self.close)
            return
        self.closed = True
        self._listener.close()
        if self._inviting is not None:
            self._inviting.close()
        callbacks, self._when_closed = self._when_closed, []
        for callback, loop in callbacks:
            tell(loop, self._told, callback)
        try:
            await self._factory.settled()
            await asyncio.gather(*(connection.close() for connection in self.connections))
        finally:
            self._ended.set()

    async def _has_ended(self) -> None:
        await self._ended.wait()

    def _told(self, callback: Callable[[Server], object]) -> None:
        try:
            callback(self)
        except Exception:  # the user's code; the server closes all the same
            log.exception("a callback for the end of a server failed")

    def notifyOnClose(self, callback: Callable[[Server], object]) -> None:
        """Runs a callback with this server when it is closed, whoever closes it.

        Given in another thread in which a loop runs, it runs in that one, and otherwise in the
        server's.

        Args:
            callback: Called once, with this server; at once where it is closed already.
        """
        here = running_loop()
        if here is self._loop or self.closed:
            self._notify(callback, None)
        elif not tell(self._loop, self._notify, callback, here):
            callback(self)

    def _notify(
        self, callback: Callable[[Server], object], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        if self.closed:
            tell(loop, self._told, callback)
        else:
            self._when_closed.append((callback, loop))

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def snapshot(self) -> tuple[Snapshot, ...]:
        """Returns what each connection looks like now."""
        return tuple(connection.snapshot() for connection in self.connections)

    def __repr__(self) -> str:
        # The token is no part of it: a repr ends up in saved notebooks.
        what, state = type(self.root).__name__, "closed" if self.closed else "open"
        return f"<Server of {what} on {self.address}, {state}>"

    def _repr_html_(self) -> str:
        return card(
            "Server",
            of=kind_of(self.root),
            on=self.address,
            login="none" if self.anonymous else "needed",
            peers=len(self.connections),
            state="closed" if self.closed else "open",
        )


async def serve(
    root: Referenceable | Portal,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    path: str | os.PathLike[str] | None = None,
    anonymous: bool | None = None,
    token: str | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    client_ca: str | os.PathLike[str] | None = None,
    legacy_auth: bool = False,
    insecure: bool = False,
    limits: Limits | None = None,
    dialects: Sequence[str] | None = None,
    security: SecurityOptions | None = None,
    unsafe_tracebacks: bool = False,
    thread: bool = False,
    concurrency: Literal["serial", "concurrent"] | None = None,
) -> Server:
    """Serves an object, on the running event loop, or in a thread of its own.

    In a thread of its own calls are answered while this one computes. The methods then run in that
    thread: plain ones one at a time, and what they share with the rest of the program needs a lock.
    References that they are given can be called from every thread.

    On an address that other machines reach, connections are encrypted with TLS 1.3 and peers log
    in with a token: both stand, with the fingerprint of the server's key, in the line
    ``server.invitation.reveal()``, which `connect` takes.

    Args:
        root: The object; its class derives from `Root` or `Referenceable`. Or a `Portal`.
        host: The address to listen on.
        port: The port; 0 takes one that is free.
        path: The path of a Unix socket to listen on in the place of both, for this user alone.
        anonymous: Whether anybody who reaches the address may use the object. Where not, peers
            log in with a token. By default that depends on whether other machines reach it. A
            portal says by itself who may log in.
        token: The token; a random one is made where it is needed and not given.
        certfile: A certificate to encrypt with, and those that lead to its CA, as PEM. A key is
            made for each server where it is needed and not given.
        keyfile: The key of that, if it is in a file of its own.
        client_ca: A file or directory of CAs: peers have to show a certificate of one of these.
        legacy_auth: Also take PB's own login, with MD5, which is all that Twisted's clients have.
        insecure: Allow an address that other machines reach although nothing is encrypted, or
            although there is no login. Then TLS is spoken only where `certfile` or `client_ca`
            is given, and there is a login only where it is asked for.
        limits: What each peer may cost.
        dialects: Names of the dialects to offer, in the order of preference.
        security: What may come in; PB's global options where it is None.
        unsafe_tracebacks: Send tracebacks of this process with the failures of its methods.
        thread: Serve from a thread with an event loop of its own, until the server is closed.
        concurrency: ``"serial"`` runs one call of the object's methods at a time, whoever calls,
            until the server is closed; ``"concurrent"`` also runs others while one waits for
            something. What the class says (``pb_concurrency``) counts where it is None, and always
            for objects that the methods hand out, and for a portal's avatars.

    Returns:
        The server; ``await server.close()`` ends it.

    Raises:
        TypeError: The object cannot be served; the text says what to derive its class from. Or
            the rest makes no sense together.
        PermissionError: Other machines reach the address, and would need no login.
        ValueError: A file holds no certificate, or no key.
        OSError: The address is in use, or is none of this machine's; or a file cannot be read.
    """
    check_root(root)
    if anonymous is None:
        anonymous = path is not None or is_loopback(host) or insecure
    if token is not None:
        token = Secret(token)
    elif not anonymous and not isinstance(root, Portal):
        token = new_token()

    if concurrency is not None:
        _check_concurrency(root, concurrency)

    async def start() -> Server:
        server = await _start(factory, door, token, thread)
        if concurrency is not None:
            server.notifyOnClose(_set_concurrency(root, concurrency))
        return server

    factory = PBServerFactory(
        root,
        unsafe_tracebacks,
        security,
        limits=limits,
        dialects=dialects,
        token=token,
        legacy_auth=legacy_auth,
    )
    door = open_door(
        host,
        port,
        path=path,
        certfile=certfile,
        keyfile=keyfile,
        client_ca=client_ca,
        insecure=insecure,
        open_to_all=factory.anonymous,
    )
    if thread:
        # It needs nothing of this thread, and listens within a millisecond.
        name = f"pbnb serves {type(root).__name__}"
        return run_in_thread(name, start, Server._has_ended)
    return await start()


async def _start(factory: PBServerFactory, door: Door, token: str | None, thread: bool) -> Server:
    try:
        listener = await door.listen(factory)
    except BaseException:
        door.socket.close()
        raise
    return Server(factory, door, listener, token, thread)


def _check_concurrency(root: Referenceable | Portal, concurrency: str) -> None:
    if concurrency not in ("serial", "concurrent"):
        raise ValueError(f"concurrency= is 'serial' or 'concurrent', not {concurrency!r:.40}")
    if isinstance(root, Portal):
        raise TypeError("a portal serves avatars: set pb_concurrency in their class")
    if not hasattr(root, "__dict__"):
        raise TypeError(
            f"a {type(root).__name__} keeps no attributes: set pb_concurrency in the class"
        )


def _set_concurrency(root: object, concurrency: str) -> Callable[[Server], None]:
    # An attribute of the object: whichever server or reference leads to it, there is one line.
    attributes, before = vars(root), vars(root).get("pb_concurrency")
    attributes["pb_concurrency"] = concurrency

    def restore(closed: Server) -> None:
        if before is None:
            attributes.pop("pb_concurrency", None)
        else:
            attributes["pb_concurrency"] = before

    return restore
