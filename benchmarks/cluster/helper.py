"""Processes that measure: each says on standard output that it is ready, works until its standard input ends, and then
writes what it saw as JSON.

Times are those of CLOCK_MONOTONIC in seconds, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from typing import Any, Final, Self

now: Final = time.monotonic
READY: Final = b"ready\n"
ENDS_WITHIN: Final = 60.0


class Helper:
    """A process of a module of this package, as an async context manager: ready on entry."""

    def __init__(self, module: str, *options: object) -> None:
        self._argv = [sys.executable, "-m", f"benchmarks.cluster.{module}", *map(str, options)]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 30
        )
        assert self._process.stdout is not None
        if await self._process.stdout.readline() != READY:
            raise SystemExit(f"{' '.join(self._argv)} did not start")
        return self

    async def finish(self) -> Any:
        """End it; what it saw."""
        assert self._process is not None
        async with asyncio.timeout(ENDS_WITHIN):
            said, _ = await self._process.communicate(b"")
        if self._process.returncode:
            raise SystemExit(f"{' '.join(self._argv)} failed")
        return json.loads(said)

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Ending:
    """In a helper's process: True once it is to end."""

    def __init__(self) -> None:
        self._event = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        sys.stdin.buffer.read()
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        """Until then."""
        self._event.wait()


def ready() -> None:
    """In a helper's process: tell that it works. From now on no collection of garbage comes between."""
    gc.collect()
    gc.disable()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


def tell(what: object) -> None:
    """In a helper's process: what it saw."""
    sys.stdout.write(json.dumps(what))
