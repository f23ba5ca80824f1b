"""Frames: byte by byte, as a stream, and from a peer that does not keep to them."""

from __future__ import annotations

import gc
import json
import mmap
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pbnb.errors import BananaError, LimitExceeded, RemoteProtocolError
from pbnb.limits import Limits
from pbnb.wire.banana import NEED_DATA
from pbnb.wire.frames import Expression, FrameDialect
from pbnb.wire.plain import Numbers, as_plain
from pbnb.wire.segments import PAGE
from pbnb.wire.shared import ACCEPT, OFFER, PLACED, RELEASE
from pbnb.wire.transfers import ANNOUNCE, DROP, MESSAGE, PIECE, OutOfBand

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "frames.json").read_text())
BLOB = bytes(range(256)) * 1200  # two pieces


def dialect(**limits: Any) -> FrameDialect:
    return FrameDialect(Limits(**limits))


def out_of(sender: FrameDialect, tree: Any, ordered: bool = False) -> bytes:
    """Returns everything that a message takes, its buffers in order."""
    said = b"".join(sender.encode(tree, ordered))
    while sender.sending:
        said += b"".join(sender.pieces())
    return said


def frame(kind: int, body: bytes, stream: int = 0) -> bytes:
    return struct.pack(">IBxH", len(body), kind, stream) + body


def announced(message: Any, *sizes: int, stream: int = 1) -> bytes:
    table = struct.pack(f">I{len(sizes)}Q", len(sizes), *sizes)
    return frame(ANNOUNCE, table + msgspec.msgpack.encode(message), stream)


def memory(number: int, code: int = 4) -> Any:
    return msgspec.msgpack.Ext(code, number.to_bytes(2, "big"))


def tree_in(value: Any) -> Any:
    """Returns a message with what stands for a part of it in a form that can be compared."""
    if isinstance(value, Expression):
        return {"expression": tree_in(value.tree)}
    if isinstance(value, list):
        return [tree_in(each) for each in value]
    return bytes(value) if isinstance(value, memoryview) else value


def read(said: bytes, step: int = 0, **limits: Any) -> list[Any]:
    reader, found = dialect(**limits), []
    for start in range(0, len(said), step or len(said)):
        reader.feed(said[start : start + (step or len(said))])
        while (tree := reader.next()) is not NEED_DATA:
            found.append(tree)
    return found


MESSAGES: list[Any] = [
    [b"answer", 1, None],
    [b"message", 1, b"root", "echo", 1, ["hello network"], {}],
    [b"message", 2, 7, "set", 0, [1, -1, 2**63, 1.5, True, b"b", [{}], {"k": [None]}], {"a": 1}],
    [b"answer", 3, Expression([b"tuple", 1, [b"unicode", b"x"], 0.5, 2**200, -(2**447)])],
    [b"error", 4, Expression([b"list", b"x" * 20_000])],
    [b"answer", 5, {"text": "x" * 70_000, "bytes": b"y" * 100_000}],
    [b"answer", 6, Expression([b"x", OutOfBand(memoryview(BLOB)), OutOfBand(memoryview(b""))])],
]


