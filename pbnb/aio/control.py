"""What two pbnb peers tell each other beside the calls of their users.

There is no command for it. Each side offers an object under the name ``pbnb``, beside the root,
and calls that of the other::

    types()             which types that PB never had can be read; see `pbnb.jelly.extras`
    cancel(request)     the caller no longer waits: the method may stop. Without an answer
    alive()             is the loop still turning? Any answer says yes

A peer that is no pbnb has no object of that name. It answers ``alive`` with an error, which is a
sign of life too, and passes over ``cancel``, which asks for no answer.
"""

from __future__ import annotations

from collections.abc import Callable

from ..jelly.extras import About

__all__ = ["Control"]


class Control(About):
    """What a connection lets its peer do.

    Args:
        cancel: Called with the number of a request that the peer no longer waits for.
    """

    def __init__(self, cancel: Callable[[object], object]) -> None:
        self._cancel = cancel

    def remote_cancel(self, request: object) -> None:
        """Stops the method of a request, if it still runs or waits for its turn."""
        self._cancel(request)

    def remote_alive(self) -> None:
        """Answers."""
