"""Results that come item by item: remote generators, and the loop that reads them.

A method that returns a generator, plain or async, is answered with a reference to a stream, which
is an ordinary object that says and hears this, by ordinary calls::

    begin(sink, ahead)    run the generator, and answer with the number of its items when it has
                          ended, or with what it raised. Cancelling this call stops it
    more(count)           so many items were taken: as many more may be sent
    close()               stop the generator; the answer comes when it has ended

    items(before, list)   said to the sink, an object of the reader's: here are items, and so many
                          were sent before them. Without an answer
    ended(count)          the same, before ``begin`` fails: so many were sent in all

No more than ``ahead`` items are sent before they are taken. They are counted because a dialect may
let small messages overtake large ones. Nothing here is new on the wire, so that any peer can be
either side, a program with Twisted too.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Protocol

from ..errors import (
    DeadReferenceError,
    Error,
    LocalProtocolError,
    NoSuchMethod,
    PeerBusy,
    RemoteProtocolError,
)
from ..failure import CopiedFailure, Failure
from ..flavors import Referenceable
from ..refs import RemoteReference
from .deadlines import seconds_for
from .deferred import Deferred

__all__ = ["GENERATORS", "LentStream", "Stream", "lend"]

GENERATORS = frozenset((GeneratorType, AsyncGeneratorType))
"""The types of results that are lent as streams."""

# How many items may be sent before they are taken, where the reader does not say.
_AHEAD = 64
# Longest message of items, where many may be sent ahead, and about how many bytes are enough.
_BATCH = 1024
_BYTES = 64 * 1024
# What is small and fits every wire, and so may wait for those that follow it.
_SMALL = frozenset((float, bool, type(None)))
_CONTAINERS = frozenset((dict, list, tuple))
_WIDEST = 64
_LARGEST = 2**63
_LONGEST = 1000
# A generator that never waits gives others their turn after so many seconds.
_SLICE = 0.01


# The side of the generator


class Lender(Protocol):
    """What a stream asks of the connection by which it is read."""

    lost: bool
    turns: Any
    flow: Any
    machine: Any

    def run_paced(self, step: Callable[[], bool]) -> None:
        """Runs a step again and again, as fast as the peer reads, until it returns False."""

    def notifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Runs a callback when the connection ends."""

    def dontNotifyOnDisconnect(self, callback: Callable[[], object]) -> None:
        """Takes it back."""


# Every stream that a peer holds: each is there for as long as it is lent, or runs.
_lent: weakref.WeakKeyDictionary[Any, weakref.WeakSet[LentStream]] = weakref.WeakKeyDictionary()


def lend(connection: Any, generator: Any) -> LentStream:
    """Returns a generator as something that can be sent to a peer, for it to read.

    Args:
        connection: How the peer is connected.
        generator: What one of its calls has returned, plain or async.

    Raises:
        PeerBusy: It has as many streams open as `Limits.streams` allow.
    """
    streams = _lent.setdefault(connection, weakref.WeakSet())
    most = connection.turns.limits.streams
    if len(streams) >= most:
        raise PeerBusy(
            f"{len(streams)} streams are open on this connection, and {most} are allowed: "
            "close some, or raise Limits(streams=...) where they are served"
        )
    stream = LentStream(connection, generator)
    streams.add(stream)
    return stream


