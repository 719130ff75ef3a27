"""Building and running the image as an operator does, with buildah and podman and a storage of the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.service import Service

ROOT: Final = Path(__file__).resolve().parents[2]
INSTALL: Final = Path(__file__).with_name("install")

BUILT_WITHIN: Final = 600.0
STOPPED_WITHIN: Final = 60.0


def limit(kind: int, wanted: int) -> int:
    """That much of something, or what this process may have at most where that is less."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


OPEN_FILES: Final = limit(resource.RLIMIT_NOFILE, 65_536)
PROCESSES: Final = limit(resource.RLIMIT_NPROC, 4_096)

OWN_LIMITS: Final = (
    f"--ulimit=nofile={OPEN_FILES}:{OPEN_FILES}",
    f"--ulimit=nproc={PROCESSES}:{PROCESSES}",
    "--network=host",
    "--log-driver=none",
)
"""What lets a container run here whatever this machine is. podman itself would set limits that a machine whose root
may not raise its own refuses; the network is this machine's loopback."""


def cache() -> Path:
    """Where ``tests/image/install`` puts what it prepares."""
    shown = subprocess.run([INSTALL, "--print-path"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(shown.stdout.rstrip("\n"))


@dataclass(frozen=True)
class Tools:
    """The programs, and where their images and containers are."""

    folder: Path
    base: str
    """The image of Debian to build on."""

    @property
    def environment(self) -> dict[str, str]:
        """For buildah and podman."""
        own = {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            # Needs no namespaces of its own: works as root in a container too.
            "BUILDAH_ISOLATION": "chroot",
            "IMAGE_BUILDER": "buildah",
            "IMAGE_BASE": self.base,
            "ARGS": "--network=host",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("IMAGE", "STORAGE_"))}
        return kept | own

    def podman(self, *arguments: str | Path) -> list[str]:
        """A command of podman. runc and plain control groups: what works without systemd."""
        own = ("--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=file")
        return ["podman", *own, f"--tmpdir={self.folder / 'libpod'}", *map(str, arguments)]

    def output_of(self, *command: str | Path) -> str:
        """Standard output of a program that must succeed."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=BUILT_WITHIN)
        assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    async def ran(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Run a command of podman to its end: exit status, standard output and standard error."""
        process = await asyncio.create_subprocess_exec(
            *self.podman(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        async with asyncio.timeout(STOPPED_WITHIN):
            output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()


def find() -> Tools | None:
    """The tools; None where they were not prepared or can't be used (this is not root)."""
    folder = cache()
    base = folder / "base"
    if os.geteuid() != 0 or not base.is_file():
        return None
    return Tools(folder, base.read_text().strip())


class Container(Service):
    """A container that runs the service; its log is that of the service."""

    def __init__(self, process: asyncio.subprocess.Process, tools: Tools, name: str) -> None:
        super().__init__(process)
        self.name = name
        self._tools = tools

    def inspected(self) -> dict[str, Any]:
        """What podman knows of it."""
        found: list[dict[str, Any]] = json.loads(self._tools.output_of(*self._tools.podman("inspect", self.name)))
        return found[0]

    @property
    def pid(self) -> int:
        """Process id of the service, as this machine sees it."""
        return int(self.inspected()["State"]["Pid"])

    def status_of_process(self) -> dict[str, str]:
        """The kernel's view of the service: user, capabilities and the like."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def memory(self, version_1: str, version_2: str) -> int:
        """A number of the memory control group that it is in, by its name in either version."""
        for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return int(Path(f"/sys/fs/cgroup/memory{path}", version_1).read_text())
            if not controllers and (unified := Path(f"/sys/fs/cgroup{path}", version_2)).exists():
                return int(unified.read_text())
        raise AssertionError("no control group limits the memory of containers here")

    def signal(self, name: str) -> None:
        """Send the service a signal, as its stop does."""
        self._tools.output_of(*self._tools.podman("kill", f"--signal={name}", self.name))

    async def ended(self) -> int:
        """Wait until it has ended: its exit status."""
        async with asyncio.timeout(STOPPED_WITHIN):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def running(tools: Tools, arguments: Sequence[str | Path], *, synced: bool = True) -> AsyncIterator[Container]:
    """Run a container: ``arguments`` are all that ``podman run`` is given, the image among them.

    By default waits until the service in it has its table.
    """
    name = f"tars-registry-test-{uuid.uuid4().hex[:8]}"
    process = await asyncio.create_subprocess_exec(
        *tools.podman("run", f"--name={name}", *OWN_LIMITS, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=tools.environment,
    )
    container = Container(process, tools, name)
    following = asyncio.create_task(container.follow())
    try:
        container.query_port = int((await container.says(r"queries: \S+:(\d+)"))[1])
        container.registry_port = int((await container.says(r"tarsnodes: \S+:(\d+)"))[1])
        container.admin_port = int((await container.says(r"health and metrics .*: http://\S+:(\d+)/"))[1])
        if synced:
            await container.says("synchronised:")
        yield container
    finally:
        await tools.ran("rm", "--force", "--time=0", name)
        await process.wait()
        await following
