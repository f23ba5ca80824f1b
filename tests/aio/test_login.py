"""Logging in over a connection: users, guests, minds, sessions and servers that are false."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio import login as client_side
from pbnb.aio.login import log_in
from pbnb.cred.challenge import respond
from pbnb.cred.scram import derive
from tests.support.serving import until

ALICE = pb.UsernamePassword("alice", "secret")


class Group(pb.Viewable):
    def view_who(self, perspective: Any) -> str:
        return str(perspective.name)


class User(pb.Avatar):
    def __init__(self, realm: Realm, name: Any, mind: Any) -> None:
        self.realm = realm
        self.name = name
        self.mind = mind
        self.kept: Any = None

    def perspective_whoami(self) -> Any:
        return self.name

    def perspective_group(self) -> Group:
        return self.realm.group

    def perspective_callMind(self, word: str) -> Any:
        return self.mind.callRemote("hear", word)

    def perspective_keep(self, ref: Any) -> None:
        self.kept = ref

    def perspective_sayToKept(self) -> Any:
        return self.kept.callRemote("hear", self.realm.group)

    def perspective_isMine(self, ref: pb.RemoteReference) -> bool:
        return ref.perspective is self


class Realm:
    """Counts who is in."""

    def __init__(self) -> None:
        self.group = Group()
        self.users: list[User] = []
        self.left: list[Any] = []

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        user = User(self, avatarId, mind)
        self.users.append(user)
        return pb.IPerspective, user, lambda: self.left.append(avatarId)


class Mind(pb.Referenceable):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def remote_hear(self, word: Any) -> str:
        self.heard.append(word)
        return "heard"


def portal(realm: Any) -> pb.Portal:
    checkers = [pb.PasswordChecker(alice="secret", bob="other"), pb.AllowAnonymousAccess()]
    return pb.Portal(realm, checkers)


@asynccontextmanager
async def serving(realm: Any, **options: Any) -> AsyncIterator[pb.Server]:
    async with await pb.serve(portal(realm), **options) as server:
        yield server


def test_two_users_and_a_guest() -> None:
    async def main() -> None:
        async with serving(realm := Realm()) as server:
            assert not server.anonymous and server.token is None
            alice = await pb.connect(server.address, username="alice", password="secret")
            bob = await pb.connect(server.address, username="bob", password=b"other")
            guest = await pb.connect(server.address, anonymous=True)
            assert await alice.callRemote("whoami") == "alice"
            assert await bob.callRemote("whoami") == "bob"
            assert await guest.callRemote("whoami") == ()
            for ref in (alice, bob, guest):
                await ref.broker.close()
            await until(lambda: len(realm.left) == 3)
        assert sorted(map(str, realm.left)) == ["()", "alice", "bob"]

    asyncio.run(main())


@pytest.mark.parametrize(("name", "password"), [("alice", "other"), ("mallory", "secret")])
@pytest.mark.parametrize("legacy_auth", [True, False])
def test_a_wrong_login_is_refused(name: str, password: str, legacy_auth: bool) -> None:
    async def main() -> None:
        async with serving(realm := Realm()) as server:
            with pytest.raises(pb.UnauthorizedLogin) as caught:
                await pb.connect(
                    server.address, username=name, password=password, legacy_auth=legacy_auth
                )
            assert str(caught.value) == "the login was refused"
            await until(lambda: not server.connections)
        assert realm.users == []

    asyncio.run(main())


def test_the_password_does_not_travel() -> None:
    sent: list[bytes] = []

    class Listening(pb.Connection):
        __slots__ = ()

        def buffer_updated(self, nbytes: int) -> None:
            sent.append(bytes(self.get_buffer(0)[:nbytes]))
            super().buffer_updated(nbytes)

    async def main() -> None:
        realm = Realm()
        factory = pb.PBServerFactory(portal(realm))
        made = factory()
        made.__class__ = Listening
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: made, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ref = await pb.connect(address, username="alice", password="secret")
        assert await ref.callRemote("whoami") == "alice"
        await ref.broker.close()
        server.close()

    asyncio.run(main())
    assert b"alice" in b"".join(sent) and b"secret" not in b"".join(sent)


def test_the_avatar_calls_the_mind() -> None:
    async def main() -> None:
        async with serving(Realm()) as server:
            mind = Mind()
            for how in ({"username": "alice", "password": "secret"}, {"anonymous": True}):
                ref = await pb.connect(server.address, mind=mind, **how)
                assert await ref.callRemote("callMind", "word") == "heard"
                await ref.broker.close()
            assert mind.heard == ["word", "word"]

    asyncio.run(main())


# Several logins, and their ends


def test_several_logins_on_one_connection_end_each_by_itself() -> None:
    async def main() -> None:
        async with serving(realm := Realm()) as server:
            loop, factory = asyncio.get_running_loop(), pb.PBClientFactory()
            early = factory.login(ALICE)  # before there is a connection
            await loop.create_connection(factory, server.host, server.port)
            alice = await early
            logins = [factory.login(ALICE), factory.login(pb.UsernamePassword("bob", "other"))]
            again, bob = await asyncio.gather(*logins)
            del early, logins
            assert len(server.connections) == 1 and again != alice
            names = [await ref.callRemote("whoami") for ref in (alice, again, bob)]
            assert names == ["alice", "alice", "bob"]
            assert realm.left == []
            del again
            await until(lambda: realm.left == ["alice"])
            assert await alice.callRemote("whoami") == "alice"
            assert realm.left == ["alice"]
            del alice
            await until(lambda: realm.left == ["alice", "alice"])
            factory.disconnect()
            await until(lambda: len(realm.left) == 3)
        assert realm.left == ["alice", "alice", "bob"]
        del bob

    asyncio.run(main())


def test_after_the_last_release_a_disconnect_logs_nobody_out_again() -> None:
    async def main() -> None:
        async with serving(realm := Realm()) as server:
            ref = await pb.connect(server.address, username="alice", password="secret")
            connection = ref.broker
            del ref
            await until(lambda: realm.left == ["alice"])
            assert not connection.lost
            await connection.close()
            await until(lambda: not server.connections)
            assert realm.left == ["alice"]

    asyncio.run(main())


class Proxy(pb.Referenceable):
    """One of many that stand for one thing."""

    def processUniqueID(self) -> str:
        return "the thing"

    def remote_another(self) -> Proxy:
        return Proxy()


class Seen(pb.Viewable):
    def view_whoami(self, perspective: Any) -> Any:
        return perspective


@pytest.mark.parametrize("kind", [Proxy, Seen])
def test_avatars_that_are_sent_as_they_are_log_out_on_release_too(kind: Any) -> None:
    async def main() -> None:
        left: list[str] = []
        realm = lambda name, mind: (None, kind(), lambda: left.append(name))  # noqa: E731
        async with serving(realm) as server:
            loop, factory = asyncio.get_running_loop(), pb.PBClientFactory()
            await loop.create_connection(factory, server.host, server.port)
            ref = await factory.login(ALICE)
            if kind is Proxy:
                # The same thing to the peer, though not the object that it logged in to.
                assert await ref.callRemote("another") == ref
            else:
                assert await ref.callRemote("whoami") is None
            assert left == []
            del ref
            await until(lambda: left == ["alice"])
            factory.disconnect()
            await until(lambda: not server.connections)
            assert left == ["alice"]

    asyncio.run(main())


def test_logins_that_stand_for_one_thing_end_with_its_last_release() -> None:
    async def main() -> None:
        left: list[int] = []
        numbers = iter(range(2))
        realm = lambda name, mind: (None, Proxy(), partial(left.append, next(numbers)))  # noqa: E731
        async with serving(realm) as server:
            loop, factory = asyncio.get_running_loop(), pb.PBClientFactory()
            await loop.create_connection(factory, server.host, server.port)
            ref, again = await factory.login(ALICE), await factory.login(ALICE)
            assert ref == again
            del ref
            await again.callRemote("another")
            assert left == []
            del again
            await until(lambda: left == [0, 1])
            factory.disconnect()
            await until(lambda: not server.connections)
            assert left == [0, 1]

    asyncio.run(main())


class ByValue(pb.Copyable, pb.RemoteCopy):
    """An avatar that no release could end."""


def test_logins_on_one_connection_have_a_bound() -> None:
    async def main() -> None:
        left: list[str] = []
        realm = lambda name, mind: (None, ByValue(), lambda: left.append(name))  # noqa: E731
        security = pb.SecurityOptions()
        security.allowBasicTypes()
        security.allowTypes("remote")
        security.setUnjellyableForClass(ByValue, ByValue)
        async with serving(realm, limits=pb.Limits(references=3)) as server:
            loop, factory = asyncio.get_running_loop(), pb.PBClientFactory(security=security)
            await loop.create_connection(factory, server.host, server.port)
            for _ in range(3):
                assert type(await factory.login(ALICE)) is ByValue
            with pytest.raises(pb.Error, match="too many logins"):
                await factory.login(ALICE)
            assert left == ["alice"]
            factory.disconnect()
            await until(lambda: left == ["alice"] * 4)

    asyncio.run(main())


def test_nothing_is_asked_of_a_server_that_is_not_there() -> None:
    async def main() -> None:
        async with serving(Realm()) as server:
            address = server.address
        with pytest.raises(pb.ConnectError, match="nothing listens"):
            await pb.connect(address, username="alice", password="secret")

    asyncio.run(main())


def test_a_logout_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def failing(name: Any, mind: Any) -> Any:
        def logout() -> None:
            raise ZeroDivisionError("in logout")

        return pb.IPerspective, User(realm, name, mind), logout

    realm = Realm()

    async def main() -> None:
        async with serving(failing) as server:
            factory = pb.PBClientFactory()
            await asyncio.get_running_loop().create_connection(factory, server.host, server.port)
            ref, other = await factory.login(ALICE), await factory.login(ALICE)
            del ref
            await until(lambda: "in logout" in caplog.text)
            caplog.clear()
            assert await other.callRemote("whoami") == "alice"
            factory.disconnect()
            await until(lambda: not server.connections)
            assert "in logout" in caplog.text

    asyncio.run(main())


def test_logouts_may_be_async(caplog: pytest.LogCaptureFixture) -> None:
    left: list[str] = []

    class Slow(pb.Avatar):
        def __init__(self, name: str, mind: Any) -> None:
            self.name = name

        async def logout(self) -> None:
            await asyncio.sleep(0)
            left.append(self.name)
            raise ZeroDivisionError("after that")

    async def main() -> None:
        async with serving(Slow) as server:
            ref = await pb.connect(server.address, username="alice", password="secret")
            await ref.broker.close()
            await until(lambda: "after that" in caplog.text)
        assert left == ["alice"]

    asyncio.run(main())


def test_a_peer_that_is_gone_before_its_avatar_is_made_is_logged_out() -> None:
    async def main() -> None:
        left: list[str] = []
        asked, go = asyncio.Event(), asyncio.Event()

        async def realm(name: str, mind: Any) -> Any:
            asked.set()
            await go.wait()
            return None, pb.Avatar(), lambda: left.append(name)

        async with serving(realm) as server:
            loop, factory = asyncio.get_running_loop(), pb.PBClientFactory()
            await loop.create_connection(factory, server.host, server.port)
            login = factory.login(ALICE)
            await asked.wait()
            factory.disconnect()
            with pytest.raises(pb.PBConnectionLost):
                await login
            await until(lambda: not server.connections)
            assert left == []
            go.set()
            await until(lambda: left == ["alice"])

    asyncio.run(main())


def test_an_avatar_that_cannot_be_sent_is_logged_out() -> None:
    class Unsendable(pb.Copyable):
        def getStateToCopy(self) -> Any:
            return {"thing": object()}

    async def main() -> None:
        left: list[str] = []
        realm = lambda name, mind: (None, Unsendable(), lambda: left.append(name))  # noqa: E731
        async with serving(realm) as server:
            with pytest.raises(pb.InsecureJelly, match="builtins.object"):
                await pb.connect(server.address, username="alice", password="secret")
            assert left == ["alice"]
            await until(lambda: not server.connections)
            assert left == ["alice"]

    asyncio.run(main())


def test_a_login_whose_answer_nobody_wants_is_logged_out() -> None:
    async def main() -> None:
        async with serving(realm := Realm()) as server:
            root = await pb.connect(server.address)
            root.remote_only("loginAnonymous", None)
            await until(lambda: realm.left == [()])
            await root.broker.close()
            assert len(realm.users) == 1

    asyncio.run(main())


# Perspectives


def test_view_methods_are_given_the_avatar_of_the_connection() -> None:
    async def main() -> None:
        async with serving(Realm()) as server:
            refs = [
                await pb.connect(server.address, username=name, password=password)
                for name, password in (("alice", "secret"), ("bob", "other"))
            ]
            for ref, name in zip(refs, ("alice", "bob"), strict=True):
                group, again = await ref.callRemote("group"), await ref.callRemote("group")
                assert group == again
                assert await group.callRemote("who") == name
                # The avatar is no argument that a peer could give.
                with pytest.raises(TypeError):
                    await group.callRemote("who", "bob")
                with pytest.raises(TypeError):
                    await group.callRemote("who", perspective="bob")
                await ref.broker.close()

    asyncio.run(main())


def test_a_reference_remembers_the_perspective_that_it_was_received_in() -> None:
    async def main() -> None:
        async with serving(realm := Realm()) as server:
            mind = Mind()
            ref = await pb.connect(server.address, username="alice", password="secret")
            assert await ref.callRemote("isMine", mind) is True
            await ref.callRemote("keep", mind)
            assert await ref.callRemote("sayToKept") == "heard"
            # What the avatar sends through it is seen by the avatar's user.
            (group,) = mind.heard
            assert await group.callRemote("who") == "alice"
            assert group == await ref.callRemote("group")
            assert realm.users[0].kept.perspective is realm.users[0]
            await ref.broker.close()

    asyncio.run(main())


# Clients and servers that do not match


def test_pbs_own_login_between_peers_of_pbnb() -> None:
    async def main() -> None:
        async with serving(Realm(), legacy_auth=True) as server:
            root = await pb.connect(server.address)
            challenge, challenger = await root.callRemote("login", b"alice")
            avatar = await challenger.callRemote("respond", respond(challenge, "secret"), None)
            assert await avatar.callRemote("whoami") == "alice"
            await root.broker.close()

    asyncio.run(main())


class OldLogin(pb.Root):
    """A server that has nothing but PB's own login."""

    def __init__(self) -> None:
        self.responses: list[Any] = []

    def remote_login(self, username: bytes) -> Any:
        return b"c" * 16, self

    def remote_respond(self, response: bytes, mind: Any) -> Any:
        self.responses.append(response)
        return self


