"""What is made of measured numbers: percentiles, verdicts, histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.numbers import percentile

__all__ = ["Figure", "Histogram", "percentile", "svg", "table", "text_histogram"]

BARS: Final = 40
"""Columns of the longest bar of a histogram in text."""


@dataclass(frozen=True)
class Figure:
    """One number that was measured in several runs, and what it must not exceed (None: nothing)."""

    name: str
    unit: str
    runs: list[float]
    target: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Of the runs."""
        return percentile(self.runs, 50)

    @property
    def verdict(self) -> str:
        """met or missed where all runs say so."""
        if self.target is None:
            return ""
        within = sum(run <= self.target for run in self.runs)
        return "met" if within == len(self.runs) else "missed" if not within else "undecided"


@dataclass(frozen=True)
class Histogram:
    """Numbers in milliseconds, by name."""

    title: str
    series: dict[str, list[float]] = field(default_factory=dict)


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns."""
    head = f"{'':74} {'median':>9} {'lowest':>9} {'highest':>9} {'target':>9}"
    lines = [head, "-" * len(head)]
    for each in figures:
        target = "" if each.target is None else f"{each.target:.1f}"
        numbers = [f"{number:.2f}" for number in (each.median, min(each.runs), max(each.runs))]
        name = f"{each.name}, {each.unit}" if each.unit else each.name
        lines.append(f"{name:74} {numbers[0]:>9} {numbers[1]:>9} {numbers[2]:>9} {target:>9} {each.verdict}".rstrip())
        if each.note:
            lines.append(f"    {each.note}")
    return "\n".join(lines)


def bins(histogram: Histogram, count: int) -> list[tuple[float, float]]:
    """From and to of equal bins over all series but for the hundredth at each end."""
    everything = [value for values in histogram.series.values() for value in values]
    low, high = percentile(everything, 0.5), percentile(everything, 99.5)
    width = max((high - low) / count, 1e-6)
    return [(low + width * n, low + width * (n + 1)) for n in range(count)]


def counts(values: Sequence[float], edges: Sequence[tuple[float, float]]) -> list[int]:
    """How many fall into each bin; what lies outside falls into the first or last."""
    found = [0] * len(edges)
    low, width = edges[0][0], edges[0][1] - edges[0][0]
    for value in values:
        found[min(max(int((value - low) / width), 0), len(edges) - 1)] += 1
    return found


def text_histogram(histogram: Histogram, rows: int = 20) -> str:
    """Bars side by side, a row for each bin; the first and last hold what lies outside too."""
    edges = bins(histogram, rows)
    columns = {name: counts(values, edges) for name, values in histogram.series.items()}
    width = BARS if len(columns) == 1 else BARS // 2 + 6
    most = max(max(column) for column in columns.values())
    lines = [histogram.title, " " * 19 + "".join(f"{name[:width]:{width + 7}}" for name in columns)]
    for row, (low, high) in enumerate(edges):
        bars = []
        for column in columns.values():
            bar = "#" * math.ceil(column[row] * width / most)
            bars.append(f"{column[row]:5d} {bar:{width}}")
        lines.append(f"{low:6.2f}..{high:6.2f} ms " + " ".join(bars).rstrip())
    return "\n".join(lines)


_COLOURS: Final = ("#4477aa", "#ee6677", "#228833", "#ccbb44")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760, 240, 50, 34, 34


def svg(histograms: Sequence[Histogram]) -> str:
    """The histograms one below the other as a picture."""
    total = (_HEIGHT + _TOP + _BOTTOM) * len(histograms)
    size = f'width="{_WIDTH + 2 * _LEFT}" height="{total}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, histogram in enumerate(histograms):
        parts.append(_draw(histogram, (_HEIGHT + _TOP + _BOTTOM) * number + _TOP))
    return "\n".join([*parts, "</svg>", ""])


def _draw(histogram: Histogram, top: int) -> str:
    edges = bins(histogram, 80)
    columns = {name: counts(values, edges) for name, values in histogram.series.items()}
    most = max(max(column) for column in columns.values())
    bottom, step = top + _HEIGHT, _WIDTH / len(edges)
    parts = [f'<text x="{_LEFT}" y="{top - 14}" font-weight="bold">{histogram.title}</text>']
    for colour, (name, column) in zip(_COLOURS, columns.items(), strict=False):
        points = [f"{_LEFT},{bottom}"]
        for row, count in enumerate(column):
            y = bottom - count * _HEIGHT / most
            points += [f"{_LEFT + row * step:.1f},{y:.1f}", f"{_LEFT + (row + 1) * step:.1f},{y:.1f}"]
        points.append(f"{_LEFT + _WIDTH},{bottom}")
        parts.append(f'<polyline points="{" ".join(points)}" fill="{colour}" fill-opacity="0.3" stroke="{colour}"/>')
        at = top + 14 + 16 * list(columns).index(name)
        values = histogram.series[name]
        said = f"{name}: p50 {percentile(values, 50):.2f}, p99 {percentile(values, 99):.2f} ms (n = {len(values)})"
        parts.append(f'<text x="{_LEFT + _WIDTH}" y="{at}" text-anchor="end" fill="{colour}">{said}</text>')
    for tick in range(0, len(edges) + 1, 10):
        value = edges[0][0] + tick * (edges[0][1] - edges[0][0])
        x = _LEFT + tick * step
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.1f}</text>')
    parts.append(f'<text x="{_LEFT + _WIDTH}" y="{bottom + 30}" text-anchor="end">ms</text>')
    return "\n".join(parts)
