"""The service as operators see it: ready or not and why, how old its table is, and what becomes of what crashes."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from registry.app import App, StartError, build
from registry.config import Config, ListenAddress, ServiceSettings, SourceKind
from registry.heartbeats import Heartbeats
from registry.model import Kind, Object, Problem, SourceStatus
from registry.snapshot import SnapshotSettings, load, write
from registry.sources import supervise as supervision
from registry.sources.kubernetes import Discover, KubernetesSettings
from registry.sources.snapshot_keeper import encode
from registry.sources.supervise import supervise
from registry.table import DIRECTORY_PARTS, Part, TableStore
from tars_protocol.aio.client import Client
from tars_protocol.interfaces import query
from tests.support import manifests
from tests.support.in_process import admin_ports, loopback, running
from tests.support.tables import HELLO, hello, sync
from tests.support.virtual_time import in_virtual_time, now

PARTS: tuple[Part, ...] = tuple(sorted(DIRECTORY_PARTS))


class FakeSource:
    """A source whose parts are as a test says."""

    def __init__(self, *statuses: SourceStatus) -> None:
        self.statuses = list(statuses)
        self.runs = 0
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Run until told to crash."""
        self.runs += 1
        self.failure = asyncio.get_running_loop().create_future()
        await self.failure

    def crash(self) -> None:
        """Crash."""
        self.failure.set_exception(RuntimeError("a bug"))


def watching(name: str = "one") -> SourceStatus:
    return SourceStatus(name, "watching", synced=True, last_success=time.monotonic())


def heard(name: str, ago: float, state: str = "backing off") -> SourceStatus:
    """A part that was last known to be current so many seconds ago."""
    return SourceStatus(name, state, synced=True, last_success=time.monotonic() - ago)


def never(name: str = "one", *problems: str) -> SourceStatus:
    return SourceStatus(name, "listing", problems=tuple(Problem(name, text) for text in problems))


def configured(tmp_path: Path, *, snapshot: Path | None = None, stale_after: float = 0.0, **service: Any) -> Config:
    return dataclasses.replace(
        loopback(tmp_path, **service),
        snapshot=SnapshotSettings(snapshot_path=snapshot, snapshot_interval=0.1),
        kubernetes=KubernetesSettings(stale_after=stale_after),
    )


@asynccontextmanager
async def served(config: Config, *statuses: SourceStatus, synced: bool = True) -> AsyncIterator[tuple[App, FakeSource]]:
    """The service with a made-up source; with ``synced``, one that has handed over Test.HelloServer."""
    store, source = TableStore(PARTS), FakeSource(*statuses)
    app = App(config, store, source, PARTS)
    await app.start()
    try:
        if synced:
            store.upsert(hello(2, 1))
            sync(store)
        await until(lambda: source.runs > 0)
        yield app, source
    finally:
        await app.stop()


