"""Kubernetes Events about pods: what `kubectl describe pod` shows. Few, and never waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn
from urllib.parse import quote

import msgspec

from registry.kube.conditions import GET_PODS
from registry.kube.fair import Lines, Shares
from registry.kube.pods import PodView, decode_pod, pod_path
from registry.kube.rates import TokenBucket
from registry.kube.requests import send_within
from registry.kube.resource import Writing
from registry.kube.rights import Right, Rights
from registry.kube.settings import WriterSettings

log = logging.getLogger(__name__)

CREATE_EVENTS: Final = Right("create", "events", "Events about refused reports")

_COMPONENT: Final = "tars-registry"
_BURST: Final = 20
_MAX_WAITING: Final = 100
_MAX_REMEMBERED: Final = 10_000
_MAX_MESSAGE: Final = 1000
"""Characters: the API server takes 1024."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An Event that is to be sent, about what the address ``peer`` did.

    ``uid`` is "" where the pod must be asked for first, in one of ``namespaces``.
    """

    namespaces: tuple[str, ...]
    name: str
    uid: str
    reason: str
    message: str
    peer: str

    @property
    def about(self) -> tuple[str, str]:
        """What there is one Event about at a time."""
        return self.uid or self.name, self.reason


class PodEvents:
    """Sends Events at a bounded rate. ``counts``: sent, left_out, failed. ``run`` it.

    The addresses that they are due to take turns, and share the places of those that wait.
    """

    def __init__(self, api: Writing, rights: Rights, settings: WriterSettings, instance: str = "") -> None:
        self._api = api
        self._rights = rights
        self._interval = settings.event_interval
        self._timeout = settings.api_timeout
        self._clock = asyncio.get_running_loop().time
        self._bucket = TokenBucket(settings.event_rate, _BURST, self._clock)
        self._instance = instance or _COMPONENT
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()
        """When an Event was last sent."""
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._shares: Shares[_Waiting] = Shares()
        self._lines: Lines[_Waiting] = Lines()
        self._wake = asyncio.Event()
        self.counts: Counter[str] = Counter(sent=0, left_out=0, failed=0)

    def warn(self, pod: PodView, reason: str, message: str, peer: str) -> None:
        """Say so about a pod, unless something was said a short while ago, or too much waits already."""
        self._put(_Waiting((pod.namespace,), pod.name, pod.uid, reason, message, peer))

    def warn_of(self, namespaces: tuple[str, ...], name: str, reason: str, message: str, peer: str) -> None:
        """The same about a pod that was not read, in the first of these namespaces that has one of this name."""
        self._put(_Waiting(namespaces, name, "", reason, message, peer))

    def leave_out(self) -> None:
        """There is no pod that an Event could be about."""
        self.counts["left_out"] += 1

    def _put(self, event: _Waiting) -> None:
        may = any(self._rights.may(CREATE_EVENTS, namespace) for namespace in event.namespaces)
        if not may or self._recently(event.about) or event.about in self._waiting or not self._make_room(event.peer):
            self.leave_out()
            return
        self._waiting[event.about] = event
        self._shares.add(event.peer, event)
        self._lines.put(event.peer, event)
        self._wake.set()

    def _recently(self, about: tuple[str, str]) -> bool:
        return about in self._last and self._clock() - self._last[about] < self._interval

    def _make_room(self, peer: str) -> bool:
        """See to it that one more may wait; False where it may not."""
        if len(self._shares) < _MAX_WAITING:
            return True
        surplus = self._shares.surplus(peer)
        if surplus is None:
            return False
        self._drop(surplus[1])
        self.leave_out()
        return True

    def _drop(self, event: _Waiting) -> None:
        self._shares.discard(event.peer, event)
        del self._waiting[event.about]

    async def run(self) -> NoReturn:
        """Send what waits, one after the other; one that can't be sent is not tried again."""
        while True:
            while self._waiting:
                await self._bucket.taken()
                event = self._next()
                if event is None:
                    break
                try:
                    self.counts[await self._send(event)] += 1
                except ConnectionError as error:
                    self.counts["failed"] += 1
                    log.info("an Event can't be sent: %s", error)
                finally:
                    self._drop(event)
            self._wake.clear()
            await self._wake.wait()

    def _next(self) -> _Waiting | None:
        """That of the address whose turn it is."""
        while (event := self._lines.take()) is not None:
            # It may have made room for another.
            if self._waiting.get(event.about) is event:
                return event
        return None

    def _sent(self, about: tuple[str, str]) -> None:
        self._last[about] = self._clock()
        self._last.move_to_end(about)
        if len(self._last) > _MAX_REMEMBERED:
            self._last.popitem(last=False)

    async def _send(self, event: _Waiting) -> str:
        """What became of it. Raises ConnectionError."""
        namespace, uid = (event.namespaces[0], event.uid) if event.uid else await self._find(event)
        if not uid:
            return "left_out"
        body = self._event(namespace, uid, event)
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/events"
        reply = await send_within(self._timeout, self._api, "POST", path, body)
        if reply.status == 403:
            self._rights.refused(CREATE_EVENTS, namespace)
        if reply.status >= 300:
            return "failed"
        self._rights.worked(CREATE_EVENTS, namespace)
        self._sent(event.about)
        return "sent"

    async def _find(self, event: _Waiting) -> tuple[str, str]:
        """Namespace and uid of the pod; "" where there is none, or it may not be read."""
        for namespace in event.namespaces:
            if not self._rights.may(GET_PODS, namespace):
                continue
            reply = await send_within(self._timeout, self._api, "GET", pod_path(namespace, event.name))
            if reply.status == 403:
                self._rights.refused(GET_PODS, namespace)
            if reply.status == 200:
                self._rights.worked(GET_PODS, namespace)
                try:
                    return namespace, decode_pod(namespace, event.name, reply.body).uid
                except msgspec.MsgspecError as error:
                    raise ConnectionError(f"a pod that can't be read: {error}") from None
        return "", ""

    def _event(self, namespace: str, uid: str, event: _Waiting) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # A name may be cut where none may end.
        name = event.name[:200].rstrip("-.")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": f"{name}.{time.time_ns():x}"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": namespace,
                "name": event.name,
                "uid": uid,
            },
            "type": "Warning",
            "reason": event.reason,
            "message": event.message[:_MAX_MESSAGE],
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._instance[:128],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
