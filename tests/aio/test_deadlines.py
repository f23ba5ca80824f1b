"""Deadlines: on a reference, around a block, of a connection; one timer for all."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.deadlines import Deadlines, seconds_for
from pbnb.protocol.events import PendingCall
from tests.support.serving import served, tables, until


class Desk(pb.Root):
    def __init__(self) -> None:
        self.ended: list[str] = []

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_is_me(self, value: Any) -> bool:
        return value is self

    async def remote_never(self, value: Any = None) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    def remote_deferred(self) -> pb.Deferred[Any]:
        return pb.Deferred(lambda deferred: self.ended.append("deferred"))

    async def remote_late(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return ""


def test_a_call_in_a_block_ends_and_says_whose_it_was() -> None:
    desk = Desk()

    async def main() -> None:
        async with served(desk) as (server, ref):
            (far,) = server.connections
            with pb.deadline(0.02), pytest.raises(TimeoutError) as caught:
                await ref.callRemote("never", pb.Referenceable())
            assert type(caught.value) is pb.DeadlineExceeded
            assert str(caught.value) == (
                f"never() at {server.address} was not answered within 0.02 s"
            )
            await until(lambda: not tables(far, ref.broker) and not far.turns.running)
            assert await ref.callRemote("echo", 1) == 1

    asyncio.run(main())
    assert desk.ended == ["cancelled"]


def test_a_reference_keeps_its_deadline_and_is_the_same_object() -> None:
    desk = Desk()

    async def main() -> None:
        async with served(desk) as (_, ref):
            hasty = ref.with_deadline(0.02)
            with pytest.raises(pb.DeadlineExceeded):
                await hasty.callRemote("deferred")
            assert hasty == ref and hash(hasty) == hash(ref)
            assert await ref.with_deadline(60).callRemote("is_me", hasty)
            await until(lambda: desk.ended == ["deferred"])

    asyncio.run(main())


def test_a_reference_with_a_deadline_holds_the_object_at_the_peer() -> None:
    class Giver(pb.Root):
        def remote_give(self) -> pb.Referenceable:
            return Desk()

    async def main() -> None:
        async with served(Giver()) as (server, ref):
            (far,) = server.connections
            hasty = (await ref.callRemote("give")).with_deadline(9)
            gc.collect()
            assert await hasty.callRemote("echo", 3) == 3
            del hasty
            await until(lambda: not tables(far, ref.broker))

    asyncio.run(main())


def test_a_connection_has_a_deadline_of_its_own() -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            ref = await pb.connect(server.address, limits=pb.Limits(call_seconds=0.02))
            with pytest.raises(pb.DeadlineExceeded):
                await ref.callRemote("never")
            with pb.deadline(60):
                call = ref.callRemote("never")
            with pytest.raises(pb.DeadlineExceeded):
                await ref.callRemote("never")
            assert not call.called
            call.cancel()
            await ref.broker.close()

    asyncio.run(main())


def test_which_deadline_counts() -> None:
    assert seconds_for(None, 7) == 7
    assert seconds_for(5, 7) == 5
    with pb.deadline(6):
        assert seconds_for(None, 1) == 6
        assert seconds_for(5, 1) == 5
        assert seconds_for(9, 1) == 6
        with pb.deadline(8):
            assert seconds_for(None, 1) == 8
        assert seconds_for(None, 1) == 6
    assert seconds_for(None, 7) == 7


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_deadline_lies_ahead(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"), pb.deadline(seconds):
        pass

    class Peer:
        call = call_only = watch = unwatch = gone = None

    with pytest.raises(ValueError, match="above 0"):
        pb.RemoteReference(Peer(), 1).with_deadline(seconds)  # type: ignore[arg-type]


def test_what_was_begun_in_a_block_outlives_it_without_its_deadline() -> None:
    async def main() -> None:
        found: list[float] = []
        go = asyncio.Event()

        async def task() -> None:
            await go.wait()
            found.append(seconds_for(None, 7))

        with pb.deadline(5):
            begun = asyncio.ensure_future(task())
        go.set()
        await begun
        assert found == [7]

    asyncio.run(main())


def test_an_answer_after_the_deadline_is_read_and_dropped() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            with pb.deadline(0.02), pytest.raises(pb.DeadlineExceeded):
                await ref.callRemote("late")
            await until(lambda: not ref.broker.machine.pending)
            assert await ref.callRemote("echo", 2) == 2
            assert ref.broker.error is None

    asyncio.run(main())


def test_a_deadline_holds_for_a_call_from_another_thread() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):

            def work() -> None:
                async def call() -> None:
                    with pb.deadline(0.05):
                        waiting = ref.callRemote("never")
                    with pytest.raises(pb.DeadlineExceeded):
                        await waiting

                asyncio.run(call())

            await asyncio.to_thread(work)
            assert threading.active_count() >= 1
            await until(lambda: not ref.broker.machine.pending)

    asyncio.run(main())


def test_calls_of_one_burst_all_end() -> None:
    async def main() -> None:
        async with served(Desk(), limits=pb.Limits(queue_seconds=9)) as (server, ref):
            (far,) = server.connections
            with pb.deadline(0.05):
                calls = [ref.callRemote("never") for _ in range(1500)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(each) for each in found} == {pb.DeadlineExceeded}
            await until(lambda: not tables(far, ref.broker) and not far.turns.running)
            assert not far.turns.waiting
            assert not ref.broker.asking.deadlines

    asyncio.run(main())


def test_the_table_is_swept_of_what_was_answered() -> None:
    async def main() -> None:
        loop, expired = asyncio.get_running_loop(), []
        table = Deadlines(lambda call, seconds: expired.append(call))
        for number in range(5000):
            call = PendingCall(number, None, "echo", [])  # type: ignore[arg-type]
            table.add(call, 60, loop)
        assert len(table) <= 2048
        waiting = PendingCall(9999, None, "echo", [])  # type: ignore[arg-type]
        waiting.waiter = object()
        table.add(waiting, 0.01, loop)
        began = time.monotonic()
        await until(lambda: bool(expired))
        assert expired == [waiting] and time.monotonic() >= began
        assert not table
        table.clear()

    asyncio.run(main())


def test_a_snapshot_says_when_a_call_will_be_given_up() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            with pb.deadline(60):
                limited = ref.callRemote("never")
            unlimited = ref.callRemote("never")
            now = asyncio.get_running_loop().time()
            first, second = ref.broker.snapshot().pending
            assert now < first.deadline <= now + 60 and second.deadline is None
            for each in (limited, unlimited):
                each.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await each

    asyncio.run(main())
