"""One connection: a protocol machine on an asyncio transport.

It implements what a `RemoteReference` asks of its peer, and runs on the event loop on which it
was made. What its users ask of it may be asked in any thread; see `pbnb.aio.threads`. What it does
is done by its parts: `pbnb.aio.asking` and `pbnb.aio.answering` for the calls of either side,
`pbnb.aio.writing` for what goes out, and here for what comes in.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from ..errors import PBConnectionLost
from ..failure import shown
from ..flavors import Referenceable, Root
from ..jelly.extras import ABOUT_NAME
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
    TransferRow,
    borrowed_rows,
    cache_rows,
    lent_rows,
    target_of,
)
from ..refs import CachedRemotely, RemoteReference
from .answering import Answering, shielded
from .asking import Asking
from .calls import CallLog
from .control import Control
from .deferred import Deferred
from .ends import Ends
from .flow import Flow
from .here import Here
from .liveness import Liveness, unread
from .logged import Warnings
from .nesting import Nesting
from .sharing import Sharing, on_one_machine
from .streams import Stream
from .threads import await_in, running_loop, tell
from .turns import Turns
from .waking import wake
from .watching import Watcher, Watchers
from .writing import Writing

__all__ = ["Connection"]

# The dialects that are spoken where nobody says otherwise, in the order of preference.
_DIALECTS = ("pbnb1", "pb", "none")

# Seconds for which the calls of one peer are handled before others have their turn: one segment
# may hold thousands. The clock is read after every so many.
_SLICE = 0.05
_EVENTS = 4

# Seconds that closing waits for the peer to read what is still buffered.
_GRACE = 2.0

# What is received is short, as a rule, and is copied out of this at once; one will do for all
# connections of a thread. What is long is received where it belongs.
_RECEIVED = 128 * 1024
_BRIEFLY = 4 * 1024
_scratch = threading.local()


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
        asking: The calls of this side's.
        answering: The calls of the peer's, and what they have logged in to.
        turns: Which of them run.
        writing: What is written, and when.
        flow: What is held back.
        liveness: Whether the peer is still there.
        here: The other end, where that is in this process.
        log: The record of the calls, where one was begun.
        loop: The loop that the connection runs in.
        thread: The thread of that loop.
        releasing: Whether references were let go of which the peer is still to be told.
        advice: What a user who calls through a dead reference is told besides.
        call: Sends a call and returns a Deferred of its answer: `Asking.call`.
        gone: Notes that a reference of the peer's is gone: `Refs.gone`.
        clock: The clock of the loop.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_context",
        "_encrypted",
        "_ended",
        "_guarded",
        "_in_place",
        "_sharing",
        "_listening",
        "_made",
        "_nesting",
        "_opened",
        "_reading_later",
        "_root",
        "_transport",
        "_warnings",
        "_watchers",
        "advice",
        "answering",
        "asking",
        "bytes_received",
        "call",
        "channel",
        "clock",
        "error",
        "flow",
        "gone",
        "here",
        "limits",
        "liveness",
        "log",
        "loop",
        "lost",
        "machine",
        "peer",
        "releasing",
        "since",
        "thread",
        "turns",
        "writing",
    )

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
            dialects=dialects or _DIALECTS,
            unsafe_tracebacks=unsafe_tracebacks,
            note=self._note_release,
        )
        limits = limits or Limits()
        allowed = limits.before_login() if guarded else limits
        self.limits = limits
        self.peer = "nobody yet"
        self.channel = ""
        self.advice = ""
        self.lost = False
        self.error: Exception | None = None
        self.since = 0.0
        self.bytes_received = 0
        self.log: CallLog | None = None
        self.thread = threading.get_ident()
        self.releasing = False
        self.asking = Asking(self, limits.call_seconds)
        self.call = self.asking.call
        self.gone = self.machine.refs.gone
        self.clock = time.monotonic
        self.answering = Answering(self)
        self.turns = Turns(self.answering, allowed)
        self.flow = Flow(self, allowed)
        self.writing = Writing(self, self.machine, self.flow)
        self.liveness = Liveness(self, limits)
        self.machine.refs.named[ABOUT_NAME] = Control(self._on_cancel)
        self.loop: asyncio.AbstractEventLoop
        self.here: Here
        self._transport: asyncio.Transport
        self._closed: asyncio.Future[None]
        self._context: Context
        self._encrypted: bool
        self._nesting: Nesting
        self._listening = listening
        self._guarded = guarded
        self._root = root
        self._made = made
        self._opened = opened
        self._ended = ended
        self._watchers = Watchers()
        self._warnings = warnings or Warnings(limits.logged_lines)
        self._in_place = False
        self._reading_later = False
        self._sharing: Sharing | None = None

    # What the event loop calls. It takes the way of BufferedProtocol, with memory of ours.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the opening; called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        if type(self.loop).time is not asyncio.BaseEventLoop.time:
            self.clock = self.loop.time  # which is otherwise the same, a frame further
        self.machine.refs.clock = self.loop.time
        self.since = self.loop.time()
        self._closed = self.loop.create_future()
        self._context = copy_context()
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self._nesting = Nesting.of(self.loop)
        self.writing.begin(transport, self.loop)
        self.liveness.begin(transport)
        self.peer, self.channel, own, other = Ends.of(transport, self._listening)
        self.here = Here(own, other)
        self._made(self, transport)
        if self._root is not None:
            self.machine.refs.named[ROOT] = self._root.rootObject(self)
        self.writing.now()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Returns where the next bytes are to be received; called by the event loop."""
        try:
            scratch: memoryview = _scratch.view
        except AttributeError:
            scratch = _scratch.view = memoryview(bytearray(_RECEIVED))
        if not self.machine.wire.in_place:
            self._in_place = False
            return scratch
        room = self.machine.room()
        self._in_place = room is not None
        # Between two parts of a large message the head of the next is wanted, and little more.
        return scratch[:_BRIEFLY] if room is None else room

    def buffer_updated(self, nbytes: int) -> None:
        """Handles what was received into the last buffer; called by the event loop."""
        self.bytes_received += nbytes
        machine = self.machine
        if self._in_place:
            machine.filled(nbytes)
        elif not (machine.broken or machine.closed):
            machine.wire.feed(_scratch.view[:nbytes].tobytes())
        if self._encrypted and hasattr(self.loop, "_nest_patched"):
            # The reader of an encrypted transport cannot be made anew, so that no loop may be
            # nested in it; the attribute is nest_asyncio's, and without it none can be.
            self._read_later()
        else:
            self.read_on(not self._encrypted)

    def data_received(self, data: bytes) -> None:
        """Handles bytes of the peer's."""
        self.bytes_received += len(data)
        self.machine.receive_data(data)
        self.read_on()

    def read_on(self, prompt: bool = False) -> None:
        """Handles what was received and is not handled yet.

        Args:
            prompt: Whether a task may go on at once where its answer is all there is. Its reader
                has to be one that `read_nested` can make anew.
        """
        flow, left = self.flow, _EVENTS
        machine = self.machine
        next_event = machine.next_event
        began = self.liveness.heard_at = self.clock()
        nesting = self._nesting
        if not nesting.watched:
            nesting.watch(self.loop)
        nesting.reading.append(self)
        try:
            # One event at a time: a handler may nest a loop, which comes back to this method.
            while not flow.holds_reading and (event := next_event()) is not None:
                kind = type(event)
                if kind is CallReceived:
                    self.answering.received(event)  # type: ignore[arg-type]
                elif kind is AnswerReceived:
                    # A task within a task is only met in a loop that something else has nested.
                    alone = prompt and machine.drained and asyncio.current_task() is None
                    sleeper = self.asking.answered(event, alone)  # type: ignore[arg-type]
                    if sleeper is not None:
                        if machine.out:
                            self.writing.now()  # what waits behind a nested loop waits for long
                        event = None  # it keeps nothing alive that the task lets go
                        wake(sleeper)
                        break
                else:
                    _HANDLERS[kind](self, event)
                prompt = False
                left -= 1
                if not left:
                    if self.clock() - began > _SLICE:
                        self._read_later()
                        break
                    left = _EVENTS
        finally:
            nesting.left(self.loop)
        self.writing.now()

    def read_nested(self) -> None:
        """Sees to it that what comes is read in a loop that is nested in what was read."""
        if not (self.lost or self._reading_later or self.flow.holds_reading):
            # It goes on in the context that it had at first, and not in the one of whoever has
            # found out about the nested loop.
            self._context.run(self._renew_reader)

    def _renew_reader(self) -> None:
        self._transport.pause_reading()
        self.resume_reading()

    def _read_later(self) -> None:
        if not self._reading_later and not self.lost:
            self._reading_later = True
            self._transport.pause_reading()
            self.loop.call_soon(self._read_rest)

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
        if self._sharing is not None:
            self._sharing.end()
        self.here.ended()
        self.turns.clear()
        ended = self.machine.close()
        self.asking.end(ended.calls, cause)
        self.flow.clear(cause)
        for entry in ended.observed:
            shielded(entry.stop)
        self.answering.end()
        self._watchers.ended()
        self.resume_writing()
        shielded(self._ended, self)
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """Holds what is paced, because the peer reads too slowly; called by the event loop."""
        self.writing.pause()

    def resume_writing(self) -> None:
        """Lets what is paced go on; called by the event loop."""
        self.writing.resume()
        if not self.flow.full:
            self.turns.advance()
        self.writing.resume_paced()

    # What references ask for

    def call_cache(
        self, cached: CachedRemotely, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Deferred[Any]:
        """Sends a call to the peer's live copy of an object; returns a Deferred of its answer.

        Raises:
            DeadReferenceError: The connection has ended.
        """
        return self.asking.call_cache(cached, name, args, kw)

    def call_only(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        """Sends a call that is not answered.

        Raises:
            DeadReferenceError: The connection has ended.
            InsecureJelly: An argument may not be sent.
            BananaError: An argument does not fit the wire.
        """
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the call was made)
        self.asking.call_only(ref, name, args, kw)

    def stream(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> Stream:
        """Returns what a method yields, for ``async for``."""
        return Stream(ref, name, args, kw)

    def watch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Runs ``callback(ref)`` when the connection ends; at once where it has ended."""
        self._do(self._watch, Watcher(ref, callback, self._home()))

    def unwatch(self, ref: RemoteReference, callback: Callable[[RemoteReference], object]) -> None:
        """Takes a `watch` back; one that does not exist is no error."""
        self._do(self._watchers.remove, ref, callback)

    def _watch(self, watcher: Watcher) -> None:
        if self.lost or self.loop.is_closed():
            watcher.tell()
        else:
            self._watchers.add(watcher)

    # Other threads

    def is_here(self) -> bool:
        """Returns whether this thread is the one of the connection's loop."""
        return threading.get_ident() == self.thread

    def _do(self, act: Callable[..., object], *args: Any) -> None:
        """Does something in the connection's thread; where that has ended, here."""
        if self.is_here() or self.lost or not tell(self.loop, act, *args):
            act(*args)

    def _home(self) -> asyncio.AbstractEventLoop | None:
        """Returns where a callback is to run that this thread gives: None for the connection's."""
        return None if self.is_here() else running_loop()

    def left_behind(self) -> Exception:
        """Ends the connection, whose loop was closed; returns the error of who calls."""
        self.lost = True
        self.here.ended()
        self.machine.close()
        return self.asking.stale()

    # What users ask for

    def notifyOnConnect(self, callback: Callable[[], object]) -> None:
        """Runs a callback, without arguments, when the connection is open; at once where it is.

        Before that there is a connection only in `Root.rootObject`.
        """
        self._do(self._on_connect, partial(tell, self._home(), shielded, callback))

    def _on_connect(self, callback: Callable[[], object]) -> None:
        if self.machine.dialect is None:
            self._watchers.await_opening(callback)
        else:
            callback()

    def notifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Runs a callback, without arguments, when the connection ends.

        Given in another thread in which a loop runs, it runs in that one, and otherwise in the
        connection's.
        """
        self._do(self._watch, Watcher(None, callback, self._home()))

    def dontNotifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Takes back what `notifyOnDisconnect` arranged."""
        self._do(self._watchers.remove, None, callback)

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
        if not self.is_here() or self.loop.is_closed():
            await await_in(self.loop, self.close)
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
            self.writing.end()

    def abort(self) -> None:
        """Ends the connection without writing what is still buffered."""
        if not self.is_here():
            self.call_soon(self.abort)
        elif not self.lost:
            self._transport.abort()

    @property
    def bytes_sent(self) -> int:
        """How many bytes have gone."""
        return self.writing.bytes_sent

    @property
    def calls_sent(self) -> int:
        """How many calls have gone."""
        return self.asking.calls_sent

    @property
    def calls_received(self) -> int:
        """How many calls have come."""
        return self.answering.calls_received

    @property
    def calls(self) -> CallLog:
        """The record of the calls that ended: of those that failed, and for who watches, of all."""
        if self.log is None:
            self.log = CallLog(self.loop.time)
        return self.log

    def give_back(self, luid: int) -> None:
        """Gives an object of the peer's back, as `Refs.give_back` does."""
        self._do(self.machine.refs.give_back, luid)

    def running(self) -> Iterator[tuple[asyncio.Future[Any], CallReceived, float]]:
        """Yields what runs for the peer: its task, the call, and since when."""
        return self.answering.running()

    def snapshot(self) -> Snapshot:
        """Returns what the connection looks like now.

        In another thread than the connection's each table is whole, but a call may be in one of
        them and not yet, or no longer, in another.
        """
        return Snapshot(
            now=self.loop.time(),
            peer=self.peer_row(),
            lent=tuple(lent_rows(self.machine.refs)),
            borrowed=tuple(borrowed_rows(self.machine.refs)),
            caches=tuple(cache_rows(self.machine.refs)),
            pending=tuple(self.pending_rows()),
            log=() if self.log is None else tuple(self.log.rows),
            transfers=tuple(self.transfer_rows()),
        )

    def transfer_rows(self) -> Iterator[TransferRow]:
        """Yields the large arguments and answers that are on their way, both ways."""
        for (command, request_id), outgoing, done, size in self.machine.wire.transfers():
            own = outgoing is (command == b"message")
            call = self.machine.pending.get(request_id) if own else None
            method = "" if call is None else shown(call.name, 80)
            yield TransferRow(request_id, method, outgoing, done, size)

    def _on_cancel(self, request: object) -> None:
        if type(request) is int and self.machine.drop_answer(request):
            self.writing.soon()
        else:
            self.turns.cancel(request)

    def peer_row(self) -> PeerRow:
        """Returns who is connected, and what went to and fro."""
        return PeerRow(
            address=shown(self.peer),
            user=self.answering.users(),
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
            until = self.asking.deadlines.of(call)
            yield CallRow(call.request_id, False, method, target, call.since, until)
        for task, event, since in self.running():
            method, target = shown(event.name, 80), target_of(event.target)
            yield CallRow(id(task), True, method, target, since, None)

    def __repr__(self) -> str:
        state = "ended" if self.lost else self.machine.dialect or "opening"
        busy = self.liveness.busy
        silent = f", peer's kernel busy for {busy:.0f} s" if busy else ""
        return f"<Connection to {self.peer}, {state}{silent}>"

    # What its parts, and those who page, ask for

    def run_paced(self, step: Callable[[], bool]) -> None:
        """Runs a step again and again, as fast as the peer reads, until it returns False.

        The first runs at once, each other one in a turn of the loop of its own and only while
        there is room in the transport's buffer. When the connection ends, the step is run once
        more, and has to look at `lost`.

        Args:
            step: Sends something, and returns whether there is more to come.
        """
        self._do(self.writing.run_paced, step)

    def call_here(self, call: Callable[[], Deferred[Any]], *args: Any) -> Deferred[Any]:
        """Calls a function in the connection's thread, for another one: see `Asking.call_here`."""
        return self.asking.call_here(call, *args)

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs a callback in the connection's loop, soon; from any thread, and from finalizers."""
        tell(self.loop, callback, *args)  # where the loop is closed, so is the connection

    def _note_release(self) -> None:
        # From a finalizer: in any thread, at any moment, perhaps while the loop is closing.
        if self.releasing or self.lost:
            return
        self.releasing = True
        try:
            if threading.get_ident() == self.thread:
                self.loop.call_soon(self._release)
            else:
                self.loop.call_soon_threadsafe(self._release)
        except RuntimeError:  # the loop is closed, and the connection with it
            self.releasing = False

    def _release(self) -> None:
        if self.releasing:  # and no call has done it meanwhile
            self.release()
            self.writing.now()

    def release(self) -> None:
        """Queues what the peer is to be told of references that were let go."""
        self.releasing = False
        self.machine.release_borrowed()

    def admitted(self) -> None:
        """Lifts the tighter limits that hold before a login."""
        self.machine.admit_peer()
        self.turns.limits = self.flow.limits = self.limits
        self.liveness.admitted()

    def await_answer(self, pending: PendingCall, seconds: float, waiter: Deferred[Any]) -> None:
        """Sees to it that a call which was just sent ends."""
        self.asking.await_answer(pending, seconds, waiter)

    def cancel_at_peer(self, call: PendingCall) -> None:
        """Tells the peer that nobody waits for a call any more."""
        self.asking.cancel_at_peer(call)

    def lost_error(self, name: str, cause: BaseException | None) -> PBConnectionLost:
        """Returns the error of a call that was pending when the connection ended."""
        return self.asking.lost_error(name, cause)

    def warn(self, level: int, text: str, *args: object) -> None:
        """Logs a line about the peer, unless there were too many."""
        self._warnings.say(level, text, *args)

    def schedule(self, callback: Callable[..., object], *args: Any) -> bool:
        """Runs a callback in the connection's loop, soon; returns False where that is closed."""
        return tell(self.loop, callback, *args)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Runs a callback in the connection's loop, after some time."""
        try:
            return self.loop.call_later(seconds, callback)
        except RuntimeError:
            raise self.left_behind() from None

    def time(self) -> float:
        """Returns the time by the clock of the connection's loop."""
        return self.loop.time()

    def awaits_answers(self) -> bool:
        """Returns whether calls of this side are pending."""
        return bool(self.machine.pending)

    def waits_since(self) -> float | None:
        """Returns when the oldest call was made for which somebody waits, or None."""
        for call in list(self.machine.pending.values()):
            if call.waiter is not None:
                return call.since
        return None

    def moved_at(self) -> float:
        """Returns when something large last went on, on its way to the peer."""
        return self.writing.moved_at

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
        self.writing.soon()

    def pause_reading(self) -> None:
        """Stops to read from the peer."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads from the peer again, and first what was left."""
        if not self.lost:
            self._transport.resume_reading()
            self.loop.call_soon(self.read_on)

    def give_up(self, error: Exception) -> None:
        """Ends the connection at once, for a reason that is the peer's."""
        if not self.lost and self.error is None:
            self.error = error
            self.warn(logging.WARNING, "closing the connection to %s: %s", self.peer, error)
            self._transport.abort()

    # Events

    def _on_opened(self, event: Opened) -> None:
        self.liveness.opened(self._guarded)
        self.here.opened()
        if on_one_machine(self._transport):
            self._sharing = Sharing(self.machine, self.loop)
        self._opened(self)
        self._watchers.opened()

    def _on_error(self, event: ErrorReceived) -> None:
        self.asking.failed(event)

    def _on_refused(self, event: CallRefused) -> None:
        self.calls.add(True, event.name, "refused", None, str(event.error))
        text = "refused a call of %r from %s: %s"
        self.warn(logging.WARNING, text, event.name, self.peer, event.error)

    def _on_observing_stopped(self, event: ObservingStopped) -> None:
        shielded(event.entry.stop)

    def _on_released(self, event: ObjectReleased) -> None:
        self.answering.released(event)

    def _on_not_understood(self, event: NotUnderstood) -> None:
        who = self.peer if event.by_peer else "this side"
        self.warn(logging.WARNING, "%s does not understand %r", who, event.command[:80])

    def _on_broken(self, event: ConnectionBroken) -> None:
        self.error = event.error
        self.calls.add(True, "", "", None, str(event.error))
        self.warn(logging.WARNING, "closing the connection to %s: %s", self.peer, event.error)
        self.writing.end()


_HANDLERS: dict[type, Callable[[Connection, Any], None]] = {
    Opened: Connection._on_opened,
    ErrorReceived: Connection._on_error,
    CallRefused: Connection._on_refused,
    ObjectReleased: Connection._on_released,
    ObservingStopped: Connection._on_observing_stopped,
    NotUnderstood: Connection._on_not_understood,
    ConnectionBroken: Connection._on_broken,
}


def _as_luid(name: Any) -> Any:
    # Named objects are known by byte strings on the wire.
    return name.encode("utf-8") if isinstance(name, str) else name
