"""The side that logs in."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Any

from ..cred import Anonymous, UsernamePassword
from ..cred.challenge import respond
from ..cred.scram import (
    NONCE_BYTES,
    client_proof,
    derive,
    is_acceptable,
    server_proof,
    transcript,
)
from ..errors import NoSuchMethod, UnauthorizedLogin
from ..flavors import Referenceable
from ..refs import RemoteReference

__all__ = ["Credentials", "log_in"]

Credentials = UsernamePassword | Anonymous

_NO_LOGIN = (
    "the login was refused: this server has no login, connect to it without a token, name or "
    "password"
)


async def log_in(
    root: RemoteReference,
    credentials: Credentials,
    mind: Referenceable | None = None,
    *,
    legacy_auth: bool = False,
    channel: str | None = None,
) -> Any:
    """Logs in and returns the avatar.

    Args:
        root: The root of a server that asks for a login.
        credentials: Who logs in.
        mind: An object of this side's that the avatar may call, or None.
        legacy_auth: Use PB's own login, with MD5, where the server has no better one.
        channel: The address of the server on its own end; that of this end if None.

    Raises:
        UnauthorizedLogin: The server refused, has no such login, or could not prove itself.
    """
    if isinstance(credentials, Anonymous):
        return await _as_guest(root, mind)
    if not isinstance(credentials, UsernamePassword):
        kind = type(credentials).__name__
        raise TypeError(f"log in with pb.UsernamePassword or pb.Anonymous, not with a {kind}")
    address = _channel_of(root) if channel is None else channel
    try:
        return await _with_proof(root, credentials, mind, address)
    except _NoProof:
        return await _with_md5(root, credentials, mind, legacy_auth)


class _NoProof(Exception):
    """The server has no login of this kind."""


async def _as_guest(root: RemoteReference, mind: Referenceable | None) -> Any:
    try:
        return await root.callRemote("loginAnonymous", mind)
    except NoSuchMethod:
        raise UnauthorizedLogin(_NO_LOGIN) from None


async def _with_proof(
    root: RemoteReference, credentials: UsernamePassword, mind: Referenceable | None, channel: str
) -> Any:
    user, nonce = credentials.username.encode("utf-8"), secrets.token_bytes(NONCE_BYTES)
    try:
        began = await root.callRemote("login_scram", user, nonce)
    except NoSuchMethod:
        raise _NoProof from None
    server_nonce, salt, rounds, challenger = _sequence(began, 4)
    if not is_acceptable(server_nonce, salt, rounds):
        raise UnauthorizedLogin(
            "the login was given up: what the server asks for would make the password easy to "
            f"guess, or takes too long ({rounds!r:.40} rounds)"
        )
    # The server chooses how long it takes, within bounds: the loop goes on meanwhile.
    keys = await asyncio.to_thread(derive, credentials.password, salt, rounds)
    said = transcript(user, nonce, server_nonce, salt, rounds, channel.encode("utf-8"))
    try:
        proved = await _ask(challenger, "prove", client_proof(keys, said), channel)
    except UnauthorizedLogin as error:
        # The server does not say so, and this side cannot know.
        refused = UnauthorizedLogin(str(error))
        refused.add_note(
            f"The login was for the server at {channel}. Where a tunnel or a changed port leads "
            "to it, say its own address: pb.connect(..., server_address=...)"
        )
        raise refused from None
    proof, gate = _sequence(proved, 2)
    if not isinstance(proof, bytes) or not hmac.compare_digest(proof, server_proof(keys, said)):
        raise UnauthorizedLogin(
            "the login was given up: the server has not proved that it knows the password, and "
            "may not be the one it seems to be"
        )
    return await _ask(gate, "enter", mind)


async def _with_md5(
    root: RemoteReference,
    credentials: UsernamePassword,
    mind: Referenceable | None,
    legacy_auth: bool,
) -> Any:
    if not legacy_auth:
        # Whether there is a login at all is told by asking for the challenge, which gives away
        # no more than the name that was sent already.
        try:
            await root.callRemote("login", credentials.username.encode("utf-8"))
        except NoSuchMethod:
            raise UnauthorizedLogin(_NO_LOGIN) from None
        raise UnauthorizedLogin(
            "the login was given up: this server knows only PB's own login, which relies on MD5 "
            "and proves nothing of the server; pass legacy_auth=True to use it"
        )
    try:
        began = await root.callRemote("login", credentials.username.encode("utf-8"))
    except NoSuchMethod:
        raise UnauthorizedLogin(_NO_LOGIN) from None
    challenge, challenger = _sequence(began, 2)
    if not isinstance(challenge, bytes):
        raise UnauthorizedLogin(_NOT_UNDERSTOOD)
    return await _ask(challenger, "respond", respond(challenge, credentials.password), mind)


_NOT_UNDERSTOOD = "the login was given up: the server's answer cannot be understood"


def _sequence(answer: Any, length: int) -> Any:
    if not isinstance(answer, tuple) or len(answer) != length:
        raise UnauthorizedLogin(_NOT_UNDERSTOOD)
    return answer


async def _ask(ref: Any, name: str, *args: Any) -> Any:
    if not isinstance(ref, RemoteReference):
        raise UnauthorizedLogin(_NOT_UNDERSTOOD)
    return await ref.callRemote(name, *args)


def _channel_of(root: RemoteReference) -> str:
    channel = getattr(root.broker, "channel", "")
    return channel if isinstance(channel, str) else ""
