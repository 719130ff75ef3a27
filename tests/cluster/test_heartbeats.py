"""Reports of tarsnodes on a real API server: what is written, what is refused, with which rights."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from registry.kube.pods import Condition, PodView, condition_patch, decode_pod
from registry.kube.server_clock import time_in
from tests.cluster.client import PODS, ApiError, Object
from tests.cluster.conftest import Cluster, namespace_of
from tests.cluster.crds import GROUP
from tests.cluster.heartbeats import (
    CONDITION,
    FOLLOW,
    GET_PODS,
    HELLO,
    PATCH_STATUS,
    POD,
    condition,
    events_about,
    kube_pod,
    registry_with,
    tarsnode,
    whole_condition,
)
from tests.cluster.proxy import Proxy
from tests.cluster.support_service import QUICK, Registry, following, lists
from tests.cluster.tars_controller import APP, SERVER, TarsController
from tests.cluster.tarsnodes import background
from tests.support import manifests
from tests.support.manifests import hello
from tests.support.tarsnode import TIMEOUT

pytestmark = pytest.mark.cluster


@pytest.fixture
async def registry(cluster: Cluster) -> AsyncIterator[Registry]:
    """A registry that may do all."""
    async with registry_with(cluster) as registry:
        yield registry


# ----------------------------------------------------------------------------------------------------- written


async def test_a_report_becomes_the_condition_of_its_pod(cluster: Cluster, registry: Registry) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry) as node:
        await node.report(POD, "Active", "Activating", pid="26")
        assert await condition(cluster.admin) == ("False", "Active/Activating/26")
        await node.report(POD, "Active", "Active")
        found = await whole_condition(cluster.admin)
        assert found
        assert (found["status"], found["reason"]) == ("True", "Active/Active/27")
        assert found["lastTransitionTime"]
        assert "tarsnode" in found["message"]
        await node.report(POD, "Inactive", "Inactive", pid="")
        assert await condition(cluster.admin) == ("False", "Inactive/Inactive")
    await registry.service.says(
        rf"registry.audit: state of pod {cluster.namespace}/{POD}: Active/Activating/26 -> 'Active/Active/27', "
        r"reported from 127.0.0.1:\d+$"
    )
    assert await registry.metric("reports_total", outcome="written") == 3


async def test_a_repeat_writes_nothing_and_a_change_changes_nothing_else(cluster: Cluster, registry: Registry) -> None:
    manifest = kube_pod(POD, "127.0.0.1")
    manifest["status"]["conditions"] = [{"type": "ContainersReady", "status": "True", "reason": "kept"}]
    await cluster.admin.create(manifest)
    async with tarsnode(registry) as node:
        await node.report(POD, "Active", "Active")
        before = await cluster.admin.get(PODS, POD)
        await node.report(POD, "Active", "Active")
        after = await cluster.admin.get(PODS, POD)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert {each["type"]: each.get("reason") for each in after["status"]["conditions"]} == {
        "ContainersReady": "kept",
        CONDITION: "Active/Active/27",
    }
    assert await registry.metric("api_requests_total", verb="patch") == 1


async def test_a_pod_of_the_same_name_with_a_new_uid_gets_the_state_again(cluster: Cluster, registry: Registry) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry) as old, tarsnode(registry, "127.0.0.2") as new:
        await old.report(POD, "Active", "Active")
        await cluster.admin.delete(PODS, POD)
        await cluster.admin.create(kube_pod(POD, "127.0.0.2"))
        assert "no address of pod" in await old.refused(POD, "Active", "Active")
        assert await condition(cluster.admin) is None
        await new.report(POD, "Active", "Active")
    assert await condition(cluster.admin) == ("True", "Active/Active/27")


@pytest.mark.parametrize(
    ("setting", "present"),
    [("Active", "Frozen"), ("Active", 'a"b\n{"c": \\'), ("", ""), ("活动", "活动"), ("Active", "active")],
    ids=["a word", "quotes and line breaks", "empty", "Chinese", "another case"],
)
async def test_an_unknown_state_is_stored_as_it_is_and_is_not_active(
    cluster: Cluster, registry: Registry, setting: str, present: str
) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry) as node:
        await node.report(POD, setting, present)
    assert await condition(cluster.admin) == ("False", f"{setting}/{present}/27")
    assert await whole_condition(cluster.admin)


async def test_any_of_the_addresses_of_a_pod_will_do(cluster: Cluster, registry: Registry) -> None:
    await cluster.admin.create(kube_pod(POD, "fd00::7", "127.0.0.3"))
    async with tarsnode(registry, "127.0.0.3") as node:
        await node.report(POD, "Active", "Active")


async def test_pods_of_one_name_in_two_namespaces_are_told_apart_by_their_addresses(cluster: Cluster) -> None:
    async with namespace_of(cluster.server) as second:
        await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
        await second.admin.create(kube_pod(POD, "127.0.0.2"))
        names = f"--namespace={cluster.namespace},{second.namespace}"
        async with registry_with(cluster, names) as registry:
            for address, pid in (("127.0.0.1", "1"), ("127.0.0.2", "2")):
                async with tarsnode(registry, address) as node:
                    await node.report(POD, "Active", "Active", pid)
            async with tarsnode(registry, "127.0.0.3") as node:
                await node.refused(POD, "Active", "Active")
        assert await condition(cluster.admin) == ("True", "Active/Active/1")
        assert await condition(second.admin) == ("True", "Active/Active/2")


async def test_the_condition_tells_when_the_report_came_by_the_servers_clock(
    cluster: Cluster, registry: Registry
) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry) as node:
        before = datetime.now(UTC)
        await node.report(POD, "Active", "Active")
        found = await whole_condition(cluster.admin)
    assert found
    assert found["message"].startswith("reported by the pod's tarsnode at ")
    told = time_in(found["message"])
    assert told
    assert abs((told - before).total_seconds()) < 2, "the same machine has the same clock, which is told in seconds"


async def test_the_api_server_refuses_a_patch_of_a_pod_that_was_changed_since_it_was_read(cluster: Cluster) -> None:
    """What the registry relies on where a patch is late, or another registry's was faster."""
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    old = decode_pod(cluster.namespace, POD, json.dumps(await cluster.admin.get(PODS, POD)).encode())

    async def patch(reason: str, pod: PodView | None) -> None:
        change = condition_patch(Condition(CONDITION, False, reason), pod, None)
        await cluster.admin.patch(PODS, POD, change, how="strategic", subresource="status")

    await patch("Active/Activating/1", old)
    with pytest.raises(ApiError) as refused:
        await patch("Active/Deactivating/1", old)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert await condition(cluster.admin) == ("False", "Active/Activating/1")
    await patch("Active/Deactivating/1", None)
    assert await condition(cluster.admin) == ("False", "Active/Deactivating/1")


