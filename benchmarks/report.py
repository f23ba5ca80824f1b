"""What a run found: as JSON, and as tables of text and of Markdown."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .measure import Measured
from .workloads import WORKLOADS, Case

__all__ = ["Results", "Row", "machine", "markdown", "text"]

FLOOR, TWISTED = "floor", "twisted"
TITLES = {FLOOR: "floor", TWISTED: "Twisted"}
LIBRARIES = ("pbnb", "twisted", "numpy", "msgspec", "uvloop")
# Of a figure that is not a rate less is better.
MORE = {
    "p50_us": ("half of them within", "µs"),
    "p99_us": ("99 of 100 within", "µs"),
    "server_bytes": ("the server's memory for each", "bytes"),
    "client_bytes": ("the client's memory for each", "bytes"),
}
LATENCIES = ("p50_us", "p99_us")
BUSY = 0.5


@dataclass
class Results:
    """All that a run measured.

    Attributes:
        machine: Where it ran; see `machine`.
        peers: Who was measured.
        found: What each round measured, by case and peer; or why it could not be measured.
    """

    machine: dict[str, Any]
    peers: list[str]
    found: dict[str, dict[str, list[Measured] | str]] = field(default_factory=dict)

    def add(self, case: Case, peer: str, measured: Measured) -> None:
        """Adds what one round measured."""
        rounds = self.found.setdefault(str(case), {}).setdefault(peer, [])
        assert isinstance(rounds, list)
        rounds.append(measured)

    def refuse(self, case: Case, peer: str, why: str) -> None:
        """Notes why a peer cannot be measured."""
        self.found.setdefault(str(case), {})[peer] = why

    def refused(self, case: Case, peer: str) -> bool:
        """Returns whether a peer could not be measured before."""
        return isinstance(self.found.get(str(case), {}).get(peer), str)

    def as_json(self) -> dict[str, Any]:
        """Returns everything as JSON has it, the ratios of the tables included."""
        return {
            "machine": self.machine,
            "peers": self.peers,
            "table": [row.as_json() for row in self.rows()],
            "found": {
                case: {
                    peer: rounds if isinstance(rounds, str) else [asdict(each) for each in rounds]
                    for peer, rounds in peers.items()
                }
                for case, peers in self.found.items()
            },
        }

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Results:
        """Returns what `as_json` was made of."""
        found = {
            case: {
                peer: rounds if isinstance(rounds, str) else [Measured(**each) for each in rounds]
                for peer, rounds in peers.items()
            }
            for case, peers in said["found"].items()
        }
        return cls(said["machine"], said["peers"], found)

    def rows(self) -> list[Row]:
        """Returns the rows of the tables."""
        return [
            row
            for workload in WORKLOADS.values()
            for value in workload.cases
            for row in self._rows_of(Case(workload, value))
        ]

    def _rows_of(self, case: Case) -> Iterable[Row]:
        if str(case) not in self.found:
            return
        found = self.found[str(case)]
        size = case.value / 1e6 if case.workload.unit == "MB" else 1.0
        figures = {
            peer: [each.rate * size for each in rounds]
            for peer, rounds in found.items()
            if not isinstance(rounds, str)
        }
        why = {peer: rounds for peer, rounds in found.items() if isinstance(rounds, str)}
        yield Row(case, "rate", case.row, f"{case.workload.unit}/s", figures, why)
        for figure, (title, unit) in MORE.items():
            if figure in LATENCIES and not case.workload.latency:
                continue
            figures = {
                peer: [each.more[figure] for each in rounds if figure in each.more]
                for peer, rounds in found.items()
                if not isinstance(rounds, str)
            }
            if any(figures.values()):
                yield Row(case, figure, f"· {title}", unit, figures, {})


@dataclass(frozen=True)
class Row:
    """One figure of one case, for every peer.

    Attributes:
        case: The case.
        figure: ``rate``, or the name of one of the others that were measured.
        title: What it is called.
        unit: What it counts.
        figures: What each round found, by peer.
        why: Why there is none, by peer.
    """

    case: Case
    figure: str
    title: str
    unit: str
    figures: dict[str, list[float]]
    why: dict[str, str]

    def median(self, peer: str) -> float | None:
        """Returns the median of a peer's rounds, or None where there are none."""
        rounds = self.figures.get(peer)
        return statistics.median(rounds) if rounds else None

    def ratio(self, peer: str, other: str) -> float | None:
        """Returns the median of what a peer is of another in the same round."""
        rounds = list(zip(self.figures.get(peer, ()), self.figures.get(other, ()), strict=False))
        return statistics.median(one / two for one, two in rounds) if rounds else None

    def as_json(self) -> dict[str, Any]:
        """Returns the medians and the ratios."""
        peers = {
            peer: {
                "median": self.median(peer),
                "of_floor": self.ratio(peer, FLOOR),
                "of_twisted": self.ratio(peer, TWISTED),
            }
            for peer in self.figures
        }
        names = {"case": str(self.case), "figure": self.figure, "title": self.title}
        return {**names, "unit": self.unit, "peers": peers}


