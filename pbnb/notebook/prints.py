"""What remote methods print, collected apart from the cells.

Output belongs to the cell in whose context it is written, and a server's methods run in the
context in which it began to listen. So a server that begins under a name of its own has its
prints tagged with that name, by ipykernel itself; they are taken out before they are sent.
"""

from __future__ import annotations

import asyncio
import html
import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from ipykernel.iostream import OutStream
from IPython.core.error import UsageError

from ..aio.here import in_own_context
from ..failure import shown

__all__ = ["LONGEST", "PrintLog", "Prints"]

LONGEST = 20_000
"""How many characters of the end of a log are kept."""

_STYLE = (
    "margin:0;max-height:24em;overflow:auto;display:flex;flex-direction:column-reverse;"
    "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px);"
    "line-height:1.3;color:var(--jp-content-font-color1,inherit);background:none"
)
_ERROR_STYLE = "background:var(--jp-rendermime-error-background,#fdd)"


class PrintLog:
    """The end of what was printed.

    Attributes:
        changed: Called after each addition.
    """

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._parts: deque[tuple[str, str]] = deque()
        self._length = 0
        self._left_out = 0

    def add(self, name: str, text: str) -> None:
        """Adds what was printed.

        Args:
            name: The name of the stream.
            text: What was written to it.
        """
        self._left_out += max(len(text) - LONGEST, 0)
        text = text[-LONGEST:]
        self._parts.append((name, text))
        self._length += len(text)
        while self._length > LONGEST:
            name, text = self._parts.popleft()
            extra = min(self._length - LONGEST, len(text))
            self._length -= extra
            self._left_out += extra
            if extra < len(text):
                self._parts.appendleft((name, text[extra:]))
        self.changed()

    def html(self) -> str:
        """Returns the log as HTML: all of it is text, whatever was printed."""
        parts = [
            f'<span style="{_ERROR_STYLE}">{_escaped(text)}</span>'
            if name == "stderr"
            else _escaped(text)
            for name, text in self._parts
        ]
        if self._left_out:
            parts.insert(0, f"… {self._left_out:,} characters left out …\n")
        # The flex box lists upwards from its end, so that the end is what one sees.
        return f'<pre style="{_STYLE}"><span>{"".join(parts)}</span></pre>'


def _escaped(text: str) -> str:
    return html.escape(shown(text, None, lines=True))


class Prints:
    """Takes what is printed under some names out of this kernel's output."""

    def __init__(self) -> None:
        self._logs: dict[str, tuple[PrintLog, asyncio.AbstractEventLoop]] = {}
        self._hooked: list[OutStream] = []

    @contextmanager
    def into(self, log: PrintLog, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Tags what is printed from here on, and by all that is started here.

        Args:
            log: Where it goes.
            loop: The loop on which it is added to the log.

        Raises:
            UsageError: The output of this program cannot be told apart.
        """
        streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, OutStream)]
        if not streams:
            raise UsageError("--output widget needs a notebook, and no %%capture around it")
        self._hook(streams)
        name = f"pbnb-{secrets.token_hex(8)}"
        self._logs[name] = log, loop
        header = {"msg_id": name, "msg_type": "execute_request"}
        with ExitStack() as stack:
            for stream in streams:
                tagged: Any = stream
                stack.callback(tagged.reset_thread_parent, tagged.set_thread_parent(header))
            # Calls from this kernel too: they would print under the cells that make them.
            stack.callback(in_own_context.reset, in_own_context.set(True))
            yield

    def uninstall(self) -> None:
        """Lets everything be shown again below the cells."""
        for stream in self._hooked:
            self._in_its_thread(stream, stream.unregister_hook)
        self._hooked.clear()
        self._logs.clear()

    def _hook(self, streams: list[OutStream]) -> None:
        for stream in streams:
            if stream not in self._hooked:
                self._hooked.append(stream)
                self._in_its_thread(stream, stream.register_hook)

    def _in_its_thread(self, stream: OutStream, register: Callable[[Any], object]) -> None:
        # Streams keep their hooks for each thread, and are emptied in this one.
        thread: Any = stream.pub_thread
        thread.schedule(lambda: register(self._take))

    def _take(self, message: dict[str, Any]) -> dict[str, Any] | None:
        found = self._logs.get(message["parent_header"].get("msg_id", ""))
        if found is None:
            return message
        log, loop = found
        content = message["content"]
        with suppress(RuntimeError):  # the loop is closed: the kernel ends
            loop.call_soon_threadsafe(log.add, content["name"], content["text"])
        return None
