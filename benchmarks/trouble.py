"""The service under what it must bear: callers that mean no good, and changes while the collector works."""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.interleaved import Load, Runs, Scenario, Side, alternate, one
from benchmarks.load.plan import VARYING, Asked, Plan, question
from benchmarks.numbers import Figure, percentile
from benchmarks.results import Results
from benchmarks.servers import LOAD_CPU, Server, changing_plan, driven, floor, many_connections, plan_of
from benchmarks.tables import Table, object_id

CROWD: Final = {"idle": 10_000, "slow": 5_000, "deaf": 1_000, "garbage": 1_000}
GOOD: Final = Load(50, rate=5_000.0)
GOOD_P99: Final = 20.0
BACK: Final = 1.1
SLOTS: Final = 18_000
"""Connections that the service lets in: the crowd, the good ones, and those that come back before they are gone."""

GATHERS_WITHIN: Final = 120.0
HOSTILE_SECONDS: Final = 60.0
"""Longer than a peer that does not read is borne with (write_timeout)."""

HOSTILE_ROUNDS: Final = 3
"""So often the crowd comes and goes: what one leaves behind must not pile up."""

HOSTILE_PAIRS: Final = 3
"""Of runs in each round."""

SETTLES_WITHIN: Final = 15.0

PAUSES_TABLE: Final = Table(10_000, 10)
CHANGING: Final = 2_000
CHANGES: Final = 200
PROBE: Final = Load(50, rate=5_000.0)
DISTINCT_SHARE: Final = 5
"""One question of so many has bytes that were never seen."""

PAUSE: Final = 2.0
PAUSE_RUNS: Final = 9


def hostile(
    results: Results,
    command: list[str],
    folder: Path,
    seconds: float = HOSTILE_SECONDS,
    crowd_of: Mapping[str, int] = CROWD,
    rounds: int = HOSTILE_ROUNDS,
) -> None:
    """Good questions before, during and after the crowd, which comes several times; the service's memory all along."""
    group = "10,000 idle, 5,000 slow, 1,000 deaf and 1,000 garbage callers; good ones ask 5,000 questions a second"
    table = Table(1_000, 3, 500)
    size = (f"--servers={table.servers}", f"--pods={table.pods}", f"--first={table.first}")
    with driven(*size, "--one-port", *many_connections(SLOTS)) as server:
        plan = plan_of(server, table, [1]).write(folder / "good.plan")
        crowded = plan_of(server, table).write(folder / "crowd.plan")
        side = Side(server, plan)
        runs = {name: Runs(name) for name in ("before", "during", "after", "floor")}
        with _sampled(server) as samples, floor(plan) as bare:
            _tell("hostile: before")
            runs["before"].outcomes.append(one(command, side, GOOD, seconds=5.0))
            before = server.memory_kib() / 1024
            during: list[float] = []
            after: list[float] = []
            told: dict[str, Any] = {"made": {}, "ended": {}, "failed": {}}
            for number in range(1, rounds + 1):
                _tell(f"hostile: the crowd gathers, {number} of {rounds}")
                with crowd(server, crowded, crowd_of) as end:
                    _tell(f"hostile: during, {seconds:g} s")
                    # What the floor's callers wait in the same moments, the crowd's own work is to blame for.
                    sides = [side, Side(bare, plan)]
                    beside = alternate(command, sides, GOOD, HOSTILE_PAIRS, seconds=seconds / 2 / HOSTILE_PAIRS)
                    for name, each in zip(("during", "floor"), beside, strict=True):
                        runs[name].outcomes += each.outcomes
                    during.append(server.memory_kib() / 1024)
                    told = end()
                _tell("hostile: after")
                after.append(_settled(server, before * BACK))
                runs["after"].outcomes.append(one(command, side, GOOD, seconds=5.0))
        most = max(samples)
    results.scenarios.append(Scenario(group, "hostile", list(runs.values())))
    for name, each in runs.items():
        title = "during: p99 of the floor, which has no crowd" if name == "floor" else f"{name}: the good ones' p99"
        limit, control = (GOOD_P99, runs["floor"].each("p99_ms")) if name == "during" else (None, [])
        results.figures.append(Figure(group, title, "ms", each.each("p99_ms"), limit, each.notes(), control))
    during_runs = runs["during"]
    missing = [a + b for a, b in zip(during_runs.each("unanswered"), during_runs.each("lost"), strict=True)]
    results.add(group, "during: good questions unanswered or connections lost", "", missing, 0.0)
    results.add(group, "during: wrong answers", "", during_runs.each("wrong"), 0.0)
    results.add(
        group,
        "during: the service's processor time",
        "processors",
        [outcome.server_cpu_seconds / outcome.seconds for outcome in during_runs.outcomes],
    )
    results.add(group, "memory before", "MiB", [before])
    results.add(group, "memory during", "MiB", during)
    results.add(group, "memory at most", "MiB", [most])
    results.add(group, "memory after", "MiB", after)
    results.add(group, "memory after, by that before", "", [each / before for each in after], BACK)
    results.more["hostile"] = told | {"memory_mib": samples}
    lines = [
        f"{kind}: {told['made'].get(kind, 0):,} connections, {told['ended'].get(kind, 0):,} ended" for kind in CROWD
    ]
    results.figures[-1].notes.extend([*lines, *(f"{why}: {count}" for why, count in told["failed"].items())])


