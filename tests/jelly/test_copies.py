"""Objects that travel by value: their states, their types, and what a peer may not do with them."""

from __future__ import annotations

import types
from typing import Any

import pytest

import pbnb as pb
from pbnb.failure import CopiedFailure, Failure
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.jelly.jelly import Jellier
from pbnb.limits import Limits
from tests.support.pair import BrokerPair


def options(*flavors: str) -> SecurityOptions:
    """Returns new options that allow containers and references."""
    made = SecurityOptions()
    made.allowBasicTypes()
    made.allowTypes("remote", "local", "cached", "lcache", *flavors)
    return made


def tag(cls: type) -> bytes:
    return f"{cls.__module__}.{cls.__name__}".encode()


class Pond(pb.Copyable):
    def __init__(self, frogs: int, name: str = "pond") -> None:
        self.frogs = frogs
        self.name = name
        self.secret = "the depth"

    def getStateToCopy(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["secret"]
        return state


class RemotePond(pb.RemoteCopy):
    def __init__(self) -> None:
        raise AssertionError("a copy is made without __init__")


class Viewed(pb.Copyable):
    """Looks different to each avatar, and has a name of its own for each."""

    def getStateToCopyFor(self, perspective: Any) -> dict[str, Any]:
        return {"seen_by": perspective}

    def getTypeToCopyFor(self, perspective: Any) -> str:
        return f"viewed-by-{perspective}"


class Symmetric(pb.Copyable, pb.RemoteCopy):
    """Travels both ways under one name."""


class Root(pb.Root):
    def __init__(self, value: Any = None) -> None:
        self.value = value
        self.seen: list[Any] = []

    def remote_get(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def remote_put(self, value: Any) -> str:
        self.seen.append(value)
        return type(value).__name__

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_kinds(self, **kw: Any) -> list[str]:
        return [type(value).__name__ for value in kw.values()]


@pytest.fixture
def security() -> SecurityOptions:
    return options()


def pair_of(value: Any, security: SecurityOptions) -> BrokerPair:
    return BrokerPair(Root(value), security=security)


def seen_in(pair: BrokerPair) -> list[Any]:
    root = pair.server.broker.refs.named[b"root"]
    assert isinstance(root, Root)
    return root.seen


# What is sent


def test_state_and_type_as_they_travel() -> None:
    assert jelly(Pond(12)) == [
        tag(Pond),
        [
            b"dictionary",
            [[b"unicode", b"frogs"], 12],
            [[b"unicode", b"name"], [b"unicode", b"pond"]],
        ],
    ]


def test_state_and_type_for_each_perspective() -> None:
    for avatar in ("alice", "bob"):
        assert jelly(Viewed(), perspective=avatar) == [
            f"viewed-by-{avatar}".encode(),
            [b"dictionary", [[b"unicode", b"seen_by"], [b"unicode", avatar.encode()]]],
        ]


def test_answer_is_made_for_the_avatar_that_called(security: SecurityOptions) -> None:
    class Hall(pb.Avatar):
        def perspective_view(self) -> Viewed:
            return viewed

    class For(Viewed):
        def getTypeToCopyFor(self, perspective: Any) -> str:
            return "viewed"

        def getStateToCopyFor(self, perspective: Any) -> dict[str, Any]:
            return {"mine": perspective is hall}

    viewed, hall = For(), Hall()
    security.setUnjellyableForClass("viewed", RemotePond)
    pair = pair_of(pb.AsReferenceable(hall, "perspective"), security)
    assert pair.call_on(pair.call("get"), "view").mine is True
    pair = pair_of(viewed, security)
    assert pair.call("get").mine is False


def test_type_may_be_bytes() -> None:
    class Tagged(pb.Copyable):
        def getTypeToCopy(self) -> bytes:
            return b"my-short-tag"

    assert jelly(Tagged()) == [b"my-short-tag", [b"dictionary"]]


# What arrives


@pytest.mark.parametrize(
    "name", [Pond, tag(Pond), tag(Pond).decode()], ids=["class", "bytes", "str"]
)
def test_copy_is_of_the_class_registered(security: SecurityOptions, name: Any) -> None:
    security.setUnjellyableForClass(name, RemotePond)
    copy = pair_of(Pond(12), security).call("get")
    assert type(copy) is RemotePond
    assert vars(copy) == {"frogs": 12, "name": "pond"}


def test_copy_of_an_argument_and_of_a_keyword(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Pond, RemotePond)
    pair = pair_of(None, security)
    assert pair.call("put", Pond(5)) == "RemotePond"
    assert seen_in(pair)[0].frogs == 5
    assert pair.call("kinds", one=Pond(1), two=Pond(2)) == ["RemotePond", "RemotePond"]


def test_one_class_that_is_both(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Symmetric, Symmetric)
    sent = Symmetric()
    sent.part = [Symmetric()]  # type: ignore[attr-defined]
    pair = pair_of(None, security)
    copy = pair.call("echo", sent)
    assert type(copy) is Symmetric and copy is not sent
    assert type(copy.part[0]) is Symmetric


def test_copy_is_made_by_new_without_arguments(security: SecurityOptions) -> None:
    class Allocated(pb.Copyable, pb.RemoteCopy):
        def __new__(cls, *args: Any, **kw: Any) -> Any:
            made = super().__new__(cls)
            made.given = (args, kw)
            return made

        def __init__(self, value: int) -> None:
            self.value = value

        def getStateToCopy(self) -> dict[str, Any]:
            return {"value": self.value}

    security.setUnjellyableForClass(Allocated, Allocated)
    copy = pair_of(Allocated(5), security).call("get")
    assert vars(copy) == {"given": ((), {}), "value": 5}


@pytest.mark.parametrize("answer", [True, False], ids=["answer", "argument"])
def test_state_may_be_asked_for_while_calls_are_made(
    security: SecurityOptions, answer: bool
) -> None:
    """What runs while one message is written may write others, with references of their own."""
    thing, lent = pb.Referenceable(), pb.Referenceable()
    requests: list[int] = []

    class Calling(pb.Copyable):
        def getStateToCopy(self) -> dict[str, Any]:
            requests.append(far[0].callRemote("echo", [lent, thing]))
            return {"thing": thing}

    security.setUnjellyableForClass(Calling, RemotePond)
    values = [thing, Calling(), thing]
    pair = pair_of(values, security)
    sender, far = pair.client, [pair.client.root()]
    if answer:
        pair.call("put", Root())
        sender, far = pair.server, seen_in(pair)
        first, copy, second = pair.call("get")
    else:
        pair.call("put", values)
        first, copy, second = seen_in(pair)[0]
    assert first == second == copy.thing
    (request,) = requests
    assert sender.results.pop(request) == [lent, thing]
    del first, copy, second
    far.clear()
    seen_in(pair).clear()
    pair.collect()
    assert sender.lent() == {} and not sender.broker.pending


def test_received_copy_is_not_sent_on_by_itself(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Pond, RemotePond)
    pair = pair_of(None, security)
    with pytest.raises(pb.InsecureJelly, match="RemotePond"):
        pair.call("echo", Pond(1))
    assert pair.call("echo", 1) == 1


def test_one_object_twice_arrives_as_one(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Pond, RemotePond)
    pond = Pond(1)
    one, two = pair_of([pond, pond], security).call("get")
    assert one is two


def test_object_that_contains_itself(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Pond, RemotePond)
    pond = Pond(2)
    pond.me = [pond, (pond,)]  # type: ignore[attr-defined]
    copy = pair_of(pond, security).call("get")
    assert copy.me[0] is copy and copy.me[1][0] is copy


def test_state_that_is_a_later_part_of_the_message(security: SecurityOptions) -> None:
    security.setUnjellyableForClass("pond", RemotePond)
    tree: Any = [
        b"list",
        [b"pond", [b"dereference", 1]],
        [b"reference", 1, [b"dictionary", [b"frogs", 3]]],
    ]
    copy, state = unjelly(tree, security=security)
    assert vars(copy) == {"frogs": 3}
    assert state == {b"frogs": 3}


def test_names_from_python_2_are_text(security: SecurityOptions) -> None:
    seen: list[Any] = []

    class Raw(pb.RemoteCopy):
        def setCopyableState(self, state: Any) -> None:
            seen.append(state)

    security.setUnjellyableForClass("plain", RemotePond)
    security.setUnjellyableForClass("raw", Raw)
    security.setUnjellyableFactoryForClass("factory", seen.append)
    state: Any = [b"dictionary", [b"where", b"north"]]
    assert vars(unjelly([b"plain", state], security=security)) == {"where": b"north"}
    unjelly([b"raw", state], security=security)
    unjelly([b"factory", state], security=security)
    assert seen == [{"where": b"north"}, {"where": b"north"}]


def test_no_state_at_all_is_an_empty_one(security: SecurityOptions) -> None:
    security.setUnjellyableForClass("pond", RemotePond)
    assert vars(unjelly([b"pond", [b"None"]], security=security)) == {}


def test_factory_makes_the_object_of_its_state(security: SecurityOptions) -> None:
    def make(state: dict[str, Any]) -> str:
        return f"{state['name']} with {state['frogs']} frogs"

    security.setUnjellyableFactoryForClass(Pond, make)
    assert pair_of([Pond(3)], security).call("get") == ["pond with 3 frogs"]


def test_factory_that_fails_is_one_clear_error(security: SecurityOptions) -> None:
    def make(state: Any) -> Any:
        raise KeyError("frogs")

    security.setUnjellyableFactoryForClass(Pond, make)
    pair = pair_of(None, security)
    with pytest.raises(pb.InsecureJelly, match="could not be restored: 'frogs'"):
        pair.call("put", Pond(3))
    assert pair.call("echo", 1) == 1


# Registering


def make_module() -> types.ModuleType:
    module = types.ModuleType("lake")

    class Base(pb.RemoteCopy):
        pass

    class Carp(Base):
        pass

    class Stone:
        pass

    module.__dict__.update(Base=Base, Carp=Carp, Stone=Stone, depth=3)
    return module


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        (None, {b"lake.Base", b"lake.Carp"}),
        ("", {b"Base", b"Carp"}),
        ("pond", {b"pond.Base", b"pond.Carp"}),
    ],
)
def test_class_tree_with_its_prefix(
    security: SecurityOptions, prefix: str | None, names: set[bytes]
) -> None:
    module = make_module()
    security.setUnjellyableForClassTree(module, module.Base, prefix)
    assert set(security.registered) == names
    carp = unjelly([sorted(names)[1], [b"dictionary"]], security=security)
    assert type(carp) is module.Carp


