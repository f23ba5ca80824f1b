"""Checkers: who a portal lets in, and as whom."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from ..errors import UnauthorizedLogin
from .credentials import Anonymous, PasswordCredentials, as_bytes

__all__ = [
    "ANONYMOUS",
    "AllowAnonymousAccess",
    "Checker",
    "InMemoryUsernamePasswordDatabaseDontUse",
    "PasswordChecker",
]

ANONYMOUS: tuple[()] = ()
"""What a realm is given in a name's place for somebody who has logged in without one."""


class Checker(Protocol):
    """Checks credentials of some kinds.

    It may have ``credentialInterfaces``, a tuple of the classes of credentials that it checks;
    without them it checks passwords.
    """

    def requestAvatarId(self, credentials: Any) -> Any | Awaitable[Any]:
        """Returns the name of the user, or an awaitable of it.

        Args:
            credentials: For a password, they have ``username`` and ``checkPassword(password)``.

        Raises:
            UnauthorizedLogin: They are not right. The peer is not told why.
        """


class PasswordChecker:
    """Checks passwords that it holds in memory.

    ::

        PasswordChecker({"alice": "secret"}, bob="another")

    Args:
        users: The passwords by the names of their users.
        **more: The same, for names that are identifiers.
    """

    credentialInterfaces: tuple[type, ...] = (PasswordCredentials,)

    def __init__(
        self, users: Mapping[str, str | bytes] | None = None, /, **more: str | bytes
    ) -> None:
        self._passwords: dict[str, bytes] = {}
        # What the proof of an unknown user is checked with, so that it takes as long.
        self._decoy = secrets.token_bytes(32)
        for username, password in {**(users or {}), **more}.items():
            self.addUser(username, password)

    def addUser(self, username: str | bytes, password: str | bytes) -> None:
        """Lets a user in, or changes the password.

        Args:
            username: The name.
            password: The password.

        Raises:
            ValueError: The name or the password is empty.
        """
        name = username.decode("utf-8") if isinstance(username, bytes) else username
        if not name or not password:
            raise ValueError("a user takes a name and a password that are not empty")
        self._passwords[name] = as_bytes(password)

    def requestAvatarId(self, credentials: PasswordCredentials) -> str:
        """Returns the name of the user, if the password is right.

        Raises:
            UnauthorizedLogin: The name or the password is wrong.
        """
        password = self._passwords.get(credentials.username)
        right = credentials.checkPassword(self._decoy if password is None else password)
        if password is None or not right:
            raise UnauthorizedLogin("the name or the password is wrong")
        return credentials.username

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._passwords)} users>"


class AllowAnonymousAccess:
    """Lets in whoever asks for it, as `ANONYMOUS`."""

    credentialInterfaces: tuple[type, ...] = (Anonymous,)

    def requestAvatarId(self, credentials: Anonymous) -> tuple[()]:
        """Returns `ANONYMOUS`."""
        return ANONYMOUS


# The name that programs written for Twisted know it by.
InMemoryUsernamePasswordDatabaseDontUse = PasswordChecker
