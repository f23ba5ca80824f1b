"""Users: portals, avatars, minds and views, between pbnb and Twisted in both roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import pbnb as pb
from tests.interop.peers import TwistedPeer, twisted_process
from tests.support.serving import until

SCRIPT = Path(__file__).with_name("twisted_cred.py")
ALICE = pb.UsernamePassword("alice", "secret")
BOB = pb.UsernamePassword("bob", "other")


class Mind(pb.Referenceable):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def remote_hear(self, word: Any) -> str:
        self.heard.append(word)
        return "heard"


# ---- a Twisted server


@asynccontextmanager
async def twisted_portal() -> AsyncIterator[TwistedPeer]:
    async with twisted_process("server", script=SCRIPT) as peer:
        word, _, port = (await peer.line()).partition(" ")
        assert word == "READY", "the Twisted server did not start; see what it wrote below"
        peer.port = int(port)
        yield peer


@asynccontextmanager
async def factory_to(peer: TwistedPeer) -> AsyncIterator[pb.PBClientFactory]:
    factory = pb.PBClientFactory(legacy_auth=True)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(factory, "127.0.0.1", peer.port)
    try:
        yield factory
    finally:
        await connection.close()


def test_logging_in_at_a_twisted_portal() -> None:
    async def main() -> None:
        async with twisted_portal() as peer, factory_to(peer) as factory:
            refs = [await factory.login(each) for each in (ALICE, BOB, pb.Anonymous())]
            names = [await ref.callRemote("whoami") for ref in refs]
            assert names == ["alice", "bob", "guest"]
            for wrong in (("alice", "other"), ("mallory", "secret"), (b"\xc3\xab", "x")):
                failed = factory.login(pb.UsernamePassword(*wrong))
                with pytest.raises(pb.UnauthorizedLogin):
                    await failed
            assert await refs[0].callRemote("whoami") == "alice"

    asyncio.run(main())


def test_a_twisted_portal_takes_no_proof() -> None:
    async def main() -> None:
        async with twisted_portal() as peer:
            with pytest.raises(pb.UnauthorizedLogin, match="legacy_auth=True"):
                await pb.connect(peer.address, username="alice", password="secret")

    asyncio.run(main())


def test_a_twisted_avatar_calls_the_mind() -> None:
    async def main() -> None:
        async with twisted_portal() as peer:
            mind = Mind()
            for how in ({"username": "alice", "password": "secret"}, {"anonymous": True}):
                ref = await pb.connect(peer.address, mind=mind, legacy_auth=True, **how)
                assert await ref.callRemote("callMind", "word") == "heard"
                await ref.broker.close()
            assert mind.heard == ["word", "word"]

    asyncio.run(main())


def test_views_of_a_twisted_object() -> None:
    async def main() -> None:
        async with twisted_portal() as peer, factory_to(peer) as factory:
            alice, bob = await factory.login(ALICE), await factory.login(BOB)
            group, again = await alice.callRemote("group"), await alice.callRemote("group")
            other = await bob.callRemote("group")
            assert group == again and group != other
            assert await group.callRemote("who") == "alice"
            assert await other.callRemote("both", suffix="!") == "bob!"
            home = [
                await ref.callRemote("atHome", view)
                for ref in (alice, bob)
                for view in (group, other)
            ]
            assert home == [True, False, False, True]

    asyncio.run(main())


def test_what_a_twisted_avatar_keeps_remembers_whose_it_is() -> None:
    async def main() -> None:
        async with twisted_portal() as peer, factory_to(peer) as factory:
            mind = Mind()
            alice = await factory.login(ALICE)
            await alice.callRemote("keep", mind)
            assert await alice.callRemote("sayToKept") == "heard"
            (group,) = mind.heard
            assert await group.callRemote("who") == "alice"
            assert await alice.callRemote("atHome", group) is True

    asyncio.run(main())


def test_a_twisted_portal_logs_out_on_release_and_at_the_end() -> None:
    async def main() -> None:
        async with twisted_portal() as peer:
            async with factory_to(peer) as factory:
                alice, bob = await factory.login(ALICE), await factory.login(BOB)
                again = await factory.login(ALICE)
                assert again != alice
                del alice
                assert await peer.result() == {"logout": "alice"}
                assert await again.callRemote("whoami") == "alice"
            left = [await peer.result(), await peer.result()]
            assert sorted(each["logout"] for each in left) == ["alice", "bob"]
            del bob

    asyncio.run(main())


# ---- a Twisted client


class Group(pb.Viewable):
    def view_who(self, perspective: Any) -> str:
        return str(perspective.name)

    def view_both(self, perspective: Any, suffix: str = "") -> str:
        return str(perspective.name) + suffix


class User(pb.Avatar):
    def __init__(self, realm: Realm, name: str, mind: Any) -> None:
        self.realm = realm
        self.name = name
        self.mind = mind
        self.kept: Any = None

    def perspective_whoami(self) -> str:
        return self.name

    def perspective_group(self) -> Group:
        return self.realm.group

    def perspective_left(self) -> list[str]:
        return self.realm.left

    def perspective_callMind(self, word: str) -> Any:
        return self.mind.callRemote("hear", word)

    def perspective_keep(self, ref: Any) -> None:
        self.kept = ref

    def perspective_sayToKept(self) -> Any:
        return self.kept.callRemote("hear", self.realm.group)

    def perspective_atHome(self, thing: Any) -> bool:
        viewed = isinstance(thing, pb.ViewPoint) and thing.object is self.realm.group
        return viewed and thing.perspective is self


class Realm:
    def __init__(self) -> None:
        self.group = Group()
        self.left: list[str] = []

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        assert interfaces == (pb.IPerspective,)
        name = "guest" if avatarId is pb.checkers.ANONYMOUS else avatarId
        return pb.IPerspective, User(self, name, mind), lambda: self.left.append(name)


async def found_by_twisted(
    scenario: str, realm: Realm | None = None, *, legacy_auth: bool = True
) -> dict[str, Any]:
    passwords = pb.PasswordChecker(alice="secret", bob="other")
    portal = pb.Portal(realm or Realm(), [passwords, pb.AllowAnonymousAccess()])
    async with await pb.serve(portal, legacy_auth=legacy_auth) as server:
        async with twisted_process("client", str(server.port), scenario, script=SCRIPT) as peer:
            found = await peer.results()
            assert await peer.process.wait() == 0
        await until(lambda: not server.connections)
        return found


def test_a_twisted_client_logs_in() -> None:
    found = asyncio.run(found_by_twisted("logins"))
    assert found["names"] == ["alice", "bob", "guest"]
    assert found["wrong"]["trapped"] == ["UnauthorizedLogin"]
    assert found["wrong"] == found["unknown"]
    assert found["wrong"]["value"] == "the login was refused"
    assert found["still"] == "alice"
    assert found["missing"]["trapped"] == ["NoSuchMethod"]


def test_a_twisted_client_is_told_of_legacy_auth() -> None:
    found = asyncio.run(found_by_twisted("refused", legacy_auth=False))
    assert found["refused"]["trapped"] == ["UnauthorizedLogin"]
    assert "legacy_auth=True" in found["refused"]["value"]


def test_an_avatar_calls_a_twisted_mind() -> None:
    found = asyncio.run(found_by_twisted("mind"))
    assert found == {"answer": "heard", "heard": ["word", "word"]}


def test_a_twisted_client_sees_views_for_each_avatar() -> None:
    found = asyncio.run(found_by_twisted("views"))
    assert found["one_luid"] and found["for_each"]
    assert found["who"] == ["alice", "bob"] and found["both"] == "bob!"
    assert found["spoofed"]["type"].endswith("TypeError")
    assert found["at_home"] == [True, False, False, True]


def test_a_reference_of_a_twisted_client_remembers_whose_it_is() -> None:
    found = asyncio.run(found_by_twisted("remembered"))
    assert found == {"answer": "heard", "who": "alice", "same": True, "at_home": True}


def test_a_twisted_client_is_logged_out_once_for_each_login() -> None:
    realm = Realm()
    found = asyncio.run(found_by_twisted("leaving", realm))
    assert found == {"left": ["alice"], "left_then": ["alice", "alice"]}
    assert realm.left == ["alice", "alice", "bob"]
