"""Write conditions of pods to the API server: the newest for each pod, at a bounded rate, until it is written.

For each pod in turn: read it, see whether who reports has an address of it, compare its condition, patch it. A failure
that has to do with the API server holds up everything for a while that grows; one that has to do with a pod, that pod.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NoReturn

import msgspec

from registry.kube.backoff import Backoff
from registry.kube.objects import decode_status
from registry.kube.pods import PodView, condition_patch, decode_pod, pod_path
from registry.kube.rates import TokenBucket
from registry.kube.reports import Entry, Job, Key, Outcome, Reports, Result, Wanted
from registry.kube.requests import Failure
from registry.kube.resource import JSON, STRATEGIC_MERGE_PATCH, Body, Reply, Writing
from registry.kube.rights import Right, Rights
from registry.kube.settings import CallerCheck, ReflectorSettings, WriterSettings

log = logging.getLogger(__name__)

GET_PODS: Final = Right("get", "pods", "refusing reports of the wrong caller")
PATCH_STATUS: Final = Right("patch", "pods/status", "states of tarsnodes, own readiness gate")

_TRIES: Final = 3
"""Of one turn: a pod may be made again between the read and the patch."""

_OF_THE_SERVER: Final = frozenset(("connection", "timeout", "unauthorized", "throttled", "unavailable"))
"""Failures that every other pod's turn would end in as well."""

_OF_THE_POD: Final = frozenset(("no_address", "conflict", "bug"))
"""Failures that tell nothing of other pods. Those in neither set do when they come in a row."""

_PODS_IN_A_ROW: Final = 5

_MAX_DETAIL: Final = 300


