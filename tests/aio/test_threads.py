"""Servers in threads of their own, and what is asked of connections in other threads and loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.threads import await_in, call_in, run_in_thread, tell
from tests.support.serving import served, until

PATIENCE = 60.0


class Thing(pb.Referenceable):
    def remote_twice(self, value: int) -> int:
        return 2 * value

    def remote_where(self) -> str:
        return threading.current_thread().name


class Desk(pb.Root):
    """Says where it runs, and keeps what it is given."""

    def __init__(self) -> None:
        self.kept: Any = None
        self.later: pb.Deferred[Any] = pb.Deferred()
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.cancelled = threading.Event()

    def remote_where(self) -> str:
        return threading.current_thread().name

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_thing(self) -> Thing:
        return Thing()

    def remote_keep(self, value: Any) -> None:
        self.kept = value

    def remote_later(self) -> pb.Deferred[Any]:
        return self.later

    def remote_future(self) -> Any:
        return self.kept

    def remote_block(self) -> None:
        self.began.set()
        self.go_on.wait(PATIENCE)

    async def remote_never(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    def remote_count(self, most: int) -> Iterator[int]:
        yield from range(most)

    async def remote_call_back(self, other: pb.RemoteReference) -> Any:
        return await other.callRemote("where")

    def remote_pages(self, collector: pb.RemoteReference) -> None:
        pb.StringPager(collector, b"x" * 20_000)

    async def remote_close(self, server: None = None) -> None:
        await self.kept.close()


def threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith("pbnb serves")}


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    deadline = time.monotonic() + PATIENCE
    while threads():
        assert time.monotonic() < deadline, threads()
        time.sleep(0.01)


@contextmanager
def other_loop() -> Iterator[Callable[[Callable[[], Awaitable[Any]]], Any]]:
    """Runs functions in the loop of another thread, and returns what they return."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="other loop")
    thread.start()

    async def run(function: Callable[[], Awaitable[Any]]) -> Any:
        return await function()

    async def ask(function: Callable[[], Awaitable[Any]]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(function), loop))

    try:
        yield ask
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


# A server in a thread of its own


def test_a_server_in_a_thread_answers_while_this_thread_blocks() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), thread=True) as server:
            assert server.thread
            answers: list[Any] = []

            async def call() -> None:
                ref = await pb.connect(server.address)
                answers.append(await ref.callRemote("where"))
                await ref.broker.close()

            thread = threading.Thread(target=asyncio.run, args=(call(),))
            thread.start()
            # The loop of this thread is blocked until the call was answered.
            thread.join(PATIENCE)
            assert answers == ["pbnb serves Desk"]
        assert server.closed

    asyncio.run(main())


def test_what_cannot_be_served_leaves_no_thread() -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            with pytest.raises(OSError, match="is in use"):
                await pb.serve(Desk(), port=server.port, thread=True)
            with pytest.raises(TypeError, match="cannot be served"):
                await pb.serve(3, thread=True)  # type: ignore[arg-type]

    asyncio.run(main())


def test_closing_from_everywhere() -> None:
    async def main() -> None:
        # From this loop, twice, and at once from another one.
        server = await pb.serve(Desk(), thread=True)
        ref = await pb.connect(server.address)
        with other_loop() as ask:
            await asyncio.gather(server.close(), server.close(), ask(server.close))
        await until(lambda: ref.broker.lost)
        await server.close()
        assert not server.connections
        # From one of its own methods.
        desk = Desk()
        desk.kept = server = await pb.serve(desk, thread=True)
        ref = await pb.connect(server.address)
        with pytest.raises(pb.PBConnectionLost):
            await ref.callRemote("close")
        await until(lambda: server.closed and not threads())

    asyncio.run(main())


