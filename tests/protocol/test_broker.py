"""The protocol machine, two of them joined in memory."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import pbnb as pb
from pbnb.failure import CopiedFailure, Failure
from pbnb.protocol.broker import Broker
from pbnb.protocol.events import CallReceived, CallRefused, NotUnderstood, ObjectReleased
from pbnb.wire.banana import decode, encode
from tests.support.pair import BrokerPair, End


class Thing(pb.Referenceable):
    def __init__(self, name: str = "thing") -> None:
        self.name = name

    def remote_name(self) -> str:
        return self.name


class Expected(pb.Error):
    pass


class Desk(pb.Root):
    """A root with a method for each thing to test."""

    def __init__(self) -> None:
        self.thing = Thing()
        self.kept: Any = None
        self.seen: list[Any] = []

    def remote_echo(self, value: Any) -> Any:
        self.seen.append(value)
        del self.seen[:-1]
        return value

    def remote_forget(self) -> None:
        self.seen.clear()
        self.kept = None

    def remote_keywords(self, *args: Any, **kw: Any) -> Any:
        return args, kw

    def remote_thing(self) -> Thing:
        return self.thing

    def remote_fresh(self) -> Thing:
        return Thing("fresh")

    def remote_is_thing(self, thing: Any) -> bool:
        return thing is self.thing

    def remote_keep(self, ref: Any) -> None:
        self.kept = ref

    def remote_kept(self) -> Any:
        return self.kept

    def remote_many(self, count: int) -> list[Thing]:
        return [Thing(str(each)) for each in range(count)]

    def remote_expected(self) -> None:
        raise Expected("as agreed")

    def remote_unsendable(self) -> Any:
        return {"deep": [object()]}

    def remote_surrogate(self) -> str:
        return "\ud800"

    def remote_huge(self) -> bytes:
        return b"x" * (640 * 1024 + 1)

    def remote_half(self) -> Any:
        return [Thing(), Thing(), object()]

    def remote_loud(self) -> None:
        raise Expected("\ud800" * 100_000)


@pytest.fixture(params=[0, 1], ids=["at once", "byte by byte"])
def pair(request: pytest.FixtureRequest) -> BrokerPair:
    return BrokerPair(Desk(), chunk=request.param)


def tables(pair: BrokerPair) -> list[Any]:
    """Returns what all four tables and both lists of pending calls hold."""
    pair.collect()
    return [
        each
        for end in (pair.server, pair.client)
        for each in (end.lent(), end.borrowed(), end.broker.pending)
        if each
    ]


# Calls


def test_a_call_has_its_answer(pair: BrokerPair) -> None:
    assert pair.call("echo", "hello network") == "hello network"


def test_positional_and_keyword_arguments(pair: BrokerPair) -> None:
    assert pair.call("keywords", 1, two=2, name="x", _name="z") == (
        (1,),
        {"two": 2, "name": "x", "_name": "z"},
    )


def test_keywords_of_python_2_arrive_as_text(pair: BrokerPair) -> None:
    kw = [b"dictionary", [b"two", 2]]
    pair.server.feed(encode([b"message", 1, b"root", b"keywords", 1, [b"tuple"], kw]))
    answer = decode(pair.server.output())
    assert answer == [
        b"answer",
        1,
        [b"tuple", [b"tuple"], [b"dictionary", [[b"unicode", b"two"], 2]]],
    ]


def test_a_call_without_an_answer(pair: BrokerPair) -> None:
    pair.client.root().remote_only("keep", 5)
    pair.client.root().remote_only("expected")
    pair.settle()
    assert pair.call("kept") == 5
    assert tables(pair) == []


def test_requests_are_numbered_from_1(pair: BrokerPair) -> None:
    root = pair.client.root()
    assert [root.callRemote("echo", 0), root.callRemote("echo", 0)] == [1, 2]
    root.remote_only("echo", 0)  # takes a number too
    assert root.callRemote("echo", 0) == 4


def test_answers_may_come_in_another_order(pair: BrokerPair) -> None:
    late: list[CallReceived] = []
    pair.server.defer = lambda event: late.append(event) is None and event.name == "echo"
    root = pair.client.root()
    first, second = root.callRemote("echo", 1), root.callRemote("echo", 2)
    pair.settle()
    for event in reversed(late):
        pair.server.run(event)
    pair.settle()
    assert list(pair.client.results.items()) == [(second, 2), (first, 1)]


@pytest.mark.parametrize("dialect", ["pbnb1", "pb", "none"])
def test_text_that_cannot_be_sent_fails_its_call_alone(dialect: str) -> None:
    pair = BrokerPair(Desk(), dialects=[dialect])
    with pytest.raises(pb.RemoteError, match="surrogates not allowed"):
        pair.call("surrogate")
    assert pair.call("echo", 1) == 1


@pytest.mark.parametrize("dialect", ["pbnb1", "pb", "none"])
@pytest.mark.parametrize("value", ["short", "x" * 20_000])
def test_arguments_are_a_tuple_that_has_to_be_allowed(dialect: str, value: str) -> None:
    pair = BrokerPair(Desk(), dialects=[dialect], security=pb.SecurityOptions())
    assert pair.call("forget") is None
    with pytest.raises(pb.InsecureJelly, match="tuple is not allowed"):
        pair.call("echo", value)


# References


def test_a_reference_is_called(pair: BrokerPair) -> None:
    ref = pair.call("fresh")
    assert pair.call_on(ref, "name") == "fresh"


def test_one_object_is_one_luid_however_often_it_comes(pair: BrokerPair) -> None:
    one, other = pair.call("thing"), pair.call("thing")
    assert one == other
    assert pair.server.lent() == {1: 2} and pair.client.borrowed() == {1: 2}
    del other
    pair.collect()
    assert pair.server.lent() == {1: 1} and pair.client.borrowed() == {1: 1}


def test_a_reference_comes_home_as_the_object(pair: BrokerPair) -> None:
    assert pair.call("is_thing", pair.call("thing")) is True


def test_an_object_that_is_echoed_is_itself(pair: BrokerPair) -> None:
    mine = Thing("mine")
    assert pair.call("echo", mine) is mine


def test_an_object_is_itself_even_when_its_decref_comes_before_the_answer() -> None:
    # As a Twisted peer does it: it lets go of the argument, and then answers with it.
    client = End(False)
    client.feed(bytes.fromhex("02800282706204826e6f6e65"))
    mine = Thing("mine")
    request_id = client.root().callRemote("echo", mine)
    assert client.lent() == {1: 1}
    client.feed(encode([b"decref", 1]) + encode([b"answer", request_id, [b"local", 1]]))
    assert client.results[request_id] is mine
    assert client.lent() == {}


@pytest.mark.parametrize("answer", [["answer", "home"], ["answer", "other"], ["error", "home"]])
def test_that_an_object_is_let_go_is_told_after_the_answer_that_may_name_it(
    answer: list[str],
) -> None:
    client = End(False)
    client.feed(bytes.fromhex("02800282706204826e6f6e65"))
    mine = Thing("mine")
    request_id = client.root().callRemote("echo", mine)
    client.feed(encode([b"decref", 1]))
    assert ObjectReleased(mine) not in client.events
    value = [b"local", 1] if answer[1] == "home" else b"other"
    client.feed(encode([answer[0].encode(), request_id, value]))
    assert [each for each in client.events if isinstance(each, ObjectReleased)] == [
        ObjectReleased(mine)
    ]


def test_objects_are_called_in_both_directions(pair: BrokerPair) -> None:
    pair.call("keep", Thing("mine"))
    kept = pair.server.broker.refs.find(b"root").kept
    assert pair.call_on(kept, "name") == "mine"


def test_counts_go_back_to_nothing(pair: BrokerPair) -> None:
    refs = [pair.call("thing"), pair.call("fresh"), pair.call("many", 3)]
    pair.call("keep", Thing("mine"))
    pair.call("echo", Thing("echoed"))
    assert len(pair.server.lent()) == 5
    pair.call("forget")
    refs.clear()
    assert tables(pair) == []


def test_a_luid_is_never_used_again(pair: BrokerPair) -> None:
    for luid in (1, 2, 3):
        assert pair.call("fresh").luid == luid
        pair.collect()


def test_a_reference_of_another_connection_is_refused(pair: BrokerPair) -> None:
    ref = BrokerPair(Desk()).call("thing")
    with pytest.raises(pb.InsecureJelly, match="another connection"):
        pair.call("echo", ref)
    assert tables(pair) == []


def test_the_limit_on_references_leaves_nothing_behind() -> None:
    pair = BrokerPair(Desk())
    held = pair.call("many", 1024)
    for _ in range(5):
        with pytest.raises(pb.Error, match="Maximum PB reference count exceeded"):
            pair.call("fresh")
    assert len(pair.server.lent()) == 1024
    held.pop()
    pair.collect()
    assert pair.call_on(pair.call("fresh"), "name") == "fresh"


def test_an_answer_that_fails_half_way_lends_nothing(pair: BrokerPair) -> None:
    with pytest.raises(pb.InsecureJelly, match="builtins.object"):
        pair.call("half")
    assert tables(pair) == []


def test_arguments_that_are_refused_give_back_what_they_lent() -> None:
    pair = BrokerPair(Desk())
    mine, other = Thing(), Thing()
    client = pair.client.broker
    call = client.call(pair.client.root(), "echo", ([mine, other, "X"],), {})
    assert call is not None
    # The peer is made to refuse the middle one: what stands before and after it was lent too.
    data = pair.client.output().replace(encode([b"unicode", b"X"]), encode([b"frobnicate", 1]))
    pair.server.feed(data)
    pair.settle()
    assert isinstance(pair.client.results[call.request_id], CopiedFailure)
    assert pair.client.results[call.request_id].check(pb.InsecureJelly) is pb.InsecureJelly
    assert tables(pair) == []


# Errors


def test_an_expected_error(pair: BrokerPair) -> None:
    with pytest.raises(Expected, match="as agreed") as caught:
        pair.call("expected")
    assert isinstance(caught.value, pb.RemoteError)
    assert caught.value.remoteType == f"{__name__}.Expected"


def test_a_method_that_does_not_exist(pair: BrokerPair) -> None:
    with pytest.raises(pb.NoSuchMethod, match="No such method: remote_nothing"):
        pair.call("nothing")


@pytest.mark.parametrize("name", ["__class__", "a.b", "", "x\ny", "echo ", "ｅcho", "x" * 600_000])
def test_names_that_name_no_method(pair: BrokerPair, name: str) -> None:
    with pytest.raises(pb.NoSuchMethod) as caught:
        pair.call(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["unsendable", "huge"])
def test_an_answer_that_cannot_be_sent_fails_that_call(pair: BrokerPair, name: str) -> None:
    with pytest.raises((pb.InsecureJelly, pb.BananaError)):
        pair.call(name)
    assert pair.call("echo", 1) == 1
    assert tables(pair) == []


@pytest.mark.parametrize("value", [object(), 2**448, b"x" * 655361, "\ud800", [Thing(), {1j}]])
def test_an_argument_that_cannot_be_sent_leaves_nothing_behind(
    pair: BrokerPair, value: Any
) -> None:
    with pytest.raises((pb.InsecureJelly, pb.BananaError, UnicodeEncodeError)):
        pair.call("echo", value)
    assert pair.client.output() == b""
    assert pair.call("echo", 1) == 1
    assert tables(pair) == []


def test_an_error_that_cannot_be_encoded_arrives_all_the_same(pair: BrokerPair) -> None:
    with pytest.raises(Expected, match="ud800"):
        pair.call("loud")


def test_an_answer_that_may_not_come_in_fails_that_call_alone(pair: BrokerPair) -> None:
    root = pair.client.root()
    bad, good = root.callRemote("echo", 1), root.callRemote("echo", 2)
    pair.client.output()
    pair.client.feed(
        encode([b"answer", bad, [b"list", [b"os.nosuch", 1]]]) + encode([b"answer", good, 2])
    )
    failure = pair.client.results[bad]
    assert isinstance(failure, Failure) and failure.check(pb.InsecureJelly)
    assert pair.client.results[good] == 2


def test_an_answer_nested_too_deep_fails_that_call(pair: BrokerPair) -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    assert pair.call("echo", value) == value
    for _ in range(100):
        value = [value]
    with pytest.raises((pb.InsecureJelly, pb.BananaError), match="nested|deep"):
        pair.call("echo", value)


@pytest.mark.parametrize(
    "value", [b"text", 5, [b"unicode", b"text"], [b"list", 1], [b"os.x", 1], []]
)
def test_an_error_of_any_shape_fails_the_call(pair: BrokerPair, value: Any) -> None:
    request_id = pair.client.root().callRemote("echo", 1)
    pair.client.feed(encode([b"error", request_id, value]))
    assert isinstance(pair.client.results[request_id], Failure)
    assert pair.client.broken() is None


def test_a_failure_as_an_argument_is_a_value(pair: BrokerPair) -> None:
    desk = pair.server.broker.refs.find(b"root")
    assert isinstance(desk, Desk)
    pair.call("keep", Failure(Expected("kept")))
    assert isinstance(desk.kept, CopiedFailure)
    assert repr(desk.kept)


# A peer that breaks the protocol


@pytest.mark.parametrize(
    "message",
    [
        5,
        b"hello",
        [],
        [[]],
        [5, 1],
        [b"version", 5],
        [b"version", b"6"],
        [b"version"],
        [b"answer", 99, 1],
        [b"answer", [b"x"], 1],
        [b"error", 99, 1],
        [b"answer", 1],
        [b"decref", 7],
        [b"decref", b"root"],
        [b"decref", [1]],
        [b"decache", 7],
        [b"uncache", 7],
        [b"message", 1, b"root", b"echo", 1, [b"tuple"]],
        [b"message", 1, b"root", b"echo", 1, [b"tuple"], [b"dictionary"], 1],
    ],
    ids=repr,
)
def test_a_broken_message_ends_the_connection_with_one_error(
    pair: BrokerPair, message: Any
) -> None:
    pair.server.feed(encode(message) + encode([b"message", 1, b"root", b"echo", 1, 1, 1]))
    assert isinstance(pair.server.broken(), pb.ProtocolError)
    assert len(pair.server.events) == 2  # Opened, and that
    assert pair.server.output() == b""


@pytest.mark.parametrize(
    ("luid", "name", "args", "kw"),
    [
        (99, b"echo", [b"tuple"], [b"dictionary"]),
        ([b"unicode", b"root"], b"echo", [b"tuple"], [b"dictionary"]),
        (b"boot", b"echo", [b"tuple"], [b"dictionary"]),
        (b"root", [b"unicode", b"echo"], [b"tuple"], [b"dictionary"]),
        (b"root", 5, [b"tuple"], [b"dictionary"]),
        (b"root", b"\xff\xfe", [b"tuple"], [b"dictionary"]),
        (b"root", b"keywords", [b"list", 1], [b"dictionary"]),
        (b"root", b"keywords", b"text", [b"dictionary"]),
        (b"root", b"keywords", [b"tuple"], [b"list"]),
        (b"root", b"keywords", [b"tuple"], [b"dictionary", [1, 2]]),
        (b"root", b"keywords", [b"tuple"], [b"dictionary", [[b"unicode", b"a b"], 2]]),
        (b"root", b"keywords", [b"tuple", [b"frobnicate"]], [b"dictionary"]),
        (b"root", b"keywords", [b"tuple", [b"local", 12]], [b"dictionary"]),
        (b"root", b"keywords", [b"tuple", [b"unpersistable", b"why"]], [b"dictionary"]),
        (b"root", b"keywords", [b"dereference", 1], [b"dictionary"]),
        (b"root", b"echo", [b"tuple", 1, 2], [b"dictionary"]),
    ],
    ids=repr,
)
def test_a_call_that_makes_no_sense_is_answered_with_an_error(
    pair: BrokerPair, luid: Any, name: Any, args: Any, kw: Any
) -> None:
    pair.server.feed(encode([b"message", 7, luid, name, 1, args, kw]))
    answer: Any = decode(pair.server.output())
    assert answer[:2] == [b"error", 7]
    assert pair.server.broken() is None
    assert pair.call("echo", 1) == 1


def test_a_call_that_makes_no_sense_and_wants_no_answer(pair: BrokerPair) -> None:
    pair.server.feed(encode([b"message", 7, 99, b"echo", 0, [b"tuple"], [b"dictionary"]]))
    assert isinstance(pair.server.events[-1], CallRefused)
    assert pair.server.output() == b""


@pytest.mark.parametrize("request_id", [0, -5, b"abc", [b"list", 1], 2**400, 1.5])
def test_an_answer_repeats_whatever_the_request_was_numbered(
    pair: BrokerPair, request_id: Any
) -> None:
    args = [b"tuple", 5]
    pair.server.feed(encode([b"message", request_id, b"root", b"echo", 1, args, [b"dictionary"]]))
    assert decode(pair.server.output()) == [b"answer", request_id, 5]


@pytest.mark.parametrize(("wants", "answers"), [(0, 0), (1, 1), (-3, 1), ([b"boolean"], 1)])
def test_any_true_item_asks_for_an_answer(pair: BrokerPair, wants: Any, answers: int) -> None:
    message = [b"message", 1, b"root", b"echo", wants, [b"tuple", 5], [b"dictionary"]]
    pair.server.feed(encode(message))
    assert bool(pair.server.output()) is bool(answers)


@pytest.mark.parametrize(
    ("command", "shown"), [(b"frobnicate", b"frobnicate"), (b"\xff\xfe", "\ufffd\ufffd".encode())]
)
def test_an_unknown_command_is_answered(pair: BrokerPair, command: bytes, shown: bytes) -> None:
    pair.server.feed(encode([command, 1]))
    assert decode(pair.server.output()) == [b"didNotUnderstand", command]
    assert pair.server.events[-1] == NotUnderstood(command, by_peer=False)
    pair.client.feed(encode([b"didNotUnderstand", command]))
    assert pair.client.events[-1] == NotUnderstood(shown, by_peer=True)
    assert pair.call("echo", 1) == 1


def test_a_message_to_a_cache_that_is_not_there_is_refused(pair: BrokerPair) -> None:
    message = [b"cachemessage", 3, 1, b"moved", 1, [b"tuple"], [b"dictionary"]]
    pair.server.feed(encode(message))
    answer: Any = decode(pair.server.output())
    assert answer[:2] == [b"error", 3]


@pytest.mark.parametrize("dialects", [("pb",), ("none",), ("pbnb1",)])
def test_it_is_known_whether_anything_is_left_to_say(dialects: tuple[str, ...]) -> None:
    pair = BrokerPair(Desk(), dialects=dialects)
    for number in (1, 2):
        pair.client.call(pair.client.root(), "echo", (number,), {})
    server = pair.server.broker
    assert server.drained
    calls = pair.client.output()
    server.receive_data(calls[:-1])
    assert isinstance(server.next_event(), CallReceived) and not server.drained
    assert server.next_event() is None and server.drained  # the second is there in part
    server.receive_data(calls[-1:])
    assert not server.drained
    assert isinstance(server.next_event(), CallReceived)
    assert server.next_event() is None and server.drained


def test_the_version_may_come_late_and_twice(pair: BrokerPair) -> None:
    pair.server.feed(encode([b"version", 6]) * 2)
    assert pair.call("echo", 1) == 1


# Limits


def test_a_guarded_broker_is_tighter_until_the_peer_is_admitted() -> None:
    pair = BrokerPair(Desk())
    pair.server = End(True, Desk(), guarded=True)
    pair.client = End(False)
    pair.settle()
    with pytest.raises(pb.Error, match="Maximum PB reference count"):
        pair.call("many", 9)
    pair.server.broker.admit_peer()
    assert len(pair.call("many", 9)) == 9
    assert pair.call("echo", b"x" * 100_000) == b"x" * 100_000


def test_a_guarded_broker_refuses_long_strings() -> None:
    server = End(True, Desk(), guarded=True)
    server.output()
    server.feed(encode(b"pb", None))
    message = [b"message", 1, b"root", b"echo", 1, [b"tuple", b"x" * 20_000], [b"dictionary"]]
    server.feed(encode(message))
    assert isinstance(server.broken(), pb.LimitExceeded)


# The end


def test_the_end_returns_what_was_pending_and_lent(pair: BrokerPair) -> None:
    mine = Thing()
    request_id = pair.client.root().callRemote("echo", mine)
    ended = pair.client.broker.close()
    assert [call.request_id for call in ended.calls] == [request_id]
    assert ended.released == (mine,)
    assert pair.client.lent() == {} and pair.client.broker.pending == {}
    with pytest.raises(pb.DeadReferenceError):
        pair.client.root().callRemote("echo", 1)
    assert pair.client.output() == b""


def test_an_answer_that_comes_after_the_end_is_dropped(pair: BrokerPair) -> None:
    late: list[CallReceived] = []
    pair.server.defer = lambda event: late.append(event) is None
    pair.client.root().callRemote("fresh")
    pair.client.root().callRemote("expected")
    pair.settle()
    pair.server.broker.close()
    for event in late:
        pair.server.run(event)
    assert pair.server.output() == b"" and pair.server.lent() == {}


def test_a_call_before_the_opening_is_refused() -> None:
    client = End(False)
    with pytest.raises(pb.LocalProtocolError, match="before the connection was open"):
        client.root().callRemote("echo", 1)


def test_references_that_outlive_the_connection_release_nothing(pair: BrokerPair) -> None:
    ref = pair.call("thing")
    pair.client.broker.close()
    del ref
    gc.collect()
    assert pair.client.output() == b""


def test_a_broker_is_collected_when_its_connection_is(pair: BrokerPair) -> None:
    import weakref

    held = pair.call("thing")
    broker = weakref.ref(pair.client.broker)
    assert isinstance(broker(), Broker)
    pair.client.broker.close()
    del held
    pair.client.events.clear()
    pair.client.__dict__.clear()
    gc.collect()
    assert broker() is None