# ----------------------------------------------------------------------------------------------------- refused


async def test_a_report_for_another_pod_is_refused_with_an_event_of_that_pod(
    cluster: Cluster, registry: Registry
) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry, "127.0.0.2") as other:
        text = await other.refused(POD, "Inactive", "Inactive")
    assert text == f"127.0.0.2 is no address of pod {cluster.namespace}/{POD} (127.0.0.1)"
    assert await condition(cluster.admin) is None
    await registry.service.says(rf"registry.audit: refused \(wrong_caller\): .*'{POD}', reported from 127.0.0.2:\d+")
    await registry.until_metric(lambda sent: sent == 1, "events_total", result="sent")
    (event,) = await events_about(cluster.admin, POD)
    pod = await cluster.admin.get(PODS, POD)
    assert (event["type"], event["reason"]) == ("Warning", "TarsStateRefused")
    assert event["involvedObject"]["uid"] == pod["metadata"]["uid"]
    assert "127.0.0.2" in event["message"]


@pytest.mark.parametrize(
    "name",
    [
        'x","status":"True',
        "a\nb",
        "../../../api/v1/nodes/n",
        "a%2fb",
        "",
        "UPPER",
        "x" * 300,
        "a\udcff",
    ],
    ids=["quotes", "line break", "path", "escaped", "empty", "capitals", "long", "no UTF-8"],
)
async def test_what_no_pod_can_be_called_is_refused_without_a_request(
    cluster: Cluster, registry: Registry, name: str
) -> None:
    async with tarsnode(registry) as node:
        assert "no pod can be called" in await node.refused(name, "Active", "Active")
    assert await registry.metric("reports_total", outcome="bad_name") == 1
    assert await registry.metric("reports_queued") == 0
    await registry.service.says(r"registry.audit: refused \(bad_name\)")
    assert (await cluster.admin.list(PODS))["items"] == []


