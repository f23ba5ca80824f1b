"""Text that nobody sees by accident."""

from __future__ import annotations

__all__ = ["Secret"]


class Secret(str):
    """A secret: text that is not shown where it is looked at.

    Its repr says nothing, so that no cell's output, no traceback with variables and no debugger
    shows it. ``print``, ``str`` and the functions that take text get what it is.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"