async def until(done: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not done():  # noqa: ASYNC110  # nobody else could set an event
            await asyncio.sleep(0.005)


async def ask(app: App) -> tuple[int, int, int]:
    """What a client is told of Test.HelloServer: return value, number of active and of inactive endpoints."""
    async with Client("127.0.0.1", app.query.port, query.SERVANT, query.QUERY) as client:
        value, active, inactive = await client.call("findObjectById4Any", HELLO)
        return value, len(active), len(inactive)


async def page(port: int, name: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{name}") as answer:
        return answer.status, await answer.text()


async def put(path: Path, *objects: Object, age: float = 0.0, parts: Iterable[Part] = PARTS) -> None:
    """A snapshot file that is so many seconds old."""
    kinds = {kind: [item for item in objects if item.kind is kind] for kind in Kind}
    write(path, await encode(kinds, parts, time.time() - age))


# ----------------------------------------------------------------------------------------------------- readiness


async def test_not_ready_names_what_is_waited_for_and_what_is_in_the_way(tmp_path: Path) -> None:
    """Problems of what was handed over are no reason: the table is whole without those objects."""
    done = dataclasses.replace(watching("pods"), problems=(Problem("tars/x", "left out"),))
    waits = never("ttemplates", "forbidden; grant it with: kubectl", "second")
    async with served(configured(tmp_path), done, waits, synced=False) as (app, _):
        app.store.synced(Kind.SERVER)
        assert app.not_ready() == [
            "not synchronised yet: waiting for TFrameworkConfig, TTemplate",
            "ttemplates: forbidden; grant it with: kubectl",
            "ttemplates: second",
        ]
        assert await ask(app) == (-1, 0, 0)
        assert not app.synced.is_set()
        sync(app.store)
        assert app.not_ready() == []
        assert app.synced.is_set()
        assert await ask(app) == (0, 0, 0)


async def test_what_is_wrong_later_is_no_reason_while_the_table_serves(tmp_path: Path) -> None:
    """The API server may be away for as long as it likes."""
    away = dataclasses.replace(heard("pods", 86_400), problems=(Problem("pods", "can't be reached"),))
    async with served(configured(tmp_path), away) as (app, _):
        assert app.not_ready() == []
        assert await ask(app) == (0, 2, 1)


async def test_a_part_that_crashed_is_a_reason(tmp_path: Path) -> None:
    parts = [watching("pods"), dataclasses.replace(watching("ttemplates"), state="crashed")]
    async with served(configured(tmp_path), *parts) as (app, source):
        assert app.not_ready() == ["ttemplates crashed; it is started again"]
        source.statuses = parts[:1]
        assert app.not_ready() == []


async def test_a_service_that_is_stopped_is_not_ready(tmp_path: Path) -> None:
    async with served(configured(tmp_path), watching()) as (app, _):
        assert app.not_ready() == []
    assert app.not_ready() == ["stopping"]


# ----------------------------------------------------------------------------------------------------- staleness


@pytest.mark.parametrize(
    ("statuses", "age"),
    [
        ([watching], 0.0),
        ([watching, lambda: heard("two", 40)], 40.0),
        ([lambda: heard("one", 5), lambda: heard("two", 40), lambda: heard("three", 7)], 40.0),
        ([lambda: heard("one", -5)], 0.0),
        ([never], math.inf),
        ([watching, never], math.inf),
        ([], 0.0),
    ],
)
async def test_staleness_is_the_age_of_the_oldest_part(
    statuses: list[Callable[[], SourceStatus]], age: float, tmp_path: Path
) -> None:
    """Of the whole table no more is known than of the part that was longest away; endless where it never was there."""
    async with served(configured(tmp_path), *[make() for make in statuses]) as (app, _):
        assert app.staleness() == pytest.approx(age, abs=1)


async def test_a_restored_table_is_as_old_as_its_file_until_every_part_is_there(tmp_path: Path) -> None:
    snapshot = tmp_path / "table"
    await put(snapshot, hello(2, 1), age=500)
    config = configured(tmp_path, snapshot=snapshot)
    async with served(config, never("one"), never("two"), synced=False) as (app, source):
        assert app.staleness() == pytest.approx(500, abs=2)
        source.statuses[0] = watching("one")
        assert app.staleness() == pytest.approx(500, abs=2)
        source.statuses[1] = heard("two", 3)
        assert app.staleness() == pytest.approx(3, abs=1)


async def test_a_snapshot_that_is_not_used_does_not_count(tmp_path: Path) -> None:
    snapshot = tmp_path / "table"
    await put(snapshot, hello(), age=500, parts=PARTS[1:])
    async with served(configured(tmp_path, snapshot=snapshot), never(), synced=False) as (app, _):
        assert app.staleness() == math.inf
        assert await ask(app) == (-1, 0, 0)


async def test_stale_after_turns_off_readiness_and_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with served(configured(tmp_path, stale_after=60), watching()) as (app, source):
        port = admin_ports(caplog.text)[0]
        for age, ready in ((0, True), (50, True), (70, False), (10**6, False), (1, True)):
            source.statuses[0] = heard("one", age)
            status, text = await page(port, "readyz")
            assert status == (200 if ready else 503)
            if not ready:
                assert text == f"not ready: the table was last known to be current {age} s ago (stale_after)\n"
            assert await ask(app) == (0, 2, 1)
            assert f"tars_registry_ready {float(ready)}" in (await page(port, "metrics"))[1]


async def test_without_stale_after_no_age_is_too_much(tmp_path: Path) -> None:
    async with served(configured(tmp_path), heard("one", 10**9)) as (app, _):
        assert app.not_ready() == []


async def test_stale_after_counts_a_restored_table_from_its_file(tmp_path: Path) -> None:
    """It is answered all the same."""
    snapshot = tmp_path / "table"
    await put(snapshot, hello(2, 1), age=500)
    async with served(configured(tmp_path, snapshot=snapshot, stale_after=60), never(), synced=False) as (app, _):
        assert app.not_ready() == ["the table was last known to be current 500 s ago (stale_after)"]
        assert await ask(app) == (0, 2, 1)


# ------------------------------------------------------------------------------------------------------ snapshot


async def test_a_registry_that_starts_in_an_outage_answers_from_its_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ready at once, and marked stale in the metrics."""
    caplog.set_level(logging.INFO)
    snapshot = tmp_path / "table"
    await put(snapshot, hello(2, 1), age=500)
    config = configured(tmp_path, snapshot=snapshot)
    async with served(config, never("one", "can't be reached"), synced=False) as (app, _):
        assert app.not_ready() == []
        assert await ask(app) == (0, 2, 1)
        assert "serving the table of 500 s ago until the sources are synchronised" in caplog.text
        assert "synchronised: " not in caplog.text
        port = admin_ports(caplog.text)[0]
        assert await page(port, "readyz") == (200, "ready\n")
        _, text = await page(port, "metrics")
        metrics = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert float(metrics["tars_registry_staleness_seconds"]) == pytest.approx(500, abs=5)
        assert float(metrics["tars_registry_snapshot_timestamp_seconds"]) == pytest.approx(time.time() - 500, abs=5)
        assert metrics['tars_registry_source_synchronised{source="one"}'] == "0.0"
        app.store.replace(Kind.SERVER, [hello(1)])
        assert await ask(app) == (0, 1, 1)


async def test_a_bad_snapshot_is_as_none(tmp_path: Path) -> None:
    snapshot = tmp_path / "table"
    snapshot.write_bytes(b"half a ta")
    async with served(configured(tmp_path, snapshot=snapshot), never(), synced=False) as (app, _):
        assert app.not_ready() == ["not synchronised yet: waiting for TEndpoint, TFrameworkConfig, TTemplate"]
        assert await ask(app) == (-1, 0, 0)


async def test_the_last_table_is_written_at_exit(tmp_path: Path) -> None:
    """Whenever the last writing was."""
    snapshot = tmp_path / "table"
    config = dataclasses.replace(
        configured(tmp_path), snapshot=SnapshotSettings(snapshot_path=snapshot, snapshot_interval=3_600)
    )
    async with served(config, watching()) as (app, _):
        await until(snapshot.exists)
        app.store.upsert(hello(7))
    found = load(snapshot)
    assert found is not None
    assert found.objects[Kind.SERVER] == [hello(7)]
    async with served(config, never(), synced=False) as (app, _):
        assert await ask(app) == (0, 7, 1)


async def test_a_table_that_was_never_whole_is_not_written(tmp_path: Path) -> None:
    snapshot = tmp_path / "table"
    async with served(configured(tmp_path, snapshot=snapshot), never(), synced=False) as (app, _):
        app.store.upsert(hello(7))
        await asyncio.sleep(0.3)
    assert load(snapshot) is None


async def test_a_snapshot_that_can_not_be_written_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted in the metrics; nobody is turned away for it."""
    caplog.set_level(logging.INFO)
    config = configured(tmp_path, snapshot=tmp_path / "no" / "such" / "folder")
    async with served(config, watching()) as (app, _):
        port = admin_ports(caplog.text)[0]
        await until(lambda: "the snapshot can't be written: No such file or directory" in caplog.text)
        _, text = await page(port, "metrics")
        assert "tars_registry_snapshot_errors_total" in text
        assert "tars_registry_snapshot_errors_total 0.0" not in text
        assert "tars_registry_snapshot_timestamp_seconds 0.0" in text
        assert app.not_ready() == []


async def test_without_a_snapshot_there_are_no_metrics_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with served(configured(tmp_path), watching()):
        assert "snapshot" not in (await page(admin_ports(caplog.text)[0], "metrics"))[1]


async def test_the_directory_is_restored_as_well(tmp_path: Path) -> None:
    """And replaced by what is there: what was deleted meanwhile is gone."""
    folder, snapshot = tmp_path / "manifests", tmp_path / "table"
    folder.mkdir()
    await put(snapshot, hello(2), age=500)
    manifests.write(folder / "shop.yaml", manifests.tendpoint("Shop", "Order"))
    app = await build(configured(folder, snapshot=snapshot))
    await app.start()
    try:
        await until(lambda: not app.store.waiting_for)
        assert [server.name for group in app.store.table.servers.values() for server in group] == ["shop-order"]
        assert app.staleness() < 11
    finally:
        await app.stop()


# -------------------------------------------------------------------------------------------------- supervision


async def test_a_source_that_crashes_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown by /readyz, counted, logged with its trace; the answers stay."""
    monkeypatch.setattr(supervision, "_FIRST_PAUSE", 2.0)
    caplog.set_level(logging.INFO)
    async with served(configured(tmp_path), watching()) as (app, source):
        port = admin_ports(caplog.text)[0]
        assert await page(port, "readyz") == (200, "ready\n")
        source.crash()
        await until(lambda: app.not_ready() != [])
        reason = "not ready: the source crashed (RuntimeError: a bug); it is started again\n"
        assert await page(port, "readyz") == (503, reason)
        assert await ask(app) == (0, 2, 1)
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage().startswith("the source crashed; it starts again in ")
        assert record.exc_info
        assert "tars_registry_bugs_total 1.0" in (await page(port, "metrics"))[1]

        await until(lambda: source.runs == 2)
        assert await page(port, "readyz") == (200, "ready\n")
        assert "tars_registry_bugs_total 1.0" in (await page(port, "metrics"))[1]


async def test_a_connection_that_is_closed_for_a_bug_counts_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it could ask anything, or in the middle."""
    caplog.set_level(logging.INFO)
    async with served(configured(tmp_path), watching()) as (app, _):
        monkeypatch.setattr(app.query, "_connect", lambda caller: 1 // 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", app.query.port)
        assert await reader.read() == b""
        writer.close()
        assert app.query.stats.refused["bug"] == 1
        assert "tars_registry_bugs_total 1.0" in (await page(admin_ports(caplog.text)[0], "metrics"))[1]


async def test_a_crash_of_the_snapshot_is_a_bug_as_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> list[bytes]:
        raise RuntimeError("a bug")

    monkeypatch.setattr("registry.sources.snapshot_keeper.encode", broken)
    config = configured(tmp_path, snapshot=tmp_path / "table")
    store, source = TableStore(PARTS), FakeSource(watching())
    app = App(config, store, source, PARTS)
    await app.start()
    store.upsert(hello(2, 1))
    sync(store)
    await until(lambda: app.not_ready() != [])
    assert app.not_ready() == ["the snapshot crashed (RuntimeError: a bug); it is started again"]
    assert await ask(app) == (0, 2, 1)
    assert source.runs == 1
    monkeypatch.undo()
    await app.stop()


def crashing(*ends: float | BaseException) -> tuple[Callable[[], Any], list[float]]:
    """Something to supervise: each run sleeps so long, or raises; the last one goes on. And when they began."""
    began: list[float] = []
    left = list(ends)

    async def run() -> None:
        began.append(now())
        end = left.pop(0) if left else math.inf
        if isinstance(end, BaseException):
            raise end
        await (asyncio.sleep(end) if end < math.inf else asyncio.Event().wait())

    return run, began


async def supervised(run: Callable[[], Any], seconds: float) -> list[str]:
    """What a supervisor tells in so many seconds; it must still be there then, and end when it is cancelled."""
    told: list[str] = []
    task = asyncio.create_task(supervise("it", run, told.append, lambda: told.append("started")))
    await asyncio.sleep(seconds)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return told


@in_virtual_time
async def test_what_ends_without_a_word_is_a_crash_too() -> None:
    run, began = crashing(5.0)
    assert await supervised(run, 60) == ["RuntimeError: it ended, which it never should", "started"]
    assert began[0] == 0
    assert 5.5 <= began[1] <= 6


@pytest.mark.parametrize(
    "raised", [ValueError("x"), asyncio.CancelledError("x"), TimeoutError("x"), ExceptionGroup("x", [ValueError()])]
)
@in_virtual_time
async def test_whatever_it_is_that_ends_a_part_it_is_started_again(raised: BaseException) -> None:
    """Also a task within that was cancelled, which a group of tasks would pass over in silence."""
    run, began = crashing(raised)
    told = await supervised(run, 60)
    assert told == [f"{type(raised).__name__}: {raised}", "started"]
    assert len(began) == 2


@in_virtual_time
async def test_pauses_grow_up_to_half_a_minute_and_are_short_again_after_a_healthy_while() -> None:
    run, began = crashing(*[ValueError("x")] * 8, 130.0)
    told = await supervised(run, 400)
    assert told.count("started") == 9
    pauses = [after - before for before, after in itertools.pairwise(began)]
    for number, pause in enumerate(pauses[:8]):
        longest = min(2.0**number, 30.0)
        assert longest / 2 <= pause <= longest
    assert 130.5 <= pauses[8] <= 131


@in_virtual_time
async def test_a_supervisor_that_is_cancelled_ends_in_a_pause_as_well() -> None:
    run, began = crashing(ValueError("x"))
    assert await supervised(run, 0.1) == ["ValueError: x"]
    assert len(began) == 1


# --------------------------------------------------------------------------------------------------------- build


def a_kubeconfig(tmp_path: Path, namespace: str = "") -> Path:
    """For an API server that nobody can reach."""
    context = {"cluster": "c", "user": "u"} | ({"namespace": namespace} if namespace else {})
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "main",
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "u", "user": {"token": "x"}}],
                "contexts": [{"name": "main", "context": context}],
            }
        ),
        encoding="utf-8",
    )
    return path


