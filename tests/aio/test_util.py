"""Local objects under the interface of references."""

from __future__ import annotations

import abc
import asyncio
import logging
from typing import Any, Protocol

import pytest

from pbnb.aio.deferred import Deferred
from pbnb.aio.util import LocalAsRemote, LocalAsyncForwarder, LocalMethod
from pbnb.failure import Failure


def outcome(deferred: Any) -> Any:
    """Returns what a Deferred has come to by now, a value or an exception."""
    found: list[Any] = []
    assert isinstance(deferred, Deferred)
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.value))
    assert len(found) == 1
    return found[0]


class Clock(LocalAsRemote):
    def sync_now(self) -> int:
        return 12

    def sync_both(self) -> str:
        return "sync"

    def async_both(self) -> str:
        return "async"

    def async_add(self, a: int, *, b: int) -> int:
        return a + b

    def async_break(self) -> None:
        raise ValueError("torn spring")

    async def async_later(self) -> str:
        await asyncio.sleep(0)
        return "later"

    def remote_secret(self) -> str:
        raise AssertionError("not one of the methods")

    sync_number = 7


def test_a_sync_method_returns_at_once() -> None:
    assert Clock().callRemote("now") == 12
    assert Clock().callRemote(b"now") == 12
    assert Clock().callRemote("both") == "sync"


def test_an_async_method_returns_a_deferred() -> None:
    assert outcome(Clock().callRemote("add", 1, b=2)) == 3


def test_an_async_method_may_be_a_coroutine() -> None:
    async def main() -> Any:
        return await Clock().callRemote("later")

    assert asyncio.run(main()) == "later"


@pytest.mark.parametrize("name", ["secret", "nosuch", "number"])
def test_a_method_that_is_missing_fails_the_deferred(name: str) -> None:
    error = outcome(Clock().callRemote(name))
    assert isinstance(error, AttributeError)
    assert str(error) == f"Clock has neither sync_{name} nor async_{name} to call"


def test_a_failure_is_logged_and_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "pbnb"):
        error = outcome(Clock().callRemote("break"))
    assert isinstance(error, ValueError)
    assert "Clock.break failed" in caplog.text
    assert "torn spring" in caplog.text


def test_failures_are_not_logged_where_the_class_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Quiet(Clock):
        reportAllTracebacks = False

    assert isinstance(outcome(Quiet().callRemote("break")), ValueError)
    assert caplog.text == ""


def test_a_method_can_be_taken_along() -> None:
    clock = Clock()
    method = clock.remoteMethod("add")
    assert isinstance(method, LocalMethod)
    assert outcome(method(20, b=3)) == 23
    assert (method.local, method.name) == (clock, "add")
    assert "'add' of <" in repr(method)


# Forwarders


class Speaking(Protocol):
    def say(self, text: str) -> str: ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    def say(self, text: str) -> str: ...

    @staticmethod
    def helper() -> int:
        return 1


class Zope:
    """An interface in the style of zope.interface."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def providedBy(self, obj: object) -> bool:
        return all(hasattr(obj, name) for name in self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __repr__(self) -> str:
        return "IZope"


class Parrot:
    def say(self, text: str) -> str:
        return f"{text}!"

    def fly(self) -> None:
        raise AssertionError("not in the interface")

    def helper(self) -> int:
        return 2


class Concrete(Abstract):
    def say(self, text: str) -> str:
        return f"{text}!"


INTERFACES = [Speaking, Abstract, Zope("say"), Concrete]


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_method_of_the_interface_is_forwarded(interface: Any) -> None:
    assert outcome(LocalAsyncForwarder(Parrot(), interface).callRemote("say", "hi")) == "hi!"
    assert outcome(LocalAsyncForwarder(Parrot(), interface).callRemote(b"say", text="a")) == "a!"


@pytest.mark.parametrize("interface", [Speaking, Concrete, Zope("say")])
@pytest.mark.parametrize("name", ["fly", "_private", "__init__", "nosuch", "register"])
def test_other_methods_are_not_forwarded(interface: Any, name: str) -> None:
    assert outcome(LocalAsyncForwarder(Parrot(), interface).callRemote(name)) is None
    strict = LocalAsyncForwarder(Parrot(), interface, failWhenNotImplemented=True)
    error = outcome(strict.callRemote(name))
    assert isinstance(error, NotImplementedError)
    assert repr(name) in str(error)


def test_a_private_name_is_not_forwarded_even_if_the_interface_has_it() -> None:
    class Sly(Parrot):
        def _private(self) -> None:
            raise AssertionError("private")

    forwarder = LocalAsyncForwarder(Sly(), Zope("_private"))
    assert outcome(forwarder.callRemote("_private")) is None


def test_a_forwarded_method_that_raises_fails_the_deferred() -> None:
    class Sick(Parrot):
        def say(self, text: str) -> str:
            raise ValueError("hoarse")

    result = LocalAsyncForwarder(Sick(), Speaking).callRemote("say", "hi")
    assert isinstance(outcome(result), ValueError)


@pytest.mark.parametrize(
    ("interface", "reason"),
    [
        (Speaking, "object does not provide Speaking: it has no method say"),
        (Abstract, "object does not provide Abstract: it has no method say, helper"),
        (Zope("say"), "object does not provide IZope: it does not say so"),
        ("Speaking", "object does not provide 'Speaking': 'Speaking' is no interface"),
    ],
)
def test_an_object_without_the_methods_is_refused(interface: Any, reason: str) -> None:
    with pytest.raises(TypeError) as caught:
        LocalAsyncForwarder(object(), interface)
    assert str(caught.value) == reason


def test_failures_are_failures() -> None:
    failures: list[Failure] = []
    Clock().callRemote("nosuch").addErrback(failures.append)
    assert failures[0].check(AttributeError) is AttributeError
