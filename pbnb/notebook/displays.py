"""What a notebook shows of a result by itself: as much of it as somebody may want to read.

A few hundred bytes of a peer's can be a list of two lists of two lists, and so on, each of them
there once: a small value, whose text would fill the memory. IPython cuts long lists and not those.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Displays"]

Printer = Callable[[Any, Any, bool], None]

# Items of all lists, dicts and others of one result that are shown; the rest are dots.
MOST = 100_000

_KINDS = (list, tuple, dict, set, frozenset)


class Displays:
    """Bounds how much of a result is shown.

    Args:
        shell: The shell of the notebook.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        formatter: Any = shell.display_formatter
        self._printers: dict[type, Any] = formatter.formatters["text/plain"].type_printers
        self._others: dict[type, Printer] = {}

    def install(self) -> None:
        """Puts the bound around what prints containers."""
        for kind in _KINDS:
            if (printer := self._printers.get(kind)) is not None:
                self._others[kind] = printer
                self._printers[kind] = partial(_bounded, printer)

    def uninstall(self) -> None:
        """Puts back what printed containers before."""
        self._printers.update(self._others)
        self._others.clear()


def _bounded(printer: Printer, value: Any, into: Any, cycle: bool) -> None:
    # There is one `into` for each result.
    left = getattr(into, "_pbnb_left", MOST)
    into._pbnb_left = left - 1 - len(value)
    if left > 0 or not value:
        printer(value, into, cycle)
    else:
        into.text("...")
