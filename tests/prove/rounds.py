"""Rounds of trouble: the API server is killed, the cluster changes meanwhile, and the table must follow exactly.

Changes in the gap are made through a second API server on the same etcd, as where several stand side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from tests.cluster.apiserver import ApiServer
from tests.cluster.client import PODS, TENDPOINTS, ApiError, Client, Object
from tests.cluster.programs import POLL_INTERVAL, Program, free_ports
from tests.cluster.support_service import Asker, Lists, Registry
from tests.support.manifests import pod, tendpoint

STARTS_WITHIN: Final = 60.0
CURRENT_WITHIN: Final = 30.0
"""Seconds after the API server's return until a round is given up."""

STEADY: Final = "Test.SteadyServer.HelloObj"
STEADY_AT: Final = Lists(("10.200.0.1:18100", "10.200.0.2:18100"))

_PORT: Final = 18100


# ---------------------------------------------------------------------------------- a cluster that changes


def labelled_pod(
    server: str, ordinal: int, ip: str, *, ready: bool = True, app: str = "Test", **metadata: Any
) -> dict[str, Any]:
    """A pod that is a server for those who go by labels; its servant is HelloObj."""
    name = f"{app}-{server}-{ordinal}".lower()
    labels = {"tars.io/ServerApp": app, "tars.io/ServerName": server}
    annotations = {"tars.io/servants": f"HelloObj:{_PORT}/tcp"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": annotations, **metadata},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i"}]},
        "status": {
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def readiness(ready: bool) -> dict[str, Any]:
    """A change to a pod's status."""
    return {"status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}}


class World:
    """Servers of both kinds that come, change and go by chance, and one that stays."""

    def __init__(self, chance: random.Random, endpoints: int = 12, pod_servers: int = 4) -> None:
        self._chance = chance
        self._endpoints = [f"Endpoint{n}" for n in range(endpoints)]
        self._pods = [(f"Pods{n}", ordinal) for n in range(pod_servers) for ordinal in range(3)]
        names = [*self._endpoints, *(f"Pods{n}" for n in range(pod_servers))]
        self.ids = [STEADY, *(f"Test.{name}.HelloObj" for name in names)]
        """All that can be asked for, there or not."""

    async def fill(self, admin: Client) -> None:
        """Make the one that stays, and about half of the others."""
        steady = [pod(f"test-steadyserver-{n}", at.partition(":")[0]) for n, at in enumerate(STEADY_AT.active)]
        await admin.apply(tendpoint("Test", "SteadyServer", steady))
        for server in self._endpoints[::2]:
            await self._set_endpoint(admin, server)
        for server, ordinal in self._pods[::2]:
            await self._create_pod(admin, server, ordinal)

    async def change(self, admin: Client, count: int) -> int:
        """So many changes by chance of each kind, after one of every sort; how many in all."""
        endpoints = {each["spec"]["server"] for each in (await admin.list(TENDPOINTS))["items"]} - {"SteadyServer"}
        pods = {each["metadata"]["name"] for each in (await admin.list(PODS))["items"]}
        steps = ["delete", "change", "create", *([None] * count)]
        for how in steps:
            await self._one_endpoint(admin, endpoints, how)
            await self._one_pod(admin, pods, how)
        return 2 * len(steps)

    async def _one_endpoint(self, admin: Client, known: set[str], how: str | None) -> None:
        pick = sorted(known) if how in ("delete", "change") else sorted(set(self._endpoints) - known) if how else []
        server = self._chance.choice(pick or self._endpoints)
        if server in known and (how == "delete" or (how is None and self._chance.random() < 0.4)):
            await admin.delete(TENDPOINTS, f"test-{server.lower()}")
            known.discard(server)
            return
        await self._set_endpoint(admin, server)
        known.add(server)

    async def _set_endpoint(self, admin: Client, server: str) -> None:
        count = self._chance.randrange(4)
        states = [("Active", "Active"), ("Active", "Activating")]
        pods = [pod(f"test-{server.lower()}-{n}", self._ip(), self._chance.choice(states)) for n in range(count)]
        await admin.apply(tendpoint("Test", server, pods))

    async def _one_pod(self, admin: Client, known: set[str], how: str | None) -> None:
        names = {f"test-{server}-{ordinal}".lower(): (server, ordinal) for server, ordinal in self._pods}
        there = sorted(names.keys() & known)
        pick = there if how in ("delete", "change") else sorted(names.keys() - known) if how else []
        name = self._chance.choice(pick or list(names))
        if name not in known:
            await self._create_pod(admin, *names[name])
            known.add(name)
        elif how == "delete" or (how is None and self._chance.random() < 0.4):
            await admin.delete(PODS, name)
            known.discard(name)
        else:
            change = readiness(self._chance.random() < 0.5)
            await admin.patch(PODS, name, change, how="strategic", subresource="status")

    async def _create_pod(self, admin: Client, server: str, ordinal: int) -> None:
        await admin.create(labelled_pod(server, ordinal, self._ip(), ready=self._chance.random() < 0.7))

    def _ip(self) -> str:
        return f"10.{self._chance.randrange(1, 200)}.{self._chance.randrange(256)}.{self._chance.randrange(1, 255)}"

    async def truth(self, admin: Client) -> dict[str, Lists]:
        """The answers, as read off the API server's lists, by all that can be asked for."""
        found: dict[str, list[tuple[int, bool, str]]] = {}
        for each in (await admin.list(TENDPOINTS))["items"]:
            for one in each["status"]["pods"]:
                active = (one["settingState"], one["presentState"]) == ("Active", "Active")
                found.setdefault(each["spec"]["server"], []).append((_ordinal(one["name"]), active, one["podIP"]))
        for each in (await admin.list(PODS))["items"]:
            metadata = each["metadata"]
            active = _is_ready(each) and "deletionTimestamp" not in metadata
            server = metadata["labels"]["tars.io/ServerName"]
            found.setdefault(server, []).append((_ordinal(metadata["name"]), active, each["status"]["podIP"]))
        return {object_id: _in_order(found.get(object_id.split(".")[1], [])) for object_id in self.ids}


def _ordinal(name: str) -> int:
    return int(name.rpartition("-")[2])


def _is_ready(found: Object) -> bool:
    return any((each["type"], each["status"]) == ("Ready", "True") for each in found["status"]["conditions"])


def _in_order(pods: list[tuple[int, bool, str]]) -> Lists:
    pods = sorted(pods)
    return Lists(
        tuple(f"{ip}:{_PORT}" for _, active, ip in pods if active),
        tuple(f"{ip}:{_PORT}" for _, active, ip in pods if not active),
    )


# ------------------------------------------------------------------------------------------ what is done to it


@contextlib.asynccontextmanager
async def sibling(server: ApiServer, namespace: str) -> AsyncIterator[Client]:
    """One more API server on the etcd of this one, for as long as it is wanted: a client that may do all there."""
    [port] = free_ports(1)
    argv = [f"--secure-port={port}" if each.startswith("--secure-port=") else each for each in server.apiserver.argv]
    program = Program("kube-apiserver", argv, server.folder / f"kube-apiserver-{port}.log")
    program.start()
    try:
        url, token = f"https://127.0.0.1:{port}", server.tokens["admin"]
        async with Client(url, token, server.ca_file, namespace) as admin:
            async with asyncio.timeout(STARTS_WITHIN):
                while not await _answers(admin):
                    _ = program.pid  # ProgramError when it has ended
                    await asyncio.sleep(POLL_INTERVAL)
            yield admin
    finally:
        await program.kill()


async def _answers(client: Client) -> bool:
    """Whether an API server takes requests for TEndpoints."""
    try:
        await client.request("GET", "/readyz")
        await client.list(TENDPOINTS, limit="1")
    except (aiohttp.ClientError, ApiError):
        return False
    return True


@dataclass(frozen=True)
class Round:
    """What one round took, in seconds. ``after_return`` from when the API server was ready with all it serves,
    ``after_list`` from the first list of TEndpoints that anybody got of it."""

    gap: float
    changes: int
    compacted: bool
    outage: float
    after_return: float
    after_list: float


class NotExact(Exception):
    """The table is not what the API server says, or not what it was."""


async def differences(registry: Registry, truth: dict[str, Lists]) -> list[str]:
    """Where the answers are others than these."""
    answers = {object_id: await registry.ask(object_id) for object_id in truth}
    return [f"{each}: {answers[each]}, not {truth[each]}" for each in truth if answers[each] != truth[each]]


async def exact(registry: Registry, truth: dict[str, Lists], timeout: float = CURRENT_WITHIN) -> float:
    """Wait until every answer is right; the time then."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        looked = clock()
        wrong = await differences(registry, truth)
        if not wrong:
            return looked
        if clock() - began > timeout:
            raise NotExact(f"{len(wrong)} wrong after {timeout:g} s: {'; '.join(wrong[:5])}\n{registry.service.log}")
        await asyncio.sleep(0.02)


async def kill_round(
    server: ApiServer, other: Client, registry: Registry, world: World, chance: random.Random, longest_gap: float
) -> Round:
    """Kill the API server, change the cluster through the other one, start it again, wait until all is right.

    Half of the rounds also change it in the moment of the kill. All other rounds look whether the old table is served
    to the end of the gap. Some compact etcd's history away.
    """
    clock = asyncio.get_running_loop().time
    before = await world.truth(other)
    in_flight = chance.random() < 0.5
    if in_flight:
        await asyncio.gather(world.change(other, 1), server.kill())
    else:
        await server.kill()
    killed = clock()
    gap = longest_gap * chance.random() ** 3  # most are short, as restarts are, and there are long ones too
    await asyncio.sleep(gap / 2)
    changes = await world.change(other, chance.randrange(12))
    truth = await world.truth(other)
    compacted = chance.random() < 0.3
    if compacted:
        await server.compact()
    await asyncio.sleep(max(0.0, killed + gap - clock()))
    if not in_flight and (wrong := await differences(registry, before)):
        raise NotExact(f"the old table is not served in the gap: {'; '.join(wrong[:5])}\n{registry.service.log}")
    gap = clock() - killed

    async def restart() -> float:
        await server.restart()
        return clock()

    async def first_list() -> float:
        async with server.client(namespace=other.namespace) as client:
            while True:
                try:
                    await client.list(TENDPOINTS)
                    return clock()
                except (aiohttp.ClientError, ApiError):
                    await asyncio.sleep(POLL_INTERVAL)

    returned, listed, current = await asyncio.gather(
        restart(), first_list(), exact(registry, truth, STARTS_WITHIN + CURRENT_WITHIN)
    )
    if wrong := await differences(registry, truth):
        raise NotExact(f"right and then wrong again: {'; '.join(wrong[:5])}\n{registry.service.log}")
    return Round(gap, changes, compacted, listed - killed, max(0.0, current - returned), max(0.0, current - listed))


def asker(registry: Registry, world: World) -> Asker:
    """One who asks for all of it, meanwhile."""
    return Asker(registry.service.query_port, STEADY, STEADY_AT, world.ids[1:])
