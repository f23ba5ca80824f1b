"""Unjelly against Twisted's vectors, and against peers who mean harm."""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbnb.errors import InsecureJelly, LimitExceeded, wire_name
from pbnb.flavors import Referenceable, RemoteCopy
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.limits import Limits
from pbnb.refs import Refs
from pbnb.wire.banana import decode, encode
from tests.support.vectors import from_json, load

VECTORS = {vector["name"]: vector for vector in load("jelly")["unjelly"]}

# The modulus of Python's hash of numbers: its multiples all hash to 0.
MODULUS = sys.hash_info.modulus


class Plain:
    def method(self) -> None:
        pass


class Pond(RemoteCopy):
    pass


for each in (Plain, Pond):
    each.__module__ = "wiretypes"


ACCEPTED: dict[str, Any] = {
    "None": None,
    "true": True,
    "false": False,
    "text": "café",
    "int": 5,
    "bytes": b"x",
    "float": 1.5,
    "list": [1, []],
    "tuple": (1,),
    "dictionary": {1: 2, "k": b"v"},
    "set": {1},
    "frozenset": frozenset((1,)),
    "datetime": datetime.datetime(2020, 2, 3, 4, 5, 6, 7),
    "date": datetime.date(2020, 2, 3),
    "time": datetime.time(4, 5, 6, 7),
    "timedelta": datetime.timedelta(days=-1, microseconds=5),
    "decimal": Decimal("-12.50"),
    "decimal zero loses its sign": Decimal("0.0"),
    # What Python 2 sends, and Twisted on Python 3 cannot read.
    "decimal exponent F": Decimal("Infinity"),
    # Twisted hands its own placeholder out here.
    "shared None value: reference to None": [None, None],
    "dereference of falsy value": [0, 0],
}

# Where Twisted raises what its reader happens to run into, this is InsecureJelly and says why.
REFUSED: dict[str, str] = {
    "boolean odd": "a boolean is true or false, not x",
    "text bad": "not UTF-8",
    "datetime text": "malformed datetime",
    "decimal exponent n": "exponent",
    "class": "class is not allowed here",
    "class of an unknown module": "class is not allowed here",
    "class that is a function": "class is not allowed here",
    "module": "module is not allowed here",
    "function": "function is not allowed here",
    "method": "method is not allowed here",
    "instance of a dotted class": "wiretypes.Plain is not allowed here",
    "instance, bytes keys": "wiretypes.Plain is not allowed here",
    "instance, state None": "wiretypes.Plain is not allowed here",
    "instance atom": "instance is not allowed here",
    "undotted unknown": "frob is not allowed here",
    "string atom": "string is not allowed here",
    "long atom": "long is not allowed here",
    "unpersistable": "the peer could not send a value: why",
    "persistent without a loader": "persistent is not allowed here",
    "cycle through a set": "tuple cannot be a key or a member of a set",
    "empty list": "must begin with a type",
    "type given as an int": "must begin with a type",
    "list as type": "must begin with a type",
    "RemoteCopy, text keys": "wiretypes.Pond is not allowed here",
    "RemoteCopy, bytes keys": "wiretypes.Pond is not allowed here",
    "nonascii type": "caf.\\.x is not allowed here",
}

SAME_OBJECT: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "shared": lambda made: (made[0], made[1]),
    "cycle": lambda made: (made, made[0]),
    "cycle through a tuple": lambda made: (made, made[0][0]),
}


def sexp(name: str) -> Any:
    return from_json(VECTORS[name]["sexp"])


def same(left: object, right: object) -> bool:
    return type(left) is type(right) and left == right


def test_every_vector_is_accepted_or_refused() -> None:
    assert ACCEPTED.keys() | REFUSED.keys() | SAME_OBJECT.keys() == VECTORS.keys()
    assert len(ACCEPTED) + len(REFUSED) + len(SAME_OBJECT) == len(VECTORS)


@pytest.mark.parametrize("name", ACCEPTED)
def test_reads_what_twisted_reads(name: str) -> None:
    assert same(unjelly(sexp(name)), ACCEPTED[name])


