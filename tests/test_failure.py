"""Failures from here and from peers: matching, raising, showing."""

from __future__ import annotations

import abc
import asyncio
import builtins
import copy
import gc
import io
import pickle
import traceback
import unicodedata
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from pbnb import failure as module
from pbnb.errors import (
    Error,
    LocalProtocolError,
    NoSuchMethod,
    UnauthorizedLogin,
    local_class,
    wire_name,
)
from pbnb.failure import CopiedFailure, Failure, RemoteError, shown

BUILTIN_EXCEPTIONS = [
    cls
    for cls in vars(builtins).values()
    if isinstance(cls, type) and issubclass(cls, BaseException)
]
# What await must never raise for a peer, or cannot make without more than a message.
NEVER_MADE = (
    StopIteration,
    StopAsyncIteration,
    BaseExceptionGroup,
    UnicodeDecodeError,
    UnicodeEncodeError,
    UnicodeTranslateError,
)


class Expected(Error):
    """An error of an interface whose constructor a peer must not run."""

    def __init__(self, code: int, reason: str) -> None:
        raise AssertionError("a peer's failure ran the constructor")


class Worse(Expected):
    pass


def caught(exception: BaseException) -> Failure:
    try:
        raise exception
    except BaseException:
        return Failure()


def copied(cls: type, value: str = "message", traceback: str = "Traceback unavailable\n") -> Any:
    """Returns what a peer that has the same class sends for it."""
    return CopiedFailure(
        type=wire_name(cls),
        value=value,
        traceback=traceback,
        parents=[wire_name(base) for base in cls.__mro__],
    )


def named(*names: str, value: str = "message") -> CopiedFailure:
    return CopiedFailure(type=names[0], value=value, parents=names)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


# Failures from here


def test_a_failure_holds_the_exception_that_it_is_given() -> None:
    error = KeyError("k")
    failure = Failure(error)
    assert failure.value is error
    assert failure.type is KeyError
    assert failure.type_name == "builtins.KeyError"


def test_without_an_argument_it_holds_the_exception_being_handled() -> None:
    error = ValueError("v")
    failure = caught(error)
    assert failure.value is error
    assert failure.tb is not None


def test_without_any_exception_it_says_so() -> None:
    with pytest.raises(LocalProtocolError, match="none is being handled"):
        Failure()


@pytest.mark.parametrize("value", ["text", ValueError, 5])
def test_what_is_no_exception_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="holds an exception"):
        Failure(value)


def test_parents_are_the_names_that_travel() -> None:
    assert Failure(NoSuchMethod()).parents == [
        "twisted.spread.flavors.NoSuchMethod",
        "builtins.AttributeError",
        "builtins.Exception",
        "builtins.BaseException",
        "builtins.object",
    ]


def test_check_returns_what_matched_first() -> None:
    failure = Failure(KeyError("k"))
    assert failure.check(ValueError, LookupError, KeyError) is LookupError
    assert failure.check(ValueError, "builtins.KeyError") == "builtins.KeyError"
    assert failure.check("exceptions.LookupError") == "exceptions.LookupError"
    assert failure.check(ValueError, "builtins.ValueError", "KeyError") is None
    assert failure.check() is None


def test_trap_returns_the_match_or_raises_the_exception() -> None:
    failure = caught(KeyError("k"))
    assert failure.trap(KeyError) is KeyError
    with pytest.raises(KeyError) as raised:
        failure.trap(ValueError)
    assert raised.value is failure.value


def test_raising_again_and_again_does_not_grow_the_traceback() -> None:
    failure = caught(KeyError("k"))

    def depth() -> int:
        with pytest.raises(KeyError) as raised:
            failure.raiseException()
        return len(traceback.extract_tb(raised.value.__traceback__))

    assert depth() == depth() == depth()


def test_texts_of_a_failure() -> None:
    failure = caught(ValueError("two\nlines"))
    assert failure.getErrorMessage() == "two\nlines"
    assert failure.getTraceback().startswith("Traceback (most recent call last):\n")
    assert failure.getTraceback().endswith("ValueError: two\nlines\n")
    assert "raise exception" in failure.getTraceback()
    brief = failure.getBriefTraceback()
    assert brief.startswith("Traceback: builtins.ValueError: two\nlines\n")
    assert brief.endswith(":caught\n")
    assert "raise exception" not in brief
    assert repr(failure) == str(failure) == r"<Failure builtins.ValueError: two\nlines>"


def test_a_message_that_cannot_be_had_is_described() -> None:
    failure = caught(Unprintable())
    assert failure.getErrorMessage() == "<Unprintable whose str() failed>"
    assert "Unprintable" in failure.getTraceback()
    assert "Unprintable" in failure.getBriefTraceback()
    assert "Unprintable" in repr(failure)


