"""Tokens: secrets that were made to be one, which log in whoever holds them."""

from __future__ import annotations

import re
import secrets

from .secret import Secret

__all__ = ["TOKEN_USER", "new_token", "user_of_token"]

TOKEN_USER = "pbnb"
"""The user name under which whoever holds a server's first token logs in."""

# The token of an invitation says whose it is: a number that is no secret, and the secret.
_OF_A_GUEST = re.compile(r"([0-9a-f]{8})\.[A-Za-z0-9_-]{43}")


def new_token() -> Secret:
    """Returns a random token of 256 bits, as text without spaces."""
    return Secret(secrets.token_urlsafe(32))


def user_of_token(token: str) -> str:
    """Returns the user name under which whoever holds a token logs in.

    Args:
        token: The token.
    """
    found = _OF_A_GUEST.fullmatch(token)
    return TOKEN_USER if found is None else f"{TOKEN_USER}.{found[1]}"
