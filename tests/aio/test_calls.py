from __future__ import annotations

from pbnb.aio.calls import CallLog, reason
from pbnb.failure import CopiedFailure, Failure
from pbnb.flavors import Referenceable
from pbnb.protocol.events import CallReceived


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def call(name: str = "work", wants_answer: bool = True) -> CallReceived:
    return CallReceived(1, Referenceable(), name, (), {}, wants_answer, None)


def test_unwatched_only_errors_are_recorded() -> None:
    log = CallLog(Clock())
    made = call()
    log.began(made)
    log.replied(made)
    log.replied(made, "ValueError: no")
    (row,) = log.rows
    assert (row.number, row.incoming, row.method, row.target) == (1, True, "work", "Referenceable")
    assert (row.seconds, row.error) == (None, "ValueError: no")


def test_watched_calls_are_recorded_with_their_durations() -> None:
    clock = Clock()
    log = CallLog(clock)
    log.watchers += 1
    made = call()
    log.began(made)
    clock.now = 2.5
    log.replied(made)
    (row,) = log.rows
    assert (row.time, row.seconds, row.error) == (2.5, 2.5, None)
    log.unwatch()
    log.replied(call())
    assert list(log.rows) == [row]


def test_a_call_that_wants_no_answer_is_recorded_at_once() -> None:
    log = CallLog(Clock())
    log.watchers += 1
    log.began(call(wants_answer=False))
    assert [row.seconds for row in log.rows] == [None]


def test_the_record_is_bounded_and_numbered_on() -> None:
    log = CallLog(Clock())
    for _ in range(10_000):
        log.add(True, "", "", None, "flood")
    assert len(log.rows) == 200
    assert log.rows[-1].number == 10_000


def test_words_of_a_peer_are_escaped_and_cut() -> None:
    log = CallLog(Clock())
    log.add(True, "\x1b[2J" + "m" * 10_000_000, "", None, "\u202e" + "r" * 10_000_000)
    (row,) = log.rows
    assert row.method.startswith("\\x1b[2Jm") and len(row.method) == 80
    assert row.error is not None and row.error.startswith("\\u202er") and len(row.error) == 300


def test_the_reason_of_a_failure_is_short() -> None:
    long = CopiedFailure(type="a.b.Wrong", value="x" * 10_000_000)
    assert reason(long) == "Wrong: " + "x" * 300
    assert reason(Failure(ValueError("no"))) == "ValueError: no"
