"""Every later answer of a key, beside that of a registry without routing, in turns."""

from __future__ import annotations

from time import perf_counter_ns, thread_time_ns

from benchmarks.routing.world import CASES, Registry, question
from tars_protocol.connection import Connection


class Side:
    """One registry, asked for the same keys again and again."""

    def __init__(self, registry: Registry, case: str, keys: int) -> None:
        lookup, caller = CASES[case]
        by_caller: dict[int, tuple[Connection, list[bytes]]] = {}
        for n in range(keys):
            connection = caller(registry, n)
            by_caller.setdefault(id(connection), (connection, []))[1].append(question(lookup, n))
        self._work = list(by_caller.values())
        self.size = sum(len(c.receive(frame)) for c, frames in self._work for frame in frames) // keys
        """Bytes of an answer."""

    def once(self) -> tuple[int, int]:
        """Ask for all keys; nanoseconds of the processor, and by the clock."""
        cpu, began = thread_time_ns(), perf_counter_ns()
        for connection, frames in self._work:
            receive = connection.receive
            for frame in frames:
                receive(frame)
        return thread_time_ns() - cpu, perf_counter_ns() - began


def compare(one: Side, other: Side, answers: int, keys: int) -> tuple[float, float, float]:
    """Ask both in turns for about so many answers each; the cost of one beside the other, by processor and by clock,
    and microseconds of the processor for an answer of the other."""
    spent = [[0, 0], [0, 0]]
    for number in range(max(2, answers // keys // 2 * 2)):
        for which in (0, 1) if number % 2 else (1, 0):
            for what, taken in enumerate((one, other)[which].once()):
                spent[which][what] += taken
    turns = max(2, answers // keys // 2 * 2) * keys
    return spent[0][0] / spent[1][0], spent[0][1] / spent[1][1], spent[1][0] / turns / 1e3
