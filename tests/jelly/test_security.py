"""What each security option grants, and that it grants nothing else."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import pytest

from pbnb.errors import InsecureJelly
from pbnb.flavors import RemoteCopy
from pbnb.jelly import SecurityOptions, global_security, jelly, unjelly
from tests.support.vectors import load

RECORDED = load("jelly")["SecurityOptions"]["same"]


class Plain:
    pass


class Other:
    pass


class Derived(Plain):
    pass


def tag(cls: type) -> bytes:
    return f"{cls.__module__}.{cls.__name__}".encode()


def names(security: SecurityOptions) -> set[str]:
    return {name.decode() for name in security.allowed}


def accepts(security: SecurityOptions, tree: Any) -> bool:
    try:
        unjelly(tree, security=security)
    except InsecureJelly:
        return False
    return True


def sends(security: SecurityOptions, value: object) -> bool:
    try:
        jelly(value, security=security)
    except InsecureJelly:
        return False
    return True


def test_the_types_allowed_are_those_of_twisted() -> None:
    security = SecurityOptions()
    at_first = set(RECORDED["allowed_at_first"])
    basic = set(RECORDED["added_by_allowBasicTypes"])
    assert names(security) == at_first
    security.allowBasicTypes()
    assert names(security) == at_first | basic
    registered = set(RECORDED["then_registered_globally_by_pb"])
    assert at_first | basic | registered <= names(global_security)


SIMPLE: list[Any] = [[b"None"], [b"boolean", b"true"], [b"unicode", b"x"], [b"decimal", 1, 0], 5]
BASIC: dict[bytes, Any] = {
    b"list": [b"list"],
    b"tuple": [b"tuple"],
    b"dictionary": [b"dictionary"],
}


@pytest.mark.parametrize("tree", SIMPLE)
def test_simple_values_are_always_allowed(tree: Any) -> None:
    assert accepts(SecurityOptions(), tree)


@pytest.mark.parametrize("name", BASIC)
def test_a_type_is_allowed_by_its_name(name: bytes) -> None:
    security = SecurityOptions()
    assert not accepts(security, BASIC[name])
    assert not security.isTypeAllowed(name)
    security.allowTypes(name.decode())
    assert [other for other in BASIC if accepts(security, BASIC[other])] == [name]
    assert security.isTypeAllowed(name) and security.isTypeAllowed(name.decode())


def test_basic_types_allow_no_classes() -> None:
    security = SecurityOptions()
    security.allowBasicTypes()
    assert all(accepts(security, tree) for tree in BASIC.values())
    assert not accepts(security, [tag(Plain), [b"dictionary"]])
    assert not accepts(security, [b"class", tag(Plain)])
    assert not accepts(security, [b"module", b"os"])
    assert not accepts(security, [b"twisted.spread.pb.CopyableFailure", [b"dictionary"]])
    assert not sends(security, Plain())
    assert not sends(security, Plain)


def test_an_allowed_class_is_allowed_both_ways_and_no_other() -> None:
    security = SecurityOptions()
    security.allowInstancesOf(Plain)
    assert security.isClassAllowed(Plain)
    assert type(unjelly(jelly(Plain(), security=security), security=security)) is Plain
    assert unjelly(jelly(Plain, security=security), security=security) is Plain
    for cls in (Other, Derived, object, int):
        assert not security.isClassAllowed(cls)
        assert not accepts(security, [tag(cls), [b"dictionary"]])
        assert not accepts(security, [b"class", tag(cls)])
        assert not sends(security, cls)
    assert not sends(security, Other())
    assert not sends(security, Derived())
    assert not accepts(security, [b"module", __name__.encode()])


def test_a_type_s_name_alone_is_no_class() -> None:
    security = SecurityOptions()
    security.allowBasicTypes()
    security.allowTypes(Plain, "os.system", "class")
    assert security.isTypeAllowed("os.system")
    assert not accepts(security, [tag(Plain), [b"dictionary"]])
    assert not accepts(security, [b"os.system", [b"dictionary"]])
    assert not accepts(security, [b"class", tag(Plain)])


def test_modules_are_allowed_by_themselves() -> None:
    security = SecurityOptions()
    security.allowModules(os, "sys")
    assert security.isModuleAllowed("os") and security.isModuleAllowed(b"sys")
    assert not security.isModuleAllowed("posix")
    assert jelly(os, security=security) == [b"module", b"os"]
    assert unjelly([b"module", b"os"], security=security) is os
    # A name may leave, but lets nothing in: what a peer would get was not said.
    assert sends(security, sys)
    assert not accepts(security, [b"module", b"sys"])
    assert not sends(security, types.ModuleType("posix"))
    assert not accepts(security, [b"os.system", [b"list"]])
    assert not accepts(security, [b"class", b"os.PathLike"])


def test_one_connection_s_options_are_not_another_s() -> None:
    generous, strict = SecurityOptions(), SecurityOptions()
    generous.allowInstancesOf(Plain)
    generous.allowModules(os)
    generous.setUnjellyableForClass("a-tag", Copied)
    strict.allowBasicTypes()
    for tree in (
        [tag(Plain), [b"dictionary"]],
        [b"class", tag(Plain)],
        [b"module", b"os"],
        [b"a-tag", [b"dictionary"]],
    ):
        assert accepts(generous, tree)
        assert not accepts(strict, tree)
        assert not accepts(global_security, tree)


class Copied(RemoteCopy):
    pass


def test_registering_a_type_allows_that_type_alone() -> None:
    security = SecurityOptions()
    security.allowTypes("dictionary")
    security.setUnjellyableForClass("a-tag", Copied)
    assert security.isTypeAllowed("a-tag")
    assert accepts(security, [b"a-tag", [b"dictionary"]])
    assert not accepts(security, [tag(Copied), [b"dictionary"]])
    assert not security.isClassAllowed(Copied)
    assert not accepts(security, [b"list"])


@pytest.mark.parametrize(
    "tree",
    [
        [b"this.Person", [b"dictionary"]],
        [b"antigravity.fly", [b"dictionary"]],
        [b"class", b"antigravity.fly"],
        [b"module", b"antigravity"],
        [b"function", b"antigravity.webbrowser.open"],
        [b"method", b"open", [b"None"], [b"class", b"antigravity.webbrowser"]],
        [b"instance", [b"class", b"antigravity.fly"], [b"dictionary"]],
        [b"persistent", b"antigravity"],
        [b"unpersistable", b"antigravity"],
        [b"twisted.spread.pb.CopyableFailure", [b"dictionary", [b"type", b"antigravity.Error"]]],
    ],
)
def test_nothing_is_imported_on_a_peer_s_word(tree: Any) -> None:
    generous = SecurityOptions()
    generous.allowInstancesOf(Plain)
    generous.allowModules("antigravity", "this")
    generous.allowTypes("function", "method", "persistent", "antigravity.fly")
    generous.allowTypes("twisted.spread.pb.CopyableFailure")
    before = set(sys.modules)
    for security in (SecurityOptions(), global_security, generous):
        accepts(security, tree)
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["function", "method", "instance", "persistent", "string", "long"])
def test_types_without_a_reader_stay_refused_when_allowed(name: str) -> None:
    security = SecurityOptions()
    security.allowTypes(name)
    assert security.isTypeAllowed(name)
    assert not accepts(security, [name.encode(), b"os.system"])
