"""Unix sockets: a server that only its user's processes can reach, by the path of a file.

The file is that user's alone (mode 0600), and where the system tells whose the other end is, that
is looked at, too. What a server that was killed leaves behind is replaced by the next one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

__all__ = ["PREFIX", "PeerProcess", "bind", "connected", "is_private", "peer_process", "remove"]

PREFIX = "unix:"
"""What stands before a path where an address is due."""

_LONGEST = 107 if sys.platform == "linux" else 103  # what a struct sockaddr_un has room for


class PeerProcess(NamedTuple):
    """Who is at the other end of a socket, as the system says.

    Attributes:
        uid: The user.
        pid: The process, or None where the system says only the user.
    """

    uid: int
    pid: int | None


def bind(path: str) -> socket.socket:
    """Returns a socket that listens, whose file is for this user alone.

    Args:
        path: Where to put the file. One that a server has left behind is replaced.

    Raises:
        OSError: It cannot be there; the text says why.
    """
    path = os.path.abspath(path)
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets: serve on 127.0.0.1")
    if len(os.fsencode(path)) > _LONGEST:
        raise OSError(
            errno.ENAMETOOLONG, f"{path} is too long for a socket: {_LONGEST} bytes is the most"
        )
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(os.path.dirname(path)):
            _bind(made, path)
            # Nobody can connect before the socket listens, so that nobody comes before this.
            os.chmod(path, 0o600)
            made.listen()
    except BaseException:
        made.close()
        raise
    return made


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Keeps others who bind sockets in a directory waiting.

    Two who find the same old file would each remove it, and the second perhaps a living one.
    """
    import fcntl  # which Windows has not

    number = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OSError(
            errno.EAGAIN, f"somebody holds a lock on {directory}: try again, or choose another"
        ) from None
    finally:
        os.close(number)


def _bind(made: socket.socket, path: str) -> None:
    try:
        made.bind(path)
        return
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise OSError(error.errno, f"cannot listen on {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, f"{path} is no socket: choose another path")
    if _listens(path):
        raise OSError(
            errno.EADDRINUSE, f"{path} is in use: stop what serves there, or choose another path"
        )
    os.unlink(path)
    made.bind(path)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # too many wait to be accepted, or it is somebody else's
        return True


def remove(path: str, made: os.stat_result) -> None:
    """Removes the file of a socket, if it is still the one that was made.

    Args:
        path: Where it was put.
        made: What `os.stat` said of it then.
    """
    try:
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
            os.unlink(path)
    except FileNotFoundError:
        pass  # whoever replaced or removed it, it is gone


async def connected(path: str) -> socket.socket:
    """Returns a socket that is connected to the server at a path.

    Raises:
        OSError: Nothing listens there, or this user may not connect.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        _name(made, path)
        await asyncio.get_running_loop().sock_connect(made, path)
        made.getpeername()  # without one, too many wait there, and this end was not taken in
    except BaseException:
        made.close()
        raise
    return made


def _name(made: socket.socket, path: str) -> None:
    """Gives the connecting end a name, by which it is found where both ends are in one process."""
    if sys.platform == "linux":
        made.bind("")  # the kernel chooses one that is no file
        return
    own = f"{path}.{secrets.token_hex(4)}"
    try:
        made.bind(own)
        os.unlink(own)  # it keeps the name
    except OSError:
        pass  # then it has none: only prints notice, which appear below the cell that serves


# BSD's struct xucred: a version, the user, and groups; LOCAL_PEERCRED of its level 0.
_XUCRED, _LOCAL_PEERCRED, _LOCAL_PEERPID = struct.Struct("2I"), 1, 2
_UCRED = struct.Struct("3i")


def peer_process(sock: Any) -> PeerProcess | None:
    """Returns who is at the other end of a Unix socket, or None where the system does not tell."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            pid, uid, _ = _UCRED.unpack(data)
            return PeerProcess(uid, pid)
        if sys.platform == "darwin" or "bsd" in sys.platform:
            _, uid = _XUCRED.unpack(sock.getsockopt(0, _LOCAL_PEERCRED, 76)[: _XUCRED.size])
            return PeerProcess(uid, None)
    except OSError:  # the other end is gone already
        return PeerProcess(-1, None)
    return None


def is_private(sock: Any) -> bool:
    """Returns whether the other end of a Unix socket may be one of this user's processes."""
    peer = peer_process(sock)
    return peer is None or peer.uid == os.geteuid()
