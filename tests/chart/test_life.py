"""A release from its installation to its end, on a real API server with controllers, scheduler and kwok."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chart.conftest import Release
from tests.chart.deployed import deployed
from tests.chart.tools import CHART, Helm, HelmError, Object, Values, documents
from tests.chart.variants import VARIANTS
from tests.cluster.apiserver import ApiServer
from tests.cluster.client import CRDS, PODS, TENDPOINTS, ApiError, Client, Resource
from tests.cluster.crds import definitions
from tests.cluster.support_service import lists
from tests.support.manifests import hello

pytestmark = [pytest.mark.chart, pytest.mark.cluster]

NAME: Final = "tars-registry"
WAIT: Final = ("--wait", "--timeout=60s")
HELLO: Final = "Test.HelloServer.HelloObj"
SLICES: Final = Resource("discovery.k8s.io/v1", "endpointslices")
KINDS: Final = {
    "ConfigMap": Resource("v1", "configmaps"),
    "Deployment": Resource("apps/v1", "deployments"),
    "NetworkPolicy": Resource("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "PrometheusRule": Resource("monitoring.coreos.com/v1", "prometheusrules"),
    "Role": Resource("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Resource("rbac.authorization.k8s.io/v1", "rolebindings"),
    "Service": Resource("v1", "services"),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
    "ServiceMonitor": Resource("monitoring.coreos.com/v1", "servicemonitors"),
    "ClusterRole": Resource("rbac.authorization.k8s.io/v1", "clusterroles", namespaced=False),
    "ClusterRoleBinding": Resource("rbac.authorization.k8s.io/v1", "clusterrolebindings", namespaced=False),
}
ALL_ON: Final[Values] = {
    key: value
    for name in ("second service", "network policy", "monitoring", "policy", "labels")
    for key, value in VARIANTS[name].items()
}


async def run(release: Release, *arguments: str | Path, values: Values | None = None) -> str:
    """helm, while the event loop goes on."""
    return await asyncio.to_thread(release.helm.run, *arguments, values=values)


async def made(release: Release) -> set[tuple[str, str]]:
    """Kind and name of every object of the release that there is."""
    selector = {"labelSelector": f"app.kubernetes.io/instance={NAME}"}
    found = set()
    for kind, resource in KINDS.items():
        answer = await release.admin.request(
            "GET", resource.path(release.namespace if resource.namespaced else None), params=selector
        )
        found |= {
            (kind, each["metadata"]["name"])
            for each in answer["items"]
            if resource.namespaced or each["metadata"]["name"].startswith(release.namespace)
        }
    return found


def rendered(release: Release, values: Values) -> set[tuple[str, str]]:
    """Kind and name of what these values make, but for hooks."""
    objects = release.helm.render(values, "--no-hooks")
    return {(each["kind"], each["metadata"]["name"]) for each in objects}


async def ready_addresses(release: Release) -> set[str]:
    """What the headless Service gives to callers."""
    answer = await release.admin.list(SLICES, labelSelector="kubernetes.io/service-name=tars-tarsregistry")
    return {
        address
        for each in answer["items"]
        for endpoint in each["endpoints"] or ()
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    }


async def pods(release: Release) -> list[Object]:
    found = await release.admin.list(PODS, labelSelector=f"app.kubernetes.io/instance={NAME}")
    return [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]


async def until_pods(release: Release, wanted: Callable[[list[Object]], bool]) -> None:
    """Wait until the pods are so."""
    async with asyncio.timeout(30):
        while True:
            if wanted(await pods(release)):
                return
            await asyncio.sleep(0.05)


async def until_addresses(release: Release, count: int) -> None:
    """Wait until the Service gives exactly the addresses of so many pods."""
    async with asyncio.timeout(30):
        while True:
            wanted = {each["status"].get("podIP") for each in await pods(release)}
            if len(wanted) == count and wanted == await ready_addresses(release):
                return
            await asyncio.sleep(0.05)


async def test_a_release_is_installed_changed_rolled_back_and_uninstalled(release: Release) -> None:
    notes = await run(release, "install", NAME, CHART, *WAIT)
    assert "tars.tarsregistry.QueryObj@tcp -h tars-tarsregistry -p 17890" in notes
    assert f"helm test {NAME} --namespace {release.namespace}" in notes
    assert await made(release) >= rendered(release, {})
    await until_addresses(release, 2)
    nodes = {each["spec"]["nodeName"] for each in await pods(release)}
    assert len(nodes) == 2, "one on each node"
    before = {each["metadata"]["uid"] for each in await pods(release)}

    changed = {**ALL_ON, "replicas": 3, "config": {"cache_bytes": "32Mi"}}
    await run(release, "upgrade", NAME, CHART, *WAIT, values=changed)
    assert rendered(release, changed) <= await made(release)
    assert {("ServiceMonitor", NAME), ("PrometheusRule", NAME), ("NetworkPolicy", NAME)} <= await made(release)
    assert ("ClusterRole", f"{release.namespace}-{NAME}-nodes") in await made(release)
    await until_addresses(release, 3)
    assert before.isdisjoint(each["metadata"]["uid"] for each in await pods(release)), "the pods are new"

    await run(release, "rollback", NAME, "1", *WAIT)
    parts = {name for name in await made(release) if name[0] != "ConfigMap"}
    assert parts == {name for name in rendered(release, {}) if name[0] != "ConfigMap"}, "the optional parts are gone"
    await until_addresses(release, 2)

    await run(release, "uninstall", NAME, "--wait")
    assert await made(release) == set()
    await until_pods(release, lambda there: not there)
    for name in ("tendpoints", "ttemplates", "tframeworkconfigs"):
        assert await release.admin.get(CRDS, f"{name}.k8s.tars.io")


async def test_a_pod_is_replaced_only_when_another_is_ready(release: Release, tmp_path: Path) -> None:
    """With the gate, a pod is Ready when the registry in it says so; nobody says so for the new one."""
    gate = {"readinessGate": {"enabled": True}}
    await run(release, "install", NAME, CHART, values=gate)
    await until_pods(release, lambda there: len([each for each in there if each["status"].get("podIP")]) == 2)
    objects = release.helm.render(gate)
    token = await release.admin.service_account_token(NAME)
    kubeconfig = release.server.kubeconfig(token=token, namespace=release.namespace)
    names = [each["metadata"]["name"] for each in await pods(release)]
    assert await ready_addresses(release) == set()
    for name in names:
        async with deployed(objects, tmp_path, kubeconfig, pod=name) as registry:
            await registry.until_ready()
            await registry.service.says("own readiness gate: tars.io/active was not set")
            # As after a crash, which clears nothing: the pod stays Ready for what follows.
            registry.service.process.kill()
    await until_addresses(release, 2)
    with pytest.raises(HelmError):
        await run(release, "upgrade", NAME, CHART, "--wait", "--timeout=3s", values={**gate, "podLabels": {"new": "1"}})
    there = {each["metadata"]["name"] for each in await pods(release)}
    assert set(names) < there, "neither of the old ones went before the new one was Ready"
    assert len(there) == 3
    assert len(await ready_addresses(release)) == 2
    await run(release, "uninstall", NAME)


async def test_an_existing_service_of_the_same_name_is_not_taken_over(release: Release) -> None:
    theirs = {"metadata": {"name": "tars-tarsregistry"}, "spec": {"clusterIP": "None", "ports": [{"port": 17890}]}}
    await release.admin.create({"apiVersion": "v1", "kind": "Service", **theirs})
    with pytest.raises(HelmError, match=r"tars-tarsregistry.*exists and cannot be imported"):
        await run(release, "install", NAME, CHART)
    await run(release, "install", NAME, CHART, values={"service": {"name": "registry-next"}})
    await run(release, "uninstall", NAME)
    assert (await release.admin.get(KINDS["Service"], "tars-tarsregistry"))["spec"]["ports"][0]["port"] == 17890


async def test_installed_in_an_empty_cluster_it_serves_what_is_declared_there(release: Release, tmp_path: Path) -> None:
    await run(release, "install", NAME, CHART, *WAIT)
    manifest = await run(release, "get", "manifest", NAME)
    token = await release.admin.service_account_token(NAME)
    kubeconfig = release.server.kubeconfig(token=token, namespace=release.namespace)
    await release.admin.apply(hello("10.0.0.1"))
    async with deployed(documents(manifest), tmp_path, kubeconfig, "--endpoint-host=pod-ip") as registry:
        await registry.until_ready()
        await registry.until(HELLO, lists("10.0.0.1"))
        assert await registry.metric("rights_missing") == 0
        assert await registry.metric("source_problems") == 0


# ------------------------------------------------------------------------------------- the definitions


@pytest.fixture
async def defined(cluster_programs: Path, chart_programs: Path, tmp_path: Path) -> AsyncIterator[Release]:
    """A cluster in which the kinds are defined otherwise, and an object of each that the chart's would not keep."""
    (tmp_path / "server").mkdir()
    async with ApiServer(cluster_programs, tmp_path / "server") as server:
        await server.create_crds()
        async with server.client(namespace="default") as admin:
            for each in definitions():
                plural = each["spec"]["names"]["plural"]
                change = {"metadata": {"labels": {"of": "another-chart"}, "annotations": {"kept": "as it is"}}}
                await admin.patch(CRDS, f"{plural}.k8s.tars.io", change, how="merge")
            kubeconfig = server.kubeconfig(namespace="default")
            yield Release(server, "default", admin, Helm(chart_programs, tmp_path, kubeconfig, "default"))


