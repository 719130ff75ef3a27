"""The scenarios of ``make bench`` and ``make bench-full``: what is measured, how often, and what it must reach."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks import attribution, load, memory, trouble
from benchmarks.interleaved import Load, Runs, Scenario, Side, alternate, one
from benchmarks.load.plan import VARYING, Asked, Plan, question
from benchmarks.numbers import Figure
from benchmarks.results import Results
from benchmarks.servers import Server, changing_plan, driven, floor, learn, many_connections, plan_of, service
from benchmarks.tables import Table, object_id
from tars_protocol.interfaces.query import EndpointF

ENDPOINTS: Final = (3, 10, 500)
TABLES: Final = (1, 1_000, 10_000)
CONNECTIONS: Final = (1, 16, 256, 2_000)
OUTSTANDING: Final = (1, 16)
TARGETS: Final = {(16, 1): 1.3, (256, 1): 1.3, (16, 16): 1.8}
"""CPU seconds by the floor's, by connections and outstanding questions."""

FLAT: Final = 1.1
DISTINCT: Final = 2.0
CALLERS: Final = 10_000
"""Different requests for one object that are sent in turn, where they are not all different."""

OPEN: Final = Load(2_000, rate=20_000.0)
OPEN_P99: Final = 2.0
CHANGES: Final = 200
CHANGED_P99: Final = 5.0
RECONNECTS: Final = Load(16, reconnect_after=1)
COLD: Final = 10_000


@dataclass(frozen=True)
class Pace:
    """How long and how often to measure: seconds of a slice, its warm-up, slices of a run, pairs of runs, and the same
    of an open loop, which is never sliced."""

    seconds: float
    warm_up: float
    slices: int
    pairs: int
    open_seconds: float
    open_runs: int


QUICK: Final = Pace(0.2, 0.04, 2, 9, 2.0, 5)
FULL: Final = Pace(0.2, 0.05, 4, 11, 4.0, 9)

SLICED_UP_TO: Final = 256
"""Connections: with more of them a slice would be over before all had asked often."""

SETTLING: Final = 0.8e-3
"""Seconds of warm-up for each connection more: it is made anew in each slice, which the service has to be done with."""


