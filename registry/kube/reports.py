"""What is wanted of a writer, what became of it, and the queue between: for each pod only what is newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from registry.kube.fair import Lines, Shares
from registry.kube.pods import Condition, PodView

NO_ADDRESS: Final = "no_address"
FORBIDDEN: Final = "forbidden"
_HELD_UP: Final = frozenset((NO_ADDRESS, FORBIDDEN))
"""Failures that last for as long as somebody else does nothing about them."""

MAX_CALLERS: Final = 8
"""Callers whose reports about one pod wait at a time: one is usual, and nobody else's may push that one out."""


class Result(StrEnum):
    """What became of a report."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    """What the pod said later is there already: another registry wrote it."""
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
        return "" if self.result in (Result.WRITTEN, Result.UNCHANGED, Result.SUPERSEDED) else self.text


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


@dataclass(slots=True, eq=False)
class Entry:
    """A report that waits, with all who wait for it or for an older one of the same caller."""

    wanted: Wanted
    waiting: list[asyncio.Future[Outcome]]
    arrived: float
    first: float
    """When the first of this caller's reports came that nothing has become of yet."""
    tried: str | None = None
    """What the condition was before a patch whose answer is not known; None where there was none."""
    newer: Entry | None = None
    """The report of the same caller that has taken its place."""
    moved: bool = False
    """That one is another job's, which does not wait for this one's turn to end."""
    at_work: bool = False

    @property
    def heard(self) -> bool:
        """True while somebody waits for what becomes of it."""
        return any(not future.done() for future in self.waiting)

    def replace(self, older: Entry) -> None:
        """Take the place of an older report."""
        self.waiting[:0] = [each for each in older.waiting if not each.done()]
        self.first = min(self.first, older.first)
        if older.tried is not None and older.wanted.condition.same(self.wanted.condition):
            self.tried = older.tried
        older.newer = self

    def answered(self) -> None:
        """What became of its patch is known."""
        entry: Entry | None = self
        while entry is not None:
            entry.tried = None
            entry = entry.newer

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
    tried: bool = False
    """It had its turn before, in vain."""
    failures: int = 0
    """In a row, that have to do with the pod."""
    waits_for: str = ""
    """The failure that holds it up, where it is one that may last."""
    again: asyncio.TimerHandle | None = None


OVERLOAD: Final = "overload"

_OWN: Final = "the registry"
"""Stands for its own address where it has no precedence."""


