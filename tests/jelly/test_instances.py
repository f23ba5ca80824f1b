"""Enums, dataclasses, namedtuples and slots of allowed classes, and what is said of others."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import io
import typing
from dataclasses import dataclass, field
from typing import Any

import pytest

import pbnb as pb
from pbnb.errors import InsecureJelly, LimitExceeded
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.limits import Limits
from pbnb.wire.banana import decode, encode
from tests.support.pair import BrokerPair


def allowing(*classes: type) -> SecurityOptions:
    security = SecurityOptions()
    security.allowInstancesOf(*classes)
    return security


def name_of(cls: type) -> bytes:
    return f"{cls.__module__}.{cls.__name__}".encode()


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1
    GREEN = (2, "two")
    BLUE = 3


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 8


class Odd(enum.IntFlag, boundary=enum.KEEP):
    A = 1
    B = 4


@dataclass
class Point:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    length: float = field(init=False, default=0.5)
    found: Any = field(init=False)


@dataclass(frozen=True)
class Frozen:
    x: Any
    y: Any = 2


@dataclass(slots=True)
class Slots:
    x: Any


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    x: Any
    y: Any


@dataclass
class Checked:
    x: int

    def __post_init__(self) -> None:
        raise AssertionError("an instance is made without __init__")


@dataclass
class Own:
    x: int

    def __getstate__(self) -> Any:
        return {"kept": self.x}

    def __setstate__(self, state: Any) -> None:
        self.x = state["kept"] + 1


class Beyond(Point):
    pass


class Pair(typing.NamedTuple):
    left: Any
    right: Any = "default"


Old = collections.namedtuple("Old", ["a", "b"])

CLASSES: list[type] = [
    *(Colour, Level, Word, Right, Odd, Point, Frozen, Slots, FrozenSlots, Own, Beyond, Pair, Old)
]
ALL = allowing(*CLASSES)


def there_and_back(value: Any) -> Any:
    """Returns what arrives, through the bytes."""
    return unjelly(decode(encode(jelly(value, security=ALL))), security=ALL)


# Enums


@pytest.mark.parametrize(
    "member",
    [*Colour, Colour.CRIMSON, *Level, *Word, *Right, Right.READ | Right.RUN, Right(0), *Odd]
    + [Odd.A | Odd.B],
)
def test_a_member_arrives_as_that_very_member(member: enum.Enum) -> None:
    made = there_and_back([member, {member: member}])
    assert made[0] is member
    assert made[1] == {member: member}


def test_a_member_is_sent_by_its_name_and_never_by_reference() -> None:
    red = [name_of(Colour), [b"unicode", b"RED"]]
    assert jelly([Colour.RED, Colour.CRIMSON], security=ALL) == [b"list", red, red]
    assert jelly(Right.READ | Right.RUN, security=ALL) == [name_of(Right), 9]


def test_what_twisted_sends_for_a_member_is_read() -> None:
    state: Any = [b"dictionary", [[b"unicode", b"_name_"], [b"unicode", b"BLUE"]]]
    assert unjelly([name_of(Colour), state], security=ALL) is Colour.BLUE
    state = [b"dictionary", [b"_name_", b"BLUE"]]
    assert unjelly([name_of(Colour), state], security=ALL) is Colour.BLUE


@pytest.mark.parametrize("cls", [Colour, Level, Right, Odd])
@pytest.mark.parametrize(
    "state",
    [
        b"nothing",
        b"__class__",
        b"name",
        b"_value_",
        16,
        -1,
        2**70,
        1.0,
        [b"None"],
        [b"list"],
        [b"boolean", b"true"],
        [b"dictionary"],
        [b"dictionary", [[b"unicode", b"_name_"], 1]],
    ],
)
def test_no_other_member_can_be_made(cls: type[enum.Enum], state: Any) -> None:
    known = len(cls._value2member_map_)
    with pytest.raises(InsecureJelly, match=f"enum {cls.__name__} has no member"):
        unjelly([name_of(cls), state], security=ALL)
    assert len(cls._value2member_map_) == known


def test_a_member_of_an_enum_that_was_not_allowed() -> None:
    with pytest.raises(InsecureJelly, match=r"Colour\.RED is not sent.*or send its value"):
        jelly(Colour.RED)
    with pytest.raises(InsecureJelly, match=r"Colour is not allowed here"):
        unjelly(jelly(Colour.RED, security=ALL))


# Dataclasses


def made_point() -> Point:
    point = Point(1, tags=["a"])
    point.found = {"deep": [point.tags]}
    return point


@pytest.mark.parametrize(
    "value", [Frozen(1, [2]), Slots((1, 2)), FrozenSlots(Frozen(1), Slots(2))], ids=repr
)
def test_a_dataclass_arrives_with_its_fields(value: Any) -> None:
    made = there_and_back(value)
    assert type(made) is type(value)
    assert made == value


def test_a_dataclass_arrives_with_what_init_has_not_set() -> None:
    made = there_and_back(made_point())
    assert made == made_point()
    assert made.found["deep"][0] is made.tags
    assert made.length == 0.5


def test_attributes_beyond_the_fields_stay_behind() -> None:
    point: Any = made_point()
    point.cache = object()
    assert not hasattr(there_and_back(point), "cache")
    beyond: Any = Beyond(1)
    beyond.extra = "kept, because the class itself is no dataclass"
    assert there_and_back(beyond).extra == beyond.extra


def test_a_field_that_was_never_set_is_not_sent() -> None:
    assert not hasattr(there_and_back(Point(1)), "found")


def test_a_frozen_one_may_hold_itself() -> None:
    inside: list[Any] = []
    frozen = Frozen(inside)
    inside.append(frozen)
    made = there_and_back(frozen)
    assert made.x[0] is made
    slots = FrozenSlots(inside, 1)
    inside[0] = slots
    made = there_and_back(slots)
    assert made.x[0] is made


def test_its_own_methods_for_its_state_come_first() -> None:
    assert there_and_back(Own(1)).x == 2


def test_a_default_stands_in_for_a_field_that_is_missing() -> None:
    made = unjelly([name_of(Point), [b"dictionary", [b"x", 1]]], security=ALL)
    assert (made.x, made.y, made.tags, made.length) == (1, 2, [], 0.5)
    again = unjelly([name_of(Point), [b"dictionary", [b"x", 1]]], security=ALL)
    assert again.tags is not made.tags


def test_init_and_post_init_are_not_called() -> None:
    security = allowing(Checked)
    made = unjelly([name_of(Checked), [b"dictionary", [b"x", 1]]], security=security)
    assert made.x == 1


# Namedtuples


def test_a_namedtuple_arrives_with_its_fields() -> None:
    value = [Pair(1, [2]), Old(Pair(None), ()), Pair(())]
    made = there_and_back(value)
    assert made == value
    assert [type(each) for each in made] == [Pair, Old, Pair]
    assert made[1].a.right == "default"


def test_a_namedtuple_is_shared_and_may_hold_itself() -> None:
    inside: list[Any] = []
    pair = Pair(inside, inside)
    inside.append(pair)
    made = there_and_back([pair, pair, pair.left])
    assert made[0] is made[1] is made[2][0]
    assert made[0].left is made[0].right is made[2]


def test_a_namedtuple_is_a_key() -> None:
    assert there_and_back({Pair(1, (2,)): 3}) == {Pair(1, (2,)): 3}


def test_a_default_stands_in_for_an_item_that_is_missing() -> None:
    made = unjelly([name_of(Pair), [b"dictionary", [b"left", 1]]], security=ALL)
    assert made == Pair(1, "default")


# Both


@pytest.mark.parametrize("cls", [Frozen, FrozenSlots, Pair, Old, Slots, Point])
@pytest.mark.parametrize(
    "state",
    [
        [b"None"],
        [b"list"],
        [b"tuple", 1, 2],
        5,
        b"x",
        [b"dictionary"],
        [b"dictionary", [b"x", 1], [b"y", 2], [b"left", 1], [b"a", 1], [b"b", 2]],
        [b"dictionary", [b"x", 1], [b"y", 2], [b"__class__", 3]],
        [b"dictionary", [b"left", 1], [b"right", 2], [b"__class__", 3]],
        [b"dictionary", [b"a", 1], [b"b", 2], [b"_fields", 3]],
        [b"dictionary", [1, 2]],
        [b"dictionary", [[b"list"], 2]],
        [b"dictionary", b"xy"],
        [b"dictionary", [b"y", 2]],
        [b"dictionary", [b"right", 2]],
        [b"dictionary", [b"b", 2]],
    ],
)
def test_other_states_are_refused(cls: type, state: Any) -> None:
    with pytest.raises(InsecureJelly):
        unjelly([name_of(cls), state], security=ALL)


def test_what_is_wrong_with_a_field_is_said() -> None:
    for cls, name in ((Frozen, b"x"), (Pair, b"left")):
        with pytest.raises(InsecureJelly, match=f"'huge' is no field of a {cls.__name__}"):
            unjelly([name_of(cls), [b"dictionary", [name, 1], [b"huge", 2]]], security=ALL)
        with pytest.raises(InsecureJelly, match=f"without its field {name.decode()}"):
            unjelly([name_of(cls), [b"dictionary"]], security=ALL)
    with pytest.raises(InsecureJelly, match="'left' cannot be a field of a Pair"):
        tree: Any = [b"dictionary", [b"left", 1], [b"left", 2]]
        unjelly([name_of(Pair), tree], security=ALL)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_expression_of_another_length_is_refused(cls: type) -> None:
    for tree in ([name_of(cls)], [name_of(cls), [b"dictionary"], 1]):
        with pytest.raises(InsecureJelly, match="malformed instance"):
            unjelly(tree, security=ALL)


@pytest.mark.parametrize("cls", [Pair, Frozen, FrozenSlots])
def test_keys_that_take_for_ever_to_hash_are_refused(cls: type) -> None:
    names = [each.encode() for each in ("left", "right") if cls is Pair] or [b"x", b"y"]
    tree: Any = 1
    for number in range(1, 60):
        part: list[Any] = [b"reference", number, tree] if number > 1 else tree
        again = [b"dereference", number] if number > 1 else tree
        tree = [name_of(cls), [b"dictionary", [names[0], part], [names[1], again]]]
    with pytest.raises(LimitExceeded, match="take too long to hash"):
        unjelly([b"set", tree], security=ALL, limits=Limits(message_items=100_000))


# Slots


class WithSlots:
    __slots__ = ("__dict__", "_hidden", "x")


def test_slots_and_attributes_arrive() -> None:
    security = allowing(WithSlots)
    value: Any = WithSlots()
    value.x, value._hidden, value.free = 1, 2, [3]
    made = unjelly(decode(encode(jelly(value, security=security))), security=security)
    assert (made.x, made._hidden, made.free) == (1, 2, [3])


@pytest.mark.parametrize(
    "slots", [[b"dictionary", [b"__dict__", 1]], [b"dictionary", [b"y", 1]], [b"list"], 5]
)
def test_what_is_no_slot_is_refused(slots: Any) -> None:
    security = allowing(WithSlots)
    with pytest.raises(InsecureJelly):
        unjelly([name_of(WithSlots), [b"tuple", [b"None"], slots]], security=security)


# The old form


def test_the_form_that_pb_began_with_is_read() -> None:
    tree: Any = [b"instance", [b"class", name_of(Frozen)], [b"dictionary", [b"x", 1]]]
    assert unjelly(tree, security=ALL) == Frozen(1)
    shared = unjelly([b"list", [b"reference", 1, tree], [b"dereference", 1]], security=ALL)
    assert shared[0] is shared[1]
    with pytest.raises(InsecureJelly, match="instance is not allowed here"):
        unjelly(tree)


@pytest.mark.parametrize(
    "rest",
    [
        [],
        [[b"class", name_of(Frozen)]],
        [name_of(Frozen), [b"dictionary", [b"x", 1]]],
        [[b"class", b"builtins.int"], [b"dictionary"]],
        [[b"list"], [b"dictionary"]],
        [[b"dereference", 1], [b"dictionary"]],
    ],
)
def test_other_old_forms_are_refused(rest: list[Any]) -> None:
    with pytest.raises(InsecureJelly):
        unjelly([b"instance", *rest], security=ALL)


# Persistent objects over a connection


class Shelf(pb.Root):
    def remote_same(self, value: Any, known: Any) -> bool:
        return value is known

    def remote_back(self, value: Any) -> Any:
        return value


def test_an_application_sends_what_it_knows_by_its_ids() -> None:
    books = {7: Stranger()}
    options = pb.SecurityOptions()
    options.allowBasicTypes()
    options.persistentStore = lambda obj, jellier: 7 if obj is books[7] else None
    options.persistentLoad = lambda known, unjellier: books[known]
    pair = BrokerPair(Shelf(), security=options)
    assert pair.call("same", books[7], books[7])
    assert pair.call("back", {"deep": [books[7]]})["deep"][0] is books[7]
    with pytest.raises(InsecureJelly, match="Stranger are not sent"):
        pair.call("back", Stranger())
    options.persistentStore = lambda obj, jellier: 8
    with pytest.raises(InsecureJelly, match="could not be restored"):
        pair.call("back", books[7])
    assert pair.call("back", "alive") == "alive"


# What is said of the rest


async def coroutine() -> None: ...


class Subclass(dict[str, Any]):
    pass


class Stranger:
    pass


class Scalar(float):
    """A number of a library that is not needed here."""


Scalar.__module__ = "numpy"


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ((each for each in ()), "send a list of its items"),
        (iter([]), "send a list of its items"),
        (map(str, []), "send a list of its items"),
        ({}.keys(), "send a list of its items"),
        (io.BytesIO(b"x"), "send what it reads, or page through it with pb.FilePager"),
        (Scalar(1.5), "send the bytes or the list of its items"),
        (Subclass(), r"send dict\(obj\), or allow the class"),
        (collections.OrderedDict(), r"send dict\(obj\)"),
        (collections.Counter(), r"send dict\(obj\)"),
        (Pair(1), r"send tuple\(obj\), or allow the class"),
        (Stranger(), "derive the class from pb.Referenceable"),
        (Frozen(1), "allow it with SecurityOptions.allowInstancesOf"),
    ],
)
def test_what_is_not_sent_is_named_and_what_to_do_instead(value: Any, advice: str) -> None:
    cls = type(value)
    with pytest.raises(
        InsecureJelly, match=f"instances of .*{cls.__name__} are not sent: .*{advice}"
    ):
        jelly([value])


def test_what_can_be_awaited_is_to_be_awaited() -> None:
    waiting = coroutine()
    with pytest.raises(InsecureJelly, match="coroutine are not sent: await it"):
        jelly(waiting)
    waiting.close()
    loop = asyncio.new_event_loop()
    with pytest.raises(InsecureJelly, match="Future are not sent: await it"):
        jelly(loop.create_future())
    loop.close()


def test_nothing_of_a_refused_instance_is_asked() -> None:
    class Touchy:
        def __getstate__(self) -> Any:
            raise AssertionError("not allowed")

        def __repr__(self) -> str:
            raise AssertionError("nor shown")

    with pytest.raises(InsecureJelly, match="Touchy"):
        jelly(Touchy())


def test_every_class_here_is_what_it_is_called() -> None:
    assert dataclasses.is_dataclass(Beyond)
    assert "__dataclass_fields__" not in vars(Beyond)
