"""What the magics say about what is served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..aio.keeping import Keeper
from .serving import Serving

__all__ = ["announcement", "described", "status", "waiting"]


def described(serving: Serving) -> str:
    """Returns what is served, and where.

    Args:
        serving: What is served.
    """
    named = f" as {serving.file.name}" if serving.file.name else ""
    return f"{serving.kind}{named} on {serving.file.address}"


def announcement(serving: Serving) -> str:
    """Returns the line that ``%pb_serve`` prints. It holds no secret: notebooks are saved.

    Args:
        serving: What is served.
    """
    anonymous = ", without a login" if serving.server.anonymous else ""
    thread = ", from a thread" if serving.server.thread else ""
    user = " --user NAME" if _asks_for_a_name(serving) else ""
    return (
        f"serving {described(serving)}{thread}{anonymous} — "
        f"connect with: %pb_connect {serving.target}{user}"
    )


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


def _row(serving: Serving) -> tuple[str, str, str, str, str]:
    server = serving.server
    return (
        f"{serving.kind} (thread)" if serving.server.thread else serving.kind,
        serving.file.address,
        serving.file.name or "-",
        "none" if server.anonymous else "user" if _asks_for_a_name(serving) else "token",
        ", ".join(sorted(connection.peer for connection in server.connections)) or "none",
    )


def _asks_for_a_name(serving: Serving) -> bool:
    return serving.server.token is None and not serving.server.anonymous
