"""What is measured. Each workload is one function of a `Bench` and a case.

A function that `workload` decorates is all that a new workload needs: it runs against every peer,
has its row in the tables and its place in the JSON file. Whatever it raises stands in its cell.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeAlias

from .measure import Measured, Memory, one_by_one, together
from .peers import Peer, Root

__all__ = ["MANY", "WORKLOADS", "Bench", "Case", "Workload"]

HELLO = "hello network"
SEED = 20260101
KIB, MIB = 1024, 1024 * 1024
# Connections are opened so many at a time, and references asked for.
BATCH, LOT = 50, 1000
# What fewer of them take drowns in what the processes take anyway.
WEIGHED_CONNECTIONS, WEIGHED_REFERENCES = 1000, 100_000
#: So many connections are opened only where somebody asks for it.
MANY = 5000


class WrongAnswer(Exception):
    """A peer answered with something else than it should have."""


@dataclass(frozen=True)
class Bench:
    """Where a measurement is made.

    Attributes:
        peer: Who is measured.
        port: The port of its server.
        server: The process of its server.
        seconds: How long one measurement shall take.
    """

    peer: Peer
    port: int
    server: int
    seconds: float

    async def connect(self) -> Root:
        """Returns the root of a new connection."""
        root: Root = await self.peer.connect(self.port)
        return root

    async def echo(self, value: object) -> Measured:
        """Measures echoes of a value, one after the other, on a connection of their own."""
        root, sent = await self.connect(), self.peer.outgoing(value)
        expect(await root.callRemote("echo", sent), sent)
        measured = await one_by_one(lambda: root.callRemote("echo", sent), self.seconds)
        await self.peer.close(root)
        return measured


Function: TypeAlias = Callable[[Bench, int], Awaitable[Measured]]


@dataclass(frozen=True)
class Workload:
    """A function that measures, and how to show what it found.

    Attributes:
        name: Its name on the command line and in the JSON file.
        measure: The function.
        label: What its rows are called; ``{}`` is the case, ``{size}`` the case in bytes.
        unit: What is counted in a second; ``MB`` counts the bytes of the case, once for each call.
        cases: The cases to measure.
        axis: The axis of the chart on which its cases lie, if it is in the chart.
        apart: From which case on they have processes of their own, and are measured in one round
            alone: those that weigh memory, for which neither may have been in use before.
        latency: Whether the tables show its percentiles.
    """

    name: str
    measure: Function
    label: str
    unit: str = "calls"
    cases: tuple[int, ...] = (1,)
    axis: str | None = None
    apart: int | None = None
    latency: bool = False


@dataclass(frozen=True)
class Case:
    """One case of a workload, as it is asked for and reported."""

    workload: Workload
    value: int

    @property
    def apart(self) -> bool:
        """Whether it has processes of its own."""
        return self.workload.apart is not None and self.value >= self.workload.apart

    @property
    def row(self) -> str:
        """What its row in a table is called."""
        return self.workload.label.format(f"{self.value:,}", size=readable(self.value))

    def __str__(self) -> str:
        cases = self.workload.cases
        return self.workload.name if len(cases) == 1 else f"{self.workload.name}:{self.value}"


#: Every workload by its name, in the order in which they run.
WORKLOADS: dict[str, Workload] = {}


def workload(label: str, **options: Any) -> Callable[[Function], Function]:
    """Makes a function a workload; see `Workload` for the options."""

    def add(function: Function) -> Function:
        name = function.__name__
        WORKLOADS[name] = Workload(name, function, label, **options)
        return function

    return add


def readable(size: int) -> str:
    """Returns a number of bytes as text."""
    return f"{size // MIB:,} MiB" if size >= MIB else f"{size / KIB:,.0f} KiB"


def expect(got: Any, wanted: Any) -> None:
    """Raises `WrongAnswer` where an answer is not what it should be."""
    if type(wanted).__name__ == "ndarray":
        same = type(got) is type(wanted) and got.dtype == wanted.dtype
        same = same and got.shape == wanted.shape and (got == wanted).all()
    elif isinstance(wanted, memoryview):
        same = bytes(got) == bytes(wanted)
    else:
        same = got == wanted
    if not same:
        raise WrongAnswer(
            f"{type(wanted).__name__} was sent, and {type(got).__name__} that is not the same "
            "came back"
        )


@workload("calls, one after the other", latency=True, axis="calls in flight")
async def one_call(bench: Bench, _: int) -> Measured:
    """Echoes of a short text: what a call costs that has to wait for the one before."""
    return await bench.echo(HELLO)


@workload("calls in flight: {}", cases=(8, 64, 1000), axis="calls in flight")
async def in_flight(bench: Bench, number: int) -> Measured:
    """Echoes of a short text on one connection, many at a time."""
    root, sent = await bench.connect(), bench.peer.outgoing(HELLO)
    expect(await root.callRemote("echo", sent), sent)
    calls = [lambda: root.callRemote("echo", sent)] * number
    measured = await together(bench.peer.gather, calls, bench.seconds)
    await bench.peer.close(root)
    return measured


@workload("nested values, 200 items")
async def nested(bench: Bench, _: int) -> Measured:
    """Echoes of rows as notebooks have them: numbers, text, truth, nothing, lists and dicts."""
    return await bench.echo(rows(20))


@workload("a list of 10,000 integers")
async def integers(bench: Bench, _: int) -> Measured:
    """Echoes of a long list of small values."""
    return await bench.echo(list(range(10_000)))


@workload("bytes of {size}", unit="MB", cases=(KIB, 64 * KIB, 600 * KIB), axis="payload")
async def plain_bytes(bench: Bench, size: int) -> Measured:
    """Echoes of bytes, up to about the longest that the first dialect sends."""
    return await bench.echo(random.Random(SEED).randbytes(size))


@workload("float64 array of {size}", unit="MB", cases=(8 * MIB, 128 * MIB), axis="payload")
async def arrays(bench: Bench, size: int) -> Measured:
    """Echoes of arrays of numpy's."""
    # Most workloads do without it, and so does a peer whose memory is measured.
    import numpy

    return await bench.echo(numpy.random.default_rng(SEED).random(size // 8))


@workload("a new reference, called once and dropped", unit="cycles")
async def reference_cycle(bench: Bench, _: int) -> Measured:
    """Borrows an object that was not lent before, calls it, and lets it go."""
    root = await bench.connect()

    async def cycle() -> object:
        ref = await root.callRemote("lend")
        return await ref.callRemote("answer")

    expect(await cycle(), 42)
    measured = await one_by_one(cycle, bench.seconds)
    await bench.peer.close(root)
    return measured


@workload("a call that is called back", unit="cycles")
async def call_back(bench: Bench, _: int) -> Measured:
    """Calls with a reference to an object of the client's, which the server calls to answer."""
    root, ref = await bench.connect(), bench.peer.pinged()
    expect(await root.callRemote("call_back", ref), 42)
    measured = await one_by_one(lambda: root.callRemote("call_back", ref), bench.seconds)
    await bench.peer.close(root)
    return measured


@workload("connect, one call, close", unit="cycles")
async def connect_and_close(bench: Bench, _: int) -> Measured:
    """Opens a connection for a single call."""
    sent = bench.peer.outgoing(HELLO)

    async def cycle() -> None:
        root = await bench.connect()
        await root.callRemote("echo", sent)
        await bench.peer.close(root)

    return await one_by_one(cycle, bench.seconds)


@workload(
    "connections: {}, all calling",
    cases=(1, 100, 1000, MANY),
    axis="connections",
    apart=WEIGHED_CONNECTIONS,
)
async def connections(bench: Bench, number: int) -> Measured:
    """Opens many connections, weighs them, and keeps one call in flight on each."""
    gather, sent = bench.peer.gather, bench.peer.outgoing(HELLO)
    first = await bench.connect()
    await first.callRemote("echo", sent)
    memory, roots = Memory(bench.server), [first]
    while len(roots) < number:
        lot = min(BATCH, number - len(roots))
        roots += await gather(bench.connect() for _ in range(lot))
    echoes = [functools.partial(root.callRemote, "echo", sent) for root in roots]
    for answer in await gather(_answer(echo) for echo in echoes):
        expect(answer, sent)
    more = memory.each(number - 1) if number >= WEIGHED_CONNECTIONS else {}
    measured = await together(gather, echoes, bench.seconds)
    await gather(bench.peer.close(root) for root in roots)
    return Measured(measured.rate, measured.calls, more)


async def _answer(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


@workload(
    "references held: {}",
    unit="references",
    cases=(1000, 10_000, 100_000),
    axis="references",
    apart=WEIGHED_REFERENCES,
)
async def references(bench: Bench, number: int) -> Measured:
    """Borrows many objects over one connection, holds on to them all, and weighs them."""
    root = await bench.connect()
    held = [await root.callRemote("lend_many", LOT)]
    memory = Memory(bench.server)
    lots = number // LOT
    begun = perf_counter()
    for _ in range(lots):
        held.append(await root.callRemote("lend_many", LOT))
    rate = number / (perf_counter() - begun)
    more = memory.each(number) if number >= WEIGHED_REFERENCES else {}
    expect(await held[-1][-1].callRemote("answer"), 42)
    await bench.peer.close(root)
    return Measured(rate, lots, more)


def rows(number: int) -> list[dict[str, Any]]:
    """Returns rows of ten values each."""
    chance = random.Random(SEED)
    return [
        {
            "id": 1_000_000 + 37 * row,
            "sample": f"sample {row} of the run",
            "valid": chance.random() < 0.9,
            "comment": None,
            "volts": chance.gauss(0.0, 5.0),
            "position": [chance.uniform(-1.0, 1.0), chance.uniform(-1.0, 1.0), -row],
            "unit": {"symbol": "µV", "scale": 1e-6},
        }
        for row in range(number)
    ]