def test_old_names_are_the_same_functions() -> None:
    assert pb.setCopierForClass == pb.setUnjellyableForClass
    assert pb.setCopierForClassTree == pb.setUnjellyableForClassTree
    assert pb.setFactoryForClass == pb.setUnjellyableFactoryForClass


def test_global_functions_register_with_the_default_of_every_connection() -> None:
    name = b"tests.of.copies.Registered"
    try:
        pb.setUnjellyableForClass(name, RemotePond)
        assert type(unjelly([name, [b"dictionary"]])) is RemotePond
    finally:
        pb.global_security.registered.pop(name)
        pb.global_security.allowed.discard(name)


def test_registered_with_one_is_unknown_to_others() -> None:
    one, other = options(), options()
    one.setUnjellyableForClass("pond", RemotePond)
    for security in (other, pb.global_security):
        with pytest.raises(pb.InsecureJelly, match="pond is not allowed here"):
            unjelly([b"pond", [b"dictionary"]], security=security)


def test_global_registry_does_not_widen_a_narrower_one(security: SecurityOptions) -> None:
    name = b"tests.of.copies.Narrower"
    try:
        pb.setUnjellyableForClass(name, RemotePond)
        with pytest.raises(pb.InsecureJelly, match=name.decode()):
            unjelly([name, [b"dictionary"]], security=security)
        security.setUnjellyableForClass(name, Symmetric)
        assert type(unjelly([name, [b"dictionary"]], security=security)) is Symmetric
        assert type(unjelly([name, [b"dictionary"]])) is RemotePond
    finally:
        pb.global_security.registered.pop(name)
        pb.global_security.allowed.discard(name)


