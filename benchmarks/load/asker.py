"""The load generator in Python, for machines without a C compiler: the options and the output of load.c.

It is several times slower than that, so with it the generator is what can't go faster in most closed loops; what it
says about processor time of the server is as good.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from benchmarks.histogram import Histogram
from benchmarks.load.plan import FIRST_ID, ID_BYTES, Plan
from benchmarks.machine import process_seconds, split_seconds
from tars_protocol.frames import HEADER_BYTES

CONNECTING_AT_ONCE: Final = 256
TICK: Final = 0.0005
"""Seconds that an open loop sleeps for; what became due meanwhile is late by up to that."""


class Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._partial = b""
        self._sequence = 0
        self._asked = 0
        self.open: dict[int, tuple[int, int]] = {}
        """Open questions by the number of their id: which one, and when it was due."""
        self.began = time.monotonic_ns()
        self.usable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True
        self._load.connects += 1
        if self._load.phase in ("warm", "measure") and not self._load.options.rate:
            self.ask(self._load.options.outstanding, self.began)

    def ask(self, count: int, due: int) -> None:
        """Ask the next so many questions in one write."""
        frames: list[bytes] = []
        for _ in range(count):
            taken = self._load.take()
            if taken is None:
                break
            which, frame, id_at = taken
            self.open[self._sequence] = which, due
            request_id = (FIRST_ID + self._sequence).to_bytes(ID_BYTES, "big")
            frames += (frame[:id_at], request_id, frame[id_at + ID_BYTES :])
            self._sequence += 1
            self._asked += 1
        if frames:
            self._transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        came = time.monotonic_ns()
        load = self._load
        load.bytes_in += len(data)
        data = self._partial + data
        at, size, count = 0, len(data), 0
        while size - at >= HEADER_BYTES:
            end = at + int.from_bytes(data[at : at + HEADER_BYTES], "big")
            if end <= at + HEADER_BYTES:
                load.note_wrong("no frame", data[at:])
                self._transport.abort()
                return
            if end > size:
                break
            load.check(self, data[at:end], came)
            count += 1
            at = end
        self._partial = data[at:]
        if load.options.rate or not count or load.phase == "drain":
            return
        if load.options.reconnect_after and self._asked >= load.options.reconnect_after:
            if not self.open:
                self.usable = False
                self._transport.abort()
                load.connect(self)
            return
        self.ask(count, came)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.usable and self._load.phase != "done":
            self.usable = False
            self._load.note_lost(self)


@dataclass(frozen=True)
class Usage:
    """Seconds: by the clock, of processor time here, and of the server's processor time."""

    wall: float
    own: float
    server: float
    system: float
    ticks: float

    @classmethod
    def now(cls, pid: int) -> Usage:
        """As of now."""
        user, system = split_seconds(pid) if pid else (0.0, 0.0)
        server = process_seconds(pid) if pid else 0.0
        return cls(time.monotonic(), time.process_time(), server, system, user + system)


