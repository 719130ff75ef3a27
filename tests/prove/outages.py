"""Kill the API server again and again, and write down what that did: ``make prove``.

    python -m tests.prove.outages --rounds 100 --longest-gap 20

Each round: the API server is killed (-9), the cluster changes behind its back, it is started again. The table must be
exact after each, within 3 s of its return, and every question that is asked all the time must have a good answer. At
the end the way to it goes silent once, which must be noticed within 75 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.cluster.apiserver import ApiServer, find
from tests.cluster.support_service import following
from tests.prove.half_open import NOTICED_WITHIN, half_open
from tests.prove.rounds import NotExact, Round, World, asker, kill_round, sibling

ROOT: Final = Path(__file__).resolve().parents[2]
REPORT: Final = ROOT / "docs" / "proofs" / "outages.md"
CURRENT_WITHIN: Final = 3.0
"""Seconds from the API server's return."""

NAMESPACE: Final = "default"


@dataclass
class Proof:
    """What was seen."""

    wanted: int
    longest_gap: float
    seed: int
    began: datetime
    commit: str
    rounds: list[Round] = field(default_factory=list)
    asked: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    half_open: float | None = None
    """Seconds until a half-open connection was noticed; None where it did not come to that."""
    broken: str = ""
    """Why it ended early; empty where it did not."""
    seconds: float = 0.0

    @property
    def late(self) -> int:
        """Rounds after which the table was not current in time, by the stricter of the two clocks."""
        return sum(each.after_list > CURRENT_WITHIN for each in self.rounds)

    @property
    def good(self) -> bool:
        """All held."""
        noticed = self.half_open is not None and self.half_open <= NOTICED_WITHIN
        return bool(self.rounds) and noticed and not (self.broken or self.failures or self.late)


async def prove(programs: Path, folder: Path, proof: Proof, minutes: float) -> None:
    """Do the rounds, as many as there is time for."""
    chance = random.Random(proof.seed)
    started = time.monotonic()
    async with ApiServer(programs, folder) as server:
        await server.create_crds()
        world = World(chance)
        async with server.client(namespace=NAMESPACE) as admin:
            await world.fill(admin)
        async with (
            sibling(server, NAMESPACE) as other,
            following(server.kubeconfig(), discover="both") as registry,
        ):
            asking = asker(registry, world)
            task = asyncio.create_task(asking.run())
            try:
                for number in range(1, proof.wanted + 1):
                    if time.monotonic() - started > minutes * 60:
                        break
                    took = await kill_round(server, other, registry, world, chance, proof.longest_gap)
                    proof.rounds.append(took)
                    print(
                        f"round {number}/{proof.wanted}: away {took.outage:.1f} s, {took.changes} changes, current "
                        f"{took.after_list:.2f} s after its first list, {took.after_return:.2f} s after it was ready; "
                        f"{asking.asked} questions, {len(asking.failures)} failed",
                        flush=True,
                    )
            except (NotExact, AssertionError) as error:
                proof.broken = f"round {len(proof.rounds) + 1}: {error}"
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                proof.asked, proof.failures, proof.slowest = asking.asked, asking.failures, asking.slowest
                proof.seconds = time.monotonic() - started
        if not proof.broken:
            async with server.client(namespace=NAMESPACE) as admin:
                proof.half_open, failures = await half_open(server, admin)
            proof.failures += failures
            print(f"half-open connection: noticed after {proof.half_open:.1f} s", flush=True)