def test_methods_that_run_when_the_server_closes_are_cancelled() -> None:
    async def main() -> None:
        desk = Desk()
        server = await pb.serve(desk, thread=True)
        ref = await pb.connect(server.address)
        call = ref.callRemote("never")
        await asyncio.to_thread(desk.began.wait, PATIENCE)
        await server.close()
        with pytest.raises(pb.PBConnectionLost):
            await call
        assert await asyncio.to_thread(desk.cancelled.wait, PATIENCE)

    asyncio.run(main())


def test_closing_waits_for_a_method_that_blocks() -> None:
    async def main() -> None:
        desk = Desk()
        server = await pb.serve(desk, thread=True)
        ref = await pb.connect(server.address)
        ref.remote_only("block")
        await asyncio.to_thread(desk.began.wait, PATIENCE)
        closing = asyncio.ensure_future(server.close())
        # Meanwhile this loop turns.
        await asyncio.sleep(0)
        assert not closing.done()
        desk.go_on.set()
        await closing

    asyncio.run(main())


def test_the_thread_runs_in_the_context_of_who_serves() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")

    class Reads(pb.Root):
        def remote_read(self) -> str:
            return variable.get()

    async def main() -> None:
        variable.set("of the server")
        async with await pb.serve(Reads(), thread=True) as server:

            async def call() -> Any:
                ref = await pb.connect(server.address)
                try:
                    # A call of this process runs in the context of its caller.
                    return await ref.callRemote("read")
                finally:
                    await ref.broker.close()

            with other_loop() as ask:
                variable.set("of the caller")
                assert await ask(call) == "of the caller"

    asyncio.run(main())

    def started() -> Any:
        async def start() -> str:
            return variable.get()

        async def until_now(result: str) -> None:
            pass

        return run_in_thread("context", start, until_now)

    context = contextvars.copy_context()
    context.run(variable.set, "as served")
    assert context.run(started) == "as served"


def test_a_callback_for_the_end_runs_where_it_was_given() -> None:
    async def main() -> None:
        seen: list[str] = []
        server = await pb.serve(Desk(), thread=True)
        server.notifyOnClose(lambda closed: seen.append(threading.current_thread().name))
        await server.close()
        server.notifyOnClose(lambda closed: seen.append(threading.current_thread().name))
        await until(lambda: len(seen) == 2)
        assert set(seen) == {threading.current_thread().name}

    asyncio.run(main())


def test_guests_of_a_thread_are_invited_and_revoked_from_here(tmp_path: Path) -> None:
    async def main() -> None:
        for where in ({"host": "0.0.0.0"}, {"path": str(tmp_path / "socket"), "anonymous": False}):
            async with await pb.serve(Desk(), thread=True, **where) as server:
                line = server.invite("alice").reveal()
                ref = await pb.connect(line)
                assert await ref.callRemote("where") == "pbnb serves Desk"
                call = ref.callRemote("never")
                server.revoke("alice")
                with pytest.raises(pb.PBConnectionLost):
                    await call
                with pytest.raises(pb.UnauthorizedLogin):
                    await pb.connect(line)

    asyncio.run(main())


def test_references_handed_out_of_the_thread_are_called_from_here() -> None:
    async def main() -> None:
        desk, here = Desk(), threading.current_thread().name
        async with await pb.serve(desk, thread=True) as server:
            ref = await pb.connect(server.address)
            await ref.callRemote("keep", Thing())
            # The method has left a reference of its connection's, which lives in its thread.
            assert not desk.kept.broker.is_here()
            assert await desk.kept.callRemote("twice", 2) == 4
            assert await ref.callRemote("call_back", Thing()) == here
            # A method may hand on what is called here.
            thing = await ref.callRemote("thing")
            desk.kept = thing
            assert await thing.callRemote("where") == "pbnb serves Desk"
            desk.kept = thing = None

    asyncio.run(main())


def test_a_result_that_is_given_in_another_thread() -> None:
    async def main() -> None:
        desk = Desk()
        async with await pb.serve(desk, thread=True) as server:
            ref = await pb.connect(server.address)
            for give, expected in ((desk.later.callback, 5), (None, None)):
                call = ref.callRemote("later")
                await until(lambda: bool(server.connections[0].turns.running))
                if give is not None:
                    give(expected)
                    assert await call == expected
                else:
                    desk.later = pb.Deferred()
                desk.later = pb.Deferred()
                if give is None:
                    call.cancel()
            await until(lambda: not server.connections[0].turns.running)

    asyncio.run(main())


