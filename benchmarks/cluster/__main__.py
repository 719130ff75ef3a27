"""Measure the service beside a real API server with 10,000 servers of 10 pods, or 50,000 labelled pods:

propagation  from the API server's acknowledgement of a change to a bare watcher and to a client of the service
start        from the start of the process to /readyz 200
memory       resident memory after that, at rest
pauses       how long callers wait while a full list comes in; the API server gives way to all others meanwhile, and
             "control" is how long callers of a process that does nothing else waited in the same moments

The API server's programs are those of tests/cluster. The first run fills it, which takes some minutes, and keeps the
data under the project's cache folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster import propagation, start
from benchmarks.cluster.contents import Contents, full_server
from benchmarks.cluster.numbers import Figure, Histogram, percentile, svg, table, text_histogram
from tests.cluster.apiserver import ApiServer

WHAT: Final = ("propagation", "start", "memory", "pauses")
MORE_AT_P99: Final = 5.0
LONGEST_PAUSE: Final = 20.0
START: Final = {"tendpoints": 5.0, "pods": 15.0}
MEMORY: Final = {"tendpoints": 240.0, "pods": 320.0}


class Report:
    """What was found."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.histograms: list[Histogram] = []
        self.raw: dict[str, Any] = {}

    def add(self, name: str, unit: str, runs: list[float], target: float | None = None, note: str = "") -> None:
        """A number, as measured in each run."""
        self.figures.append(Figure(name, unit, runs, target, note))


async def _propagation(report: Report, server: ApiServer, contents: Contents, options: argparse.Namespace) -> None:
    runs: list[propagation.Run] = []
    for number in range(options.runs):
        _tell(f"propagation, run {number + 1} of {options.runs}")
        with tempfile.TemporaryDirectory() as folder:
            runs.append(
                await propagation.measure(
                    server,
                    contents,
                    Path(folder),
                    changes=options.changes,
                    questions=options.questions,
                    seconds=options.seconds,
                )
            )

    def each(take: Callable[[propagation.Run], list[float]], share: float) -> list[float]:
        return [percentile(take(run), share) for run in runs]

    for share in (50, 99):
        report.add(f"write to bare watcher, p{share}", "ms", each(lambda run: run.watched, share))
        report.add(f"write to client's answer, p{share}", "ms", each(lambda run: run.answered, share))
    more = [percentile(run.answered, 99) - percentile(run.watched, 99) for run in runs]
    report.add("client's p99 above the watcher's p99", "ms", more, MORE_AT_P99)
    report.add("client above watcher, change by change, p50", "ms", each(lambda run: run.difference, 50))
    report.add("client above watcher, change by change, p99", "ms", each(lambda run: run.difference, 99))
    report.add("the client's time between two answers, p50", "ms", each(lambda run: run.intervals, 50))
    report.add("the client's time between two answers, p99", "ms", each(lambda run: run.intervals, 99))
    report.add("background questions' answers, p99", "ms", each(lambda run: run.load_trips, 99))
    report.add("the API server's answer to a patch, p99", "ms", each(lambda run: run.patches, 99))
    report.add("changes made", "a second", [run.changes_per_second for run in runs])
    report.add("questions asked", "a second", [run.questions_per_second for run in runs])
    report.add("questions unanswered", "", [float(run.unanswered) for run in runs], 0.0)
    report.add("processor time of the service", "cores", [run.service_cpu for run in runs])
    watched = [value for run in runs for value in run.watched]
    answered = [value for run in runs for value in run.answered]
    difference = [value for run in runs for value in run.difference]
    report.histograms += [
        Histogram("After the API server's acknowledgement", {"bare watcher": watched, "client's answer": answered}),
        Histogram("Client's answer after the bare watcher's event", {"difference": difference}),
    ]
    report.raw["propagation"] = [asdict(run) | {"intervals": [], "trips": [], "load_trips": []} for run in runs]


async def _start(report: Report, server: ApiServer, contents: Contents, options: argparse.Namespace) -> None:
    runs: list[start.Start] = []
    for number in range(options.runs):
        _tell(f"start, {contents}, run {number + 1} of {options.runs}")
        with tempfile.TemporaryDirectory() as folder:
            runs.append(await start.start(server, contents, Path(folder)))
    if "start" in options.what:
        seconds = [run.seconds for run in runs]
        report.add(f"{contents}: start to ready", "s", seconds, START[contents.kind])
        report.add(f"{contents}: processor time for it", "s", [run.cpu_seconds for run in runs])
    if "memory" in options.what:
        memory = [run.memory_mib for run in runs]
        report.add(f"{contents}: memory at rest", "MiB", memory, MEMORY[contents.kind])
        report.add(f"{contents}: memory at most", "MiB", [run.peak_mib for run in runs])
    report.raw[f"start, {contents}"] = [asdict(run) for run in runs]