def meant(tree: Any) -> Any:
    if isinstance(tree, Expression):
        return {"expression": meant(tree.tree)}
    if isinstance(tree, OutOfBand):
        return bytes(tree.data)
    return [meant(each) for each in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("step", [0, 1, 7, 1000])
@pytest.mark.parametrize("tree", MESSAGES, ids=lambda tree: str(tree[1]))
def test_a_message_arrives_as_it_was_however_it_is_split(tree: Any, step: int) -> None:
    sender = dialect()
    (found,) = read(out_of(sender, tree), step)
    assert tree_in(found) == meant(tree)


def test_all_of_them_arrive_in_a_row() -> None:
    sender = dialect()
    said = b"".join(out_of(sender, tree) for tree in MESSAGES)
    assert [tree_in(each) for each in read(said, 65_537)] == [meant(tree) for tree in MESSAGES]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_recorded_frames_mean_what_they_meant(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = dialect()
    if "memory" in case:
        memory = mmap.mmap(-1, 3 * 4096)
        for at, data in case["memory"].items():
            memory.seek(int(at))
            memory.write(bytes.fromhex(data))
        monkeypatch.setattr("pbnb.wire.shared.attach", lambda *named: memory)
        reader.share(lambda: None, lambda: None)
    reader.feed(bytes.fromhex(case["hex"]))
    means = []
    while (tree := reader.next()) is not NEED_DATA:
        means.append(repr(tree_in(tree)))
    assert means == case["means"]
    del tree
    gc.collect()
    assert b"".join([*reader.replies, *reader.released()]).hex() == case.get("replies", "")


@pytest.mark.parametrize(
    "items", [list(range(1000)), [2**40 + n for n in range(100)], [n / 7 for n in range(100)]]
)
def test_numbers_arrive_as_a_list(items: Any) -> None:
    (numbers,) = as_plain((items,), 320) or ()
    assert isinstance(numbers, Numbers)
    assert read(out_of(dialect(), [b"answer", 1, numbers])) == [[b"answer", 1, items]]


def test_what_was_received_can_not_be_changed() -> None:
    (found,) = read(out_of(dialect(), MESSAGES[-1]))
    view = found[2].tree[1]
    assert isinstance(view, memoryview) and view.readonly


def test_buffers_are_received_where_they_stay() -> None:
    sender, reader = dialect(), dialect()
    said = out_of(sender, [b"answer", 1, Expression([b"x", OutOfBand(memoryview(BLOB))])])
    head = said.index(struct.pack(">B", PIECE), 8) + 4
    reader.feed(said[:head])
    assert reader.next() is NEED_DATA
    room, at = reader.room(), head
    assert room is not None and len(room) > 200_000
    while at < len(said):
        room = reader.room()
        if room is None:
            reader.feed(said[at : at + 8])
            at += 8
        else:
            part = said[at : at + min(len(room), 100_000)]
            room[: len(part)] = part
            reader.filled(len(part))
            at += len(part)
        found = reader.next()
    assert bytes(found[2].tree[1]) == BLOB


def test_large_byte_strings_arrive_as_byte_strings() -> None:
    value = {"a": [BLOB, "text"], "b": b"short"}
    said = out_of(dialect(), [b"answer", 1, value])
    assert said[4] == ANNOUNCE
    (found,) = read(said)
    assert found == [b"answer", 1, value]
    assert type(found[2]["a"][0]) is bytes


def test_a_long_byte_string_in_an_expression_has_the_limit_of_a_buffer() -> None:
    # Larger than a message may be, and beside memory that goes out of band as well.
    value = [b"x", OutOfBand(memoryview(BLOB)), [b"bytearray", BLOB * 10], b"short"]
    said = out_of(dialect(message_bytes=len(BLOB)), [b"answer", 1, Expression(value)])
    (found,) = read(said)
    tag, memory, (_, large), short = found[2].tree
    assert (tag, bytes(memory), large, short) == (b"x", BLOB, BLOB * 10, b"short")
    assert type(large) is bytes


def test_short_messages_overtake_buffers() -> None:
    sender = dialect()
    said = b"".join(sender.encode([b"answer", 1, BLOB]))
    said += b"".join(sender.pieces())
    said += b"".join(sender.encode([b"answer", 2, None]))
    said += b"".join(sender.pieces())
    assert not sender.sending
    assert [tree[1] for tree in read(said)] == [2, 1]


def test_buffers_of_two_messages_take_turns() -> None:
    sender = dialect()
    said = b"".join(sender.encode([b"answer", 1, BLOB * 3]) + sender.encode([b"answer", 2, BLOB]))
    while sender.sending:
        said += b"".join(sender.pieces())
    assert [tree[1] for tree in read(said)] == [2, 1]


def test_nothing_overtakes_what_is_ordered() -> None:
    sender = dialect()
    said = b"".join(sender.encode([b"answer", 1, BLOB * 3], True))
    for tree in ([b"answer", 2, BLOB], [b"answer", 3, BLOB], [b"decref", 4]):
        assert sender.encode(tree, tree[1] == 2) == []
    while sender.sending:
        said += b"".join(sender.pieces())
    assert [tree[1] for tree in read(said)] == [1, 2, 4, 3]


def test_what_cannot_be_sent_changes_nothing() -> None:
    sender = dialect(message_items=1000, buffer_bytes=1000)
    view = memoryview(BLOB)
    deep: Any = 0
    for _ in range(400):
        deep = [deep]
    for value, text in (
        (Expression([OutOfBand(view), object()]), "object"),
        (Expression([2**500]), "501 bits"),
        (Expression([OutOfBand(view)]), "buffer_bytes is 1000"),
        ([None] * 1001, "message_items is 1000"),
        (Expression([b"list", *[0] * 1001]), "message_items is 1000"),
        (Expression(deep), "depth is 320"),
    ):
        with pytest.raises(BananaError, match=text):
            sender.encode([b"answer", 1, value])
        assert not sender.sending
    assert read(out_of(sender, [b"answer", 1, "next"])) == [[b"answer", 1, "next"]]
    assert sender.answer(1, 2**64) is None
    assert sender.call([b"message", 1, b"root", "echo", True, (2**64,), {}]) is None


def test_a_dropped_stream_leaves_nothing() -> None:
    said = announced([b"answer", 1, memory(0)], 10) + frame(PIECE, b"12345", 1)
    said += (
        frame(DROP, b"", 1)
        + announced([b"answer", 2, memory(0, 3)], 2**63 | 4)
        + frame(PIECE, b"next", 1)
    )
    assert read(said, buffer_bytes=10) == [[b"answer", 2, b"next"]]


ATTACKS: list[tuple[str, bytes, str]] = [
    ("no such kind", frame(9, b""), "kind 9"),
    ("a body that is too long", struct.pack(">IBxH", 2**32 - 1, MESSAGE, 0), "message_bytes"),
    ("an announcement that is too long", struct.pack(">IBxH", 2**31, ANNOUNCE, 1), "message_bytes"),
    ("no msgpack", frame(MESSAGE, b"\xc1"), "cannot be read"),
    ("cut short", frame(MESSAGE, b"\x93\xc0"), "cannot be read"),
    ("two values", frame(MESSAGE, b"\xc0\xc0"), "cannot be read"),
    ("an array longer than its body", frame(MESSAGE, b"\xdd\xff\xff\xff\xff"), "cannot be read"),
    ("text that is none", frame(MESSAGE, b"\xa1\xff"), "cannot be read"),
    ("a map for a key", frame(MESSAGE, b"\x81\x80\x01"), "cannot be read"),
    ("nested 100,000 deep", frame(MESSAGE, b"\x91" * 100_000 + b"\xc0"), "depth is 320"),
    ("an unknown extension", frame(MESSAGE, b"\xd4\x63\x00"), "extension of type 99"),
    ("an integer of 100 bytes", frame(MESSAGE, b"\xc7\x64\x02" + b"\x7f" * 100), "integer of 100"),
    ("half a number", frame(MESSAGE, b"\xc7\x07\x06" + b"x" * 7), "cannot be read"),
    ("an expression of a map", frame(MESSAGE, b"\xc7\x01\x01\x80"), "holds a dict"),
    ("an expression of text", frame(MESSAGE, b"\xc7\x03\x01\x91\xa1x"), "holds a str"),
    ("a buffer of no message", frame(MESSAGE, b"\xd5\x04\x00\x00"), "buffer 0"),
    ("no buffers", announced([b"answer", 1, None]), "announces 0 buffers"),
    ("more buffers than there are", frame(ANNOUNCE, struct.pack(">I", 5), 1), "announces 5"),
    ("too many buffers", announced(None, *[1] * 1025), "announces 1025"),
    ("more bytes than allowed", announced(None, 2**40), "buffer_bytes"),
    ("sizes that add up", announced(None, *[2**30] * 3), "buffer_bytes"),
    ("stream 0", announced(None, 1, stream=0), "stream 0"),
    ("a stream twice", announced(None, 9) + announced(None, 9), "stream 1"),
    ("a piece of nothing", frame(PIECE, b"x", 1), "stream 1, which does not"),
    ("a piece that is empty", announced(None, 9) + frame(PIECE, b"", 1), "piece of 0 bytes"),
    ("a piece too much", announced(None, 3) + frame(PIECE, b"four", 1), "piece of 4 bytes"),
    ("a drop of nothing", frame(DROP, b"", 1), "stream 1 is dropped"),
    ("a drop with a body", announced(None, 9) + frame(DROP, b"x", 1), "kind 3"),
    ("a buffer never named", announced([b"answer", 1], 1) + frame(PIECE, b"x", 1), "not name"),
    (
        "a buffer named twice",
        announced([memory(0), memory(0)], 1) + frame(PIECE, b"x", 1),
        "buffer 0, which it has not",
    ),
    (
        "memory named as a byte string",
        announced([memory(0, 3)], 1) + frame(PIECE, b"x", 1),
        "not announced as what",
    ),
]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(("name", "said", "text"), ATTACKS, ids=[name for name, _, _ in ATTACKS])
def test_attack(name: str, said: bytes, text: str, step: int) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        read(said, step)


def test_after_an_error_nothing_more_is_read() -> None:
    reader = dialect()
    reader.feed(frame(9, b""))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="kind 9"):
            reader.next()
        reader.feed(frame(MESSAGE, b"\xc0"))


def test_what_is_announced_costs_nothing_until_it_comes() -> None:
    reader = dialect()
    reader.feed(announced([memory(0)], 2**30))
    assert reader.next() is NEED_DATA
    with pytest.raises(LimitExceeded, match="buffer_bytes is 1073741824"):
        reader.feed(announced([memory(0)], 1, stream=2))
        reader.next()


def test_limits_before_a_login_allow_no_buffers() -> None:
    reader = dialect()
    reader.limits = Limits().before_login()
    reader.feed(announced([memory(0)], 1))
    with pytest.raises(LimitExceeded, match="buffer_bytes is 0"):
        reader.next()


def test_the_page_about_frames_shows_recorded_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "frames.md").read_text()
    shown = [line.strip() for line in page.splitlines() if line.startswith("    00")]
    assert len(shown) == 3
    assert set(shown) <= {case["hex"] for case in VECTORS}


