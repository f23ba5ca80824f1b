"""A peer's two processes, a server and a client of it, as the process sees them that asks them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from pbnb.protocol.dialects import DIALECTS

from .measure import Measured
from .workloads import Case

__all__ = ["Ended", "Failed", "Pair", "names"]

ROOT = Path(__file__).parent.parent
# Bounds for what takes far less, so that a run ends by itself.
START_SECONDS = 60.0
END_SECONDS = 10.0


class Failed(Exception):
    """A measurement was not made; the text says why."""


class Ended(Failed):
    """One of the two processes ended, or said nothing in time and was ended."""


def names() -> tuple[str, ...]:
    """Returns the peers that there are: pbnb once for each dialect, Twisted if it is installed."""
    dialects = [f"pbnb:{name.decode()}" for name in DIALECTS if name != b"none"]
    others = ["twisted"] if importlib.util.find_spec("twisted") else []
    return ("floor", *others, *dialects)


class _Child:
    """One of the two processes."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the process that asks, which ends the others.
            start_new_session=True,
        )

    def tell(self, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def hear(self, seconds: float) -> dict[str, Any]:
        """Returns the next line that the process says.

        Raises:
            Ended: There was none in this time.
        """
        assert self.process.stdout is not None
        late = threading.Timer(seconds, self.process.kill)
        late.start()
        try:
            line = self.process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            raise Ended(f"its process ended, or had said nothing for {seconds:.0f} s")
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Pair:
    """A server and a client of one peer; a context manager, which ends them.

    Args:
        peer: The peer's name.
        profile: Whether the two say where their time goes.
    """

    def __init__(self, peer: str, profile: bool = False) -> None:
        self.peer = peer
        self._options = ["--profile"] if profile else []
        self._server = _Child("serve", peer, *self._options)
        self._client: _Child | None = None

    def _connected(self) -> _Child:
        # Two steps, so that the servers of all peers can start at the same time.
        if self._client is None:
            ready = self._server.hear(START_SECONDS)
            port, process = str(ready["port"]), str(ready["process"])
            self._client = _Child(
                "call", self.peer, "--port", port, "--server", process, *self._options
            )
        return self._client

    def measure(self, case: Case, seconds: float, patience: float) -> Measured:
        """Makes one measurement.

        Args:
            case: What to measure.
            seconds: How long it shall take.
            patience: After how many seconds it is given up, and the processes with it.

        Raises:
            Failed: The peer cannot do it.
            Ended: It ended, or did not do it in time.
        """
        client = self._connected()
        client.tell(workload=case.workload.name, case=case.value, seconds=seconds)
        found = client.hear(patience)
        if "error" in found:
            raise Failed(found["error"])
        self.profile = found.pop("profile", "")
        return Measured(**found)

    def answered(self) -> int:
        """Returns how many calls the server has answered so far."""
        self._connected()
        self._server.tell()
        return int(self._server.hear(END_SECONDS)["answered"])

    def profiles(self) -> tuple[str, str]:
        """Ends the two, and returns where the time of the client and of the server went."""
        assert self._server.process.stdin is not None
        self._server.process.stdin.close()
        return self.profile, str(self._server.hear(END_SECONDS)["profile"])

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.process.kill()  # it may be in the middle of something
            self._client.end()
        self._server.end()
