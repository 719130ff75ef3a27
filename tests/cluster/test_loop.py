"""The whole loop, with all that Kubernetes does in it.

StatefulSet → pods (kube-controller-manager) → on nodes (kube-scheduler) → running, with addresses (kwok) → reports of
their tarsnodes → conditions (the registry) → Ready (kwok) → TEndpoint (a stand-in for TARS's controller) → answers.
The registry has its own service account, with the rights of the minimal Role.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from tars_protocol.errors import CallError
from tests.cluster.client import PODS, TENDPOINTS, Object, Resource
from tests.cluster.conftest import Cluster
from tests.cluster.controllers import LOOPBACK, condition
from tests.cluster.crds import GROUP
from tests.cluster.support_service import HAPPENS_WITHIN, Lists, Registry, following, lists
from tests.cluster.tars_controller import APP, GATE, RELEASE, SERVER, TarsController, reported
from tests.cluster.tarsnodes import Tarsnodes, background
from tests.support import manifests
from tests.support.tarsnode import Tarsnode

pytestmark = pytest.mark.cluster

HELLO = "Test.HelloServer.HelloObj"
NAME = "test-helloserver"
STATEFUL_SETS = Resource("apps/v1", "statefulsets")
ACCOUNT = "registry"
FOLLOWED = ["tendpoints", "ttemplates", "tframeworkconfigs"]
ROLE = (
    {"apiGroups": [GROUP], "resources": FOLLOWED, "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
)
TEMPLATE = {
    "apiVersion": f"{GROUP}/v1beta3",
    "kind": "TTemplate",
    "metadata": {"name": "tars.cpp"},
    "spec": {"parent": "tars.cpp", "content": "<tars>\n</tars>"},
}


def workload(replicas: int, release: str = "r1") -> Object:
    """The StatefulSet that TARS's controller makes of a TServer, as far as it matters here."""
    labels = {APP: "Test", SERVER: "HelloServer"}
    spec = {
        "containers": [{"name": NAME, "image": "none"}],
        "initContainers": [{"name": "tarsnode", "image": "none"}],
        "readinessGates": [{"conditionType": GATE}],
    }
    template = {
        "metadata": {
            "labels": {**labels, RELEASE: release, LOOPBACK: "true"},
            "annotations": {"tars.io/servants": "HelloObj:18100/tcp"},
        },
        "spec": spec,
    }
    return {
        "apiVersion": STATEFUL_SETS.version,
        "kind": "StatefulSet",
        "metadata": {"name": NAME, "labels": labels},
        "spec": {
            "replicas": replicas,
            "serviceName": NAME,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }


@dataclass(frozen=True)
class Loop:
    """All of it, at work."""

    cluster: Cluster
    registry: Registry

    async def deploy(self, replicas: int, release: str = "r1") -> None:
        """Make the server, or make it so."""
        await self.cluster.admin.apply(workload(replicas, release))

    async def scale(self, replicas: int) -> None:
        """Have so many pods of it."""
        await self.cluster.admin.patch(STATEFUL_SETS, NAME, {"spec": {"replicas": replicas}})

    async def pod(self, ordinal: int, when: Callable[[Object], bool]) -> Object:
        """A pod of it, once it is so."""
        async with self.cluster.admin.watch(PODS, fieldSelector=f"metadata.name={NAME}-{ordinal}") as watch:
            while event := await watch.next():
                if event["type"] != "DELETED" and when(event["object"]):
                    found: Object = event["object"]
                    return found
        raise AssertionError("the watch ended")

    async def running(self, ordinal: int, *, not_uid: str = "") -> Object:
        """A pod that runs; another than the one with this uid."""
        return await self.pod(
            ordinal, lambda pod: pod["metadata"]["uid"] != not_uid and pod["status"].get("phase") == "Running"
        )

    async def addresses(self, count: int) -> list[str]:
        """Those of so many pods, by ordinal."""
        return [(await self.running(n))["status"]["podIP"] for n in range(count)]

    async def answers(self, *active: str, inactive: tuple[str, ...] = ()) -> None:
        """Wait until this is what clients are told."""
        await self.registry.until(HELLO, lists(*active, inactive=inactive))

    @contextlib.asynccontextmanager
    async def tarsnode(self, pod: Object) -> AsyncIterator[Tarsnode]:
        """The one in a pod."""
        async with Tarsnode(pod["status"]["podIP"], self.registry.service.registry_port) as node:
            yield node

    @contextlib.asynccontextmanager
    async def tarsnodes(self) -> AsyncIterator[None]:
        """One in every pod, whose reports must all be taken."""
        nodes = Tarsnodes(self.cluster.admin, self.registry.service.registry_port)
        async with background(asyncio.create_task(nodes.run())):
            yield
        assert nodes.failures == []


@contextlib.asynccontextmanager
async def going(
    cluster: Cluster, *options: str, controller: bool = True, discover: str = "tendpoints"
) -> AsyncIterator[Loop]:
    rules = (*ROLE, {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]})
    token = await cluster.admin.service_account_token(ACCOUNT)
    await cluster.admin.grant(f"sa:{ACCOUNT}", *(ROLE if controller else rules))
    kubeconfig = cluster.server.kubeconfig(token=token, namespace=cluster.namespace)
    async with contextlib.AsyncExitStack() as stack:
        if controller:
            await cluster.admin.create(TEMPLATE)
            await cluster.admin.create(manifests.tendpoint("Test", "HelloServer"))
            await stack.enter_async_context(background(asyncio.create_task(TarsController(cluster.admin).run())))
        registry = await stack.enter_async_context(following(kubeconfig, *options, discover=discover))
        yield Loop(cluster, registry)


