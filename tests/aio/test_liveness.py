"""Liveness: openings that do not end, peers that say nothing, machines that are gone."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.liveness import Liveness, keep_alive, unacknowledged, unread
from pbnb.wire.banana import encode
from tests.support.serving import served, until


class Desk(pb.Root):
    def remote_echo(self, value: Any) -> Any:
        return value

    async def remote_never(self) -> None:
        await asyncio.Event().wait()


QUICK = pb.Limits(opening_seconds=0.05)


async def hung_up(
    reader: asyncio.StreamReader, answer: Callable[[], object] = lambda: None
) -> None:
    """Reads until the other side has ended the connection."""
    try:
        while await asyncio.wait_for(reader.read(100), 10):
            answer()
    except ConnectionError:
        pass


@pytest.mark.parametrize(
    "said", [b"", b"\x02", b"\x02\x82p", b"\x7f"], ids=["nothing", "length", "half", "prefix"]
)
def test_an_opening_that_does_not_end_is_ended(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), limits=QUICK) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(said)
            await hung_up(reader)
            assert not server.connections
            writer.close()

    asyncio.run(main())
    assert "has not opened the connection in 0.05 s" in caplog.text


def test_a_peer_that_never_logs_in_is_hung_up_on(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = pb.Limits(login_seconds=0.05)
        async with await pb.serve(Desk(), anonymous=False, limits=limits) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(encode(b"pb", None))
            # What it says meanwhile does not give it more time.
            call = [b"message", 1, b"pbnb", b"alive", 1, [b"tuple"], [b"dictionary"]]
            await hung_up(reader, lambda: writer.write(encode(call)))
            writer.close()

    asyncio.run(main())
    assert "has not logged in in 0.05 s" in caplog.text


def test_who_opened_or_logged_in_may_be_silent() -> None:
    async def main() -> None:
        for anonymous in (True, False):
            async with await pb.serve(Desk(), anonymous=anonymous, limits=pb.Limits()) as server:
                ref = await pb.connect(server.address, token=server.token, limits=pb.Limits())
                (far,) = server.connections
                assert await ref.callRemote("echo", 1) == 1
                assert far.liveness._opening is None
                await ref.broker.close()

    asyncio.run(main())


def test_a_server_that_says_nothing_is_given_up_by_a_client() -> None:
    async def main() -> None:
        async def say_nothing(reader: Any, writer: Any) -> None:
            await reader.read()
            writer.close()

        listener = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        loop, factory = asyncio.get_running_loop(), pb.PBClientFactory(limits=QUICK)
        await loop.create_connection(factory, "127.0.0.1", port)
        with pytest.raises(pb.ConnectError, match="not opened the connection in 0.05 s"):
            await factory.getRootObject()
        listener.close()

    asyncio.run(main())


def test_a_peer_that_answers_is_waited_for() -> None:
    async def main() -> None:
        limits = pb.Limits(keepalive_seconds=0.02, silence_seconds=3)
        loop = asyncio.get_running_loop()
        async with await pb.serve(Desk()) as server:
            ref = await pb.connect(server.address, limits=limits)
            call, began = ref.callRemote("never"), loop.time()
            (far,) = server.connections
            # Longer than it may be silent, and each of these calls asks it for a sign of life.
            await until(lambda: far.calls_received >= 10 and loop.time() - began > 3.5, 60)
            assert not call.called
            assert ref.broker.liveness.silent < 3
            call.cancel()
            await until(lambda: not ref.broker.machine.pending)
            assert ref.broker.liveness.silent == 0
            await until(lambda: not ref.broker.liveness.watching)
            await ref.broker.close()

    asyncio.run(main())


def test_a_peer_that_says_nothing_is_given_up_when_its_time_is_over() -> None:
    async def main() -> None:
        async def open_only(reader: Any, writer: Any) -> None:
            writer.write(encode([b"pb"], None))
            await reader.read()
            writer.close()

        listener = await asyncio.start_server(open_only, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        limits = pb.Limits(keepalive_seconds=0.02, silence_seconds=0.05)
        ref = await pb.connect(f"127.0.0.1:{port}", limits=limits)
        with pytest.raises(pb.PBConnectionLost, match="has said nothing for"):
            await ref.callRemote("echo", 1)
        assert ref.broker.lost
        listener.close()

    asyncio.run(main())


def test_the_system_is_asked_to_look_after_quiet_connections() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            for connection in (server.connections[0], ref.broker):
                sock = connection._transport.get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                if hasattr(socket, "TCP_KEEPIDLE"):
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5

    asyncio.run(main())


def test_other_sockets_are_left_alone() -> None:
    keep_alive(None, 15)
    pair = socket.socketpair()
    keep_alive(pair[0], 15)
    assert unacknowledged(pair[0]) == 0
    with socket.socket() as sock:
        keep_alive(sock, math.inf)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert unacknowledged(sock) == 0
    for each in pair:
        each.close()


class Gone:
    """A socket whose peer's machine has acknowledged nothing for a minute."""

    family = socket.AF_UNIX

    def __init__(self, unacked: int) -> None:
        numbers = [0] * 13
        numbers[4], numbers[12] = unacked, 60_000
        self.info = struct.pack("8x13I", *numbers)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return self.info[:size]


class Host:
    lost = False

    def __init__(self) -> None:
        self.given_up: list[Exception] = []
        self.asked = 0
        self.now = 100.0
        self.since: float | None = 90.0
        self.moved = -math.inf
        self.timers: list[Callable[[], object]] = []

    def awaits_answers(self) -> bool:
        return True

    def waits_since(self) -> float | None:
        return self.since

    def ask_alive(self) -> None:
        self.asked += 1

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Any:
        self.timers.append(callback)

    def time(self) -> float:
        return self.now

    def give_up(self, error: Exception) -> None:
        self.given_up.append(error)

    def moved_at(self) -> float:
        return self.moved


