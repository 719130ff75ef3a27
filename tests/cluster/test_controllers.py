"""A cluster with controllers: what tests rely on."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.client import PODS, TENDPOINTS, ApiError, Client, Object, Resource
from tests.cluster.conftest import Cluster
from tests.cluster.controllers import LOOPBACK, NODES_AT_START, condition

pytestmark = pytest.mark.cluster
GATE = "tars.io/active"
APPS = "apps/v1"


def stateful_set(name: str, replicas: int, *, gates: bool = True, labels: dict[str, str] | None = None) -> Object:
    labels = {"app": name, **(labels or {})}
    spec: Object = {"containers": [{"name": "c", "image": "none"}]}
    if gates:
        spec["readinessGates"] = [{"conditionType": GATE}]
    return {
        "apiVersion": APPS,
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


async def until_pod(admin: Client, name: str, wanted: str, *, ready: str) -> Object:
    """Wait until a pod's uid is another than `wanted` and its condition Ready is so."""
    async with admin.watch(PODS, fieldSelector=f"metadata.name={name}") as watch:
        while event := await watch.next():
            pod: Object = event["object"]
            if pod["metadata"]["uid"] != wanted and condition(pod, "Ready") == ready and event["type"] != "DELETED":
                return pod
    raise AssertionError("the watch ended")


async def set_gate(admin: Client, name: str, status: str) -> None:
    change = {"status": {"conditions": [{"type": GATE, "status": status, "reason": "Active/Active/1"}]}}
    await admin.patch(PODS, name, change, how="strategic", subresource="status")


async def test_a_pod_is_ready_when_its_gates_are_and_no_longer_than_that(live_cluster: Cluster) -> None:
    admin = live_cluster.admin
    await admin.create(stateful_set("one", 1))
    pod = await until_pod(admin, "one-0", "", ready="False")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("10.244.")
    assert pod["status"]["hostIP"] in {address for address, _ in NODES_AT_START.values()}
    assert condition(pod, "ContainersReady") == "True"
    assert condition(pod, GATE) == ""
    await set_gate(admin, "one-0", "True")
    await until_pod(admin, "one-0", "", ready="True")
    await set_gate(admin, "one-0", "False")
    pod = await until_pod(admin, "one-0", "", ready="False")
    assert condition(pod, GATE) == "False"


async def test_a_pod_that_is_deleted_comes_back_under_its_name_with_nothing_of_the_old_one(
    live_cluster: Cluster,
) -> None:
    admin = live_cluster.admin
    await admin.create(stateful_set("one", 1))
    await until_pod(admin, "one-0", "", ready="False")
    await set_gate(admin, "one-0", "True")
    old = await until_pod(admin, "one-0", "", ready="True")
    await admin.delete(PODS, "one-0")
    new = await until_pod(admin, "one-0", old["metadata"]["uid"], ready="False")
    assert condition(new, GATE) == ""


async def test_a_pod_with_a_finalizer_is_terminating_until_the_test_takes_it_away(live_cluster: Cluster) -> None:
    admin = live_cluster.admin
    await admin.create(stateful_set("one", 1))
    pod = await until_pod(admin, "one-0", "", ready="False")
    await admin.patch(PODS, "one-0", {"metadata": {"finalizers": ["tests/held"]}})
    await admin.patch(Resource(APPS, "statefulsets"), "one", {"spec": {"replicas": 0}})
    async with admin.watch(PODS, fieldSelector="metadata.name=one-0") as watch:
        while "deletionTimestamp" not in pod["metadata"]:
            # Of any type: where the controller was quick, the watch begins with the pod as it ends.
            event = await watch.next()
            assert event is not None
            pod = event["object"]
        await admin.patch(PODS, "one-0", {"metadata": {"finalizers": None}})
        await watch.until("DELETED")


async def test_pods_without_gates_are_ready_and_endpoints_of_their_service(live_cluster: Cluster) -> None:
    admin = live_cluster.admin
    selector = {"app": "two"}
    ports = [{"name": "p", "port": 80}]
    await admin.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "two"},
            "spec": {"clusterIP": "None", "selector": selector, "ports": ports},
        }
    )
    slices = Resource("discovery.k8s.io/v1", "endpointslices")
    async with admin.watch(slices, labelSelector="kubernetes.io/service-name=two") as watch:
        await admin.create(stateful_set("two", 2, gates=False))
        ready: list[str] = []
        while len(ready) < 2:
            event = await watch.next()
            assert event is not None
            endpoints = event["object"]["endpoints"] or ()
            ready = [each["targetRef"]["name"] for each in endpoints if each["conditions"]["ready"]]
    assert sorted(ready) == ["two-0", "two-1"]


async def test_pods_with_the_label_for_it_have_addresses_that_a_test_can_connect_from(live_cluster: Cluster) -> None:
    admin = live_cluster.admin
    await admin.create(stateful_set("three", 3, labels={LOOPBACK: "true"}))
    pods = [await until_pod(admin, f"three-{n}", "", ready="False") for n in range(3)]
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert len(addresses) == 3
    for address in addresses:
        assert address.startswith("127.244.")
        _, writer = await asyncio.open_connection("127.0.0.1", live_cluster.server.port, local_addr=(address, 0))
        writer.close()
        await writer.wait_closed()


async def test_tokens_of_service_accounts_are_taken_and_every_namespace_has_a_default_account(
    live_cluster: Cluster,
) -> None:
    accounts = Resource("v1", "serviceaccounts")
    async with live_cluster.admin.watch(accounts, fieldSelector="metadata.name=default") as watch:
        await watch.until("ADDED")
    token = await live_cluster.admin.service_account_token("default")
    async with live_cluster.server.client(token=token, namespace=live_cluster.namespace) as account:
        with pytest.raises(ApiError) as refused:
            await account.list(TENDPOINTS)
    assert refused.value.code == 403
    assert f"system:serviceaccount:{live_cluster.namespace}:default" in refused.value.message


async def test_the_programs_go_on_after_an_outage_of_the_api_server(live_cluster: Cluster) -> None:
    await live_cluster.server.kill()
    await live_cluster.server.restart()
    async with live_cluster.server.client(namespace=live_cluster.namespace) as admin:
        await admin.create(stateful_set("four", 1, gates=False))
        await until_pod(admin, "four-0", "", ready="True")
