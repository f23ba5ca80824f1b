"""A loop whose clock is put forward, so that what takes long need not be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Forward(asyncio.SelectorEventLoop):
    """Its time is that of any loop, and what it was put forward by."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def put_forward(seconds: float) -> None:
    """Lets some time pass at once, in a coroutine that `run` runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Forward)
    loop.ahead += seconds


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine in a loop whose clock can be put forward."""
    with asyncio.Runner(loop_factory=Forward) as runner:
        runner.run(main)
