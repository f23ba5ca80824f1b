"""A server and a reference to its root, for tests over a real loopback connection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pbnb as pb


class Thing(pb.Referenceable):
    """An object that may be lent."""

    def remote_twice(self, value: int) -> int:
        return 2 * value


class Desk(pb.Root):
    """A root whose methods most tests of connections need."""

    def __init__(self) -> None:
        self.thing = Thing()
        self.notes: list[Any] = []
        self.kept: Any = None

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_note(self, value: Any) -> None:
        self.notes.append(value)

    def remote_thing(self) -> Thing:
        return self.thing

    def remote_keep(self, ref: Any) -> None:
        self.kept = ref

    def remote_relay(self, ref: Any, value: int) -> Any:
        return ref.callRemote("twice", value)

    async def remote_never(self) -> None:
        await asyncio.Event().wait()


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


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
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
