"""The pauses between attempts: bounded, growing, different for each client."""

from __future__ import annotations

import random

import pytest

from pbnb import Backoff


def test_the_bound_doubles_up_to_the_longest() -> None:
    backoff = Backoff(shortest=0.1, longest=10.0)
    bounds = [backoff.pause(failures, 1.0) for failures in range(9)]
    assert bounds == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert backoff.pause(100_000, 1.0) == 10.0


def test_a_pause_is_anywhere_below_its_bound() -> None:
    backoff, chance = Backoff(), random.Random(1)
    pauses = [backoff.pause(5, chance.random()) for _ in range(10_000)]
    assert min(pauses) < 0.01 and 3.15 < max(pauses) <= 3.2
    assert 1.5 < sum(pauses) / len(pauses) < 1.7
    assert backoff.pause(5, 0.0) == 0.0


def test_a_server_on_this_machine_is_asked_at_once_and_more_often() -> None:
    backoff = Backoff()
    assert backoff.pause(0, 1.0, near=True) == 0.0
    assert [backoff.pause(n, 1.0, near=True) for n in (1, 2, 5, 50)] == [0.1, 0.2, 1.0, 1.0]


@pytest.mark.parametrize(
    "pauses", [{"shortest": 0}, {"shortest": -1}, {"shortest": 11}, {"longest": 0.01, "nearby": 9}]
)
def test_pauses_that_make_no_sense_are_refused(pauses: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is a pause above 0 s"):
        Backoff(**pauses)
