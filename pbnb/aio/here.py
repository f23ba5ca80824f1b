"""Connections whose two ends are both in this process.

A notebook that serves and calls in one kernel is an ordinary connection through the loopback.
What a method prints then belongs under the cell that called it: the method runs in the context
of the call, which its other end, being here, can tell.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import Context, ContextVar, copy_context
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["Here", "in_own_context"]

in_own_context: ContextVar[bool] = ContextVar("in_own_context", default=False)
"""Set where a server begins to listen, it keeps the methods of that server in its own context."""


# Every open connection of this process, by its own address and its peer's.
_ends: WeakValueDictionary[Hashable, Here] = WeakValueDictionary()


class Here:
    """Finds the other end of a connection, where that is in this process.

    Args:
        own: The address of its socket.
        peer: The address of the other socket.

    Attributes:
        other: The other end, where it is in this process.
    """

    __slots__ = ("__weakref__", "_contexts", "_key", "other")

    def __init__(self, own: Any, peer: Any) -> None:
        self._key = (str(own), str(peer))
        self._contexts: dict[int, Context] = {}
        self.other: Here | None = None
        # Sockets without an address of their own cannot be told apart.
        if own and peer:
            _ends[self._key] = self

    def opened(self) -> None:
        """Looks for the other end; when a connection is open, both have been made."""
        self.other = _ends.get(self._key[::-1])

    def called(self, request_id: int) -> None:
        """Keeps the context of a call that was just sent, for the other end."""
        if self.other is not None:
            self._contexts[request_id] = copy_context()

    def answered(self, request_id: int) -> None:
        """Forgets the context of a call that has its answer."""
        if self._contexts:
            self._contexts.pop(request_id, None)

    def context_of(self, request_id: object) -> Context | None:
        """Returns the context in which a call was made that was received, where it is known."""
        other = self.other
        if other is None or type(request_id) is not int or in_own_context.get():
            return None
        return other._contexts.get(request_id)

    def ended(self) -> None:
        """Forgets the other end, and all calls."""
        self.other = None
        self._contexts.clear()
        _ends.pop(self._key, None)
