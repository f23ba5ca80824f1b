"""Processes that are stopped, and those that run a few lines and end."""

import os
import signal
import subprocess
import sys
import textwrap


def ran(script: str, seconds: float = 60.0) -> tuple[str, str]:
    """Runs a script in a process of its own, for what holds for all of a process.

    Args:
        script: The lines, which may be indented together.
        seconds: How long it may take.

    Returns:
        What it wrote to its standard output and to its standard error.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.stdout, done.stderr


def stop(pid: int) -> None:
    """Stops a child, and returns once it stands still.

    A signal is only sent by ``kill``: threads of the child that run on another core go on until
    they notice it, and may well answer a call before they do.
    """
    os.kill(pid, signal.SIGSTOP)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"process {pid} ended with status {status}"
