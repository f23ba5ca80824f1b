"""The calls of this side: how they are made, in any thread, and how each of them ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pbnb as pb
from tests.support.processes import ran
from tests.support.serving import Desk, Thing, served, tables, until


def test_calls_in_both_directions_and_counts_back_to_zero() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            (far,) = server.connections
            thing = await ref.callRemote("thing")
            assert await thing.callRemote("twice", 21) == 42
            assert await ref.callRemote("relay", Thing(), 4) == 8
            mine = Thing()
            assert await ref.callRemote("echo", mine) is mine
            assert await ref.callRemote("echo", thing) == thing
            del thing, mine
            await until(lambda: not tables(far, ref.broker))

    asyncio.run(main())


def test_many_calls_in_flight_are_answered_in_order() -> None:
    async def main() -> list[int]:
        async with served(Desk()) as (_, ref):
            return await asyncio.gather(*(ref.callRemote("echo", n) for n in range(1000)))

    assert asyncio.run(main()) == list(range(1000))


def test_a_call_without_an_answer_leaves_nothing_pending() -> None:
    desk = Desk()

    async def main() -> None:
        async with served(desk) as (_, ref):
            assert ref.remote_only("note", 1) is None
            ref.remoteMethod("note")(2)
            await until(lambda: desk.notes == [1, 2] and not ref.broker.machine.pending)

    asyncio.run(main())


def test_an_argument_that_cannot_be_sent_fails_the_deferred() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            for value in (object(), 2**500, -(2**450)):
                deferred = ref.callRemote("echo", value)
                with pytest.raises((pb.InsecureJelly, pb.BananaError)):
                    await deferred
            with pytest.raises(pb.InsecureJelly):
                ref.remote_only("echo", object())
            assert not tables(ref.broker)
            assert await ref.callRemote("echo", 1) == 1

    asyncio.run(main())


@pytest.mark.parametrize("option", ["pbanswer", "pbcallback", "pberrback"])
def test_the_options_that_pb_once_took_say_what_replaces_them(option: str) -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            with pytest.raises(TypeError, match="remote_only"):
                ref.callRemote("echo", 1, **{option: False})

    asyncio.run(main())


def test_what_was_let_go_before_a_call_is_let_go_there_before_it() -> None:
    class Counting(Desk):
        def rootObject(self, broker: Any) -> Any:
            self.broker = broker
            return self

        def remote_lent(self) -> int:
            return len(list(self.broker.machine.refs.lent()))

    async def main() -> None:
        async with served(Counting()) as (_, ref):
            thing = await ref.callRemote("thing")
            assert await ref.callRemote("lent") == 1
            del thing
            assert await ref.callRemote("lent") == 0  # without a turn of the loop in between

    asyncio.run(main())


# Threads


def test_calls_may_be_made_from_any_thread() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):

            def work() -> list[Any]:
                async def calls() -> list[Any]:
                    found = [await ref.callRemote("echo", n) for n in range(20)]
                    with pytest.raises(pb.InsecureJelly):
                        await ref.callRemote("echo", object())
                    return found

                return asyncio.run(calls())

            results = await asyncio.gather(*(asyncio.to_thread(work) for _ in range(4)))
            assert results == [list(range(20))] * 4

    asyncio.run(main())


def test_a_call_that_is_cancelled_is_forgotten_and_the_connection_goes_on() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ref.callRemote("never"), 0.01)
            deferred = ref.callRemote("echo", 1)
            deferred.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deferred
            assert await ref.callRemote("echo", 2) == 2
            assert not ref.broker.machine.pending  # never was cancelled there too

    asyncio.run(main())


# The end


def test_every_pending_call_fails_when_the_connection_ends() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            calls = [ref.callRemote("never") for _ in range(3)]
            await ref.callRemote("echo", 1)
            server.connections[0].abort()
            for call in calls:
                with pytest.raises(pb.PBConnectionLost, match=r"never\(\) was pending"):
                    await call
            assert not tables(ref.broker)
            with pytest.raises(pb.DeadReferenceError, match="Stale"):
                ref.callRemote("echo", 1)
            with pytest.raises(pb.DeadReferenceError):
                ref.remote_only("echo", 1)

    asyncio.run(main())


# Large arguments and answers


@pytest.mark.parametrize(
    ("where", "address"), [("127.0.0.1", "address"), ("0.0.0.0", "invitation")]
)
def test_a_loop_that_is_nested_behind_an_answer_reads_the_next_one(
    where: str, address: str
) -> None:
    """Loops are nested for the whole process, which has to be another one."""
    script = f"""
        import asyncio, nest_asyncio2
        import pbnb as pb

        class Echo(pb.Root):
            def remote_echo(self, value):
                return value

        async def ask(ref):
            return await ref.callRemote("echo", 2)

        async def main():
            async with await pb.serve(Echo(), host="{where}", thread=True) as server:
                ref = await pb.connect(server.{address})
                first = await ref.callRemote("echo", 1)
                nest_asyncio2.apply()
                loop = asyncio.get_running_loop()
                second = loop.run_until_complete(asyncio.wait_for(ask(ref), 20))
                third = await ref.callRemote("echo", 3)
                fourth = loop.run_until_complete(ref.callRemote("echo", 4))
                print(first, second, third, fourth)
                await ref.broker.close()

        asyncio.run(main())
    """
    assert ran(script) == ("1 2 3 4\n", "")


def test_a_call_may_be_cancelled_in_one_thread_while_it_is_answered_in_another() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            answer: Any = ref.callRemote("echo", 1)
            give = answer.give

            def cancelled_first(*given: object) -> Any:
                # What another thread does between the look at who waits and the answer.
                assert answer.cancel()
                return give(*given)

            type(answer).give = lambda self, *given: cancelled_first(*given)
            try:
                done, _ = await asyncio.wait([answer], timeout=10)
            finally:
                del type(answer).give
            assert done and answer.cancelled()
            assert await ref.callRemote("echo", 2) == 2

    asyncio.run(main())


LARGE = bytes(64_000_000)


def test_a_call_that_is_cancelled_while_it_is_sent_is_given_up() -> None:
    async def main() -> None:
        desk = Desk()
        async with served(desk) as (server, ref):
            call = ref.callRemote("note", LARGE)
            (row,) = ref.broker.snapshot().transfers
            assert (row.method, row.outgoing, row.size) == ("note", True, len(LARGE))
            assert row.done < row.size
            call.cancel()
            assert ref.broker.snapshot().transfers == ()
            assert tables(ref.broker) == []
            assert await ref.callRemote("echo", "alive") == "alive"
            (other,) = server.connections
            assert other.snapshot().transfers == ()
            assert desk.notes == []

    asyncio.run(main())


def test_a_large_call_that_exceeds_its_deadline_is_given_up() -> None:
    async def main() -> None:
        desk = Desk()
        async with served(desk) as (_, ref):
            with pytest.raises(TimeoutError):
                await ref.with_deadline(0.0001).callRemote("note", LARGE)
            assert await ref.callRemote("echo", "alive") == "alive"
            assert desk.notes == []

    asyncio.run(main())


def test_an_answer_that_nobody_waits_for_any_more_is_given_up() -> None:
    class Camera(pb.Root):
        def remote_picture(self) -> bytes:
            return LARGE

    async def main() -> None:
        async with served(Camera()) as (server, ref):
            call = ref.callRemote("picture")
            await until(lambda: bool(ref.broker.snapshot().transfers))
            (row,) = ref.broker.snapshot().transfers
            assert (row.method, row.outgoing, row.size) == ("picture", False, len(LARGE))
            received = ref.broker.bytes_received
            call.cancel()
            await until(lambda: not ref.broker.machine.pending)
            (other,) = server.connections
            assert ref.broker.snapshot().transfers == other.snapshot().transfers == ()
            assert ref.broker.bytes_received - received < len(LARGE)
            assert await ref.callRemote("picture") == LARGE

    asyncio.run(main())


def test_short_calls_go_on_while_something_large_is_on_its_way() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            large = ref.callRemote("echo", bytes(256 * 1024 * 1024))
            count = 0
            while not large.called:
                assert await ref.callRemote("echo", count) == count
                count += 1
            assert len(await large) == 256 * 1024 * 1024
            assert count > 20

    asyncio.run(main())
