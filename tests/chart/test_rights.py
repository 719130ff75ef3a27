"""The chart's Role on a real API server: enough for all that is on, and nothing in it that could be left out.

The registry runs as the chart's ServiceAccount; each verb of each rule is taken away in turn. What then breaks is what
docs/kubernetes.md, docs/tarsnodes.md and docs/routing.md say.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.chart.deployed import deployed
from tests.chart.tools import CHART, Helm, Object, Values, of_kind
from tests.cluster.apiserver import ApiServer
from tests.cluster.client import EVENTS, NAMESPACES, NODES, PODS, Client
from tests.cluster.support_service import QUICK, Registry, lists
from tests.support.manifests import hello
from tests.support.tarsnode import Tarsnode

pytestmark = [pytest.mark.chart, pytest.mark.cluster]

NAME: Final = "tars-registry"
HELLO: Final = "Test.HelloServer.HelloObj"
POD: Final = "test-helloserver-0"
VALUES: Final[Values] = {
    "discover": "both",
    "crds": {"enabled": False},
    "routing": {"policy": {"grouping": "all", "from_topology": True}},
}
"""All that takes a right."""

Check = Callable[[Registry, Client], Awaitable[None]]
Rule = tuple[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def listing_server(
    cluster_programs: Path, chart_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiServer]:
    """One without streaming lists, as older servers are: there a watch is no list, and it takes both verbs."""
    folder = tmp_path_factory.mktemp("rights-apiserver")
    async with ApiServer(cluster_programs, folder, options=["--feature-gates=WatchList=false"]) as server:
        await server.create_crds()
        yield server


class Installed:
    """What the chart made, with some of the rights taken away."""

    def __init__(self, server: ApiServer, admin: Client, objects: list[Object], kubeconfig: Path, folder: Path) -> None:
        self.server = server
        self.admin = admin
        self.objects = objects
        self._kubeconfig = kubeconfig
        self._folder = folder

    @contextlib.asynccontextmanager
    async def registry(self, *options: str) -> AsyncIterator[Registry]:
        """The registry of the Deployment, as its ServiceAccount."""
        async with deployed(
            self.objects, self._folder, self._kubeconfig, "--endpoint-host=pod-ip", *options
        ) as running:
            yield running


@pytest.fixture
async def install(
    listing_server: ApiServer, chart_programs: Path, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Installed]]]:
    """Makes what the chart renders, less a verb on a resource, in a namespace of its own."""
    namespace = f"rights-{uuid.uuid4().hex[:8]}"
    kubeconfig = listing_server.kubeconfig(namespace=namespace)
    helm = Helm(chart_programs, tmp_path, kubeconfig, namespace)
    async with listing_server.client(namespace=namespace) as admin:
        await admin.create({"apiVersion": NAMESPACES.version, "kind": "Namespace", "metadata": {"name": namespace}})

        async def install(without: Rule | None = None) -> Installed:
            objects = helm.render(VALUES)
            for role in (*of_kind(objects, "Role"), *of_kind(objects, "ClusterRole")):
                role["rules"] = less(role["rules"], without)
            for each in objects:
                if each["kind"] not in ("Pod", "Deployment"):
                    await admin.create(each)
            token = await admin.service_account_token(NAME)
            await admin.apply(hello("10.0.0.1"))
            await admin.create(pod(POD, "127.0.0.1"))
            await admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a", "labels": ZONE}})
            own = listing_server.kubeconfig(token=token, namespace=namespace)
            return Installed(listing_server, admin, objects, own, tmp_path)

        yield install
        for kind in ("clusterrole", "clusterrolebinding"):
            path = f"/apis/rbac.authorization.k8s.io/v1/{kind}s/{namespace}-{NAME}-nodes"
            await admin.request("DELETE", path)
        await admin.delete(NODES, "node-a")


ZONE: Final = {"topology.kubernetes.io/zone": "zone-a", "topology.kubernetes.io/region": "north"}


def less(rules: list[Object], without: Rule | None) -> list[Object]:
    """Rules without a verb on a resource."""
    kept = []
    for rule in rules:
        verbs = [verb for verb in rule["verbs"] if without not in [(verb, each) for each in rule["resources"]]]
        if verbs:
            kept.append({**rule, "verbs": verbs})
    return kept


def pod(name: str, address: str) -> Object:
    """A pod on the node with a zone, as the kubelet would have given it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": "node-a", "containers": [{"name": "c", "image": "i"}]},
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    }


async def reports(registry: Registry, address: str = "127.0.0.1") -> None:
    """A report of a tarsnode at this address."""
    async with Tarsnode(address, registry.service.registry_port) as node:
        await node.report(POD, "Active", "Active")


