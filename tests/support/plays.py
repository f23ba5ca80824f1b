"""The recorded scenarios' clients: what each calls, in its order, and what has to come of it."""

from __future__ import annotations

import datetime
import decimal
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pbnb as pb
from pbnb.protocol.events import PendingCall
from tests.support.replay import Stage
from tests.support.scenarios import Known, Plain, Pond, Unknown, Unregistered, security

Play = Callable[[Stage, Any, pb.PBClientFactory], Awaitable[None]]
PLAYS: dict[str, Play] = {}


def play(scenario: Play) -> Play:
    PLAYS[scenario.__name__] = scenario
    return scenario


class Mine(pb.Referenceable):
    """The client's own object."""

    __module__ = "__main__"

    def __init__(self, stage: Stage) -> None:
        self.native = stage.native
        self.view: Any = None

    def remote_hello(self, *args: Any) -> Any:
        return self.native("hi")

    def remote_poked(self, how: Any) -> Any:
        return self.native("ouch")

    def remote_fail(self) -> None:
        raise Known("client side")

    def remote_surprise(self) -> None:
        raise Unknown("client surprise")

    def remote_takeView(self, view: Any) -> Any:
        self.view = view
        return view.callRemote("post", self.native("through a view"))


def values(native: Callable[[str], Any]) -> list[Any]:
    """Returns what `types` echoes, in its order."""
    return [
        *(None, True, False, 0, 1, -1, 127, 128),
        *(2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**70, -(2**70)),
        *(1.5, float("inf"), -0.0, b"hello", b"", b"\x00\xff"),
        *("hello", "", "caf\xe9 \u20ac", native("native str")),
        *([1, b"a"], [], (1, 2), (), {b"k": 1}, {"k": 1}, {1: b"one"}, {1, 2}, frozenset([3])),
        datetime.datetime(2020, 2, 3, 4, 5, 6, 7),
        *(datetime.date(2020, 2, 3), datetime.time(4, 5, 6, 7)),
        *(datetime.timedelta(1, 2, 3), datetime.timedelta(-1)),
        *(decimal.Decimal("-12.50"), decimal.Decimal("1E+3"), b"remote", [b"remote", 1]),
        {b"a": [(1, None), {"b": set()}]},
    ]


@play
async def types(stage: Stage, root: Any, factory: Any) -> None:
    for value in values(stage.native):
        got = await stage.outcome(lambda value=value: root.callRemote("echo", value))  # type: ignore[misc]
        assert got == value and type(got) is type(value)
    shared = [1]
    cycle: list[Any] = []
    cycle.append(cycle)
    tuples: list[Any] = []
    tuples += [(tuples, tuples)]
    for value in ([shared, shared], cycle, tuples[0]):
        await stage.outcome(lambda value=value: root.callRemote("cyclic", value))  # type: ignore[misc]
    assert await stage.outcome(lambda: root.callRemote("echo", 1, 2)) == (1, 2)
    assert await stage.outcome(lambda: root.callRemote("echo")) == ()
    await stage.outcome(lambda: root.callRemote("echo", 1, key=2, other=stage.native("x")))
    assert await stage.outcome(lambda: root.callRemote(b"echo", 5)) == 5
    assert await stage.outcome(lambda: root.callRemote("echo", 6)) == 6
    root.remote_only("note", 7)
    assert await stage.outcome(lambda: root.remoteMethod("echo")(8)) == 8
    later = await stage.outcome(lambda: root.callRemote("laterValue"))
    assert later in ({"k": (1, 2)}, {b"k": (1, 2)})


def failed(stage: Stage, got: Any, kind: str) -> None:
    """Asserts that a call came to a failure of the peer's, if the peer lived so long."""
    assert isinstance(got, Exception)
    if not stage.lines[0].hung_up:
        assert getattr(got, "remoteType", None) == kind, got


def refused(root: Any, sent: bool = True) -> None:
    """Counts a call that we refuse to send, and waits for nothing of it.

    Args:
        root: The reference that was called.
        sent: Whether Twisted sent the call, so that an answer comes; it spends a number anyway.
    """
    machine = root.broker.machine
    machine._last_request = number = machine._last_request + 1
    if sent:
        machine.pending[number] = PendingCall(number, root, "refused", [])