def of_cluster(kubeconfig: Path | None, listen: ListenAddress | None = None, **kubernetes: Any) -> Config:
    anywhere = ListenAddress("127.0.0.1", 0)
    service = ServiceSettings(
        source=SourceKind.KUBERNETES, query_listen=listen or anywhere, registry_listen=anywhere, admin_listen=None
    )
    return Config(service=service, kubernetes=KubernetesSettings(kubeconfig=kubeconfig, **kubernetes))


def names(app: App) -> list[str]:
    return [status.name for status in app._source.statuses]


@pytest.mark.parametrize(
    ("settings", "context", "followed"),
    [
        ({}, "", ["default"]),
        ({}, "shop", ["shop"]),
        ({"namespace": "a"}, "shop", ["a"]),
        ({"namespace": "a,b"}, "shop", ["a", "b"]),
        ({"namespace": " a , b,,a "}, "shop", ["a", "b"]),
        ({"namespace": ","}, "shop", ["shop"]),
    ],
)
async def test_namespaces_are_those_that_are_set_or_that_of_the_context(
    settings: dict[str, Any], context: str, followed: list[str], tmp_path: Path
) -> None:
    app = await build(of_cluster(a_kubeconfig(tmp_path, context), discover=Discover.PODS, **settings))
    try:
        plurals = ("pods", "ttemplates", "tframeworkconfigs")
        assert names(app) == [f"{plural} in {namespace}" for namespace in followed for plural in plurals]
        kinds = sorted(f"{kind} in {n}" for kind in (Kind.POD, Kind.TEMPLATE, Kind.FRAMEWORK) for n in followed)
        assert app.store.waiting_for == kinds
    finally:
        await app.stop()