@pytest.mark.parametrize(
    ("setting", "present", "pid", "wrong"),
    [
        ("Active/Active", "Active", "1", "slash"),
        ("Active", "/", "1", "slash"),
        ("Active", "Active", "1/2", "slash"),
        ("Active", "x" * 65, "1", "more than 64 characters"),
        ("Active", "\udcff", "1", "no UTF-8"),
    ],
)
async def test_a_state_that_would_shift_the_parts_or_has_no_form_is_refused(
    cluster: Cluster, registry: Registry, setting: str, present: str, pid: str, wrong: str
) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry) as node:
        assert wrong in await node.refused(POD, setting, present, pid)
    assert await condition(cluster.admin) is None


async def test_an_unknown_pod_and_a_deleted_one_are_refused(cluster: Cluster, registry: Registry) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry) as node:
        assert (
            await node.refused("unknown-0", "Active", "Active") == f"there is no pod unknown-0 in {cluster.namespace}"
        )
        await node.report(POD, "Active", "Active")
        await cluster.admin.delete(PODS, POD)
        assert await node.refused(POD, "Active", "Active") == f"there is no pod {POD} in {cluster.namespace}"
    assert await registry.metric("reports_total", outcome="no_pod") == 2


async def test_a_table_that_is_out_of_date_refuses_nobody(cluster: Cluster, registry: Registry) -> None:
    """The endpoint still has the address of the pod before this one; the pod itself is asked."""
    await cluster.admin.create(hello("127.0.0.9"))
    await registry.until(HELLO, lists("127.0.0.9"))
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with tarsnode(registry) as node:
        await node.report(POD, "Active", "Active")
    async with tarsnode(registry, "127.0.0.9") as before:
        await before.refused(POD, "Inactive", "Inactive")
    assert await condition(cluster.admin) == ("True", "Active/Active/27")


@pytest.mark.parametrize(("check", "said"), [("warn", True), ("off", False)])
async def test_where_callers_are_not_checked_they_are_taken(cluster: Cluster, check: str, said: bool) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with registry_with(cluster, f"--caller-check={check}") as registry, tarsnode(registry, "127.0.0.2") as other:
        await other.report(POD, "Active", "Active")
        line = await registry.service.says("registry.audit: state of pod")
        assert ("though 127.0.0.2 is no address of pod" in line.string) is said
    assert await condition(cluster.admin) == ("True", "Active/Active/27")


# --------------------------------------------------------------------------------------------- own readiness


async def test_the_own_condition_is_set_after_the_first_full_sync_and_cleared_at_the_end(cluster: Cluster) -> None:
    await cluster.admin.create(kube_pod("registry-0", "127.0.0.50"))
    async with registry_with(cluster, "--pod-name=registry-0") as registry:
        await registry.service.says("own readiness gate: tars.io/active was not set")
        assert await condition(cluster.admin, "registry-0") == ("True", "Active/Active")
    assert await condition(cluster.admin, "registry-0") == ("False", "Active/Deactivating")


async def test_a_registry_that_has_not_all_of_its_table_does_not_set_its_condition(cluster: Cluster) -> None:
    await cluster.admin.create(kube_pod("registry-0", "127.0.0.50"))
    await cluster.admin.grant("limited", {**FOLLOW, "resources": ["ttemplates"]}, GET_PODS, PATCH_STATUS)
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace, user="limited")
    async with following(kubeconfig, *QUICK, "--pod-name=registry-0", synced=False) as registry:
        await registry.until_not_ready("tendpoints", "tframeworkconfigs")
        assert await condition(cluster.admin, "registry-0") is None
        await cluster.admin.grant("limited", FOLLOW, GET_PODS, PATCH_STATUS)
        await registry.until_ready()
        await registry.service.says("own readiness gate: ")
        assert await condition(cluster.admin, "registry-0") == ("True", "Active/Active")


