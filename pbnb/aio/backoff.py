"""How long to wait before the next attempt to connect."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]

# Two to this power is longer than any pause that anybody asks for.
_STEEPEST = 40


@dataclass(frozen=True)
class Backoff:
    """The pauses between attempts to connect, which grow and differ from client to client.

    A pause is of random length, from nothing to a bound that doubles with each failure (full
    jitter): many clients of one server come back spread over time. A server on this machine costs
    next to nothing to ask, so it is asked at once, and then more often.

    Attributes:
        shortest: The bound of the first pause, in seconds.
        longest: What the bound never passes, in seconds.
        nearby: The same for a server on this machine.
    """

    shortest: float = 0.1
    longest: float = 10.0
    nearby: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shortest <= min(self.longest, self.nearby):
            raise ValueError(
                f"shortest={self.shortest!r} is a pause above 0 s that neither "
                f"longest={self.longest!r} nor nearby={self.nearby!r} undercuts"
            )

    def most(self, near: bool) -> float:
        """Returns the longest pause.

        Args:
            near: Whether the server is on this machine.
        """
        return self.nearby if near else self.longest

    def pause(self, failures: int, chance: float, near: bool = False) -> float:
        """Returns how many seconds to wait before the next attempt.

        Args:
            failures: How many attempts have failed in a row.
            chance: A random number from 0 to 1.
            near: Whether the server is on this machine.
        """
        if near:
            if failures == 0:
                return 0.0
            failures -= 1
        return chance * min(self.most(near), self.shortest * 2.0 ** min(failures, _STEEPEST))
