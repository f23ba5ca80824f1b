"""One connection: a protocol machine on an asyncio transport.

It implements what a `RemoteReference` asks of its peer, and runs on the event loop on which it
was made. What its users ask of it may be asked in any thread; see `pbnb.aio.threads`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..cred import Session
from ..errors import BananaError, DeadReferenceError, Error, InsecureJelly, PBConnectionLost
from ..failure import Failure, shown
from ..flavors import Referenceable, Root, Serializable
from ..jelly.extras import ABOUT_NAME, PeerNotAsked, types_in
from ..jelly.security import SecurityOptions
from ..limits import Limits
from ..protocol.broker import ROOT, Broker
from ..protocol.events import (
    AnswerReceived,
    CallReceived,
    CallRefused,
    ConnectionBroken,
    ErrorReceived,
    NotUnderstood,
    ObjectReleased,
    ObservingStopped,
    Opened,
    PendingCall,
)
from ..protocol.snapshot import (
    CallRow,
    PeerRow,
    Snapshot,
    borrowed_rows,
    cache_rows,
    lent_rows,
    target_of,
)
from ..refs import CachedRemotely, RemoteReference
from .calls import CallLog, reason, user_of
from .control import Control
from .deadlines import Deadlines, exceeded, seconds_for
from .deferred import Deferred, fail
from .dispatch import run_call
from .ends import Ends
from .flow import Flow
from .here import Here
from .liveness import Liveness, unread
from .logged import Warnings
from .threads import await_in, call_in, running_loop, tell
from .turns import Running, Turns

__all__ = ["Connection"]

log = logging.getLogger("pbnb")

# Messages are joined and written once in a turn of the loop. A peer that is kept waiting for a
# whole turn idles, though, so that a long burst is written in pieces.
_BURST = 24

# On these Pythons writelines() does not tell that the buffer is full (CVE-2024-12254).
_NEVER_FULL = sys.version_info[:2] in ((3, 12), (3, 13)) and sys.version_info < (
    (3, 12, 9) if sys.version_info < (3, 13) else (3, 13, 2)
)

# Seconds for which the calls of one peer are handled before others have their turn: one segment
# may hold thousands. The clock is read after every so many.
_SLICE = 0.05
_EVENTS = 4

# Seconds that closing waits for the peer to read what is still buffered.
_GRACE = 2.0


# What is received is short, as a rule, and is copied out of this at once; one will do for all
# connections of a thread. What is long is received where it belongs.
_RECEIVED = 256 * 1024
_scratch = threading.local()

# Pieces of large messages that are written in one turn of the loop.
_PIECES = 8


class Connection(asyncio.BufferedProtocol, asyncio.Protocol):
    """One end of a connection, with its peer at the other.

    Args:
        listening: Whether this side listened for the connection.
        root: The object offered to the peer; None offers nothing.
        limits: What the peer may cost.
        guarded: Hold the peer to tighter limits until it has logged in.
        security: What may come in.
        dialects: Names of the dialects to speak.
        unsafe_tracebacks: Send tracebacks of this process with failures.
        warnings: Says what the peer does wrong; a server's connections share one.
        made: Called with this connection and its transport before anything is sent.
        opened: Called with this connection when a dialect is agreed on.
        ended: Called with this connection, once, when it has ended.

    Attributes:
        machine: The protocol machine, which holds the tables.
        peer: The peer's address, as ``host:port``; with a Unix socket a path or a process.
        channel: What a login is bound to, in the words of both sides: the certificate of the side
            that listened, or else its address.
        lost: Whether the connection has ended.
        error: What ended the connection, where that was an error.
        since: When the connection was made, by its loop's clock.
        bytes_received: How many bytes have come.
        bytes_sent: How many bytes have gone.
        calls_received: How many calls have come.
        calls_sent: How many calls have gone.
        advice: What a user who calls through a dead reference is told besides.
    """

    advice = ""

    def __init__(
        self,
        *,
        listening: bool,
        root: Root | None = None,
        limits: Limits | None = None,
        guarded: bool = False,
        security: SecurityOptions | None = None,
        dialects: Sequence[str] | None = None,
        unsafe_tracebacks: bool = False,
        warnings: Warnings | None = None,
        made: Callable[[Connection, asyncio.BaseTransport], object] = lambda *made: None,
        opened: Callable[[Connection], object] = lambda connection: None,
        ended: Callable[[Connection], object] = lambda connection: None,
    ) -> None:
        self.machine = Broker(
            self,
            listening=listening,
            limits=limits,
            guarded=guarded,
            security=security,
            dialects=dialects or ("pbnb1", "pb", "none"),
            unsafe_tracebacks=unsafe_tracebacks,
            note=self._note_release,
        )
        self.peer = "nobody yet"
        self.channel = ""
        self._listening = listening
        self.lost = False
        self.error: Exception | None = None
        self.since = 0.0
        self.bytes_received = self.bytes_sent = 0
        self.calls_received = self.calls_sent = 0
        self._log: CallLog | None = None
        self._root = root
        self._made = made
        self._opened = opened
        self._ended = ended
        self._awaiting: list[Callable[[], object]] = []
        self._watchers: list[_Watcher] = []
        # What the peer has logged in to, by what tells apart the objects that it was given for it.
        self._sessions: dict[Hashable, list[Session]] = {}
        # What runs for the peer: which call, since when.
        self._tasks: dict[asyncio.Future[Any], tuple[CallReceived | None, float]] = {}
        self._thread = threading.get_ident()
        self._flushing = False
        # The call whose method is being run: its answer is written when what was read is handled.
        self._handling: CallReceived | None = None
        self._pumping = False
        self._closing = False
        self._in_place = False
        self._releasing = False
        self._reading_later = False
        self._full = False
        self._paced: list[Callable[[], bool]] = []
        limits = limits or Limits()
        allowed = limits.before_login() if guarded else limits
        self._limits = limits
        self._guarded = guarded
        self._warnings = warnings or Warnings(limits.logged_lines)
        self.turns = Turns(self, allowed)
        self.flow = Flow(self, allowed)
        self.liveness = Liveness(self, limits)
        self._deadlines = Deadlines(self._on_deadline)
        self.machine.refs.named[ABOUT_NAME] = Control(self.turns.cancel)
        self._asking: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop
        self._transport: asyncio.Transport
        self._closed: asyncio.Future[None]
        self._here: Here

    # What the event loop calls. It takes the way of BufferedProtocol, with memory of ours.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the opening; called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.machine.refs.clock = self._loop.time
        self.since = self._loop.time()
        self._closed = self._loop.create_future()
        self.liveness.begin(transport)
        self.peer, self.channel, own, other = Ends.of(transport, self._listening)
        self._here = Here(own, other)
        self._made(self, transport)
        if self._root is not None:
            self.machine.refs.named[ROOT] = self._root.rootObject(self)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Returns where the next bytes are to be received; called by the event loop."""
        room = self.machine.room()
        self._in_place = room is not None
        if room is not None:
            return room
        try:
            scratch: memoryview = _scratch.view
        except AttributeError:
            scratch = _scratch.view = memoryview(bytearray(_RECEIVED))
        return scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Handles what was received into the last buffer; called by the event loop."""
        if not self._in_place:
            self.data_received(_scratch.view[:nbytes].tobytes())
            return
        self.bytes_received += nbytes
        self.liveness.heard_at = self._loop.time()
        self.machine.filled(nbytes)
        self.read_on()

    def data_received(self, data: bytes) -> None:
        """Handles bytes of the peer's."""
        self.bytes_received += len(data)
        self.machine.receive_data(data)
        self.read_on()

    def read_on(self) -> None:
        """Handles what was received and is not handled yet."""
        machine, flow, left = self.machine, self.flow, _EVENTS
        began = self.liveness.heard_at = self._loop.time()
        # One event at a time: a handler may run a nested loop, which comes back to this method.
        while not flow.holds_reading and (event := machine.next_event()) is not None:
            _HANDLERS[type(event)](self, event)
            left -= 1
            if not left:
                if self._loop.time() - began > _SLICE:
                    self._read_later()
                    break
                left = _EVENTS
        self._flush()

    def _read_later(self) -> None:
        if not self._reading_later and not self.lost:
            self._reading_later = True
            self._transport.pause_reading()
            self._loop.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        self._reading_later = False
        self.read_on()
        if not (self._reading_later or self.flow.holds_reading or self.lost):
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends every pending call; called by the event loop."""
        self.lost = True
        cause = self.error = self.error or exc
        self.liveness.end()
        self._here.ended()
        self.turns.clear()
        self._deadlines.clear()
        ended = self.machine.close()
        for call in ended.calls:
            self.calls.answered(call, "the connection ended")
            if call.waiter is not None:
                waiter, call.waiter = call.waiter, None
                waiter.errback(self._lost_error(call, cause))
        self.flow.clear(cause)
        for entry in ended.observed:
            _shielded(entry.stop)
        for session in [each for sessions in self._sessions.values() for each in sessions]:
            self._end_session(session)
        self._sessions.clear()
        watchers, self._watchers = self._watchers, []
        for ref, callback, loop in watchers:
            tell(loop, _shielded, callback, *(() if ref is None else (ref,)))
        self.resume_writing()
        _shielded(self._ended, self)
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """Holds what is paced, because the peer reads too slowly; called by the event loop."""
        self._full = True

    def resume_writing(self) -> None:
        """Lets what is paced go on; called by the event loop."""
        self._full = False
        if self.machine.sending and not (self._pumping or self.lost):
            self._pump()
        self.flow.resume()
        if not self.flow.full:
            self.turns.advance()
        paced, self._paced = self._paced, []
        for step in paced:
            self._loop.call_soon(self._run_step, step)

    def _lost_error(self, call: PendingCall, cause: Exception | None) -> PBConnectionLost:
        return self.lost_error(call.name, cause)

    def lost_error(self, name: str, cause: Exception | None) -> PBConnectionLost:
        """Returns the error of a call that was pending when the connection ended."""
        because = f": {cause}" if cause is not None else ""
        error = PBConnectionLost(
            f"the connection to {self.peer} ended while {name}() was pending{because}"
        )
        error.__cause__ = cause
        return error

    # What references ask for

    def call(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Deferred[Any]:
        """Sends a call and returns a Deferred of its answer.

        Raises:
            DeadReferenceError: The connection has ended.
        """
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        self._check(kw)
        seconds = seconds_for(ref.deadline, self._limits.call_seconds)
        send = partial(self.machine.call, ref, name, args, kw)
        if threading.get_ident() != self._thread:
            return self._sent_from_thread(name, send, seconds)
        return self._sent(name, send, seconds)

    def call_cache(
        self, cached: CachedRemotely, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Deferred[Any]:
        """Sends a call to the peer's live copy of an object; returns a Deferred of its answer.

        Raises:
            DeadReferenceError: The connection has ended.
        """
        self._check(kw)
        seconds = seconds_for(None, self._limits.call_seconds)
        send = partial(self.machine.call_cache, cached, name, args, kw)
        if threading.get_ident() != self._thread:
            return self._sent_from_thread(name, send, seconds)
        return self._sent(name, send, seconds)

    def _sent(
        self, name: str, send: Callable[[], PendingCall | None], seconds: float
    ) -> Deferred[Any]:
        if self.flow.full:
            return self.flow.hold_call(name, send, seconds)
        if self._releasing:
            # What was let go before the call is let go there before the call, too.
            self.machine.release_borrowed()
        try:
            pending = send()
        except DeadReferenceError:
            raise
        except (InsecureJelly, BananaError) as error:
            # Their text says what cannot be sent; the frames of the serializer add nothing.
            return fail(error.with_traceback(None))
        except Exception as error:  # from the state of the user's objects
            return fail(error)
        assert pending is not None
        waiter: Deferred[Any] = Deferred(_Canceller(self, pending))
        self.await_answer(pending, waiter, seconds)
        return waiter

    def await_answer(self, pending: PendingCall, waiter: Deferred[Any], seconds: float) -> None:
        """Sees to it that a call which was just sent ends.

        Args:
            pending: The call.
            waiter: Gets its answer.
            seconds: How long it may take.
        """
        pending.waiter = waiter
        pending.since = self._loop.time()
        self._here.called(pending.request_id)
        self.calls_sent += 1
        if seconds != math.inf:
            self._deadlines.add(pending, seconds, self._loop)
        if not self.liveness.watching:
            self.liveness.watch()
        self._write_soon()

    def _on_deadline(self, call: PendingCall, seconds: float) -> None:
        waiter, call.waiter = call.waiter, None
        self.cancel_at_peer(call)
        waiter.errback(exceeded(call.name, seconds, self.peer))

    def cancel_at_peer(self, call: PendingCall) -> None:
        """Tells the peer that nobody waits for a call any more."""
        if not self.lost and self.machine.pending.get(call.request_id) is call:
            self.call_only(self.remoteForName(ABOUT_NAME), "cancel", (call.request_id,), {})

    def call_only(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        """Sends a call that is not answered.

        Raises:
            DeadReferenceError: The connection has ended.
            InsecureJelly: An argument may not be sent.
            BananaError: An argument does not fit the wire.
        """
        self._check(kw)
        if threading.get_ident() != self._thread:
            if not tell(self._loop, self._call_only_later, ref, name, args, kw):
                raise self._stale()
            return
        if self.flow.full:
            self.flow.hold(partial(self.call_only, ref, name, args, kw))
            return
        self.machine.call(ref, name, args, kw, wants_answer=False)
        self.calls_sent += 1
        self._write_soon()

    def _check(self, kw: dict[str, Any]) -> None:
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        if self.lost or self.machine.broken:
            raise self._stale()
        if not kw:
            return
        for taken in ("pbanswer", "pbcallback", "pberrback"):
            if taken in kw:
                raise TypeError(
                    f"{taken}= is no option of callRemote: use remote_only() for a call without "
                    "an answer, and addCallbacks() for callbacks"
                )

    def _stale(self) -> DeadReferenceError:
        ended = f"the connection to {self.peer} ended{self.advice}"
        return DeadReferenceError(f"Calling Stale Broker: {ended}")

    def _left_behind(self) -> DeadReferenceError:
        # The loop was closed, and nobody had closed the connection before.
        self.lost = True
        self._here.ended()
        self.machine.close()
        return self._stale()

    # Other threads

    def is_here(self) -> bool:
        """Returns whether this thread is the one of the connection's loop."""
        return threading.get_ident() == self._thread

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
        waiter = call_in(self._loop, call, seconds, too_late)
        if waiter is None:
            raise self._stale()
        return waiter

    def _sent_from_thread(
        self, name: str, send: Callable[[], PendingCall | None], seconds: float
    ) -> Deferred[Any]:
        call = partial(self._sent, name, send, seconds)
        return self.call_here(call, seconds, partial(exceeded, name, seconds, self.peer))

    def _call_only_later(self, *call: Any) -> None:
        try:
            self.call_only(*call)
        except DeadReferenceError:
            pass  # it has ended meanwhile, and nobody asked for an answer
        except Exception:  # nobody is left to tell that it cannot be sent
            log.exception("a call to %s could not be sent", self.peer)

    def _do(self, act: Callable[..., object], *args: Any) -> None:
        """Does something in the connection's thread; where that has ended, here."""
        if self.is_here() or self.lost or not tell(self._loop, act, *args):
            act(*args)

    def _home(self) -> asyncio.AbstractEventLoop | None:
        """Returns where a callback is to run that this thread gives: None for the connection's."""
        return None if self.is_here() else running_loop()

    def watch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Runs ``callback(ref)`` when the connection ends; at once where it has ended."""
        self._do(self._watch, _Watcher(ref, callback, self._home()))

    def unwatch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Takes a `watch` back; one that does not exist is no error."""
        self._do(self._unwatch, ref, callback)

    def _watch(self, watcher: _Watcher) -> None:
        if self.lost or self._loop.is_closed():
            ref, callback, loop = watcher
            tell(loop, _shielded, callback, *(() if ref is None else (ref,)))
        else:
            self._watchers.append(watcher)

    def _unwatch(self, ref: RemoteReference | None, callback: Callable[..., object]) -> None:
        for watcher in self._watchers:
            if watcher[:2] == (ref, callback):
                self._watchers.remove(watcher)
                return

    # What users ask for

    def notifyOnConnect(self, callback: Callable[[], object]) -> None:
        """Runs a callback, without arguments, when the connection is open; at once where it is.

        Before that there is a connection only in `Root.rootObject`.
        """
        self._do(self._on_connect, partial(tell, self._home(), _shielded, callback))

    def _on_connect(self, callback: Callable[[], object]) -> None:
        if self.machine.dialect is None:
            self._awaiting.append(callback)
        else:
            callback()

    def notifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Runs a callback, without arguments, when the connection ends.

        Given in another thread in which a loop runs, it runs in that one, and otherwise in the
        connection's.
        """
        self._do(self._watch, _Watcher(None, callback, self._home()))

    def dontNotifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Takes back what `notifyOnDisconnect` arranged."""
        self._do(self._unwatch, None, callback)

    def root(self) -> RemoteReference:
        """Returns the reference to the object that the peer offers."""
        return RemoteReference(self, ROOT)

    def localObjectForID(self, luid: int | str | bytes) -> object | None:
        """Returns the object that the peer knows by a luid or a name, or None."""
        return self.machine.refs.find(_as_luid(luid))

    def setNameForLocal(self, name: str | bytes, obj: Referenceable) -> None:
        """Offers an object to the peer under a name, beside the root."""
        self.machine.refs.named[_as_luid(name)] = obj

    def remoteForName(self, name: str | bytes) -> RemoteReference:
        """Returns a reference to what the peer offers under a name."""
        return RemoteReference(self, _as_luid(name))

    async def close(self) -> None:
        """Ends the connection, after what was already said has been written."""
        if not self.is_here() or self._loop.is_closed():
            await await_in(self._loop, self.close)
            return
        self.disconnect()
        # What is buffered goes out first, but a peer that does not read may not hold us here.
        await asyncio.wait([self._closed], timeout=_GRACE)
        self.abort()
        await asyncio.shield(self._closed)

    def disconnect(self) -> None:
        """Begins to end the connection, and does not wait for it."""
        if not self.is_here():
            self.call_soon(self.disconnect)
        elif not self.lost:
            self._flush()
            self._closing = True
            if not self.machine.sending:
                self._close()

    def abort(self) -> None:
        """Ends the connection without writing what is still buffered."""
        if not self.is_here():
            self.call_soon(self.abort)
        elif not self.lost:
            self._transport.abort()

    @property
    def calls(self) -> CallLog:
        """The record of the calls that ended: of those that failed, and for who watches, of all."""
        if self._log is None:
            self._log = CallLog(self._loop.time)
        return self._log

    def give_back(self, ref: RemoteReference) -> None:
        """Lets go of a reference that is still held here: calls through it will fail."""
        self._do(self.machine.refs.give_back, ref)

    def running(self) -> Iterator[tuple[asyncio.Future[Any], CallReceived, float]]:
        """Yields what runs for the peer: its task, the call, and since when."""
        for task, (call, since) in list(self._tasks.items()):
            if call is not None:
                yield task, call, since

    def snapshot(self) -> Snapshot:
        """Returns what the connection looks like now.

        In another thread than the connection's each table is whole, but a call may be in one of
        them and not yet, or no longer, in another.
        """
        return Snapshot(
            now=self._loop.time(),
            peer=self.peer_row(),
            lent=tuple(lent_rows(self.machine.refs)),
            borrowed=tuple(borrowed_rows(self.machine.refs)),
            caches=tuple(cache_rows(self.machine.refs)),
            pending=tuple(self.pending_rows()),
            log=() if self._log is None else tuple(self._log.rows),
        )

    def peer_row(self) -> PeerRow:
        """Returns who is connected, and what went to and fro."""
        return PeerRow(
            address=shown(self.peer),
            user=", ".join(user_of(who) for each in self._sessions.values() for who in each),
            accepted=self._listening,
            dialect=self.machine.dialect or "",
            since=self.since,
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
            calls_received=self.calls_received,
            calls_sent=self.calls_sent,
            lost=self.lost,
            busy=self.liveness.busy,
        )

    def pending_rows(self) -> Iterator[CallRow]:
        """Yields the calls that are not answered, both ways."""
        for call in list(self.machine.pending.values()):
            if call.ref.luid == ABOUT_NAME:
                continue  # which nobody has asked for but the connection itself
            method, target = shown(call.name, 80), target_of(call.ref)
            until = self._deadlines.of(call)
            yield CallRow(call.request_id, False, method, target, call.since, until)
        for task, event, since in self.running():
            method, target = shown(event.name, 80), target_of(event.target)
            yield CallRow(id(task), True, method, target, since, None)

    def __repr__(self) -> str:
        state = "ended" if self.lost else self.machine.dialect or "opening"
        busy = self.liveness.busy
        silent = f", peer's kernel busy for {busy:.0f} s" if busy else ""
        return f"<Connection to {self.peer}, {state}{silent}>"

    # Writing

    def _write_soon(self) -> None:
        machine = self.machine
        # A call that no other waits beside is written at once: there is nothing to join it with.
        if machine.queued >= _BURST or len(machine.pending) == 1:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            try:
                self._loop.call_soon(self._flush_turn)
            except RuntimeError:
                raise self._left_behind() from None

    def _flush_turn(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        if self.machine.queued and not (self.lost or self._closing):
            buffers = self.machine.data_to_send()
            # One message is the usual case, and needs no loop.
            self.bytes_sent += len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
            if _NEVER_FULL:
                self._transport.write(b"".join(buffers))
            else:
                self._transport.writelines(buffers)
            if self._full:
                self.flow.wrote(self._transport.get_write_buffer_size())
        if self.machine.sending and not (self._pumping or self._full or self.lost):
            self._pump()

    def _pump(self) -> None:
        """Writes pieces of large messages, as many as the transport takes, and a few at a time."""
        self._pumping = False
        machine, left = self.machine, _PIECES
        while left and machine.sending and not (self._full or self.lost):
            for part in machine.more_to_send():
                # One by one: on Python 3.11 writelines() joins them first.
                self._transport.write(part)
                self.bytes_sent += len(part)
            left -= 1
        if not machine.sending:
            if self._closing:
                self._close()
        elif not (self._full or self.lost):
            self._pumping = True
            self._loop.call_soon(self._pump)

    def run_paced(self, step: Callable[[], bool]) -> None:
        """Runs a step again and again, as fast as the peer reads, until it returns False.

        The first runs at once, each other one in a turn of the loop of its own and only while
        there is room in the transport's buffer. When the connection ends, the step is run once
        more, and has to look at `lost`.

        Args:
            step: Sends something, and returns whether there is more to come.
        """
        self._do(self._run_step, step)

    def _run_step(self, step: Callable[[], bool]) -> None:
        # What the step before this one has said may be what fills the buffer.
        self._flush()
        if self._full and not self.lost:
            self._paced.append(step)
        elif step():
            self._loop.call_soon(self._run_step, step)

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs a callback in the connection's loop, soon; from any thread, and from finalizers."""
        tell(self._loop, callback, *args)  # where the loop is closed, so is the connection

    def _note_release(self) -> None:
        # From a finalizer: in any thread, at any moment, perhaps while the loop is closing.
        if self._releasing or self.lost:
            return
        self._releasing = True
        try:
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self._release)
            else:
                self._loop.call_soon_threadsafe(self._release)
        except RuntimeError:  # the loop is closed, and the connection with it
            self._releasing = False

    def _release(self) -> None:
        self._releasing = False
        self.machine.release_borrowed()
        self._flush()

    # Events

    def reply(self, call: CallReceived, value: object) -> None:
        """Answers a call with what its method returned."""
        if self.flow.full:
            self.flow.hold_answer(partial(self.reply, call, value))
            return
        try:
            failure = self.machine.answer(call.request_id, value, call.perspective, may_ask=True)
        except PeerNotAsked:
            self._ask_types(partial(self.reply, call, value))
            return
        if failure is not None:
            log.error("the answer of a remote method cannot be sent: %s", failure.getErrorMessage())
            self.calls.replied(call, reason(failure))
        elif self._log is not None:
            self._log.replied(call)
        if call is not self._handling or self.machine.queued >= _BURST:
            self._write_soon()

    def begin_session(self, call: CallReceived, session: Session) -> None:
        """Answers a login that has succeeded, and keeps its session until it ends."""
        if self.lost or not call.wants_answer:
            self._end_session(session)
            return
        if len(self._sessions) >= self.machine.limits.references:
            self._end_session(session)
            self.reply_failure(call, Failure(Error("there are too many logins on this connection")))
            return
        self.machine.admit_peer()
        self.turns.limits = self.flow.limits = self._limits
        self.liveness.admitted()
        if self._log is not None:
            self._log.replied(call)
        failure = self.machine.answer(call.request_id, session.avatar, call.perspective)
        if failure is None:
            key = session.avatar.processUniqueID()
            self._sessions.setdefault(key, []).append(session)
        else:
            log.error("an avatar cannot be sent: %s", failure.getErrorMessage())
            self._end_session(session)
        self._write_soon()

    def _end_session(self, session: Session) -> None:
        ended = _shielded(session.end)
        if inspect.isawaitable(ended):
            self.keep_task(asyncio.ensure_future(_logged(ended)))

    def _ask_types(self, retry: Callable[[], None]) -> None:
        self._asking.append(retry)
        if len(self._asking) == 1:
            self.remoteForName(ABOUT_NAME).callRemote("types").addBoth(self._on_types)

    def _on_types(self, answer: Any) -> None:
        # A peer that is no pbnb answers with an error, as it does for every name it does not know.
        self.machine.peer_types = types_in(answer)
        waiting, self._asking = self._asking, []
        for retry in waiting:
            retry()

    def reply_failure(self, call: CallReceived, failure: Failure) -> None:
        """Answers a call with why its method failed."""
        self.calls.replied(call, reason(failure))
        self.machine.fail(call.request_id, failure)
        self._write_soon()

    def keep_task(self, task: asyncio.Future[Any], call: CallReceived | None = None) -> None:
        """Holds a running method until it is done; the loop itself holds tasks weakly."""
        self._tasks[task] = (call, self._loop.time())
        task.add_done_callback(self._tasks.pop)

    def started(self, call: CallReceived, running: Running) -> object:
        """Counts a method that waits for something."""
        return self.turns.started(call, running)

    def method_ended(self, key: object) -> None:
        """Counts the end of such a method."""
        self.turns.ended(key)

    def run(self, call: CallReceived) -> object | None:
        """Runs a method whose turn has come."""
        context = self._here.context_of(call.request_id)
        if context is None:
            return run_call(self, call)
        return context.run(run_call, self, call)

    def warn(self, level: int, text: str, *args: object) -> None:
        """Logs a line about the peer, unless there were too many."""
        self._warnings.say(level, text, *args)

    def schedule(self, callback: Callable[..., object], *args: Any) -> bool:
        """Runs a callback in the connection's loop, soon; returns False where that is closed."""
        return tell(self._loop, callback, *args)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the connection's loop, after some time."""
        try:
            return self._loop.call_later(seconds, callback)
        except RuntimeError:
            raise self._left_behind() from None

    def time(self) -> float:
        """Returns the time by the clock of the connection's loop."""
        return self._loop.time()

    def awaits_answers(self) -> bool:
        """Returns whether calls of this side are pending."""
        return bool(self.machine.pending)

    def waits_since(self) -> float | None:
        """Returns when the oldest call was made for which somebody waits, or None."""
        for call in list(self.machine.pending.values()):
            if call.waiter is not None:
                return call.since
        return None

    def ask_if_silent(self) -> None:
        """Asks the peer for a sign of life, if it has said nothing and somebody waits for it."""
        if self.machine.pending and not self.lost:
            self._do(self.liveness.ask)

    def has_unread(self) -> bool:
        """Returns whether the peer has said something that this side has not read yet."""
        return not self.lost and unread(self._transport.get_extra_info("socket"))

    def ask_alive(self) -> None:
        """Asks the peer for a sign of life; any answer is one."""
        self.machine.call(self.remoteForName(ABOUT_NAME), "alive", (), {})
        self._write_soon()

    def pause_reading(self) -> None:
        """Stops to read from the peer."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads from the peer again, and first what was left."""
        if not self.lost:
            self._transport.resume_reading()
            self._loop.call_soon(self.read_on)

    def give_up(self, error: Exception) -> None:
        """Ends the connection at once, for a reason that is the peer's."""
        if not self.lost and self.error is None:
            self.error = error
            self.warn(logging.WARNING, "closing the connection to %s: %s", self.peer, error)
            self._transport.abort()

    def _on_opened(self, event: Opened) -> None:
        self.liveness.opened(self._guarded)
        self._here.opened()
        self._opened(self)
        awaiting, self._awaiting = self._awaiting, []
        for callback in awaiting:
            _shielded(callback)

    def _on_call(self, event: CallReceived) -> None:
        self.calls_received += 1
        if self._log is not None:
            self._log.began(event)
        if self.flow.full:
            if event.wants_answer:
                self.flow.hold_reading()
            self.turns.put_off(event)
        else:
            outer, self._handling = self._handling, event
            try:
                self.turns.take(event)
            finally:
                self._handling = outer

    def _on_answer(self, event: AnswerReceived) -> None:
        if self._log is not None:
            self._log.answered(event.call)
        self._here.answered(event.call.request_id)
        waiter, event.call.waiter = event.call.waiter, None
        if waiter is not None:
            waiter.callback(event.value)

    def _on_error(self, event: ErrorReceived) -> None:
        self.calls.answered(event.call, reason(event.failure))
        self._here.answered(event.call.request_id)
        waiter, event.call.waiter = event.call.waiter, None
        if waiter is not None:
            waiter.errback(event.failure)

    def _on_refused(self, event: CallRefused) -> None:
        self.calls.add(True, event.name, "refused", None, str(event.error))
        text = "refused a call of %r from %s: %s"
        self.warn(logging.WARNING, text, event.name, self.peer, event.error)

    def _on_observing_stopped(self, event: ObservingStopped) -> None:
        _shielded(event.entry.stop)

    def _on_released(self, event: ObjectReleased) -> None:
        if self._sessions and isinstance(event.obj, Serializable):
            for session in self._sessions.pop(event.obj.processUniqueID(), ()):
                self._end_session(session)

    def _on_not_understood(self, event: NotUnderstood) -> None:
        who = self.peer if event.by_peer else "this side"
        self.warn(logging.WARNING, "%s does not understand %r", who, event.command[:80])

    def _on_broken(self, event: ConnectionBroken) -> None:
        self.error = event.error
        self.calls.add(True, "", "", None, str(event.error))
        self.warn(logging.WARNING, "closing the connection to %s: %s", self.peer, event.error)
        self._flush()
        self._close()

    def _close(self) -> None:
        # Under TLS, closing twice would cut off what was still to be written.
        if not self._transport.is_closing():
            self._transport.close()


