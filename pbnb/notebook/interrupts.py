"""Lets an interrupt be noticed while a cell awaits.

The kernel answers an interrupt by a callback on its loop, but nothing wakes the loop for it: a
cell that awaits a slow answer would go on until something else happens. A byte written by the
signal itself wakes it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading

__all__ = ["InterruptWaker"]

_NOBODY = -1


class InterruptWaker:
    """Wakes a loop at every signal, from `arm` until `disarm`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to wake a loop; does nothing where that is done already, or cannot be.

        Args:
            loop: The loop of the main thread.
        """
        if self._loop is not None or threading.current_thread() is not threading.main_thread():
            return
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        try:
            loop.add_reader(reader, self._drain)
        except NotImplementedError:  # Windows' proactor loop, which wakes by itself
            reader.close()
            writer.close()
            return
        self._loop, self._reader, self._writer = loop, reader, writer
        # A full buffer has woken the loop already.
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if before != _NOBODY:
            # Somebody wakes it already, as asyncio does for its own signal handlers.
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
            self._close()

    def disarm(self) -> None:
        """Ends what `arm` began."""
        # From another thread the signals could not be told, and would write to a closed socket.
        if self._writer is None or threading.current_thread() is not threading.main_thread():
            return
        before = signal.set_wakeup_fd(_NOBODY)
        if before not in (_NOBODY, self._writer.fileno()):
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        self._close()

    def _drain(self) -> None:
        if self._reader is not None:
            self._reader.recv(4096)

    def _close(self) -> None:
        if self._loop is not None and self._reader is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._reader)
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()
        self._loop = self._reader = self._writer = None