@play
async def errors(stage: Stage, root: Any, factory: Any) -> None:
    names = "known unknown pberror knownLater unknownLater jellyError jellyErrorLater"
    names += " plainCopyError plainCopyErrorLater plainObject returnFailure tzinfo noSuchThing"
    for name in names.split():
        got = await stage.outcome(lambda name=name: root.callRemote(name))  # type: ignore[misc]
        assert isinstance(got, Exception)
        if "nown" in name:
            failed(stage, got, "wiretypes.Known" if name[0] == "k" else "wiretypes.Unknown")
        if stage.lines[0].hung_up:
            continue
        if "Error" in name:
            assert got.code in range(7, 11)  # type: ignore[attr-defined]
        if name in ("plainObject", "returnFailure"):
            assert isinstance(got, pb.InsecureJelly)
    await stage.outcome(lambda: root.callRemote("twoArgs", 1, 2, 3))
    nowhere = pb.RemoteReference(root.broker, 4711)
    got = await stage.outcome(lambda: nowhere.callRemote("x"))
    failed(stage, got, "twisted.spread.pb.Error")
    if stage.lines[0].hung_up:
        return
    root.remote_only("known")
    root.remote_only("unknown")
    unsendable = await stage.outcome(lambda: root.callRemote("echo", object()))
    assert isinstance(unsendable, pb.InsecureJelly)
    refused(root)
    got = await stage.outcome(lambda: root.callRemote("echo", Unregistered()))
    failed(stage, got, "twisted.spread.jelly.InsecureJelly")
    assert isinstance(await stage.outcome(lambda: root.callRemote("echo", Mine)), pb.InsecureJelly)
    refused(root)
    for _ in range(3):
        failed(stage, await stage.outcome(lambda: root.callRemote("known")), "wiretypes.Known")


@play
async def trap(stage: Stage, root: Any, factory: Any) -> None:
    def foo(arg: Any) -> Any:
        return stage.outcome(lambda: root.callRemote("fooMethod", arg))

    assert await foo(stage.native("safe string")) in ("response", b"response")
    assert isinstance(await foo(object()), pb.InsecureJelly)
    refused(root)
    got = await foo(stage.native("panic!"))
    assert isinstance(got, Exception) or (stage.python2 and got == "response")
    if not stage.lines[0].hung_up:
        await stage.outcome(lambda: root.callRemote("shutdown"))
    assert isinstance(await foo(1), pb.DeadReferenceError)


@play
async def relay(stage: Stage, root: Any, factory: Any) -> None:
    mine = Mine(stage)
    for name, kind in [("hello", ""), ("fail", "Known"), ("surprise", "Unknown")]:
        relayed = stage.native(name)
        got = await stage.outcome(lambda name=relayed: root.callRemote("relay", mine, name))  # type: ignore[misc]
        if kind:
            assert isinstance(got, Exception)
            assert stage.lines[0].hung_up or got.remoteType == f"wiretypes.{kind}"  # type: ignore[attr-defined]
        else:
            assert got == stage.native("hi")
    assert await stage.outcome(lambda: root.callRemote("echo", 1)) == 1 or stage.lines[0].hung_up


def one(scenario: str, name: str) -> None:
    async def play_one(stage: Stage, root: Any, factory: Any) -> None:
        if scenario == "hugeintlater":
            root.callRemote(name)  # is never answered: the error found no way back
        else:
            got = await stage.outcome(lambda: root.callRemote(name))
            assert got is None or isinstance(got, Exception)
        await stage.outcome(lambda: root.callRemote("echo", 1))

    PLAYS[scenario] = play_one


ONE = {
    "errorone": "unknown",
    "unicodeerror": "unicodeError",
    "baseexception": "generatorExit",
    "hugeint": "hugeInt",
    "hugeintlater": "hugeIntLater",
    "hugestring": "hugeString",
    "somefunction": "someFunction",
    "someclass": "someClass",
    "somemodule": "someModule",
    "copybad": "unregistered",
}
for scenario, name in ONE.items():
    one(scenario, name)


@play
async def stateless(stage: Stage, root: Any, factory: Any) -> None:
    assert vars(await stage.outcome(lambda: root.callRemote("stateless"))) == {}
    await stage.outcome(lambda: root.callRemote("echo", 1))


@play
async def allowed(stage: Stage, root: Any, factory: Any) -> None:
    got = await stage.outcome(lambda: root.callRemote("plainInstance"))
    assert type(got) is Plain and got.v == 3
    assert await stage.outcome(lambda: root.callRemote("echo", Plain)) is Plain
    await stage.outcome(lambda: root.callRemote("plainErrorSync"))
    await stage.outcome(lambda: root.callRemote("plainErrorLater"))
    await stage.outcome(lambda: root.callRemote("echo", 1))


@play
async def hugeargs(stage: Stage, root: Any, factory: Any) -> None:
    for value in (2**500, b"x" * (640 * 1024 + 1)):
        got = await stage.outcome(lambda value=value: root.callRemote("echo", value))  # type: ignore[misc]
        assert isinstance(got, pb.BananaError)
        refused(root, sent=False)
    got = await stage.outcome(lambda: root.callRemote("echo", security))
    assert isinstance(got, pb.InsecureJelly)
    refused(root, sent=stage.python2)
    assert await stage.outcome(lambda: root.callRemote("echo", 1)) == 1


