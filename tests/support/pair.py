"""Two brokers joined in memory: protocol tests without sockets or an event loop."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from pbnb.failure import Failure
from pbnb.flavors import Referenceable, Root
from pbnb.protocol.broker import ROOT, Broker
from pbnb.protocol.events import (
    AnswerReceived,
    CallReceived,
    ConnectionBroken,
    ErrorReceived,
    Event,
    ObservingStopped,
    Opened,
)
from pbnb.refs import RemoteReference


class End:
    """One end: a broker, what it said happened, and the peer that its references call through.

    Attributes:
        broker: The broker.
        events: All that it reported.
        results: What each call of this end came to, a value or a `Failure`, by request number.
    """

    def __init__(self, listening: bool, root: Referenceable | None = None, **options: Any) -> None:
        self.broker = Broker(self, listening=listening, root=root, **options)
        self.events: list[Event] = []
        self.results: dict[int, Any] = {}
        self.received = b""
        self.chunk = 0
        self.defer: Callable[[CallReceived], bool] = lambda event: False

    peer = "the other end"

    # The contract of pbnb.refs.Peer

    def call(self, ref: RemoteReference, name: str, args: Any, kw: Any) -> int:
        pending = self.broker.call(ref, name, args, kw)
        assert pending is not None
        return pending.request_id

    def call_only(self, ref: RemoteReference, name: str, args: Any, kw: Any) -> None:
        self.broker.call(ref, name, args, kw, wants_answer=False)

    def call_cache(self, cached: Any, name: str, args: Any, kw: Any) -> int:
        return self.broker.call_cache(cached, name, args, kw).request_id

    def watch(self, ref: RemoteReference, callback: Any) -> None:
        raise AssertionError("nobody watches here")

    unwatch = watch

    def gone(self, luid: int) -> None:
        self.broker.refs.gone(luid)

    def root(self) -> RemoteReference:
        return RemoteReference(self, ROOT)

    def feed(self, data: bytes) -> None:
        """Takes bytes from the other end and handles what they mean."""
        self.received += data
        step = self.chunk or len(data) or 1
        for start in range(0, len(data), step):
            self.broker.receive_data(data[start : start + step])
            while (event := self.broker.next_event()) is not None:
                self.events.append(event)
                self.handle(event)

    def handle(self, event: Event) -> None:
        if isinstance(event, AnswerReceived):
            self.results[event.call.request_id] = event.value
        elif isinstance(event, ErrorReceived):
            self.results[event.call.request_id] = event.failure
        elif isinstance(event, ObservingStopped):
            event.entry.stop()
        elif isinstance(event, CallReceived) and not self.defer(event):
            self.run(event)

    def run(self, event: CallReceived) -> None:
        """Runs a method as the aio floor does, for methods that are plain."""
        try:
            value = event.target.find_remote(event.name)(*event.args, **event.kw)
        except Exception as error:
            if event.wants_answer:
                self.broker.fail(event.request_id, Failure.of(error))
        else:
            if event.wants_answer:
                self.broker.answer(event.request_id, value, event.perspective)

    def output(self) -> bytes:
        self.broker.release_borrowed()
        parts = self.broker.data_to_send()
        while self.broker.wire.sending:
            parts += self.broker.wire.pieces()
        return b"".join(bytes(part) for part in parts)

    def broken(self) -> Exception | None:
        """Returns what the other end did wrong, if it did."""
        for event in self.events:
            if isinstance(event, ConnectionBroken):
                return event.error
        return None

    def lent(self) -> dict[int, int]:
        """Returns the count of each object lent, by its luid."""
        return {entry.luid: entry.count for entry in self.broker.refs.lent()}

    def borrowed(self) -> dict[int, int]:
        """Returns how often each object that is borrowed was received, by its luid."""
        return {luid: known.count for luid, known in self.broker.refs.borrowed()}


class BrokerPair:
    """A server end and a client end, opened.

    Args:
        root: What the server offers.
        chunk: Deliver so many bytes at a time; 0 delivers all at once.
        **options: Options of both brokers.
    """

    def __init__(self, root: Root | None = None, chunk: int = 0, **options: Any) -> None:
        self.server = End(True, root, **options)
        self.client = End(False, **options)
        self.server.chunk = self.client.chunk = chunk
        self.settle()
        assert isinstance(self.server.events[0], Opened)
        assert isinstance(self.client.events[0], Opened)

    def settle(self) -> None:
        """Carries bytes to and fro until neither end has anything to say."""
        while True:
            to_client, to_server = self.server.output(), self.client.output()
            if not to_client and not to_server:
                return
            self.client.feed(to_client)
            self.server.feed(to_server)

    def collect(self) -> None:
        """Collects garbage, and lets both ends say what they no longer hold."""
        self.server.events.clear()
        self.client.events.clear()
        gc.collect()
        self.settle()

    def call(self, _name: str, /, *args: Any, **kw: Any) -> Any:
        """Returns what a call of the server's root comes to; raises what it raises."""
        return self.call_on(self.client.root(), _name, *args, **kw)

    def call_on(self, ref: RemoteReference, _name: str, /, *args: Any, **kw: Any) -> Any:
        """Returns what a call comes to; raises the exception of a failure."""
        end = self.client if ref.broker is self.client else self.server
        request_id = ref.callRemote(_name, *args, **kw)
        self.settle()
        result = end.results.pop(request_id)
        end.events.clear()
        if isinstance(result, Failure):
            result.raiseException()
        return result
