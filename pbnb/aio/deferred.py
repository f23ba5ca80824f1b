"""The result of a call that has not ended yet, for callbacks and for ``await`` alike.

A `Deferred` is Perspective Broker's answer to "not yet": callbacks are added to it and run, one
after the other, at the moment when the result arrives. To asyncio the same object is a future:
``await``, ``asyncio.gather``, ``wait_for``, ``shield`` and ``timeout`` take it as it is.

The two sides meet in one rule: callbacks run synchronously, tasks do not. A task is woken through
``call_soon`` of the loop that it runs in, because it may not be entered from within another task.
Only who knows that nothing else runs, nor waits to, may let it go on at once: `Deferred.give`.

A Deferred may be given its result, or callbacks, in any thread. The callbacks run in the thread
that gave what was missing, one after the other, and never in two threads at once.
"""

from __future__ import annotations

import asyncio
import logging
import reprlib
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextvars import Context, copy_context
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from ..cards import card
from ..errors import LocalProtocolError
from ..failure import Failure, shown

__all__ = [
    "AlreadyCalledError",
    "Deferred",
    "Sleeper",
    "Waiter",
    "fail",
    "gatherResults",
    "maybeDeferred",
    "succeed",
]

T = TypeVar("T")

logger = logging.getLogger("pbnb")

# The loop only keeps weak references to its tasks; a coroutine that a callback returned must not
# be collected halfway because nobody kept the Deferred.
_running_tasks: set[asyncio.Future[Any]] = set()

# Held for the moment in which a thread takes a chain for itself, and never while it runs.
_taking = threading.Lock()


class AlreadyCalledError(asyncio.InvalidStateError):
    """A Deferred was given a second result."""


