"""What ``%pb_connect`` may be told to connect to: an address, or the name of something served."""

from __future__ import annotations

from ..aio.address import parse_address
from ..errors import ConnectError
from ..failure import shown
from .connection_files import find, living
from .serving import DEFAULT_PORT

__all__ = ["address_of", "destination", "targets"]


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
