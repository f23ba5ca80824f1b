"""Attacks on the frames that pbnb peers speak with each other: bytes that no encoder writes."""

from __future__ import annotations

import datetime
import struct
import time
from typing import Any

import msgspec
import pytest

import pbnb as pb
from pbnb.jelly import SecurityOptions
from pbnb.protocol.events import CallReceived, CallRefused
from pbnb.wire.banana import NEED_DATA
from pbnb.wire.frames import FrameDialect
from tests.attacks.floods import FRAMES, call, frame, plain_call
from tests.attacks.fuzz import broker, end, feed

MESSAGE, ANNOUNCE, PIECE, DROP = range(4)
EXPRESSION, INTEGER, AS_BYTES, AS_MEMORY, INT32, INT64, FLOAT64 = range(1, 8)
PRIME = 2**61 - 1
MOST = pb.Limits().message_items

pack = msgspec.msgpack.encode


def ext(code: int, data: bytes) -> Any:
    return msgspec.msgpack.Ext(code, data)


def announce(message: Any, *sizes: int, stream: int = 1, count: int | None = None) -> bytes:
    table = struct.pack(f">I{len(sizes)}Q", len(sizes) if count is None else count, *sizes)
    return frame(table + pack(message), ANNOUNCE, stream)


def as_bytes(size: int) -> int:
    return size | 1 << 63


def expressions(levels: int) -> bytes:
    data = pack(bytes(100_000))
    for _ in range(levels):
        data = pack(ext(EXPRESSION, data))
    return data


def keys(count: int) -> bytes:
    """Returns a map with keys of one hash."""
    numbers = (n * PRIME for n in range(9, 9 + count))
    pairs = (pack(ext(INTEGER, n.to_bytes(10, "big"))) + b"\x00" for n in numbers)
    return b"\xdf" + struct.pack(">I", count) + b"".join(pairs)


NAMED = [b"answer", 1, ext(AS_MEMORY, b"\0\0")]
THRICE = [b"answer", 1, [ext(AS_MEMORY, b"\0\0"), ext(AS_MEMORY, b"\0\0")]]

