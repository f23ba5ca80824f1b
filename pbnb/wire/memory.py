"""Where large byte strings and buffers are received, so that nothing copies them again."""

from __future__ import annotations

import functools
import io
import mmap
import sys

__all__ = ["Memory"]

# Memory that is new to the process comes in huge pages from here on, where the system has them.
_HUGE = 4 * 1024 * 1024

# From this size on, the C library asks the system for memory at once and gives it back at once, and
# every page of it is faulted in anew: for a string of 600 KiB that takes five times what copying it
# does. It stops doing so up to the size of the largest such block that it has seen freed.
_AT_ONCE = 128 * 1024


@functools.cache
def _keep_freed_memory() -> None:
    """Has the C library keep blocks that are no larger than `_HUGE` for the next one."""
    bytes(_HUGE)  # which nothing is written to, and which is freed here


# Whether a byte string is received in the memory that it keeps, rather than copied from there.
# Python 3.12 may crash where its garbage collector meets a view of such memory, as of a connection
# that ended in the middle of a message (gh-111049).
_IN_PLACE = sys.version_info[:2] != (3, 12)


class _Buffer(io.BytesIO):
    """Turns into a byte string, which is the very memory that was filled."""

    __slots__ = ()

    def close(self) -> None:
        # The garbage collector closes it, perhaps before the view of it has gone, and that would be
        # an error. There is nothing to close.
        return


class Memory:
    """Where one buffer is received.

    Args:
        size: How many bytes it has.
        as_bytes: Whether it becomes a byte string rather than a view.

    Attributes:
        size: How many bytes it has.
    """

    __slots__ = ("_as_bytes", "_bytes", "_view", "size")

    def __init__(self, size: int, as_bytes: bool) -> None:
        self.size = size
        self._as_bytes = as_bytes
        self._bytes: _Buffer | None = None
        self._view: memoryview | None = None

    @property
    def view(self) -> memoryview:
        """The memory, which is made when it is first wanted."""
        if self._view is None:
            self._view = self._make()
        return self._view

    def _make(self) -> memoryview:
        kept = self._as_bytes and _IN_PLACE
        if not kept and self.size >= _HUGE and hasattr(mmap, "MAP_PRIVATE"):
            memory = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
            return memoryview(memory)
        if self.size >= _AT_ONCE:
            _keep_freed_memory()
        if not _IN_PLACE:
            return memoryview(bytearray(self.size))
        self._bytes = _Buffer(bytes(self.size))
        return self._bytes.getbuffer()

    def may_be(self, size: int) -> bool:
        """Returns whether memory of that size, of the peer's, may take its place."""
        return self._view is None and not self._as_bytes and size == self.size

    def be(self, view: memoryview) -> None:
        """Takes memory of the peer's for the whole buffer."""
        self._view = view

    def result(self) -> bytes | memoryview:
        """Returns what was received, which nobody can change any more."""
        view = self.view
        if self._bytes is None:
            return bytes(view) if self._as_bytes else view.toreadonly()
        view.release()
        value = self._bytes.getvalue()
        return value if self._as_bytes else memoryview(value)
