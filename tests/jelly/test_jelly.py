"""Jelly against Twisted's vectors: what is sent, and what is refused."""

from __future__ import annotations

import datetime
import enum
import os
import os.path
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest

from pbnb.errors import InsecureJelly
from pbnb.flavors import Jellyable
from pbnb.jelly import SecurityOptions, jelly
from pbnb.limits import Limits
from pbnb.wire.banana import decode, encode
from tests.support.vectors import from_json, load

VECTORS = {vector["value"]: vector for vector in load("jelly")["jelly"]}


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Old:
    def __init__(self) -> None:
        self.x = 1


class WithGetState:
    def __getstate__(self) -> Any:
        return (1, b"two")


class Slotted:
    __slots__ = ("x",)


class MyList(list[Any]):
    pass


class MyStr(str):
    pass


class MyInt(int):
    pass


class Outer:
    class Inner:
        pass


def func() -> None:
    pass


OURS: list[Any] = [Plain, Old, WithGetState, Slotted, MyList, MyStr, MyInt, Outer.Inner, func]
for each in OURS:
    each.__module__ = "mod"


def shared_lists() -> list[Any]:
    first: list[Any] = []
    second: list[Any] = []
    return [first, second, second, first]


def cyclic(made: Any, add: Any) -> Any:
    add(made)
    return made


def cyclic_tuple() -> Any:
    inside: list[Any] = []
    made = (inside,)
    inside.append(made)
    return made


S: list[Any] = [1]
PAIR = (1, 2)
SET = {1}
PLAIN = Plain(v=1)
LOOP = Plain()
LOOP.me = LOOP  # type: ignore[attr-defined]
BOUND: Any = getattr(Old(), "__init__")  # noqa: B009 (mypy)

# The values whose names in the vectors are no expressions.
VALUES: dict[str, Any] = {
    "shared list [s, s]": [S, S],
    "shared three times": [S, S, S],
    "two shared lists": shared_lists(),
    "cyclic list": cyclic([], lambda made: made.append(made)),
    "cyclic dict": cyclic({}, lambda made: made.update({b"me": made})),
    "cyclic tuple": cyclic_tuple(),
    "empty tuple twice: one object in CPython": [(), ()],
    "equal but distinct lists": [[1], [1]],
    "same bytes object twice": [b"x", b"x"],
    "shared as key and value": {PAIR: PAIR},
    "shared set": [SET, SET],
    "bool inside a list": [True],
}

# What Twisted sends in some form, or fails to send in a way of its own, and what is refused here
# with InsecureJelly: the value, and what the error says.
REFUSED: dict[str, tuple[Any, str]] = {
    "Decimal('NaN')": (Decimal("NaN"), r"Decimal\('NaN'\)"),
    "Decimal('sNaN')": (Decimal("sNaN"), r"Decimal\('sNaN'\)"),
    "Decimal('Infinity')": (Decimal("Infinity"), r"Decimal\('Infinity'\)"),
    "Decimal('-Infinity')": (Decimal("-Infinity"), r"Decimal\('-Infinity'\)"),
    "class object": (object, "class builtins.object"),
    "class mod.Plain": (Plain, "class mod.Plain"),
    "nested class Outer.Inner": (Outer.Inner, "class mod.Inner"),
    "class int": (int, "class builtins.int"),
    "old-style class on Python 2: mod.Old": (Old, "class mod.Old"),
    "module os": (os, "module os is not sent"),
    "module os.path": (os.path, "module posixpath is not sent"),
    "function mod.func": (func, "function mod.func is not sent"),
    "lambda": (lambda: None, "function .*<lambda> is not sent"),
    "builtin function len": (len, "function builtins.len is not sent"),
    "bound method of a Plain-like instance": (BOUND, r"method .*Old.__init__ is not sent"),
    "unbound method": (Old.__init__, "function .*Old.__init__ is not sent"),
    "instance Plain(v=1)": (Plain(v=1), "mod.Plain"),
    "instance with no attributes": (Plain(), "mod.Plain"),
    "old-style instance on Python 2": (Old(), "mod.Old"),
    "instance with __slots__": (Slotted(), "mod.Slotted"),
    'instance with __getstate__ giving (1, b"two")': (WithGetState(), "mod.WithGetState"),
    "object()": (object(), "builtins.object"),
    'exception instance ValueError("x")': (ValueError("x"), "builtins.ValueError"),
    "generator": ((item for item in ()), "builtins.generator"),
    "Ellipsis": (Ellipsis, "builtins.ellipsis"),
    "NotImplemented": (NotImplemented, "builtins.NotImplementedType"),
    "OrderedDict (dict subclass)": (OrderedDict({1: 2}), "collections.OrderedDict"),
    "list subclass": (MyList(), "mod.MyList"),
    "str subclass": (MyStr("x"), "mod.MyStr"),
    "int subclass": (MyInt(5), "mod.MyInt"),
    "shared instance": ([PLAIN, PLAIN], "mod.Plain"),
    "cyclic instance": (LOOP, "mod.Plain"),
}

