"""Ports for servers that end and come back at the same address."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket

# Below the ports that systems give to connections and to servers that ask for any, 32768 and up,
# and above those that `%pb_serve` tries: nobody takes one while its server is away. Each process
# of tests has a thousand of its own.
_WORKER = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
_PORTS = itertools.count(20_000 + 1_000 * (_WORKER % 12))


def free_port() -> int:
    """Returns a port of this machine that stays free until somebody is told of it."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            # As servers do: what is left of connections that were closed does not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