# Transfers, and what is given up of them


def half_sent(*trees: Any, ordered: bool = False) -> tuple[FrameDialect, FrameDialect]:
    """Returns two ends between which messages are on their way, a piece of each."""
    sender, reader = dialect(), dialect()
    for tree in trees:
        reader.feed(b"".join(sender.encode(tree, ordered)))
    for _ in trees:
        assert reader.next() is NEED_DATA
        reader.feed(b"".join(sender.pieces()))
    assert reader.next() is NEED_DATA
    return sender, reader


def large(number: int, command: bytes = b"answer") -> list[Any]:
    return [command, number, Expression([b"x", OutOfBand(memoryview(BLOB * 2))])]


def test_it_is_known_how_far_messages_are() -> None:
    trees = [large(n, b"message") for n in (1, 127)] + [large(n) for n in (128, 2**16, 2**40)]
    sender, reader = half_sent(*trees)
    size = len(BLOB) * 2
    for end, outgoing in ((sender, True), (reader, False)):
        rows = end.transfers()
        assert [row.label for row in rows] == [tuple(tree[:2]) for tree in trees]
        assert {(row.outgoing, row.done, row.size) for row in rows} == {(outgoing, 2**18, size)}
    assert dialect().transfers() == []


@pytest.mark.parametrize("message", [5, [], {}, [5, 6], [b"answer", -1], [b"answer", "x"], "x" * 9])
def test_a_message_of_another_form_has_a_label_too(message: Any) -> None:
    reader = dialect()
    reader.feed(announced(message, 8))
    assert reader.next() is NEED_DATA
    (row,) = reader.transfers()
    assert row.done == 0 and row.label[1] in (None, 6)


