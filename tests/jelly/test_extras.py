"""The simple types that PB never had: there and back, refused, and asked for."""

from __future__ import annotations

import asyncio
import pathlib
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pbnb as pb
from pbnb.aio.connection import Connection
from pbnb.errors import InsecureJelly
from pbnb.failure import CopiedFailure
from pbnb.jelly import SecurityOptions, jelly, unjelly
from pbnb.jelly.extras import ABOUT, ABOUT_NAME, EXTRA_READERS, EXTRA_TYPES, PeerNotAsked, types_in
from pbnb.jelly.jelly import Jellier
from pbnb.limits import Limits
from pbnb.refs import RemoteReference
from pbnb.wire.banana import decode, encode
from tests.support.pair import BrokerPair
from tests.support.serving import served


def there_and_back(value: Any) -> Any:
    """Returns what arrives, through the bytes."""
    return unjelly(decode(encode(jelly(value))))


BERLIN = timezone(timedelta(hours=1))
ODD = timezone(-timedelta(hours=4, minutes=56, seconds=2))

VALUES = [
    1j,
    complex(-0.0, float("inf")),
    range(0),
    range(5, -(2**70), -3),
    uuid.UUID(int=2**128 - 1),
    uuid.UUID(int=0),
    pathlib.PurePosixPath("/usr/../größe\n"),
    pathlib.PureWindowsPath("C:\\Users\\größe"),
    pathlib.Path("a/b"),
    pathlib.Path(),
    pathlib.PurePosixPath("not-utf8-\udcff"),
    datetime(2026, 11, 22, 13, 14, 15, 161718, UTC),
    datetime(1, 1, 1, tzinfo=BERLIN),
    datetime(9999, 12, 31, 23, 59, 59, 999999, ODD),
    time(12, 30, tzinfo=BERLIN),
    time(0, 0, 0, 1, tzinfo=UTC),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    made = there_and_back(value)
    assert type(made) is type(value)
    assert repr(made) == repr(value)
    assert made == value
    assert hash(made) == hash(value)


def test_nan_arrives_as_nan() -> None:
    made = there_and_back(complex(float("nan"), -0.0))
    assert repr(made) == "(nan-0j)"


def test_an_offset_travels_and_the_name_of_its_zone_does_not() -> None:
    summer = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    made = there_and_back(summer)
    assert made == summer
    assert made.tzinfo == timezone(timedelta(hours=2))
    assert made.tzname() == "UTC+02:00"
    named = there_and_back(datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "Zulu")))
    assert named.tzinfo is UTC


def test_the_hour_that_comes_twice_keeps_its_offset() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for fold, hours in ((0, 2), (1, 1)):
        made = there_and_back(datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold))
        assert made.utcoffset() == timedelta(hours=hours)


class Nowhere(tzinfo):
    def utcoffset(self, when: Any) -> None:
        return None


@pytest.mark.parametrize(
    "value", [time(12, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2026, 1, 1, tzinfo=Nowhere())]
)
def test_a_zone_without_an_offset_is_refused(value: Any) -> None:
    with pytest.raises(InsecureJelly, match="send a datetime, or drop its zone"):
        jelly(value)


@given(st.datetimes(timezones=st.timezones()) | st.complex_numbers(allow_nan=False) | st.uuids())
def test_any_value_arrives_as_it_was(value: Any) -> None:
    made = there_and_back(value)
    if isinstance(value, datetime):
        # In an hour that comes twice, times of two zones are never equal to Python.
        made, value = made.isoformat(), value.isoformat()
    assert made == value


# Sharing


def test_a_bytearray_is_one_object_however_often_it_is_held() -> None:
    data = bytearray(b"abc")
    assert jelly([data, data]) == [
        b"list",
        [b"reference", 1, [b"pbnb.bytearray", b"abc"]],
        [b"dereference", 1],
    ]
    made = there_and_back([data, {"again": data}, bytearray(b"abc")])
    assert type(made[0]) is bytearray
    assert made[0] is made[1]["again"]
    assert made[0] is not made[2]
    made[0] += b"d"
    assert data == b"abc"


def test_a_dereference_may_come_before_its_bytearray() -> None:
    tree: Any = [b"list", [b"dereference", 1], [b"reference", 1, [b"pbnb.bytearray", b"x"]]]
    made = unjelly(tree)
    assert made[0] is made[1] == bytearray(b"x")


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_others_are_atoms(value: Any) -> None:
    tree: Any = jelly([value, value])
    assert tree == [b"list", jelly(value), jelly(value)]


def test_a_bytearray_is_no_key() -> None:
    with pytest.raises(InsecureJelly, match="a bytearray cannot be a key"):
        unjelly([b"dictionary", [[b"pbnb.bytearray", b"x"], 1]])


def test_the_others_are_keys() -> None:
    value = {each: number for number, each in enumerate(VALUES)}
    assert there_and_back(value) == value


@pytest.mark.parametrize(
    "value", [type("MyComplex", (complex,), {})(1), type("P", (type(pathlib.Path()),), {})("x")]
)
def test_a_subclass_is_an_instance_like_others(value: Any) -> None:
    with pytest.raises(InsecureJelly, match="are not sent"):
        jelly(value)