def _settled(server: Server, wanted: float) -> float:
    """Memory in MiB once it is what is wanted, or when it had time enough."""
    deadline = time.monotonic() + SETTLES_WITHIN
    while (now := server.memory_kib() / 1024) > wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return now


@contextmanager
def _sampled(server: Server) -> Iterator[list[float]]:
    """The service's memory in MiB, each second."""
    samples: list[float] = [server.memory_kib() / 1024]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(1.0):
            samples.append(server.memory_kib() / 1024)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


@contextmanager
def crowd(server: Server, plan: Path, callers: Mapping[str, int]) -> Iterator[Any]:
    """A crowd that is all there; what is yielded ends it, and gives what it said."""
    words = [sys.executable, "-m", "benchmarks.hostile", f"--port={server.port}", f"--plan={plan}"]
    words += [f"--{kind}={count}" for kind, count in callers.items()]
    process = subprocess.Popen(words, cwd=machine.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if LOAD_CPU is not None:
            machine.pin(process.pid, [LOAD_CPU])
        ready, _, _ = select.select([process.stdout], [], [], GATHERS_WITHIN)
        if not ready or process.stdout.readline() != "ready\n":
            raise SystemExit("the hostile callers did not all connect")

        def end() -> dict[str, Any]:
            told, _ = process.communicate(timeout=GATHERS_WITHIN)
            found: dict[str, Any] = json.loads(told)
            return found

        yield end
    finally:
        process.kill()
        process.wait()


def pauses(results: Results, command: list[str], folder: Path, seconds: float) -> None:
    """How long the collector stops everything, and what callers see, with changes and requests that are all new."""
    table, number = PAUSES_TABLE, CHANGING
    group = f"{table.servers:,} servers x {table.pods} pods, {CHANGES} changes a second, {PROBE}"
    _tell(f"pauses: {group}")
    with driven(f"--servers={table.servers}", f"--pods={table.pods}", f"--changing={number}") as server:
        plan = changing_plan(server, table, number)
        fresh = [
            Asked(question(object_id(n), node_name=f"10.{VARYING}"), asked.first_answer, asked.answers)
            for n, asked in enumerate(plan.questions)
        ]
        mixed = [fresh[n] if n % DISTINCT_SHARE == 0 else asked for n, asked in enumerate(plan.questions)]
        path = Plan(mixed, plan.answers).write(folder / "pauses.plan")
        runs = Runs("service")
        server.command(f"churn {CHANGES}")
        one(command, Side(server, path), PROBE, seconds=2.0)
        server.command("pauses")
        collected: list[list[tuple[int, int]]] = []
        told: dict[str, Any] = {}
        for _ in range(PAUSE_RUNS):
            runs.outcomes.append(one(command, Side(server, path), PROBE, seconds=seconds / PAUSE_RUNS))
            runs.memory_kib.append(server.memory_kib())
            told = server.command("pauses")
            collected.append([(took, worked) for _, took, worked in told["pauses"]])
    results.scenarios.append(Scenario(group, "pauses", [runs]))
    waits = [[took / 1e6 for took, _ in each] or [0.0] for each in collected]
    milliseconds = [[worked / 1e6 for _, worked in each] or [0.0] for each in collected]
    count = sum(map(len, collected))
    spent = sum(map(sum, waits)) / 1e3 / seconds
    note = f"{count} collections in {seconds:g} s, {spent:.2%} of the time; thresholds {told['thresholds']}, "
    note += f"{told['frozen']:,} objects frozen"
    tail = [percentile(each, 99.9) for each in milliseconds]
    results.add(group, "garbage collection, p99.9 of its processor time", "ms", tail, PAUSE, note)
    results.add(group, "garbage collection, p99.9 by the clock", "ms", [percentile(each, 99.9) for each in waits])
    results.add(group, "garbage collection, longest", "ms", [max(each) for each in milliseconds])
    results.add(group, "garbage collection, median", "ms", [statistics.median(each) for each in milliseconds])
    for what in ("p50_ms", "p99_ms", "p99_9_ms", "max_ms"):
        name = {"p50_ms": "p50", "p99_ms": "p99", "p99_9_ms": "p99.9", "max_ms": "longest"}[what]
        results.add(
            group, f"a caller's wait, {name}", "ms", runs.each(what), None, *(runs.notes() if what == "p50_ms" else [])
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