class Reports:
    """The jobs, by pod, and those whose turn it is. ``done`` is called for reports for which there is no room.

    The addresses that report have their turns one after the other, and so have jobs that were not tried yet and those
    that were, in vain: pods that can never be written hold up no others. Where no more than ``most`` reports may wait,
    the address that has the most of them gives one up for another that has fewer; those at work are not counted.
    """

    def __init__(self, clock: Callable[[], float], most: int, done: Callable[[Entry, Outcome], None]) -> None:
        self._clock = clock
        self._most = most
        self._done = done
        self._jobs: dict[Key, Job] = {}
        self._held_up: set[Job] = set()
        self._shares: Shares[Job] = Shares()
        self._lines: dict[bool, Lines[Job]] = {False: Lines(), True: Lines()}
        """By whether they were tried before."""
        self._tried_next = False
        self._some = asyncio.Event()
        self._worked_off = asyncio.Event()
        self._worked_off.set()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def oldest(self) -> float:
        """Seconds for which the report that waits the longest has waited, for more than its pod's address."""
        jobs = (job for job in self._jobs.values() if job.waits_for != NO_ADDRESS)
        first = next(jobs, None)
        return self._clock() - first.since if first else 0.0

    async def worked_off(self) -> None:
        """Wait until no reports wait but those that are held up by something that may last."""
        await self._worked_off.wait()

    def add(self, wanted: Wanted) -> asyncio.Future[Outcome]:
        """Queue a report; it takes the place of the one before it from the same caller about the same pod."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        now = self._clock()
        entry = Entry(wanted, [future], now, now)
        key, *others = _keys(wanted)
        if not self._make_room(key, wanted):
            self._refuse(entry)
            return future
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = Job(key, now)
        older = job.entries.pop(wanted.peer, None)
        if older is not None:
            entry.replace(older)
        for other in others:
            self._move(entry, other)
        # At the end, however old the one before it: the last of all is the newest.
        job.entries[wanted.peer] = entry
        self._shares.add(wanted.peer, job)
        if older is None:
            self._held_up.discard(job)
        if job.again and (older is None or not wanted.peer):
            # Another's failures are none of its own.
            job.again.cancel()
            self._retry(job)
        self._queue(job)
        self._look()
        return future

    async def some(self) -> None:
        """Wait until there may be a job whose turn it is."""
        while not any(self._lines.values()):
            self._some.clear()
            await self._some.wait()

    def next(self) -> Job | None:
        """A job whose turn it is, if there is one."""
        for tried in (self._tried_next, not self._tried_next):
            while (job := self._lines[tried].take()) is not None:
                # It may have had its turn in another line, or be given up.
                if job.ready and job.tried is tried:
                    self._tried_next = not tried
                    job.ready = False
                    for peer, entry in job.entries.items():
                        entry.at_work = True
                        self._shares.discard(peer, job)
                    return job
        return None

    def done(self, job: Job, entries: list[Entry]) -> None:
        """These reports need nothing more; what came in meanwhile does."""
        job.failures = 0
        job.waits_for = ""
        job.tried = False
        if self._settled(job, entries):
            # It goes to the end of those that wait: what came in meanwhile is as new as theirs.
            job.since = self._clock()
            self._jobs[job.key] = self._jobs.pop(job.key)
            self._retry(job)
        self._look()

    def failed(self, job: Job, entries: list[Entry], seconds: float, reason: str) -> None:
        """Try the job again in so many seconds, but for these reports, which need nothing more."""
        job.failures += 1
        job.tried = True
        job.waits_for = reason if reason in _HELD_UP else ""
        if self._settled(job, entries):
            job.again = asyncio.get_running_loop().call_later(seconds, self._retry, job)
        self._look()

    def put_back(self, job: Job, entries: list[Entry]) -> None:
        """The same where it has nothing to do with the pod: the job's turn comes again."""
        job.tried = True
        if self._settled(job, entries):
            self._retry(job)
        self._look()

    def start_over(self) -> None:
        """Nobody works on anything: every job's turn has come."""
        self.stop()
        self._lines = {False: Lines(), True: Lines()}
        for job in [*self._jobs.values()]:
            if self._settled(job, []):
                job.ready = False
                self._retry(job)
        self._look()

    def stop(self) -> None:
        """Set off no more timers."""
        for job in self._jobs.values():
            if job.again:
                job.again.cancel()
                job.again = None

    def _move(self, entry: Entry, key: Key) -> None:
        """Have a report take the place of an older one that is another job's, as the pod is known better by now."""
        job = self._jobs.get(key)
        older = job.entries.get(entry.wanted.peer) if job else None
        if job is None or older is None:
            return
        entry.replace(older)
        older.moved = True
        self._drop(job, entry.wanted.peer)

    def _make_room(self, key: Key, wanted: Wanted) -> bool:
        """See to it that one more report may wait; False where it may not."""
        job = self._jobs.get(key)
        if not wanted.peer or (job and wanted.peer in job.entries):
            return True
        if job and len(job.entries) >= MAX_CALLERS:
            # As far as the table knows, these are not the pod: they do not keep out the one that is.
            strangers = [
                peer for peer, entry in job.entries.items() if peer and not (entry.wanted.listed or entry.at_work)
            ]
            if not wanted.listed or not strangers:
                return False
            self._push_out(job, strangers[-1])
        if len(self._shares) < self._most:
            return True
        surplus = self._shares.surplus(wanted.peer)
        if surplus is None:
            return False
        address, other = surplus
        self._push_out(other, address)
        return True

    def _push_out(self, job: Job, peer: str) -> None:
        """Give up a report, which others have more right to the place of."""
        entry = job.entries[peer]
        self._drop(job, peer)
        self._refuse(entry)

    def _refuse(self, entry: Entry) -> None:
        outcome = Outcome(Result.REFUSED, OVERLOAD, "too many reports wait to be written already")
        self._done(entry, outcome)
        entry.settle(outcome)

    def _drop(self, job: Job, peer: str) -> None:
        """One report less; without any the job is given up, unless it is worked on: its turn ends with that."""
        self._shares.discard(peer, job)
        del job.entries[peer]
        if not job.entries and (job.ready or job.again):
            self._give_up(job)

    def _give_up(self, job: Job) -> None:
        """There is nothing to do for it any more."""
        job.busy = job.ready = False
        if job.again:
            job.again.cancel()
            job.again = None
        del self._jobs[job.key]
        self._held_up.discard(job)

    def _settled(self, job: Job, entries: list[Entry]) -> bool:
        """A job's turn is over, and these reports need nothing more; True where there are others."""
        for entry in entries:
            if job.entries.get(entry.wanted.peer) is entry:
                del job.entries[entry.wanted.peer]
                self._shares.discard(entry.wanted.peer, job)
        for peer, entry in job.entries.items():
            entry.at_work = False
            self._shares.add(peer, job)
        if not job.entries:
            self._give_up(job)
            return False
        if job.waits_for:
            self._held_up.add(job)
        else:
            self._held_up.discard(job)
        return True

    def _queue(self, job: Job) -> None:
        """In the lines of all who reported, unless it is worked on, or waits to be tried again."""
        if not job.busy:
            job.busy = job.ready = True
        if job.ready:
            for peer in job.entries:
                # The registry's own goes first, but does not hold up others where it fails and fails.
                self._lines[job.tried].put(peer or (_OWN if job.tried else ""), job)
            self._some.set()

    def _retry(self, job: Job) -> None:
        job.again = None
        job.busy = False
        self._queue(job)

    def _look(self) -> None:
        """See whether anything waits that is not held up."""
        if len(self._jobs) > len(self._held_up):
            self._worked_off.clear()
        else:
            self._worked_off.set()


def _keys(wanted: Wanted) -> list[Key]:
    """The key of a report, and those that earlier ones may have of the same caller about the same pod."""
    apart = ("", wanted.name, wanted.peer)
    known = [(namespace, wanted.name, "") for namespace in wanted.namespaces]
    return [apart, *known] if len(known) > 1 else [*known, apart]
