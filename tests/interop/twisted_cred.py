"""A Twisted program whose users log in: a server of avatars, or one client scenario.

    twisted_cred.py server                  serves alice, bob and guests; prints "READY port"
    twisted_cred.py client PORT SCENARIO    logs in at a pbnb server; prints what it finds as JSON

The server prints a line of JSON for each logout.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.cred.checkers import ANONYMOUS, AllowAnonymousAccess
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse as Passwords
from twisted.cred.credentials import Anonymous, UsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.python import log
from twisted.spread import pb
from twisted_peer import UntilClosed, failure_of, say
from zope.interface import implementer


class Group(pb.Viewable):
    def view_who(self, perspective: Any) -> str:
        return perspective.name

    def view_both(self, perspective: Any, suffix: str = "") -> str:
        return perspective.name + suffix


class User(pb.Avatar):
    def __init__(self, group: Group, name: str, mind: Any) -> None:
        self.group = group
        self.name = name
        self.mind = mind
        self.kept: Any = None

    def perspective_whoami(self) -> str:
        return self.name

    def perspective_group(self) -> Group:
        return self.group

    def perspective_callMind(self, word: str) -> Deferred[Any]:
        return self.mind.callRemote("hear", word)

    def perspective_keep(self, ref: Any) -> None:
        self.kept = ref

    def perspective_sayToKept(self) -> Deferred[Any]:
        return self.kept.callRemote("hear", self.group)

    def perspective_atHome(self, thing: Any) -> bool:
        """Whether what came is this user's view of the group."""
        viewed = isinstance(thing, pb.ViewPoint)
        return viewed and thing.object is self.group and thing.perspective is self


@implementer(IRealm)
class Realm:
    def __init__(self) -> None:
        self.group = Group()

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        name = "guest" if avatarId is ANONYMOUS else avatarId.decode()
        return pb.IPerspective, User(self.group, name, mind), lambda: say(logout=name)


def serve() -> None:
    portal = Portal(Realm(), [Passwords(alice=b"secret", bob=b"other"), AllowAnonymousAccess()])
    port = reactor.listenTCP(0, pb.PBServerFactory(portal), interface="127.0.0.1")
    print(f"READY {port.getHost().port}", flush=True)


# ---- the client: each scenario is given its factory, not yet connected

ALICE = UsernamePassword(b"alice", b"secret")
BOB = UsernamePassword(b"bob", b"other")


class Mind(pb.Referenceable):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def remote_hear(self, word: Any) -> str:
        self.heard.append(word)
        return "heard"


async def logins(factory: pb.PBClientFactory) -> None:
    refs = [await factory.login(each) for each in (ALICE, BOB, Anonymous())]
    say(
        names=[await ref.callRemote("whoami") for ref in refs],
        wrong=await failure_of(factory.login(UsernamePassword(b"alice", b"other"))),
        unknown=await failure_of(factory.login(UsernamePassword(b"mallory", b"secret"))),
        still=await refs[0].callRemote("whoami"),
        missing=await failure_of(refs[0].callRemote("nosuch")),
    )


async def mind(factory: pb.PBClientFactory) -> None:
    mind = Mind()
    for credentials in (ALICE, Anonymous()):
        ref = await factory.login(credentials, mind)
        say(answer=await ref.callRemote("callMind", "word"))
    say(heard=mind.heard)


async def views(factory: pb.PBClientFactory) -> None:
    alice, bob = await factory.login(ALICE), await factory.login(BOB)
    group, again = await alice.callRemote("group"), await alice.callRemote("group")
    other = await bob.callRemote("group")
    say(
        one_luid=group == again,
        for_each=group != other,
        who=[await ref.callRemote("who") for ref in (group, other)],
        both=await other.callRemote("both", suffix="!"),
        spoofed=await failure_of(group.callRemote("who", perspective="bob")),
        at_home=[
            await ref.callRemote("atHome", view) for ref in (alice, bob) for view in (group, other)
        ],
    )


async def remembered(factory: pb.PBClientFactory) -> None:
    mind = Mind()
    alice = await factory.login(ALICE)
    await alice.callRemote("keep", mind)
    say(answer=await alice.callRemote("sayToKept"))
    (group,) = mind.heard
    say(
        who=await group.callRemote("who"),
        same=group == await alice.callRemote("group"),
        at_home=await alice.callRemote("atHome", group),
    )


async def leaving(factory: pb.PBClientFactory) -> None:
    alice, again, bob = [await factory.login(each) for each in (ALICE, ALICE, BOB)]
    del again
    gc.collect()
    say(left=await bob.callRemote("left"))
    del alice
    gc.collect()
    say(left_then=await bob.callRemote("left"))
    factory.disconnect()


async def refused(factory: pb.PBClientFactory) -> None:
    say(refused=await failure_of(factory.login(ALICE)))


SCENARIOS = {each.__name__: each for each in (logins, mind, views, remembered, leaving, refused)}


def start(role: str, *arguments: str) -> None:
    StandardIO(UntilClosed())
    if role == "server":
        serve()
        return
    port, scenario = arguments
    factory = pb.PBClientFactory()
    reactor.connectTCP("127.0.0.1", int(port), factory)
    done = Deferred.fromCoroutine(SCENARIOS[scenario](factory))
    done.addErrback(log.err).addBoth(lambda _: reactor.running and reactor.stop())


if __name__ == "__main__":
    log.startLogging(sys.stderr, setStdout=False)
    reactor.callWhenRunning(start, *sys.argv[1:])
    reactor.run()
