"""Companion processes: kernels that live as long as this one, and run what they are told.

Each is a real kernel of this Python, started and talked to by jupyter_client. What it says
belongs either to the request that a cell waits for, and is handed to that cell as it comes, or
to an earlier one, as the prints of remote methods do; that is kept until somebody asks.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from ..failure import shown
from .companion import TEXT, left_out

__all__ = ["Log", "Peer", "PeerEnded", "PeerError", "Peers"]

Message = dict[str, Any]
Show = Callable[[Message], None]

# How often a cell that waits looks whether the process still lives, in seconds.
_GLANCE = 0.1
# How long an interrupted peer may take, in seconds, before the cell ends without it: the first
# traceback of a process takes a while, and more on a busy machine.
_OBEYS = 3.0
# How long a stopped peer may clear up, in seconds, before it is killed.
_GRACE = 1.0
# How many messages a log keeps; some have no text.
_MESSAGES = 10_000
# What is shown of what a peer says. The rest concerns those who follow its state.
_SAID = {
    "stream",
    "display_data",
    "update_display_data",
    "execute_result",
    "error",
    "clear_output",
}


class PeerError(Exception):
    """A cell raised an exception in a peer.

    Attributes:
        peer: The name of the peer.
        ename: The name of the exception's class there.
        evalue: Its text.
        traceback: How IPython shows it there, in lines.
    """

    def __init__(self, peer: str, ename: str, evalue: str, traceback: list[str]) -> None:
        super().__init__(f"in {peer}: {ename}: {shown(evalue, None, lines=True)}")
        self.peer = peer
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback

    def _render_traceback_(self) -> list[str]:
        return [*self.traceback, f"{type(self).__name__}: in {self.peer}"]


class PeerEnded(Exception):
    """The process of a peer has ended."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class Log:
    """What a peer has said since somebody asked; the newest of it, if it is much."""

    def __init__(self) -> None:
        self._kept: deque[Message] = deque()
        self._size = 0
        self._left_out = 0

    def add(self, message: Message) -> None:
        """Keeps a message.

        Args:
            message: One of those that notebooks show.
        """
        self._kept.append(message)
        self._size += _size(message)
        # The newest is kept, whatever its size.
        while (self._size > TEXT and len(self._kept) > 1) or len(self._kept) > _MESSAGES:
            dropped = _size(self._kept.popleft())
            self._size -= dropped
            self._left_out += dropped

    def take(self) -> list[Message]:
        """Returns what was kept, the oldest first, and forgets it."""
        taken = list(self._kept)
        if self._left_out:
            text = left_out(self._left_out).lstrip("\n")
            taken.insert(0, {"msg_type": "stream", "content": {"name": "stdout", "text": text}})
        self.__init__()  # type: ignore[misc]
        return taken


def _size(message: Message) -> int:
    content = message["content"]
    parts = [content.get("text", ""), *content.get("data", {}).values()]
    return sum(len(part) if isinstance(part, str) else len(str(part)) for part in parts)


class _ThisPython(KernelSpecManager):
    """Knows one kernel: a companion on this interpreter, with the modules that are found here."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Returns how a companion is started.

        Args:
            kernel_name: Not used, there is one.
        """
        path = [entry for entry in sys.path if isinstance(entry, str)]
        start = (
            f"import sys; sys.path[:] = {path!r}; "
            f"from pbnb.notebook.companion import main; main({os.getpid()})"
        )
        # The debugger that kernels load asks for -X, and prints that it does.
        argv = [sys.executable, "-Xfrozen_modules=off", "-c", start, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="pbnb", language="python")


