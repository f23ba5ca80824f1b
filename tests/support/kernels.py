"""Real kernels, driven as a notebook drives them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parent.parent.parent
# How long anything may take before the test fails, on a machine that is busy with other things.
PATIENCE = 60.0

DEFINE = """\
import asyncio
import pbnb as pb

class Echoer(pb.Root):
    def remote_echo(self, text):
        return text

def is_nested():
    return hasattr(asyncio, "_nest_asyncio2")
"""


@dataclass
class Cell:
    """What came of one cell."""

    status: str = ""
    stdout: str = ""
    stderr: str = ""
    result: str | None = None
    ename: str | None = None
    evalue: str | None = None
    traceback: str = ""
    payload: list[dict[str, Any]] = field(default_factory=list)
    displays: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    idle: bool = False

    @property
    def done(self) -> bool:
        return bool(self.status) and self.idle


class Kernel:
    """A kernel of this Python, with a client of its own."""

    def __init__(self, runtime: Path, **environment: str) -> None:
        self.cells: dict[str, Cell] = {}
        self.manager = KernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=str(runtime / f"kernel-of-test-{time.monotonic_ns()}.json"),
        )
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.manager.start_kernel(
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "JUPYTER_RUNTIME_DIR": str(runtime),
                "IPYTHONDIR": str(runtime / "ipython"),
                **environment,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)  # type: ignore[union-attr, attr-defined]

    def send(
        self,
        code: str,
        subshell: str | None = None,
        *,
        stdin: bool = False,
        stop_on_error: bool = True,
    ) -> str:
        """Sends a cell and returns its number, without waiting for it."""
        request = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": stdin,
            "stop_on_error": stop_on_error,
        }
        message = self.client.session.msg("execute_request", request)
        message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        number: str = message["header"]["msg_id"]
        self.cells[number] = Cell()
        return number

    def new_subshell(self) -> str:
        """Makes a subshell, which has a thread and a loop of its own."""
        self.client.control_channel.send(self.client.session.msg("create_subshell_request"))
        reply = self.client.get_control_msg(timeout=PATIENCE)
        name: str = reply["content"]["subshell_id"]
        return name

    def run(self, code: str) -> Cell:
        """Runs a cell to its end, which must be a good one."""
        cell = self.attempt(code)
        assert cell.status == "ok", (code, cell)
        return cell

    def attempt(self, code: str) -> Cell:
        """Runs a cell to its end, whatever that is."""
        return self.wait(self.send(code))

    def wait(self, number: str) -> Cell:
        """Waits for the end of a cell."""
        return self.wait_until(number, lambda cell: cell.done)

    def wait_until(self, number: str, enough: Callable[[Cell], object]) -> Cell:
        """Waits for what a cell is waited for, such as a part of its output."""
        deadline = time.monotonic() + PATIENCE
        cell = self.cells[number]
        while not enough(cell):
            assert time.monotonic() < deadline, (cell, self.cells)
            self._read()
        return cell

    def answer(self, text: str) -> dict[str, Any]:
        """Types what a cell asks for, and returns how it has asked."""
        asked: dict[str, Any] = self.client.get_stdin_msg(timeout=PATIENCE)["content"]
        self.client.input(text)
        return asked

    def complete(self, code: str) -> tuple[list[str], str]:
        """Returns what TAB offers at the end of a cell, and the text that it would replace."""
        content = self._ask(self.client.complete(code, len(code)))
        return content["matches"], code[content["cursor_start"] : content["cursor_end"]]

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def restart(self) -> None:
        """Kills the kernel and starts it again, as a notebook does; nothing is defined then."""
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=PATIENCE)

    def shut_down(self) -> None:
        """Ends the kernel as a notebook does, and waits for it."""
        self.client.shutdown()
        self.manager.provisioner.process.wait(PATIENCE)  # type: ignore[union-attr]
        self.close()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    def _ask(self, number: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == number:
                content: dict[str, Any] = message["content"]
                return content
            self._take_reply(message)

    def _read(self) -> None:
        try:
            self._take_output(self.client.get_iopub_msg(timeout=0.05))
        except Empty:
            pass
        try:
            self._take_reply(self.client.get_shell_msg(timeout=0))
        except Empty:
            pass

    def _take_reply(self, message: dict[str, Any]) -> None:
        cell = self.cells.get(message["parent_header"].get("msg_id", ""))
        if cell is not None:
            cell.status = message["content"]["status"]
            cell.payload = message["content"].get("payload", [])

    def _take_output(self, message: dict[str, Any]) -> None:
        cell = self.cells.get(message["parent_header"].get("msg_id", ""))
        content = message["content"]
        if cell is None:
            return
        match message["msg_type"]:
            case "stream":
                setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
            case "execute_result":
                cell.result = content["data"]["text/plain"]
            case "display_data":
                cell.displays.append(content)
                cell.shown.append(content["data"])
            case "update_display_data":
                name = content["transient"]["display_id"]
                for shown in [each for known in self.cells.values() for each in known.displays]:
                    if shown["transient"].get("display_id") == name:
                        shown["data"] = content["data"]
                cell.shown.append(content["data"])
            case "error":
                cell.ename, cell.evalue = content["ename"], content["evalue"]
                cell.traceback = "\n".join(content["traceback"])
            case "status":
                cell.idle = cell.idle or content["execution_state"] == "idle"
