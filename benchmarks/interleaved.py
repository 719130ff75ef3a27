"""Runs of two servers in turn, and what they cost compared with each other.

Each pair of runs is of the same moments: what the machine does beside them meets both.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.histogram import Histogram
from benchmarks.load import Outcome
from benchmarks.numbers import Figure
from benchmarks.servers import LOAD_CPU, Server, WrongAnswer

OTHERS: float = 0.3
"""Processors that others may keep busy before it is said."""

LATE_SHARE: float = 0.25
"""Of the latency at p99 that the generator's own lateness may be before it is said."""


@dataclass(frozen=True)
class Side:
    """A server and what it is asked."""

    server: Server
    plan: Path
    label: str = ""

    @property
    def name(self) -> str:
        """Of this side."""
        return self.label or self.server.name


@dataclass(frozen=True)
class Load:
    """How it is asked: ``connections`` with ``outstanding`` questions each, or ``rate`` questions a second in all."""

    connections: int
    outstanding: int = 1
    rate: float = 0.0
    reconnect_after: int = 0

    def __str__(self) -> str:
        if self.rate:
            return f"{self.connections:,} connections, {self.rate:,.0f}/s"
        again = f", new after {self.reconnect_after}" if self.reconnect_after else ""
        return f"{self.connections:,} x {self.outstanding}{again}"

    def options(self) -> dict[str, object]:
        """For the generator."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass
class Runs:
    """The outcomes of one side in one scenario."""

    name: str
    outcomes: list[Outcome] = field(default_factory=list)
    memory_kib: list[int] = field(default_factory=list)

    def median(self, what: str) -> float:
        """Of a number of :meth:`Outcome.summary`."""
        return statistics.median(self.each(what))

    def each(self, what: str) -> list[float]:
        """A number of :meth:`Outcome.summary`, of each run."""
        return [float(outcome.summary()[what]) for outcome in self.outcomes]

    @property
    def latency(self) -> Histogram:
        """Of all runs together."""
        return Histogram.merged(outcome.latency for outcome in self.outcomes)

    def notes(self) -> list[str]:
        """What a reader must know before believing the numbers."""
        found = []
        if (share := self.median("load_share")) > load.BOTTLENECK:
            found.append(f"{self.name}: the load generator was the bottleneck ({share:.0%} of a processor)")
        if (others := self.median("others_share")) > OTHERS:
            found.append(f"{self.name}: others kept {others:.1f} processors busy meanwhile")
        late, p99 = self.median("late_p99_ms"), self.median("p99_ms")
        if late > LATE_SHARE * p99:
            found.append(f"{self.name}: the generator itself was {late:.2f} ms late at p99")
        for what in ("unanswered", "lost"):
            if total := sum(self.each(what)):
                found.append(f"{self.name}: {total:.0f} {what}")
        return found

    def to_json(self) -> dict[str, Any]:
        """All runs, and the histogram of them together."""
        return {
            "name": self.name,
            "memory_kib": self.memory_kib,
            "runs": [outcome.summary() for outcome in self.outcomes],
            "latency": self.latency.to_json(),
        }


@dataclass
class Scenario:
    """Sides that were measured in turn with one load. The first is compared with the second, if there is one."""

    group: str
    name: str
    sides: list[Runs]
    target: float | None = None
    facts: dict[str, float] = field(default_factory=dict)
    """What plots are made over: endpoints, servers, connections, outstanding."""

    def ratios(self, what: str = "per_million") -> list[float]:
        """The first side's number by the second's, run by run."""
        first, second = (side.each(what) for side in self.sides[:2])
        return [a / b for a, b in zip(first, second, strict=True)]

    def notes(self) -> list[str]:
        """Of all sides."""
        return [note for side in self.sides for note in side.notes()]

    def figure(self) -> Figure:
        """The comparison."""
        one, other = self.sides[:2]
        said = (
            f"{one.name} {one.median('per_million'):.2f}, {other.name} {other.median('per_million'):.2f} CPU s/million"
        )
        return Figure(self.group, self.name, "", self.ratios(), self.target, [said, *self.notes()])

    def to_json(self) -> dict[str, Any]:
        """All there is."""
        return {
            "group": self.group,
            "name": self.name,
            "facts": self.facts,
            "target": self.target,
            "sides": [side.to_json() for side in self.sides],
        }


def one(command: list[str], side: Side, how: Load, **options: object) -> Outcome:
    """One run. Raises WrongAnswer where an answer was wrong."""
    found = load.run(
        command,
        side.plan,
        side.server.port,
        pid=side.server.pid,
        cpu=LOAD_CPU,
        host=side.server.host,
        **how.options(),
        **options,
    )
    if found.wrong:
        raise WrongAnswer(
            f"{side.name}: {found.wrong} of {found.answered} answers were wrong, first {found.first_wrong}"
        )
    return found


def alternate(
    command: list[str], sides: list[Side], how: Load, pairs: int, *, slices: int = 1, **options: object
) -> list[Runs]:
    """So many runs of each side, in turn; every other time in the other order. ``options`` are those of a slice.

    Where a run is made of several slices, it is these that are made in turn. What changes from second to second, as on
    a machine that others use too, then meets both sides alike.
    """
    runs = [Runs(side.name) for side in sides]
    for number in range(pairs):
        made: list[list[Outcome]] = [[] for _ in sides]
        for part in range(slices):
            order = list(zip(sides, made, strict=True))
            for side, kept in order if (number + part) % 2 == 0 else reversed(order):
                kept.append(one(command, side, how, **options))
        for side, run, kept in zip(sides, runs, made, strict=True):
            run.outcomes.append(Outcome.of_slices(kept))
            if side.server.pid:
                run.memory_kib.append(side.server.memory_kib())
    return runs
