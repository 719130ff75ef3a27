"""A stand-in for TARS's controller: what the pods' conditions say goes into the TEndpoints."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.cluster.client import PODS, TENDPOINTS, Client, Object
from tests.support import manifests

CONDITION: Final = "tars.io/active"
AT_A_TIME: Final = 8


def reported(pod: Object) -> tuple[str, str, str]:
    """Setting state, present state and process id in a pod's condition; empty where there is none."""
    conditions = pod["status"].get("conditions", ())
    reason = next((each["reason"] for each in conditions if each["type"] == CONDITION), "")
    setting, present, pid = (*reason.split("/"), "", "", "")[:3]
    return setting, present, pid


class Controller:
    """Writes one TEndpoint again when any of its pods changed; changes that come meanwhile are written together."""

    def __init__(self, admin: Client) -> None:
        self._admin = admin
        self._pods: dict[str, dict[str, Object]] = {}
        self._changed: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._under_way: set[str] = set()
        """Being written: never two writes of one at a time, of which the older might come second."""
        self.writes = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        version = (await self._admin.list(PODS, limit="1"))["metadata"]["resourceVersion"]
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(self._write())
            while True:
                async with self._admin.watch(PODS, resourceVersion=version) as watch:
                    while event := await watch.next(timeout=3600):
                        version = event["object"]["metadata"]["resourceVersion"]
                        self._take(event["object"], gone=event["type"] == "DELETED")

    def _take(self, pod: Object, *, gone: bool) -> None:
        name = pod["metadata"]["name"]
        server = name.rpartition("-")[0]
        pods = self._pods.setdefault(server, {})
        if gone:
            pods.pop(name, None)
        elif pod["status"].get("podIP"):
            setting, present, pid = reported(pod)
            pods[name] = manifests.pod(name, pod["status"]["podIP"], (setting, present)) | {"pid": pid}
        if server not in self._changed:
            self._changed.add(server)
            if server not in self._under_way:
                self._queue.put_nowait(server)

    async def _write(self) -> None:
        while True:
            server = await self._queue.get()
            self._changed.discard(server)
            self._under_way.add(server)
            status = {"status": {"pods": [pod for _, pod in sorted(self._pods[server].items())]}}
            await self._admin.patch(TENDPOINTS, server, status, subresource="status")
            self.writes += 1
            self._under_way.discard(server)
            if server in self._changed:
                self._queue.put_nowait(server)