async def _pauses(report: Report, server: ApiServer, contents: Contents, options: argparse.Namespace) -> None:
    runs: list[start.Pauses] = []
    for number in range(options.runs):
        _tell(f"pauses, {contents}, run {number + 1} of {options.runs}")
        with tempfile.TemporaryDirectory() as folder:
            runs.append(await start.pauses(server, contents, Path(folder)))
    when: dict[str, list[start.Waiting]] = {
        "first list": [run.first for run in runs],
        "list again": [run.again for run in runs if run.again],
        "scrapes of /metrics": [run.scrapes for run in runs],
        "at rest": [run.rest for run in runs],
    }
    for name, waits in when.items():
        if not waits:
            continue
        longest = [f"{waited:.0f} ms at {asked:.1f} s" for asked, waited in waits[-1].pauses(LONGEST_PAUSE / 2)]
        note = f"in the last run, above {LONGEST_PAUSE / 2:g} ms: {', '.join(longest[:8])}" if longest else ""
        target = LONGEST_PAUSE if "list" in name else None
        report.add(f"{contents}: {name}, longest", "ms", [wait.longest for wait in waits], target, note)
        tail = [percentile([waited for _, waited in wait.service], 99.9) for wait in waits]
        report.add(f"{contents}: {name}, p99.9", "ms", tail)
        report.add(f"{contents}: {name}, control, longest", "ms", [wait.longest_control for wait in waits])
        report.raw[f"pauses, {contents}, {name}"] = [
            {
                "service": [pair for pair in wait.service if pair[1] > 1.0],
                "control": [pair for pair in wait.control if pair[1] > 1.0],
            }
            for wait in waits
        ]


async def _measure(options: argparse.Namespace) -> Report:
    report = Report()
    both = [
        Contents("tendpoints", options.servers, options.pods),
        Contents("pods", options.labelled_pods // options.pods, options.pods),
    ]
    for contents in both:
        wanted = set(options.what) - ({"propagation"} if contents.kind == "pods" else set())
        if not wanted or not contents.objects:
            continue
        with tempfile.TemporaryDirectory(prefix="tars-registry-cluster-") as folder:
            _tell(f"starting an API server with {contents}")
            async with full_server(contents, Path(folder)) as server:
                if wanted & {"start", "memory"}:
                    await _start(report, server, contents, options)
                if "propagation" in wanted:
                    await _propagation(report, server, contents, options)
                if "pauses" in wanted:
                    await _pauses(report, server, contents, options)
    return report


def _machine() -> dict[str, Any]:
    """Where and when this was."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True, check=False)
    return {
        "command": " ".join(["python", "-m", "benchmarks.cluster", *sys.argv[1:]]),
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load before": os.getloadavg()[0],
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", type=int, default=10_000, help="TEndpoints (default: %(default)s)")
    parser.add_argument("--pods", type=int, default=10, help="pods of each server (default: %(default)s)")
    parser.add_argument(
        "--labelled-pods", type=int, default=50_000, help="in pods mode; 0 for not at all (default: %(default)s)"
    )
    parser.add_argument("--changes", type=float, default=100, help="pod changes a second (default: %(default)s)")
    parser.add_argument("--questions", type=float, default=10_000, help="questions a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of a run of propagation (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--what", default=",".join(WHAT), help="some of these, with commas (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the histograms as SVG")
    options = parser.parse_args()
    options.what = options.what.split(",")
    if unknown := set(options.what) - set(WHAT):
        parser.error(f"--what: {', '.join(sorted(unknown))}: not one of {', '.join(WHAT)}")
    machine = _machine()
    report = asyncio.run(_measure(options))
    print(", ".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    print(table(report.figures))
    for histogram in report.histograms:
        print(f"\n{text_histogram(histogram)}")
    if options.plot:
        options.plot.write_text(svg(report.histograms))
    if options.json:
        figures = [asdict(each) | {"verdict": each.verdict} for each in report.figures]
        options.json.write_text(json.dumps({"machine": machine, "figures": figures, "raw": report.raw}))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