async def test_a_pod_that_is_not_there_is_said_once_and_the_registry_goes_on(cluster: Cluster) -> None:
    async with registry_with(cluster, "--pod-name=nobody-0") as registry:
        await registry.service.says("own readiness gate is left alone .*there is no pod nobody-0")
        assert await registry.readiness() == (200, "ready\n")


# -------------------------------------------------------------------------------------------------- descriptors


async def test_a_descriptor_has_the_profile_joined_over_the_templates_as_they_are_now(
    cluster: Cluster, registry: Registry
) -> None:
    def template(name: str, parent: str, content: str) -> Object:
        spec = {"parent": parent, "content": content}
        return {"apiVersion": f"{GROUP}/v1beta3", "kind": "TTemplate", "metadata": {"name": name}, "spec": spec}

    await cluster.admin.create(template("tars.default", "tars.default", "<tars>\na=root\nb=root\nc=root\n</tars>"))
    await cluster.admin.create(template("tars.cpp", "tars.default", "<tars>\nb=cpp\nc=cpp\n</tars>"))
    server = manifests.tendpoint("Test", "HelloServer")
    server["spec"]["tars"]["profile"] = "<tars>\nc=own\n</tars>"
    await cluster.admin.create(server)
    await registry.until_metric(lambda count: count == 1, "table_servers")
    await registry.until_metric(lambda count: count == 2, "table_templates")
    async with tarsnode(registry) as node:
        value, found = await node.descriptor("Test", "HelloServer")
        assert (value, found.profile) == (0, "<tars>\n  a=root\n  b=cpp\n  c=own\n</tars>\n")
        adapter = found.adapters["Test.HelloServer.HelloObjAdapter"]
        assert (adapter.endpoint, adapter.servant) == ("tcp -h ${localip} -p 18100 -t 3000", HELLO)
        await cluster.admin.apply(template("tars.default", "tars.cpp", ""))
        for _ in range(10_000):  # each takes long enough
            if (await node.descriptor("Test", "HelloServer"))[0] == -1:
                break
    await registry.service.says("no descriptor of Test.HelloServer .*'tars.cpp' as its parent, and so do its parents")


# ---------------------------------------------------------------------------------------- outages and replicas


async def test_while_the_api_server_is_away_callers_get_an_error_in_time_and_the_last_state_is_written_after(
    cluster: Cluster, proxy: Proxy
) -> None:
    pods = 20
    for n in range(pods):
        await cluster.admin.create(kube_pod(f"storm-{n}", f"127.0.1.{n + 1}"))
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace, port=proxy.port)
    async with following(kubeconfig) as registry, contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(tarsnode(registry, f"127.0.1.{n + 1}")) for n in range(pods)]

        async def report(state: str, *, fails: bool) -> None:
            for outcome in await asyncio.gather(
                *(node.report(f"storm-{n}", "Active", state) for n, node in enumerate(nodes)), return_exceptions=True
            ):
                assert (outcome is not None) is fails, outcome
                assert not isinstance(outcome, TimeoutError), "the tarsnode's own time-out was faster"

        await report("Activating", fails=False)
        await proxy.refuse()
        await proxy.cut()
        await report("Active", fails=True)
        await report("Deactivating", fails=True)
        assert await registry.metric("reports_queued") == pods
        assert await registry.metric("reports_total", outcome="late") == 2 * pods
        await proxy.listen()
        await registry.until_metric(lambda queued: queued == 0, "reports_queued")
    for n in range(pods):
        assert await condition(cluster.admin, f"storm-{n}") == ("False", "Active/Deactivating/27")
    assert TIMEOUT > 5


