from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kernels import DEFINE, Kernel
from tests.support.lab import CHROMIUM, Lab, sync_playwright


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Jupyter's runtime directory for the kernels of one file of tests."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="module")
def kernel(runtime: Path) -> Iterator[Kernel]:
    """A kernel that the tests of a file share, with the extension loaded."""
    kernel = Kernel(runtime)
    try:
        kernel.run(DEFINE)
        kernel.run("%load_ext pbnb")
        yield kernel
    finally:
        kernel.close()


@pytest.fixture(scope="module")
def peer(runtime: Path) -> Iterator[Kernel]:
    """Another kernel of the same user, with the extension loaded."""
    peer = Kernel(runtime)
    try:
        peer.run(DEFINE)
        peer.run("%load_ext pbnb")
        yield peer
    finally:
        peer.close()


@pytest.fixture
def new_kernel(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    """Makes kernels for one test."""
    made: list[Kernel] = []

    def make(**environment: str) -> Kernel:
        made.append(Kernel(tmp_path, **environment))
        made[-1].run(DEFINE)
        return made[-1]

    try:
        yield make
    finally:
        for kernel in made:
            kernel.close()


@pytest.fixture(scope="module")
def lab(runtime: Path) -> Iterator[Lab]:
    """JupyterLab in a browser, for the tests of a file."""
    if sync_playwright is None or CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no browser: where CI is set, these tests have to run")
        pytest.skip("no browser")
    with sync_playwright() as playwright:
        lab = Lab(playwright, runtime)
        try:
            yield lab
        finally:
            lab.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says which tests have not run, so that nobody takes them for passed."""
    skipped = [each for each in terminalreporter.stats.get("skipped", ()) if _wants_browser(each)]
    if skipped:
        terminalreporter.section("the panel was NOT TESTED in a browser", red=True, bold=True)
        terminalreporter.line(
            f"{len(skipped)} tests did not run: install Chromium (apt-get install chromium) and "
            "playwright (pip install playwright), or name a browser in PBNB_CHROMIUM."
        )


def _wants_browser(report: Any) -> bool:
    return "no browser" in str(report.longrepr)


@pytest.fixture(autouse=True)
def _nothing_stays_served(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("kernel", "peer"):
        if name in request.fixturenames:
            stop = "get_ipython().magics_manager.registry['PBMagics'].servings.stop_all()"
            request.getfixturevalue(name).run(f"await {stop}")
