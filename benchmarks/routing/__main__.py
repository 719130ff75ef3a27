"""What routing costs: the first answer of a key, and every later one beside that of an unrouted registry.

    python -m benchmarks.routing

10,000 servers of 10 pods, in 300 sets and 50 groups with 10,000 rules, asked through connections and the dispatcher as
a caller's bytes are, without sockets. Each number is the median of several runs, in which both registries are asked in
turns in one process, so that whatever else the machine does meets both; where the runs differ by more than the distance
to the target, the verdict is 'undecided'. Costs are of the processor; the clock's are told beside. An answer with sets
and groups is longer: a third registry, without either but with longer names, tells what of the difference that is.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections import Counter
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from benchmarks.numbers import Figure, number, percentile, text_table
from benchmarks.routing.first import FirstAnswers, measure
from benchmarks.routing.later import Side, compare
from benchmarks.routing.world import CASES, RULES, Registry, policy
from registry.routing.changes import PolicyChange
from registry.routing.policy import Policy

FIRST_LIMIT: Final = 200.0
"""Microseconds that the first answer of a key may take."""

LATER_LIMIT: Final = 1.05
"""What a later answer may cost beside an unrouted one."""


def first_figures(registries: list[Registry], case: str, servers: int, runs: int) -> list[Figure]:
    """First answers, each run with servers of its own, the registries in turns: what is kept lies alike."""
    found: dict[str, list[FirstAnswers]] = {registry.name: [] for registry in registries}
    for run in range(runs):
        keys = range(servers * run // runs, servers * (run + 1) // runs)
        for registry in registries if run % 2 else reversed(registries):
            found[registry.name].append(measure(registry, case, keys))
    figures = []
    for name, each in found.items():
        tail: Counter[str] = sum((one.tail() for one in each), Counter())
        clock = [median(one.clock) for one in each]
        p99 = [number(median(percentile(list_, 99) for list_ in lists)) for lists in _both(each)]
        notes = [
            f"by the clock {number(median(clock))}; p99 by the clock {p99[0]}, of the processor {p99[1]}",
            "slowest 1 % by the clock: " + ", ".join(f"{count} {why}" for why, count in tail.most_common()),
        ]
        target = FIRST_LIMIT if name == "routed" else None
        runs_ = [median(one.processor) for one in each]
        figures.append(Figure(f"first answers {case}", name, "µs", runs_, target, notes))
    return figures


def _both(runs: list[FirstAnswers]) -> tuple[list[list[float]], list[list[float]]]:
    return [one.clock for one in runs], [one.processor for one in runs]


def later_figures(registries: list[Registry], case: str, keys: int, runs: int, answers: int) -> list[Figure]:
    """Later answers of so many keys in turn."""
    routed, plain, longer = (Side(registry, case, keys) for registry in registries)
    figures = []
    for name, other, target in (("unrouted", plain, LATER_LIMIT), ("unrouted, longer names", longer, None)):
        compare(routed, other, answers // 10, keys)
        found = [compare(routed, other, answers, keys) for _ in range(runs)]
        by_clock = median(clock for _, clock, _ in found)
        note = f"by the clock {by_clock:.3f}; {name}: {median(us for _, _, us in found):.3f} µs"
        note += f"; bytes of an answer {routed.size} and {other.size}"
        figures.append(
            Figure(
                f"later answers {case}, {keys:,} keys",
                f"routed / {name}",
                "",
                [cpu for cpu, _, _ in found],
                target,
                [note],
            )
        )
    return figures


def policy_figures(runs: int) -> list[Figure]:
    """What a change of the policy costs the event loop, and a new connection its caller's group."""
    made, compared, grouped = [], [], []
    for _ in range(runs):
        document = policy().document
        began = perf_counter()
        new = Policy(document)
        made.append((perf_counter() - began) * 1e3)
        old = policy()
        began = perf_counter()
        PolicyChange(old, new)
        compared.append((perf_counter() - began) * 1e3)
        began = perf_counter()
        for n in range(10_000):
            old.group_of_address(f"10.{n % 60}.{n % 250}.7")
        grouped.append((perf_counter() - began) * 100)
    group = f"a policy of {RULES:,} rules"
    return [
        Figure(group, "made ready to be asked", "ms", made),
        Figure(group, "compared with the one before", "ms", compared),
        Figure(group, "the group of an address", "µs", grouped),
    ]


def main() -> None:
    """Measure and print; exit status 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.routing", description=__doc__)
    parser.add_argument("--servers", type=int, default=10_000, help="servers in the table (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=15, help="of which the median is taken (default: %(default)s)")
    parser.add_argument(
        "--keys", type=int, nargs="*", default=[100, 1_000], help="asked for in turn (default: 100 1000)"
    )
    parser.add_argument(
        "--answers", type=int, default=100_000, help="of each side in a run of later ones (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into this file")
    options = parser.parse_args()
    registries = [
        Registry("routed", options.servers, routed=True),
        Registry("unrouted", options.servers),
        Registry("unrouted, longer names", options.servers, longer=True),
    ]
    gc.collect()
    gc.freeze()
    figures = []
    for case in CASES:
        figures += first_figures(registries, case, options.servers, options.runs)
        for keys in options.keys:
            figures += later_figures(registries, case, min(keys, options.servers), options.runs, options.answers)
    figures += policy_figures(options.runs)
    print(text_table(figures))
    if options.json:
        options.json.write_text(json.dumps([figure.to_json() for figure in figures], indent=2) + "\n")
    raise SystemExit(any(figure.verdict == "missed" for figure in figures))


if __name__ == "__main__":
    main()
