"""Each setting of `Limits`, reached from outside: by raw sockets, in a server of its own process.

Meanwhile its loop goes on for others and its memory stays what it was, as far as the process itself
can tell. The loop is measured in seconds of computing, which do not depend on what else the machine
does; the bounds are several times what was measured.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import pbnb as pb
from pbnb.wire.banana import encode
from pbnb.wire.segments import is_shared
from tests.attacks import floods
from tests.attacks.floods import OPENED, Raw, Victim, call, victim

BUSY = 1.0  # seconds for which the loop may compute in one go
GROWN = 40e6  # bytes

Flood = Callable[[Victim], Awaitable[None]]
REACHED: dict[str, tuple[dict[str, Any], Flood]] = {}


def reaches(name: str, value: Any, token: str | None = None, **more: Any) -> Callable[[Flood], Any]:
    """Notes what reaches a setting, and with what value of it."""

    def note(flood: Flood) -> Flood:
        REACHED[name] = ({"limits": {name: value, **more}, "token": token}, flood)
        return flood

    return note


async def refused(server: Victim, data: bytes, times: int = 20) -> None:
    """Says something often, each time on a connection of its own, which ends by it."""
    for _ in range(times):
        raw = await server.raw()
        await raw.say(data)
        assert await raw.is_closed()


async def taken(server: Victim, data: bytes, times: int) -> None:
    """Makes a call often, and has an answer each time."""
    raw = await server.raw()
    answers = asyncio.ensure_future(raw.answers(times))
    for _ in range(times):
        await raw.say(data)
    assert await answers == [b"answer"] * times


# What one message may be


@reaches("string_bytes", 100_000)
async def long_strings(server: Victim) -> None:
    await taken(server, call(b"drop", bytes(100_000)), times=500)
    # Refused by its length, before any of it has come.
    await refused(server, call(b"drop", bytes(100_001))[:-100_001])


@reaches("list_items", 1000)
async def long_lists(server: Victim) -> None:
    await taken(server, call(b"drop", [b"list", *range(999)]), times=500)
    await refused(server, b"\x69\x07\x80")


@reaches("prefix_bytes", 10)
async def long_prefixes(server: Victim) -> None:
    await taken(server, call(b"drop", 2**70 - 1), times=500)
    await refused(server, b"\x7f" * 11)
    raw = await server.raw()
    while await raw.say(b"\x7f" * 100_000):
        pass


@reaches("depth", 100)
async def deep_lists(server: Victim) -> None:
    tree: Any = [b"list"]
    for _ in range(97):
        tree = [b"list", tree]
    await taken(server, call(b"drop", tree), times=500)
    await refused(server, b"\x01\x80" * 101)
    await refused(server, b"\x01\x80" * 1_000_000, times=1)


@reaches("message_bytes", 1_000_000)
async def long_messages(server: Victim) -> None:
    part = bytes(90_000)
    await taken(server, call(b"drop", *[part] * 11), times=100)
    await refused(server, call(b"drop", *[part] * 12)[:-1])
    # Many that are never finished: each may cost what one message may.
    for _ in range(20):
        await (await server.raw()).say(call(b"drop", *[part] * 11)[:-1])


@reaches("message_items", 10_000)
async def many_items(server: Victim) -> None:
    await taken(server, call(b"drop", [b"list", *([[b"list"]] * 4_900)]), times=50)
    await refused(server, call(b"drop", [b"list", *([[b"list"]] * 5_000)]))
    await refused(server, b"\x64\x80" * 101)


@reaches("buffer_bytes", 1_000_000, message_bytes=100_000)
async def long_buffers(server: Victim) -> None:
    raw = await server.raw(floods.FRAMES, in_frames=True)
    for _ in range(50):
        await raw.say(floods.with_buffer("drop", bytes(900_000)))
    await raw.say(floods.plain_call("echo", 7, number=2))
    assert await raw.answers(50) == [b"answer"] * 50
    assert await raw.answer() == [b"answer", 2, 7]
    for _ in range(20):
        raw = await server.raw(floods.FRAMES, in_frames=True)
        await raw.say(floods.with_buffer("drop", b"", size=1_000_001))
        assert await raw.is_closed()
    # Many that are never finished: each may cost what it has sent.
    for _ in range(100):
        raw = await server.raw(floods.FRAMES)
        await raw.say(floods.with_buffer("drop", bytes(10_000), size=900_000))


@reaches("hash_collisions", 64)
async def keys_of_one_hash(server: Victim) -> None:
    def keys(count: int) -> list[Any]:
        return [b"dictionary", *([n * floods.PRIME, 0] for n in range(1, count + 1))]

    await taken(server, call(b"drop", *[keys(64)] * 10), times=50)
    raw = await server.raw()
    await raw.say(call(b"drop", keys(10_000)) * 20)
    assert await raw.answers(20) == [b"error"] * 20


# What a peer may hold


@reaches("references", 100)
async def many_references(server: Victim) -> None:
    raw = await server.raw()
    for start in range(0, 1000, 50):
        await raw.say(call(b"keep", *([b"remote", 1 + start + n] for n in range(50))))
    assert await raw.answers(20) == [b"answer"] * 2 + [b"error"] * 18
    await raw.say(call(b"lend") * 1000)
    assert await raw.answers(1000) == [b"answer"] * 100 + [b"error"] * 900


@reaches("running_calls", 5, queued_calls=10)
async def many_running_calls(server: Victim) -> None:
    raw = await server.raw()
    await raw.say(call(b"never") * 2000)
    assert await raw.answers(2000 - 15) == [b"error"] * (2000 - 15)
    assert (await server.ref.callRemote("left"))[1:3] == [5, 10]


@reaches("queued_calls", 100, running_calls=1)
async def many_queued_calls(server: Victim) -> None:
    raw = await server.raw()
    await raw.say(call(b"never") * 2000)
    assert await raw.answers(2000 - 101) == [b"error"] * (2000 - 101)
    assert (await server.ref.callRemote("left"))[1:3] == [1, 100]


@reaches("queue_seconds", 0.1, running_calls=1)
async def calls_that_wait_long(server: Victim) -> None:
    raw = await server.raw()
    await raw.say(call(b"never") * 500)
    assert await raw.answers(499) == [b"error"] * 499


@reaches("streams", 20, write_bytes=500_000)
async def many_streams(server: Victim) -> None:
    raw = await server.raw()
    await raw.say(call(b"yield") * 1000)
    assert await raw.answers(1000) == [b"answer"] * 20 + [b"error"] * 980
    # All of them run, and far ahead of a reader that does not read.
    for luid in range(1, 21):
        await raw.say(call(b"begin", [b"remote", luid], 10**9, obj=luid))
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert await server.ref.callRemote("echo", 7) == 7


@reaches("write_bytes", 500_000)
async def answers_that_are_not_read(server: Victim) -> None:
    raws = []
    for _ in range(5):
        raws.append(await server.raw())
        raws[-1].writer.transport.pause_reading()  # type: ignore[attr-defined]
        raws[-1].writer.write(call(b"long") * 20_000)
    # All that were read from are held up, and what they have said since is still here.
    async with asyncio.timeout(floods.PATIENCE):
        while True:
            before = [raw.writer.transport.get_write_buffer_size() for raw in raws]
            await asyncio.sleep(0.2)
            if before == [raw.writer.transport.get_write_buffer_size() for raw in raws]:
                break
    assert await server.ref.callRemote("echo", 7) == 7


# Who may be there, for how long


@reaches("connections", 50)
async def many_connections(server: Victim) -> None:
    await server.silent(1000)
    late = await server.raw()
    await late.say(call(b"echo", 7))
    assert await late.answer() == [b"answer", 1, 7]
    assert (await server.ref.callRemote("left"))[3] <= 51


@reaches("handshake_bytes", 100)
async def long_openings(server: Victim) -> None:
    for _ in range(100):
        raw = await server.raw(b"")
        await raw.say(encode(bytes(101), None))
        assert await raw.is_closed()


@reaches("opening_seconds", 0.2)
async def openings_that_do_not_end(server: Victim) -> None:
    raws = [await server.raw(said) for said in (b"", b"\x02", OPENED[:-1]) * 30]
    for raw in raws:
        assert await raw.is_closed()


@reaches("login_seconds", 0.2, token="secret")
async def logins_that_do_not_come(server: Victim) -> None:
    raws = [await server.raw() for _ in range(50)]
    raws += [await server.raw(OPENED + call(b"login_scram", b"x", bytes(32))) for _ in range(50)]
    for raw in raws:
        assert await raw.is_closed()


@reaches("logged_lines", 10)
async def much_to_log(server: Victim) -> None:
    raw = await server.raw()
    await raw.say(call(b"nothing\nlike this") * 1000)
    assert await raw.answers(1000) == [b"error"] * 1000
    for _ in range(200):
        await (await server.raw(b"GET / HTTP/1.1\r\n\r\n")).is_closed()
    lines = server.log.read_text().splitlines()
    assert 10 <= len(lines) <= 12, lines


# What a peer owes


async def asked(server: Victim) -> Raw:
    """Has the server call two hundred objects of ours, which do not answer."""
    raw = await server.raw()
    for number in range(1, 201):
        await raw.say(call(b"ask", [b"remote", number], number=number))
    return raw


@reaches("shared_bytes", 4_000_000)
async def views_that_are_kept(server: Victim) -> None:
    ref = await pb.connect(server.address)
    large = bytes(range(250)) * 8_000
    kept = [await ref.callRemote("echo", memoryview(large)) for _ in range(12)]
    assert all(view == large for view in kept)
    # There is room for one of them, in whole pages; the others were sent.
    assert sum(map(is_shared, kept)) <= 1
    await ref.broker.close()


@reaches("call_seconds", 0.2)
async def answers_that_do_not_come(server: Victim) -> None:
    raw = await asked(server)
    for _ in range(200):
        answer = await raw.answer()
        assert answer[0] == b"error" and b"DeadlineExceeded" in encode(answer)


@reaches("keepalive_seconds", 0.1)
async def silence(server: Victim) -> None:
    raw = await asked(server)
    while (said := await raw.hear())[2:4] != [b"pbnb", b"alive"]:
        assert said[0] != b"error"
    assert not raw.closed


@reaches("silence_seconds", 0.2, keepalive_seconds=0.1)
async def silence_for_too_long(server: Victim) -> None:
    for _ in range(5):
        assert await (await asked(server)).is_closed()


@pytest.mark.parametrize("name", REACHED)
def test_a_setting_bounds_what_a_peer_costs(name: str) -> None:
    options, flood = REACHED[name]

    async def main() -> None:
        async with victim(**options) as server:
            found = await server.measured(flood)
            assert found["busy"] < BUSY, found
            assert found["grown"] < GROWN, found
            lent, running, waiting, others = await server.left()
            # What somebody who does no harm has logged in to is still lent, and what runs for
            # nobody goes on to its end, as it does in PB.
            assert (lent, waiting, others) == (bool(options["token"]), 0, 1)
            assert running <= options["limits"].get("running_calls", 0)

    asyncio.run(main())


def test_every_setting_is_reached() -> None:
    assert set(REACHED) == {field.name for field in dataclasses.fields(pb.Limits)}


@pytest.mark.parametrize(
    "flood", [floods.connections, floods.garbage, floods.unread, floods.references]
)
def test_a_flood_at_the_usual_limits(flood: Flood) -> None:
    async def main() -> None:
        async with victim() as server:
            found = await server.measured(flood)
            assert found["busy"] < BUSY, found
            assert found["grown"] < 2 * GROWN, found
            assert await server.left() == [0, 0, 0, 1]

    asyncio.run(main())


def test_the_worst_of_messages_where_they_are_small() -> None:
    """At a tenth of the usual items: each of these was made to be slow to read."""

    async def worst(server: Victim) -> None:
        waiting = [[b"tuple", [b"dereference", 1]]] * 9_999
        trees: list[Any] = [
            [b"list", *range(90_000)],
            [b"list", *([2**440] * 90_000)],
            [b"list", *([[b"list"]] * 45_000)],
            [b"list", *([[b"decimal", 2**400, -5]] * 22_000)],
            [b"list", *waiting, [b"reference", 1, [b"list"]]],
            [b"set", *range(90_000)],
            [b"dictionary", *([n, 0] for n in range(30_000))],
        ]
        for tree in trees:
            await taken(server, call(b"drop", tree), times=1)
        raw = await server.raw(floods.FRAMES, in_frames=True)
        await raw.say(floods.plain_call("drop", [[]] * 90_000))
        assert await raw.answer() == [b"answer", 1, None]

    async def main() -> None:
        async with victim(limits={"message_items": 100_000}) as server:
            found = await server.measured(worst)
            assert found["busy"] < BUSY, found
            assert found["grown"] < 2 * GROWN, found

    asyncio.run(main())


def test_few_files_are_enough() -> None:
    """Without files left, neither a notebook nor asyncio would go on."""

    async def main() -> None:
        async with victim(files=200) as server:
            found = await server.measured(floods.connections)
            assert found["busy"] < BUSY, found
            assert "Too many open files" not in server.log.read_text()
            assert await server.left() == [0, 0, 0, 1]

    asyncio.run(main())