def test_the_repr_is_one_bounded_line() -> None:
    for failure in (Failure(ValueError("x\n" * 10_000)), named("a\n" * 10_000, value="v" * 10_000)):
        assert len(repr(failure)) < 300
        assert "\n" not in repr(failure)


@pytest.mark.parametrize("brief", [False, True])
def test_printing(brief: bool, capsys: pytest.CaptureFixture[str]) -> None:
    failure = caught(ValueError("v"))
    file = io.StringIO()
    text = failure.getBriefTraceback() if brief else failure.getTraceback()
    show = failure.printBriefTraceback if brief else failure.printTraceback
    show(file)
    show()
    assert file.getvalue() == text
    assert capsys.readouterr() == ("", text)


def test_the_detailed_traceback_shows_local_variables() -> None:
    file = io.StringIO()
    caught(ValueError("v")).printDetailedTraceback(file)
    assert "exception = ValueError('v')" in file.getvalue()


# Failures of peers


def test_a_copied_failure_keeps_what_was_sent() -> None:
    failure = CopiedFailure(
        type="a.B", value="v\x1b", traceback="Traceback\x1b", parents=["a.B", "a.A"]
    )
    assert (failure.type, failure.value, failure.traceback) == ("a.B", "v\x1b", "Traceback\x1b")
    assert failure.type_name == "a.B"
    assert failure.parents == ["a.B", "a.A"]


def test_names_decide_whether_a_copied_failure_matches() -> None:
    failure = named("a.Special", "a.General", "builtins.Exception")
    assert failure.check("a.General", "a.Special") == "a.General"
    assert failure.check(ValueError, "General", "b.General") is None
    assert failure.check(ValueError, Exception) is Exception
    assert failure.check(KeyError, RemoteError) is RemoteError


def test_a_class_of_this_process_matches_the_peers_class_of_its_name() -> None:
    assert copied(Worse).trap(Expected) is Expected
    assert copied(Expected).check(Worse) is None
    assert named("twisted.spread.pb.Error").check(Error) is Error


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (KeyError, "exceptions.KeyError"),
        (KeyError, "builtins.KeyError"),
        (OSError, "exceptions.IOError"),
        (KeyboardInterrupt, "exceptions.KeyboardInterrupt"),
    ],
)
def test_built_in_classes_match_the_names_of_both_pythons(
    cls: type[BaseException], name: str
) -> None:
    assert named(name).check(cls) is cls
    assert named("a.B", name).check(cls) is cls


def test_a_name_matches_its_form_in_the_other_python() -> None:
    assert named("exceptions.KeyError").check("builtins.KeyError") == "builtins.KeyError"


def test_a_type_without_parents_still_matches() -> None:
    failure = CopiedFailure(type="builtins.KeyError", value="k")
    assert failure.check(KeyError) is KeyError
    assert isinstance(failure.exception(), KeyError)


def test_a_copied_failure_that_is_not_trapped_raises_a_remote_error() -> None:
    failure = named("a.B")
    with pytest.raises(RemoteError, match="message") as raised:
        failure.trap(ValueError)
    assert Failure.of(raised.value) is failure


def test_texts_of_a_copied_failure() -> None:
    failure = CopiedFailure(type="a.B", value="why")
    assert failure.getErrorMessage() == "why"
    assert failure.getTraceback() == "Traceback from remote host -- a.B: why\n"
    assert failure.getBriefTraceback() == failure.getTraceback()
    assert repr(failure) == str(failure) == "<CopiedFailure a.B: why>"


def test_a_traceback_that_the_peer_shows_is_shown() -> None:
    failure = copied(KeyError, "why", traceback="Traceback (most):\n  File 'x'\n")
    file = io.StringIO()
    failure.printTraceback(file)
    failure.printDetailedTraceback(file)
    text = "Traceback from remote host -- builtins.KeyError: why\nTraceback (most):\n  File 'x'\n"
    assert file.getvalue() == text * 2


# What await raises


@pytest.mark.parametrize("cls", BUILTIN_EXCEPTIONS, ids=lambda cls: cls.__name__)
def test_a_built_in_exception_is_raised_as_itself_where_that_is_safe(
    cls: type[BaseException],
) -> None:
    failure = copied(cls)
    error = failure.exception()
    assert isinstance(error, RemoteError)
    safe = issubclass(cls, Exception) and not issubclass(cls, NEVER_MADE)
    assert isinstance(error, cls) == (safe or cls is BaseException)
    assert not isinstance(error, NEVER_MADE)
    # The nearest base that is safe takes its place.
    for base in cls.__mro__:
        if issubclass(base, Exception) and not issubclass(base, NEVER_MADE):
            assert isinstance(error, base)
    assert str(error) == "message"
    assert error.args == ("message",)
    assert error.remoteType == f"builtins.{cls.__name__}"
    assert type(error).__name__ == cls.__name__
    assert repr(error) == f"{cls.__name__}('message')"
    assert traceback.format_exception_only(error)[-1] == f"{cls.__name__}: message\n"
    assert Failure.of(error) is failure


