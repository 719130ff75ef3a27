"""What a run of the harness found, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.interleaved import Scenario
from benchmarks.numbers import Figure


@dataclass
class Results:
    """Figures for a table, scenarios for plots, and what else was measured, by name."""

    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    scenarios: list[Scenario] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def add(
        self, group: str, name: str, unit: str, runs: list[float], target: float | None = None, *notes: str
    ) -> None:
        """A number, as measured in each run."""
        self.figures.append(Figure(group, name, unit, runs, target, [note for note in notes if note]))

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "machine": self.machine,
            "figures": [each.to_json() for each in self.figures],
            "scenarios": [each.to_json() for each in self.scenarios],
            "more": self.more,
        }

    def write(self, path: Path) -> None:
        """Write all of it to a file."""
        write_json(self.to_json(), path)


def write_json(said: Mapping[str, Any], path: Path) -> None:
    """Write it with one object a line, so that two of them can be compared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(key)}: {_value(value)}" for key, value in said.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _value(value: Any) -> str:
    short = json.JSONEncoder(separators=(",", ":")).encode
    if isinstance(value, list):
        return "[\n" + ",\n".join(short(_rounded(each)) for each in value) + "\n]"
    return short(_rounded(value))


def _rounded(value: Any) -> Any:
    """Six digits are more than was measured."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
