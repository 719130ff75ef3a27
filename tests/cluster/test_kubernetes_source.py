"""The service on a real API server: its answers follow the cluster, whatever happens between the two."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tars_protocol.errors import CallError
from tests.cluster.apiserver import ApiServer, find
from tests.cluster.certificates import Authority
from tests.cluster.client import (
    CRDS,
    PODS,
    SERVICE_ACCOUNTS,
    TENDPOINTS,
    TFRAMEWORKCONFIGS,
    ApiError,
    Client,
    Resource,
)
from tests.cluster.conftest import Cluster, namespace_of
from tests.cluster.crds import GROUP
from tests.cluster.proxy import Proxy
from tests.cluster.support_service import QUICK, Registry, asking, following, lists
from tests.prove import rounds
from tests.prove.rounds import World, labelled_pod, readiness
from tests.support.manifests import framework, hello, pod, tendpoint

pytestmark = pytest.mark.cluster

HELLO = "Test.HelloServer.HelloObj"
HELLO_OBJECT = "test-helloserver"
UP_CHAIN = [{"host": "192.0.2.50", "port": 19900}]
KINDS = ("tendpoints", "ttemplates", "tframeworkconfigs")
LOOKUPS = {
    "findObjectById4Any": (HELLO,),
    "findObjectById4All": (HELLO,),
    "findObjectByIdInSameGroup": (HELLO,),
    "findObjectByIdInSameStation": (HELLO, "station"),
    "findObjectByIdInSameSet": (HELLO, "a.b.c"),
}
"""Those that return an int, with arguments."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bare_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """An API server that was never told of the tars kinds."""
    programs = find()
    if programs is None:
        pytest.skip("the API server is not built: run tests/cluster/install")
    async with ApiServer(programs, tmp_path_factory.mktemp("bare")) as server:
        yield server


@pytest.fixture
async def uncached_proxy(uncached_cluster: Cluster) -> AsyncIterator[Proxy]:
    """A proxy before the API server without watch cache."""
    async with Proxy("127.0.0.1", uncached_cluster.server.port) as proxy:
        yield proxy


def rule(*plurals: str) -> dict[str, Sequence[str]]:
    """The right to follow these."""
    return {"apiGroups": [GROUP], "resources": plurals, "verbs": ["get", "list", "watch"]}


POD_RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}


def kubeconfig(cluster: Cluster, proxy: Proxy | None = None, **how: Any) -> Path:
    return cluster.server.kubeconfig(namespace=cluster.namespace, port=proxy.port if proxy else None, **how)


async def until_refused(client: Client) -> int:
    """Wait until the API server refuses this client what it did before; the code."""
    while True:
        try:
            await client.list(TENDPOINTS, limit="1")
        except ApiError as error:
            return error.code


async def expect_rule_6(registry: Registry) -> None:
    """Nobody is told that there is nothing; the registry itself is known all the same."""
    for name, arguments in LOOKUPS.items():
        value, active, inactive = await registry.client.call(name, *arguments)
        assert (name, value, active, inactive) == (name, -1, (), ())
    with pytest.raises(CallError, match="not synchronised") as refused:
        await registry.client.call("findObjectById", HELLO)
    assert refused.value.code == -99
    await expect_itself(registry)


async def expect_itself(registry: Registry) -> None:
    """The registry's own objects are answered."""
    for name, port in (("QueryObj", registry.service.query_port), ("RegistryObj", registry.service.registry_port)):
        assert await registry.ask(f"tars.tarsregistry.{name}") == lists(f"127.0.0.1:{port}")


# ------------------------------------------------------------------------------------------------- following


async def test_answers_follow_an_endpoint_from_its_creation_to_its_end(cluster: Cluster) -> None:
    async with following(kubeconfig(cluster)) as registry:
        await registry.until_ready()
        assert await registry.ask(HELLO) == lists()
        await cluster.admin.create(hello("10.0.0.1", "10.0.0.2"))
        await registry.until(HELLO, lists("10.0.0.1", "10.0.0.2"))
        changed = {
            "pods": [
                pod(f"{HELLO_OBJECT}-0", "10.0.0.1", ("Active", "Activating")),
                pod(f"{HELLO_OBJECT}-1", "10.0.0.9"),
            ]
        }
        await cluster.admin.patch(TENDPOINTS, HELLO_OBJECT, {"status": changed}, subresource="status")
        await registry.until(HELLO, lists("10.0.0.9", inactive=["10.0.0.1"]))
        change = {"servants": [{"name": "HelloObj", "port": 18200, "timeout": 3000, "isTcp": True, "isTars": True}]}
        await cluster.admin.patch(TENDPOINTS, HELLO_OBJECT, {"spec": {"tars": change}})
        await registry.until(HELLO, lists("10.0.0.9:18200", inactive=["10.0.0.1:18200"]))
        await cluster.admin.delete(TENDPOINTS, HELLO_OBJECT)
        await registry.until(HELLO, lists())
        await cluster.admin.create(hello("10.0.0.3"))
        await registry.until(HELLO, lists("10.0.0.3"))