def test_a_class_defined_here_is_raised_without_running_its_code() -> None:
    ran: list[str] = []

    class Careful(Error):
        def __new__(cls, *args: object) -> Careful:
            ran.append("__new__")
            return super().__new__(cls)

        def __init_subclass__(cls) -> None:
            ran.append("__init_subclass__")

        def __setattr__(self, name: str, value: object) -> None:
            ran.append("__setattr__")

        def __str__(self) -> str:
            ran.append("__str__")
            return ""

    error = copied(Careful, "why").exception()
    assert isinstance(error, Careful)
    assert (str(error), error.remoteType) == ("why", f"{__name__}.Careful")
    assert error.failure is not None
    assert ran == []


def test_several_bases_are_all_kept() -> None:
    class Both(Error, KeyError):
        pass

    error = copied(Both).exception()
    assert isinstance(error, Both)
    unknown = named("x.Both", "twisted.spread.pb.Error", "builtins.KeyError", "builtins.OSError")
    assert isinstance(unknown.exception(), Error)
    assert isinstance(unknown.exception(), KeyError)


def test_bases_that_exclude_each_other_leave_the_first() -> None:
    error = named(
        "x.Y", "builtins.OSError", "builtins.SyntaxError", "builtins.KeyError"
    ).exception()
    assert isinstance(error, OSError)
    assert not isinstance(error, SyntaxError)
    assert isinstance(error, KeyError)


def test_bases_in_an_impossible_order_do_no_harm() -> None:
    error = named("x.Y", "builtins.LookupError", "builtins.KeyError", "builtins.LookupError")
    assert isinstance(error.exception(), LookupError)


def test_a_class_that_is_an_os_error_keeps_the_message() -> None:
    class Disk(Error, OSError):
        def __init__(self) -> None:
            raise AssertionError("a peer's failure ran the constructor")

    error = copied(Disk, "full").exception()
    assert isinstance(error, Disk)
    assert (str(error), error.args) == ("full", ("full",))


@pytest.mark.parametrize("steering", [StopIteration, KeyboardInterrupt, asyncio.CancelledError])
def test_a_class_that_would_steer_this_process_is_not_raised(
    steering: type[BaseException],
) -> None:
    cls = type("Sly", (Error, steering), {"__module__": "__main__"})
    assert local_class("__main__.Sly") is cls
    error = copied(cls).exception()
    assert isinstance(error, Error)
    assert not isinstance(error, steering)


def test_a_class_with_a_metaclass_is_represented_by_its_base() -> None:
    class Abstract(Error, metaclass=abc.ABCMeta):
        pass

    error = copied(Abstract).exception()
    assert isinstance(error, Error)
    assert not isinstance(error, Abstract)


def test_a_raised_failure_does_not_take_the_place_of_the_class_it_stands_for() -> None:
    copied(Expected).exception()
    assert local_class(f"{__name__}.Expected") is Expected


def test_a_class_that_is_defined_again_is_the_one_that_is_raised() -> None:
    def define() -> type[Error]:
        return type("Cell", (Error,), {"__module__": "__main__"})

    older = define()
    assert isinstance(named("__main__.Cell").exception(), older)
    newer = define()
    assert isinstance(named("__main__.Cell").exception(), newer)


def test_a_subclass_of_remote_error_can_be_defined() -> None:
    class Mine(RemoteError, Error):
        pass

    assert local_class(f"{__name__}.Mine") is Mine
    assert str(Mine("m")) == "m"
    assert Mine("m").remoteType == f"{__name__}.Mine"
    assert Mine("m").remoteTraceback == "Traceback unavailable\n"
    assert isinstance(Failure.of(Mine("m")).value, Mine)


def test_each_raising_has_an_exception_of_its_own() -> None:
    failure = copied(KeyError)
    first, second = failure.exception(), failure.exception()
    assert first is not second
    assert type(first) is type(second)


def test_names_that_are_no_names_do_not_become_a_class() -> None:
    for name in ("", ".", "a..b", "a.b c", "a.\x1b[31m", "x" * 101, "a" * 101 + ".b", "a.b\u202e"):
        cls = type(named(name).exception())
        assert cls.__name__.isidentifier()
        assert all(part.isidentifier() for part in cls.__module__.split("."))
        assert len(f"{cls.__module__}.{cls.__name__}") <= 201


