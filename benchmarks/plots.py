"""Line charts as SVG, with nothing but text: they show in a page and can be compared line by line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

COLOURS: Final = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 64, 16, 40, 46


@dataclass
class Series:
    """A line: points in order, each perhaps with the lower and upper end of its spread."""

    name: str
    points: list[tuple[float, float]]
    spread: list[tuple[float, float]] = field(default_factory=list)
    dashed: bool = False


@dataclass
class Chart:
    """Lines over one pair of axes. ``x_ticks`` are (value, text), by default the points' own values."""

    title: str
    x_label: str
    y_label: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    target: float | None = None
    """A line across: what must not be exceeded."""


def svg(chart: Chart) -> str:
    """The chart as a picture."""
    xs = [x for each in chart.series for x, _ in each.points]
    ys = [y for each in chart.series for _, y in each.points] + [
        y for each in chart.series for pair in each.spread for y in pair
    ]
    ys += [] if chart.target is None else [chart.target]
    if not xs:
        return ""
    x_at = _scale(min(xs), max(xs), LEFT, LEFT + WIDTH, chart.log_x)
    low = min(y for y in ys if y > 0) if chart.log_y else 0.0
    y_at = _scale(low, max(ys) * (1.3 if chart.log_y else 1.08), TOP + HEIGHT, TOP, chart.log_y)
    bottom = TOP + HEIGHT
    total = f'width="{LEFT + WIDTH + RIGHT}" height="{bottom + BOTTOM}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {total} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-weight="bold">{escape(chart.title)}</text>',
    ]
    for value in _ticks(low, max(ys), chart.log_y):
        y = y_at(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value, text in chart.x_ticks or [(x, f"{x:,.0f}") for x in sorted(set(xs))]:
        x = x_at(value)
        parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="black"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{LEFT + WIDTH}" y2="{bottom}" stroke="black"/>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{bottom + 36}" text-anchor="end">{escape(chart.x_label)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 6}" fill="#555555">{escape(chart.y_label)}</text>')
    if chart.target is not None:
        y = y_at(chart.target)
        parts.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}" stroke="#bb0000" stroke-dasharray="2 3"/>'
        )
        parts.append(
            f'<text x="{LEFT + WIDTH}" y="{y - 4:.1f}" text-anchor="end" fill="#bb0000">target {chart.target:g}</text>'
        )
    for number, each in enumerate(chart.series):
        parts += _line(each, COLOURS[number % len(COLOURS)], number, x_at, y_at)
    return "\n".join([*parts, "</svg>", ""])


def _line(
    series: Series, colour: str, number: int, x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> list[str]:
    points = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in series.points)
    dashes = ' stroke-dasharray="6 4"' if series.dashed else ""
    parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>']
    if len(series.points) <= 12:
        parts += [f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="2.6" fill="{colour}"/>' for x, y in series.points]
    for (x, _), (low, high) in zip(series.points, series.spread, strict=False):
        ends = f'x1="{x_at(x):.1f}" y1="{y_at(low):.1f}" x2="{x_at(x):.1f}" y2="{y_at(high):.1f}"'
        parts.append(f'<line {ends} stroke="{colour}" stroke-opacity="0.6"/>')
    at = TOP + 14 + 16 * number
    parts.append(f'<line x1="{LEFT + 10}" y1="{at - 4}" x2="{LEFT + 34}" y2="{at - 4}" stroke="{colour}"{dashes}/>')
    parts.append(f'<text x="{LEFT + 40}" y="{at}">{escape(series.name)}</text>')
    return parts


def _scale(low: float, high: float, start: float, end: float, log: bool) -> Callable[[float], float]:
    if log:
        low, high = math.log10(low), math.log10(high)
    width = high - low or 1.0

    def at(value: float) -> float:
        given = math.log10(max(value, 1e-12)) if log else value
        return min(max(start, end), max(min(start, end), start + (given - low) / width * (end - start)))

    return at


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = [m * 10.0**power for power in powers for m in ((1, 2, 5) if len(powers) < 4 else (1,))]
        return [each for each in every if low <= each <= high * 1.3]
    step = 10 ** math.floor(math.log10(max(high, 1e-9)))
    step = next(step * m for m in (0.1, 0.2, 0.5, 1.0, 2.0) if high / (step * m) <= 8)
    return [n * step for n in range(int(high / step) + 1)]


TAIL: Final = (50.0, 90.0, 99.0, 99.9, 99.99)


def tail_points(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A latency curve over 1 / (1 - share): each step to the right is ten times as rare."""
    points: list[tuple[float, float]] = []
    for share, value in curve:
        rarity = 100 / max(100 - share, 0.005)
        if rarity >= 1.25 and (not points or rarity > points[-1][0] * 1.02):
            points.append((rarity, max(value, 1e-4)))
    return points


def tail_ticks() -> list[tuple[float, str]]:
    """For :func:`tail_points`."""
    return [(100 / (100 - share), f"p{share:g}") for share in TAIL]
