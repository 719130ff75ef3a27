"""The first table: how long it takes, what memory it leaves, and whether callers wait meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster.contents import NAMESPACE, Contents, name_of, object_id, usable
from benchmarks.cluster.helper import Helper, now
from benchmarks.cluster.poller import Asker
from benchmarks.cluster.service import Service, service
from tests.cluster.apiserver import ApiServer
from tests.cluster.client import TENDPOINTS
from tests.cluster.programs import free_ports

REST: Final = 3.0
"""Seconds after the table is there before memory is read."""

RELISTED_WITHIN: Final = 180.0
POLL: Final = 0.02
SCRAPES: Final = 5
GIVES_WAY: Final = 15
"""Niceness of the API server while pauses are measured."""

RELISTS: Final = "tars_registry_source_relists_total"
AFTER: Final = 1.0
"""Seconds after a list is there in which callers are still looked after."""


@dataclass(frozen=True)
class Start:
    """One start."""

    seconds: float
    """From the process's start to /readyz 200."""
    cpu_seconds: float
    memory_mib: float
    peak_mib: float


async def start(server: ApiServer, contents: Contents, folder: Path) -> Start:
    """Start the service once."""
    with service(server.kubeconfig(namespace=NAMESPACE), contents, folder) as running:
        seconds = await asyncio.to_thread(running.wait_ready)
        processor = running.cpu_seconds()
        await asyncio.sleep(REST)
        return Start(seconds, processor, *running.memory_mib())


@dataclass(frozen=True)
class Waiting:
    """How long callers waited while something happened: when each asked (seconds from its beginning), and for how long
    (ms), at the service and at a process that does nothing else."""

    service: list[tuple[float, float]]
    control: list[tuple[float, float]]

    @property
    def longest(self) -> float:
        """At the service."""
        return max(waited for _, waited in self.service)

    @property
    def longest_control(self) -> float:
        """At the other process."""
        return max(waited for _, waited in self.control)

    def pauses(self, above: float) -> list[tuple[float, float]]:
        """The longest wait of each pause above so many ms, and when it began."""
        found: list[tuple[float, float]] = []
        until = -1.0
        for asked, waited in self.service:
            if waited > above and asked > until:
                found.append((asked, waited))
                until = asked + waited / 1000
        return found


@dataclass(frozen=True)
class Pauses:
    """Callers' waiting during a first list, at rest, during scrapes of /metrics, and (TEndpoints only) during a list
    after the API server came back."""

    first: Waiting
    rest: Waiting
    scrapes: Waiting
    again: Waiting | None


async def pauses(server: ApiServer, contents: Contents, folder: Path) -> Pauses:
    """Start the service and have it list twice, asked every millisecond."""
    _give_way(server)
    control = free_ports(1)[0]
    kubeconfig = server.kubeconfig(namespace=NAMESPACE)
    async with Helper("prober", "--control", control):
        with service(kubeconfig, contents, folder) as running:
            async with Helper("prober", "--port", running.port, "--control", control) as prober:
                await asyncio.to_thread(running.wait_ready)
                await asyncio.sleep(AFTER)
                moments = [running.began, now()]
                await asyncio.sleep(REST)
                moments.append(now())
                for _ in range(SCRAPES):
                    await asyncio.to_thread(running.metric, RELISTS)
                    await asyncio.sleep(AFTER / SCRAPES)
                moments.append(now())
                if contents.kind == "tendpoints":
                    # Pods' versions outlive a restart of the API server, those of custom objects do not.
                    await _list_again(server, contents, running)
                    await asyncio.sleep(AFTER)
                moments.append(now())
                said = await prober.finish()
                if contents.kind == "tendpoints" and not running.metric(RELISTS):
                    raise SystemExit(f"it did not list again:\n{running.log()}")
    first, rest, scrapes = (_between(said, *moments[n : n + 2]) for n in range(3))
    return Pauses(first, rest, scrapes, _between(said, *moments[3:]) if contents.kind == "tendpoints" else None)


def _give_way(server: ApiServer) -> None:
    """Let the API server and etcd run where nothing else wants to: in a cluster they have a machine of their own, and
    here they would take all processors just when they make the list."""
    for program in (server.apiserver, server.etcd):
        # Each is the leader of a session, and so of a group; that reaches all threads.
        os.setpriority(os.PRIO_PGRP, program.pid, GIVES_WAY)
        # Where sessions are scheduled as wholes, niceness counts only inside of one.
        autogroup = Path(f"/proc/{program.pid}/autogroup")
        if autogroup.exists():
            autogroup.write_text(str(GIVES_WAY))


async def _list_again(server: ApiServer, contents: Contents, running: Service) -> None:
    """Restart the API server; done when the service has a change that was made after that."""
    await server.restart()
    _give_way(server)
    pod = "/status/pods/0/presentState"
    async with server.client(namespace=NAMESPACE) as admin:
        await usable(admin, contents)
        state = (await admin.get(TENDPOINTS, name_of(0)))["status"]["pods"][0]["presentState"]
        asker = await asyncio.to_thread(Asker, running.port, object_id(0))
        before = await asyncio.to_thread(asker.ask)
        change = {"op": "replace", "path": pod, "value": "Inactive" if state == "Active" else "Active"}
        await admin.patch(TENDPOINTS, name_of(0), [change], how="json", subresource="status")
    until = now() + RELISTED_WITHIN
    while await asyncio.to_thread(asker.ask) == before:
        if now() > until:
            raise SystemExit(f"it did not come back:\n{running.log()}")
        await asyncio.sleep(POLL)


def _between(said: dict[str, Any], begin: float, end: float) -> Waiting:
    def within(trips: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(asked - begin, 1000 * waited) for asked, waited in trips if begin <= asked < end]

    return Waiting(within(said["service"]), within(said["control"]))
