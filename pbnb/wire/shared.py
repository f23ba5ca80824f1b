"""Shared memory: how large buffers of frames get to a peer on the same machine without a socket.

Each side of a connection has memory of its own for what it sends, one segment
(`pbnb.wire.segments`), and says so when it first has a large buffer to send. Kinds of frames,
behind those of `pbnb.wire.frames`, with numbers in big-endian:

==== ======== =================================================================================
kind name     body
==== ======== =================================================================================
4    OFFER    process, 4 bytes; file, 4 bytes; size of the segment, 8 bytes; SHA-256 of the
              16 bytes with which the segment begins, 32 bytes
5    ACCEPT   those 16 bytes; or nothing, where the peer does without
6    PLACED   offset and size, 8 bytes each: the next bytes of the stream's buffers stand there
7    RELEASE  offsets, 8 bytes each: what was placed there was read, and is no longer looked at
==== ======== =================================================================================

The stream of OFFER, ACCEPT and RELEASE is 0. There is one OFFER in each direction, and each is
answered with one ACCEPT; a peer that knows nothing of segments answers with an empty one. PLACED
is sent only after an ACCEPT that was not empty, takes the place of PIECE, stands within one
buffer, and may take turns with PIECE. Nothing is placed where something still lies.

**Proof.** Process and file are a peer's words. The 16 bytes are random. Who offers proves with
their hash that it knows them, before anybody tells it what stands in memory of that name, and who
accepts proves with the bytes that it has mapped that very segment.

**Reading in place.** A buffer of kind memory (extension type 4) that is placed as a whole is
looked at where it is, and released when nobody looks at it any more. Everything else is copied
and released at once.

**Who shares.** Both ends have to be on one machine, and what is between them not encrypted:
elsewhere nothing is offered, and offers are refused unread. This side places buffers from 1 MiB
on, refuses a segment of more than `Limits.buffer_bytes`, and makes its own of
`Limits.shared_bytes`. Where that is full, buffers go by the socket.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
import mmap
import os
import struct
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from ..errors import RemoteProtocolError
from .segments import PAGE, Segment, attach, keeper

__all__ = ["ACCEPT", "OFFER", "PLACED", "RELEASE", "Lending", "Reading"]

OFFER, ACCEPT, PLACED, RELEASE = range(4, 8)

_OFFER: Final = struct.Struct(">IIQ32s")
_PLACE: Final = struct.Struct(">QQ")
_TOKEN = 16

# What is placed to be copied is small, so that both sides find it in the processor's cache, and
# is little in all, so that the peer is never busy for long with what has come.
_COPIED_AT_ONCE = 16 * 1024 * 1024


class Lending:
    """What this side lends of its memory to the peer, in parts.

    Args:
        size: How many bytes may be lent at one time.
        written: Called when `trim` will have something to give back.
        token: 16 random bytes; to be given by tests alone.

    Attributes:
        ready: Whether the peer has proved that it reads the segment.
    """

    def __init__(
        self,
        size: int,
        written: Callable[[], object] = lambda: None,
        token: bytes | None = None,
    ) -> None:
        self.ready = False
        self._size = PAGE + size // PAGE * PAGE
        self._tell_written = written
        self._token = token or os.urandom(_TOKEN)
        self._segment: Segment | None = None
        self._asked = False
        # Where the parts begin, in order, and the size of each, in whole pages.
        self._begins: list[int] = []
        self._sizes: dict[int, int] = {}
        # Those that the peer was told of; and of those the ones that it copies.
        self._told: set[int] = set()
        self._copied: dict[int, int] = {}
        self._copied_bytes = 0
        # How far the segment was written since memory was last given back, and whether it was
        # written at all since `trim` was last asked.
        self._written = 0
        self._used = False

    def offer(self) -> bytes:
        """Returns the body of an OFFER, or nothing where there was one or can be none."""
        if self._asked:
            return b""
        self._asked = True
        self._segment = Segment.make(self._size) if self._size > PAGE else None
        if self._segment is None:
            return b""
        self._segment.write(0, self._token)
        digest = hashlib.sha256(self._token).digest()
        return _OFFER.pack(os.getpid(), self._segment.fd, self._size, digest)

    def accepted(self, body: bytes) -> None:
        """Reads the body of an ACCEPT.

        Raises:
            RemoteProtocolError: Nothing was offered, or the peer has not read the segment.
        """
        if self._segment is None or self.ready:
            raise RemoteProtocolError("the peer accepts memory that is not offered")
        if not body:
            self.close()
        elif hmac.compare_digest(body, self._token):
            self._segment.attached()
            self.ready = True
        else:
            raise RemoteProtocolError("the peer accepts memory that it has not read")

    def take(self, size: int, copied: bool = False) -> int | None:
        """Returns where a part of that size begins, or None where there is no room for it.

        Args:
            size: In bytes.
            copied: Whether the peer copies it.
        """
        if copied and self._copied_bytes + size > _COPIED_AT_ONCE:
            return None
        pages = -(-size // PAGE) * PAGE
        at = PAGE
        # The first that fits: what was written lately lies at the beginning, and is fast.
        for begin in self._begins:
            if begin - at >= pages:
                break
            at = begin + self._sizes[begin]
        if at + pages > self._size:
            return None
        bisect.insort(self._begins, at)
        self._sizes[at] = pages
        if copied:
            self._copied[at] = size
            self._copied_bytes += size
        return at

    def write(self, offset: int, data: memoryview) -> None:
        """Copies bytes into a part."""
        assert self._segment is not None
        self._segment.write(offset, data)
        if not self._written:
            self._tell_written()
        self._written = max(self._written, offset + len(data))
        self._used = True

    def tell(self, offset: int, size: int) -> bytes:
        """Returns the body of a PLACED, after which the part is the peer's."""
        self._told.add(offset)
        return _PLACE.pack(offset, size)

    def released(self, body: bytes) -> None:
        """Reads the body of a RELEASE.

        Raises:
            RemoteProtocolError: It names what the peer does not have.
        """
        if not body or len(body) % 8:
            raise RemoteProtocolError(f"the peer releases memory in {len(body)} bytes")
        for (offset,) in struct.iter_unpack(">Q", body):
            if offset not in self._told:
                raise RemoteProtocolError(
                    f"the peer releases memory at {offset}, which it does not have"
                )
            self._told.discard(offset)
            self.give_back(offset)

    def give_back(self, offset: int) -> None:
        """Frees a part."""
        del self._sizes[offset]
        del self._begins[bisect.bisect_left(self._begins, offset)]
        self._copied_bytes -= self._copied.pop(offset, 0)

    @property
    def awaits(self) -> bool:
        """Whether the peer is about to answer: an offer, or for bytes that it only copies."""
        asked = self._segment is not None and not self.ready
        return asked or not self._copied.keys().isdisjoint(self._told)

    @property
    def lent(self) -> int:
        """How many bytes are lent, in whole pages."""
        return sum(self._sizes.values())

    def trim(self) -> bool:
        """Gives the memory of free parts back to the system, where nothing was written lately.

        Returns:
            Whether there is more to be given back later.
        """
        if self._segment is None or not self._written:
            return False
        if self._used:
            self._used = False
            return True
        at, written = PAGE, 0
        for begin in [*self._begins, self._written]:
            if begin > at:
                self._segment.forget(at, -(-(begin - at) // PAGE) * PAGE)
            if begin in self._sizes:
                at = written = begin + self._sizes[begin]
        self._written = written
        return bool(written)

    def close(self) -> None:
        """Ends it; what the peer looks at stays as it is."""
        self.ready = False
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()


class _Watch(weakref.ref["object"]):
    """Sees a part of the peer's memory that is looked at here."""

    __slots__ = ("offset",)

    offset: int


class Reading:
    """What this side reads of the peer's memory, in place.

    Args:
        note: Called when nobody looks at a part any more, in any thread; it may do no more than
            arrange for `gone` to be asked.
    """

    def __init__(self, note: Callable[[], object]) -> None:
        self._note = note
        self._memory: mmap.mmap | None = None
        self._size = 0
        self._offered = False
        self._watches: dict[int, _Watch] = {}
        self._gone: deque[_Watch] = deque()

    def offered(self, body: bytes, most: int) -> bytes:
        """Reads the body of an OFFER; returns that of the ACCEPT.

        Args:
            body: What the peer says.
            most: How large a segment may be; 0 refuses every one.

        Raises:
            RemoteProtocolError: It is no offer, or a second one.
        """
        if self._offered or len(body) != _OFFER.size:
            raise RemoteProtocolError("the peer offers memory a second time, or in no known way")
        self._offered = True
        pid, fd, size, digest = _OFFER.unpack(body)
        if not PAGE < size <= most + PAGE:
            return b""
        memory = attach(pid, fd, size)
        if memory is None:
            return b""
        token = memory[:_TOKEN]
        # Who does not know what stands there is not told.
        if not hmac.compare_digest(hashlib.sha256(token).digest(), digest):
            return b""
        self._memory, self._size = memory, size
        return token

    def placed(self, body: bytes) -> tuple[int, int]:
        """Reads the body of a PLACED; returns the offset and the size.

        Raises:
            RemoteProtocolError: Nothing can be placed there.
        """
        if self._memory is None:
            raise RemoteProtocolError("the peer places bytes in memory that was not accepted")
        if len(body) != _PLACE.size:
            raise RemoteProtocolError(f"the peer places bytes in {len(body)} bytes")
        offset, size = _PLACE.unpack(body)
        if offset < PAGE or offset + size > self._size:
            raise RemoteProtocolError(f"the peer places {size} bytes at {offset}: there are none")
        if offset in self._watches:
            raise RemoteProtocolError(f"the peer places bytes at {offset}, where others still lie")
        return offset, size

    def copy(self, offset: int, room: memoryview) -> None:
        """Copies what was placed."""
        assert self._memory is not None
        with memoryview(self._memory) as memory:
            room[:] = memory[offset : offset + len(room)]

    def view(self, offset: int, size: int) -> memoryview:
        """Returns a read-only view of what was placed, and watches for its end."""
        assert self._memory is not None
        part = keeper(self._memory, offset, size)
        watch = _Watch(part, self._leave_note)
        watch.offset = offset
        self._watches[offset] = watch
        return memoryview(part).cast("B").toreadonly()

    def _leave_note(self, watch: object) -> None:
        # From a finalizer: in any thread, at any moment.
        assert isinstance(watch, _Watch)
        self._gone.append(watch)
        self._note()

    def gone(self) -> bytes:
        """Returns the body of a RELEASE of what nobody looks at any more, or nothing."""
        offsets = []
        while self._gone:
            offset = self._gone.popleft().offset
            if self._watches.pop(offset, None) is not None:
                offsets.append(offset)
        return struct.pack(f">{len(offsets)}Q", *offsets)

    def close(self) -> None:
        """Ends it; what is looked at stays."""
        self._watches.clear()
        self._gone.clear()
        self._memory = None
