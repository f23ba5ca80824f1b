"""A Twisted program for pbnb to talk to: a Perspective Broker server, or one client scenario.

    twisted_peer.py server [PASSWORD]         serves; prints "READY port"
    twisted_peer.py client PORT SCENARIO [PASSWORD]   calls; prints a line of JSON for each result

Both end when their standard input is closed. With a password the server is reached, and the
client logs in, as the user "pbnb".
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.python import log
from twisted.python.failure import Failure
from twisted.spread import pb, util
from twisted.spread.banana import BananaError
from twisted.spread.flavors import NoSuchMethod
from twisted.spread.jelly import InsecureJelly
from values import VALUES, describe
from zope.interface import implementer

LIMIT = 640 * 1024


class MyError(pb.Error):
    """An error that callers expect."""


class MyError2(Exception):
    """An error that nobody expects."""


class Unsafe:
    """No flavor of Perspective Broker: not to be sent."""


TRAPPED = [MyError, pb.Error, NoSuchMethod, InsecureJelly, UnauthorizedLogin, pb.PBConnectionLost]


def say(**results: Any) -> None:
    """Prints results for the test that started this process."""
    print(json.dumps(results), flush=True)


def told(failure: Failure) -> dict[str, Any]:
    """Returns what a test wants to know of a failure, as JSON can hold it."""
    kind = failure.type
    name = f"{kind.__module__}.{kind.__name__}" if isinstance(kind, type) else as_text(kind)
    return {
        "type": name,
        "value": failure.getErrorMessage(),
        "traceback": as_text(getattr(failure, "traceback", "")),
        "trapped": [cls.__name__ for cls in TRAPPED if failure.check(cls)],
    }


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


# ---- the server


class Two(pb.Referenceable):
    def __init__(self) -> None:
        self.given: list[Any] = []

    def remote_three(self, arg: Any) -> None:
        self.given.append(arg)

    def remote_given(self) -> list[Any]:
        return self.given

    remote_print = remote_three


class Spells(pb.Referenceable):
    """Numbers, said one by one as the reader takes them."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.said = self.allowed = 0
        self.over: Deferred[int] = Deferred()
        self.sink: Any = None

    def remote_begin(self, sink: pb.RemoteReference, ahead: int) -> Deferred[int]:
        self.sink = sink
        self.remote_more(ahead)
        return self.over

    def remote_more(self, count: int) -> None:
        self.allowed += count
        while self.said < min(self.allowed, self.to):
            self.sink.callRemote("items", self.said, [self.said])
            self.said += 1
        if self.said == self.to and not self.over.called:
            self.over.callback(self.to)

    def remote_close(self) -> None:
        if not self.over.called:
            self.over.callback(self.said)


