"""The made-up time that these tests run in, and the model of an API server: tools that hide nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.scripted_api import FakeApi, ScriptedSession, SpinError
from tests.support.virtual_time import StuckError, in_virtual_time, now, run_virtual


def test_hours_pass_at_once_and_in_order() -> None:
    seen: list[tuple[float, str]] = []

    async def sleeper(name: str, *seconds: float) -> None:
        for one in seconds:
            await asyncio.sleep(one)
            seen.append((now(), name))

    async def main() -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper("a", 3600, 7200))
            group.create_task(sleeper("b", 0.001, 7000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.Event().wait()
        return "done"

    before = time.process_time()
    assert run_virtual(main()) == "done"
    assert time.process_time() - before < 5
    assert [(round(at, 6), name) for at, name in seen] == [
        (0.001, "b"),
        (3600, "a"),
        (7000.001, "b"),
        (10800, "a"),
    ]


def test_waiting_for_what_can_never_come_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run_virtual(main())


def test_a_task_that_is_left_is_an_error() -> None:
    async def main() -> None:
        main.task = asyncio.create_task(asyncio.sleep(5))  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="left running"):
        run_virtual(main())


def test_what_only_the_loop_hears_of_is_an_error() -> None:
    def fail() -> None:
        raise ValueError("in a callback")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="in a callback"):
        run_virtual(main())


@in_virtual_time
async def test_a_client_that_spins_is_stopped() -> None:
    session = ScriptedSession(model=FakeApi(), most=100)

    async def spin() -> None:
        while True:
            async with session.get("/", {"limit": "1"}):
                pass

    with pytest.raises(SpinError, match="100 requests"):
        await spin()
