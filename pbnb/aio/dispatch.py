"""Running the methods that a peer calls."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..cred import Session
from ..errors import Error, NoSuchMethod, PeerBusy, UnauthorizedLogin
from ..failure import CopiedFailure, Failure
from ..protocol.events import CallReceived
from .deferred import Deferred
from .streams import GENERATORS
from .turns import Running

__all__ = ["Replies", "run_call"]

log = logging.getLogger("pbnb")

# The usual results, of which it is known without looking that nothing has to be awaited.
_VALUES = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict))


class Replies(Protocol):
    """What a running method asks of the connection that its call came by."""

    @property
    def peer(self) -> str:
        """The peer's address."""

    def reply(self, call: CallReceived, value: object) -> None:
        """Answers a call."""

    def begin_session(self, call: CallReceived, session: Session) -> None:
        """Answers a login that has succeeded."""

    def reply_failure(self, call: CallReceived, failure: Failure) -> None:
        """Answers a call with a failure."""

    def lend(self, generator: object) -> object:
        """Returns a generator as something that the peer can read."""

    def keep_task(self, task: asyncio.Future[Any], call: CallReceived | None = None) -> None:
        """Holds a task until it is done."""

    def started(self, call: CallReceived, running: Running) -> object:
        """Counts a method that waits for something; returns the key for `method_ended`."""

    def is_here(self) -> bool:
        """Returns whether this thread is the one of the connection's loop."""

    def schedule(self, callback: Callable[..., object], *args: Any) -> bool:
        """Runs a callback in the connection's loop."""

    def method_ended(self, key: object) -> None:
        """Counts the end of such a method."""

    def warn(self, level: int, text: str, *args: object) -> None:
        """Logs a line about the peer, unless there were too many."""


def run_call(connection: Replies, call: CallReceived) -> object | None:
    """Runs a method and sees to its answer.

    Args:
        connection: Where the answer goes.
        call: What the peer asked for. The method may be plain or async, or return an awaitable.

    Returns:
        None when the method has ended, and otherwise the key by which it is counted.
    """
    try:
        result = call.target.find_remote(call.name)(*call.args, **call.kw)
    except BaseException as error:
        # SystemExit and KeyboardInterrupt too: a peer's call never ends the serving process.
        # The traceback begins in the method: who wrote that is who reads it.
        trace = error.__traceback__
        _failed(connection, call, Failure.of(error.with_traceback(trace and trace.tb_next)))
        return None
    if type(result) in _VALUES:
        if call.wants_answer:
            connection.reply(call, result)
    elif isinstance(result, Deferred):
        return _await_deferred(connection, call, result)
    elif inspect.isawaitable(result):
        return _run_awaitable(connection, call, result)
    else:
        _succeeded(connection, call, result)
    return None


def _await_deferred(
    connection: Replies, call: CallReceived, result: Deferred[Any]
) -> object | None:
    key = None if result.done() else connection.started(call, result)

    def ended(value: object) -> None:
        # Somebody may give the result in another thread than the connection's.
        if not connection.is_here():
            connection.schedule(ended, value)
            return
        if key is not None:
            connection.method_ended(key)
        _succeeded(connection, call, value)  # or failed, if that is what it is

    result.addBoth(ended)
    return key


def _run_awaitable(connection: Replies, call: CallReceived, awaitable: Any) -> object | None:
    task: asyncio.Future[Any]
    if inspect.iscoroutine(awaitable):
        task = _start(awaitable)
    else:
        task = asyncio.ensure_future(awaitable)
        if task.get_loop() is not asyncio.get_running_loop():
            text = f"{call.name[:80]}() returned a future of another event loop"
            error = RuntimeError(f"{text}: return a Deferred, which belongs to none")
            _failed(connection, call, Failure(error))
            return None

    key = None

    def done(finished: asyncio.Future[Any]) -> None:
        if key is not None:
            connection.method_ended(key)
        if finished.cancelled():
            _failed(connection, call, Failure(asyncio.CancelledError("the call was cancelled")))
        elif (error := finished.exception()) is not None:
            _failed(connection, call, Failure.of(error))
        else:
            _succeeded(connection, call, finished.result())

    if task.done():
        done(task)
    else:
        connection.keep_task(task, call)
        key = connection.started(call, task)
        task.add_done_callback(done)
    return key


def _start(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        # Most methods end without ever suspending: those need no turn of the loop.
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    return loop.create_task(coroutine)


def _succeeded(connection: Replies, call: CallReceived, value: object) -> None:
    if isinstance(value, Failure):
        _failed(connection, call, value)
    elif isinstance(value, Session):
        connection.begin_session(call, value)
    elif call.wants_answer:
        if type(value) in GENERATORS:
            try:
                value = connection.lend(value)
            except PeerBusy as error:
                connection.reply_failure(call, Failure(error))
                return
        connection.reply(call, value)


def _failed(connection: Replies, call: CallReceived, failure: Failure) -> None:
    _report(connection, call, failure)
    if call.wants_answer:
        connection.reply_failure(call, failure)


def _report(connection: Replies, call: CallReceived, failure: Failure) -> None:
    # An Error belongs to the interface, and its caller handles it. Everything else is a surprise
    # to whoever serves, too.
    if isinstance(failure, CopiedFailure) or failure.check(Error) is not None:
        return
    if failure.check(NoSuchMethod, UnauthorizedLogin) is not None:
        text = "%s, called by %s"
        connection.warn(logging.WARNING, text, failure.getErrorMessage(), connection.peer)
        return
    if failure.check(asyncio.CancelledError) is not None:
        log.info("%s() was cancelled, called by %s", call.name[:80], connection.peer)
        return
    text = "Peer will receive following PB traceback:\n%s"
    connection.warn(logging.ERROR, text, failure.getTraceback())
