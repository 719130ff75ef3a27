"""A stand-in for the controller of TARS on Kubernetes: what the pods of a server are like goes into its TEndpoint.

Of that controller's work this is the part that the registry's answers hang on: `status.pods` of each TEndpoint, with
the states as that controller works them out. Unlike it, this one sorts the pods, and writes nothing that is so already.
"""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from tests.cluster.client import PODS, TENDPOINTS, ApiError, Client, Object

APP: Final = "tars.io/ServerApp"
SERVER: Final = "tars.io/ServerName"
RELEASE: Final = "tars.io/ServerID"
GATE: Final = "tars.io/active"
AT_A_TIME: Final = 8
PAUSE: Final = 0.05
PAGE: Final = 500
WATCHES_FOR: Final = 3600.0

IN_ORDER: Final = ("PodScheduled", "Initialized", "ContainersReady")
"""What a pod goes through before it can be Ready; other conditions are looked at after these."""


def state(pod: Object) -> tuple[str, str, str]:
    """Setting state, present state and process id of a pod."""
    conditions = {each["type"]: each for each in pod["status"].get("conditions", ())}
    setting, present, pid = reported(pod)
    if "deletionTimestamp" in pod["metadata"]:
        return "Active", "Terminating", pid
    ready = conditions.pop("Ready", None)
    if ready is not None and ready["status"] == "True":
        return "Active", "Active", pid
    conditions.pop(GATE, None)
    for each in sorted(conditions.values(), key=lambda each: each["type"] not in IN_ORDER):
        if each["status"] != "True":
            return "Active", each.get("reason") or each["type"], pid
    return setting, present, pid


def reported(pod: Object) -> tuple[str, str, str]:
    """Setting state, present state and process id as the pod's tarsnode reported them; empty where it did not."""
    conditions = pod["status"].get("conditions", ())
    reason = next((each["reason"] for each in conditions if each["type"] == GATE), "")
    parts = reason.split("/")
    if len(parts) > 3:
        return "Unknown", "Unknown", ""
    setting, present, pid = (*parts, "", "")[:3]
    return setting, present, pid


def entry(pod: Object) -> Object:
    """The entry of a pod in `status.pods`."""
    metadata, status = pod["metadata"], pod["status"]
    setting, present, pid = state(pod)
    return {
        "name": metadata["name"],
        "uid": metadata["uid"],
        "id": metadata["labels"].get(RELEASE, ""),
        "podIP": status.get("podIP", ""),
        "hostIP": status.get("hostIP", ""),
        "startTime": metadata["creationTimestamp"],
        "settingState": setting,
        "presentState": present,
        "pid": pid,
    }


def object_name(app: str, server: str) -> str:
    """What a server's TEndpoint and StatefulSet are called."""
    return f"{app}-{server}".lower()


class TarsController:
    """Follows the pods of a namespace through whatever happens to the API server.

    Each TEndpoint is written again when any of its pods changed; changes that come meanwhile are written together.
    """

    def __init__(self, admin: Client) -> None:
        self._admin = admin
        self._clock = asyncio.get_running_loop().time
        self._pods: dict[str, dict[str, Object]] = {}
        """By object and name: the entries."""
        self._written: dict[str, list[Object]] = {}
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._under_way: set[str] = set()
        """Being written: never two writes of one at a time, of which the older might come second."""
        self.writes = 0
        self.seen_at: dict[str, float] = {}
        """By pod: when its last change came in, on the event loop's clock."""
        self.written_at: dict[str, float] = {}
        """By object: when its last write was answered."""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(self._write_on())
            while True:
                try:
                    await self._follow()
                except (aiohttp.ClientError, OSError, TimeoutError, ApiError):
                    await asyncio.sleep(PAUSE)

    async def _follow(self) -> None:
        """List, then watch until that ends."""
        selector = f"{APP},{SERVER}"
        servers = set(self._pods)
        self._pods.clear()
        more = {"continue": ""}
        while True:
            found = await self._admin.list(PODS, labelSelector=selector, limit=str(PAGE), **more)
            for pod in found["items"]:
                servers.add(self._take(pod))
            version = found["metadata"]["resourceVersion"]
            more["continue"] = found["metadata"].get("continue", "")
            if not more["continue"]:
                break
        for server in servers:
            self._note(server)
        async with self._admin.watch(PODS, labelSelector=selector, resourceVersion=version) as watch:
            while (event := await watch.next(WATCHES_FOR)) and event["type"] != "ERROR":
                self.seen_at[event["object"]["metadata"]["name"]] = self._clock()
                self._note(self._take(event["object"], gone=event["type"] == "DELETED"))

    def _take(self, pod: Object, *, gone: bool = False) -> str:
        labels = pod["metadata"]["labels"]
        server = object_name(labels[APP], labels[SERVER])
        pods = self._pods.setdefault(server, {})
        if gone:
            pods.pop(pod["metadata"]["name"], None)
        else:
            pods[pod["metadata"]["name"]] = entry(pod)
        return server

    def _note(self, server: str) -> None:
        if server not in self._waiting:
            self._waiting.add(server)
            if server not in self._under_way:
                self._changed.put_nowait(server)

    async def _write_on(self) -> None:
        while True:
            server = await self._changed.get()
            self._waiting.discard(server)
            self._under_way.add(server)
            pods = [pod for _, pod in sorted(self._pods.get(server, {}).items())]
            try:
                if pods != self._written.get(server):
                    await self._admin.patch(TENDPOINTS, server, {"status": {"pods": pods}}, subresource="status")
                    self._written[server] = pods
                    self.written_at[server] = self._clock()
                    self.writes += 1
            except (aiohttp.ClientError, OSError, TimeoutError, ApiError):
                # It may not be there yet, and so may the API server.
                self._waiting.add(server)
                await asyncio.sleep(PAUSE)
            self._under_way.discard(server)
            if server in self._waiting:
                self._changed.put_nowait(server)