async def test_with_all_of_them_nothing_is_denied(install: Callable[..., Awaitable[Installed]]) -> None:
    installed = await install()
    async with installed.registry() as registry:
        await registry.until_ready()
        await registry.until(HELLO, lists("10.0.0.1"))
        await reports(registry)
        async with Tarsnode("127.0.0.2", registry.service.registry_port) as other:
            await other.refused(POD, "Inactive", "Inactive")
        await registry.until_metric(lambda sent: sent == 1, "events_total", result="sent")
        for source in ("nodes", f"configmap {NAME}-routing", "pod addresses", "pods", "tendpoints", "ttemplates"):
            await watching(registry, source)
        assert await registry.metric("rights_missing") == 0
        assert "is forbidden: User" not in registry.service.log
        assert "off for the want" not in registry.service.log


async def watching(registry: Registry, source: str) -> None:
    """Wait until a source has listed and watches."""
    async with asyncio.timeout(20):
        while True:
            if (await states(registry)).get(source) == "watching":
                return
            await asyncio.sleep(0.02)


async def states(registry: Registry) -> dict[str, str]:
    """The state of each source, by its name without the namespace."""
    text = await registry.page("/metrics")
    found = {}
    for line in text.splitlines():
        if line.startswith("tars_registry_source_state{") and line.endswith(" 1.0"):
            labels = dict(part.split("=", 1) for part in line[len("tars_registry_source_state{") : -5].split(","))
            found[labels["source"].strip('"').partition(" in ")[0]] = labels["state"].strip('"')
    return found


def not_ready(*words: str) -> Check:
    """The service says what it lacks, and is not ready."""

    async def check(registry: Registry, admin: Client) -> None:
        await registry.until_not_ready(*words)

    return check


def serves_but_says(pattern: str) -> Check:
    """The service is ready, and a line of the log says what is off."""

    async def check(registry: Registry, admin: Client) -> None:
        await registry.until_ready()
        await registry.until(HELLO, lists("10.0.0.1"))
        await registry.service.says(pattern)

    return check


async def no_reports(registry: Registry, admin: Client) -> None:
    """Every report is answered with -99, and stays queued."""
    await registry.until_ready()
    await registry.service.says(r"off for the want of a right: .*states of tarsnodes.*patch pods/status")
    async with Tarsnode("127.0.0.1", registry.service.registry_port) as node:
        await node.refused(POD, "Active", "Active")
    assert await registry.metric("reports_queued") == 1


async def only_warns(registry: Registry, admin: Client) -> None:
    """A report of somebody else is written."""
    await registry.until_ready()
    await registry.service.says(r"off for the want of a right: .*wrong caller.*get pods")
    await reports(registry, "127.0.0.2")
    conditions = (await admin.get(PODS, POD))["status"]["conditions"]
    assert [each["status"] for each in conditions if each["type"] == "tars.io/active"] == ["True"]


async def no_events(registry: Registry, admin: Client) -> None:
    """A refused report is no Event."""
    await registry.until_ready()
    await registry.service.says(r"off for the want of a right: .*Events.*create events")
    async with Tarsnode("127.0.0.2", registry.service.registry_port) as other:
        await other.refused(POD, "Inactive", "Inactive")
    assert (await admin.list(EVENTS))["items"] == []


BREAKS: Final[dict[Rule, Check]] = {
    **{
        (verb, resource): not_ready(resource, f"cannot {verb}", "kubectl")
        for resource in ("tendpoints", "ttemplates", "tframeworkconfigs", "pods")
        for verb in ("list", "watch")
    },
    **{
        (verb, resource): serves_but_says(rf"{said}.*(not allowed|forbidden)")
        for resource, said in (("configmaps", rf"configmap {NAME}-routing in"), ("nodes", "nodes"))
        for verb in ("list", "watch")
    },
    ("get", "pods"): only_warns,
    ("patch", "pods/status"): no_reports,
    ("create", "events"): no_events,
}
"""What happens without a verb on a resource."""


@pytest.mark.parametrize("missing", BREAKS, ids=" ".join)
async def test_without_one_of_them_there_breaks_what_is_documented(
    missing: Rule, install: Callable[..., Awaitable[Installed]]
) -> None:
    installed = await install(missing)
    async with installed.registry(*QUICK) as registry:
        await BREAKS[missing](registry, installed.admin)


def test_each_verb_of_each_rule_is_among_those_that_were_taken_away(helm: Helm) -> None:
    objects = helm.render(VALUES)
    given: set[Any] = {
        (verb, resource)
        for kind in ("Role", "ClusterRole")
        for role in of_kind(objects, kind)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == set(BREAKS)
    assert CHART.is_dir()