class _Function(NamedTuple):
    """A callback or an errback, with what it gets after the result, and where it was added.

    It runs in the context in which it was added, as asyncio's callbacks do: what it prints in a
    notebook belongs to that cell, and not to the one that made the connection.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context


class _Step(NamedTuple):
    """One step of a chain; a result for which it has no function passes it unchanged."""

    on_value: _Function | None
    on_failure: _Function | None


class _Handover(NamedTuple):
    """A step that gives the result to another Deferred: to one that waits, or to one uncalled."""

    target: Deferred[Any]


#: Whom asyncio wants woken, in which loop and context. A bare tuple: each call that is awaited
#: makes one, and a named one takes a frame more.
Waiter: TypeAlias = tuple[asyncio.AbstractEventLoop, Callable[..., object], Context]

#: A waiter that is yet to be woken, and the Deferred that has its result.
Sleeper: TypeAlias = tuple["Deferred[Any]", Waiter]


class Deferred(Generic[T]):
    """A result that arrives later.

    Callbacks get the result and return the next one; errbacks do so for failures. What raises, or
    returns a `Failure`, goes on to the next errback; anything else to the next callback. Where a
    function returns an awaitable (another Deferred, a coroutine, a future), the chain goes on
    when that has its result. A failure that nobody has handled is logged when the Deferred is
    collected.

    Awaiting takes nothing away: a Deferred can be awaited twice, and before or after callbacks
    were added; it gives the result that the chain has come to.

    Attributes:
        called: Whether it was given a result; its callbacks may still be busy with it.
    """

    __slots__ = (
        "__weakref__",
        "_asyncio_future_blocking",
        "_canceller",
        "_result",
        "_settled",
        "_steps",
        "_stops",
        "_swallow",
        "_unhandled",
        "_waiters",
        "_waiting_for",
        "called",
    )

    def __init__(self, canceller: Callable[[Deferred[T]], object] | None = None) -> None:
        """Makes a Deferred that has no result.

        Args:
            canceller: Called by `cancel` to stop what would have given the result. It may give
                a result itself; otherwise `cancel` does.
        """
        # What makes this a future to asyncio, which sets it while a task goes to sleep on it.
        self._asyncio_future_blocking = False
        self.called = False
        self._canceller = canceller
        self._result: Any = None
        # Whether the chain came to its end once. Callbacks added later may set it going again,
        # and until it ends the last result stands: asyncio.gather reads results late.
        self._settled = False
        self._steps: list[_Step | _Handover] | None = None
        # How many things hold the chain: pause(), a result to wait for, a run in progress.
        self._stops = 0
        self._swallow = False
        self._unhandled = False
        self._waiters: list[Waiter] | None = None
        self._waiting_for: Deferred[Any] | asyncio.Future[Any] | None = None

    # Results

    def callback(self, value: T) -> None:
        """Gives the result, and runs the callbacks that wait for it.

        Raises:
            AlreadyCalledError: If there is a result already.
        """
        if not (self.called or self._steps or self._stops or isinstance(value, _NO_VALUES)):
            # The way of a call that is only awaited, in one go: no other thread comes in between.
            self.called = self._settled = True
            self._result = value
            if self._waiters:
                self._wake()
            return
        if isinstance(value, Deferred):
            raise LocalProtocolError(
                "a Deferred is no result: return it from a callback, or use chainDeferred"
            )
        self._fire(value)

    def give(self, value: T, may_go_on: Callable[[Waiter], bool]) -> Sleeper | None:
        """Gives the result as `callback` does, but may leave one who waits for it asleep.

        Args:
            value: The result.
            may_go_on: Tells of the only waiter, one of the running loop, whether it is to be left.

        Returns:
            Whom the caller has to wake; None where all is done.

        Raises:
            AlreadyCalledError: If there is a result already.
        """
        if self.called or self._steps or self._stops or isinstance(value, _NO_VALUES):
            self.callback(value)
            return None
        # As in `callback`. What another thread does from here on finds the result.
        self.called = self._settled = True
        self._result = value
        waiters = self._waiters
        if not waiters:
            return None
        try:
            waiter = waiters.pop(0)
        except IndexError:
            return None  # that other thread has woken it, or taken it away
        if not waiters and waiter[0] is asyncio.get_running_loop() and may_go_on(waiter):
            return self, waiter
        waiters.insert(0, waiter)
        self._wake()
        return None

    def errback(self, failure: Failure | BaseException | None = None) -> None:
        """Gives a failure as the result, and runs the errbacks that wait for it.

        Args:
            failure: A failure or an exception; ``None`` means the one that is being handled.

        Raises:
            AlreadyCalledError: If there is a result already.
        """
        if not isinstance(failure, Failure):
            failure = Failure() if failure is None else Failure.of(failure)
        self._fire(failure)

    def cancel(self, msg: Any | None = None) -> bool:
        """Stops waiting for the result, which becomes `asyncio.CancelledError`.

        Where the chain waits for another result, that one is cancelled. A result that still
        arrives after a cancellation is ignored once.

        Args:
            msg: The message of the CancelledError.

        Returns:
            Whether a cancellation is on its way; errbacks may turn it into a value.
        """
        inner: Deferred[Any] | asyncio.Future[Any] = self
        while isinstance(inner, Deferred) and inner._waiting_for is not None:
            inner = inner._waiting_for
        if not isinstance(inner, Deferred):
            return inner.cancel(msg)
        if inner.called:
            return False
        inner._cancel(msg)
        return not self._idle or self.cancelled()

    def _cancel(self, msg: Any | None) -> None:
        if self._canceller is not None:
            try:
                self._canceller(self)
            except Exception:
                # The caller asked for an end, and is not the one who can mend the canceller.
                logger.exception("The canceller of a Deferred failed:")
        if not self.called:
            self._swallow = True
            cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
            self._fire(Failure(cancelled))

    def _fire(self, result: Any) -> None:
        unhandled = _is_unhandled(result)
        if self.called:
            if self._swallow:
                self._swallow = False
                return
            raise AlreadyCalledError(f"{self!r} was given a second result")
        # In this order: a thread that adds a callback at this moment finds the result. And with no
        # call between the question and the answer, so that of two threads one is the first.
        self._result = result
        self._unhandled = unhandled
        self.called = True
        self._run()

    def _set(self, result: Any) -> None:
        self._result = result
        self._unhandled = _is_unhandled(result)

    # Callbacks

    def addCallback(
        self, callback: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Deferred[Any]:
        """Adds a function that gets the result, followed by the other arguments."""
        return self._add(_Step(_Function(callback, args, kwargs, copy_context()), None))

    def addErrback(
        self, errback: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Deferred[Any]:
        """Adds a function that gets the failure, followed by the other arguments."""
        return self._add(_Step(None, _Function(errback, args, kwargs, copy_context())))

    def addBoth(self, callback: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Adds a function that gets whatever arrives, a result or a failure."""
        function = _Function(callback, args, kwargs, copy_context())
        return self._add(_Step(function, function))

    def addCallbacks(
        self,
        callback: Callable[..., Any],
        errback: Callable[..., Any] | None = None,
        callbackArgs: Iterable[Any] | None = None,
        callbackKeywords: dict[str, Any] | None = None,
        errbackArgs: Iterable[Any] | None = None,
        errbackKeywords: dict[str, Any] | None = None,
    ) -> Deferred[Any]:
        """Adds a callback and an errback of which one is run; neither gets what the other made."""
        context = copy_context()
        on_value = _Function(callback, tuple(callbackArgs or ()), callbackKeywords or {}, context)
        if errback is None:
            return self._add(_Step(on_value, None))
        on_failure = _Function(errback, tuple(errbackArgs or ()), errbackKeywords or {}, context)
        return self._add(_Step(on_value, on_failure))

    def chainDeferred(self, other: Deferred[Any]) -> Deferred[Any]:
        """Gives the result to another Deferred; this one goes on with ``None``."""
        return self._add(_Handover(other))

    def pause(self) -> None:
        """Holds the chain until `unpause` is called as many times."""
        self._stops += 1

    def unpause(self) -> None:
        """Lets a paused chain go on."""
        self._stops -= 1
        self._run()

    def _add(self, step: _Step | _Handover) -> Deferred[Any]:
        self._append(step)
        self._run()
        return self

    def _append(self, step: _Step | _Handover) -> None:
        if self._steps is None:
            self._steps = []
        self._steps.append(step)

    # The chain

    @property
    def _idle(self) -> bool:
        """Whether the chain has come to its end and waits for nothing."""
        return self._settled and not self._stops and not self._steps

    def _run(self) -> None:
        """Takes the chain as far as it goes, and the chains that wait for it."""
        if self._stops or not self.called:
            return
        if not self._steps:  # the way of a call that is only awaited
            self._settle()
            return
        # A list, and not recursion: thousands of Deferreds may wait one for the other.
        ready: list[Deferred[Any]] = [self]
        interrupt: BaseException | None = None
        while ready:
            deferred = ready.pop()
            try:
                deferred._take_steps(ready)
            except (KeyboardInterrupt, SystemExit) as exc:
                # As asyncio's tasks do: whoever waits learns of it, and then it goes its way.
                interrupt = exc
                deferred._set(Failure(exc))
                deferred._unhandled = False
                ready.append(deferred)
        if interrupt is not None:
            raise interrupt

    def _take_steps(self, ready: list[Deferred[Any]]) -> None:
        with _taking:
            if self._stops:
                return
            self._stops = 1
        try:
            while self._steps and self._stops == 1:
                step = self._steps.pop(0)
                if isinstance(step, _Handover):
                    self._hand_over(step.target, ready)
                    continue
                function = step.on_failure if isinstance(self._result, Failure) else step.on_value
                if function is not None:
                    self._take(
                        self._call(
                            function.context.run,
                            function.call,
                            self._result,
                            *function.args,
                            **function.kwargs,
                        )
                    )
        finally:
            self._stops -= 1
        if self._stops:
            inner = self._waiting_for
            if isinstance(inner, Deferred) and inner.called:
                ready.append(inner)  # its result may have come, in another thread, a moment ago
        elif self._steps:
            ready.append(self)  # another thread has added a step, and left it to this one
        else:
            self._settle()

    def _call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            if isinstance(self._result, Failure) and exc is self._result.value:
                return self._result  # an errback that trapped nothing passes on the same failure
            # Without this frame, which says nothing about the function.
            tb = exc.__traceback__
            return Failure.of(exc.with_traceback(tb and tb.tb_next))

    def _take(self, result: Any) -> None:
        """Goes on with what a function returned, now or when it has come."""
        if isinstance(result, Deferred):
            if result._waits_for(self):
                error = "a callback returned a Deferred that waits for the callback's own"
                self._set(Failure(LocalProtocolError(error)))
            elif result._idle:
                result._unhandled = False
                self._set(result._result)
            else:
                self._stops += 1
                self._waiting_for = result
                # Not run: it is uncalled or held, or its turn in a run under way is still to come.
                result._append(_Handover(self))
        elif hasattr(type(result), "__await__"):
            try:
                future = _as_future(result)
            except Exception as exc:
                self._set(Failure.of(exc))
            else:
                self._stops += 1
                self._waiting_for = future
                future.add_done_callback(self._resume)
        else:
            self._set(result)

    def _waits_for(self, other: Deferred[Any]) -> bool:
        """Tells whether this is another Deferred, or waits for it, at whatever distance."""
        waiting: Deferred[Any] | asyncio.Future[Any] | None = self
        while isinstance(waiting, Deferred):
            if waiting is other:
                return True
            waiting = waiting._waiting_for
        return False

    def _hand_over(self, target: Deferred[Any], ready: list[Deferred[Any]]) -> None:
        result = self._result
        unhandled = _is_unhandled(result)
        self._unhandled = False
        # As in _fire: what another thread waits for comes last.
        if target._waiting_for is self:
            target._result = result
            target._unhandled = unhandled
            target._waiting_for = None
            target._stops -= 1
        elif target.called:
            if target._swallow:
                target._swallow = False
                self._set(None)
            else:
                self._set(Failure(AlreadyCalledError(f"{target!r} was given a second result")))
            return
        else:
            target._result = result
            target._unhandled = unhandled
            target.called = True
            self._result = None
        ready.append(target)

    def _resume(self, future: asyncio.Future[Any]) -> None:
        self._waiting_for = None
        try:
            self._set(future.result())
        except BaseException as exc:  # a task has let KeyboardInterrupt out by itself
            self._set(Failure.of(exc))
        self._stops -= 1
        self._run()

    # What asyncio asks of a future

    def _settle(self) -> None:
        self._settled = True
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        waiters = self._waiters
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        while waiters:
            try:
                # One at a time: a thread that is just adding itself may be emptying the list too.
                loop, call, context = waiters.pop(0)
            except IndexError:
                return
            if loop is here:
                loop.call_soon(call, self, context=context)
                continue
            try:
                loop.call_soon_threadsafe(call, self, context=context)
            except RuntimeError:
                if not loop.is_closed():
                    raise
                # Whoever waited in a closed loop waits no more.

    def __await__(self) -> Generator[Any, None, T]:
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was awaited)
        if not self._settled or self._stops or self._steps:
            self._asyncio_future_blocking = True
            yield self
        if self._settled and not isinstance(self._result, Failure):
            return self._result  # type: ignore[no-any-return]
        return self.result()

    def done(self) -> bool:
        """Returns whether there is a result that no callback is still busy with."""
        return self._idle

    def cancelled(self) -> bool:
        """Returns whether the result is a cancellation."""
        return self._settled and _is_cancellation(self._result)

    def result(self) -> T:
        """Returns the result, or raises the failure; either stays.

        While callbacks that were added after a result are still busy, that result stands.

        Raises:
            asyncio.InvalidStateError: If there is no result yet.
        """
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was awaited)
        if not self._settled:
            raise asyncio.InvalidStateError("the result has not arrived")
        if isinstance(self._result, Failure):
            self._unhandled = False
            raise self._result.exception()
        return self._result  # type: ignore[no-any-return]

    def exception(self) -> BaseException | None:
        """Returns the exception that awaiting raises, or ``None``.

        Raises:
            asyncio.InvalidStateError: If there is no result yet.
            asyncio.CancelledError: If that is what the Deferred came to.
        """
        if not self._settled:
            raise asyncio.InvalidStateError("the result has not arrived")
        if not isinstance(self._result, Failure):
            return None
        self._unhandled = False
        exception = self._result.exception()
        if isinstance(exception, asyncio.CancelledError):
            raise exception
        return exception

    @property
    def _cancel_message(self) -> object:
        # And of those that it gives as results, with return_exceptions=True.
        args = self._result.value.args if self.cancelled() else ()
        return args[0] if args else None

    def _make_cancelled_error(self) -> BaseException:
        # asyncio.gather asks it of those that were cancelled, and would wait for ever without it.
        assert isinstance(self._result, Failure)
        return self._result.exception()

    # The loop of a future. A Deferred belongs to none, only those who wait do: to the running one.
    get_loop = staticmethod(asyncio.get_running_loop)

    def add_done_callback(
        self, callback: Callable[..., object], /, *, context: Context | None = None
    ) -> None:
        """Schedules a function in the running loop for when there is a result.

        Unlike the callbacks of the chain it gets the Deferred, and its own result goes nowhere.
        """
        # An empty context is False.
        where = copy_context() if context is None else context
        waiter = (asyncio.get_running_loop(), callback, where)
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        # Looked at last: another thread may give the result at any moment.
        if self._settled and self._idle:
            self._wake()

    def awaited_in(self) -> list[Context]:
        """Returns the contexts of those who wait for a result: of tasks, as a rule."""
        return [context for _, _, context in list(self._waiters or ())]

    def remove_done_callback(self, callback: Callable[..., object], /) -> int:
        """Forgets a function given to `add_done_callback`; returns how often it was there."""
        waiters = self._waiters or []
        found = [waiter for waiter in waiters if waiter[1] == callback]
        for waiter in found:
            waiters.remove(waiter)
        return len(found)

    def __del__(self) -> None:
        # May run in any thread, and between any two instructions: it only logs.
        if self._unhandled:
            logger.error("Unhandled error in Deferred:\n%s", self._result.getTraceback())

    def _repr_html_(self) -> str:
        failed = self._settled and isinstance(self._result, Failure) and not self.cancelled()
        return card(type(self).__name__, wrong=failed, state=self._state())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state()}>"

    def _state(self) -> str:
        if not self.called:
            state = "pending"
        elif self._waiting_for is not None:
            state = f"waiting for a {type(self._waiting_for).__name__}"
        elif not self._idle:
            state = "busy"
        elif isinstance(self._result, Failure):
            state = "cancelled" if self.cancelled() else f"failed: {self._result!r}"
        else:
            state = f"result: {shown(reprlib.repr(self._result))}"
        return state