class LentStream(Referenceable):
    """A generator that runs for a peer.

    Args:
        connection: How the peer is connected.
        generator: What runs.
    """

    def __init__(self, connection: Lender, generator: Any) -> None:
        self._connection = connection
        self._generator: AsyncGenerator[Any, None] | Generator[Any, None, None] = generator
        self._sink: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._begun = self._closed = False
        self._credit = 0
        self._more: asyncio.Future[None] | None = None
        self._batch: list[Any] = []
        self._batched = 0
        self._flush_later: asyncio.Handle | None = None
        self._count = self._sent = 0
        self._large = False
        self._failure: Exception | None = None

    async def remote_begin(self, sink: object, ahead: object) -> int:
        """Runs the generator, and sends its items; returns how many there were."""
        if self._begun or self._closed:
            raise Error("this stream was read already: a generator runs once")
        if not isinstance(sink, RemoteReference):
            raise Error("a stream is sent to a Referenceable of its reader's")
        if type(ahead) is not int or ahead < 1:
            raise Error("ahead is the number of items to send before they are taken, 1 or more")
        self._begun, self._sink, self._credit = True, sink, ahead
        self._task = asyncio.current_task()
        self._connection.notifyOnDisconnect(self._stop)
        try:
            try:
                await self._run()
            except Exception:
                # What was yielded before an error comes before the error.
                self._flush()
                if not self._connection.lost:
                    sink.remote_only("ended", self._sent)
                raise
            self._flush()
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
            raise
        except DeadReferenceError:
            if not self._connection.lost:
                raise  # of something that the generator itself has called
        finally:
            self._closed = True
            self._connection.dontNotifyOnDisconnect(self._stop)
            # Where it was not the generator that has ended, it ends now, and is waited for.
            try:
                await self._end_generator()
            finally:
                self._sink = self._task = None  # nothing but the peer holds this object any more
        return self._count

    def remote_more(self, count: object) -> None:
        """Allows so many more items to be sent."""
        if type(count) is int and count > 0:
            self._credit += count
            self._go_on()

    async def remote_close(self) -> None:
        """Stops the generator, and returns when it has ended."""
        self._stop()
        if self._task is not None:
            await asyncio.wait([self._task])
        else:
            await self._end_generator()

    def _stop(self) -> None:
        # One that goes on after it was cancelled is not asked for its next item; and one that
        # was cancelled is left in peace for what it still has to do.
        self._closed = True
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    async def _end_generator(self) -> None:
        if isinstance(self._generator, GeneratorType):
            self._generator.close()
        elif isinstance(self._generator, AsyncGeneratorType):
            await self._generator.aclose()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _SLICE
        generator = self._generator
        while not self._closed:
            if not self._credit or self._large or self._connection.flow.full:
                self._flush()
                await self._room()
                until = loop.time() + _SLICE
            try:
                # Each item is sent, or cannot change any more, before the generator goes on.
                if isinstance(generator, GeneratorType):
                    item = next(generator)
                else:
                    item = await generator.__anext__()  # type: ignore[union-attr]
            except (StopIteration, StopAsyncIteration):
                return
            self._credit -= 1
            self._add(item)
            if not self._count % 16 and loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + _SLICE

    async def _room(self) -> None:
        """Waits until the reader has taken items, and what was sent is on its way."""
        loop = asyncio.get_running_loop()
        while not self._credit:
            self._more = more = loop.create_future()
            await more
        self._large = False
        if not self._is_full():
            return
        room: asyncio.Future[None] = loop.create_future()

        def step() -> bool:
            if self._is_full() and not room.done():
                return True
            if not room.done():
                room.set_result(None)
            return False

        self._connection.run_paced(step)
        await room

    def _is_full(self) -> bool:
        connection = self._connection
        return not connection.lost and (connection.flow.full or connection.machine.wire.sending)

    def _go_on(self) -> None:
        more, self._more = self._more, None
        if more is not None and not more.done():
            more.set_result(None)

    def _add(self, item: Any) -> None:
        self._count += 1
        copied = _copied(item)
        if copied is None:
            # Sent before the generator goes on and may change it, and alone: where it cannot be
            # sent, those before it are.
            self._flush()
            self._batch.append(item)
            self._flush()
            self._large = True
            return
        item, size = copied
        self._batch.append(item)
        self._batched += size
        if len(self._batch) >= _BATCH or self._batched >= _BYTES:
            self._flush()
        elif self._flush_later is None:
            # As soon as the generator waits for something.
            self._flush_later = asyncio.get_running_loop().call_soon(self._flush_soon)

    def _flush(self) -> None:
        if self._flush_later is not None:
            self._flush_later.cancel()
            self._flush_later = None
        if self._batch and not self._connection.lost:
            batch, self._batch, self._batched = self._batch, [], 0
            self._sink.remote_only("items", self._sent, batch)
            self._sent += len(batch)

    def _flush_soon(self) -> None:
        self._flush_later = None
        try:
            self._flush()
        except Exception as error:  # the connection has ended, or allows only shorter values
            self._failure = error
            self._stop()


