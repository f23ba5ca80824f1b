"""What the tests of several folders share: JupyterLab in a browser, where there is one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import CHROMIUM, Lab, sync_playwright

LEFT_OUT = pytest.StashKey[int]()


def missing() -> str | None:
    """Returns what the tests in a browser lack here, if they lack anything."""
    if CHROMIUM is None:
        return "no Chromium (apt-get install chromium, or name one in PBNB_CHROMIUM)"
    if sync_playwright is None:
        return "no playwright (pip install playwright)"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if missing() is None or os.environ.get("CI"):
        return  # in CI a browser is there, or its tests fail
    browsing = [item for item in items if "lab" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in browsing]
    config.hook.pytest_deselected(items=browsing)
    config.stash[LEFT_OUT] = len(browsing)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if left_out := config.stash.get(LEFT_OUT, 0):
        line = f"{left_out} browser tests did not run: {missing()}"
        terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Keeps what is there before a file of tests out of the collections that its tests ask for.

    Thousands of collected tests, and libraries such as pandas, would make each of them take a
    tenth of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jupyter's runtime directory for the kernels of one file of tests."""
    return tmp_path_factory.mktemp("runtime")


# Not for the session: while it lasts, playwright's own event loop is the running one here, and
# nothing else can call asyncio.run.
@pytest.fixture(scope="module")
def lab(runtime: Path) -> Iterator[Lab]:
    """JupyterLab and a browser, for the tests of one file."""
    assert missing() is None, missing()
    with sync_playwright() as playwright:
        lab = Lab(playwright, runtime)
        try:
            yield lab
        finally:
            lab.close()
