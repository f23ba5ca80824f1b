"""Running a coroutine that waits for nothing, without an event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


def finished(coroutine: Coroutine[object, None, T]) -> T:
    """Returns what a coroutine returns, which must not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        coroutine.close()
    raise AssertionError("it waits for something")