async def test_an_equal_rewrite_changes_no_version(cluster: Cluster) -> None:
    await cluster.admin.apply(hello("10.0.0.1"))
    async with following(kubeconfig(cluster)) as registry:
        version = await registry.metric("table_version")
        seen = await registry.metric("source_resource_version", source=f"tendpoints in {cluster.namespace}")
        await cluster.admin.patch(TENDPOINTS, HELLO_OBJECT, {"metadata": {"annotations": {"touched": "yes"}}})
        await registry.until_metric(
            lambda now: now > seen, "source_resource_version", source=f"tendpoints in {cluster.namespace}"
        )
        assert await registry.metric("table_version") == version


async def test_an_object_that_makes_no_sense_is_left_out_and_nothing_else_is(cluster: Cluster) -> None:
    bad = tendpoint("Test", "BadServer")
    bad["spec"]["tars"] = ["no"]
    await cluster.admin.create(bad)
    await cluster.admin.create(hello("10.0.0.1"))
    async with following(kubeconfig(cluster)) as registry:
        await registry.service.says(f"{cluster.namespace}/test-badserver.*left out")
        await registry.until_ready()
        assert await registry.ask(HELLO) == lists("10.0.0.1")
        await cluster.admin.delete(TENDPOINTS, "test-badserver")
        await cluster.admin.create(tendpoint("Test", "BadServer", [pod("test-badserver-0", "10.0.0.2")]))
        await registry.until("Test.BadServer.HelloObj", lists("10.0.0.2"))


async def test_unknown_servers_are_looked_for_up_the_chain_as_it_is_now(cluster: Cluster) -> None:
    async with following(kubeconfig(cluster)) as registry:
        await cluster.admin.create(framework(default=UP_CHAIN))
        await registry.until("Other.Server.Obj", lists("192.0.2.50:19900"))
        await cluster.admin.patch(TFRAMEWORKCONFIGS, "tars-framework", {"upChain": {"Other.Server.Obj": UP_CHAIN * 2}})
        await registry.until("Other.Server.Obj", lists("192.0.2.50:19900", "192.0.2.50:19900"))
        other = framework(default=[{"host": "192.0.2.99", "port": 1}])
        other["metadata"]["name"] = "of-somebody-else"
        await cluster.admin.create(other)
        await cluster.admin.create(hello())
        await registry.until(HELLO, lists())
        assert await registry.ask("Another.Server.Obj") == lists("192.0.2.50:19900")
        await cluster.admin.delete(TFRAMEWORKCONFIGS, "tars-framework")
        await registry.until("Other.Server.Obj", lists())


async def test_several_namespaces_are_one_table(cluster: Cluster) -> None:
    server = cluster.server
    async with namespace_of(server) as second, namespace_of(server) as third:
        await cluster.admin.create(hello("10.0.0.1"))
        await second.admin.create(tendpoint("Test", "Second", [pod("test-second-0", "10.0.0.2")]))
        await third.admin.create(tendpoint("Test", "Third", [pod("test-third-0", "10.0.0.3")]))
        names = f"{cluster.namespace}, {second.namespace}"
        async with following(kubeconfig(cluster), namespace=names) as registry:
            assert await registry.ask(HELLO) == lists("10.0.0.1")
            assert await registry.ask("Test.Second.HelloObj") == lists("10.0.0.2")
            assert await registry.ask("Test.Third.HelloObj") == lists()
            await second.admin.delete(TENDPOINTS, "test-second")
            await registry.until("Test.Second.HelloObj", lists())
            assert await registry.ask(HELLO) == lists("10.0.0.1")


# ------------------------------------------------------------------------------------------------------ pods


