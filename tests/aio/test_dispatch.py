"""Running the methods that a peer calls."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio.deferred import Deferred
from tests.support.serving import served


class Expected(pb.Error):
    pass


class Unexpected(Exception):
    pass


class Methods(pb.Root):
    """The same result, and the same errors, in every form a method can take."""

    def remote_plain(self, value: Any) -> Any:
        return value

    async def remote_at_once(self, value: Any) -> Any:
        return value

    async def remote_slow(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def remote_deferred(self, value: Any) -> Any:
        deferred: Deferred[Any] = Deferred()
        asyncio.get_running_loop().call_soon(deferred.callback, value)
        return deferred

    def remote_fired(self, value: Any) -> Any:
        deferred: Deferred[Any] = Deferred()
        deferred.callback(value)
        return deferred

    def remote_future(self, value: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result(value)
        return future

    def remote_fail(self, kind: str) -> None:
        raise {"expected": Expected, "unexpected": Unexpected, "exit": SystemExit}[kind]("so it is")

    async def remote_fail_async(self, kind: str) -> None:
        await asyncio.sleep(0)
        raise {"expected": Expected, "unexpected": Unexpected, "exit": RuntimeError}[kind](
            "so it is"
        )

    def remote_fail_deferred(self, kind: str) -> Any:
        deferred: Deferred[Any] = Deferred()
        deferred.errback({"expected": Expected, "unexpected": Unexpected}[kind]("so it is"))
        return deferred

    def remote_failure(self) -> Any:
        return pb.Failure(Expected("returned"))

    async def remote_cancelled(self) -> None:
        raise asyncio.CancelledError

    async def remote_with_timeout(self) -> str:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return "in time"

    def remote_one(self, only: Any) -> None:
        return None

    def remote_unsendable(self) -> Any:
        return object()

    async def remote_unsendable_slow(self) -> Any:
        await asyncio.sleep(0)
        return object()

    def remote_unsendable_deferred(self) -> Any:
        return self.remote_deferred([object()])

    def remote_huge(self) -> Any:
        return 2**500

    def remote_huge_deferred(self) -> Any:
        return self.remote_deferred(2**500)


FORMS = ["plain", "at_once", "slow", "deferred", "fired", "future"]


def call(name: str, *args: Any) -> Any:
    async def main() -> Any:
        async with served(Methods()) as (_, ref):
            try:
                return await ref.callRemote(name, *args)
            finally:
                assert await ref.callRemote("plain", 1) == 1

    return asyncio.run(main())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [None, 5, "text", [1, (2,)], {"k": b"v"}])
def test_a_method_may_have_any_form(form: str, value: Any) -> None:
    assert call(form, value) == value


def test_an_async_method_runs_in_a_task() -> None:
    assert call("with_timeout") == "in time"


@pytest.mark.parametrize("form", ["fail", "fail_async", "fail_deferred"])
def test_an_expected_error_is_not_logged(form: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Expected, match="so it is"):
        call(form, "expected")
    assert caplog.records == []


@pytest.mark.parametrize("form", ["fail", "fail_async", "fail_deferred"])
def test_an_unexpected_error_is_logged_where_it_was_raised(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "pbnb"), pytest.raises(pb.RemoteError) as caught:
        call(form, "unexpected")
    assert caught.value.remoteType == f"{__name__}.Unexpected"
    assert caught.value.remoteTraceback == "Traceback unavailable\n"
    (record,) = caplog.records
    assert record.getMessage().startswith("Peer will receive following PB traceback")
    assert "Unexpected: so it is" in record.getMessage()


def test_a_method_that_exits_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(pb.RemoteError) as caught:
        call("fail", "exit")
    assert caught.value.remoteType == "builtins.SystemExit"
    assert not isinstance(caught.value, SystemExit)


def test_a_method_that_is_cancelled_fails_its_call(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(pb.RemoteError) as caught:
        call("cancelled")
    assert caught.value.remoteType == "asyncio.exceptions.CancelledError"


def test_a_failure_that_is_returned_fails_the_call() -> None:
    with pytest.raises(Expected, match="returned"):
        call("failure")


def test_wrong_arguments_are_a_type_error_at_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TypeError, match="remote_one"):
        call("one", 1, 2)
    assert "Peer will receive" in caplog.text


def test_wrong_arguments_are_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TypeError) as caught:
        call("one", "the password", 2)
    assert "the password" not in str(caught.value)
    assert "remote_one" in caplog.text and "the password" not in caplog.text


def test_a_missing_method_is_one_line_at_the_server(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AttributeError, match="remote_nothing"):
        call("nothing")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "Traceback" not in record.getMessage()


@pytest.mark.parametrize("form", ["unsendable", "unsendable_slow", "unsendable_deferred"])
def test_a_result_that_cannot_be_sent_is_said_at_both_ends(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(pb.InsecureJelly, match="builtins.object"):
        call(form)
    assert "builtins.object" in caplog.text


@pytest.mark.parametrize("form", ["huge", "huge_deferred"])
def test_a_result_that_is_too_large_is_said_at_both_ends(
    form: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(pb.BananaError, match="501 bits"):
        call(form)
    assert "501 bits" in caplog.text


def test_tracebacks_travel_where_they_are_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with served(Methods(), unsafe_tracebacks=True) as (_, ref):
            with pytest.raises(pb.RemoteError) as caught:
                await ref.callRemote("fail", "unexpected")
            assert "remote_fail" in caught.value.remoteTraceback

    asyncio.run(main())


def test_an_error_that_is_relayed_keeps_its_type() -> None:
    class Relay(pb.Root):
        async def remote_relay(self, ref: Any) -> Any:
            return await ref.callRemote("boom")

    class Mine(pb.Referenceable):
        def remote_boom(self) -> None:
            raise Expected("from the\tcaller itself")

    async def main() -> None:
        async with served(Relay()) as (_, ref):
            with pytest.raises(Expected) as caught:
                await ref.callRemote("relay", Mine())
            assert caught.value.args == ("from the\tcaller itself",)  # as it was, not as shown

    asyncio.run(main())
