"""Connections over loopback TCP: calls, references, threads, and every way to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import traceback
import weakref
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.connection import Connection, _scratch
from pbnb.wire.banana import Decoder, encode
from pbnb.wire.frames import FrameDialect
from tests.support.lake import Duck, RemoteDuck
from tests.support.serving import Desk, Thing, served, tables, until


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def write(self, data: Any) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def test_calls_of_one_segment_run_one_after_another() -> None:
    order: list[int] = []
    depths: list[int] = []

    class Counter(pb.Root):
        def remote_count(self, number: int) -> None:
            order.append(number)
            depths.append(len(list(traceback.walk_stack(None))))
            if number == 50:
                # As a nested event loop does in a method that waits.
                connection.data_received(call(100))
                assert order[-1] == 100

    def call(number: int) -> bytes:
        args = [b"tuple", number]
        return encode([b"message", number, b"root", b"count", 1, args, [b"dictionary"]])

    wire = Wire()
    connection = Connection(listening=True, root=Counter())

    async def main() -> None:
        connection.connection_made(wire)
        connection.data_received(encode(b"pb", None))
        wire.written.clear()
        connection.data_received(b"".join(map(call, range(100))))
        await until(lambda: len(order) == 101)
        connection.connection_lost(None)

    asyncio.run(main())
    assert order == [*range(101)]
    assert len(set(depths[:51])) == len(set(depths[51:])) == 1
    answers = Decoder()
    answers.feed(bytes(wire.written))
    numbers = [answers.next()[1] for _ in order]  # type: ignore[index]
    assert numbers == [*range(50), *range(51, 101), 50]


def test_a_peer_with_many_calls_does_not_keep_others_waiting() -> None:
    heard = 0

    class Counter(pb.Root):
        def remote_count(self) -> None:
            nonlocal heard
            heard += 1

        def remote_heard(self) -> int:
            return heard

    async def main() -> None:
        async with served(Counter()) as (server, ref):
            _, writer = await asyncio.open_connection(server.host, server.port)
            call = [b"message", 1, b"root", b"count", 0, [b"tuple"], [b"dictionary"]]
            many = 30_000
            writer.write(encode(b"pb", None) + encode(call) * many)
            meanwhile = await ref.callRemote("heard")
            assert meanwhile < many
            await until(lambda: heard == many)
            writer.close()

    asyncio.run(main())


def test_a_reference_may_be_collected_in_any_thread() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            (far,) = server.connections
            held = [await ref.callRemote("thing")]
            assert len(tables(far)) == 1
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
            await until(lambda: not tables(far, ref.broker))

    asyncio.run(main())


def test_close_may_be_called_from_another_thread() -> None:
    async def main() -> None:
        async with served(Desk()) as (_, ref):
            await asyncio.to_thread(lambda: asyncio.run(ref.broker.close()))
            assert ref.broker.lost

    asyncio.run(main())


# Cancelling


def test_observing_ends_once_with_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy(Duck):
        def stoppedObserving(self, perspective: Any, observer: Any) -> None:
            super().stoppedObserving(perspective, observer)
            raise ZeroDivisionError("after that")

    security = pb.SecurityOptions()
    security.allowBasicTypes()
    security.setUnjellyableForClass(Duck, RemoteDuck)
    security.setUnjellyableForClass(Clumsy, RemoteDuck)
    ducks = [Clumsy(), Duck()]

    class Pond(pb.Root):
        def remote_ducks(self) -> list[Duck]:
            return ducks

    async def main() -> None:
        async with await pb.serve(Pond()) as server:
            root = await pb.connect(server.address, security=security)
            copies = await root.callRemote("ducks")
            ducks[1].move()
            await until(lambda: copies[1].where == 1)
            assert [len(duck.observers) for duck in ducks] == [1, 1]
            server.connections[0].abort()
            await until(lambda: root.broker.lost)
            copies.clear()
            gc.collect()
            await until(lambda: not server.connections)

    asyncio.run(main())
    # A second time would be a ValueError.
    assert [duck.observers for duck in ducks] == [[], []]
    assert caplog.text.count("ZeroDivisionError: after that") == 1
    assert "ValueError" not in caplog.text


def test_a_connection_is_collected_after_its_end() -> None:
    async def main() -> weakref.ref[Any]:
        async with served(Desk()) as (_, ref):
            thing = await ref.callRemote("thing")
            assert await thing.callRemote("twice", 1) == 2
            return weakref.ref(ref.broker)

    connection = asyncio.run(main())
    gc.collect()
    assert connection() is None


def test_a_peer_that_does_not_read_cannot_hold_up_the_end() -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            host, port = pb.parse_address(server.address)
            reader, writer = await asyncio.open_connection(host, port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            message = [
                b"message",
                1,
                b"root",
                b"echo",
                1,
                [b"tuple", b"x" * 600_000],
                [b"dictionary"],
            ]
            writer.write(encode(b"pb", None) + 30 * encode(message))
            await until(lambda: len(server.connections) == 1)
            (far,) = server.connections
            await until(lambda: far._transport.get_write_buffer_size() > 1_000_000)
            await server.close()
            assert far.lost
            writer.close()

    asyncio.run(main())


# Names


def test_objects_may_be_offered_by_name() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            (far,) = server.connections
            far.setNameForLocal("thing", Thing())
            assert await ref.broker.remoteForName("thing").callRemote("twice", 2) == 4
            assert isinstance(far.localObjectForID("thing"), Thing)
            assert far.localObjectForID(99) is None
            with pytest.raises(pb.Error, match="Invalid Object ID"):
                await ref.broker.remoteForName("nothing").callRemote("twice", 2)

    asyncio.run(main())


# A peer that breaks the protocol, on a raw socket


async def raw(address: str, *parts: bytes) -> bytes:
    """Sends bytes to a server, and returns all that it says until it hangs up."""
    host, port = pb.parse_address(address)
    reader, writer = await asyncio.open_connection(host, port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return said


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        encode(b"pb", None) + encode([b"version", 5]),
        encode(b"pb", None) + encode([b"decref", 1]),
        encode(b"pb", None) + b"\x88",
        encode(b"pb", None) + b"\x20\x87",
        encode(b"pb", None) + b"\x01\x00\x28\x82",
        encode(b"pb", None) + b"\x7f" * 65,
        encode(b"pb", None) + b"\x01\x80" * 400,
    ],
    ids=["http", "version", "decref", "type", "word", "string", "prefix", "depth"],
)
def test_a_broken_peer_is_hung_up_on_and_harms_nobody(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            caplog.clear()
            await raw(server.address, data)
            assert await ref.callRemote("echo", 1) == 1
            await until(lambda: len(server.connections) == 1)

    with caplog.at_level(logging.WARNING, "pbnb"):
        asyncio.run(main())
    assert len(caplog.records) == 1
    assert "closing the connection" in caplog.text


def test_a_pending_call_learns_what_the_peer_did_wrong() -> None:
    async def main() -> None:
        async def misbehave(reader: Any, writer: Any) -> None:
            writer.write(encode([b"pb"], None))
            await reader.readexactly(10)
            writer.write(encode([b"answer", 77, 1]))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(misbehave, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ref = await pb.connect(f"127.0.0.1:{port}")
        with pytest.raises(pb.PBConnectionLost, match="request 77, which is not open") as caught:
            await ref.callRemote("echo", 1)
        assert isinstance(caught.value.__cause__, pb.RemoteProtocolError)
        server.close()

    asyncio.run(main())


def test_the_repr_says_with_whom_and_in_what_state() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            assert repr(ref.broker) == f"<Connection to {server.address}, pbnb1>"
            await ref.broker.close()
            assert repr(ref.broker) == f"<Connection to {server.address}, ended>"
        assert repr(Connection(listening=True)) == "<Connection to nobody yet, opening>"

    asyncio.run(main())


async def _snapshots() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Slow(pb.Root):
        def remote_thing(self) -> Thing:
            return Thing()

        def remote_fail(self) -> None:
            raise pb.Error("not now")

        async def remote_wait(self) -> None:
            await gate

    async with served(Slow()) as (server, root):
        ref = await root.callRemote("thing")
        hanging = root.callRemote("wait")
        with pytest.raises(pb.Error):
            await root.callRemote("fail")
        theirs, ours = server.snapshot()[0], root.broker.snapshot()
        assert (ours.peer.calls_sent, theirs.peer.calls_received) == (3, 3)
        assert ours.peer.bytes_sent == theirs.peer.bytes_received > 0
        assert (ours.peer.accepted, theirs.peer.accepted) == (False, True)
        assert [row.luid for row in theirs.lent] == ["root", ref.luid]
        assert [row.luid for row in ours.borrowed] == [ref.luid]
        (sent,), (running,) = ours.pending, theirs.pending
        assert (sent.method, sent.target, sent.incoming) == ("wait", "root", False)
        assert (running.method, running.target, running.incoming) == ("wait", "Slow", True)
        assert 0 < sent.since <= running.since <= theirs.now
        # Only what failed is recorded while nobody watches.
        assert [(row.method, row.error) for row in ours.log] == [("fail", "Error: not now")]
        assert [(row.method, row.error) for row in theirs.log] == [("fail", "Error: not now")]
        gate.set_result(None)
        await hanging
        assert root.broker.snapshot().pending == server.snapshot()[0].pending == ()


def test_a_snapshot_says_what_is_held_and_what_is_pending() -> None:
    asyncio.run(_snapshots())


def test_what_is_large_is_received_where_it_belongs() -> None:
    async def main() -> None:
        connection = Connection(listening=False, dialects=("pbnb1",))
        connection.connection_made(Wire())
        connection.data_received(pb.banana.encode([b"pbnb1"], None))
        sender, blob = FrameDialect(pb.Limits()), bytes(range(256)) * 4096
        announced = sender.encode([b"answer", 1, blob])
        call = connection.root().callRemote("picture")
        full = len(connection.get_buffer(-1))
        said = b"".join([*announced, *(part for _ in range(4) for part in sender.pieces())])
        copied = 0
        while said:
            room = connection.get_buffer(-1)
            part = said[: len(room)]
            room[: len(part)] = part
            if room.obj is _scratch.view.obj:
                copied += len(part)
            connection.buffer_updated(len(part))
            said = said[len(part) :]
        assert await call == blob
        # Of each part no more than what came with its head, once the first was announced.
        assert copied <= full + 4 * 4096
        assert len(connection.get_buffer(-1)) == full
        connection.connection_lost(None)

    asyncio.run(main())
