"""What each malformed input of the catalogue costs: ``python -m benchmarks.malformed``.

The service runs in this process, without sockets: an input is given to a connection as one read, and the processor time
until it is answered or refused is taken, the best of several. Answers are not kept, so that each try decodes. A small
input may cost 5 ms, one as long as a frame may be 20 ms. Every outcome is checked too. Exit status 1 where an input
costs more or ends otherwise than the catalogue says.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time

from registry.app import App, build
from registry.cache import CacheLimits
from registry.routing.hosts import EndpointHost
from tests.fuzz import catalogue, drive
from tests.fuzz.cases import Case
from tests.support.in_process import loopback
from tests.support.manifests import hello, write

SMALL_MS = 5.0
FULL_MS = 20.0
"""Targets, of processor time on one core."""

SHOWN = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What one input cost, in milliseconds, and what was wrong with its outcome ("" for nothing)."""

    name: str
    size: int
    small: bool
    cpu_ms: float
    problem: str

    @property
    def target(self) -> float:
        """Milliseconds that it may cost."""
        return SMALL_MS if self.small else FULL_MS

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.problem:
            return "wrong"
        return "ok" if self.cpu_ms <= self.target else "over"


def measure(app: App, case: Case, tries: int) -> Cost:
    """The best of several tries, each on a connection of its own."""
    best = float("inf")
    for _ in range(tries):
        connection = drive.connect(app, case.port)
        began = process_time()
        drive.receive(connection, case.data)
        best = min(best, process_time() - began)
    problem = drive.whole(app, case).problem(case.expected)
    return Cost(case.name, len(case.data), case.small, best * 1000, problem)


async def costs(cases: Iterator[Case], tries: int) -> list[Cost]:
    """Of each of these inputs, the dearest first."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "hello.yaml", hello(drive.ADDRESS))
        config = loopback(Path(folder), endpoint_host=EndpointHost.POD_IP)
        app = await build(dataclasses.replace(config, cache=CacheLimits(cache_bytes=0, cache_entries=0)))
        await app.start()
        try:
            await app.synced.wait()
            gc.collect()
            gc.freeze()
            found = [measure(app, case, tries) for case in cases]
            drive.assert_answers(app)
        finally:
            await app.stop()
    return sorted(found, key=lambda cost: cost.cpu_ms, reverse=True)


def table(title: str, found: list[Cost]) -> str:
    """The first lines of a list of costs."""
    lines = [title, f"{'CPU ms':>8}  {'target':>6}  {'verdict':7}  {'bytes':>9}  input"]
    for cost in found:
        lines.append(f"{cost.cpu_ms:8.3f}  {cost.target:6.0f}  {cost.verdict:7}  {cost.size:9,}  {cost.name}")
        if cost.problem:
            lines.append(f"{'':27}{cost.problem}")
    return "\n".join(lines)


def main() -> int:
    """Measure all, and show the dearest of both sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.malformed", description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=5, help="of each input; the best counts (default: %(default)s)")
    parser.add_argument("--only", default="", help="inputs whose name holds this text")
    parser.add_argument("--json", action="store_true", help="every input's cost as JSON")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    found = asyncio.run(costs((c for c in catalogue.catalogue() if options.only in c.name), options.tries))
    bad = [cost for cost in found if cost.verdict != "ok"]
    if options.json:
        rows = [dataclasses.asdict(c) | {"target_ms": c.target, "verdict": c.verdict} for c in found]
        print(json.dumps({"tries": options.tries, "inputs": rows}, indent=1))
        return 1 if bad else 0
    small = [cost for cost in found if cost.small]
    full = [cost for cost in found if not cost.small]
    print(table(f"Small inputs, the dearest {SHOWN} of {len(small):,}", small[:SHOWN]), end="\n\n")
    print(table(f"Full frames, the dearest {SHOWN} of {len(full):,}", full[:SHOWN]), end="\n\n")
    wrong = [cost for cost in bad if cost.problem]
    if wrong:
        print(table("Not as documented", wrong), end="\n\n")
    print(f"{len(found) - len(bad):,} of {len(found):,} inputs as documented and within their target")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
