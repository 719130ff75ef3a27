"""In the place of the C++ registry: started with what an existing installation gives its pods, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from registry.config import load
from tars_protocol.aio.client import Client
from tars_protocol.interfaces.query import QUERY, SERVANT
from tests.cluster.client import PODS
from tests.cluster.conftest import Cluster
from tests.cluster.heartbeats import FOLLOW, PATCH_STATUS, condition, kube_pod
from tests.cluster.programs import free_ports
from tests.cluster.support_service import Lists
from tests.support.manifests import framework, pod, tendpoint
from tests.support.service import Service, attached
from tests.support.tarsnode import Tarsnode

pytestmark = pytest.mark.cluster

ACCOUNT: Final = "tars-tarsregistry"
OWN: Final = "tars-tarsregistry-0"
HELLO_POD: Final = "test-helloserver-0"

ROLE: Final = (
    FOLLOW,
    PATCH_STATUS,
    {"apiGroups": ["k8s.tars.io"], "resources": ["tplugins"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
)
"""What the chart of TARS on Kubernetes grants its registry."""


def own_endpoint() -> dict[str, Any]:
    """What the controller makes of the registry's TServer, which is a normal one: it has no servants."""
    made = tendpoint("tars", "tarsregistry", [pod(OWN, "127.0.0.1")])
    del made["spec"]["tars"]
    made["spec"] |= {
        "subType": "normal",
        "normal": {"ports": [{"name": "queryobj", "port": 17890}, {"name": "registryobj", "port": 17891}]},
    }
    return made


async def installed(cluster: Cluster) -> None:
    """An installation of TARS with one server, and the pod that the registry is to run in."""
    admin = cluster.admin
    template = {
        "apiVersion": "k8s.tars.io/v1beta3",
        "kind": "TTemplate",
        "metadata": {"name": "tars.cpp"},
        "spec": {"parent": "tars.cpp", "content": "<tars>\n  <application>\n    x=1\n  </application>\n</tars>\n"},
    }
    upstream = {"host": "192.0.2.50", "port": 19900}
    hello = tendpoint("Test", "HelloServer", [pod(HELLO_POD, "127.0.0.1"), pod("test-helloserver-1", "127.0.0.2")])
    for manifest in (template, framework(default=[upstream]), hello, own_endpoint()):
        await admin.create(manifest)
    await admin.create(kube_pod(OWN, "127.0.0.1"))
    await admin.create(kube_pod(HELLO_POD, "127.0.0.1"))


def _account(folder: Path, cluster: Cluster, token: str) -> None:
    """What a pod is given of its service account."""
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(cluster.server.ca_file.read_bytes())
    (folder / "namespace").write_text(cluster.namespace)


@contextlib.asynccontextmanager
async def in_its_pod(cluster: Cluster, folder: Path, *, synced: bool = True) -> AsyncIterator[Service]:
    """The image's entry in that pod: no option, no file; the ports are free ones, on all addresses."""
    _account(folder, cluster, await cluster.admin.service_account_token(ACCOUNT))
    ports = free_ports(3)
    environment = {
        "PATH": os.environ["PATH"],
        "Namespace": cluster.namespace,
        "PodName": OWN,
        "PodIP": "127.0.0.1",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(cluster.server.port),
        # In a pod nobody else has them.
        "TARS_REGISTRY_QUERY_LISTEN": f":{ports[0]}",
        "TARS_REGISTRY_REGISTRY_LISTEN": f":{ports[1]}",
        "TARS_REGISTRY_ADMIN_LISTEN": f"127.0.0.1:{ports[2]}",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.in_pod", str(folder), "serve"),
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    async with attached(process, synced=synced) as service:
        yield service


def test_without_any_setting_it_listens_as_the_cpp_one_does() -> None:
    """On the same ports, of all addresses, the pod's among them."""
    found = load({}, {"PodName": OWN, "PodIP": "10.0.0.1", "Namespace": "tars"}, None).service
    assert (str(found.query_listen), str(found.registry_listen)) == ("*:17890", "*:17891")


async def test_with_what_the_cpp_registry_is_given_it_takes_its_place(cluster: Cluster, tmp_path: Path) -> None:
    await installed(cluster)
    await cluster.admin.grant(f"sa:{ACCOUNT}", *ROLE)
    assert await condition(cluster.admin, OWN) is None
    async with in_its_pod(cluster, tmp_path / "account") as service:
        await service.says("own readiness gate: tars.io/active was ")
        assert await condition(cluster.admin, OWN) == ("True", "Active/Active")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{service.admin_port}/readyz") as ready,
        ):
            assert (ready.status, await ready.text()) == (200, "ready\n")

        async with Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client:

            async def ask(object_id: str) -> Lists:
                value, *found = await client.call("findObjectById4Any", object_id)
                assert value == 0
                return Lists(*(tuple(f"{each.host}:{each.port}" for each in lists) for lists in found))

            hosts = [f"test-helloserver-{number}.test-helloserver:18100" for number in (0, 1)]
            assert await ask("Test.HelloServer.HelloObj") == Lists(tuple(hosts))
            assert await ask("tars.tarsregistry.QueryObj") == Lists((f"tars-tarsregistry:{service.query_port}",))
            assert await ask("tars.tarsregistry.RegistryObj") == Lists((f"tars-tarsregistry:{service.registry_port}",))
            assert await ask("Not.Known.Obj") == Lists(("192.0.2.50:19900",))

        async with Tarsnode("127.0.0.1", service.registry_port) as node:
            await node.report(HELLO_POD, "Active", "Active")
            value, descriptor = await node.descriptor("Test", "HelloServer")
        assert await condition(cluster.admin, HELLO_POD) == ("True", "Active/Active/27")
        assert value == 0
        assert "x=1" in descriptor.profile
        assert list(descriptor.adapters) == ["Test.HelloServer.HelloObjAdapter"]

        line = (await service.says("off for the want of a right: ")).string
        off = line.partition("; grant with: ")[0]
        assert off.endswith(
            "off for the want of a right: Events about refused reports (create events), "
            "refusing reports of the wrong caller (get pods)"
        )
        # What the machine lacks in file descriptors is no matter of the installation.
        warnings = [each for each in service.lines if " WARNING " in each and "registry.cli.descriptors" not in each]
        assert warnings == [line]
        assert " ERROR " not in service.log, service.log

        service.process.send_signal(signal.SIGTERM)
        assert await service.process.wait() == 0
    assert await condition(cluster.admin, OWN) == ("False", "Active/Deactivating")


async def test_a_new_pod_in_its_place_becomes_ready_again(cluster: Cluster, tmp_path: Path) -> None:
    """As after a rolling update, forth or back: a pod of the same name without any condition."""
    await installed(cluster)
    await cluster.admin.grant(f"sa:{ACCOUNT}", *ROLE)
    for number in range(2):
        async with in_its_pod(cluster, tmp_path / f"account-{number}") as service:
            await service.says("own readiness gate: ")
            assert await condition(cluster.admin, OWN) == ("True", "Active/Active")
        await cluster.admin.delete(PODS, OWN)
        await cluster.admin.create(kube_pod(OWN, "127.0.0.1"))


async def test_a_role_that_can_not_follow_is_told_and_the_pod_does_not_become_ready(
    cluster: Cluster, tmp_path: Path
) -> None:
    await installed(cluster)
    await cluster.admin.grant(f"sa:{ACCOUNT}", PATCH_STATUS)
    async with in_its_pod(cluster, tmp_path / "account", synced=False) as service:
        await service.says("kubectl -n .* create role tars-registry-tendpoints ")
        assert await condition(cluster.admin, OWN) is None
