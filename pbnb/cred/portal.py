"""The portal: behind it is what users reach by logging in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast, runtime_checkable

from ..errors import UnauthorizedLogin
from .credentials import Anonymous, PasswordCredentials

__all__ = ["IPerspective", "Portal", "Realm"]

Login = tuple[Any, Any, Callable[[], Any]]


@runtime_checkable
class IPerspective(Protocol):
    """What a realm is asked for: an avatar that peers call ``perspective_`` methods of."""

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns the method of a name, or raises `NoSuchMethod`."""


class Realm(Protocol):
    """Makes the avatars of users.

    A function ``realm(avatarId, mind)`` that returns an avatar will do, too.
    """

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """Returns the avatar of a user, or an awaitable of it.

        Args:
            avatarId: Who has logged in: what the checker has returned.
            mind: A reference to an object of the user's, or None.
            *interfaces: What the avatar is wanted as: `IPerspective`.

        Returns:
            A tuple of the interface, the avatar and what to call, without arguments, when the
            user has logged out; or the avatar alone, whose ``logout`` is then called if it has one.
        """


class Portal:
    """Leads those who can log in to their avatars.

    ::

        portal = pb.Portal(realm, [pb.PasswordChecker(alice="secret")])
        server = await pb.serve(portal)

    Args:
        realm: Makes the avatars.
        checkers: Say who is who, each for its kinds of credentials.

    Attributes:
        realm: The realm.
        checkers: The checkers by the classes of credentials that they check.
    """

    def __init__(
        self, realm: Realm | Callable[[Any, Any], Any], checkers: Iterable[Any] = ()
    ) -> None:
        if not callable(getattr(realm, "requestAvatar", realm)):
            raise TypeError(
                f"{type(realm).__name__} objects are no realms: give the class a method "
                "requestAvatar(avatarId, mind, *interfaces)"
            )
        self.realm = realm
        self.checkers: dict[type, Any] = {}
        for checker in checkers:
            self.registerChecker(checker)

    def registerChecker(self, checker: Any, *credentialInterfaces: type) -> None:
        """Adds a checker; a later one for the same kind of credentials takes its place.

        Args:
            checker: See `pbnb.checkers.Checker`.
            *credentialInterfaces: The kinds of credentials it checks; by default those that
                it says, and passwords if it says none.
        """
        if not callable(getattr(checker, "requestAvatarId", None)):
            raise TypeError(
                f"{getattr(checker, '__name__', type(checker).__name__)} is no checker: it has "
                "no method requestAvatarId(credentials)"
            )
        declared = getattr(checker, "credentialInterfaces", (PasswordCredentials,))
        for kind in credentialInterfaces or tuple(declared):
            self.checkers[kind] = checker

    async def login(self, credentials: Any, mind: Any = None, *interfaces: Any) -> Login:
        """Logs somebody in.

        Args:
            credentials: Who it is, such as a `UsernamePassword`.
            mind: An object of theirs that the avatar may call, or None.
            *interfaces: What the avatar is wanted as; `IPerspective` if left out.

        Returns:
            The interface, the avatar, and what to call when they log out.

        Raises:
            UnauthorizedLogin: The credentials are wrong, or of a kind that nobody checks here.
        """
        return await self.avatar(await self.authenticate(credentials), mind, *interfaces)

    async def authenticate(self, credentials: Any) -> Any:
        """Returns who somebody is, by the checker's word.

        Raises:
            UnauthorizedLogin: The credentials are wrong, or of a kind that nobody checks here.
        """
        for kind, checker in self.checkers.items():
            if isinstance(credentials, kind):
                return await _value(checker.requestAvatarId(credentials))
        what = "anonymous logins" if isinstance(credentials, Anonymous) else "logins of this kind"
        raise UnauthorizedLogin(f"the login was refused: there are no {what} here")

    async def avatar(self, avatar_id: Any, mind: Any = None, *interfaces: Any) -> Login:
        """Returns the avatar of somebody who was authenticated; see `login`."""
        wanted = interfaces or (IPerspective,)
        request = getattr(self.realm, "requestAvatar", None)
        if request is None:
            realm = cast(Callable[[Any, Any], Any], self.realm)
            made = await _value(realm(avatar_id, mind))
        else:
            made = await _value(request(avatar_id, mind, *wanted))
        if isinstance(made, tuple) and len(made) == 3:
            return made
        logout = getattr(made, "logout", None)
        return wanted[0], made, logout if callable(logout) else _nothing


async def _value(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _nothing() -> None:
    """The logout of an avatar that has none."""
