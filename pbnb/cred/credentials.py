"""Who somebody claims to be, and how that can be checked."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

__all__ = ["Anonymous", "PasswordCredentials", "UsernamePassword", "as_bytes"]


class PasswordCredentials(ABC):
    """A user's name and a proof of a password: what a checker is given to check.

    The password itself is not always there, because it does not travel: `checkPassword` says
    whether the proof was made with the one that the checker knows.

    Attributes:
        username: The name, as text.
    """

    username: str

    @abstractmethod
    def checkPassword(self, password: str | bytes) -> bool:
        """Returns whether the user has proved to know a password.

        Args:
            password: The right one.
        """


@dataclass(frozen=True)
class UsernamePassword(PasswordCredentials):
    """A user's name and password, to log in with.

    Attributes:
        username: The name.
        password: The password; it is no part of the repr.
    """

    username: str
    password: str | bytes = field(repr=False)

    def __post_init__(self) -> None:
        # Programs written for Twisted give bytes for both.
        name: str | bytes = self.username
        if isinstance(name, bytes):
            object.__setattr__(self, "username", name.decode("utf-8"))

    def checkPassword(self, password: str | bytes) -> bool:
        """Returns whether this is the password, in a time that does not depend on it."""
        return hmac.compare_digest(as_bytes(self.password), as_bytes(password))


@dataclass(frozen=True)
class Anonymous:
    """No name and no password: what a guest logs in with."""


def as_bytes(secret: str | bytes) -> bytes:
    """Returns the bytes of a name or a password."""
    return secret.encode("utf-8") if isinstance(secret, str) else secret
