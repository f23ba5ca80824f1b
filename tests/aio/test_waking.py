"""Tasks that wait for an answer: when they go on, and what that may not disturb."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from pbnb.aio.connection import Connection
from pbnb.aio.deferred import Deferred
from pbnb.aio.waking import may_go_on, wake
from pbnb.wire.banana import encode
from tests.aio.test_writing import Counted
from tests.support.serving import Desk, served, until

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE", default="nowhere")


def turn(act: Callable[[], object]) -> asyncio.Future[Any]:
    """Does something in a callback of the loop, as transports do; returns what comes of it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def run() -> None:
        try:
            assert asyncio.current_task() is None
            done.set_result(act())
        except Exception as error:
            done.set_exception(error)

    loop.call_soon(run)
    return done


async def sleeping(*tasks: asyncio.Task[Any]) -> None:
    """Lets tasks begin to wait."""
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


def test_one_task_goes_on_when_it_is_woken_and_not_before() -> None:
    async def main() -> None:
        deferred: Deferred[int] = Deferred()
        seen: list[int] = []

        async def wait() -> None:
            seen.append(await deferred)

        task = asyncio.create_task(wait())
        await sleeping(task)

        def give() -> None:
            sleeper = deferred.give(1, may_go_on)
            assert sleeper is not None and deferred.done() and seen == []
            wake(sleeper)
            assert seen == [1] and task.done()

        await turn(give)

    asyncio.run(main())


async def _two(deferred: Deferred[int]) -> list[Any]:
    return [asyncio.create_task(_wait(deferred)) for _ in range(2)]


async def _gathered(deferred: Deferred[int]) -> list[Any]:
    return [asyncio.gather(deferred)]


async def _with_a_step(deferred: Deferred[int]) -> list[Any]:
    deferred.addCallback(lambda n: n)
    return [asyncio.create_task(_wait(deferred))]


async def _elsewhere(deferred: Deferred[int]) -> list[Any]:
    return [asyncio.create_task(asyncio.to_thread(asyncio.run, _wait(deferred)))]


async def _wait(deferred: Deferred[int]) -> int:
    return await deferred


@pytest.mark.parametrize("waiting", [_two, _gathered, _with_a_step, _elsewhere])
def test_whoever_else_waits_is_woken_in_a_turn_of_its_own(
    waiting: Callable[[Deferred[int]], Awaitable[list[Any]]],
) -> None:
    async def main() -> None:
        deferred: Deferred[int] = Deferred()
        waiters = await waiting(deferred)
        await until(deferred.awaited_in)
        await sleeping(*waiters)
        assert await turn(lambda: deferred.give(1, may_go_on)) is None
        results = await asyncio.gather(*waiters)
        assert results in ([1], [1, 1], [[1]])

    asyncio.run(main())


def test_those_who_wait_are_woken_in_order() -> None:
    async def main() -> None:
        deferred: Deferred[int] = Deferred()
        seen: list[str] = []

        async def wait(name: str) -> None:
            await deferred
            seen.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in "abc"]
        await sleeping(*tasks)
        await turn(lambda: deferred.give(1, may_go_on))
        await asyncio.gather(*tasks)
        assert seen == ["a", "b", "c"]

    asyncio.run(main())


def test_another_thread_may_take_who_waits_meanwhile() -> None:
    class Taken(list[Any]):
        def pop(self, *at: Any) -> Any:
            self.clear()
            return super().pop(*at)

    async def main() -> None:
        deferred: Deferred[int] = Deferred()
        task = asyncio.create_task(_wait(deferred))
        await sleeping(task)
        waiters, deferred._waiters = deferred._waiters, Taken(deferred._waiters or ())
        assert await turn(lambda: deferred.give(1, may_go_on)) is None
        assert waiters is not None
        deferred._waiters = waiters
        deferred._wake()
        assert await task == 1

    asyncio.run(main())


