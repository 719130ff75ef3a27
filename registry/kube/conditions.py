"""What a writer does for one pod: see whether who reports has an address of it, compare its condition, patch it.

Nothing here waits for its turn or tries again later: a failure is the writer's to deal with.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from registry.kube.objects import decode_status
from registry.kube.pods import Known, PodView, condition_patch, decode_pod, pod_path
from registry.kube.reports import FORBIDDEN, NO_ADDRESS, Entry, Outcome, Result, Wanted
from registry.kube.requests import Failure, NoAnswer, send_within
from registry.kube.resource import JSON, STRATEGIC_MERGE_PATCH, Body, Reply, Writing
from registry.kube.rights import Right, Rights
from registry.kube.server_clock import ServerClock, time_in, with_time
from registry.kube.settings import CallerCheck, WriterSettings

GET_PODS: Final = Right("get", "pods", "refusing reports of the wrong caller")
PATCH_STATUS: Final = Right("patch", "pods/status", "states of tarsnodes, own readiness gate")

_TRIES: Final = 8
"""Of one turn: others write to a pod between the read and the patch, the kubelet among them."""

_FRESH_FOR: Final = 1.0
"""Seconds for which a report is the newest of the pod, whatever another registry has written: its clock is known to a
second, and what a pod reports to two registries it reports one after the other."""

_NO_ADDRESS_FOR: Final = 120.0
"""Seconds for which a pod's address is waited for with reports of callers that the table does not know for it."""

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


class _Changed(Exception):
    """The pod is no longer as it was read, or what was to be written is not wanted any more."""


