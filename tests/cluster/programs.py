"""Programs that tests start, end and start again: no event loop holds them, so that one can outlive a test's."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

STOPS_WITHIN: Final = 10.0
LOG_SHOWN: Final = 6000
POLL_INTERVAL: Final = 0.02

# Below the ports that connections of this machine leave from: so a port is still free when a program that was
# killed comes back to it.
PORTS: Final = range(20000, 30000)


class ProgramError(Exception):
    """A program ended or took too long; with the end of what it logged."""


class Program:
    """One program, its output in a log file."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path) -> None:
        self.name = name
        self.argv = list(map(str, argv))
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        if self._process is None or self._process.poll() is not None:
            raise ProgramError(f"{self.name} does not run\n{self.log_tail()}")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; what it logs is added to the log file."""
        assert not self.running, f"{self.name} runs already"
        # It ends with the tests, however those end.
        tied = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard is for the tests
            )

    async def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def stop(self) -> None:
        """End it in good order (SIGTERM), or by force where that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            await self.kill()

    def log_tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-LOG_SHOWN:] if self.log.exists() else ""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
