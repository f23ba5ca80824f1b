"""Classes, modules, functions and methods: by name, and only where they were allowed."""

from __future__ import annotations

import math
import os
import sys
import types
from functools import partial
from typing import Any

import pytest

import pbnb as pb
from pbnb.errors import InsecureJelly
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.wire.banana import decode, encode
from tests.support.pair import BrokerPair
from tests.support.vectors import from_json, load

VECTORS = {vector["value"]: vector for vector in load("jelly")["jelly"]}


class Plain:
    def __init__(self, x: int = 1) -> None:
        self.x = x

    def double(self) -> int:
        return 2 * self.x

    @staticmethod
    def static() -> None: ...

    @classmethod
    def made(cls) -> None: ...

    @property
    def computed(self) -> int:
        raise AssertionError("nothing is computed on a peer's word")


class Derived(Plain):
    pass


def func(value: int) -> int:
    return value + 1


def other() -> None:
    pass


def hidden() -> None:
    raise AssertionError("a module's __getattr__ is not asked")


for each in (Plain, Derived, func):
    each.__module__ = "mod"

# A module that no import would find.
MOD = types.ModuleType("mod")
MOD.__dict__.update(
    Plain=Plain, func=func, value=5, system=os.system, path=os.path, __getattr__=lambda name: hidden
)


def allowing(*names: str) -> SecurityOptions:
    security = SecurityOptions()
    security.allowInstancesOf(Plain, Derived)
    security.allowModules(MOD, math)
    security.allowTypes(*names)
    return security


CODE = allowing("function", "method")


def there_and_back(value: Any, security: SecurityOptions = CODE) -> Any:
    """Returns what arrives, through the bytes."""
    modules = set(sys.modules)
    made = unjelly(decode(encode(jelly(value, security=security))), security=security)
    assert set(sys.modules) == modules
    return made


@pytest.mark.parametrize("value", [Plain, MOD, func, math, math.sqrt])
def test_what_is_allowed_arrives_as_itself(value: Any) -> None:
    assert there_and_back(value) is value
    first, second = there_and_back([value, value])
    assert first is second is value


def test_a_method_arrives_bound_to_its_object() -> None:
    plain = Plain(21)
    made = there_and_back([plain.double, plain])
    assert made[0]() == 42
    assert made[0].__self__ is made[1]
    assert type(made[1]) is Plain


def test_a_method_may_belong_to_a_base_class() -> None:
    assert there_and_back(Derived(2).double)() == 4


def test_a_method_of_an_object_that_holds_it_arrives() -> None:
    plain: Any = Plain()
    plain.own = [plain.double]
    made = there_and_back(plain)
    assert made.own[0].__self__ is made


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("module os", os),
        ("module os.path", os.path),
        ("function mod.func", func),
        ("class mod.Plain", Plain),
    ],
)
def test_sends_what_twisted_sends_where_it_can(name: str, value: Any) -> None:
    # Twisted on Python 3 leaves text in these, which banana cannot send; on Python 2 it can.
    security = allowing("function")
    security.allowModules(os, os.path)
    vector = VECTORS[name].get("py2", VECTORS[name].get("same"))["any"]
    tree = jelly(value, security=security)
    assert tree == from_json(vector["sexp"])
    assert encode(tree).hex() == vector["banana_pb"]


def test_sends_a_method_as_twisted_does() -> None:
    assert jelly(Plain(1).double, security=CODE) == [
        b"method",
        b"double",
        [b"mod.Plain", [b"dictionary", [[b"unicode", b"x"], 1]]],
        [b"class", b"mod.Plain"],
    ]


def test_python_2_sends_a_function_of_a_class_as_a_method_of_none() -> None:
    tree = [b"method", b"double", [b"None"], [b"class", b"mod.Plain"]]
    assert unjelly(tree, security=CODE) is Plain.double


# What does not leave


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Plain, r"class mod\.Plain is not sent.*allowInstancesOf"),
        (MOD, r"module mod is not sent.*allowModules\(mod\)"),
        (func, r"function mod\.func is not sent.*remote_ method.*allowModules\(mod\)"),
        (math.sqrt, r"function math\.sqrt is not sent.*allowModules\(math\)"),
        (Plain().double, r"method .*\.Plain\.double is not sent.*allowInstancesOf\(Plain\)"),
        (pb.Root().rootObject, r"method .*Root\.rootObject is not sent"),
    ],
)
def test_nothing_of_it_is_sent_by_default(value: Any, text: str) -> None:
    with pytest.raises(InsecureJelly, match=text):
        jelly(value)
    with pytest.raises(InsecureJelly, match=text):
        jelly({"deep": [value]})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda: None, "only functions at the top of a module have names"),
        (Plain.double, "only functions at the top of a module have names"),
        (other, r"function .*test_code\.other is not sent"),
        (os.getcwd, r"function .*getcwd is not sent"),
        ([].append, r"method .*append is not sent: lend an object"),
        (Plain.made, r"method .*made is not sent"),
        (os, "module os is not sent"),
        (partial(func, 1), r"functools\.partial are not sent"),
    ],
)
def test_what_was_not_allowed_is_not_sent(value: Any, text: str) -> None:
    with pytest.raises(InsecureJelly, match=text):
        jelly(value, security=CODE)