@pytest.mark.parametrize("name", SAME_OBJECT)
def test_keeps_what_is_one_object(name: str) -> None:
    left, right = SAME_OBJECT[name](unjelly(sexp(name)))
    assert left is right


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_and_says_why(name: str) -> None:
    modules = set(sys.modules)
    with pytest.raises(InsecureJelly, match=REFUSED[name]):
        unjelly(sexp(name))
    assert set(sys.modules) == modules


# Instances


def allowing(*classes: type) -> SecurityOptions:
    security = SecurityOptions()
    security.allowInstancesOf(*classes)
    return security


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("instance of a dotted class", {"v": 3}),
        # Python 2's names of attributes are bytes, which Twisted leaves unreachable on Python 3.
        ("instance, bytes keys", {"v": 3}),
        ("instance, state None", {}),
    ],
)
def test_instances_of_allowed_classes_are_restored(name: str, attributes: dict[str, Any]) -> None:
    made = unjelly(sexp(name), security=allowing(Plain))
    assert type(made) is Plain
    assert vars(made) == attributes


@pytest.mark.parametrize("name", ["RemoteCopy, text keys", "RemoteCopy, bytes keys"])
def test_copies_of_registered_types_are_restored(name: str) -> None:
    security = SecurityOptions()
    security.allowBasicTypes()
    security.setUnjellyableForClass("wiretypes.Pond", Pond)
    made = unjelly(sexp(name), security=security)
    assert type(made) is Pond
    assert vars(made) == {"x": 1}


def test_an_allowed_class_arrives_as_itself() -> None:
    assert unjelly(sexp("class"), security=allowing(Plain)) is Plain
    with pytest.raises(InsecureJelly, match=r"class nosuchmod\.X is not allowed"):
        unjelly(sexp("class of an unknown module"), security=allowing(Plain))


@pytest.mark.parametrize(
    "key",
    [
        b"__class__",
        b"__dict__",
        b"__setstate__",
        b"method",
        b"a b",
        b"",
        5,
        [b"tuple"],
        [b"unicode", b"__class__"],
    ],
)
def test_a_state_cannot_name_what_is_no_attribute(key: Any) -> None:
    with pytest.raises(InsecureJelly):
        unjelly([b"wiretypes.Plain", [b"dictionary", [key, 1]]], security=allowing(Plain))


@pytest.mark.parametrize("state", [5, b"x", [b"list"], [b"tuple", 1], [b"tuple", 1, 2], 1.5])
def test_a_state_that_is_no_dict_is_refused(state: Any) -> None:
    with pytest.raises(InsecureJelly):
        unjelly([b"wiretypes.Plain", state], security=allowing(Plain))


class Hooked:
    def __init__(self) -> None:
        raise AssertionError("not called for an instance that arrives")

    def postUnjelly(self) -> None:
        self.hooked = True


def test_the_hook_of_a_class_is_called_and_init_is_not() -> None:
    tree = [wire_name(Hooked).encode(), [b"dictionary", [b"x", 1]]]
    assert vars(unjelly(tree, security=allowing(Hooked))) == {"x": 1, "hooked": True}


def test_a_hook_in_a_state_is_not_called() -> None:
    tree = [b"wiretypes.Plain", [b"dictionary", [b"postUnjelly", [b"class", b"wiretypes.Boom"]]]]
    calls = []

    class Boom:
        def __init__(self) -> None:
            calls.append(self)

    Boom.__module__ = "wiretypes"
    made = unjelly(tree, security=allowing(Plain, Boom))
    assert made.postUnjelly is Boom
    assert calls == []


class Slotted:
    __slots__ = ("x", "y")


class SlottedToo(Slotted):
    pass


