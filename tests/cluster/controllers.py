"""What makes a cluster of an API server: kube-controller-manager, kube-scheduler, and kwok in the place of kubelets.

```
async with Controllers(programs, folder, server) as controllers:
    await admin.create(stateful_set)  # its pods are made, scheduled, Running
```

Pods run nothing. They get an address and become Ready when their readiness gates are True: stages.yaml says how.
Tests take a running one from the fixture `live_cluster` of conftest.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.cluster.apiserver import ApiServer
from tests.cluster.client import NODES, PODS, Client, Object
from tests.cluster.programs import Program, ProgramError

STAGES: Final = Path(__file__).with_name("stages.yaml")
STARTS_WITHIN: Final = 60.0
LOOKS_EVERY: Final = 1.0

POD_NETWORK: Final = "10.244.0.0/16"
"""Addresses of pods. Nothing of the machine is there."""

LOOPBACK: Final = "tests/loopback"
"""A pod with this label has its address in 127.244.0.0/16: a test can connect from there, and listen there.
Kubernetes takes no such address in an EndpointSlice, so Services have no endpoints of these pods."""

NODES_AT_START: Final = {"node-a": ("192.0.2.11", "zone-a"), "node-b": ("192.0.2.12", "zone-b")}

QPS: Final = ("--kube-api-qps=500", "--kube-api-burst=1000")
"""By default the programs ask so slowly that thousands of pods would take minutes."""


class Controllers:
    """The three programs, which work on all that there is in an API server. They outlive its restarts.

    It may be entered in one event loop and used in others.
    """

    def __init__(self, programs: Path, folder: Path, server: ApiServer) -> None:
        """`folder` is for logs."""
        self.server = server
        kubeconfig = f"--kubeconfig={server.kubeconfig()}"
        # There is one of each, and nobody asks them anything.
        alone = ("--leader-elect=false", "--secure-port=0")
        self.controller_manager: Final = Program(
            "kube-controller-manager",
            [
                programs / "kube-controller-manager",
                kubeconfig,
                *alone,
                *QPS,
                f"--service-account-private-key-file={server.service_accounts.key}",
                f"--root-ca-file={server.ca_file}",
            ],
            folder / "kube-controller-manager.log",
        )
        self.scheduler: Final = Program(
            "kube-scheduler",
            [programs / "kube-scheduler", kubeconfig, *alone, *QPS],
            folder / "kube-scheduler.log",
        )
        self.kwok: Final = Program(
            "kwok",
            [
                programs / "kwok",
                kubeconfig,
                f"--config={STAGES}",
                "--manage-all-nodes",
                "--node-lease-duration-seconds=40",  # their heartbeats
                f"--cidr={POD_NETWORK}",
            ],
            folder / "kwok.log",
        )

    @property
    def programs(self) -> tuple[Program, ...]:
        """All three."""
        return self.controller_manager, self.scheduler, self.kwok

    async def __aenter__(self) -> Self:
        try:
            for program in self.programs:
                program.start()
            async with self.server.client(namespace="default") as admin:
                for name, (address, zone) in NODES_AT_START.items():
                    await admin.create(node(name, address, zone))
                await self._works(admin)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End them, without waiting for what they do: nothing of it is needed any more."""
        for program in self.programs:
            await program.kill()

    async def _works(self, admin: Client) -> None:
        """Wait until a pod of a trial Deployment is Ready on each node: all three had to do their part for that."""
        labels = {"app": "trial"}
        apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
        spec = {
            "containers": [{"name": "trial", "image": "none"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        }
        template = {"metadata": {"labels": labels}, "spec": spec}
        await admin.create(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "trial"},
                "spec": {"replicas": len(NODES_AT_START), "selector": {"matchLabels": labels}, "template": template},
            }
        )
        ready = asyncio.create_task(_until_ready(admin, len(NODES_AT_START)))
        try:
            async with asyncio.timeout(STARTS_WITHIN):
                while not (await asyncio.wait({ready}, timeout=LOOKS_EVERY))[0]:
                    for program in self.programs:
                        _ = program.pid  # ProgramError when it has ended
            await ready
        except TimeoutError:
            logs = "\n".join(f"{program.name}:\n{program.log_tail()}" for program in self.programs)
            raise ProgramError(f"no pods became Ready within {STARTS_WITHIN} s\n{logs}") from None
        finally:
            ready.cancel()
        await admin.request("DELETE", "/apis/apps/v1/namespaces/default/deployments/trial")


def node(name: str, address: str, zone: str = "zone-a") -> Object:
    """A node for kwok to play, with its address."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": zone}
    return {
        "apiVersion": NODES.version,
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"tests/address": address}},
    }


def condition(pod: Object, kind: str) -> str:
    """Status of a condition of a pod; empty where it has none of this type."""
    conditions = pod.get("status", {}).get("conditions", ())
    return next((each["status"] for each in conditions if each["type"] == kind), "")


async def _until_ready(admin: Client, count: int) -> None:
    ready: set[str] = set()
    async with admin.watch(PODS, labelSelector="app=trial") as watch:
        while len(ready) < count:
            event = await watch.next(STARTS_WITHIN)
            assert event is not None, "the watch ended"
            if condition(event["object"], "Ready") == "True":
                ready.add(event["object"]["metadata"]["name"])
