"""What happens to a fleet, phase by phase, and whether all is as it was last reported after each."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from benchmarks.cluster.numbers import Figure, percentile
from benchmarks.fleet.fleet import PID, PODS_A_SERVER, Fleet, each, pod
from tars_protocol.errors import CallError
from tests.cluster.apiserver import ApiServer
from tests.cluster.client import PODS, Client
from tests.cluster.support_service import Registry, lists
from tests.cluster.tars_controller import reported
from tests.support import manifests

CALLER_WAITS: Final = 5.0
SETTLES_WITHIN: Final = 600.0
ANSWERED_WITHIN: Final = 60.0

_TEMPLATE: Final = {
    "apiVersion": "k8s.tars.io/v1beta3",
    "kind": "TTemplate",
    "metadata": {"name": "tars.cpp"},
    "spec": {"parent": "tars.cpp", "content": "<tars>\n</tars>"},
}


@dataclass
class Life:
    """The phases. What is measured goes into ``figures``, what is not as it must be into ``wrong``."""

    fleet: Fleet
    registries: list[Registry]
    server: ApiServer
    admin: Client
    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def make(self) -> None:
        """The pods, and a tarsnode in each that has its descriptor."""
        await self.admin.create(_TEMPLATE)
        for n in range(self.fleet.servers):
            await self.admin.create(manifests.tendpoint("Bench", f"Server{n}"))
        await each(self.fleet.names(), self._make)

    async def up(self, seconds: float) -> None:
        """Every tarsnode reports, within so many seconds, that its server starts, and then that it serves."""
        await self.fleet.everybody("up", ("Activating", "Active"), self.fleet.names(), seconds)
        await self._look("up")

    async def flip(self, count: int) -> None:
        """So many report at once that their server does not serve, and then that it does."""
        names = self.fleet.chance.sample(self.fleet.names(), min(count, self.fleet.size))
        await self.fleet.everybody("flip", ("Deactivating", "Active"), names)
        await self._look("flip")

    async def die_and_return(self, count: int) -> None:
        """So many pods are deleted and made again with another address. Their old tarsnodes are refused."""
        names = self.fleet.chance.sample(self.fleet.names(), min(count, self.fleet.size))

        async def again(name: str) -> None:
            before = self.fleet.addresses[name]
            await self.admin.delete(PODS, name)
            del self.fleet.last[name]
            await self._make(name)
            async with self.fleet.tarsnode(name, before) as old:
                try:
                    await old.report(name, "Active", "Active", PID)
                    self.wrong.append(f"{name}: its old tarsnode was not refused")
                except CallError:
                    pass

        await each(names, again)
        await self.fleet.everybody("return", ("Activating", "Active"), names)
        await self._look("return")

    async def outage(self, seconds: float) -> None:
        """The API server is killed, and started again after so many seconds, while every tarsnode reports on and on."""
        clock = time.monotonic
        await self.server.kill()
        end = clock() + seconds
        before = dict(self.fleet.codes)

        async def storm(name: str) -> None:
            while clock() < end:
                await self.fleet.report("outage", name, self.fleet.chance.choice(("Active", "Deactivating")))

        async def back() -> float:
            await asyncio.sleep(seconds)
            await self.server.restart()
            return clock()

        async with asyncio.TaskGroup() as group:
            restarted = group.create_task(back())
            for name in self.fleet.names():
                group.create_task(storm(name))
        failed = self.fleet.codes[-99] - before.get(-99, 0)
        self.figures.append(Figure("outage: the API server was away", "s", [restarted.result() - end + seconds]))
        self.figures.append(Figure("outage: reports answered with an error", "", [float(failed)]))
        taken = self.fleet.codes[0] - before.get(0, 0)
        self.figures.append(Figure("outage: reports answered with 0, after it was back", "", [float(taken)]))
        await self._settled()
        self.figures.append(
            Figure("outage: until all was written, after it was back", "s", [max(0.0, clock() - restarted.result())])
        )
        await self._look("outage")

    async def _make(self, name: str) -> None:
        self.fleet.addresses[name] = self.fleet.new_address()
        await self.admin.create(pod(name, self.fleet.addresses[name]))
        await self.fleet.start(name)

    async def _settled(self) -> float:
        """Wait until nothing is left to write; seconds that it took."""
        began = time.monotonic()
        for registry in self.registries:
            await registry.until_metric(lambda queued: queued == 0, "reports_queued", timeout=SETTLES_WITHIN)
        return time.monotonic() - began

    async def _look(self, name: str) -> None:
        """The figures of a phase, and what is wrong after it."""
        took = await self._settled()
        self.wrong += [f"{name}: {what}" for what in await self._wrong()]
        waits = self.fleet.waits[name]
        for share in (50, 99):
            target = CALLER_WAITS if share == 99 else None
            self.figures.append(Figure(f"{name}: a caller's wait, p{share}", "s", [percentile(waits, share)], target))
        self.figures.append(Figure(f"{name}: a caller's wait, longest", "s", [max(waits)], CALLER_WAITS))
        self.figures.append(Figure(f"{name}: until all was written, after the last answer", "s", [took]))

    async def _wrong(self) -> list[str]:
        """What is not as it was last reported: conditions, and every registry's answers once they had time to come."""
        fleet, wrong = self.fleet, []
        pods = {each["metadata"]["name"]: each for each in (await self.admin.list(PODS))["items"]}
        if pods.keys() != fleet.addresses.keys():
            wrong.append("the pods are not those that were made")
        for name, present in fleet.last.items():
            if reported(pods[name]) != ("Active", present, PID):
                wrong.append(f"{name}: {reported(pods[name])}, not {present}")
        for n in range(fleet.servers):
            names = [f"bench-server{n}-{ordinal}" for ordinal in range(PODS_A_SERVER)]
            known = [(fleet.addresses[name], fleet.last[name]) for name in names if name in fleet.addresses]
            active = [address for address, present in known if present == "Active"]
            inactive = [address for address, present in known if present != "Active"]
            expected = lists(*active, inactive=inactive)
            for registry in self.registries:
                try:
                    await registry.until(f"Bench.Server{n}.HelloObj", expected, timeout=ANSWERED_WITHIN)
                except AssertionError as error:
                    wrong.append(str(error).partition("\n")[0])
        return wrong