def test_a_future_of_another_loop_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        desk = Desk()
        async with await pb.serve(desk, thread=True) as server:
            ref = await pb.connect(server.address)
            desk.kept = asyncio.get_running_loop().create_future()
            with pytest.raises(pb.RemoteError, match="future of another event loop: return a Def"):
                await ref.callRemote("future")

    asyncio.run(main())


# Asked in other threads and loops


def asked_elsewhere(test: Callable[[Desk, pb.RemoteReference], Awaitable[None]]) -> None:
    """Runs a test in another thread's loop than that of its reference."""

    async def main() -> None:
        desk = Desk()
        async with served(desk) as (_, ref):
            with other_loop() as ask:
                await ask(lambda: test(desk, ref))

    asyncio.run(main())


def test_calls_and_callbacks_from_another_loop() -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        where: list[str] = []
        note = lambda value: where.append(threading.current_thread().name) or value  # noqa: E731
        assert await ref.callRemote("echo", 1).addCallback(note) == 1
        with pytest.raises(pb.NoSuchMethod):
            await ref.callRemote("nothing").addErrback(note)
        with pytest.raises(pb.InsecureJelly):
            await ref.callRemote("echo", object()).addErrback(note)
        assert where == ["other loop"] * 3
        assert await asyncio.gather(*(ref.callRemote("echo", n) for n in range(50))) == [*range(50)]
        assert await ref.remoteMethod("echo")(2) == 2
        ref.remote_only("keep", 3)
        await until(lambda: desk.kept == 3)
        ref.remote_only("keep", object())  # which cannot be sent: the log says it
        assert await ref.callRemote("echo", 4) == 4
        thing = await ref.callRemote("thing")
        assert await thing.callRemote("twice", 4) == 8
        assert await ref.broker.root().callRemote("echo", 5) == 5

    asked_elsewhere(test)


def test_deadlines_from_another_loop() -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        with pytest.raises(pb.DeadlineExceeded), pb.deadline(0.05):
            await ref.callRemote("never")
        with pytest.raises(pb.DeadlineExceeded):
            await ref.with_deadline(0.05).callRemote("never")
        # Also where the connection's own loop does not come to send it.
        release = threading.Event()
        ref.broker.loop.call_soon_threadsafe(release.wait, PATIENCE)
        try:
            with pytest.raises(pb.DeadlineExceeded, match=r"^echo\(\) at .* within 0.05 s$"):
                await ref.with_deadline(0.05).callRemote("echo", 1)
        finally:
            release.set()
        assert await ref.callRemote("echo", 2) == 2
        await until(lambda: not ref.broker.machine.pending)

    asked_elsewhere(test)


