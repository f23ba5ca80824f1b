"""Warnings about what peers do, as many as somebody may want to read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Warnings"]

log = logging.getLogger("pbnb")

_PERIOD = 60.0


class Warnings:
    """Says so many things in a minute, and then how many it has not said.

    Args:
        lines: How many in a minute.
        clock: Tells the time in seconds.
    """

    def __init__(self, lines: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        self._began = clock()
        self._said = 0
        self.left_out = 0

    def say(self, level: int, text: str, *args: object) -> None:
        """Logs a line, unless there were too many.

        Args:
            level: Of the logging module.
            text: The line, with places for the arguments.
            *args: The arguments.
        """
        now = self._clock()
        if now - self._began >= _PERIOD:
            if self.left_out:
                log.warning("%d more lines about peers were left out", self.left_out)
            self._began, self._said, self.left_out = now, 0, 0
        if self._said >= self._lines:
            if not self.left_out:
                log.warning("peers caused %d lines within a minute; more are left out", self._lines)
            self.left_out += 1
            return
        self._said += 1
        log.log(level, text, *args)
