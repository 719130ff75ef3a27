"""What is wanted of a writer, what became of it, and the queue between: for each pod only what is newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from registry.kube.fair import Lines, Shares
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

    @property
    def word(self) -> str:
        """What became of it, for counters."""
        return self.reason or str(self.result)

    @property
    def error(self) -> str:
        """What the caller is told; "" where all is well."""
        return "" if self.result in (Result.WRITTEN, Result.UNCHANGED) else self.text


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

    @property
    def heard(self) -> bool:
        """True while somebody waits for what becomes of it."""
        return any(not future.done() for future in self.waiting)

    def settle(self, outcome: Outcome) -> None:
        """Tell everybody."""
        for future in self.waiting:
            if not future.done():
                future.set_result(outcome)
        self.waiting.clear()


Key = tuple[str, str, str]
"""Namespace and name of a pod; where several namespaces may have it: none, its name, and the address of the caller."""


@dataclass(slots=True, eq=False)
class Job:
    """What there is to do about one pod: the newest report of each caller, in the order in which they came."""

    key: Key
    since: float
    entries: dict[str, Entry] = field(default_factory=dict)
    busy: bool = False
    """Queued, worked on, or waiting to be tried again."""
    ready: bool = False
    """Queued: it stands in the line of each address that reported."""
    failures: int = 0
    again: asyncio.TimerHandle | None = None


OVERLOAD: Final = "overload"


class Reports:
    """The jobs, by pod, and those whose turn it is. ``done`` is called for reports for which there is no room.

    The addresses that report have their turns one after the other. Where no more than ``most`` reports may wait, the
    address that has the most of them gives one up for another that has fewer.
    """

    def __init__(self, clock: Callable[[], float], most: int, done: Callable[[Entry, Outcome], None]) -> None:
        self._clock = clock
        self._most = most
        self._done = done
        self._jobs: dict[Key, Job] = {}
        self._shares: Shares[Job] = Shares()
        self._ready: Lines[Job] = Lines()

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
        if not self._make_room(key, wanted):
            self._refuse(Entry(wanted, [future]))
            return future
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = Job(key, self._clock())
        older = job.entries.get(wanted.peer)
        waiting = [each for each in older.waiting if not each.done()] if older else []
        # At the end, however old the one before it: the last of all is the newest.
        job.entries.pop(wanted.peer, None)
        job.entries[wanted.peer] = Entry(wanted, [*waiting, future])
        self._shares.add(wanted.peer, job)
        self._queue(job)
        return future

    async def next(self) -> Job:
        """Wait for a job whose turn it is."""
        while True:
            job = await self._ready.get()
            # It may have had its turn in another line, or be given up.
            if job.ready:
                job.ready = False
                return job

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
        self._ready = Lines()
        for job in self._jobs.values():
            job.busy = job.ready = False
            self._queue(job)

    def stop(self) -> None:
        """Set off no more timers."""
        for job in self._jobs.values():
            if job.again:
                job.again.cancel()
                job.again = None

    def _make_room(self, key: Key, wanted: Wanted) -> bool:
        """See to it that one more report may wait; False where it may not."""
        job = self._jobs.get(key)
        if job and wanted.peer in job.entries:
            return True
        if job and len(job.entries) >= MAX_CALLERS:
            # As far as the table knows, these are not the pod: they do not keep out the one that is.
            strangers = [entry for entry in job.entries.values() if not entry.wanted.listed]
            if not wanted.listed or not strangers:
                return False
            self._push_out(job, strangers[-1].wanted.peer)
        if len(self._shares) < self._most or not wanted.peer:
            return True
        surplus = self._shares.surplus(wanted.peer)
        if surplus is None:
            return False
        address, other = surplus
        self._push_out(other, address)
        return True

    def _push_out(self, job: Job, peer: str) -> None:
        """Give up a report, which others have more right to the place of."""
        entry = self._drop(job, peer)
        if not job.entries and (job.ready or job.again):
            self._give_up(job)
        self._refuse(entry)

    def _refuse(self, entry: Entry) -> None:
        outcome = Outcome(Result.REFUSED, OVERLOAD, "too many reports wait to be written already")
        self._done(entry, outcome)
        entry.settle(outcome)

    def _drop(self, job: Job, peer: str) -> Entry:
        self._shares.discard(peer, job)
        return job.entries.pop(peer)

    def _give_up(self, job: Job) -> None:
        """There is nothing to do for it any more."""
        job.busy = job.ready = False
        if job.again:
            job.again.cancel()
            job.again = None
        del self._jobs[job.key]

    def _settled(self, job: Job, entries: list[Entry], *, again: bool = True) -> bool:
        for entry in entries:
            if job.entries.get(entry.wanted.peer) is entry:
                self._drop(job, entry.wanted.peer)
        if not job.entries:
            self._give_up(job)
            return False
        if again:
            job.busy = False
            # It goes to the end of those that wait: what came in meanwhile is as new as theirs.
            job.since = self._clock()
            self._jobs[job.key] = self._jobs.pop(job.key)
            self._queue(job)
        return True

    def _queue(self, job: Job) -> None:
        """In the lines of all who reported, unless it is worked on, or waits to be tried again."""
        if not job.busy:
            job.busy = job.ready = True
        if job.ready:
            for peer in job.entries:
                self._ready.put(peer, job)

    def _retry(self, job: Job) -> None:
        job.again = None
        job.busy = False
        self._queue(job)
