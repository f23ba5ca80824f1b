"""Login with a token: what stands before an object that is served to its owner alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from .checkers import PasswordChecker
from .portal import Portal
from .secret import Secret

__all__ = ["TOKEN_USER", "new_token", "token_portal"]

TOKEN_USER = "pbnb"
"""The user name under which whoever holds the token logs in."""


def new_token() -> Secret:
    """Returns a random token of 256 bits, as text without spaces."""
    return Secret(secrets.token_urlsafe(32))


def token_portal(token: str, served: Callable[[], Any]) -> Portal:
    """Returns the portal that leads whoever knows a token to one object.

    Args:
        token: The secret.
        served: Returns the object.
    """

    def request_avatar(avatar_id: Any, mind: Any) -> tuple[None, Any, Callable[[], None]]:
        # With a logout of its own: the object's belongs to the object.
        return None, served(), lambda: None

    return Portal(request_avatar, [PasswordChecker({TOKEN_USER: token})])