class Load:
    """The whole load."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        plan = Plan.read(options.plan)
        self._questions = [(each.frame, each.id_at, each.vary_at) for each in plan.questions]
        id_at = self._id_at = plan.id_in_answers
        known = [(frame[:id_at], frame[id_at + ID_BYTES :]) for frame in plan.answers]
        self._right = [known[each.first_answer : each.first_answer + each.answers] for each in plan.questions]
        self._next = 0
        self._variation = options.vary_from
        self.phase = "connect"
        self.askers: list[Asker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began = self.ended = 0
        """Of the measurement, in nanoseconds."""
        self.asked = self.answered = self.answered_in_all = self.asked_in_all = self.wrong = self.unanswered = 0
        self.lost = self.connects = self.bytes_in = 0
        self.first_wrong = ""
        self.latency, self.late = Histogram(), Histogram()

    def take(self) -> tuple[int, bytes, int] | None:
        """The next question: its number, its frame, where its id is."""
        if self.options.questions and self.asked_in_all >= self.options.questions:
            return None
        which = self._next
        self._next = (which + 1) % len(self._questions)
        frame, id_at, vary_at = self._questions[which]
        if vary_at:
            frame = frame[:vary_at] + b"%08d" % (self._variation % 10**8) + frame[vary_at + 8 :]
            self._variation += 1
        self.asked_in_all += 1
        if self.phase == "measure" and not self.options.rate:
            self.asked += 1
        return which, frame, id_at

    def check(self, asker: Asker, frame: bytes, came: int) -> None:
        """One answer."""
        self.answered_in_all += 1
        if self.options.questions and self.answered_in_all == self.options.questions:
            self._enough.set_result(None)
        at = self._id_at
        if len(frame) < at + ID_BYTES:
            return self.note_wrong("too short", frame)
        sequence = struct.unpack_from(">I", frame, at)[0] - FIRST_ID
        pending = asker.open.pop(sequence, None)
        if pending is None:
            return self.note_wrong("an id that was not asked with", frame)
        which, due = pending
        if (frame[:at], frame[at + ID_BYTES :]) not in self._right[which]:
            self.note_wrong("another answer than was expected", frame)
        if self.began <= due < self.ended if self.options.rate else self.phase == "measure":
            self.answered += 1
            self.latency.add(came - due)
        return None

    def note_wrong(self, why: str, frame: bytes) -> None:
        """An answer was wrong."""
        self.wrong += 1
        if self.wrong == 1:
            self.first_wrong = f"{why}: {frame[:64].hex()}"

    def note_lost(self, asker: Asker) -> None:
        """The server closed a connection."""
        if self.phase == "drain" and not asker.open:
            return
        self.lost += 1
        self.unanswered += sum(due >= self.began for _, due in asker.open.values())
        asker.open.clear()
        self.connect(asker)

    def connect(self, instead_of: Asker | None = None) -> asyncio.Task[None]:
        """One more connection, or one in the place of another."""
        asker = Asker(self)
        if instead_of is None:
            self.askers.append(asker)
        else:
            self.askers[self.askers.index(instead_of)] = asker
        task = asyncio.get_running_loop().create_task(self._connect(asker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, asker: Asker) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: asker, self.options.host, self.options.port)
            transport = asker._transport
            sock = transport.get_extra_info("socket")
            # Reset at the end, so that no address stays taken for a minute.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError as error:
            if not self._failure.done():
                self._failure.set_exception(error)

    async def run(self) -> dict[str, Any]:
        """Put the load on; what came of it."""
        options = self.options
        connect_began = time.monotonic()
        for start in range(0, options.connections, CONNECTING_AT_ONCE):
            count = min(CONNECTING_AT_ONCE, options.connections - start)
            await asyncio.gather(*(self.connect() for _ in range(count)))
            if self._failure.done():
                self._failure.result()
        connect_seconds = time.monotonic() - connect_began
        start_ns = time.monotonic_ns()
        self.began = start_ns + int(options.warm_up * 1e9)
        self.ended = self.began + int(options.seconds * 1e9)
        self.phase = "warm" if options.warm_up > 0 else "measure"
        before = Usage.now(options.pid)
        if not options.rate:
            for asker in self.askers:
                asker.ask(options.outstanding, time.monotonic_ns())
        asking = asyncio.create_task(self._ask_on_time(start_ns)) if options.rate else None
        if self.phase == "warm":
            await self._until(self.began)
            before, self.phase = Usage.now(options.pid), "measure"
        await self._until(self.ended)
        after, self.phase = Usage.now(options.pid), "drain"
        if asking:
            await asking
        give_up = time.monotonic() + options.grace
        # One look at all of them now and then costs less than an event for each answer.
        while any(self._left()) and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        now = time.monotonic_ns()
        for due in self._left():
            self.unanswered += 1
            self.latency.add(now - due)
        self.phase = "done"
        ticks = after.ticks - before.ticks
        return {
            "program": "python",
            "seconds": after.wall - before.wall,
            "asked": self.asked,
            "answered": self.answered,
            "answered_in_all": self.answered_in_all,
            "wrong": self.wrong,
            "first_wrong": self.first_wrong,
            "unanswered": self.unanswered,
            "lost": self.lost,
            "connects": self.connects,
            "connect_seconds": connect_seconds,
            "bytes_in": self.bytes_in,
            "load_cpu_seconds": after.own - before.own,
            "server_cpu_seconds": after.server - before.server,
            "server_system_share": (after.system - before.system) / ticks if ticks > 0 else 0.0,
            "latency": self.latency.to_json(),
            "late": self.late.to_json(),
        }

    def _left(self) -> list[int]:
        """When the questions that are open, and count, were due."""
        everything = [due for asker in self.askers for _, due in asker.open.values()]
        return [due for due in everything if not self.options.rate or self.began <= due < self.ended]

    async def _until(self, when: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, (when - time.monotonic_ns()) / 1e9)):
                await asyncio.wait([self._enough, self._failure], return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            self._failure.result()

    async def _ask_on_time(self, began: int) -> None:
        sent = 0
        while True:
            now = time.monotonic_ns()
            while (due := began + int(sent * 1e9 / self.options.rate)) <= now and due < self.ended:
                asker = self.askers[sent % len(self.askers)]
                counts = self.began <= due
                if counts:
                    # Counted by when it was due, as its answer is: it may go out in another phase.
                    self.asked += 1
                    self.late.add(time.monotonic_ns() - due)
                if asker.usable:
                    asker.ask(1, due)
                elif counts:
                    self.unanswered += 1
                sent += 1
            if due >= self.ended:
                return
            await asyncio.sleep(TICK)


def parser() -> argparse.ArgumentParser:
    """The options, which are those of load.c."""
    made = argparse.ArgumentParser(prog="load", description=__doc__, allow_abbrev=False)
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, required=True)
    made.add_argument("--plan", type=Path, required=True, help="the questions and the right answers")
    made.add_argument("--connections", type=int, default=1)
    made.add_argument("--outstanding", type=int, default=1, help="closed loop: questions open on each connection")
    made.add_argument("--rate", type=float, default=0.0, help="open loop: questions a second")
    made.add_argument("--warm-up", type=float, default=0.2, help="seconds that are not measured")
    made.add_argument("--seconds", type=float, default=1.0, help="seconds that are")
    made.add_argument("--grace", type=float, default=2.0, help="seconds to wait for the last answers")
    made.add_argument("--pid", type=int, default=0, help="the server's process, for its processor time")
    made.add_argument("--reconnect-after", type=int, default=0, help="answers, then a new connection is made")
    made.add_argument("--vary-from", type=int, default=0, help="the first number where questions vary")
    made.add_argument("--questions", type=int, default=0, help="so many, then it ends")
    return made


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    return await Load(options).run()


def main() -> None:
    """Print what came of the load as JSON."""
    made = parser()
    options = made.parse_args()
    if options.rate and options.reconnect_after:
        made.error("--reconnect-after is for a closed loop")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_run(options))))


if __name__ == "__main__":
    main()