def test_a_known_class_shows_its_name_here() -> None:
    cls = type(copied(UnauthorizedLogin).exception())
    assert (cls.__module__, cls.__name__) == ("pbnb.errors", "UnauthorizedLogin")
    cls = type(named("exceptions.IOError").exception())
    assert (cls.__module__, cls.__name__) == ("builtins", "OSError")
    cls = type(named("elsewhere.mod.Odd").exception())
    assert (cls.__module__, cls.__name__) == ("elsewhere.mod", "Odd")


def test_classes_made_for_peers_do_not_accumulate() -> None:
    def makes() -> Iterator[weakref.ref[type]]:
        for number in range(600):
            yield weakref.ref(type(named(f"a.N{number}").exception()))

    classes = list(makes())
    gc.collect()
    assert sum(ref() is not None for ref in classes) <= 256


def test_only_the_first_of_very_many_parents_are_looked_up() -> None:
    names = [f"a.N{number}" for number in range(100_000)]
    assert isinstance(named(*names[:10], "builtins.KeyError").exception(), KeyError)
    assert not isinstance(named(*names, "builtins.KeyError").exception(), KeyError)


def test_a_traceback_of_the_peer_is_shown_below_the_error() -> None:
    error = copied(KeyError, "why", traceback="Traceback:\n  File \x1b[31m'x'\n").exception()
    shown_text = "".join(traceback.format_exception(error))
    assert shown_text == (
        "KeyError: why\nTraceback from remote host:\nTraceback:\n  File \\x1b[31m'x'\n"
    )
    assert error.remoteTraceback == "Traceback:\n  File \x1b[31m'x'\n"


def test_a_traceback_that_is_unavailable_is_not_mentioned() -> None:
    assert "".join(traceback.format_exception(copied(KeyError).exception())) == (
        "KeyError: message\n"
    )


def test_errors_shown_by_their_parts_show_the_message() -> None:
    for cls in (SyntaxError, ImportError):
        error = copied(cls, "bad\x1b").exception()
        assert error.msg == "bad\\x1b"
        assert "bad\\x1b" in "".join(traceback.format_exception(error))


def test_nothing_that_a_peer_wrote_reaches_a_terminal_as_it_is() -> None:
    evil = "\x1b]0;title\x07\u202e\x9b31m\x00\r\ud800"
    failure = CopiedFailure(type=f"a.{evil}", value=evil, traceback=evil, parents=[evil])
    error = failure.exception()
    for text in (
        str(error),
        repr(error),
        repr(failure),
        failure.getErrorMessage(),
        failure.getTraceback(),
        failure.getBriefTraceback(),
        "".join(traceback.format_exception(error)),
    ):
        harmful = [char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs"}]
        assert set(harmful) <= {"\n"}
    assert failure.value == evil
    assert error.args == (evil,)


@pytest.mark.parametrize(
    "again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)
def test_a_remote_error_can_be_copied_and_pickled(again: Any) -> None:
    error = again(copied(KeyError, "why", traceback="Traceback:\n").exception())
    assert isinstance(error, KeyError)
    assert isinstance(error, RemoteError)
    assert (str(error), error.remoteTraceback) == ("why", "Traceback:\n")


def test_of_gives_back_the_peers_failure_and_makes_one_otherwise() -> None:
    failure = copied(KeyError)
    assert Failure.of(failure.exception()) is failure
    error = KeyError("k")
    assert Failure.of(error).value is error
    assert type(Failure.of(error)) is Failure


# Showing


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain ünïcode 漢 👩\u200d🔬", "plain ünïcode 漢 👩\u200d🔬"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202e\u2066\u200f", r"\u202e\u2066\u200f"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_text_is_shown_with_its_controls_escaped(text: str, result: str) -> None:
    assert shown(text) == result


def test_lines_are_kept_on_request() -> None:
    assert shown("a\r\n\tb\rc\x0b", lines=True) == "a\n\tb\\rc\\x0b"


def test_long_text_is_cut() -> None:
    assert shown("a" * 10, 10) == "a" * 10
    assert shown("a" * 11, 10) == "a" * 9 + "…"
    assert len(shown("\x00" * 10, 10)) == 10
    assert shown("a" * 10_000, None) == "a" * 10_000


def test_the_public_names() -> None:
    assert sorted(module.__all__) == ["CopiedFailure", "Failure", "RemoteError", "shown"]


def test_a_card_of_a_failure_is_short_and_only_text() -> None:
    hostile = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e" + "x" * 10_000_000
    made = CopiedFailure(type="a.<b>Wrong", value=hostile)._repr_html_()
    assert "CopiedFailure" in made and "a.&lt;b&gt;Wrong" in made
    assert "&lt;img src=x" in made and "<img" not in made and "</script" not in made
    assert "\\x1b[31m\\u202e" in made and len(made) < 3000
    assert "boom" in Failure(ValueError("boom"))._repr_html_()


def test_a_card_of_an_error_that_cannot_be_shown_is_made_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert "Broken" in Failure(Broken())._repr_html_()
