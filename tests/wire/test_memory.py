"""Where large byte strings and buffers are received."""

from __future__ import annotations

import gc
import sys

import pytest

from pbnb.wire.memory import Memory

LARGE = 4 * 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, 100_000, LARGE])
@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_what_is_received_is_what_comes_out(
    size: int, as_bytes: bool, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbnb.wire.memory._IN_PLACE", in_place)
    memory = Memory(size, as_bytes)
    memory.view[: size // 2] = b"x" * (size // 2)
    memory.view[size // 2 :] = b"y" * (size - size // 2)
    result = memory.result()
    assert type(result) is (bytes if as_bytes else memoryview)
    assert bytes(result) == b"x" * (size // 2) + b"y" * (size - size // 2)
    if isinstance(result, memoryview):
        assert result.readonly


def test_the_peer_s_memory_takes_its_place_where_nothing_was_received() -> None:
    memory = Memory(3, False)
    assert memory.may_be(3) and not memory.may_be(4) and not Memory(3, True).may_be(3)
    memory.be(memoryview(b"abc"))
    assert memory.result() == b"abc"
    begun = Memory(3, False)
    begun.view[0] = 1
    assert not begun.may_be(3)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("size", [300_000, LARGE])
def test_memory_that_is_given_up_goes_without_a_word(
    size: int, as_bytes: bool, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a connection that ends in the middle of a message, whose loop is closed."""
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    memory = Memory(size, as_bytes)
    cycle: list[object] = [memory.view[:10], memory] if first else [memory, memory.view[:10]]
    cycle.append(cycle)
    del memory, cycle
    gc.collect()
    assert said == []
