"""Failures of busy kernels, threads, loops and disks: each ends with its own error, too."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.wire.banana import encode
from tests.failures.peer import Root, Thing
from tests.failures.test_failures import closed, ended, process
from tests.support.kernels import Kernel
from tests.support.processes import stop
from tests.support.serving import served, until

# On a busy machine a kernel alone takes some seconds to start.
DEADLINE = 120.0
PATIENCE = 60.0


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            await test()

    asyncio.run(main())


# Kernels

SERVE = """\
%load_ext pbnb
import asyncio, os, threading, time
import pbnb as pb
class Desk(pb.Root):
    def remote_echo(self, value):
        return value
    async def remote_never(self):
        await asyncio.Event().wait()
def compute(path):
    print('computing', flush=True)
    while not os.path.exists(path):
        pass
"""


@dataclass
class Busy:
    """A kernel that serves, and computes until it is told to go on."""

    kernel: Kernel
    address: str
    computing: str
    file: Path

    @property
    def pid(self) -> int:
        return self.kernel.pid

    def go_on(self) -> None:
        self.file.touch()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[pb.RemoteReference]:
        ref = await pb.connect(self.address)
        try:
            yield ref
            await ended(ref)
        finally:
            ref.broker.abort()


@pytest.fixture
def busy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Busy]:
    options = getattr(request, "param", "")
    kernel = Kernel(tmp_path)
    try:
        serve = f"{SERVE}server = %pb_serve Desk() --anonymous {options}\nprint(server.address)"
        address = kernel.run(serve).stdout.splitlines()[-1]
        computing = kernel.send(f"compute({str(tmp_path / 'go')!r})")
        kernel.wait_until(computing, lambda cell: cell.stdout)
        yield Busy(kernel, address, computing, tmp_path / "go")
    finally:
        kernel.close()


in_a_thread = pytest.mark.parametrize("busy", ["--thread"], indirect=True)


def test_who_connects_to_a_busy_kernel_waits_no_longer_than_he_wants(busy: Busy) -> None:
    async def test() -> None:
        with pytest.raises(pb.ConnectTimeout, match=r"within 0.2 s: its kernel may be busy"):
            await pb.connect(busy.address, timeout=0.2)
        busy.go_on()
        async with busy.connected() as ref:
            assert await ref.callRemote("echo", 1) == 1

    run(test)
    assert busy.kernel.wait(busy.computing).status == "ok"


def test_a_busy_kernel_that_is_killed_ends_its_connections(busy: Busy) -> None:
    async def test() -> None:
        connecting = asyncio.ensure_future(pb.connect(busy.address, timeout=DEADLINE))
        await asyncio.sleep(0)
        os.kill(busy.pid, signal.SIGKILL)
        with pytest.raises(pb.ConnectError):
            await connecting

    run(test)


def test_a_busy_kernel_that_is_interrupted_answers(busy: Busy) -> None:
    async def test() -> None:
        connecting = asyncio.ensure_future(pb.connect(busy.address, timeout=DEADLINE))
        await asyncio.sleep(0)
        busy.kernel.interrupt()
        ref = await connecting
        assert await ref.callRemote("echo", 1) == 1
        await ref.broker.close()

    run(test)
    assert busy.kernel.wait(busy.computing).ename == "KeyboardInterrupt"


def test_a_call_to_a_kernel_that_becomes_busy_ends_by_its_deadline(busy: Busy) -> None:
    busy.go_on()
    busy.kernel.wait(busy.computing)
    busy.file.unlink()
    kernel = busy.kernel

    async def test() -> None:
        async with busy.connected() as ref:
            assert await ref.callRemote("echo", 0) == 0
            computing = kernel.send(f"compute({str(busy.file)!r})")
            kernel.wait_until(computing, lambda cell: cell.stdout)
            with pytest.raises(pb.DeadlineExceeded), pb.deadline(0.1):
                await ref.callRemote("echo", 1)
            # It is the call that ended, and not the connection.
            busy.go_on()
            assert await ref.callRemote("echo", 2) == 2

    run(test)


@in_a_thread
def test_the_thread_of_a_busy_kernel_answers_until_it_is_killed(busy: Busy) -> None:
    async def test() -> None:
        async with busy.connected() as ref:
            answers = await asyncio.gather(*(ref.callRemote("echo", n) for n in range(50)))
            assert answers == [*range(50)]
            call = ref.callRemote("never")
            with pytest.raises(pb.DeadlineExceeded), pb.deadline(0.1):
                await ref.callRemote("never")
            os.kill(busy.pid, signal.SIGKILL)
            with pytest.raises(pb.PBConnectionLost):
                await call

    run(test)


@in_a_thread
def test_a_stopped_kernel_is_not_waited_for_without_end(busy: Busy) -> None:
    async def test() -> None:
        async with busy.connected() as ref:
            stop(busy.pid)
            try:
                with pytest.raises(pb.DeadlineExceeded), pb.deadline(0.1):
                    await ref.callRemote("echo", 1)
                with pytest.raises(pb.ConnectTimeout):
                    await pb.connect(busy.address, timeout=0.2)
            finally:
                os.kill(busy.pid, signal.SIGCONT)
            assert await ref.callRemote("echo", 2) == 2

    run(test)


# Processes


def test_a_peer_that_is_killed_in_the_middle_of_an_answer() -> None:
    async def test() -> None:
        async with process() as (child, ref):
            # More than the sockets hold: when some of it has come, the rest is still there.
            ref.broker._transport.pause_reading()
            calls = [ref.callRemote("echo", bytes(600_000)) for _ in range(50)]
            await until(ref.broker.has_unread, PATIENCE)
            child.send_signal(signal.SIGKILL)
            await child.wait()
            ref.broker._transport.resume_reading()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(found[-1], pb.PBConnectionLost)
            assert {type(each) for each in found} <= {bytes, pb.PBConnectionLost}
            await ended(ref)

    run(test)


def test_a_peer_whose_log_is_on_a_full_disk_answers() -> None:
    async def test() -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        full = os.open("/dev/full", os.O_WRONLY)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.failures.peer"),
            stdout=asyncio.subprocess.PIPE,
            stderr=full,
            env=environment,
        )
        os.close(full)
        assert child.stdout is not None
        try:
            ref = await pb.connect((await child.stdout.readline()).decode().strip())
            for _ in range(3):
                # Its log says the traceback of each, or would.
                with pytest.raises(pb.RemoteError):
                    await ref.callRemote("system_exit")
                with pytest.raises(pb.NoSuchMethod):
                    await ref.callRemote("nothing")
            assert await ref.callRemote("echo", 1) == 1
            await ended(ref)
            await ref.broker.close()
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            await child.stdout.read()

    run(test)


def test_a_log_on_a_full_disk_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = logging.FileHandler("/dev/full")
    logging.getLogger("pbnb").addHandler(handler)

    async def test() -> None:
        async with served(Root()) as (server, ref):
            (far,) = server.connections
            with pytest.raises(pb.RemoteError):
                await ref.callRemote("system_exit")
            with pytest.raises(pb.NoSuchMethod):
                await ref.callRemote("nothing")
            assert await ref.callRemote("echo", 1) == 1
            await ended(ref, far)

    try:
        run(test)
    finally:
        logging.getLogger("pbnb").removeHandler(handler)
        with suppress(OSError):
            handler.close()


def test_an_answer_that_comes_byte_by_byte_comes() -> None:
    async def test() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(encode([b"pb"], None))
            await reader.readuntil(b"echo")
            for byte in encode([b"answer", 1, b"x" * 500]):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            await reader.read()
            await closed(writer)
            done.set()

        done = asyncio.Event()
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        ref = await pb.connect(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        assert await ref.callRemote("echo", 1) == b"x" * 500
        ref.broker.abort()
        await ended(ref)
        await done.wait()
        listener.close()

    run(test)


# Threads and loops


class Blocking(Root):
    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def remote_block_until(self) -> None:
        self.began.set()
        self.go_on.wait(PATIENCE)


def test_a_method_that_blocks_its_thread_costs_calls_their_deadline() -> None:
    async def test() -> None:
        desk = Blocking()
        async with served(desk, thread=True) as (server, ref):
            (far,) = server.connections
            blocked = ref.callRemote("block_until")
            await asyncio.to_thread(desk.began.wait, PATIENCE)
            with pytest.raises(pb.DeadlineExceeded), pb.deadline(0.1):
                await ref.callRemote("echo", 1)
            desk.go_on.set()
            await blocked
            assert await ref.callRemote("echo", 2) == 2
            await ended(ref, far)

    run(test)


def test_a_thread_that_ends_ends_the_calls_of_both_sides() -> None:
    class Caller(Root):
        ref: Any = None

        def remote_take(self, ref: pb.RemoteReference) -> None:
            self.ref = ref

    class Waits(pb.Referenceable):
        async def remote_never(self) -> None:
            await asyncio.Event().wait()

    async def test() -> None:
        caller = Caller()
        async with served(caller, thread=True) as (server, ref):
            (far,) = server.connections
            await ref.callRemote("take", Waits())
            ours, theirs = ref.callRemote("never"), caller.ref.callRemote("never")
            await until(lambda: bool(far.turns.running) and bool(ref.broker.turns.running))
            await server.close()
            for call in (ours, theirs):
                with pytest.raises(pb.PBConnectionLost):
                    await call
            with pytest.raises(pb.DeadReferenceError):
                caller.ref.callRemote("never")
            caller.ref = None
            for running in list(ref.broker.turns.running.values()):
                running.cancel()
            await ended(ref, far)

    run(test)


def test_the_loop_of_whoever_called_ends() -> None:
    async def test() -> None:
        async with served(Root()) as (server, ref):
            (far,) = server.connections

            async def call_and_go() -> None:
                calls = [ref.callRemote("never") for _ in range(3)]
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(asyncio.gather(*calls)), 0.05)
                for call in calls[1:]:
                    call.cancel()

            await asyncio.to_thread(asyncio.run, call_and_go())
            # What nobody cancelled runs on, and its answer finds a loop that is closed.
            await until(lambda: len(far.turns.running) == 1)
            for running in list(far.turns.running.values()):
                far.call_soon(running.cancel)
            await ended(ref, far)
            assert await ref.callRemote("echo", 1) == 1

    run(test)


class Dial(pb.Cacheable):
    observers: int = 0

    def getStateToCacheAndObserveFor(self, perspective: object, observer: Any) -> Any:
        self.observers += 1
        return {}

    def stoppedObserving(self, perspective: object, observer: Any) -> None:
        self.observers -= 1


class DialHere(pb.RemoteCache):
    pass


class Dials(Root):
    def __init__(self) -> None:
        self.dials = [Dial() for _ in range(20)]

    def remote_dials(self) -> list[Dial]:
        return self.dials

    def remote_fail(self) -> None:
        raise pb.Error("as asked")


@pytest.mark.parametrize("thread", [False, True])
def test_everything_is_collected_in_a_thread(
    thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    security = pb.SecurityOptions()
    security.allowBasicTypes()
    security.allowTypes("remote", "local", "cached", "lcache")
    security.setUnjellyableForClass(f"{__name__}.Dial", DialHere)

    async def test() -> None:
        desk = Dials()
        async with await pb.serve(desk, thread=thread, security=security) as server:
            ref = await pb.connect(server.address, security=security)
            (far,) = server.connections
            held: list[Any] = [await ref.callRemote("thing") for _ in range(20)]
            held += await ref.callRemote("dials")
            # Failures that nobody looks at, calls that nobody awaits, and all of it in circles.
            held += [ref.callRemote("fail") for _ in range(20)]
            await until(lambda: all(each.called for each in held[40:]))
            held += [ref.callRemote("echo", Thing()) for _ in range(20)]
            held.append(held)

            def collect() -> None:
                held.clear()
                gc.collect()

            await asyncio.to_thread(collect)
            await ended(ref, far)
            await until(lambda: not any(dial.observers for dial in desk.dials))
            assert await ref.callRemote("echo", 1) == 1
            await ref.broker.close()

    run(test)
    assert caplog.text.count("Unhandled error in Deferred") == 20
