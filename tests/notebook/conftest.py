from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.kernels import DEFINE, Kernel


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


@pytest.fixture(autouse=True)
def _nothing_stays_served(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("kernel", "peer"):
        if name in request.fixturenames:
            stop = "get_ipython().magics_manager.registry['PBMagics'].servings.stop_all()"
            request.getfixturevalue(name).run(f"await {stop}")
