"""Frames: the dialect that two pbnb speak with each other.

Its name in the opening is ``pbnb1``; the number is that of this page, and a change of what is
written here is a new name beside it. The messages are PB's own (`pbnb.protocol.broker`). What
differs is how they are written:

A frame is a head of 8 bytes, big-endian, and a body::

    length of the body, 4 bytes | kind, 1 byte | 0, 1 byte | stream, 2 bytes

==== ======== =================================================================================
kind name     body
==== ======== =================================================================================
0    MESSAGE  one message, in msgpack
1    ANNOUNCE how many buffers follow, 4 bytes; the size of each, 8 bytes; one message
2    PIECE    the next bytes of the stream's buffers, which are thought to stand in a row
3    DROP     nothing: the stream ends here, and its message is not sent
==== ======== =================================================================================

Kinds 4 to 7 are those of `pbnb.wire.shared`, by which buffers reach a peer on the same machine
without being sent.

A message is an array whose first item is the command as bin, ``b"message"`` and so on. Where PB
has an s-expression (arguments, keywords, answers, failures), there is either a plain value or an
expression:

- A **plain value** stands for itself: nil, bool, integers of 64 bits, floats of 64 bits, str,
  bin, arrays for lists, maps for dicts. Arguments are an array, keywords a map with str keys.
- An **expression** is of extension type 1, and holds in msgpack what `pbnb.jelly` describes:
  byte strings are bin, lists are arrays.

Within either, extension type 2 is an integer of more than 64 bits, in big-endian two's
complement. Types 3 and 4 are a buffer of this message by its number from 0 in two bytes,
big-endian, as a byte string (3) or as memory (4). In the size of a buffer of type 3 the highest
bit is set. Each buffer is named once. In a plain value, types 5, 6 and 7 are a list of integers
of 32 or 64 bits or of floats of 64 bits, little-endian, one behind the other.

**Streams.** Buffers travel apart from their message, in pieces, so that other frames can go in
between. The stream's number, from 1 on, is free again when its last byte was sent. A message
counts as received when its buffers have come, so that one without buffers may overtake it. A
message that lends, returns or drops an object, changes a live copy or wants no answer is never
overtaken: its sender sends nothing else until it is through.

**Limits.** What a reader takes is its own affair: `pbnb.Limits`. A body is at most 2**32 - 1
bytes long, and this side makes a piece no longer than 1 MiB.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from ..errors import BananaError, LimitExceeded, RemoteProtocolError
from ..limits import Limits
from .banana import NEED_DATA, NeedData
from .memory import Memory
from .plain import ATOMS, Numbers, as_plain, check_body, check_tree, is_plain
from .shared import ACCEPT, OFFER, PLACED, RELEASE, Lending, Reading
from .transfers import (
    ANNOUNCE,
    DROP,
    HEAD,
    MESSAGE,
    PART,
    PIECE,
    Incoming,
    Outgoing,
    OutOfBand,
    Transfer,
    label_of,
)

__all__ = ["Expression", "FrameDialect"]

EXPRESSION, INTEGER, AS_BYTES, AS_MEMORY, INT32, INT64, FLOAT64 = range(1, 8)
_NUMBERS: Final = {"i": INT32, "q": INT64, "d": FLOAT64}
_FORMATS: Final = {code: name for name, code in _NUMBERS.items()}

_HEAD_SIZE: Final = HEAD.size
_head = HEAD.pack
_read_head = HEAD.unpack_from
_read_brief_head: Final = struct.Struct(">IB").unpack_from

# A body up to this size is written behind its head in one go; a longer one is not copied for it.
_SHORT = 16 * 1024
# Byte strings from this size on travel as buffers, where the whole message is longer than a piece:
# below that, encoding them in it is quicker.
_LARGE = 64 * 1024
_PIECE = 256 * 1024
_STREAMS = 0xFFFF
# Buffers from this size on are placed in shared memory, where there is some.
_PLACED_FROM = 1024 * 1024
# Buffers of one message, and messages that are on their way at one time.
_MOST = 1024
_BYTES_FLAG = 1 << 63


class Expression:
    """An s-expression that stands in a message in the place of a plain value.

    Attributes:
        tree: The expression.
    """

    __slots__ = ("tree",)

    def __init__(self, tree: Any) -> None:
        self.tree = tree


class FrameDialect:
    """Frames, as this module describes them.

    Args:
        limits: What one message may cost.

    Attributes:
        name: The name by which it is offered and chosen.
        sending: Whether buffers wait to be sent.
        in_place: Whether buffers or a long body are on their way in: `room` says where the next
            bytes are wanted. Where it says nothing, few bytes are: those behind them have a place.
        replies: What the dialect itself answers to what it has read, to be written.
        readable: Whether something has come at which `next` has not looked.
    """

    __slots__ = (
        "_behind",
        "_body",
        "_body_at",
        "_body_kind",
        "_body_stream",
        "_brief",
        "_briefest",
        "_buffer",
        "_decoder",
        "_encoder",
        "_error",
        "_expected",
        "_expressions",
        "_extended",
        "_held",
        "_in_expression",
        "_incoming",
        "_last_stream",
        "_least",
        "_lending",
        "_limits",
        "_met",
        "_note",
        "_numbers",
        "_on_write",
        "_ordered",
        "_piece",
        "_piece_left",
        "_position",
        "_reading",
        "_received",
        "_sending",
        "_short",
        "_transfers",
        "in_place",
        "readable",
        "replies",
        "sending",
    )

    name = b"pbnb1"
    carries_memory = True

    def __init__(self, limits: Limits) -> None:
        # The body or piece that is being received in place, if any.
        self._body: Memory | None = None
        self._body_kind = self._body_stream = self._body_at = 0
        self._piece: Incoming | None = None
        self._piece_left = 0
        self.limits = limits
        self._sending = limits
        self._short = min(_SHORT, limits.message_bytes, limits.message_items)
        # Outgoing: the buffers of the message that is being encoded, and those on their way.
        self._met: list[OutOfBand] = []
        self._transfers: deque[Outgoing] | tuple[()] = ()  # an empty deque takes 760 bytes
        # What may not be overtaken, and what waits for it.
        self._ordered: Outgoing | None = None
        self.sending = self.in_place = False
        self._behind: list[tuple[list[Any], Outgoing | None]] = []
        self._last_stream = 0
        # Memory that both ends reach: this side's, and the peer's.
        self._lending: Lending | None = None
        self._reading: Reading | None = None
        self._note: Callable[[], object] | None = None
        self._on_write: Callable[[], object] = int
        self.replies: Sequence[Any] = ()
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._extension)
        # Incoming: bytes that are unread, from _position on, and messages that wait for buffers.
        self._buffer: bytes = b""
        self._position = 0
        self.readable = False
        self._incoming: dict[int, Incoming] = {}
        self._expected = 0  # bytes of their buffers
        self._held = 0  # bytes of their bodies
        # Of the message that is being read: expressions, and numbers in lists of numbers alone.
        self._expressions = self._numbers = 0
        self._extended = False
        self._in_expression = False
        self._received: list[bytes | memoryview | None] = []
        self._decoder = msgspec.msgpack.Decoder(ext_hook=self._read_extension)
        self._error: RemoteProtocolError | None = None

    @property
    def limits(self) -> Limits:
        """What one message of the peer's may cost; may be set at any time."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        # A message of so many bytes cannot go over any of them, and one of so many is read at once.
        # While a body or a piece is being received, nothing is a message.
        self._least = min(limits.depth, limits.message_items, limits.message_bytes)
        self._briefest = min(_SHORT, limits.message_bytes)
        self._brief = self._briefest if self._body is None and self._piece is None else -1

    # Writing

    def call(self, message: list[Any]) -> list[Any] | None:
        """Returns a call, or what may be sent of it now; None where a value is not plain.

        Raises:
            BananaError: It goes over a limit.
        """
        args: tuple[Any, ...] = message[5]
        kw: dict[str, Any] = message[6]
        plain: Sequence[Any] | None = args
        for value in args:
            kind = type(value)
            if kind is bytes:
                if len(value) > _PIECE and plain is args:
                    plain = list(map(_lift_bytes, args))
            elif kind not in ATOMS:
                plain = as_plain(args, self._sending.depth)
                break
        if plain is None or (kw and not is_plain(kw, self._sending.depth)):
            return None
        message[5] = plain
        try:
            body = self._encoder.encode(message)
        except OverflowError:
            self._met.clear()
            return None  # an integer that is not plain, which nobody has looked at
        except BaseException:
            self._met.clear()
            raise
        if len(body) <= self._short and self._ordered is None and not self._met:
            return [_head(len(body), MESSAGE, 0) + body]
        # Of a call without an answer nobody learns when its reference can be let go.
        return self._framed(message, body, ordered=not message[4])

    def answer(self, request_id: Any, value: object) -> list[Any] | None:
        """Returns an answer, or what may be sent of it now; None where the value is not plain.

        Raises:
            BananaError: It goes over a limit.
        """
        if type(value) not in ATOMS:
            plain = as_plain((value,), self._sending.depth)
            if plain is None:
                return None
            value = plain[0]
        elif type(value) is bytes and len(value) > _PIECE:
            value = _lift_bytes(value)
        message = [b"answer", request_id, value]
        try:
            body = self._encoder.encode(message)
        except OverflowError:
            return None  # as above
        if len(body) <= self._short and self._ordered is None and not self._met:
            return [_head(len(body), MESSAGE, 0) + body]
        return self._framed(message, body, False)

    def encode(self, tree: object, ordered: bool = False) -> list[Any]:
        """Returns one message, or what may be sent of it now, to be written in this order.

        Args:
            tree: The message.
            ordered: Whether nothing that is encoded later may overtake it.

        Raises:
            BananaError: The message holds what cannot be sent, or goes over a limit.
        """
        try:
            body = self._encoder.encode(tree)
        except OverflowError:
            self._met.clear()
            body = self._encode(tree := _replaced(tree, self._spell_integer))
        except BaseException:
            self._met.clear()
            raise
        return self._framed(tree, body, ordered)

    def _framed(self, tree: object, body: bytes, ordered: bool) -> list[Any]:
        """Returns a message that was encoded, or what may be sent of it now."""
        if len(body) <= self._short and not self._met:
            frames = [_head(len(body), MESSAGE, 0) + body]
            return frames if self._ordered is None else self._queue(frames, None)
        if len(body) > _PIECE:
            body = self._encode(_replaced(tree, _lift_bytes))
        self._check(body)
        if not self._met:
            return self._queue([_head(len(body), MESSAGE, 0), body], None)
        label = tuple(tree[:2])  # type: ignore[index]
        return self._queue(*self._announce(body, ordered, label))

    def _queue(self, frames: list[Any], transfer: Outgoing | None) -> list[Any]:
        """Returns frames that may go out now; keeps them where they have to wait."""
        if self._ordered is not None:
            self._behind.append((frames, transfer))
            return []
        self._begin(transfer)
        return frames

    def _begin(self, transfer: Outgoing | None) -> None:
        if transfer is not None and transfer.buffers:
            self._transfers = self._transfers or deque()
            self._transfers.append(transfer)
            self.sending = True
            if transfer.ordered:
                self._ordered = transfer

    def _encode(self, tree: object) -> bytes:
        self._met.clear()
        try:
            return self._encoder.encode(tree)
        except BaseException:
            self._met.clear()
            raise

    def _check(self, body: bytes) -> None:
        try:
            if len(body) > self._sending.message_bytes:
                raise LimitExceeded(
                    f"a message of {len(body)} bytes: the limit message_bytes is "
                    f"{self._sending.message_bytes}"
                )
            check_body(body, self._sending)
        except LimitExceeded as error:
            self._met.clear()
            raise BananaError(f"cannot send {str(error).removeprefix('received ')}") from None

    def _announce(self, body: bytes, ordered: bool, label: Any) -> tuple[list[Any], Outgoing]:
        met, self._met = self._met, []
        size = sum(len(each.data) for each in met)
        if size > self._sending.buffer_bytes:
            raise BananaError(
                f"cannot send {size} bytes of buffers: the limit buffer_bytes is "
                f"{self._sending.buffer_bytes}"
            )
        if len(met) > _MOST:
            raise BananaError(f"cannot send {len(met)} buffers in one message: {_MOST} is the most")
        stream = self._free_stream()
        sizes = [len(each.data) | (_BYTES_FLAG if each.as_bytes else 0) for each in met]
        table = struct.pack(f">I{len(sizes)}Q", len(sizes), *sizes)
        transfer = Outgoing(stream, met, ordered, label)
        return [_head(len(table) + len(body), ANNOUNCE, stream) + table, body], transfer

    def _free_stream(self) -> int:
        taken = {transfer.stream for transfer in self._transfers}
        taken.update(each.stream for _, each in self._behind if each is not None)
        for _ in range(_STREAMS):
            self._last_stream = self._last_stream % _STREAMS + 1
            if self._last_stream not in taken:
                return self._last_stream
        raise BananaError("cannot send more buffers: too many are on their way")

    def _extension(self, value: Any) -> Any:
        kind = type(value)
        if kind is Expression:
            met = len(self._met)
            inner = self._encoder.encode(value.tree)
            if len(inner) > _PIECE:
                # What is long in it goes beside it, and has a limit of its own.
                del self._met[met:]
                inner = self._encoder.encode(_replaced(value.tree, _lift_bytes))
            self._check(inner)  # its reader will
            return msgspec.msgpack.Ext(EXPRESSION, inner)
        if kind is OutOfBand:
            number = len(self._met)
            self._met.append(value)
            code = AS_BYTES if value.as_bytes else AS_MEMORY
            return msgspec.msgpack.Ext(code, number.to_bytes(2, "big"))
        if kind is Numbers:
            return self._written(value)
        if kind is _Integer:
            return msgspec.msgpack.Ext(INTEGER, value.digits)
        raise BananaError(f"cannot send {kind.__module__}.{kind.__qualname__} in a frame")

    def _written(self, numbers: Numbers) -> Any:
        items = numbers.items
        if len(items) > self._sending.message_items:
            raise BananaError(
                f"cannot send a list of {len(items)} numbers: the limit message_items is "
                f"{self._sending.message_items}"
            )
        code = _NUMBERS[items.typecode]
        if sys.byteorder == "big":
            items.byteswap()
        return msgspec.msgpack.Ext(code, memoryview(items).cast("B"))

    def _spell_integer(self, value: Any) -> Any:
        if type(value) is not int or -(2**63) <= value < 2**64:
            return value
        most = 7 * self._sending.prefix_bytes
        if value.bit_length() > most:
            raise BananaError(
                f"cannot send an integer of {value.bit_length()} bits: the limit prefix_bytes is "
                f"{self._sending.prefix_bytes}, of 7 bits each"
            )
        return _Integer(value)

    def pieces(self) -> list[Any]:
        """Returns what comes next of the buffers on their way: a piece of each in turn."""
        assert self._transfers
        transfer = self._transfers.popleft()
        out = self._place(transfer)
        if out is None:
            # On one machine a piece more costs a wake-up, and a longer one delays nobody.
            out = transfer.next(_PIECE if self._note is None else PART)
        if transfer.buffers:
            self._transfers.append(transfer)
        elif transfer is self._ordered:
            self._ordered = None
            while self._behind and self._ordered is None:
                frames, following = self._behind.pop(0)
                out += frames
                self._begin(following)
        self.sending = bool(self._transfers)
        return out

    def drop(self, label: tuple[bytes, int]) -> list[Any] | None:
        """Gives a message up whose buffers are on their way, unless others wait behind it.

        Args:
            label: The message's command and number.

        Returns:
            What is to be written for it; None where nothing was given up.
        """
        for transfer in self._transfers:
            if transfer.label == label and not transfer.ordered:
                assert self._transfers
                self._transfers.remove(transfer)
                self.sending = bool(self._transfers)
                if transfer.part is not None and self._lending is not None:
                    self._lending.give_back(transfer.part)
                return [_head(0, DROP, transfer.stream)]
        for waiting in self._behind:
            if waiting[1] is not None and waiting[1].label == label and not waiting[1].ordered:
                self._behind.remove(waiting)
                return []
        return None

    def transfers(self) -> list[Transfer]:
        """Returns which messages have buffers on their way, and how far they are."""
        behind = [each for _, each in self._behind if each is not None]
        return [
            Transfer(each.label, True, each.size - each.left, each.size)
            for each in (*self._transfers, *behind)
        ] + [
            Transfer(label_of(each.body, each.start), False, each.size - each.left, each.size)
            for each in list(self._incoming.values())
        ]

    # Memory that both ends reach

    def share(self, note: Callable[[], object], written: Callable[[], object]) -> None:
        """Lets large buffers lie in memory that both ends reach, where that works.

        Args:
            note: Called, from any thread, when `released` has something.
            written: Called when `trim` will have something to give back.
        """
        self._note, self._on_write = note, written

    def _place(self, transfer: Outgoing) -> list[Any] | None:
        if len(transfer.buffers[0].data) < _PLACED_FROM or self._note is None:
            return None
        if self._lending is None:
            # Most connections never need one.
            self._lending = Lending(self._sending.shared_bytes, self._on_write)
        if self._lending.ready:
            out = transfer.place(self._lending)
            # What was only held to be sent is free before the peer hears of what was sent.
            return self.released() + out if out else out
        if not (body := self._lending.offer()):
            return None
        # While the peer looks at it, pieces go as they would.
        return [_head(len(body), OFFER, 0) + body, *transfer.next(_PIECE)]

    def released(self) -> list[Any]:
        """Returns what the peer is to be told of its memory that nobody looks at any more."""
        body = b"" if self._reading is None else self._reading.gone()
        return [_head(len(body), RELEASE, 0) + body] if body else []

    def trim(self) -> bool:
        """Gives shared memory back that was not in use lately; returns whether there is more."""
        return self._lending is not None and self._lending.trim()

    @property
    def awaits(self) -> bool:
        """Whether the peer is about to answer the dialect itself."""
        return self._lending is not None and self._lending.awaits

    def close(self) -> None:
        """Ends what is shared, and what is on its way; what is looked at stays."""
        self._note, self.sending, self._transfers = None, False, ()
        self._forget()
        if self._lending is not None:
            self._lending.close()
        if self._reading is not None:
            self._reading.close()

    def _read_shared(self, kind: int, body: bytes, stream: int) -> Any | None:
        """Reads a frame about shared memory; returns the message that it completes, if any."""
        if kind == PLACED:
            return self._placed(body, stream)
        if stream:
            raise RemoteProtocolError(f"a frame of kind {kind} belongs to no stream")
        if kind == OFFER:
            if self._reading is None:
                self._reading = Reading(self._note or int)
            most = 0 if self._note is None else self.limits.buffer_bytes
            answer = self._reading.offered(body, most)
            self.replies = [*self.replies, _head(len(answer), ACCEPT, 0) + answer]
        elif self._lending is None:
            raise RemoteProtocolError("the peer speaks of memory that is not offered")
        elif kind == ACCEPT:
            self._lending.accepted(body)
        else:
            self._lending.released(body)
        return None

    def _placed(self, body: bytes, stream: int) -> Any | None:
        message, reading = self._incoming.get(stream), self._reading
        if message is None or reading is None:
            raise RemoteProtocolError(f"bytes are placed for stream {stream}, which has none")
        offset, size = reading.placed(body)
        memory = message.memories[message.index]
        if not 0 < size <= memory.size - message.at:
            raise RemoteProtocolError(f"{size} bytes are placed for a buffer that has less left")
        if not message.at and memory.may_be(size):
            memory.be(reading.view(offset, size))
        else:
            reading.copy(offset, message.room(size))
            self.replies = [*self.replies, _head(8, RELEASE, 0) + offset.to_bytes(8, "big")]
        message.filled(size)
        return None if message.left else self._complete(message)

    # Reading

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Stores bytes from the peer; reads nothing yet."""
        if self._error is not None:
            return
        self.readable = True
        if self._position == len(self._buffer):
            self._buffer = data if type(data) is bytes else bytes(data)
        else:
            # What is left is less than a short frame: longer ones are received in place.
            self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def room(self) -> memoryview | None:
        """Returns the memory into which the next bytes are to be received, where it is known."""
        if self._position != len(self._buffer):
            return None
        if self._body is not None:
            return self._body.view[self._body_at :]
        if self._piece is not None:
            return self._piece.room(self._piece_left)
        return None

    def filled(self, count: int) -> None:
        """Counts bytes that were received into `room`."""
        self.readable = True
        if self._body is not None:
            self._body_at += count
        elif self._piece is not None:
            self._piece.filled(count)
            self._piece_left -= count

    def next(self) -> Any | NeedData:
        """Returns the next complete message, or `NEED_DATA`.

        Raises:
            RemoteProtocolError: The stream can no longer be followed; raised again from now on.
        """
        position = self._position
        start = position + _HEAD_SIZE
        buffer = self._buffer
        size = len(buffer)
        if start <= size:
            # The usual case, a short message that is there as a whole.
            length, kind = _read_brief_head(buffer, position)
            end = start + length
            if not kind and end <= size and length <= self._brief:
                try:
                    body = buffer[start:end]
                    if length > self._least:
                        check_body(body, self._limits)
                    message = self._decoder.decode(body)
                    if not self._extended or self._is_whole(message):
                        self._position = end
                        self.readable = end < size
                        return message
                except Exception:
                    self._is_whole(None)  # what follows finds out what is wrong
        if self._error is not None:
            raise self._error
        try:
            message = self._next()
            if message is NEED_DATA:
                self.readable = False
            return message
        except RemoteProtocolError as error:
            self._error = error.with_traceback(None)
            self._forget()
            raise self._error from None

    def unread(self) -> bytes:
        """Returns the bytes behind the last message, and forgets them."""
        rest = self._buffer[self._position :]
        self._buffer, self._position = b"", 0
        return rest

    def _forget(self) -> None:
        self._buffer, self._position = b"", 0
        self._body = self._piece = None
        self.in_place = False
        self._incoming.clear()
        self._expected = self._held = 0

    def _next(self) -> Any | NeedData:
        while True:
            if self._body is not None or self._piece is not None:
                self._copy()
                message = self._through()
                if message is not None:
                    return message
            buffer, position = self._buffer, self._position
            if len(buffer) - position < _HEAD_SIZE:
                return NEED_DATA
            length, kind, stream = _read_head(buffer, position)
            start = position + _HEAD_SIZE
            end = start + length
            if kind == MESSAGE and end <= len(buffer) and length <= self.limits.message_bytes:
                self._position = end
                return self._decode(buffer[start:end])
            if kind == PIECE:
                self._begin_piece(length, stream)
            elif kind == DROP and length == 0:
                self._drop(stream)
            elif OFFER <= kind <= RELEASE and length <= _SHORT:
                if end > len(buffer):
                    return NEED_DATA
                self._position = end
                message = self._read_shared(kind, buffer[start:end], stream)
                if message is not None:
                    return message
                continue
            elif kind == MESSAGE or kind == ANNOUNCE:
                self._check_length(length, kind, stream)
                if end > len(buffer) and length <= _SHORT:
                    return NEED_DATA
                self._body, self._brief = Memory(length, True), -1
                self._body_kind, self._body_stream, self._body_at = kind, stream, 0
            else:
                raise RemoteProtocolError(f"there is no frame of kind {kind} and length {length}")
            self._position = start

    def _copy(self) -> None:
        """Moves unread bytes to where the body or piece that is being received wants them."""
        while self._position < len(self._buffer):
            if self._body is not None and self._body_at < self._body.size:
                room = self._body.view[self._body_at :]
            elif self._piece is not None and self._piece_left:
                room = self._piece.room(self._piece_left)
            else:
                return
            part = memoryview(self._buffer)[self._position : self._position + len(room)]
            room[: len(part)] = part
            self._position += len(part)
            self.filled(len(part))

    def _through(self) -> Any | None:
        """Returns the message that is complete with what has just come, if one is."""
        self.in_place = bool(self._incoming)
        if self._body is not None:
            if self._body_at < self._body.size:
                self.in_place = True
                return NEED_DATA
            body, self._body = self._body.result(), None
            self._brief = self._briefest
            assert isinstance(body, bytes)
            if self._body_kind == MESSAGE:
                return self._decode(body)
            return self._announced(body)
        piece = self._piece
        if piece is None:
            return None
        if self._piece_left:
            self.in_place = True
            return NEED_DATA
        self._piece, self._brief = None, self._briefest
        return None if piece.left else self._complete(piece)

    def _check_length(self, length: int, kind: int, stream: int) -> None:
        if length > self.limits.message_bytes:
            raise LimitExceeded(
                f"received a message of {length} bytes: the limit message_bytes is "
                f"{self.limits.message_bytes}"
            )
        if kind == MESSAGE:
            return
        if not stream or stream in self._incoming:
            raise RemoteProtocolError(f"stream {stream} was announced, which cannot begin now")
        if len(self._incoming) >= _MOST:
            raise LimitExceeded(f"received more than {_MOST} messages with buffers at one time")

    def _announced(self, body: bytes) -> Any | None:
        count = int.from_bytes(body[:4], "big")
        start = 4 + 8 * count
        if len(body) < start or not 0 < count <= _MOST:
            raise RemoteProtocolError(f"a frame announces {count} buffers and does not hold them")
        sizes = struct.unpack_from(f">{count}Q", body, 4)
        self._held += len(body)
        if self._held > self.limits.buffer_bytes + self.limits.message_bytes:
            raise LimitExceeded(
                f"received {self._held} bytes of messages that wait for their buffers: the limit "
                f"buffer_bytes is {self.limits.buffer_bytes}"
            )
        self._expected += sum(size & ~_BYTES_FLAG for size in sizes)
        if self._expected > self.limits.buffer_bytes:
            raise LimitExceeded(
                f"received messages with {self._expected} bytes of buffers: the limit "
                f"buffer_bytes is {self.limits.buffer_bytes}"
            )
        memories = [Memory(size & ~_BYTES_FLAG, size >= _BYTES_FLAG) for size in sizes]
        message = Incoming(self._body_stream, body, start, memories)
        if not message.left:
            return self._complete(message)
        self._incoming[self._body_stream] = message
        self.in_place = True
        return None

    def _begin_piece(self, length: int, stream: int) -> None:
        message = self._incoming.get(stream)
        if message is None or not 0 < length <= message.left:
            raise RemoteProtocolError(
                f"a piece of {length} bytes belongs to stream {stream}, which does not expect it"
            )
        self._piece, self._piece_left = message, length
        self._brief = -1

    def _drop(self, stream: int) -> None:
        message = self._incoming.pop(stream, None)
        if message is None:
            raise RemoteProtocolError(f"stream {stream} is dropped, which was not announced")
        self.in_place = bool(self._incoming)
        self._uncount(message)

    def _uncount(self, message: Incoming) -> None:
        self._expected -= sum(each.size for each in message.memories)
        self._held -= len(message.body)

    def _complete(self, message: Incoming) -> Any:
        self._incoming.pop(message.stream, None)
        self.in_place = bool(self._incoming)
        self._uncount(message)
        self._received = [each.result() for each in message.memories]
        try:
            tree = self._decode(message.body[message.start :])
            if any(each is not None for each in self._received):
                raise RemoteProtocolError("a message came with a buffer that it does not name")
        finally:
            self._received = []
        return tree

    def _decode(self, body: bytes) -> Any:
        limits = self.limits
        if len(body) > limits.depth or len(body) > limits.message_items:
            check_body(body, limits)
        try:
            tree = self._decoder.decode(body)
            if not self._is_whole(tree):
                raise RemoteProtocolError("an expression stands within a plain value")
            return tree
        except RemoteProtocolError:
            raise
        except RecursionError:
            raise LimitExceeded("received lists nested too deep") from None
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise RemoteProtocolError(f"a frame cannot be read: {error}") from None
        finally:
            self._is_whole(None)

    def _is_whole(self, message: Any) -> bool:
        """Returns whether every expression that was read is a part of the message itself."""
        found, self._expressions, self._numbers = self._expressions, 0, 0
        self._extended = False
        return not found or found == _expressions_in(message)

    def _read_extension(self, code: int, data: memoryview) -> Any:
        self._extended = True
        if code == EXPRESSION:
            return Expression(self._read_expression(bytes(data)))
        if code == INTEGER:
            if len(data) * 8 > 7 * self.limits.prefix_bytes + 8:
                raise LimitExceeded(f"received an integer of {len(data)} bytes")
            return int.from_bytes(data, "big", signed=True)
        if code == AS_BYTES or code == AS_MEMORY:
            number = int.from_bytes(data, "big")
            value = self._received[number] if number < len(self._received) else None
            if value is None:
                raise RemoteProtocolError(f"a message names buffer {number}, which it has not")
            self._received[number] = None
            if (type(value) is bytes) is not (code == AS_BYTES):
                raise RemoteProtocolError(f"buffer {number} was not announced as what it is named")
            return value
        if code in _FORMATS:
            items = array(_FORMATS[code], bytes(data))
            self._numbers += len(items)
            if self._numbers > self.limits.message_items:
                raise LimitExceeded(
                    f"received {self._numbers} numbers in a message: the limit message_items is "
                    f"{self.limits.message_items}"
                )
            if sys.byteorder == "big":
                items.byteswap()
            return items.tolist()
        raise RemoteProtocolError(f"there is no extension of type {code} and {len(data)} bytes")

    def _read_expression(self, body: bytes) -> Any:
        if self._in_expression:
            raise RemoteProtocolError("an expression of the peer's holds another one")
        self._expressions += 1
        self._in_expression = True
        try:
            check_body(body, self.limits)
            tree = self._decoder.decode(body)
        finally:
            self._in_expression = False
        check_tree(tree, self.limits.depth)
        return tree


def _expressions_in(message: Any) -> int:
    """Returns how many parts of a message are expressions, as they may be."""
    return sum(type(each) is Expression for each in message) if type(message) is list else 0


class _Integer:
    """An integer that is too large for msgpack."""

    __slots__ = ("digits",)

    def __init__(self, value: int) -> None:
        self.digits = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _lift_bytes(value: Any) -> Any:
    if type(value) is bytes and len(value) >= _LARGE:
        return OutOfBand(memoryview(value), as_bytes=True)
    return value


def _replaced(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Returns a copy of a message in which some leaves are others; keys stay as they are."""
    kind = type(value)
    if kind is list or kind is tuple:
        return [_replaced(each, leaf) for each in value]
    if kind is dict:
        return {key: _replaced(each, leaf) for key, each in value.items()}
    if kind is Expression:
        return Expression(_replaced(value.tree, leaf))
    return leaf(value)
