"""The API server of the tests: that it is one, and behaves as the tests that use it take for granted."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cluster.apiserver import ApiServer
from tests.cluster.certificates import Authority
from tests.cluster.client import (
    PODS,
    TENDPOINTS,
    TFRAMEWORKCONFIGS,
    TTEMPLATES,
    ApiError,
    Client,
    Object,
    Resource,
)
from tests.cluster.conftest import Cluster
from tests.cluster.proxy import Proxy
from tests.support.manifests import framework, hello, tendpoint

pytestmark = pytest.mark.cluster

HELLO = "test-helloserver"


def version_of(answer: Object) -> str:
    version: str = answer["metadata"]["resourceVersion"]
    return version


@pytest.fixture(params=["default", "uncached"])
def any_cluster(request: pytest.FixtureRequest) -> Cluster:
    """A cluster of each flavour in turn."""
    name = "cluster" if request.param == "default" else "uncached_cluster"
    cluster: Cluster = request.getfixturevalue(name)
    return cluster


# ------------------------------------------------------------------------------------------------ kinds


async def test_it_says_the_version_that_go_mod_asks_for(cluster: Cluster) -> None:
    go_mod = Path(__file__).with_name("tools") / "go.mod"
    wanted = re.search(r"^\tk8s\.io/kubernetes (v[0-9.]+)", go_mod.read_text(), re.MULTILINE)
    assert wanted is not None
    assert (await cluster.admin.request("GET", "/version"))["gitVersion"] == wanted[1]


async def test_an_object_is_the_same_in_both_versions(cluster: Cluster) -> None:
    made = await cluster.admin.create(hello("10.0.0.1", "10.0.0.2"))
    older = await cluster.admin.get(Resource("k8s.tars.io/v1beta2", "tendpoints"), HELLO)
    assert made["apiVersion"] == "k8s.tars.io/v1beta3"
    assert older["apiVersion"] == "k8s.tars.io/v1beta2"
    assert (older["spec"], older["status"]) == (made["spec"], made["status"])
    assert [each["podIP"] for each in made["status"]["pods"]] == ["10.0.0.1", "10.0.0.2"]


async def test_the_status_of_an_endpoint_is_written_apart(cluster: Cluster) -> None:
    made = await cluster.admin.create(hello("10.0.0.1"))
    made["spec"]["app"] = "Other"
    made["status"]["pods"] = []
    changed = await cluster.admin.update(made)
    assert (changed["spec"]["app"], len(changed["status"]["pods"])) == ("Other", 1)
    changed["spec"]["app"] = "Test"
    changed["status"]["pods"] = []
    changed = await cluster.admin.update(changed, subresource="status")
    assert (changed["spec"]["app"], len(changed["status"]["pods"])) == ("Other", 0)


async def test_an_endpoint_may_hold_what_makes_no_sense(cluster: Cluster) -> None:
    manifest = hello()
    manifest["spec"] = {"app": 7, "tars": ["no", {"servants": None}]}
    manifest["status"] = {"pods": {"not": "a list"}}
    made = await cluster.admin.create(manifest)
    assert (made["spec"], made["status"]) == (manifest["spec"], manifest["status"])


async def test_an_up_chain_gets_its_defaults(cluster: Cluster) -> None:
    await cluster.admin.create(framework(default=[{"host": "192.0.2.50", "port": 19900}]))
    found = await cluster.admin.get(TFRAMEWORKCONFIGS, "tars-framework")
    assert found["upChain"] == {"default": [{"host": "192.0.2.50", "port": 19900, "timeout": 6000, "isTcp": True}]}


async def test_a_template_without_a_parent_is_invalid(cluster: Cluster) -> None:
    manifest: dict[str, Any] = {
        "apiVersion": TTEMPLATES.version,
        "kind": "TTemplate",
        "metadata": {"name": "tars.cpp"},
        "spec": {"content": ""},
    }
    with pytest.raises(ApiError, match=r"spec\.parent: Required") as refused:
        await cluster.admin.create(manifest)
    assert refused.value.code == 422
    manifest["spec"]["parent"] = "tars.default"
    assert (await cluster.admin.create(manifest))["spec"]["parent"] == "tars.default"


async def test_only_the_versions_asked_for_are_served(api_server: ApiServer, tmp_path: Path) -> None:
    async with ApiServer(api_server.programs, tmp_path) as old:
        await old.create_crds(served=("v1beta2",))
        async with old.client() as admin:
            assert (await admin.list(Resource("k8s.tars.io/v1beta2", "tendpoints")))["items"] == []
            with pytest.raises(ApiError) as refused:
                await admin.list(TENDPOINTS)
    assert refused.value.code == 404


# -------------------------------------------------------------------------------------- lists and watches


async def test_a_watch_tells_each_write(any_cluster: Cluster) -> None:
    admin = any_cluster.admin
    before = await admin.list(TENDPOINTS)
    assert before["items"] == []
    async with admin.watch(TENDPOINTS, resourceVersion=version_of(before)) as watch:
        await admin.apply(hello("10.0.0.1"))
        await admin.apply(hello("10.0.0.1"))  # says nothing new, so it is none
        await admin.apply(hello("10.0.0.2"))
        await admin.delete(TENDPOINTS, HELLO)
        seen = []
        for _ in range(4):
            event = await watch.next()
            assert event is not None
            status = event["object"].get("status", {"pods": []})
            seen.append((event["type"], [each["podIP"] for each in status["pods"]]))
    assert seen == [
        ("ADDED", []),
        ("MODIFIED", ["10.0.0.1"]),
        ("MODIFIED", ["10.0.0.2"]),
        ("DELETED", ["10.0.0.2"]),
    ]


async def test_a_list_comes_in_pages(any_cluster: Cluster) -> None:
    for number in range(5):
        await any_cluster.admin.create(tendpoint("Test", f"Server{number}"))
    names: list[str] = []
    page: Object = {"metadata": {"continue": ""}}
    pages = 0
    while pages == 0 or page["metadata"].get("continue"):
        page = await any_cluster.admin.list(TENDPOINTS, limit="2", **{"continue": page["metadata"]["continue"]})
        names += [each["metadata"]["name"] for each in page["items"]]
        pages += 1
    assert (pages, names) == (3, [f"test-server{number}" for number in range(5)])


async def test_a_streaming_list_ends_with_a_bookmark(any_cluster: Cluster) -> None:
    await any_cluster.admin.apply(hello("10.0.0.1"))
    streaming = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with any_cluster.admin.watch(TENDPOINTS, **streaming) as watch:
        first, second = await watch.next(), await watch.next()
    assert first is not None
    assert second is not None
    assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", HELLO)
    assert second["type"] == "BOOKMARK"
    assert second["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_bookmarks_come_where_the_watch_cache_is_on_alone(cluster: Cluster, uncached_cluster: Cluster) -> None:
    for each in (cluster, uncached_cluster):
        await each.admin.apply(hello("10.0.0.1"))

    async def seen(cluster: Cluster, seconds: int) -> list[str]:
        made = await cluster.admin.get(TENDPOINTS, HELLO)
        types: list[str] = []
        watching = {"allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), "resourceVersion": version_of(made)}
        async with cluster.admin.watch(TENDPOINTS, **watching) as watch:
            while (event := await watch.next()) is not None:
                types.append(event["type"])
                assert int(version_of(event["object"])) >= int(version_of(made))
        return types

    # Before a watch ends there is one or two of them; now and then none, so several watches, and where the machine is
    # busy some more.
    kinds: set[str] = set()
    for _ in range(4):
        *cached, uncached = await asyncio.gather(
            *(seen(cluster, seconds) for seconds in (10, 11, 12)), seen(uncached_cluster, 12)
        )
        assert uncached == []
        kinds.update(kind for types in cached for kind in types)
        if kinds:
            break
    assert kinds == {"BOOKMARK"}


# ------------------------------------------------------------------------------------------------ users


async def test_a_bad_token_is_401(cluster: Cluster) -> None:
    async with cluster.server.client(token="of nobody", namespace=cluster.namespace) as nobody:
        with pytest.raises(ApiError) as refused:
            await nobody.list(TENDPOINTS)
    assert (refused.value.code, refused.value.reason) == (401, "Unauthorized")


async def test_the_limited_user_may_do_what_it_is_granted(cluster: Cluster) -> None:
    async with cluster.server.client("limited", namespace=cluster.namespace) as limited:
        with pytest.raises(ApiError) as refused:
            await limited.list(TENDPOINTS)
        assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
        await cluster.admin.grant(
            "limited", {"apiGroups": ["k8s.tars.io"], "resources": ["tendpoints"], "verbs": ["list"]}
        )
        assert (await limited.list(TENDPOINTS))["items"] == []
        with pytest.raises(ApiError, match="cannot list resource"):
            await limited.list(TTEMPLATES)


async def test_a_service_account_is_known_by_its_token(cluster: Cluster) -> None:
    token = await cluster.admin.service_account_token("registry")
    await cluster.admin.grant("sa:registry", {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    async with cluster.server.client(token=token, namespace=cluster.namespace) as registry:
        assert (await registry.list(PODS))["items"] == []
        with pytest.raises(ApiError, match=f"system:serviceaccount:{cluster.namespace}:registry"):
            await registry.list(TENDPOINTS)


async def test_a_user_is_known_by_a_certificate(cluster: Cluster) -> None:
    server = cluster.server
    config = json.loads(server.kubeconfig(certificate=await server.users.client("ann", "system:masters")).read_text())
    user = config["users"][0]["user"]
    trust = ssl.create_default_context(cafile=config["clusters"][0]["cluster"]["certificate-authority"])
    trust.load_cert_chain(user["client-certificate"], user["client-key"])
    async with (
        aiohttp.ClientSession(config["clusters"][0]["cluster"]["server"]) as session,
        session.get(TENDPOINTS.path(), ssl=trust) as response,
    ):
        assert response.status == 200


async def test_a_pod_lives_without_any_kubelet(cluster: Cluster) -> None:
    await cluster.admin.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "test-helloserver-0"},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i"}]},
            "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
        }
    )
    condition = {"type": "tars.io/active", "status": "True", "reason": "Active/Active/27"}
    patched = await cluster.admin.patch(
        PODS, "test-helloserver-0", {"status": {"conditions": [condition]}}, how="strategic", subresource="status"
    )
    assert patched["status"]["podIP"] == "10.0.0.1"
    assert [each["reason"] for each in patched["status"]["conditions"] if each["type"] == "tars.io/active"] == [
        "Active/Active/27"
    ]
    await cluster.admin.delete(PODS, "test-helloserver-0")
    assert (await cluster.admin.list(PODS))["items"] == []


# ----------------------------------------------------------------------------------------------- trouble


async def test_a_killed_server_breaks_its_watches_and_comes_back_with_its_data(any_cluster: Cluster) -> None:
    admin, server = any_cluster.admin, any_cluster.server
    made = await admin.apply(hello("10.0.0.1"))
    pid, port = server.apiserver.pid, server.port
    async with admin.watch(TENDPOINTS, resourceVersion=version_of(made)) as watch:
        await server.kill()
        with pytest.raises(aiohttp.ClientError):
            await watch.next()
    with pytest.raises(aiohttp.ClientConnectorError):
        await admin.list(TENDPOINTS)
    await server.restart()
    assert server.apiserver.pid != pid
    assert server.port == port
    assert await admin.get(TENDPOINTS, HELLO) == made


async def test_without_the_watch_cache_a_watch_resumes_after_a_restart(uncached_cluster: Cluster) -> None:
    admin = uncached_cluster.admin
    made = await admin.apply(hello("10.0.0.1"))
    await admin.apply(hello("10.0.0.2"))
    await uncached_cluster.server.restart()
    async with admin.watch(TENDPOINTS, resourceVersion=version_of(made)) as watch:
        event = await watch.next()
    assert event is not None
    assert (event["type"], event["object"]["status"]["pods"][0]["podIP"]) == ("MODIFIED", "10.0.0.2")


async def test_with_the_watch_cache_a_restart_forgets_the_versions_of_custom_objects(cluster: Cluster) -> None:
    admin = cluster.admin
    made = await admin.apply(hello("10.0.0.1"))
    await admin.apply(hello("10.0.0.2"))
    await cluster.server.restart()
    await expect_expired(admin, version_of(made))


async def test_a_version_that_was_compacted_is_expired(uncached_cluster: Cluster) -> None:
    admin = uncached_cluster.admin
    old = await admin.apply(hello("10.0.0.1"))
    for number in range(3):
        await admin.create(tendpoint("Test", f"Server{number}"))
    page = await admin.list(TENDPOINTS, limit="2")
    new = await admin.apply(hello("10.0.0.2"))
    assert await uncached_cluster.server.compact() >= int(version_of(new))
    await expect_expired(admin, version_of(old))
    with pytest.raises(ApiError) as refused:
        await admin.list(TENDPOINTS, limit="2", **{"continue": page["metadata"]["continue"]})
    assert (refused.value.code, refused.value.reason) == (410, "Expired")


async def expect_expired(client: Client, version: str) -> None:
    """A watch from this version is told 410, as its first event."""
    async with client.watch(TENDPOINTS, resourceVersion=version) as watch:
        event = await watch.next()
        assert event is not None
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await watch.next() is None


async def test_the_authority_can_change_while_it_serves(cluster: Cluster, tmp_path: Path) -> None:
    server = cluster.server
    old = server.ca_file
    trusted = Path(shutil.copy(old, tmp_path / "ca.crt"))
    second = await Authority.make(tmp_path / "second")
    await server.serve_with(second)
    async with Client(server.url, server.tokens["admin"], trusted) as admin:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await admin.list(TENDPOINTS)
    shutil.copy(second.certificate, trusted)
    async with Client(server.url, server.tokens["admin"], trusted) as admin:
        await admin.list(TENDPOINTS)
    await cluster.admin.list(TENDPOINTS)  # a connection that was there before goes on


# ------------------------------------------------------------------------------------- through the proxy


async def test_a_watch_goes_through_the_proxy_and_is_held_up_by_it(cluster: Cluster, proxy: Proxy) -> None:
    admin = cluster.admin
    made = await admin.apply(hello("10.0.0.1"))
    through = cluster.server.client(namespace=cluster.namespace, port=proxy.port)
    async with through as client, client.watch(TENDPOINTS, resourceVersion=version_of(made)) as watch:
        assert (proxy.accepted, proxy.open) == (1, 1)
        await admin.apply(hello("10.0.0.2"))
        assert await watch.next() is not None
        proxy.stall()
        passed = proxy.bytes_down
        await admin.apply(hello("10.0.0.3"))
        with pytest.raises(TimeoutError):
            await watch.next(timeout=0.5)
        assert (proxy.bytes_down, proxy.open) == (passed, 1)
        proxy.resume()
        event = await watch.next()
        assert event is not None
        assert event["object"]["status"]["pods"][0]["podIP"] == "10.0.0.3"
        await proxy.cut()
        with pytest.raises(aiohttp.ClientError):
            await watch.next()


async def test_a_kubeconfig_can_point_to_the_proxy(cluster: Cluster, proxy: Proxy) -> None:
    path = cluster.server.kubeconfig("limited", namespace=cluster.namespace, port=proxy.port)
    config = json.loads(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:{proxy.port}"
    assert config["contexts"][0]["context"]["namespace"] == cluster.namespace
    trusted = Path(config["clusters"][0]["cluster"]["certificate-authority"])
    token = config["users"][0]["user"]["token"]
    async with Client(config["clusters"][0]["cluster"]["server"], token, trusted) as client:
        with pytest.raises(ApiError, match="limited"):
            await client.list(TENDPOINTS)
    assert proxy.accepted == 1
