"""The panel as a widget: what ``%pb_show`` and ``pb.show`` display."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import anywidget

from ..aio.connection import Connection
from ..aio.keeping import Keeper
from ..aio.server import Server
from ..protocol.snapshot import kind_of
from ..refs import RemoteReference
from .panel import TABLES, Panel, Source
from .releasing import Holders

__all__ = ["Everything", "PanelWidget", "One", "source_of", "static_table"]

_HERE = Path(__file__).parent
# Rows of each table in what stays in the saved notebook.
_SAVED = 20
# What is different in each run says nothing in a saved notebook, and would make each run a change.
_UNSTABLE = {
    "since",
    "time",
    "took",
    "trip",
    "deadline",
    "in",
    "out",
    "calls in",
    "calls out",
    "state",
}


class One:
    """One server, or one connection.

    Args:
        shown: The server, the connection, or a reference that came by it.

    Attributes:
        title: What it is called above the panel.
    """

    def __init__(self, shown: Server | Connection | Keeper) -> None:
        self._shown = shown
        if isinstance(shown, Server):
            self.title = f"{kind_of(shown.root)} on {shown.address}"
        else:
            self.title = f"connection to {shown.peer}"

    def servers(self) -> Iterable[Server]:
        """Returns the server, if it is one."""
        return [self._shown] if isinstance(self._shown, Server) else []

    def connections(self) -> Iterable[Connection]:
        """Returns the connections of the server, or the one."""
        if isinstance(self._shown, Server):
            return self._shown.connections
        if isinstance(self._shown, Keeper):
            return [] if self._shown.connection is None else [self._shown.connection]
        return [self._shown]

    def keepers(self) -> Iterable[Keeper]:
        """Returns what keeps the connection, if it is kept."""
        return [self._shown] if isinstance(self._shown, Keeper) else []


class Everything:
    """All that a notebook serves and is connected to, through its magics or by its variables.

    Args:
        servers: Returns what the magics serve.
        connections: Returns what the magics have connected to.
        keepers: Returns what is kept.
        namespace: The notebook's variables.
    """

    title = "this notebook"

    def __init__(
        self,
        servers: Callable[[], Iterable[Server]],
        connections: Callable[[], Iterable[Connection]],
        keepers: Callable[[], Iterable[Keeper]],
        namespace: Mapping[str, Any],
    ) -> None:
        self._servers = servers
        self._connections = connections
        self._keepers = keepers
        self._namespace = namespace

    def servers(self) -> Iterable[Server]:
        """Returns what is served."""
        held = (each for each in list(self._namespace.values()) if isinstance(each, Server))
        return dict.fromkeys([*self._servers(), *(each for each in held if not each.closed)])

    def connections(self) -> Iterable[Connection]:
        """Returns the connections of what is served, and those to others."""
        both = [each for server in self.servers() for each in server.connections]
        values = list(self._namespace.values())
        held = [each for each in values if isinstance(each, RemoteReference)]
        brokers = [each.broker for each in held if isinstance(each.broker, Connection)]
        kept = [each.connection for each in self.keepers() if each.connection is not None]
        return dict.fromkeys([*both, *self._connections(), *brokers, *kept])

    def keepers(self) -> Iterable[Keeper]:
        """Returns what is kept, whether it has a connection now or not."""
        return self._keepers()


class PanelWidget(anywidget.AnyWidget):
    """A panel below a cell, which shows at any time who holds what, and what is pending.

    Args:
        source: What it is about.
        holders: Knows where this kernel holds references.
        loop: The event loop of the connections.
    """

    _esm = _HERE / "panel.js"
    _css = _HERE / "panel.css"

    def __init__(self, source: Source, holders: Holders, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.panel = Panel(source, self.send, loop, holders)
        self.on_msg(lambda widget, content, buffers: self.panel.receive(content))

    def __repr__(self) -> str:
        return f"<Panel of {self.panel.source.title}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if data is None:
            data = {}
        # What remains where no kernel is: on a page, in a saved notebook, in nbconvert.
        data = {**data, "text/plain": repr(self), "text/html": static_table(self.panel)}
        return data, metadata


def source_of(shown: object) -> One:
    """Returns what a panel of something is about.

    Args:
        shown: A server, a connection, or a reference.

    Raises:
        TypeError: It is nothing of these.
    """
    if isinstance(shown, RemoteReference):
        shown = shown.broker
    if isinstance(shown, (Server, Connection, Keeper)):
        return One(shown)
    raise TypeError(f"show() takes a server or a reference, not {type(shown).__name__}")


def static_table(panel: Panel) -> str:
    """Returns a panel's tables at this moment, as HTML that does nothing.

    Args:
        panel: The panel.
    """
    tables, totals = panel.rows()
    parts = [f"<b>{escape(panel.source.title)}</b>"]
    for name, columns in TABLES.items():
        rows = tables[name]
        if name == "log" or not rows:
            continue
        kept = [at for at, column in enumerate(columns, 1) if column not in _UNSTABLE]
        head = "".join(f"<th>{escape(columns[at - 1])}</th>" for at in kept)
        lines = "".join(
            "<tr>" + "".join(f"<td>{_cell(row[at])}</td>" for at in kept) + "</tr>"
            for row in rows[:_SAVED]
        )
        more = f" (the first {_SAVED} of {totals[name]})" if totals[name] > _SAVED else ""
        parts.append(
            f"<table><caption>{escape(name + more)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        )
    return "\n".join(parts)


def _cell(value: Any) -> str:
    return "" if value is None else escape(str(value))
