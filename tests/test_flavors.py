"""Flavors: what an object is to its peers, and by which names they reach it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from pbnb.errors import InsecureJelly, NoSuchMethod
from pbnb.failure import Failure
from pbnb.flavors import (
    AsReferenceable,
    Avatar,
    Cacheable,
    Copyable,
    Referenceable,
    RemoteCache,
    Root,
    Viewable,
    ViewPoint,
    set_attributes,
)
from pbnb.jelly import jelly
from pbnb.refs import Refs, RemoteReference
from tests.support.pair import BrokerPair
from tests.support.vectors import from_json, load

STEPS = {step["step"]: step for step in load("jelly")["flavors_through_one_broker"]}


class Peer:
    lost = False

    def call(self, *_: Any) -> Any: ...
    def call_only(self, *_: Any) -> None: ...
    def call_cache(self, *_: Any) -> Any: ...
    def watch(self, *_: Any) -> None: ...
    def unwatch(self, *_: Any) -> None: ...
    def gone(self, luid: int) -> None: ...


class Plain:
    pass


class Copy(Copyable):
    def __init__(self) -> None:
        self.x = 1


class Cache(Cacheable):
    def __init__(self) -> None:
        self.x = 1


for each in (Plain, Copy, Cache):
    each.__module__ = "mod"


def wanted(name: str) -> Any:
    step = STEPS[name]
    return from_json(step.get("py3", step.get("same"))["sexp"])


REFUSED = {
    "a remote reference of another broker": "belongs to another connection",
    "an instance that is not allowed": r"mod\.Plain",
    "a class": r"mod\.Plain",
}
# With the failures; a failure needs no class of its own here to be sent.
ELSEWHERE = {
    "a Failure that is not copyable",
    "a CopyableFailure from an except clause",
    "a CopyableFailure made from an exception instance",
    "failure2Copyable of a Failure made from an instance",
}


def test_one_connection_sends_every_flavor_as_twisted_does() -> None:
    peer, other = Peer(), Peer()
    refs = Refs(peer, 1024, list)
    first, second, viewable, avatar = Referenceable(), Referenceable(), Viewable(), object()
    cache, new_cache, copy = Cache(), Cache(), Copy()
    theirs, root = RemoteReference(peer, 7), RemoteReference(peer, b"root")
    home = RemoteCache()
    home._pb_home = (peer, 12)
    steps: dict[str, Any] = {
        "a Referenceable, first time": first,
        "the same one again": first,
        "another Referenceable": second,
        "one Referenceable twice in one list: no reference/dereference": [first, first],
        "a Viewable with no perspective": viewable,
        "a Viewable with a perspective": viewable,
        "the same Viewable and perspective again": viewable,
        "a Cacheable, first time": cache,
        "the same Cacheable again": cache,
        "a new Cacheable twice in one list": [new_cache, new_cache],
        "a Copyable": copy,
        "one Copyable twice in one list": [copy, copy],
        "a remote reference going home": theirs,
        "the reference to root going home": root,
        "one remote reference twice in one list": [theirs, theirs],
        "a remote reference of another broker": RemoteReference(other, 7),
        "a RemoteCache going home": home,
        "an instance that is not allowed": Plain(),
        "a class": Plain,
    }
    assert steps.keys() | ELSEWHERE == STEPS.keys()
    for name, value in steps.items():
        loan = refs.loan()
        perspective = avatar if " perspective" in name and "no perspective" not in name else None
        if name in REFUSED:
            with pytest.raises(InsecureJelly, match=REFUSED[name]):
                jelly(value, loan, perspective=perspective)
            continue
        assert jelly(value, loan, perspective=perspective) == wanted(name), name
        loan.commit()
    assert sorted(entry.count for entry in refs.lent()) == [1, 1, 2, 4]


@pytest.mark.parametrize("value", [Referenceable(), Viewable(), RemoteReference(Peer(), 1)])
def test_references_are_sent_over_a_connection_only(value: Any) -> None:
    with pytest.raises(InsecureJelly, match="connection"):
        jelly(value)


def test_a_failure_is_sent_as_it_is() -> None:
    tree: Any = jelly(Failure(ValueError("boom")))
    assert tree[0] == b"twisted.spread.pb.CopyableFailure"


# Names


class User(Avatar):
    perspective_data = 5

    def remote_missing(self) -> None: ...


class Watched(RemoteCache):
    observe_data = 5

    def remote_missing(self) -> None: ...


class Server(Referenceable, Viewable, Avatar):
    remote_data = 5
    remote_None = None

    def remote_echo(self) -> str:
        return "remote"

    def remote__x(self) -> str:
        return "underscore"

    def remote_fi(self) -> str:
        return "two letters"

    def view_echo(self, perspective: object, word: str) -> tuple[object, str]:
        return (perspective, word)

    def perspective_echo(self) -> str:
        return "perspective"

    def other_echo(self) -> str:
        return "other"


NO_METHODS = [
    "",
    "data",
    "None",
    "missing",
    "__class__",
    "_echo",
    "a.b",
    "echo.__func__",
    "echo()",
    "echo\n",
    "\ufb01",  # the ligature, which Python's own parser would take for fi
    "echo" + "x" * 600_000,
    "\x1b[2J",
    "remote_echo",
]
FINDERS: dict[str, Callable[[], Any]] = {
    "remote_": Server,
    "view_": lambda: ViewPoint(object(), Server()),
    "perspective_": lambda: AsReferenceable(User(), "perspective"),
    "other_": lambda: AsReferenceable(Server(), "other"),
    "observe_": Watched,
}


@pytest.mark.parametrize("name", NO_METHODS)
@pytest.mark.parametrize("prefix", FINDERS)
def test_a_name_without_a_method_finds_nothing(prefix: str, name: str) -> None:
    with pytest.raises(NoSuchMethod, match=f"^No such method: '?{prefix}") as caught:
        FINDERS[prefix]().find_remote(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_method_is_found_by_its_prefix_alone() -> None:
    server, avatar = Server(), object()
    assert server.find_remote("echo")() == "remote"
    assert server.find_remote("_x")() == "underscore"
    assert server.find_remote("fi")() == "two letters"
    assert Avatar.find_remote(server, "echo")() == "perspective"
    assert AsReferenceable(server, "other").find_remote("echo")() == "other"
    assert ViewPoint(avatar, server).find_remote("echo")("word") == (avatar, "word")


def test_no_peer_chooses_the_perspective_of_a_view() -> None:
    avatar = object()
    echo = ViewPoint(avatar, Server()).find_remote("echo")
    assert echo(word="x") == (avatar, "x")
    with pytest.raises(TypeError, match="multiple values"):
        echo(perspective="mine", word="x")


class Table(Referenceable):
    def find_remote(self, name: str) -> Callable[..., Any]:
        return lambda: f"no attribute is behind {name}"


def test_a_class_may_look_for_its_methods_elsewhere() -> None:
    assert Table().find_remote("a.b")() == "no attribute is behind a.b"


# Identity


class Proxy(Referenceable):
    def processUniqueID(self) -> Hashable:
        return "one thing"


def test_what_tells_objects_apart() -> None:
    first, second = Referenceable(), Referenceable()
    assert first.processUniqueID() == first.processUniqueID()
    assert first.processUniqueID() != second.processUniqueID()
    assert Proxy().processUniqueID() == Proxy().processUniqueID()


def test_a_view_is_the_pair_of_avatar_and_object() -> None:
    thing, other, alice, bob = Viewable(), Viewable(), object(), object()
    one = ViewPoint(alice, thing).processUniqueID()
    assert one == ViewPoint(alice, thing).processUniqueID()
    assert one != ViewPoint(bob, thing).processUniqueID()
    assert one != ViewPoint(alice, other).processUniqueID()
    assert one != ViewPoint(None, thing).processUniqueID()


def test_a_root_is_its_own_root() -> None:
    root = Root()
    assert root.rootObject(object()) is root


# States


class WithMethods:
    limit = 5

    def method(self) -> None: ...

    @classmethod
    def of_the_class(cls) -> None: ...

    @staticmethod
    def static() -> None: ...


def test_attributes_are_set_from_a_dict() -> None:
    made = WithMethods()
    set_attributes(made, {"limit": 6, "_x": 1, "é": 2})
    assert vars(made) == {"limit": 6, "_x": 1, "é": 2}


@pytest.mark.parametrize(
    "name",
    ["method", "of_the_class", "static", "__class__", "__dict__", "__init__", "a b", "", 5, b"x"],
)
def test_a_state_replaces_nothing_that_a_class_does(name: Any) -> None:
    made = WithMethods()
    with pytest.raises(InsecureJelly):
        set_attributes(made, {"limit": 6, name: 1})
    assert vars(made) == {}


# Avatars and views, over a connection


class Member(Avatar):
    """An avatar that keeps what it is given, and shows a table that it shares with others."""

    def __init__(self, name: str, table: Viewable) -> None:
        self.name = name
        self.table = table
        self.given: list[Any] = []

    def perspective_table(self) -> Viewable:
        return self.table

    def perspective_tables(self) -> list[Viewable]:
        return [self.table, self.table]

    def perspective_give(self, thing: Any) -> None:
        self.given.append(thing)


class SharedTable(Viewable):
    def __init__(self) -> None:
        self.given: list[Any] = []

    def view_who(self, perspective: Any) -> str:
        return str(perspective.name)

    def view_me(self, perspective: Any) -> SharedTable:
        return self

    def view_give(self, perspective: Any, thing: Any) -> None:
        self.given.append((perspective, thing))


class Hall(Root):
    """Two members at one table, for one connection: their avatars as a login lends them."""

    def __init__(self) -> None:
        self.table = SharedTable()
        self.members = {name: Member(name, self.table) for name in ("alice", "bob")}

    def remote_member(self, name: str) -> AsReferenceable:
        return AsReferenceable(self.members[name], "perspective")


@pytest.fixture
def hall() -> tuple[Hall, BrokerPair]:
    root = Hall()
    return root, BrokerPair(root)


def test_one_avatar_and_one_object_are_one_reference(hall: tuple[Hall, BrokerPair]) -> None:
    root, pair = hall
    alice, bob = pair.call("member", "alice"), pair.call("member", "bob")
    table = pair.call_on(alice, "table")
    same = [pair.call_on(alice, "table"), *pair.call_on(alice, "tables")]
    same.append(pair.call_on(table, "me"))
    assert same == [table] * 4
    of_bob = pair.call_on(bob, "table")
    assert of_bob != table
    assert pair.server.lent() == {alice.luid: 1, bob.luid: 1, table.luid: 5, of_bob.luid: 1}
    del table, same
    pair.collect()
    assert table_luids(pair) == {"bob"}


def table_luids(pair: BrokerPair) -> set[str]:
    """Returns for whom the table is lent."""
    lent = [entry.obj for entry in pair.server.broker.refs.lent()]
    return {view.perspective.name for view in lent if isinstance(view, ViewPoint)}  # type: ignore[attr-defined]


def test_each_call_of_a_view_is_made_as_its_avatar(hall: tuple[Hall, BrokerPair]) -> None:
    root, pair = hall
    alice, bob = pair.call("member", "alice"), pair.call("member", "bob")
    tables = [pair.call_on(ref, "table") for ref in (alice, bob)]
    assert [pair.call_on(table, "who") for table in tables] == ["alice", "bob"]
    # Whose view goes home in an argument makes no difference to who calls.
    pair.call_on(tables[0], "give", tables[1])
    ((perspective, given),) = root.table.given
    assert perspective is root.members["alice"]
    assert given.perspective is root.members["bob"] and given.object is root.table


def test_what_is_received_by_an_avatar_remembers_it(hall: tuple[Hall, BrokerPair]) -> None:
    root, pair = hall
    alice, bob = pair.call("member", "alice"), pair.call("member", "bob")
    thing = Referenceable()
    for ref in (alice, bob, alice):
        pair.call_on(ref, "give", thing)
    pair.call_on(pair.call_on(bob, "table"), "give", thing)
    by_alice, by_bob = root.members["alice"].given, root.members["bob"].given
    assert [ref.perspective for ref in by_alice] == [root.members["alice"]] * 2
    assert by_bob[0].perspective is root.members["bob"]
    # One object all the same, and a view's calls are made as its avatar.
    assert by_alice[0] == by_alice[1] == by_bob[0]
    perspective, given = root.table.given[0]
    assert given == by_bob[0] and given.perspective is perspective is root.members["bob"]
    root.members["alice"].given.clear()
    root.members["bob"].given.clear()
    root.table.given.clear()
    del by_alice, by_bob, ref, given
    pair.collect()
    assert pair.client.lent() == {}


def test_any_object_can_be_viewed_by_hand() -> None:
    """An avatar that shows another one, as the documents of ViewPoint have it."""

    class Shown(Avatar):
        def view_name(self, perspective: Any) -> str:
            return f"seen by {perspective}"

    class Desk(Root):
        shown = Shown()

        def remote_show(self, who: str) -> ViewPoint:
            return ViewPoint(who, self.shown)

    pair = BrokerPair(Desk())
    view = pair.call("show", "alice")
    assert pair.call_on(view, "name") == "seen by alice"


def test_an_avatar_may_have_a_say_in_what_is_called() -> None:
    class Audited(Avatar):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def find_remote(self, name: str) -> Callable[..., Any]:
            self.calls.append(name)
            return super().find_remote(name)

        def perspective_echo(self, value: Any) -> Any:
            return value

    avatar = Audited()
    lent = AsReferenceable(avatar, "perspective")
    assert lent.find_remote("echo")(1) == 1
    with pytest.raises(NoSuchMethod):
        lent.find_remote("calls")
    assert avatar.calls == ["echo", "calls"]


def test_any_class_with_perspective_methods_will_do() -> None:
    class Plain:
        def perspective_echo(self, value: Any) -> Any:
            return value

        def remote_echo(self, value: Any) -> Any:
            raise AssertionError("this is for others")

    class Both(Referenceable, Plain):
        pass

    for obj in (Plain(), Both()):
        assert AsReferenceable(obj, "perspective").find_remote("echo")(1) == 1
