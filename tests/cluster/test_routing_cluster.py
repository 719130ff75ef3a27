"""Routing on a real API server: the policy in a ConfigMap, zones from nodes, and the rights to both.

Callers connect from addresses of this machine (127.0.1.1, 127.0.2.2 …), which pods and nodes of the cluster have.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from registry.routing.select import Lookup
from tests.cluster.apiserver import ApiServer
from tests.cluster.client import CONFIGMAPS, NODES, PODS, ApiError, Client
from tests.cluster.conftest import Cluster, namespace_of
from tests.cluster.crds import GROUP
from tests.cluster.proxy import Proxy
from tests.cluster.support_service import HAPPENS_WITHIN, LOOKS_EVERY, QUICK, Registry, following, lists
from tests.prove.rounds import labelled_pod
from tests.support.manifests import hello, pod, tendpoint
from tests.support.wire import CallerAt

pytestmark = pytest.mark.cluster

HELLO: Final = "Test.HelloServer.HelloObj"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
NORTH: Final = "10.0.1.1"
SOUTH: Final = "10.0.2.1"
POLICY: Final = """\
groups:
  - {id: 1, name: north, addresses: [127.0.1.*, 10.0.1.0/24]}
  - {id: 2, name: south, addresses: [127.0.2.*, 10.0.2.0/24]}
