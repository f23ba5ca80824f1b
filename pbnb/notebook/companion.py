"""The process of a peer: a kernel that dies with its parent, and that says no more than it may.

``%%pb_peer`` starts it and talks to it by Jupyter's protocol, see `pbnb.notebook.peers`. What it
prints, shows and raises is cut here, where it arises: so neither the notebook's kernel nor what
lies between ever holds more, and no message is lost for want of room.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

from ipykernel.iostream import OutStream
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.session import Session
from tornado.ioloop import IOLoop
from traitlets import DottedObjectName, default

__all__ = ["TEXT", "BoundedSession", "Companion", "OrderedStream", "left_out", "main"]

# Of what a cell prints, this many characters are sent as they come, and this many of the end.
TEXT = 100_000
TAIL = 2_000
# What a cell shows besides, such as images, in characters of its messages.
RICH = 20_000_000
# PR_SET_PDEATHSIG of Linux' prctl.
_TELL_OF_PARENTS_DEATH = 1


def left_out(count: int, what: str = "characters") -> str:
    """Returns the line that stands for what is not shown.

    Args:
        count: How many.
        what: Of what.
    """
    return f"\n… {count:,} {what} left out …\n"


class _Account:
    """What one cell has sent, and what was withheld of it."""

    def __init__(self, parent: dict[str, Any]) -> None:
        self.parent = parent
        self.text = 0
        self.rich = 0
        self.displays_withheld = 0
        # For each stream the number of characters that were withheld, and the last of them.
        self.withheld: dict[str, tuple[int, str]] = {}

    def take_text(self, name: str, text: str) -> str:
        """Returns the part of what was printed that may be sent."""
        now = text[: max(TEXT - self.text, 0)]
        rest = text[len(now) :]
        self.text += len(text)
        if rest:
            count, tail = self.withheld.get(name, (0, ""))
            self.withheld[name] = (count + len(rest), (tail + rest[-TAIL:])[-TAIL:])
        return now

    def take_rich(self, size: int) -> bool:
        """Returns whether something of a size may be shown."""
        if self.rich + size > RICH:
            self.displays_withheld += 1
            return False
        self.rich += size
        return True

    def rest(self) -> Iterator[tuple[str, str]]:
        """Yields what is to be printed in place of all that was withheld, and where."""
        for name, (count, tail) in self.withheld.items():
            yield name, (left_out(count - len(tail)) if count > len(tail) else "") + tail
        if self.displays_withheld:
            yield "stderr", left_out(self.displays_withheld, "displays")


class BoundedSession(Session):
    """Sends a bounded amount of output for each cell, from one request to the next."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._accounts: dict[str, _Account] = {}
        # Streams are sent by a thread of their own, everything else by the main one.
        self._lock = threading.RLock()

    def send(self, stream: Any, msg_or_type: Any, *args: Any, **kwargs: Any) -> Any:
        """Sends a message, or what may be sent of it.

        Args:
            stream: Where to.
            msg_or_type: The message, or its type.
            *args: What `Session.send` takes, such as the content.
            **kwargs: The same by name.
        """
        if isinstance(msg_or_type, str):
            msg = self.msg(
                msg_or_type,
                args[0] if args else kwargs.pop("content", None),
                args[1] if len(args) > 1 else kwargs.pop("parent", None),
                kwargs.pop("header", None),
                kwargs.pop("metadata", None),
            )
            args = args[2:]
        else:
            msg = msg_or_type
        with self._lock:
            if msg["header"]["msg_type"] == "status":
                self._settle(stream)
            elif not self._is_granted(msg):
                return msg
        if args:
            kwargs["ident"] = args[0]
        return super().send(stream, msg, **kwargs)

    def _is_granted(self, msg: dict[str, Any]) -> bool:
        """Cuts a message to what may be sent, and returns whether anything is left of it."""
        content = msg["content"]
        match msg["header"]["msg_type"]:
            case "stream":
                text = content["text"]
                content["text"] = self._account(msg).take_text(content["name"], text)
                return bool(content["text"])
            case "display_data" | "update_display_data" | "execute_result":
                if isinstance(content["data"].get("text/plain"), str):
                    content["data"]["text/plain"] = _cut(content["data"]["text/plain"])
                # The packer knows also those values that are no text.
                size = len(self.pack(content)) + sum(map(len, msg.get("buffers") or []))
                return self._account(msg).take_rich(size)
            case "comm_open" | "comm_msg" | "comm_close":
                return False  # a widget, and no page that shows it
            case "error" | "execute_reply" if "traceback" in content:
                content["evalue"] = _cut(content["evalue"], TAIL)
                content["traceback"] = _cut("\n".join(content["traceback"])).split("\n")
        return True

    def _account(self, msg: dict[str, Any]) -> _Account:
        parent = msg["parent_header"]
        return self._accounts.setdefault(parent.get("msg_id", ""), _Account(parent))

    def _settle(self, stream: Any) -> None:
        """Sends what stands for what was withheld; from here on everything counts anew."""
        accounts, self._accounts = self._accounts, {}
        for account in accounts.values():
            for name, text in account.rest():
                content = {"name": name, "text": text}
                super().send(stream, "stream", content, parent=account.parent)


