"""Memory by a formula: measured at several sizes of the table and of the cache, and fitted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import load
from benchmarks.load.plan import Asked, Plan, question
from benchmarks.servers import LOAD_CPU, Server, driven, learn, many_connections
from benchmarks.tables import Table, object_id

TABLES: Final = ((1, 1), (2_000, 1), (2_000, 10), (10_000, 1), (10_000, 3), (10_000, 10))
QUICK_TABLES: Final = ((1, 1), (5_000, 1), (5_000, 10))
ANSWERS: Final = 8_000
ANSWER_PODS: Final = (1, 10, 30)
CONNECTIONS: Final = 2_000
KUBERNETES: Final = "registry.kube.client"
"""What only the Kubernetes source imports."""

SETTLED: Final = 1.0
"""Seconds of rest before the memory is read."""


def fit(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """The factors with which the columns of ``rows`` come nearest to ``values`` (least squares)."""
    width = len(rows[0])
    matrix = [
        [sum(row[i] * row[j] for row in rows) for j in range(width)]
        + [sum(row[i] * value for row, value in zip(rows, values, strict=True))]
        for i in range(width)
    ]
    for column in range(width):
        pivot = max(range(column, width), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for row in range(width):
            if row != column:
                factor = matrix[row][column] / matrix[column][column]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[column], strict=True)]
    return [matrix[row][-1] / matrix[row][row] for row in range(width)]


@dataclass(frozen=True)
class Formula:
    """Bytes: ``base + server * servers + pod * pods + (answer + bytes of the answer * answer_byte) * answers + …``."""

    base: float
    kubernetes: float
    """More of the base with the Kubernetes source."""
    server: float
    pod: float
    answer: float
    answer_byte: float
    request: float
    """A further request, of other bytes, that has a cached answer."""
    connection: float
    off: float
    """Largest distance of a measured table from the formula, as a share."""
    measured: list[dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def at_rest(server: Server) -> float:
    """Bytes resident once nothing goes on."""
    time.sleep(SETTLED)
    return server.memory_kib() * 1024.0


def measure(folder: Path, command: list[str], *, quick: bool = False) -> Formula:
    """All of it: about a minute, or half of it."""
    rows, values, measured = [], [], []
    for servers, pods in QUICK_TABLES if quick else TABLES:
        with driven(f"--servers={servers}", f"--pods={pods}") as server:
            found = at_rest(server)
        rows.append((1.0, float(servers), float(servers * pods)))
        values.append(found)
        measured.append({"servers": servers, "pods": pods, "bytes": found})
    base, per_server, per_pod = fit(rows, values)
    off = max(
        abs(base + row[1] * per_server + row[2] * per_pod - value) / value
        for row, value in zip(rows, values, strict=True)
    )
    with driven("--servers=1", "--pods=1", f"--load-module={KUBERNETES}") as server:
        kubernetes = at_rest(server) - values[0]
    answers = [_answers(folder, command, pods) for pods in ANSWER_PODS]
    answer, answer_byte = fit([(1.0, each["size"]) for each in answers], [each["answer"] for each in answers])
    return Formula(
        base,
        kubernetes,
        per_server,
        per_pod,
        answer,
        answer_byte,
        sum(each["request"] for each in answers) / len(answers),
        _connection(),
        off,
        measured,
    )


def _answers(folder: Path, command: list[str], pods: int) -> dict[str, float]:
    """Bytes for each cached answer of so many endpoints, and for each further request that leads to it."""
    table = Table(ANSWERS, pods)
    with driven(f"--servers={ANSWERS}", f"--pods={pods}") as server:
        sample = len(learn(server, [question(object_id(0))], [table.expected(0)])[0])
        before = at_rest(server)
        _ask_all(server, folder, command, table, "10.1.0.1")
        once = at_rest(server)
        _ask_all(server, folder, command, table, "10.2.0.1")
        twice = at_rest(server)
    return {"size": sample, "answer": (once - before) / ANSWERS, "request": (twice - once) / ANSWERS}


def _ask_all(server: Server, folder: Path, command: list[str], table: Table, node_name: str) -> None:
    numbers = range(table.servers)
    plain = [question(object_id(number), node_name=node_name) for number in numbers]
    answers = learn(server, plain, [table.expected(number) for number in numbers])
    plan = Plan([Asked(frame, number) for number, frame in enumerate(plain)], answers)
    load.run(
        command,
        plan.write(folder / "all.plan"),
        server.port,
        cpu=LOAD_CPU,
        questions=len(plain),
        connections=1,
        warm_up=0,
        seconds=30,
    )


def _connection() -> float:
    """Bytes for each idle connection, the kernel's own not counted."""
    with driven("--servers=1", "--pods=1", *many_connections(CONNECTIONS + 100)) as server:
        before = at_rest(server)
        open_ones = [server.connect() for _ in range(CONNECTIONS)]
        after = at_rest(server)
        for each in open_ones:
            each.close()
    return (after - before) / CONNECTIONS
