"""COVERAGE.md holds every behaviour of PB once, and names tests that exist.

Which tests exist is read with ast: nothing is imported, and nothing is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
TABLE = HERE / "COVERAGE.md"

# How many behaviours there are: of banana, jelly, flavors, the broker, cred, and the rest.
COUNTS = {"B": 18, "J": 30, "F": 21, "P": 43, "C": 10, "U": 11}
BEHAVIOURS = [f"{kind}{number}" for kind, count in COUNTS.items() for number in range(1, count + 1)]

# What is not worth having in pbnb. To add one here is a decision.
NOT_PORTED = ["P18", "U7", "U8", "U11"]

NOT_PORTED_TITLE = "## Not ported"


class Row(NamedTuple):
    id: str
    cells: list[str]
    ported: bool

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`(tests/[^`]+)`", self.cells[-1])


def rows_of(text: str) -> Iterator[Row]:
    ported = True
    for line in text.splitlines():
        if line.startswith("## "):
            ported = line != NOT_PORTED_TITLE
        elif line.startswith("|"):
            first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            if re.fullmatch(r"[A-Z]\d+", first):
                yield Row(first, cells, ported)


def mistakes_in(text: str, tests: set[str]) -> list[str]:
    """Returns what is wrong with a table, given the tests that there are."""
    rows = list(rows_of(text))
    found = []
    ids = [row.id for row in rows]
    found += [f"{each} has no row" for each in BEHAVIOURS if each not in ids]
    found += [f"{each} is no behaviour" for each in ids if each not in BEHAVIOURS]
    found += [f"{each} has several rows" for each in dict.fromkeys(ids) if ids.count(each) > 1]
    for row in rows:
        if len(row.cells) != 3 or not row.cells[1]:
            found.append(f"{row.id} has not the cells that its table has")
        elif row.ported != (row.id not in NOT_PORTED):
            found.append(f"{row.id} is in the wrong table")
        elif row.ported and (row.cells[0] != "✓" or not row.tests):
            found.append(f"{row.id} is shown by no test")
        elif row.ported and re.sub(r"`[^`]*`", "", row.cells[-1]).strip(", "):
            found.append(f"{row.id} has something else than tests in its last cell")
        found += [f"{row.id} names {test}" for test in row.tests if test not in tests]
    return found


def names_in(source: str) -> Iterator[str]:
    """Yields the names of what pytest collects from a file; a parametrised test has one."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):  # the test case of a state machine
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in names if name.startswith(("test_", "Test")))


def all_tests() -> set[str]:
    return {
        f"{path.relative_to(HERE.parent).as_posix()}::{name}"
        for path in HERE.rglob("test_*.py")
        for name in names_in(path.read_text(encoding="utf-8"))
    }


def test_the_table_is_true() -> None:
    assert mistakes_in(TABLE.read_text(encoding="utf-8"), all_tests()) == []


def test_there_are_133_behaviours() -> None:
    assert len(BEHAVIOURS) == len(set(BEHAVIOURS)) == 133
    assert set(NOT_PORTED) < set(BEHAVIOURS)


def test_which_tests_a_file_has() -> None:
    source = """
import pytest

@pytest.mark.parametrize("value", [1, 2])
def test_each(value): ...

async def test_async(): ...

def helper():
    def test_inside(): ...

TestStates = States.TestCase
tests = Test = 5
"""
    assert list(names_in(source)) == ["test_each", "test_async", "TestStates", "Test"]


GOOD = {
    each: f"| {each} | ✓ | It works | `tests/test_x.py::test_one` |"
    for each in BEHAVIOURS
    if each not in NOT_PORTED
}
LEFT_OUT = {each: f"| {each} | what | why | Nothing |" for each in NOT_PORTED}


def table(**changed: str) -> str:
    ported = [changed.get(each, line) for each, line in GOOD.items()]
    left_out = [changed.get(each, line) for each, line in LEFT_OUT.items()]
    return "\n".join(["## Rows", *ported, NOT_PORTED_TITLE, "| Id | What |", "|---|", *left_out])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, []),
        ({"B1": ""}, ["B1 has no row"]),
        ({"B1": GOOD["B2"]}, ["B1 has no row", "B2 has several rows"]),
        ({"B1": GOOD["B1"] + "\n" + GOOD["B1"].replace("B1", "X1")}, ["X1 is no behaviour"]),
        ({"B1": "| B1 | ✓ | It works | |"}, ["B1 is shown by no test"]),
        ({"B1": GOOD["B1"].replace("✓", "")}, ["B1 is shown by no test"]),
        ({"B1": GOOD["B1"].replace("one", "two")}, ["B1 names tests/test_x.py::test_two"]),
        ({"B1": "| B1 | ✓ | | `tests/test_x.py::test_one` |"}, ["B1 has not the cells"]),
        ({"B1": GOOD["B1"][:-1] + "and more |"}, ["B1 has something else than tests"]),
        ({"U7": "| U7 | what | | Nothing |"}, ["U7 has not the cells"]),
        ({"U7": "| U7 | what | why | `tests/test_y.py::test_one` |"}, ["U7 names tests/test_y.py"]),
        ({"U7": "", "U6": GOOD["U6"] + "\n" + LEFT_OUT["U7"]}, ["U7 is in the wrong table"]),
        ({"U6": "", "U7": LEFT_OUT["U7"] + "\n" + GOOD["U6"]}, ["U6 is in the wrong table"]),
    ],
)
def test_what_is_wrong_is_found(changed: dict[str, str], says: list[str]) -> None:
    found = mistakes_in(table(**changed), {"tests/test_x.py::test_one"})
    assert len(found) == len(says)
    assert all(one.startswith(other) for one, other in zip(found, says, strict=True))
