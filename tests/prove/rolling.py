"""Restart a pair of registries again and again under load, and write down what that did: ``make prove``.

    python -m tests.prove.rolling --rounds 100

Each round both registries are stopped (SIGTERM) and replaced, one after the other, while TarsGo clients call a servant
and query the registry through one address, as through a Service of Kubernetes. Nothing may fail.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.clients.driver import find
from tests.prove.outages import ROOT, commit, machine
from tests.prove.restarts import CLIENTS, DRAINED_WITHIN, NOTICED_AFTER, OPTIONS, WORKERS, Restarts, roll

REPORT: Final = ROOT / "docs" / "proofs" / "rolling-restarts.md"


def report(seen: Restarts, command: str, at_commit: str, began: datetime, seconds: float) -> str:
    """The report, as Markdown."""
    drains, calls, queries = seen.drains, seen.calls, seen.queries
    lines = [
        "# Rolling restarts of a pair",
        "",
        "Written by `make prove` (tests/prove/rolling.py). Two registries stand behind one address, as a Service of",
        "Kubernetes: a connection goes to one that is ready, and stays there. In each round both are stopped with",
        f"SIGTERM and replaced, one after the other; for {NOTICED_AFTER:g} s after the signal new connections still go",
        "to the one that is stopping. Meanwhile clients call a servant and query the registry without a pause longer",
        "than 2 ms, and refresh their endpoints 20 times a second.",
        "",
        f"**{'All held.' if seen.good and not seen.errors else 'NOT all held.'}**",
        "",
        "| | |",
        "|---|---|",
        f"| command | `{command}` |",
        f"| commit | {at_commit} |",
        f"| date | {began:%Y-%m-%d %H:%M} UTC, {seconds:.0f} s |",
        f"| machine | {machine()} |",
        f"| client | {seen.client}, {CLIENTS} processes with {WORKERS} callers and {WORKERS} askers each |",
        f"| registries | `{' '.join(OPTIONS)}` |",
        f"| rounds | {seen.rounds}, of two restarts each |",
        f"| calls of the servant | {calls.done}, failed: {calls.failed}, slowest {calls.slowest_ms} ms |",
        f"| queries | {queries.done}, failed: {queries.failed}, slowest {queries.slowest_ms} ms |",
        f"| from SIGTERM to the exit | median {statistics.median(drains):.2f} s, worst {max(drains):.2f} s |",
        f"| later than drain_timeout ({DRAINED_WITHIN:g} s) | {sum(each > DRAINED_WITHIN for each in drains)} |",
        f"| exit statuses | {', '.join(map(str, sorted(seen.statuses)))} |",
        "",
    ]
    if seen.errors:
        lines += ["```", *seen.errors, "```", ""]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Prove it; 0 where all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.prove.rolling", description="Rolling restarts of a pair.")
    parser.add_argument("--rounds", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument(
        "--report", type=Path, default=REPORT, metavar="FILE", help="default: docs/proofs/rolling-restarts.md"
    )
    options = parser.parse_args(arguments)
    argv = find("go")
    if argv is None:
        print("the TarsGo client is not built: run tests/clients/install go", file=sys.stderr)
        return 2

    def told(number: int, seen: Restarts) -> None:
        first, second = seen.drains[-2:]
        print(f"round {number}/{options.rounds}: {first:.2f} s and {second:.2f} s from SIGTERM to exit", flush=True)

    at_commit, began, started = commit(), datetime.now(UTC), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(roll(argv, Path(folder), options.rounds, told))
    text = report(
        seen,
        " ".join(["python -m tests.prove.rolling", *arguments]),
        at_commit,
        began,
        time.monotonic() - started,
    )
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(text)
    held = seen.good and not seen.errors
    print(f"{'all held' if held else 'NOT all held'}; see {options.report}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
