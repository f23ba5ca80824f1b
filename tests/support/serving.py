"""A server and a reference to its root, for tests over a real loopback connection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pbnb as pb


@asynccontextmanager
async def served(
    root: pb.Referenceable, **options: Any
) -> AsyncIterator[tuple[pb.Server, pb.RemoteReference]]:
    """Serves an object and connects to it; closes both at the end."""
    async with await pb.serve(root, **options) as server:
        ref = await pb.connect(server.address, token=server.token)
        try:
            yield server, ref
        finally:
            await ref.broker.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for a condition, and fails when it does not come about."""
    async with asyncio.timeout(seconds):
        while not condition():
            gc.collect()
            await asyncio.sleep(0.005)


def tables(*connections: Any) -> list[Any]:
    """Returns everything that the tables of connections hold."""
    held: list[Any] = []
    for connection in connections:
        refs = connection.machine.refs
        held += [*refs.lent(), *refs.borrowed(), *connection.machine.pending.values()]
    return held
