"""What holds for every test, the notebooks' among them."""

from __future__ import annotations

import os
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Kernels leave their connection files here, and %pb_serve the names it serves: two runs of
    # the tests at one time, or a user's own notebooks, shall not meet.
    runtime = tempfile.TemporaryDirectory(prefix="pbnb-tests-")
    config.add_cleanup(runtime.cleanup)
    os.environ["JUPYTER_RUNTIME_DIR"] = runtime.name
