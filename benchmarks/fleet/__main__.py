"""A fleet of simulated tarsnodes on a real API server: real frames from an address each, real pods, a real service.

up      every tarsnode reports that its server starts, and then that it serves
flip    all report at once that theirs does not, and then that it does
die     a tenth of the pods is deleted and made again with another address; their old tarsnodes report once more, which
        must be refused
return  the new ones report

In the end every condition of every pod and every answer must be exact, and no more may have been written than states
that were reported. The API server's programs are those of tests/cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster.numbers import Figure, percentile, table
from tars_protocol.errors import CallError
from tests.cluster.apiserver import ApiServer, find
from tests.cluster.client import NAMESPACES, PODS, Client
from tests.cluster.support_service import Registry, following, lists
from tests.cluster.tars_controller import APP, GATE, SERVER, TarsController, reported
from tests.support import manifests
from tests.support.tarsnode import Tarsnode

NAMESPACE: Final = "fleet"
PODS_A_SERVER: Final = 20
CALLER_WAITS: Final = 5.0
SETTLES_WITHIN: Final = 300.0
MAKES_AT_A_TIME: Final = 40
PID: Final = "27"
_ASKS: Final = 100
_TEMPLATE: Final = {
    "apiVersion": "k8s.tars.io/v1beta3",
    "kind": "TTemplate",
    "metadata": {"name": "tars.cpp"},
    "spec": {"parent": "tars.cpp", "content": "<tars>\n</tars>"},
}


@dataclass
class Fleet:
    """The pods, where each is now, what it last reported, and what was seen of it."""

    size: int
    port: int
    chance: random.Random
    nodes: dict[str, Tarsnode] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=dict)
    codes: Counter[int] = field(default_factory=Counter)
    states: int = 0
    """States that were reported and are another than the one before: what may be written."""
    _made: int = 0

    @property
    def servers(self) -> int:
        """How many servers they are of."""
        return -(-self.size // PODS_A_SERVER)

    def names(self) -> list[str]:
        """All pods."""
        return [f"bench-server{n // PODS_A_SERVER}-{n % PODS_A_SERVER}" for n in range(self.size)]

    def new_address(self) -> str:
        """One that nobody had before."""
        self._made += 1
        return f"127.{1 + self._made // 62_500}.{1 + self._made // 250 % 250}.{1 + self._made % 250}"

    async def start(self, name: str) -> None:
        """A tarsnode in a pod, which asks for its server's descriptor until there is one."""
        node = self.nodes[name] = await Tarsnode(self.addresses[name], self.port).__aenter__()
        server = name.split("-")[1].capitalize()
        for _ in range(_ASKS):
            value, found = await node.descriptor("Bench", server)
            if value == 0 and f"Bench.{server}.HelloObjAdapter" in found.adapters:
                return
            await asyncio.sleep(0.1)
        raise SystemExit(f"no descriptor of Bench.{server}")

    async def stop(self, name: str) -> None:
        """The end of a tarsnode."""
        await self.nodes.pop(name).__aexit__(None, None, None)

    async def report(self, phase: str, name: str, present: str) -> None:
        """Report as a tarsnode does: whatever is answered, it goes on."""
        self.states += self.last.get(name) != present
        self.last[name] = present
        began = time.monotonic()
        try:
            await self.nodes[name].report(name, "Active", present, PID)
            code = 0
        except CallError as error:
            code = error.code
        self.codes[code] += 1
        self.waits.setdefault(phase, []).append(time.monotonic() - began)

    async def everybody(self, phase: str, states: Iterable[str], names: list[str], within: float = 0.0) -> None:
        """Each reports these states one after the other, beginning at some moment within so many seconds."""

        async def one(name: str, pause: float) -> None:
            await asyncio.sleep(pause)
            for present in states:
                await self.report(phase, name, present)

        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(one(name, self.chance.uniform(0, within)))


async def _each(names: Iterable[str], make: Callable[[str], Awaitable[Any]]) -> None:
    """Do something for each, some at a time."""
    slots = asyncio.Semaphore(MAKES_AT_A_TIME)

    async def one(name: str) -> None:
        async with slots:
            await make(name)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(one(name))


def _pod(name: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {APP: "Bench", SERVER: name.split("-")[1].capitalize()}},
        "spec": {
            "nodeName": "node",
            "containers": [{"name": "c", "image": "i"}],
            "readinessGates": [{"conditionType": GATE}],
        },
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    }


