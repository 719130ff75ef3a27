"""A real API server that is full of servers or pods.

Filling takes minutes, so etcd's data is kept under the project's cache folder (``cluster-data/``, which may be deleted
at any time), by what it holds; each run works on a copy.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp

from tests.cluster.apiserver import ApiServer, find
from tests.cluster.client import NAMESPACES, PODS, TENDPOINTS, TFRAMEWORKCONFIGS, TTEMPLATES, ApiError, Client, Resource

NAMESPACE: Final = "bench"
WRITERS: Final = 32
USABLE_WITHIN: Final = 300.0

_FORM: Final = 2
"""Grows when what is made here changes, so that older data is not taken for it."""


@dataclass(frozen=True)
class Contents:
    """What the API server holds: so many servers of so many pods, as TEndpoints or as labelled Pods."""

    kind: Literal["tendpoints", "pods"]
    servers: int
    pods: int

    def __str__(self) -> str:
        what = "TEndpoints" if self.kind == "tendpoints" else "servers in pods mode"
        return f"{self.servers:,} {what} x {self.pods} pods"

    @property
    def resource(self) -> Resource:
        """What must be listed to see all of it."""
        return TENDPOINTS if self.kind == "tendpoints" else PODS

    @property
    def objects(self) -> int:
        """How many objects there are to list."""
        return self.servers if self.kind == "tendpoints" else self.servers * self.pods

    def manifests(self) -> Iterator[dict[str, Any]]:
        """All objects."""
        for number in range(self.servers):
            if self.kind == "tendpoints":
                yield tendpoint(number, self.pods)
            else:
                for pod in range(self.pods):
                    yield labelled_pod(number, pod)


def object_id(number: int) -> str:
    """The object that clients ask for to find a server."""
    return f"Bench.Server{number}.MainObj"


def name_of(number: int) -> str:
    """The name of a server's TEndpoint."""
    return f"bench-server{number}"


def _address(server: int, pod: int) -> str:
    number = server * 16 + pod
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _node(server: int, pod: int) -> str:
    return f"192.168.{(server + pod) % 4}.{(server * 7 + pod) % 250 + 1}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _uid(*parts: object) -> str:
    digest = _digest(repr(parts))
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"


def tendpoint(number: int, pods: int) -> dict[str, Any]:
    """A server as TARS's controller writes it; all its pods are active."""
    name = name_of(number)
    return {
        "apiVersion": "k8s.tars.io/v1beta3",
        "kind": "TEndpoint",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {
                "tars.io/ServerApp": "Bench",
                "tars.io/ServerName": f"Server{number}",
                "tars.io/SubType": "tars",
            },
        },
        "spec": {
            "app": "Bench",
            "server": f"Server{number}",
            "subType": "tars",
            "important": 3,
            "tars": {
                "asyncThread": 3,
                "profile": "",
                "template": "tars.default",
                "servants": [
                    {
                        "name": "MainObj",
                        "port": 21010,
                        "isTars": True,
                        "isTcp": True,
                        "thread": 3,
                        "connection": 10000,
                        "capacity": 10000,
                        "timeout": 60000,
                    }
                ],
            },
        },
        "status": {
            "pods": [
                {
                    "uid": _uid(number, n),
                    "pid": "",
                    "name": f"{name}-{n}",
                    "podIP": _address(number, n),
                    "hostIP": _node(number, n),
                    "startTime": "2026-01-01T00:00:00Z",
                    "containerStatuses": [],
                    "settingState": "Active",
                    "presentState": "Active",
                    "presentMessage": "",
                    "id": f"v{number % 20}",
                }
                for n in range(pods)
            ]
        },
    }