@pytest.fixture
async def loop(live_cluster: Cluster) -> AsyncIterator[Loop]:
    async with going(live_cluster) as loop:
        yield loop


async def test_a_report_makes_a_pod_ready_and_an_active_endpoint_and_nothing_else_does(loop: Loop) -> None:
    await loop.deploy(2)
    first, second = [await loop.running(n) for n in range(2)]
    addresses = [pod["status"]["podIP"] for pod in (first, second)]
    await loop.answers(inactive=tuple(addresses))
    async with loop.tarsnode(first) as node:
        value, descriptor = await node.descriptor("Test", "HelloServer")
        assert (value, descriptor.adapters["Test.HelloServer.HelloObjAdapter"].servant) == (0, HELLO)
        await node.report(first["metadata"]["name"], "Active", "Activating", pid="26")
        seen = await loop.pod(0, lambda pod: condition(pod, GATE) == "False")
        assert condition(seen, "Ready") == "False"
        await loop.answers(inactive=tuple(addresses))
        await node.report(first["metadata"]["name"], "Active", "Active", pid="26")
        seen = await loop.pod(0, lambda pod: condition(pod, "Ready") == "True")
        assert reported(seen) == ("Active", "Active", "26")
        await loop.answers(addresses[0], inactive=(addresses[1],))
    value, active, inactive = await loop.registry.client.call("findObjectById4All", HELLO)
    assert (value, [each.host for each in active], [each.host for each in inactive]) == (
        0,
        *([each] for each in addresses),
    )
    found = await loop.cluster.admin.get(TENDPOINTS, NAME)
    states = [(pod["settingState"], pod["presentState"], pod["pid"]) for pod in found["status"]["pods"]]
    assert states == [("Active", "Active", "26"), ("", "", "")]
    # The other one still waits for its tarsnode.
    assert condition(await loop.running(1), "Ready") == "False"


async def test_scaled_up_and_down_the_answers_follow(loop: Loop) -> None:
    async with loop.tarsnodes():
        await loop.deploy(1)
        await loop.answers(*await loop.addresses(1))
        await loop.scale(4)
        await loop.answers(*await loop.addresses(4))
        await loop.scale(2)
        await loop.answers(*await loop.addresses(2))
        await loop.scale(0)
        await loop.answers()


async def test_a_pod_that_is_deleted_is_gone_from_the_answers_until_the_one_after_it_has_reported(loop: Loop) -> None:
    await loop.deploy(1)
    old = await loop.running(0)
    name = old["metadata"]["name"]
    async with loop.tarsnode(old) as old_node:
        await old_node.report(name, "Active", "Active", pid="26")
        await loop.answers(old["status"]["podIP"])
        await loop.cluster.admin.delete(PODS, name)
        new = await loop.running(0, not_uid=old["metadata"]["uid"])
        await loop.answers(inactive=(new["status"]["podIP"],))
        async with loop.tarsnode(new) as new_node:
            await new_node.report(name, "Active", "Active", pid="26")
        await loop.answers(new["status"]["podIP"])
    pod = await loop.running(0)
    assert pod["metadata"]["uid"] == new["metadata"]["uid"]
    assert condition(pod, "Ready") == "True"


async def test_a_server_that_is_set_inactive_leaves_the_answers_and_comes_back(loop: Loop) -> None:
    async with loop.tarsnodes():
        await loop.deploy(2)
        first, second = await loop.addresses(2)
        await loop.answers(first, second)
    pod = await loop.running(0)
    async with loop.tarsnode(pod) as node:
        await node.report(pod["metadata"]["name"], "Inactive", "Inactive", pid="")
        await loop.answers(second, inactive=(first,))
        seen = await loop.pod(0, lambda pod: condition(pod, "Ready") == "False")
        assert reported(seen) == ("Inactive", "Inactive", "")
        await node.report(pod["metadata"]["name"], "Active", "Active")
        await loop.answers(first, second)