def succeed(value: T) -> Deferred[T]:
    """Returns a Deferred that has a result already."""
    deferred: Deferred[T] = Deferred()
    deferred.callback(value)
    return deferred


def fail(failure: Failure | BaseException | None = None) -> Deferred[Any]:
    """Returns a Deferred that has failed already.

    Args:
        failure: A failure or an exception; ``None`` means the one that is being handled.
    """
    deferred: Deferred[Any] = Deferred()
    deferred.errback(failure)
    return deferred


def maybeDeferred(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
    """Calls a function and returns its outcome as a Deferred, whichever way it comes.

    Args:
        function: Returns a value, a Deferred, a coroutine or another awaitable, or raises.
    """
    deferred: Deferred[Any] = Deferred()
    deferred.called = True
    deferred._take(deferred._call(function, *args, **kwargs))
    if isinstance(deferred._waiting_for, Deferred):
        deferred._waiting_for._run()
    deferred._run()
    return deferred


def gatherResults(
    deferreds: Iterable[Deferred[Any]], consumeErrors: bool = False
) -> Deferred[list[Any]]:
    """Returns a Deferred of the list of all results; the first failure fails it.

    Cancelling it cancels them all. What happens to a failure that comes after the first one is
    for its own Deferred to say.

    Args:
        deferreds: What to wait for; each goes on with its own result.
        consumeErrors: Whether their failures count as handled.
    """
    waiting = list(deferreds)
    results: list[Any] = [None] * len(waiting)
    missing = len(waiting)

    def cancel_all(_: Deferred[list[Any]]) -> None:
        for deferred in waiting:
            deferred.cancel()

    gathered: Deferred[list[Any]] = Deferred(cancel_all)

    def arrived(result: Any, index: int) -> Any:
        nonlocal missing
        results[index] = result
        missing -= 1
        if not missing and not gathered.called:
            gathered.callback(results)
        return result

    def failed(failure: Failure) -> Failure | None:
        if not gathered.called:
            gathered.errback(failure)
        return None if consumeErrors else failure

    for index, deferred in enumerate(waiting):
        deferred.addCallbacks(arrived, failed, callbackArgs=(index,))
    if not waiting:
        gathered.callback(results)
    return gathered


# What ``callback`` does not take for a plain value.
_NO_VALUES = (Deferred, Failure)


def _is_cancellation(result: object) -> bool:
    return isinstance(result, Failure) and isinstance(result.value, asyncio.CancelledError)


def _is_unhandled(result: object) -> bool:
    return isinstance(result, Failure) and not _is_cancellation(result)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _as_future(awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
    """Returns a future for an awaitable; a coroutine becomes a task that outlives its Deferred."""
    if asyncio.isfuture(awaitable):
        here = _running_loop()
        if here is not None and awaitable.get_loop() is not here:
            raise RuntimeError(
                "a callback returned a future of another event loop: return a Deferred, which "
                "belongs to none"
            )
        return awaitable
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        if asyncio.iscoroutine(awaitable):
            awaitable.close()  # it will never run, and would warn about it
        raise
    task = asyncio.ensure_future(awaitable, loop=loop)
    _running_tasks.add(task)
    task.add_done_callback(_running_tasks.discard)
    return task
