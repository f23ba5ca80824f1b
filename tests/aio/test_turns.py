"""Turns: how many calls run, which wait, serial objects, and what outlives its connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio import turns
from tests.support.serving import served, tables, until


@pytest.fixture(autouse=True)
def _nothing_of_other_tests() -> None:
    # What runs for nobody is kept for the whole process.
    turns._orphans.clear()
    turns._lines.clear()


class Desk(pb.Root):
    """Counts who is inside at one time."""

    def __init__(self) -> None:
        self.inside = self.most = self.calls = 0
        self.go = asyncio.Event()

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_quick(self) -> int:
        assert self.inside == 0
        return self.calls

    async def remote_wait(self) -> int:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.go.wait()
        finally:
            self.inside -= 1
        return self.calls

    def remote_deferred(self) -> pb.Deferred[int]:
        self.calls += 1
        return pb.Deferred()


class Serial(Desk):
    pb_concurrency = "serial"


LIMITS = pb.Limits(running_calls=3, queued_calls=4)


def test_calls_beyond_the_limits_wait_and_then_are_refused() -> None:
    async def main() -> None:
        desk = Desk()
        async with served(desk, limits=LIMITS) as (server, ref):
            (far,) = server.connections
            calls = [ref.callRemote("wait") for _ in range(9)]
            for refused in calls[7:]:
                with pytest.raises(pb.PeerBusy, match="3 calls of this peer run here and 4 wait"):
                    await refused
            assert (desk.calls, len(far.turns.running), far.turns.waiting) == (3, 3, 4)
            desk.go.set()
            await asyncio.gather(*calls[:7])
            assert desk.calls == 7 and desk.most == 3
            assert not far.turns.running and not far.turns.waiting
            assert await ref.callRemote("echo", 1) == 1

    asyncio.run(main())


def test_a_deferred_counts_as_a_call_that_runs() -> None:
    async def main() -> None:
        desk = Desk()
        async with served(desk, limits=LIMITS) as (server, ref):
            (far,) = server.connections
            calls = [ref.callRemote("deferred") for _ in range(4)]
            await until(lambda: far.turns.waiting == 1)
            assert desk.calls == 3
            for call in calls:
                call.cancel()
            await until(lambda: not tables(far, ref.broker) and not far.turns.running)

    asyncio.run(main())


def test_a_call_waits_no_longer_than_it_may() -> None:
    async def main() -> None:
        limits = pb.Limits(running_calls=1, queue_seconds=0.02)
        async with served(Desk(), limits=limits) as (server, ref):
            first = ref.callRemote("wait")
            with pytest.raises(pb.PeerBusy, match="has waited 0.02 s for its turn"):
                await ref.callRemote("wait")
            assert not server.connections[0].turns.waiting
            first.cancel()

    asyncio.run(main())


def test_a_call_that_waits_can_be_cancelled() -> None:
    async def main() -> None:
        for desk in (Desk(), Serial()):
            async with served(desk, limits=pb.Limits(running_calls=1)) as (server, ref):
                (far,) = server.connections
                first, second = ref.callRemote("wait"), ref.callRemote("wait")
                await until(lambda far=far: far.turns.waiting == 1)
                second.cancel()
                await until(lambda far=far: far.turns.waiting == 0)
                assert desk.calls == 1
                desk.go.set()
                assert await first == 1
                await until(lambda far=far, ref=ref: not tables(far, ref.broker))
                assert desk.calls == 1

    asyncio.run(main())


def test_a_serial_object_is_never_entered_twice() -> None:
    async def main() -> None:
        desk = Serial()
        async with await pb.serve(desk) as server:
            refs = [await pb.connect(server.address) for _ in range(3)]
            calls = [ref.callRemote("wait") for ref in refs for _ in range(5)]
            calls += [ref.callRemote("quick") for ref in refs]
            await until(lambda: sum(each.turns.waiting for each in server.connections) == 17)
            desk.go.set()
            await asyncio.gather(*calls)
            assert (desk.most, desk.calls) == (1, 15)
            assert not turns._lines
            for ref in refs:
                await ref.broker.close()

    asyncio.run(main())


def test_one_object_may_be_made_serial_and_its_views_too() -> None:
    desk = Desk()
    assert desk.pb_concurrency == "concurrent"
    desk.pb_concurrency = "serial"
    assert pb.ViewPoint(None, desk).pb_concurrency == "serial"
    assert pb.AsReferenceable(desk).pb_concurrency == "serial"
    assert pb.ViewPoint(None, object()).pb_concurrency == "concurrent"


def test_the_line_of_a_serial_object_is_bounded() -> None:
    async def main() -> None:
        desk = Serial()
        async with served(desk, limits=LIMITS) as (_, ref):
            calls = [ref.callRemote("wait") for _ in range(6)]
            with pytest.raises(pb.PeerBusy):
                await calls[5]
            desk.go.set()
            assert await asyncio.gather(*calls[:5]) == [1, 2, 3, 4, 5]

    asyncio.run(main())


def test_the_line_goes_on_when_one_of_its_connections_ends() -> None:
    async def main() -> None:
        desk = Serial()
        async with await pb.serve(desk) as server:
            first, second, third = [await pb.connect(server.address) for _ in range(3)]
            running = first.callRemote("wait")
            await until(lambda: desk.inside == 1)
            lost = second.callRemote("wait")
            last = third.callRemote("wait")
            await until(lambda: sum(each.turns.waiting for each in server.connections) == 2)
            await second.broker.close()
            with pytest.raises(pb.PBConnectionLost):
                await lost
            await until(lambda: len(server.connections) == 2)
            desk.go.set()
            assert await asyncio.gather(running, last) == [1, 2]
            await first.broker.close()
            await third.broker.close()

    asyncio.run(main())


def test_a_method_that_has_begun_goes_on_without_its_caller() -> None:
    async def main() -> None:
        desk = Serial()
        async with await pb.serve(desk) as server:
            ref = await pb.connect(server.address)
            calls = [ref.callRemote("wait") for _ in range(2)]
            await until(lambda: desk.inside == 1)
            await ref.broker.close()
            await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: not server.connections)
            assert desk.inside == 1 and len(turns._orphans) == 1
            desk.go.set()
            await until(lambda: desk.inside == 0)
            # What had not begun never does.
            assert desk.calls == 1
            assert not turns._orphans and not turns._lines

    asyncio.run(main())


def test_of_what_runs_for_nobody_only_so_much_is_kept() -> None:
    async def main() -> None:
        desk = Desk()
        async with await pb.serve(desk, limits=LIMITS) as server:
            for _ in range(5):
                ref = await pb.connect(server.address)
                calls = [ref.callRemote("wait") for _ in range(2)]
                await ref.callRemote("echo", 1)
                await ref.broker.close()
                await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: not server.connections and desk.inside == 3)
            assert len(turns._orphans) == 3 and desk.calls == 10
            desk.go.set()
            await until(lambda: not turns._orphans)

    asyncio.run(main())


def test_methods_may_call_each_other_a_thousand_deep() -> None:
    class Caller(pb.Referenceable):
        async def remote_down(self, other: Any, depth: int) -> int:
            return 0 if depth == 0 else 1 + await other.callRemote("down", self, depth - 1)

    class Root(Caller, pb.Root):
        pass

    async def main() -> None:
        async with served(Root()) as (_, ref):
            assert await ref.callRemote("down", Caller(), 1000) == 1000

    asyncio.run(main())


def test_methods_that_call_each_other_for_ever_end() -> None:
    class Caller(pb.Referenceable):
        async def remote_down(self, other: Any) -> None:
            await other.callRemote("down", self)

    class Root(Caller, pb.Root):
        pass

    async def main() -> None:
        limits = pb.Limits(running_calls=50, queue_seconds=0.05)
        async with served(Root(), limits=limits) as (server, ref):
            with pytest.raises(pb.PeerBusy):
                await ref.callRemote("down", Caller())
            await until(lambda: not server.connections[0].turns.running)

    asyncio.run(main())
