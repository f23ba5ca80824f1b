"""References that outlive their connections.

A `KeptReference` stands for the object that a server offers, whichever connection leads to it now.
Its ``broker`` is a `Keeper`, which connects again when the connection has ended: at growing,
random intervals (`Backoff`), for as long as somebody holds the reference, and until the server
refuses the login.

Nothing here is done twice on its own: a call that was sent when the connection ended fails with
`PBConnectionLost`, unless its reference was marked with ``repeatable()``. A call that is made
while there is no connection waits for the next one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..cards import card
from ..errors import (
    ConnectError,
    DeadReferenceError,
    LoginFailed,
    PBConnectionLost,
    RemoteProtocolError,
)
from ..failure import Failure, RemoteError, shown
from ..refs import RemoteReference
from .address import is_loopback, parse_address
from .backoff import Backoff
from .connection import Connection
from .deadlines import exceeded, seconds_for
from .deferred import Deferred, maybeDeferred
from .kept_calls import KeptCall
from .streams import Stream
from .threads import await_in, call_in, tell

__all__ = ["Keeper", "KeptReference", "keep", "keeper_of", "on_wait"]

log = logging.getLogger("pbnb")

Again = Callable[[], Awaitable[RemoteReference]]

on_wait: list[Callable[[Keeper, KeptCall], Callable[[], object]]] = []
"""Each is called with a call that begins to wait, and returns what takes its sign back."""

# Seconds after which the log tells of calls that wait, where nothing else shows them.
_TELL_AFTER = 2.0
# How often a call that may be repeated is sent again, where nobody says how often.
_REPEATS = 5

# What an attempt may fail with that can be otherwise the next time; the rest are mistakes.
_PASSING = (
    OSError,  # ConnectError and timeouts among them
    PBConnectionLost,
    DeadReferenceError,
    RemoteProtocolError,
    RemoteError,
)

# Keepers whose calls wait: whoever awaits one need not hold the reference.
_awaited: set[Keeper] = set()
_keepers: weakref.WeakKeyDictionary[Connection, weakref.ref[Keeper]] = weakref.WeakKeyDictionary()
# Set while a callback of notifyOnConnect runs, to the setting up that it belongs to.
_part_of: ContextVar[object | None] = ContextVar("pbnb setting up", default=None)


class KeptReference(RemoteReference):
    """The object that a server offers, over whichever connection leads to it now.

    It is made by ``pb.connect(..., keep=True)``. References that came by a connection die with it;
    this one waits for the next. What was set up at the server, such as a subscription, has to be
    set up again after each: `notifyOnConnect` is for that.

    Equal are it and what `with_deadline` and `repeatable` make of it, before and after each new
    connection. It can be sent to its own server, which gets its own object.

    Attributes:
        broker: The `Keeper`; ``await ref.broker.close()`` ends the connection for good.
        deadline: Seconds that each call through this reference has, or None.
        repeats: How often a call may be sent again after its connection has ended.
    """

    __slots__ = ("deadline", "repeats")

    def __init__(self, keeper: Keeper, deadline: float | None = None, repeats: int = 0) -> None:
        # Not the constructor of the base: the luid is that of the object's present reference.
        if deadline is not None and not deadline > 0:
            raise ValueError(f"a deadline is a number of seconds above 0, not {deadline!r}")
        self.broker = keeper
        self.perspective = None
        self.deadline = deadline  # type: ignore[misc]
        self.repeats = repeats

    @property
    def luid(self) -> int | bytes:  # type: ignore[override]
        """The peer's number for the object, over the present connection."""
        current = self.broker.current
        return b"" if current is None else current.luid

    def with_deadline(self, seconds: float) -> KeptReference:
        """Returns a reference to the same object, with a deadline for each call.

        The time that a call waits for a connection counts.

        Args:
            seconds: How long a call may take.
        """
        return KeptReference(self.broker, seconds, self.repeats)

    def repeatable(self, times: int = _REPEATS) -> KeptReference:
        """Returns a reference to the same object, whose calls may be repeated.

        A call that was sent when the connection ended is sent again over the next one, whether
        or not the server has seen it. That is safe where doing it twice is as good as doing it
        once, such as for reading or setting a value.

        Args:
            times: How often one call may be sent again: it may be what ends the connection.
        """
        return KeptReference(self.broker, self.deadline, times)

    def notifyOnConnect(self, callback: Callable[[RemoteReference], object]) -> Any:
        """Runs a callback with this reference now, and again after each new connection.

        It sets up what the server has forgotten, such as a subscription. Calls that wait for the
        connection go on when it has ended, so that they find everything set up.

        Args:
            callback: May be async, or return any awaitable.

        Returns:
            A Deferred of what the first run returns. What fails in later ones is logged.

        Raises:
            DeadReferenceError: There will be no connection any more.
        """
        return self.broker.set_up_by(self, callback)

    def dontNotifyOnConnect(self, callback: Callable[[RemoteReference], object]) -> None:
        """Takes back what `notifyOnConnect` arranged.

        Args:
            callback: The same callback.
        """
        self.broker.not_set_up_by(callback)

    def notifyOnDisconnect(self, callback: Callable[[RemoteReference], object]) -> None:
        """Runs a callback with this reference each time that the connection ends.

        Args:
            callback: Called with this reference.
        """
        self.broker.watch(self, callback)

    def __hash__(self) -> int:
        # The luid may be another one over each connection.
        return hash(id(self.broker))

    def __repr__(self) -> str:
        state = self.broker.state()
        return f"<KeptReference at {self.broker.peer}{state and ', ' + state}>"

    def _repr_html_(self) -> str:
        return card("KeptReference", at=self.broker.peer, connection=self.broker.state())