async def test_a_pod_that_terminates_is_inactive_before_it_is_gone(loop: Loop) -> None:
    async with loop.tarsnodes():
        await loop.deploy(2)
        first, second = await loop.addresses(2)
        await loop.answers(first, second)
        held = {"metadata": {"finalizers": ["tests/held"]}}
        await loop.cluster.admin.patch(PODS, f"{NAME}-1", held)
        await loop.scale(1)
        await loop.answers(first, inactive=(second,))
        await loop.pod(1, lambda pod: condition(pod, "Ready") == "True" and "deletionTimestamp" in pod["metadata"])
        await loop.cluster.admin.patch(PODS, f"{NAME}-1", {"metadata": {"finalizers": None}})
        await loop.answers(first)


async def test_a_rolling_update_goes_from_pod_to_pod_by_the_reports_and_one_at_most_is_missing(loop: Loop) -> None:
    """The controller of the StatefulSet waits for each pod to be Ready before it takes the next one."""
    replicas = 3
    answers: list[Lists] = []

    async def ask() -> None:
        while True:
            answers.append(await loop.registry.ask(HELLO))
            await asyncio.sleep(0.005)

    async with loop.tarsnodes():
        await loop.deploy(replicas)
        await loop.answers(*await loop.addresses(replicas))
        async with background(asyncio.create_task(ask())):
            await loop.deploy(replicas, release="r2")
            for n in reversed(range(replicas)):
                await loop.pod(
                    n, lambda pod: pod["metadata"]["labels"][RELEASE] == "r2" and condition(pod, "Ready") == "True"
                )
            await loop.answers(*await loop.addresses(replicas))
    assert {len(answer.active) for answer in answers} == {replicas - 1, replicas}
    found = await loop.cluster.admin.get(TENDPOINTS, NAME)
    assert [pod["id"] for pod in found["status"]["pods"]] == ["r2"] * replicas


async def test_without_any_controller_of_tars_labelled_pods_go_the_same_way(live_cluster: Cluster) -> None:
    async with going(live_cluster, controller=False, discover="pods") as loop:
        await loop.deploy(2)
        first, second = [await loop.running(n) for n in range(2)]
        addresses = [pod["status"]["podIP"] for pod in (first, second)]
        await loop.answers(inactive=tuple(addresses))
        async with loop.tarsnode(second) as node:
            await node.report(second["metadata"]["name"], "Active", "Active")
        await loop.answers(addresses[1], inactive=(addresses[0],))
        await loop.scale(1)
        await loop.answers(inactive=(addresses[0],))


async def test_states_that_were_reported_while_the_api_server_was_away_arrive_when_it_is_back(
    live_cluster: Cluster,
) -> None:
    """All of the cluster loses its API server, which is killed in the middle of a storm of reports."""
    replicas = 10
    states = ("Activating", "Active", "Deactivating")

    told: dict[int, list[str]] = {}
    all_told, back = asyncio.Event(), asyncio.Event()

    async def storm(ordinal: int, node: Tarsnode) -> str:
        """Report on and on until the API server is back; what was reported last."""
        for state in itertools.cycle(states[ordinal % 3 :] + states[: ordinal % 3]):
            try:
                await node.report(f"{NAME}-{ordinal}", "Active", state)
            except CallError as error:
                told.setdefault(ordinal, []).append(error.description)
                if len(told) == replicas:
                    all_told.set()
            if back.is_set():
                return state
        raise AssertionError("not reached")

    async with going(live_cluster, "--report-timeout=1") as loop, contextlib.AsyncExitStack() as stack:
        await loop.deploy(replicas)
        pods = [await loop.running(n) for n in range(replicas)]
        addresses = [pod["status"]["podIP"] for pod in pods]
        await loop.answers(inactive=tuple(addresses))
        nodes = [await stack.enter_async_context(loop.tarsnode(pod)) for pod in pods]
        reporting = [asyncio.create_task(storm(n, node)) for n, node in enumerate(nodes)]
        await loop.cluster.server.kill()
        async with asyncio.timeout(HAPPENS_WITHIN):
            await all_told.wait()
        await loop.cluster.server.restart()
        back.set()
        last = await asyncio.gather(*reporting)
        await loop.registry.until_metric(lambda queued: queued == 0, "reports_queued")
        assert not [text for texts in told.values() for text in texts if "is not written yet, but will be" not in text]
        found = {pod["metadata"]["name"]: reported(pod) for pod in (await loop.cluster.admin.list(PODS))["items"]}
        assert found == {f"{NAME}-{n}": ("Active", last[n], "27") for n in range(replicas)}
        active = [address for address, state in zip(addresses, last, strict=True) if state == "Active"]
        inactive = [address for address, state in zip(addresses, last, strict=True) if state != "Active"]
        await loop.answers(*active, inactive=tuple(inactive))