async def as_defined(admin: Client) -> dict[str, Any]:
    """The definitions to the letter, version included."""
    found = await admin.list(CRDS)
    return {each["metadata"]["name"]: {**each, "status": None} for each in found["items"]}


async def test_definitions_that_are_there_are_never_touched(defined: Release) -> None:
    before = copy.deepcopy(await as_defined(defined.admin))
    await defined.admin.apply(hello("10.0.0.1"))
    for arguments, values in (
        (("install", NAME, CHART), {}),
        (("upgrade", NAME, CHART), {"replicas": 3}),
        (("upgrade", NAME, CHART), {"crds": {"enabled": False}}),
        (("upgrade", NAME, CHART), {"crds": {"enabled": True}}),
        (("rollback", NAME, "1"), None),
        (("uninstall", NAME), None),
    ):
        await run(defined, *arguments, values=values)
        assert await as_defined(defined.admin) == before, arguments
    assert (await defined.admin.get(TENDPOINTS, "test-helloserver"))["spec"]["app"] == "Test"


async def test_definitions_that_are_not_there_are_made_once_and_stay(
    cluster_programs: Path, chart_programs: Path, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    async with ApiServer(cluster_programs, tmp_path / "server") as server, server.client(namespace="default") as admin:
        helm = Helm(chart_programs, tmp_path, server.kubeconfig(namespace="default"), "default")
        release = Release(server, "default", admin, helm)
        await run(release, "install", NAME, CHART, values={"crds": {"enabled": False}})
        assert await as_defined(admin) == {}
        await run(release, "uninstall", NAME)
        await run(release, "install", NAME, CHART)
        names = {f"{name}.k8s.tars.io" for name in ("tendpoints", "ttemplates", "tframeworkconfigs")}
        assert set(await as_defined(admin)) == names
        await until_taken(admin, hello("10.0.0.1"))
        before = await as_defined(admin)
        await run(release, "upgrade", NAME, CHART, values={"crds": {"enabled": False}})
        await run(release, "uninstall", NAME)
        assert await as_defined(admin) == before
        assert await admin.get(TENDPOINTS, "test-helloserver")


async def until_taken(admin: Client, manifest: Object) -> None:
    """Apply an object of a kind that has only just been defined."""
    async with asyncio.timeout(30):
        while True:
            try:
                await admin.apply(manifest)
                return
            except ApiError as error:
                if error.code not in (404, 429, 503):
                    raise
                await asyncio.sleep(0.05)
