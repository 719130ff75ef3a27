"""Tasks that should never end are kept going, and nothing of theirs dies silently."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from registry.kube.reflector import Reflector
from registry.sources.supervise import supervise
from tests.registry.kube.kube_support import THINGS, RecordingStore, Thing
from tests.support.scripted_api import FakeApi, ScriptedSession
from tests.support.virtual_time import in_virtual_time, now


class Watched:
    """What a supervisor told, and when."""

    def __init__(self) -> None:
        self.crashes: list[tuple[float, str]] = []
        self.starts: list[float] = []

    def crashed(self, reason: str) -> None:
        self.crashes.append((now(), reason))

    def started(self) -> None:
        self.starts.append(now())

    @property
    def pauses(self) -> list[float]:
        return [start - crash for (crash, _), start in zip(self.crashes, self.starts, strict=False)]


@asynccontextmanager
async def supervised(run: Callable[[], Awaitable[None]]) -> AsyncIterator[Watched]:
    watched = Watched()
    task = asyncio.create_task(supervise("the thing", run, watched.crashed, watched.started))
    yield watched
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@in_virtual_time
async def test_what_crashes_is_told_logged_with_its_trace_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    async def crash() -> None:
        await asyncio.sleep(10)
        raise KeyError("oops")

    async with supervised(crash) as watched:
        await asyncio.sleep(10.4)
        assert watched.crashes == [(10, "KeyError: 'oops'")]
        assert watched.starts == []
        await asyncio.sleep(1)
        assert len(watched.starts) == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the thing crashed; it starts again in" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is KeyError


@in_virtual_time
async def test_what_just_ends_has_crashed_too() -> None:
    async def end() -> None:
        await asyncio.sleep(1)

    async with supervised(end) as watched:
        await asyncio.sleep(1.1)
        assert watched.crashes == [(1, "RuntimeError: the thing ended, which it never should")]


@in_virtual_time
async def test_a_cancellation_that_is_not_the_supervisors_own_is_a_crash() -> None:
    async def cancelled() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with supervised(cancelled) as watched:
        await asyncio.sleep(0.1)
        assert [reason.partition(":")[0] for _, reason in watched.crashes] == ["CancelledError"]


@in_virtual_time
async def test_the_pauses_double_from_a_second_to_thirty_and_are_spread_over_their_upper_half() -> None:
    async def crash() -> None:
        raise ValueError

    async with supervised(crash) as watched:
        await asyncio.sleep(600)
    bounds = [min(2.0**number, 30.0) for number in range(len(watched.pauses))]
    assert len(bounds) > 20
    assert all(
        bound / 2 - 1e-6 <= pause <= bound + 1e-6 for pause, bound in zip(watched.pauses, bounds, strict=True)
    ), watched.pauses
    assert len({round(pause, 3) for pause in watched.pauses}) > 15


@pytest.mark.parametrize(("ran", "short"), [(119.0, False), (120.0, True)])
@in_virtual_time
async def test_after_two_healthy_minutes_the_pause_is_short_again(ran: float, short: bool) -> None:
    runs = iter([0.0] * 8 + [ran])

    async def crash() -> None:
        await asyncio.sleep(next(runs, 1e6))
        raise ValueError

    async with supervised(crash) as watched:
        await asyncio.sleep(700)
    assert len(watched.pauses) == 9
    assert (watched.pauses[-1] <= 1) == short, watched.pauses


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 1.2, 3.0])
@in_virtual_time
async def test_cancelled_while_it_runs_or_waits_it_ends_at_once_and_tells_no_crash(moment: float) -> None:
    async def run() -> None:
        await asyncio.sleep(1)
        raise ValueError

    watched = Watched()
    task = asyncio.create_task(supervise("the thing", run, watched.crashed, watched.started))
    await asyncio.sleep(moment)
    before = len(watched.crashes)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert now() == pytest.approx(moment)
    assert len(watched.crashes) == before


@in_virtual_time
async def test_a_reflector_whose_store_crashes_lists_again_and_is_right_in_the_end() -> None:
    class Failing(RecordingStore):
        def upsert(self, item: Thing) -> None:
            if item.value == 13:
                item_13_seen.append(item.version)
                if len(item_13_seen) < 3:
                    raise OSError("13 is unlucky")
            super().upsert(item)

    item_13_seen: list[int] = []
    api = FakeApi()
    api.put("a", 1)
    session = ScriptedSession(model=api)
    store = Failing()

    async def follow() -> None:
        await Reflector(session, THINGS, store).run()

    async with supervised(follow) as watched:
        await asyncio.sleep(5)
        for _ in range(3):
            api.put("a", 13)
            await asyncio.sleep(10)
        assert [reason for _, reason in watched.crashes] == ["OSError: 13 is unlucky"] * 2
        assert store.values == {"a": 13}
        assert session.kinds == ["streaming list"] * 3
        assert session.open == 1
