"""PB's challenge and response.

``root.login(username)`` gives a tuple of 16 random bytes and a challenger;
``challenger.respond(response, mind)`` gives the avatar, where the response is
``md5(md5(password) + challenge)``. MD5 is what the wire asks for; with a random token for a
password it is as hard to invert as the token is to guess.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from ..errors import UnauthorizedLogin
from ..flavors import Referenceable

__all__ = ["CHALLENGE_BYTES", "Challenger", "new_challenge", "respond"]

CHALLENGE_BYTES = 16


def new_challenge(noise: bytes) -> bytes:
    """Returns a challenge.

    Args:
        noise: Random bytes, at least 16 of them.
    """
    if len(noise) < CHALLENGE_BYTES:
        raise ValueError(f"a challenge takes {CHALLENGE_BYTES} random bytes, not {len(noise)}")
    return noise[:CHALLENGE_BYTES]


def respond(challenge: bytes, password: bytes) -> bytes:
    """Returns the response that proves knowledge of a password.

    Args:
        challenge: What the server sent.
        password: The secret, which itself never travels.
    """
    return _md5(_md5(password) + challenge)


def _md5(data: bytes) -> bytes:
    # Hosts whose OpenSSL forbids MD5 for signatures still have it for other uses.
    return hashlib.md5(data, usedforsecurity=False).digest()


class Challenger(Referenceable):
    """Waits for the response to one challenge; it may be tried once.

    Args:
        challenge: What was sent.
        password: What the response has to prove; None for a user who does not exist, whose
            login takes as long and fails in the same words.
        admit: Called as ``admit(mind)`` when the response is right; returns the avatar.
    """

    def __init__(
        self, challenge: bytes, password: bytes | None, admit: Callable[[Any], Any]
    ) -> None:
        self._expected = respond(challenge, password or b"")
        self._known = password is not None
        self._admit = admit
        self._spent = False

    def remote_respond(self, response: object, mind: Any = None) -> Any:
        """Returns the avatar, or refuses the login without saying what was wrong.

        Raises:
            UnauthorizedLogin: User or password are wrong, or the challenge was used before.
        """
        spent, self._spent = self._spent, True
        given = response if isinstance(response, bytes) else b""
        right = hmac.compare_digest(self._expected, given)
        if spent or not right or not self._known:
            raise UnauthorizedLogin("the login was refused")
        return self._admit(mind)
