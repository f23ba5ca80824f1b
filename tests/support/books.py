"""The notebooks of the repository: what is saved in them, and what a run of them gives."""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.kernels import ROOT

FOLDER = ROOT / "notebooks"
INDEX = FOLDER / "00_index.ipynb"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TUTORIALS = [path for path in NOTEBOOKS if path != INDEX]


@dataclass(frozen=True)
class Outcome:
    """What is seen below a cell.

    Attributes:
        stdout: What was printed, of all processes.
        stderr: What was printed as an error.
        result: The value of its last line, as text.
        error: The class of the exception with which it ended.
    """

    stdout: str = ""
    stderr: str = ""
    result: str | None = None
    error: str | None = None


def read(path: Path) -> dict[str, Any]:
    """Returns a notebook as it is saved, which the caller must not change."""
    notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text(lines: str | list[str]) -> str:
    """Returns text of a notebook, which is saved in one piece or line by line."""
    return lines if isinstance(lines, str) else "".join(lines)


def tags(cell: dict[str, Any]) -> list[str]:
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def is_compared(cell: dict[str, Any]) -> bool:
    """Returns whether the output of a cell is the same in each run."""
    return "nbval-ignore-output" not in tags(cell)


def outcome(outputs: Iterable[dict[str, Any]]) -> Outcome:
    """Returns what the outputs of a cell, in the notebook's own format, come to."""
    streams = {"stdout": "", "stderr": ""}
    result = error = None
    for output in outputs:
        if output["output_type"] == "stream":
            streams[output["name"]] += text(output["text"])
        elif output["output_type"] == "execute_result":
            result = text(output["data"]["text/plain"])
        elif output["output_type"] == "error":
            error = output["ename"]
    return sanitised(Outcome(**streams, result=result, error=error))


@cache
def _sanitisers() -> list[tuple[str, str]]:
    config = configparser.RawConfigParser()
    config.read(FOLDER / "sanitize.cfg", encoding="utf-8")
    return [(config[name]["regex"], config[name]["replace"]) for name in config.sections()]


def sanitised(given: Outcome) -> Outcome:
    """Returns an outcome without what differs from run to run, as nbval compares it."""
    return Outcome(
        sanitise(given.stdout),
        sanitise(given.stderr),
        None if given.result is None else sanitise(given.result),
        given.error,
    )


def sanitise(said: str) -> str:
    for pattern, replacement in _sanitisers():
        said = re.sub(pattern, replacement, said)
    return said
