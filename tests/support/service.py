"""The real service in a process of its own, as an operator starts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

STARTS_WITHIN = 30.0
STOPS_WITHIN = 10.0


class Service:
    """A running ``tars-registry serve``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.query_port = 0
        self.registry_port = 0
        self.admin_port = 0
        self.lines: list[str] = []
        """What it wrote to standard error so far."""
        self._grown = asyncio.Event()

    @property
    def locator(self) -> str:
        """How a TARS client is told of it."""
        return f"tars.tarsregistry.QueryObj@tcp -h 127.0.0.1 -p {self.query_port}"

    @property
    def log(self) -> str:
        """Standard error so far."""
        return "\n".join(self.lines)

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def follow(self) -> None:
        """Read standard error until it ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode(errors="replace").rstrip())
            self._grown.set()
        self.lines.append("")
        self._grown.set()

    async def says(self, pattern: str, timeout: float = STARTS_WITHIN) -> re.Match[str]:
        """Wait for a line of the log."""
        seen = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    while seen < len(self.lines):
                        if found := re.search(pattern, self.lines[seen]):
                            return found
                        seen += 1
                    if self.process.returncode is not None and self.lines[-1:] == [""]:
                        break
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            pass
        raise AssertionError(f"the service never said {pattern!r}:\n{self.log}")


@contextlib.asynccontextmanager
async def serving(manifests: Path, *options: str, query_port: int = 0, synced: bool = True) -> AsyncIterator[Service]:
    """Run the service on loopback with this directory; by default wait until it has read it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "registry",
        "serve",
        "--source=directory",
        f"--manifests={manifests}",
        f"--query-listen=127.0.0.1:{query_port}",
        "--registry-listen=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
        "--drain-delay=0",
        "--reconnect-grace=0.2",
        *options,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("TARS_REGISTRY_")},
    )
    async with attached(process, synced=synced) as service:
        yield service


@contextlib.asynccontextmanager
async def attached(process: asyncio.subprocess.Process, *, synced: bool = True) -> AsyncIterator[Service]:
    """A service that was started; by default wait until it is synchronised. It is stopped at the end."""
    service = Service(process)
    following = asyncio.create_task(service.follow())
    try:
        service.query_port = int((await service.says(r"queries: \S+:(\d+)"))[1])
        service.registry_port = int((await service.says(r"tarsnodes: \S+:(\d+)"))[1])
        service.admin_port = int((await service.says(r"health and metrics .*: http://\S+:(\d+)/"))[1])
        if synced:
            await service.says("synchronised:")
        yield service
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOPS_WITHIN):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"the service did not stop:\n{service.log}") from None
        finally:
            await following
