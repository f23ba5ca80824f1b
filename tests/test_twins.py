"""Every source file has its test file, and every test file its source."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parent / "pbnb"

# Tests of the whole: of the tree's own shape, of what is in it besides pbnb, and of pbnb against
# real Twisted processes.
OF_THE_WHOLE = {
    "test_benchmarks.py",
    "test_binder.py",
    "test_coverage.py",
    "test_exports.py",
    "test_layers.py",
    "test_notebooks.py",
    "test_readme.py",
    "test_soak.py",
    "test_twins.py",
}
WITHOUT_TWINS = {"interop", "attacks", "failures"}


def twin_of(source: Path) -> Path:
    return source.with_name(f"test_{source.name}")


def wanted(sources: Path) -> set[Path]:
    """Returns the test files that a tree of sources asks for, relative to the tests."""
    return {
        twin_of(path.relative_to(sources))
        for path in sources.rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"}
    }


def present(tests: Path) -> set[Path]:
    """Returns the test files of a tree that have a source each, or ought to have one."""
    found = {path.relative_to(tests) for path in tests.rglob("test_*.py")}
    return {
        path
        for path in found
        if path.parts[0] not in WITHOUT_TWINS and path.as_posix() not in OF_THE_WHOLE
    }


def test_every_source_has_its_test() -> None:
    assert sorted(wanted(SOURCES) - present(HERE)) == []


def test_every_test_has_its_source() -> None:
    assert sorted(present(HERE) - wanted(SOURCES)) == []


@pytest.mark.parametrize(
    ("sources", "tests", "missing", "orphans"),
    [
        (["errors.py"], ["test_errors.py"], [], []),
        (["wire/banana.py"], ["wire/test_banana.py"], [], []),
        (["wire/banana.py"], ["test_banana.py"], ["wire/test_banana.py"], ["test_banana.py"]),
        (["__init__.py", "__main__.py", "wire/__init__.py"], [], [], []),
        ([], ["interop/test_pb1.py", "test_layers.py"], [], []),
        ([], ["wire/test_layers.py"], [], ["wire/test_layers.py"]),
    ],
)
def test_what_is_missing_and_what_is_orphaned(
    tmp_path: Path,
    sources: list[str],
    tests: list[str],
    missing: list[str],
    orphans: list[str],
) -> None:
    for folder, names in (("pbnb", sources), ("tests", tests)):
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    want, have = wanted(tmp_path / "pbnb"), present(tmp_path / "tests")
    assert sorted(path.as_posix() for path in want - have) == missing
    assert sorted(path.as_posix() for path in have - want) == orphans
