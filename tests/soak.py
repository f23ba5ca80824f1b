"""A soak: a kernel among peers that are killed, stopped, restarted and cut off, for a long time.

::

    python -m tests.soak --minutes 10 [--seed N] [--programs]

One real kernel serves and calls all the time, and is looked at: after a quarter of the time, and at
the end, when its peer is gone. Tables, tasks, threads, open files and the objects of pbnb must be
as many as before, and its memory no more than 16 MB larger, which is what an allocator keeps. Its
peer is another kernel, or a program with ``--programs``, which starts sooner. Both call each other
at random: values, references, errors, copies, live copies, long strings, cancelled and late calls.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import pbnb as pb
from pbnb.protocol.broker import Broker
from pbnb.protocol.events import PendingCall
from tests.support.kernels import PATIENCE, ROOT, Kernel

# What there may be more of at the end: memory that an allocator keeps, in bytes, and files that a
# library opens when it first needs them. A leak would be one for each of dozens of connections.
TOLERANCE = {"memory": 16_000_000, "files": 2}
WRONG = "wrong.txt"  # the file in which peers say what they have found
CONNECTED = "connected"  # what a peer says once
WORKERS = 3  # calls that each side has open on each connection

ENDED = (pb.PBConnectionLost, pb.DeadReferenceError, pb.ConnectError)


class Thing(pb.Referenceable):
    def remote_twice(self, value: int) -> int:
        return 2 * value


class Point(pb.Copyable, pb.RemoteCopy):
    def __init__(self, x: int) -> None:
        self.x = x


class Clock(pb.Cacheable):
    def __init__(self) -> None:
        self.ticks = 0
        self.observers: list[Any] = []

    def tick(self) -> None:
        self.ticks += 1
        for observer in self.observers:
            # Whoever is gone was told nothing, and has nothing to complain of.
            observer.callRemote("ticked", self.ticks).addErrback(lambda failure: None)

    def getStateToCacheAndObserveFor(self, perspective: Any, observer: Any) -> dict[str, int]:
        self.observers.append(observer)
        return {"ticks": self.ticks}

    def stoppedObserving(self, perspective: Any, observer: Any) -> None:
        self.observers.remove(observer)


class RemoteClock(pb.RemoteCache):
    ticks: int

    def observe_ticked(self, ticks: int) -> None:
        assert ticks > self.ticks
        self.ticks = ticks


pb.setUnjellyableForClass(Point, Point)
pb.setUnjellyableForClass(Clock, RemoteClock)


class Side(pb.Root):
    """What each side offers, and how it calls the other.

    Attributes:
        calls: How many calls it has served, or made and found answered as they should be.
        connections: How many connections it had.
        wrong: What has come of a call that should not.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.calls = self.connections = 0
        self.wrong: list[str] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.server: pb.Server

    # What the other side calls

    def remote_hello(self, other: Any, address: str) -> None:
        """Calls the other side from now on: through a reference, and by connecting to it."""
        self.connections += 1
        self.start(self.work(other))
        self.start(self.visit(address))

    def remote_echo(self, value: Any) -> Any:
        self.calls += 1
        return value

    def remote_thing(self) -> Thing:
        self.calls += 1
        return Thing()

    async def remote_use(self, thing: Any) -> int:
        self.calls += 1
        return int(await thing.callRemote("twice", 7))

    def remote_point(self, x: int) -> Point:
        self.calls += 1
        return Point(x)

    def remote_clock(self) -> Clock:
        self.calls += 1
        return self.clock

    def remote_tick(self) -> int:
        self.calls += 1
        self.clock.tick()
        return self.clock.ticks

    def remote_error(self) -> None:
        self.calls += 1
        raise pb.Error("as asked")

    def remote_surprise(self) -> None:
        self.calls += 1
        raise ValueError("as asked")

    async def remote_slow(self) -> None:
        self.calls += 1
        await asyncio.sleep(1)

    # How it calls the other side

    def start(self, coroutine: Any) -> None:
        """Runs a coroutine, and notes what goes wrong with it."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, ENDED):
                self.wrong.append(f"{type(error).__name__}: {error}"[:300])

    async def visit(self, address: str) -> None:
        """Connects to the other side, and calls it for a while."""
        ref = await pb.connect(address)
        self.connections += 1
        connection: Any = ref.broker
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.chance.uniform(0.2, 3)):
                    await self.work(ref)
        finally:
            if self.chance.random() < 0.5:
                await connection.close()
            else:
                connection.abort()

    async def work(self, ref: Any) -> None:
        """Calls the other side in all ways, until the connection ends."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self.call_on(ref))

    async def call_on(self, ref: Any) -> None:
        with suppress(*ENDED):
            while True:
                await self.chance.choice(CALLS)(self, ref)
                self.calls += 1
                await asyncio.sleep(self.chance.choice((0, 0, 0.01)))

    async def values(self, ref: Any) -> None:
        some = [self.chance.random(), {"a": (1, None)}, {1, 2}, "text", 2**70, b"x", True]
        value = self.chance.sample(some, 4)
        assert await ref.callRemote("echo", value) == value

    async def references(self, ref: Any) -> None:
        thing, mine = await ref.callRemote("thing"), Thing()
        assert await thing.callRemote("twice", 4) == 8
        assert await ref.callRemote("use", mine) == 14
        assert await ref.callRemote("echo", mine) is mine
        assert await ref.callRemote("echo", thing) == thing

    async def errors(self, ref: Any) -> None:
        for name, expected in (("error", pb.Error), ("surprise", pb.RemoteError)):
            try:
                await ref.callRemote(name)
            except expected as error:
                assert "as asked" in str(error)
            else:
                raise AssertionError(f"{name}() has returned")

    async def copies(self, ref: Any) -> None:
        x = self.chance.randrange(1000)
        assert (await ref.callRemote("point", x)).x == x
        clock = await ref.callRemote("clock")
        ticks = await ref.callRemote("tick")
        assert clock.ticks >= ticks

    async def long_strings(self, ref: Any) -> None:
        value = bytes(self.chance.randrange(500_000))
        assert await ref.callRemote("echo", value) == value

    async def cancelled(self, ref: Any) -> None:
        call = ref.callRemote("slow").addErrback(lambda failure: None)
        await asyncio.sleep(self.chance.choice((0, 0.01)))
        call.cancel()

    async def late(self, ref: Any) -> None:
        began = time.monotonic()
        with suppress(pb.DeadlineExceeded), pb.deadline(0.02):
            await ref.callRemote("slow")
            # Who was stopped meanwhile finds the answer before it looks at the deadline.
            assert time.monotonic() - began > 0.9, "slow() was fast"

    async def many(self, ref: Any) -> None:
        found = await asyncio.gather(*(ref.callRemote("echo", n) for n in range(50)))
        assert found == list(range(50))

    # What it has

    def write_down(self, path: Path) -> None:
        """Adds what has gone wrong to a file."""
        with path.open("a") as file:
            file.writelines(f"{each}\n" for each in self.wrong)
        self.wrong.clear()

    async def quiet(self) -> None:
        """Waits until nobody is connected and nothing is going on."""
        until = time.monotonic() + PATIENCE / 2
        while left := [*self.server.connections, *self.tasks, *self.clock.observers]:
            assert time.monotonic() < until, left
            await asyncio.sleep(0.05)
            gc.collect()
        await asyncio.sleep(1.5)  # as long as a slow method that runs for nobody

    def measure(self) -> dict[str, int]:
        """Returns how much there is of everything."""
        gc.collect()
        kinds = Counter(type(each) for each in gc.get_objects())
        ours = (pb.Connection, Broker, PendingCall, pb.RemoteReference, pb.Deferred, RemoteClock)
        process = psutil.Process()
        return {
            **{kind.__name__: kinds[kind] for kind in ours},
            "things": kinds[Thing],
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "files": process.num_fds(),
            "memory": process.memory_info().rss,
        }