def test_slots_are_restored_and_nothing_else() -> None:
    one, two = Slotted(), SlottedToo()
    one.x, two.x, two.z = 1, 2, 3  # type: ignore[attr-defined]
    security = allowing(Slotted, SlottedToo)
    made = unjelly(jelly([one, two], security=security), security=security)
    assert (made[0].x, made[1].x, made[1].z) == (1, 2, 3)
    assert not hasattr(made[0], "y")
    name = jelly(one, security=security)[0]  # type: ignore[index]
    for slot in (b"__class__", b"other"):
        state: Any = [b"tuple", [b"None"], [b"dictionary", [slot, 1]]]
        with pytest.raises(InsecureJelly):
            unjelly([name, state], security=security)


class Stateful:
    def __getstate__(self) -> Any:
        return self.__dict__.copy()

    def __setstate__(self, state: Any) -> None:
        self.seen = dict(state)
        self.__dict__.update(state)


def test_setstate_sees_a_state_that_is_complete() -> None:
    made = Stateful()
    made.me = (made, [made])  # type: ignore[attr-defined]
    security = allowing(Stateful)
    around: Any = unjelly(jelly((made, 1), security=security), security=security)
    copy = around[0]
    assert copy.me[0] is copy and copy.me[1][0] is copy
    assert copy.seen["me"] is copy.me


def test_an_instance_inside_the_tuple_that_it_holds() -> None:
    inside = Plain()
    around = (inside,)
    inside.around = around  # type: ignore[attr-defined]
    made: Any = unjelly(jelly(around, security=allowing(Plain)), security=allowing(Plain))
    assert made[0].around is made


@pytest.mark.parametrize(
    "kind", [set, frozenset, lambda inside: {inside[0]: 1}], ids=["set", "frozenset", "key"]
)
def test_an_instance_inside_what_hashes_it(kind: Callable[[list[Plain]], Any]) -> None:
    inside = Plain()
    around = inside.around = kind([inside])  # type: ignore[attr-defined]
    security = allowing(Plain)
    for start in (around, inside):
        tree = decode(encode(jelly(start, security=security)))
        made: Any = unjelly(tree, security=security)
        copy = made if start is inside else next(iter(made))
        assert type(copy) is Plain and type(copy.around) is type(around)
        assert start is inside or copy.around is made
        (member,) = copy.around
        assert member is copy and copy in copy.around


# Sharing and cycles


def test_a_dereference_may_come_first() -> None:
    made = unjelly([b"list", [b"dereference", 1], [b"reference", 1, [b"list", 5]]])
    assert made == [[5], [5]]
    assert made[0] is made[1]


@pytest.mark.parametrize(
    "around",
    [
        lambda part: [b"list", part],
        lambda part: [b"tuple", part],
        lambda part: [b"set", part],
        lambda part: [b"frozenset", part],
        lambda part: [b"dictionary", [b"k", part]],
        lambda part: [b"dictionary", [part, b"v"]],
        lambda part: [b"dictionary", [part, part]],
    ],
)
def test_a_forward_dereference_is_filled_in_everywhere(around: Callable[[Any], Any]) -> None:
    tree = [b"list", around([b"dereference", 7]), [b"reference", 7, [b"tuple", 1]]]
    expected = [around([b"tuple", 1]), [b"tuple", 1]]
    assert unjelly(tree) == unjelly([b"list", *expected])