def report(proof: Proof, command: str) -> str:
    """The report, as Markdown."""
    rounds = proof.rounds
    fewer = "" if len(rounds) == proof.wanted else f" of {proof.wanted} asked for: the time was up"
    if proof.broken:
        fewer = f" of {proof.wanted}, then it was broken off"
    noticed = "not tried" if proof.half_open is None else f"after {proof.half_open:.1f} s"
    lines = [
        "# Outages of the API server",
        "",
        "Written by `make prove` (tests/prove/outages.py). In each round the API server is killed (-9), TEndpoints and",
        "pods are created, changed and deleted through another API server on the same etcd, and it is started again.",
        "Half of the rounds also change objects in the moment of the kill; the others check that the whole old table",
        "is served to the end of the gap. In some, etcd's history is compacted away meanwhile. A client asks all the",
        "time. Most gaps are short, a few long. At the end all connections to the API server go silent without an end,",
        "as behind a network that lost its way; a change made then must be answered.",
        "",
        f"**{'All held.' if proof.good else 'NOT all held.'}**",
        "",
        "| | |",
        "|---|---|",
        f"| command | `{command}` |",
        f"| commit | {proof.commit} |",
        f"| date | {proof.began:%Y-%m-%d %H:%M} UTC, {proof.seconds:.0f} s |",
        f"| machine | {machine()} |",
        f"| seed | {proof.seed} |",
        f"| rounds | {len(rounds)}{fewer} |",
    ]
    if rounds:
        gaps = [each.gap for each in rounds]
        lines += [
            f"| from kill to restart | {min(gaps):.1f} to {max(gaps):.1f} s, median {statistics.median(gaps):.1f} s |",
            f"| API server away | {spread(rounds, lambda each: each.outage)} (its own start included) |",
            f"| compacted | {sum(each.compacted for each in rounds)} rounds |",
            f"| table exact | after {len(rounds)} of {len(rounds) + bool(proof.broken)} rounds |",
            f"| current, from the first list that the API server answered | {spread(rounds, lambda r: r.after_list)} |",
            f"| current, from when it was ready | {spread(rounds, lambda each: each.after_return)} |",
            f"| later than {CURRENT_WITHIN:g} s, by the first of these | {proof.late} |",
        ]
    lines += [
        f"| half-open connection noticed | {noticed} (at most {NOTICED_WITHIN:g} s) |",
        f"| questions asked | {proof.asked} |",
        f"| questions failed | {len(proof.failures)} |",
        f"| slowest answer | {proof.slowest * 1000:.0f} ms, asked by the process that also drives the test |",
        "",
    ]
    if rounds:
        lines += [
            "Seconds of each round: from kill to restart, from kill to the first list that the API server answered,",
            "from that list to the exact table, from when the API server was ready to the exact table.",
            "",
            "| round | restart | first list | current, from list | current, from ready | changes | compacted |",
            "|---:|---:|---:|---:|---:|---:|---|",
            *(
                f"| {number} | {each.gap:.1f} | {each.outage:.1f} | {each.after_list:.2f} | {each.after_return:.2f} "
                f"| {each.changes} | {'yes' if each.compacted else ''} |"
                for number, each in enumerate(rounds, 1)
            ),
            "",
        ]
    if proof.broken or proof.failures:
        lines += ["```", *proof.broken.splitlines()[:40], *proof.failures[:20], "```", ""]
    return "\n".join(lines)


def spread(rounds: Sequence[Round], value: Callable[[Round], float]) -> str:
    """Median and worst."""
    values = [value(each) for each in rounds]
    return f"median {statistics.median(values):.2f} s, worst {max(values):.2f} s"


def commit() -> str:
    """The commit that is checked out, and whether there is more; reports that were written before this one are not."""
    found = _git("rev-parse", "HEAD") or "unknown"
    changed = _git("status", "--porcelain", "--", ".", ":!docs/proofs")
    return f"{found}, with changes that are not committed" if changed else found


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def machine() -> str:
    """What it ran on."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} CPUs ({model}), {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load {load:.1f} at the end"
    )


def main(arguments: Sequence[str]) -> int:
    """Prove it; 0 where all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.prove.outages", description="Outages of the API server.")
    parser.add_argument("--rounds", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--longest-gap", type=float, default=20.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="begin no more rounds after (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="default: any")
    parser.add_argument("--report", type=Path, default=REPORT, metavar="FILE", help="default: docs/proofs/outages.md")
    options = parser.parse_args(arguments)
    programs = find()
    if programs is None:
        print("the API server is not built: run tests/cluster/install", file=sys.stderr)
        return 2
    proof = Proof(options.rounds, options.longest_gap, options.seed, datetime.now(UTC), commit())
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(prove(programs, Path(folder), proof, options.minutes))
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(report(proof, " ".join(["python -m tests.prove.outages", *arguments])))
    print(f"{'all held' if proof.good else 'NOT all held'}; see {options.report}")
    return 0 if proof.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
