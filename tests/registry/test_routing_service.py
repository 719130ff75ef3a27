"""The routing policy of a running service: from a file, through its changes, and broken."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from registry.app import App, StartError, build
from registry.config import Config
from registry.routing.callers import CallerGroup
from registry.routing.hosts import EndpointHost
from registry.snapshot import SnapshotSettings
from registry.sources.directory import DirectorySettings
from registry.sources.policy_document import read_policy
from registry.sources.routing_keeper import RoutingSettings
from tars_protocol.aio.client import Client
from tars_protocol.interfaces import query
from tests.support import manifests
from tests.support.in_process import loopback
from tests.support.tables import HELLO

NEAR = """\
groups:
  - {id: 1, name: near, addresses: [127.0.0.0/8, 10.1.0.1]}
  - {id: 2, name: far, addresses: [10.1.0.2]}
priorities:
  - {station: both, groups: [near, far]}
"""
FAR = NEAR.replace("10.1.0.1", "10.1.0.3").replace("[10.1.0.2]", "[10.1.0.1]").replace("10.1.0.3", "10.1.0.2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A server with grouping on and a pod each in two groups, and a policy."""
    found = tmp_path / "manifests"
    found.mkdir()
    hello = manifests.hello("10.1.0.1", "10.1.0.2")
    hello["metadata"]["annotations"] = {"tars.io/group": "on"}
    manifests.write(found / "hello.yaml", hello)
    write(tmp_path, NEAR)
    return tmp_path


def write(folder: Path, text: str) -> None:
    temporary = folder / ".policy"
    temporary.write_text(text)
    temporary.rename(folder / "policy.yaml")


def configured(folder: Path, **routing: object) -> Config:
    settings = RoutingSettings(routing_policy=folder / "policy.yaml", **routing)  # type: ignore[arg-type]
    return dataclasses.replace(
        loopback(folder / "manifests", endpoint_host=EndpointHost.POD_IP),
        routing=settings,
        directory=DirectorySettings(rescan_interval=0.1),
    )


async def hosts(client: Client) -> list[str]:
    ret, active, _ = await client.call("findObjectByIdInSameGroup", HELLO)
    assert ret == 0
    return [endpoint.host for endpoint in active]