def test_a_function_in_the_place_of_another_is_not_sent() -> None:
    namesake = types.FunctionType(func.__code__, {}, "func")
    namesake.__module__ = "mod"
    namesake.__qualname__ = "func"
    with pytest.raises(InsecureJelly, match=r"function mod\.func is not sent"):
        jelly(namesake, security=CODE)


@pytest.mark.parametrize("value", [func, Plain().double])
def test_the_type_has_to_be_allowed_too(value: Any) -> None:
    security = allowing()
    with pytest.raises(InsecureJelly, match="allowTypes"):
        jelly(value, security=security)
    with pytest.raises(InsecureJelly, match="is not allowed here"):
        unjelly(jelly(value, security=CODE), security=security)


# What does not enter


@pytest.mark.parametrize(
    "name",
    [
        b"mod.nothing",
        b"mod.hidden",
        b"mod.value",
        b"mod.Plain",
        b"mod.system",  # imported there, and at home in another module
        b"mod.path.join",
        b"mod.Plain.double",
        b"mod.__getattr__",
        b"os.system",
        b"builtins.eval",
        b"func",
        b"",
        b".",
        b"mod.",
        b"mod.\xff",
        b"antigravity.fly",
    ],
)
def test_a_function_that_is_not_allowed_is_refused(name: bytes) -> None:
    modules = set(sys.modules)
    with pytest.raises(InsecureJelly, match="is not allowed here"):
        unjelly([b"function", name], security=CODE)
    assert set(sys.modules) == modules


@pytest.mark.parametrize("name", [b"os", b"antigravity", b"", b"mod.path", b"\xff"])
def test_a_module_that_is_not_allowed_is_refused(name: bytes) -> None:
    modules = set(sys.modules)
    with pytest.raises(InsecureJelly, match="is not allowed here"):
        unjelly([b"module", name], security=CODE)
    assert set(sys.modules) == modules


def test_a_module_that_was_allowed_by_name_is_not_looked_up() -> None:
    security = allowing("function")
    security.allowModules("os")
    assert jelly(os, security=security) == [b"module", b"os"]
    for tree in ([b"module", b"os"], [b"function", b"os.getcwd"]):
        with pytest.raises(InsecureJelly, match="given as object|given as an object|as objects"):
            unjelly(tree, security=security)


@pytest.mark.parametrize("name", [b"static", b"made", b"computed", b"x", b"nothing", b"", b"\xff"])
def test_what_is_no_method_of_the_class_is_refused(name: bytes) -> None:
    tree: Any = [b"method", name, [b"mod.Plain", [b"dictionary"]], [b"class", b"mod.Plain"]]
    with pytest.raises(InsecureJelly, match="is no method of"):
        unjelly(tree, security=CODE)


@pytest.mark.parametrize(
    ("owner", "cls"),
    [
        (5, [b"class", b"mod.Plain"]),
        ([b"list"], [b"class", b"mod.Plain"]),
        ([b"mod.Derived", [b"dictionary"]], [b"class", b"mod.Plain"]),
        ([b"mod.Plain", [b"dictionary"]], [b"class", b"mod.Derived"]),
        ([b"mod.Plain", [b"dictionary"]], [b"class", b"builtins.int"]),
        ([b"mod.Plain", [b"dictionary"]], [b"module", b"mod"]),
        ([b"mod.Plain", [b"dictionary"]], b"mod.Plain"),
        ([b"mod.Plain", [b"dictionary"]], [b"list"]),
        ([b"mod.Other", [b"dictionary"]], [b"class", b"mod.Plain"]),
    ],
)
def test_a_method_needs_an_object_of_its_class(owner: Any, cls: Any) -> None:
    with pytest.raises(InsecureJelly):
        unjelly([b"method", b"double", owner, cls], security=CODE)


@pytest.mark.parametrize("tag", [b"class", b"module", b"function", b"method"])
@pytest.mark.parametrize("rest", [[], [1], [[b"unicode", b"mod"]], [b"mod", b"mod"], [[]]])
def test_malformed_expressions_are_refused(tag: bytes, rest: list[Any]) -> None:
    with pytest.raises(InsecureJelly):
        unjelly([tag, *rest], security=CODE)


# Over a connection


class Root(pb.Root):
    def remote_apply(self, function: Any, value: Any) -> Any:
        return function(value)

    def remote_give(self) -> Any:
        return func


def test_functions_are_called_where_they_were_allowed() -> None:
    pair = BrokerPair(Root(), security=CODE)
    assert pair.call("apply", func, 41) == 42
    assert pair.call("apply", math.sqrt, 9.0) == 3.0
    assert pair.call("give") is func


def test_a_server_that_returns_one_by_accident_says_so_and_goes_on() -> None:
    pair = BrokerPair(Root())
    with pytest.raises(InsecureJelly, match=r"function mod\.func is not sent"):
        pair.call("give")
    with pytest.raises(InsecureJelly, match=r"function mod\.func is not sent"):
        pair.call("apply", func, 1)
    assert pair.server.broken() is None