class Faulty:
    """Something to wait for at which nobody can wait."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._asyncio_future_blocking = False

    get_loop = staticmethod(asyncio.get_running_loop)

    def add_done_callback(self, callback: Callable[..., object], **options: object) -> None:
        self.wake = callback
        raise self._error

    def result(self) -> None:
        """Returns nothing."""

    def __await__(self) -> Iterator[Any]:
        self._asyncio_future_blocking = True
        yield self


@pytest.mark.parametrize("error", [ValueError("faulty"), RuntimeError("faulty")])
def test_what_a_task_lets_out_is_told_as_always(error: Exception) -> None:
    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, told_of: told.append(told_of))
        faulty = Faulty(error)
        async with served(Desk()) as (_, ref):

            async def wait() -> None:
                await ref.callRemote("echo", 1)
                await faulty

            task = asyncio.create_task(wait())
            await until(lambda: bool(told))
            assert [each["exception"] for each in told] == [error]
            assert not task.done()
            assert await ref.callRemote("echo", 2) == 2
            assert not task.done()  # nobody has woken it
            asyncio.get_running_loop().call_soon(faulty.wake, faulty)
            await task

    asyncio.run(main())


def test_nobody_need_wait() -> None:
    async def main() -> None:
        deferred: Deferred[int] = Deferred()
        assert deferred.give(1, may_go_on) is None
        assert await deferred == 1
        cancelled: Deferred[int] = Deferred()
        cancelled.cancel()
        assert cancelled.give(1, may_go_on) is None

    asyncio.run(main())


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_loop_as_it_always_does(interrupt: type[BaseException]) -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            await ref.callRemote("echo", 1)
            raise interrupt

    with pytest.raises(interrupt):
        asyncio.run(main())


def test_what_a_task_raises_is_its_own() -> None:
    async def fails(ref: Any) -> None:
        await ref.callRemote("echo", 1)
        raise ValueError("of the task")

    async def main() -> None:
        async with served(Desk()) as (_, ref):
            with pytest.raises(ValueError, match="of the task"):
                await asyncio.create_task(fails(ref))
            assert await ref.callRemote("echo", 2) == 2

    asyncio.run(main())


def test_a_task_whose_context_is_in_use_goes_on_later() -> None:
    """As in a loop that is nested in something of the same context."""

    async def main() -> None:
        deferred: Deferred[int] = Deferred()
        context = contextvars.copy_context()
        context.run(WHERE.set, "its own")

        async def wait() -> tuple[int, str]:
            return await deferred, WHERE.get()

        task = asyncio.create_task(wait(), context=context)
        await sleeping(task)

        def give() -> None:
            sleeper = deferred.give(1, may_go_on)
            assert sleeper is not None
            wake(sleeper)
            assert not task.done()

        await turn(lambda: context.run(give))
        assert await task == (1, "its own")

    asyncio.run(main())


# On a connection

OPENING = encode(b"pb", None) + encode([b"version", 6])


def calling() -> tuple[Connection, Counted]:
    connection, wire = Connection(listening=True, dialects=("pb",)), Counted()
    wire.protocol = connection
    connection.connection_made(wire)
    connection.data_received(OPENING)
    wire.writes.clear()
    return connection, wire


def answer(number: int, value: int) -> bytes:
    return encode([b"answer", number, value])


def receive(connection: Connection, data: bytes) -> None:
    """Receives bytes as from a transport."""
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


def test_the_next_call_is_on_its_way_before_the_loop_turns() -> None:
    async def main() -> None:
        connection, wire = calling()
        root = connection.root()

        async def ask() -> list[int]:
            return [await root.callRemote("echo", n) for n in range(3)]

        task = asyncio.create_task(ask())
        await sleeping(task)
        for number in range(1, 4):
            assert len(wire.writes) == number
            await turn(lambda number=number: receive(connection, answer(number, 7)))
        assert await task == [7, 7, 7]
        connection.connection_lost(None)

    asyncio.run(main())


def test_answers_of_one_segment_wake_their_tasks_in_order() -> None:
    async def main() -> None:
        connection, _ = calling()
        root, seen = connection.root(), []

        async def ask(number: int) -> None:
            await root.callRemote("echo", number)
            seen.append(number)

        tasks = [asyncio.create_task(ask(number)) for number in range(1, 6)]
        await sleeping(*tasks)
        answers = b"".join(answer(number, 0) for number in range(1, 6))
        await turn(lambda: receive(connection, answers))
        await asyncio.gather(*tasks)
        assert seen == [1, 2, 3, 4, 5]
        connection.connection_lost(None)

    asyncio.run(main())


def test_what_is_queued_goes_out_before_a_task_goes_on() -> None:
    """It may run a nested loop, and its peer wait for what was queued."""

    async def main() -> None:
        connection, wire = calling()
        root = connection.root()

        async def ask() -> bytes:
            await root.callRemote("echo", 1)
            return bytes(wire.written)

        task = asyncio.create_task(ask())
        await sleeping(task)
        other = root.callRemote("echo", 2)
        other.addErrback(lambda failure: None)
        await asyncio.sleep(0)

        def say_and_receive() -> None:
            before = len(wire.writes)
            root.remote_only("echo", 99)
            assert len(wire.writes) == before
            receive(connection, answer(1, 0))

        await turn(say_and_receive)
        assert encode([b"tuple", 99]) in await task
        assert not other.done()
        connection.connection_lost(None)

    asyncio.run(main())


def test_a_task_that_goes_on_may_run_a_nested_loop() -> None:
    async def main() -> None:
        connection, _ = calling()
        root = connection.root()

        async def ask() -> list[int]:
            first = await root.callRemote("echo", 1)
            second = root.callRemote("echo", 2)
            # What a nested loop would do: it receives the answer.
            receive(connection, answer(2, 20))
            assert second.done()
            return [first, second.result()]

        task = asyncio.create_task(ask())
        await sleeping(task)
        await turn(lambda: receive(connection, answer(1, 10)))
        assert await task == [10, 20]
        connection.connection_lost(None)

    asyncio.run(main())


def test_a_task_that_ends_the_connection_when_it_goes_on() -> None:
    async def main() -> None:
        connection, _ = calling()

        async def ask() -> int:
            found: int = await connection.root().callRemote("echo", 1)
            connection.connection_lost(None)
            return found

        task = asyncio.create_task(ask())
        await sleeping(task)
        await turn(lambda: receive(connection, answer(1, 10)))
        assert await task == 10

    asyncio.run(main())


def test_no_task_goes_on_within_another() -> None:
    async def main() -> None:
        connection, _ = calling()
        seen: list[int] = []

        async def ask() -> None:
            seen.append(await connection.root().callRemote("echo", 1))

        task = asyncio.create_task(ask())
        await sleeping(task)
        receive(connection, answer(1, 10))  # from this task, as a nested loop would
        assert seen == []
        await task
        assert seen == [10]
        connection.connection_lost(None)

    asyncio.run(main())


def test_a_call_that_came_before_is_handled_first() -> None:
    async def main() -> None:
        connection, wire = calling()
        seen: list[Any] = []

        async def ask() -> None:
            await connection.root().callRemote("echo", 1)
            seen.append(bytes(wire.written))

        task = asyncio.create_task(ask())
        await sleeping(task)
        call = encode([b"message", 7, b"nobody", b"echo", 1, [b"tuple"], [b"dictionary"]])
        await turn(lambda: receive(connection, call + answer(1, 0)))
        await task
        (written,) = seen
        assert b"Traceback unavailable" in written  # the error that answers the call
        connection.connection_lost(None)

    asyncio.run(main())


def test_others_that_asyncio_wants_woken_get_a_turn_of_their_own() -> None:
    async def main() -> None:
        connection, _ = calling()
        seen: list[Any] = []
        answered = connection.root().callRemote("echo", 1)
        answered.add_done_callback(seen.append)
        await asyncio.sleep(0)

        def read() -> None:
            receive(connection, answer(1, 10))
            assert seen == []

        await turn(read)
        await asyncio.sleep(0)
        assert seen == [answered]
        connection.connection_lost(None)

    asyncio.run(main())


def test_a_reference_is_gone_when_the_task_that_got_it_lets_it_go() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):

            async def got() -> bool:
                thing = await ref.callRemote("thing")
                await thing.callRemote("twice", 1)
                gone = weakref.ref(thing)
                del thing
                return gone() is None

            assert await asyncio.create_task(got())

    asyncio.run(main())
