"""What a panel shows: the rows of its tables, the differences between two moments, its actions.

It knows no widget: it is given a function that sends messages to the views, and what the views
send. While no view is there it does nothing at all, and connections record nothing for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from ..aio.connection import Connection
from ..aio.keeping import Keeper, keeper_of
from ..aio.server import Server
from ..failure import shown
from ..jelly.extras import ABOUT_NAME
from ..protocol.snapshot import cache_rows, kind_of, lent_rows
from ..refs import RemoteReference
from .releasing import Holders, release
from .wording import state_of

__all__ = ["TABLES", "Panel", "Source"]

Row = list[Any]

# The columns of each table, after the key of the row.
TABLES: dict[str, tuple[str, ...]] = {
    "peers": ("address", "user", "way", "since", "in", "out", "calls in", "calls out", "trip"),
    "lent": ("luid", "class", "here", "count", "holder", "since"),
    "borrowed": ("luid", "peer", "held by", "count", "since"),
    "caches": ("luid", "class", "side", "count", "peer", "since"),
    "pending": ("method", "target", "way", "peer", "since", "deadline", "state"),
    "log": ("time", "method", "target", "way", "peer", "took", "error"),
}

# Seconds between two messages, and how many times longer than the work for one that is at least.
_PACE = 0.1
_IDLE = 25.0
# Rows of one table that are sent; a filter or an order chooses those of a longer one.
_MOST = 1000
# New rows of the log in one message: what flies by faster than this cannot be read.
_LOG_AT_ONCE = 20
_LOG = 200
# Seconds after which a view that says nothing is gone, as when its browser was closed.
_SILENCE = 20.0
# Seconds after which a loop that did not turn was blocked.
_BLOCK = 2.0
_HISTORY = 60


class Source(Protocol):
    """What a panel is about."""

    title: str

    def servers(self) -> Iterable[Server]:
        """Returns the servers."""

    def connections(self) -> Iterable[Connection]:
        """Returns the connections, those of the servers among them."""

    def keepers(self) -> Iterable[Keeper]:
        """Returns what is kept, with a connection or without."""


class Panel:
    """One panel, and all the views of it.

    Args:
        source: What it is about.
        send: Sends a message to every view.
        loop: The event loop of the connections.
        holders: Knows where this kernel holds references.

    Attributes:
        views: When each view was heard of last, by its name.
        working: Whether it sends changes; it does while there is a view.
    """

    def __init__(
        self,
        source: Source,
        send: Callable[[dict[str, Any]], object],
        loop: asyncio.AbstractEventLoop,
        holders: Holders,
    ) -> None:
        self.source = source
        self.views: dict[str, float] = {}
        self.working = False
        self._send = send
        self._loop = loop
        self._holders = holders
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._last_number = 0
        self._watched: set[Connection] = set()
        self._sent: dict[str, dict[str, Row]] = {name: {} for name in TABLES}
        self._servers: list[Row] = []
        self._totals: dict[str, int] = {}
        self._asked: dict[str, dict[str, Any]] = {}
        self._sequence = 0
        self._rates: deque[tuple[float, float]] = deque(maxlen=_HISTORY)
        self._counted: tuple[float, int, int] = (0.0, 0, 0)
        self._log: dict[str, Row] = {}
        self._log_read: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()
        self._due = 0.0
        self._names: dict[Hashable, str] = {}
        self._named = 0.0
        self._tasks: set[asyncio.Future[Any]] = set()

    # What views say

    def receive(self, content: object) -> None:
        """Takes a message of a view, in whatever thread it arrives.

        Args:
            content: The message.
        """
        if isinstance(content, dict):
            self._loop.call_soon_threadsafe(self._on_message, content)

    def _on_message(self, content: dict[str, Any]) -> None:
        view, kind = content.get("view"), content.get("type")
        if not isinstance(view, str):
            return
        if kind == "gone":
            self.views.pop(view, None)
            if not self.views:
                self._rest()
            return
        fresh = view not in self.views
        self.views[view] = self._loop.time()
        if kind == "ready" or fresh:
            self._begin()
        if kind == "query":
            self._on_query(content)
        elif kind == "act":
            self._act(str(content.get("action")), str(content.get("key")))

    def _on_query(self, content: dict[str, Any]) -> None:
        table, column = content.get("table"), content.get("column")
        if table in TABLES:
            self._asked[str(table)] = {
                "text": str(content.get("text") or "")[:200].lower(),
                "column": column if isinstance(column, int) else None,
                "down": bool(content.get("down")),
            }
            self._send_changes()

    # Time

    def _begin(self) -> None:
        if not self.working:
            self.working = True
            self._count(self._loop.time())
            self._next(_PACE)
        self._refresh()
        self._sequence += 1
        self._send(
            {
                "type": "snapshot",
                "sequence": self._sequence,
                "now": self._loop.time(),
                "title": self.source.title,
                "columns": TABLES,
                "tables": {name: list(rows.values()) for name, rows in self._sent.items()},
                "totals": self._totals,
                "servers": self._servers,
                "rates": list(self._rates),
            }
        )

    def _rest(self) -> None:
        self.working = False
        for connection in self._watched:
            connection.calls.unwatch()
        self._watched.clear()

    def _next(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        began = self._loop.time()
        if began - self._due >= _BLOCK:
            self._note_block(began)
        for view, heard in list(self.views.items()):
            if began - heard > _SILENCE:
                del self.views[view]
        if not self.views:
            self._rest()
        if not self.working:
            return
        cost = time.thread_time()
        try:
            self._send_changes()
        finally:
            cost = time.thread_time() - cost
            self._next(max(_PACE, _IDLE * cost))

    def _note_block(self, now: float) -> None:
        took, number = now - self._due, f"loop {now}"
        self._log[number] = [number, now, "", "this kernel's loop", "", "", round(took, 3)]
        self._log[number] += ["was blocked: nothing was read or written meanwhile"]

    def _send_changes(self) -> None:
        now = self._loop.time()
        changes = self._refresh()
        rate = self._count(now)
        if changes or rate:
            self._sequence += 1
            message = {"type": "changes", "sequence": self._sequence, "now": now, **changes}
            self._send(message | ({"rate": rate} if rate else {}))

    def _count(self, now: float) -> tuple[float, float] | None:
        then, calls, octets = self._counted
        if now - then < 1.0:
            return None
        open_now = self._connections()
        all_calls = sum(each.calls_received + each.calls_sent for each in open_now)
        all_octets = sum(each.bytes_received + each.bytes_sent for each in open_now)
        self._counted = (now, all_calls, all_octets)
        if not then:
            return None
        # Connections that ended take their numbers along.
        rate = (
            round(max(all_calls - calls, 0) / (now - then), 1),
            round(max(all_octets - octets, 0) / (now - then), 1),
        )
        self._rates.append(rate)
        return rate

    # Rows

    def _connections(self) -> list[Connection]:
        return [each for each in self.source.connections() if not each.lost]

    def _away(self) -> list[Keeper]:
        return [each for each in self.source.keepers() if each.current is None and not each.lost]

    def _number(self, thing: Any) -> int:
        number = self._numbers.get(thing)
        if number is None:
            self._last_number += 1
            number = self._numbers[thing] = self._last_number
        return number

    def _refresh(self) -> dict[str, Any]:
        """Reads all tables, and returns what is different from the last time."""
        changes: dict[str, Any] = {}
        tables, totals = self.rows()
        put: dict[str, list[Row]] = {}
        gone: dict[str, list[str]] = {}
        for name, rows in tables.items():
            before = self._sent[name]
            now = {row[0]: row for row in rows}
            changed = [row for key, row in now.items() if before.get(key) != row]
            missing = [key for key in before if key not in now]
            if changed:
                put[name] = changed
            if missing:
                gone[name] = missing
            self._sent[name] = now
        if put:
            changes["put"] = put
        if gone:
            changes["gone"] = gone
        if totals != self._totals:
            changes["totals"] = self._totals = totals
        servers = [self._server_row(server) for server in self.source.servers()]
        if servers != self._servers:
            changes["servers"] = self._servers = servers
        return changes

    def _server_row(self, server: Server) -> Row:
        state = "closed" if server.closed else "open"
        what = kind_of(server.root)
        return [f"s{self._number(server)}", what, server.address, state, server.anonymous]

    def rows(self) -> tuple[dict[str, list[Row]], dict[str, int]]:
        """Returns the rows of each table now, and how many there are of each in all."""
        tables: dict[str, list[Row]] = {name: [] for name in TABLES}
        totals = {"lent": 0, "borrowed": 0}
        connections = self._connections()
        self._find_names()
        for connection in connections:
            self._add_rows(tables, totals, connection)
        for keeper in self._away():
            # What it waits for stands where the way of a connection does.
            row = [f"k{self._number(keeper)}", shown(keeper.peer), "", f"↻ {keeper.reason}"]
            tables["peers"].append([*row, keeper.since, 0, 0, 0, 0, None])
        for ended in self._watched - set(connections):
            self._read_log(ended, f"c{self._number(ended)}")
        self._watched.intersection_update(connections)
        tables["log"] = list(self._log.values())
        totals = {name: totals.get(name, len(rows)) for name, rows in tables.items()}
        return {name: self._chosen(name, rows) for name, rows in tables.items()}, totals

    def _chosen(self, table: str, rows: list[Row]) -> list[Row]:
        if len(rows) <= _MOST:
            return rows  # the views choose and sort by themselves
        asked = self._asked.get(table, {})
        if text := asked.get("text"):
            rows = [row for row in rows if any(text in _text(cell) for cell in row[1:])]
        column = asked.get("column")
        if column is not None and 0 < column <= len(TABLES[table]):
            rows.sort(key=lambda row: _order(row[column]), reverse=asked["down"])
        return list(islice(rows, _MOST))

    def _find_names(self) -> None:
        # Looking through the variables of a notebook ten times a second would be waste.
        now = self._loop.time()
        if now - self._named >= 1.0 or not self._named:
            self._named = now
            self._names = self._holders.names()

    def _room(self, table: str, rows: list[Row]) -> int | None:
        """Returns how many more rows of a table are needed, or None where all are."""
        asked = self._asked.get(table, {})
        if asked.get("text") or asked.get("column") is not None:
            return None  # a choice is among all of them
        return max(_MOST - len(rows), 0)

    def _add_rows(
        self, tables: dict[str, list[Row]], totals: dict[str, int], connection: Connection
    ) -> None:
        key, peer = f"c{self._number(connection)}", connection.peer_row()
        if self.working and connection not in self._watched:
            self._watched.add(connection)
            connection.calls.watchers += 1
        ended = list(connection.calls.rows)  # which grow meanwhile where a server has a thread
        trips = [r.seconds for r in ended if not r.incoming and r.seconds and not r.error][-20:]
        tables["peers"].append(
            [
                key,
                peer.address,
                peer.user,
                "in" if peer.accepted else "out",
                peer.since,
                peer.bytes_received,
                peer.bytes_sent,
                peer.calls_received,
                peer.calls_sent,
                round(min(trips), 6) if trips else None,
            ]
        )
        names, refs = self._names, connection.machine.refs
        # Of a hundred thousand rows only those are made that are sent.
        for lent in islice(lent_rows(refs), self._room("lent", tables["lent"])):
            obj = refs.find(lent.luid.encode() if isinstance(lent.luid, str) else lent.luid)
            since = lent.since or peer.since
            tables["lent"].append(
                [f"{key} {lent.luid}", lent.luid, lent.kind, names.get(id(obj), "")]
                + [lent.count, peer.address, since]
            )
        totals["lent"] += refs.lent_count + len(refs.named.keys() - {ABOUT_NAME})
        borrowed = refs.borrowed()
        for luid, known in islice(borrowed, self._room("borrowed", tables["borrowed"])):
            held = names.get((id(connection), luid), "")
            tables["borrowed"].append(
                [f"{key} {luid!r}", luid, peer.address, held, known.count, known.since]
            )
        totals["borrowed"] += refs.borrowed_count
        for copy in cache_rows(refs):
            side = "owner" if copy.owned else "copy"
            tables["caches"].append(
                [f"{key} {side} {copy.luid}"]
                + [copy.luid, copy.kind, side, copy.count, peer.address, copy.since]
            )
        if self.working:
            connection.ask_if_silent()
        for call in connection.pending_rows():
            way = "in" if call.incoming else "out"
            state = "" if call.incoming else state_of(connection, call.since)
            tables["pending"].append(
                [f"{key} {way} {call.number}", call.method, call.target, way]
                + [peer.address, call.since, call.deadline, state]
            )
        self._read_log(connection, key)

    def _read_log(self, connection: Connection, key: str) -> None:
        read = self._log_read.get(connection, 0)
        fresh = [row for row in list(connection.calls.rows) if row.number > read]
        if not fresh:
            return
        self._log_read[connection] = fresh[-1].number
        failed = [row for row in fresh[:-_LOG_AT_ONCE] if row.error]
        for row in failed[-_LOG_AT_ONCE:] + fresh[-_LOG_AT_ONCE:]:
            number = f"{key} {row.number}"
            way = "in" if row.incoming else "out"
            took = None if row.seconds is None else round(row.seconds, 6)
            self._log[number] = [number, row.time, row.method, row.target, way]
            self._log[number] += [shown(connection.peer), took, row.error]
        while len(self._log) > _LOG:
            del self._log[next(iter(self._log))]

    # Actions

    def _act(self, action: str, key: str) -> None:
        act = {
            "release": self._release,
            "cancel": self._cancel,
            "disconnect": self._disconnect,
            "stop": self._stop,
        }.get(action)
        said = "there is no such action" if act is None else act(key)
        self._send({"type": "note", "text": said})

    def _connection(self, key: str) -> Connection | None:
        number = key.split(" ")[0]
        found = (each for each in self._connections() if f"c{self._number(each)}" == number)
        return next(found, None)

    def _release(self, key: str) -> str:
        connection = self._connection(key)
        if connection is not None:
            number = f"c{self._number(connection)}"
            for luid, _ in connection.machine.refs.borrowed():
                if f"{number} {luid!r}" == key:
                    return release(RemoteReference(connection, luid), self._holders)
        return "this reference is held no longer"

    def _cancel(self, key: str) -> str:
        connection = self._connection(key)
        _, way, number = key.split(" ") if key.count(" ") == 2 else ("", "", "")
        if connection is not None and way == "in":
            for task, call, _ in connection.running():
                if str(id(task)) == number:
                    connection.call_soon(task.cancel)
                    return f"cancelled {shown(call.name, 80)}()"
        elif connection is not None and number.isdigit():
            pending = connection.machine.pending.get(int(number))
            if pending is not None and pending.waiter is not None:
                connection.call_soon(pending.waiter.cancel)
                return f"cancelled {shown(pending.name, 80)}(); its answer will be ignored"
        return "this call is not pending any more"

    def _disconnect(self, key: str) -> str:
        connection = None if " " in key else self._connection(key)
        keeper = None if connection is None else keeper_of(connection)
        for away in self._away():
            if f"k{self._number(away)}" == key:
                keeper = away
        if keeper is not None:
            self._run(keeper.close())
            return f"disconnecting {shown(keeper.peer)}, and not connecting again"
        if connection is None:
            return "this peer is connected no longer"
        self._run(connection.close())
        return f"disconnecting {shown(connection.peer)}"

    def _stop(self, key: str) -> str:
        for server in self.source.servers():
            if f"s{self._number(server)}" == key and not server.closed:
                self._run(server.close())
                return f"stopping {kind_of(server.root)} on {server.address}"
        return "this server is closed already"

    def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _text(cell: Any) -> str:
    # A time is shown as an age, in which nobody would look for these digits.
    return "" if cell is None or isinstance(cell, float) else str(cell).lower()


def _order(cell: Any) -> tuple[int, Any]:
    # Numbers before words, and nothing last.
    if isinstance(cell, (int, float)):
        return (0, cell)
    return (2, "") if cell is None or cell == "" else (1, str(cell).lower())
