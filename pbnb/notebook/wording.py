"""What the magics say about what is served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..aio.address import is_loopback
from ..aio.connection import Connection
from ..aio.keeping import Keeper
from ..failure import shown
from .serving import Serving

__all__ = [
    "announcement",
    "blocked",
    "busy_with",
    "described",
    "pending",
    "state_of",
    "status",
    "waiting",
]

# Calls that are younger are nobody's worry, and a sign of life that is older is none.
_LONG = 2.0
_ALIVE = 5.0


def described(serving: Serving) -> str:
    """Returns what is served, and where.

    Args:
        serving: What is served.
    """
    named = f" as {serving.file.name}" if serving.file.name else ""
    return f"{serving.kind}{named} on {serving.server.address}"


def announcement(serving: Serving) -> str:
    """Returns the line that ``%pb_serve`` prints. It holds no secret: notebooks are saved.

    Args:
        serving: What is served.
    """
    server = serving.server
    facts = [
        ", encrypted" if server.key else "",
        "" if server.path or server.key or is_loopback(server.host) else ", not encrypted",
        ", from a thread" if server.thread else "",
        ", without a login" if server.anonymous else "",
    ]
    user = " --user NAME" if _asks_for_a_name(serving) else ""
    said = (
        f"serving {described(serving)}{''.join(facts)} — "
        f"connect with: %pb_connect {serving.target}{user}"
    )
    if server.path is None and not is_loopback(server.host):
        said += (
            f", and on another machine: %pb_connect {server.invitation}{user} "
            "(%pb_invite --show shows the whole line)"
        )
    return said


def status(
    servings: Sequence[Serving], held: Iterable[str], away: Iterable[Keeper] = ()
) -> Iterator[str]:
    """Yields the lines that ``%pb_status`` prints.

    Args:
        servings: What is served.
        held: The addresses of the peers that this kernel has connected to.
        away: What is kept, and has no connection now.
    """
    if servings:
        rows = [("serving", "on", "as", "login", "peers"), *map(_row, servings)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = zip(row, widths, strict=True)
            yield "  ".join(cell.ljust(width) for cell, width in cells).rstrip()
    else:
        yield "serving nothing"
    yield f"connected to {', '.join(sorted(held)) or 'nothing'}"
    yield from (f"{each.peer}: {waiting(each)}" for each in away)


def waiting(keeper: Keeper) -> str:
    """Returns what a reference that is kept waits for, and which calls wait with it.

    Args:
        keeper: What keeps it.
    """
    state = keeper.state()
    calls = len(keeper.waiting)
    if calls:
        state += f" ({calls} call{'s' if calls > 1 else ''} waiting)"
    return state


def busy_with(connection: Connection, names: Sequence[str], seconds: float) -> str:
    """Returns the line below a cell that waits for a peer that says nothing.

    Args:
        connection: The connection.
        names: The methods that were called, one at least.
        seconds: For how long it has said nothing.
    """
    what = f"{shown(names[0], 80)}()" if len(names) == 1 else f"{len(names)} calls"
    return f"{what} at {shown(connection.peer)}: {_busy(seconds)}"


def state_of(connection: Connection, since: float) -> str:
    """Returns what is known of a peer that has not answered a call, or ``""``.

    Args:
        connection: The connection.
        since: When the call was made.
    """
    if connection.liveness.busy:
        return _busy(connection.liveness.busy)
    now, heard = connection.time(), connection.liveness.heard_at
    if now - since >= _LONG and heard > since and now - heard < _ALIVE:
        return "the peer is alive"
    return ""


def _busy(seconds: float) -> str:
    return f"peer's kernel busy for {seconds:.0f} s"


def pending(connections: Iterable[Connection]) -> Iterator[str]:
    """Yields a line for each call that is pending for long.

    Args:
        connections: The connections.
    """
    for connection in connections:
        for row in connection.pending_rows():
            age = connection.time() - row.since
            state = "" if row.incoming else state_of(connection, row.since)
            if state or (not row.incoming and age >= _LONG):
                known = f", {state}" if state else ""
                yield f"{row.method}() at {shown(connection.peer)} pending for {age:.0f} s{known}"


def blocked(seconds: float, ago: float) -> str:
    """Returns what is said of a kernel whose loop was blocked.

    Args:
        seconds: For how long.
        ago: How many seconds ago that ended.
    """
    return f"this kernel's loop was blocked for {seconds:.0f} s, until {_age(ago)} ago"


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _row(serving: Serving) -> tuple[str, str, str, str, str]:
    server = serving.server
    return (
        f"{serving.kind} (thread)" if serving.server.thread else serving.kind,
        server.address,
        serving.file.name or "-",
        "none" if server.anonymous else "user" if _asks_for_a_name(serving) else "token",
        ", ".join(sorted(connection.peer for connection in server.connections)) or "none",
    )


def _asks_for_a_name(serving: Serving) -> bool:
    return serving.server.token is None and not serving.server.anonymous