# What a class that is allowed sends: as Twisted does where it has no security at all.
ALLOWED = [
    "class mod.Plain",
    "nested class Outer.Inner",
    "class int",
    "instance Plain(v=1)",
    "old-style instance on Python 2",
    'instance with __getstate__ giving (1, b"two")',
    "shared instance",
    "cyclic instance",
]

# What Twisted refuses, and what travels here as a type of its own.
EXTRA: dict[str, tuple[Any, Any]] = {
    "datetime with tzinfo": (
        datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        [b"pbnb.datetime", b"2020-01-02T00:00:00+00:00"],
    ),
    "complex 1j": (1j, [b"pbnb.complex", [b"tuple", 0.0, 1.0]]),
    "bytearray": (bytearray(b"x"), [b"pbnb.bytearray", b"x"]),
    "range/xrange(3)": (range(3), [b"pbnb.range", [b"tuple", 0, 3, 1]]),
}

# Tested with the other flavors and with the hooks below; a Referenceable needs a connection.
STORED = 'Plain inside a list, with a persistentStore giving b"the-id"'
ELSEWHERE = {
    "Jellyable instance",
    "Copyable with no broker",
    "Cacheable with no broker",
    "Referenceable with no broker",
    STORED,
}
OTHER_ERRORS = {"u'\\ud800' (lone surrogate)"}

NOT_SENT = REFUSED.keys() | EXTRA.keys() | ELSEWHERE | OTHER_ERRORS
SENT = [name for name in VECTORS if name not in NOT_SENT]
NAMES = {
    "Decimal": Decimal,
    "datetime": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
}


def recorded(name: str) -> Any:
    vector = VECTORS[name]
    return vector.get("py3", vector.get("same"))["any"]


def test_every_vector_is_sent_or_listed() -> None:
    assert NOT_SENT | set(VALUES) <= set(VECTORS)
    assert set(ALLOWED) <= set(REFUSED)
    assert len(SENT) == 58


@pytest.mark.parametrize("name", SENT)
def test_sends_what_twisted_sends(name: str) -> None:
    value = VALUES[name] if name in VALUES else eval(name, dict(NAMES))
    tree = jelly(value)
    assert encode(tree).hex() == recorded(name)["banana_pb"]
    assert repr(tree) == repr(from_json(recorded(name)["sexp"]))


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_and_names_the_class(name: str) -> None:
    value, text = REFUSED[name]
    with pytest.raises(InsecureJelly, match=text):
        jelly(value)
    with pytest.raises(InsecureJelly, match=text):
        jelly({"deep": [(1, value)]})


@pytest.mark.parametrize("name", EXTRA)
def test_sends_what_twisted_refuses(name: str) -> None:
    value, tree = EXTRA[name]
    assert jelly(value) == tree


@pytest.mark.parametrize("name", ALLOWED)
def test_sends_what_is_allowed_as_twisted_does(name: str) -> None:
    security = SecurityOptions()
    security.allowInstancesOf(Plain, Old, WithGetState, Outer.Inner, int)
    assert jelly(REFUSED[name][0], security=security) == from_json(recorded(name)["sexp"])


def test_an_instance_without_attributes_has_an_empty_state() -> None:
    # Twisted on Python 3 sends None, which Python 2 peers cannot restore.
    security = SecurityOptions()
    security.allowInstancesOf(Plain)
    assert jelly(Plain(), security=security) == [b"mod.Plain", [b"dictionary"]]


def test_a_class_of_the_same_name_is_another_class() -> None:
    security = SecurityOptions()
    security.allowInstancesOf(Plain)
    namesake = type("Plain", (), {"__module__": "mod"})
    with pytest.raises(InsecureJelly, match=r"mod\.Plain"):
        jelly(namesake(), security=security)


def test_a_lone_surrogate_cannot_be_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        jelly(["\ud800"])


class Colour(enum.IntEnum):
    RED = 1


def test_subclasses_of_simple_types_are_instances() -> None:
    with pytest.raises(InsecureJelly, match="Colour"):
        jelly(Colour.RED)


def test_numbers_are_given_in_the_order_of_the_first_repetition() -> None:
    a, b = [b"a"], [b"b"]
    assert jelly([a, b, b, a, b]) == [
        b"list",
        [b"reference", 2, [b"list", b"a"]],
        [b"reference", 1, [b"list", b"b"]],
        [b"dereference", 1],
        [b"dereference", 2],
        [b"dereference", 1],
    ]