def test_a_server_without_the_proof_is_used_only_when_that_was_asked_for() -> None:
    async def main() -> None:
        root = OldLogin()
        async with await pb.serve(root) as server:
            with pytest.raises(pb.UnauthorizedLogin, match="legacy_auth=True"):
                await pb.connect(server.address, username="alice", password="secret")
            assert root.responses == []
            ref = await pb.connect(
                server.address, username="alice", password="secret", legacy_auth=True
            )
            assert root.responses == [respond(b"c" * 16, "secret")]
            await ref.broker.close()

    asyncio.run(main())


@pytest.mark.parametrize("legacy_auth", [True, False])
def test_a_server_without_any_login_says_so(legacy_auth: bool) -> None:
    async def main() -> None:
        async with await pb.serve(pb.Root()) as server:
            ref = await pb.connect(server.address)
            for credentials in (ALICE, pb.Anonymous()):
                with pytest.raises(pb.UnauthorizedLogin, match="this server has no login"):
                    await log_in(ref, credentials, legacy_auth=legacy_auth)
            await ref.broker.close()

    asyncio.run(main())


class FalseServer(pb.Root):
    """Does not know the password, and answers what it is told to."""

    def __init__(self, began: Any = None, proof: Any = b"x" * 32) -> None:
        self.began = (b"n" * 32, b"s" * 16, 4096, self) if began is None else began
        self.proof = proof
        self.minds: list[Any] = []

    def remote_login_scram(self, username: Any, nonce: Any) -> Any:
        return self.began

    def remote_prove(self, proof: Any, channel: Any) -> Any:
        return self.proof, self

    def remote_enter(self, mind: Any) -> Any:
        self.minds.append(mind)
        return self


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (FalseServer(), "has not proved that it knows the password"),
        (FalseServer(proof=None), "has not proved"),
        (FalseServer(proof="x" * 32), "has not proved"),
        (FalseServer((b"n" * 32, b"s" * 16, 1, None)), "easy to guess"),
        (FalseServer((b"n" * 32, b"s" * 16, 10**9, None)), "takes too long"),
        (FalseServer((b"n" * 32, b"s" * 16, 4096, None)), "cannot be understood"),
        (FalseServer([b"n" * 32, b"s" * 16, 4096, None]), "cannot be understood"),
        (FalseServer("hello"), "cannot be understood"),
    ],
)
def test_a_server_that_cannot_prove_itself_gets_nothing(server: FalseServer, says: str) -> None:
    async def main() -> None:
        async with await pb.serve(server) as listening:
            with pytest.raises(pb.UnauthorizedLogin, match=says):
                await pb.connect(
                    listening.address, username="alice", password="secret", mind=Mind()
                )
            await until(lambda: not listening.connections)
        assert server.minds == []

    asyncio.run(main())


