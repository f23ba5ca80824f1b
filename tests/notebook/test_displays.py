"""Displays: a result that would take for ever to print, and those that do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from pbnb.notebook.displays import MOST, Displays
from tests.support.kernels import Kernel


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    yield InteractiveShell()
    InteractiveShell.clear_instance()


def text_of(shell: InteractiveShell, value: object) -> str:
    assert shell.display_formatter is not None
    data, _ = shell.display_formatter.format(value)  # type: ignore[no-untyped-call]
    return str(data["text/plain"])


VALUES = [
    [],
    [1, (2,), {3}, {"a": [frozenset({4})]}],
    [[i, str(i)] for i in range(900)],
    {i: list(range(10)) for i in range(900)},
    list(range(5000)),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_what_people_look_at_is_shown_as_before(shell: InteractiveShell, value: object) -> None:
    before = text_of(shell, value)
    displays = Displays(shell)
    displays.install()
    assert text_of(shell, value) == before
    displays.uninstall()
    assert text_of(shell, value) == before


@pytest.mark.parametrize("kind", [list, tuple, lambda pair: {1: pair[0], 2: pair[1]}])
def test_a_value_that_multiplies_is_cut(shell: InteractiveShell, kind: object) -> None:
    value: object = "ha"
    for _ in range(40):
        value = kind([value, value])  # type: ignore[operator]
    Displays(shell).install()
    text = text_of(shell, value)
    assert "ha" in text and "..." in text
    # Two items of each list and the list itself are counted; each line is as long as it is deep.
    assert text.count("ha") <= MOST


def test_what_was_there_is_put_back(shell: InteractiveShell) -> None:
    assert shell.display_formatter is not None
    printers = shell.display_formatter.formatters["text/plain"].type_printers
    before = dict(printers)
    displays = Displays(shell)
    displays.install()
    assert printers != before
    displays.uninstall()
    assert printers == before


def test_a_billion_laughs_of_a_peer_are_displayed_at_once(tmp_path: Path) -> None:
    """The wire sends each list once; what a cell shows of them would be a gigabyte."""
    kernel = Kernel(tmp_path)
    try:
        kernel.run(
            "%load_ext pbnb\nimport pbnb as pb\n"
            "class Joker(pb.Root):\n"
            "    def remote_laugh(self):\n"
            "        laughs = ('ha', 'ha')\n"
            "        for _ in range(40):\n"
            "            laughs = (laughs, laughs)\n"
            "        return laughs\n"
            "server = await pb.serve(Joker())\n"
            "ref = await pb.connect(server.address)"
        )
        shown = kernel.run("await ref.callRemote('laugh')").result
        assert shown is not None and shown.startswith("((((") and "..." in shown
        assert kernel.run("1 + 1").result == "2"
    finally:
        kernel.close()