def test_a_message_is_given_up_and_others_go_on() -> None:
    sender, reader = half_sent(large(1), large(2))
    assert sender.drop((b"answer", 3)) is None
    assert sender.drop((b"message", 1)) is None
    frames = sender.drop((b"answer", 1))
    assert frames == [frame(DROP, b"", 1)]
    assert sender.drop((b"answer", 1)) is None
    reader.feed(b"".join(frames))
    assert reader.next() is NEED_DATA
    assert [row.label for row in reader.transfers()] == [(b"answer", 2)]
    found = []
    while sender.sending:
        reader.feed(b"".join(sender.pieces()))
        while (tree := reader.next()) is not NEED_DATA:
            found.append(tree[1])
    assert found == [2]
    assert sender.transfers() == reader.transfers() == []


def test_what_others_wait_behind_is_not_given_up_and_what_waits_is() -> None:
    sender, reader = half_sent(large(1), ordered=True)
    assert sender.encode(large(2)) == []
    assert sender.encode([b"answer", 3, None]) == []
    assert sender.drop((b"answer", 1)) is None
    assert sender.drop((b"answer", 2)) == []
    found = []
    while sender.sending:
        reader.feed(b"".join(sender.pieces()))
        while (tree := reader.next()) is not NEED_DATA:
            found.append(tree[1])
    assert found == [1, 3]


