"""The login: what a peer finds as the root of a server until it has logged in, and after."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any

from ..errors import LoginFailed, UnauthorizedLogin
from ..flavors import Referenceable, Root
from .challenge import Challenge, new_challenge
from .credentials import Anonymous
from .portal import Portal
from .scram import NONCE_BYTES, ROUNDS, SALT_BYTES, Scram, server_proof, transcript
from .session import Session

__all__ = ["LoginRoot", "Salts"]

log = logging.getLogger("pbnb")

_REFUSED = "the login was refused"
_METHODS = {"login", "loginAnonymous", "login_scram"}


class Salts:
    """Chooses the salt of each user, of those who do not exist too.

    Args:
        secret: What makes the salts those of one server.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, user: bytes) -> bytes:
        """Returns the salt of a user, the same each time."""
        return hmac.digest(self._secret, user, "sha256")[:SALT_BYTES]


class LoginRoot(Root):
    """The root of one connection to a server that asks who is there.

    Args:
        portal: Who may log in, and to what.
        salts: The salts of the server's users.
        channel: The certificate of the server, or its address, as it is on its own end.
        legacy_auth: Also offer PB's own login, with MD5.
        advice: What to tell those who call something else: how to log in.
    """

    def __init__(
        self, portal: Portal, salts: Salts, channel: str, *, legacy_auth: bool, advice: str
    ) -> None:
        self.portal = portal
        self.salts = salts
        self.channel = channel
        self._legacy_auth = legacy_auth
        self._advice = advice

    def find_remote(self, name: str) -> Callable[..., Any]:
        """Returns one of the login methods; anything else needs a login first."""
        if name not in _METHODS:
            raise UnauthorizedLogin(f"this server asks for a login first: {self._advice}")
        return super().find_remote(name)

    def remote_login(self, username: object) -> tuple[bytes, Challenger]:
        """Returns a challenge, and what to respond to. Every name is given one."""
        if not self._legacy_auth:
            raise UnauthorizedLogin(
                f"{_REFUSED}: this server does not take PB's login with MD5, unless whoever "
                "serves passes legacy_auth=True"
            )
        challenge = new_challenge(secrets.token_bytes(16))
        return challenge, Challenger(self, _name(username), challenge)

    async def remote_loginAnonymous(self, mind: object = None) -> Session:
        """Returns the avatar of a guest, where there are guests."""
        return await self.admit(await self.portal.authenticate(Anonymous()), mind)

    def remote_login_scram(
        self, username: object, nonce: object
    ) -> tuple[bytes, bytes, int, ScramChallenger]:
        """Returns a nonce, the user's salt and rounds, and whom to prove the password to."""
        if not isinstance(nonce, bytes) or len(nonce) < NONCE_BYTES:
            raise UnauthorizedLogin(_REFUSED)
        name = _name(username)
        server_nonce, salt = secrets.token_bytes(NONCE_BYTES), self.salts.of(name.encode())

        def said(channel: str) -> bytes:
            return transcript(
                name.encode(), nonce, server_nonce, salt, ROUNDS, channel.encode("utf-8")
            )

        return server_nonce, salt, ROUNDS, ScramChallenger(self, name, salt, said)

    async def authenticate(self, credentials: Challenge | Scram) -> Any:
        """Returns who somebody is, or refuses without saying what was wrong.

        Raises:
            UnauthorizedLogin: In the same words, whatever the checker has raised.
        """
        try:
            avatar_id = await self.portal.authenticate(credentials)
        except LoginFailed as error:
            log.debug("refused the login of %r: %s", credentials.username, error)
        except Exception:
            # What a checker trips over may tell which names exist: only this side hears of it.
            log.exception("the checker failed at the login of %r", credentials.username)
        else:
            return avatar_id
        if not credentials.checked:
            credentials.checkPassword(secrets.token_bytes(32))  # as much work as for any other
        raise UnauthorizedLogin(_REFUSED)

    async def admit(self, avatar_id: Any, mind: object) -> Session:
        """Returns the session of somebody who was authenticated."""
        _, avatar, logout = await self.portal.avatar(avatar_id, mind)
        if avatar is None:
            raise TypeError(f"the realm has made no avatar for {avatar_id!r:.80}: it returned None")
        return Session(avatar, logout, avatar_id)


