"""The calls that one connection gets from its peer: what runs, and what is answered."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..cred import Session
from ..errors import Error
from ..failure import Failure
from ..flavors import Serializable
from ..jelly.extras import PeerNotAsked
from ..protocol.events import CallReceived, ObjectReleased
from .calls import reason, user_of
from .dispatch import run_call
from .streams import LentStream, lend
from .turns import Running
from .writing import BURST

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Answering", "shielded"]

log = logging.getLogger("pbnb")


class Answering:
    """What one connection does for its peer.

    Args:
        connection: The connection.

    Attributes:
        calls_received: How many calls have come.
        tasks: What runs for the peer: which call, since when.
    """

    __slots__ = ("_connection", "_handling", "_sessions", "calls_received", "tasks")

    def __init__(self, connection: Connection) -> None:
        self.calls_received = 0
        self.tasks: dict[asyncio.Future[Any], tuple[CallReceived | None, float]] = {}
        self._connection = connection
        # The call whose method is being run: its answer is written when all calls that were read
        # have been handled.
        self._handling: CallReceived | None = None
        # What the peer has logged in to, by what tells apart the objects that it was given for it.
        self._sessions: dict[Hashable, list[Session]] = {}

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._connection.lost

    @property
    def peer(self) -> str:
        """The peer's address."""
        return self._connection.peer

    def received(self, call: CallReceived) -> None:
        """Takes a call of the peer's: runs its method, now or later, or refuses it."""
        connection = self._connection
        self.calls_received += 1
        if connection.log is not None:
            connection.log.began(call)
        if connection.flow.full:
            if call.wants_answer:
                connection.flow.hold_reading()
            connection.turns.put_off(call)
            return
        turns = connection.turns
        outer, self._handling = self._handling, call
        try:
            if (
                turns.queue
                or len(turns.running) >= turns.limits.running_calls
                or call.target.pb_concurrency == "serial"
                or connection.here.other is not None
            ):
                turns.take(call)
            else:
                run_call(self, call)
        finally:
            self._handling = outer

    def run(self, call: CallReceived) -> object | None:
        """Runs a method whose turn has come."""
        here = self._connection.here
        context = here.context_of(call.request_id) if here.other is not None else None
        if context is None:
            return run_call(self, call)
        return context.run(run_call, self, call)

    def lend(self, generator: object) -> LentStream:
        """Returns a generator as something that the peer can read."""
        return lend(self._connection, generator)

    def reply(self, call: CallReceived, value: object) -> None:
        """Answers a call with what its method returned."""
        connection = self._connection
        if connection.flow.full:
            connection.flow.hold_answer(partial(self.reply, call, value))
            return
        machine = connection.machine
        try:
            failure = machine.answer(call.request_id, value, call.perspective, may_ask=True)
        except PeerNotAsked:
            connection.asking.ask_types(partial(self.reply, call, value))
            return
        if failure is not None:
            log.error("the answer of a remote method cannot be sent: %s", failure.getErrorMessage())
            connection.calls.replied(call, reason(failure))
        elif connection.log is not None:
            connection.log.replied(call)
        if call is not self._handling or len(machine.out) >= BURST:
            connection.writing.soon()
        elif machine.drained:
            # No other call has come: the rest is done while the answer is on its way.
            connection.writing.now()

    def reply_failure(self, call: CallReceived, failure: Failure) -> None:
        """Answers a call with why its method failed."""
        self._connection.calls.replied(call, reason(failure))
        self._connection.machine.fail(call.request_id, failure)
        self._connection.writing.soon()

    def keep_task(self, task: asyncio.Future[Any], call: CallReceived | None = None) -> None:
        """Holds a running method until it is done; the loop itself holds tasks weakly."""
        self.tasks[task] = (call, self._connection.time())
        task.add_done_callback(self.tasks.pop)

    def running(self) -> Iterator[tuple[asyncio.Future[Any], CallReceived, float]]:
        """Yields what runs for the peer: its task, the call, and since when."""
        for task, (call, since) in list(self.tasks.items()):
            if call is not None:
                yield task, call, since

    def started(self, call: CallReceived, running: Running) -> object:
        """Counts a method that waits for something."""
        return self._connection.turns.started(call, running)

    def method_ended(self, key: object) -> None:
        """Counts the end of such a method."""
        self._connection.turns.ended(key)

    def warn(self, level: int, text: str, *args: object) -> None:
        """Logs a line about the peer, unless there were too many."""
        self._connection.warn(level, text, *args)

    def is_here(self) -> bool:
        """Returns whether this thread is the one of the connection's loop."""
        return self._connection.is_here()

    def schedule(self, callback: Callable[..., object], *args: Any) -> bool:
        """Runs a callback in the connection's loop, soon; returns False where that is closed."""
        return self._connection.schedule(callback, *args)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the connection's loop, after some time."""
        return self._connection.call_later(seconds, callback)

    # Sessions

    def begin_session(self, call: CallReceived, session: Session) -> None:
        """Answers a login that has succeeded, and keeps its session until it ends."""
        connection = self._connection
        if connection.lost or not call.wants_answer:
            self._end_session(session)
            return
        if len(self._sessions) >= connection.machine.limits.references:
            self._end_session(session)
            self.reply_failure(call, Failure(Error("there are too many logins on this connection")))
            return
        connection.admitted()
        if connection.log is not None:
            connection.log.replied(call)
        failure = connection.machine.answer(call.request_id, session.avatar, call.perspective)
        if failure is None:
            key = session.avatar.processUniqueID()
            self._sessions.setdefault(key, []).append(session)
        else:
            log.error("an avatar cannot be sent: %s", failure.getErrorMessage())
            self._end_session(session)
        connection.writing.soon()

    def released(self, event: ObjectReleased) -> None:
        """Ends the sessions whose avatar the peer has let go."""
        if self._sessions and isinstance(event.obj, Serializable):
            for session in self._sessions.pop(event.obj.processUniqueID(), ()):
                self._end_session(session)

    def users(self) -> str:
        """Returns who has logged in, safe to show."""
        return ", ".join(user_of(who) for each in self._sessions.values() for who in each)

    def end(self) -> None:
        """Ends all sessions: the connection has ended."""
        for session in [each for sessions in self._sessions.values() for each in sessions]:
            self._end_session(session)
        self._sessions.clear()

    def _end_session(self, session: Session) -> None:
        ended = shielded(session.end)
        if inspect.isawaitable(ended):
            self.keep_task(asyncio.ensure_future(_logged(ended)))


def shielded(callback: Callable[..., object], *args: object) -> object:
    """Calls the user's code; where that fails it is logged, and the others are told as well."""
    try:
        return callback(*args)
    except (Exception, SystemExit):
        log.exception("a callback of a connection failed")
        return None


async def _logged(awaitable: Any) -> None:
    try:
        await awaitable
    except (Exception, SystemExit):  # as above
        log.exception("a callback of a connection failed")
