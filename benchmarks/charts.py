"""The plots of a results file: which there are, and what of the results each shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import plots
from benchmarks.histogram import Histogram
from benchmarks.numbers import quartiles
from benchmarks.plots import Chart, Series

Said = Mapping[str, Any]
"""A results file."""


def middle(side: Said, what: str) -> float:
    """The median of a number over a side's runs."""
    values = sorted(float(run[what]) for run in side["runs"])
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def _ends(side: Said, what: str) -> tuple[float, float]:
    return quartiles([float(run[what]) for run in side["runs"]])


def sides_of(said: Said, group: str, name: str) -> dict[str, Said]:
    """The sides of a scenario by name; the group is that which starts so."""
    for scenario in said["scenarios"]:
        if scenario["group"].startswith(group) and scenario["name"] == name:
            return {side["name"]: side for side in scenario["sides"]}
    return {}


def _latency(title: str, sides: Mapping[str, Said], target: float | None = None) -> Chart | None:
    series = [
        Series(name, plots.tail_points(Histogram.from_json(side["latency"]).curve()), dashed=name == "floor")
        for name, side in sides.items()
    ]
    ticks = plots.tail_ticks()
    if not series:
        return None
    return Chart(title, "share of the answers that came sooner", "milliseconds", series, True, True, ticks, target)


def _open_chart(said: Said) -> Chart | None:
    sides: dict[str, Said] = {}
    for scenario in said["scenarios"]:
        if scenario["group"].startswith("Open loop"):
            for side in scenario["sides"]:
                suffix = ", 200 changes a second" if "changes a second" in scenario["name"] else ""
                if side["name"] != "floor" or not suffix:
                    sides[f"{side['name']}{suffix}"] = side
    return _latency("Latency in an open loop: 2,000 connections, 20,000 questions a second", sides)


def _closed_chart(said: Said) -> Chart | None:
    sides = {}
    for load in ("16 x 1", "256 x 1"):
        for name, side in sides_of(said, "CPU seconds by the floor", f"3 endpoints, {load}").items():
            sides[f"{name}, {load}"] = side
    return _latency("Latency in a closed loop, answers of 3 endpoints", sides)


def _hostile_chart(said: Said) -> Chart | None:
    group = next((each["group"] for each in said["scenarios"] if each["name"] == "hostile"), "-")
    return _latency(
        "Good callers' latency before, beside and after 17,000 hostile ones", sides_of(said, group, "hostile"), 20.0
    )


def _hostile_memory(said: Said) -> Chart | None:
    samples = said["more"].get("hostile", {}).get("memory_mib", [])
    points = [(float(second), float(mib)) for second, mib in enumerate(samples)]
    ticks = [(float(second), str(second)) for second in range(0, len(samples), 10)]
    title = "Memory while 17,000 hostile callers come and go"
    return Chart(title, "seconds", "MiB", [Series("service", points)], x_ticks=ticks) if points else None


def _cost_over(
    said: Said, group: str, fact: str, keep: Callable[[Said], bool], name: Callable[[Said, Said], str]
) -> list[Series]:
    found: dict[str, list[tuple[float, float, tuple[float, float]]]] = {}
    for scenario in said["scenarios"]:
        if scenario["group"].startswith(group) and fact in scenario["facts"] and keep(scenario["facts"]):
            for side in scenario["sides"]:
                point = (scenario["facts"][fact], middle(side, "per_million"), _ends(side, "per_million"))
                found.setdefault(name(scenario["facts"], side), []).append(point)
    return [
        Series(
            label,
            [(x, y) for x, y, _ in sorted(points)],
            [ends for _, _, ends in sorted(points)],
            label.startswith("floor"),
        )
        for label, points in found.items()
    ]


_COST: Final = "CPU seconds for a million answers"


def _connections_chart(said: Said) -> Chart | None:
    series = _cost_over(
        said,
        "All loads",
        "connections",
        lambda facts: facts["endpoints"] == 3,
        lambda facts, side: f"{side['name']}, {facts['outstanding']:.0f} outstanding",
    )
    title = "Cost against connections, answers of 3 endpoints"
    return Chart(title, "connections", _COST, series, log_x=True) if series else None


def _answers_chart(said: Said) -> Chart | None:
    series = _cost_over(
        said,
        "All loads",
        "endpoints",
        lambda facts: facts["connections"] == 16,
        lambda facts, side: f"{side['name']}, 16 x {facts['outstanding']:.0f}",
    )
    title = "Cost against the size of the answer, 16 connections"
    return Chart(title, "endpoints in the answer", _COST, series, log_x=True) if series else None


def _tables_chart(said: Said) -> Chart | None:
    points: dict[str, dict[float, tuple[float, tuple[float, float]]]] = {}
    for scenario in said["scenarios"]:
        if not scenario["group"].startswith("CPU seconds by those with a table"):
            continue
        name = "one object asked for" if scenario["facts"]["asked"] == 1 else "all objects in turn"
        big, small = scenario["sides"]
        for servers, side in ((scenario["facts"]["servers"], big), (1.0, small)):
            points.setdefault(name, {})[servers] = middle(side, "per_million"), _ends(side, "per_million")
    series = [
        Series(name, [(x, y) for x, (y, _) in sorted(each.items())], [ends for _, (_, ends) in sorted(each.items())])
        for name, each in points.items()
    ]
    return Chart("Cost against the size of the table, 16 x 1", "servers", _COST, series, log_x=True) if series else None


CHARTS: Final[dict[str, Callable[[Said], Chart | None]]] = {
    "latency-open-loop": _open_chart,
    "latency-closed-loop": _closed_chart,
    "latency-hostile": _hostile_chart,
    "memory-hostile": _hostile_memory,
    "cost-connections": _connections_chart,
    "cost-answer-size": _answers_chart,
    "cost-table-size": _tables_chart,
}


def write_plots(said: Said, folder: Path) -> list[Path]:
    """Every plot for which something was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, make in CHARTS.items():
        chart = make(said)
        if chart is not None:
            path = folder / f"{name}.svg"
            path.write_text(plots.svg(chart))
            written.append(path)
    return written
