"""Letting a task go on at once that waits for an answer.

A turn of the loop, with its question to the system, takes a tenth of a short call. Where nothing
was read but the answer of one task, nobody would use that turn: the task goes on in the callback
in which the answer was read, as the last thing that happens there.
"""

from __future__ import annotations

from .deferred import Sleeper

__all__ = ["wake"]


def wake(sleeper: Sleeper) -> None:
    """Lets a task go on.

    To be called from a callback of the task's loop, as the last thing that it does.

    Args:
        sleeper: What `Deferred.give` returned.
    """
    deferred, (loop, call, context) = sleeper
    try:
        context.run(call, deferred)
    except (KeyboardInterrupt, SystemExit) as interrupt:
        # The task has let it out, and it ends the loop: not the transport that has called us.
        loop.call_soon(_raise, interrupt)
    except RuntimeError:
        # A loop that is nested in something of the same context cannot enter it a second time.
        loop.call_soon(call, deferred, context=context)


def _raise(interrupt: BaseException) -> None:
    raise interrupt