def _copied(
    item: Any, depth: int = 3, memo: dict[int, tuple[Any, int]] | None = None
) -> tuple[Any, int] | None:
    """Returns a small value that cannot change any more, and about how many bytes it takes.

    The result is None for what is large, may not fit the wire, or is no plain value: that is
    copied by being sent.
    """
    kind = type(item)
    if kind is int:
        return (item, 8) if -_LARGEST < item < _LARGEST else None
    if kind in _SMALL:
        return item, 8
    if kind is bytes or (kind is str and item.isascii()):
        return (item, len(item) + 8) if len(item) <= _LONGEST else None
    if kind not in _CONTAINERS or not depth or len(item) > _WIDEST:
        return None
    memo = {} if memo is None else memo
    if id(item) in memo:
        return memo[id(item)]  # what is one object stays one
    parts = [*item.keys(), *item.values()] if kind is dict else item
    copies, size = [], 8
    for part in parts:
        copied = _copied(part, depth - 1, memo)
        if copied is None:
            return None
        copies.append(copied[0])
        size += copied[1]
    half = len(copies) // 2
    copy = dict(zip(copies[:half], copies[half:], strict=True)) if kind is dict else kind(copies)
    memo[id(item)] = copy, size
    return copy, size


# The side of the reader


class _Inbox(Referenceable):
    """Where the items of a stream arrive: the sink. It does not know the loop that reads it.

    Args:
        name: The name of the method, for errors.
        ahead: How many items may come before they are taken.
    """

    def __init__(self, name: str, ahead: int) -> None:
        self.name = name
        self.ahead = ahead
        self.items: deque[Any] = deque()
        self.received = 0
        # How many there are in all, when that is known; or why there will be no more.
        self.count: float = math.inf
        self.failure: Failure | None = None
        self.closed = False
        self.source: RemoteReference | None = None
        self._early: dict[int, list[Any]] = {}
        self._fails_after = 0
        self._waiter: Deferred[None] | None = None

    def remote_items(self, before: object, items: object) -> None:
        """Takes items, which may have come before those that were sent before them."""
        if self.closed or type(before) is not int or type(items) is not list:
            return
        self._early[before] = items
        waiting = len(self.items) + sum(map(len, self._early.values()))
        if waiting > self.ahead or len(self._early) > self.ahead:
            text = f"the stream of {self.name}() sent more items than it was asked for"
            self._early.clear()
            self.on_failure(Failure(RemoteProtocolError(text)))
            return
        while (found := self._early.pop(self.received, None)) is not None:
            self.items.extend(found)
            self.received += len(found)
            if not found:
                break
        self.wake()

    def remote_ended(self, count: object) -> None:
        """Learns how many items come before the failure that follows."""
        if type(count) is int:
            self._fails_after = count

    def on_count(self, count: object) -> None:
        """Takes the number of all items: the generator has ended."""
        self.count = count if type(count) is int else 0
        self.wake()

    def on_failure(self, failure: Failure) -> None:
        """Takes the reason why there will be no more items."""
        if self.failure is None:
            self.failure = failure
        self.wake()

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)

    async def wait(self) -> None:
        """Waits until there are items, or will be none."""
        waiter: Deferred[None] = Deferred()
        self._waiter = waiter
        # Looked at afterwards: they may have come in another thread.
        if not self.items and not self.has_ended:
            await waiter

    @property
    def has_ended(self) -> bool:
        """Whether there will be no more items than have come."""
        if self.failure is None:
            return self.received >= self.count
        # Of one that the peer has sent it is known what it comes after.
        is_here = not isinstance(self.failure, CopiedFailure)
        return is_here or self.received >= self._fails_after

    def close(self) -> Deferred[Any] | None:
        """Lets the peer stop the generator; returns the end of that, if it has begun."""
        if self.closed:
            return None
        self.closed = True
        self.items.clear()
        source, self.source = self.source, None
        if source is None or self.has_ended:
            return None
        try:
            ended: Deferred[Any] = source.callRemote("close")
        except DeadReferenceError:
            return None
        # It matters only to whoever waits for it.
        return ended.addErrback(lambda failure: None)