def test_what_fails_half_way_leaves_nothing_behind() -> None:
    blob = OutOfBand(memoryview(BLOB))
    sender = dialect()
    for wrong in (object(), 2**100_000):
        with pytest.raises(BananaError):
            sender.encode([b"answer", 1, Expression([b"x", blob, wrong])])
        assert out_of(sender, [b"answer", 2, None]) == out_of(dialect(), [b"answer", 2, None])
    with pytest.raises(UnicodeEncodeError):
        sender.call([b"message", 1, 1, "f", True, (bytes(300_000), "\ud800"), {}])
    call = [b"message", 1, 1, "f", True, ("next",), {}]
    assert sender.call(call) and sender.call(call) == dialect().call(call)


class Ends:
    """Two dialects in this process that carry what they say to and fro.

    Args:
        shared: Which of them seem to be on one machine with the other: the first, the second.
        **limits: Limits of both.
    """

    def __init__(self, shared: tuple[bool, bool] = (True, True), **limits: Any) -> None:
        self.ends = dialect(**limits), dialect(**limits)
        self.kinds: list[int] = []
        self.found: list[Any] = []
        for end, shares in zip(self.ends, shared, strict=True):
            if shares:
                end.share(lambda: None, lambda: None)

    def carry(self, source: int, said: list[Any]) -> None:
        target = self.ends[1 - source]
        data = b"".join(said)
        at = 0
        while at < len(data):
            length, kind, _ = struct.unpack_from(">IBxH", data, at)
            self.kinds.append(kind)
            at += 8 + length
        target.feed(data)
        while (tree := target.next()) is not NEED_DATA:
            self.found.append(tree)
        replies, target.replies = [*target.replies], ()
        if replies:
            self.carry(1 - source, replies)

    def send(self, tree: Any, ordered: bool = False, source: int = 0) -> list[int]:
        """Carries a message and its buffers; returns the kinds of frames that this took."""
        self.kinds.clear()
        sender = self.ends[source]
        self.carry(source, sender.encode(tree, ordered))
        while sender.sending:
            self.carry(source, sender.pieces())
        return self.kinds

    def release(self) -> None:
        gc.collect()
        for source, end in enumerate(self.ends):
            self.carry(source, end.released())

    def close(self) -> None:
        for end in self.ends:
            end.close()


def value(size: int, seed: int = 0, as_bytes: bool = False) -> Any:
    data = memoryview(bytes([seed]) * size)
    return [b"answer", seed, Expression([b"x", OutOfBand(data, as_bytes)])]


LARGE = 3 * 1024 * 1024


@pytest.fixture
def ends() -> Any:
    """Two dialects that have agreed, in both directions, on memory for what is large."""
    ends = Ends()
    for source in (0, 1):
        ends.send(value(LARGE), source=source)
    ends.found.clear()
    yield ends
    ends.close()


def test_the_first_large_buffer_goes_as_it_can_while_the_peer_is_asked() -> None:
    ends = Ends()
    kinds = ends.send(value(LARGE, 7))
    assert kinds[:4] == [ANNOUNCE, OFFER, PIECE, ACCEPT]
    assert PLACED in kinds  # what came after the answer
    assert tree_in(ends.found.pop()) == meant(value(LARGE, 7))
    ends.close()


