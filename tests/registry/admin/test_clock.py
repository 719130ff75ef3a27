"""A clock that is set is noticed, and nothing else comes of it."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from registry.admin.clock import ClockWatch
from tests.support.virtual_time import in_virtual_time


@pytest.mark.parametrize(("by", "way"), [(86_400.0, "forward"), (-86_400.0, "back"), (1.7, "forward")])
def test_a_jump_is_told_once(
    by: float, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = ClockWatch()
    watch.look()
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() + by)
        for _ in range(3):
            watch.look()
    assert watch.jumps == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"the clock was set {way} by {abs(by):.0f} s, or the machine slept")
    watch.look()
    assert watch.jumps == 2, "and when it is set right again"


def test_a_clock_that_is_adjusted_slowly_is_no_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = ClockWatch()
    real, drift = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + drift)
    for _ in range(100):
        drift += 0.4
        watch.look()
    assert watch.jumps == 0


@in_virtual_time
async def test_it_looks_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = ClockWatch()
    looks: list[None] = []
    monkeypatch.setattr(watch, "look", lambda: looks.append(None))
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(10.5)
    task.cancel()
    await asyncio.wait([task])
    assert len(looks) == 10
