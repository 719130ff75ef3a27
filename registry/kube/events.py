"""Kubernetes Events about pods: what `kubectl describe pod` shows. Few, and never waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict, deque
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from registry.kube.pods import PodView
from registry.kube.rates import TokenBucket
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


class PodEvents:
    """Sends Events at a bounded rate. ``counts``: sent, left_out, failed. ``run`` it."""

    def __init__(self, api: Writing, rights: Rights, settings: WriterSettings, instance: str = "") -> None:
        self._api = api
        self._rights = rights
        self._interval = settings.event_interval
        self._clock = asyncio.get_running_loop().time
        self._bucket = TokenBucket(settings.event_rate, _BURST, self._clock)
        self._instance = instance or _COMPONENT
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._wake = asyncio.Event()
        self.counts: Counter[str] = Counter(sent=0, left_out=0, failed=0)

    def warn(self, pod: PodView, reason: str, message: str) -> None:
        """Say so about a pod, unless something was said a short while ago, or too much waits already."""
        now = self._clock()
        about = (pod.uid, reason)
        recently = about in self._last and now - self._last[about] < self._interval
        if not self._rights.may(CREATE_EVENTS, pod.namespace) or recently or len(self._waiting) >= _MAX_WAITING:
            self.counts["left_out"] += 1
            return
        self._last[about] = now
        self._last.move_to_end(about)
        if len(self._last) > _MAX_REMEMBERED:
            self._last.popitem(last=False)
        self._waiting.append((pod.namespace, self._event(pod, reason, message)))
        self._wake.set()

    async def run(self) -> NoReturn:
        """Send what waits, one after the other; one that can't be sent is not tried again."""
        while True:
            while self._waiting:
                await self._bucket.taken()
                namespace, event = self._waiting.popleft()
                await self._send(namespace, event)
            self._wake.clear()
            await self._wake.wait()

    async def _send(self, namespace: str, event: dict[str, Any]) -> None:
        try:
            reply = await self._api.send("POST", f"/api/v1/namespaces/{namespace}/events", event)
        except ConnectionError as error:
            self.counts["failed"] += 1
            log.info("an Event can't be sent: %s", error)
            return
        if reply.status == 403:
            self._rights.refused(CREATE_EVENTS, namespace)
        self.counts["sent" if reply.status < 300 else "failed"] += 1

    def _event(self, pod: PodView, reason: str, message: str) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": pod.namespace, "name": f"{pod.name[:200]}.{time.time_ns():x}"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:_MAX_MESSAGE],
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._instance[:128],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