async def remove_kinds(admin: Client) -> None:
    """Undo create_crds."""
    for plural in KINDS:
        await admin.delete(CRDS, f"{plural}.{GROUP}")
    for plural in KINDS:
        with contextlib.suppress(ApiError):
            while True:
                await admin.request("GET", Resource(f"{GROUP}/v1beta2", plural).path())


async def test_pods_are_servers_on_a_cluster_that_knows_no_tars_kinds(bare_server: ApiServer) -> None:
    async with bare_server.client(namespace="default") as admin:
        path = bare_server.kubeconfig()
        async with following(path, discover="pods") as registry:
            await registry.until_ready()
            for plural in ("ttemplates", "tframeworkconfigs"):
                await registry.service.says(f"{plural} in default: going on without:")
            await current(registry)
            object_id = "Test.Pods.HelloObj"
            assert await registry.ask(object_id) == lists()
            for ordinal in range(3):
                await admin.create(labelled_pod("Pods", ordinal, f"10.0.0.{ordinal}", ready=False))
            await registry.until(object_id, lists(inactive=["10.0.0.0", "10.0.0.1", "10.0.0.2"]))
            for ordinal in range(2):
                change = readiness(True)
                await admin.patch(PODS, f"test-pods-{ordinal}", change, how="strategic", subresource="status")
            await registry.until(object_id, lists("10.0.0.0", "10.0.0.1", inactive=["10.0.0.2"]))
            await admin.delete(PODS, "test-pods-1")
            await registry.until(object_id, lists("10.0.0.0", inactive=["10.0.0.2"]))
        await admin.delete_all(PODS)


async def test_a_pod_that_is_to_go_is_inactive_at_once_though_it_is_ready(cluster: Cluster) -> None:
    await cluster.admin.create(labelled_pod("Pods", 0, "10.0.0.1", finalizers=["tests/hold"]))
    async with following(kubeconfig(cluster), discover="pods") as registry:
        assert await registry.ask("Test.Pods.HelloObj") == lists("10.0.0.1")
        await cluster.admin.delete(PODS, "test-pods-0")
        await registry.until("Test.Pods.HelloObj", lists(inactive=["10.0.0.1"]))
        kept = await cluster.admin.get(PODS, "test-pods-0")
        assert "deletionTimestamp" in kept["metadata"]
        await cluster.admin.patch(PODS, "test-pods-0", {"metadata": {"finalizers": None}})
        await registry.until("Test.Pods.HelloObj", lists())


async def test_servants_of_pods_come_from_the_annotation_or_from_named_ports(cluster: Cluster) -> None:
    short = labelled_pod("Short", 0, "10.0.0.1")
    short["metadata"]["annotations"]["tars.io/servants"] = "OrderObj:21010/tcp, AdminObj:21011/udp"
    long = labelled_pod("Long", 0, "10.0.0.2")
    long["metadata"]["annotations"]["tars.io/servants"] = "- {name: OrderObj, port: 21012, isTcp: true, timeout: 5000}"
    named = labelled_pod("Named", 0, "10.0.0.3")
    del named["metadata"]["annotations"]
    named["spec"]["containers"][0]["ports"] = [{"name": "orderobj", "containerPort": 21013}]
    plain = labelled_pod("Plain", 0, "10.0.0.4")
    del plain["metadata"]["labels"]
    for manifest in (short, long, named, plain):
        await cluster.admin.create(manifest)
    async with following(kubeconfig(cluster), discover="pods") as registry:
        assert await registry.ask("Test.Short.OrderObj") == lists("10.0.0.1:21010")
        assert await registry.ask("Test.Short.AdminObj") == lists("10.0.0.1:21011")
        assert await registry.ask("Test.Long.OrderObj") == lists("10.0.0.2:21012")
        assert await registry.ask("Test.Named.OrderObj") == lists("10.0.0.3:21013")
        assert await registry.metric("table_pods") == 3
        await cluster.admin.patch(PODS, "test-short-0", {"metadata": {"annotations": {"tars.io/servants": "A:1/tcp"}}})
        await registry.until("Test.Short.A", lists("10.0.0.1:1"))
        await cluster.admin.patch(PODS, "test-short-0", {"metadata": {"labels": {"tars.io/ServerApp": None}}})
        await registry.until("Test.Short.A", lists())


