"""What ``%pb_peer`` and ``%%pb_peer`` do, their line having been read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from .connection_files import is_name
from .peers import Peer, Peers

__all__ = ["PeerCommands"]

# Such a view needs a model in this kernel; the peer's text stands for it.
_WIDGET = "application/vnd.jupyter.widget-view+json"


class _Args(Protocol):
    name: str | None
    list: bool
    stop: bool
    restart: bool


class PeerCommands:
    """Starts peers, runs cells in them, and shows under a cell what they say.

    Args:
        shell: The shell of the notebook.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._peers = Peers()

    def names(self) -> list[str]:
        """Returns the names of the peers."""
        return [peer.name for peer in self._peers.all()]

    def stop_all(self) -> None:
        """Ends every peer at once."""
        self._peers.kill_all()

    def plan(self, args: _Args, cell: str | None) -> Callable[[], Coroutine[Any, Any, None]]:
        """Returns what is to be done, to be called where it can be waited for.

        Args:
            args: The line, parsed.
            cell: The lines below it, if the magic stands above a cell.

        Raises:
            UsageError: It makes no sense; the text says what does.
        """
        name = args.name
        chosen = [f"--{each}" for each in ("list", "stop", "restart") if getattr(args, each)]
        if len(chosen) > 1:
            raise UsageError(f"choose one of {' and '.join(chosen)}")
        if args.list:
            if name is not None or cell is not None:
                raise UsageError("%pb_peer --list takes nothing else: it lists all peers")
            return self._list
        if name is None:
            raise UsageError(self._which())
        if not is_name(name):
            raise UsageError(
                f"{name!r} cannot be the name of a peer: take a letter, and then letters, digits, "
                "dots, dashes and underscores, 64 at most"
            )
        if cell is not None:
            if args.stop:
                raise UsageError(f"to end the peer write %pb_peer {name} --stop, with one %")
            return lambda: self._run(name, cell, fresh=args.restart)
        if args.restart:
            return lambda: self._restart(name)
        peer = self._peers.find(name)
        if peer is None:
            raise UsageError(
                f"there is no peer {name}: a cell that begins with %%pb_peer {name} starts it"
            )
        return (lambda: self._stop(peer)) if args.stop else (lambda: self._show_log(peer))

    def _which(self) -> str:
        if names := self.names():
            return f"say which peer: {', '.join(names)}"
        return "name a peer: a cell that begins with %%pb_peer server starts one of that name"

    async def _list(self) -> None:
        for peer in self._peers.all():
            state = f"process {peer.pid}" if peer.end is None else f"has ended ({peer.end})"
            print(f"{peer.name}: {state}")
        if not self._peers.all():
            print("no peers")

    async def _run(self, name: str, cell: str, *, fresh: bool) -> None:
        if fresh and (peer := self._peers.find(name)) is not None:
            await self._peers.stop(peer)
        peer = await self._peers.get(name)
        await peer.run(cell, self._show)

    async def _restart(self, name: str) -> None:
        peer = self._peers.find(name)
        if peer is not None:
            await self._peers.stop(peer)
        await self._peers.get(name)
        print(f"{'re' if peer is not None else ''}started peer {name}")

    async def _stop(self, peer: Peer) -> None:
        await self._peers.stop(peer)
        print(f"stopped peer {peer.name}")

    async def _show_log(self, peer: Peer) -> None:
        try:
            await peer.sync(self._show)
        finally:
            for message in peer.log.take():
                self._show(message)

    def _show(self, message: dict[str, Any]) -> None:
        """Shows a message of a peer under the cell that runs here."""
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                # What is written to the other stream would be shown some time later.
                other, stream = sys.stdout, sys.stderr
                if content["name"] == "stdout":
                    other, stream = stream, other
                other.flush()
                stream.write(content["text"])
            case "error":
                sys.stdout.flush()
                sys.stderr.write("\n".join(content["traceback"]) + "\n")
            case "clear_output":
                publisher: Any = self._shell.display_pub
                publisher.clear_output(content["wait"])
            case kind:
                sys.stderr.flush()
                data = {mime: each for mime, each in content["data"].items() if mime != _WIDGET}
                self._shell.display_pub.publish(
                    data=data,
                    metadata=content["metadata"],
                    transient=content.get("transient"),
                    update=kind == "update_display_data",
                )
