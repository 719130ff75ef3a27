"""The load generator: load.c, built by the first that needs it, or asker.py where there is no C compiler.

Both take the same options and print the same JSON object.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.histogram import Histogram
from benchmarks.machine import busy_seconds

SOURCE: Final = Path(__file__).with_name("load.c")
FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
PYTHON: Final = [sys.executable, "-m", "benchmarks.load.asker"]
ENDS_WITHIN: Final = 120.0
BOTTLENECK: Final = 0.9
"""Processor time of the generator by the time it took: above this it was what could not go faster."""


VARIATIONS: Final = 250_000
"""Of questions that are to be all different in one call of the generator at most; the next begins behind them."""

_VARIATIONS: Final = itertools.count()


class LoadError(Exception):
    """The generator could not do its work; the text is what it said."""


def cache_folder() -> Path:
    """The project's cache folder, outside the checkout."""
    root = os.environ.get("TARS_REGISTRY_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tars-registry"


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return next(
        (found for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and (found := shutil.which(name))), None
    )


def build() -> Path | None:
    """The program, built now unless it was before; None where there is no compiler. Raises LoadError."""
    found = compiler()
    if found is None:
        return None
    key = hashlib.sha256(b"\0".join((SOURCE.read_bytes(), " ".join(FLAGS).encode()))).hexdigest()[:16]
    program = cache_folder() / "benchmarks" / f"load-{key}"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        made = Path(folder) / "load"
        done = subprocess.run(
            [found, *FLAGS, "-o", str(made), str(SOURCE)], stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise LoadError(f"{found} could not build {SOURCE.name}:\n{done.stderr}")
        made.rename(program)
    return program


def generator(*, in_python: bool = False) -> list[str]:
    """The command of the generator to use."""
    program = None if in_python else build()
    return PYTHON if program is None else [str(program)]


@dataclass(frozen=True)
class Outcome:
    """What one run of a load found. Seconds of processor time are those within ``seconds``, the time measured."""

    program: str
    seconds: float
    asked: int
    answered: int
    wrong: int
    first_wrong: str
    unanswered: int
    lost: int
    connects: int
    connect_seconds: float
    bytes_in: int
    load_cpu_seconds: float
    server_cpu_seconds: float
    server_system_share: float
    latency: Histogram
    late: Histogram
    """Open loop: how much later than it was due a question was sent; its latency counts from when it was due."""
    others_share: float
    """Processors that others than server and generator kept busy meanwhile, connecting included."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def per_million(self) -> float:
        """The server's processor seconds for a million answers."""
        return self.server_cpu_seconds / max(1, self.answered) * 1e6

    @property
    def load_share(self) -> float:
        """The generator's processor time by the time it took."""
        return self.load_cpu_seconds / self.seconds if self.seconds else 0.0

    @property
    def bottleneck(self) -> bool:
        """True where the generator was what could not go faster."""
        return self.load_share > BOTTLENECK

    @classmethod
    def of_slices(cls, slices: Sequence[Self]) -> Self:
        """One run that was made in several slices."""
        first = slices[0]
        if len(slices) == 1:
            return first

        def mean(what: str, by: str) -> float:
            """Of a share, where some slices count for more."""
            weights = [getattr(each, by) for each in slices]
            values = [getattr(each, what) * weight for each, weight in zip(slices, weights, strict=True)]
            return sum(values) / sum(weights) if any(weights) else 0.0

        of_all = "seconds asked answered wrong unanswered lost connects connect_seconds bytes_in"
        summed = [*of_all.split(), "load_cpu_seconds", "server_cpu_seconds"]
        return dataclasses.replace(
            first,
            **{name: sum(getattr(each, name) for each in slices) for name in summed},
            first_wrong=next((each.first_wrong for each in slices if each.first_wrong), ""),
            server_system_share=mean("server_system_share", "server_cpu_seconds"),
            others_share=mean("others_share", "seconds"),
            latency=Histogram.merged(each.latency for each in slices),
            late=Histogram.merged(each.late for each in slices),
        )

    def summary(self) -> dict[str, Any]:
        """For JSON: all numbers, and the latency in milliseconds instead of the histograms."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("latency", "late")}
        shares = {"p50_ms": 50.0, "p99_ms": 99.0, "p99_9_ms": 99.9}
        numbers |= {name: self.latency.milliseconds(share) for name, share in shares.items()}
        numbers |= {"max_ms": self.latency.max / 1e6, "late_p99_ms": self.late.milliseconds(99)}
        numbers |= {"rate": self.rate, "per_million": self.per_million, "load_share": self.load_share}
        return numbers


def run(
    command: list[str], plan: Path, port: int, *, pid: int = 0, cpu: int | None = None, **options: object
) -> Outcome:
    """Put a load on a server. ``options`` are those of the generator, ``cpu`` the processor to keep it on.

    Raises LoadError.
    """
    words = [f"--plan={plan}", f"--port={port}", f"--pid={pid}"]
    words.append(f"--vary-from={next(_VARIATIONS) * VARIATIONS % 10**8}")
    words += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    pinned = ["taskset", "-c", str(cpu)] if cpu is not None and shutil.which("taskset") else []
    busy = busy_seconds()
    began = os.times()
    done = subprocess.run(
        [*pinned, *command, *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN,
        check=False,
    )
    if done.returncode:
        raise LoadError(f"the load generator ended with {done.returncode}: {done.stderr.strip()}")
    ended = os.times()
    said = json.loads(done.stdout)
    wall = ended.elapsed - began.elapsed
    used = ended.children_user + ended.children_system - began.children_user - began.children_system
    used += said["server_cpu_seconds"] / max(said["seconds"], 1e-9) * min(wall, said["seconds"])
    others = (busy_seconds() - busy - used) / wall if wall else 0.0
    said.pop("answered_in_all")
    return Outcome(
        **said
        | {
            "latency": Histogram.from_json(said["latency"]),
            "late": Histogram.from_json(said["late"]),
            "others_share": max(0.0, others),
        }
    )
