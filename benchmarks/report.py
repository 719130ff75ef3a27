"""What was measured, written up: the marked parts of docs/performance.md, and its plots.

The page's text is written by hand; what stands between ``<!-- measured: NAME -->`` and ``<!-- end -->`` is made here.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.charts import Said, middle, sides_of, write_plots
from benchmarks.machine import ROOT
from benchmarks.numbers import Figure, number, quartiles
from benchmarks.results import write_json

PAGE: Final = ROOT / "docs" / "performance.md"
FOLDER: Final = ROOT / "docs" / "performance"
KEPT: Final = "results.json"
_PART: Final = re.compile(r"(<!-- measured: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# ------------------------------------------------------------------------------------------------ text


def text_extras(more: Said) -> str:
    """What does not fit the table of figures, for a terminal."""
    lines: list[str] = []
    if "attribution" in more:
        lines += ["", "Where the time goes, microseconds", "-" * 40]
        for endpoints, parts in more["attribution"].items():
            lines += [f"{endpoints:15} {name:40} {value:8.2f}" for name, value in parts.items()]
    if "memory" in more:
        lines += ["", "Memory", "-" * 40, *memory_lines(more["memory"])]
    return "\n".join([*lines, ""]) if lines else ""


def memory_lines(formula: Said) -> list[str]:
    """The formula."""

    def kib(name: str) -> str:
        return f"{formula[name] / 1024:.2f} KiB"

    def mib(name: str) -> str:
        return f"{formula[name] / (1 << 20):.1f} MiB"

    return [
        f"base {mib('base')} (with the Kubernetes source {mib('kubernetes')} more)",
        f"+ {kib('server')} a server + {kib('pod')} a pod",
        f"+ {kib('answer')} and {formula['answer_byte']:.2f} times its bytes for each answer that is kept",
        f"+ {kib('request')} for each further request that has such an answer (callers' bytes differ)",
        f"+ {kib('connection')} for each connection",
        f"The tables that were measured are within {formula['off']:.1%} of it.",
    ]


def _figures(said: Said, *groups: str) -> str:
    """A table of the figures whose heading starts with one of these."""
    lines: list[str] = []
    last = ""
    for each in map(Figure.from_json, said["figures"]):
        if not each.group.startswith(groups):
            continue
        if each.group != last:
            last = each.group
            lines += [
                "",
                f"| {each.group} | median | quartiles | runs | target | verdict |",
                "|---|---|---|---|---|---|",
            ]
        low, high = quartiles(each.runs)
        name = f"{each.name}, {each.unit}" if each.unit else each.name
        target = "" if each.target is None else number(each.target)
        spread = f"{number(low)} – {number(high)}" if len(each.runs) > 1 else ""
        lines.append(f"| {name} | {number(each.median)} | {spread} | {len(each.runs)} | {target} | {each.verdict} |")
    return "\n".join([*lines[1:], ""]) if lines else "Not measured in this run.\n"


def _costs(said: Said) -> str:
    """The numbers behind the ratios to the floor."""
    lines = [
        "| | | answers/s | CPU s a million (user + system) | p50 | p99 | p99.9 | MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for scenario in said["scenarios"]:
        if not scenario["group"].startswith(("CPU seconds by the floor", "All loads")):
            continue
        for side in scenario["sides"]:
            cost, share = middle(side, "per_million"), middle(side, "server_system_share")
            split = f"{cost:.2f} ({cost * (1 - share):.2f} + {cost * share:.2f})"
            times = " | ".join(f"{middle(side, name):.2f} ms" for name in ("p50_ms", "p99_ms", "p99_9_ms"))
            memory = f"{side['memory_kib'][-1] / 1024:.0f}" if side["memory_kib"] else ""
            title = f"{scenario['name']} | {side['name']}"
            lines.append(f"| {title} | {middle(side, 'rate'):,.0f} | {split} | {times} | {memory} |")
    return "\n".join([*lines, ""])


def _notes(said: Said) -> str:
    """What was told about runs that are not quite to be believed."""
    lines = []
    for each in map(Figure.from_json, said["figures"]):
        lines += [
            f"- {each.name}: {note}"
            for note in each.notes
            if any(word in note for word in ("bottleneck", "others kept", "late at"))
        ]
    return "\n".join([*lines, ""]) if lines else "None.\n"


def _machine(said: Said) -> str:
    facts = said["machine"]
    rows = [
        ("command", f"`{facts['command']}`"),
        ("commit", facts["commit"]),
        ("date", facts["date"]),
        ("machine", f"{facts['processor']}, {facts['memory_gib']} GiB, {facts['system']}"),
        ("Python", facts["python"]),
        ("load generator", facts["load generator"]),
        ("load average before", f"{facts['load_before']:.2f}"),
    ]
    for later in said.get("renewed", ()):
        told = f"`{later['command']}`, commit {later['commit']}, {later['date']}"
        rows.append(("in part renewed by", f"{told}, load average before {later['load_before']:.2f}"))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])


def _memory(said: Said) -> str:
    formula = said["more"].get("memory")
    if not formula:
        return "Not measured in this run.\n"
    lines = [
        "```",
        *memory_lines(formula),
        "```",
        "",
        "| servers | pods of each | measured | by the formula |",
        "|---|---|---|---|",
    ]
    for each in formula["measured"]:
        pods = each["servers"] * each["pods"]
        expected = formula["base"] + formula["server"] * each["servers"] + formula["pod"] * pods
        measured = f"{each['bytes'] / (1 << 20):.1f} MiB | {expected / (1 << 20):.1f} MiB"
        lines.append(f"| {each['servers']:,} | {each['pods']} | {measured} |")
    return "\n".join([*lines, ""])


def _where(said: Said) -> str:
    """The processor time of an answer at 16 x 1, from the kernel inwards."""
    inside = said["more"].get("attribution")
    if not inside:
        return "Not measured in this run.\n"
    names = list(inside)
    lines = [f"| µs | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    rows: dict[str, list[str]] = {}

    def put(row: str, value: float | None) -> None:
        rows.setdefault(row, []).append("" if value is None else f"{value:.2f}")

    for endpoints, parts in inside.items():
        sides = sides_of(said, "CPU seconds by the floor", f"{endpoints}, 16 x 1")
        service, bare = (sides.get(name) for name in ("service", "floor"))
        hit = parts["a hit, from bytes to bytes"]
        cost = share = None
        if service:
            cost, share = middle(service, "per_million"), middle(service, "server_system_share")
        put("**an answer at 16 x 1, in all**", cost)
        put("the kernel: read, write, wait", None if cost is None or share is None else cost * share)
        put(
            "uvloop, and what the service does for a connection",
            None if cost is None or share is None else cost * (1 - share) - hit,
        )
        for name, value in parts.items():
            put(name, value)
        put("beside it: an answer of the floor, in all", middle(bare, "per_million") if bare else None)
    lines += [f"| {row} | {' | '.join(values)} |" for row, values in rows.items()]
    return "\n".join([*lines, ""])


PARTS: Final[dict[str, Callable[[Said], str]]] = {
    "machine": _machine,
    "targets": lambda said: _figures(said, "CPU seconds by the floor", "CPU seconds by those", "Distinct"),
    "latency": lambda said: _figures(said, "Open loop"),
    "hostile": lambda said: _figures(said, "10,000 idle"),
    "pauses": lambda said: _figures(said, "10,000 servers"),
    "all-loads": lambda said: _figures(said, "All loads", "A connection for each", "Cold cache"),
    "costs": _costs,
    "memory": _memory,
    "where": _where,
    "notes": _notes,
}


def merged(first: Said, *later: Said) -> dict[str, Any]:
    """Results with those parts replaced that later ones measured anew."""
    said = dict(first) | {"renewed": list(first.get("renewed", ())), "more": dict(first["more"])}
    for each in later:
        for kind in ("figures", "scenarios"):
            groups = {item["group"] for item in each[kind]}
            said[kind] = [item for item in said[kind] if item["group"] not in groups] + each[kind]
        said["more"] |= each["more"]
        said["renewed"].append(each["machine"])
    return said


def kept(said: Said) -> dict[str, Any]:
    """Results without what neither page nor plots show."""

    def side(each: Said, *, with_latency: bool) -> dict[str, Any]:
        runs = [{name: run[name] for name in _RUN} for run in each["runs"]]
        return {key: value for key, value in each.items() if with_latency or key != "latency"} | {"runs": runs}

    scenarios = [
        each
        | {
            "sides": [
                side(one, with_latency=each["group"].startswith(_SHOWN) or each["name"] == "hostile")
                for one in each["sides"]
            ]
        }
        for each in said["scenarios"]
    ]
    return dict(said) | {"scenarios": scenarios}


_RUN: Final = (
    "rate",
    "per_million",
    "server_system_share",
    "p50_ms",
    "p99_ms",
    "p99_9_ms",
    "load_share",
    "others_share",
)
_SHOWN: Final = ("CPU seconds by the floor", "Open loop")


def fill(page: str, said: Said) -> str:
    """The page with its measured parts made anew. Raises KeyError for a part that is not known."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]](said)}\n{found[3]}", page)


def main(words: list[str]) -> None:
    """Write docs/performance.md up from results files, and keep what they say beside its plots."""
    parser = argparse.ArgumentParser(prog="benchmarks report", description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs="+", help="what --json wrote; a later one renews what it measured")
    options = parser.parse_args(words)
    said = kept(merged(*(json.loads(path.read_text()) for path in options.results)))
    written = write_plots(said, FOLDER)
    write_json(said, FOLDER / KEPT)
    PAGE.write_text(fill(PAGE.read_text(), said))
    print("\n".join(str(path.relative_to(ROOT)) for path in [PAGE, FOLDER / KEPT, *written]))