def labelled_pod(number: int, pod: int) -> dict[str, Any]:
    """A pod of a StatefulSet, about as large as pods are."""
    name = name_of(number)
    since = "2026-01-01T00:00:00Z"
    labels = {"app": name, "tars.io/ServerApp": "Bench", "tars.io/ServerName": f"Server{number}"}
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{pod}",
            "namespace": NAMESPACE,
            "labels": {**labels, "statefulset.kubernetes.io/pod-name": f"{name}-{pod}"},
            "annotations": {"tars.io/servants": "MainObj:21010/tcp"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "StatefulSet",
                    "name": name,
                    "uid": _uid(number),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "hostname": f"{name}-{pod}",
            "subdomain": name,
            "nodeName": f"node-{(number + pod) % 500}",
            "enableServiceLinks": False,
            "containers": [
                {
                    "name": "server",
                    "image": f"registry.example/bench/server{number}:v{number % 20}",
                    "ports": [{"name": "mainobj", "containerPort": 21010}],
                    "env": [
                        {"name": "SERVER_APP", "value": "Bench"},
                        {"name": "SERVER_NAME", "value": f"Server{number}"},
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                    "readinessProbe": {"tcpSocket": {"port": 21010}, "periodSeconds": 5},
                    "volumeMounts": [{"name": "log", "mountPath": "/usr/local/app/tars/app_log"}],
                }
            ],
            "volumes": [{"name": "log", "emptyDir": {}}],
        },
        "status": {
            "phase": "Running",
            "hostIP": _node(number, pod),
            "podIP": _address(number, pod),
            "podIPs": [{"ip": _address(number, pod)}],
            "startTime": since,
            "conditions": [
                {"type": each, "status": "True", "lastProbeTime": None, "lastTransitionTime": since}
                for each in conditions
            ],
            "containerStatuses": [
                {
                    "name": "server",
                    "image": f"registry.example/bench/server{number}:v{number % 20}",
                    "imageID": f"registry.example/bench/server{number}@sha256:{_digest(name)}",
                    "containerID": f"containerd://{_digest(f'{name}-{pod}')}",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": since}},
                }
            ],
        },
    }


# ------------------------------------------------------------------------------------------------- the server


def programs() -> Path:
    """The API server's programs. SystemExit where they are not built."""
    found = find()
    if found is None:
        raise SystemExit("kube-apiserver is not built: run tests/cluster/install")
    return found


def kept(contents: Contents) -> Path:
    """Where etcd's data for these contents is kept."""
    root = os.environ.get("TARS_REGISTRY_CACHE")
    cache = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tars-registry"
    key = f"{contents.kind}-{contents.servers}x{contents.pods}-{programs().name}-{_FORM}"
    return cache / "cluster-data" / key


@asynccontextmanager
async def full_server(contents: Contents, folder: Path) -> AsyncIterator[ApiServer]:
    """A running API server that holds these contents; ``folder`` is for its files."""
    async with ApiServer(programs(), folder) as server:
        data = next(Path(each.partition("=")[2]) for each in server.etcd.argv if each.startswith("--data-dir="))
        if not kept(contents).exists():
            await _fill(server, contents)
            await server.kill()
            await server.etcd.stop()
            _keep(data, kept(contents))
        else:
            await server.kill()
            await server.etcd.kill()
            await asyncio.to_thread(shutil.rmtree, data)
            await asyncio.to_thread(shutil.copytree, kept(contents), data)
        server.etcd.start()
        await server.restart()
        async with server.client(namespace=NAMESPACE) as admin:
            await usable(admin, contents)
        yield server


async def usable(admin: Client, contents: Contents) -> None:
    """Wait until the API server has its contents at hand."""
    async with asyncio.timeout(USABLE_WITHIN):
        while True:
            try:
                page = await admin.list(contents.resource, limit="1")
                left = int(page["metadata"].get("remainingItemCount", 0)) + len(page["items"])
                if left != contents.objects:
                    raise SystemExit(
                        f"{left} objects where there should be {contents.objects}; delete {kept(contents)}"
                    )
                for resource in (contents.resource, TTEMPLATES, TFRAMEWORKCONFIGS):
                    # From the watch cache, as watches are: 429 until that is full.
                    await admin.list(resource, resourceVersion="0", fieldSelector="metadata.name=none")
                return
            except (ApiError, aiohttp.ClientError):
                await asyncio.sleep(0.1)


async def _fill(server: ApiServer, contents: Contents) -> None:
    began = time.monotonic()
    await server.create_crds()
    waiting = iter(contents.manifests())
    made = 0

    async def write(client: Client) -> None:
        nonlocal made
        for manifest in waiting:
            await client.create(manifest)
            made += 1
            if made % 1000 == 0:
                _tell(f"filling: {made:,} of {contents.objects:,} objects, {time.monotonic() - began:.0f} s")

    async with server.client() as client:
        await client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        assert await client.get(NAMESPACES, NAMESPACE)
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(write(client))
    await server.compact()


def _keep(data: Path, place: Path) -> None:
    """Whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copytree(data, temporary)
    temporary.rename(place)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
