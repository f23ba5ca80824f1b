"""What ``%pb_connect`` may be told to connect to: an address, or the name of something served."""

from __future__ import annotations

import asyncio

from ..aio.address import parse_address
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


def destination(target: str) -> tuple[str, str | None]:
    """Returns the address that a target stands for, and the token for it where there is one.

    Args:
        target: A name, an address, or ``localhost``, which stands for the first port there.

    Raises:
        ConnectError: It is no address, and nothing is served under that name.
        ValueError: It is neither a name nor an address.
    """
    if target == "localhost":
        target = f"localhost:{DEFAULT_PORT}"
    record = find(target, address_of(target))
    if record is not None:
        return (record.address if record.name == target else target), record.token
    if ":" not in target:
        names = ", ".join(sorted(each.name for each in living() if each.name is not None))
        raise ConnectError(
            f"nothing is served as {shown(target)}: write host:port, or the name of something "
            f"that you serve, which is now {names or 'nothing'}"
        )
    parse_address(target)
    return target, None


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
        self._target = target
        self._has_token = destination(target)[1] is not None

    def look_up(self) -> tuple[str, str | None]:
        """Returns the address, and the token where there is one.

        Raises:
            ConnectError: It is not served now.
        """
        try:
            address, token = destination(self._target)
        except ConnectError:
            raise ConnectError(f"nothing is served as {shown(self._target)} now") from None
        if self._has_token and token is None:
            # Whatever else may listen there: it is not what was connected to.
            raise ConnectError(f"nothing of yours is served on {address} now")
        return address, token

    async def check_refused(self, token: str | None) -> None:
        """Returns where a login was refused for good.

        Args:
            token: The token that was refused.

        Raises:
            ConnectError: There is another token now.
        """
        # A server listens a moment before its token can be found.
        for _ in range(_LOOKS if token is not None else 0):
            await asyncio.sleep(_LOOK)
            if self.look_up()[1] != token:
                raise ConnectError(f"{shown(self._target)} is served anew, with another token")