async def test_where_both_are_followed_an_endpoint_stands_above_the_pods_of_its_server(cluster: Cluster) -> None:
    await cluster.admin.create(labelled_pod("HelloServer", 0, "10.0.0.1"))
    await cluster.admin.create(labelled_pod("Pods", 0, "10.0.0.2"))
    async with following(kubeconfig(cluster), discover="both") as registry:
        assert await registry.ask(HELLO) == lists("10.0.0.1")
        assert await registry.ask("Test.Pods.HelloObj") == lists("10.0.0.2")
        await cluster.admin.apply(hello("10.0.0.3"))
        await registry.until(HELLO, lists("10.0.0.3"))
        await cluster.admin.delete(TENDPOINTS, HELLO_OBJECT)
        await registry.until(HELLO, lists("10.0.0.1"))


# --------------------------------------------------------------------------------------------------- outages


async def test_through_kills_of_the_api_server_no_question_fails_and_the_table_is_exact_after_each(
    cluster: Cluster,
) -> None:
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    world = World(chance)
    await world.fill(cluster.admin)
    async with (
        rounds.sibling(cluster.server, cluster.namespace) as other,
        following(kubeconfig(cluster), discover="both") as registry,
        asking(registry, rounds.STEADY, rounds.STEADY_AT, world.ids[1:]) as asker,
    ):
        for number in range(5):
            took = await rounds.kill_round(cluster.server, other, registry, world, chance, longest_gap=1.0)
            print(f"seed {seed}, round {number + 1}: {took}; {asker.asked} questions, slowest {asker.slowest:.3f} s")
            assert took.after_return < 3.0
            await registry.until_ready()


async def test_what_happened_in_the_gap_is_seen_though_its_history_was_compacted(
    uncached_cluster: Cluster, uncached_proxy: Proxy
) -> None:
    admin, proxy = uncached_cluster.admin, uncached_proxy
    await admin.apply(hello("10.0.0.1"))
    await admin.apply(tendpoint("Test", "Steady", [pod("test-steady-0", "10.0.0.2")]))
    await admin.apply(tendpoint("Test", "Gone", [pod("test-gone-0", "10.0.0.3")]))
    steady, gone, new = (f"Test.{name}.HelloObj" for name in ("Steady", "Gone", "New"))
    async with (
        following(kubeconfig(uncached_cluster, proxy)) as registry,
        asking(registry, steady, lists("10.0.0.2"), [HELLO, gone]),
    ):
        assert await registry.ask(gone) == lists("10.0.0.3")
        await proxy.refuse()
        await proxy.cut()
        await admin.delete(TENDPOINTS, "test-gone")
        await admin.apply(hello("10.0.0.9"))
        await admin.apply(tendpoint("Test", "New", [pod("test-new-0", "10.0.0.4")]))
        await uncached_cluster.server.compact()
        await registry.until_metric(lambda age: age > 0.5, "staleness_seconds")
        assert await registry.ask(gone) == lists("10.0.0.3")
        assert (await registry.readiness())[0] == 200
        await proxy.listen()
        await registry.until(gone, lists(), timeout=3.0)
        await registry.until(HELLO, lists("10.0.0.9"))
        await registry.until(new, lists("10.0.0.4"))
        source = f"tendpoints in {uncached_cluster.namespace}"
        assert await registry.metric("source_relists_total", source=source) == 1
        assert await registry.metric("source_errors_total", source=source, reason="expired") == 1
        await current(registry)


async def test_a_watch_that_is_cut_is_resumed_without_a_list(uncached_cluster: Cluster, uncached_proxy: Proxy) -> None:
    admin, proxy = uncached_cluster.admin, uncached_proxy
    await admin.apply(hello("10.0.0.1"))
    await admin.apply(tendpoint("Test", "Gone", [pod("test-gone-0", "10.0.0.3")]))
    async with following(kubeconfig(uncached_cluster, proxy)) as registry:
        assert await registry.ask("Test.Gone.HelloObj") == lists("10.0.0.3")
        for number in range(3):
            await proxy.refuse()
            await proxy.cut()
            await admin.apply(hello(f"10.0.1.{number}"))
            if number == 1:
                await admin.delete(TENDPOINTS, "test-gone")
            await proxy.listen()
            await registry.until(HELLO, lists(f"10.0.1.{number}"))
        await registry.until("Test.Gone.HelloObj", lists())
        assert await registry.metric("source_relists_total") == 0