def test_a_cancellation_from_another_loop_reaches_the_method() -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        call = ref.callRemote("never")
        await until(desk.began.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(desk.cancelled.is_set)
        # One that is cancelled before it was sent is not sent.
        release = threading.Event()
        ref.broker.loop.call_soon_threadsafe(release.wait, PATIENCE)
        ref.callRemote("keep", 7).cancel()
        release.set()
        assert await ref.callRemote("echo", 1) == 1
        assert desk.kept is None

    asked_elsewhere(test)


def test_pages_and_deadlines_of_pages_from_another_loop() -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        assert b"".join(await pb.getAllPages(ref, "pages")) == b"x" * 20_000
        with pb.deadline(60):
            pages = pb.getAllPages(ref, "never")
        with pytest.raises(TypeError):  # never takes no collector
            await pages

    asked_elsewhere(test)


def test_streams_are_read_in_another_loop_and_sent_by_another_thread() -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        assert [item async for item in ref.stream("count", 500)] == [*range(500)]
        async with ref.stream("count", 10**9) as stream:
            assert [await anext(stream) for _ in range(100)] == [*range(100)]
        await until(lambda: not ref.broker.machine.pending)

    asked_elsewhere(test)

    async def main() -> None:
        desk = Desk()
        async with served(desk, thread=True) as (_, ref):
            await test(desk, ref)

    asyncio.run(main())


def test_the_end_is_told_where_it_was_asked_for() -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        told: list[tuple[str, Any]] = []

        def tell_ref(of: Any) -> None:
            told.append((threading.current_thread().name, of))

        def tell_none() -> None:
            told.append((threading.current_thread().name, None))

        ref.notifyOnDisconnect(print)
        ref.dontNotifyOnDisconnect(print)
        ref.dontNotifyOnDisconnect(print)
        ref.notifyOnDisconnect(tell_ref)
        ref.broker.notifyOnDisconnect(tell_none)
        ref.broker.notifyOnDisconnect(print)
        ref.broker.dontNotifyOnDisconnect(print)
        ref.broker.notifyOnConnect(tell_none)
        await ref.broker.close()
        assert ref.broker.lost
        ref.notifyOnDisconnect(tell_ref)
        await until(lambda: len(told) == 4)
        assert sorted(told, key=str) == sorted(
            [("other loop", ref), ("other loop", None)] * 2, key=str
        )
        with pytest.raises(pb.DeadReferenceError):
            ref.callRemote("echo", 1)

    asked_elsewhere(test)


@pytest.mark.parametrize("how", ["disconnect", "abort", "close"])
def test_every_way_to_end_a_connection_from_another_loop(how: str) -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        call = ref.callRemote("never")
        await until(desk.began.is_set)
        ended = getattr(ref.broker, how)()
        if ended is not None:
            await ended
        with pytest.raises(pb.PBConnectionLost):
            await call

    asked_elsewhere(test)


def test_snapshots_and_releases_from_another_loop_while_calls_come_and_go() -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        ending = asyncio.Event()

        async def call() -> None:
            while not ending.is_set():
                await asyncio.gather(*(ref.callRemote("thing") for _ in range(20)))

        calling = asyncio.ensure_future(call())
        for _ in range(200):
            snapshot = ref.broker.snapshot()
            assert snapshot.peer.address == ref.broker.peer
            assert repr(ref.broker) and repr(ref)
            await asyncio.sleep(0)
        ending.set()
        await calling
        thing = await ref.callRemote("thing")
        ref.broker.give_back(thing.luid)
        with pytest.raises(pb.RemoteError):
            await thing.callRemote("twice", 1)
        ref.broker.setNameForLocal("here", Thing())
        assert isinstance(ref.broker.localObjectForID("here"), Thing)

    asked_elsewhere(test)


def test_a_factory_is_asked_from_another_loop() -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            factory, loop = pb.PBClientFactory(), asyncio.get_running_loop()
            with other_loop() as ask:

                async def root() -> Any:
                    return await (await factory.getRootObject()).callRemote("echo", 1)

                waiting = asyncio.ensure_future(ask(root))
                await loop.create_connection(factory, server.host, server.port)
                assert await waiting == 1
                assert await ask(root) == 1

                async def disconnect() -> None:
                    factory.disconnect()

                await ask(disconnect)
                await until(lambda: not server.connections)

    asyncio.run(main())


def test_a_kept_reference_is_used_from_another_loop() -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            ref: Any = await pb.connect(server.address, keep=True)
            where: list[str] = []

            async def use() -> None:
                call = ref.callRemote("echo", 1)
                call.addCallback(lambda value: where.append(threading.current_thread().name))
                await call
                with pb.deadline(0.05):
                    late = ref.repeatable().callRemote("never")
                with pytest.raises(pb.DeadlineExceeded):
                    await late
                await ref.broker.close()
                assert ref.broker.lost
                with pytest.raises(pb.DeadReferenceError):
                    await ref.callRemote("echo", 2)

            with other_loop() as ask:
                await ask(use)
            assert where == ["other loop"]

    asyncio.run(main())


def test_from_a_thread_without_a_loop() -> None:
    async def main() -> None:
        desk = Desk()
        async with served(desk) as (_, ref):
            came, told = threading.Event(), threading.Event()
            results: list[Any] = []

            def work() -> None:
                call = ref.callRemote("echo", 1).addCallback(results.append)
                call.addCallback(lambda _: came.set())
                ref.notifyOnDisconnect(lambda of: told.set())
                assert came.wait(PATIENCE)
                ref.remote_only("keep", 9)
                ref.broker.disconnect()
                assert told.wait(PATIENCE)

            await asyncio.to_thread(work)
            assert results == [1]
            await until(lambda: desk.kept == 9)

    asyncio.run(main())


def test_the_loop_of_a_connection_was_closed() -> None:
    async def begin() -> tuple[pb.Server, pb.RemoteReference]:
        server = await pb.serve(Desk())
        return server, await pb.connect(server.address)

    loop = asyncio.new_event_loop()
    server, ref = loop.run_until_complete(begin())
    connections = [*server.connections, ref.broker]
    server._listener.close()
    for connection in connections:
        # As when asyncio.run() ends; nothing is left that would warn of them when collected.
        transport: Any = connection._transport
        transport._sock.close()
        transport._sock = None
    loop.close()
    told: list[Any] = []

    async def main() -> None:
        await ref.broker.close()
        await server.close()

    def stale() -> None:
        for call in (ref.callRemote, ref.remote_only):
            with pytest.raises(pb.DeadReferenceError):
                call("echo", 1)

    thread = threading.Thread(target=stale)
    thread.start()
    thread.join()
    stale()
    ref.notifyOnDisconnect(told.append)
    assert told == [ref]
    asyncio.run(main())
    assert not ref.broker.machine.pending


def test_telling_a_loop() -> None:
    loop = asyncio.new_event_loop()
    seen: list[int] = []
    assert tell(None, seen.append, 1)
    assert tell(loop, seen.append, 2)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert not tell(loop, seen.append, 3)
    assert seen == [1, 2]
    assert call_in(loop, pb.Deferred) is None

    async def start() -> None:
        seen.append(4)

    asyncio.run(await_in(loop, start))
    assert seen == [1, 2]


def test_what_cannot_be_sent_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def test(desk: Desk, ref: pb.RemoteReference) -> None:
        ref.remote_only("keep", object())
        assert await ref.callRemote("echo", 1) == 1

    with caplog.at_level(logging.ERROR, "pbnb"):
        asked_elsewhere(test)
    assert "could not be sent" in caplog.text


class Lender(pb.Root):
    def __init__(self) -> None:
        self.things = [Thing() for _ in range(5)]

    def remote_lend(self, number: int) -> list[Thing]:
        return [*self.things, *(Thing() for _ in range(number))]


def test_references_that_other_threads_drop_are_given_back() -> None:
    async def main() -> None:
        async with served(Lender()) as (server, ref):
            (far,) = server.connections
            dropping: SimpleQueue[list[Any] | None] = SimpleQueue()

            def drop() -> None:
                while (refs := dropping.get()) is not None:
                    cycle = [refs]
                    cycle.append(cycle)  # which the collector takes, in whatever thread

            threads = [threading.Thread(target=drop) for _ in range(3)]
            for thread in threads:
                thread.start()
            for number in range(100):
                refs = await ref.callRemote("lend", number % 7)
                if number % 10 == 0:
                    # The same objects come again while these references are alive.
                    ref.broker.give_back(refs[0].luid)
                dropping.put(refs)
            del refs
            for _ in threads:
                dropping.put(None)
            for thread in threads:
                await asyncio.to_thread(thread.join)
            gc.collect()
            await until(lambda: not far.machine.refs.lent_count)
            assert ref.broker.machine.refs.borrowed_count == 0

    asyncio.run(main())
