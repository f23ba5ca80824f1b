"""Clocks, percentiles and memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import psutil  # type: ignore[import-untyped]

__all__ = ["Measured", "Memory", "one_by_one", "together"]

# A first part of the time is not counted: caches fill, and the processors wake up.
WARM_UP = 0.2
# Where one call takes longer than there is time.
LEAST = 2


@dataclass(frozen=True)
class Measured:
    """What one measurement found.

    Attributes:
        rate: How many calls in a second, or connections, or references.
        calls: How many calls were counted for it.
        more: Other figures by name: ``p50_us`` and ``p99_us`` of a single call in microseconds;
            ``server_bytes`` and ``client_bytes`` of memory for each connection or reference.
    """

    rate: float
    calls: int
    more: dict[str, float] = field(default_factory=dict)


def percentile(ordered: list[float], share: float) -> float:
    """Returns the value below which a share of the ordered values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def one_by_one(call: Callable[[], Awaitable[object]], seconds: float) -> Measured:
    """Calls again and again, each time when the answer to the last one is there.

    Args:
        call: Makes one call.
        seconds: How long to go on; a few calls are made in any case.
    """
    warm = perf_counter() + seconds * WARM_UP
    await call()
    while perf_counter() < warm:
        await call()
    times: list[float] = []
    begun = last = perf_counter()
    end = begun + seconds
    while last < end or len(times) < LEAST:
        await call()
        now = perf_counter()
        times.append(now - last)
        last = now
    times.sort()
    more = {"p50_us": percentile(times, 0.5) * 1e6, "p99_us": percentile(times, 0.99) * 1e6}
    return Measured(len(times) / (last - begun), len(times), more)


async def together(
    gather: Callable[[Iterable[Coroutine[Any, Any, Any]]], Awaitable[list[Any]]],
    calls: Iterable[Callable[[], Awaitable[object]]],
    seconds: float,
) -> Measured:
    """Keeps one call of each kind in flight at all times.

    Args:
        gather: Runs coroutines at once.
        calls: Each makes one call.
        seconds: How long to go on; each kind is called at least once.
    """
    calls = list(calls)
    made = 0
    end = 0.0

    async def go_on(call: Callable[[], Awaitable[object]]) -> None:
        nonlocal made
        while True:
            await call()
            made += 1
            if perf_counter() >= end:
                return

    end = perf_counter() + seconds * WARM_UP
    await gather(go_on(call) for call in calls)
    made = 0
    begun = perf_counter()
    end = begun + seconds
    await gather(go_on(call) for call in calls)
    return Measured(made / (perf_counter() - begun), made)


class Memory:
    """The memory that this process and a server have taken since this was made.

    Args:
        server: The server's process.
    """

    def __init__(self, server: int) -> None:
        self._processes = {
            "server_bytes": psutil.Process(server),
            "client_bytes": psutil.Process(os.getpid()),
        }
        self._before = self._resident()

    def _resident(self) -> dict[str, int]:
        gc.collect()
        return {name: each.memory_info().rss for name, each in self._processes.items()}

    def each(self, number: int) -> dict[str, float]:
        """Returns what each of a number of things has taken in bytes, at the server and here."""
        now = self._resident()
        return {name: (now[name] - before) / number for name, before in self._before.items()}
