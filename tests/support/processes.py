"""Processes that are stopped."""

import os
import signal


def stop(pid: int) -> None:
    """Stops a child, and returns once it stands still.

    A signal is only sent by ``kill``: threads of the child that run on another core go on until
    they notice it, and may well answer a call before they do.
    """
    os.kill(pid, signal.SIGSTOP)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"process {pid} ended with status {status}"
