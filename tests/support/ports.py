"""Ports for servers that end and come back at the same address."""

from __future__ import annotations

import contextlib
import functools
import itertools
import socket
from collections.abc import Iterator

# Below the ports that systems give to connections and to servers that ask for any, 32768 and up,
# and above those that `%pb_serve` tries: nobody takes one while its server is away.
_FIRST, _LAST = 20_000, 32_000
_EACH = 500


@functools.cache
def _own() -> Iterator[int]:
    """Returns the ports of this process. Each has others, those of another run of the tests too."""
    for first in range(_FIRST, _LAST, _EACH):
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", first))
        except OSError:
            guard.close()
            continue
        guard.detach()  # taken until the process ends
        return itertools.count(first + 1)
    raise OSError(f"other processes have the ports from {_FIRST} to {_LAST}")


def free_port() -> int:
    """Returns a port of this machine that stays free until somebody is told of it."""
    while True:
        port = next(_own())
        with socket.socket() as probe, contextlib.suppress(OSError):
            # As servers do: what is left of connections that were closed does not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
