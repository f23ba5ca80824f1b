"""The calls that one connection makes of its peer, and how each of them ends."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import BananaError, DeadReferenceError, InsecureJelly, PBConnectionLost
from ..jelly.extras import ABOUT_NAME, types_in
from ..protocol.events import AnswerReceived, ErrorReceived, PendingCall
from ..refs import CachedRemotely, RemoteReference
from .calls import reason
from .deadlines import Deadlines, exceeded, innermost, seconds_for
from .deferred import Deferred, Sleeper, fail
from .threads import call_in, tell
from .waking import may_go_on

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Asking"]

log = logging.getLogger("pbnb")

_TAKEN = frozenset(("pbanswer", "pbcallback", "pberrback"))


class Asking:
    """What one connection asks its peer.

    Args:
        connection: The connection.
        seconds: How long a call may take where nobody says otherwise.

    Attributes:
        calls_sent: How many calls have gone.
        deadlines: The calls that have one.
        seconds: How long a call may take where nobody says otherwise.
    """

    __slots__ = ("_connection", "_types", "calls_sent", "deadlines", "seconds")

    def __init__(self, connection: Connection, seconds: float) -> None:
        self.calls_sent = 0
        self.seconds = seconds
        self.deadlines = Deadlines(self._expired)
        self._connection = connection
        self._types: list[Callable[[], None]] = []

    def call(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Deferred[Any]:
        """Sends a call and returns a Deferred of its answer.

        Raises:
            DeadReferenceError: The connection has ended.
        """
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        connection = self._connection
        machine = connection.machine
        if kw or connection.lost or machine.broken:
            self.check(kw)
        seconds = self.seconds
        if ref.deadline is not None or innermost.get() is not None:
            seconds = seconds_for(ref.deadline, seconds)
        if threading.get_ident() != connection.thread or connection.flow.full:
            return self._send(name, partial(machine.call, ref, name, args, kw), seconds)
        if connection.releasing:
            # What was let go before the call is let go there before the call, too.
            connection.release()
        try:
            pending = machine.call(ref, name, args, kw)
        except Exception as error:
            return _not_sent(error)
        assert pending is not None
        return self.await_answer(pending, seconds)

    def call_cache(
        self, cached: CachedRemotely, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Deferred[Any]:
        """Sends a call to the peer's live copy of an object; returns a Deferred of its answer.

        Raises:
            DeadReferenceError: The connection has ended.
        """
        self.check(kw)
        seconds = seconds_for(None, self.seconds)
        send = partial(self._connection.machine.call_cache, cached, name, args, kw)
        return self._send(name, send, seconds)

    def _send(
        self, name: str, send: Callable[[], PendingCall | None], seconds: float
    ) -> Deferred[Any]:
        connection = self._connection
        if threading.get_ident() != connection.thread:
            late = partial(exceeded, name, seconds, connection.peer)
            return self.call_here(partial(self._send, name, send, seconds), seconds, late)
        if connection.flow.full:
            return connection.flow.hold_call(name, send, seconds)
        if connection.releasing:
            connection.release()  # as in `call`
        try:
            pending = send()
        except Exception as error:
            return _not_sent(error)
        assert pending is not None
        return self.await_answer(pending, seconds)

    def await_answer(
        self, pending: PendingCall, seconds: float, waiter: Deferred[Any] | None = None
    ) -> Deferred[Any]:
        """Sees to it that a call which was just sent ends; returns what gets its answer.

        Args:
            pending: The call.
            seconds: How long it may take.
            waiter: Gets its answer, where something waits for it already.
        """
        connection = self._connection
        if waiter is None:
            waiter = answer = _Answer()
            answer.asking, answer.pending = self, pending
        pending.waiter = waiter
        pending.since = connection.clock()
        if connection.here.other is not None:
            connection.here.called(pending.request_id)
        self.calls_sent += 1
        if seconds != math.inf:
            self.deadlines.add(pending, seconds, connection.loop)
        if not connection.liveness.watching:
            connection.liveness.watch()
        connection.writing.soon()
        return waiter

    def call_only(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        """Sends a call that is not answered.

        Raises:
            DeadReferenceError: The connection has ended.
            InsecureJelly: An argument may not be sent.
            BananaError: An argument does not fit the wire.
        """
        self.check(kw)
        connection = self._connection
        if threading.get_ident() != connection.thread:
            if not tell(connection.loop, self._call_only_later, ref, name, args, kw):
                raise self.stale()
            return
        if connection.flow.full:
            connection.flow.hold(partial(self.call_only, ref, name, args, kw))
            return
        connection.machine.call(ref, name, args, kw, wants_answer=False)
        self.calls_sent += 1
        connection.writing.soon()

    def _call_only_later(self, *call: Any) -> None:
        try:
            self.call_only(*call)
        except DeadReferenceError:
            pass  # it has ended meanwhile, and nobody asked for an answer
        except Exception:  # nobody is left to tell that it cannot be sent
            log.exception("a call to %s could not be sent", self._connection.peer)

    def call_here(
        self,
        call: Callable[[], Deferred[Any]],
        seconds: float = math.inf,
        too_late: Callable[[], Exception] = TimeoutError,
    ) -> Deferred[Any]:
        """Calls a function in the connection's thread, for another one that gets its result.

        Args:
            call: The function.
            seconds: How long it may take.
            too_late: Makes the error of a call that takes longer.

        Raises:
            DeadReferenceError: The connection's loop is closed.
        """
        waiter = call_in(self._connection.loop, call, seconds, too_late)
        if waiter is None:
            raise self.stale()
        return waiter

    def check(self, kw: dict[str, Any]) -> None:
        """Checks that a call can be made at all, with these keywords."""
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        if self._connection.lost or self._connection.machine.broken:
            raise self.stale()
        if kw and (taken := _TAKEN.intersection(kw)):
            raise TypeError(
                f"{min(taken)}= is no option of callRemote: use remote_only() for a call without "
                "an answer, and addCallbacks() for callbacks"
            )

    def stale(self) -> DeadReferenceError:
        """Returns the error of a call by a connection that has ended."""
        ended = f"the connection to {self._connection.peer} ended{self._connection.advice}"
        return DeadReferenceError(f"Calling Stale Broker: {ended}")

    # Answers

    def answered(self, event: AnswerReceived, alone: bool = False) -> Sleeper | None:
        """Gives an answer to whoever waits for it.

        Args:
            event: The answer.
            alone: Whether nothing else has come, and no task runs.

        Returns:
            The task that the caller has to wake, where it is alone; None where all is done.
        """
        connection, call = self._connection, event.call
        if connection.log is not None:
            connection.log.answered(call)
        if connection.here.other is not None:
            connection.here.answered(call.request_id)
        waiter: Deferred[Any] | None = call.waiter
        call.waiter = None
        if waiter is not None:
            if type(waiter) is _Answer:
                # asyncio holds it while whoever waited runs: it may not keep a reference alive
                # that is let go there.
                waiter.pending = None
            if alone:
                return waiter.give(event.value, may_go_on)
            waiter.callback(event.value)
        return None

    def failed(self, event: ErrorReceived) -> None:
        """Gives a failure to whoever waits for the answer."""
        connection, call = self._connection, event.call
        connection.calls.answered(call, reason(event.failure))
        connection.here.answered(call.request_id)
        waiter, call.waiter = call.waiter, None
        if waiter is not None:
            waiter.errback(event.failure)

    def ask_types(self, retry: Callable[[], None]) -> None:
        """Asks the peer once which types it reads beside PB's, and then goes on."""
        self._types.append(retry)
        if len(self._types) == 1:
            about = self._connection.remoteForName(ABOUT_NAME)
            about.callRemote("types").addBoth(self._on_types)

    def _on_types(self, answer: Any) -> None:
        # A peer that is no pbnb answers with an error, as it does for every name it does not know.
        self._connection.machine.peer_types = types_in(answer)
        waiting, self._types = self._types, []
        for retry in waiting:
            retry()

    # Other ends

    def _expired(self, call: PendingCall, seconds: float) -> None:
        waiter, call.waiter = call.waiter, None
        self.cancel_at_peer(call)
        waiter.errback(exceeded(call.name, seconds, self._connection.peer))

    def cancel_at_peer(self, call: PendingCall) -> None:
        """Tells the peer that nobody waits for a call any more."""
        connection = self._connection
        if connection.lost or connection.machine.pending.get(call.request_id) is not call:
            return
        here = threading.get_ident() == connection.thread
        if here and connection.machine.drop_call(call):
            connection.here.answered(call.request_id)
            connection.calls.answered(call, "cancelled while it was sent")
            connection.writing.soon()
        else:
            about = connection.remoteForName(ABOUT_NAME)
            self.call_only(about, "cancel", (call.request_id,), {})

    def lost_error(self, name: str, cause: BaseException | None) -> PBConnectionLost:
        """Returns the error of a call that was pending when the connection ended."""
        because = f": {cause}" if cause is not None else ""
        peer = self._connection.peer
        error = PBConnectionLost(
            f"the connection to {peer} ended while {name}() was pending{because}"
        )
        error.__cause__ = cause
        return error

    def end(self, calls: tuple[PendingCall, ...], cause: Exception | None) -> None:
        """Ends the calls that have no answer: the connection has ended."""
        self.deadlines.clear()
        for call in calls:
            self._connection.calls.answered(call, "the connection ended")
            if call.waiter is not None:
                waiter, call.waiter = call.waiter, None
                waiter.errback(self.lost_error(call.name, cause))


def _not_sent(error: Exception) -> Deferred[Any]:
    """Returns the outcome of a call that could not be sent; raises where nothing can be."""
    if isinstance(error, DeadReferenceError):
        raise error
    if isinstance(error, (InsecureJelly, BananaError)):
        # Their text says what cannot be sent; the frames of the serializer add nothing.
        return fail(error.with_traceback(None))
    return fail(error)  # from the state of the user's objects


class _Answer(Deferred[Any]):
    """The answer of a call. When it is cancelled the peer is told, and what comes is dropped."""

    # Set by who makes it: a constructor more would be a frame more for each call.
    __slots__ = ("asking", "pending")

    asking: Asking
    pending: PendingCall | None

    def _cancel(self, msg: Any | None) -> None:
        pending = self.pending
        if pending is not None:  # and no other thread is about to give the answer
            pending.waiter = None
            try:
                self.asking.cancel_at_peer(pending)
            except RuntimeError:  # the loop is closed, and the connection with it
                log.debug("a cancelled call could not be told of", exc_info=True)
        super()._cancel(msg)
