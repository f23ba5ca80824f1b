"""Other threads than the one in which a connection lives.

A connection belongs to the loop on which it was made. What another thread asks of it is done
there, and the answer comes back to the loop that runs in the asking thread: callbacks run where
they were added, and awaiting works as ever. Where no loop runs, as in a plain thread, the callbacks
run in the connection's thread.

`run_in_thread` gives a server a thread and a loop of its own, so that calls are answered while the
program, or the kernel, computes.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

from ..failure import Failure
from .deferred import Deferred

__all__ = ["await_in", "call_in", "run_in_thread", "running_loop", "tell"]

T = TypeVar("T")

# Seconds after which somebody who waits for another loop looks whether it has ended meanwhile.
_LOOK = 0.5


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Returns the loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def tell(
    loop: asyncio.AbstractEventLoop | None, callback: Callable[..., object], *args: Any
) -> bool:
    """Runs a callback soon in a loop, from any thread.

    Args:
        loop: The loop; where it is None the callback is run here and now.
        callback: The callback.
        *args: Its arguments.

    Returns:
        Whether it will run: nothing does in a loop that is closed.
    """
    if loop is None:
        callback(*args)
        return True
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def call_in(
    loop: asyncio.AbstractEventLoop,
    call: Callable[[], Deferred[Any]],
    seconds: float = math.inf,
    too_late: Callable[[], Exception] = TimeoutError,
) -> Deferred[Any] | None:
    """Calls a function in another thread's loop, and returns a Deferred of its Deferred's result.

    Args:
        loop: The loop.
        call: The function. What it raises fails the Deferred.
        seconds: How long it may take, also where the loop does not come to it at all.
        too_late: Makes the error of a call that takes longer.

    Returns:
        The Deferred, or None where the loop is closed.
    """
    home = running_loop()
    made: list[Deferred[Any]] = []
    waiter: Deferred[Any] = Deferred(lambda _: tell(loop, cancel))
    timer: asyncio.TimerHandle | None = None

    def cancel() -> None:
        for each in made:
            each.cancel()

    def begin() -> None:
        if waiter.called:
            return  # nobody waits any more
        try:
            made.append(call())
        except Exception as error:
            tell(home, give, Failure.of(error))
        else:
            made[0].addBoth(lambda result: tell(home, give, result) and None)

    def give(result: Any) -> None:
        if timer is not None:
            timer.cancel()
        if waiter.called:
            return
        if isinstance(result, Failure):
            waiter.errback(result)
        else:
            waiter.callback(result)

    def expire() -> None:
        if not waiter.called:
            tell(loop, cancel)
            waiter.errback(too_late())

    if not tell(loop, begin):
        return None
    if home is not None and seconds != math.inf:
        timer = home.call_later(seconds, expire)
    return waiter


async def await_in(
    loop: asyncio.AbstractEventLoop, start: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Runs a coroutine in another thread's loop to its end, or to the end of that loop.

    Args:
        loop: The loop.
        start: Makes the coroutine.
    """
    ended: Deferred[None] = Deferred()
    home = asyncio.get_running_loop()

    def begin() -> None:
        task = loop.create_task(start())
        task.add_done_callback(lambda done: tell(home, take, done))

    def take(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            ended.callback(None)
        else:
            ended.errback(error)

    tell(loop, begin)
    # A loop may end before it has come to what it was told.
    while not loop.is_closed():
        done, _ = await asyncio.wait([ended], timeout=_LOOK)  # type: ignore[type-var]
        if done:
            return ended.result()


def run_in_thread(
    name: str,
    start: Callable[[], Coroutine[Any, Any, T]],
    until: Callable[[T], Coroutine[Any, Any, None]],
) -> T:
    """Runs a coroutine in a new thread with a loop of its own, and waits for its result.

    The thread runs in the context of the caller: what it prints in a notebook appears below that
    cell. It does not keep the process alive.

    Args:
        name: The name of the thread.
        start: Makes the coroutine; it must not need the caller's loop, which waits.
        until: Makes a coroutine, given the result, at whose end the thread ends. What still runs
            there then is cancelled.

    Returns:
        What the coroutine returned; what it raised is raised.
    """
    began: Future[T] = Future()

    async def main() -> None:
        try:
            result = await start()
        except BaseException as error:
            began.set_exception(error)
            return
        began.set_result(result)
        await until(result)

    def run() -> None:
        # Not asyncio.run(): once the kernel's loop was nested, that uses the loop that it finds.
        with asyncio.Runner() as runner:
            runner.run(main())

    threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
    return began.result()
