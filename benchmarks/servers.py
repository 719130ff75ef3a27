"""The processes that are measured: the service as an operator starts it, the service with a source that the harness
drives (driven.py), and the floor."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.load.plan import FIRST_ID, ID_BYTES, Asked, Lists, Plan, id_in_answer, question, read_answer
from benchmarks.tables import Table, expected, object_id
from registry import config
from tars_protocol.frames import HEADER_BYTES

STARTS_WITHIN: Final = 120.0
ANSWERS_WITHIN: Final = 10.0
RUNNERS: Final = sorted(os.sched_getaffinity(0))
SERVER_CPU: Final = RUNNERS[0] if len(RUNNERS) > 1 else None
LOAD_CPU: Final = RUNNERS[1] if len(RUNNERS) > 1 else None
"""Server and generator each keep to a processor: where the system moves them together and apart again, what an answer
costs jumps by a tenth."""

AS_IN_THE_IMAGE: Final = {"PYTHONMALLOC": "malloc"}
"""What the service has in its environment where it is run as a container: the C library's heap for all memory, as what
a flood of callers took can be given back from it page by page."""


class WrongAnswer(Exception):
    """A server answered what it must not; nothing is measured then."""


@dataclass
class Server:
    """Something that answers. ``pid`` is 0 where its process is not of this machine."""

    name: str
    port: int
    pid: int
    host: str = "127.0.0.1"
    process: subprocess.Popen[str] | None = None
    admin_port: int = 0

    def ask(self, frame: bytes) -> bytes:
        """One answer, over a connection of its own."""
        with self.connect() as sock:
            return exchange(sock, frame)

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection((self.host, self.port), timeout=ANSWERS_WITHIN)

    def memory_kib(self) -> int:
        """Resident."""
        return machine.resident_kib(self.pid)

    def command(self, text: str) -> dict[str, Any]:
        """Tell driven.py something; what it answers."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said


def exchange(sock: socket.socket, frame: bytes) -> bytes:
    """Send a question and read its answer. Raises OSError."""
    sock.sendall(frame)
    with sock.makefile("rb", buffering=0) as file:
        head = _exactly(file, HEADER_BYTES)
        return head + _exactly(file, int.from_bytes(head, "big") - HEADER_BYTES)


def _exactly(file: socket.SocketIO, size: int) -> bytes:
    parts = []
    while size:
        part = file.read(size)
        if not part:
            raise ConnectionError("the server closed the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def learn(server: Server, questions: Sequence[bytes], saying: Sequence[Lists | None]) -> list[bytes]:
    """The answers to questions, each decoded with our codec and compared with what it must say (None: anything).

    Raises WrongAnswer.
    """
    answers = []
    with server.connect() as sock:
        for frame, right in zip(questions, saying, strict=True):
            answer = exchange(sock, frame)
            try:
                said = read_answer(answer)
                at = id_in_answer(answer)
            except ValueError as error:
                raise WrongAnswer(f"{server.name}: {error}") from None
            if answer[at : at + ID_BYTES] != FIRST_ID.to_bytes(ID_BYTES, "big"):
                raise WrongAnswer(f"{server.name} answered with another request id")
            if right is not None and said != right:
                raise WrongAnswer(f"{server.name} answered {said}, not {right}")
            answers.append(answer)
    return answers


def changing_plan(server: Server, table: Table, changing: int) -> Plan:
    """A plan for driven.py's servers that change: two answers are right for each."""
    numbers = range(changing)
    frames = [question(object_id(number)) for number in numbers]
    before = learn(server, frames, [table.expected(number) for number in numbers])
    server.command("flip")
    changed = [expected(number, table.pods_of(number), table.pods_of(number) - 1) for number in numbers]
    after = learn(server, frames, changed)
    server.command("flip")
    answers = [answer for pair in zip(before, after, strict=True) for answer in pair]
    return Plan([Asked(frame, 2 * number, 2) for number, frame in enumerate(frames)], answers)


def plan_of(server: Server, table: Table, numbers: Sequence[int] = (0,)) -> Plan:
    """A plan that asks for some servers of a table in turn."""
    frames = [question(object_id(number)) for number in numbers]
    answers = learn(server, frames, [table.expected(number) for number in numbers])
    return Plan([Asked(frame, at) for at, frame in enumerate(frames)], answers)


# ------------------------------------------------------------------------------------------------ processes


def many_connections(count: int) -> list[str]:
    """The service's options for so many connections from one address."""
    options = [f"--max-connections={count}"]
    if "max_connections_per_peer" in {item.name for item in config.settings()}:
        options.append(f"--max-connections-per-peer={count}")
    return options


@contextmanager
def service(table: Table, folder: Path, *options: str, name: str = "service") -> Iterator[Server]:
    """``tars-registry serve`` on a directory of manifests, with everything on, until it is left."""
    folder = folder / f"manifests-{time.monotonic_ns()}"
    folder.mkdir()
    table.write(folder)
    command = [sys.executable, "-m", "registry", "serve", "--source=directory", f"--manifests={folder}"]
    with _started(name, [*command, *options]) as server:
        yield server


@contextmanager
def driven(*options: str, name: str = "service") -> Iterator[Server]:
    """The service with driven.py's source; it takes commands on standard input."""
    with _started(name, [sys.executable, "-m", "benchmarks.driven", *options]) as server:
        yield server


def listening(command: Sequence[str]) -> list[str]:
    """A command of the service, listening on free ports of loopback."""
    loopback = ["--query-listen=127.0.0.1:0", "--registry-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]
    return [*command, *loopback]


@contextmanager
def _started(name: str, command: list[str]) -> Iterator[Server]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TARS_REGISTRY_")}
    environment |= AS_IN_THE_IMAGE
    # A folder for standard error, not a pipe: nobody reads it while the service is measured.
    log = Path(os.environ.get("TMPDIR", "/tmp")) / f"tars-registry-bench-{os.getpid()}-{time.monotonic_ns()}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            listening(command),
            cwd=machine.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    try:
        port, admin_port = _wait_until_synchronised(process, log)
        if SERVER_CPU is not None:
            machine.pin(process.pid, [SERVER_CPU])
        yield Server(name, port, process.pid, process=process, admin_port=admin_port)
    finally:
        # It would take its time to let its callers go.
        process.kill()
        process.communicate()
        log.unlink()


def _wait_until_synchronised(process: subprocess.Popen[str], log: Path) -> tuple[int, int]:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text(errors="replace")
        port, admin = re.search(r"queries: \S+:(\d+)", text), re.search(r"metrics \S+: http://\S+:(\d+)/", text)
        if port and admin and "synchronised:" in text:
            return int(port[1]), int(admin[1])
        time.sleep(0.02)
    raise SystemExit(f"the service did not start within {STARTS_WITHIN:g} s:\n{log.read_text(errors='replace')}")


@contextmanager
def floor(plan: Path) -> Iterator[Server]:
    """The floor, answering with the first answer of a plan."""
    command = [sys.executable, "-m", "benchmarks.floor", f"--plan={plan}"]
    with subprocess.Popen(
        command, cwd=machine.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], STARTS_WITHIN)
            port = int(process.stdout.readline() or 0) if ready else 0
            if not port:
                raise SystemExit("the floor did not start")
            if SERVER_CPU is not None:
                machine.pin(process.pid, [SERVER_CPU])
            yield Server("floor", port, process.pid, process=process)
        finally:
            process.kill()
