"""What the kubernetes source follows for routing: the policy's ConfigMap, nodes, annotations that say it wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest

from registry.answers import Answers
from registry.kube.settings import ReflectorSettings
from registry.model import Kind, Node, PolicyText
from registry.routing.hosts import EndpointHost, Naming
from registry.routing.select import Lookup, Question, parse_id, select
from registry.sources.cluster_objects import ConfigMapObject, NodeObject, to_node, to_policy
from registry.sources.kubernetes import NODES, Discover, Followed, KubernetesSource, followed
from registry.sources.pod_hosts import PodHosts
from registry.sources.routing_keeper import RoutingKeeper
from registry.table import TableStore
from tests.registry.sources.test_kubernetes_source import PODS, TENDPOINTS, Cluster, Following
from tests.support import manifests
from tests.support.tables import HELLO
from tests.support.virtual_time import now, run_virtual

CONFIGMAPS: Final = "/api/v1/namespaces/tars/configmaps"
NODES_PATH: Final = "/api/v1/nodes"
POLICY: Final = Followed(Kind.POLICY, "tars", optional=True, name="routing")
NAMING: Final = Naming(EndpointHost.POD_IP)


def configmap(text: str) -> dict[str, Any]:
    return {"metadata": {"name": "routing"}, "data": {"routing.yaml": text}}


def node(name: str, address: str, zone: str, region: str = "north") -> dict[str, Any]:
    labels = {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": region, "other": "x"}
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
    return {"metadata": {"name": name, "labels": labels}, "status": {"addresses": addresses, "capacity": {"cpu": "2"}}}


class Routed(Following):
    """A source that follows a policy, and answers that go by it."""

    def __init__(
        self,
        source: KubernetesSource,
        store: TableStore,
        answers: Answers,
        keeper: RoutingKeeper,
        moves: list[float],
    ) -> None:
        super().__init__(source, store)
        self.answers = answers
        self.keeper = keeper
        self.moves = moves
        """When callers may have moved to other groups."""

    def hosts(self, caller: str) -> list[str]:
        """What a caller of this address would get."""
        question = Question(Lookup.SAME_GROUP, parse_id(HELLO), "", self.answers.callers.by_address(caller))
        return [e.host for e in select(self.store.table, NAMING, question, self.answers.policies.policy).active]


@asynccontextmanager
async def routed(cluster: Cluster) -> AsyncIterator[Routed]:
    parts = [*followed(Discover.TENDPOINTS, ["tars"]), POLICY]
    store = TableStore(part.part for part in parts)
    answers = Answers(store)
    source = KubernetesSource(cluster, store, parts, ReflectorSettings(list_spread=0))

    def want_topology(hosts: PodHosts) -> None:
        store.also_await(NODES.part)
        source.follow_topology(hosts)

    moves: list[float] = []
    keeper = RoutingKeeper(store, answers, lambda: moves.append(now()), want_topology, "ConfigMap routing")
    tasks = [asyncio.create_task(source.run()), asyncio.create_task(keeper.run())]
    try:
        yield Routed(source, store, answers, keeper, moves)
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def with_hello(cluster: Cluster, **annotations: str) -> None:
    hello = manifests.hello("10.1.0.1", "10.2.0.1")
    for number, pod in enumerate(hello["status"]["pods"]):
        pod["hostIP"] = f"192.168.0.{number + 1}"
    hello["metadata"]["annotations"] = {"tars.io/group": "on"} | {f"tars.io/{k}": v for k, v in annotations.items()}
    cluster[TENDPOINTS].apply(hello)


TWO: Final = "groups: [{id: 1, addresses: [10.1.0.0/16]}, {id: 2, addresses: [10.2.0.0/16]}]\n"


def test_a_policy_in_a_configmap_is_asked_for_by_name_and_followed() -> None:
    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        configs = cluster.add(CONFIGMAPS)
        configs.apply(configmap(TWO))
        async with routed(cluster) as at_work:
            await at_work.synced()
            assert at_work.hosts("10.2.9.9") == ["10.2.0.1"]
            asked = cluster.asked("configmaps")
            assert {request.parameters["fieldSelector"] for request in asked} == {"metadata.name=routing"}
            configs.apply(configmap(TWO.replace("10.2.0.0/16", "10.2.0.1, 10.3.0.0/16")))
            await at_work.until(lambda: at_work.hosts("10.3.9.9") == ["10.2.0.1"])
            assert len(at_work.hosts("10.2.9.9")) == 2

    run_virtual(main())


@pytest.mark.parametrize("change", ["broken", "without its entry", "deleted"])
def test_a_configmap_that_is_no_good_any_more_keeps_the_last_good_policy(
    change: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        configs = cluster.add(CONFIGMAPS)
        configs.apply(configmap(TWO))
        async with routed(cluster) as at_work:
            await at_work.synced()
            if change == "broken":
                configs.apply(configmap("groups: 5"))
            elif change == "deleted":
                configs.remove("routing")
            else:
                configs.apply({"metadata": {"name": "routing"}, "data": {"a": TWO, "b": TWO}})
            await at_work.until(lambda: at_work.keeper.status.state == "last good")
            assert at_work.hosts("10.2.9.9") == ["10.2.0.1"]
            assert "the last good one stays" in caplog.text
            assert at_work.keeper.status.errors == {"policy": 1}
            configs.apply(configmap(""))
            await at_work.until(lambda: at_work.keeper.status.state == "current")
            assert len(at_work.hosts("10.2.9.9")) == 2

    run_virtual(main())


def test_a_configmap_that_is_not_there_is_told_and_counts_once_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        configs = cluster.add(CONFIGMAPS)
        async with routed(cluster) as at_work:
            await at_work.synced()
            assert len(at_work.hosts("10.2.9.9")) == 2
            assert at_work.keeper.status.state == "none"
            (problem,) = at_work.keeper.status.problems
            assert str(problem).startswith("routing policy: ConfigMap routing is not there")
            assert caplog.text.count("ConfigMap routing is not there") == 1
            configs.apply(configmap(TWO))
            await at_work.until(lambda: at_work.hosts("10.2.9.9") == ["10.2.0.1"])
            assert at_work.keeper.status.problems == ()

    run_virtual(main())


def test_the_namespace_of_the_policy_is_not_one_whose_pods_are_callers() -> None:
    async def main() -> None:
        cluster = Cluster()
        parts = [*followed(Discover.TENDPOINTS, ["tars", "shop"]), Followed(Kind.POLICY, "ops", True, name="routing")]
        source = KubernetesSource(cluster, TableStore(), parts, ReflectorSettings(list_spread=0))
        source.follow_topology(PodHosts(lambda: None))
        added = [status.name for status in source.statuses][len(parts) :]
        assert added == ["nodes", "pod addresses in tars", "pod addresses in shop"]

    run_virtual(main())


def test_without_the_right_to_the_configmap_it_is_told_with_what_to_grant(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        cluster.add(CONFIGMAPS).refuses = 403, "configmaps is forbidden"
        async with routed(cluster) as at_work:
            await at_work.synced()
            assert len(at_work.hosts("10.2.9.9")) == 2
            assert "--resource=configmaps --resource-name=routing" in caplog.text

    run_virtual(main())


TOPOLOGY: Final = "from_topology: true\npriorities: [{station: near, groups: [zone-a, zone-c]}]\n"


def test_zones_of_nodes_are_groups_before_the_first_answer_and_as_they_change() -> None:
    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        cluster.add(CONFIGMAPS).apply(configmap(TOPOLOGY))
        nodes = cluster.add(NODES_PATH)
        nodes.apply(node("n1", "192.168.0.1", "zone-a"), "")
        nodes.apply(node("n2", "192.168.0.2", "zone-b"), "")
        async with routed(cluster) as at_work:
            await at_work.synced()
            assert at_work.hosts("10.2.0.1") == ["10.2.0.1"]  # a pod, by its node
            assert at_work.hosts("192.168.0.1") == ["10.1.0.1"]  # a node itself
            assert at_work.hosts("10.9.9.9") == ["10.1.0.1", "10.2.0.1"]
            policy = at_work.answers.policies.policy
            assert list(policy.stations) == ["near", "north"]
            assert policy.stations["near"] == {policy.ids["zone-a"]}
            nodes.apply(node("n2", "192.168.0.2", "zone-a"), "")
            await at_work.until(lambda: len(at_work.hosts("10.2.0.1")) == 2)

    run_virtual(main())


def test_a_pod_of_a_server_that_comes_later_is_known_as_a_caller_and_forgotten_when_it_goes() -> None:
    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        cluster.add(CONFIGMAPS).apply(configmap(TOPOLOGY))
        nodes = cluster.add(NODES_PATH)
        nodes.apply(node("n1", "192.168.0.1", "zone-a"), "")
        nodes.apply(node("n2", "192.168.0.2", "zone-b"), "")
        async with routed(cluster) as at_work:
            await at_work.synced()
            assert len(at_work.hosts("10.9.0.1")) == 2
            web = manifests.tendpoint(
                "Test", "Web", [{**manifests.pod("test-web-0", "10.9.0.1"), "hostIP": "192.168.0.2"}]
            )
            cluster[TENDPOINTS].apply(web)
            await at_work.until(lambda: at_work.hosts("10.9.0.1") == ["10.2.0.1"])
            cluster[TENDPOINTS].remove("test-web")
            await at_work.until(lambda: len(at_work.hosts("10.9.0.1")) == 2)

    run_virtual(main())


def caller(name: str, address: str, host: str, phase: str = "Running") -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"podIP": address, "hostIP": host, "phase": phase}}


def test_callers_that_are_no_servers_are_in_the_zone_of_their_node_too() -> None:
    """Any pod in the namespace, for as long as it has its address."""

    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        cluster.add(CONFIGMAPS).apply(configmap(TOPOLOGY))
        nodes = cluster.add(NODES_PATH)
        nodes.apply(node("n1", "192.168.0.1", "zone-a"), "")
        nodes.apply(node("n2", "192.168.0.2", "zone-b"), "")
        pods = cluster[PODS]
        pods.apply(caller("web-1", "10.9.0.1", "192.168.0.1"))
        pods.apply(caller("job-1", "10.9.0.7", "192.168.0.1", "Succeeded"))
        async with routed(cluster) as at_work:
            await at_work.until(lambda: at_work.hosts("10.9.0.1") == ["10.1.0.1"])
            assert len(at_work.hosts("10.9.0.7")) == 2
            moves = len(at_work.moves)
            pods.apply(caller("web-2", "10.9.0.2", "192.168.0.2"))
            await at_work.until(lambda: at_work.hosts("10.9.0.2") == ["10.2.0.1"])
            assert len(at_work.moves) > moves
            pods.remove("web-1")
            await at_work.until(lambda: len(at_work.hosts("10.9.0.1")) == 2)
            # The address of a pod that ends may be another's before its own end is told.
            pods.apply(caller("web-3", "10.9.0.2", "192.168.0.1"))
            pods.remove("web-2")
            await at_work.until(lambda: at_work.hosts("10.9.0.2") == ["10.1.0.1"])

    run_virtual(main())


def test_without_the_right_to_pods_servers_alone_are_known_as_callers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        cluster.add(CONFIGMAPS).apply(configmap(TOPOLOGY))
        cluster.add(NODES_PATH).apply(node("n1", "192.168.0.1", "zone-a"), "")
        cluster[PODS].refuses = 403, "pods is forbidden"
        async with routed(cluster) as at_work:
            await at_work.synced()
            await at_work.until(lambda: "pod addresses in tars: going on without" in caplog.text)
            assert at_work.hosts("10.1.0.1") == ["10.1.0.1"]

    run_virtual(main())


def test_without_the_right_to_nodes_zones_are_off_and_one_line_tells(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        cluster = Cluster()
        with_hello(cluster)
        cluster.add(CONFIGMAPS).apply(configmap(TOPOLOGY))
        cluster.add(NODES_PATH).refuses = 403, "nodes is forbidden"
        async with routed(cluster) as at_work:
            await at_work.synced()
            assert len(at_work.hosts("10.2.0.1")) == 2
            await asyncio.sleep(300)
            told = [record.getMessage() for record in caplog.records if "nodes" in record.getMessage()]
            assert len(told) == 1
            assert "kubectl create clusterrole tars-registry-nodes --verb=get,list,watch --resource=nodes" in told[0]

    run_virtual(main())


def test_nodes_are_not_asked_for_while_no_policy_wants_them() -> None:
    async def main() -> None:
        cluster = Cluster()
        configs = cluster.add(CONFIGMAPS)
        configs.apply(configmap(TWO))
        nodes = cluster.add(NODES_PATH)
        nodes.apply(node("n1", "192.168.0.1", "zone-a"), "")
        async with routed(cluster) as at_work:
            await at_work.synced()
            assert cluster.asked("nodes") == []
            configs.apply(configmap(TOPOLOGY))
            await at_work.until(lambda: "zone-a" in at_work.answers.policies.policy.ids)

    run_virtual(main())


def test_annotations_that_are_passed_over_are_told_once_and_shown_while_they_stand(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.add(CONFIGMAPS)
        with_hello(cluster, weight="heavy")
        async with routed(cluster) as at_work:
            await at_work.synced()
            for flow in ("on", "off"):
                with_hello(cluster, weight="heavy", flow=flow)
                await at_work.until(lambda: not at_work.hosts("10.2.0.1"), 5) if flow == "off" else None
            status = at_work.status("tendpoints")
            assert [str(problem) for problem in status.problems] == [
                "tars/test-helloserver: tars.io/weight: expected a whole number from 0 to 100, got 'heavy'; passed over"
            ]
            assert status.errors["annotation"] == 1
            assert caplog.text.count("tars.io/weight: expected") == 1
            with_hello(cluster)
            await at_work.until(lambda: not at_work.status("tendpoints").problems)
            with_hello(cluster, weight="heavy")
            await at_work.until(lambda: bool(at_work.status("tendpoints").problems))
            cluster[TENDPOINTS].remove("test-helloserver")
            await at_work.until(lambda: not at_work.status("tendpoints").problems)

    run_virtual(main())


# -- the objects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text", "problem"),
    [
        ({"routing.yaml": "a"}, "a", ""),
        ({"any": "a"}, "a", ""),
        ({"routing.yaml": "a", "other": "b"}, "a", ""),
        ({"x": "a", "y": "b"}, "", "it has 2 entries and none is named routing.yaml; put the policy there"),
        ({}, "", "it has no entries and none is named routing.yaml; put the policy there"),
        (None, "", "it has no entries and none is named routing.yaml; put the policy there"),
    ],
)
def test_the_policy_is_the_entry_of_its_name_or_the_only_one(
    data: dict[str, str] | None, text: str, problem: str
) -> None:
    raw = {"metadata": {"name": "routing", "namespace": "tars"}, "data": data}
    assert to_policy(msgspec.convert(raw, ConfigMapObject)) == PolicyText("tars", "routing", text, problem)


def test_a_node_is_its_addresses_zone_and_region() -> None:
    found = to_node(msgspec.convert(node("n1", "192.168.0.1", "zone-a"), NodeObject))
    assert found == Node("n1", ("192.168.0.1",), "zone-a", "north")
    bare = to_node(msgspec.convert({"metadata": {"name": "n2"}}, NodeObject))
    assert bare == Node("n2")
    old = {"metadata": {"name": "n3", "labels": {"failure-domain.beta.kubernetes.io/zone": "z"}}}
    assert msgspec.structs.replace(to_node(msgspec.convert(old, NodeObject)), zone="") == Node("n3")
