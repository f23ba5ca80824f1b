"""``python -m pbnb``: one kernel serves an object, another kernel calls it.

Starts two real kernels, as a notebook server would, runs the cells of a first notebook in one
and those of a second in the other, and shows every cell with what it printed. It ends by itself,
with status 0 only when the second kernel got the first one's answer.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from contextlib import ExitStack
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import KernelManager

START_SECONDS = 60.0
CELL_SECONDS = 30.0

LOAD = "%load_ext pbnb"
DEFINE = """\
import pbnb as pb

class Echoer(pb.Root):
    def remote_echo(self, text):
        return text"""
SERVE = "server = %pb_serve Echoer()"
CONNECT = "ref = %pb_connect {address}"
TEXT = "hello network"
CALL = f'await ref.callRemote("echo", "{TEXT}")'


class DemoError(Exception):
    """The demo could not go on; the text says why."""


class Notebook:
    """The cells of one notebook, run in a kernel of its own; ends its kernel on leaving."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        # No folder is searched for kernels: it shall be this Python's, the one that has pbnb.
        self.manager = KernelManager(
            kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[])
        )
        self.client: BlockingKernelClient | None = None
        # What a kernel says outside of its cells matters only where it does not start.
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")

    def __enter__(self) -> Notebook:
        try:
            self.manager.start_kernel(stderr=self.log)
        except (NoSuchKernel, OSError) as error:
            raise DemoError(f"the {self.name} kernel cannot be started: {error}") from error
        self.client = self.manager.client()
        self.client.start_channels()
        return self

    def __exit__(self, *_: object) -> None:
        if self.client is not None:
            self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.log.close()

    def open(self) -> None:
        """Waits until the kernel answers, and shows where it runs."""
        assert self.client is not None
        try:
            self.client.wait_for_ready(timeout=START_SECONDS)
        except RuntimeError as error:
            self.log.seek(0)
            raise DemoError(
                f"the {self.name} kernel did not start: {error}\n{self.log.read()}"
            ) from error
        process = self.evaluate("__import__('os').getpid()")
        print(f"\n--- {self.name} kernel, process {process}")

    def evaluate(self, expression: str) -> str:
        """Returns the text of an expression's value in the kernel, showing nothing."""
        assert self.client is not None
        reply = self.client.execute_interactive(
            "", silent=True, user_expressions={"value": expression}, timeout=CELL_SECONDS
        )
        value = reply["content"]["user_expressions"]["value"]
        if value["status"] != "ok":
            raise DemoError(f"{expression} failed in the {self.name} kernel: {value['evalue']}")
        return str(value["data"]["text/plain"])

    def run(self, cell: str) -> str | None:
        """Runs a cell and shows it with its output; returns the text of its result, if any."""
        assert self.client is not None
        self.count += 1
        lead = f"In [{self.count}]: "
        indent = "\n" + "...: ".rjust(len(lead))
        print(lead + indent.join(cell.split("\n")), flush=True)
        results: list[str] = []

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    print(content["text"], end="", flush=True)
                case "execute_result":
                    results.append(content["data"]["text/plain"])
                    print(f"Out[{self.count}]: {results[-1]}", flush=True)
                case "error":
                    print("\n".join(content["traceback"]), flush=True)

        try:
            reply = self.client.execute_interactive(cell, timeout=CELL_SECONDS, output_hook=show)
        except TimeoutError as error:
            raise DemoError(
                f"cell {self.count} of the {self.name} kernel did not end in {CELL_SECONDS:.0f} s"
            ) from error
        content = reply["content"]
        if content["status"] != "ok":
            raise DemoError(
                f"cell {self.count} of the {self.name} kernel failed: "
                f"{content.get('ename', content['status'])}: {content.get('evalue', '')}"
            )
        return results[-1] if results else None


def demonstrate() -> None:
    """Runs both notebooks, side by side.

    Raises:
        DemoError: A kernel, a cell or the answer was not what it should be.
    """
    with ExitStack() as notebooks:
        # Both start before either is waited for: a kernel takes most of a second.
        server = notebooks.enter_context(Notebook("server's"))
        client = notebooks.enter_context(Notebook("client's"))
        server.open()
        for cell in (LOAD, DEFINE, SERVE):
            server.run(cell)
        address = server.evaluate("server.address").strip("'\"")
        client.open()
        for cell in (LOAD, CONNECT.format(address=address)):
            client.run(cell)
        answer = client.run(CALL)
        if answer != repr(TEXT):
            raise DemoError(f"the answer should have been {TEXT!r}, and was {answer}")


def main() -> int:
    """Runs the demo; returns the status to exit with."""
    # Ended by a signal, it still ends its kernels on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        demonstrate()
    except DemoError as error:
        print(f"\npbnb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npbnb: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    print("\nThe object lives in the first kernel; the second one called it and got its answer.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
