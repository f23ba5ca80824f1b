"""Failure injections: each ends within its deadline, with its own error, and leaves nothing.

Three kinds of peers fail here: processes of pbnb that are killed, stopped and kept busy; servers
that say what they should not; and clients that do. A fourth kind are our own users' mistakes.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from pbnb.wire.banana import encode
from tests.failures.peer import Root, Thing
from tests.support.processes import stop
from tests.support.serving import served, tables, until

# No injection may take longer; most take milliseconds.
DEADLINE = 30.0

Injection = Callable[[], Awaitable[Any]]
Ends = type[BaseException] | tuple[type[BaseException], ...] | None
INJECTIONS: dict[str, tuple[Ends, Injection]] = {}


def injection(error: Ends) -> Callable[[Injection], Injection]:
    """Notes an injection, and the class of the error that its call ends with, or the classes."""

    def note(function: Injection) -> Injection:
        INJECTIONS[function.__name__] = (error, function)
        return function

    return note


async def ended(ref: pb.RemoteReference, *others: Any) -> None:
    """Waits until nothing is left in the tables of a connection, and of others."""
    await until(lambda: not tables(ref.broker, *others))
    connection: Any = ref.broker
    assert not connection.asking.deadlines or not connection.lost
    assert not connection.flow.full and not len(connection.flow)
    for each in (connection, *others):
        await until(lambda each=each: not each.turns.running and not each.turns.waiting)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Closes a stream, and waits until it is."""
    writer.transport.abort()  # type: ignore[attr-defined]
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


# Processes


