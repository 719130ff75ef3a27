"""The service as a process, as an operator would start it."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.cluster.contents import NAMESPACE, Contents
from benchmarks.cluster.helper import now
from tests.cluster.programs import free_ports

READY_WITHIN: Final = 180.0
POLL: Final = 0.01
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Service:
    """A running service."""

    def __init__(self, process: subprocess.Popen[bytes], ports: list[int], log: Path, began: float) -> None:
        self.port, _, self.admin_port = ports
        self.began = began
        self._process = process
        self._log = log

    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        if self._process.poll() is not None:
            raise SystemExit(f"the service ended:\n{self.log()}")
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=READY_WITHIN)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def wait_ready(self) -> float:
        """Wait until it is; seconds since its start."""
        while not self.is_ready():
            if now() - self.began > READY_WITHIN:
                raise SystemExit(f"the service was not ready within {READY_WITHIN:g} s:\n{self.log()}")
            time.sleep(POLL)
        return now() - self.began

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=READY_WITHIN)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self) -> tuple[float, float]:
        """Memory resident now, and at most so far."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        sizes = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
        return int(sizes["VmRSS"]) / 1024, int(sizes["VmHWM"]) / 1024

    def log(self) -> str:
        """All that it logged."""
        return self._log.read_text(errors="replace")


@contextmanager
def service(kubeconfig: Path, contents: Contents, folder: Path) -> Iterator[Service]:
    """Start it; it is ended on leaving."""
    ports = free_ports(3)
    query, registry, admin = (f"127.0.0.1:{port}" for port in ports)
    command = [sys.executable, "-m", "registry", "serve", "--source=kubernetes", f"--kubeconfig={kubeconfig}"]
    command += [f"--namespace={NAMESPACE}", f"--discover={contents.kind}"]
    command += [f"--query-listen={query}", f"--registry-listen={registry}", f"--admin-listen={admin}"]
    log = folder / "service.log"
    with log.open("wb") as file:
        began = now()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield Service(process, ports, log, began)
    finally:
        process.kill()
        process.wait()
