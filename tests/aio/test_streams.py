"""Remote generators: their items, their ends, and what is left of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.streams import LentStream
from tests.support import clocks
from tests.support.ports import free_port
from tests.support.serving import served, tables, until


class Odd(pb.Error):
    pass


class Thing(pb.Referenceable):
    def remote_name(self) -> str:
        return "thing"


class Source(pb.Root):
    """An object with generators, which notes what becomes of them."""

    def __init__(self) -> None:
        self.yielded = 0
        self.began = 0
        self.ended: list[str] = []
        self.closing = asyncio.Event()
        self.closing.set()

    async def remote_count(self, to: int, start: int = 0) -> AsyncIterator[int]:
        self.began += 1
        try:
            for n in range(start, to):
                self.yielded = n + 1
                yield n
            self.ended.append("whole")
        finally:
            await self.closing.wait()
            self.ended.append("count")

    def remote_plain(self, to: int) -> Iterator[int]:
        try:
            for n in range(to):
                self.yielded = n + 1
                yield n
        finally:
            self.ended.append("plain")

    async def remote_slow(self) -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            self.ended.append("slow")

    async def remote_stubborn(self) -> AsyncIterator[int]:
        for n in range(100):
            try:
                yield n
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.ended.append("went on")

    async def remote_fails(self, after: int) -> AsyncIterator[int]:
        for n in range(after):
            yield n
        raise Odd("no more")

    def remote_surprise(self) -> Iterator[int]:
        yield 1
        raise LookupError("what is that?")

    def remote_same(self) -> Iterator[Any]:
        row: dict[str, Any] = {"n": 0, "more": [[]]}
        for n in range(200):
            row["n"] = n
            row["more"][0] = [n]
            yield row

    def remote_given(self, items: list[Any]) -> Iterator[Any]:
        yield from items

    def remote_list(self) -> list[int]:
        return [1, 2, 3]

    def remote_number(self) -> int:
        return 7

    def remote_thing(self) -> Thing:
        return Thing()

    async def remote_later(self) -> Any:
        return self.remote_plain(3)


@asynccontextmanager
async def reading(**options: Any) -> AsyncIterator[tuple[Source, Any]]:
    """Serves a source and connects; in the end nothing is left in any table."""
    source = Source()
    async with served(source, **options) as (server, ref):
        (far,) = server.connections
        yield source, ref
        source.closing.set()
        await until(lambda: not tables(ref.broker, far) and not list(far.running()))


def run(test: Callable[[], Any]) -> None:
    clocks.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("name", ["count", "plain"])
@pytest.mark.parametrize("ahead", [1, 2, 64, 5000])
def test_items_arrive_in_order(name: str, ahead: int) -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            stream = ref.stream(name, 1000).ahead(ahead)
            assert [item async for item in stream] == list(range(1000))
            assert source.ended[-1] == name
            # It is over once and for all.
            assert [item async for item in stream] == []
            assert [item async for item in ref.stream(name, 0)] == []

    run(test)


def test_keywords_and_a_method_that_returns_a_generator_later() -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            assert [n async for n in ref.stream("count", 5, start=3)] == [3, 4]
            assert [n async for n in ref.stream(b"later")] == [0, 1, 2]

    run(test)


def test_a_hundred_thousand_items_take_few_messages() -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            total = 0
            async for item in ref.stream("count", 100_000):
                total += item
            assert total == sum(range(100_000))
            # Half of what may be sent ahead is the least that is sent at once.
            assert ref.broker.calls_received <= 100_000 / 32 + 10

    run(test)


@pytest.mark.parametrize("name", ["count", "plain"])
def test_the_generator_runs_only_so_far_ahead(name: str) -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            stream = ref.stream(name, 10_000).ahead(10)
            async with stream:
                for taken in range(1, 100):
                    assert await anext(stream) == taken - 1
                    await ref.callRemote("number")  # all that it does by itself is done
                    assert taken <= source.yielded <= taken + 10
            assert source.ended == [name]

    run(test)


def test_nothing_happens_before_the_loop_begins() -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            stream = ref.stream("count", 10)
            assert "Stream of count() of <RemoteReference" in repr(stream)
            await ref.callRemote("number")
            await stream.aclose()
            assert [item async for item in stream] == [] and source.began == 0

    run(test)


def test_an_item_is_what_it_was_when_it_was_yielded() -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            rows = [row async for row in ref.stream("same")]
            assert rows == [{"n": n, "more": [[n]]} for n in range(200)]

    run(test)


def test_every_kind_of_item() -> None:
    async def test() -> None:
        shared = [1]
        items = [None, True, -1, 2**63, 2**400, 1.5, "ä", "a" * 2000, b"\xff", (1, (2, [3]))]
        items += [{"a": {"b": {"c": {"d": 1}}}}, {1, 2}, [], {}, (), "", [shared, shared]]
        async with reading() as (_, ref):
            found = [item async for item in ref.stream("given", items)]
            assert found == items
            assert [type(item) for item in found] == [type(item) for item in items]
            assert found[-1][0] is found[-1][1]
            (thing,) = [item async for item in ref.stream("given", [await ref.callRemote("thing")])]
            assert await thing.callRemote("name") == "thing"
            mine = Thing()
            assert [item async for item in ref.stream("given", [mine])] == [mine]
            del thing

    run(test)


# Errors


@pytest.mark.parametrize("after", [0, 1, 63, 64, 65, 200])
def test_an_error_comes_after_the_items_before_it(after: int) -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            found = []
            with pytest.raises(Odd, match="no more"):
                async for item in ref.stream("fails", after):
                    found.append(item)
            assert found == list(range(after))

    run(test)


def test_an_error_that_is_a_surprise_is_logged_where_it_was_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            with pytest.raises(LookupError, match="what is that"):
                async for item in ref.stream("surprise"):
                    assert item == 1

    run(test)
    assert "remote_surprise" in caplog.text


def test_an_item_that_cannot_be_sent_ends_the_stream_at_its_place() -> None:
    async def test() -> None:
        class Unsendable(Source):
            def remote_mixed(self) -> Iterator[Any]:
                try:
                    yield from (1, 2, object(), 3)
                finally:
                    self.ended.append("mixed")

        async with served(source := Unsendable()) as (_, ref):
            found = []
            with pytest.raises(pb.InsecureJelly):
                async for item in ref.stream("mixed"):
                    found.append(item)
            assert found == [1, 2]
            await until(lambda: source.ended == ["mixed"])

    run(test)


def test_items_that_are_too_long_for_this_connection() -> None:
    async def test() -> None:
        limits = pb.Limits(string_bytes=600)
        async with served(Source(), limits=limits, dialects=("pb",)) as (server, ref):
            (far,) = server.connections

            def long(self: Any) -> Iterator[str]:
                yield "short"
                yield "x" * 700

            Source.remote_long = long  # type: ignore[attr-defined]
            try:
                with pytest.raises(pb.BananaError):
                    async for _ in ref.stream("long"):
                        pass
            finally:
                del Source.remote_long  # type: ignore[attr-defined]
            await until(lambda: not tables(ref.broker, far))

    run(test)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("number", TypeError, r"number\(\) has returned a value of type int, and no stream"),
        ("thing", TypeError, r"thing\(\) has returned a reference to something that cannot be"),
        ("nothing", pb.NoSuchMethod, "nothing"),
    ],
)
def test_what_is_no_stream_says_so(name: str, error: type[Exception], text: str) -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            with pytest.raises(error, match=text):
                async for _ in ref.stream(name):
                    pass

    run(test)


def test_a_list_is_read_item_by_item() -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            assert [item async for item in ref.stream("list").ahead(1)] == [1, 2, 3]

    run(test)


def test_a_plain_call_of_a_generator_returns_what_can_be_read() -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            lent = await ref.callRemote("plain", 3)
            assert isinstance(lent, pb.RemoteReference)
            sink = Sink()
            assert await lent.callRemote("begin", sink, 10) == 3
            assert sink.items == [(0, [0, 1, 2])] and source.ended == ["plain"]
            with pytest.raises(pb.Error, match="read already"):
                await lent.callRemote("begin", sink, 10)
            await lent.callRemote("close")
            del lent

    run(test)


class Sink(pb.Referenceable):
    def __init__(self) -> None:
        self.items: list[Any] = []

    def remote_items(self, before: int, items: list[Any]) -> None:
        self.items.append((before, items))


@pytest.mark.parametrize(("sink", "ahead"), [(1, 1), ("sink", 0), ("sink", True), ("sink", "1")])
def test_a_stream_is_begun_with_what_it_needs(sink: Any, ahead: Any) -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            lent = await ref.callRemote("count", 3)
            with pytest.raises(pb.Error):
                await lent.callRemote("begin", Sink() if sink == "sink" else sink, ahead)
            await lent.callRemote("close")
            with pytest.raises(pb.Error, match="read already"):
                await lent.callRemote("begin", Sink(), 1)
            assert source.began == 0
            del lent

    run(test)


def test_how_far_ahead_is_said_before_and_sensibly() -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            for wrong in (0, -1, 1.5, True):
                with pytest.raises(ValueError, match="1 item or more"):
                    ref.stream("count", 3).ahead(wrong)
            stream = ref.stream("count", 3)
            assert await anext(stream) == 0
            with pytest.raises(pb.LocalProtocolError, match="before it begins"):
                stream.ahead(3)
            await stream.aclose()

    run(test)


# Early ends


async def leave_by_break(ref: Any) -> None:
    async for item in ref.stream("count", 10**9):
        if item == 100:
            break


async def leave_by_error(ref: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async for item in ref.stream("count", 10**9):
            1 / (item - 100)


async def leave_by_deletion(ref: Any) -> None:
    stream = ref.stream("count", 10**9)
    assert await anext(stream) == 0
    thread = threading.Thread(target=stream.__repr__)
    del stream
    thread.run()
    del thread  # the garbage collector may do it in another one
    gc.collect()


async def leave_by_closing(ref: Any) -> None:
    async with ref.stream("count", 10**9) as stream:
        assert await anext(stream) == 0


async def leave_by_cancellation(ref: Any) -> None:
    async def read() -> None:
        async for _ in ref.stream("slow"):
            reached.set()

    reached = asyncio.Event()
    task = asyncio.create_task(read())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_cancelled_item(ref: Any) -> None:
    stream = ref.stream("slow")
    assert await anext(stream) == "first"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.01)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def leave_by_deadline(ref: Any) -> None:
    with pytest.raises(pb.DeadlineExceeded):
        async for _ in ref.with_deadline(30).stream("slow"):
            clocks.put_forward(30)


async def leave_by_scope(ref: Any) -> None:
    with pb.deadline(30), pytest.raises(pb.DeadlineExceeded):
        async for _ in ref.stream("slow"):
            clocks.put_forward(30)


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_error,
        leave_by_deletion,
        leave_by_closing,
        leave_by_cancellation,
        leave_by_cancelled_item,
        leave_by_deadline,
        leave_by_scope,
    ],
)
def test_whoever_leaves_the_loop_stops_the_generator(leave: Callable[[Any], Any]) -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            await leave(ref)
            await until(lambda: source.ended in (["count"], ["slow"]))
            yielded = source.yielded
            assert await ref.callRemote("number") == 7
            assert source.yielded == yielded <= 100 + 65

    run(test)


def test_closing_waits_for_the_end_of_the_generator() -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            stream = ref.stream("count", 10**9)
            assert await anext(stream) == 0
            source.closing.clear()
            closing = asyncio.ensure_future(stream.aclose())
            await ref.callRemote("number")
            assert not closing.done() and source.ended == []
            source.closing.set()
            await closing
            assert source.ended == ["count"]

    run(test)


def test_a_generator_that_does_not_stop_is_not_asked_again() -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            async with ref.stream("stubborn") as stream:
                assert await anext(stream) == 0
            assert source.ended == ["went on"]

    run(test)


@pytest.mark.parametrize("side", ["here", "there"])
def test_a_lost_connection_ends_both_sides(side: str) -> None:
    async def test() -> None:
        source = Source()
        async with await pb.serve(source) as server:
            ref = await pb.connect(server.address)
            (far,) = server.connections
            with pytest.raises(pb.PBConnectionLost):
                async for _ in ref.stream("slow"):
                    (ref.broker if side == "here" else far).abort()
            await until(lambda: source.ended == ["slow"])
            lost = ref.stream("count", 3)
            with pytest.raises(pb.DeadReferenceError):
                await anext(lost)
            await lost.aclose()

    run(test)


def test_what_has_arrived_before_the_connection_was_lost_is_read_first() -> None:
    async def test() -> None:
        source = Source()
        async with await pb.serve(source) as server:
            ref = await pb.connect(server.address)
            found = []
            with pytest.raises(pb.PBConnectionLost):
                async for item in ref.stream("count", 10**9).ahead(10):
                    found.append(item)
                    if item == 0:
                        await until(lambda: ref.broker.calls_received > 0 and source.yielded >= 10)
                        await ref.callRemote("number")
                        ref.broker.abort()
                        await until(lambda: ref.broker.lost)
            assert found == list(range(len(found))) and len(found) >= 10
            await until(lambda: source.ended == ["count"])

    run(test)


def test_a_stream_that_was_never_read_ends_with_its_reference_and_its_connection() -> None:
    async def test() -> None:
        async with reading() as (source, ref):
            for _ in range(3):
                lent = await ref.callRemote("plain", 3)
                del lent
            held = await ref.callRemote("plain", 3)
            assert held is not None and source.ended == []
            await ref.broker.close()
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, LentStream)]

    run(test)


def test_a_kept_reference_streams_over_each_of_its_connections() -> None:
    async def test() -> None:
        port = free_port()
        server = await pb.serve(Source(), port=port)
        ref: Any = await pb.connect(server.address, keep=pb.Backoff(0.01, 0.05, 0.05))
        assert [n async for n in ref.stream("count", 3)] == [0, 1, 2]
        with pytest.raises(pb.PBConnectionLost):
            async for _ in ref.repeatable().stream("slow"):
                await server.close()
        async with await pb.serve(Source(), port=port):
            assert [n async for n in ref.stream("count", 3)] == [0, 1, 2]
            await ref.broker.close()

    run(test)


# Budgets


def test_only_so_many_streams_are_open_for_one_peer() -> None:
    async def test() -> None:
        async with reading(limits=pb.Limits(streams=3)) as (_, ref):
            streams = [ref.stream("count", 10**9) for _ in range(3)]
            for stream in streams:
                assert await anext(stream) == 0
            with pytest.raises(pb.PeerBusy, match="3 streams are open"):
                await anext(ref.stream("plain", 1))
            await streams.pop().aclose()
            await until_open(ref)
            for stream in streams:
                await stream.aclose()

    async def until_open(ref: Any) -> None:
        # The peer lets it go when this side has said that it is gone.
        while True:
            try:
                assert [item async for item in ref.stream("plain", 1)] == [0]
                return
            except pb.PeerBusy:
                gc.collect()

    run(test)


def test_a_peer_that_sends_more_than_it_was_asked_for_is_not_heard_any_more() -> None:
    class Flood(pb.Referenceable):
        async def remote_begin(self, sink: Any, ahead: int) -> int:
            for n in range(100):
                sink.remote_only("items", n * ahead, [n] * ahead)
            sink.remote_only("items", 0, "no list")
            return 100 * ahead

        def remote_close(self) -> None:
            pass

    class Root(pb.Root):
        def remote_flood(self) -> Flood:
            return Flood()

    async def test() -> None:
        async with served(Root()) as (_, ref):
            found = []
            with pytest.raises(pb.RemoteProtocolError, match="more items than it was asked for"):
                async for item in ref.stream("flood"):
                    found.append(item)
            assert len(found) == 64

    run(test)


def test_items_that_overtake_others_come_in_their_turn() -> None:
    class Mixed(pb.Referenceable):
        async def remote_begin(self, sink: Any, ahead: int) -> int:
            for before, items in [(4, [4]), (2, [2, 3]), (0, [0, 1]), (7, [7]), (5, [5, 6])]:
                sink.remote_only("items", before, items)
            if self.fails:
                sink.remote_only("ended", 9)
                asyncio.get_running_loop().call_later(0.05, sink.remote_only, "items", 8, [8])
                raise Odd("after nine")
            return 8

        def __init__(self, fails: bool) -> None:
            self.fails = fails

        def remote_close(self) -> None:
            pass

    class Root(pb.Root):
        def remote_mixed(self, fails: bool) -> Mixed:
            return Mixed(fails)

    async def test() -> None:
        async with served(Root()) as (_, ref):
            assert [item async for item in ref.stream("mixed", False)] == list(range(8))
            found = []
            with pytest.raises(Odd):
                async for item in ref.stream("mixed", True):
                    found.append(item)
            assert found == list(range(9))

    run(test)


@pytest.mark.parametrize("dialect", ["pb", "pbnb1"])
def test_large_items_and_small_ones_keep_their_order(dialect: str) -> None:
    class Mixed(pb.Root):
        async def remote_mixed(self) -> AsyncIterator[Any]:
            page = bytearray(300_000)
            for n in range(30):
                page[:] = bytes([n]) * len(page)
                yield page if n % 3 else n
            yield bytes(500_000)
            raise Odd

    async def test() -> None:
        async with served(Mixed(), dialects=(dialect,)) as (_, ref):
            n = 0
            with pytest.raises(Odd):
                async for item in ref.stream("mixed"):
                    if n < 30:
                        assert item == (bytearray([n]) * 300_000 if n % 3 else n)
                    n += 1
            assert n == 31

    run(test)


@pytest.mark.parametrize("dialect", ["pb", "pbnb1"])
def test_large_items_wait_for_the_peer_to_read_them(dialect: str) -> None:
    class Large(pb.Root):
        sent = 0

        async def remote_pages(self) -> AsyncIterator[bytes]:
            for _ in range(400):
                Large.sent += 1
                yield bytes(200_000)

    async def test() -> None:
        limits = pb.Limits(write_bytes=1_000_000)
        async with await pb.serve(Large(), limits=limits) as server:
            Large.sent = 0
            ref = await pb.connect(server.address, dialects=(dialect,))
            (far,) = server.connections
            count = 0
            async for page in ref.stream("pages").ahead(400):
                if not count:
                    ref.broker._transport.pause_reading()
                    await until(lambda: far.writing.full)
                    for _ in range(1000):
                        await asyncio.sleep(0)
                    # What the system's buffers hold, and little more.
                    assert Large.sent < 150
                    ref.broker._transport.resume_reading()
                count += len(page)
            assert count == 400 * 200_000
            await ref.broker.close()

    run(test)


def test_others_have_their_turn_beside_a_generator_that_never_waits() -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            stream = ref.stream("plain", 10**7).ahead(10**7)
            assert await anext(stream) == 0
            assert await ref.callRemote("number") == 7
            await stream.aclose()

    run(test)


def test_two_readers_of_one_stream_do_not_mix() -> None:
    async def test() -> None:
        async with reading() as (_, ref):
            stream = ref.stream("slow")
            assert await anext(stream) == "first"
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="by somebody else"):
                await anext(stream)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run(test)


def test_a_stream_is_read_in_another_thread() -> None:
    async def read(ref: Any) -> list[int]:
        return [item async for item in ref.stream("count", 1000)]

    async def test() -> None:
        async with reading() as (_, ref):
            found = await asyncio.to_thread(asyncio.run, read(ref))
            assert found == list(range(1000))

    run(test)