def test_a_large_buffer_is_looked_at_in_place(ends: Ends) -> None:
    for source in (0, 1):
        assert ends.send(value(LARGE, 7), source=source) == [ANNOUNCE, PLACED]
        view = ends.found.pop()[2].tree[1]
        assert view.readonly and bytes(view) == bytes([7]) * LARGE
        del view
        ends.kinds.clear()
        ends.release()
        assert ends.kinds == [RELEASE]


def test_a_large_byte_string_is_copied(ends: Ends) -> None:
    kinds = ends.send([b"answer", 1, b"x" * LARGE])
    assert kinds == [ANNOUNCE] + [PLACED, RELEASE] * 3
    assert ends.found == [[b"answer", 1, b"x" * LARGE]]


def test_what_is_small_is_sent(ends: Ends) -> None:
    assert ends.send(value(1024 * 1024 - 1)) == [ANNOUNCE, PIECE]


def test_a_message_has_buffers_of_all_kinds(ends: Ends) -> None:
    sizes = (LARGE, 100, 0, LARGE + 1, 300_000)
    data = [memoryview(bytes([n]) * size) for n, size in enumerate(sizes)]
    tree = [b"answer", 1, Expression([OutOfBand(each, n % 2 > 0) for n, each in enumerate(data)])]
    kinds = ends.send(tree)
    assert kinds.count(PLACED) == 1 + 4 and kinds.count(PIECE) == 1 + 1
    assert [bytes(each) for each in ends.found.pop()[2].tree] == [bytes(each) for each in data]


def test_where_memory_is_full_buffers_are_sent() -> None:
    ends = Ends(shared_bytes=LARGE)
    ends.send(value(LARGE))
    kept = []
    for number, kind in enumerate([PLACED, PIECE, PIECE]):
        assert set(ends.send(value(LARGE, number))) == {ANNOUNCE, kind}
        kept.append(ends.found.pop())
    assert [tree_in(tree) for tree in kept] == [meant(value(LARGE, n)) for n in range(3)]
    kept.clear()
    ends.release()
    assert set(ends.send(value(LARGE, 9))) == {ANNOUNCE, PLACED}
    ends.close()


@pytest.mark.parametrize("shared", [(False, False), (True, False), (False, True)])
def test_both_ends_have_to_be_on_one_machine(shared: tuple[bool, bool]) -> None:
    ends = Ends(shared)
    # To another machine they are short; what is sent beside an offer always is.
    offers, most = ([OFFER, PIECE, ACCEPT], 3) if shared[0] else ([PIECE], 11)
    assert ends.send(value(LARGE, 1)) == [ANNOUNCE] + offers + [PIECE] * most
    assert ends.send(value(LARGE, 2)) == [ANNOUNCE] + [PIECE] * (3 if shared[0] else 12)
    assert [tree_in(tree) for tree in ends.found] == [meant(value(LARGE, n)) for n in (1, 2)]
    ends.close()


def test_where_memory_can_not_be_reached_everything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pbnb.wire.shared.attach", lambda *named: None)
    ends = Ends()
    assert PLACED not in ends.send(value(LARGE, 1))
    assert ends.send(value(LARGE, 2)) == [ANNOUNCE] + [PIECE] * 3
    assert [tree_in(tree) for tree in ends.found] == [meant(value(LARGE, n)) for n in (1, 2)]
    ends.close()


def test_nothing_overtakes_what_is_ordered_in_place_either(ends: Ends) -> None:
    sender = ends.ends[0]
    ends.carry(0, sender.encode(value(LARGE, 1), True))
    assert sender.encode(value(LARGE, 2), True) == sender.encode([b"decref", 3]) == []
    while sender.sending:
        ends.carry(0, sender.pieces())
    assert [tree[1] for tree in ends.found] == [1, 2, 3]


def test_short_messages_overtake_what_is_being_placed(ends: Ends) -> None:
    sender = ends.ends[0]
    ends.carry(0, sender.encode(value(LARGE, 1)))
    assert sender.pieces() == []  # a part of it was copied
    ends.carry(0, sender.encode([b"answer", 2, None]))
    while sender.sending:
        ends.carry(0, sender.pieces())
    assert [tree[1] for tree in ends.found] == [2, 1]


