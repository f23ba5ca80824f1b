"""When a connection writes, on a transport that notes each time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.connection import Connection
from pbnb.aio.writing import BURST
from tests.support.replay import Wire
from tests.support.serving import Desk, served, until

LARGE = bytes(range(256)) * 4 * 4096  # four megabytes


class Counted(Wire):
    """Notes how much was written each time."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[int] = []

    def write(self, data: Any) -> None:
        self.writes.append(len(data))
        super().write(data)

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))


def opened() -> tuple[Connection, Counted]:
    """Returns the connector's end of a connection, which is open, and its transport."""
    connection, wire = Connection(listening=False, dialects=("pbnb1",)), Counted()
    wire.protocol = connection
    connection.connection_made(wire)
    connection.data_received(pb.banana.encode([b"pbnb1"], None))
    assert connection.machine.dialect == "pbnb1"
    wire.writes.clear()
    return connection, wire


def quiet(calls: list[Any]) -> None:
    for call in calls:
        call.addErrback(lambda failure: None)


def test_a_call_that_is_alone_is_written_at_once_and_others_together() -> None:
    async def main() -> None:
        connection, wire = opened()
        calls = [connection.root().callRemote("echo", 1)]
        assert len(wire.writes) == 1
        calls += [connection.root().callRemote("echo", n) for n in range(5)]
        assert len(wire.writes) == 1
        await asyncio.sleep(0)
        assert len(wire.writes) == 2
        quiet(calls)
        connection.connection_lost(None)

    asyncio.run(main())


def test_a_long_burst_is_written_in_pieces() -> None:
    async def main() -> None:
        connection, wire = opened()
        calls = [connection.root().callRemote("echo", n) for n in range(1 + 3 * BURST)]
        assert len(wire.writes) == 4
        quiet(calls)
        connection.connection_lost(None)

    asyncio.run(main())


def test_what_is_full_gets_no_more_parts_of_a_large_message() -> None:
    async def main() -> None:
        connection, wire = opened()
        call = connection.root().callRemote("echo", LARGE)
        connection.pause_writing()
        await asyncio.sleep(0)
        sent = len(wire.written)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(wire.written) == sent < len(LARGE)
        connection.resume_writing()
        await until(lambda: not connection.machine.wire.sending)
        assert len(wire.written) > len(LARGE)
        quiet([call])
        connection.connection_lost(None)

    asyncio.run(main())


def test_short_messages_pass_a_large_one() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            ended: list[str] = []
            large = ref.callRemote("echo", LARGE * 8)
            large.addCallback(lambda value: ended.append("large") or value)
            for _ in range(3):
                # By a callback, too: a task that waits runs a turn of the loop later.
                short = ref.callRemote("echo", "short")
                assert await short.addCallback(lambda _: ended.append("short")) is None
            assert await large == LARGE * 8
            assert ended[0] == "short" and ended[-1] == "large"

    asyncio.run(main())


def test_what_was_said_before_the_end_arrives() -> None:
    async def main() -> None:
        root = Desk()
        async with await pb.serve(root) as server:
            ref = await pb.connect(server.address)
            assert await ref.callRemote("echo", 1) == 1
            ref.remote_only("note", LARGE)
            await ref.broker.close()
            await until(lambda: bool(root.notes))
            assert root.notes == [LARGE]

    asyncio.run(main())


def test_nothing_is_written_after_the_end() -> None:
    async def main() -> None:
        connection, wire = opened()
        connection.disconnect()
        sent = len(wire.written)
        call = connection.root().callRemote("echo", 1)
        await asyncio.sleep(0)
        assert len(wire.written) == sent
        with pytest.raises(pb.PBConnectionLost):
            await call

    asyncio.run(main())


def test_steps_are_run_as_fast_as_the_peer_reads() -> None:
    async def main() -> None:
        connection, _ = opened()
        steps: list[int] = []

        def step() -> bool:
            steps.append(len(steps))
            if len(steps) == 3:
                connection.pause_writing()
            return len(steps) < 5

        connection.run_paced(step)
        assert steps == [0]
        for _ in range(5):
            await asyncio.sleep(0)
        assert steps == [0, 1, 2]
        connection.resume_writing()
        for _ in range(5):
            await asyncio.sleep(0)
        assert steps == [0, 1, 2, 3, 4]
        connection.connection_lost(None)

    asyncio.run(main())


def test_several_large_calls_at_once_go_out_each_behind_its_message() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            parts = [LARGE + bytes([n]) for n in range(4)]
            assert await asyncio.gather(*(ref.callRemote("echo", each) for each in parts)) == parts

    asyncio.run(main())


class Canvas(pb.Cacheable):
    def __init__(self) -> None:
        self.observers: list[Any] = []

    def getStateToCacheAndObserveFor(self, perspective: Any, observer: Any) -> dict[str, Any]:
        self.observers.append(observer)
        return {}

    def paint(self, picture: bytes) -> None:
        for observer in self.observers:
            quiet([observer.callRemote("painted", picture)])


class CanvasCopy(pb.RemoteCache):
    def setCopyableState(self, state: Any) -> None:
        self.painted: list[int] = []

    def observe_painted(self, picture: bytes) -> None:
        self.painted.append(len(picture))


def test_a_live_copy_hears_of_large_and_small_changes_in_their_order() -> None:
    class Gallery(pb.Root):
        canvas = Canvas()

        def remote_canvas(self) -> Canvas:
            return self.canvas

        def remote_paint(self) -> None:
            for picture in (LARGE, b"dot", LARGE, b""):
                self.canvas.paint(picture)

    async def main() -> None:
        security = pb.SecurityOptions()
        security.allowBasicTypes()
        security.allowTypes("remote", "cached")
        security.setUnjellyableForClass(Canvas, CanvasCopy)
        async with await pb.serve(Gallery()) as server:
            ref = await pb.connect(server.address, security=security)
            copy = await ref.callRemote("canvas")
            await ref.callRemote("paint")
            await until(lambda: len(copy.painted) == 4)
            assert copy.painted == [len(LARGE), 3, len(LARGE), 0]
            await ref.broker.close()

    asyncio.run(main())
