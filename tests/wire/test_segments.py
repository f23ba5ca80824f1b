"""Memory that another process maps, and what a hostile peer may name in its place."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import mmap
import os
import socket
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pbnb.wire.segments import PAGE, Segment, attach, is_shared, keeper

SIZE = 16 * PAGE


@contextlib.contextmanager
def made(size: int = SIZE) -> Iterator[Segment]:
    segment = Segment.make(size)
    assert segment is not None
    try:
        yield segment
    finally:
        segment.close()


def test_what_is_written_is_read() -> None:
    with made() as segment:
        segment.write(PAGE, b"before")
        memory = attach(os.getpid(), segment.fd, SIZE)
        assert memory is not None
        segment.write(2 * PAGE, b"after")
        assert memory[PAGE : PAGE + 6] == b"before"
        assert memory[2 * PAGE : 2 * PAGE + 5] == b"after"


def test_who_reads_can_not_write() -> None:
    with made() as segment:
        assert os.fstat(segment.fd).st_mode & 0o777 == 0o400
        memory = attach(os.getpid(), segment.fd, SIZE)
        assert memory is not None
        memory[PAGE] = 7
        again = attach(os.getpid(), segment.fd, SIZE)
        assert again is not None and again[PAGE] == 0


@pytest.mark.parametrize("size", [0, PAGE, 2 * SIZE])
def test_nobody_makes_a_segment_shorter_or_longer(size: int) -> None:
    with made() as segment, pytest.raises(PermissionError):
        os.ftruncate(segment.fd, size)


def test_what_is_mapped_stays_when_its_owner_has_closed_it() -> None:
    with made() as segment:
        segment.write(PAGE, b"still here")
        memory = attach(os.getpid(), segment.fd, SIZE)
        fd = segment.fd
    assert memory is not None and memory[PAGE : PAGE + 10] == b"still here"
    assert attach(os.getpid(), fd, SIZE) is None


def test_a_segment_that_nobody_closes_ends_with_its_object() -> None:
    segment = Segment.make(SIZE)
    assert segment is not None
    fd = segment.fd
    del segment
    gc.collect()
    assert attach(os.getpid(), fd, SIZE) is None


def test_memory_is_given_back() -> None:
    with made() as segment:
        before = os.fstat(segment.fd).st_blocks
        segment.write(PAGE, b"x" * (8 * PAGE))
        assert os.fstat(segment.fd).st_blocks > before
        segment.forget(PAGE, 8 * PAGE)
        assert os.fstat(segment.fd).st_blocks == before
        memory = attach(os.getpid(), segment.fd, SIZE)
        assert memory is not None and memory[PAGE] == 0


def _memfd(size: int = SIZE, seals: int = 0) -> int:
    fd = os.memfd_create("other", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def _pipe() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


def _fifo() -> int:
    with tempfile.TemporaryDirectory() as place:
        os.mkfifo(Path(place) / "fifo")
        return os.open(Path(place) / "fifo", os.O_RDWR)


def _file(place: str | None = None) -> int:
    fd, name = tempfile.mkstemp(dir=place)
    os.ftruncate(fd, SIZE)
    os.unlink(name)
    return fd


def _socket() -> int:
    return socket.socket().detach()


_SHRINKS: int = fcntl.F_SEAL_GROW
_GROWS: int = fcntl.F_SEAL_SHRINK
_SEALS: int = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

# What a peer may name in the place of a segment.
NAMED: dict[str, Callable[[], int]] = {
    "a memfd that can become shorter": lambda: _memfd(seals=_SHRINKS),
    "a memfd that can become longer": lambda: _memfd(seals=_GROWS),
    "a memfd without seals": _memfd,
    "a memfd that is shorter than said": lambda: _memfd(SIZE - PAGE, _SEALS),
    "a memfd that is longer than said": lambda: _memfd(SIZE + PAGE, _SEALS),
    "a pipe": _pipe,
    "a named pipe": _fifo,
    "a socket": _socket,
    "a device": lambda: os.open("/dev/zero", os.O_RDWR),
    "a directory": lambda: os.open("/", os.O_RDONLY),
    "a file that has a name": lambda: os.open(__file__, os.O_RDONLY),
    "a file whose name is gone": _file,
    "a file of /dev/shm": lambda: _file("/dev/shm"),
}


@pytest.mark.parametrize("name", NAMED)
def test_something_else_is_refused_and_left_alone(name: str) -> None:
    fd = NAMED[name]()
    before = sorted(os.listdir("/proc/self/fd"))
    try:
        assert attach(os.getpid(), fd, SIZE) is None
        assert sorted(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(fd)


def test_a_memfd_with_the_seals_of_a_segment_is_one() -> None:
    fd = _memfd(seals=_SEALS)
    try:
        assert attach(os.getpid(), fd, SIZE) is not None
    finally:
        os.close(fd)


def test_another_user_s_segment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as segment:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert attach(os.getpid(), segment.fd, SIZE) is None


@pytest.mark.parametrize(
    ("pid", "fd", "size"),
    [(0, 0, SIZE), (2**32 - 1, 0, SIZE), (None, 2**32 - 1, SIZE), (1, 2**31, SIZE)],
)
def test_what_is_not_there_is_refused(pid: int | None, fd: int, size: int) -> None:
    assert attach(os.getpid() if pid is None else pid, fd, size) is None


@pytest.mark.parametrize("size", [2**62, 2**64 - PAGE])
def test_what_can_not_be_had_is_refused(size: int) -> None:
    assert Segment.make(size) is None
    with made() as segment:
        assert attach(os.getpid(), segment.fd, size) is None


def test_elsewhere_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as segment:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert Segment.make(SIZE) is None
        assert attach(os.getpid(), segment.fd, SIZE) is None


def test_where_proc_is_hidden_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as segment:
        real = os.open

        def refusing(path: str, *args: int) -> int:
            if path.startswith("/proc"):
                raise PermissionError
            return real(path, *args)

        monkeypatch.setattr(os, "open", refusing)
        assert attach(os.getpid(), segment.fd, SIZE) is None


def test_where_many_files_are_open_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as segment:
        monkeypatch.setattr(os, "sysconf", lambda name: 2)
        before = sorted(os.listdir("/proc/self/fd"))
        assert Segment.make(SIZE) is None
        assert attach(os.getpid(), segment.fd, SIZE) is None
        assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_file_that_was_opened_is_needed_no_longer() -> None:
    with made() as segment:
        memory = attach(os.getpid(), segment.fd, SIZE)
        segment.attached()
        segment.write(PAGE, b"here")
        assert memory is not None and memory[PAGE : PAGE + 4] == b"here"
        segment.forget(PAGE, PAGE)
        assert memory[PAGE] == 0


def test_every_slice_of_a_view_keeps_its_part() -> None:
    with made() as segment:
        segment.write(PAGE, b"0123456789")
        memory = attach(os.getpid(), segment.fd, SIZE)
    assert memory is not None
    part = keeper(memory, PAGE, 10)
    gone: list[object] = []
    watch = weakref.ref(part, gone.append)
    view = memoryview(part).cast("B").toreadonly()
    digits = view[2:4]
    del part, view, memory
    gc.collect()
    assert bytes(digits) == b"23" and gone == []
    number = ctypes.c_char.from_buffer_copy(digits)
    del digits
    gc.collect()
    assert gone == [watch] and number.value == b"2"


def test_a_view_can_not_be_written() -> None:
    with made() as segment:
        memory = attach(os.getpid(), segment.fd, SIZE)
    assert isinstance(memory, mmap.mmap)
    view = memoryview(keeper(memory, PAGE, 10)).cast("B").toreadonly()
    assert is_shared(view) and is_shared(view[3:])
    assert not is_shared(memoryview(b"own")) and not is_shared(b"own")
    with pytest.raises(TypeError):
        view[0] = 1
