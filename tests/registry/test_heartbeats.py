"""What a registry does for tarsnodes before it stops: callers were told that their states will be written."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.app import build
from registry.heartbeats import Heartbeats, Run, with_cluster
from registry.kube.pods import Condition
from registry.kube.reports import Outcome, Wanted
from registry.kube.settings import WriterSettings
from registry.servants.states import ACTIVE_CONDITION
from tests.support.in_process import loopback, running
from tests.support.scripted_pods import FakePods
from tests.support.tables import filled_store
from tests.support.virtual_time import in_virtual_time, now

Answer = asyncio.Future[Outcome]

PODS = 40
LEFT = "the states of {} pods are left unwritten"


@contextlib.asynccontextmanager
async def busy(folder: Path, api: FakePods, rate: float) -> AsyncIterator[tuple[Heartbeats, list[Answer]]]:
    """A registry's part that has more to write than it may in a moment."""
    settings = WriterSettings(write_rate=rate, write_burst=1)
    config = dataclasses.replace(loopback(folder, pod_name="registry-0"), writer=settings)
    heartbeats = with_cluster(config, filled_store(), api, "tars", ["tars"])
    api.make("registry-0", "10.0.0.50")
    tasks = [asyncio.ensure_future(run()) for run in heartbeats.tasks.values()]
    await asyncio.sleep(6)
    assert heartbeats._cluster
    answers = []
    for n in range(PODS):
        api.make(f"pod-{n}", "10.0.0.1")
        condition = Condition(ACTIVE_CONDITION, True, "Active/Active/1")
        answers.append(heartbeats._cluster.writer.submit(Wanted(("tars",), f"pod-{n}", condition, "10.0.0.1", True)))
    try:
        yield heartbeats, answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def fifteen_seconds() -> None:
    await asyncio.sleep(15)


def left_unwritten(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in (record.getMessage() for record in caplog.records) if "unwritten" in text]


def written(api: FakePods) -> int:
    return sum(pod.reason == "Active/Active/1" for pod in api.pods.values())


@in_virtual_time
async def test_a_registry_that_is_stopped_writes_what_is_queued_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakePods()
    async with busy(tmp_path, api, rate=10) as (heartbeats, answers):
        began = now()
        await heartbeats.leave()
        await heartbeats.finish(fifteen_seconds)
        assert all(answer.done() for answer in answers)
    assert written(api) == PODS
    assert api.pods["tars", "registry-0"].reason == "Active/Deactivating"
    assert 3.9 < now() - began < 4.5, "no longer than it takes"
    assert left_unwritten(caplog) == []


@in_virtual_time
async def test_it_does_so_for_a_bounded_time_and_tells_what_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakePods()
    async with busy(tmp_path, api, rate=1) as (heartbeats, _):
        began = now()
        await heartbeats.finish(fifteen_seconds)
        assert now() - began == 15
        assert 10 < written(api) < 20
        assert left_unwritten(caplog) == [LEFT.format(PODS - written(api))]


@in_virtual_time
async def test_an_outage_is_named_as_what_kept_states_from_being_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakePods()
    async with busy(tmp_path, api, rate=10) as (heartbeats, _):
        api.down = True
        await heartbeats.finish(fifteen_seconds)
    assert left_unwritten(caplog) == [f"{LEFT.format(PODS)}: the API server can't be reached"]


async def test_the_states_are_written_while_all_still_runs_and_when_no_report_can_come_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of drain_timeout, 4 s here, one is kept for what comes after it."""
    seen: list[str] = []
    waits: list[float] = []

    async def unless(hurry: asyncio.Event | None, seconds: float) -> None:
        assert hurry is None
        waits.append(seconds)

    async def leave(_: Heartbeats) -> None:
        seen.append("left")

    async def finish(_: Heartbeats, patience: Run) -> None:
        assert not any(task.done() for task in app._tasks)
        assert app.registry.open_connections == 0
        await patience()
        seen.append("finished")

    monkeypatch.setattr("registry.app._unless", unless)
    monkeypatch.setattr(Heartbeats, "leave", leave)
    monkeypatch.setattr(Heartbeats, "finish", finish)
    async with running(tmp_path) as app:
        pass
    assert seen == ["left", "finished"]
    (seconds,) = waits
    assert 1.0 < seconds <= 3.0
    assert all(task.done() for task in app._tasks)


@pytest.mark.parametrize("soon", [True, False])
async def test_in_a_hurry_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soon: bool) -> None:
    hurry = asyncio.Event()
    if soon:
        hurry.set()

    async def finish(_: Heartbeats, patience: Run) -> None:
        hurry.set()
        await patience()

    monkeypatch.setattr(Heartbeats, "finish", finish)
    app = await build(loopback(tmp_path))
    await app.start()
    began = asyncio.get_running_loop().time()
    assert await app.stop(hurry=hurry)
    assert asyncio.get_running_loop().time() - began < 2
