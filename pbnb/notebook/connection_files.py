"""Connection files: how a user's other notebooks find what this kernel serves, and log in to it.

A file ``pbnb-<name or port>.json`` in Jupyter's runtime directory, which only its user can read,
holds where an object is served and the token that opens it, as a kernel's own file does. It
disappears when the serving ends, and a file whose process has ended is passed over and removed.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
from jupyter_core.paths import jupyter_runtime_dir, secure_write

from ..aio.address import format_address, is_loopback
from ..aio.listening import reachable
from ..aio.unix import PREFIX
from ..cred import Invitation, Secret

__all__ = [
    "ConnectionFile",
    "ConnectionFiles",
    "NameTaken",
    "find",
    "is_name",
    "living",
    "socket_path",
]

# Begins with a letter, so that no name can be an address, and makes a file name everywhere.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
# A word that `%pb_connect` and `%pb_stop` read in a sense of their own.
_RESERVED = {"localhost", "all"}
_LARGEST_FILE = 10_000
_LONGEST_PATH = 100  # of a socket; systems take a few bytes more
# Where this machine finds what listens on all addresses.
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class NameTaken(Exception):
    """A living process serves under that name."""

    def __init__(self, owner: ConnectionFile) -> None:
        super().__init__(owner.name)
        self.owner = owner


@dataclass(frozen=True)
class ConnectionFile:
    """What one connection file says.

    Attributes:
        host: The host that is listened on.
        port: The port that is listened on.
        name: The name it was served under, or None.
        token: The secret that logs in, or None where anyone may connect.
        key: The fingerprint of the server's key, or None where it does not speak TLS.
        path: The path of a Unix socket, which then has no host and no port; or None.
        pid: The process that serves.
        machine: The name of the machine whose process that is: a home directory may be shared.
    """

    host: str
    port: int
    name: str | None
    token: str | None = field(repr=False)
    key: str | None = None
    path: str | None = None
    pid: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=socket.gethostname)

    @property
    def address(self) -> str:
        """Where it is served, as ``%pb_connect`` on this machine takes it."""
        if self.path is not None:
            return PREFIX + self.path
        return format_address(_HERE.get(self.host, self.host), self.port)

    @property
    def invitation(self) -> Invitation:
        """What connects to it from this machine."""
        return Invitation(self.address, self.key, self.token)

    def serves(self, host: str, port: int) -> bool:
        """Returns whether an address leads to it.

        Args:
            host: A host, without brackets.
            port: A port.
        """
        if self.path is not None or port != self.port:
            return False
        if self.host in _HERE:  # on all addresses
            return is_loopback(host) or host in (self.host, reachable(self.host))
        return host == self.host or (host == "localhost" and is_loopback(self.host))


def is_name(text: str) -> bool:
    """Returns whether something can be served under a name.

    Args:
        text: The name.
    """
    return _NAME.fullmatch(text) is not None and text not in _RESERVED


def living() -> list[ConnectionFile]:
    """Returns what this user serves now on this machine, in the order of addresses.

    Removes the files of processes that have ended.
    """
    found = [record for path in _directory().glob("pbnb-*.json") if (record := _read(path))]
    return sorted(found, key=lambda record: (record.host, record.port))


def find(target: str, address: tuple[str, int] | None) -> ConnectionFile | None:
    """Returns what is served under a name, or else at an address.

    Args:
        target: What may be a name.
        address: What may be an address, as host and port.
    """
    records = living()
    for record in records:
        if target in (record.name, record.path and record.address):
            return record
    if address is not None:
        for record in records:
            if record.serves(*address):
                return record
    return None


class ConnectionFiles:
    """The connection files that this process has written, and removes."""

    def __init__(self) -> None:
        self._written: dict[ConnectionFile, Path] = {}

    def write(self, record: ConnectionFile) -> None:
        """Writes a connection file, readable by this user only.

        Args:
            record: What it shall say.

        Raises:
            NameTaken: A living process, maybe this one, serves under the name.
        """
        for path in _places(record):
            if _claim(path, record):
                break
        else:
            raise NameTaken(_read(path) or record)
        if not self._written:
            atexit.register(self.remove_all)
        self._written[record] = path

    def remove(self, record: ConnectionFile) -> None:
        """Removes a file that `write` has written.

        Args:
            record: What was passed to `write`.
        """
        path = self._written.pop(record, None)
        # A child that this process forked has a copy of this object, and not the server.
        if path is not None and record.pid == os.getpid():
            found = _read(path)
            if found is not None and (found.pid, found.address) == (record.pid, record.address):
                path.unlink(missing_ok=True)
        if not self._written:
            atexit.unregister(self.remove_all)

    def remove_all(self) -> None:
        """Removes every file that `write` has written."""
        for record in list(self._written):
            self.remove(record)


def _directory() -> Path:
    return Path(jupyter_runtime_dir())


def _places(record: ConnectionFile) -> Iterator[Path]:
    """Yields where a record may stand: one place for a name, two for a port.

    127.0.0.1 and ::1 have each a port of that number.
    """
    directory = _directory()
    if record.name is not None:
        yield directory / f"pbnb-{record.name}.json"
    elif record.path is not None:
        yield directory / f"pbnb-unix-{record.pid}-{secrets.token_hex(4)}.json"
    else:
        yield directory / f"pbnb-{record.port}.json"
        yield directory / f"pbnb-{record.port}-{record.pid}-{secrets.token_hex(4)}.json"


def _claim(path: Path, record: ConnectionFile) -> bool:
    """Writes a record where no living one stands; returns whether it could."""
    if _read(path) is not None:
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    content = {name: getattr(record, name) for name in record.__dataclass_fields__}
    try:
        with secure_write(str(draft)) as file:
            json.dump(content, file)
        # A link appears whole and never over another file. What _read passed over was removed.
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _read(path: Path) -> ConnectionFile | None:
    """Returns what a connection file says, or None; removes it where its process has ended."""
    try:
        # Only what this user alone can have written may tell where a secret is sent.
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or not _is_private(status):
            return None
        if status.st_size > _LARGEST_FILE:
            return None
        record = _parse(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return None
    if record is None or record.machine != socket.gethostname():
        return None
    if not psutil.pid_exists(record.pid):
        path.unlink(missing_ok=True)
        if record.path is not None and Path(record.path).parent == _sockets():
            Path(record.path).unlink(missing_ok=True)
        return None
    return record


def socket_path(name: str | None) -> str:
    """Returns where to put a Unix socket, in a directory that is this user's alone.

    Args:
        name: The name that is served under, or None.
    """
    file = name or f"{os.getpid()}-{secrets.token_hex(3)}"
    directory = _sockets()
    if len(os.fsencode(directory / file)) > _LONGEST_PATH:
        return os.path.join(tempfile.mkdtemp(prefix="pbnb-"), file)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    return str(directory / file)


def _sockets() -> Path:
    return _directory() / "pbnb-sockets"


def _is_private(status: os.stat_result) -> bool:
    if os.name != "posix":
        return True  # secure_write has set the file's access list
    return status.st_uid == os.geteuid() and status.st_mode & 0o077 == 0


def _parse(content: object) -> ConnectionFile | None:
    if not isinstance(content, dict):
        return None
    try:
        token = content.get("token")
        hidden = Secret(token) if isinstance(token, str) else token
        record = ConnectionFile(**{**content, "token": hidden})
    except TypeError:
        return None
    choices = (record.name, record.token, record.key, record.path)
    texts = (record.host, record.machine, *(each or "" for each in choices))
    numbers = (record.port, record.pid)
    # type() rather than isinstance(): True is an int, and no port.
    if {type(value) for value in texts} <= {str, Secret} and {type(value) for value in numbers} == {
        int
    }:
        return record
    return None