async def test_a_connection_that_is_half_open_is_given_up(uncached_cluster: Cluster, uncached_proxy: Proxy) -> None:
    """Idle for 3 s instead of 68, and without bookmarks: the time-out alone must find it."""
    admin, proxy = uncached_cluster.admin, uncached_proxy
    await admin.apply(hello("10.0.0.1"))
    async with (
        following(kubeconfig(uncached_cluster, proxy), "--watch-idle-timeout=3") as registry,
        asking(registry, HELLO, lists("10.0.0.1")) as asker,
    ):
        # The old connections hang without an end; new ones go another way.
        proxy.stall()
        await proxy.refuse()
        await admin.create(tendpoint("Test", "New", [pod("test-new-0", "10.0.0.4")]))
        way = Proxy("127.0.0.1", uncached_cluster.server.port)
        way.port = proxy.port
        async with way:
            await registry.until("Test.New.HelloObj", lists("10.0.0.4"), timeout=3 + 3)
        source = f"tendpoints in {uncached_cluster.namespace}"
        assert await registry.metric("source_errors_total", source=source, reason="idle") >= 1
        assert await registry.metric("source_relists_total") == 0
        assert asker.asked > 100


# ----------------------------------------------------------------------------------- credentials that change


async def test_a_token_that_was_rotated_is_taken_up(cluster: Cluster, proxy: Proxy, tmp_path: Path) -> None:
    admin = cluster.admin
    await admin.apply(hello("10.0.0.1"))
    for account in ("old", "new"):
        await admin.service_account_token(account)
        await admin.grant(f"sa:{account}", rule(*KINDS), name=account)
    old = await admin.service_account_token("old")
    token_file = tmp_path / "token"
    token_file.write_text(f"{old}\n")
    async with (
        following(kubeconfig(cluster, proxy, token_file=token_file)) as registry,
        asking(registry, HELLO, lists("10.0.0.1")),
    ):
        token_file.write_text(f"{await admin.service_account_token('new')}\n")
        await admin.delete(SERVICE_ACCOUNTS, "old")
        async with cluster.server.client(token=old, namespace=cluster.namespace) as as_old:
            # A token that was good stays so for 10 s in the API server's memory.
            assert await until_refused(as_old) == 401
        await proxy.cut()
        await admin.create(tendpoint("Test", "New", [pod("test-new-0", "10.0.0.4")]))
        await registry.until("Test.New.HelloObj", lists("10.0.0.4"), timeout=3.0)
        await registry.until_ready()


async def test_a_certificate_authority_that_was_rotated_is_taken_up(
    cluster: Cluster, proxy: Proxy, tmp_path: Path
) -> None:
    admin, server = cluster.admin, cluster.server
    await admin.apply(hello("10.0.0.1"))
    first = server.authority
    trusted = Path(shutil.copy(server.ca_file, tmp_path / "ca.crt"))
    second = await Authority.make(tmp_path / "second")
    try:
        async with (
            following(kubeconfig(cluster, proxy, ca_file=trusted)) as registry,
            asking(registry, HELLO, lists("10.0.0.1")),
        ):
            # The server is first, then the file: in between nothing can be connected.
            await server.serve_with(second)
            await proxy.cut()
            await registry.service.says(r"tendpoints in .* is not trusted")
            assert (await registry.readiness())[0] == 200
            await admin.create(tendpoint("Test", "New", [pod("test-new-0", "10.0.0.4")]))
            shutil.copy(second.certificate, trusted)
            await registry.until("Test.New.HelloObj", lists("10.0.0.4"), timeout=3.0)
            await registry.service.says("certificates changed; connecting anew")
    finally:
        await server.serve_with(first)


# -------------------------------------------------------------------------- what an operator forgot, and mends