class PodConditions:
    """Conditions of pods, as the API server has them. ``done`` is called with every outcome.

    ``requests`` counts by verb and code.
    """

    def __init__(
        self,
        api: Writing,
        rights: Rights,
        settings: WriterSettings,
        clock: Callable[[], float],
        done: Callable[[Entry, Outcome], None],
    ) -> None:
        self._api = api
        self._rights = rights
        self._settings = settings
        self._clock = clock
        self._done = done
        self._server_clock = ServerClock(clock)
        self._written: OrderedDict[tuple[str, str], tuple[float, str, str, str]] = OrderedDict()
        """Without the right to read: by pod, when what was written last, and for whom."""
        self.requests: Counter[tuple[str, str]] = Counter()

    @property
    def remembered(self) -> int:
        """Pods of which it is known what was written."""
        return len(self._written)

    def check(self, namespace: str) -> CallerCheck:
        """What is done about callers in a namespace."""
        wanted = self._settings.caller_check
        if wanted is not CallerCheck.AUTO:
            return wanted
        return CallerCheck.ENFORCE if self._rights.may(GET_PODS, namespace) else CallerCheck.WARN

    async def write(self, taken: list[Entry], settled: list[Entry]) -> None:
        """Write the newest of the reports; ``settled`` gets those that need nothing more. Raises Failure."""
        absent: set[str] = set()
        tries = 0
        while tries < _TRIES:
            waiting = [entry for entry in taken if entry not in settled and not _replaced(entry, tries)]
            if not waiting:
                return
            try:
                pod, namespace = await self._find([entry.wanted for entry in waiting], absent)
                accepted, suspect = self._accepted(waiting, pod, namespace, settled)
                if accepted:
                    outcome = await self._patch(accepted[-1], pod, namespace, suspect)
                    self._done(accepted[-1], outcome)
                    for entry in accepted:
                        entry.settle(outcome)
                    settled += accepted
            except _Changed:
                tries += 1
            except _Absent as elsewhere:
                absent.add(elsewhere.namespace)
            except _Refused as refused:
                for entry in waiting:
                    if entry not in settled:
                        self._refuse(entry, refused, settled, entry.wanted.namespaces[0])
                return
            else:
                if any(entry not in settled for entry in waiting):
                    raise Failure(NO_ADDRESS, f"{namespace}/{waiting[-1].wanted.name} has no address yet")
                return
        raise Failure("conflict", "the pod is changed again and again")

    def _accepted(
        self, waiting: list[Entry], pod: PodView | None, namespace: str, settled: list[Entry]
    ) -> tuple[list[Entry], str]:
        """Those whose callers may speak for the pod, and why the newest of them should not have been among them.

        Others are refused, but where the pod has no address yet.
        """
        check = self.check(namespace)
        accepted: list[Entry] = []
        suspect = ""
        for entry in waiting:
            why = _suspect(entry.wanted, pod) if check is not CallerCheck.OFF else ""
            if not why or check is not CallerCheck.ENFORCE:
                accepted.append(entry)
                suspect = why
            elif pod is None or pod.addresses or self._waited_in_vain(entry):
                self._refuse(entry, _Refused("wrong_caller", why, pod), settled, namespace)
        return accepted, suspect

    def _waited_in_vain(self, entry: Entry) -> bool:
        return not entry.wanted.listed and self._clock() - entry.first >= _NO_ADDRESS_FOR

    def _refuse(self, entry: Entry, refused: _Refused, settled: list[Entry], namespace: str) -> None:
        outcome = Outcome(Result.REFUSED, refused.reason, str(refused), namespace, pod=refused.pod)
        self._done(entry, outcome)
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
            if reply.status == 403 and self._rights.refused(GET_PODS, namespace):
                return None, namespace
            if _absent(reply):
                self._rights.worked(GET_PODS, namespace)
                continue
            self._ok(reply)
            try:
                pod = decode_pod(namespace, name, reply.body)
            except msgspec.MsgspecError as error:
                raise Failure("bad_answer", f"a pod that can't be read: {error}") from None
            self._rights.worked(GET_PODS, namespace)
            if len(namespaces) == 1 or any(each.peer in pod.addresses for each in wanted):
                return pod, namespace
            elsewhere = elsewhere or pod
        if elsewhere is not None:
            return elsewhere, elsewhere.namespace
        raise _Refused("no_pod", f"there is no pod {name} in {', '.join(namespaces)}")

    async def _patch(self, entry: Entry, pod: PodView | None, namespace: str, suspect: str) -> Outcome:
        if entry.moved:
            raise _Changed
        wanted, condition = entry.wanted, entry.wanted.condition
        known = pod.condition(condition.type) if pod else self._remembered(wanted, namespace)
        known = known or Known(condition.type)
        before = known.reason or ""
        outcome = Outcome(Result.WRITTEN, "", "", namespace, before, pod, suspect)
        told = time_in(known.message or "")
        arrived = self._server_clock.at(entry.arrived) if wanted.peer else None
        # Of what has waited, another registry may have something earlier, or have written something later.
        waited = arrived if pod and self._clock() - entry.arrived > _FRESH_FOR else None
        earlier = entry.tried
        if known.says(condition):
            # Where it was patched, the answer got lost.
            outcome = (
                replace(outcome, before=earlier) if earlier is not None else replace(outcome, result=Result.UNCHANGED)
            )
            if waited is None or (told and told >= waited):
                return outcome
        elif waited and told and told > waited:
            return replace(outcome, result=Result.SUPERSEDED)
        else:
            entry.tried = before
        dated = replace(condition, message=with_time(condition.message, arrived))
        patch = condition_patch(dated, pod, datetime.now(UTC) if known.status != condition.text else None)
        # Should the answer get lost, it is not known what is there.
        self._written.pop((namespace, wanted.name), None)
        path = pod_path(namespace, wanted.name, "status")
        reply = await self._send("patch", "PATCH", path, patch, STRATEGIC_MERGE_PATCH)
        if reply.status == 409 and earlier is not None:
            entry.tried = earlier  # that one may have been the change
        elif reply.status < 500:
            entry.answered()
        await self._see(reply, pod, namespace)
        self._rights.worked(PATCH_STATUS, namespace)
        if pod is None:
            self._remember(wanted, namespace)
        return outcome

    async def _see(self, reply: Reply, pod: PodView | None, namespace: str) -> None:
        """Nothing, where a patch went well. Raises _Changed, _Absent, _Refused and Failure."""
        if _absent(reply):
            # Where it was read, it may be gone, or made again.
            raise _Changed if pod is not None else _Absent(namespace)
        if pod is not None and (reply.status == 409 or (reply.status == 422 and await self._made_again(pod))):
            raise _Changed
        if reply.status in (400, 413, 422):
            raise _Refused("invalid", f"the API server does not take it: {_detail(reply)}", pod)
        self._ok(reply, certain=reply.status != 403 or self._rights.refused(PATCH_STATUS, namespace))

    async def _made_again(self, pod: PodView) -> bool:
        reply = await self._send("get", "GET", pod_path(pod.namespace, pod.name))
        if _absent(reply):
            return True
        self._ok(reply)
        try:
            return decode_pod(pod.namespace, pod.name, reply.body).uid != pod.uid
        except msgspec.MsgspecError as error:
            raise Failure("bad_answer", f"a pod that can't be read: {error}") from None

    # -- what was written, where it can't be read -----------------------------------------------------------------

    def _remembered(self, wanted: Wanted, namespace: str) -> Known | None:
        at, status, reason, peer = self._written.get((namespace, wanted.name), (0.0, "", "", ""))
        known = peer == wanted.peer and self._clock() - at < self._settings.remembered_for
        return Known(wanted.condition.type, status, reason) if known else None

    def _remember(self, wanted: Wanted, namespace: str) -> None:
        now = self._clock()
        key = (namespace, wanted.name)
        self._written[key] = (now, wanted.condition.text, wanted.condition.reason, wanted.peer)
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
        for last in (False, True):
            try:
                reply = await send_within(self._settings.api_timeout, self._api, method, path, body, content_type)
            except ConnectionError as error:
                self.requests[verb, "none"] += 1
                reason = "timeout" if isinstance(error, NoAnswer) else "connection"
                raise Failure(reason, str(error)) from None
            self.requests[verb, str(reply.status)] += 1
            self._server_clock.note(reply.date)
            if reply.status != 401 or last:
                return reply
            await self._api.reload()
        raise AssertionError("not reached")

    def _ok(self, reply: Reply, *, certain: bool = False) -> None:
        """Raises Failure where an answer is no success; ``certain``: that there is no right to it is no error of the
        moment."""
        if reply.status < 300:
            return
        detail = _detail(reply)
        if reply.status == 403 and certain:
            raise Failure(FORBIDDEN, f"the registry may not write this state: {detail}")
        reason = {401: "unauthorized", 409: "conflict", 429: "throttled", 503: "unavailable"}.get(reply.status, "")
        reason = reason or ("server" if reply.status >= 500 else "refused")
        raise Failure(reason, f"the API server answered {detail}", retry_after=reply.retry_after)


