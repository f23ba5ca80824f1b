"""Letting a task go on at once that waits for an answer.

A turn of the loop, with its question to the system, takes a tenth of a short call and more. Where
nothing was read but the answer of one task, nobody else would use that turn: the task goes on in
the callback in which its answer was read, as the last thing that happens there.
"""

from __future__ import annotations

from contextvars import Context
from types import BuiltinFunctionType

from .deferred import Sleeper, Waiter

__all__ = ["may_go_on", "wake"]


def may_go_on(waiter: Waiter) -> bool:
    """Returns whether a waiter is a task that may go on outside of a turn of its own.

    Only those of CPython's own may: what others do when they are woken, nobody knows.

    Args:
        waiter: What was added to a Deferred.
    """
    call = waiter[1]
    return type(call) is BuiltinFunctionType and call.__name__ == "task_wakeup"


def wake(sleeper: Sleeper) -> None:
    """Lets a task go on.

    To be called from a callback of the task's loop, as the last thing that it does. What the task
    lets out goes where it goes from a turn of its own: an interrupt ends the loop, and of anything
    else the loop's exception handler is told.

    Args:
        sleeper: What `Deferred.give` returned.
    """
    deferred, (loop, call, context) = sleeper
    try:
        context.run(call, deferred)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if isinstance(error, RuntimeError) and _is_entered(context):
            # A loop that is nested in something of the same context cannot enter it again.
            loop.call_soon(call, deferred, context=context)
        else:
            message = f"Exception in callback {call!r}"
            loop.call_exception_handler({"message": message, "exception": error})


def _is_entered(context: Context) -> bool:
    try:
        context.run(int)
    except RuntimeError:
        return True
    return False
