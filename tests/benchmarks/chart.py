"""The chart: our share of the peer's figure, row by row, as an SVG that also reads in the dark."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

from tests.benchmarks.measuring import Bar, Row
from tests.benchmarks.report import amount, digits
from tests.benchmarks.results import Results

WIDTH, LINE, TOP = 1_200, 20, 104
LABEL, DATABASE, PLOT, FIGURES = 16, 400, 480, 780
PLOT_WIDTH = 270
LOWEST, HIGHEST = 1 / 128, 8.0
"""The ends of the scale, as shares of the peer's cost; what lies beyond ends there."""

TICKS = ((1 / 100, "1 %"), (1 / 10, "10 %"), (1.0, "the peer"), (4.0, "400 %"))

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; }
  .quiet { fill: #656d76; }
  .head { font-weight: 600; }
  .number { font-variant-numeric: tabular-nums; }
  .ground { fill: #ffffff; }
  .grid { stroke: #d8dee4; }
  .peer { stroke: #1f2328; }
  .met { fill: #2da44e; }
  .missed { fill: #d4622a; }
  .bar { stroke: #1f2328; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .quiet { fill: #8d96a0; }
    .ground { fill: #0d1117; }
    .grid { stroke: #30363d; }
    .peer, .bar { stroke: #e6edf3; }
    .met { fill: #3fb950; }
    .missed { fill: #f0883e; }
  }
"""


def draw(results: Results) -> str:
    """Draw the rows that have both a peer and a bar."""
    rows = [row for row in results.rows if _is_drawn(row)]
    groups = list(dict.fromkeys(row.workload for row in rows))
    height = TOP + LINE * len(rows) + 10 * len(groups) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Measurements of langgraph-session-saver beside its peers</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        *_heading(results.about, rows),
        *_grid(height),
    ]
    y = float(TOP)
    for group in groups:
        for row in (row for row in rows if row.workload == group):
            parts += _line(row, y)
            y += LINE
        y += 10
    return "\n".join([*parts, "</svg>"]) + "\n"


def _is_drawn(row: Row) -> bool:
    return row.bar is not None and row.ratio is not None and row.unit in {"ms", "MB", "steps/s"}


def cost(row: Row) -> float:
    """Our cost as a share of the peer's: of a rate, the inverse."""
    ratio = row.ratio or 1.0
    return 1 / ratio if row.unit == "steps/s" else ratio


def machine(about: dict[str, Any]) -> str:
    """What it was measured on, in a line."""
    databases = ", ".join(f"{kind} {version}" for kind, version in about["databases"].items())
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']}; "
        f"{about['disk']}, fdatasync {about['fdatasync_us']} µs; "
        f"Python {about['python']}, {databases}"
    )


def _heading(about: dict[str, Any], rows: list[Row]) -> Iterator[str]:
    days = sorted({row.measured_on for row in rows})
    when = " to ".join(dict.fromkeys(days[:1] + days[-1:]))
    yield _text(LABEL, 30, "langgraph-session-saver beside its peers", "title")
    yield _text(LABEL, 50, f"{machine(about)}; {when}" if about else "", "quiet")
    yield _text(
        LABEL, 67,
        "Cost as a share of the peer's, on a logarithmic scale: to the left is better. "
        "The upright stroke on a line is the bar it has to reach.",
        "quiet",
    )  # fmt: skip
    yield _text(FIGURES, TOP - 14, "ratio: ours, the peer's", "quiet")


def _grid(height: float) -> Iterator[str]:
    for share, name in TICKS:
        kind = "peer" if share == 1 else "grid"
        x = _x(share)
        yield f'<path class="{kind}" d="M{x:.1f} {TOP - 8}V{height - 24}"/>'
        yield _text(x, TOP - 14, name, "quiet", anchor="middle")


def _line(row: Row, y: float) -> Iterator[str]:
    middle, share = y + LINE / 2, cost(row)
    left, right = sorted((_x(share), _x(1.0)))
    colour = "met" if row.is_met else "missed"
    yield _text(LABEL, middle + 4, _label(row))
    yield _text(DATABASE, middle + 4, row.database, "quiet")
    yield (
        f'<rect class="{colour}" x="{left:.1f}" y="{y + 4:.1f}" '
        f'width="{max(right - left, 1):.1f}" height="{LINE - 8}" rx="2"/>'
    )
    if row.bar and row.bar.of == "ratio":
        x = _x(_limit(row.bar))
        yield f'<path class="bar" d="M{x:.1f} {y + 2:.1f}V{y + LINE - 2:.1f}"/>'
    yield _text(FIGURES, middle + 4, digits(row.ratio or 0), "head number")
    yield _text(FIGURES + 66, middle + 4, _figures(row), "quiet number")


def _limit(bar: Bar) -> float:
    return 1 / bar.limit if bar.at_least else bar.limit


def _label(row: Row) -> str:
    """What was measured, and which of our savers where there are several."""
    variant = row.ours.partition(", ")[2]
    shown = variant and variant != "async" and variant not in row.what
    return f"{row.what}, {variant}" if shown else row.what


def _figures(row: Row) -> str:
    beside = amount(row.peer_value, row.unit) if row.peer_value else ""
    return f"{amount(row.value, row.unit)}, {row.peer} {beside}"


def _x(share: float) -> float:
    inside = min(max(share, LOWEST), HIGHEST)
    return PLOT + PLOT_WIDTH * math.log(inside / LOWEST) / math.log(HIGHEST / LOWEST)


def _text(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    attributes = f' class="{kind}"' if kind else ""
    if anchor != "start":
        attributes += f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(said, quote=False)}</text>'