def test_a_busy_peer_is_one_that_does_not_answer_when_it_is_asked() -> None:
    host = Host()
    liveness = Liveness(host, pb.Limits(opening_seconds=math.inf))
    liveness.begin(Transport(Gone(0)))  # type: ignore[arg-type]
    # Nobody waits for anything.
    host.since = None
    host.now = 110.0
    liveness.ask()
    assert (liveness.silent, liveness.busy, host.asked) == (0, 0, 0)
    # Silence is counted from the call on, and not from the last word before it.
    host.since = 109.5
    liveness.ask()
    assert (liveness.silent, liveness.busy, host.asked) == (0.5, 0, 0)
    # It is asked once, and not said to be busy before it could answer.
    host.now = 111.0
    liveness.ask()
    liveness.ask()
    assert (liveness.silent, liveness.busy, host.asked) == (1.5, 0, 1)
    host.now = 112.0
    liveness.ask()
    assert (liveness.silent, liveness.busy, host.asked) == (2.5, 2.5, 1)
    # It answers, and so it is alive; the call may go on to take its time.
    liveness.heard_at = host.now = 113.0
    assert liveness.busy == 0
    host.now = 114.0
    liveness.ask()
    assert host.asked == 2
    host.now = 120.0
    assert liveness.busy == 7
    # Somebody reads what goes on.
    host.moved = 118.0
    assert liveness.busy == 0
    host.now = 122.0
    assert liveness.busy == 4
    host.lost = True
    assert liveness.silent == liveness.busy == 0


def test_who_reads_something_large_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than this test may stand still itself, and shorter than any clock has run.
    for name, seconds in (("_QUIET", 0.1), ("_ANSWER", 0.1), ("_STILL", 60.0)):
        monkeypatch.setattr(f"pbnb.aio.liveness.{name}", seconds)

    async def main() -> None:
        reading, gone_on = asyncio.Event(), asyncio.Event()
        reading.set()

        async def read_only(reader: Any, writer: Any) -> None:
            writer.write(encode([b"pbnb1"], None))
            while await reader.read(100_000):
                await asyncio.sleep(0.005)
                await reading.wait()
            writer.close()
            gone_on.set()

        listener = await asyncio.start_server(read_only, "127.0.0.1", 0)
        ref = await pb.connect(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        connection = ref.broker
        call = ref.callRemote("echo", bytearray(128 * 1024 * 1024))
        busy, moved = [], []
        for _ in range(20):
            await asyncio.sleep(0.05)
            connection.ask_if_silent()
            busy.append(connection.liveness.busy)
            moved.append(connection.moved_at())
        (transfer,) = connection.transfer_rows()
        assert 0 < transfer.done < transfer.size
        assert busy == [0.0] * 20 and connection.liveness.silent > 0.5
        # It was noted again and again that it goes on.
        assert len(set(moved)) > 5
        monkeypatch.setattr("pbnb.aio.liveness._STILL", 0.5)
        reading.clear()
        await until(lambda: connection.liveness.busy > 0)
        reading.set()
        await until(lambda: not connection.liveness.busy)
        call.cancel()
        await connection.close()
        await gone_on.wait()
        listener.close()

    asyncio.run(main())


def test_a_connection_says_that_its_peer_is_busy() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def open_only(reader: Any, writer: Any) -> None:
            writer.write(encode([b"pb"], None))
            await go_on.wait()
            writer.close()

        listener = await asyncio.start_server(open_only, "127.0.0.1", 0)
        ref = await pb.connect(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        connection = ref.broker
        call = ref.callRemote("echo", 1)
        connection.ask_if_silent()
        assert "busy" not in repr(connection)
        await until(lambda: connection.ask_if_silent() or connection.liveness.busy > 0)
        assert repr(connection).startswith(f"<Connection to {connection.peer}, pb, peer's kernel b")
        assert connection.snapshot().peer.busy > 0
        # What connections ask each other is no call of their users'.
        assert [row.method for row in connection.snapshot().pending] == ["echo"]
        call.cancel()
        assert "busy" not in repr(connection)
        go_on.set()
        await until(lambda: connection.lost)
        listener.close()

    asyncio.run(main())


def test_what_was_not_read_is_seen() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    assert not unread(ours)
    theirs.send(b"x")
    assert unread(ours) and unread(ours)
    assert ours.recv(10) == b"x"
    theirs.close()
    # Whoever has hung up waits for nothing.
    assert not unread(ours)
    ours.close()
    assert not unread(ours) and not unread(None)


class Transport:
    def __init__(self, sock: Gone) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> Any:
        return self.sock


@pytest.mark.parametrize("unacked", [0, 1])
def test_a_machine_that_acknowledges_nothing_is_gone(unacked: int) -> None:
    host, sock = Host(), Gone(unacked)
    # Only Linux tells; elsewhere the system's own patience counts.
    known = hasattr(socket, "TCP_INFO") and hasattr(socket, "TCP_KEEPIDLE")
    liveness = Liveness(host, pb.Limits(opening_seconds=math.inf))
    liveness.begin(Transport(sock))  # type: ignore[arg-type]
    liveness.watch()
    (look,) = host.timers
    look()
    assert len(host.given_up) == (unacked if known else 0)
    assert unacknowledged(sock) == (60.0 * unacked if known else 0)
