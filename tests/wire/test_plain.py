"""What counts as plain, and what a body may cost."""

from __future__ import annotations

import datetime
import enum
import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pbnb.errors import LimitExceeded, RemoteProtocolError
from pbnb.limits import Limits
from pbnb.wire.plain import Numbers, as_plain, check_body, check_tree, is_plain

encode = msgspec.msgpack.encode
LIMITS = Limits()


class Text(str):
    pass


class Colour(enum.IntEnum):
    RED = 1


SHARED = [1]
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 2**63, 1.5, "text", b"bytes", [], {}, [[], {}], {"a": [{"b": None}], 2: b""}],
)
def test_plain(value: Any) -> None:
    assert is_plain((value,), 320)
    assert as_plain((value, "beside"), 320) == (value, "beside")


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1},
        Text("text"),
        Colour.RED,
        bytearray(b"x"),
        memoryview(b"x"),
        1j,
        Decimal(1),
        datetime.date(2000, 1, 1),
        object(),
        {(1, 2): 3},
        [SHARED, SHARED],
        {"a": SHARED, "b": [SHARED]},
        CYCLE,
    ],
    ids=lambda value: type(value).__name__,
)
def test_not_plain(value: Any) -> None:
    for around in (value, [value], {"key": [value]}):
        assert not is_plain((around,), 320)
        assert as_plain((around,), 320) is None


def test_depth_is_counted_in_levels() -> None:
    nested: Any = 1
    for _ in range(5):
        nested = [nested]
    assert is_plain((nested,), 6)
    assert not is_plain((nested,), 5)


def test_sharing_that_doubles_at_each_level_is_found_at_once() -> None:
    value: Any = [1]
    for _ in range(100):
        value = [value, value]
    assert not is_plain((value,), 320)


@pytest.mark.parametrize(
    ("items", "code"),
    [([1] * 64, "i"), ([2**40] * 64, "q"), ([0.5] * 64, "d"), (list(range(-50, 50)), "i")],
)
def test_many_numbers_of_one_type_go_as_they_lie_in_memory(items: Any, code: str) -> None:
    (numbers,) = as_plain((items,), 320) or ()
    assert isinstance(numbers, Numbers) and numbers.items.typecode == code
    assert numbers.items.tolist() == items


@pytest.mark.parametrize("items", [[1] * 63, [1, 0.5] * 64, [True] * 64, [2**70] * 64, ["x"] * 64])
def test_other_lists_stay_lists(items: Any) -> None:
    assert as_plain((items,), 320) == (items,)


def body_of(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


def test_a_body_may_be_as_deep_as_the_limit_says() -> None:
    check_body(body_of(320), LIMITS)
    with pytest.raises(LimitExceeded, match="depth is 320"):
        check_body(body_of(321), LIMITS)
    check_body(encode([0x91] * 1000), LIMITS)  # numbers that look like lists


def test_a_body_may_have_as_many_items_as_the_limit_says() -> None:
    limits = Limits(message_items=1000)
    check_body(encode([[None] * 400] * 2), limits)
    check_body(encode(["x" * 100] * 900), limits)
    for value in ([None] * 1000, [[0.5] * 99] * 11, {str(n): "x" * 10 for n in range(600)}):
        with pytest.raises(LimitExceeded, match="message_items is 1000"):
            check_body(encode(value), limits)


def test_long_bodies_have_no_lists_for_keys() -> None:
    keys = {(n, n + 1): None for n in range(10)}
    check_body(encode(keys), LIMITS)
    with pytest.raises(LimitExceeded, match="lists for keys"):
        check_body(encode([keys, "x" * 20_000]), LIMITS)
    check_body(encode([{n: [n, (n,)] for n in range(5000)}, "x" * 20_000]), LIMITS)


def test_bodies_that_are_cut_short_are_left_to_who_reads_them() -> None:
    body = encode([{"key": [0.5, "text" * 50, None, b"x" * 300]}] * 100)
    limits = Limits(message_items=len(body) - 1)
    for end in range(0, len(body), 97):
        check_body(body[:end], limits)


def test_the_walk_counts_what_the_encoder_wrote() -> None:
    chance = random.Random(5)

    def value(depth: int) -> tuple[Any, int]:
        kind = chance.randrange(9 if depth else 7)
        if kind == 7:
            parts = [value(depth - 1) for _ in range(chance.randrange(90))]
            return [each for each, _ in parts], 1 + sum(count for _, count in parts)
        if kind == 8:
            pairs = {chance.random(): value(depth - 1) for _ in range(chance.randrange(20))}
            made = {key: each for key, (each, _) in pairs.items()}
            return made, 1 + sum(1 + count for _, count in pairs.values())
        simple: list[Any] = [None, chance.random(), chance.randrange(-(2**63), 2**64)]
        simple += ["x" * chance.randrange(300), b"y" * chance.randrange(300), chance.randrange(300)]
        simple += [True]
        return simple[kind], 1

    for _ in range(200):
        made, count = value(4)
        body = encode([made, "x" * 20_000])
        check_body(body, Limits(message_items=count + 2))
        if count > 1:
            with pytest.raises(LimitExceeded):
                check_body(body, Limits(message_items=count + 1))


@pytest.mark.parametrize("leaf", [None, True, "text", {}, {"a": 1}])
def test_an_expression_holds_what_banana_could_have_held(leaf: Any) -> None:
    check_tree([b"list", 1, 0.5, [b"x", memoryview(b"y")]], 320)
    with pytest.raises(RemoteProtocolError, match=f"holds a {type(leaf).__name__}"):
        check_tree([b"list", [b"list", leaf]], 320)


def test_an_expression_has_a_depth() -> None:
    tree: Any = []
    for _ in range(319):
        tree = [tree]
    check_tree(tree, 320)
    with pytest.raises(LimitExceeded, match="depth is 320"):
        check_tree([tree], 320)
