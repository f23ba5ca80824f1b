"""Flow: what a peer that does not read costs, and that two that read never wait for each other."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

import pbnb as pb
from pbnb.wire.banana import encode
from tests.support.serving import served, tables, until

SMALL = pb.Limits(write_bytes=100_000)
LONG = b"x" * 50_000


class Desk(pb.Root):
    def __init__(self) -> None:
        self.calls = 0

    def remote_echo(self, value: Any) -> Any:
        self.calls += 1
        return value

    def remote_long(self) -> bytes:
        self.calls += 1
        return LONG

    def remote_note(self, value: Any) -> None:
        self.calls += 1


def call(name: bytes, number: int = 1) -> bytes:
    return encode([b"message", number, b"root", name, 1, [b"tuple"], [b"dictionary"]])


def test_a_peer_that_calls_and_does_not_read_is_not_read_from() -> None:
    async def main() -> None:
        desk = Desk()
        async with await pb.serve(desk, limits=SMALL) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            flood = b"".join(call(b"long", number) for number in range(1, 3_001))
            writer.write(encode(b"pb", None) + flood)
            await until(lambda: len(server.connections) == 1)
            (far,) = server.connections
            await until(lambda: far.flow.holds_reading)
            waits = far._transport.get_write_buffer_size()
            assert waits < SMALL.write_bytes + 25 * len(LONG)
            # What was read already waits in the decoder: one segment of it at the most.
            assert not len(far.flow) and far.turns.waiting == 1
            served_before = desk.calls
            await asyncio.sleep(0)
            assert desk.calls == served_before < 1000
            # It reads on, and all is answered.
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            last = encode([b"answer", 3_000, LONG])[:20]
            found = b""
            while last not in found:
                found = found[-100:] + await reader.read(1_000_000)
            assert desk.calls == 3_000
            writer.close()

    asyncio.run(main())


def test_awaiting_a_call_waits_while_the_peer_does_not_read() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            ref.broker.limits = ref.broker.flow.limits = SMALL
            (far,) = server.connections
            far.pause_reading()
            calls = [ref.callRemote("echo", LONG) for _ in range(400)]
            ref.remote_only("note", LONG)
            calls.append(ref.callRemote("echo", object()))
            await until(lambda: ref.broker.flow.full)
            waits = ref.broker._transport.get_write_buffer_size()
            assert waits < SMALL.write_bytes + 25 * len(LONG)
            assert len(ref.broker.flow) > 200
            with pb.deadline(0.02), pytest.raises(pb.DeadlineExceeded, match="was not sent"):
                await ref.callRemote("echo", 1)
            given_up = ref.callRemote("echo", 2)
            given_up.cancel()
            far.resume_reading()
            assert await asyncio.gather(*calls[:400]) == [LONG] * 400
            with pytest.raises(pb.InsecureJelly):
                await calls[400]
            assert not ref.broker.flow.full and not len(ref.broker.flow)
            assert server.root.calls == 401  # type: ignore[attr-defined]
            await until(lambda: not tables(far, ref.broker))

    asyncio.run(main())


def test_calls_that_were_held_back_end_with_the_connection() -> None:
    async def main() -> None:
        async with served(Desk()) as (server, ref):
            ref.broker.flow.limits = SMALL
            server.connections[0].pause_reading()
            calls = [ref.callRemote("echo", LONG) for _ in range(400)]
            await until(lambda: ref.broker.flow.full)
            ref.broker.abort()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(each) for each in found} == {pb.PBConnectionLost}
            assert not len(ref.broker.flow)

    asyncio.run(main())


def test_two_that_flood_each_other_never_wait_for_each_other() -> None:
    class Both(pb.Root):
        async def remote_flood(self, other: Any) -> int:
            calls = [other.callRemote("echo", LONG) for _ in range(300)]
            return sum(map(len, await asyncio.gather(*calls)))

        def remote_echo(self, value: Any) -> Any:
            return value + LONG

    async def main() -> None:
        async with await pb.serve(Both(), limits=SMALL) as server:
            ref = await pb.connect(server.address, limits=SMALL)
            mine = [ref.callRemote("flood", Both()) for _ in range(3)]
            mine += [ref.callRemote("echo", LONG) for _ in range(300)]
            found = await asyncio.wait_for(asyncio.gather(*mine), 60)
            assert found[:3] == [600 * len(LONG)] * 3
            await ref.broker.close()

    asyncio.run(main())


def test_refused_calls_cannot_grow_the_memory_either() -> None:
    """A peer that owes an answer is read from; what it is told meanwhile has an end."""

    async def main() -> None:
        limits = pb.Limits(
            write_bytes=20_000, message_bytes=600_000, queued_calls=2, logged_lines=1
        )

        class Asker(Desk):
            def remote_ask(self, ref: Any) -> None:
                ref.callRemote("anything").addErrback(lambda failure: None)

        async with await pb.serve(Asker(), limits=limits) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            ask = [b"message", 1, b"root", b"ask", 0, [b"tuple", [b"remote", 7]], [b"dictionary"]]
            writer.write(encode(b"pb", None) + encode(ask))
            await until(lambda: len(server.connections) == 1)
            (far,) = server.connections
            await until(lambda: far.awaits_answers())
            for number in range(200_000):
                writer.write(call(b"long", number))
                if number % 1000 == 0:
                    await asyncio.sleep(0)
                    if far.lost:
                        break
            await until(lambda: far.lost)
            assert isinstance(far.error, pb.LimitExceeded)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    asyncio.run(main())


def test_a_segment_of_many_calls_lets_others_have_their_turn() -> None:
    class Counter(pb.Root):
        def __init__(self) -> None:
            self.calls = 0
            self.seen: list[int] = []

        def remote_count(self) -> None:
            self.calls += 1
            time.sleep(0.001)

    async def main() -> None:
        counter = Counter()

        async def look() -> None:
            while counter.calls < 300:
                counter.seen.append(counter.calls)
                await asyncio.sleep(0)

        async with await pb.serve(counter) as server:
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(encode(b"pb", None) + 300 * call(b"count"))
            await asyncio.wait_for(look(), 30)
            steps = {after - before for before, after in pairwise(counter.seen)}
            assert max(steps) <= 50 + 4
            writer.close()
            await until(lambda: not server.connections)

    asyncio.run(main())
