"""What this kernel serves: servers, and the connection files that lead to them."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from ..aio.server import Server, serve
from .connection_files import ConnectionFile, ConnectionFiles, NameTaken, find, is_name, socket_path

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
            if target in (serving.file.name, serving.server.address):
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
        unix: str | None = None,
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
            unix: The path of a Unix socket in the place of both; an empty one is chosen here.
            **options: More of what `pbnb.serve` takes.

        Raises:
            UsageError: It cannot be served; the text says what to do.
        """
        options.update(anonymous=anonymous, legacy_auth=legacy_auth)
        if unix is None:
            server = await self._listen(root, host, port, options)
        else:
            path = os.path.expanduser(unix) if unix else socket_path(name)  # noqa: ASYNC240 (once)
            server = await self._listen_at(root, host, port, path, options)
            if not unix:
                server.notifyOnClose(lambda closed: _remove_directory(path))
        file = ConnectionFile(server.host, server.port, name, server.token, server.key, server.path)
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
        if port is not None and not 0 <= port <= 65535:
            raise UsageError(f"{port} is no port: choose one from 1 to 65535")
        for attempt in PORTS if port is None else [port]:
            try:
                return await serve(root, host, attempt, **options)
            except PermissionError as error:  # everybody could use it: it says what to leave out
                raise UsageError(_in_options(error)) from None
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise UsageError(error.strerror or str(error)) from None
            except (TypeError, ValueError) as error:  # it says what to do
                raise UsageError(_in_options(error)) from None
        if port is None:
            raise UsageError(
                f"the ports {PORTS[0]} to {PORTS[-1]} are in use: choose another one with --port"
            )
        raise self._port_taken(host, port)

    async def _listen_at(
        self, root: Any, host: str, port: int | None, path: str, options: dict[str, Any]
    ) -> Server:
        if port is not None or host != "127.0.0.1":
            raise UsageError("a Unix socket has a path alone: leave out --host and --port")
        try:
            return await serve(root, path=path, **options)
        except OSError as error:
            raise UsageError(error.strerror or str(error)) from None
        except (TypeError, ValueError) as error:
            raise UsageError(_in_options(error)) from None

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


def _remove_directory(path: str) -> None:
    with suppress(OSError):  # there are others in it
        os.rmdir(os.path.dirname(path))


def _in_options(error: Exception) -> str:
    """Returns what an error says, in the words of the magics."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    for argument, option in (
        ("anonymous=True", "--anonymous"),
        ("insecure=True", "--insecure"),
        ("pass ", "type "),
        ("certfile=", "--certfile"),
        ("keyfile=", "--keyfile"),
    ):
        text = text.replace(argument, option)
    return text


def _name_taken(owner: ConnectionFile) -> UsageError:
    return UsageError(
        f"the name {owner.name} is taken by what process {owner.pid} serves on {owner.address}: "
        f"choose another --name, or end that first with %pb_stop {owner.name} where it is served"
    )
