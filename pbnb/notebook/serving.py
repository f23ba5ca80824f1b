"""What this kernel serves: servers, and the connection files that lead to them."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from ..aio.address import is_loopback
from ..aio.server import Server, serve
from .connection_files import ConnectionFile, ConnectionFiles, NameTaken, find, is_name

__all__ = ["DEFAULT_PORT", "PORTS", "Serving", "Servings"]

DEFAULT_PORT = 8789
# Tried in this order where no port was asked for.
PORTS = range(DEFAULT_PORT, DEFAULT_PORT + 100)


@dataclass(frozen=True)
class Serving:
    """One object that this kernel serves."""

    server: Server
    file: ConnectionFile

    @property
    def target(self) -> str:
        """What ``%pb_connect`` and ``%pb_stop`` take for it: its name, or else its address."""
        return self.file.name or self.file.address

    @property
    def kind(self) -> str:
        """The name of the class of the object."""
        return type(self.server.root).__name__


class Servings:
    """Everything that this kernel serves through magics."""

    def __init__(self) -> None:
        self._files = ConnectionFiles()
        self._servings: list[Serving] = []

    def open(self) -> list[Serving]:
        """Returns what is served now, the oldest first."""
        return list(self._servings)

    def find(self, target: str, address: tuple[str, int] | None) -> Serving | None:
        """Returns what is served under a name, or else at an address.

        Args:
            target: What may be a name.
            address: What may be an address, as host and port.
        """
        for serving in self.open():
            if serving.file.name == target:
                return serving
        for serving in self.open():
            if address is not None and serving.file.serves(*address):
                return serving
        return None

    def check(self, root: object, name: str | None) -> None:
        """Checks that an object is not served yet, and that a name is free.

        Args:
            root: The object.
            name: The name to serve it under, if any.

        Raises:
            UsageError: It cannot; the text says what to do.
        """
        for serving in self.open():
            if serving.server.root is root:
                raise UsageError(
                    f"this {serving.kind} is served on {serving.file.address} already: connect to "
                    f"it there, or end that first with %pb_stop {serving.target}"
                )
        if name is not None:
            self._check_name(name)

    async def serve(
        self,
        root: Any,
        *,
        host: str,
        port: int | None,
        name: str | None,
        anonymous: bool,
        legacy_auth: bool = False,
        **options: Any,
    ) -> Serving:
        """Serves an object and leaves a connection file for it.

        Args:
            root: The object.
            host: Where to listen.
            port: Where to listen, or None for the first of `PORTS` that is free.
            name: The name to serve it under, if any.
            anonymous: Whether anyone may connect, without a login.
            legacy_auth: Whether to take PB's own login, with MD5, too.
            **options: More of what `pbnb.serve` takes.

        Raises:
            UsageError: It cannot be served; the text says what to do.
        """
        options.update(anonymous=anonymous, legacy_auth=legacy_auth)
        server = await self._listen(root, host, port, options)
        file = ConnectionFile(server.host, server.port, name, server.token)
        try:
            self._files.write(file)
        except NameTaken as error:
            await server.close()
            raise _name_taken(error.owner) from None
        except BaseException:
            await server.close()
            raise
        serving = Serving(server, file)
        self._servings.append(serving)
        # However it ends: nobody is left to connect to it, and its name is free.
        server.notifyOnClose(lambda closed: self._forget(serving))
        return serving

    async def stop(self, serving: Serving) -> None:
        """Stops to serve an object, and ends its connections.

        Args:
            serving: One of `open`.
        """
        await serving.server.close()

    async def stop_all(self) -> None:
        """Stops to serve everything."""
        for serving in self.open():
            await self.stop(serving)

    def _forget(self, serving: Serving) -> None:
        self._servings.remove(serving)
        self._files.remove(serving.file)

    def _check_name(self, name: str) -> None:
        if not is_name(name):
            raise UsageError(
                f"{name!r} cannot be a name: take a letter, and then letters, digits, "
                "dots, dashes and underscores, 64 at most"
            )
        owner = find(name, None)
        if owner is not None:
            raise _name_taken(owner)

    async def _listen(
        self, root: Any, host: str, port: int | None, options: dict[str, Any]
    ) -> Server:
        if not is_loopback(host):
            raise UsageError(
                f"{host} may be reached from other machines, and nothing would be encrypted: "
                "leave out --host to serve to this machine alone"
            )
        if port is not None and not 0 <= port <= 65535:
            raise UsageError(f"{port} is no port: choose one from 1 to 65535")
        for attempt in PORTS if port is None else [port]:
            try:
                return await serve(root, host, attempt, **options)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise UsageError(error.strerror or str(error)) from None
            except TypeError as error:  # the object is no root: it says what to derive from
                raise UsageError(str(error)) from None
        if port is None:
            raise UsageError(
                f"the ports {PORTS[0]} to {PORTS[-1]} are in use: choose another one with --port"
            )
        raise self._port_taken(host, port)

    def _port_taken(self, host: str, port: int) -> UsageError:
        serving = self.find("", (host, port))
        if serving is not None:
            return UsageError(
                f"port {port} is in use, this kernel serves {serving.kind} there: end that first "
                f"with %pb_stop {serving.target}, or choose another --port"
            )
        return UsageError(
            f"port {port} is in use: choose another --port, or leave it out to take a free one"
        )


def _name_taken(owner: ConnectionFile) -> UsageError:
    return UsageError(
        f"the name {owner.name} is taken by what process {owner.pid} serves on {owner.address}: "
        f"choose another --name, or end that first with %pb_stop {owner.name} where it is served"
    )