class Served(pb.Referenceable):
    """What one connection reaches as the root."""

    def __init__(self, broker: pb.Broker) -> None:
        self.broker = broker
        self.two = Two()
        self.noted: list[Any] = []
        self.kept: Any = None

    def remote_echo(self, value: Any) -> Any:
        return value

    def remote_describe(self, value: Any) -> str:
        return describe(value)

    def remote_spells(self, to: int) -> Spells:
        return Spells(to)

    def remote_getTwo(self) -> Two:
        return self.two

    def remote_newTwo(self) -> Two:
        return Two()

    def remote_checkTwo(self, two: Any) -> bool:
        return two is self.two

    def remote_takeTwo(self, two: pb.RemoteReference) -> Deferred[Any]:
        return two.callRemote("print", 12)

    def remote_keep(self, ref: Any) -> None:
        self.kept = ref

    def remote_kept(self) -> Any:
        return self.kept

    def remote_drop(self) -> None:
        self.kept = None
        gc.collect()

    def remote_broken(self) -> None:
        raise MyError("fall down go boom")

    def remote_broken2(self) -> None:
        raise MyError2("hadda owie")

    def remote_divide(self, a: int, b: int) -> float:
        return a / b

    def remote_later(self, value: Any) -> Deferred[Any]:
        d: Deferred[Any] = Deferred()
        reactor.callLater(0, d.callback, value)
        return d

    def remote_laterBroken(self) -> Deferred[Any]:
        d: Deferred[Any] = Deferred()
        reactor.callLater(0, d.errback, MyError("too late"))
        return d

    def remote_keywords(self, *args: Any, **kw: Any) -> str:
        return describe([args, kw])

    def remote_note(self, value: Any) -> None:
        self.noted.append(value)

    def remote_noted(self) -> list[Any]:
        return self.noted

    def remote_table(self) -> dict[int, int]:
        """What this end lends to the peer: the count of every luid."""
        lent = self.broker.localObjects.items()
        return {luid: local.refcount for luid, local in lent if luid != b"root"}

    def remote_sendUnsafe(self) -> Unsafe:
        return Unsafe()

    def remote_big(self, size: int) -> bytes:
        return b"x" * size

    def remote_size(self, data: bytes) -> int:
        return len(data)

    def remote_hang(self) -> Deferred[Any]:
        return Deferred()

    def remote_hangUp(self) -> Deferred[Any]:
        self.broker.transport.loseConnection()
        return Deferred()

    def remote_pageString(self, collector: pb.RemoteReference, *args: Any) -> None:
        util.StringPager(collector, *args, callback=say, paged="string")

    def remote_pageFile(self, collector: pb.RemoteReference, data: bytes) -> None:
        util.FilePager(collector, BytesIO(data))

    def remote_collect(self, source: pb.RemoteReference, *args: Any) -> Deferred[Any]:
        """Returns the pages of the caller's own method, which is no pager to this end."""
        return util.getAllPages(source, *args).addCallback(described)

    def remote_learnComplex(self) -> None:
        pb.setUnjellyableFactoryForClass("pbnb.complex", lambda parts: complex(*parts))

    def remote_watch(self, ref: pb.RemoteReference) -> None:
        ref.notifyOnDisconnect(lambda lost: say(lost=lost == ref))


def described(pages: list[Any]) -> list[Any]:
    """Returns pages as the other end can compare them, failures by what they say."""
    return [
        ("failure", page.getErrorMessage()) if isinstance(page, Failure) else page for page in pages
    ]


class ServedRoot(pb.Root):
    def rootObject(self, broker: pb.Broker) -> Served:
        return Served(broker)


class User(pb.Avatar):
    def __init__(self, name: bytes, mind: Any) -> None:
        self.name = name
        self.mind = mind

    def perspective_whoami(self) -> str:
        return self.name.decode()

    def perspective_echo(self, value: Any) -> Any:
        return value


@implementer(IRealm)
class Realm:
    def requestAvatar(self, name: bytes, mind: Any, *interfaces: Any) -> Any:
        user = User(name, mind)
        return pb.IPerspective, user, lambda: say(logout=name.decode())


def serve(password: str | None) -> None:
    if password is None:
        factory = pb.PBServerFactory(ServedRoot())
    else:
        users = InMemoryUsernamePasswordDatabaseDontUse(pbnb=password.encode())
        factory = pb.PBServerFactory(Portal(Realm(), [users]))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print(f"READY {port.getHost().port}", flush=True)


# ---- the client: each scenario is given a reference to the root of a pbnb server


async def failure_of(d: Deferred[Any]) -> dict[str, Any]:
    """Returns what is told of the failure that a Deferred ends in."""
    result = await d.addBoth(lambda result: told(result) if isinstance(result, Failure) else None)
    assert result is not None, "no failure came"
    return result


async def values(root: pb.RemoteReference) -> None:
    for name, value in VALUES.items():
        seen = await root.callRemote("describe", value)
        back = await root.callRemote("echo", value)
        say(**{name: {"sent": describe(value), "seen": seen, "back": describe(back)}})


async def pb1(root: pb.RemoteReference) -> None:
    two = await root.callRemote("getTwo")
    await two.callRemote("three", 12)
    say(got=type(two).__name__)


