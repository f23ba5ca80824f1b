"""The vectors recorded from Twisted: ``tests/vectors``, in the notation of its ``FORMAT.md``."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent.parent / "vectors"

# What JSON readers other than Python's keep exact.
_EXACT = 2**53
_LONGEST_STRING = 4096
_DEEPEST = 60


@dataclass(frozen=True)
class SomeBytes:
    """A byte string of which the vectors keep the length and the beginning only."""

    length: int
    first: bytes = b""

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bytes):
            return len(other) == self.length and other.startswith(self.first)
        if isinstance(other, SomeBytes):
            return self.length == other.length and self.first == other.first
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.length)


class Deeper:
    """Stands for lists that the vectors cut off; equal to any list."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (list, Deeper))

    def __hash__(self) -> int:
        return 0


@functools.cache
def load(name: str) -> Any:
    """Returns one file of vectors, which the caller must not change.

    Args:
        name: Its path below ``tests/vectors``, without ``.json``: ``"banana"`` or
            ``"sessions/raw"``.
    """
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def session_names() -> list[str]:
    """Returns the recorded sessions, such as ``"pb1.py3-server_py2-client"``."""
    folder = VECTORS / "sessions"
    return sorted(path.stem for path in folder.glob("*.json") if path.stem != "raw")


def from_json(expr: Any) -> Any:
    """Returns the tree that an s-expression of the vectors stands for.

    Byte strings come as `bytes`; those whose contents were left out as `SomeBytes`, lists that
    were cut off as `Deeper`. ``text`` and ``bool``, which no decoder makes, come as they are.
    """
    if isinstance(expr, list):
        return [from_json(item) for item in expr]
    if isinstance(expr, str):
        return expr.encode("ascii")
    if not isinstance(expr, dict):
        return expr
    if "bytes" in expr:
        return bytes.fromhex(expr["bytes"])
    if "int" in expr:
        return int(expr["int"])
    if "float" in expr:
        return float(expr["float"])
    if "repeat" in expr:
        return bytes.fromhex(expr["repeat"]) * expr["bytes_length"]
    if "bytes_length" in expr:
        return SomeBytes(expr["bytes_length"], bytes.fromhex(expr.get("first", "")))
    if "deeper" in expr:
        return Deeper()
    (value,) = expr.values()
    return value


def to_json(tree: Any, depth: int = 0) -> Any:
    """Returns the s-expression that the vectors write for a tree."""
    if isinstance(tree, (list, tuple)):
        if depth >= _DEEPEST:
            return {"deeper": True}
        return [to_json(item, depth + 1) for item in tree]
    if isinstance(tree, bytes):
        if len(tree) > _LONGEST_STRING:
            return {"bytes_length": len(tree), "first": tree[:16].hex()}
        if all(32 <= byte < 127 or byte in b"\t\n" for byte in tree):
            return tree.decode("ascii")
        return {"bytes": tree.hex()}
    if isinstance(tree, bool):
        return {"bool": tree}
    if isinstance(tree, int):
        return tree if abs(tree) < _EXACT else {"int": str(tree)}
    if isinstance(tree, float):
        return {"float": repr(tree)}
    if isinstance(tree, str):
        return {"text": tree}
    raise TypeError(f"the vectors have no {type(tree).__name__}")
