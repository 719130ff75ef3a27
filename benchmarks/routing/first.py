"""The first answer of a key: decoded, chosen, encoded and kept; and where its slowest ones lose their time."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field
from resource import RUSAGE_THREAD, getrusage
from time import perf_counter_ns, thread_time_ns
from typing import Any, Final

from benchmarks.numbers import percentile
from benchmarks.routing.world import CASES, Registry, question

TAIL: Final = 99.0
"""Percent of the answers beyond which one is of the tail."""


@dataclass
class FirstAnswers:
    """Microseconds of each answer of one run, by the clock and of the processor, and what happened meanwhile."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    why: list[str] = field(default_factory=list)

    def tail(self) -> Counter[str]:
        """What happened in the slowest ones, by the clock."""
        limit = percentile(self.clock, TAIL)
        return Counter(why for why, taken in zip(self.why, self.clock, strict=True) if taken > limit)


class _Collections:
    """Counts the runs of the garbage collector."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, phase: str, _: dict[str, Any]) -> None:
        self.count += phase == "stop"


def measure(registry: Registry, case: str, keys: range) -> FirstAnswers:
    """Ask for each of these servers for the first time."""
    lookup, caller = CASES[case]
    frames = [(caller(registry, n), question(lookup, n)) for n in keys]
    found = FirstAnswers()
    collections = _Collections()
    gc.callbacks.append(collections)
    try:
        for connection, frame in frames:
            collected, before = collections.count, getrusage(RUSAGE_THREAD)
            cpu, began = thread_time_ns(), perf_counter_ns()
            answer = connection.receive(frame)
            ended, spent = perf_counter_ns(), thread_time_ns()
            after = getrusage(RUSAGE_THREAD)
            assert answer
            found.clock.append((ended - began) / 1e3)
            found.processor.append((spent - cpu) / 1e3)
            found.why.append(
                "the garbage collector"
                if collections.count > collected
                else "another program had the processor"
                if after.ru_nivcsw > before.ru_nivcsw
                else "memory fresh from the system"
                if after.ru_minflt > before.ru_minflt
                else "no event that is counted"
            )
    finally:
        gc.callbacks.remove(collections)
    return found
