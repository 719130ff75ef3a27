"""What the operating system says of processes and of the machine: processor time, memory, who else is at work."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
ROOT: Final = Path(__file__).resolve().parent.parent

_CPUCLOCK_SCHED: Final = 2
"""In the number of a process's clock: the precise time of all its threads (clock_getcpuclockid(3))."""


def process_seconds(pid: int) -> float:
    """Processor time of a process so far, to the nanosecond. Raises OSError where there is none."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def split_seconds(pid: int) -> tuple[float, float]:
    """User and system seconds of a process so far, to the system's tick of some milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def resident_kib(pid: int) -> int:
    """Memory resident, in KiB."""
    return _status(pid, "VmRSS:")


def most_resident_kib(pid: int) -> int:
    """Memory resident at most so far, in KiB."""
    return _status(pid, "VmHWM:")


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def busy_seconds() -> float:
    """Processor time that anybody used on this machine so far, all processors together."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields) - idle - waiting) / TICKS


def pin(pid: int, processors: Iterable[int]) -> None:
    """Keep a process, its threads included, on some processors."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), processors)


def commit() -> str:
    """The commit of this checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def describe(command: str) -> dict[str, Any]:
    """Where and when something was measured, and by what command."""
    model = ""
    memory = 0.0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = int(line.split()[1]) / (1 << 20)
    return {
        "command": command,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{model or platform.machine()}, {os.cpu_count()} processors",
        "memory_gib": round(memory, 1),
        "load_before": os.getloadavg()[0],
    }
