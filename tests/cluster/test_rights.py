"""What tarsnodes' reports take of rights on a real API server, and what is missing without each of them."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from tars_protocol.errors import CallError
from tests.cluster.conftest import Cluster
from tests.cluster.crds import GROUP
from tests.cluster.heartbeats import (
    CREATE_EVENTS,
    FOLLOW,
    GET_PODS,
    HELLO,
    PATCH_STATUS,
    POD,
    Rule,
    condition,
    events_about,
    kube_pod,
    limited,
    tarsnode,
)
from tests.cluster.support_service import QUICK, Lists, Registry, following, lists
from tests.support.manifests import framework, hello
from tests.support.tarsnode import Tarsnode

pytestmark = pytest.mark.cluster


async def test_with_what_an_existing_installation_grants_it_works_and_says_what_is_off(cluster: Cluster) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    await cluster.admin.create(kube_pod("registry-0", "127.0.0.50"))
    options = ("--pod-name=registry-0",)
    async with limited(cluster, FOLLOW, PATCH_STATUS, options=options) as registry, tarsnode(registry) as node:
        await registry.service.says("own readiness gate: ")
        line = await registry.service.says("off for the want of a right: ")
        assert "refusing reports of the wrong caller (get pods)" in line.string
        assert "Events about refused reports (create events)" in line.string
        assert "patch" not in line.string.partition("grant with")[0]
        await node.report(POD, "Active", "Active")
        await node.report(POD, "Active", "Active")
        assert await registry.metric("api_requests_total", verb="patch") == 2
        assert await registry.metric("rights_missing") == 2
        assert await condition(cluster.admin) == ("True", "Active/Active/27")
        assert await condition(cluster.admin, "registry-0") == ("True", "Active/Active")
        async with tarsnode(registry, "127.0.0.2") as other:
            await other.report(POD, "Inactive", "Inactive")
        line = await registry.service.says("-> 'Inactive/Inactive/27'")
        assert f"though pod {POD} is not known in the table" in line.string
        assert await registry.readiness() == (200, "ready\n")
        assert registry.service.log.count("off for the want of a right") == 1


async def test_without_the_right_to_read_pods_callers_are_not_refused_and_states_are_written(cluster: Cluster) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with limited(cluster, FOLLOW, PATCH_STATUS, CREATE_EVENTS) as registry:
        await registry.service.says(r"off for the want of a right: refusing [^,]* \(get pods\); grant with")
        async with tarsnode(registry) as node, tarsnode(registry, "127.0.0.2") as other:
            await node.report(POD, "Active", "Active")
            assert await condition(cluster.admin) == ("True", "Active/Active/27")
            await other.report(POD, "Active", "Active", "28")
            assert await condition(cluster.admin) == ("True", "Active/Active/28")


async def test_without_the_right_to_create_events_only_the_events_are_missing(cluster: Cluster) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    async with limited(cluster, FOLLOW, PATCH_STATUS, GET_PODS) as registry:
        await registry.service.says(r"off for the want of a right: Events [^,]* \(create events\); grant with")
        async with tarsnode(registry) as node, tarsnode(registry, "127.0.0.2") as other:
            await node.report(POD, "Active", "Active")
            await other.refused(POD, "Inactive", "Inactive")
        assert await registry.metric("events_total", result="left_out") == 1
    assert await condition(cluster.admin) == ("True", "Active/Active/27")
    assert await events_about(cluster.admin, POD) == []


async def test_without_the_right_to_write_reports_fail_until_it_is_granted_and_queries_go_on(
    cluster: Cluster,
) -> None:
    await cluster.admin.create(hello("10.0.0.1"))
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    options = ("--pod-name=registry-0",)
    async with limited(cluster, FOLLOW, GET_PODS, CREATE_EVENTS, options=options) as registry:
        await cluster.admin.create(kube_pod("registry-0", "127.0.0.50"))
        await registry.service.says(r"states of tarsnodes, own readiness gate \(patch pods/status\); grant with")
        async with tarsnode(registry) as node, tarsnode(registry, "127.0.0.2") as other:
            assert "may not write" in await node.refused(POD, "Active", "Active")
            assert "no address" in await other.refused(POD, "Inactive", "Inactive")
            assert await registry.ask(HELLO) == lists("10.0.0.1")
            assert await registry.readiness() == (200, "ready\n")
            await cluster.admin.grant("limited", FOLLOW, GET_PODS, CREATE_EVENTS, PATCH_STATUS)
            await registry.until_metric(lambda queued: queued == 0, "reports_queued")
    assert await condition(cluster.admin) == ("True", "Active/Active/27")


@pytest.mark.parametrize("missing", ["tendpoints", "ttemplates", "tframeworkconfigs"])
async def test_without_the_right_to_follow_something_it_is_not_ready_and_still_takes_reports(
    cluster: Cluster, missing: str
) -> None:
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    rest = [plural for plural in FOLLOW["resources"] if plural != missing]
    rules = [{**FOLLOW, "resources": rest}, GET_PODS, PATCH_STATUS, CREATE_EVENTS]
    await cluster.admin.grant("limited", *rules)
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace, user="limited")
    async with following(kubeconfig, *QUICK, synced=False) as registry, tarsnode(registry) as node:
        await registry.until_not_ready(missing)
        await node.report(POD, "Active", "Active")
        assert (await node.descriptor("Test", "HelloServer"))[0] == -1
    assert await condition(cluster.admin) == ("True", "Active/Active/27")


# ------------------------------------------------------------------------------------- one after the other

MINIMAL: dict[str, Rule] = {
    "tendpoints": {"apiGroups": [GROUP], "resources": ["tendpoints"], "verbs": ["list", "watch"]},
    "ttemplates": {"apiGroups": [GROUP], "resources": ["ttemplates"], "verbs": ["list", "watch"]},
    "tframeworkconfigs": {
        "apiGroups": [GROUP],
        "resources": ["tframeworkconfigs"],
        "resourceNames": ["tars-framework"],
        "verbs": ["list", "watch"],
    },
    "get pods": GET_PODS,
    "patch pods/status": PATCH_STATUS,
    "create events": CREATE_EVENTS,
}
"""All that docs/kubernetes.md and docs/tarsnodes.md ask for, and nothing more."""

NOT_READY = {"ready", "answers", "the up-chain", "descriptors", "the own condition"}
WITHOUT: dict[str, set[str]] = {
    "nothing": set(),
    "tendpoints": NOT_READY,
    "ttemplates": NOT_READY,
    "tframeworkconfigs": NOT_READY,
    "get pods": {"refusing the wrong caller", "Events"},  # nothing is refused, so there is nothing to tell
    "patch pods/status": {"states", "the own condition"},
    "create events": {"Events"},
}
"""What those pages say is missing without it."""


async def missing(cluster: Cluster, registry: Registry, *, own: bool) -> set[str]:
    """What of all that a registry does it does not do. `own`: its own condition is to be set, sooner or later."""
    found = set()

    async def does(what: str, it: Awaitable[bool]) -> None:
        try:
            if await it:
                return
        except (CallError, AssertionError):
            pass
        found.add(what)

    async def answers(object_id: str, expected: Lists) -> bool:
        return await registry.ask(object_id) == expected

    async def descriptor(node: Tarsnode) -> bool:
        value, descriptor = await node.descriptor("Test", "HelloServer")
        return value == 0 and "of=template" in descriptor.profile

    async def written(node: Tarsnode) -> bool:
        await node.report(POD, "Active", "Active")
        return await condition(cluster.admin) == ("True", "Active/Active/27")

    async def refuses(node: Tarsnode) -> bool:
        return "no address of pod" in await node.refused(POD, "Inactive", "Inactive")

    async def events() -> bool:
        if await registry.metric("reports_total", outcome="wrong_caller"):
            await registry.until_metric(lambda sent: sent >= 1, "events_total")
        return [each["reason"] for each in await events_about(cluster.admin, POD)] == ["TarsStateRefused"]

    async def own_condition() -> bool:
        if own:
            await registry.service.says("own readiness gate: ")
        return await condition(cluster.admin, "registry-0") == ("True", "Active/Active")

    async with tarsnode(registry) as node, tarsnode(registry, "127.0.0.2") as other:
        await does("ready", is_ready(registry))
        await does("answers", answers(HELLO, lists("127.0.0.1")))
        await does("the up-chain", answers("Other.Server.Obj", lists("192.0.2.7:9999")))
        await does("descriptors", descriptor(node))
        await does("states", written(node))
        await does("refusing the wrong caller", refuses(other))
        await does("Events", events())
        await does("the own condition", own_condition())
    return found


async def is_ready(registry: Registry) -> bool:
    return (await registry.readiness())[0] == 200


@pytest.mark.parametrize("taken", WITHOUT)
async def test_without_a_rule_of_the_minimal_role_what_the_documentation_names_is_missing_and_nothing_else(
    cluster: Cluster, taken: str
) -> None:
    template = {"parent": "tars.cpp", "content": "<tars>\nof=template\n</tars>"}
    await cluster.admin.create(
        {"apiVersion": f"{GROUP}/v1beta3", "kind": "TTemplate", "metadata": {"name": "tars.cpp"}, "spec": template}
    )
    await cluster.admin.create(hello("127.0.0.1"))
    await cluster.admin.create(framework(default=[{"host": "192.0.2.7", "port": 9999}]))
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    await cluster.admin.create(kube_pod("registry-0", "127.0.0.50"))
    await cluster.admin.grant("limited", *(rule for name, rule in MINIMAL.items() if name != taken))
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace, user="limited")
    async with following(kubeconfig, *QUICK, "--pod-name=registry-0", synced=False) as registry:
        if "ready" in WITHOUT[taken]:
            await registry.until_not_ready(taken, "grant it")
        else:
            await registry.until_ready()
        own = "the own condition" not in WITHOUT[taken]
        assert await missing(cluster, registry, own=own) == WITHOUT[taken]