class Suite:
    """Measures, and puts what it finds into ``results``. ``folder`` is for files that are needed meanwhile."""

    def __init__(self, results: Results, command: list[str], folder: Path, *, full: bool) -> None:
        self.results = results
        self._command = command
        self._folder = folder
        self._full = full
        self._pace = FULL if full else QUICK

    # -- what there is to measure ----------------------------------------------------------------------------------

    def parts(self) -> dict[str, Callable[[], None]]:
        """By the name that --only takes."""
        quick: dict[str, Callable[[], None]] = {
            "floor": self.against_the_floor,
            "tables": self.table_sizes,
            "distinct": self.distinct_bytes,
            "open": self.open_loop,
            "pauses": self.pauses,
            "where": self.where_time_goes,
        }
        slow: dict[str, Callable[[], None]] = {
            "matrix": self.matrix,
            "reconnects": self.reconnects,
            "cold": self.cold_cache,
            "memory": self.memory,
            "hostile": self.hostile,
        }
        return quick | slow if self._full else quick

    def against_the_floor(self) -> None:
        """The targets: 3 and 500 endpoints, beside the floor."""
        for endpoints in (3, 500):
            loads = [Load(*each) for each in TARGETS]
            self._beside_the_floor("CPU seconds by the floor's", Table(1_000, 3, endpoints), loads, targets=TARGETS)

    def matrix(self) -> None:
        """All sizes of answers, numbers of connections and of outstanding questions, beside the floor."""
        loads = [Load(connections, outstanding) for connections in CONNECTIONS for outstanding in OUTSTANDING]
        for endpoints in ENDPOINTS:
            self._beside_the_floor("All loads, CPU seconds by the floor's", Table(1_000, 3, endpoints), loads, QUICK)

    def table_sizes(self) -> None:
        """The cost of a table's size, asked for one of its servers, and for all of them in turn."""
        group = "CPU seconds by those with a table of 1 server"
        sizes = TABLES if self._full else (TABLES[0], TABLES[-1])
        with ExitStack() as stack:
            running = {size: stack.enter_context(self._service(Table(size))) for size in sizes}
            for asked, name in ((1, "one object asked for"), (COLD, "all objects in turn")):
                sides = []
                for size, server in running.items():
                    plan = self._plan(plan_of(server, Table(size), range(min(size, asked))))
                    sides.append(Side(server, plan, f"{size:,}"))
                runs = self._alternate(f"tables of {' and '.join(f'{s:,}' for s in sizes)}, {name}", sides, Load(16))
                for size, each in zip(sizes[1:], runs[1:], strict=True):
                    title = f"{size:,} servers, {name}, 16 x 1"
                    facts = {"servers": float(size), "asked": float(asked)}
                    pair = Scenario(group, title, [each, runs[0]], FLAT if size == TABLES[-1] else None, facts)
                    self._keep(pair)

    def distinct_bytes(self) -> None:
        """What callers whose bytes differ cost: their node, their old lists."""
        group = "Distinct bytes, CPU seconds by those with repeated bytes"
        table = Table(1_000, 3)
        with self._service(table) as server:
            repeated = plan_of(server, table)
            answers = repeated.answers
            kinds = {
                "a node_name never seen before, each time": [question(object_id(0), node_name=f"10.{VARYING}")],
                f"{CALLERS:,} node_names in turn": [
                    question(object_id(0), node_name=_address(n)) for n in range(CALLERS)
                ],
                f"{CALLERS:,} old lists in turn": [question(object_id(0), old=_old(n)) for n in range(CALLERS)],
            }
            base = Side(server, self._plan(repeated), "repeated bytes")
            for name, frames in kinds.items():
                learn(server, frames[:1], [table.expected(0)])
                plan = self._plan(Plan([Asked(frame) for frame in frames], answers))
                self._warm(server, plan, len(frames))
                runs = self._alternate(name, [Side(server, plan, "distinct bytes"), base], Load(16))
                self._keep(Scenario(group, f"{name}, 16 x 1", runs, DISTINCT))
            kept = [kib / 1024 for run in self.results.scenarios[-1].sides for kib in run.memory_kib]
            self.results.add(group, "memory after all of that", "MiB", kept[-1:])

    def open_loop(self) -> None:
        """Latency at a fixed rate, beside the floor; and with changes of the table."""
        group = f"Open loop, {OPEN}"
        changing = Table(1_000, 10)
        with (
            self._service(Table(1_000, 10), many_connections(OPEN.connections + 1_000)) as plain,
            driven(
                "--servers=1000", "--pods=10", "--changing=1000", *many_connections(OPEN.connections + 1_000)
            ) as other,
        ):
            plan = self._plan(plan_of(plain, changing))
            with floor(plan) as bare:
                self._open(group, "no changes", [Side(plain, plan), Side(bare, plan)], OPEN_P99)
                moving = Side(other, self._plan(changing_plan(other, changing, 1_000)), "service")
                before = other.command(f"churn {CHANGES}")["changes"]
                name = f"{CHANGES} changes a second"
                self._open(group, name, [moving, Side(bare, plan)], CHANGED_P99)
                made = other.command("still")["changes"] - before
                self.results.figures[-1].notes.append(f"{made:,} changes were made")

    def pauses(self) -> None:
        """Of the event loop and the garbage collector, under churn."""
        trouble.pauses(self.results, self._command, self._folder, seconds=180.0 if self._full else 18.0)

    def where_time_goes(self) -> None:
        """Inside the service."""
        _tell("where the time goes")
        self.results.more["attribution"] = {
            f"{endpoints} endpoints": attribution.measure(endpoints) for endpoints in (3, 500)
        }

    def reconnects(self) -> None:
        """A connection for each question."""
        table = Table(1_000, 3)
        self._beside_the_floor("A connection for each question", table, [RECONNECTS])

    def cold_cache(self) -> None:
        """The first question for each of 10,000 servers."""
        table = Table(COLD)
        plan = None
        runs = Runs("service")
        for number in range(5):
            _tell(f"cold cache, {number + 1} of 5")
            if plan is None:
                with self._service(table) as server:
                    plan = self._plan(plan_of(server, table, range(COLD)))
            with self._service(table) as server:
                side = Side(server, plan)
                runs.outcomes.append(one(self._command, side, Load(16), questions=COLD, warm_up=0, seconds=60))
        self.results.scenarios.append(Scenario("Cold cache", "first questions", [runs]))
        group = f"Cold cache: the first question for each of {COLD:,} servers, 16 x 1"
        self.results.add(group, "CPU seconds", "s a million", runs.each("per_million"), None, *runs.notes())
        self.results.add(group, "p99", "ms", runs.each("p99_ms"))

    def memory(self) -> None:
        """The formula."""
        _tell("memory at several sizes of table and cache")
        self.results.more["memory"] = memory.measure(self._folder, self._command).to_json()

    def hostile(self) -> None:
        """Idle, slow, deaf and garbage callers together, and good ones beside them."""
        trouble.hostile(self.results, self._command, self._folder)

    def target(self, host: str, port: int, object_id: str, pid: int) -> None:
        """Another registry, beside the floor with that one's bytes."""
        server = Server("target", port, pid, host)
        frame = question(object_id)
        answer = learn(server, [frame], [None])
        plan = self._plan(Plan([Asked(frame)], answer))
        loads = [Load(connections, outstanding) for connections in CONNECTIONS for outstanding in OUTSTANDING]
        if not self._full:
            loads = [Load(*each) for each in TARGETS]
        with floor(plan) as bare:
            sides = [Side(server, plan), Side(bare, plan)]
            for how in loads:
                runs = self._alternate(f"{object_id}, {how}", sides, how)
                self._keep_target(Scenario(f"{host}:{port}", f"{object_id}, {how}", runs), pid)
            vary = self._plan(Plan([Asked(question(object_id, node_name=f"10.{VARYING}"))], answer))
            runs = self._alternate("distinct bytes", [Side(server, vary, "target"), Side(bare, vary)], Load(16))
            self._keep_target(Scenario(f"{host}:{port}", "a node_name never seen before, 16 x 1", runs), pid)
            self._open(f"{host}:{port}", str(OPEN), sides, None)

    # -- how -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _service(self, table: Table, options: Sequence[str] = ()) -> Iterator[Server]:
        with service(table, self._folder, *options) as server:
            yield server

    def _plan(self, plan: Plan) -> Path:
        return plan.write(self._folder / f"{len(list(self._folder.iterdir()))}.plan")

    def _warm(self, server: Server, plan: Path, questions: int) -> None:
        """Every question of a plan once."""
        one(self._command, Side(server, plan), Load(16), questions=questions, warm_up=0, seconds=30)

    def _alternate(self, name: str, sides: list[Side], how: Load, pace: Pace | None = None) -> list[Runs]:
        _tell(f"{name}: {how}")
        pace = pace or self._pace
        slices, seconds, warm_up = pace.slices, pace.seconds, pace.warm_up + SETTLING * how.connections
        if how.connections > SLICED_UP_TO or self._command == load.PYTHON:
            slices, seconds = 1, seconds * slices
        return alternate(self._command, sides, how, pace.pairs, slices=slices, seconds=seconds, warm_up=warm_up)

    def _beside_the_floor(
        self,
        group: str,
        table: Table,
        loads: list[Load],
        pace: Pace | None = None,
        targets: Mapping[tuple[int, int], float] = MappingProxyType({}),
    ) -> None:
        endpoints = table.pods_of(0)
        with self._service(table, many_connections(max(CONNECTIONS) + 100)) as server:
            plan = self._plan(plan_of(server, table))
            with floor(plan) as bare:
                for how in loads:
                    name = f"{endpoints} endpoints, {how}"
                    runs = self._alternate(name, [Side(server, plan), Side(bare, plan)], how, pace)
                    target = targets.get((how.connections, how.outstanding))
                    facts: dict[str, float] = {
                        "endpoints": endpoints,
                        "connections": how.connections,
                        "outstanding": how.outstanding,
                    }
                    self._keep(Scenario(group, name, runs, target, facts))

    def _keep(self, scenario: Scenario) -> None:
        self.results.scenarios.append(scenario)
        self.results.figures.append(scenario.figure())

    def _keep_target(self, scenario: Scenario, pid: int) -> None:
        """Of a registry whose processor time is not to be had, its answers a second are compared instead."""
        if pid:
            return self._keep(scenario)
        self.results.scenarios.append(scenario)
        runs = scenario.sides[0]
        self.results.add(scenario.group, scenario.name, "answers/s", runs.each("rate"), None, *runs.notes())
        return None

    def _open(self, group: str, name: str, sides: list[Side], target: float | None) -> None:
        _tell(f"open loop: {OPEN}, {name}")
        pace = self._pace
        runs = alternate(self._command, sides, OPEN, pace.open_runs, seconds=pace.open_seconds, warm_up=0.5)
        self.results.scenarios.append(Scenario(group, name, runs))
        for each in runs:
            bound = target if each is runs[0] else None
            for what, limit in (("p50", None), ("p99", bound), ("p99.9", None)):
                key = f"{what.replace('.', '_')}_ms"
                notes = each.notes() if limit else []
                control = runs[-1].each(key) if limit else []
                title = f"{name}: {each.name}, {what}"
                self.results.figures.append(Figure(group, title, "ms", each.each(key), limit, notes, control))


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _old(number: int) -> tuple[tuple[EndpointF, ...], tuple[EndpointF, ...]]:
    """The lists that a caller has from earlier on, when other pods were active."""
    active = tuple(
        EndpointF(host=_address(number * 3 + n), port=21010, timeout=60000, istcp=1, grid=0) for n in range(3)
    )
    return active, ()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
