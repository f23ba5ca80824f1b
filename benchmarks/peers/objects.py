"""The objects that Twisted and pbnb serve: the same for both, but for the ``pb`` they are given."""

from __future__ import annotations

from typing import Any

__all__ = ["lender", "pinged"]


def lender(pb: Any) -> Any:
    """Returns the object that a server serves.

    Args:
        pb: ``pbnb``, or ``twisted.spread.pb``.
    """

    class Lent(pb.Referenceable):  # type: ignore[misc]
        def __init__(self, root: Lender) -> None:
            self.root = root

        def remote_answer(self) -> int:
            self.root.answered += 1
            return 42

    class Lender(pb.Root):  # type: ignore[misc]
        answered = 0

        def remote_echo(self, value: Any) -> Any:
            self.answered += 1
            return value

        def remote_lend(self) -> Lent:
            self.answered += 1
            return Lent(self)

        def remote_lend_many(self, number: int) -> list[Lent]:
            self.answered += 1
            return [Lent(self) for _ in range(number)]

        def remote_call_back(self, ref: Any) -> Any:
            self.answered += 1
            return ref.callRemote("ping", 42)

    return Lender()


def pinged(pb: Any) -> Any:
    """Returns an object of the client's that the server calls back.

    Args:
        pb: ``pbnb``, or ``twisted.spread.pb``.
    """

    class Pinged(pb.Referenceable):  # type: ignore[misc]
        def remote_ping(self, value: int) -> int:
            return value

    return Pinged()