class Stream(AsyncIterator[Any]):
    """The items of a remote generator, for ``async for``.

    ``ref.stream("rows", ...)`` makes it; the method is called when the loop begins. The loop may
    be left at any time: the generator at the peer is stopped and its ``finally`` runs, also after
    a lost connection. A stream is one call: it has the deadline of one, from its first item to
    its last.

    Args:
        ref: The object whose method is called.
        name: The method's name.
        args: What the method is given.
        kw: Keyword arguments of the method.
    """

    def __init__(
        self, ref: RemoteReference, name: str, args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        self._ref = ref
        self._name = name
        self._given = (args, kw)
        self._ahead = _AHEAD
        self._begun = self._busy = False
        self._taken = 0
        self._inbox = _Inbox(name, _AHEAD)
        self._items = self._inbox.items

    def ahead(self, items: int) -> Stream:
        """Sets how many items the peer may send before they are taken here; 64 if left out.

        Args:
            items: 1 or more; few for large items, many for a distant peer.

        Returns:
            This stream.
        """
        if self._begun:
            raise LocalProtocolError("a stream is told how far to run ahead before it begins")
        if type(items) is not int or items < 1:
            raise ValueError(f"a stream runs 1 item or more ahead, not {items!r}")
        self._ahead = self._inbox.ahead = items
        return self

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the loop is)
        if self._busy:
            raise RuntimeError("this stream is being read by somebody else")
        if not self._items:
            self._busy = True
            try:
                await self._more()
            except BaseException:
                self._close()
                raise
            finally:
                self._busy = False
        item = self._items.popleft()
        self._taken += 1
        if 2 * self._taken >= self._ahead:
            self._ask()
        return item

    async def aclose(self) -> None:
        """Stops the generator, and waits until it has ended at the peer."""
        ended = self._close()
        if ended is not None:
            await ended

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Stream of {self._name}() of {self._ref!r}>"

    async def _more(self) -> None:
        """Waits for items; raises what the loop is to end with where there are none."""
        __tracebackhide__ = True  # noqa: F841 (shown tracebacks end where the loop is)
        inbox = self._inbox
        if inbox.closed:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            await self._begin()
        while not self._items:
            if inbox.has_ended:
                if inbox.failure is not None:
                    raise inbox.failure.exception()
                raise StopAsyncIteration
            await inbox.wait()

    async def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        inbox, (args, kw) = self._inbox, self._given
        seconds = seconds_for(self._ref.deadline, math.inf)
        until = loop.time() + seconds
        source = await self._ref.callRemote(self._name, *args, **kw)
        if isinstance(source, (list, tuple, set, frozenset, range)):
            # All of them have come already, and were as many as one message allows.
            inbox.items.extend(source)
            inbox.received = inbox.count = len(source)
            return
        if not isinstance(source, RemoteReference):
            raise TypeError(self._no_stream(f"a value of type {type(source).__name__}"))
        inbox.source = source
        weakref.finalize(self, _abandon, source.broker, inbox).atexit = False
        if seconds != math.inf:
            source = source.with_deadline(max(until - loop.time(), 0.001))
        reading: Deferred[Any] = source.callRemote("begin", inbox, self._ahead)
        reading.addCallbacks(inbox.on_count, self._explained(inbox))

    def _explained(self, inbox: _Inbox) -> Callable[[Failure], None]:
        text = self._no_stream("a reference to something that cannot be read item by item")

        def failed(failure: Failure) -> None:
            if not inbox.received and failure.check(NoSuchMethod) and _is_about_begin(failure):
                failure = Failure(TypeError(text))
            inbox.on_failure(failure)

        return failed

    def _no_stream(self, what: str) -> str:
        return (
            f"{self._name}() has returned {what}, and no stream: it has to be a generator, with "
            "yield, or to return a list"
        )

    def _ask(self) -> None:
        taken, self._taken = self._taken, 0
        source = self._inbox.source
        if source is not None and self._inbox.count == math.inf:
            try:
                source.remote_only("more", taken)
            except DeadReferenceError:
                pass  # what has arrived is taken all the same, and then the loop learns of it

    def _close(self) -> Deferred[Any] | None:
        self._begun = True
        return self._inbox.close()


def _is_about_begin(failure: Failure) -> bool:
    return "begin" in failure.getErrorMessage()


def _abandon(broker: Any, inbox: _Inbox) -> None:
    # From a finalizer: in any thread, at any moment.
    if not inbox.closed:
        broker.call_soon(inbox.close)
