"""Memory of one process that another one of the same user can map: what Linux has for it.

A segment is an anonymous file in memory, a memfd. It has no name in any directory: the peer opens
it through ``/proc/PID/fd/FD``, for which the system asks what it asks of a debugger that reads,
and when the last process that has it is gone, however it ended, so is the segment. It is sealed:
nobody can make it shorter, so that what is mapped stays there to be read.

Elsewhere, and where the system says no, there are no segments, and `Segment.make` and `attach`
return None.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import sys
import weakref

__all__ = ["PAGE", "Segment", "attach", "is_shared", "keeper"]

PAGE = mmap.PAGESIZE


class Segment:
    """Memory of this process's that it writes, and its peer reads.

    Args:
        fd: The file, which is the segment's from now on.
        size: Its size in bytes.

    Attributes:
        fd: The file's number.
        size: Its size in bytes.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._memory = mmap.mmap(fd, size)
        self._close = weakref.finalize(self, os.close, fd)
        self.fd = fd
        self.size = size

    @classmethod
    def make(cls, size: int) -> Segment | None:
        """Returns a new segment, or None where there can be none.

        It takes memory only where something was written.

        Args:
            size: Its size in bytes, a number of whole pages.
        """
        if sys.platform != "linux":
            return None
        fd = -1
        try:
            fd = os.memfd_create("pbnb", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            # Who opens it may read, and not write.
            os.fchmod(fd, stat.S_IRUSR)
            os.ftruncate(fd, size)
            _seal(fd)
            _spare(fd)
            return cls(fd, size)
        except (OSError, ValueError, OverflowError):
            if fd >= 0:
                os.close(fd)
            return None

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copies bytes into the segment."""
        self._memory[offset : offset + len(data)] = data

    def forget(self, offset: int, size: int) -> None:
        """Gives memory back to the system; it is read as zeros until it is written again."""
        if sys.platform == "linux":
            # Where the system does not, the memory stays until the connection ends.
            with contextlib.suppress(OSError):
                self._memory.madvise(mmap.MADV_REMOVE, offset, size)

    def attached(self) -> None:
        """Closes the file, which the peer has opened or does without."""
        self._close()

    def close(self) -> None:
        """Lets go of the segment; what the peer has mapped stays as it is."""
        self._close()
        self._memory.close()


def attach(pid: int, fd: int, size: int) -> mmap.mmap | None:
    """Returns the memory of another process's segment, to be read, or None.

    What a peer names may be anything. It is looked at without being opened, since to open a
    device or a pipe can do something, and has to be what `Segment.make` makes: a file in memory
    without a name, of this user's, of that size, that cannot become shorter.

    Args:
        pid: The process, as the peer says.
        fd: Its file, as the peer says.
        size: The size of the segment, as the peer says.
    """
    if sys.platform != "linux":
        return None
    opened = []
    try:
        # The number of an open file is the same file from here on, whatever the peer does.
        opened.append(os.open(f"/proc/{pid}/fd/{fd}", os.O_PATH | os.O_CLOEXEC))
        found = os.fstat(opened[0])
        if not stat.S_ISREG(found.st_mode) or found.st_nlink or found.st_uid != os.geteuid():
            return None
        opened.append(os.open(f"/proc/self/fd/{opened[0]}", os.O_RDONLY | os.O_CLOEXEC))
        _spare(opened[1])
        if not _is_sealed(opened[1]) or os.fstat(opened[1]).st_size != size:
            return None
        # A private mapping reads the other's memory, and cannot write to it. Python hands out
        # parts of a mapping that keep it alive only where they could be written (`keeper`).
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        return mmap.mmap(opened[1], size, flags, mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError, OverflowError):
        return None
    finally:
        for each in opened:
            os.close(each)


def keeper(memory: mmap.mmap, offset: int, size: int) -> ctypes.Array[ctypes.c_char]:
    """Returns an object that lives as long as the last view, and any slice, of a part of memory.

    A memoryview of it holds it, and it holds the memory. A memoryview alone would not do: its
    slices live on without it, and it can therefore not tell when the last of them is gone.

    Args:
        memory: The memory.
        offset: Where the part begins.
        size: Its size in bytes.
    """
    return (ctypes.c_char * size).from_buffer(memory, offset)


def is_shared(data: object) -> bool:
    """Returns whether a view is one of a peer's memory, which the peer can still change."""
    return isinstance(data, memoryview) and isinstance(data.obj, ctypes.Array)


def _spare(fd: int) -> None:
    """Leaves half of the files that a process may have open to others.

    Raises:
        OSError: This one is beyond.
    """
    if fd > os.sysconf("SC_OPEN_MAX") // 2:  # the system gives out the lowest number
        raise OSError(errno.EMFILE, "too many files are open for one more in memory")


def _seal(fd: int) -> None:
    import fcntl  # which Windows has not

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def _is_sealed(fd: int) -> bool:
    """Returns whether a file keeps its size for good."""
    import fcntl  # as above

    wanted = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & wanted == wanted
