"""The portal: which checker, which realm, and what comes out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pbnb as pb
from pbnb.cred.credentials import PasswordCredentials, UsernamePassword
from tests.support.coroutines import finished

ALICE = UsernamePassword("alice", "secret")


class User(pb.Avatar):
    def __init__(self, name: str, mind: Any) -> None:
        self.name = name
        self.mind = mind
        self.left = 0

    def logout(self) -> None:
        self.left += 1


class Realm:
    """As the documents of PB have it."""

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        if pb.IPerspective not in interfaces:
            raise NotImplementedError
        user = User(avatarId, mind)
        return pb.IPerspective, user, user.logout


def portal(realm: Any = None) -> pb.Portal:
    return pb.Portal(realm or Realm(), [pb.PasswordChecker(alice="secret")])


def test_a_login_gives_interface_avatar_and_logout() -> None:
    interface, avatar, logout = finished(portal().login(ALICE, "the mind", pb.IPerspective))
    assert interface is pb.IPerspective
    assert (avatar.name, avatar.mind) == ("alice", "the mind")
    logout()
    assert avatar.left == 1


def test_wrong_credentials_reach_no_realm() -> None:
    asked: list[Any] = []
    with pytest.raises(pb.UnauthorizedLogin):
        finished(portal(lambda *args: asked.append(args)).login(UsernamePassword("alice", "x")))
    assert asked == []


def test_what_the_realm_is_asked_for() -> None:
    with pytest.raises(NotImplementedError):
        finished(portal().login(ALICE, None, int))
    assert finished(portal().login(ALICE))[0] is pb.IPerspective


def test_a_function_is_a_realm() -> None:
    made = finished(portal(lambda name, mind: User(name, mind)).login(ALICE, "mind"))
    assert made[0] is pb.IPerspective and made[1].name == "alice"
    made[2]()
    assert made[1].left == 1


def test_an_avatar_without_logout_has_none() -> None:
    _, avatar, logout = finished(portal(lambda name, mind: pb.Avatar()).login(ALICE))
    assert type(avatar) is pb.Avatar and logout() is None


def test_realms_and_checkers_may_be_async() -> None:
    class Slow:
        async def requestAvatarId(self, credentials: Any) -> str:
            await asyncio.sleep(0)
            if not credentials.checkPassword("secret"):
                raise pb.UnauthorizedLogin("no")
            return "slow " + str(credentials.username)

    async def realm(name: str, mind: Any) -> User:
        await asyncio.sleep(0)
        return User(name, mind)

    def deferring(name: str, mind: Any) -> pb.Deferred[User]:
        made: pb.Deferred[User] = pb.Deferred()
        asyncio.get_running_loop().call_soon(made.callback, User(name, mind))
        return made

    async def main() -> None:
        for each in (realm, deferring):
            door = pb.Portal(each, [Slow()])
            assert (await door.login(ALICE))[1].name == "slow alice"
            with pytest.raises(pb.UnauthorizedLogin):
                await door.login(UsernamePassword("alice", "wrong"))

    asyncio.run(main())


def test_each_kind_of_credentials_has_its_checker() -> None:
    door = portal(User)
    with pytest.raises(pb.UnauthorizedLogin, match="no anonymous logins"):
        finished(door.login(pb.Anonymous()))
    door.registerChecker(pb.AllowAnonymousAccess())
    assert finished(door.login(pb.Anonymous()))[1].name is pb.checkers.ANONYMOUS
    assert finished(door.login(ALICE))[1].name == "alice"
    with pytest.raises(pb.UnauthorizedLogin, match="of this kind"):
        finished(door.login(object()))


def test_a_later_checker_takes_the_place_of_an_earlier() -> None:
    door = portal(User)
    door.registerChecker(pb.PasswordChecker(alice="changed"))
    with pytest.raises(pb.UnauthorizedLogin):
        finished(door.login(ALICE))
    assert list(door.checkers) == [PasswordCredentials]


def test_a_checker_can_be_registered_for_what_it_does_not_say() -> None:
    class Anybody:
        def requestAvatarId(self, credentials: Any) -> str:
            return "anybody"

    door = pb.Portal(User)
    door.registerChecker(Anybody(), pb.Anonymous)
    assert finished(door.login(pb.Anonymous()))[1].name == "anybody"
    assert list(door.checkers) == [pb.Anonymous]


def test_what_is_neither_realm_nor_checker() -> None:
    with pytest.raises(TypeError, match="int objects are no realms"):
        pb.Portal(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dict is no checker"):
        pb.Portal(User, [{"alice": "secret"}])


def test_an_avatar_is_a_perspective() -> None:
    assert isinstance(pb.Avatar(), pb.IPerspective)
    assert not isinstance(object(), pb.IPerspective)
