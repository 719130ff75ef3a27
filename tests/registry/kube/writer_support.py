"""A writer at work on a made-up API server, in made-up time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from registry.kube.conditions import GET_PODS, PATCH_STATUS
from registry.kube.pods import Condition
from registry.kube.reports import Outcome, Wanted
from registry.kube.rights import Rights
from registry.kube.settings import ReflectorSettings, WriterSettings
from registry.kube.writer import Writer
from tests.support.scripted_pods import CONDITION, FakePods

POD = "test-hello-0"
IP = "10.0.0.1"


def wanted(
    reason: str = "Active/Active/1",
    *,
    name: str = POD,
    peer: str = IP,
    listed: bool | None = None,
    namespaces: tuple[str, ...] = ("tars",),
) -> Wanted:
    """A report."""
    condition = Condition(CONDITION, reason.startswith("Active/Active"), reason, "as reported")
    return Wanted(namespaces, name, condition, peer, listed)


class World:
    """A writer at work, and the API server that it writes to."""

    def __init__(self, api: FakePods, writer: Writer, rights: Rights) -> None:
        self.api = api
        self.writer = writer
        self.rights = rights
        self.outcomes: list[tuple[Wanted, Outcome]] = []

    async def report(self, reason: str = "Active/Active/1", **more: Any) -> Outcome:
        """What becomes of a report."""
        return await self.writer.submit(wanted(reason, **more))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        for _ in range(60_000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("not so after ten minutes")

    async def worked_off(self) -> None:
        """Wait until nothing waits."""
        await self.until(lambda: not self.writer.queued)


@contextlib.asynccontextmanager
async def writing(
    *, latency: float = 0.005, namespaces: tuple[str, ...] = ("tars",), api: FakePods | None = None, **settings: Any
) -> AsyncIterator[World]:
    """A writer at work, with one pod in the cluster. With an ``api``, another one at work beside those it has."""
    if api is None:
        api = FakePods(latency)
        api.make(POD, IP)
    declared = WriterSettings(**settings)
    rights = Rights(api, (GET_PODS, PATCH_STATUS), namespaces, declared)
    outcomes: list[tuple[Wanted, Outcome]] = []
    writer = Writer(api, rights, declared, ReflectorSettings(), random.Random(1))
    writer.subscribe(lambda report, outcome: outcomes.append((report, outcome)))
    world = World(api, writer, rights)
    world.outcomes = outcomes
    task = asyncio.create_task(writer.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