def test_forward_dereferences_keep_the_order_of_a_dict() -> None:
    tree = [
        b"list",
        [b"dictionary", [b"a", [b"dereference", 1]], [b"b", 2], [b"c", 3]],
        [b"reference", 1, [b"list"]],
    ]
    made = unjelly(tree)
    assert list(made[0].items()) == [(b"a", made[1]), (b"b", 2), (b"c", 3)]


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ([b"dereference", 1], "dereference of 1, which has no reference"),
        ([b"list", [b"dereference", 9]], "dereference of 9, which has no reference"),
        ([b"tuple", [b"dereference", 9]], "dereference of 9, which has no reference"),
        (
            [b"list", [b"reference", 1, [b"list"]], [b"reference", 1, [b"list"]]],
            "reference 1 is defined twice",
        ),
        ([b"reference", 1, [b"reference", 1, [b"list"]]], "reference 1 is defined twice"),
        ([b"reference", 1, [b"dereference", 1]], "refers to itself"),
        (
            [b"reference", 1, [b"reference", 2, [b"dereference", 1]]],
            "contains itself",
        ),
        ([b"reference", 1, [b"tuple", [b"dereference", 1]]], "tuple or frozenset contains itself"),
        (
            [b"reference", 1, [b"frozenset", [b"dereference", 1]]],
            "tuple or frozenset contains itself",
        ),
        (
            [b"reference", 1, [b"tuple", [b"tuple", [b"dereference", 1]]]],
            "tuple or frozenset contains itself",
        ),
        ([b"reference", 1, [b"dictionary", [[b"dereference", 1], 1]]], "dict cannot be a key"),
        ([b"reference", 1, [b"set", [b"dereference", 1]]], "set cannot be a key or a member"),
        ([b"set", [b"list"]], "list cannot be a key or a member"),
        ([b"frozenset", [b"dictionary"]], "dict cannot be a key or a member"),
        ([b"dictionary", [[b"list"], 1]], "list cannot be a key"),
        ([b"dictionary", [[b"tuple", [b"list"]], 1]], "tuple cannot be a key"),
        (
            [b"list", [b"set", [b"dereference", 1]], [b"reference", 1, [b"list"]]],
            "list cannot be a key or a member",
        ),
        (
            [b"list", [b"dictionary", [[b"dereference", 1], 1]], [b"reference", 1, [b"list"]]],
            "list cannot be a key or a member",
        ),
    ],
)
def test_references_that_make_no_sense_are_refused(tree: Any, text: str) -> None:
    with pytest.raises(InsecureJelly, match=text):
        unjelly(tree)


@pytest.mark.parametrize("number", [0, -1, 2**61 - 1, 2**448 - 1, b"1", 1.0, [], [b"None"]])
@pytest.mark.parametrize("word", [b"reference", b"dereference", b"remote"])
def test_numbers_of_objects_count_from_one(word: bytes, number: Any) -> None:
    tree = [word, number, [b"list"]] if word == b"reference" else [word, number]
    with pytest.raises(InsecureJelly, match="malformed|allowed"):
        unjelly(tree, Refs(Silent(), 10, list))


def atoms() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**100), 2**100),
        st.floats(allow_nan=False),
        st.binary(max_size=8),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.decimals(allow_nan=False, allow_infinity=False, places=3).filter(
            lambda number: number != 0
        ),
        st.datetimes().map(lambda moment: moment.replace(fold=0)),  # PB has no place for it
        st.dates(),
        st.times().map(lambda time: time.replace(fold=0)),
        st.timedeltas(),
    )


def hashables() -> st.SearchStrategy[Any]:
    return st.recursive(
        atoms(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
        ),
        max_leaves=5,
    )


def values() -> st.SearchStrategy[Any]:
    return st.recursive(
        hashables(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=3).map(tuple),
            st.sets(hashables(), max_size=3),
            st.dictionaries(hashables(), inner, max_size=3),
        ),
        max_leaves=12,
    )


def through_the_wire(value: Any) -> Any:
    return unjelly(decode(encode(jelly(value))))


@given(values())
def test_values_survive_the_wire(value: Any) -> None:
    made = through_the_wire(value)
    assert made == value
    assert described(made) == described(value)