def _cut(text: str, longest: int = TEXT) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return text[:half] + left_out(len(text) - 2 * half) + text[-half:]


class OrderedStream(OutStream):
    """Standard output or error, the two of which are shown in the order of their writing.

    Without this each stream, and each cell on it, is sent on its own, some time later.
    """

    _last: ClassVar[tuple[OutStream, str | None] | None] = None

    def write(self, string: str) -> int | None:  # type: ignore[override]  # in a forked child
        """Writes text, when what others have written before is on its way.

        Args:
            string: The text.
        """
        last = OrderedStream._last
        now = (self, self.parent_header.get("msg_id"))
        OrderedStream._last = now
        if last is not None and last != now:
            last[0].flush()  # type: ignore[no-untyped-call]
        return super().write(string)


class Companion(IPKernelApp):
    """A kernel with pbnb loaded."""

    outstream_class = DottedObjectName(f"{__name__}.OrderedStream")

    @default("session")
    def _bounded_session(self) -> Session:
        return BoundedSession(parent=self)

    def init_iopub(self, context: Any) -> None:
        """Makes the socket for output, which drops nothing: what is sent is bounded already.

        Args:
            context: Makes sockets.
        """
        context.sndhwm = 0
        super().init_iopub(context)  # type: ignore[no-untyped-call]

    def init_extensions(self) -> None:
        """Loads the user's extensions, and pbnb."""
        super().init_extensions()  # type: ignore[no-untyped-call]
        assert self.shell is not None
        self.shell.extension_manager.load_extension("pbnb")
        magics = self.shell.magics_manager.registry["PBMagics"]

        async def when_running() -> None:
            # Every cell is to notice an interrupt.
            magics.waker.arm(asyncio.get_running_loop())
            _close_raw_output()

        IOLoop.current().add_callback(when_running)


def _close_raw_output() -> None:
    """Ends the writing to the file where the parent looks for why this process did not start.

    All that processes write that are started here would be copied to it.
    """
    with suppress(io.UnsupportedOperation), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stderr.fileno())


def die_with(parent: int) -> None:
    """Lets this process end when its parent ends, by whatever means and whatever runs here.

    Args:
        parent: The number of the process that has started this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_TELL_OF_PARENTS_DEATH, signal.SIGKILL)
    # Elsewhere ipykernel looks for its parent once a second, where Python code runs.
    if os.name == "posix" and os.getppid() != parent:
        os._exit(1)


def main(parent: int) -> None:
    """Runs a companion until it is told to end.

    Args:
        parent: The number of the process that has started this one.
    """
    die_with(parent)
    # The history on disk is the notebooks' own.
    argv = [*sys.argv[1:], "--HistoryManager.hist_file=:memory:"]
    app: Any = Companion.instance()
    app.initialize(argv)
    app.start()
