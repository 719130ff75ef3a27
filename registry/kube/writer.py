"""Write conditions of pods to the API server: the newest for each pod, at a bounded rate, until it is written.

Each pod has its turn (:mod:`registry.kube.conditions`), some at a time. A failure that has to do with the API server
holds up everything for a moment, and then one pod at a time is tried until the server answers; one that has to do with
a pod holds up that pod, for a while that grows.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from registry.kube.backoff import Backoff
from registry.kube.conditions import PodConditions
from registry.kube.rates import TokenBucket
from registry.kube.reports import FORBIDDEN, Entry, Job, Key, Outcome, Reports, Result, Wanted
from registry.kube.requests import Failure
from registry.kube.resource import Writing
from registry.kube.rights import Rights
from registry.kube.settings import CallerCheck, ReflectorSettings, WriterSettings

log = logging.getLogger(__name__)

_OF_THE_SERVER: Final = frozenset(("connection", "unauthorized"))
"""Failures that every other pod's turn would end in as well."""

_IN_A_ROW: Final = frozenset(("timeout", "throttled", "unavailable", "server", "bad_answer"))
"""Failures that are the server's where several pods have them one after the other; else a webhook's, say, that fails
for the pod. All others are the pod's alone."""

_PODS_IN_A_ROW: Final = 3


class Writer:
    """Takes what is wanted (:meth:`submit`), and works it off while it is ``run``.

    ``errors`` counts failed turns by reason, ``unheard`` what was not written and nobody waited for any more.
    """

    def __init__(
        self,
        api: Writing,
        rights: Rights,
        settings: WriterSettings | None = None,
        retry: ReflectorSettings | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._settings = settings = settings or WriterSettings()
        self._listeners: list[Callable[[Wanted, Outcome], None]] = []
        self._clock = clock = asyncio.get_running_loop().time
        self._chance = chance = chance or random.Random()
        retry = retry or ReflectorSettings()
        self._longest = retry.retry_longest
        self._patience = retry.retry_unreachable
        self._backoff = Backoff(retry.retry_first, retry.retry_unreachable, retry.retry_reset, clock, chance)
        self._conditions = PodConditions(api, rights, settings, clock, self._done)
        self._bucket = TokenBucket(settings.write_rate, settings.write_burst, clock)
        self._slots = asyncio.Semaphore(settings.write_concurrency)
        self._reports = Reports(clock, settings.max_queued_pods, self._done)
        self._paused_until = 0.0
        self._in_a_row: set[Key] = set()
        """Pods whose turns have failed since one went well, no more than are counted."""
        self.problem = ""
        """Why nothing is written now; empty while all is well."""
        self.errors: Counter[str] = Counter()
        self.unheard: Counter[str] = Counter()

    @property
    def queued(self) -> int:
        """Pods that wait."""
        return len(self._reports)

    @property
    def oldest(self) -> float:
        """Seconds for which one of them has waited."""
        return self._reports.oldest

    @property
    def remembered(self) -> int:
        """Pods and callers of which it is known what was written, where pods may not be read."""
        return self._conditions.remembered

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """How many, by verb and code."""
        return self._conditions.requests

    def check(self, namespace: str) -> CallerCheck:
        """What is done about callers in a namespace."""
        return self._conditions.check(namespace)

    def subscribe(self, listener: Callable[[Wanted, Outcome], None]) -> None:
        """Call this with every outcome of a report, also where nobody waits for it any more."""
        self._listeners.append(listener)

    def submit(self, wanted: Wanted) -> asyncio.Future[Outcome]:
        """Queue what is wanted. The future has the outcome: its own, or that of a newer report about the pod."""
        return self._reports.add(wanted)

    async def run(self) -> NoReturn:
        """Work until cancelled. What is queued outlives that, and is worked on by the next run."""
        self._reports.start_over()
        self._slots = asyncio.Semaphore(self._settings.write_concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._slots.acquire()
                    await self._bucket.taken()
                    job = await self._next()
                    turn = group.create_task(self._turn(job, list(job.entries.values())))
                    if self.problem:
                        # One at a time, until one goes well; but those that get no answer do not keep others from it.
                        await asyncio.wait([turn], timeout=self._patience)
        finally:
            self._reports.stop()

    async def worked_off(self) -> None:
        """Wait until nothing is queued that could be written."""
        await self._reports.worked_off()

    async def finish(self, patience: Callable[[], Awaitable[None]]) -> None:
        """The same, or until ``patience`` ends; tell how much is left then."""
        waits = [asyncio.ensure_future(each) for each in (self.worked_off(), patience())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if self.queued:
            why = f": {self.problem}" if self.problem else ""
            log.warning("the states of %d pods are left unwritten%s", self.queued, why)

    async def _next(self) -> Job:
        """The job whose turn it is, once there is one and no pause."""
        while True:
            await self._reports.some()
            if (pause := self._paused_until - self._clock()) > 0:
                await asyncio.sleep(pause)
            elif (job := self._reports.next()) is not None:
                return job

    def _done(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.result in (Result.REFUSED, Result.SUPERSEDED) and not entry.heard:
            self.unheard[outcome.word] += 1
        for listener in self._listeners:
            listener(entry.wanted, outcome)

    async def _turn(self, job: Job, taken: list[Entry]) -> None:
        """One job's turn with the reports that it had at its beginning, whatever comes of it."""
        settled: list[Entry] = []
        try:
            await self._conditions.write(taken, settled)
        except Failure as failure:
            self._failed(job, taken, settled, failure)
        except Exception:
            log.exception("writing the state of pod %s failed: a bug", job.key[1])
            self._failed(job, taken, settled, Failure("bug", "internal error"))
        else:
            self._reports.done(job, settled)
            self._healthy()
        finally:
            self._slots.release()

    def _healthy(self) -> None:
        """The server answers."""
        self._in_a_row.clear()
        if self.problem:
            log.info("states are written again")
            self.problem = ""
        self._backoff.healthy()

    def _failed(self, job: Job, taken: list[Entry], settled: list[Entry], failure: Failure) -> None:
        self.errors[failure.reason] += 1
        # Whoever is between here and the API server may ask to wait for a day.
        retry_after = min(failure.retry_after, self._longest)
        if failure.reason == FORBIDDEN:
            # That does not go by itself: nobody is kept waiting for it.
            for entry in taken:
                entry.settle(Outcome(Result.FAILED, failure.reason, str(failure)))
        if self._of_the_server(job, failure):
            if not self.problem:
                log.warning("no state can be written now: %s", failure)
            self.problem = str(failure)
            now = self._clock()
            if self._paused_until <= now:
                self._paused_until = now + retry_after + self._backoff.pause()
            self._reports.put_back(job, settled)
            return
        if not job.failures:
            log.warning("the state of pod %s can't be written now: %s", job.key[1], failure)
        pause = min(0.5 * 2 ** min(job.failures, 30), self._longest) * self._chance.uniform(0.5, 1)
        self._reports.failed(job, settled, retry_after + pause, failure.reason)

    def _of_the_server(self, job: Job, failure: Failure) -> bool:
        """Whether a failure has to do with the API server rather than with the pod; one of the pod's shows that the
        server answers."""
        of_the_server = failure.reason in _OF_THE_SERVER
        if of_the_server or failure.reason in _IN_A_ROW:
            if len(self._in_a_row) < _PODS_IN_A_ROW:
                self._in_a_row.add(job.key)
            return of_the_server or len(self._in_a_row) >= _PODS_IN_A_ROW
        if failure.reason != "bug":
            self._healthy()
        return False
