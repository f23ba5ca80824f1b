"""Failures as they travel, against those recorded from Twisted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbnb.errors import Error, InsecureJelly, NoSuchMethod, UnauthorizedLogin
from pbnb.failure import CopiedFailure, Failure
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.jelly.failures import (
    FAILURE_TAG,
    NO_TRACEBACK,
    failure_from_state,
    failure_state,
    shown_tag,
)
from pbnb.wire.banana import decode, encode
from tests.support.vectors import from_json, load


class MyError(Error):
    pass


class Unknown(Exception):
    pass


MyError.__module__ = "__main__"
Unknown.__module__ = "wiretypes"


def raised(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException as caught:
        return Failure(caught)


def recorded(session: str) -> list[Any]:
    """Returns the failures that a recorded server sent, in order."""
    messages = load(f"sessions/{session}")["connections"][0]["messages"]
    trees = [from_json(message["expr"]) for message in messages if "expr" in message]
    return [tree[2] for tree in trees if tree[0] == b"error"]


def without_count(tree: Any) -> Any:
    """Returns an expression without the number that differs from run to run."""
    tag, (word, count, *fields) = tree
    assert count[0] == [b"unicode", b"count"]
    assert type(count[1]) is int
    return [tag, [word, *fields]]


@pytest.mark.parametrize(
    ("session", "failure"),
    [
        ("exc_broken.py3-server_py3-client", raised(MyError("fall down go boom"))),
        ("errorone.py3-server_py3-client", raised(Unknown("unknown went wrong"))),
    ],
)
def test_a_failure_travels_as_twisted_s_does(session: str, failure: Failure) -> None:
    theirs = without_count(recorded(session)[0])
    ours = without_count(jelly(failure))
    # Twisted leaves this field out of the failures that its newest versions send for a raised
    # exception, and has it in others.
    field = [[b"unicode", b"unsafeTracebacks"], [b"boolean", b"false"]]
    if field not in theirs[1]:
        ours[1].remove(field)
    assert encode(ours) == encode(theirs)


def test_failures_are_counted() -> None:
    failure = raised(MyError("x"))
    assert failure_state(failure)["count"] < failure_state(failure)["count"]


@pytest.mark.parametrize(
    ("error", "name", "parent"),
    [
        (Error("x"), b"twisted.spread.pb.Error", "twisted.spread.pb.Error"),
        (NoSuchMethod("x"), b"twisted.spread.flavors.NoSuchMethod", "builtins.AttributeError"),
        (InsecureJelly("x"), b"twisted.spread.jelly.InsecureJelly", "builtins.Exception"),
        (
            UnauthorizedLogin("x"),
            b"twisted.cred.error.UnauthorizedLogin",
            "twisted.cred.error.LoginFailed",
        ),
        (ValueError("x"), b"builtins.ValueError", "builtins.object"),
    ],
)
def test_classes_travel_under_the_names_that_peers_trap(
    error: Exception, name: bytes, parent: str
) -> None:
    state = failure_state(raised(error))
    assert state["type"] == name
    assert state["parents"][0] == name.decode()
    assert parent in state["parents"]


@pytest.mark.parametrize("server", ["py2", "py3"])
@pytest.mark.parametrize(
    ("session", "kind", "value"),
    [
        ("exc_broken", "__main__.MyError", "fall down go boom"),
        ("errorone", "wiretypes.Unknown", "unknown went wrong"),
    ],
)
def test_failures_of_either_python_are_read(
    session: str, kind: str, value: str, server: str
) -> None:
    failure = unjelly(recorded(f"{session}.{server}-server_py3-client")[0])
    assert type(failure) is CopiedFailure
    assert (failure.type, failure.value, failure.traceback) == (kind, value, NO_TRACEBACK)
    assert failure.check(kind) == kind
    assert failure.check(Exception) is Exception
    assert failure.parents[0] == kind


def error_vectors(server: str) -> list[Any]:
    return recorded(f"errors.{server}-server_py3-client")


@pytest.mark.parametrize("server", ["py2", "py3"])
def test_every_recorded_error_is_read_or_refused(server: str) -> None:
    found = []
    for tree in recorded(f"errors.{server}-server_{server}-client"):
        try:
            found.append(unjelly(tree))
        except InsecureJelly as error:
            # Sent as itself, by a class that is not allowed here.
            assert "is not allowed here" in str(error) or "could not send" in str(error)
    assert len(found) >= 5
    assert all(type(failure) is CopiedFailure and failure.type for failure in found)


def test_a_state_without_parents_is_of_its_own_type() -> None:
    state = {"type": b"mod.Broken", "value": "x"}
    failure = failure_from_state(state)
    assert failure.parents == ["mod.Broken"]
    assert failure.check("mod.Broken") == "mod.Broken"
    assert failure.traceback == NO_TRACEBACK


JUNK: list[Any] = [None, 5, b"x", "x", [], [1], {}, {1: 2}, 1.5, ("x",), {"x": "y"}]


@pytest.mark.parametrize("key", ["type", "value", "parents", "traceback"])
@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_a_field_that_makes_no_sense_is_passed_over(key: str, junk: Any) -> None:
    state = {"type": "mod.E", "value": "v", "parents": ["mod.E"], "traceback": "t", key: junk}
    failure = failure_from_state(state)
    assert isinstance(failure.type, str) and failure.type
    assert isinstance(failure.value, str)
    assert isinstance(failure.traceback, str)
    assert failure.parents and all(isinstance(name, str) for name in failure.parents)
    assert repr(failure).isprintable()
    assert isinstance(failure.exception(), Exception)


@pytest.mark.parametrize("state", [None, 5, b"x", "x", [], [1], (), {1}])
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(InsecureJelly, match="a dictionary, not"):
        failure_from_state(state)


def test_an_empty_state_is_a_failure_all_the_same() -> None:
    failure = failure_from_state({})
    assert failure.type == "an exception without a type"
    assert failure.parents == [failure.type]


def test_no_more_parents_than_a_class_can_have_are_read() -> None:
    failure = failure_from_state({"type": "a.B", "parents": ["a.B", *map(str, range(10_000))]})
    assert len(failure.parents) == 100


def test_a_failure_may_be_shared_and_may_hold_shared_parts() -> None:
    parents = [b"reference", 1, [b"list", b"mod.E"]]
    tree = [
        b"list",
        [b"reference", 2, [FAILURE_TAG, [b"dictionary", [b"parents", parents]]]],
        [b"dereference", 2],
        [FAILURE_TAG, [b"dictionary", [b"parents", [b"dereference", 1]]]],
    ]
    first, again, other = unjelly(tree)
    assert first is again
    assert first.parents == other.parents == ["mod.E"]


def test_a_failure_needs_the_type_to_be_allowed() -> None:
    security = SecurityOptions()
    security.allowBasicTypes()
    with pytest.raises(InsecureJelly, match="CopyableFailure is not allowed here"):
        unjelly([FAILURE_TAG, [b"dictionary"]], security=security)


# What is sent always fits


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error",
    [
        Error("a lone surrogate \ud800"),
        Error("\ud800" * 1_000_000),
        Error("x" * 10_000_000),
        Error("€" * 1_000_000),
        Error(b"\xff", {"a": 1}),
        Silent(),
        type("E" * 100_000, (Exception,), {})("a long name"),
        type("E", (Exception,), {"__module__": "mod\udc80"})("a name with a surrogate"),
    ],
    ids=lambda error: type(error).__name__[:10],
)
@pytest.mark.parametrize("unsafe", [False, True])
def test_a_failure_can_always_be_sent(error: Exception, unsafe: bool) -> None:
    state = failure_state(raised(error), unsafe_tracebacks=unsafe)
    data = encode([FAILURE_TAG, jelly(state)])
    assert len(data) < 1024 * 1024
    failure = unjelly(decode(data))
    assert type(failure) is CopiedFailure
    assert failure.type


@given(
    st.text(max_size=20), st.text(max_size=20), st.lists(st.text(max_size=20)), st.text(max_size=20)
)
def test_any_failure_can_be_passed_on(
    kind: str, value: str, parents: list[str], traceback: str
) -> None:
    copied = CopiedFailure(type=kind, value=value, parents=parents, traceback=traceback)
    failure = unjelly(decode(encode(jelly(copied))))
    assert failure.traceback == NO_TRACEBACK


def test_what_is_passed_on_keeps_type_and_parents_but_not_the_traceback() -> None:
    theirs = recorded("exc_broken.py3-server_py3-client")[0]
    copied = unjelly(theirs)
    copied.traceback = "Traceback: /home/alice/secret.py"
    passed = unjelly(jelly(copied))
    assert (passed.type, passed.value) == (copied.type, copied.value)
    assert passed.parents == copied.parents
    assert passed.traceback == NO_TRACEBACK


def test_tracebacks_are_sent_where_that_was_asked_for() -> None:
    failure = raised(MyError("x"))
    assert failure_state(failure)["traceback"] == NO_TRACEBACK
    state = failure_state(failure, unsafe_tracebacks=True)
    assert state["unsafeTracebacks"] is True
    assert "test_failures.py" in state["traceback"]
    assert "MyError: x" in state["traceback"]


def test_nothing_of_this_process_travels_by_itself() -> None:
    assert "test_failures.py" not in repr(jelly(raised(MyError("x"))))


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        (b"mod.Class", "mod.Class"),
        (b"\x1b[2J\n", "\ufffd[2J\ufffd"),
        ("\u202e", "\ufffd"),
        (b"\xff", "\ufffd"),
        (5, "5"),
        (b"x" * 1_000_000, "x" * 200 + "…"),
        ("é".encode() * 1_000_000, "é" * 200 + "…"),
    ],
)
def test_a_word_of_the_peer_s_is_safe_to_show(tag: object, shown: str) -> None:
    assert shown_tag(tag) == shown