# What each is, its bytes, and what it is refused with.
REFUSED: dict[str, tuple[bytes, str]] = {
    "a body of 4 GiB": (struct.pack(">IBxH", 2**32 - 1, MESSAGE, 0), "message_bytes"),
    "a body that ends early": (frame(b"\x93\x01"), "cannot be read"),
    "a body that goes on": (frame(pack([b"version", 6]) + b"\0"), "cannot be read"),
    "an array of 2**32 items": (frame(b"\xdd\xff\xff\xff\xff"), "cannot be read"),
    "a map of 2**32 items": (frame(b"\xdf\xff\xff\xff\xff"), "cannot be read"),
    "a string of 2**32 bytes": (frame(b"\xdb\xff\xff\xff\xff"), "cannot be read"),
    "text that is none": (frame(b"\xa2\xc0\xaf"), "cannot be read"),
    "a byte that means nothing": (frame(b"\xc1"), "cannot be read"),
    "an empty body": (frame(b""), "cannot be read"),
    "a kind that there is not": (frame(b"", 8), "kind 8"),
    "a drop with a body": (frame(b"x", DROP, 1), "kind 3"),
    "a drop of nothing": (frame(b"", DROP, 1), "not announced"),
    "a piece of nothing": (frame(b"x", PIECE, 1), "does not expect"),
    "an empty piece": (announce(NAMED, 4) + frame(b"", PIECE, 1), "does not expect"),
    "a piece that is too long": (announce(NAMED, 4) + frame(b"12345", PIECE, 1), "not expect"),
    "a piece of another stream": (announce(NAMED, 4) + frame(b"1234", PIECE, 2), "not expect"),
    "a stream begun twice": (announce(NAMED, 4) + announce(NAMED, 4), "cannot begin"),
    "a stream without a number": (announce(NAMED, 4, stream=0), "cannot begin"),
    "no buffers": (announce([b"version", 6]), "announces 0"),
    "2**32 buffers": (announce(NAMED, 4, count=2**32 - 1), "announces 4294967295"),
    "more buffers than are sized": (announce(NAMED, 4, count=50), "does not hold"),
    "a buffer of 2**62 bytes": (announce(NAMED, 2**62), "buffer_bytes"),
    "buffers of 2**40 bytes together": (announce(NAMED, *[2**30] * 1024), "buffer_bytes"),
    "a buffer that nobody names": (announce([b"answer", 1, 2], 0), "does not name"),
    "a buffer named twice": (announce(THRICE, 0), "which it has not"),
    "a buffer that there is not": (frame(pack(NAMED)), "which it has not"),
    "a buffer of another kind": (announce(NAMED, as_bytes(0)), "not announced as"),
    "an extension that there is not": (frame(pack([ext(9, b"")])), "extension of type 9"),
    "numbers that do not fit": (frame(pack([ext(INT64, b"1234567")])), "cannot be read"),
    "too many numbers": (frame(pack([ext(INT32, bytes(4 * MOST + 4))])), "message_items"),
    "numbers many times": (frame(pack([ext(INT64, bytes(4 * MOST))] * 3)), "message_items"),
    "an integer of a megabyte": (frame(pack([ext(INTEGER, bytes(2**20))])), "integer of"),
    "keys of one hash": (frame(b"\x93\xc4\x06answer\x01" + keys(100_000)), "extensions for keys"),
    "lists for keys": (
        frame(b"\x82\x91\x01\x01\xa1x\xc5\x50\x00" + bytes(0x5000)),
        "lists for keys",
    ),
    "expressions in each other": (frame(expressions(2000)), "holds another"),
    "an expression in a value": (
        frame(pack([b"answer", 1, [ext(EXPRESSION, pack([b"None"]))]])),
        "within a plain value",
    ),
    "an expression as a key": (
        frame(b"\x81" + pack(ext(EXPRESSION, pack(b"x"))) + b"\x01"),
        "within a plain value",
    ),
    "an expression with a map": (frame(pack([b"a", ext(EXPRESSION, pack({}))])), "holds a dict"),
    "an expression with text": (frame(pack([b"a", ext(EXPRESSION, pack("x"))])), "holds a str"),
    "lists in each other": (frame(b"\x91" * 100_000), "deep"),
    "few lists in each other": (frame(b"\x91" * 400 + b"\x01"), "deep"),
    "a million items": (frame(b"\xdd" + struct.pack(">I", MOST + 1) + bytes(MOST + 1)), "items"),
    "banana": (call(b"echo", 7), "message_bytes"),
}