async def test_an_api_server_that_says_nothing_keeps_nobody_waiting_for_too_long(
    cluster: Cluster, proxy: Proxy
) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace, port=proxy.port)
    async with following(kubeconfig) as registry, tarsnode(registry) as node:
        await node.report(POD, "Active", "Activating")
        proxy.stall()
        assert "not written yet, but will be" in await node.refused(POD, "Active", "Active")
        proxy.resume()
        await registry.until_metric(lambda queued: queued == 0, "reports_queued", timeout=20)
    assert await condition(cluster.admin) == ("True", "Active/Active/27")


async def test_a_report_to_one_replica_changes_the_answers_of_another(cluster: Cluster) -> None:
    """A stand-in for TARS's controller puts what the pod's condition says into the TEndpoint."""
    manifest = kube_pod(POD, "127.0.0.1")
    manifest["metadata"]["labels"] = {APP: "Test", SERVER: "HelloServer"}
    await cluster.admin.create(manifest)
    await cluster.admin.create(hello())

    async with (
        registry_with(cluster) as first,
        registry_with(cluster) as second,
        tarsnode(first) as node,
        background(asyncio.create_task(TarsController(cluster.admin).run())),
    ):
        await second.until(HELLO, lists(inactive=["127.0.0.1"]))
        for _ in range(3):
            await node.report(POD, "Active", "Active")
            await second.until(HELLO, lists("127.0.0.1"))
            await node.report(POD, "Active", "Deactivating")
            await second.until(HELLO, lists(inactive=["127.0.0.1"]))


async def test_what_waits_in_one_replica_is_not_written_over_what_the_pod_said_later_to_another(
    cluster: Cluster, proxy: Proxy
) -> None:
    """As C++ clients do, which go on to another registry after an error."""
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace, port=proxy.port)
    async with (
        following(kubeconfig) as first,
        registry_with(cluster) as second,
        tarsnode(first) as to_first,
        tarsnode(second) as to_second,
    ):
        await to_first.report(POD, "Active", "Activating")
        await proxy.refuse()
        await proxy.cut()
        assert "not written yet" in await to_first.refused(POD, "Active", "Deactivating")
        await to_second.report(POD, "Active", "Active")
        await proxy.listen()
        await first.until_metric(lambda queued: queued == 0, "reports_queued")
        assert await first.metric("reports_total", outcome="superseded") == 1
    assert await condition(cluster.admin) == ("True", "Active/Active/27")


async def test_a_registry_that_is_stopped_writes_the_states_that_it_has_queued(cluster: Cluster) -> None:
    pods = 20
    for n in range(pods):
        await cluster.admin.create(kube_pod(f"last-{n}", f"127.0.1.{n + 1}"))
    async with registry_with(cluster, "--write-rate=2", "--write-burst=1") as registry:
        async with contextlib.AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(tarsnode(registry, f"127.0.1.{n + 1}")) for n in range(pods)]
            reports = (node.report(f"last-{n}", "Active", "Active") for n, node in enumerate(nodes))
            outcomes = await asyncio.gather(*reports, return_exceptions=True)
        assert sum(outcome is not None for outcome in outcomes) > pods // 4
    for n in range(pods):
        assert await condition(cluster.admin, f"last-{n}") == ("True", "Active/Active/27")


async def test_labelled_pods_come_back_as_active_endpoints_when_they_are_ready(cluster: Cluster) -> None:
    """Without any controller: report, condition, Ready (by the kubelet, which the test stands in for), answer."""
    manifest = kube_pod(POD, "127.0.0.1")
    manifest["metadata"] |= {
        "labels": {"tars.io/ServerApp": "Test", "tars.io/ServerName": "HelloServer"},
        "annotations": {"tars.io/servants": "HelloObj:18100/tcp"},
    }
    ready = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady")]
    manifest["status"]["conditions"] = [
        *ready,
        {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
    ]
    await cluster.admin.create(manifest)
    async with registry_with(cluster, "--discover=pods") as registry, tarsnode(registry) as node:
        await node.report(POD, "Active", "Activating")
        await registry.until(HELLO, lists(inactive=["127.0.0.1"]))
        await node.report(POD, "Active", "Active")
        change = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        await cluster.admin.patch(PODS, POD, change, how="strategic", subresource="status")
        await registry.until(HELLO, lists("127.0.0.1"))