"""
TURNED: Final = POLICY.replace("10.0.1", "10.0.9").replace("10.0.2", "10.0.1").replace("10.0.9", "10.0.2")
KINDS: Final = ("tendpoints", "ttemplates", "tframeworkconfigs")
FOLLOW: Final = {"apiGroups": [GROUP], "resources": KINDS, "verbs": ["get", "list", "watch"]}
OF_PODS: Final = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
OF_POLICY: Final = {
    "apiGroups": [""],
    "resources": ["configmaps"],
    "resourceNames": ["routing"],
    "verbs": ["get", "list", "watch"],
}
OF_NODES: Final = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
BY_POLICY: Final = "--routing-policy-configmap=routing"


def configmap(text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "routing"}, "data": {"routing.yaml": text}}


def in_groups(*ips: str, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """Test.HelloServer with grouping on; its pods on these nodes, if any are named."""
    found = hello(*ips)
    found["metadata"]["annotations"] = {"tars.io/group": "on"}
    for each, host in zip(found["status"]["pods"], hosts, strict=False):
        each["hostIP"] = host
    return found


def kubeconfig(cluster: Cluster, proxy: Proxy | None = None, **how: Any) -> Path:
    return cluster.server.kubeconfig(namespace=cluster.namespace, port=proxy.port if proxy else None, **how)


class Callers:
    """Asks a running service from several addresses, over connections that stay open."""

    def __init__(self, registry: Registry, stack: contextlib.AsyncExitStack) -> None:
        self._registry = registry
        self._stack = stack
        self._open: dict[str, CallerAt] = {}

    async def hosts(self, caller: str, lookup: Lookup = Lookup.SAME_GROUP, argument: str | None = None) -> list[str]:
        """The active hosts that a caller from this address gets."""
        if caller not in self._open:
            connection = CallerAt(caller, self._registry.service.query_port)
            self._open[caller] = await self._stack.enter_async_context(connection)
        ret, active, _ = await self._open[caller].ask(lookup, HELLO, argument)
        return [f"returned {ret}"] if ret else [endpoint.host for endpoint in active]

    async def until(
        self, caller: str, *expected: str, lookup: Lookup = Lookup.SAME_GROUP, argument: str | None = None
    ) -> None:
        """Wait until a caller from this address gets these."""
        found = await self.hosts(caller, lookup, argument)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAPPENS_WITHIN):
                while found != list(expected):
                    await asyncio.sleep(LOOKS_EVERY)
                    found = await self.hosts(caller, lookup, argument)
        assert found == list(expected), f"{caller} gets {found}\n{self._registry.service.log}"


@contextlib.asynccontextmanager
async def routing(kubeconfig: Path, *options: str) -> AsyncIterator[tuple[Registry, Callers]]:
    """A service that goes by the ConfigMap ``routing``, and callers of it."""
    async with following(kubeconfig, *QUICK, *options) as registry, contextlib.AsyncExitStack() as stack:
        yield registry, Callers(registry, stack)


# ----------------------------------------------------------------------------------------------- the policy


@pytest.fixture
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    """A namespace, without the ConfigMaps and the rights of the test at its end."""
    async with namespace_of(api_server) as cluster:
        yield cluster
        with contextlib.suppress(ApiError):
            await cluster.admin.delete(CONFIGMAPS, "routing")


async def test_the_policy_is_followed_from_its_creation_to_its_end(cluster: Cluster) -> None:
    await cluster.admin.apply(in_groups(NORTH, SOUTH))
    async with routing(kubeconfig(cluster), BY_POLICY) as (registry, callers):
        await registry.service.says("WARNING .*ConfigMap routing is not there")
        await callers.until("127.0.1.1", NORTH, SOUTH)
        assert await registry.metric("source_problems", source="routing policy") == 1

        await cluster.admin.create(configmap(POLICY))
        await callers.until("127.0.1.1", NORTH)
        await callers.until("127.0.2.2", SOUTH)
        await callers.until("127.0.0.1", NORTH, SOUTH)
        assert await registry.metric("source_problems", source="routing policy") == 0

        await cluster.admin.patch(CONFIGMAPS, "routing", {"data": {"routing.yaml": TURNED}})
        await callers.until("127.0.1.1", SOUTH)
        await callers.until("127.0.2.2", NORTH)

        broken = TURNED + "  - {id: 3, name: east, addresses: [10.0.3.0/33]}\n"
        await cluster.admin.patch(CONFIGMAPS, "routing", {"data": {"routing.yaml": broken}})
        await registry.service.says(
            rf"ERROR .*the last good one stays: ConfigMap {cluster.namespace}/routing: line 4: "
            r"groups\[2\]\.addresses\[0\]: the length of an IPv4 range is 0 to 32, got '10.0.3.0/33'"
        )
        await registry.until_metric(lambda problems: problems == 1, "source_problems", source="routing policy")
        assert await registry.metric("source_errors_total", source="routing policy", reason="policy") == 1
        assert await registry.metric("source_state", source="routing policy", state="last good") == 1
        assert (await registry.readiness())[0] == 200
        assert await callers.hosts("127.0.1.1") == [SOUTH]

        await cluster.admin.patch(CONFIGMAPS, "routing", {"data": {"routing.yaml": POLICY}})
        await callers.until("127.0.1.1", NORTH)
        assert await registry.metric("source_problems", source="routing policy") == 0

        await cluster.admin.delete(CONFIGMAPS, "routing")
        await registry.service.says("the last good one stays: routing policy: it is gone; write an empty one to end it")
        assert (await registry.readiness())[0] == 200
        assert await callers.hosts("127.0.1.1") == [NORTH]

        await cluster.admin.create(configmap(""))
        await callers.until("127.0.1.1", NORTH, SOUTH)


async def test_another_configmap_of_the_namespace_is_none_of_its(cluster: Cluster) -> None:
    await cluster.admin.apply(in_groups(NORTH, SOUTH))
    await cluster.admin.create(configmap(POLICY))
    async with routing(kubeconfig(cluster), BY_POLICY) as (_, callers):
        await callers.until("127.0.1.1", NORTH)
        other = configmap(TURNED)
        other["metadata"]["name"] = "a-routing"
        await cluster.admin.create(other)
        try:
            await cluster.admin.patch(CONFIGMAPS, "routing", {"data": {"routing.yaml": POLICY + "# the same\n"}})
            await callers.until("127.0.1.1", NORTH)
        finally:
            await cluster.admin.delete(CONFIGMAPS, "a-routing")


async def test_a_policy_in_a_namespace_of_its_own(cluster: Cluster) -> None:
    """Named with it; the pods there are no callers of ours, so no right to them is missed."""
    async with namespace_of(cluster.server) as ops:
        await cluster.admin.apply(in_groups(NORTH, SOUTH))
        await ops.admin.create(configmap(POLICY + "from_topology: true\n"))
        await cluster.admin.grant("limited", FOLLOW, OF_PODS)
        await ops.admin.grant("limited", OF_POLICY)
        named = f"--routing-policy-configmap={ops.namespace}/routing"
        try:
            async with routing(kubeconfig(cluster, user="limited"), named) as (registry, callers):
                await callers.until("127.0.1.1", NORTH)
                await registry.service.says("nodes: going on without")
                assert f"pod addresses in {ops.namespace}" not in registry.service.log
        finally:
            await ops.admin.delete(CONFIGMAPS, "routing")


async def test_the_right_to_one_configmap_by_its_name_is_enough_and_without_it_that_is_told(cluster: Cluster) -> None:
    await cluster.admin.apply(in_groups(NORTH, SOUTH))
    await cluster.admin.create(configmap(POLICY))
    await cluster.admin.grant("limited", FOLLOW)
    async with routing(kubeconfig(cluster, user="limited"), BY_POLICY) as (registry, callers):
        await registry.until_ready()
        await registry.service.says(
            rf"configmap routing in {cluster.namespace}: going on without: configmaps .*is forbidden: .*"
            rf"grant it with: kubectl -n {cluster.namespace} create role tars-registry-configmaps "
            r"--verb=get,list,watch --resource=configmaps --resource-name=routing && "
        )
        assert await callers.hosts("127.0.1.1") == [NORTH, SOUTH]
        await cluster.admin.grant("limited", OF_POLICY, name="policy")
        await callers.until("127.0.1.1", NORTH)


# ------------------------------------------------------------------------------------------------- topology


class Zones:
    """Two nodes in two zones of a region, of this test alone."""

    def __init__(self, cluster: Cluster) -> None:
        self._admin = cluster.admin
        self.names = [f"{cluster.namespace}-{which}" for which in "ab"]
        self.zones = [f"zone-{name}" for name in self.names]
        self.region = f"region-{cluster.namespace}"
        self.addresses = ["127.0.101.1", "127.0.102.1"]

    async def make(self) -> None:
        for name, zone, address in zip(self.names, self.zones, self.addresses, strict=True):
            labels = {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": self.region}
            status = {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]}
            metadata = {"name": name, "labels": labels}
            await self._admin.create({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})

    async def move(self, which: int, zone: str) -> None:
        change = {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}
        await self._admin.patch(NODES, self.names[which], change)

    async def end(self) -> None:
        for name in self.names:
            with contextlib.suppress(ApiError):
                await self._admin.delete(NODES, name)


@pytest.fixture
async def zones(cluster: Cluster) -> AsyncIterator[Zones]:
    """Two nodes."""
    found = Zones(cluster)
    await found.make()
    yield found
    await found.end()


TOPOLOGY: Final = "from_topology: true\n"


async def web_pod(cluster: Cluster, name: str, ip: str, node: str) -> None:
    """A pod of no server, which may be a caller."""
    found = labelled_pod("Web", 0, ip)
    found["metadata"] = {"name": name}
    found["status"] |= {"podIP": ip, "podIPs": [{"ip": ip}], "hostIP": node, "hostIPs": [{"ip": node}]}
    await cluster.admin.create(found)


async def test_zones_are_groups_of_endpoints_by_their_nodes_and_of_callers_by_their_pods(
    cluster: Cluster, zones: Zones
) -> None:
    a, b = zones.addresses
    await cluster.admin.apply(in_groups(NORTH, SOUTH, hosts=[a, b]))
    own = tendpoint("Test", "Web", [{**pod("test-web-0", "127.0.1.1"), "hostIP": a}])
    await cluster.admin.apply(own)
    await web_pod(cluster, "web-9", "127.0.2.2", b)
    await cluster.admin.create(configmap(TOPOLOGY))
    async with routing(kubeconfig(cluster), BY_POLICY) as (_, callers):
        await callers.until("127.0.1.1", NORTH)  # a pod of a server
        await callers.until("127.0.2.2", SOUTH)  # any other pod
        await callers.until(b, SOUTH)  # a pod in its node's network
        await callers.until("127.0.3.3", NORTH, SOUTH)  # nobody known
        await callers.until("127.0.3.3", NORTH, SOUTH, lookup=Lookup.SAME_STATION, argument=zones.region)
        await callers.until("127.0.3.3", "returned -1", lookup=Lookup.SAME_STATION, argument="nowhere")

        await zones.move(1, zones.zones[0])
        await callers.until("127.0.1.1", NORTH, SOUTH)
        await callers.until("127.0.2.2", NORTH, SOUTH)
        await zones.move(1, zones.zones[1])
        await callers.until("127.0.1.1", NORTH)
        await callers.until("127.0.2.2", SOUTH)

        await cluster.admin.delete(PODS, "web-9")
        await callers.until("127.0.2.2", NORTH, SOUTH)
        await web_pod(cluster, "web-10", "127.0.2.2", a)
        await callers.until("127.0.2.2", NORTH)


async def test_without_the_right_to_nodes_zones_are_off_until_it_is_granted_and_one_line_tells(
    cluster: Cluster, zones: Zones
) -> None:
    a, b = zones.addresses
    await cluster.admin.apply(in_groups(NORTH, SOUTH, hosts=[a, b]))
    await cluster.admin.create(configmap(POLICY + TOPOLOGY))
    await cluster.admin.grant("limited", FOLLOW, OF_POLICY, OF_PODS)
    async with routing(kubeconfig(cluster, user="limited"), BY_POLICY) as (registry, callers):
        await registry.until_ready()
        await registry.service.says(
            r"nodes: going on without: nodes is forbidden: .*grant it with: "
            r"kubectl create clusterrole tars-registry-nodes --verb=get,list,watch --resource=nodes && "
            r"kubectl create clusterrolebinding tars-registry-nodes --clusterrole=tars-registry-nodes "
        )
        assert await callers.hosts("127.0.1.1") == [NORTH]  # by its address, as the policy has it
        assert await callers.hosts(b) == [NORTH, SOUTH]
        assert await registry.ask(HELLO) == lists(NORTH, SOUTH)
        await cluster.admin.patch(CONFIGMAPS, "routing", {"data": {"routing.yaml": TOPOLOGY}})
        await callers.until("127.0.1.1", NORTH, SOUTH)
        async with may_follow_nodes(cluster):
            await callers.until(b, SOUTH)
        told = [line for line in registry.service.lines if "nodes" in line and "forbidden" in line]
        assert len(told) == 1, told


@contextlib.asynccontextmanager
async def may_follow_nodes(cluster: Cluster) -> AsyncIterator[None]:
    """The limited user may, for as long as this lasts."""
    name = f"nodes-{cluster.namespace}"
    api = "rbac.authorization.k8s.io/v1"
    role = {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    subjects = [{"kind": "User", "name": "limited", "apiGroup": "rbac.authorization.k8s.io"}]
    metadata = {"name": name}
    await cluster.admin.create({"apiVersion": api, "kind": "ClusterRole", "metadata": metadata, "rules": [OF_NODES]})
    await cluster.admin.create(
        {"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": metadata, "subjects": subjects, "roleRef": role}
    )
    try:
        await until_nodes(cluster, allowed=True)
        yield
    finally:
        for plural in ("clusterrolebindings", "clusterroles"):
            await cluster.admin.request("DELETE", f"{RBAC}/{plural}/{name}")
        await until_nodes(cluster, allowed=False)


async def until_nodes(cluster: Cluster, *, allowed: bool) -> None:
    """Wait until the limited user may list nodes, or may not."""
    async with cluster.server.client("limited", namespace=cluster.namespace) as limited:
        async with asyncio.timeout(HAPPENS_WITHIN):
            while await may_list(limited) != allowed:
                pass  # the question takes long enough


async def may_list(client: Client) -> bool:
    """Whether nodes may be listed."""
    try:
        await client.list(NODES, limit="1")
    except ApiError as error:
        if error.code != 403:
            raise
        return False
    return True


async def test_the_right_to_nodes_that_is_taken_away_while_running_leaves_the_zones_as_they_were(
    cluster: Cluster, zones: Zones, proxy: Proxy
) -> None:
    """And it is told, and nothing is unready for it, were the table's age limited."""
    a, b = zones.addresses
    await cluster.admin.apply(in_groups(NORTH, SOUTH, hosts=[a, b]))
    await cluster.admin.create(configmap(TOPOLOGY))
    await cluster.admin.grant("limited", FOLLOW, OF_POLICY, OF_PODS)
    config = kubeconfig(cluster, proxy, user="limited")
    async with contextlib.AsyncExitStack() as right:
        await right.enter_async_context(may_follow_nodes(cluster))
        async with routing(config, BY_POLICY, "--stale-after=1") as (registry, callers):
            await callers.until(b, SOUTH)
            await right.aclose()
            await proxy.cut()
            await registry.service.says(r"WARNING .*nodes: nodes is forbidden: .*grant it with: kubectl")
            await cluster.admin.apply(in_groups(NORTH, SOUTH, "10.0.2.2", hosts=[a, b, b]))
            await callers.until(b, SOUTH, "10.0.2.2")
            await zones.move(1, zones.zones[0])
            await registry.until_metric(lambda age: age > 1.5, "source_age_seconds", source="nodes")
            assert (await registry.readiness())[0] == 200
            assert await callers.hosts(b) == [SOUTH, "10.0.2.2"]
            async with may_follow_nodes(cluster):
                await callers.until(b, NORTH, SOUTH, "10.0.2.2")


async def test_the_right_to_the_policy_that_is_taken_away_while_running_leaves_it_as_it_was(
    cluster: Cluster, proxy: Proxy
) -> None:
    await cluster.admin.apply(in_groups(NORTH, SOUTH))
    await cluster.admin.create(configmap(POLICY))
    await cluster.admin.grant("limited", FOLLOW)
    await cluster.admin.grant("limited", OF_POLICY, name="policy")
    async with routing(kubeconfig(cluster, proxy, user="limited"), BY_POLICY) as (registry, callers):
        await callers.until("127.0.1.1", NORTH)
        await cluster.admin.request("DELETE", f"{RBAC}/namespaces/{cluster.namespace}/rolebindings/policy")
        await proxy.cut()
        await registry.service.says(r"WARNING .*configmap routing in .* is forbidden: .*grant it with: kubectl")
        await cluster.admin.patch(CONFIGMAPS, "routing", {"data": {"routing.yaml": TURNED}})
        assert await callers.hosts("127.0.1.1") == [NORTH]
        assert (await registry.readiness())[0] == 200
        await cluster.admin.grant("limited", OF_POLICY, name="policy")
        await callers.until("127.0.1.1", SOUTH)