@asynccontextmanager
async def process() -> AsyncIterator[tuple[asyncio.subprocess.Process, pb.RemoteReference]]:
    """Starts a server in a process of its own, and connects to it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.failures.peer"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    assert child.stdout is not None
    try:
        ref = await pb.connect((await child.stdout.readline()).decode().strip())
        try:
            yield child, ref
        finally:
            ref.broker.abort()  # type: ignore[attr-defined]
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        await child.stdout.read()


@injection(pb.PBConnectionLost)
async def peer_killed() -> None:
    async with process() as (child, ref):
        call = ref.callRemote("never")
        await ref.callRemote("echo", 1)
        child.send_signal(signal.SIGKILL)
        try:
            await call
        finally:
            await ended(ref)


@injection(pb.PBConnectionLost)
async def peer_terminated() -> None:
    async with process() as (child, ref):
        call = ref.callRemote("never", Thing())
        await ref.callRemote("echo", 1)
        child.terminate()
        try:
            await call
        finally:
            await ended(ref)


@injection(pb.PBConnectionLost)
async def peer_exits_in_a_method() -> None:
    async with process() as (_, ref):
        try:
            await ref.callRemote("exit")
        finally:
            await ended(ref)


# `asyncio.run` cancels every task at once, in no order: the method, which is answered, and the
# server, which then closes its connections. Either may be first.
@injection((pb.RemoteError, pb.PBConnectionLost))
async def peer_stops_its_loop() -> None:
    async with process() as (_, ref):
        call = ref.callRemote("never")
        ref.remote_only("stop_loop")
        try:
            await call
        finally:
            await ended(ref)


@injection(pb.RemoteError)
async def peer_raises_system_exit() -> None:
    async with process() as (_, ref):
        try:
            await ref.callRemote("system_exit")
        finally:
            assert await ref.callRemote("echo", 1) == 1


@injection(pb.DeadlineExceeded)
async def peer_stopped() -> None:
    async with process() as (child, ref):
        stop(child.pid)
        try:
            with pb.deadline(0.1):
                await ref.callRemote("echo", 1)
        finally:
            child.send_signal(signal.SIGCONT)
            await ended(ref)
            assert await ref.callRemote("echo", 2) == 2


@injection(pb.PBConnectionLost)
async def peer_stopped_for_good() -> None:
    async with process() as (child, first):
        limits = pb.Limits(keepalive_seconds=0.05, silence_seconds=0.2)
        ref = await pb.connect(first.broker.peer, limits=limits)  # type: ignore[attr-defined]
        stop(child.pid)
        try:
            await ref.callRemote("echo", 1)
        finally:
            await ended(ref)


@injection(pb.DeadlineExceeded)
async def peer_busy() -> None:
    async with process() as (_, ref):
        with tempfile.TemporaryDirectory() as directory:
            # Until it is told: however late this side is, the answer is later.
            go_on = Path(directory) / "go"
            ref.remote_only("block", str(go_on))
            try:
                with pb.deadline(0.1):
                    await ref.callRemote("echo", 1)
            finally:
                go_on.touch()
                await ended(ref)
                assert await ref.callRemote("echo", 2) == 2


@injection(pb.DeadlineExceeded)
async def peer_stopped_in_a_flood() -> None:
    async with process() as (child, ref):
        stop(child.pid)
        ref.broker.flow.limits = pb.Limits(write_bytes=100_000)  # type: ignore[attr-defined]
        with pb.deadline(0.3):
            calls = [ref.callRemote("echo", b"x" * 50_000) for _ in range(300)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in found} == {pb.DeadlineExceeded}
        child.send_signal(signal.SIGCONT)
        await ended(ref)
        raise found[-1]  # type: ignore[misc]


@asynccontextmanager
async def kept(seconds: float = math.inf) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """Starts a server, and keeps a connection to it."""
    limits = pb.Limits(call_seconds=seconds)
    async with process() as (child, first):
        backoff = pb.Backoff(0.01, 0.05, 0.05)
        ref: Any = await pb.connect(first.broker.peer, keep=backoff, limits=limits)
        try:
            yield child, ref
        finally:
            connection = ref.broker.connection
            await ref.broker.close()
            assert not ref.broker.waiting and (connection is None or not tables(connection))


@injection(pb.PBConnectionLost)
async def peer_killed_of_a_kept_reference() -> None:
    async with kept() as (child, ref):
        call = ref.callRemote("never")
        await ref.callRemote("echo", 1)
        child.send_signal(signal.SIGKILL)
        await call


@injection(pb.DeadlineExceeded)
async def peer_killed_and_never_back() -> None:
    async with kept(seconds=0.3) as (child, ref):
        child.send_signal(signal.SIGKILL)
        await ref.repeatable().callRemote("never")


@injection(pb.DeadReferenceError)
async def peer_killed_and_what_came_from_it_used() -> None:
    async with kept() as (child, ref):
        thing = await ref.callRemote("thing")
        child.send_signal(signal.SIGKILL)
        await until(lambda: thing.broker.lost)
        await thing.callRemote("twice", 1)


@injection(pb.PBConnectionLost)
async def kept_reference_closed_while_its_call_waits() -> None:
    async with kept() as (child, ref):
        child.send_signal(signal.SIGKILL)
        await until(lambda: ref.broker.connection is None)
        call = ref.callRemote("echo", 1)
        await ref.broker.close()
        await call


@injection(pb.PBConnectionLost)
async def peer_killed_while_it_streams() -> None:
    async with process() as (child, ref):
        try:
            async for item in ref.stream("numbers"):
                if item == 1000:
                    child.send_signal(signal.SIGKILL)
        finally:
            await ended(ref)


@injection(pb.DeadlineExceeded)
async def peer_stopped_while_it_streams() -> None:
    async with process() as (child, ref):
        try:
            async for item in ref.with_deadline(1.0).stream("numbers"):
                if item == 1000:
                    stop(child.pid)
        finally:
            child.send_signal(signal.SIGCONT)
            await ended(ref)
            while await ref.callRemote("streams"):
                pass


@injection(LookupError)
async def stream_fails_far_in() -> None:
    async with process() as (_, ref):
        count = 0
        try:
            async for item in ref.stream("numbers", 100_000):
                count += 1
                assert item == count
        finally:
            assert count == 100_000
            await ended(ref)


# Servers that say what they should not

OPENING = encode([b"pb"], None)


async def false_server(
    say: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    seconds: float = 0.2,
    value: Any = 1,
    **limits: Any,
) -> None:
    """Calls a server that opens well, and then does something else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENING)
        await reader.readuntil(b"echo")
        with suppress(ConnectionError):
            await say(reader, writer)
            await reader.read()
        await closed(writer)
        done.set()

    done = asyncio.Event()
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        ref = await pb.connect(f"127.0.0.1:{port}", limits=pb.Limits(**limits))
        try:
            with pb.deadline(seconds):
                await ref.callRemote("echo", value)
        finally:
            ref.broker.abort()  # type: ignore[attr-defined]
            await ended(ref)
            await done.wait()
    finally:
        listener.close()