async def test_a_cluster_that_can_not_be_reached_is_waited_for(tmp_path: Path) -> None:
    app = await build(of_cluster(a_kubeconfig(tmp_path)))
    await app.start()
    try:
        await until(lambda: len(app.not_ready()) == 4)
        waits, *problems = app.not_ready()
        assert waits.startswith("not synchronised yet: waiting for TEndpoint in default, ")
        assert all("127.0.0.1:9 can't be reached" in problem for problem in problems)
        assert await ask(app) == (-1, 0, 0)
        assert app.staleness() == math.inf
    finally:
        await app.stop()


async def test_a_bug_while_the_cluster_is_told_of_the_end_is_logged_and_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave(_: Heartbeats) -> None:
        raise ZeroDivisionError("made up")

    monkeypatch.setattr(Heartbeats, "leave", leave)
    async with served(loopback(tmp_path)) as (app, _):
        pass
    (told,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert told.getMessage() == "the cluster could not be told that this registry stops"
    assert told.exc_info
    assert told.exc_info[0] is ZeroDivisionError
    assert app.query.open_connections == 0


async def test_a_kubeconfig_that_is_not_there_is_told_at_start(tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    with pytest.raises(StartError, match=r"kubeconfig .*/nothing: .*; name another with --kubeconfig and --context"):
        await build(of_cluster(path))


async def test_a_context_that_is_not_there_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"kubeconfig .*other.*; name another with --kubeconfig and --context"):
        await build(of_cluster(a_kubeconfig(tmp_path), context="other"))


async def test_a_pod_without_a_service_account_is_told_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    with pytest.raises(StartError, match=r"the pod's service account: .*use --source directory"):
        await build(of_cluster(None))


async def test_an_address_that_is_taken_leaves_nothing_open(tmp_path: Path) -> None:
    """Not the connection to the cluster either."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match="choose another address with --query-listen"):
            await build(of_cluster(a_kubeconfig(tmp_path), ListenAddress("127.0.0.1", port)))


async def test_the_directory_source_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="name one with --manifests DIR"):
        await build(dataclasses.replace(loopback(tmp_path), service=ServiceSettings(source=SourceKind.DIRECTORY)))
    with pytest.raises(StartError, match="no such directory"):
        await build(loopback(tmp_path / "nothing"))


async def test_an_example_is_an_object_that_has_an_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        assert app.example_id() is None
        app.store.upsert(hello(0, 1))
        assert app.example_id() is None
        app.store.upsert(hello(1))
        assert app.example_id() == HELLO