def test_what_was_echoed_is_released_before_its_echo_arrives(ends: Ends) -> None:
    ends.send(value(LARGE, 7))
    view = ends.found.pop()[2].tree[1]
    tree = [b"answer", 1, Expression([OutOfBand(view)])]
    del view
    said = ends.ends[1].encode(tree)
    del tree
    ends.kinds.clear()
    ends.carry(1, said)
    while ends.ends[1].sending:
        ends.carry(1, ends.ends[1].pieces())
    assert ends.kinds == [ANNOUNCE, RELEASE, PLACED]


def test_what_is_looked_at_outlives_its_connection(ends: Ends) -> None:
    ends.send(value(LARGE, 7))
    view = ends.found.pop()[2].tree[1]
    ends.close()
    assert bytes(view) == bytes([7]) * LARGE


def place(offset: int, size: int, stream: int = 1) -> bytes:
    return frame(PLACED, struct.pack(">QQ", offset, size), stream)


SHARED_ATTACKS: list[tuple[str, bytes, str]] = [
    ("a place for no stream", place(PAGE, 1), "stream 1, which has none"),
    ("a place too large", announced([memory(0)], 5) + place(PAGE, 6), "which|less left"),
    ("an empty place", announced([memory(0)], 5) + place(PAGE, 0), "0 bytes are placed"),
    (
        "a place for two buffers",
        announced([memory(0), memory(1)], 2, 2) + place(PAGE, 4),
        "less left",
    ),
    ("a place outside", announced([memory(0)], 5) + place(2**40, 5), "there are none"),
    ("the token", announced([memory(0)], 5) + place(0, 5), "there are none"),
    ("a second offer", frame(OFFER, bytes(48)), "second time"),
    ("an offer of no size", frame(OFFER, b""), "no known way"),
    ("an offer in a stream", frame(OFFER, bytes(48), 1), "belongs to no stream"),
    ("a second acceptance", frame(ACCEPT, b""), "not offered"),
    ("a release of nothing", frame(RELEASE, bytes(8)), "does not have"),
    ("a release without a number", frame(RELEASE, b""), "releases memory in 0 bytes"),
    ("a frame that is too long", struct.pack(">IBxH", 2**30, RELEASE, 0), "kind 7"),
]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("name", "said", "text"), SHARED_ATTACKS, ids=[name for name, _, _ in SHARED_ATTACKS]
)
def test_attack_on_shared_memory(ends: Ends, name: str, said: bytes, text: str, step: int) -> None:
    reader = ends.ends[1]
    with pytest.raises(RemoteProtocolError, match=text):
        for start in range(0, len(said), step or len(said)):
            reader.feed(said[start : start + (step or len(said))])
            assert reader.next() is NEED_DATA


@pytest.mark.parametrize("kind", [ACCEPT, RELEASE])
def test_an_end_that_shares_nothing_is_told_of_nothing(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match="not offered"):
        read(frame(kind, bytes(16)))
    with pytest.raises(RemoteProtocolError, match="has none"):
        read(announced([memory(0)], 5) + place(PAGE, 5))


def test_an_offer_before_a_login_is_refused() -> None:
    reader = dialect()
    reader.share(lambda: None, lambda: None)
    reader.limits = Limits().before_login()
    reader.feed(frame(OFFER, struct.pack(">IIQ32s", 1, 1, 2 * PAGE, bytes(32))))
    assert reader.next() is NEED_DATA
    assert [*reader.replies] == [frame(ACCEPT, b"")]


def test_what_is_given_up_leaves_no_part(ends: Ends) -> None:
    sender = ends.ends[0]
    ends.release()
    lending = sender._lending
    assert lending is not None and not lending.lent
    ends.carry(0, sender.encode(value(LARGE, 1)))
    ends.carry(0, sender.pieces())
    assert lending.lent
    said = sender.drop((b"answer", 1))
    assert said is not None and not lending.lent and not sender.sending
    ends.carry(0, said)
    assert ends.send(value(LARGE, 2)) == [ANNOUNCE, PLACED]
    assert [tree[1] for tree in ends.found] == [2]
