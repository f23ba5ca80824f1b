"""One call that waits, goes out and goes out again, without any connection."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.kept_calls import KeptCall
from pbnb.failure import CopiedFailure, Failure

of_caller: ContextVar[str] = ContextVar("of_caller", default="nobody")


class Clock:
    """Keeps calls, and tells a time of its own."""

    peer = "lab:1"

    def __init__(self) -> None:
        self.now = 100.0
        self.held: list[KeptCall] = []
        self.sent: list[tuple[KeptCall, float, str]] = []
        self.answers: list[pb.Deferred[Any]] = []
        self.timers: list[Any] = []
        self.raises: Exception | None = None

    def state(self) -> str:
        return "it is away"

    def send(self, call: KeptCall, seconds: float) -> pb.Deferred[Any]:
        if self.raises is not None:
            raise self.raises
        self.sent.append((call, seconds, of_caller.get()))
        self.answers.append(pb.Deferred())
        return self.answers[-1]

    def hold(self, call: KeptCall) -> None:
        self.held.append(call)
        call.wait()

    def forget(self, call: KeptCall) -> None:
        if call in self.held:
            self.held.remove(call)

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Any:
        timer = asyncio.TimerHandle(self.now + seconds, callback, (), asyncio.new_event_loop())
        timer._loop.close()  # type: ignore[attr-defined]
        self.timers.append((self.now + seconds, callback, timer))
        return timer

    def pass_to(self, now: float) -> None:
        self.now = now
        for when, callback, timer in list(self.timers):
            if when <= now and not timer.cancelled():
                callback()


def call(clock: Clock, **options: Any) -> KeptCall:
    given = {"deadline": None, "repeats": 0, "seconds": math.inf, "patience": 60.0, **options}
    return KeptCall(clock, "read", (1,), {"b": 2}, **given)


def test_the_answer_is_that_of_what_was_sent() -> None:
    clock = Clock()
    token = of_caller.set("cell 7")
    one = call(clock)
    of_caller.reset(token)
    one.go()
    assert clock.sent == [(one, math.inf, "cell 7")]
    clock.answers[0].callback("answer")
    assert one.waiter.result() == "answer"


def test_time_spent_waiting_is_time_gone() -> None:
    clock = Clock()
    one = call(clock, deadline=10.0)
    clock.hold(one)
    clock.pass_to(104.0)
    one.go()
    assert clock.sent[0][1] == 6.0
    clock.pass_to(200.0)
    assert not one.waiter.called


@pytest.mark.parametrize(
    ("options", "end"), [({"deadline": 5.0}, 5.0), ({"seconds": 7.0}, 7.0), ({}, 60.0)]
)
def test_a_wait_ends_with_its_deadline_or_with_all_patience(
    options: dict[str, float], end: float
) -> None:
    clock = Clock()
    one = call(clock, **options)
    clock.hold(one)
    clock.pass_to(100.0 + end - 0.01)
    assert not one.waiter.called
    clock.pass_to(100.0 + end)
    assert not clock.held
    error = one.waiter.exception()
    assert isinstance(error, pb.DeadlineExceeded)
    assert str(error) == (
        f"read() was not sent to lab:1, it waited for a connection for {end:.3g} s: it is away"
    )


def test_a_call_whose_time_is_up_is_not_sent() -> None:
    clock = Clock()
    one = call(clock, deadline=5.0)
    clock.now = 105.0
    one.go()
    assert not clock.sent and isinstance(one.waiter.exception(), pb.DeadlineExceeded)


@pytest.mark.parametrize("error", [pb.PBConnectionLost("gone"), pb.DeadReferenceError("gone")])
def test_it_goes_out_again_as_often_as_it_may(error: Exception) -> None:
    clock = Clock()
    one = call(clock, repeats=2)
    one.go()
    for times in (1, 2):
        clock.answers[-1].errback(error)
        assert clock.held == [one] and not one.waiter.called
        clock.forget(one)
        one.go()
        assert len(clock.sent) == times + 1
    clock.answers[-1].errback(error)
    assert not clock.held and one.waiter.exception() is error


def test_other_errors_are_answers() -> None:
    of_the_camera = CopiedFailure(type="twisted.spread.pb.PBConnectionLost", value="lost")
    assert of_the_camera.check(pb.PBConnectionLost)
    for failure in (Failure(pb.Error("no")), of_the_camera):
        clock = Clock()
        one = call(clock, repeats=5)
        one.go()
        clock.answers[0].errback(failure)
        assert not clock.held and one.waiter.exception() is not None


def test_one_that_was_not_sent_is_kept_on_and_one_that_cannot_be_sent_fails() -> None:
    clock = Clock()
    one = call(clock)
    clock.raises = pb.DeadReferenceError("just ended")
    one.go()
    assert clock.held == [one] and not one.waiter.called
    clock.raises = pb.InsecureJelly("not this")
    one.go()
    assert one.waiter.exception() is clock.raises


def test_a_cancelled_call_is_kept_no_longer_and_cancels_what_was_sent() -> None:
    clock = Clock()
    one = call(clock)
    taken_back: list[int] = []
    clock.hold(one)
    one.signs.append(lambda: taken_back.append(1))
    one.waiter.cancel()
    assert not clock.held and taken_back == [1] and one.waiter.cancelled()
    one.go()
    assert not clock.sent
    two = call(clock)
    two.go()
    two.waiter.cancel()
    assert clock.answers[0].called and two.waiter.cancelled()


def test_an_answer_after_the_end_goes_nowhere() -> None:
    clock = Clock()
    one = call(clock)
    one.go()
    one.fail(pb.PBConnectionLost("closed here"))
    clock.answers[0].callback("late")
    assert isinstance(one.waiter.exception(), pb.PBConnectionLost)