@dataclass
class _SetUp:
    """One callback of notifyOnConnect."""

    ref: KeptReference
    callback: Callable[[RemoteReference], object]
    context: Context
    first: Deferred[Any] | None = None

    def run(self, part: object) -> Deferred[Any]:
        # In a copy: a task that the callback starts keeps its own idea of what it is part of.
        context = self.context.copy()
        context.run(_part_of.set, part)
        return context.run(maybeDeferred, self.callback, self.ref)


class _UnderWay:
    """What a keeper has under way. It does not know the keeper, and outlives it by a moment."""

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.setting_up: Deferred[Any] | None = None

    def stop(self) -> None:
        for each in (self.timer, self.setting_up, self.task):
            if each is not None:
                each.cancel()
        self.timer = self.setting_up = None


class Keeper:
    """Keeps a connection to one server: the ``broker`` of a `KeptReference`.

    Args:
        again: Connects, logs in and returns the reference to what the server offers.
        first: What it has returned the first time.
        backoff: The pauses between attempts.

    Attributes:
        backoff: The pauses between attempts.
        current: The reference to the object over the present connection, or None.
        peer: The address of the server, as ``host:port``.
        lost: Whether there will be no connection any more.
        error: What has ended the keeping; None where this side has.
        failures: How many attempts have failed in a row.
        reason: Why there is no connection.
        since: When the last connection has ended, by the loop's clock.
        waiting: The calls that wait for a connection.
    """

    def __init__(self, again: Again, first: RemoteReference, backoff: Backoff) -> None:
        self.backoff = backoff
        self.current: RemoteReference | None = None
        self.peer = ""
        self.lost = False
        self.error: Exception | None = None
        self.failures = 0
        self.reason = ""
        self.since = 0.0
        self.waiting: dict[KeptCall, None] = {}
        self._again = again
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._context = copy_context()
        self._near = False
        self._opened_at = self._tried_at = self._loop.time()
        self._next_at: float | None = None
        self._part: object | None = None
        self._told = False
        self._watchers: list[tuple[RemoteReference | None, Callable[..., object]]] = []
        self._set_ups: list[_SetUp] = []
        self._under_way = _UnderWay()
        ending = weakref.finalize(self, _stop_soon, self._loop, self._under_way)
        ending.atexit = False
        self._adopt(first)
        self._limits = first.broker.machine.limits

    # What references ask for

    def call(
        self, ref: KeptReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Deferred[Any]:
        """Sends a call when there is a connection, and returns a Deferred of its answer.

        Raises:
            DeadReferenceError: There will be no connection any more.
        """
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        if threading.get_ident() != self._thread:
            return self._call_from_thread(ref, name, args, kw)
        connection = self._usable()
        if connection is not None and not ref.repeats:
            sent: Deferred[Any] = connection.call(self._through(ref.deadline), name, args, kw)
            return sent
        self._check()
        call = KeptCall(
            self,
            name,
            args,
            kw,
            deadline=ref.deadline,
            repeats=ref.repeats,
            seconds=self._limits.call_seconds,
            patience=self._limits.silence_seconds,
        )
        if connection is not None:
            call.go()
        elif len(self.waiting) >= self._limits.queued_calls:
            call.fail(
                ConnectError(
                    f"{name}() was not sent: {len(self.waiting)} calls wait for a connection to "
                    f"{self.peer} already"
                )
            )
        else:
            self.hold(call)
        return call.waiter

    def call_only(
        self, ref: KeptReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        """Sends a call that is not answered, and for which nobody would wait.

        Raises:
            DeadReferenceError: There is no connection now.
        """
        self._check()
        current = self.current
        if current is None:
            raise DeadReferenceError(f"there is no connection to {self.peer}: {self.state()}")
        current.broker.call_only(current, name, args, kw)

    def stream(
        self, ref: KeptReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Stream:
        """Returns what a method yields, for ``async for``, over the connection it begins with."""
        return Stream(ref, name, args, kw)

    def watch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Runs ``callback(ref)`` each time that a connection ends."""
        self._watchers.append((ref, callback))

    def unwatch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Takes a `watch` back; one that does not exist is no error."""
        if (ref, callback) in self._watchers:
            self._watchers.remove((ref, callback))

    def set_up_by(
        self, ref: KeptReference, callback: Callable[[RemoteReference], object]
    ) -> Deferred[Any]:
        """Runs ``callback(ref)`` now, and after each new connection.

        Raises:
            DeadReferenceError: There will be no connection any more.
        """
        self._check()
        entry = _SetUp(ref, callback, copy_context())
        self._set_ups.append(entry)
        if self._usable() is not None:
            return maybeDeferred(callback, ref)
        entry.first = Deferred()
        return entry.first

    def not_set_up_by(self, callback: Callable[[RemoteReference], object]) -> None:
        """Takes a `set_up_by` back; one that does not exist is no error."""
        self._set_ups = [each for each in self._set_ups if each.callback != callback]

    # What users ask for

    @property
    def connection(self) -> Connection | None:
        """The connection that there is now, or None."""
        return None if self.current is None else self.current.broker

    def notifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Runs a callback, without arguments, each time that a connection ends."""
        self._watchers.append((None, callback))

    def dontNotifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Takes back what `notifyOnDisconnect` arranged."""
        if (None, callback) in self._watchers:
            self._watchers.remove((None, callback))

    async def close(self) -> None:
        """Ends the connection, and connects no more."""
        if threading.get_ident() != self._thread or self._loop.is_closed():
            await await_in(self._loop, self.close)
            return
        connection, task = self.connection, self._under_way.task
        self._end("closed here")
        if connection is not None:
            await connection.close()
        if task is not None and not task.done():
            await asyncio.wait([task])

    def disconnect(self) -> None:
        """Ends the connection and connects no more, without waiting for its end."""
        if threading.get_ident() != self._thread:
            tell(self._loop, self.disconnect)
            return
        connection = self.connection
        self._end("closed here")
        if connection is not None:
            connection.disconnect()

    def state(self) -> str:
        """Returns what is waited for, in words; nothing where there is a connection."""
        if self.lost:
            return f"kept no longer: {self.reason}"
        if self.current is not None:
            return "connected again, setting up" if self._part is not None else ""
        if self._next_at is None:
            return f"connecting again: {self.reason}"
        seconds = max(self._next_at - self._loop.time(), 0.0)
        return f"connecting again in {seconds:.1f} s: {self.reason}"

    def __repr__(self) -> str:
        state = self.state() or "connected"
        return f"<Keeper of a connection to {self.peer}, {state}>"

    # What calls ask for

    def send(self, call: KeptCall, seconds: float) -> Deferred[Any]:
        """Sends a call over the connection that there is now."""
        self._check()
        ref = self._through(None if seconds == math.inf else seconds)
        sent: Deferred[Any] = ref.broker.call(ref, call.name, call.args, call.kw)
        return sent

    def hold(self, call: KeptCall) -> None:
        """Keeps a call until there is a connection."""
        if self.lost:
            call.fail(self._never_sent(call))
            return
        if self.current is not None and self.current.broker.lost:
            # Its calls end before it says so itself.
            self._on_lost(self.current.broker)
        self.waiting[call] = None
        _awaited.add(self)
        call.wait()
        for show in on_wait:
            call.signs.append(call.run_here(show, self, call))
        if not on_wait and not self._told:
            self._loop.call_later(_TELL_AFTER, _tell, weakref.ref(self))
        if self._near and self._next_at is not None:
            self._hurry()

    def forget(self, call: KeptCall) -> None:
        """Keeps a call no longer."""
        self.waiting.pop(call, None)
        if not self.waiting:
            _awaited.discard(self)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the loop, later."""
        return self._loop.call_later(seconds, callback)

    def time(self) -> float:
        """Returns the time of the loop."""
        return self._loop.time()

    # Connecting

    def connected(self, ref: RemoteReference) -> None:
        """Takes a new connection over."""
        self._next_at = None
        self._adopt(ref)

    async def set_up(self, ref: RemoteReference) -> None:
        """Sets up at the server what it has forgotten, and sends the calls that have waited."""
        part = object()
        for entry in list(self._set_ups):
            if self.current is not ref:
                return
            self._part = part
            self._under_way.setting_up = running = entry.run(part)
            # Not awaited itself: it may be cancelled, and this is not.
            await asyncio.wait([running])  # type: ignore[type-var]  # a future to asyncio
            if self.current is not ref:
                running.addErrback(lambda failure: None)  # the next connection has its turn
                return
            self._under_way.setting_up = None
            self._take_outcome(entry, running)
        if self.current is ref:
            self._part = None
            self._opened_at = self._loop.time()
            self._told = False
            self._send_waiting()

    def failed(self, error: Exception) -> None:
        """Notes that an attempt has failed, and plans the next one, if there is to be one."""
        text = shown(str(error) or type(error).__name__, 300)
        if self.lost:
            return
        if isinstance(error, _PASSING) and not isinstance(error, LoginFailed):
            self.reason = text
            self.failures += 1
            self._plan()
        else:
            self._end(text, error)
            log.warning("the connection to %s is kept no longer: %s", self.peer, text)

    def stop(self) -> None:
        """Ends: the loop does."""
        self._end("its loop has ended")

    def attempt(self) -> None:
        """Tries to connect."""
        self._next_at = None
        self._tried_at = self._loop.time()
        self._under_way.timer = None
        self._under_way.task = self._loop.create_task(
            _connect(weakref.ref(self), self._again), context=self._context
        )

    def _plan(self) -> None:
        pause = self.backoff.pause(self.failures, random.random(), self._near)
        self._next_at = self._loop.time() + pause
        self._under_way.timer = self._loop.call_later(
            pause, _attempt, weakref.ref(self), context=self._context
        )

    def _hurry(self) -> None:
        """Tries earlier than planned, because somebody waits and it costs next to nothing."""
        at = max(self._tried_at + self.backoff.shortest, self._loop.time())
        if self._under_way.timer is not None and self._next_at is not None and at < self._next_at:
            self._under_way.timer.cancel()
            self._next_at = at
            self._under_way.timer = self._loop.call_at(
                at, _attempt, weakref.ref(self), context=self._context
            )

    def _adopt(self, ref: RemoteReference) -> None:
        connection = ref.broker
        if not isinstance(connection, Connection):
            kind = type(ref).__name__
            raise TypeError(f"what is to be kept is a new connection's reference, not a {kind}")
        self.current = ref
        self.peer = connection.peer
        self._near = _is_near(connection.peer)
        _keepers[connection] = weakref.ref(self)
        connection.advice = "; what is kept is the reference that pb.connect has returned"
        connection.notifyOnDisconnect(partial(_lost, weakref.ref(self), weakref.ref(connection)))

    def _on_lost(self, connection: Connection) -> None:
        if self.current is None or self.current.broker is not connection:
            return
        self.current = self._part = None
        self.since = self._loop.time()
        if not self.lost:
            because = f": {connection.error}" if connection.error is not None else ""
            self.reason = f"the connection to {self.peer} ended{because}"
            # One that ended soon does not make the pauses short again.
            lived = self._loop.time() - self._opened_at
            self.failures = 0 if lived >= self.backoff.most(self._near) else self.failures + 1
            if self._under_way.setting_up is not None:
                self._under_way.setting_up.cancel()
            self._plan()
        for ref, callback in list(self._watchers):
            try:
                callback(*(() if ref is None else (ref,)))
            except Exception:  # the user's code; the others still have to be told
                log.exception("a callback of a connection failed")

    def _take_outcome(self, entry: _SetUp, outcome: Deferred[Any]) -> None:
        first, entry.first = entry.first, None
        if first is not None and not first.called:
            outcome.addCallbacks(first.callback, first.errback)
        else:
            outcome.addErrback(self._tell_of)

    def _tell_of(self, failure: Failure) -> None:
        text = "a callback that sets up the connection to %s failed:\n%s"
        log.error(text, self.peer, failure.getTraceback())

    def _end(self, reason: str, error: Exception | None = None) -> None:
        if self.lost:
            return
        self.lost = True
        self.error = error
        self.reason = reason
        self._next_at = None
        self._under_way.stop()
        waiting, self.waiting = self.waiting, {}
        _awaited.discard(self)
        for call in waiting:
            call.fail(self._never_sent(call) if error is None else error)
        for entry in self._set_ups:
            if entry.first is not None and not entry.first.called:
                entry.first.errback(error or DeadReferenceError(self.state()))
        self._set_ups.clear()

    # Calls

    def _usable(self) -> Connection | None:
        """Returns the connection over which a call that is made here and now may go, or None."""
        if self.current is None or self.lost:
            return None
        connection: Connection = self.current.broker
        if connection.lost or connection.machine.broken:
            return None
        if self._part is not None and _part_of.get() is not self._part:
            return None
        return connection

    def _through(self, deadline: float | None) -> RemoteReference:
        assert self.current is not None
        return self.current if deadline is None else self.current.with_deadline(deadline)

    def _send_waiting(self) -> None:
        while self.waiting and self._usable() is not None:
            call = next(iter(self.waiting))
            self.forget(call)
            call.go()

    def _check(self) -> None:
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        if self.lost:
            raise DeadReferenceError(f"the reference to {self.peer} is {self.state()}")

    def _never_sent(self, call: KeptCall) -> Exception:
        return PBConnectionLost(
            f"{call.name}() was not sent: the reference to {self.peer} is {self.state()}"
        )

    def _call_from_thread(
        self, ref: KeptReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Deferred[Any]:
        # The time is read here: in another thread the scope of a deadline may have ended.
        seconds = seconds_for(ref.deadline, self._limits.call_seconds)
        through = ref if seconds == math.inf else ref.with_deadline(seconds)
        too_late = partial(exceeded, name, seconds, self.peer)
        call = partial(self.call, through, name, args, kw)
        waiter = call_in(self._loop, call, seconds, too_late)
        if waiter is None:
            raise DeadReferenceError(f"the loop that keeps a connection to {self.peer} is closed")
        return waiter


async def keep(again: Again, backoff: Backoff | None = None) -> KeptReference:
    """Connects, and returns a reference that connects again whenever its connection has ended.

    ``pb.connect(..., keep=True)`` is the short form, for a server that stays at its address.

    Args:
        again: Connects, such as by `connect`, and returns the reference. It is called for each
            connection anew, and may look up where the server is now. What it raises the first
            time is raised here. Afterwards `LoginFailed` ends the keeping, errors of the
            connection and of the server are a reason to try again, and others are mistakes, which
            end the keeping too.
        backoff: The pauses between attempts.

    Returns:
        The reference. The keeping ends with ``await ref.broker.close()``, and when the reference
        is collected; the connection then stays as it is.
    """
    return KeptReference(Keeper(again, await again(), backoff or Backoff()))


def keeper_of(connection: Connection) -> Keeper | None:
    """Returns what keeps a connection, or None.

    Args:
        connection: Any connection.
    """
    found = _keepers.get(connection)
    return None if found is None else found()


# What timers, tasks and connections call: they know the keeper weakly, or nothing would let it go.


def _attempt(weak: weakref.ref[Keeper]) -> None:
    keeper = weak()
    if keeper is not None and not keeper.lost:
        keeper.attempt()


def _lost(weak: weakref.ref[Keeper], ended: weakref.ref[Connection]) -> None:
    keeper, connection = weak(), ended()
    if keeper is not None and connection is not None:
        keeper._on_lost(connection)


def _tell(weak: weakref.ref[Keeper]) -> None:
    keeper = weak()
    if keeper is not None and keeper.waiting and not keeper._told and not keeper.lost:
        keeper._told = True
        log.warning("%s() waits for %s, %s", _names(keeper), keeper.peer, keeper.state())


def _names(keeper: Keeper) -> str:
    return "(), ".join(dict.fromkeys(shown(call.name, 80) for call in keeper.waiting))


async def _connect(weak: weakref.ref[Keeper], again: Again) -> None:
    try:
        ref = await again()
        keeper = weak()
        if keeper is None or keeper.lost:
            ref.broker.disconnect()
            return
        keeper.connected(ref)
        await keeper.set_up(ref)
    except Exception as error:
        if (keeper := weak()) is not None:
            keeper.failed(error)
    except BaseException:
        # Cancelled with all others by who ends the loop, unless the keeper itself has done it.
        if (keeper := weak()) is not None:
            keeper.stop()
        raise


def _stop_soon(loop: asyncio.AbstractEventLoop, under_way: _UnderWay) -> None:
    try:
        loop.call_soon_threadsafe(under_way.stop)
    except RuntimeError:  # the loop is closed, and nothing is under way
        pass


def _is_near(peer: str) -> bool:
    try:
        return is_loopback(parse_address(peer)[0])
    except ValueError:  # a socket that is a file
        return True