class Peer:
    """One companion process.

    Args:
        name: What users call it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.log = Log()
        self.starting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._manager: AsyncKernelManager | None = None
        self._client: AsyncKernelClient | None = None
        self._requests: dict[str, asyncio.Queue[Message]] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._heard = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The number of its process."""
        return self._process.pid if self._process else None

    @property
    def started(self) -> bool:
        """Whether it has been started."""
        return self._process is not None

    @property
    def end(self) -> str | None:
        """How its process has ended, or None while it lives."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def start(self) -> None:
        """Starts the process and waits until it takes cells.

        Raises:
            PeerEnded: It does not start.
        """
        directory = tempfile.mkdtemp(prefix="pbnb-peer-")
        with tempfile.TemporaryFile() as errors:
            try:
                await self._launch(Path(directory), errors)
            except BaseException:
                self.kill()
                raise
            finally:
                # Nobody else is to connect; what is connected stays so.
                shutil.rmtree(directory, ignore_errors=True)

    async def _launch(self, directory: Path, errors: IO[bytes]) -> None:
        manager = self._manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=_ThisPython(),
            connection_file=str(directory / "peer.json"),
            # In a directory of this user: nobody else can listen, and no port can be lost.
            transport="ipc" if os.name == "posix" else "tcp",
            shutdown_wait_time=_GRACE,
        )
        # What is sent is bounded there; a message that is lost would be waited for.
        manager.context.rcvhwm = 0
        await manager.start_kernel(stdout=subprocess.DEVNULL, stderr=errors)
        assert manager.provisioner is not None
        self._process = getattr(manager.provisioner, "process")  # noqa: B009  # not in its base
        self._client = client = manager.client()
        client.start_channels(stdin=False, hb=False, control=False)
        loop = asyncio.get_running_loop()
        self._readers = [
            loop.create_task(self._read(channel))
            for channel in (client.iopub_channel, client.shell_channel)
        ]
        # Its first word says that from now on none is missed.
        while not self._heard.is_set():
            try:
                async with asyncio.timeout(_GLANCE):
                    await self._heard.wait()
            except TimeoutError:
                if self.end is not None:
                    raise PeerEnded(self._not_started(errors)) from None
        await self.sync(lambda message: None)
        self.log.take()  # what libraries say when they are loaded

    def _not_started(self, errors: IO[bytes]) -> str:
        size = errors.seek(0, os.SEEK_END)
        errors.seek(max(0, size - 2000))
        lines = [line for line in errors.read().decode(errors="replace").split("\n") if line]
        why = next((line for line in reversed(lines) if "rror" in line), "".join(lines[-1:]))
        return f"peer {self.name} did not start ({self.end}): {shown(why)}"

    async def run(self, code: str, show: Show) -> None:
        """Runs a cell to its end.

        Args:
            code: The cell.
            show: Gets each message for the notebook.

        Raises:
            PeerError: The cell raised an exception.
            PeerEnded: The process has ended.
        """
        if self.end is not None:
            raise self._ended()
        assert self._client is not None
        number = self._client.execute(code, allow_stdin=False, stop_on_error=False)
        await self._finish(number, show)

    async def sync(self, show: Show) -> None:
        """Waits until everything is in the log that the peer has said up to now.

        Args:
            show: Gets each message of this request itself; there should be none.

        Raises:
            PeerEnded: The process has ended.
        """
        if self.end is not None:
            raise self._ended()
        assert self._client is not None
        # Like every request it is answered by the main loop, and a kernel empties its streams
        # before it says that it is idle again.
        await self._finish(self._client.kernel_info(), show)

    def interrupt(self) -> None:
        """Interrupts what the peer runs."""
        self._signal(signal.SIGINT)

    async def stop(self) -> None:
        """Ends the process: politely at first, so that it can clear up."""
        if self._manager is not None and self.end is None:
            self.interrupt()
            await self._manager.shutdown_kernel()
        self.kill()

    def kill(self) -> None:
        """Ends the process and all that is left of it here."""
        if self._process is not None and self.end is None:
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            self._process.wait()
        for reader in self._readers:
            if not reader.get_loop().is_closed():
                reader.cancel()
        if self._client is not None:
            self._client.stop_channels()
        if self._manager is not None:
            self._manager.context.destroy(linger=0)
        self._readers, self._client, self._manager = [], None, None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        if os.name == "posix":
            # It leads a group of its own, with the processes that it has started.
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    async def _read(self, channel: Any) -> None:
        """Hands out what arrives on a channel, for as long as the peer is there."""
        while True:
            try:
                message: Message = await channel.get_msg()
            except ValueError:
                continue  # not signed by the peer, or not whole
            self._heard.set()
            request = self._requests.get(message["parent_header"].get("msg_id", ""))
            if request is not None:
                request.put_nowait(message)
            elif message["msg_type"] in _SAID:
                self.log.add(message)

    async def _finish(self, number: str, show: Show) -> None:
        """Waits for the end of a request, and shows what comes of it."""
        messages = self._requests[number] = asyncio.Queue()
        assert self._client is not None
        # To send may have taken the one sign that an answer to another request has come; whoever
        # looks at the events of the socket has it read.
        self._client.shell_channel.socket.get(zmq.EVENTS)
        try:
            error = await self._until_idle(messages, show)
        except asyncio.CancelledError as cancelled:
            said = await self._interrupted(messages, show)
            setattr(cancelled, "_render_traceback_", lambda: said)  # noqa: B010  # see IPython
            raise
        finally:
            del self._requests[number]
        if error is not None:
            raise self._error(error)

    async def _interrupted(self, messages: asyncio.Queue[Message], show: Show) -> list[str]:
        """Interrupts the peer too; returns what is to be said of it."""
        self.interrupt()
        try:
            async with asyncio.timeout(_OBEYS):
                error = await self._until_idle(messages, show)
        except TimeoutError:
            return [
                f"interrupted; but {self.name} goes on with what it does: "
                f"%pb_peer {self.name} --restart ends it"
            ]
        except PeerEnded as ended:
            return [str(ended)]
        traceback = error["content"]["traceback"] if error else []
        return [*traceback, f"interrupted, and with it what {self.name} did"]

    async def _until_idle(self, messages: asyncio.Queue[Message], show: Show) -> Message | None:
        """Shows messages until the peer is done with a request; returns the error, if any."""
        error: Message | None = None
        idle = replied = dead = False
        while not (idle and replied):
            try:
                async with asyncio.timeout(_GLANCE):
                    message = await messages.get()
            except TimeoutError:
                if dead:
                    raise self._ended() from None
                # What it said before it ended may still be on its way.
                dead = self.end is not None
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status":
                idle = content["execution_state"] == "idle"
            elif kind.endswith("_reply"):
                replied = True
                for page in content.get("payload", []):
                    if page.get("source") == "page":
                        content = {"data": page["data"], "metadata": {}}
                        show({"msg_type": "display_data", "content": content})
            elif kind == "error":
                error = message
            elif kind in _SAID:
                show(message)
        return error

    def _error(self, message: Message) -> PeerError:
        content = message["content"]
        return PeerError(self.name, content["ename"], content["evalue"], content["traceback"])

    def _ended(self) -> PeerEnded:
        return PeerEnded(
            f"peer {self.name} has ended ({self.end}): "
            f"%pb_peer {self.name} --restart starts it again, empty"
        )


class Peers:
    """The companions of this kernel."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._owner = os.getpid()

    def all(self) -> list[Peer]:
        """Returns the peers, in the order of their starts."""
        return [peer for peer in self._peers.values() if peer.started]

    def find(self, name: str) -> Peer | None:
        """Returns a peer, or None if there is none of that name.

        Args:
            name: The name.
        """
        peer = self._peers.get(name)
        return peer if peer is not None and peer.started else None

    async def get(self, name: str) -> Peer:
        """Returns a peer, which is started if there is none.

        Args:
            name: The name.

        Raises:
            PeerEnded: It does not start.
        """
        if not self._peers:
            atexit.register(self.kill_all)
        peer = self._peers.setdefault(name, Peer(name))
        async with peer.starting:
            if not peer.started:
                try:
                    await peer.start()
                except BaseException:
                    self._forget(peer)
                    raise
        return peer

    async def stop(self, peer: Peer) -> None:
        """Ends a peer.

        Args:
            peer: One of `all`.
        """
        self._forget(peer)
        await peer.stop()

    def kill_all(self) -> None:
        """Ends every peer at once."""
        # A child that this process forked has a copy of this object, and no peers.
        if os.getpid() == self._owner:
            for peer in list(self._peers.values()):
                self._forget(peer)
                peer.kill()

    def _forget(self, peer: Peer) -> None:
        if self._peers.get(peer.name) is peer:
            del self._peers[peer.name]
        if not self._peers:
            atexit.unregister(self.kill_all)