async def until(done: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not done():
        assert loop.time() - began < 30
        await asyncio.sleep(0.005)


async def until_hosts(client: Client, *expected: str) -> None:
    """Ask until these are the hosts: a connection gets its new group some time after the policy."""
    async with asyncio.timeout(30):
        while await hosts(client) != list(expected):
            pass


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[App]:
    """The service, once it has read all."""
    app = await build(config)
    await app.start()
    try:
        await app.synced.wait()
        yield app
    finally:
        await app.stop()


def asking(app: App) -> Client:
    return Client("127.0.0.1", app.query.port, query.SERVANT, query.QUERY)


async def page(app: App, path: str) -> tuple[int, str]:
    ((bound, *_),) = app._admin_sockets.values()
    port = bound.getsockname()[1]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_the_first_answer_goes_by_the_policy_in_the_file(folder: Path) -> None:
    async with serving(configured(folder)) as app, asking(app) as client:
        assert await hosts(client) == ["10.1.0.1"]


async def test_a_change_of_the_file_reaches_callers_on_open_connections(folder: Path) -> None:
    async with serving(configured(folder)) as app, asking(app) as client:
        assert await hosts(client) == ["10.1.0.1"]
        write(folder, FAR)
        await until(lambda: app.answers.policies.count == 2)
        assert await hosts(client) == ["10.1.0.2"]
        write(folder, NEAR.replace("127.0.0.0/8, ", "").replace("10.1.0.2", "127.0.0.0/8, 10.1.0.2"))
        await until(lambda: app.answers.policies.count == 3)
        await until_hosts(client, "10.1.0.2")


async def test_a_policy_of_many_rules_is_swapped_while_callers_ask(folder: Path) -> None:
    """It is read in a thread; each answer is of one policy or the other, at last of the one that was written last."""
    many = "".join(f"\n      - 172.{16 + n // 256}.{n % 256}.0/24" for n in range(2_000))
    others = f"  - id: 9\n    addresses:{many}\n"
    near, far = (text.replace("priorities:", f"{others}priorities:") for text in (NEAR, FAR))
    write(folder, near)
    async with serving(configured(folder)) as app, asking(app) as client:
        assert await hosts(client) == ["10.1.0.1"]
        seen: list[list[str]] = []
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                seen.append(await hosts(client))

        task = asyncio.create_task(ask())
        for text in (far, near, far, near + "# the same", far):
            write(folder, text)
            await until(lambda text=text: app.store.table.policy.text == text)  # type: ignore[misc,union-attr]
        await until(lambda: app.answers.policies.policy.document == read_policy(far))
        assert await hosts(client) == ["10.1.0.2"]
        done.set()
        await task
        assert len(seen) > 0
        assert {tuple(found) for found in seen} <= {("10.1.0.1",), ("10.1.0.2",)}


@pytest.mark.parametrize("broken", ["groups: [{id: x}]", "groups: [", "\xff", "gone"])
async def test_a_policy_that_is_broken_while_running_keeps_the_last_good_one(
    folder: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """/readyz stays green, the metric and the log tell."""
    async with serving(configured(folder)) as app, asking(app) as client:
        assert await hosts(client) == ["10.1.0.1"]
        if broken == "gone":
            (folder / "policy.yaml").unlink()
        else:
            (folder / "policy.yaml").write_bytes(broken.encode("latin-1"))
        await until(lambda: app._routed.statuses[0].state == "last good")
        assert await hosts(client) == ["10.1.0.1"]
        assert (await page(app, "/readyz"))[0] == 200
        metrics = (await page(app, "/metrics"))[1]
        assert 'tars_registry_source_state{source="routing policy",state="last good"} 1.0' in metrics
        assert 'tars_registry_source_problems{source="routing policy"} 1.0' in metrics
        assert 'tars_registry_source_errors_total{reason="policy",source="routing policy"} ' in metrics
        assert "the last good one stays" in caplog.text
        assert str(folder / "policy.yaml") in caplog.text
        write(folder, FAR)
        await until(lambda: app._routed.statuses[0].state == "current")
        assert await hosts(client) == ["10.1.0.2"]
        assert 'source_problems{source="routing policy"} 0.0' in (await page(app, "/metrics"))[1]


async def test_a_policy_that_is_broken_from_the_start_is_told_and_answers_are_given_without(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, "groups: 5")
    async with serving(configured(folder)) as app, asking(app) as client:
        assert await hosts(client) == ["10.1.0.1", "10.1.0.2"]
        assert app._routed.statuses[0].state == "none"
        assert (await page(app, "/readyz"))[0] == 200
        assert "there is none until it is mended" in caplog.text
        write(folder, NEAR)
        await until(lambda: app._routed.statuses[0].state == "current")
        await until_hosts(client, "10.1.0.1")


async def test_the_policy_that_is_named_counts_and_not_that_of_an_older_snapshot(folder: Path) -> None:
    """The file that was named before stands first in the alphabet."""
    snapshot = SnapshotSettings(snapshot_path=folder / "snapshot", snapshot_interval=0.1)
    config = dataclasses.replace(configured(folder), snapshot=snapshot)
    async with serving(config) as app, asking(app) as client:
        await until_hosts(client, "10.1.0.1")
    assert snapshot.snapshot_path is not None
    assert snapshot.snapshot_path.exists()
    other = folder / "the-policy.yaml"
    other.write_text(FAR)
    config = dataclasses.replace(config, routing=RoutingSettings(routing_policy=other))
    async with serving(config) as app, asking(app) as client:
        await until_hosts(client, "10.1.0.2")
        other.write_text("groups: 5")
        await until(lambda: app._routed.statuses[0].state == "last good")


async def test_a_policy_file_that_is_not_there_at_start_is_an_error(folder: Path) -> None:
    (folder / "policy.yaml").unlink()
    with pytest.raises(StartError, match="the routing policy can't be read: No such file"):
        await build(configured(folder))


async def test_a_file_and_a_configmap_are_not_both_the_policy(folder: Path) -> None:
    with pytest.raises(StartError, match="goes with the kubernetes source"):
        await build(configured(folder, routing_policy_configmap="routing"))


async def test_zones_without_kubernetes_are_told_in_one_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write(folder, NEAR + "from_topology: true\n")
    async with serving(configured(folder)) as app, asking(app) as client:
        assert await hosts(client) == ["10.1.0.1"]
        write(folder, FAR + "from_topology: true\n")
        await until(lambda: app.answers.policies.count == 2)
        assert caplog.text.count("from_topology is off: nodes are known from the kubernetes source only") == 1
        assert len(app._routed.statuses[0].problems) == 1


async def test_callers_can_be_told_by_what_they_send(folder: Path) -> None:
    write(folder, NEAR + "")
    async with serving(configured(folder, caller_group=CallerGroup.OFF)) as app, asking(app) as client:
        assert await hosts(client) == ["10.1.0.1", "10.1.0.2"]


async def test_a_service_without_a_policy_shows_none(folder: Path) -> None:
    async with serving(dataclasses.replace(configured(folder), routing=RoutingSettings())) as app:
        assert "routing policy" not in (await page(app, "/metrics"))[1]