# What a peer may send


STATES: list[Any] = [
    5,
    1.5,
    b"x",
    b"",
    b"x" * 15,
    b"x" * 17,
    b"x\0y",
    b"x" * 33_000,
    [],
    [b"tuple"],
    [b"tuple", 1],
    [b"tuple", 1, 2],
    [b"tuple", 1.0],
    [b"tuple", 1.0, 2],
    [b"tuple", 1.0, b"2"],
    [b"tuple", 1.0, 2.0, 3.0],
    [b"tuple", 1, 2, 0],
    [b"tuple", 1, 2, 3, 4],
    [b"list", 1.0, 2.0],
    [b"tuple", [b"boolean", b"true"], 1, 2],
    [b"unicode", b"2026-11-22T00:00:00+00:00"],
    [b"None"],
    [b"remote", 1],
    b"2026-11-22T00:00:00",
    b"2026-11-22 00:00:00+00:00",
    b"20261122T000000+0000",
    b"2026-W01-1T00:00:00+00:00",
    b"2026-02-30T00:00:00+00:00",
    b"0000-01-01T00:00:00+00:00",
    b"2026-11-22T24:00:00+00:00",
    b"2026-11-22T00:00:00+24:00",
    b"2026-11-22T00:00:00+00:00\n",
    b"2026-11-22T00:00:00.1+00:00",
    "٢٠٢٦-11-22T00:00:00+00:00".encode(),
    b"12:00:00",
    b"25:00:00+00:00",
    b"12:00:00+99:99",
]
GOOD: dict[bytes, list[Any]] = {
    b"pbnb.complex": [],
    b"pbnb.range": [],
    b"pbnb.UUID": [],
    b"pbnb.bytearray": [state for state in STATES if type(state) is bytes],
    b"pbnb.datetime": [],
    b"pbnb.time": [],
}


@pytest.mark.parametrize("tag", GOOD)
@pytest.mark.parametrize("state", STATES, ids=lambda state: repr(state)[:40])
def test_a_state_of_another_kind_is_refused(tag: bytes, state: Any) -> None:
    if state in GOOD[tag]:
        assert unjelly([tag, state]) == bytearray(state)
        return
    with pytest.raises(InsecureJelly, match=f"malformed {tag.decode()}"):
        unjelly([tag, state])


@pytest.mark.parametrize("tag", sorted(each for each in EXTRA_TYPES if each.endswith(b"Path")))
@pytest.mark.parametrize("state", [5, b"x\0y", b"x" * 33_000, [b"unicode", b"x"], []])
def test_a_path_of_another_kind_is_refused(tag: bytes, state: Any) -> None:
    with pytest.raises(InsecureJelly, match=f"malformed {tag.decode()}"):
        unjelly([tag, state])


def test_a_windows_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(InsecureJelly, match="malformed pbnb.PureWindowsPath"):
        unjelly([b"pbnb.PureWindowsPath", b"\xff"])


@pytest.mark.parametrize("tag", sorted(EXTRA_TYPES))
def test_an_expression_of_another_length_is_refused(tag: bytes) -> None:
    for tree in ([tag], [tag, b"x", b"y"], [tag, 1, [b"dictionary"]]):
        with pytest.raises(InsecureJelly, match=f"malformed {tag.decode()}"):
            unjelly(tree)


def test_a_path_of_another_system_arrives_as_a_name() -> None:
    other = "Windows" if isinstance(pathlib.Path(), pathlib.PosixPath) else "Posix"
    made = unjelly([f"pbnb.{other}Path".encode(), b"a/b"])
    assert type(made) is getattr(pathlib, f"Pure{other}Path")


def test_many_values_of_one_hash_are_refused_as_keys() -> None:
    # All of these name one instant.
    hours = range(-12, 12)
    keys = [
        datetime(2026, 1, 2, tzinfo=UTC).astimezone(timezone(timedelta(hours=h, minutes=m)))
        for h in hours
        for m in range(30)
    ]
    tree: list[Any] = [b"set", *(jelly(key) for key in keys)]
    with pytest.raises(pb.LimitExceeded, match="of one hash"):
        unjelly(tree)


# Which types a side lets in


def test_options_let_them_in_when_asked_to() -> None:
    security = SecurityOptions()
    security.allowBasicTypes()
    with pytest.raises(InsecureJelly, match="pbnb.complex is not allowed here"):
        unjelly(jelly(1j), security=security)
    security.allowTypes("pbnb.complex")
    assert unjelly(jelly(1j), security=security) == 1j
    with pytest.raises(InsecureJelly, match="pbnb.range is not allowed here"):
        unjelly(jelly(range(3)), security=security)
    security.allowExtraTypes()
    assert unjelly(jelly(range(3)), security=security) == range(3)


@pytest.mark.parametrize("tag", sorted(EXTRA_TYPES))
def test_nobody_takes_their_names(tag: bytes) -> None:
    with pytest.raises(ValueError, match=r"PB's own"):
        SecurityOptions().setUnjellyableFactoryForClass(tag, lambda state: state)


