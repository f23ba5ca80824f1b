"""PB's own challenge and response, for peers that know nothing better.

``root.login(username)`` gives a tuple of 16 random bytes and a challenger;
``challenger.respond(response, mind)`` gives the avatar, where the response is
``md5(md5(password) + challenge)``. MD5 is what that wire asks for, the server proves nothing,
and the response can be relayed: between peers of pbnb there is `pbnb.cred.scram` instead.
"""

from __future__ import annotations

import hashlib
import hmac

from .credentials import PasswordCredentials, as_bytes

__all__ = ["CHALLENGE_BYTES", "Challenge", "new_challenge", "respond"]

CHALLENGE_BYTES = 16


def new_challenge(noise: bytes) -> bytes:
    """Returns a challenge.

    Args:
        noise: Random bytes, at least 16 of them.
    """
    if len(noise) < CHALLENGE_BYTES:
        raise ValueError(f"a challenge takes {CHALLENGE_BYTES} random bytes, not {len(noise)}")
    return noise[:CHALLENGE_BYTES]


def respond(challenge: bytes, password: str | bytes) -> bytes:
    """Returns the response that proves knowledge of a password.

    Args:
        challenge: What the server sent.
        password: The secret, which itself never travels.
    """
    return _md5(_md5(as_bytes(password)) + challenge)


class Challenge(PasswordCredentials):
    """What a client has responded to a challenge, for a checker to check.

    Args:
        username: The name.
        challenge: What was sent.
        response: What came back.

    Attributes:
        username: The name.
        checked: Whether one of the two methods was called at all.
    """

    def __init__(self, username: str, challenge: bytes, response: bytes) -> None:
        self.username = username
        self.checked = False
        self._challenge = challenge
        self._response = response

    def checkPassword(self, password: str | bytes) -> bool:
        """Returns whether the response was made with a password."""
        return self.checkMD5Password(_md5(as_bytes(password)))

    def checkMD5Password(self, digest: bytes) -> bool:
        """Returns whether the response was made with the password of an MD5 digest."""
        self.checked = True
        return hmac.compare_digest(_md5(digest + self._challenge), self._response)


def _md5(data: bytes) -> bytes:
    # Hosts whose OpenSSL forbids MD5 for signatures still have it for other uses.
    return hashlib.md5(data, usedforsecurity=False).digest()