CALLS: tuple[Callable[[Side, Any], Awaitable[None]], ...] = (
    *(Side.values, Side.references, Side.errors, Side.copies, Side.long_strings),
    *(Side.cancelled, Side.late, Side.many),
)


async def begin(seed: int) -> Side:
    """Serves a side."""
    side = Side(seed)
    side.server = await pb.serve(side)
    return side


async def call_at(address: str, seed: int, wrong: str) -> None:
    """Is a peer: connects to a side again and again, and is called by it meanwhile.

    Args:
        address: Where the side is.
        seed: Where chance begins.
        wrong: The file in which it says what went wrong.
    """
    side = await begin(seed)
    times = itertools.count()
    while True:
        ref = await pb.connect(address)
        connection: Any = ref.broker
        await ref.callRemote("hello", side, side.server.address)
        if next(times) == 0:
            print(CONNECTED, flush=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(side.chance.uniform(0.2, 3)):
                await side.work(ref)
        side.write_down(Path(wrong))
        if side.chance.random() < 0.5:
            await connection.close()
        else:
            connection.abort()


# Who kills them


class Program:
    """A peer that is a program."""

    def __init__(self, address: str, seed: int, runtime: Path) -> None:
        what = f"s.call_at({address!r}, {seed}, {str(runtime / WRONG)!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import asyncio, tests.soak as s; asyncio.run({what})"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the errors that were asked for
        )
        self.pid = self._process.pid
        # Which takes as long as its time here, where the machine is busy with other things.
        assert self._process.stdout is not None
        with self._process.stdout as said:
            said.readline()

    def end(self) -> None:
        """Ends as programs do that are asked to."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def killed(self) -> None:
        """Sees to what is left of a process that was killed."""
        self._process.wait(PATIENCE)


class KernelPeer:
    """A peer that is a kernel."""

    def __init__(self, address: str, seed: int, runtime: Path) -> None:
        self._kernel = Kernel(runtime)
        self.pid = self._kernel.pid
        number = self._kernel.send(
            "import asyncio, tests.soak as s\n"
            f"peer = s.call_at({address!r}, {seed}, {str(runtime / WRONG)!r})\n"
            "task = asyncio.create_task(peer)"
        )
        self._kernel.wait_until(number, lambda cell: CONNECTED in cell.stdout)

    def end(self) -> None:
        """Ends as kernels do that are shut down."""
        self._kernel.shut_down()

    def killed(self) -> None:
        """Sees to what is left of a process that was killed."""
        self._kernel.close()


@dataclass
class Report:
    """What came of a soak."""

    calls: int = 0
    connections: int = 0
    kills: int = 0
    restarts: int = 0
    stops: int = 0
    wrong: list[str] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)

    @property
    def leaks(self) -> dict[str, tuple[int, int]]:
        """What there was more of at the end than after a quarter of the time."""
        pairs = {name: (self.before[name], self.after[name]) for name in self.before}
        return {
            name: (before, after)
            for name, (before, after) in pairs.items()
            if after > before + TOLERANCE.get(name, 0)
        }

    def __str__(self) -> str:
        counts = ("calls", "connections", "kills", "restarts", "stops")
        lines = [f"{getattr(self, name):,} {name}" for name in counts]
        lines += [f"{name}: {self.before[name]:,} -> {self.after[name]:,}" for name in self.before]
        lines.append(f"leaks: {self.leaks or 'none'}; wrong: {self.wrong or 'nothing'}")
        return "\n".join(lines)


def soak(seconds: float, seed: int = 0, programs: bool = False) -> Report:
    """Soaks a kernel.

    Args:
        seconds: How long; starting and measuring come on top.
        seed: Where chance begins.
        programs: Take programs for its peers, and not kernels.
    """
    chance, report = random.Random(seed), Report()
    with tempfile.TemporaryDirectory() as folder:
        runtime = Path(folder)
        kernel = Kernel(runtime)
        try:
            address = kernel.run(
                f"from tests.soak import begin\nside = await begin({seed})\n"
                "print(side.server.address)"
            ).stdout.strip()

            def look() -> dict[str, int]:
                kernel.run("await side.quiet()")
                found: dict[str, int] = json.loads(kernel.run(_LOOK).stdout)
                return found

            start = (Program if programs else KernelPeer, address, runtime)
            look()  # so that what looking itself takes is there before
            _torment(start, seconds / 4, chance, report)
            report.before = look()
            _torment(start, seconds * 3 / 4, chance, report)
            report.after = look()
            said = kernel.run("print(json.dumps([side.calls, side.connections, side.wrong]))")
            report.calls, report.connections, report.wrong = json.loads(said.stdout)
            with suppress(FileNotFoundError):
                report.wrong += (runtime / WRONG).read_text().splitlines()[:5]
        finally:
            kernel.close()
    return report


_LOOK = "import json\nprint(json.dumps(side.measure()))"


def _torment(
    start: tuple[Any, str, Path], seconds: float, chance: random.Random, report: Report
) -> None:
    """Starts peers, and does to them what happens to peers."""
    make, address, runtime = start
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        peer = make(address, chance.randrange(2**32), runtime)
        report.restarts += 1
        for _ in range(chance.randint(1, 3)):
            time.sleep(chance.uniform(0.5, 3))
            if chance.random() < 0.5:
                os.kill(peer.pid, signal.SIGSTOP)
                time.sleep(chance.uniform(0.1, 1.5))
                os.kill(peer.pid, signal.SIGCONT)
                report.stops += 1
        if chance.random() < 0.75:
            os.kill(peer.pid, signal.SIGKILL)
            peer.killed()
            report.kills += 1
        else:
            peer.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", action="store_true")
    options = parser.parse_args()
    report = soak(60 * options.minutes, options.seed, options.programs)
    print(report)
    sys.exit(bool(report.leaks or report.wrong))


if __name__ == "__main__":
    main()
