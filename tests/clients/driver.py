"""Starts a real TARS client (README.md has the contract) and talks to it, one request at a time."""

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

Kind = Literal["go", "node", "java"]
KINDS: Final[tuple[Kind, ...]] = ("go", "node", "java")

INSTALL: Final = Path(__file__).with_name("install")
START_TIMEOUT: Final = 60.0  # a JVM on a busy machine
REQUEST_TIMEOUT: Final = 30.0
GRACE: Final = 3.0
LINE_LIMIT: Final = 16 * 1024 * 1024  # 500 endpoints are 100 kB in one line
STDERR_SHOWN: Final = 4000


class ClientError(Exception):
    """The client ended, took too long or said what is no answer; ends with what it had on standard error."""


def find(kind: Kind) -> list[str] | None:
    """The command that starts the built client; None where it is not built."""
    shown = subprocess.run([INSTALL, "--print-path", kind], check=True, stdout=subprocess.PIPE, text=True)
    program = Path(shown.stdout.rstrip("\n"), "client")
    return [str(program)] if os.access(program, os.X_OK) else None


class RealClient:
    """A running client, as an async context manager.

    ```
    async with RealClient(argv, locator=…, folder=tmp_path) as client:
        answer = await client.request({"op": "endpoints", "obj": "Test.HelloServer.HelloObj"})
    ```
    """

    def __init__(
        self,
        argv: list[str],
        *,
        locator: str,
        folder: Path,
        refresh_ms: int = 100,
        set_division: str | None = None,
    ) -> None:
        """`argv` is what find() gave; in `folder` each client gets a folder of its own to run in."""
        self._argv = [*argv, "--locator", locator, "--refresh-ms", str(refresh_ms)]
        if set_division is not None:
            self._argv += ["--set", set_division]
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._lost: str | None = None
        self.cwd = folder
        self.name = ""  # what the client says it is: "TarsGo v1.4.5"

    @property
    def stderr_path(self) -> Path:
        return self.cwd / "stderr.txt"

    @property
    def pid(self) -> int:
        return self._running().pid

    async def __aenter__(self) -> Self:
        # A fresh one: what one client left on disk must not reach another.
        self.cwd = Path(tempfile.mkdtemp(prefix="client-", dir=self._folder))
        with self.stderr_path.open("wb") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=self.cwd,
                env={name: value for name, value in os.environ.items() if not name.startswith("TARS_")},
                limit=LINE_LIMIT,
            )
        try:
            ready = await self._answer(START_TIMEOUT, "its first line")
            if ready.get("ready") is not True:
                raise ClientError(f"{self} did not say that it is ready: {ready}")
            self.name = str(ready["client"])
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def request(self, command: dict[str, Any], *, timeout: float = REQUEST_TIMEOUT) -> dict[str, Any]:
        """Send a command, return the answer, also one that is `"ok": false`."""
        async with self._lock:
            if self._lost is not None:
                raise ClientError(f"{self} is out of step since {self._lost}")
            process = self._running()
            assert process.stdin is not None
            what = json.dumps(command)
            try:
                process.stdin.write(what.encode() + b"\n")
                await process.stdin.drain()
            except ConnectionError:
                pass  # it ended: reading tells how
            return await self._answer(timeout, f"the answer to {what}")

    async def _answer(self, timeout: float, what: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdout is not None
        self._lost = what
        try:
            async with asyncio.timeout(timeout):
                line = await process.stdout.readline()
                if not line:
                    code = await process.wait()
                    raise ClientError(f"{self} ended with {code} instead of {what}\n{self._stderr()}")
        except TimeoutError:
            raise ClientError(f"{self} took over {timeout} s for {what}\n{self._stderr()}") from None
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError(f"{self} said {line!r} instead of {what}\n{self._stderr()}")
        self._lost = None
        return answer

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # a client ends with its standard input
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except BaseException as error:
            if process.returncode is None:
                process.kill()
            await process.wait()
            if not isinstance(error, TimeoutError):
                raise

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ClientError(f"{self} is not started")
        return self._process

    def _stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")[-STDERR_SHOWN:]

    def __str__(self) -> str:
        return f"{self.name or 'client'} ({self._argv[0]}, in {self.cwd})"
