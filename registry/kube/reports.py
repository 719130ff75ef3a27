"""What is wanted of a writer, what became of it, and the queue between: for each pod only what is newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from registry.kube.pods import Condition, PodView

MAX_CALLERS: Final = 8
"""Callers whose reports about one pod wait at a time: one is usual, and nobody else's may push that one out."""


class Result(StrEnum):
    """What became of a report."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    FAILED = "failed"
    """Not yet written, and it will take a while; it stays queued."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``reason`` is a word for counters, ``text`` says it to people; ``before`` is what the condition was ("": none).

    ``pod`` is the pod it was about, where it was read.
    """

    result: Result
    reason: str = ""
    text: str = ""
    namespace: str = ""
    before: str = ""
    pod: PodView | None = None
    suspect: str = ""
    """Why the caller would have been refused, were callers checked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A condition that a pod is to have, and who says so.

    ``namespaces`` are those that the pod may be in, the likeliest first. ``peer`` is the address that the report came
    from; "" for the registry's own, which is not checked. ``listed``: whether the table has that address for the pod;
    None where it does not know the pod. ``origin`` is whatever whoever wants it knows it by.
    """

    namespaces: tuple[str, ...]
    name: str
    condition: Condition
    peer: str = ""
    listed: bool | None = None
    origin: object = None


@dataclass(slots=True)
class Entry:
    """A report that waits, with all who wait for it or for an older one of the same caller."""

    wanted: Wanted
    waiting: list[asyncio.Future[Outcome]]
    tried: str | None = None
    """What the condition was before a patch whose answer is not known; None where there was none."""

    def settle(self, outcome: Outcome) -> None:
        """Tell everybody."""
        for future in self.waiting:
            if not future.done():
                future.set_result(outcome)
        self.waiting.clear()


Key = tuple[str, str, str]
"""Namespace and name of a pod; where several namespaces may have it: none, its name, and the address of the caller."""


@dataclass(slots=True)
class Job:
    """What there is to do about one pod: the newest report of each caller, in the order in which they came."""

    key: Key
    since: float
    entries: dict[str, Entry] = field(default_factory=dict)
    busy: bool = False
    """Queued, worked on, or waiting to be tried again."""
    failures: int = 0
    again: asyncio.TimerHandle | None = None


class Reports:
    """The jobs, by pod, and those whose turn it is."""

    def __init__(self, clock: Callable[[], float], most: int) -> None:
        self._clock = clock
        self._most = most
        self._jobs: dict[Key, Job] = {}
        self._ready: asyncio.Queue[Job] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def oldest(self) -> float:
        """Seconds for which the report that waits the longest has waited."""
        first = next(iter(self._jobs.values()), None)
        return self._clock() - first.since if first else 0.0

    def add(self, wanted: Wanted) -> asyncio.Future[Outcome]:
        """Queue a report; it takes the place of the one before it from the same caller about the same pod."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        several = len(wanted.namespaces) > 1
        key = ("", wanted.name, wanted.peer) if several else (wanted.namespaces[0], wanted.name, "")
        job = self._jobs.get(key)
        older = job.entries.get(wanted.peer) if job else None
        if (job is None and len(self._jobs) >= self._most) or (job and not older and len(job.entries) >= MAX_CALLERS):
            future.set_result(Outcome(Result.REFUSED, "overload", "too many reports wait to be written already"))
            return future
        if job is None:
            job = self._jobs[key] = Job(key, self._clock())
        waiting = [each for each in older.waiting if not each.done()] if older else []
        # At the end, however old the one before it: the last of all is the newest.
        job.entries.pop(wanted.peer, None)
        job.entries[wanted.peer] = Entry(wanted, [*waiting, future])
        self._queue(job)
        return future

    async def next(self) -> Job:
        """Wait for a job whose turn it is."""
        return await self._ready.get()

    def done(self, job: Job, entries: list[Entry]) -> None:
        """These reports need nothing more; what came in meanwhile does."""
        job.failures = 0
        self._settled(job, entries)

    def failed(self, job: Job, entries: list[Entry], seconds: float) -> None:
        """Try the job again in so many seconds, but for these reports, which need nothing more."""
        job.failures += 1
        if self._settled(job, entries, again=False):
            job.again = asyncio.get_running_loop().call_later(seconds, self._retry, job)

    def start_over(self) -> None:
        """Nobody works on anything: every job's turn has come."""
        self.stop()
        self._ready = asyncio.Queue()
        for job in self._jobs.values():
            job.busy = False
            self._queue(job)

    def stop(self) -> None:
        """Set off no more timers."""
        for job in self._jobs.values():
            if job.again:
                job.again.cancel()
                job.again = None

    def _settled(self, job: Job, entries: list[Entry], *, again: bool = True) -> bool:
        for entry in entries:
            if job.entries.get(entry.wanted.peer) is entry:
                del job.entries[entry.wanted.peer]
        if not job.entries:
            job.busy = False
            self._jobs.pop(job.key, None)
            return False
        if again:
            job.busy = False
            # It goes to the end of those that wait: what came in meanwhile is as new as theirs.
            job.since = self._clock()
            self._jobs[job.key] = self._jobs.pop(job.key)
            self._queue(job)
        return True

    def _queue(self, job: Job) -> None:
        if not job.busy:
            job.busy = True
            self._ready.put_nowait(job)

    def _retry(self, job: Job) -> None:
        job.again = None
        job.busy = False
        self._queue(job)