@play
async def unsafe(stage: Stage, root: Any, factory: Any) -> None:
    for name in ("known", "unknown", "unknownLater"):
        got = await stage.outcome(lambda name=name: root.callRemote(name))  # type: ignore[misc]
        assert stage.lines[0].hung_up or "Traceback" in got.remoteTraceback


@play
async def decref(stage: Stage, root: Any, factory: Any) -> None:
    outcome, call = stage.outcome, root.callRemote
    a = await outcome(lambda: call("getThing"))
    await outcome(lambda: call("table"))
    b = await outcome(lambda: call("getThing"))
    assert a == b and hash(a) == hash(b)
    await outcome(lambda: call("table"))
    pair = await outcome(lambda: call("pairOfSame"))
    await outcome(lambda: call("table"))
    assert await outcome(partial(call, "same", a)) is True
    assert await outcome(lambda: call("rootBack", root)) is True
    await outcome(partial(a.callRemote, "name"))
    pair = None  # noqa: F841
    await outcome(lambda: call("table"))
    b = None
    await outcome(lambda: call("table"))
    a = None
    del b, a
    gc.collect()
    root.broker._release()
    await outcome(lambda: call("table"))
    c = await outcome(lambda: call("getThing"))  # noqa: F841
    mine = Mine(stage)
    await outcome(lambda: call("keep", mine))
    assert await outcome(lambda: call("useKept", 1)) == stage.native("hi")
    assert await outcome(lambda: call("returnKept")) is mine
    await outcome(lambda: call("drop"))
    await outcome(lambda: call("echo", 1))
    assert list(root.broker.machine.refs.lent()) == []


@play
async def copyable(stage: Stage, root: Any, factory: Any) -> None:
    outcome, call = stage.outcome, root.callRemote
    text = ("pond", b"pond")
    pond = await outcome(lambda: call("pond"))
    assert pond.frogs == 12 and pond.name in text
    await outcome(lambda: call("takePond", Pond(5)))
    assert (await outcome(lambda: call("tagged"))).x == 1
    assert (await outcome(lambda: call("made"))).n == 3
    two = await outcome(lambda: call("twicePond"))
    assert two[0] is two[1]
    loop = await outcome(lambda: call("loopPond"))
    assert loop.me is loop
    got = await outcome(lambda: call("echo", Pond(6)))
    assert isinstance(got, pb.InsecureJelly)


@play
async def cacheable(stage: Stage, root: Any, factory: Any) -> None:
    outcome, call, native = stage.outcome, root.callRemote, stage.native
    first = await outcome(lambda: call("duck"))
    await outcome(lambda: call("moveDuck", native("south")))
    assert first.where == native("south")
    again = await outcome(lambda: call("duck"))
    assert again == first
    await outcome(lambda: call("observers"))
    two = await outcome(lambda: call("twoDucks"))
    await outcome(partial(call, "duckBack", first))
    del two
    await outcome(lambda: call("echo", 1))
    del again
    await outcome(lambda: call("echo", 2))
    await outcome(lambda: call("moveDuck", native("east")))
    del first
    gc.collect()
    root.broker._release()
    await outcome(lambda: call("moveDuck", native("west")))
    third = await outcome(lambda: call("duck"))
    await outcome(lambda: call("observers"))
    assert third.where == native("west")


@play
async def pager(stage: Stage, root: Any, factory: Any) -> None:
    pages: Any = pb.Deferred()
    collector = pb.CallbackPageCollector(pages.callback)
    await stage.outcome(lambda: root.callRemote("pageString", collector))
    got = await stage.outcome(lambda: pages)
    assert b"".join(got) == b"abcdefghij" * 3
    got = await stage.outcome(lambda: pb.getAllPages(root, "pageFile"))
    assert b"".join(got) == b"0123456789" * 2000
    await stage.outcome(lambda: root.callRemote("echo", 1))


@play
async def disconnect(stage: Stage, root: Any, factory: Any) -> None:
    died: list[Any] = []
    thing = await stage.outcome(lambda: root.callRemote("getThing"))
    thing.notifyOnDisconnect(died.append)
    root.broker.notifyOnDisconnect(lambda: died.append("broker"))
    mine = Mine(stage)
    await stage.outcome(lambda: root.callRemote("watch", mine))
    hang = root.callRemote("hang")
    said = await stage.outcome(lambda: root.callRemote("hangUp"))
    assert said in ("said before closing", b"said before closing")
    assert isinstance(await stage.outcome(lambda: hang), pb.PBConnectionLost)
    assert died == [thing, "broker"]
    for ref in (thing, root):
        dead = await stage.outcome(lambda ref=ref: ref.callRemote("name"))  # type: ignore[misc]
        assert isinstance(dead, pb.DeadReferenceError)
    assert not factory.getRootObject().called