@pytest.mark.parametrize("split", [0, 1], ids=["whole", "in bytes"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_no_encoder_writes_is_refused_at_once(what: str, split: int) -> None:
    data, says = REFUSED[what]
    if split and len(data) > 50_000:
        data, split = data, 4096
    dialect = FrameDialect(pb.Limits())
    began = time.thread_time()
    with pytest.raises(pb.RemoteProtocolError, match=says):
        for at in range(0, len(data), split or len(data)):
            dialect.feed(data[at : at + (split or len(data))])
            while dialect.next() is not NEED_DATA:
                pass
        raise AssertionError("it was taken")
    # Many times what it takes, which is a few milliseconds: none is quadratic.
    assert time.thread_time() - began < 2


def test_messages_that_wait_for_their_buffers_are_bounded() -> None:
    limits = pb.Limits(message_bytes=1_000_000, buffer_bytes=5_000_000)
    dialect = FrameDialect(limits)
    message = [b"answer", 1, bytes(900_000), ext(AS_MEMORY, b"\0\0")]
    with pytest.raises(pb.LimitExceeded, match="wait for their buffers"):
        for stream in range(1, 10):
            dialect.feed(announce(message, 1, stream=stream))
            assert dialect.next() is NEED_DATA
    dialect = FrameDialect(limits)
    for stream in range(1, 50):  # one after another they may come for ever, dropped or not
        dialect.feed(announce(message, 1, stream=stream))
        assert dialect.next() is NEED_DATA
        dialect.feed(frame(b"", DROP, stream) if stream % 2 else frame(b"x", PIECE, stream))
        assert (dialect.next() is NEED_DATA) is bool(stream % 2)


def test_before_a_login_no_buffer_is_taken() -> None:
    dialect = FrameDialect(pb.Limits().before_login())
    dialect.feed(announce(NAMED, 1))
    with pytest.raises(pb.LimitExceeded):
        dialect.next()


PARTS: list[Any] = [
    *(None, True, -1, 0, 2**63, 1.5, float("nan"), b"", b"root", "root", "", "\0\u202e"),
    *([], [1], {}, {"a": 1}, {1.5: b"x", None: []}, [[[[]]]]),
    *(ext(EXPRESSION, pack(tree)) for tree in (b"x", [], [b"None"], [b"tuple"], [[]])),
    *(ext(EXPRESSION, pack([b"local", 1])), ext(EXPRESSION, pack([b"remote", 1]))),
    *(ext(INTEGER, b"\x7f" * 50), ext(INT64, bytes(16)), ext(FLOAT64, b"\xff" * 8)),
]
MESSAGES: list[list[Any]] = [
    [b"message", 1, b"root", "echo", 1, [5], {}],
    [b"answer", 1, 5],
    [b"error", 1, "x"],
    [b"decref", 1],
    [b"decache", 1],
    [b"uncache", 1],
    [b"cachemessage", 1, 1, "x", 1, [], {}],
    [b"version", 6],
    [b"didNotUnderstand", "x"],
]
OPENED = FRAMES + frame(pack([b"version", 6]))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message[0].decode())
def test_any_part_in_any_place_harms_nobody(message: list[Any]) -> None:
    for place in range(len(message)):
        for part in PARTS:
            changed = [*message[:place], part, *message[place + 1 :]]
            machine = broker(dialects=("pbnb1", "pb"))
            feed(machine, OPENED + frame(pack(changed)))
            end(machine)
    for length in range(len(message) + 2):
        machine = broker(dialects=("pbnb1", "pb"))
        feed(machine, OPENED + frame(pack([*message, 1, 2][:length])))
        end(machine)


def test_a_time_of_msgpack_s_own_comes_in_only_where_times_do() -> None:
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    said = OPENED + plain_call("echo", moment) + plain_call("echo", 7)
    for names, events in (
        (["None", "boolean", "unicode", "list", "tuple", "dictionary", "datetime"], 0),
        (["None", "boolean", "unicode", "list", "tuple", "dictionary"], 1),
    ):
        security = SecurityOptions()
        security.allowed.clear()
        security.allowTypes(*names)
        machine = broker(dialects=("pbnb1", "pb"), security=security)
        machine.receive_data(said)
        found = [type(event) for event in iter(machine.next_event, None)]
        assert found.count(CallRefused) == events and found.count(CallReceived) == 2 - events
        end(machine)


@pytest.mark.parametrize(
    "said",
    [
        FRAMES * 2,
        FRAMES + b"\x03\x80\x1a\x87",
        b"\x02\x82pb" + frame(pack([b"version", 6])),
        b"\x05\x82pbnb2",
    ],
    ids=["chosen twice", "banana in frames", "frames in banana", "another one"],
)
def test_a_dialect_is_not_changed_in_the_middle(said: bytes) -> None:
    machine = broker(dialects=("pbnb1", "pb"))
    feed(machine, said + bytes(1000))
    assert machine.broken
    end(machine)


def test_a_guarded_server_takes_little_of_a_stranger() -> None:
    for said in (
        plain_call("login_scram", "x" * 100_000, b""),
        announce([b"message", 1, b"root", "login", 1, [ext(AS_BYTES, b"\0\0")], {}], as_bytes(1)),
        frame(pack([b"message", 1, b"root", "login", 1, [[1] * 2000], {}])),
        frame(pack([b"message", 1, b"root", "login", 1, [ext(INT32, bytes(8000))], {}])),
    ):
        machine = broker(guarded=True, dialects=("pbnb1", "pb"))
        feed(machine, OPENED + said)
        assert machine.broken
        end(machine)
