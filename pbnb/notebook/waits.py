"""A line below the cell whose calls wait for a connection, for as long as they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from html import escape
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from ..aio.keeping import Keeper, on_wait
from ..aio.kept_calls import KeptCall
from .wording import waiting

__all__ = ["WaitLines", "line_of"]

# Seconds that a call may wait without a word: most servers are back by then.
_PATIENCE = 1.5
_PACE = 1.0
# Set in from the edge as far as what is printed above and below it.
_STYLE = (
    "display:block;padding-left:1ch;font-variant-numeric:tabular-nums;"
    "color:var(--jp-ui-font-color2,#616161);font-family:var(--jp-ui-font-family,sans-serif);"
    "font-size:var(--jp-ui-font-size1,13px)"
)


def line_of(text: str) -> dict[str, str]:
    """Returns what is displayed for a line below a cell.

    Args:
        text: The line, or several.
    """
    html = "<br>".join(escape(line) for line in text.split("\n"))
    return {"text/plain": text, "text/html": f'<span style="{_STYLE}">{html}</span>'}


class WaitLines:
    """The lines of a notebook's cells.

    In a terminal there is none: what is printed there does not go away. The log tells there.

    Args:
        shell: The shell of the notebook.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._lines: dict[tuple[int, str], _Line] = {}

    def install(self) -> None:
        """Begins to show the lines."""
        if hasattr(self._shell, "kernel"):
            on_wait.append(self._begin)

    def uninstall(self) -> None:
        """Ends what `install` began, and takes every line away."""
        if self._begin in on_wait:
            on_wait.remove(self._begin)
        for line in list(self._lines.values()):
            line.end()

    def _begin(self, keeper: Keeper, call: KeptCall) -> Callable[[], object]:
        # Called in the context of the call, to which its cell belongs. Many calls of one cell
        # wait below one line.
        parent: Any = self._shell.get_parent()  # type: ignore[attr-defined]
        key = id(keeper), str(parent.get("header", {}).get("msg_id", ""))
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(keeper, lambda: self._lines.pop(key, None))
        line.calls.add(call)
        return lambda: line.remove(call)


class _Line:
    """What one cell waits for.

    It is made and updated in the context of the first call that waits.
    """

    def __init__(self, keeper: Keeper, ended: Callable[[], object]) -> None:
        self.calls: set[KeptCall] = set()
        self._keeper = keeper
        self._ended = ended
        self._handle: Any = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_PATIENCE, self._show)

    def remove(self, call: KeptCall) -> None:
        """Notes that a call goes on; the last one takes the line away."""
        self.calls.discard(call)
        if not self.calls:
            self.end()

    def end(self) -> None:
        """Takes the line away."""
        self._timer.cancel()
        self._ended()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.update({"text/plain": "", "text/html": ""}, raw=True)

    def _show(self) -> None:
        text = f"waiting for {self._keeper.peer}, {waiting(self._keeper)}"
        data = line_of(text)
        if self._handle is None:
            show: Any = display
            self._handle = show(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
        self._timer = self._loop.call_later(_PACE, self._show)
