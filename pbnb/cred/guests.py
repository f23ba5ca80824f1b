"""Who is invited to a server: each guest has a token, perhaps an end, and perhaps less to call."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakSet

from ..errors import NoSuchMethod, UnauthorizedLogin
from ..flavors import AsReferenceable, Referenceable
from .credentials import PasswordCredentials
from .portal import Portal
from .secret import Secret
from .token import new_token, user_of_token

__all__ = ["OWNER", "Guest", "Guests", "Only", "guest_portal"]

OWNER = "owner"
"""The name of whoever holds the token that a server was started with."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class Guest:
    """Somebody who is invited.

    Args:
        name: What whoever invites calls them.
        token: What they log in with.
        obj: The object that they reach, or None for what is served.
        methods: The methods that they may call of it, or None for all.
        expires: When that ends, in seconds of the clock of `Guests`, or None.

    Attributes:
        user: The name under which they log in, which is no secret.
        holders: The connections on which they have logged in.
    """

    __slots__ = ("expires", "holders", "methods", "name", "obj", "token", "user")

    def __init__(
        self,
        name: str,
        token: str,
        obj: Referenceable | None = None,
        methods: frozenset[str] | None = None,
        expires: float | None = None,
    ) -> None:
        self.name = name
        self.token = Secret(token)
        self.user = user_of_token(token)
        self.obj = obj
        self.methods = methods
        self.expires = expires
        self.holders: WeakSet[Any] = WeakSet()

    def __repr__(self) -> str:
        return f"<Guest {self.name}>"


class Guests:
    """The guests of one server, and the checker of their tokens.

    Args:
        clock: Tells the time, in seconds.
    """

    credentialInterfaces: tuple[type, ...] = (PasswordCredentials,)

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._by_user: dict[str, Guest] = {}
        self._made = 0
        # What the proof of somebody who is not invited is checked with, so that it takes as long.
        self._decoy = secrets.token_bytes(32)

    def __iter__(self) -> Iterator[Guest]:
        """Yields those who are invited now, the first one first."""
        return (each for each in list(self._by_user.values()) if not self._is_over(each))

    def add(
        self,
        name: str | None = None,
        token: str | None = None,
        *,
        obj: Referenceable | None = None,
        methods: Iterable[str] | None = None,
        expires: float | None = None,
    ) -> Guest:
        """Invites somebody.

        Args:
            name: What to call them; one is chosen if None.
            token: What they log in with; one is made if None.
            obj: The object that they reach, or None for what is served.
            methods: The names of the methods that they may call of it, or None for all.
            expires: When that ends, by the clock, or None.

        Raises:
            ValueError: The name is no name, or somebody has it.
        """
        if name is None:
            self._made += 1
            name = f"guest-{self._made}"
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r:.80} cannot be the name of an invitation: take a letter, and then "
                "letters, digits, dots, dashes and underscores, 64 at most"
            )
        if self.find(name) is not None:
            raise ValueError(f"there is an invitation {name} already: revoke it, or choose another")
        # The part before the dot tells the server whose token is to be proved.
        token = token or Secret(f"{secrets.token_hex(4)}.{new_token()}")
        only = None if methods is None else frozenset(methods)
        guest = Guest(name, token, obj, only, expires)
        self._by_user[guest.user] = guest
        return guest

    def find(self, name: str) -> Guest | None:
        """Returns the guest of a name, or None."""
        return next((guest for guest in self if guest.name == name), None)

    def remove(self, guest: Guest) -> None:
        """Takes an invitation back."""
        self._by_user.pop(guest.user, None)

    def pop_expired(self) -> list[Guest]:
        """Takes back the invitations whose time is over, and returns them."""
        over = [guest for guest in list(self._by_user.values()) if self._is_over(guest)]
        for guest in over:
            self.remove(guest)
        return over

    def requestAvatarId(self, credentials: PasswordCredentials) -> Guest:
        """Returns the guest who has proved the token.

        Raises:
            UnauthorizedLogin: There is no such guest now, or it is another token.
        """
        guest = self._by_user.get(credentials.username)
        known = guest is not None and not self._is_over(guest)
        right = credentials.checkPassword(guest.token if guest and known else self._decoy)
        if guest is None or not known or not right:
            raise UnauthorizedLogin("there is no such invitation")
        return guest

    def enter(self, guest: Guest, holder: object) -> None:
        """Lets a guest in who was let in by `requestAvatarId` some time ago.

        Args:
            guest: The guest.
            holder: The connection, which is to be cut when the invitation ends.

        Raises:
            UnauthorizedLogin: The invitation was taken back meanwhile.
        """
        # Counted first: whoever takes it back now, in whatever thread, finds the connection.
        guest.holders.add(holder)
        if self._by_user.get(guest.user) is not guest or self._is_over(guest):
            raise UnauthorizedLogin("the login was refused")

    def _is_over(self, guest: Guest) -> bool:
        return guest.expires is not None and self.clock() >= guest.expires


class Only(AsReferenceable):
    """Lends some methods of an object, and not the others.

    What these methods return is lent as ever: a reference that they give away is a whole one.

    Args:
        obj: The object.
        methods: The names of the methods.
    """

    def __init__(self, obj: Referenceable, methods: frozenset[str]) -> None:
        super().__init__(obj)
        self._methods = methods

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns the method of a name, if it is one of those.

        Raises:
            NoSuchMethod: It is not, or there is none.
        """
        if name not in self._methods:
            raise NoSuchMethod(f"{name[:80]!r} is not among the methods of this invitation")
        found: Callable[..., Any] = self.object.find_remote(name)
        return found


def guest_portal(guests: Guests, holder: object, served: Callable[[], Referenceable]) -> Portal:
    """Returns the portal that leads guests to what they were invited to.

    Args:
        guests: The guests.
        holder: The connection that it is for.
        served: Returns the object that is served.
    """

    def request_avatar(guest: Guest, mind: Any) -> tuple[None, Any, Callable[[], None]]:
        guests.enter(guest, holder)
        obj = served() if guest.obj is None else guest.obj
        # With a logout of its own: the object's belongs to the object.
        return None, obj if guest.methods is None else Only(obj, guest.methods), lambda: None

    return Portal(request_avatar, [guests])
