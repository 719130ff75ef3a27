"""Reports of tarsnodes on a real API server: pods, registries and conditions for the tests of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tests.cluster.client import EVENTS, PODS, Client, Object
from tests.cluster.conftest import Cluster
from tests.cluster.crds import GROUP
from tests.cluster.support_service import QUICK, Registry, following
from tests.support.tarsnode import Tarsnode

HELLO = "Test.HelloServer.HelloObj"
POD = "test-helloserver-0"
CONDITION = "tars.io/active"
FOLLOW = {
    "apiGroups": [GROUP],
    "resources": ["tendpoints", "ttemplates", "tframeworkconfigs"],
    "verbs": ["get", "list", "watch"],
}
GET_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
PATCH_STATUS = {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]}
CREATE_EVENTS = {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}

Rule = Mapping[str, Sequence[str]]


def kube_pod(name: str, *ips: str, gates: bool = True) -> Object:
    """A pod with addresses, as the kubelet would have given it."""
    spec: Object = {"nodeName": "node", "containers": [{"name": "c", "image": "i"}]}
    if gates:
        spec["readinessGates"] = [{"conditionType": CONDITION}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": spec,
        "status": {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]} if ips else {},
    }


async def condition(admin: Client, name: str = POD) -> tuple[str, str] | None:
    """Status and reason of a pod's condition."""
    found = await whole_condition(admin, name)
    return (found["status"], found["reason"]) if found else None


async def whole_condition(admin: Client, name: str = POD) -> Object | None:
    """The condition of a pod, with all that it says."""
    pod = await admin.get(PODS, name)
    return next((each for each in pod["status"].get("conditions", ()) if each["type"] == CONDITION), None)


async def events_about(admin: Client, name: str) -> list[Object]:
    """The Events of a pod."""
    found = await admin.list(EVENTS, fieldSelector=f"involvedObject.name={name}")
    return list(found["items"])


@contextlib.asynccontextmanager
async def registry_with(cluster: Cluster, *options: str, **how: Any) -> AsyncIterator[Registry]:
    """A registry that may do all, unless ``how`` says as whom it comes."""
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace, **how)
    async with following(kubeconfig, *options) as registry:
        yield registry


@contextlib.asynccontextmanager
async def limited(cluster: Cluster, *rules: Rule, options: Sequence[str] = ()) -> AsyncIterator[Registry]:
    """A registry with these rights."""
    await cluster.admin.grant("limited", *rules)
    async with registry_with(cluster, *QUICK, *options, user="limited") as registry:
        yield registry


def tarsnode(registry: Registry, address: str = "127.0.0.1") -> Tarsnode:
    """One that comes from this address."""
    return Tarsnode(address, registry.service.registry_port)