class Challenger(Referenceable):
    """Waits for the response to one challenge of PB's own login; it may be tried once.

    Args:
        root: Where the login began.
        username: Who wants to log in.
        challenge: What was sent.
    """

    def __init__(self, root: LoginRoot, username: str, challenge: bytes) -> None:
        self._root = root
        self._username = username
        self._challenge = challenge
        self._spent = False

    async def remote_respond(self, response: object, mind: object = None) -> Session:
        """Returns the avatar, or refuses the login.

        Raises:
            UnauthorizedLogin: User or password are wrong, or the challenge was used before.
        """
        spent, self._spent = self._spent, True
        if spent:
            raise UnauthorizedLogin(_REFUSED)
        given = response if isinstance(response, bytes) else b""
        credentials = Challenge(self._username, self._challenge, given)
        return await self._root.admit(await self._root.authenticate(credentials), mind)


class ScramChallenger(Referenceable):
    """Waits for the proof of a password; it may be tried once.

    Args:
        root: Where the login began.
        username: Who wants to log in.
        salt: The user's salt.
        said: Returns the transcript for a channel.
    """

    def __init__(
        self, root: LoginRoot, username: str, salt: bytes, said: Callable[[str], bytes]
    ) -> None:
        self._root = root
        self._username = username
        self._salt = salt
        self._said = said
        self._spent = False

    async def remote_prove(self, proof: object, channel: object) -> tuple[bytes, Gate]:
        """Returns the proof of this side, and the gate to the avatar.

        Args:
            proof: The client's proof.
            channel: The certificate or the address that the client has seen, which its proof
                covers.

        Raises:
            UnauthorizedLogin: The proof is wrong, or not the first, or for another channel.
        """
        spent, self._spent = self._spent, True
        if spent or not isinstance(proof, bytes) or not isinstance(channel, str):
            raise UnauthorizedLogin(_REFUSED)
        said = self._said(channel)
        credentials = Scram(self._username, said, proof, self._salt, ROUNDS)
        avatar_id = await self._root.authenticate(credentials)
        if channel != self._root.channel:
            # The words are the same for the peer, who may be the one that relays it.
            log.warning(
                "refused the login of %r: it was made for %.100r, and this is %s. Somebody relays "
                "it; where that is your own tunnel, connect with %s",
                *(self._username, channel, self._root.channel, _way_through(self._root.channel)),
            )
            raise UnauthorizedLogin(_REFUSED)
        if credentials.keys is None:
            log.error(
                "refused the login of %r: the checker has accepted it without checkPassword, so "
                "that this side has nothing to prove itself with",
                self._username,
            )
            raise UnauthorizedLogin(_REFUSED)
        return server_proof(credentials.keys, said), Gate(self._root, avatar_id)


class Gate(Referenceable):
    """Opens, once, for a user who has proved the password and has seen this side's proof.

    Args:
        root: Where the login began.
        avatar_id: Who it is.
    """

    def __init__(self, root: LoginRoot, avatar_id: Any) -> None:
        self._root = root
        self._avatar_id = avatar_id
        self._spent = False

    async def remote_enter(self, mind: object = None) -> Session:
        """Returns the avatar."""
        spent, self._spent = self._spent, True
        if spent:
            raise UnauthorizedLogin(_REFUSED)
        return await self._root.admit(self._avatar_id, mind)


def _way_through(channel: str) -> str:
    # A certificate is the same at both ends of a tunnel, unless the tunnel ends the TLS itself.
    host = channel.rpartition(":")[0]
    return f"server_address={channel!r}" if "." in host or "]" in host else "what it leads to"


def _name(username: object) -> str:
    # Twisted sends the bytes that its user typed. What is no name at all is refused in the end,
    # as a name that does not exist.
    if isinstance(username, bytes):
        return username.decode("utf-8", "replace")
    return username if isinstance(username, str) else ""
