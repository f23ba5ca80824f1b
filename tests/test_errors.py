"""The names by which exceptions travel, and the classes that a peer's names mean."""

from __future__ import annotations

import builtins
import gc
import re

import pytest

from pbnb import errors
from pbnb.errors import Error, local_class, wire_name

TWISTED = {
    errors.Error: "twisted.spread.pb.Error",
    errors.PBConnectionLost: "twisted.spread.pb.PBConnectionLost",
    errors.ProtocolError: "twisted.spread.pb.ProtocolError",
    errors.DeadReferenceError: "twisted.spread.pb.DeadReferenceError",
    errors.NoSuchMethod: "twisted.spread.flavors.NoSuchMethod",
    errors.InsecureJelly: "twisted.spread.jelly.InsecureJelly",
    errors.BananaError: "twisted.spread.banana.BananaError",
    errors.Unauthorized: "twisted.cred.error.Unauthorized",
    errors.LoginFailed: "twisted.cred.error.LoginFailed",
    errors.UnauthorizedLogin: "twisted.cred.error.UnauthorizedLogin",
}


@pytest.mark.parametrize(("cls", "name"), TWISTED.items())
def test_what_twisted_knows_travels_under_its_name_both_ways(cls: type, name: str) -> None:
    assert wire_name(cls) == name
    assert local_class(name) is cls


def test_the_bases_of_a_travelling_class_are_those_that_twisted_has() -> None:
    assert [wire_name(cls) for cls in errors.UnauthorizedLogin.__mro__] == [
        "twisted.cred.error.UnauthorizedLogin",
        "twisted.cred.error.LoginFailed",
        "twisted.cred.error.Unauthorized",
        "builtins.Exception",
        "builtins.BaseException",
        "builtins.object",
    ]
    assert issubclass(errors.DeadReferenceError, errors.ProtocolError)
    assert issubclass(errors.NoSuchMethod, AttributeError)


def test_a_subclass_of_a_known_class_has_its_own_name() -> None:
    assert wire_name(errors.RemoteProtocolError) == "pbnb.errors.RemoteProtocolError"


def test_a_nested_class_travels_without_the_classes_around_it() -> None:
    class Inner(Error):
        pass

    assert wire_name(Inner) == f"{__name__}.Inner"


@pytest.mark.parametrize("module", ["builtins", "exceptions"])
def test_builtins_are_known_under_the_names_of_both_pythons(module: str) -> None:
    assert local_class(f"{module}.KeyError") is KeyError


def test_an_alias_of_python_2_means_the_class_of_today() -> None:
    assert local_class("exceptions.IOError") is OSError


@pytest.mark.parametrize("name", sorted(vars(builtins)))
def test_no_builtin_name_gives_more_than_an_exception(name: str) -> None:
    found = local_class(f"builtins.{name}")
    assert found is None or issubclass(found, Exception)
    assert found not in (StopIteration, StopAsyncIteration)


@pytest.mark.parametrize(
    "name", ["", ".", "KeyError", "os.system", "builtins.", "asyncio.exceptions.CancelledError"]
)
def test_other_names_mean_nothing_here(name: str) -> None:
    assert local_class(name) is None


def test_a_module_that_is_not_loaded_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_: object) -> None:
        raise AssertionError(f"imported {name}")

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert local_class("antigravity.Gravity") is None


def test_of_two_definitions_of_one_name_the_newer_counts() -> None:
    def define() -> type[Error]:
        return type("Redefined", (Error,), {"__module__": "__main__"})

    older = define()
    assert local_class("__main__.Redefined") is older
    newer = define()
    assert local_class("__main__.Redefined") is newer


def test_a_definition_that_is_gone_is_forgotten() -> None:
    cls = type("Passing", (Error,), {"__module__": "__main__"})
    assert local_class("__main__.Passing") is cls
    del cls
    gc.collect()
    assert local_class("__main__.Passing") is None


def test_the_tree_in_the_docstring_names_every_exception() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    # Its place in the tree is behind UnauthorizedLogin, which has two bases.
    drawn.add("Unauthorized")
    defined = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert drawn == defined | {"RemoteError"}


def test_every_class_of_the_module_is_found_again_by_its_name() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    ours = [each for each in classes if each.__module__ == errors.__name__]
    assert ours
    assert [errors.local_class(errors.wire_name(each)) for each in ours] == ours
