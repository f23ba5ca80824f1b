"""The invitations of a server: how long each lasts, and that its end cuts connections."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ..cred.guests import Guest, Guests
from ..flavors import Referenceable, Root
from ..protocol.snapshot import kind_of
from .connection import Connection
from .threads import tell

__all__ = ["InvitationRow", "Inviting", "check_methods", "seconds_of"]

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
# The loop's clock stands still while a machine sleeps, and the wall's may be set.
_LOOK = 60.0


class InvitationRow(NamedTuple):
    """What there is to know of an invitation, but for the secret.

    Attributes:
        name: The name.
        kind: The class of the object that it leads to.
        methods: The methods that may be called of it, or None for all.
        expires: When it ends, or None.
        connections: How many connections have logged in with it and are open.
    """

    name: str
    kind: str
    methods: tuple[str, ...] | None
    expires: datetime | None
    connections: int


class Inviting:
    """Makes the invitations of a server, and ends them.

    Its methods may be called from any thread.

    Args:
        guests: The guests of the server.
        root: What is served.
        loop: The loop of its connections.
    """

    def __init__(
        self, guests: Guests, root: Referenceable, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._guests = guests
        self._root = root
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def invite(
        self,
        name: str | None,
        obj: Referenceable | None,
        methods: Iterable[str] | None,
        expires: float | str | timedelta | None,
    ) -> Guest:
        """Invites somebody; see `Server.invite`."""
        seconds = None if expires is None else seconds_of(expires)
        only = None if methods is None else check_methods(obj or self._root, methods)
        until = None if seconds is None else self._guests.clock() + seconds
        guest = self._guests.add(name, obj=obj, methods=only, expires=until)
        if until is not None:
            tell(self._loop, self._look)
        return guest

    def find(self, name: str) -> Guest | None:
        """Returns the guest of a name, or None."""
        return self._guests.find(name)

    def revoke(self, name: str) -> None:
        """Takes an invitation back; see `Server.revoke`."""
        guest = self._guests.find(name)
        if guest is None:
            names = ", ".join(each.name for each in self._guests)
            raise LookupError(f"there is no invitation {name!r:.80}: there is {names or 'none'}")
        self._guests.remove(guest)
        self._cut(guest, "was revoked")

    def rows(self) -> tuple[InvitationRow, ...]:
        """Returns what there is to know of those that are good now."""
        return tuple(
            InvitationRow(
                guest.name,
                kind_of(self._root if guest.obj is None else guest.obj),
                None if guest.methods is None else tuple(sorted(guest.methods)),
                None if guest.expires is None else datetime.fromtimestamp(guest.expires, UTC),
                sum(not each.lost for each in list(guest.holders)),
            )
            for guest in self._guests
        )

    def close(self) -> None:
        """Stops to look for the end of invitations; to be called in the server's loop."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self.close()
        for guest in self._guests.pop_expired():
            self._cut(guest, "has expired")
        ends = [guest.expires for guest in self._guests if guest.expires is not None]
        if ends:
            left = max(0.0, min(ends) - self._guests.clock())
            self._timer = self._loop.call_later(min(left, _LOOK), self._look)

    def _cut(self, guest: Guest, why: str) -> None:
        for connection in list(guest.holders):
            assert isinstance(connection, Connection)
            error = PermissionError(f"the invitation {guest.name} {why}")
            tell(self._loop, connection.give_up, error)


def seconds_of(duration: float | str | timedelta) -> float:
    """Returns how many seconds somebody means.

    Args:
        duration: A number of seconds, a `timedelta`, or text such as ``"90s"``, ``"30m"``,
            ``"2h"``, ``"3d"`` or ``"1w"``.

    Raises:
        ValueError: It is no duration, or none that lies ahead.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        found = _DURATION.fullmatch(duration)
        seconds = float(found[1]) * _UNITS[found[2]] if found else math.nan
    else:
        seconds = float(duration)
    if not 0 < seconds < 1e10:
        raise ValueError(f"{duration!r:.80} is no time that lies ahead: say 90s, 30m, 2h or 3d")
    return seconds


def check_methods(obj: Referenceable, methods: Iterable[str]) -> tuple[str, ...]:
    """Returns the names of methods, all of which exist.

    Args:
        obj: The object.
        methods: The names, as peers call them.

    Raises:
        TypeError: They are one text, and no list.
        ValueError: There are none, or one does not exist.
    """
    if isinstance(methods, str):
        raise TypeError(f'methods= is a list of names: write ["{methods:.80}"]')
    names = tuple(methods)
    if not names:
        raise ValueError("an invitation without any method would be good for nothing")
    # What is served may differ by connection; then nobody knows its methods yet.
    if getattr(type(obj), "rootObject", Root.rootObject) is Root.rootObject:
        for name in names:
            obj.find_remote(name)
    return names