def says(name: str, error: type[BaseException], data: bytes, **limits: Any) -> None:
    """Notes an injection of a server that answers a call with some bytes."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    # An answer that is wrong is waited for; only where there is none the deadline is what ends it.
    seconds = 0.2 if error is pb.DeadlineExceeded else DEADLINE

    async def inject() -> None:
        await false_server(say, seconds, **limits)

    INJECTIONS[f"server_says_{name}"] = (error, inject)


ANSWER = b"\x03\x80" + encode([b"answer", 1])[2:]
deep: Any = []
for _ in range(310):
    deep = [b"list", deep]

says("nothing", pb.DeadlineExceeded, b"")
says("half_a_message", pb.DeadlineExceeded, encode([b"answer", 1, b"x" * 100])[:-1])
says("garbage", pb.PBConnectionLost, b"\xff" * 100)
says(
    "a_page",
    pb.PBConnectionLost,
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 5\r\n\r\n",
)
says("a_long_string", pb.PBConnectionLost, ANSWER + b"\x01\x00\x28\x82")
says("a_huge_message", pb.PBConnectionLost, encode([b"answer", 1, b"x" * 9999]), message_bytes=999)
says("many_items", pb.PBConnectionLost, encode([b"answer", 1, [1] * 999]), message_items=99)
says("a_deep_message", pb.PBConnectionLost, b"\x01\x80" * 5000)
says("a_deep_answer", pb.InsecureJelly, encode([b"answer", 1, deep]))
says("an_answer_to_nothing", pb.PBConnectionLost, encode([b"answer", 77, 1]))
says("another_version", pb.PBConnectionLost, encode([b"version", 5]))
says("an_unknown_class", pb.InsecureJelly, encode([b"answer", 1, [b"no.Such", [b"dictionary"]]]))
says("an_unknown_word", pb.PBConnectionLost, b"\x40\x87")
says("a_strange_error", pb.RemoteError, encode([b"error", 1, b"so it is"]))
says(
    "colliding_keys",
    pb.LimitExceeded,
    encode([b"answer", 1, [b"dictionary", *([k * (2**61 - 1), 0] for k in range(1, 200))]]),
)
says(
    "too_many_references",
    pb.LimitExceeded,
    encode([b"answer", 1, [b"list", *([b"remote", n] for n in range(1, 20))]]),
    references=8,
)
says("a_release_of_nothing", pb.PBConnectionLost, encode([b"decref", 9]))
says("no_command", pb.DeadlineExceeded, encode([b"noise"]))
says("its_greeting_again", pb.DeadlineExceeded, OPENING)


@injection(pb.DeadlineExceeded)
async def server_answers_byte_by_byte_and_never_ends() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in encode([b"answer", 1, b"x" * 600_000]):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)

    await false_server(say)


@injection(pb.PBConnectionLost)
async def server_hangs_up() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode([b"answer", 1, b"x" * 100])[:-1])
        await writer.drain()
        writer.close()

    await false_server(say, seconds=20)


@injection(pb.PBConnectionLost)
async def server_resets() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()  # type: ignore[attr-defined]

    await false_server(say, seconds=20)


@injection(pb.DeadlineExceeded)
async def server_does_not_read() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.4)
        writer.transport.resume_reading()  # type: ignore[attr-defined]

    await false_server(say, value=b"x" * 600_000)


async def connecting_to(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    seconds: float = DEADLINE,
) -> None:
    """Connects to a server that does not open."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await serve(reader, writer)
        await closed(writer)
        done.set()

    done = asyncio.Event()
    listener = await asyncio.start_server(run, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        await pb.connect(f"127.0.0.1:{port}", timeout=seconds)
    finally:
        listener.close()
        await done.wait()


@injection(pb.ConnectTimeout)
async def server_never_opens() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    await connecting_to(serve, seconds=0.5)


@injection(pb.ConnectError)
async def server_speaks_something_else() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await reader.read()

    await connecting_to(serve)


@injection(pb.ConnectError)
async def server_closes_at_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    await connecting_to(serve)


@injection(pb.ConnectError)
async def nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    await pb.connect(f"127.0.0.1:{port}")


# This side's own mistakes, and those of its users


def used(name: str, error: type[BaseException], use: Callable[[Any], Awaitable[Any]]) -> None:
    """Notes an injection at a server that is well."""

    async def inject() -> None:
        async with served(Root()) as (server, ref):
            (far,) = server.connections
            try:
                with pb.deadline(10):
                    await use(ref)
            finally:
                await ended(ref, far)
                assert await ref.callRemote("echo", 1) == 1

    INJECTIONS[name] = (error, inject)


class Unsendable(pb.Copyable):
    def getStateToCopy(self) -> Any:
        raise LookupError("no state today")


used("argument_cannot_be_sent", pb.InsecureJelly, lambda ref: ref.callRemote("echo", object()))
used("argument_is_too_long", pb.BananaError, lambda ref: ref.callRemote("echo", [None] * 1_000_001))
used("argument_is_too_large", pb.BananaError, lambda ref: ref.callRemote("echo", 2**500))
used("argument_has_no_state", LookupError, lambda ref: ref.callRemote("echo", Unsendable()))
used("method_is_missing", pb.NoSuchMethod, lambda ref: ref.callRemote("nothing"))
used("arguments_do_not_fit", TypeError, lambda ref: ref.callRemote("echo", 1, 2, 3))
used("call_is_cancelled", TimeoutError, lambda ref: asyncio.wait_for(ref.callRemote("never"), 0.02))


class Odd(pb.Root):
    """A server whose methods go wrong."""

    def remote_unsendable(self) -> Any:
        return object()

    def remote_long(self) -> Any:
        return [None] * 1_000_001

    async def remote_late(self) -> Any:
        await asyncio.sleep(0)
        return object()

    def remote_recursion(self) -> Any:
        return self.remote_recursion()

    def remote_deep(self) -> Any:
        value: list[Any] = []
        for _ in range(5000):
            value = [value]
        return value

    async def remote_cancelled(self) -> Any:
        raise asyncio.CancelledError

    def remote_error(self) -> Any:
        raise Awkward

    def remote_memory(self) -> Any:
        raise MemoryError

    def remote_interrupt(self) -> Any:
        raise KeyboardInterrupt


class Awkward(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


def answers(name: str, error: type[BaseException]) -> None:
    """Notes an injection of a method that goes wrong."""

    async def inject() -> None:
        async with served(Odd()) as (server, ref):
            (far,) = server.connections
            try:
                with pb.deadline(10):
                    await ref.callRemote(name)
            finally:
                await ended(ref, far)

    INJECTIONS[f"method_{name}"] = (error, inject)


answers("unsendable", pb.InsecureJelly)
answers("long", pb.BananaError)
answers("late", pb.InsecureJelly)
answers("recursion", RecursionError)
answers("deep", pb.InsecureJelly)
answers("cancelled", pb.RemoteError)
answers("error", pb.RemoteError)
answers("memory", MemoryError)
answers("interrupt", pb.RemoteError)


@injection(pb.DeadReferenceError)
async def call_after_the_end() -> None:
    async with served(Root()) as (_, ref):
        await ref.broker.close()  # type: ignore[attr-defined]
        await ref.callRemote("echo", 1)


@injection(pb.PBConnectionLost)
async def this_side_closes() -> None:
    async with served(Root()) as (_, ref):
        call = ref.callRemote("never")
        await ref.broker.close()  # type: ignore[attr-defined]
        await ended(ref)
        await call


@injection(pb.DeadlineExceeded)
async def own_loop_is_blocked() -> None:
    async with served(Root()) as (_, ref):
        try:
            with pb.deadline(0.01):
                call = ref.callRemote("never")
            time.sleep(0.05)  # noqa: ASYNC251 (what is tested)
            await call
        finally:
            await ended(ref)


@injection(None)
async def references_are_collected_in_a_thread() -> None:
    async with served(Root()) as (server, ref):
        (far,) = server.connections
        held = [await ref.callRemote("thing") for _ in range(50)]

        def collect() -> None:
            held.clear()
            gc.collect()

        thread = threading.Thread(target=collect)
        thread.start()
        await asyncio.to_thread(thread.join)
        await ended(ref, far)
        assert await ref.callRemote("echo", 1) == 1


@injection(None)
async def log_cannot_be_written() -> None:
    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                raise OSError(28, "No space left on device")
            except OSError:
                self.handleError(record)

    handler, raising = Full(), logging.raiseExceptions
    logging.raiseExceptions = False
    logging.getLogger("pbnb").addHandler(handler)
    try:
        async with served(Odd()) as (server, ref):
            (far,) = server.connections
            for name in ("unsendable", "error", "nothing"):
                with pytest.raises(Exception):  # noqa: B017 (its class is tested elsewhere)
                    await ref.callRemote(name)
            await ended(ref, far)
    finally:
        logging.raiseExceptions = raising
        logging.getLogger("pbnb").removeHandler(handler)


# Clients that do what they should not


def client_does(name: str, data: bytes, *, reset: bool = False) -> None:
    """Notes an injection of a client that sends some bytes and goes."""

    async def inject() -> None:
        async with served(Root()) as (server, ref):
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(data)
            # One that is ended at once is there for a turn of the loop or two.
            while len(server.connections) != 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            far = next(
                c
                for c in server.connections
                if c.peer.endswith(f":{writer.get_extra_info('sockname')[1]}")
            )
            await until(lambda: far.lost or far.bytes_received == len(data))
            if reset:
                option = b"\1\0\0\0\0\0\0\0"
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            await until(lambda: len(server.connections) == 1)
            assert not tables(far) and not far.turns.waiting
            await until(lambda: not far.answering.tasks or bool(far.turns.running))
            for running in list(far.turns.running.values()):
                running.cancel()
            await until(lambda: not far.turns.running)
            assert await ref.callRemote("echo", 1) == 1

    INJECTIONS[f"client_{name}"] = (None, inject)


def message(name: bytes, number: int = 1, *args: Any) -> bytes:
    return encode([b"message", number, b"root", name, 1, [b"tuple", *args], [b"dictionary"]])


HELLO = encode(b"pb", None) + encode([b"version", 6])
client_does("says_nothing", b"")
client_does("opens_by_half", HELLO[:2])
client_does("sends_half_a_call", HELLO + message(b"echo", 1, b"x" * 5000)[:2000])
client_does("goes_while_its_call_runs", HELLO + message(b"never"))
client_does("resets_while_its_calls_run", HELLO + 20 * message(b"never"), reset=True)
client_does(
    "goes_with_a_reference", HELLO + message(b"thing") + message(b"echo", 2, [b"remote", 1])
)
client_does("sends_garbage", HELLO + b"\xff" * 100)


@pytest.mark.parametrize("name", INJECTIONS)
def test_injection(name: str) -> None:
    error, inject = INJECTIONS[name]

    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            if error is None:
                await inject()
                return
            with pytest.raises(error) as caught:
                await inject()
            # A deadline of the test itself is none of the call's.
            assert type(caught.value) is not TimeoutError or name == "call_is_cancelled"
            del caught

    asyncio.run(main())


def test_there_are_at_least_forty() -> None:
    assert len(INJECTIONS) >= 40