@play
async def maxrefs(stage: Stage, root: Any, factory: Any) -> None:
    held = await stage.outcome(lambda: root.callRemote("many", 1024))
    assert len(held) == 1024
    for _ in range(4):
        got = await stage.outcome(lambda: root.callRemote("newThing"))
        assert stage.lines[0].hung_up or "Maximum PB reference count exceeded" in str(got)
    if stage.lines[0].hung_up:
        return
    await stage.outcome(lambda: root.callRemote("echo", 1))


@play
async def thirdparty(stage: Stage, root: Any, factory: Any) -> None:
    other = pb.PBClientFactory(security=security("thirdparty"))
    stage.open(other)
    root2 = await stage.outcome(other.getRootObject)
    thing = await stage.outcome(lambda: root.callRemote("newThing"))
    got = await stage.outcome(lambda: root2.callRemote("echo", thing))
    assert isinstance(got, pb.InsecureJelly)
    mine = Mine(stage)
    await stage.outcome(lambda: root.callRemote("keep", mine))
    got = await stage.outcome(lambda: root2.callRemote("returnKept"))
    assert isinstance(got, AssertionError)


# Logging in


def login(factory: Any, name: str, password: str, mind: Any = None) -> Any:
    return factory.login(pb.UsernamePassword(name, password), mind)


def play_login(scenario: Play) -> Play:
    PLAYS[scenario.__name__.removeprefix("play_")] = scenario
    return scenario


@play_login
async def play_login_(stage: Stage, root: Any, factory: Any) -> None:
    outcome, mine = stage.outcome, Mine(stage)
    avatar = await outcome(lambda: login(factory, "alice", "sesame", mine))
    assert await outcome(lambda: avatar.callRemote("whoami")) == b"alice"
    assert await outcome(lambda: avatar.callRemote("add", 1, 2)) == 3
    assert await outcome(lambda: avatar.callRemote("add", 1, b=2)) == 3 or stage.python2
    assert await outcome(lambda: avatar.callRemote("poke")) == stage.native("ouch")
    await outcome(lambda: avatar.callRemote("fail"))
    await outcome(lambda: avatar.callRemote("self"))
    await outcome(lambda: avatar.callRemote("showBoardTo", mine))
    await outcome(lambda: avatar.callRemote("showBoardToMind"))
    await outcome(lambda: avatar.callRemote("nosuch"))
    mine.view = None


PLAYS["login"] = PLAYS.pop("login_")


@play
async def loginbad(stage: Stage, root: Any, factory: Any) -> None:
    for user in ("alice", "carol"):
        got = await stage.outcome(lambda user=user: login(factory, user, "nope"))  # type: ignore[misc]
        assert isinstance(got, pb.UnauthorizedLogin) or stage.lines[0].hung_up


@play
async def loginanon(stage: Stage, root: Any, factory: Any) -> None:
    avatar = await stage.outcome(lambda: factory.login(pb.Anonymous()))
    await stage.outcome(lambda: avatar.callRemote("whoami"))
    factory.disconnect()
    await stage.outcome(lambda: root.callRemote("nothing"))


@play
async def logintwo(stage: Stage, root: Any, factory: Any) -> None:
    avatars = [
        await stage.outcome(lambda: login(factory, "alice", "sesame", Mine(stage))),
        await stage.outcome(lambda: login(factory, "bob", "pw", Mine(stage))),
    ]
    for avatar, name in zip(avatars, (b"alice", b"bob"), strict=True):
        got = await stage.outcome(lambda avatar=avatar: avatar.callRemote("whoami"))  # type: ignore[misc]
        assert got == name


@play
async def viewable(stage: Stage, root: Any, factory: Any) -> None:
    outcome, native = stage.outcome, stage.native
    a = await outcome(lambda: login(factory, "alice", "sesame"))
    b = await outcome(lambda: login(factory, "bob", "pw"))
    va = await outcome(lambda: a.callRemote("board"))
    va2 = await outcome(lambda: a.callRemote("board"))  # noqa: F841
    vb = await outcome(lambda: b.callRemote("board"))
    both = await outcome(lambda: a.callRemote("boards"))
    assert both == [va, va]
    await outcome(lambda: va.callRemote("post", native("hello")))
    await outcome(lambda: vb.callRemote("post", native("world")))
    await outcome(lambda: va.callRemote("post", native("again"), loud=1))
    await outcome(lambda: va.callRemote("me"))
    assert await outcome(lambda: a.callRemote("takeBoard", va)) is False
    await outcome(lambda: va.callRemote("nosuch"))
    await outcome(lambda: a.callRemote("duck"))