def machine() -> dict[str, Any]:
    """Returns the facts of this machine: its Python, its processors and how busy they are."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def _processor() -> str:
    # platform.processor() is empty on most kinds of Linux.
    known = Path("/proc/cpuinfo")
    if known.exists():
        for line in known.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def title(peer: str) -> str:
    """Returns what a peer is called in tables and in the chart."""
    kind, _, dialect = peer.partition(":")
    return TITLES.get(peer, f"{kind} ({dialect})")


def number(value: float | None, ratio: bool = False) -> str:
    """Returns a figure with about three digits."""
    if value is None:
        return "–"
    mark = "×" if ratio else ""
    return f"{mark}{value:,.0f}" if value >= 100 else f"{mark}{value:.3g}"


def _others(peer: str, peers: Sequence[str]) -> list[str]:
    if peer == FLOOR:
        return []
    return [other for other in (FLOOR, TWISTED) if other in peers and other != peer]


def grid(results: Results) -> list[list[str]]:
    """Returns the table as rows of cells, its head first."""
    head = ["", ""]
    for peer in results.peers:
        head += [title(peer), *(f"×{title(other)}" for other in _others(peer, results.peers))]
    lines = [head]
    for row in results.rows():
        line = [row.title, row.unit]
        for peer in results.peers:
            line.append(number(row.median(peer)))
            others = _others(peer, results.peers)
            line += [number(row.ratio(peer, other), ratio=True) for other in others]
        lines.append(line)
    return lines


def notes(results: Results) -> list[str]:
    """Returns what is to be said below the table, a sentence for each line."""
    about = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rounds = max((len(each) for row in results.rows() for each in row.figures.values()), default=0)
    found = [
        f"{about['python']} on {about['system']}, {about['processors']} processors "
        f"({about['processor']}); {versions}.",
        f"Medians over {rounds} rounds; × is the median of each round's ratio. "
        "Of microseconds and bytes less is better.",
    ]
    load = about["load"] or 0.0
    if load > BUSY * (about["processors"] or 1):
        found.append(
            f"The machine had a load of {load:.1f} before anything was measured: "
            "trust the ratios at most."
        )
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in results.rows():
        for peer, why in row.why.items():
            reasons.setdefault((peer, why), []).append(row.title)
    for (peer, why), titles in reasons.items():
        found.append(f"{title(peer)}, {', '.join(titles)}: {why}")
    return found


def text(results: Results) -> str:
    """Returns the table for a terminal."""
    lines = grid(results)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    shown.insert(1, "─" * max(map(len, shown)))
    return "\n".join([*shown, "", *notes(results)])


def markdown(results: Results) -> str:
    """Returns the table for a README."""
    head, *lines = grid(results)
    ruler = ["---" if column < 2 else "---:" for column in range(len(head))]
    table = [f"| {' | '.join(line)} |" for line in (head, ruler, *lines)]
    return "\n\n".join(["\n".join(table), *notes(results)])