async def pb2(root: pb.RemoteReference) -> None:
    two = await root.callRemote("getTwo")
    same = await root.callRemote("checkTwo", two)
    again = await root.callRemote("getTwo")
    say(same=same, equal=again == two)


async def pb3(root: pb.RemoteReference) -> None:
    two = Two()
    await root.callRemote("takeTwo", two)
    say(given=two.given)


async def echoed(root: pb.RemoteReference) -> None:
    """An object that comes straight back: Twisted's own end releases it only afterwards here."""
    two = Two()
    await root.callRemote("keep", two)
    say(home=(await root.callRemote("kept")) is two)
    await root.callRemote("drop")


async def errors(root: pb.RemoteReference) -> None:
    say(
        expected=await failure_of(root.callRemote("broken")),
        unexpected=await failure_of(root.callRemote("broken2")),
        builtin=await failure_of(root.callRemote("divide", 1, 0)),
        missing=await failure_of(root.callRemote("nosuch")),
        later=await failure_of(root.callRemote("laterBroken")),
        arguments=await failure_of(root.callRemote("echo", 1, 2, 3)),
        alive=await root.callRemote("echo", "alive"),
    )


async def unsafe(root: pb.RemoteReference) -> None:
    say(
        sent=await failure_of(root.callRemote("echo", Unsafe())),
        returned=await failure_of(root.callRemote("sendUnsafe")),
        alive=await root.callRemote("echo", "alive"),
    )


async def deferred(root: pb.RemoteReference) -> None:
    for kind in ("later", "coroutine"):
        say(**{kind: describe(await root.callRemote(kind, ["in", "time"]))})


async def keywords(root: pb.RemoteReference) -> None:
    say(seen=await root.callRemote("keywords", 1, "two", three=3, name=[4]))


async def no_answer(root: pb.RemoteReference) -> None:
    returned = root.callRemote("note", "heard", pbanswer=False)
    root.callRemote("broken2", pbanswer=False)
    say(returned=returned, noted=await root.callRemote("noted"))


async def counting(root: pb.RemoteReference) -> None:
    two = await root.callRemote("getTwo")
    again = await root.callRemote("getTwo")
    say(held=await root.callRemote("table"))
    del two
    gc.collect()
    say(one_left=await root.callRemote("table"))
    del again
    gc.collect()
    say(released=await root.callRemote("table"))


async def lending(root: pb.RemoteReference) -> None:
    """What this end lends is counted, and given back when the other end drops it."""
    served = root.broker
    luids = served.localObjects
    await root.callRemote("keep", Two())
    say(lent=[local.refcount for local in luids.values()])
    await root.callRemote("drop")
    while luids:
        await root.callRemote("echo", None)
    say(back=len(luids))


async def big(root: pb.RemoteReference) -> None:
    data = b"x" * LIMIT
    say(there=await root.callRemote("size", data))
    say(back=len(await root.callRemote("big", LIMIT)))
    try:
        root.callRemote("size", data + b"x")
    except BananaError:
        say(refused_here=True)
    say(refused_there=await failure_of(root.callRemote("big", LIMIT + 1)))
    say(alive=await root.callRemote("echo", "alive"))


async def hung_up(root: pb.RemoteReference) -> None:
    root.notifyOnDisconnect(lambda lost: say(notified=lost == root))
    pending = root.callRemote("hang")
    say(pending=await failure_of(root.callRemote("hangUp")))
    say(also_pending=await failure_of(pending))
    try:
        root.callRemote("echo", "too late")
    except pb.DeadReferenceError as error:
        say(stale=str(error))


async def wait(root: pb.RemoteReference) -> None:
    """Connects, calls once, and stays until the test closes this process's input."""
    await root.callRemote("keep", Two())
    say(kept=True)
    await Deferred()


