"""Deferreds: their callbacks as PB knows them, and what asyncio makes of them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from pbnb.aio.deferred import (
    AlreadyCalledError,
    Deferred,
    fail,
    gatherResults,
    maybeDeferred,
    succeed,
)
from pbnb.errors import Error, LocalProtocolError
from pbnb.failure import CopiedFailure, Failure, RemoteError
from tests.support.processes import ran

MANY = 10_000


class Seen(list[Any]):
    """What callbacks were given, in order."""

    def __call__(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        self.append(result)
        return result


def remote(name: str = "builtins.KeyError", value: str = "k") -> CopiedFailure:
    return CopiedFailure(type=name, value=value, parents=[name])


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs an async test in a loop of its own, where anything left unhandled is a failure."""

    def run() -> None:
        problems: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, what: problems.append(what))
            await test()

        asyncio.run(main())
        gc.collect()
        assert problems == []

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


async def tick() -> None:
    await asyncio.sleep(0)


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns a function that returns what was logged since, once all garbage is collected."""

    def logged() -> list[str]:
        gc.collect()
        messages = [record.getMessage() for record in caplog.records if record.name == "pbnb"]
        caplog.clear()
        return messages

    caplog.set_level(logging.DEBUG, logger="pbnb")
    return logged


# Chains


def test_callbacks_run_when_the_result_arrives_in_order() -> None:
    order: list[Any] = []
    deferred: Deferred[int] = Deferred()
    deferred.addCallback(lambda n: order.append(("first", n)) or n + 1)
    deferred.addCallback(lambda n: order.append(("second", n)) or n + 1)
    assert order == []
    deferred.callback(1)
    assert order == [("first", 1), ("second", 2)]
    assert deferred.result() == 3


def test_a_callback_that_is_added_late_runs_at_once() -> None:
    seen = Seen()
    assert succeed(1).addCallback(seen).result() == 1
    assert seen == [1]


def test_adding_returns_the_deferred_itself() -> None:
    deferred: Deferred[int] = Deferred()
    assert deferred.addCallback(Seen()) is deferred
    assert deferred.addErrback(Seen()) is deferred
    assert deferred.addBoth(Seen()) is deferred
    assert deferred.addCallbacks(Seen()) is deferred


def test_a_failure_skips_callbacks_and_a_value_skips_errbacks() -> None:
    order: list[Any] = []
    deferred: Deferred[int] = Deferred()
    deferred.addErrback(lambda _: order.append("skipped"))
    deferred.addCallback(lambda n: 1 // n)
    deferred.addCallback(lambda _: order.append("skipped too"))
    deferred.addErrback(lambda f: order.append(f.check(ZeroDivisionError)) or 7)
    deferred.addErrback(lambda _: order.append("skipped as well"))
    deferred.addCallback(order.append)
    deferred.callback(0)
    assert order == [ZeroDivisionError, 7]


def test_add_callbacks_runs_one_of_two_and_neither_for_the_other() -> None:
    for start, expected in ((5, ["callback"]), (KeyError("k"), ["errback"])):
        order: list[str] = []

        def callback(_: Any, order: list[str] = order) -> None:
            order.append("callback")
            raise ValueError

        def errback(_: Any, order: list[str] = order) -> None:
            order.append("errback")

        deferred = fail(start) if isinstance(start, Exception) else succeed(start)
        deferred.addCallbacks(callback, errback)
        deferred.addErrback(lambda f: f.trap(ValueError))
        assert order == expected


def test_add_both_gets_either() -> None:
    seen = Seen()
    failure = Failure(KeyError("k"))
    succeed(1).addBoth(seen)
    fail(failure).addBoth(seen).addErrback(lambda _: None)
    assert seen == [1, failure]


def test_arguments_follow_the_result() -> None:
    got: list[Any] = []

    def note(*args: Any, **kwargs: Any) -> None:
        got.append((args[1:], kwargs))

    succeed(0).addCallback(note, 1, callback=2, self=3)
    fail(KeyError()).addErrback(note, 1, errback=2)
    succeed(0).addBoth(note, 1, a=2)
    succeed(0).addCallbacks(note, note, (1,), {"a": 2}, (3,), {"b": 4})
    fail(KeyError()).addCallbacks(note, note, (1,), {"a": 2}, (3,), {"b": 4})
    fail(KeyError()).addCallbacks(note, note, None, None, errbackArgs=[5])
    assert got == [
        ((1,), {"callback": 2, "self": 3}),
        ((1,), {"errback": 2}),
        ((1,), {"a": 2}),
        ((1,), {"a": 2}),
        ((3,), {"b": 4}),
        ((5,), {}),
    ]


def test_a_returned_failure_is_a_failure() -> None:
    failure = Failure(KeyError("k"))
    seen = Seen()
    succeed(1).addCallback(lambda _: failure).addErrback(seen).addErrback(lambda _: None)
    assert seen == [failure]


@pytest.mark.parametrize("failure", [Failure(KeyError("k")), remote()], ids=["local", "copied"])
def test_trap_without_a_match_passes_the_same_failure_on(failure: Failure) -> None:
    seen = Seen()
    deferred = fail(failure).addErrback(lambda f: f.trap(ValueError)).addErrback(seen)
    deferred.addErrback(lambda f: f.trap(KeyError))
    assert seen == [failure]
    assert seen[0] is failure
    assert deferred.result() is KeyError


def test_an_errback_that_raises_makes_a_new_failure() -> None:
    seen = Seen()

    def worse(_: Failure) -> None:
        raise ValueError("worse")

    fail(KeyError("k")).addErrback(worse).addErrback(seen).addErrback(lambda _: None)
    assert seen[0].check(ValueError)


def test_the_traceback_of_a_callback_begins_with_the_callback() -> None:
    seen = Seen()
    succeed(0).addCallback(lambda n: 1 // n).addErrback(seen).addErrback(lambda _: None)
    assert [frame.name for frame in traceback.extract_tb(seen[0].tb)] == ["<lambda>"]


def test_a_second_result_is_refused() -> None:
    deferred = succeed(1)
    with pytest.raises(AlreadyCalledError, match=r"<Deferred result: 1>"):
        deferred.callback(2)
    with pytest.raises(AlreadyCalledError):
        deferred.errback(KeyError("k"))
    assert deferred.result() == 1


def test_errback_takes_failures_exceptions_and_what_is_being_handled() -> None:
    failure, error = Failure(KeyError("k")), ValueError("v")
    assert fail(failure).exception() is failure.value
    assert fail(error).exception() is error
    try:
        raise error
    except ValueError:
        assert fail().exception() is error
    with pytest.raises(LocalProtocolError):
        fail()
    with pytest.raises(TypeError):
        fail("text")  # type: ignore[arg-type]


def test_a_remote_error_given_to_errback_keeps_the_peers_failure() -> None:
    failure = remote()
    seen = Seen()
    fail(failure.exception()).addErrback(seen).addErrback(lambda _: None)
    assert seen[0] is failure


def test_a_deferred_is_no_result() -> None:
    deferred: Deferred[Any] = Deferred()
    with pytest.raises(LocalProtocolError, match="chainDeferred"):
        deferred.callback(Deferred())
    assert not deferred.called


def test_called_says_whether_a_result_was_given() -> None:
    deferred: Deferred[int] = Deferred()
    assert not deferred.called
    deferred.callback(1)
    assert deferred.called


def test_a_callback_added_by_a_callback_runs_after_those_before_it() -> None:
    order: list[str] = []
    deferred: Deferred[None] = Deferred()

    def first(_: Any) -> None:
        deferred.addCallback(lambda _: order.append("third"))
        order.append("first")

    deferred.addCallback(first)
    deferred.addCallback(lambda _: order.append("second"))
    deferred.callback(None)
    assert order == ["first", "second", "third"]


def test_an_interrupt_reaches_who_waits_and_then_goes_its_way(
    reports: Callable[[], list[str]],
) -> None:
    seen = Seen()
    deferred: Deferred[int] = Deferred()

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    deferred.addCallback(interrupted).addErrback(seen)
    with pytest.raises(KeyboardInterrupt):
        deferred.callback(1)
    assert seen[0].check(KeyboardInterrupt)
    assert isinstance(deferred.exception(), KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        succeed(1).addCallback(interrupted)
    assert reports() == []  # it was raised: nothing more is to be said


# Waiting for other results


def test_a_returned_deferred_holds_the_chain_until_it_has_a_result() -> None:
    inner: Deferred[int] = Deferred()
    seen = Seen()
    outer = succeed(1).addCallback(lambda _: inner).addCallback(seen)
    assert seen == []
    assert not outer.done()
    inner.callback(2)
    assert seen == [2]
    assert outer.result() == 2


def test_a_returned_deferred_that_has_a_result_holds_nothing() -> None:
    assert succeed(1).addCallback(lambda _: succeed(2)).result() == 2
    failed = succeed(1).addCallback(lambda _: fail(KeyError("k")))
    assert isinstance(failed.exception(), KeyError)


def test_a_failure_of_the_inner_deferred_is_the_outers() -> None:
    inner: Deferred[int] = Deferred()
    outer = succeed(1).addCallback(lambda _: inner).addErrback(lambda f: f.trap(KeyError))
    inner.errback(KeyError("k"))
    assert outer.result() is KeyError
    assert isinstance(inner.exception(), KeyError)


def test_the_outer_gets_what_the_inner_has_when_it_was_returned() -> None:
    inner: Deferred[int] = Deferred()
    inner.addCallback(lambda n: n + 1)
    outer = succeed(0).addCallback(lambda _: inner)
    inner.addCallback(lambda n: n * 100)
    inner.callback(1)
    assert (outer.result(), inner.result()) == (2, 200)


def test_a_deferred_that_was_held_once_can_be_held_again() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()
    outer = succeed(0).addCallback(lambda _: first).addCallback(lambda n: second)
    first.callback(1)
    assert not outer.done()
    second.callback(2)
    assert outer.result() == 2


def test_a_deferred_that_returns_itself_fails_instead_of_waiting_for_ever() -> None:
    deferred: Deferred[Any] = Deferred()
    deferred.addCallback(lambda _: deferred)
    deferred.callback(1)
    with pytest.raises(LocalProtocolError):
        deferred.result()


def test_deferreds_that_would_wait_for_each_other_fail_too() -> None:
    chain: list[Deferred[Any]] = [Deferred() for _ in range(3)]
    for number, deferred in enumerate(chain):
        deferred.addCallback(lambda _, number=number: chain[(number + 1) % 3])
    for deferred in chain:
        deferred.callback(None)
    # The last one fails, and the others with it, as they wait for it.
    assert all(isinstance(deferred.exception(), LocalProtocolError) for deferred in chain)
    assert not any(deferred.cancel() for deferred in chain)


def test_two_can_wait_for_one() -> None:
    inner: Deferred[int] = Deferred()
    outers = [succeed(0).addCallback(lambda _: inner) for _ in range(2)]
    inner.callback(5)
    assert [outer.result() for outer in outers] == [5, 5]


def test_pause_holds_the_chain_until_unpaused_as_often() -> None:
    seen = Seen()
    deferred: Deferred[int] = Deferred()
    deferred.addCallback(seen)
    deferred.pause()
    deferred.pause()
    deferred.callback(1)
    deferred.unpause()
    assert seen == []
    assert not deferred.done()
    deferred.unpause()
    assert seen == [1]
    assert deferred.done()


def test_a_callback_can_pause_its_own_chain() -> None:
    seen = Seen()
    deferred: Deferred[int] = Deferred()
    deferred.addCallback(lambda n: deferred.pause() or n).addCallback(seen)
    deferred.callback(1)
    assert seen == []
    deferred.unpause()
    assert seen == [1]


def test_chain_deferred_hands_over_values_and_failures() -> None:
    for fire, get in (
        (lambda d: d.callback(1), lambda d: d.result()),
        (lambda d: d.errback(KeyError("k")), lambda d: type(d.exception())),
    ):
        source: Deferred[int] = Deferred()
        target: Deferred[int] = Deferred()
        source.chainDeferred(target)
        fire(source)
        assert get(target) in (1, KeyError)
        assert source.result() is None


def test_chain_deferred_to_one_that_has_a_result_fails_the_source() -> None:
    source: Deferred[int] = Deferred()
    source.chainDeferred(succeed(1))
    source.callback(2)
    assert isinstance(source.exception(), AlreadyCalledError)


def test_thousands_of_callbacks_do_not_recurse() -> None:
    deferred: Deferred[int] = Deferred()
    for _ in range(MANY):
        deferred.addCallback(lambda n: n + 1)
    deferred.callback(0)
    assert deferred.result() == MANY


def nest(order: str) -> list[Deferred[Any]]:
    """Returns many Deferreds, fired in some order, of which each waits for the next."""
    chain: list[Deferred[Any]] = [Deferred() for _ in range(MANY)]
    for outer, inner in zip(chain, chain[1:], strict=False):
        outer.addCallback(lambda _, inner=inner: inner)
    for deferred in chain if order == "outermost first" else reversed(chain):
        deferred.callback("end")
    return chain


@pytest.mark.parametrize("order", ["outermost first", "innermost first"])
def test_thousands_of_deferreds_in_each_other_do_not_recurse(order: str) -> None:
    chain = nest(order)
    assert {deferred.result() for deferred in chain} == {"end"}
    chain.clear()
    gc.collect()


def test_thousands_of_chained_deferreds_do_not_recurse() -> None:
    chain: list[Deferred[Any]] = [Deferred() for _ in range(MANY)]
    for source, target in zip(chain, chain[1:], strict=False):
        source.chainDeferred(target)
    chain[0].callback(1)
    assert chain[-1].result() == 1


def test_many_that_wait_for_one_and_then_for_each_other_do_not_recurse() -> None:
    inner: Deferred[Any] = Deferred()
    outers: list[Deferred[Any]] = [succeed(0)]
    for _ in range(MANY):
        # Each waits for the innermost first, and then for the one that was made before it.
        outer = succeed(0).addCallback(lambda _: inner)
        outer.addCallback(lambda _, before=outers[-1]: before)
        outer.addCallback(lambda n: n + 1)
        outers.append(outer)
    inner.callback("now")
    assert [outer.result() for outer in outers] == list(range(MANY + 1))


def test_cancelling_through_thousands_of_deferreds_does_not_recurse() -> None:
    chain: list[Deferred[Any]] = [Deferred() for _ in range(MANY)]
    for outer, inner in zip(chain, chain[1:], strict=False):
        outer.addCallback(lambda _, inner=inner: inner)
    for outer in chain[:-1]:
        outer.callback(None)
    assert chain[0].cancel()
    assert all(deferred.cancelled() for deferred in chain)


@in_loop
async def test_a_returned_coroutine_holds_the_chain() -> None:
    seen = Seen()

    async def double(n: int) -> int:
        await tick()
        return n * 2

    deferred = succeed(2).addCallback(double).addCallback(seen)
    assert seen == []
    assert await deferred == 4
    assert seen == [4]


@in_loop
async def test_a_returned_coroutine_that_raises_fails_the_chain() -> None:
    failure = remote()

    async def relay(_: Any) -> None:
        raise failure.exception()

    seen = Seen()
    with pytest.raises(RemoteError):
        await succeed(0).addCallback(relay).addErrback(seen)
    assert seen[0] is failure


@in_loop
async def test_a_returned_future_holds_the_chain() -> None:
    future = asyncio.get_running_loop().create_future()
    deferred = succeed(0).addCallback(lambda _: future)
    future.set_result(5)
    assert await deferred == 5


@in_loop
async def test_a_coroutine_whose_deferred_was_dropped_runs_to_its_end() -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    sleeping: list[weakref.ref[asyncio.Future[None]]] = []

    async def work() -> None:
        future = loop.create_future()
        sleeping.append(weakref.ref(future))
        await future
        ended.set()

    maybeDeferred(work)
    await tick()
    # Nobody but the task holds the future, and a loop holds no task that sleeps.
    gc.collect()
    future = sleeping[0]()
    assert future is not None
    future.set_result(None)
    async with asyncio.timeout(10):
        await ended.wait()


def test_a_coroutine_without_a_loop_fails_the_chain() -> None:
    async def never() -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="no running event loop"):
        maybeDeferred(never).result()


# Cancelling


def test_cancelling_calls_the_canceller_and_ends_in_cancelled_error() -> None:
    seen = Seen()
    cancelled: list[Deferred[int]] = []
    deferred: Deferred[int] = Deferred(cancelled.append)
    deferred.addErrback(seen)
    assert deferred.cancel()
    assert cancelled == [deferred]
    assert seen[0].check(asyncio.CancelledError)
    assert deferred.cancelled()
    assert deferred.done()
    for get in (deferred.result, deferred.exception):
        with pytest.raises(asyncio.CancelledError):
            get()


def test_a_canceller_may_give_the_result() -> None:
    deferred: Deferred[int] = Deferred(lambda d: d.callback(5))
    assert not deferred.cancel()
    assert deferred.result() == 5
    deferred = Deferred(lambda d: d.errback(KeyError("k")))
    assert not deferred.cancel()
    assert isinstance(deferred.exception(), KeyError)


def test_a_canceller_that_fails_is_logged_and_the_deferred_cancelled(
    reports: Callable[[], list[str]],
) -> None:
    def broken(_: Deferred[int]) -> None:
        raise KeyError("k")

    deferred: Deferred[int] = Deferred(broken)
    assert deferred.cancel()
    assert deferred.cancelled()
    assert reports() == ["The canceller of a Deferred failed:"]


def test_a_late_result_after_a_cancellation_is_ignored_once() -> None:
    deferred: Deferred[int] = Deferred()
    deferred.cancel()
    deferred.callback(1)
    assert deferred.cancelled()
    with pytest.raises(AlreadyCalledError):
        deferred.callback(2)


def test_a_late_result_from_a_chained_deferred_is_ignored_too() -> None:
    source: Deferred[int] = Deferred()
    target: Deferred[int] = Deferred()
    source.chainDeferred(target)
    target.cancel()
    source.callback(1)
    assert source.result() is None
    assert target.cancelled()


def test_cancelling_what_has_a_result_does_nothing() -> None:
    deferred = succeed(1)
    assert not deferred.cancel()
    assert deferred.result() == 1


def test_an_errback_may_turn_a_cancellation_into_a_value() -> None:
    deferred: Deferred[int] = Deferred()
    deferred.addErrback(lambda f: f.trap(asyncio.CancelledError) and 7)
    assert not deferred.cancel()
    assert deferred.result() == 7


def test_cancelling_a_deferred_that_waits_cancels_the_inner_one() -> None:
    inner: Deferred[int] = Deferred()
    outer = succeed(0).addCallback(lambda _: inner)
    assert outer.cancel()
    assert inner.cancelled()
    assert outer.cancelled()


@in_loop
async def test_cancelling_a_deferred_that_waits_for_a_coroutine_cancels_its_task() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await Deferred()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    deferred = maybeDeferred(work)
    await tick()
    assert deferred.cancel("why")
    with pytest.raises(asyncio.CancelledError, match="why"):
        await deferred
    assert ended == ["cancelled"]


# Await


@in_loop
async def test_await_gives_the_value_also_twice_and_after_callbacks() -> None:
    deferred: Deferred[int] = Deferred()
    asyncio.get_running_loop().call_soon(deferred.callback, 1)
    assert await deferred == 1
    assert await deferred == 1
    deferred.addCallback(lambda n: n + 1)
    assert await deferred == 2


@in_loop
async def test_await_waits_for_the_whole_chain() -> None:
    inner: Deferred[int] = Deferred()
    outer = succeed(0).addCallback(lambda _: inner).addCallback(lambda n: n + 1)
    asyncio.get_running_loop().call_soon(inner.callback, 1)
    assert await outer == 2


@in_loop
async def test_await_waits_for_a_chain_that_goes_on_after_a_first_result() -> None:
    inner: Deferred[int] = Deferred()
    deferred: Deferred[int] = succeed(1)
    assert await deferred == 1
    deferred.addCallback(lambda _: inner)
    assert (deferred.done(), deferred.result()) == (False, 1)
    asyncio.get_running_loop().call_soon(inner.callback, 2)
    assert await deferred == 2


@in_loop
async def test_await_raises_the_original_exception_of_a_local_failure() -> None:
    error = KeyError("k")
    deferred = fail(error)
    lengths = set()
    for _ in range(3):
        with pytest.raises(KeyError) as raised:
            await deferred
        assert raised.value is error
        lengths.add(len(traceback.extract_tb(error.__traceback__)))
    assert len(lengths) == 1


@in_loop
async def test_await_raises_a_remote_error_that_is_also_the_local_class() -> None:
    class Mine(Error):
        pass

    failure = remote(f"{__name__}.Mine", "why")
    deferred: Deferred[Any] = Deferred()
    asyncio.get_running_loop().call_soon(deferred.errback, failure)
    for _ in range(2):
        with pytest.raises(Mine, match="why") as raised:
            await deferred
        assert isinstance(raised.value, RemoteError)
        assert raised.value.remoteType == failure.type


@in_loop
async def test_stop_iteration_does_not_become_a_value() -> None:
    with pytest.raises(RuntimeError):
        await fail(StopIteration(5))


@in_loop
async def test_tasks_are_woken_by_the_loop_and_not_from_within_another() -> None:
    order: list[str] = []
    deferred: Deferred[int] = Deferred()

    async def waiting(name: str) -> None:
        await deferred
        order.append(name)

    tasks = [asyncio.ensure_future(waiting(name)) for name in ("first", "second")]
    await tick()
    deferred.callback(1)
    order.append("fired")
    await asyncio.gather(*tasks)
    assert order == ["fired", "first", "second"]


@in_loop
async def test_a_callback_may_await_in_a_task_of_its_own() -> None:
    async def later() -> int:
        return await succeed(1) + 1

    assert await succeed(0).addCallback(lambda _: later()) == 2


def test_a_deferred_needs_no_loop_until_it_is_awaited() -> None:
    deferred: Deferred[int] = Deferred()
    deferred.callback(1)

    async def main() -> int:
        return await deferred

    assert asyncio.run(main()) == 1
    assert asyncio.run(main()) == 1


def test_a_result_from_another_thread_wakes_the_waiting_loop() -> None:
    async def main() -> int:
        deferred: Deferred[int] = Deferred()
        thread = threading.Thread(target=deferred.callback, args=(5,))
        asyncio.get_running_loop().call_soon(thread.start)
        async with asyncio.timeout(10):
            result = await deferred
        thread.join()
        return result

    # In debug mode a loop refuses what another thread schedules in the wrong way.
    assert asyncio.run(main(), debug=True) == 5


def test_two_loops_in_two_threads_wait_for_one_result() -> None:
    deferred: Deferred[int] = Deferred()
    waiting = threading.Barrier(3)
    results: list[int] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(waiting.wait)
        async with asyncio.timeout(10):
            results.append(await deferred)

    threads = [
        threading.Thread(target=asyncio.run, args=(main(),), kwargs={"debug": True})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    waiting.wait()
    deferred.callback(5)
    for thread in threads:
        thread.join()
    assert results == [5, 5]


def test_a_waiter_whose_loop_is_closed_hinders_nobody() -> None:
    deferred: Deferred[int] = Deferred()
    seen = Seen()

    async def main() -> None:
        deferred.add_done_callback(seen)

    asyncio.run(main())
    deferred.callback(1)
    assert deferred.result() == 1
    assert seen == []


# What asyncio does with a future


@in_loop
async def test_asyncio_takes_it_for_a_future() -> None:
    deferred: Deferred[int] = Deferred()
    assert asyncio.isfuture(deferred)
    assert asyncio.ensure_future(deferred) is deferred  # type: ignore[comparison-overlap]
    assert deferred.get_loop() is asyncio.get_running_loop()


def test_there_is_no_result_before_there_is_one() -> None:
    deferred: Deferred[int] = Deferred()
    assert not deferred.done()
    assert not deferred.cancelled()
    for get in (deferred.result, deferred.exception):
        with pytest.raises(asyncio.InvalidStateError):
            get()


def test_exception_tells_how_it_ended() -> None:
    error = KeyError("k")
    assert succeed(1).exception() is None
    assert fail(error).exception() is error
    assert isinstance(fail(remote()).exception(), RemoteError)


@in_loop
async def test_gather() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()
    loop = asyncio.get_running_loop()
    loop.call_soon(second.callback, 2)
    loop.call_soon(first.callback, 1)
    assert await asyncio.gather(first, second, first) == [1, 2, 1]
    results = await asyncio.gather(fail(KeyError("k")), succeed(1), return_exceptions=True)
    assert isinstance(results[0], KeyError)
    assert results[1] == 1


@in_loop
async def test_gather_gives_a_cancellation_as_a_result() -> None:
    for message in (None, "no longer wanted"):
        waiting: Deferred[int] = Deferred()
        gathered = asyncio.gather(waiting, succeed(1), return_exceptions=True)
        asyncio.get_running_loop().call_soon(waiting.cancel, message)
        async with asyncio.timeout(20):
            cancelled, one = await gathered
        assert isinstance(cancelled, asyncio.CancelledError) and one == 1
        assert str(cancelled) == (message or "")


@in_loop
async def test_gather_keeps_a_result_whose_chain_goes_on_meanwhile() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()
    gathered = asyncio.gather(first, second)
    first.callback(1)
    await tick()
    first.addCallback(lambda _: Deferred())
    second.callback(2)
    assert await gathered == [1, 2]


@in_loop
async def test_wait() -> None:
    fast, slow = succeed(1), Deferred[int]()
    both: Any = [fast, slow]
    done, pending = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({fast}, {slow})
    asyncio.get_running_loop().call_soon(slow.callback, 2)
    done, pending = await asyncio.wait(both)
    assert (done, pending) == ({fast, slow}, set())


@in_loop
async def test_as_completed() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()
    loop = asyncio.get_running_loop()
    loop.call_soon(second.callback, 2)
    loop.call_soon(loop.call_soon, first.callback, 1)
    assert [await one for one in asyncio.as_completed([first, second])] == [2, 1]


@in_loop
async def test_wait_for_cancels_what_comes_too_late() -> None:
    cancelled: list[Deferred[int]] = []
    deferred: Deferred[int] = Deferred(cancelled.append)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(deferred, 0.001)
    assert cancelled == [deferred]
    assert deferred.cancelled()
    deferred.callback(1)
    assert await asyncio.wait_for(succeed(1), 10) == 1


@in_loop
async def test_a_timeout_cancels_what_it_waits_for() -> None:
    deferred: Deferred[int] = Deferred()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await deferred
    assert deferred.cancelled()


@in_loop
async def test_shield_protects_it() -> None:
    deferred: Deferred[int] = Deferred()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(deferred), 0.001)
    assert not deferred.done()
    deferred.callback(1)
    assert await deferred == 1


@in_loop
async def test_cancelling_a_task_cancels_what_it_awaits() -> None:
    deferred: Deferred[int] = Deferred()

    async def waiting() -> None:
        await deferred

    task = asyncio.ensure_future(waiting())
    await tick()
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert deferred.cancelled()


@in_loop
async def test_a_canceller_that_gives_a_result_does_not_keep_the_task_alive() -> None:
    deferred: Deferred[int] = Deferred(lambda d: d.callback(5))

    async def waiting() -> int:
        return await deferred

    task = asyncio.ensure_future(waiting())
    await tick()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert deferred.result() == 5


@in_loop
async def test_done_callbacks_get_the_deferred_in_their_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    seen: list[Any] = []

    def note(deferred: Deferred[int]) -> None:
        seen.append((deferred, variable.get()))

    inside = contextvars.copy_context()
    inside.run(variable.set, "inside")
    deferred: Deferred[int] = Deferred()
    deferred.add_done_callback(note, context=inside)
    deferred.add_done_callback(note)
    variable.set("later")
    deferred.callback(1)
    assert seen == []
    await tick()
    assert seen == [(deferred, "inside"), (deferred, "outside")]
    deferred.add_done_callback(note)
    await tick()
    assert seen[2:] == [(deferred, "later")]


@in_loop
async def test_done_callbacks_can_be_removed() -> None:
    seen, kept = Seen(), Seen()
    deferred: Deferred[int] = Deferred()
    assert deferred.remove_done_callback(seen.__call__) == 0
    for function in (seen.append, kept.append, seen.append):
        deferred.add_done_callback(function)
    assert deferred.remove_done_callback(seen.append) == 2
    deferred.callback(1)
    await tick()
    assert (seen, kept) == ([], [deferred])


@pytest.mark.parametrize("nested", [False, True])
def test_it_works_with_the_tasks_of_nest_asyncio2(nested: bool) -> None:
    script = f"""
        import asyncio, nest_asyncio2
        from pbnb.aio.deferred import Deferred, maybeDeferred, succeed

        async def main():
            loop = asyncio.get_running_loop()
            assert isinstance(asyncio.current_task(), asyncio.tasks._PyTask)
            deferred = Deferred()
            loop.call_soon(deferred.callback, 1)
            if {nested}:
                assert loop.run_until_complete(deferred) == 1
            else:
                assert await deferred == 1
            async def one():
                return await succeed(1)
            assert await asyncio.gather(maybeDeferred(one), deferred, succeed(2)) == [1, 1, 2]
            try:
                await asyncio.wait_for(Deferred(), 0.001)
            except TimeoutError:
                print("fine")

        nest_asyncio2.apply()
        asyncio.run(main())
    """
    assert ran(script) == ("fine\n", "")


# Failures that nobody handled


def test_a_failure_that_nobody_handled_is_logged_once(reports: Callable[[], list[str]]) -> None:
    deferred: Deferred[int] = Deferred()
    deferred.addCallback(lambda n: 1 // n)
    deferred.callback(0)
    assert reports() == []
    del deferred
    (report,) = reports()
    assert report.startswith("Unhandled error in Deferred:\nTraceback (most recent call last):\n")
    assert report.endswith("ZeroDivisionError: integer division or modulo by zero\n")
    assert reports() == []


def test_a_peers_failure_is_logged_safe_to_show(reports: Callable[[], list[str]]) -> None:
    fail(remote(value="\x1b[31m"))
    (report,) = reports()
    assert report == (
        "Unhandled error in Deferred:\nTraceback from remote host -- builtins.KeyError: \\x1b[31m\n"
    )


def test_what_counts_as_handled(reports: Callable[[], list[str]]) -> None:
    fail(KeyError("k")).addErrback(lambda _: None)
    fail(KeyError("k")).exception()
    with pytest.raises(KeyError):
        fail(KeyError("k")).result()
    Deferred[int]().cancel()
    fail(KeyError("k")).chainDeferred(Deferred().addErrback(lambda _: None))
    succeed(0).addCallback(lambda _: fail(KeyError("k"))).addErrback(lambda _: None)

    async def awaiting() -> None:
        deferred: Deferred[int] = Deferred()
        asyncio.get_running_loop().call_soon(deferred.errback, KeyError("k"))
        with pytest.raises(KeyError):
            await deferred
        with pytest.raises(KeyError):
            await fail(KeyError("k"))

    asyncio.run(awaiting())
    assert reports() == []


def test_what_does_not_count_as_handled(reports: Callable[[], list[str]]) -> None:
    fail(KeyError("passed on")).addErrback(lambda f: f.trap(ValueError))
    fail(KeyError("returned")).addErrback(lambda f: f)
    fail(KeyError("skipped")).addCallback(lambda _: None)
    fail(KeyError("chained")).chainDeferred(Deferred())
    inner: Deferred[int] = Deferred()
    maybeDeferred(lambda waited_for: waited_for, inner)
    inner.errback(KeyError("inner"))
    del inner
    found = [report.rstrip().rpartition("KeyError: ")[2] for report in reports()]
    assert sorted(found) == ["'chained'", "'inner'", "'passed on'", "'returned'", "'skipped'"]


# Makers


def test_maybe_deferred_takes_every_kind_of_outcome() -> None:
    def add(a: int, *, function: int) -> int:
        return a + function

    pending: Deferred[int] = Deferred()
    assert maybeDeferred(add, 1, function=2).result() == 3
    assert isinstance(maybeDeferred(add).exception(), TypeError)
    assert isinstance(maybeDeferred(lambda: Failure(KeyError())).exception(), KeyError)
    assert maybeDeferred(lambda: succeed(1)).result() == 1
    waiting = maybeDeferred(lambda: pending)
    assert not waiting.done()
    pending.callback(5)
    assert waiting.result() == 5


def test_gather_results_keeps_the_order() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()
    gathered = gatherResults([first, second])
    second.callback(2)
    assert not gathered.done()
    first.callback(1)
    assert gathered.result() == [1, 2]
    assert (first.result(), second.result()) == (1, 2)
    assert gatherResults([]).result() == []


def test_gather_results_fails_with_the_first_failure(reports: Callable[[], list[str]]) -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()
    gathered = gatherResults([first, second], consumeErrors=True)
    second.errback(KeyError("second"))
    first.errback(ValueError("first"))
    assert isinstance(gathered.exception(), KeyError)
    del first, second, gathered
    assert reports() == []


def test_gather_results_leaves_failures_to_their_deferreds() -> None:
    first = fail(KeyError("k"))
    gathered = gatherResults([first])
    assert isinstance(gathered.exception(), KeyError)
    assert isinstance(first.exception(), KeyError)


def test_cancelling_gathered_results_cancels_them_all() -> None:
    deferreds: list[Deferred[int]] = [Deferred(), Deferred()]
    gathered = gatherResults(deferreds, consumeErrors=True)
    assert gathered.cancel()
    assert gathered.cancelled()
    assert [deferred.called for deferred in deferreds] == [True, True]


# Looks


def test_the_repr_is_one_line_that_tells_the_state() -> None:
    pending: Deferred[int] = Deferred()
    assert repr(pending) == "<Deferred pending>"
    assert repr(succeed(0).addCallback(lambda _: pending)) == "<Deferred waiting for a Deferred>"
    assert repr(succeed("two\nlines")) == r"<Deferred result: 'two\nlines'>"
    failed = fail(KeyError("k"))
    assert repr(failed) == "<Deferred failed: <Failure builtins.KeyError: 'k'>>"
    failed.exception()
    pending.pause()
    pending.callback(1)
    assert repr(pending) == "<Deferred busy>"
    cancelled: Deferred[int] = Deferred()
    cancelled.cancel()
    assert repr(cancelled) == "<Deferred cancelled>"


def test_the_repr_stays_short_and_never_fails() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    class Long:
        def __repr__(self) -> str:
            return "x\n" * 10_000

    for value in (Broken(), Long(), ["x" * 1000] * 1000):
        assert len(repr(succeed(value))) < 300
        assert "\n" not in repr(succeed(value))


def test_a_callback_runs_in_the_context_in_which_it_was_added() -> None:
    cell: ContextVar[str] = ContextVar("cell")
    seen: list[str] = []

    def look(value: Any) -> Any:
        seen.append(cell.get())
        return value

    deferred: Deferred[Any] = Deferred()
    for name in ("first", "second"):
        copy_context().run(lambda name=name: (cell.set(name), deferred.addBoth(look)))
    cell.set("connection")
    deferred.callback(1)
    assert seen == ["first", "second"]


def test_a_card_shows_the_state_and_leaves_a_failure_unhandled() -> None:
    waiting: Deferred[Any] = Deferred()
    assert "pending" in waiting._repr_html_()
    waiting.callback("<img src=x>")
    assert "&lt;img src=x&gt;" in waiting._repr_html_()
    failed: Deferred[Any] = fail(CopiedFailure(type="a.Wrong", value="x" * 10_000_000))
    made = failed._repr_html_()
    assert "a.Wrong" in made and len(made) < 3000
    assert failed._unhandled
    failed.addErrback(lambda failure: None)


def test_callbacks_added_while_another_thread_gives_the_result_all_run() -> None:
    started = [threading.Barrier(2) for _ in range(500)]
    deferreds: list[Deferred[int]] = [Deferred() for _ in started]
    inner: list[Deferred[int]] = [Deferred() for _ in started]
    ran: list[list[int]] = [[] for _ in started]

    def give() -> None:
        for barrier, deferred, later in zip(started, deferreds, inner, strict=True):
            barrier.wait(10)
            deferred.callback(0)
            later.callback(0)

    def count(at: int, value: int) -> int:
        ran[at].append(value)
        return value + 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=give)
    thread.start()
    try:
        for at, deferred in enumerate(deferreds):
            started[at].wait(10)
            for _ in range(10):
                deferred.addCallback(lambda value, at=at: count(at, value))
            deferred.addCallback(lambda _, at=at: inner[at])
            for _ in range(10):
                deferred.addCallback(lambda value, at=at: count(at, value))
        thread.join(10)
    finally:
        sys.setswitchinterval(before)
    # Each once, one after the other, and none forgotten.
    assert ran == [2 * list(range(10))] * len(ran)
    assert all(deferred.result() == 10 for deferred in deferreds)


def test_of_two_results_given_at_once_one_is_refused() -> None:
    refused: list[AlreadyCalledError] = []
    rounds = [(Deferred[int](), threading.Barrier(2)) for _ in range(500)]

    def give() -> None:
        for deferred, barrier in rounds:
            barrier.wait(10)
            try:
                deferred.callback(1)
            except AlreadyCalledError as error:
                refused.append(error)

    threads = [threading.Thread(target=give) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(refused) == len(rounds)


def test_a_callback_may_not_return_a_future_of_another_loop() -> None:
    async def future() -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    foreign = asyncio.run(future())

    async def main() -> None:
        with pytest.raises(RuntimeError, match="^a callback returned a future of another event"):
            await succeed(1).addCallback(lambda _: foreign)

    asyncio.run(main())


def test_a_gather_of_deferreds_can_be_cancelled() -> None:
    async def main() -> None:
        waiting: list[Deferred[None]] = [Deferred() for _ in range(3)]
        gathering = asyncio.gather(*waiting)
        gathering.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await gathering
        assert all(each.cancelled() for each in waiting)

    asyncio.run(asyncio.wait_for(main(), 10))


def in_another_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(10)


class Interrupted(Deferred[Any]):
    """Lets another thread in at the moment at which its result begins to count."""

    __slots__ = ("meanwhile",)

    def _run(self) -> None:
        self._let_in()
        super()._run()

    def _set(self, result: Any) -> None:
        self._let_in()
        super()._set(result)

    def _let_in(self) -> None:
        meanwhile, self.meanwhile = getattr(self, "meanwhile", None), None
        if meanwhile is not None:
            in_another_thread(meanwhile)


def test_a_callback_of_another_thread_finds_the_result_whole() -> None:
    seen: list[Any] = []
    deferred = Interrupted()
    deferred.addCallback(lambda value: value)
    deferred.meanwhile = lambda: deferred.addCallback(lambda value: seen.append(value) or "next")
    deferred.callback(7)
    # The callback has had its turn, and what it returned is what the chain came to.
    assert (seen, deferred.result()) == ([7], "next")


def test_a_callback_added_while_another_thread_runs_the_chain_has_its_turn() -> None:
    seen: list[Any] = []
    deferred: Deferred[int] = Deferred()

    def first(value: int) -> int:
        in_another_thread(lambda: deferred.addCallback(seen.append))
        assert seen == []  # never in two threads at once
        return value + 1

    deferred.addCallback(first)
    deferred.callback(1)
    assert seen == [2]


def test_a_result_that_another_thread_gives_while_the_chain_begins_to_wait_for_it() -> None:
    class Early(Deferred[int]):
        """Its result comes when it has just been found to have none."""

        __slots__ = ()

        def _append(self, step: Any) -> None:
            in_another_thread(lambda: None if self.called else self.callback(5))
            super()._append(step)

    assert succeed(1).addCallback(lambda _: Early()).result() == 5
    assert maybeDeferred(Early).result() == 5
