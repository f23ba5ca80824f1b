"""Invitations of a server, from outside: named, ending, for less, and taken back."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import pbnb as pb
from pbnb.aio import inviting
from pbnb.aio.inviting import seconds_of
from pbnb.cred import OWNER, Invitation
from tests.support.serving import until


class Desk(pb.Root):
    def __init__(self) -> None:
        self.other = Other()
        self.entered = asyncio.Event()

    def remote_read(self) -> str:
        return "read"

    def remote_write(self) -> str:
        return "written"

    def remote_other(self) -> pb.Referenceable:
        return self.other

    async def remote_wait(self) -> None:
        self.entered.set()
        await asyncio.Event().wait()


class Other(pb.Referenceable):
    def remote_who(self) -> str:
        return "other"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_invitation_for_some_methods(host: str) -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), host, anonymous=False) as server:
            invitation = server.invite("reader", methods=["read", "other"])
            ref = await pb.connect(invitation.reveal())
            assert await ref.callRemote("read") == "read"
            for name in ("write", "nothing", "find_remote"):
                with pytest.raises(pb.NoSuchMethod):
                    await ref.callRemote(name)
            # What a method gives away is a whole object.
            other = await ref.callRemote("other")
            assert await other.callRemote("who") == "other"
            await ref.broker.close()

    asyncio.run(main())


def test_an_invitation_for_one_object() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), anonymous=False) as server:
            ref = await pb.connect(server.invite(obj=Other()))
            assert await ref.callRemote("who") == "other"
            with pytest.raises(pb.NoSuchMethod):
                await ref.callRemote("read")
            await ref.broker.close()

    asyncio.run(main())


def test_taking_one_back_cuts_its_connections_and_no_others() -> None:
    async def main() -> None:
        async with await pb.serve(desk := Desk(), anonymous=False) as server:
            alice, bob = server.invite("alice"), server.invite("bob")
            hers = [await pb.connect(alice) for _ in range(2)]
            his, own = await pb.connect(bob), await pb.connect(server.invitation)
            pending = hers[0].callRemote("wait")
            await desk.entered.wait()
            assert [(row.name, row.connections) for row in server.invitations] == [
                (OWNER, 1),
                ("alice", 2),
                ("bob", 1),
            ]
            users = [seen.peer.user for seen in server.snapshot()]
            assert sorted(users) == ["alice", "alice", "bob", OWNER]
            server.revoke("alice")
            with pytest.raises(pb.PBConnectionLost):
                await pending
            await until(lambda: all(ref.broker.lost for ref in hers))
            for ref in (his, own):
                assert await ref.callRemote("read") == "read"
            with pytest.raises(pb.UnauthorizedLogin) as caught:
                await pb.connect(alice)
            assert str(caught.value) == "the login was refused"
            server.revoke(OWNER)
            await until(lambda: own.broker.lost)
            await his.broker.close()

    asyncio.run(main())


def test_the_end_of_an_invitation_cuts_its_connections(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), anonymous=False) as server:
            invitation = server.invite("alice", expires=3600)
            ref = await pb.connect(invitation)
            assert await ref.callRemote("read") == "read"
            (row,) = server.invitations[1:]
            assert row.expires is not None
            assert timedelta(minutes=59) < row.expires - datetime.now(UTC) <= timedelta(hours=1)
            # An hour later.
            guests = server._factory.guests
            assert guests is not None
            now = guests.clock
            guests.clock = lambda: now() + 3600
            server.invite("bob", expires="1h")
            await until(lambda: ref.broker.lost)
            assert [row.name for row in server.invitations] == [OWNER, "bob"]
            with pytest.raises(pb.UnauthorizedLogin):
                await pb.connect(invitation)

    asyncio.run(main())
    assert "the invitation alice has expired" in caplog.text


def test_time_passes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inviting, "_LOOK", 0.05)

    async def main() -> None:
        async with await pb.serve(Desk(), anonymous=False) as server:
            ref = await pb.connect(server.invite("alice", expires=timedelta(hours=1)))
            guests = server._factory.guests
            assert guests is not None
            now = guests.clock
            guests.clock = lambda: now() + 3600
            await until(lambda: ref.broker.lost)
            assert [row.name for row in server.invitations] == [OWNER]

    asyncio.run(main())


def test_a_login_that_was_begun_does_not_outlive_its_invitation() -> None:
    """It is taken back after the proof, and before the gate was entered."""

    async def main() -> None:
        async with await pb.serve(Desk(), anonymous=False) as server:
            invitation = server.invite("alice")
            guests = server._factory.guests
            assert guests is not None
            enter = guests.enter

            def late(guest: Any, holder: object) -> None:
                if guest.name == "alice":
                    server.revoke("alice")
                enter(guest, holder)

            guests.enter = late  # type: ignore[method-assign]
            with pytest.raises((pb.UnauthorizedLogin, pb.PBConnectionLost)):
                ref = await pb.connect(invitation)
                await ref.callRemote("read")
            await until(lambda: not server.connections)

    asyncio.run(main())


def test_inviting_and_taking_back_from_another_thread() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), anonymous=False, thread=True) as server:
            assert server._loop is not asyncio.get_running_loop()
            ref = await pb.connect(server.invite("alice", expires="1h"))
            assert await ref.callRemote("read") == "read"
            thread = threading.Thread(target=server.revoke, args=["alice"])
            thread.start()
            thread.join()
            await until(lambda: ref.broker.lost)

    asyncio.run(main())


def test_who_needs_no_invitation() -> None:
    async def main() -> None:
        async with await pb.serve(Desk()) as server:
            assert server.invitations == ()
            for call in (server.invite, lambda: server.revoke("alice")):
                with pytest.raises(TypeError, match="serve it with a login to invite some"):
                    call()
        portal = pb.Portal(lambda name, mind: Desk(), [pb.PasswordChecker(alice="secret")])
        async with await pb.serve(portal, "0.0.0.0") as server:
            with pytest.raises(TypeError, match="a portal has users"):
                server.invite()
            # Where it is, and its key: users bring their passwords.
            assert server.invitation.token is None
            ref = await pb.connect(server.invitation, username="alice", password="secret")
            assert await ref.callRemote("read") == "read"
            await ref.broker.close()

    asyncio.run(main())


def test_what_is_no_invitation() -> None:
    async def main() -> None:
        async with await pb.serve(Desk(), anonymous=False) as server:
            with pytest.raises(LookupError, match="no invitation 'mallory': there is owner$"):
                server.revoke("mallory")
            with pytest.raises(pb.NoSuchMethod, match="rread"):
                server.invite(methods=["rread"])
            with pytest.raises(TypeError, match=r"write \[\"read\"\]"):
                server.invite(methods="read")
            with pytest.raises(ValueError, match="good for nothing"):
                server.invite(methods=[])
            assert [row.name for row in server.invitations] == [OWNER]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("3d", 259200), ("1w", 604800)]
    + [("7", 7), (7, 7), (0.5, 0.5), (timedelta(minutes=1), 60)],
)
def test_times(said: Any, seconds: float) -> None:
    assert seconds_of(said) == seconds


@pytest.mark.parametrize("said", ["", "soon", "2 hours", "-1h", "0s", 0, -1, "1e9d", float("nan")])
def test_what_is_no_time(said: Any) -> None:
    with pytest.raises(ValueError, match="no time that lies ahead"):
        seconds_of(said)


def test_no_secret_is_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> tuple[list[str], list[str]]:
        async with await pb.serve(Desk(), "0.0.0.0") as server:
            invitations = [server.invitation, server.invite("alice"), server.invite("bob")]
            secrets = [str(each.token) for each in invitations]
            said = []
            for each in invitations:
                ref = await pb.connect(each)
                (far,) = server.connections
                said += [repr(ref), repr(ref.broker), ref._repr_html_(), repr(far)]
                said += [repr(ref.broker.snapshot()), repr(far.snapshot())]
                await ref.broker.close()
                await until(lambda: not server.connections)
            with pytest.raises(pb.UnauthorizedLogin) as caught:
                bare = Invitation(f"127.0.0.1:{server.port}", server.key)
                await pb.connect(bare, token="x" + secrets[0])
            said += [repr(server), server._repr_html_(), repr(server.invitations)]
            said += [repr(server.token), repr(vars(server)), repr(vars(server._factory))]
            said += [str(caught.value), repr(caught.value)]
            server.revoke("bob")
            return secrets, said

    secrets, said = asyncio.run(main())
    said += [record.getMessage() + repr(record.args) for record in caplog.records]
    assert len(secrets) == 3 and len(said) > 20
    for secret in secrets:
        assert not any(secret in text for text in said)