@pytest.mark.parametrize("name", ["list", "remote", "cached", "None", "class", "reference"])
def test_types_of_pb_are_not_for_registering(security: SecurityOptions, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        security.setUnjellyableForClass(name, RemotePond)


# Misuse: one clear error, and the connection goes on


@pytest.mark.parametrize("method", ["put", "kinds"])
def test_argument_of_an_unregistered_class(security: SecurityOptions, method: str) -> None:
    pair = pair_of(None, security)
    # Whoever reads it may be on either side, and learns which of them has to do what.
    says = "test_copies.Pond is not allowed here: the side that receives it .* setUnjellyableFor"
    with pytest.raises(pb.InsecureJelly, match=says):
        pair.call(method, **{"value": Pond(1)})
    assert pair.call("echo", 1) == 1
    assert seen_in(pair) == []


def test_answer_of_an_unregistered_class(security: SecurityOptions) -> None:
    pair = pair_of({"nested": [Pond(1)]}, security)
    with pytest.raises(pb.InsecureJelly, match="tests.jelly.test_copies.Pond is not allowed"):
        pair.call("get")
    assert pair.call("echo", 1) == 1
    assert not pair.client.broker.pending


class CopiedError(pb.Error, pb.Copyable):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class RemoteCopiedError(pb.RemoteCopy, pb.Error):
    pass


class Surprise(Exception, pb.Copyable):
    """Not expected, and copyable all the same."""


class RemoteSurprise(pb.RemoteCopy, Exception):
    pass


def test_error_of_an_unregistered_class(security: SecurityOptions) -> None:
    pair = pair_of(CopiedError(7), security)
    with pytest.raises(pb.InsecureJelly, match="CopiedError is not allowed here"):
        pair.call("get")
    assert pair.call("echo", 1) == 1


def test_copyable_error_travels_as_itself(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(CopiedError, RemoteCopiedError)
    with pytest.raises(RemoteCopiedError) as caught:
        pair_of(CopiedError(7), security).call("get")
    assert caught.value.code == 7  # type: ignore[attr-defined]


def test_copyable_error_travels_as_itself_to_the_server_too(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Surprise, RemoteSurprise)
    sent = Surprise("boom")
    sent.depth = 3  # type: ignore[attr-defined]
    pair = pair_of(None, security)
    pair.call("put", Root(sent))
    (ref,) = seen_in(pair)
    with pytest.raises(RemoteSurprise) as caught:
        pair.call_on(ref, "get")
    assert caught.value.depth == 3  # type: ignore[attr-defined]


def test_error_of_an_allowed_class_travels_as_itself(security: SecurityOptions) -> None:
    class Allowed(Exception):
        pass

    sent = Allowed("boom")
    sent.depth = 3  # type: ignore[attr-defined]
    with pytest.raises(pb.RemoteError, match="boom"):
        pair_of(sent, security).call("get")
    security.allowInstancesOf(Allowed)
    with pytest.raises(Allowed) as caught:
        pair_of(sent, security).call("get")
    assert type(caught.value) is Allowed and caught.value.depth == 3  # type: ignore[attr-defined]


def test_copyable_error_whose_state_cannot_be_sent(security: SecurityOptions) -> None:
    sent = CopiedError(7)
    sent.where = object()  # type: ignore[attr-defined]
    with pytest.raises(pb.RemoteError) as caught:
        pair_of(sent, security).call("get")
    assert caught.value.remoteType == f"{__name__}.CopiedError"
    assert "code 7" in str(caught.value)


def test_failure_is_readable_however_narrow_the_options() -> None:
    pair = BrokerPair(Root(pb.Error("as agreed")), security=SecurityOptions())
    with pytest.raises(pb.Error, match="as agreed"):
        pair.call("get")


BAD_STATES: list[tuple[str, Any, str]] = [
    ("int", 5, "is a int, not a dict"),
    ("text", [b"unicode", b"x"], "is a str, not a dict"),
    ("list", [b"list", 1], "is a list, not a dict"),
    ("__class__", [b"dictionary", [[b"unicode", b"__class__"], 1]], "__class__"),
    ("__dict__", [b"dictionary", [b"__dict__", [b"dictionary"]]], "__dict__"),
    ("method", [b"dictionary", [[b"unicode", b"measure"], 1]], "its method measure"),
    ("setter", [b"dictionary", [[b"unicode", b"setCopyableState"], 1]], "setCopyableState"),
    ("hook", [b"dictionary", [b"postUnjelly", 1]], "its method postUnjelly"),
    ("number", [b"dictionary", [1, 1]], "1 cannot be the name"),
    ("no name", [b"dictionary", [b"a b", 1]], "'a b' cannot be the name"),
]


class Measured(pb.RemoteCopy):
    def measure(self) -> int:
        return 1

    def postUnjelly(self) -> None:
        pass


class Forged(pb.Copyable):
    """Says any state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def getTypeToCopy(self) -> str:
        return "measured"

    def getStateToCopy(self) -> Any:
        return self.state


@pytest.mark.parametrize(
    ("tree", "text"), [each[1:] for each in BAD_STATES], ids=[each[0] for each in BAD_STATES]
)
def test_state_that_is_no_state(security: SecurityOptions, tree: Any, text: str) -> None:
    security.setUnjellyableForClass("measured", Measured)
    state = unjelly(tree, security=security)
    pair = pair_of(Forged(state), security)
    with pytest.raises(pb.InsecureJelly, match=text):
        pair.call("get")
    with pytest.raises(pb.InsecureJelly, match=text):
        pair.call("put", Forged(state))
    assert pair.call("echo", 1) == 1


@pytest.mark.parametrize(
    "tree",
    [[b"measured"], [b"measured", [b"dictionary"], 1], [b"measured", 1, [b"dictionary"], 2]],
)
def test_copy_of_a_wrong_length(security: SecurityOptions, tree: Any) -> None:
    security.setUnjellyableForClass("measured", Measured)
    with pytest.raises(pb.InsecureJelly, match="malformed measured"):
        unjelly(tree, security=security)


def test_class_that_takes_no_state(security: SecurityOptions) -> None:
    security.setUnjellyableForClass("measured", int)
    with pytest.raises(pb.InsecureJelly, match="int is registered for measured but derives"):
        unjelly([b"measured", [b"dictionary"]], security=security)


# postUnjelly


def test_fix_up_runs_when_everything_is_there(security: SecurityOptions) -> None:
    order: list[Any] = []

    class Fixed(pb.RemoteCopy):
        def setCopyableState(self, state: Any) -> None:
            super().setCopyableState(state)
            order.append("state")

        def postUnjelly(self) -> None:
            order.append(self.other.name)  # type: ignore[attr-defined]

    security.setUnjellyableForClass("fixed", Fixed)

    def fixed(name: bytes, other: int) -> Any:
        return [b"fixed", [b"dictionary", [b"name", name], [b"other", [b"dereference", other]]]]

    unjelly(
        [b"list", [b"reference", 1, fixed(b"a", 2)], [b"reference", 2, fixed(b"b", 1)]],
        security=security,
    )
    assert order == ["state", "state", b"b", b"a"]


def test_fix_up_in_a_state_is_an_attribute_like_others(security: SecurityOptions) -> None:
    security.setUnjellyableForClass("pond", RemotePond)
    copy: Any = unjelly([b"pond", [b"dictionary", [b"postUnjelly", b"x"]]], security=security)
    assert copy.postUnjelly == b"x"


# Objects that say themselves how they travel


class Word(pb.Jellyable, pb.Unjellyable):
    def __init__(self, text: str) -> None:
        self.text = text

    def getStateFor(self, jellier: Jellier) -> Any:
        return {"text": self.text, "for": jellier.perspective}

    def setStateFor(self, unjellier: Any, state: Any) -> None:
        self.text = state["text"] + "!"


def test_jellyable_and_unjellyable(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Word, Word)
    word = pair_of(None, security).call("echo", Word("a"))
    assert word.text == "a!!"
    assert jelly(Word("a"), perspective=3) == [
        tag(Word),
        [b"dictionary", [[b"unicode", b"text"], [b"unicode", b"a"]], [[b"unicode", b"for"], 3]],
    ]


def test_default_state_of_a_jellyable_is_its_attributes(security: SecurityOptions) -> None:
    class Plain(pb.Jellyable, pb.Unjellyable):
        pass

    security.setUnjellyableForClass(Plain, Plain)
    sent = Plain()
    sent.me = sent  # type: ignore[attr-defined]
    copy = unjelly(jelly(sent, limits=Limits()), security=security)
    assert type(copy) is Plain and copy.me is copy


class Pairs(pb.Jellyable, pb.Unjellyable):
    """Says itself what is sent: each key and value, one after another."""

    def __init__(self, **parts: Any) -> None:
        self.parts = parts

    def jellyFor(self, jellier: Jellier) -> Any:
        flat = [item for pair in self.parts.items() for item in pair]
        return [tag(type(self)), *map(jellier.jelly, flat)]

    def unjellyFor(self, unjellier: Any, jellyList: list[Any]) -> Any:
        items = list(map(unjellier.unjelly, jellyList[1:]))
        self.parts = dict(zip(items[::2], items[1::2], strict=True))
        self.read_for = unjellier.perspective
        return self


def test_unjellyable_that_reads_its_expression(security: SecurityOptions) -> None:
    security.setUnjellyableForClass(Pairs, Pairs)
    pair = pair_of(None, security)
    sent = Pairs(one=1, two=[b"2"], many=Pairs())
    sent.parts["me"] = [sent]
    copy = pair.call("echo", sent)
    assert type(copy) is Pairs and copy.parts.keys() == sent.parts.keys()
    assert copy.parts["two"] == [b"2"] and copy.parts["many"].parts == {}
    assert copy.parts["me"][0] is copy and copy.read_for is None
    assert len(jelly(Pairs(a=1, b=2))) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ([b"a"], "could not be restored"),
        ([b"a", [b"frobnicate"]], "frobnicate is not allowed here"),
        ([b"a", [b"dereference", 7]], "a part of this Pairs refers to what comes after it"),
        ([b"a", [b"tuple", [b"dereference", 7]]], "a part of this Pairs refers to what comes"),
    ],
)
def test_unjellyable_whose_expression_makes_no_sense(
    security: SecurityOptions, rest: Any, says: str
) -> None:
    security.setUnjellyableForClass(Pairs, Pairs)
    pair = pair_of(None, security)
    args = [b"tuple", [b"list", [tag(Pairs), *rest], [b"reference", 7, [b"list"]]]]
    message = [b"message", 5, b"root", b"put", 1, args, [b"dictionary"]]
    pair.server.feed(pb.banana.encode(message))
    answer: Any = pb.banana.decode(pair.server.output())
    assert answer[:2] == [b"error", 5]
    with pytest.raises(pb.InsecureJelly, match=says):
        unjelly(answer[2]).raiseException()
    assert pair.call("echo", 1) == 1


def test_unjellyable_that_returns_something_else(security: SecurityOptions) -> None:
    class Other(pb.Unjellyable):
        def unjellyFor(self, unjellier: Any, jellyList: list[Any]) -> Any:
            return jellyList

    security.setUnjellyableForClass("other", Other)
    with pytest.raises(pb.InsecureJelly, match="Other.unjellyFor has to return the object"):
        unjelly([b"other", 1], security=security)


def test_default_of_unjelly_for_is_the_state(security: SecurityOptions) -> None:
    class More(pb.Unjellyable):
        def unjellyFor(self, unjellier: Any, jellyList: list[Any]) -> Any:
            assert super().unjellyFor(unjellier, jellyList) is self
            return self

    security.setUnjellyableForClass("more", More)
    made = unjelly([b"more", [b"dictionary", [[b"unicode", b"x"], 1]]], security=security)
    assert vars(made) == {"x": 1}


def test_copied_failure_is_no_copyable(security: SecurityOptions) -> None:
    failure = CopiedFailure(type="far.Away", value="v", traceback="", parents=["far.Away"])
    got = unjelly(jelly(failure))
    assert isinstance(got, Failure)
    assert got.type == "far.Away"
