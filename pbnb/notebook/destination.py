"""What ``%pb_connect`` may be told to connect to: an address, a name, or an invitation."""

from __future__ import annotations

import asyncio
import os

from ..aio.address import parse_address
from ..aio.unix import PREFIX
from ..cred import Invitation, Secret
from ..errors import ConnectError
from ..failure import shown
from .connection_files import find, living
from .serving import DEFAULT_PORT

__all__ = ["Place", "address_of", "destination", "targets"]

# How often, and after how many seconds, a token that was refused is looked up again.
_LOOKS = 5
_LOOK = 0.3


def targets() -> list[str]:
    """Returns what this user serves on this machine: names, then addresses."""
    records = living()
    names = sorted(record.name for record in records if record.name is not None)
    return [*names, *(record.address for record in records)]


def address_of(text: str) -> tuple[str, int] | None:
    """Returns the host and port that a text says, or None where it is no address.

    Args:
        text: What may be an address.
    """
    try:
        return parse_address(text)
    except ValueError:
        return None


def destination(target: str) -> Invitation:
    """Returns what a target stands for: an address, and the key and the token where they are known.

    Args:
        target: A name, an address, the line of an invitation, or ``localhost``, which stands for
            the first port there.

    Raises:
        ConnectError: It is no address, and nothing is served under that name.
        ValueError: It is neither a name nor an address, or an invitation that is not whole.
    """
    if Invitation.is_line(target):
        return Invitation.parse(target)
    if target == "localhost":
        target = f"localhost:{DEFAULT_PORT}"
    if target.startswith(PREFIX):
        target = PREFIX + os.path.abspath(target.removeprefix(PREFIX))
    record = find(target, address_of(target))
    if record is not None:
        known = record.invitation
        return known if record.name == target else Invitation(target, known.key, known.token)
    if ":" not in target:
        names = ", ".join(sorted(each.name for each in living() if each.name is not None))
        raise ConnectError(
            f"nothing is served as {shown(target)}: write host:port, or the name of something "
            f"that you serve, which is now {names or 'nothing'}"
        )
    if not target.startswith(PREFIX):
        parse_address(target)
    return Invitation(target)


class Place:
    """Where a target is served, looked up for each connection: a kernel that was restarted
    serves with another token, and may serve on another port.

    Args:
        target: What `destination` takes.

    Raises:
        ConnectError: It is no address, and nothing is served under that name.
        ValueError: It is neither a name nor an address.
    """

    def __init__(self, target: str) -> None:
        self._target = Secret(target)
        found = destination(target)
        self._has_token = found.token is not None
        self._shown = str(found) if Invitation.is_line(target) else shown(target)

    def look_up(self) -> Invitation:
        """Returns the address, and the token where there is one.

        Raises:
            ConnectError: It is not served now.
        """
        try:
            found = destination(self._target)
        except ConnectError:
            raise ConnectError(f"nothing is served as {self._shown} now") from None
        if self._has_token and found.token is None:
            # Whatever else may listen there: it is not what was connected to.
            raise ConnectError(f"nothing of yours is served on {found.address} now")
        return found

    async def check_refused(self, token: str | None) -> None:
        """Returns where a login was refused for good.

        Args:
            token: The token that was refused.

        Raises:
            ConnectError: There is another token now.
        """
        # A server listens a moment before its token can be found. An invitation stays what it is.
        if Invitation.is_line(self._target):
            return
        for _ in range(_LOOKS if token is not None else 0):
            await asyncio.sleep(_LOOK)
            if self.look_up().token != token:
                raise ConnectError(f"{self._shown} is served anew, with another token")