def test_every_type_has_a_reader() -> None:
    assert EXTRA_READERS.keys() == EXTRA_TYPES
    assert EXTRA_TYPES <= pb.global_security.allowed


# What a peer reads


def write(value: Any, types: frozenset[bytes] | None) -> Any:
    return Jellier(None, pb.global_security, None, Limits(), peer_types=types).write(value)


def test_a_type_that_the_peer_does_not_know_is_refused_here() -> None:
    with pytest.raises(InsecureJelly, match="pbnb.complex is not sent: this peer speaks plain"):
        write([1j], frozenset())
    with pytest.raises(InsecureJelly, match="pbnb.range is not sent"):
        write(range(3), frozenset([b"pbnb.complex"]))
    assert write(1j, frozenset([b"pbnb.complex"])) == jelly(1j)


@pytest.mark.parametrize("value", [*VALUES, bytearray()], ids=repr)
def test_a_peer_that_was_not_asked_is_asked_first(value: Any) -> None:
    with pytest.raises(PeerNotAsked):
        write({"deep": [value]}, None)


@pytest.mark.parametrize("value", [date(2026, 1, 1), datetime(2026, 1, 1), b"x", "x", 1, [None]])
def test_nobody_is_asked_for_what_pb_has(value: Any) -> None:
    assert write(value, None) == jelly(value)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"pbnb.complex",
        {b"pbnb.complex": 1},
        [1, "pbnb.complex", [b"pbnb.complex"], b"list", b"other.Type"],
        [b"pbnb.complex"] * 1001,
        CopiedFailure(type="x", value="y", traceback="", parents=[]),
    ],
)
def test_an_odd_answer_names_no_types(answer: Any) -> None:
    assert types_in(answer) == frozenset()


def test_every_pbnb_says_what_it_reads() -> None:
    assert types_in(ABOUT.remote_types()) == EXTRA_TYPES
    pair = BrokerPair()
    assert types_in(pair.call_on(RemoteReference(pair.client, ABOUT_NAME), "types")) == EXTRA_TYPES
    with pytest.raises(pb.NoSuchMethod):
        pair.call_on(RemoteReference(pair.client, ABOUT_NAME), "anything")
    assert pair.server.broker.refs.named == {}


class Root(pb.Root):
    def __init__(self) -> None:
        self.value: Any = 1j

    def remote_value(self) -> Any:
        return self.value

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_fail(self) -> None:
        error = CopyableError("with a complex")
        error.value = 1j
        raise error


class CopyableError(pb.Error, pb.Copyable):
    value: Any = None


def test_a_broker_answers_when_it_knows_what_the_peer_reads() -> None:
    pair = BrokerPair(Root())
    with pytest.raises(InsecureJelly, match="it is not known whether"):
        pair.call("value")
    pair.server.broker.peer_types = EXTRA_TYPES
    assert pair.call("value") == 1j
    pair.server.broker.peer_types = frozenset()
    with pytest.raises(InsecureJelly, match="this peer speaks plain Perspective Broker"):
        pair.call("value")
    # A call is sent as long as nothing speaks against it: refusing it costs nobody anything.
    assert pair.call("echo", 5) == 5
    pair.client.broker.peer_types = frozenset()
    with pytest.raises(InsecureJelly, match="this peer speaks plain"):
        pair.call("echo", 1j)


def test_a_failure_that_holds_one_arrives_without_it() -> None:
    pair = BrokerPair(Root())
    with pytest.raises(pb.RemoteError, match="could not be sent"):
        pair.call("fail")


def asked(connection: Connection) -> int:
    """Returns how many calls a connection has made."""
    return connection.machine._last_request


def test_a_peer_is_asked_once_before_the_first_answer() -> None:
    root = Root()

    async def main() -> None:
        async with served(root) as (server, ref):
            (far,) = server.connections
            root.value = 7
            assert await ref.callRemote("value") == 7
            assert asked(far) == 0
            root.value = [1j, bytearray(b"x"), range(3)]
            answers = await asyncio.gather(*(ref.callRemote("value") for _ in range(5)))
            assert answers == [root.value] * 5
            assert asked(far) == 1
            assert far.machine.peer_types == EXTRA_TYPES
            for value in VALUES:
                assert await ref.callRemote("echo", value) == value
            assert asked(far) == 1

    asyncio.run(main())


def test_a_connection_that_ends_while_the_peer_is_asked() -> None:
    async def main() -> None:
        async with served(Root()) as (server, ref):
            (far,) = server.connections
            answer = ref.callRemote("value")
            far.call_soon(far.abort)
            with pytest.raises((pb.PBConnectionLost, InsecureJelly)):
                await answer
            assert far.asking._types == []

    asyncio.run(main())


def test_a_server_with_strict_options_refuses_and_goes_on() -> None:
    security = SecurityOptions()
    security.allowBasicTypes()

    async def main() -> None:
        async with served(Root(), security=security) as (_, ref):
            with pytest.raises(InsecureJelly, match="pbnb.complex is not allowed here"):
                await ref.callRemote("echo", 1j)
            assert await ref.callRemote("echo", 1) == 1

    asyncio.run(main())