async def trap(root: pb.RemoteReference) -> None:
    """The four calls of the documents: safe, unsafe, failing, stale."""
    outcomes: list[str] = []

    def check(*classes: type[Exception]) -> Callable[[Failure], None]:
        return lambda failure: outcomes.append(failure.trap(*classes).__name__)

    def call(arg: Any) -> Deferred[None]:
        d = root.callRemote("fooMethod", arg).addCallback(outcomes.append)
        return d.addErrback(check(MyError, InsecureJelly))

    await call("safe string")
    await call(Unsafe())
    await call("panic!")
    await root.callRemote("hangUp").addErrback(check(pb.PBConnectionLost))
    try:
        await call("dummy")
    except pb.DeadReferenceError:
        outcomes.append("stale")
    say(outcomes=outcomes)


async def paging(root: pb.RemoteReference) -> None:
    for name in ("pageString", "pageFile", "pageBroken"):
        pages = described(await util.getAllPages(root, name))
        say(**{name: [page.decode() if isinstance(page, bytes) else page for page in pages]})
    say(alive=await root.callRemote("echo", "alive"))


class Sink(pb.Referenceable):
    """Takes the items of a generator, and asks for more where there is a source to ask."""

    def __init__(self, source: Any = None) -> None:
        self.source = source
        self.items: list[Any] = []
        self.count = 0
        self.first: Deferred[None] = Deferred()

    def remote_items(self, before: int, items: list[Any]) -> None:
        assert before == len(self.items)
        self.items += items
        if self.source is not None:
            self.source.callRemote("more", len(items), pbanswer=False)
        if len(self.items) >= 10 and not self.first.called:
            self.first.callback(None)

    def remote_ended(self, count: int) -> None:
        self.count = count


async def streaming(root: pb.RemoteReference) -> None:
    source = await root.callRemote("numbers", 1000)
    sink = Sink(source)
    count = await source.callRemote("begin", sink, 50)
    say(whole=[count, sink.items])
    source = await root.callRemote("numbers", 10**9)
    sink = Sink()
    begun = source.callRemote("begin", sink, 10)
    begun.addErrback(lambda failure: None)
    await sink.first
    await root.callRemote("echo", 1)
    say(first=sink.items)
    await source.callRemote("close")
    say(ended=await root.callRemote("ended"))
    source = await root.callRemote("failing")
    sink = Sink()
    failure = await failure_of(source.callRemote("begin", sink, 50))
    say(failing=[failure["type"], sink.items, sink.count])


async def extras(root: pb.RemoteReference) -> None:
    """Answers of types that this end does not know: errors, and not the end of the connection."""
    for name in await root.callRemote("extraNames"):
        say(**{name: await failure_of(root.callRemote("extra", name))})
    say(alive=await root.callRemote("echo", "alive"))


SCENARIOS = [
    *(values, pb1, pb2, pb3, echoed, errors, unsafe, deferred, keywords, no_answer),
    *(counting, lending, big, hung_up, wait, trap, paging, extras, streaming),
]


async def call(port: int, scenario: str, password: str | None) -> None:
    factory = pb.PBClientFactory()
    reactor.connectTCP("127.0.0.1", port, factory)
    if password is None:
        root = await factory.getRootObject()
    else:
        credentials = UsernamePassword(b"pbnb", password.encode())
        login = factory.login(credentials).addErrback(lambda failure: say(refused=told(failure)))
        root = await login
        if root is None:
            return
    await {each.__name__: each for each in SCENARIOS}[scenario](root)


# ---- the process


class UntilClosed(Protocol):
    """Ends the process when its standard input is closed."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        if reactor.running:
            reactor.stop()


def start(role: str, *arguments: str) -> None:
    StandardIO(UntilClosed())
    if role == "server":
        serve(*arguments or [None])
        return
    port, scenario, *password = arguments
    done = Deferred.fromCoroutine(call(int(port), scenario, *password or [None]))
    done.addErrback(log.err).addBoth(lambda _: reactor.running and reactor.stop())


if __name__ == "__main__":
    log.startLogging(sys.stderr, setStdout=False)
    reactor.callWhenRunning(start, *sys.argv[1:])
    reactor.run()
