"""Login with a token: what stands before an object that is served to its owner alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from ..errors import UnauthorizedLogin
from ..flavors import Root
from .challenge import Challenger, new_challenge

__all__ = ["TOKEN_USER", "TokenLogin", "new_token"]

TOKEN_USER = b"pbnb"
"""The user name under which whoever holds the token logs in."""


def new_token() -> str:
    """Returns a random token of 256 bits, as text without spaces."""
    return secrets.token_urlsafe(32)


class TokenLogin(Root):
    """The root of one connection until its peer has logged in.

    Args:
        token: The secret.
        admit: Called when the peer has proved that it knows the token; returns the object that
            is served.
    """

    def __init__(self, token: str, admit: Callable[[], Any]) -> None:
        self._token = token
        self._admit = admit

    def remote_login(self, username: object) -> tuple[bytes, Challenger]:
        """Returns a challenge, and what to respond to. Every name is given one."""
        known = username in (TOKEN_USER, TOKEN_USER.decode())
        challenge = new_challenge(secrets.token_bytes(16))
        password = self._token.encode() if known else None
        return challenge, Challenger(challenge, password, lambda mind: self._admit())

    def remote_loginAnonymous(self, mind: object = None) -> Any:
        """Refuses: the object is not served to everybody."""
        raise UnauthorizedLogin("the login was refused: this server asks for its token")

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns one of the two login methods; anything else needs a login first."""
        if name not in ("login", "loginAnonymous"):
            raise UnauthorizedLogin(
                "this server asks for a login first: connect with %pb_connect as the user who "
                "serves, or with pb.connect(..., token=...)"
            )
        return super().find_remote(name)
