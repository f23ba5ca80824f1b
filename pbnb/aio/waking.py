"""Letting a task go on at once that waits for an answer.

A turn of the loop, with its question to the system, takes a tenth of a short call and more. Where
nothing was read but the answer of one task, nobody else would use that turn: the task goes on in
the callback in which its answer was read, as the last thing that happens there.
"""

from __future__ import annotations

from types import BuiltinFunctionType

from .deferred import Sleeper, Waiter

__all__ = ["may_go_on", "wake"]


def may_go_on(waiter: Waiter) -> bool:
    """Returns whether a waiter is a task that may go on outside of a turn of its own.

    Others could be anything; a task of CPython's own keeps its errors to itself.

    Args:
        waiter: What was added to a Deferred.
    """
    call = waiter[1]
    return type(call) is BuiltinFunctionType and call.__name__ == "task_wakeup"


def wake(sleeper: Sleeper) -> None:
    """Lets a task go on.

    To be called from a callback of the task's loop, as the last thing that it does. An interrupt
    that the task lets out goes the same way as in a turn of its own, and ends the loop.

    Args:
        sleeper: What `Deferred.give` returned.
    """
    deferred, (loop, call, context) = sleeper
    try:
        context.run(call, deferred)
    except RuntimeError:
        # A loop that is nested in something of the same context cannot enter it a second time.
        loop.call_soon(call, deferred, context=context)