def test_what_is_relayed_to_the_real_server_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A client is lured to a server that passes everything on (attack 45)."""

    class Relay(pb.Root):
        def __init__(self, target: pb.RemoteReference) -> None:
            self.target = target
            self.got: list[Any] = []

        async def remote_login_scram(self, username: Any, nonce: Any) -> Any:
            *numbers, self.challenger = await self.target.callRemote("login_scram", username, nonce)
            return (*numbers, self)

        async def remote_prove(self, proof: Any, channel: Any) -> Any:
            for said in (channel, self.target.broker.channel):
                try:
                    self.got.append(await self.challenger.callRemote("prove", proof, said))
                except pb.UnauthorizedLogin as error:
                    self.got.append(str(error))
            return b"x" * 32, self

    async def main() -> None:
        async with serving(realm := Realm()) as server:
            relay = Relay(await pb.connect(server.address))
            async with await pb.serve(relay) as false:
                with pytest.raises(pb.UnauthorizedLogin):
                    await pb.connect(false.address, username="alice", password="secret")
            await relay.target.broker.close()
            assert relay.got == ["the login was refused"] * 2 and realm.users == []
            assert f"was made for {false.address!r}, and this is {server.address}" in caplog.text

    asyncio.run(main())


@asynccontextmanager
async def tunnel(server: pb.Server) -> AsyncIterator[str]:
    """Another port of this machine that leads to a server."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(pump(reader, back), pump(onward, writer))

    listener = await asyncio.start_server(through, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


def test_through_a_tunnel_one_says_where_it_leads() -> None:
    async def main() -> None:
        async with serving(Realm()) as server, tunnel(server) as address:
            with pytest.raises(pb.UnauthorizedLogin) as caught:
                await pb.connect(address, username="alice", password="secret")
            (note,) = caught.value.__notes__
            assert address in note and "server_address=" in note
            ref = await pb.connect(
                address, username="alice", password="secret", server_address=server.address
            )
            assert await ref.callRemote("whoami") == "alice"
            await ref.broker.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"token": "x", "username": "alice", "password": "y"}, TypeError, "not with several"),
        ({"token": "x", "anonymous": True}, TypeError, "not with several"),
        ({"username": "alice"}, TypeError, "are given together"),
        ({"password": "x"}, TypeError, "are given together"),
        ({"server_address": "localhost:8789"}, ValueError, "needs a number for the host"),
        ({"server_address": "127.0.0.1"}, ValueError, "host:port"),
    ],
)
def test_what_does_not_go_together(how: Any, error: type[Exception], says: str) -> None:
    async def main() -> None:
        with pytest.raises(error, match=says):
            await pb.connect("127.0.0.1:1", **how)

    asyncio.run(main())


def test_other_credentials_are_refused_here() -> None:
    async def main() -> None:
        async with serving(Realm()) as server:
            ref = await pb.connect(server.address)
            with pytest.raises(TypeError, match="not with a tuple"):
                await log_in(ref, ("alice", "secret"))  # type: ignore[arg-type]
            await ref.broker.close()

    asyncio.run(main())


def test_the_work_of_the_client_is_done_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may ask for much of it."""
    threads: list[int] = []

    def counted(*args: Any) -> Any:
        threads.append(threading.get_ident())
        return derive(*args)

    monkeypatch.setattr(client_side, "derive", counted)

    async def main() -> None:
        async with serving(Realm()) as server:
            ref = await pb.connect(server.address, username="alice", password="secret")
            await ref.broker.close()

    asyncio.run(main())
    assert len(threads) == 1 and threads != [threading.get_ident()]
