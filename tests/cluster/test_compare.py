"""``tars-registry compare`` over a thousand objects: those of a directory, and the same in a real API server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.client import TENDPOINTS
from tests.cluster.conftest import Cluster
from tests.cluster.support_service import Registry, following, lists
from tests.support.manifests import pod, tendpoint
from tests.support.service import Service, serving

pytestmark = pytest.mark.cluster

OBJECTS = 1_000
AT_ONCE = 24
ONE = 417
"""The server that is to differ."""
ID = f"Many.Server{ONE}.HelloObj"


def server(number: int) -> dict[str, Any]:
    """One of the servers: two active pods and one that starts."""
    name = f"many-server{number}"
    states = (("Active", "Active"), ("Active", "Active"), ("Active", "Activating"))
    pods = [pod(f"{name}-{n}", f"10.{n}.{number >> 8}.{number & 255}", state) for n, state in enumerate(states)]
    return tendpoint("Many", f"Server{number}", pods, port=10_000 + number)


async def fill(cluster: Cluster, manifests: list[dict[str, Any]]) -> None:
    """Create all of them."""
    waiting = iter(manifests)

    async def create() -> None:
        for manifest in waiting:
            await cluster.admin.create(manifest)

    await asyncio.gather(*(create() for _ in range(AT_ONCE)))


async def compare(first: Service, second: Registry, *options: str) -> tuple[int, dict[str, Any]]:
    """All that the first knows, as an operator asks for it: exit status, and what was told."""
    command = [
        *(sys.executable, "-m", "registry", "compare", "--json"),
        f"--registry=127.0.0.1:{first.query_port}",
        f"--with=127.0.0.1:{second.service.query_port}",
        f"--admin=127.0.0.1:{first.admin_port}",
        *options,
    ]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


async def test_directory_and_cluster_with_the_same_objects_do_not_differ_and_one_pod_is_found(
    cluster: Cluster, tmp_path: Path
) -> None:
    servers = [server(number) for number in range(OBJECTS)]
    (tmp_path / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": servers}))
    await fill(cluster, servers)
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace)
    async with serving(tmp_path, "--endpoint-host=pod-ip") as first, following(kubeconfig) as second:
        status, told = await compare(first, second)
        assert (status, told["objects"], told["differences"], told["unanswered"]) == (0, OBJECTS, [], [])

        name = f"many-server{ONE}"
        pods = server(ONE)["status"]["pods"]
        pods[1]["presentState"] = "Deactivating"
        await cluster.admin.patch(TENDPOINTS, name, {"status": {"pods": pods}}, subresource="status")
        active, others = [f"{pods[n]['podIP']}:{10_000 + ONE}" for n in (0, 1)], f"{pods[2]['podIP']}:{10_000 + ONE}"
        await second.until(ID, lists(active[0], inactive=[active[1], others]))
        status, told = await compare(first, second)
        assert (status, told["objects"], told["unanswered"]) == (1, OBJECTS, [])
        assert told["differences"] == [
            {
                "id": ID,
                "kind": "state",
                "what": f"{pods[1]['podIP']}:{10_000 + ONE}/tcp",
                "registry": "active",
                "with": "inactive",
                "functions": told["functions"],
            }
        ]

        await cluster.admin.patch(TENDPOINTS, name, {"status": {"pods": pods[:1] + pods[2:]}}, subresource="status")
        await second.until(ID, lists(active[0], inactive=[others]))
        status, told = await compare(first, second)
        assert [(each["kind"], each["what"], each["with"]) for each in told["differences"]] == [
            ("only", f"{pods[1]['podIP']}:{10_000 + ONE}/tcp", "absent")
        ]