class _Refused(Exception):
    """Something that will never be written."""

    def __init__(self, reason: str, text: str, pod: PodView | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.pod = pod


class _Absent(Exception):
    """There is no such pod in a namespace where pods may not be read."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.namespace = namespace


class _MadeAgain(Exception):
    """The pod is no longer the one that was read."""


class Writer:
    """Takes what is wanted (:meth:`submit`), and works it off while it is ``run``.

    ``requests`` counts by verb and code, ``errors`` failed turns by reason.
    """

    def __init__(
        self,
        api: Writing,
        rights: Rights,
        settings: WriterSettings | None = None,
        retry: ReflectorSettings | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._api = api
        self._rights = rights
        self._settings = settings = settings or WriterSettings()
        self._listeners: list[Callable[[Wanted, Outcome], None]] = []
        self._clock = clock = asyncio.get_running_loop().time
        self._chance = chance = chance or random.Random()
        retry = retry or ReflectorSettings()
        self._longest = retry.retry_longest
        self._refusing, self._unreachable = (
            Backoff(retry.retry_first, longest, retry.retry_reset, clock, chance)
            for longest in (retry.retry_longest, retry.retry_unreachable)
        )
        self._bucket = TokenBucket(settings.write_rate, settings.write_burst, clock)
        self._slots = asyncio.Semaphore(settings.write_concurrency)
        self._reports = Reports(clock, settings.max_queued_pods)
        self._paused_until = 0.0
        self._in_a_row: set[Key] = set()
        """The pods whose turns have failed since one went well."""
        self._written: OrderedDict[tuple[str, str, str], tuple[float, str, str]] = OrderedDict()
        """Without the right to read: by pod and caller, when what was written."""
        self.problem = ""
        """Why nothing is written now; empty while all is well."""
        self.requests: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[str] = Counter()

    @property
    def queued(self) -> int:
        """Pods that wait."""
        return len(self._reports)

    @property
    def oldest(self) -> float:
        """Seconds for which one of them has waited."""
        return self._reports.oldest

    def check(self, namespace: str) -> CallerCheck:
        """What is done about callers in a namespace."""
        wanted = self._settings.caller_check
        if wanted is not CallerCheck.AUTO:
            return wanted
        return CallerCheck.ENFORCE if self._rights.may(GET_PODS, namespace) else CallerCheck.WARN

    def subscribe(self, listener: Callable[[Wanted, Outcome], None]) -> None:
        """Call this with every outcome of a report, also where nobody waits for it any more."""
        self._listeners.append(listener)

    def submit(self, wanted: Wanted) -> asyncio.Future[Outcome]:
        """Queue what is wanted. The future has the outcome: its own, or that of a newer report about the pod."""
        future = self._reports.add(wanted)
        if future.done():
            self._done(wanted, future.result())
        return future

    async def run(self) -> NoReturn:
        """Work until cancelled. What is queued outlives that, and is worked on by the next run."""
        self._reports.start_over()
        self._slots = asyncio.Semaphore(self._settings.write_concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    job = await self._reports.next()
                    await self._slots.acquire()
                    await self._bucket.taken()
                    if (pause := self._paused_until - self._clock()) > 0:
                        await asyncio.sleep(pause)
                    turn = group.create_task(self._turn(job))
                    if self.problem:
                        # One at a time, until one goes well.
                        await asyncio.wait([turn])
        finally:
            self._reports.stop()

    def _done(self, wanted: Wanted, outcome: Outcome) -> None:
        for listener in self._listeners:
            listener(wanted, outcome)

    async def _turn(self, job: Job) -> None:
        """One job's turn, whatever comes of it."""
        taken = list(job.entries.values())
        settled: list[Entry] = []
        try:
            await self._work(taken, settled)
        except Failure as failure:
            self._failed(job, taken, settled, failure)
        except Exception:
            log.exception("writing the state of pod %s failed: a bug", job.key[1])
            self._failed(job, taken, settled, Failure("bug", "internal error"))
        else:
            self._reports.done(job, settled)
            self._in_a_row.clear()
            if self.problem:
                log.info("states are written again")
                self.problem = ""
            self._refusing.healthy()
            self._unreachable.healthy()
        finally:
            self._slots.release()

    def _failed(self, job: Job, taken: list[Entry], settled: list[Entry], failure: Failure) -> None:
        self.errors[failure.reason] += 1
        if failure.reason not in _OF_THE_POD:
            self._in_a_row.add(job.key)
        if failure.reason == "forbidden":
            # That does not go by itself: nobody is kept waiting for it.
            for entry in taken:
                entry.settle(Outcome(Result.FAILED, failure.reason, str(failure)))
        if failure.reason in _OF_THE_SERVER or len(self._in_a_row) >= _PODS_IN_A_ROW:
            if not self.problem:
                log.warning("no state can be written now: %s", failure)
            self.problem = str(failure)
            now = self._clock()
            if self._paused_until <= now:
                backoff = self._unreachable if failure.unreachable else self._refusing
                self._paused_until = now + failure.retry_after + backoff.pause()
            self._reports.failed(job, settled, 0.0)
            return
        if not job.failures:
            log.warning("the state of pod %s can't be written now: %s", job.key[1], failure)
        pause = min(0.5 * 2 ** min(job.failures, 30), self._longest) * self._chance.uniform(0.5, 1)
        self._reports.failed(job, settled, failure.retry_after + pause)

    # -- one turn ------------------------------------------------------------------------------------------------

    async def _work(self, taken: list[Entry], settled: list[Entry]) -> None:
        """Write the newest of the reports; ``settled`` gets those that need nothing more. Raises Failure."""
        absent: set[str] = set()
        for _ in range(_TRIES + len(taken[-1].wanted.namespaces)):
            waiting = [entry for entry in taken if entry not in settled]
            try:
                pod, namespace = await self._find([entry.wanted for entry in waiting], absent)
                accepted, suspect = self._accepted(waiting, pod, namespace, settled)
                if accepted:
                    outcome = await self._write(accepted[-1], pod, namespace, suspect)
                    self._done(accepted[-1].wanted, outcome)
                    for entry in accepted:
                        entry.settle(outcome)
                    settled += accepted
                return
            except _MadeAgain:
                continue
            except _Absent as elsewhere:
                absent.add(elsewhere.namespace)
            except _Refused as refused:
                for entry in waiting:
                    if entry not in settled:
                        self._refuse(entry, refused, settled, entry.wanted.namespaces[0])
                return
        raise Failure("conflict", "the pod is made again and again")

    def _accepted(
        self, waiting: list[Entry], pod: PodView | None, namespace: str, settled: list[Entry]
    ) -> tuple[list[Entry], str]:
        """Those whose callers may speak for the pod, and why the newest of them should not have been among them."""
        check = self.check(namespace)
        accepted: list[Entry] = []
        suspect = ""
        for entry in waiting:
            suspect = _suspect(entry.wanted, pod) if check is not CallerCheck.OFF else ""
            if suspect and check is CallerCheck.ENFORCE:
                if pod is not None and not pod.addresses:
                    raise Failure("no_address", f"{namespace}/{pod.name} has no address yet")
                self._refuse(entry, _Refused("wrong_caller", suspect, pod), settled, namespace)
                suspect = ""
            else:
                accepted.append(entry)
        return accepted, suspect

    def _refuse(self, entry: Entry, refused: _Refused, settled: list[Entry], namespace: str) -> None:
        outcome = Outcome(Result.REFUSED, refused.reason, str(refused), namespace, pod=refused.pod)
        self._done(entry.wanted, outcome)
        entry.settle(outcome)
        settled.append(entry)

    async def _find(self, wanted: list[Wanted], absent: set[str]) -> tuple[PodView | None, str]:
        """The pod, None where it may not be read, and its namespace, which is none of ``absent``.

        Raises _Refused where there is none.
        """
        name, namespaces = wanted[-1].name, wanted[-1].namespaces
        elsewhere: PodView | None = None
        for namespace in namespaces:
            if namespace in absent:
                continue
            if not self._rights.may(GET_PODS, namespace):
                return None, namespace
            reply = await self._send("get", "GET", pod_path(namespace, name))
            if reply.status == 404:
                continue
            if reply.status == 403:
                self._rights.refused(GET_PODS, namespace)
                return None, namespace
            self._ok(reply)
            try:
                pod = decode_pod(namespace, name, reply.body)
            except msgspec.MsgspecError as error:
                raise Failure("bad_answer", f"a pod that can't be read: {error}") from None
            if len(namespaces) == 1 or any(each.peer in pod.addresses for each in wanted):
                return pod, namespace
            elsewhere = elsewhere or pod
        if elsewhere is not None:
            return elsewhere, elsewhere.namespace
        raise _Refused("no_pod", f"there is no pod {name} in {', '.join(namespaces)}")

    async def _write(self, entry: Entry, pod: PodView | None, namespace: str, suspect: str) -> Outcome:
        wanted, condition = entry.wanted, entry.wanted.condition
        now = datetime.now(UTC)
        if pod is not None:
            known = pod.condition(condition.type)
            before, status = (known.reason or "", known.status) if known else ("", "")
            unchanged = known is not None and known.says(condition)
            uid = pod.uid
        else:
            status, before = self._remembered(wanted, namespace)
            unchanged = (status, before) == (condition.text, condition.reason)
            uid = ""
        if unchanged and entry.tried is not None:
            # It was patched, and the answer got lost.
            return Outcome(Result.WRITTEN, "", "", namespace, entry.tried, pod, suspect)
        if unchanged:
            return Outcome(Result.UNCHANGED, "", "", namespace, before, pod, suspect)
        patch = condition_patch(condition, uid, now if status != condition.text else None)
        path = pod_path(namespace, wanted.name, "status")
        entry.tried = before
        reply = await self._send("patch", "PATCH", path, patch, STRATEGIC_MERGE_PATCH)
        entry.tried = None
        if reply.status == 404:
            if pod is not None:
                raise _MadeAgain  # it may be gone, or made again
            raise _Absent(namespace)
        if reply.status in (409, 422) and pod is not None and await self._made_again(pod):
            raise _MadeAgain
        if reply.status in (400, 413, 422):
            raise _Refused("invalid", f"the API server does not take it: {_detail(reply)}", pod)
        if reply.status == 403:
            self._rights.refused(PATCH_STATUS, namespace)
        self._ok(reply)
        if pod is None:
            self._remember(wanted, namespace)
        return Outcome(Result.WRITTEN, "", "", namespace, before, pod, suspect)

    async def _made_again(self, pod: PodView) -> bool:
        reply = await self._send("get", "GET", pod_path(pod.namespace, pod.name))
        if reply.status == 404:
            return True
        self._ok(reply)
        try:
            return decode_pod(pod.namespace, pod.name, reply.body).uid != pod.uid
        except msgspec.MsgspecError as error:
            raise Failure("bad_answer", f"a pod that can't be read: {error}") from None

    # -- what was written, where it can't be read -----------------------------------------------------------------

    def _remembered(self, wanted: Wanted, namespace: str) -> tuple[str, str]:
        at, status, reason = self._written.get((namespace, wanted.name, wanted.peer), (0.0, "", ""))
        return (status, reason) if self._clock() - at < self._settings.remembered_for else ("", "")

    def _remember(self, wanted: Wanted, namespace: str) -> None:
        now = self._clock()
        key = (namespace, wanted.name, wanted.peer)
        self._written[key] = (now, wanted.condition.text, wanted.condition.reason)
        self._written.move_to_end(key)
        while now - next(iter(self._written.values()))[0] >= self._settings.remembered_for:
            self._written.popitem(last=False)
            if not self._written:
                return

    # -- requests ------------------------------------------------------------------------------------------------

    async def _send(
        self, verb: str, method: str, path: str, body: Body | None = None, content_type: str = JSON
    ) -> Reply:
        """An answer, whatever it says. Raises Failure where there is none."""
        timeout = self._settings.api_timeout
        for last in (False, True):
            try:
                async with asyncio.timeout(timeout):
                    reply = await self._api.send(method, path, body, content_type)
            except ConnectionError as error:
                self.requests[verb, "none"] += 1
                raise Failure("connection", str(error), unreachable=True) from None
            except TimeoutError:
                self.requests[verb, "none"] += 1
                text = f"the API server did not answer within {timeout:g} s"
                raise Failure("timeout", text, unreachable=True) from None
            self.requests[verb, str(reply.status)] += 1
            if reply.status != 401 or last:
                return reply
            await self._api.reload()
        raise AssertionError("not reached")

    def _ok(self, reply: Reply) -> None:
        """Raises Failure where an answer is no success."""
        if reply.status < 300:
            return
        detail = _detail(reply)
        if reply.status == 403:
            raise Failure("forbidden", f"the registry may not write this state: {detail}")
        reason = {401: "unauthorized", 409: "conflict", 429: "throttled", 503: "unavailable"}.get(reply.status, "")
        reason = reason or ("server" if reply.status >= 500 else "refused")
        raise Failure(reason, f"the API server answered {detail}", retry_after=reply.retry_after)


def _suspect(wanted: Wanted, pod: PodView | None) -> str:
    """Why a caller may not speak for a pod; "" where it may. Where the pod can't be read, the table has to do."""
    if not wanted.peer:
        return ""
    if pod is not None:
        if wanted.peer in pod.addresses:
            return ""
        return f"{wanted.peer} is no address of pod {pod.namespace}/{pod.name} ({', '.join(sorted(pod.addresses))})"
    if wanted.listed:
        return ""
    known = "has another address" if wanted.listed is False else "is not known"
    return f"pod {wanted.name} {known} in the table, and may not be read: {wanted.peer} can't be checked"


def _detail(reply: Reply) -> str:
    status = decode_status(reply.body)
    return f"{reply.status} {status.reason}: {status.message or 'no reason given'}".replace(" :", ":")[:_MAX_DETAIL]
