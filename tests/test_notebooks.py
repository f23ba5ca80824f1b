"""The notebooks: what is saved in them, Run All as a client sends it, and Run All in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support import books
from tests.support.books import INDEX, NOTEBOOKS, TUTORIALS, Outcome
from tests.support.kernels import Cell, Kernel
from tests.support.lab import Book, Lab

OF_A_MACHINE = re.compile(r"(?<![\w.])/(root|home|tmp|work|opt|usr|var|private|Users)/[\w.-]+")
# As long as the tokens of %pb_serve, and longer than what Jupyter gives to comms and widgets.
SECRET = re.compile(r"[\w-]{40,}")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def markdown(notebook: dict[str, Any]) -> list[str]:
    cells = notebook["cells"]
    return [books.text(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def strings(node: Any) -> Iterator[str]:
    """Yields all text of a part of a notebook, lines joined as they are shown."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, list):
        if all(isinstance(item, str) for item in node):
            yield "".join(node)
        else:
            for item in node:
                yield from strings(item)


# What is saved


@each_notebook
def test_is_a_valid_notebook(path: Path) -> None:
    notebook = books.read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    nbformat.validate(notebook)
    numbers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(numbers)) == len(numbers)


@each_notebook
def test_holds_nothing_of_the_run_that_it_was_saved_from(path: Path) -> None:
    notebook = books.read(path)
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags", "jupyter"}, cell["id"]


@each_notebook
def test_holds_no_secret_and_no_path_of_a_machine(path: Path) -> None:
    for cell in books.read(path)["cells"]:
        for said in strings([cell["source"], cell.get("outputs", [])]):
            said = books.sanitise(said)
            assert not OF_A_MACHINE.search(said), (cell["id"], OF_A_MACHINE.search(said))
            assert not SECRET.search(said), (cell["id"], SECRET.search(said))


@each_tutorial
def test_holds_the_outputs_of_one_run_from_its_first_cell_to_its_last(path: Path) -> None:
    cells = books.code_cells(books.read(path))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any(books.outcome(cell["outputs"]) != Outcome() for cell in cells)
    for cell in cells:
        failed = books.outcome(cell["outputs"]).error is not None
        assert failed == ("raises-exception" in books.tags(cell)), cell["id"]


@each_tutorial
def test_ends_with_two_or_three_exercises_whose_answers_are_checked(path: Path) -> None:
    cells = books.read(path)["cells"]
    sources = [books.text(cell["source"]) for cell in cells]
    (title,) = [number for number, source in enumerate(sources) if "## Exercises" in source]
    asked = [n for n in range(title, len(cells)) if re.match(r"\d\. ", sources[n])]
    assert [sources[n][0] for n in asked] in (["1", "2"], ["1", "2", "3"])
    for start, end in pairwise([*asked, len(cells)]):
        folded = {"source_hidden": True}
        answer = [n for n in range(start, end) if cells[n]["metadata"].get("jupyter") == folded]
        checks = "\n".join(sources[n] for n in answer)
        assert re.search(r"(?m)^ *(assert|raise AssertionError)\b", checks), sources[start]


def test_the_index_leads_through_all_of_them_in_order() -> None:
    links = LINK.findall("\n".join(markdown(books.read(INDEX))))
    assert [link for link in links if link.endswith(".ipynb")] == [path.name for path in TUTORIALS]


@each_notebook
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall("\n".join(markdown(books.read(path)))):
        assert "://" in link or (path.parent / link).exists(), link


# Run All, as a client sends it


def outcome_of(cell: Cell) -> Outcome:
    return books.sanitised(Outcome(cell.stdout, cell.stderr, cell.result, cell.ename))


@each_tutorial
def test_runs_when_all_cells_are_sent_at_once(path: Path, tmp_path: Path) -> None:
    cells = books.code_cells(books.read(path))
    kernel = Kernel(tmp_path)
    try:
        sent = [
            kernel.send(
                books.text(cell["source"]), stop_on_error="raises-exception" not in books.tags(cell)
            )
            for cell in cells
        ]
        for number, cell in zip(sent, cells, strict=True):
            ran = kernel.wait(number)
            allowed = {"ok", "error"} if "raises-exception" in books.tags(cell) else {"ok"}
            assert ran.status in allowed, (cell["id"], ran)
        for number, cell in zip(sent, cells, strict=True):
            if books.is_compared(cell):
                assert outcome_of(kernel.cells[number]) == books.outcome(cell["outputs"])
    finally:
        kernel.close()


# Run All in a browser

CLEAR = "() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')"
# Its own promise is left alone: what counts is what the page shows.
RUN_ALL = "() => { jupyterapp.commands.execute('notebook:run-all-cells') }"
# A prompt is "[ ]:" before its cell has been sent, "[*]:" until it has ended, and then its number.
# A folded cell shows none, so the numbers are asked for as well.
ENDED = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
    const cells = [...jupyterapp.shell.currentWidget.content.model.cells];
    return prompts.every(prompt => /^(\\[\\d+\\]:)?$/.test(prompt.textContent.trim()))
        && cells.every(cell => cell.type !== 'code' || cell.executionCount !== null);
}"""
ERRORS = "[data-mime-type='application/vnd.jupyter.error']"
ERROR_BOXES = ".jp-Dialog, .Toastify__toast--error, .jp-mod-error"


@pytest.fixture(scope="module")
def book(lab: Lab) -> Iterator[Book]:
    """A page, for one notebook after the other."""
    book = lab.open(lab.copy(INDEX), height=3000)
    try:
        yield book
    finally:
        book.close()


@each_notebook
def test_runs_in_a_browser(path: Path, lab: Lab, book: Book, tmp_path: Path) -> None:
    wanted = books.code_cells(books.read(path))
    book.turn_to(lab.copy(path))
    broken: list[str] = []
    book.page.on("pageerror", lambda error: broken.append(str(error)))
    try:
        book.page.evaluate(CLEAR)
        book.page.evaluate(RUN_ALL)
        book.page.wait_for_function(ENDED)
        book.page.screenshot(path=tmp_path / f"{path.stem}.png")  # kept when the test fails
        assert book.page.locator(ERROR_BOXES).all_inner_texts() == []
        expected = [cell for cell in wanted if "raises-exception" in books.tags(cell)]
        assert book.page.locator(ERRORS).count() == len(expected)
        assert broken == []
        book.save()
        for ran, cell in zip(books.code_cells(lab.saved(path.name)), wanted, strict=True):
            if books.is_compared(cell):
                assert books.outcome(ran["outputs"]) == books.outcome(cell["outputs"])
        assert lab.foreign == []
    finally:
        book.shut_down()
