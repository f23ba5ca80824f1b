"""Waits for a coroutine from wherever a magic may be called.

Four ways, each where it is the least intrusive that works: nothing to wait for (it is run at
once), no loop running (it is run until complete), the loop of another thread (this thread waits),
and the loop of this thread, which is running, so that it has to be nested. Nesting replaces
asyncio's Task and Future for the whole kernel; it is applied when it is needed and not before.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import nest_asyncio2  # type: ignore[import-untyped]  # it ships no types
from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.error import UsageError
from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell

from ..aio.nesting import nested

__all__ = ["kernel_loop", "notebook_loop", "run", "wait"]

T = TypeVar("T")
Start = Callable[[], Coroutine[Any, Any, T]]

# A coroutine that listens on an address of this machine steps aside once; more is not "at once".
_STEPS_AT_ONCE = 8


def kernel_loop(shell: InteractiveShell) -> asyncio.AbstractEventLoop:
    """Returns the loop that servers and connections of a shell live on.

    That is the kernel's own, in its main thread, also when a subshell asks; in a terminal it is
    the loop with which IPython awaits.

    Args:
        shell: The shell whose magic was called.
    """
    kernel = getattr(shell, "kernel", None)
    loop = getattr(getattr(kernel, "io_loop", None), "asyncio_loop", None)
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop
    ipythons: asyncio.AbstractEventLoop = get_asyncio_loop()  # type: ignore[no-untyped-call]
    return ipythons


def notebook_loop(name: str) -> asyncio.AbstractEventLoop:
    """Returns the loop on which widgets are kept up to date, from any thread.

    That is the kernel's, also for subshells and threads, and in a program the running one.

    Args:
        name: What needs it.

    Raises:
        RuntimeError: There is no notebook, and no loop runs in this thread.
    """
    shell = get_ipython()
    if shell is not None:
        return kernel_loop(shell)
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            f"{name} needs an event loop: use it in a notebook or in async code"
        ) from None


async def wait(start: Start[T], loop: asyncio.AbstractEventLoop) -> T:
    """Runs a coroutine on a loop and waits for it on the running loop, which may be another.

    Args:
        start: Makes the coroutine.
        loop: Where it is to run.
    """
    if asyncio.get_running_loop() is loop:
        return await start()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(start(), loop))


def run(start: Start[T], loop: asyncio.AbstractEventLoop, *, try_at_once: bool = False) -> T:
    """Runs a coroutine on a loop and returns its result, from code that cannot await.

    Args:
        start: Makes the coroutine.
        loop: Where it is to run.
        try_at_once: Whether the coroutine may be run up to where it first waits, and given up
            there. Where it ends without waiting, the loop need not be nested.

    Raises:
        KeyboardInterrupt: The user interrupted the wait.
        UsageError: The loop cannot be nested.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        if try_at_once and (ended := _run_at_once(start())):
            return ended[0]
        return _run_nested(start(), loop)
    if loop.is_running():
        return asyncio.run_coroutine_threadsafe(start(), loop).result()
    return loop.run_until_complete(start())


def _run_at_once(coroutine: Coroutine[Any, Any, T]) -> tuple[T] | None:
    """Runs a coroutine that waits for nothing; gives it up at the first future it waits for."""
    try:
        for _ in range(_STEPS_AT_ONCE):
            # asyncio.sleep(0) yields None; everything that has to wait yields a future.
            if coroutine.send(None) is not None:
                break
    except StopIteration as end:
        return (end.value,)
    coroutine.close()
    return None


def _run_nested(coroutine: Awaitable[T], loop: asyncio.AbstractEventLoop) -> T:
    try:
        nest_asyncio2.apply(loop)
    except ValueError as error:
        # uvloop is such a loop: its tasks are not asyncio's.
        if asyncio.iscoroutine(coroutine):
            coroutine.close()
        raise UsageError(
            f"the loop of this kernel ({type(loop).__module__}) cannot wait inside a function: "
            "use the magic on a line of its own, or await pb.connect() and pb.serve()"
        ) from error
    task = asyncio.ensure_future(coroutine, loop=loop)
    with nested(loop), _cancelled_by_interrupt(task, loop):
        return loop.run_until_complete(task)


@contextmanager
def _cancelled_by_interrupt(
    task: asyncio.Future[Any], loop: asyncio.AbstractEventLoop
) -> Iterator[None]:
    """Lets an interrupt end the wait for a task, and only that.

    Beneath an awaiting cell the kernel answers an interrupt by cancelling the cell, which does
    not reach a wait nested in it. A KeyboardInterrupt raised wherever the loop happens to be
    would strike somebody else's task.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt  # the second one insists
        interrupted = True
        # The thread-safe form wakes the loop, which is asleep in its selector.
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
