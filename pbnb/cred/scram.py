"""A login in which both sides prove that they know the password: SCRAM-SHA-256 as calls of PB.

It follows RFC 5802 with the hash of RFC 7677, with calls in the place of its text messages, and
with both ends' view of the connection in what is proved::

    root.login_scram(user, client nonce)  ->  (server nonce, salt, rounds, challenger)
    challenger.prove(client proof, channel)  ->  (server proof, gate)
    gate.enter(mind)  ->  the avatar

The channel is the address of the listening side, or under TLS its certificate. A server to which a
client was lured can pass the numbers on to the real one, but what the client proves names the
wrong address or certificate. The mind goes only to a server that has proved that it knows the
password, too.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

from .credentials import PasswordCredentials, as_bytes

__all__ = [
    "NONCE_BYTES",
    "ROUNDS",
    "SALT_BYTES",
    "Keys",
    "Scram",
    "client_proof",
    "derive",
    "is_acceptable",
    "server_proof",
    "transcript",
]

NONCE_BYTES = 32
SALT_BYTES = 16
# RFC 7677, section 4: "a minimum of 4096". Each costs a guesser, and the server at each login.
ROUNDS = 4096
_MOST_ROUNDS = 2_000_000  # about a second: what a server may ask of a client


class Keys(NamedTuple):
    """What is made of a password; RFC 5802, section 3.

    Attributes:
        client: ClientKey, with which the client makes its proof.
        stored: StoredKey, with which that is checked.
        server: ServerKey, with which the server makes its proof.
    """

    client: bytes
    stored: bytes
    server: bytes

    def __repr__(self) -> str:
        return "<the keys of a password>"


def derive(password: str | bytes, salt: bytes, rounds: int) -> Keys:
    """Returns the keys of a password.

    Args:
        password: The password.
        salt: What the server has chosen for the user.
        rounds: How much work it is to try a password.
    """
    salted = hashlib.pbkdf2_hmac("sha256", as_bytes(password), salt, rounds)
    client = _hmac(salted, b"Client Key")
    return Keys(client, hashlib.sha256(client).digest(), _hmac(salted, b"Server Key"))


def transcript(
    user: bytes, client_nonce: bytes, server_nonce: bytes, salt: bytes, rounds: int, channel: bytes
) -> bytes:
    """Returns what both sides sign: everything that was said, none of it movable.

    Args:
        user: The name, as it was sent.
        client_nonce: The client's random bytes.
        server_nonce: The server's.
        salt: The user's salt.
        rounds: The rounds of `derive`.
        channel: The address or the certificate of the listening side.
    """
    parts = (b"pbnb login_scram", user, client_nonce, server_nonce, salt, b"%d" % rounds, channel)
    return b"".join(b"%d:%b," % (len(part), part) for part in parts)


def client_proof(keys: Keys, said: bytes) -> bytes:
    """Returns what proves the password to the server.

    Args:
        keys: The keys of the password.
        said: The transcript.
    """
    return _xor(keys.client, _hmac(keys.stored, said))


def server_proof(keys: Keys, said: bytes) -> bytes:
    """Returns what proves the password to the client.

    Args:
        keys: The keys of the password.
        said: The transcript.
    """
    return _hmac(keys.server, said)


def is_acceptable(server_nonce: object, salt: object, rounds: object) -> bool:
    """Returns whether what a server has sent may be answered at all.

    Few rounds would make it easy to find the password from the answer, and too many would stall
    the client.
    """
    return (
        isinstance(server_nonce, bytes)
        and len(server_nonce) >= NONCE_BYTES
        and isinstance(salt, bytes)
        and len(salt) >= SALT_BYTES
        and isinstance(rounds, int)
        and ROUNDS <= rounds <= _MOST_ROUNDS
    )


class Scram(PasswordCredentials):
    """What a client has proved, for a checker to check.

    Args:
        username: The name.
        said: The transcript.
        proof: What the client sent as `client_proof`.
        salt: The user's salt.
        rounds: The rounds of `derive`.

    Attributes:
        username: The name.
        keys: The keys of the password, when `checkPassword` has found it right.
        checked: Whether `checkPassword` was called at all.
    """

    def __init__(self, username: str, said: bytes, proof: bytes, salt: bytes, rounds: int) -> None:
        self.username = username
        self.keys: Keys | None = None
        self.checked = False
        self._said = said
        self._proof = proof
        self._salt = salt
        self._rounds = rounds

    def checkPassword(self, password: str | bytes) -> bool:
        """Returns whether the proof was made with a password."""
        self.checked = True
        keys = derive(password, self._salt, self._rounds)
        right = hmac.compare_digest(client_proof(keys, self._said), self._proof)
        if right:
            self.keys = keys
        return right


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
