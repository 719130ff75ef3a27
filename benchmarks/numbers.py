"""What is made of measured numbers: medians, their spread, and whether a target is reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Verdict = Literal["met", "missed", "undecided", ""]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Between which the middle half of them lies."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def verdict(values: Sequence[float], target: float | None, control: Sequence[float] = ()) -> Verdict:
    """Whether the median of runs is at most a target: undecided where their spread exceeds the margin to it.

    The spread is the distance of the quartiles; the margin that of median and target. ``control`` is what the floor
    took in the same moments: where that is above the target too, the machine is what missed it, and nothing is decided.
    """
    if target is None or not values:
        return ""
    middle = statistics.median(values)
    low, high = quartiles(values)
    if high - low > abs(target - middle):
        return "undecided"
    if middle <= target:
        return "met"
    return "undecided" if control and statistics.median(control) > target else "missed"


@dataclass(frozen=True)
class Figure:
    """One number that was measured in several runs, and what its median must not exceed (None: nothing).

    ``group`` is the heading under which it is shown; ``notes`` are what a reader must know before believing it.
    """

    group: str
    name: str
    unit: str
    runs: list[float]
    target: float | None = None
    notes: list[str] = field(default_factory=list)
    control: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.runs)

    @property
    def verdict(self) -> Verdict:
        """See :func:`verdict`."""
        return verdict(self.runs, self.target, self.control)

    def to_json(self) -> dict[str, Any]:
        """With what is derived, for readers."""
        low, high = quartiles(self.runs)
        derived = {"median": self.median, "quartiles": [low, high], "verdict": self.verdict}
        return vars(self) | derived

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Figure:
        """From what :meth:`to_json` gave."""
        return cls(
            said["group"], said["name"], said["unit"], said["runs"], said["target"], said["notes"], said["control"]
        )


WIDTH: Final = 62


def text_table(figures: Sequence[Figure]) -> str:
    """The figures in columns, under their headings."""
    lines: list[str] = []
    group = ""
    for each in figures:
        if each.group != group:
            group = each.group
            head = f"{group:{WIDTH}} {'median':>9} {'quartiles':>19} {'runs':>4} {'target':>7}"
            lines += ["", head, "-" * len(head)]
        low, high = quartiles(each.runs)
        target = "" if each.target is None else number(each.target)
        name = f"{each.name}, {each.unit}" if each.unit else each.name
        spread = f"{number(low)} .. {number(high)}"
        line = f"{name:{WIDTH}} {number(each.median):>9} {spread:>19} {len(each.runs):4} {target:>7} {each.verdict}"
        lines.append(line.rstrip())
        lines += [f"    {note}" for note in each.notes]
    return "\n".join(lines[1:])


def number(value: float) -> str:
    """Three digits that count."""
    if value and abs(value) < 0.01:
        return f"{value:.4f}"
    if abs(value) < 100:
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:,.0f}"