def _replaced(entry: Entry, tries: int) -> bool:
    """Whether a newer report makes one needless: before the first try only where that one does not wait for it."""
    return entry.moved or (tries > 0 and entry.newer is not None)


def _absent(reply: Reply) -> bool:
    """Whether the API server says that there is no such pod. Raises Failure where somebody else says so."""
    if reply.status != 404:
        return False
    if decode_status(reply.body).reason == "NotFound":
        return True
    raise Failure("bad_answer", f"a 404 that is none of the API server's: {_detail(reply)}")


def _suspect(wanted: Wanted, pod: PodView | None) -> str:
    """Why a caller may not speak for a pod; "" where it may. Where the pod can't be read, the table has to do."""
    if not wanted.peer:
        return ""
    if pod is not None:
        if wanted.peer in pod.addresses:
            return ""
        if not pod.addresses:
            return f"pod {pod.namespace}/{pod.name} has no address yet, so {wanted.peer} can't be checked"
        return f"{wanted.peer} is no address of pod {pod.namespace}/{pod.name} ({', '.join(sorted(pod.addresses))})"
    if wanted.listed:
        return ""
    known = "has another address" if wanted.listed is False else "is not known"
    return f"pod {wanted.name} {known} in the table, and may not be read: {wanted.peer} can't be checked"


def _detail(reply: Reply) -> str:
    status = decode_status(reply.body)
    return f"{reply.status} {status.reason}: {status.message or 'no reason given'}".replace(" :", ":")[:_MAX_DETAIL]
