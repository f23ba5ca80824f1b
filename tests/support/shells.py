"""A stand-in for IPython's shell, where only its events matter."""

from __future__ import annotations

from typing import Any

from IPython.core.events import EventManager, available_events


class Shell:
    """A shell in a terminal; with ``kernel=`` one in a notebook."""

    def __init__(self, **attributes: Any) -> None:
        self.events = EventManager(self, available_events)
        vars(self).update(attributes)