@contextlib.asynccontextmanager
async def _cluster(folder: Path) -> AsyncIterator[tuple[ApiServer, Client]]:
    programs = find()
    if programs is None:
        raise SystemExit("the API server is not built: run tests/cluster/install")
    async with ApiServer(programs, folder) as server, server.client(namespace=NAMESPACE) as admin:
        await server.create_crds()
        await admin.create({"apiVersion": NAMESPACES.version, "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield server, admin


async def _settled(registry: Registry) -> float:
    """Wait until nothing is left to write; seconds that it took."""
    began = time.monotonic()
    await registry.until_metric(lambda queued: queued == 0, "reports_queued", timeout=SETTLES_WITHIN)
    return time.monotonic() - began


async def _wrong(fleet: Fleet, registry: Registry, admin: Client) -> list[str]:
    """What is not as it was last reported: conditions, and answers once they had time to come."""
    wrong = []
    pods = {pod["metadata"]["name"]: pod for pod in (await admin.list(PODS))["items"]}
    if pods.keys() != fleet.addresses.keys():
        wrong.append("the pods are not those that were made")
    for name, present in fleet.last.items():
        if reported(pods[name]) != ("Active", present, PID):
            wrong.append(f"{name}: {reported(pods[name])}, not {present}")
    for n in range(fleet.servers):
        names = [f"bench-server{n}-{pod}" for pod in range(PODS_A_SERVER)]
        known = [(fleet.addresses[name], fleet.last[name]) for name in names if name in fleet.addresses]
        active = [address for address, present in known if present == "Active"]
        inactive = [address for address, present in known if present != "Active"]
        try:
            await registry.until(f"Bench.Server{n}.HelloObj", lists(*active, inactive=inactive), timeout=10)
        except AssertionError as error:
            wrong.append(str(error).partition("\n")[0])
    return wrong


async def _run(size: int, seconds: float, seed: int) -> tuple[list[Figure], list[str]]:
    figures: list[Figure] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tars-registry-fleet-") as folder:
        async with _cluster(Path(folder)) as (server, admin):
            kubeconfig = server.kubeconfig(namespace=NAMESPACE)
            async with following(kubeconfig) as registry:
                fleet = Fleet(size, registry.service.registry_port, random.Random(seed))
                controller = TarsController(admin)
                standing_in = asyncio.create_task(controller.run())
                try:
                    await _live(fleet, registry, admin, seconds, figures, wrong)
                    await _count(fleet, registry, controller, figures)
                finally:
                    standing_in.cancel()
                    await asyncio.gather(standing_in, return_exceptions=True)
                    for name in list(fleet.nodes):
                        await fleet.stop(name)
    return figures, wrong


async def _live(
    fleet: Fleet,
    registry: Registry,
    admin: Client,
    seconds: float,
    figures: list[Figure],
    wrong: list[str],
) -> None:
    async def phase(name: str) -> None:
        took = await _settled(registry)
        wrong.extend(f"{name}: {what}" for what in await _wrong(fleet, registry, admin))
        waits = fleet.waits[name]
        for share in (50, 99):
            target = CALLER_WAITS if share == 99 else None
            figures.append(Figure(f"{name}: a caller's wait, p{share}", "s", [percentile(waits, share)], target))
        figures.append(Figure(f"{name}: a caller's wait, longest", "s", [max(waits)], CALLER_WAITS))
        figures.append(Figure(f"{name}: until all was written, after the last report", "s", [took]))

    async def make(name: str) -> None:
        fleet.addresses[name] = fleet.new_address()
        await admin.create(_pod(name, fleet.addresses[name]))
        await fleet.start(name)

    names = fleet.names()
    _tell(f"making {len(names)} pods")
    await admin.create(_TEMPLATE)
    for n in range(fleet.servers):
        await admin.create(manifests.tendpoint("Bench", f"Server{n}"))
    await _each(names, make)
    _tell("up")
    await fleet.everybody("up", ("Activating", "Active"), names, seconds)
    await phase("up")
    _tell("flip")
    await fleet.everybody("flip", ("Deactivating", "Active"), names)
    await phase("flip")
    dying = fleet.chance.sample(names, max(1, len(names) // 10))
    _tell(f"{len(dying)} die and return")
    old = {name: fleet.nodes.pop(name) for name in dying}

    async def again(name: str) -> None:
        await admin.delete(PODS, name)
        del fleet.last[name]
        await make(name)
        try:
            await old[name].report(name, "Active", "Active", PID)
            wrong.append(f"{name}: its old tarsnode was not refused")
        except CallError:
            pass
        await old[name].__aexit__(None, None, None)

    await _each(dying, again)
    await fleet.everybody("return", ("Activating", "Active"), dying)
    await phase("return")


async def _count(fleet: Fleet, registry: Registry, controller: TarsController, figures: list[Figure]) -> None:
    patches = await registry.metric("api_requests_total", verb="patch")
    reads = await registry.metric("api_requests_total", verb="get")
    figures.append(Figure("states that were reported", "", [float(fleet.states)]))
    figures.append(Figure("writes of the registry", "", [patches], float(fleet.states)))
    figures.append(Figure("reads of the registry", "", [reads]))
    figures.append(Figure("writes of the stand-in for the controller", "", [float(controller.writes)]))
    figures.append(Figure("callers told that their state is not yet written", "", [float(fleet.codes[-99])]))
    other = fleet.codes.total() - fleet.codes[0] - fleet.codes[-99]
    figures.append(Figure("callers told anything else", "", [float(other)], 0.0))
    figures.append(Figure("processor time of the service", "s", [registry.service.cpu_seconds()]))


def main() -> None:
    """Measure, and print a table; exit status 1 where anything was not exact."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=2_000, help="tarsnodes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="in which they come up (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is left to chance (default: %(default)s)")
    options = parser.parse_args()
    figures, wrong = asyncio.run(_run(options.nodes, options.seconds, options.seed))
    print(table(figures))
    for what in wrong[:20]:
        print(f"wrong: {what}")
    print(f"{len(wrong)} conditions and answers were wrong")
    sys.exit(bool(wrong))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