def test_objects_that_exist_for_a_moment_only_are_not_taken_for_one_another() -> None:
    # Each state is collected as soon as it is jellied, unless it is kept: then the next one is
    # made at the same address and would be taken for it.
    class Fresh:
        def __init__(self, number: int) -> None:
            self.number = number

        def __getstate__(self) -> Any:
            return [self.number]

    security = SecurityOptions()
    security.allowInstancesOf(Fresh)
    tree: Any = jelly([Fresh(number) for number in range(50)], security=security)
    assert [item[1] for item in tree[1:]] == [[b"list", number] for number in range(50)]


def nested(depth: int, wrap: Any) -> Any:
    made: Any = wrap()
    for _ in range(depth - 1):
        made = wrap(made)
    return made


WRAPS = {
    "list": lambda *items: list(items),
    "tuple": lambda *items: (b"x", *items),
    "frozenset": lambda *items: frozenset((b"x", *items)),
    "dict": lambda *items: {"k": items[0] if items else None},
}


@pytest.mark.parametrize("kind", WRAPS)
def test_depth_is_bounded_the_same_on_every_python(kind: str) -> None:
    depth = Limits().depth
    tree = jelly(nested(depth, WRAPS[kind]))
    assert isinstance(tree, list)
    with pytest.raises(InsecureJelly, match=rf"more than {depth} levels.*Limits\(depth"):
        jelly(nested(depth + 1, WRAPS[kind]))
    with pytest.raises(InsecureJelly, match="more than 3 levels"):
        jelly(nested(4, WRAPS[kind]), limits=Limits(depth=3))


def test_a_stack_that_ends_before_the_limit_is_an_error_of_its_own() -> None:
    with pytest.raises(InsecureJelly, match="stack"):
        jelly(nested(100_000, WRAPS["list"]), limits=Limits(depth=2**62))


def test_a_decimal_of_thousands_of_digits_is_refused() -> None:
    # Python itself refuses to make an integer of so long a text.
    with pytest.raises(InsecureJelly, match="5000 digits"):
        jelly(Decimal("1" * 5000))


def test_decimals_keep_sign_and_exponent_through_the_bytes() -> None:
    tree = jelly([Decimal("-12.50"), Decimal("1E+3")])
    assert decode(encode(tree)) == [b"list", [b"decimal", -1250, -2], [b"decimal", 1, 3]]


class Jel(Jellyable):
    def __init__(self) -> None:
        self.y = 2


class OwnWords(Jellyable):
    def __init__(self, parts: Any) -> None:
        self.parts = parts

    def jellyFor(self, jellier: Any) -> Any:
        return [b"own.Words", jellier.jelly(self.parts)]


Jel.__module__ = "mod"


def test_a_jellyable_says_itself_what_is_sent() -> None:
    assert jelly(Jel()) == from_json(recorded("Jellyable instance")["sexp"])
    words = OwnWords([])
    words.parts.append(words)
    assert jelly(words) == [
        b"reference", 1, [b"own.Words", [b"list", [b"dereference", 1]]]
    ]  # fmt: skip


# Persistent objects


def test_objects_that_the_application_knows_travel_by_their_ids() -> None:
    asked: list[Any] = []

    def store(obj: Any, jellier: Any) -> Any:
        asked.append(obj)
        return b"the-id" if obj is PLAIN else None

    tree = jelly([PLAIN, 2], persistentStore=store)
    assert tree == from_json(recorded(STORED)["sexp"])
    # Plain values are what they are, and nobody is asked about them.
    jelly([None, 1, "x", (), {}, {1}, True], persistentStore=store)
    assert asked == [PLAIN]
    assert jelly([PLAIN, PLAIN], persistentStore=store) == [
        b"list",
        *[[b"persistent", b"the-id"]] * 2,
    ]


def test_an_object_without_an_id_is_sent_or_refused_as_ever() -> None:
    with pytest.raises(InsecureJelly, match="mod.Plain"):
        jelly(PLAIN, persistentStore=lambda obj, jellier: None)


@pytest.mark.parametrize(
    ("known", "tree"), [(7, 7), (b"x", b"x"), ("größe", [b"unicode", "größe".encode()])]
)
def test_an_id_is_a_number_or_a_string(known: Any, tree: Any) -> None:
    security = SecurityOptions()
    security.persistentStore = lambda obj, jellier: known
    assert jelly(PLAIN, security=security) == [b"persistent", tree]


@pytest.mark.parametrize("known", [1.5, [1], True, object()])
def test_nothing_else_is_an_id(known: Any) -> None:
    with pytest.raises(TypeError, match="a persistent id is"):
        jelly(PLAIN, persistentStore=lambda obj, jellier: known)
