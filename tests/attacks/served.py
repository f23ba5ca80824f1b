"""A server in a process of its own, which measures what others do to it: prints its address.

::

    python -m tests.attacks.served '{"limits": {"connections": 5}, "token": "secret"}'
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil

import pbnb as pb

# Seconds between two beats.
BEAT = 0.002


class Thing(pb.Referenceable):
    pass


class Gauge(pb.Root):
    """What is attacked, and what it notices of that.

    Attributes:
        held: What peers have left here.
    """

    def __init__(self) -> None:
        self.server: pb.Server
        self.held: list[Any] = []
        self._process = psutil.Process()
        self._began = 0
        self.remote_begin()

    async def beat(self) -> None:
        """Measures how long the loop takes for others, for ever."""
        wall, cpu = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(BEAT)
            now, used = time.perf_counter(), time.thread_time()
            self._late = max(self._late, now - wall - BEAT)
            self._busy = max(self._busy, used - cpu)
            wall, cpu = now, used
            self._look_at_memory()

    def _look_at_memory(self) -> None:
        self._most = max(self._most, self._process.memory_info().rss)

    def remote_begin(self) -> None:
        """Begins to measure."""
        gc.collect()
        self._late = self._busy = 0.0
        self._began = self._most = self._process.memory_info().rss

    def remote_read(self) -> dict[str, Any]:
        """Returns what was measured since.

        ``late``: seconds for which the loop has kept others waiting at most; ``busy``: of these,
        seconds in which it has computed, which do not count what else this machine did; ``grown``:
        bytes by which the memory grew at most.
        """
        self._look_at_memory()
        return {"late": self._late, "busy": self._busy, "grown": self._most - self._began}

    def remote_left(self) -> list[int]:
        """Returns how much is in the tables of all connections, how many run, wait, and connect."""
        gc.collect()
        connections = self.server.connections
        tables = sum(
            len([*each.machine.refs.lent(), *each.machine.refs.borrowed(), *each.machine.pending])
            for each in connections
        )
        running = sum(len(each.turns.running) for each in connections)
        waiting = sum(each.turns.waiting + len(each.flow) for each in connections)
        return [tables, running, waiting, len(connections)]

    # What there is to be attacked

    def remote_echo(self, value: Any = None) -> Any:
        return value

    def remote_drop(self, *args: Any) -> None:
        pass

    def remote_long(self) -> bytes:
        return bytes(100_000)

    def remote_keep(self, *args: Any) -> None:
        self.held += args

    def remote_lend(self) -> Thing:
        return Thing()

    def remote_yield(self) -> Iterator[int]:
        yield from range(10**9)

    async def remote_never(self) -> None:
        await asyncio.Event().wait()

    async def remote_ask(self, ref: Any) -> Any:
        return await ref.callRemote("anything")


async def main(options: dict[str, Any]) -> None:
    limits = pb.Limits(**options.get("limits", {}))
    root = Gauge()
    token = options.get("token")
    async with await pb.serve(root, anonymous=token is None, token=token, limits=limits) as server:
        root.server = server
        beating = asyncio.create_task(root.beat())
        print(server.address, flush=True)
        await beating


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