async def test_a_bad_token_is_named_and_a_good_one_is_taken_up(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.admin.apply(hello("10.0.0.1"))
    token_file = tmp_path / "token"
    token_file.write_text("no-such-token")
    async with following(kubeconfig(cluster, token_file=token_file), *QUICK, synced=False) as registry:
        await registry.service.says(rf"tendpoints in {cluster.namespace}: .*does not take our credentials .*401")
        await registry.until_not_ready("not synchronised", "tendpoints", "does not take our credentials")
        await expect_rule_6(registry)
        token_file.write_text(cluster.server.tokens["admin"])
        await recovers(registry)


async def current(registry: Registry) -> None:
    """Wait until the metrics say that the table is."""
    await registry.until_metric(lambda age: age < 0.1, "staleness_seconds")


async def recovers(registry: Registry) -> None:
    """What was wrong is mended: it is ready and answers without a restart."""
    await registry.until_ready()
    assert await registry.ask(HELLO) == lists("10.0.0.1")
    await expect_itself(registry)
    await current(registry)


async def test_missing_rights_are_named_with_the_command_that_grants_them(cluster: Cluster) -> None:
    await cluster.admin.apply(hello("10.0.0.1"))
    async with following(kubeconfig(cluster, user="limited"), *QUICK, synced=False) as registry:
        for plural in KINDS:
            name = f"tars-registry-{plural}"
            await registry.service.says(
                rf"WARNING .* {plural} in {cluster.namespace}: {plural}.{GROUP} .*is forbidden: "
                rf'User "limited" cannot .*'
                rf"grant it with: kubectl -n {cluster.namespace} create role {name} --verb=get,list,watch "
                rf"--resource={plural}.{GROUP} && "
                rf"kubectl -n {cluster.namespace} create rolebinding {name} --role={name} "
            )
        text = await registry.until_not_ready(
            "not synchronised", *(f"create role tars-registry-{each}" for each in KINDS)
        )
        assert "waiting for" in text
        await expect_rule_6(registry)
        # One after the other, as somebody who follows the lines does.
        await cluster.admin.grant("limited", rule("tendpoints"), name="one")
        await registry.until_metric(lambda synced: synced == 1, "source_synchronised")
        await expect_rule_6(registry)
        await cluster.admin.grant("limited", rule("ttemplates", "tframeworkconfigs"), name="two")
        await recovers(registry)


async def test_rights_that_are_taken_away_leave_the_table_as_it_was(cluster: Cluster, proxy: Proxy) -> None:
    await cluster.admin.apply(hello("10.0.0.1"))
    await cluster.admin.grant("limited", rule(*KINDS))
    async with following(kubeconfig(cluster, proxy, user="limited"), *QUICK) as registry:
        assert await registry.ask(HELLO) == lists("10.0.0.1")
        await cluster.admin.request(
            "DELETE", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{cluster.namespace}/rolebindings/granted"
        )
        async with cluster.server.client("limited", namespace=cluster.namespace) as limited:
            assert await until_refused(limited) == 403
        await proxy.cut()
        await registry.service.says("tendpoints in .* is forbidden: .*grant it with: kubectl")
        await cluster.admin.apply(hello("10.0.0.2"))
        await registry.until_metric(lambda age: age > 0, "staleness_seconds")
        assert await registry.ask(HELLO) == lists("10.0.0.1")
        assert (await registry.readiness())[0] == 200
        await cluster.admin.grant("limited", rule(*KINDS))
        await registry.until(HELLO, lists("10.0.0.2"))


async def test_what_is_optional_is_gone_without_where_rights_are_missing(cluster: Cluster) -> None:
    await cluster.admin.create(labelled_pod("HelloServer", 0, "10.0.0.1"))
    await cluster.admin.create(framework(default=UP_CHAIN))
    await cluster.admin.grant("limited", POD_RULE, name="pods")
    async with following(kubeconfig(cluster, user="limited"), *QUICK, discover="pods") as registry:
        await registry.until_ready()
        for plural in ("ttemplates", "tframeworkconfigs"):
            await registry.service.says(rf"{plural} in .*: going on without: .*forbidden.*grant it with: kubectl")
        assert await registry.ask(HELLO) == lists("10.0.0.1")
        assert await registry.ask("Other.Server.Obj") == lists()
        await current(registry)
        said = [line for line in registry.service.lines if "ttemplates in" in line]
        assert len(said) == 1, said
        await cluster.admin.grant("limited", rule("tframeworkconfigs"), name="up-chain")
        await registry.until("Other.Server.Obj", lists("192.0.2.50:19900"))


async def test_pods_without_the_right_to_them_are_missing(cluster: Cluster) -> None:
    await cluster.admin.create(labelled_pod("HelloServer", 0, "10.0.0.1"))
    async with following(kubeconfig(cluster, user="limited"), *QUICK, discover="pods", synced=False) as registry:
        await registry.service.says(
            rf'pods in {cluster.namespace}: pods is forbidden: User "limited" cannot .*grant it with: '
            rf"kubectl -n {cluster.namespace} create role tars-registry-pods --verb=get,list,watch --resource=pods "
        )
        await registry.until_not_ready("not synchronised", "create role tars-registry-pods")
        await expect_rule_6(registry)
        await cluster.admin.grant("limited", POD_RULE)
        await recovers(registry)


async def test_a_server_that_is_not_trusted_is_named(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.admin.apply(hello("10.0.0.1"))
    other = await Authority.make(tmp_path / "other")
    trusted = Path(shutil.copy(other.certificate, tmp_path / "ca.crt"))
    async with following(kubeconfig(cluster, ca_file=trusted), *QUICK, synced=False) as registry:
        where = f"127.0.0.1:{cluster.server.port}"
        await registry.service.says(rf"the certificate of {where} is not trusted: ")
        await registry.until_not_ready("not synchronised", f"the certificate of {where} is not trusted")
        await expect_rule_6(registry)
        shutil.copy(cluster.server.ca_file, trusted)
        await recovers(registry)


async def test_kinds_that_are_missing_are_named_and_the_older_version_of_them_will_do(bare_server: ApiServer) -> None:
    async with bare_server.client(namespace="default") as admin:
        async with following(bare_server.kubeconfig(), *QUICK, synced=False) as registry:
            for plural in KINDS:
                await registry.service.says(
                    f"{plural} in default: the API server has no {plural} in default .*404.*"
                    "install it with: the chart of TARS on Kubernetes, or use --discover pods"
                )
            await registry.until_not_ready("not synchronised", "the API server has no tendpoints")
            await expect_rule_6(registry)
            await bare_server.create_crds(served=("v1beta2",))
            for manifest in (hello("10.0.0.1"), framework(default=UP_CHAIN)):
                await admin.create({**manifest, "apiVersion": f"{GROUP}/v1beta2"})
            # It looks for both versions, one after the other, with pauses that grow.
            await registry.until_ready()
            await registry.until(HELLO, lists("10.0.0.1"))
            await registry.until("Other.Server.Obj", lists("192.0.2.50:19900"))
        async with following(bare_server.kubeconfig()) as registry:
            await recovers(registry)
            await admin.patch(
                Resource(f"{GROUP}/v1beta2", "tendpoints"),
                HELLO_OBJECT,
                {"status": {"pods": [pod(f"{HELLO_OBJECT}-0", "10.0.0.2")]}},
                subresource="status",
            )
            await registry.until(HELLO, lists("10.0.0.2"))
        await remove_kinds(admin)


# -------------------------------------------------------------------------------------------------- snapshot


async def test_a_registry_that_starts_in_an_outage_serves_its_snapshot(
    cluster: Cluster, proxy: Proxy, tmp_path: Path
) -> None:
    admin = cluster.admin
    await admin.apply(hello("10.0.0.1"))
    await admin.create(framework(default=UP_CHAIN))
    path = kubeconfig(cluster, proxy)
    kept = f"--snapshot-path={tmp_path / 'table'}"
    async with following(path, kept) as registry:
        await recovers(registry)
    await proxy.refuse()
    await proxy.cut()
    await admin.apply(hello("10.0.0.2"))
    async with following(path, kept, synced=False) as registry:
        await registry.service.says("serving the table of .* s ago")
        await registry.until_ready(timeout=1.0)
        assert await registry.ask(HELLO) == lists("10.0.0.1")
        assert await registry.ask("Other.Server.Obj") == lists("192.0.2.50:19900")
        await expect_itself(registry)
        assert 0 < await registry.metric("staleness_seconds") < 60
        assert await registry.metric("source_synchronised") == 0
        await proxy.listen()
        await registry.until(HELLO, lists("10.0.0.2"), timeout=3.0)
        await current(registry)
        await registry.until_ready()


async def test_without_a_good_snapshot_a_registry_that_starts_in_an_outage_says_so(
    cluster: Cluster, proxy: Proxy, tmp_path: Path
) -> None:
    await cluster.admin.apply(hello("10.0.0.1"))
    snapshot = tmp_path / "table"
    snapshot.write_bytes(b"half a ta")
    await proxy.refuse()
    async with following(kubeconfig(cluster, proxy), f"--snapshot-path={snapshot}", synced=False) as registry:
        await registry.service.says("it is put aside as")
        await registry.service.says(rf"tendpoints in .*127.0.0.1:{proxy.port} can't be reached")
        await registry.until_not_ready("not synchronised", "can't be reached")
        await expect_rule_6(registry)
        await proxy.listen()
        await registry.until_ready(timeout=3.0)
        await recovers(registry)
