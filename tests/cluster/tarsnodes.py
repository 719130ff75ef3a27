"""Tarsnodes in the pods of a namespace: one in each that runs, for as long as that is the same pod."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from tars_protocol.errors import CallError
from tests.cluster.client import PODS, Client, Object
from tests.cluster.tars_controller import APP, SERVER
from tests.support.tarsnode import Tarsnode

PAUSE: Final = 0.05
LAUNCHES: Final = ("Activating", "Active")
WATCHES_FOR: Final = 3600.0


class Tarsnodes:
    """Starts a tarsnode in every pod of a TARS server that is Running, and ends it with the pod.

    Each connects from the address of its pod, so the pods need the label for that (tests.cluster.controllers).
    It asks for its server's descriptor until there is one, and reports what a server that starts goes through.
    """

    def __init__(self, admin: Client, port: int) -> None:
        """`port` is that of the registry."""
        self._admin = admin
        self._port = port
        self._lives: dict[str, asyncio.Task[None]] = {}
        """By uid."""
        self.failures: list[str] = []
        """What was answered to reports that were not taken."""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group, self._admin.watch(PODS, labelSelector=f"{APP},{SERVER}") as watch:
            while event := await watch.next(WATCHES_FOR):
                pod: Object = event["object"]
                uid = pod["metadata"]["uid"]
                if event["type"] == "DELETED":
                    if life := self._lives.pop(uid, None):
                        life.cancel()
                elif uid not in self._lives and pod["status"].get("phase") == "Running":
                    self._lives[uid] = group.create_task(self._live(pod))
        raise AssertionError("the watch ended")

    async def _live(self, pod: Object) -> None:
        metadata = pod["metadata"]
        async with Tarsnode(pod["status"]["podIP"], self._port) as node:
            while True:
                value, _ = await node.descriptor(metadata["labels"][APP], metadata["labels"][SERVER])
                if value == 0:
                    break
                await asyncio.sleep(PAUSE)
            for present in LAUNCHES:
                try:
                    await node.report(metadata["name"], "Active", present)
                except CallError as error:
                    self.failures.append(f"{metadata['name']}: {error}")


@contextlib.asynccontextmanager
async def background(work: asyncio.Task[None]) -> AsyncIterator[None]:
    """Something that goes on meanwhile. It must not end; what goes wrong in it is raised at the end."""
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