_HANDLERS: dict[type, Callable[[Connection, Any], None]] = {
    Opened: Connection._on_opened,
    CallReceived: Connection._on_call,
    AnswerReceived: Connection._on_answer,
    ErrorReceived: Connection._on_error,
    CallRefused: Connection._on_refused,
    ObjectReleased: Connection._on_released,
    ObservingStopped: Connection._on_observing_stopped,
    NotUnderstood: Connection._on_not_understood,
    ConnectionBroken: Connection._on_broken,
}


class _Watcher(NamedTuple):
    """Who is told of the end of a connection: with which reference, and in which loop."""

    ref: RemoteReference | None
    callback: Callable[..., object]
    loop: asyncio.AbstractEventLoop | None


class _Canceller:
    """Forgets who waited for a call, and tells the peer; an answer is then read and dropped."""

    __slots__ = ("_call", "_connection")

    def __init__(self, connection: Connection, call: PendingCall) -> None:
        self._connection = connection
        self._call = call

    def __call__(self, deferred: Deferred[Any]) -> None:
        self._call.waiter = None
        self._connection.cancel_at_peer(self._call)


def _as_luid(name: Any) -> Any:
    # Named objects are known by byte strings on the wire.
    return name.encode("utf-8") if isinstance(name, str) else name


def _shielded(callback: Callable[..., object], *args: object) -> object:
    try:
        return callback(*args)
    except (Exception, SystemExit):  # the user's code; the others still have to be told
        log.exception("a callback of a connection failed")
        return None


async def _logged(awaitable: Any) -> None:
    try:
        await awaitable
    except (Exception, SystemExit):  # as above
        log.exception("a callback of a connection failed")
