"""The chart: what a call costs, against how much there is of what makes it cost more.

Plain SVG, so that it needs no library, stays text, and follows the reader's light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .report import Results, title
from .workloads import readable

__all__ = ["chart"]

WIDTH, HEIGHT = 860, 640
# Around all panels, between them, and what the axes' numbers take within each.
TOP, SIDE, GAP = 84, 18, 26
LEFT, BELOW, ABOVE = 58, 40, 26
PANELS = ("calls in flight", "connections", "payload", "references")
HEADS = {
    "calls in flight": "Calls in flight on one connection",
    "connections": "Connections, a call in flight on each",
    "payload": "Payload: bytes, and from 8 MiB on arrays",
    "references": "References borrowed over one connection",
}
# The floor is what everything stands on: grey. Who is measured is told apart by shape as well.
LIGHT = ("#6e7781", "#c4600a", "#0b62c4", "#0f8a5f", "#8250df")
DARK = ("#8b949e", "#f0883e", "#58a6ff", "#3fb950", "#bc8cff")
SHAPES = ("circle", "square", "circle", "diamond", "square")

Points = list[tuple[float, float]]


def chart(results: Results) -> str:
    """Returns the chart as the text of an SVG file.

    Args:
        results: What a run found. Panels without anything in them are left empty.
    """
    svg = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=str(WIDTH),
        height=str(HEIGHT),
        role="img",
    )
    SubElement(svg, "title").text = "The cost of a call"
    SubElement(svg, "style").text = _style()
    _add(svg, "rect", "back", width=WIDTH, height=HEIGHT)
    _text(svg, SIDE, 28, "The cost of a call, less is better", "head")
    _text(svg, SIDE, 46, "microseconds for each call or reference; both axes are logarithmic")
    _legend(svg, results.peers)
    width = (WIDTH - 2 * SIDE - GAP) / 2
    height = (HEIGHT - TOP - SIDE - GAP) / 2
    for number, axis in enumerate(PANELS):
        x = SIDE + (number % 2) * (width + GAP)
        y = TOP + (number // 2) * (height + GAP)
        lines = {peer: line for peer in results.peers if (line := costs(results, axis, peer))}
        _Panel(svg, x, y, width, height, axis).draw(lines, results.peers)
    indent(svg)
    return tostring(svg, encoding="unicode")


def costs(results: Results, axis: str, peer: str) -> Points:
    """Returns the points of a peer's line: how much there is, and microseconds for each call."""
    found: Points = []
    for row in results.rows():
        if row.case.workload.axis == axis and row.figure == "rate":
            rate = row.median(peer)
            if rate:
                size = row.case.value / 1e6 if row.case.workload.unit == "MB" else 1.0
                found.append((float(row.case.value), 1e6 * size / rate))
    return sorted(found)


