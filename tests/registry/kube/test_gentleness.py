"""Fifty replicas that start together, or lose the API server together, do not come to it in one moment."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from registry.kube.settings import ReflectorSettings
from tests.registry.kube.kube_support import following, truth
from tests.support.scripted_api import FakeApi, Fault, Request, ScriptedSession, Streaming
from tests.support.virtual_time import in_virtual_time, now

REPLICAS = 50
WINDOW = 0.05
"""Seconds."""

AT_START = 20
"""Requests in any window while all start: they are spread over 0.3 s, so that a first table is there soon."""

COMING_BACK = 12
"""Requests in any window after all have lost the server in one moment."""


def busiest(requests: list[Request], since: float = 0.0) -> tuple[int, str]:
    """The most requests in any window from then on, and the numbers for people."""
    times = sorted(request.at for request in requests if request.at >= since)
    most, when = max((bisect_left(times, time + WINDOW) - number, time) for number, time in enumerate(times))
    text = f"{most} requests in the {WINDOW * 1000:g} ms from {when:.3f} s; {len(times)} since {since:.3f} s"
    return most, f"{text}, {REPLICAS} replicas"


def lose_together(fault: Fault) -> Callable[[FakeApi], None]:
    return lambda api: api.befall(fault)


def expire_together(api: FakeApi) -> None:
    api.elsewhere()
    api.compact()
    api.befall(Fault.END)


def blip(api: FakeApi) -> None:
    api.go_down()
    asyncio.get_running_loop().call_later(0.01, api.come_up)


def restart(api: FakeApi, fault: Fault, *, forgetful: bool) -> None:
    api.go_down(fault)
    api.elsewhere()
    asyncio.get_running_loop().call_later(20, lambda: api.come_up(forgetful=forgetful))


LOSSES: dict[str, Callable[[FakeApi], None]] = {
    "connections break": lose_together(Fault.CUT),
    "watches are ended": lose_together(Fault.END),
    "watches are half-open": lose_together(Fault.STALL),
    "versions expire": expire_together,
    "away for a moment": blip,
    "killed and started": lambda api: restart(api, Fault.CUT, forgetful=False),
    "killed and started, versions expired": lambda api: restart(api, Fault.CUT, forgetful=True),
    "stopped and started, versions expired": lambda api: restart(api, Fault.END, forgetful=True),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", range(3))
@in_virtual_time
async def test_fifty_replicas_come_one_by_one_when_they_start_and_when_the_server_was_lost(
    loss: str, seed: int
) -> None:
    api = FakeApi()
    for number in range(10):
        api.put(f"t{number}", number)
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(
                following(ScriptedSession(model=api), ReflectorSettings(), seed=1000 * seed + number)
            )
            for number in range(REPLICAS)
        ]
        await asyncio.sleep(30)
        assert all(replica.store.values == truth(api) for replica in replicas)
        most, numbers = busiest(api.requests)
        assert most <= AT_START, numbers
        assert len(api.requests) == REPLICAS, numbers

        lost = now()
        LOSSES[loss](api)
        await asyncio.sleep(10)
        api.put("t0", 100)
        await asyncio.sleep(90)
        assert all(replica.store.values == truth(api) for replica in replicas)
        # What came to a server that was not there cost it nothing, but the network something.
        most, numbers = busiest(api.requests, lost)
        assert most <= COMING_BACK * 1.5, numbers
        returned = lost + 20 if "started" in loss else lost
        most, numbers = busiest(api.requests, returned)
        assert most <= COMING_BACK, numbers


@in_virtual_time
async def test_fifty_replicas_that_list_in_pages_do_not_list_in_one_moment() -> None:
    api = FakeApi()
    api.streaming = Streaming.REFUSED
    async with AsyncExitStack() as stack:
        for seed in range(REPLICAS):
            await stack.enter_async_context(following(ScriptedSession(model=api), ReflectorSettings(), seed=seed))
        await asyncio.sleep(30)
        lists = [request for request in api.requests if request.kind == "list"]
        assert len(lists) == REPLICAS
        most, numbers = busiest(lists)
        assert most <= AT_START, numbers


@pytest.mark.parametrize("every", [60.0, None], ids=["bookmarks", "no bookmarks"])
@in_virtual_time
async def test_fifty_quiet_replicas_that_started_together_drift_apart(every: float | None) -> None:
    api = FakeApi()
    api.bookmarks_every = every
    async with AsyncExitStack() as stack:
        for seed in range(REPLICAS):
            await stack.enter_async_context(following(ScriptedSession(model=api), ReflectorSettings(), seed=seed))
        await asyncio.sleep(3600)
        most, numbers = busiest(api.requests, 1800)
        assert most <= COMING_BACK, numbers
        rate = len(api.requests) / 3600 / REPLICAS
        assert rate <= 0.25, f"{rate:.3f} requests a second of each"


def test_the_busiest_window_is_found() -> None:
    times = [0.0, 1.0, 1.02, 1.049, 1.051, 3.0]
    random.Random(1).shuffle(times)
    requests = [Request("", {}, time) for time in times]
    assert busiest(requests)[0] == 3
    assert busiest(requests, 1.05)[0] == 1