def described(value: Any) -> Any:
    """Returns a description that tells 1 from True and 1.0, and forgets the order of sets."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return (kind, [(described(key), described(part)) for key, part in value.items()])
    if isinstance(value, (set, frozenset)):
        return (kind, sorted(map(repr, map(described, value))))
    if isinstance(value, (list, tuple)):
        return (kind, [described(part) for part in value])
    return (kind, repr(value))


@given(values(), st.data())
def test_what_is_shared_stays_shared(value: Any, data: st.DataObject) -> None:
    # Containers all: of an atom the wire keeps the value alone.
    shared: list[Any] = [[value], [value, [value]], {"k": value}, (value, 1)]
    pattern = data.draw(st.lists(st.integers(0, 3), max_size=8))
    items = [shared[index] for index in pattern]
    made = through_the_wire(items)
    for i, left in enumerate(items):
        for j, right in enumerate(items):
            assert (made[i] is made[j]) == (left is right)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30), st.data())
def test_any_graph_of_lists_dicts_and_tuples_survives(
    edges: list[tuple[int, int]], data: st.DataObject
) -> None:
    kinds = data.draw(st.lists(st.sampled_from(["list", "dict", "via"]), min_size=10, max_size=10))
    nodes: list[Any] = [{} if kind == "dict" else [] for kind in kinds]
    for start, end in edges:
        target = (nodes[end], start) if kinds[start] == "via" else nodes[end]
        node = nodes[start]
        if isinstance(node, dict):
            node[len(node)] = target
        else:
            node.append(target)
    made = through_the_wire(nodes)
    numbers = {id(node): number for number, node in enumerate(made)}
    assert len(numbers) == len(nodes)
    rebuilt = []
    for number, node in enumerate(made):
        for item in node.values() if isinstance(node, dict) else node:
            rebuilt.append((number, numbers[id(item[0] if type(item) is tuple else item)]))
    assert sorted(rebuilt) == sorted(edges)


class Silent:
    """A peer to borrow from; nothing is called in these tests."""

    def call(self, *_: Any) -> Any: ...
    def call_only(self, *_: Any) -> None: ...
    def watch(self, *_: Any) -> None: ...
    def unwatch(self, *_: Any) -> None: ...
    def gone(self, luid: int) -> None: ...


# What a message may cost


def flood(keys: list[Any]) -> dict[str, Any]:
    pairs: list[Any] = [[key, 1] for key in keys]
    numbered: list[Any] = [[b"reference", n, key] for n, key in enumerate(keys, 1)]
    backward: list[Any] = [[b"dereference", n] for n in range(1, len(keys) + 1)]
    return {
        "dict": [b"dictionary", *pairs],
        "set": [b"set", *keys],
        "frozenset": [b"frozenset", *keys],
        "set, known before": [b"list", [b"list", *numbered], [b"set", *backward]],
        "set, known later": [b"list", [b"set", *backward], [b"list", *numbered]],
        "frozenset, known later": [b"list", [b"frozenset", *backward], [b"list", *numbered]],
        "dict, known later": [
            b"list",
            [b"dictionary", *([part, 1] for part in backward)],
            [b"list", *numbered],
        ],
        "dict, keys and values known later": [
            b"list",
            [b"dictionary", *([part, part] for part in backward)],
            [b"list", *numbered],
        ],
        "dict, known inside": [
            b"dictionary",
            *([part, whole] for part, whole in zip(backward, numbered, strict=True)),
        ],
    }


KEYS: dict[str, Callable[[int], Any]] = {
    "int": lambda n: n * MODULUS,
    "float": lambda n: 2.0 ** (61 * n),
    "decimal": lambda n: [b"decimal", n * MODULUS, 0],
    "tuple": lambda n: [b"tuple", n * MODULUS],
    "frozenset": lambda n: [b"frozenset", n * MODULUS],
    "nested": lambda n: [b"tuple", [b"frozenset", [b"tuple", n * MODULUS, b"x"]]],
}


@pytest.mark.parametrize("around", flood([]))
@pytest.mark.parametrize("kind", KEYS)
def test_keys_that_share_a_hash_are_bounded(kind: str, around: str) -> None:
    few = [KEYS[kind](n) for n in range(1, 11)]
    assert unjelly(flood(few)[around]) is not None
    bound = Limits(hash_collisions=4)
    many = [KEYS[kind](n) for n in range(1, 5)]
    assert unjelly(flood(many)[around], limits=bound) is not None
    many.append(KEYS[kind](5))
    with pytest.raises(LimitExceeded, match="dict or set keys of one hash; 4 are allowed"):
        unjelly(flood(many)[around], limits=bound)


def test_the_hash_bound_by_default() -> None:
    most = Limits().hash_collisions
    assert len(unjelly([b"set", *(n * MODULUS for n in range(most))])) == most
    with pytest.raises(LimitExceeded):
        unjelly([b"set", *(n * MODULUS for n in range(most + 1))])


def test_large_dicts_of_ordinary_keys_pass() -> None:
    keys: list[Any] = [*range(3000), *((i, str(i)) for i in range(3000)), *map(str, range(3000))]
    value = dict.fromkeys(keys, 0.5)
    assert through_the_wire(value) == value
    assert through_the_wire(set(keys)) == set(keys)


def laughs(levels: int) -> list[Any]:
    tree: list[Any] = [b"reference", 1, [b"tuple", b"ha", b"ha"]]
    for number in range(2, levels):
        tree = [b"reference", number, [b"tuple", tree, [b"dereference", number - 1]]]
    return [b"tuple", tree, [b"dereference", levels - 1]]


def test_a_billion_laughs_are_read_without_being_multiplied() -> None:
    made = unjelly(laughs(30))
    for _ in range(30):
        assert made[0] is made[1]
        made = made[0]
    assert made == b"ha"


def test_tuples_that_wait_for_one_around_them_are_bounded() -> None:
    def children(count: int) -> list[Any]:
        return [
            b"reference",
            1,
            [b"tuple", [b"list", *([[b"tuple", [b"dereference", 1]]] * count)]],
        ]

    family = unjelly(children(5_000))
    assert len(family[0]) == 5_000 and all(child == (family,) for child in family[0][:3])
    with pytest.raises(LimitExceeded, match="more than 10000 tuples"):
        unjelly(children(10_001))


def twice_frozen(levels: int, seed: int) -> list[Any]:
    first = seed * 100
    tree: list[Any] = [b"reference", first + 1, [b"frozenset", b"ha"]]
    for number in range(first + 2, first + levels):
        again = [b"tuple", [b"dereference", number - 1]]
        tree = [b"reference", number, [b"frozenset", tree, again]]
    return tree


@pytest.mark.parametrize(
    "around",
    [
        lambda _: [b"set", twice_frozen(60, 1), twice_frozen(60, 2)],
        lambda tree: [b"dictionary", [tree, 1]],
        lambda tree: [b"set", tree],
        lambda tree: [b"frozenset", tree],
        lambda tree: [b"list", [b"set", [b"dereference", 99]], [b"reference", 99, tree]],
    ],
)
def test_a_key_that_takes_for_ever_to_hash_is_refused(around: Callable[[Any], Any]) -> None:
    with pytest.raises(LimitExceeded, match="too long to hash"):
        unjelly(around(laughs(60)))


def test_one_large_key_of_many_sets_is_hashed_within_the_message_s_budget() -> None:
    key: list[Any] = [b"reference", 1, [b"tuple", *range(1000)]]
    sets: list[Any] = [[b"set", [b"dereference", 1]] for _ in range(20)]
    tree = [b"list", key, *sets]
    assert len(unjelly(tree, limits=Limits(message_items=20_000))) == 21
    with pytest.raises(LimitExceeded, match="too long to hash"):
        unjelly(tree, limits=Limits(message_items=19_999))


def test_as_many_tuple_keys_as_a_message_holds_are_within_its_budget() -> None:
    value = {(i, i): i for i in range(2000)}
    items = 1 + 1 + 2000 * (1 + 1 + 1 + 2 + 1)  # every list, word and number of the message
    tree = jelly(value)
    assert unjelly(tree, limits=Limits(message_items=items)) == value


def chain(length: int) -> list[Any]:
    """Returns a flat message of tuples, each in the next, whose nesting no depth limit sees."""
    tree: list[Any] = [b"list"]
    for number in range(1, length):
        tree.append([b"reference", number, [b"tuple", [b"dereference", number + 1]]])
    return [*tree, [b"reference", length, [b"tuple"]]]


def test_a_long_chain_of_forward_dereferences_needs_no_stack() -> None:
    made = unjelly(chain(4_000))[0]
    depth = 1
    while made:
        (made,) = made
        depth += 1
    assert depth == 4_000


def test_a_key_nested_too_deep_to_hash_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        unjelly([b"list", chain(4_000), [b"set", [b"dereference", 1]]])


@pytest.mark.parametrize(
    "around",
    [
        lambda tree: [b"list", tree],
        lambda tree: [b"tuple", tree],
        lambda tree: [b"frozenset", tree],
        lambda tree: [b"dictionary", [b"k", tree]],
    ],
)
def test_depth_is_what_the_decoder_allows_on_every_python(around: Callable[[Any], Any]) -> None:
    tree: Any = 5
    for _ in range(Limits().depth):
        tree = around(tree)
    assert unjelly(tree) is not None
    for _ in range(5000):
        tree = around(tree)
    with pytest.raises(LimitExceeded, match="too deep"):
        unjelly(tree)


# Type confusion


@pytest.mark.parametrize(
    "tree",
    [
        [],
        [[]],
        [5],
        [1.5, 1],
        [[b"list"], 1],
        [b"None", 1],
        [b"boolean"],
        [b"boolean", 1],
        [b"boolean", [b"unicode", b"true"]],
        [b"unicode"],
        [b"unicode", 5],
        [b"unicode", b"a", b"b"],
        [b"unicode", [b"unicode", b"a"]],
        [b"unicode", b"\xc0\xaf"],
        [b"unicode", b"\xed\xa0\x80"],
        [b"list", []],
        [b"list", [5]],
        [b"dictionary", 5],
        [b"dictionary", [1]],
        [b"dictionary", [1, 2, 3]],
        [b"dictionary", b"kv"],
        [b"dictionary", []],
        [b"reference", 1],
        [b"reference", 1, 2, 3],
        [b"dereference"],
        [b"datetime"],
        [b"datetime", 5],
        [b"datetime", b""],
        [b"datetime", b"2020 1"],
        [b"datetime", b"2020 1 2 3 4 5 6 7 8"],
        [b"datetime", b"0 1 1 0 0 0 0"],
        [b"datetime", b"1000000 1 1 0 0 0 0"],
        [b"datetime", b"2020 13 1 0 0 0 0"],
        [b"datetime", b"2020 1 1 0 0 0 x"],
        [b"datetime", b"9" * 5000 + b" 1 1 0 0 0 0"],
        [b"date", b"2020 1 2 3"],
        [b"date", b"99999999999999999999 1 1"],
        [b"time", b"24 0 0 0"],
        [b"time", b"1"],
        [b"timedelta", b"1000000000 0 0"],
        [b"timedelta", b"99999999999999999999 0 0"],
        [b"timedelta", b"1 2"],
        [b"decimal"],
        [b"decimal", 1],
        [b"decimal", 1, 10_001],
        [b"decimal", 1, -999_999_999],
        [b"decimal", 1.5, 0],
        [b"decimal", b"1", 0],
        [b"decimal", 1, 1.0],
        [b"decimal", 1, b"N"],
        [b"decimal", b"nan", b"F"],
        [b"decimal", 1, [b"boolean", b"true"]],
        [b"local"],
        [b"local", 1],
        [b"local", b"root"],
        [b"remote", 1],
        [b"remote"],
        [b"cached", 1],
        [b"lcache", 1],
        [b"unpersistable"],
        [b"unpersistable", [b"x"]],
        [b"twisted.spread.pb.CopyableFailure"],
        [b"twisted.spread.pb.CopyableFailure", 5],
        [b"\xff\xfe\x1b]0;title\x07", 1],
    ],
)
def test_malformed_expressions_are_refused(tree: Any) -> None:
    with pytest.raises(InsecureJelly) as caught:
        unjelly(tree)
    assert str(caught.value).isprintable()
    with pytest.raises(InsecureJelly):
        unjelly([b"list", [b"tuple", [b"dictionary", [b"k", tree]]]])


trees = st.recursive(
    st.one_of(
        st.integers(-3, 3),
        st.floats(),
        st.binary(max_size=3),
        st.sampled_from(sorted(SecurityOptions().allowed)),
        st.sampled_from([b"list", b"tuple", b"dictionary", b"reference", b"dereference"]),
        st.sampled_from([b"remote", b"local", b"cached", b"lcache", b"unpersistable"]),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=25,
)


@given(trees)
def test_anything_else_ends_in_a_value_or_in_one_of_two_errors(tree: Any) -> None:
    try:
        made = unjelly(tree, Refs(Silent(), 10, list))
    except (InsecureJelly, LimitExceeded):
        return
    assert "Promise" not in repr(made)


def test_the_texts_of_errors_are_safe_and_short() -> None:
    with pytest.raises(InsecureJelly) as caught:
        unjelly([b"\x1b[2J\r\n" + b"x" * 600_000, 1])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_floats_and_control_characters_in_text_arrive_as_they_are() -> None:
    made = through_the_wire([float("nan"), -0.0, 5e-324, "\0\u202e"])
    assert math.isnan(made[0])
    assert math.copysign(1, made[1]) == -1
    assert made[2:] == [5e-324, "\0\u202e"]
    assert len(through_the_wire({float("nan"): 1, 2.0: 2})) == 2


# References


def test_references_come_from_a_connection_only() -> None:
    with pytest.raises(InsecureJelly, match="connection"):
        unjelly([b"remote", 1])
    peer = Silent()
    refs = Refs(peer, 10, list)
    first, second = unjelly([b"list", [b"remote", 3], [b"remote", 3]], refs)
    assert first == second
    assert (first.broker, first.luid) == (peer, 3)
    assert [(luid, known.count) for luid, known in refs.borrowed()] == [(3, 2)]


def test_local_finds_what_was_lent_and_nothing_else() -> None:
    mine, other = Refs(Silent(), 10, list), Refs(Silent(), 10, list)
    thing, root = Referenceable(), Referenceable()
    mine.named[b"root"] = root
    loan = mine.loan()
    luid = loan.lend(thing)
    loan.commit()
    assert unjelly([b"local", luid], mine) is thing
    assert unjelly([b"local", b"root"], mine) is root
    for tree in ([b"local", 99], [b"local", b"roo"], [b"local", [luid]], [b"local", float(luid)]):
        with pytest.raises(InsecureJelly, match="it was not lent"):
            unjelly(tree, mine)
    with pytest.raises(InsecureJelly, match="it was not lent"):
        unjelly([b"local", luid], other)
    mine.release(luid)
    with pytest.raises(InsecureJelly, match="it was not lent"):
        unjelly([b"local", luid], mine)


def test_more_references_than_a_peer_may_lend_are_refused() -> None:
    # Twisted lends one more than its limit where it has no root.
    tree: list[Any] = [b"list", *([b"remote", n] for n in range(1, 1027))]
    refs = Refs(Silent(), 1024, list)
    assert len(unjelly(tree[:-1], refs)) == 1025
    with pytest.raises(LimitExceeded, match="more than 1024 objects"):
        unjelly(tree, Refs(Silent(), 1024, list))


# Persistent objects


def test_a_persistent_object_is_found_by_its_id() -> None:
    shelf = {7: "seven", b"x": "bytes", "größe": "text"}
    tree = [b"list", *([b"persistent", jelly(key)] for key in shelf)]
    load = lambda known, unjellier: shelf[known]  # noqa: E731
    assert unjelly(tree, persistentLoad=load) == list(shelf.values())
    security = SecurityOptions()
    security.allowBasicTypes()
    security.persistentLoad = load
    assert unjelly(tree, security=security) == list(shelf.values())


@pytest.mark.parametrize(
    "tree",
    [
        [b"persistent"],
        [b"persistent", 1, 2],
        [b"persistent", [b"list"]],
        [b"persistent", 1.5],
        [b"persistent", [b"None"]],
        [b"persistent", [b"dereference", 1]],
    ],
)
def test_an_id_is_a_number_or_a_string(tree: Any) -> None:
    loaded: list[Any] = []
    with pytest.raises(InsecureJelly):
        unjelly(tree, persistentLoad=lambda known, unjellier: loaded.append(known))
    assert loaded == []


def test_without_a_loader_an_id_is_refused() -> None:
    with pytest.raises(InsecureJelly, match="no persistentLoad"):
        unjelly([b"persistent", 7])