class _Panel:
    """One of the four: a frame, a logarithmic scale on each axis, and the lines."""

    def __init__(
        self, svg: Element, x: float, y: float, width: float, height: float, axis: str
    ) -> None:
        self._svg, self._axis = svg, axis
        self._left, self._right = x + LEFT, x + width - 8
        self._top, self._bottom = y + ABOVE, y + height - BELOW + 14

    def draw(self, lines: dict[str, Points], peers: Sequence[str]) -> None:
        """Draws the lines of the peers that have one."""
        _text(self._svg, self._left, self._top - 10, HEADS[self._axis], "panel")
        points = [point for line in lines.values() for point in line]
        if not points:
            _text(self._svg, self._left, self._top + 20, "not measured")
            return
        across, up = zip(*points, strict=True)
        self._x = _scale(min(across), max(across), self._left + 8, self._right - 8)
        low, high = _decades(up)
        self._y = _scale(low, high, self._bottom, self._top)
        self._draw_axes(sorted(set(across)), low, high)
        for peer, line in lines.items():
            kind = peers.index(peer) % len(SHAPES)
            path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in line)
            _add(self._svg, "polyline", f"line s{kind}", points=path)
            for x, y in line:
                mark = _mark(self._svg, kind, self._x(x), self._y(y))
                SubElement(
                    mark, "title"
                ).text = f"{title(peer)}, {_amount(self._axis, x)}: {_duration(y)}"

    def _draw_axes(self, across: Iterable[float], low: float, high: float) -> None:
        decade = low
        while decade <= high * 1.01:
            y = self._y(decade)
            _add(self._svg, "line", "grid", x1=self._left, x2=self._right, y1=y, y2=y)
            _text(self._svg, self._left - 8, y + 4, _duration(decade), "tick end")
            decade *= 10
        last = -math.inf
        for amount in across:
            x = self._x(amount)
            _add(self._svg, "line", "tick", x1=x, x2=x, y1=self._bottom, y2=self._bottom + 4)
            # Where two would stand in each other, the mark is enough.
            if x - last > 40:
                _text(self._svg, x, self._bottom + 18, _amount(self._axis, amount), "tick middle")
                last = x


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Returns what puts a value on a logarithmic axis."""
    if low == high:
        low, high = low / 2, high * 2
    first, span = math.log(low), math.log(high / low)
    return lambda value: start + (end - start) * (math.log(value) - first) / span


def _decades(values: Iterable[float]) -> tuple[float, float]:
    logarithms = [math.log10(value) for value in values]
    low, high = math.floor(min(logarithms)), math.ceil(max(logarithms))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _duration(microseconds: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"


def _amount(axis: str, value: float) -> str:
    return readable(int(value)) if axis == "payload" else f"{value:,.0f}"


def _legend(svg: Element, peers: Sequence[str]) -> None:
    x = float(SIDE + LEFT)
    for number, peer in enumerate(peers):
        kind = number % len(SHAPES)
        _add(svg, "line", f"line s{kind}", x1=x, x2=x + 26, y1=66, y2=66)
        _mark(svg, kind, x + 13, 66)
        _text(svg, x + 34, 70, title(peer))
        x += 62 + 7.5 * len(title(peer))


def _mark(svg: Element, kind: int, x: float, y: float) -> Element:
    match SHAPES[kind]:
        case "circle":
            return _add(svg, "circle", f"mark s{kind}", cx=x, cy=y, r=4)
        case "square":
            return _add(svg, "rect", f"mark s{kind}", x=x - 3.5, y=y - 3.5, width=7, height=7)
    corners = f"{x:.1f},{y - 5:.1f} {x + 5:.1f},{y:.1f} {x:.1f},{y + 5:.1f} {x - 5:.1f},{y:.1f}"
    return _add(svg, "polygon", f"mark s{kind}", points=corners)


def _add(svg: Element, tag: str, kind: str, **attributes: float | str) -> Element:
    shown = {
        name: value if isinstance(value, str) else f"{value:.1f}"
        for name, value in attributes.items()
    }
    return SubElement(svg, tag, {"class": kind, **shown})


def _text(svg: Element, x: float, y: float, text: str, kind: str = "text") -> None:
    _add(svg, "text", kind, x=x, y=y).text = text


def _style() -> str:
    def colours(colours: Sequence[str]) -> str:
        return "".join(
            f".line.s{kind}{{stroke:{colour}}}.mark.s{kind}{{fill:{colour}}}"
            for kind, colour in enumerate(colours)
        )

    return (
        "text{font:12px system-ui,sans-serif;fill:#57606a}"
        ".head{font-size:16px;font-weight:600;fill:#1f2328}"
        ".panel{font-size:13px;font-weight:600;fill:#1f2328}"
        ".tick{font-size:11px;stroke-width:1}.end{text-anchor:end}.middle{text-anchor:middle}"
        "line.tick{stroke:#8c959f}text.tick{stroke:none}"
        ".back{fill:#fff}.grid{stroke:#d8dee4;stroke-width:1}"
        ".line{fill:none;stroke-width:2}.mark{stroke:#fff;stroke-width:1}"
        f"{colours(LIGHT)}"
        "@media(prefers-color-scheme:dark){text{fill:#9198a1}.head,.panel{fill:#f0f6fc}"
        f".back{{fill:#0d1117}}.grid{{stroke:#30363d}}.mark{{stroke:#0d1117}}{colours(DARK)}}}"
    )
