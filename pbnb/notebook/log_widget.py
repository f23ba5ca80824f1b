"""Shows a log of prints as a widget: its state lives in the kernel, and survives the page.

Imported when somebody asks for it, because nothing else here needs ipywidgets.
"""

from __future__ import annotations

import asyncio

from ipywidgets import HTML  # type: ignore[import-untyped]  # it ships no types

from .prints import PrintLog

__all__ = ["show"]

# How often the page gets news, in seconds.
_PAUSE = 0.1


def show(log: PrintLog, loop: asyncio.AbstractEventLoop) -> HTML:
    """Makes the widget that follows a log.

    Args:
        log: The log.
        loop: The kernel's loop.
    """
    widget = HTML()
    due = False

    def update() -> None:
        nonlocal due
        due = False
        widget.value = log.html()

    def update_soon() -> None:
        nonlocal due
        if not due:
            due = True
            loop.call_later(_PAUSE, update)

    log.changed = update_soon
    return widget
