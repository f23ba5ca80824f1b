"""What ``%pb_invite`` and ``%pb_revoke`` do, their lines having been read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from IPython.core.error import UsageError

from ..aio.inviting import InvitationRow
from ..aio.server import Server
from ..cred import OWNER, Invitation
from ..errors import NoSuchMethod
from ..failure import shown
from .destination import address_of
from .serving import Serving, Servings

__all__ = ["Inviter", "table"]


class _Args(Protocol):
    name: str | None
    expires: str | None
    only: str | None
    object: str | None
    on: str | None
    show: bool


class Inviter:
    """Makes, lists and revokes the invitations of what a kernel serves.

    Args:
        servings: What is served.
        evaluate: Returns the value of an expression of the notebook's.
    """

    def __init__(self, servings: Servings, evaluate: Callable[[str, Mapping[str, Any]], Any]):
        self._servings = servings
        self._evaluate = evaluate

    def names(self) -> list[str]:
        """Returns the names of all invitations."""
        rows = (row for serving in self._inviting() for row in serving.server.invitations)
        return list(dict.fromkeys(row.name for row in rows))

    def invite(self, args: _Args, local_ns: Mapping[str, Any]) -> Invitation | None:
        """Makes an invitation, or finds the one that is to be shown; None where all are listed.

        Raises:
            UsageError: It cannot be made; the text says what to do.
        """
        name, limits = args.name, (args.expires, args.only, args.object)
        if name is None and not args.show and not any(limits):
            print("\n".join(table(self._inviting(), datetime.now(UTC))))
            return None
        if args.show and name in (None, OWNER) and not any(limits):
            # There is one where nobody needs a token, too: it has the key.
            return self._chosen(args.on, self._servings.open()).server.invitation
        serving = self._chosen(args.on, self._inviting())
        with _one_sentence():
            if args.show and name is not None and not any(limits):
                known = serving.server.invitation_of(name)
                if known is not None:
                    return known
            obj = None if args.object is None else self._evaluate(args.object, local_ns)
            methods = None if args.only is None else [each for each in args.only.split(",") if each]
            made = serving.server.invite(name, obj=obj, methods=methods, expires=args.expires)
        row = serving.server.invitations[-1]
        until = "" if row.expires is None else f", for {_left(row, datetime.now(UTC))}"
        only = "" if row.methods is None else f", to call {', '.join(row.methods)} alone"
        print(
            f"invited {row.name} to {row.kind} on {serving.server.address}{only}{until}: {made} "
            f"(%pb_invite {row.name} --show shows the whole line)"
        )
        return made

    def revoke(self, name: str | None, on: str | None) -> None:
        """Takes an invitation back.

        Raises:
            UsageError: There is none of that name.
        """
        if name is None:
            raise UsageError("say which invitation to revoke, as in %pb_revoke alice")
        serving = self._chosen(on, self._inviting())
        cut = [row.connections for row in serving.server.invitations if row.name == name]
        with _one_sentence():
            serving.server.revoke(name)
        ended = "nobody was connected with it" if not sum(cut) else f"connections cut: {sum(cut)}"
        print(f"revoked {name}, {ended}")

    def _inviting(self) -> list[Serving]:
        return [each for each in self._servings.open() if each.server.invitations]

    def _chosen(self, target: str | None, inviting: list[Serving]) -> Serving:
        if target is not None:
            found = self._servings.find(target, address_of(target))
            if found is None:
                raise UsageError(f"this kernel serves nothing as {shown(target)}")
            return found
        if not self._servings.open():
            raise UsageError("this kernel serves nothing that somebody could be invited to")
        if not inviting:
            raise UsageError(
                "nobody needs a token for what this kernel serves: it asks for no login, or its "
                "users have passwords"
            )
        if len(inviting) > 1:
            names = ", ".join(each.target for each in inviting)
            raise UsageError(f"say to what, with --on: this kernel serves {names}")
        return inviting[0]


class _one_sentence:
    """Makes the errors that say everything in one sentence those of the line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, LookupError | ValueError | TypeError | NoSuchMethod):
            raise UsageError(str(error.args[0])) from None


def table(servings: list[Serving], now: datetime) -> Iterator[str]:
    """Yields the lines that ``%pb_invite`` prints: all that are invited, without their secrets.

    Args:
        servings: What is served with invitations.
        now: The time.
    """
    rows = [("invitation", "to", "on", "methods", "for", "connections")]
    for serving in servings:
        server: Server = serving.server
        for row in server.invitations:
            methods = "all" if row.methods is None else ", ".join(row.methods)
            facts = (row.name, row.kind, server.address, methods, _left(row, now))
            rows.append((*facts, str(row.connections)))
    if len(rows) == 1:
        yield "nobody is invited"
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for each in rows:
        cells = zip(each, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in cells).rstrip()


def _left(row: InvitationRow, now: datetime) -> str:
    """Returns how long an invitation is still good, in its largest unit."""
    if row.expires is None:
        return "ever"
    seconds = max(0.0, (row.expires - now).total_seconds())
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.95 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
