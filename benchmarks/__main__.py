"""Measure the service over loopback: answers a second, processor time for a million answers, memory.

The service runs as an operator would start it, from a directory of manifests, with limits, metrics and logs on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

TICKS = os.sysconf("SC_CLK_TCK")
OBJECT_ID = "Bench.Server0.MainObj"


@dataclass(frozen=True)
class Scenario:
    """A load: how many endpoints an answer has, how many connections, questions open at once on each."""

    endpoints: int
    connections: int
    outstanding: int

    def __str__(self) -> str:
        return f"{self.endpoints} endpoints, {self.connections} x {self.outstanding}"


SCENARIOS = [Scenario(endpoints, *load) for endpoints in (3, 500) for load in ((16, 1), (16, 16), (256, 1))]


@dataclass(frozen=True)
class Result:
    """What one run measured. Processor seconds are the service's, for a million answers."""

    scenario: Scenario
    answers_per_second: float
    user_seconds: float
    system_seconds: float
    memory_mib: float
    load_cpu_share: float
    """Processor time of the load generator by the time it took: near 1 it was what could not go faster."""

    @property
    def cpu_seconds(self) -> float:
        """User and system together."""
        return self.user_seconds + self.system_seconds


def write_manifests(folder: Path, servers: int, endpoints: int) -> None:
    """A table of so many servers; the first has so many pods, the others three."""
    documents = []
    for number in range(servers):
        name = f"bench-server{number}"
        pods = [
            {
                "name": f"{name}-{n}",
                "podIP": f"10.{n // 250}.{n % 250}.1",
                "settingState": "Active",
                "presentState": "Active",
            }
            for n in range(endpoints if number == 0 else 3)
        ]
        documents.append(
            {
                "apiVersion": "k8s.tars.io/v1beta3",
                "kind": "TEndpoint",
                "metadata": {"name": name, "namespace": "bench"},
                "spec": {
                    "app": "Bench",
                    "server": f"Server{number}",
                    "tars": {"servants": [{"name": "MainObj", "port": 21010, "timeout": 60000}]},
                },
                "status": {"pods": pods},
            }
        )
    (folder / "table.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": documents}))


@contextmanager
def service(folder: Path) -> Iterator[tuple[int, int]]:
    """Run the service; its process id and query port."""
    command = [sys.executable, "-m", "registry", "serve", "--source=directory", f"--manifests={folder}"]
    command += ["--query-listen=127.0.0.1:0", "--registry-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port, lines = 0, []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"queries: \S+:(\d+)", line):
                    port = int(found[1])
                if "synchronised:" in line:
                    break
            else:
                raise SystemExit("the service did not start:\n" + "".join(lines))
            yield process.pid, port
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def memory_mib(pid: int) -> float:
    """Memory resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


def measure(scenario: Scenario, pid: int, port: int, requests: int) -> Result:
    """One run of one scenario."""
    user, system = cpu_seconds(pid)
    command = [sys.executable, "-m", "benchmarks.load", f"--port={port}", f"--id={OBJECT_ID}", f"--requests={requests}"]
    command += [f"--endpoints={scenario.endpoints}", f"--connections={scenario.connections}"]
    command += [f"--outstanding={scenario.outstanding}"]
    output = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    user_after, system_after = cpu_seconds(pid)
    millions = requests / 1e6
    return Result(
        scenario,
        requests / output["seconds"],
        (user_after - user) / millions,
        (system_after - system) / millions,
        memory_mib(pid),
        output["cpu_seconds"] / output["seconds"],
    )


def main() -> None:
    """Run the scenarios and print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="answers in a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each scenario; medians are shown (default: 3)")
    parser.add_argument("--servers", type=int, default=1000, help="servers in the table (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="every run, as JSON")
    options = parser.parse_args()
    results: list[Result] = []
    for endpoints in sorted({scenario.endpoints for scenario in SCENARIOS}):
        with tempfile.TemporaryDirectory() as folder:
            write_manifests(Path(folder), options.servers, endpoints)
            with service(Path(folder)) as (pid, port):
                for run in range(options.runs):
                    for scenario in SCENARIOS:
                        if scenario.endpoints == endpoints:
                            print(f"run {run + 1} of {options.runs}: {scenario}", file=sys.stderr)
                            results.append(measure(scenario, pid, port, options.requests))
    if options.json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
        print(json.dumps({"machine": machine, "results": [asdict(r) for r in results]}, indent=2))
        return
    print(f"{'scenario':28} {'answers/s':>10} {'CPU s per million (user + system)':>34} {'MiB':>6} {'load CPU':>9}")
    for scenario in SCENARIOS:
        runs = [r for r in results if r.scenario == scenario]
        user, system = median(r.user_seconds for r in runs), median(r.system_seconds for r in runs)
        cost = f"{median(r.cpu_seconds for r in runs):.2f} ({user:.2f} + {system:.2f})"
        rate = median(r.answers_per_second for r in runs)
        memory, share = median(r.memory_mib for r in runs), median(r.load_cpu_share for r in runs)
        print(f"{scenario!s:28} {rate:10,.0f} {cost:>34} {memory:6.1f} {share:9.2f}")


if __name__ == "__main__":
    main()
