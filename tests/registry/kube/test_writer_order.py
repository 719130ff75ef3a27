"""What a pod said last is what stays: whatever is lost or late, and whichever registry it was told. In made-up time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from registry.kube.reports import Result
from registry.kube.resource import JSON, Body, Reply
from registry.kube.server_clock import ServerClock, time_in, with_time
from registry.kube.settings import CallerCheck
from tests.registry.kube.writer_support import IP, POD, World, wanted, writing
from tests.support.scripted_pods import CONDITION, FakePods, refusal
from tests.support.virtual_time import in_virtual_time, now

DATE = 1_769_860_800.0  # 2026-01-31T12:00:00Z


class LatePatch(FakePods):
    """Has the next PATCH applied ``late`` seconds after it came, and says nothing to it."""

    late = 0.0

    async def send(self, method: str, path: str, body: Body | None = None, content_type: str = JSON) -> Reply:
        """Answer a request."""
        if method == "PATCH" and self.late:
            loop, late = asyncio.get_running_loop(), self.late
            self.late = 0.0
            loop.call_later(late, lambda: self._answer("patch", path, path.split("/")[-2], body, content_type))
            await asyncio.sleep(3600)
        return await super().send(method, path, body, content_type)


@contextlib.asynccontextmanager
async def two_registries(**settings: Any) -> AsyncIterator[tuple[World, World]]:
    """Two of them that know the API server's clock."""
    api = FakePods()
    api.make(POD, IP)
    api.date = DATE
    async with writing(api=api, **settings) as one, writing(api=api, **settings) as two:
        for n, world in enumerate((one, two)):
            api.make(f"first-{n}", IP)
            await world.report(name=f"first-{n}")
        await asyncio.sleep(10)
        yield one, two


# ----------------------------------------------------------------------------------------------- one registry


@in_virtual_time
async def test_a_patch_that_is_applied_after_all_does_not_undo_what_the_pod_said_since() -> None:
    api = LatePatch()
    pod = api.make(POD, IP)
    async with writing(api=api) as world:
        api.late = 7.0
        world.writer.submit(wanted("Active/Activating/1"))
        await asyncio.sleep(1)
        assert (await world.report("Active/Active/1")).result is Result.WRITTEN
        assert now() < 7
        await asyncio.sleep(30)
    assert [reason for _, reason in pod.reasons] == ["Active/Active/1"]


@in_virtual_time
async def test_what_others_write_to_the_pod_meanwhile_is_no_failure() -> None:
    async with writing() as world:
        pod = world.api.pods["tars", POD]

        def kubelet() -> None:
            pod.version += 1

        world.api.before_patch += [kubelet] * 7
        assert (await world.report()).result is Result.WRITTEN
        world.api.before_patch += [kubelet] * 8
        assert (await world.report("Active/Active/2")).result is Result.WRITTEN
        assert world.writer.errors == {"conflict": 1}


@in_virtual_time
async def test_a_report_that_a_newer_one_has_replaced_is_not_tried_again() -> None:
    async with writing() as world:
        pod = world.api.pods["tars", POD]
        newer: list[asyncio.Future[object]] = []

        def replaced() -> None:
            pod.version += 1
            newer.append(world.writer.submit(wanted("Active/Active/1")))  # type: ignore[arg-type]

        world.api.before_patch.append(replaced)
        older = world.writer.submit(wanted("Active/Activating/1"))
        assert (await older).result is Result.WRITTEN
        await newer[0]
        assert [reason for _, reason in pod.reasons] == ["Active/Active/1"]


@in_virtual_time
async def test_a_pod_that_reports_all_the_time_is_written_all_the_same() -> None:
    async with writing() as world:
        for n in range(1000):
            world.writer.submit(wanted(f"Active/Active/{n}"))
            await asyncio.sleep(0.001)
        assert len(world.api.pods["tars", POD].reasons) > 50


@in_virtual_time
async def test_a_pod_of_which_the_table_learns_between_two_reports_ends_as_it_last_said() -> None:
    """Until then each namespace is looked into, which takes longer."""
    async with writing(namespaces=("a", "tars")) as world:
        older = world.writer.submit(wanted("Active/Activating/1", namespaces=("a", "tars")))
        newer = world.writer.submit(wanted("Active/Active/1", listed=True))
        assert [(await answer).result for answer in (older, newer)] == [Result.WRITTEN] * 2
        await asyncio.sleep(1)
        assert world.api.pods["tars", POD].reason == "Active/Active/1"
        assert world.writer.queued == 0


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.006, 0.011, 0.1])
@pytest.mark.parametrize("learns", [True, False])
def test_an_older_report_that_fails_is_not_written_over_a_newer_one_by_the_table(pause: float, learns: bool) -> None:
    """The same the other way round: the table forgets a pod between two of its reports."""

    @in_virtual_time
    async def test() -> None:
        namespaces = [("a", "tars"), ("tars",)]
        async with writing(namespaces=("a", "tars")) as world:
            world.api.answers["patch"] = refusal(409)
            older = world.writer.submit(wanted("Active/Activating/1", namespaces=namespaces[not learns]))
            await asyncio.sleep(pause)
            del world.api.answers["patch"]
            newer = world.writer.submit(wanted("Active/Active/1", namespaces=namespaces[learns]))
            assert [(await answer).result for answer in (older, newer)] == [Result.WRITTEN] * 2
            await asyncio.sleep(60)
            assert world.api.pods["tars", POD].reason == "Active/Active/1"
            assert world.writer.queued == 0

    test()


@in_virtual_time
async def test_a_write_whose_answer_got_lost_is_told_once_though_it_was_reported_again() -> None:
    async with writing(latency=0.5) as world:
        world.api.lose_next_patch = True
        world.writer.submit(wanted())
        await asyncio.sleep(0.7)  # it is being patched
        outcome = await world.report()
        assert (outcome.result, outcome.before) == (Result.WRITTEN, "")
        assert len(world.api.pods["tars", POD].reasons) == 1
        await world.worked_off()
        assert [outcome.result for _, outcome in world.outcomes] == [Result.WRITTEN]


@in_virtual_time
async def test_a_write_whose_answer_came_is_not_told_again_when_it_was_reported_again() -> None:
    async with writing(latency=0.5) as world:
        world.writer.submit(wanted())
        await asyncio.sleep(0.7)
        await world.report()
        await world.worked_off()
        assert [outcome.result for _, outcome in world.outcomes] == [Result.WRITTEN, Result.UNCHANGED]


@in_virtual_time
async def test_a_write_that_was_done_though_the_server_answered_that_it_failed_is_told() -> None:
    class Gateway(FakePods):
        """Answers 504 to the first PATCH, which it applies."""

        once = True

        def _answer(self, verb: str, path: str, name: str, body: Body | None, content_type: str) -> Reply:
            reply = super()._answer(verb, path, name, body, content_type)
            if verb == "patch" and self.once:
                self.once = False
                return refusal(504)
            return reply

    api = Gateway()
    pod = api.make(POD, IP)
    async with writing(api=api) as world:
        assert (await world.report()).result is Result.WRITTEN
    assert len(pod.reasons) == 1


# ---------------------------------------------------------------------------------------------- two registries


@in_virtual_time
async def test_the_condition_tells_when_the_report_came_by_the_servers_clock() -> None:
    async with two_registries() as (one, _):
        pod = one.api.pods["tars", POD]
        one.api.down = True
        answer = one.writer.submit(wanted("Active/Activating/1"))
        arrived = now()
        await asyncio.sleep(20)
        one.api.down = False
        await answer
        told = time_in(pod.conditions[CONDITION]["message"])
        assert told
        assert told.timestamp() == pytest.approx(DATE + arrived, abs=1)
        message = pod.conditions[CONDITION]["message"]
        assert message.startswith("as reported at 2026-01-31T12:00:")
        assert (await one.report("Active/Activating/1")).result is Result.UNCHANGED, "the time alone is no change"
        assert pod.conditions[CONDITION]["message"] == message


@in_virtual_time
async def test_a_state_that_waits_is_not_written_over_what_the_pod_said_later_to_another_registry() -> None:
    async with two_registries() as (one, two):
        pods = [one.api.make(f"pod-{n}", IP) for n in range(100)]
        one.api.down = True
        older = [(one, two)[n % 2].writer.submit(wanted("Active/Activating/1", name=f"pod-{n}")) for n in range(100)]
        await asyncio.sleep(10)
        newer = [(two, one)[n % 2].writer.submit(wanted("Active/Active/1", name=f"pod-{n}")) for n in range(100)]
        await asyncio.sleep(20)
        one.api.down = False
        assert {(await answer).result for answer in newer} == {Result.WRITTEN}
        results = {(await answer).result for answer in older}
        assert Result.SUPERSEDED in results
        assert results <= {Result.SUPERSEDED, Result.WRITTEN}
        assert {pod.reason for pod in pods} == {"Active/Active/1"}
        superseded = [outcome for _, outcome in one.outcomes if outcome.result is Result.SUPERSEDED]
        assert superseded[0].word == "superseded"
        assert superseded[0].error == "", "the caller is told that all is well"
        assert not one.writer.unheard


@in_virtual_time
async def test_a_state_that_was_not_written_for_a_later_one_is_counted_though_nobody_waits_any_more() -> None:
    async with two_registries(write_rate=1, write_burst=1) as (one, two):
        for n in range(4):
            one.writer.submit(wanted(name=f"nobody-{n}"))
        one.writer.submit(wanted("Active/Activating/1")).cancel()
        await asyncio.sleep(1)
        await two.report("Active/Active/1")
        await one.worked_off()
        assert one.writer.unheard == {"superseded": 1}


@in_virtual_time
async def test_a_state_that_is_as_before_again_is_not_undone_by_the_one_between() -> None:
    """Nothing would be to write then, but that it was said later."""
    async with two_registries() as (one, two):
        pods = [one.api.make(f"pod-{n}", IP) for n in range(100)]
        await asyncio.gather(*(one.report("Active/Active/1", name=f"pod-{n}") for n in range(100)))
        one.api.down = True
        for n in range(100):
            (one, two)[n % 2].writer.submit(wanted("Active/Deactivating/1", name=f"pod-{n}"))
        await asyncio.sleep(10)
        newer = [(two, one)[n % 2].writer.submit(wanted("Active/Active/1", name=f"pod-{n}")) for n in range(100)]
        await asyncio.sleep(20)
        one.api.down = False
        assert {(await answer).result for answer in newer} == {Result.WRITTEN, Result.UNCHANGED}
        await one.worked_off()
        await two.worked_off()
        assert {pod.reason for pod in pods} == {"Active/Active/1"}


@in_virtual_time
async def test_a_registry_with_much_to_write_does_not_undo_what_an_idle_one_wrote() -> None:
    async with two_registries(write_rate=1, write_burst=1) as (one, two):
        for n in range(8):
            one.writer.submit(wanted(name=f"nobody-{n}"))
        older = one.writer.submit(wanted("Active/Activating/1"))
        await asyncio.sleep(2)
        assert (await two.report("Active/Active/1")).result is Result.WRITTEN
        assert (await older).result is Result.SUPERSEDED
        assert one.api.pods["tars", POD].reason == "Active/Active/1"


@in_virtual_time
async def test_a_report_that_has_just_come_is_written_whatever_time_the_condition_tells() -> None:
    """The clocks of several API servers may differ, and a repeat is to mend whatever is there."""
    async with two_registries() as (one, _):
        pod = one.api.pods["tars", POD]
        await one.report("Active/Activating/1")
        pod.conditions[CONDITION]["message"] = "as reported at 2036-01-31T12:00:00.000Z"
        assert (await one.report("Active/Active/1")).result is Result.WRITTEN


@in_virtual_time
async def test_where_the_servers_clock_is_not_known_no_time_is_told() -> None:
    async with writing(caller_check=CallerCheck.OFF) as world:
        await world.report()
        assert world.api.pods["tars", POD].conditions[CONDITION]["message"] == "as reported"


# --------------------------------------------------------------------------------------------- the server's clock


@in_virtual_time
async def test_the_servers_clock_is_known_to_what_its_dates_are_cut_by() -> None:
    time = asyncio.get_running_loop().time
    clock = ServerClock(time)
    assert clock.at(0) is None
    clock.note(None)
    assert clock.at(0) is None
    chance = random.Random(1)
    for _ in range(200):
        await asyncio.sleep(chance.random())
        clock.note(float(int(DATE + 0.7 + now())))
        await asyncio.sleep(0.01)
    at = clock.at(time())
    assert at
    assert DATE + 0.65 + now() < at.timestamp() <= DATE + 0.701 + now()


@in_virtual_time
async def test_a_clock_that_is_set_back_is_followed() -> None:
    time = asyncio.get_running_loop().time
    clock = ServerClock(time)
    for date in (DATE + 3600, DATE, DATE - 1.5):
        clock.note(date)
        at = clock.at(time())
        assert at
        assert at.timestamp() == max(date, DATE), "an answer may take a moment, and its date is cut"


def test_a_time_is_read_as_it_was_written() -> None:
    at = time_in("x at 2026-01-31T12:00:00.123Z")
    assert at
    assert with_time("the message", at) == "the message at 2026-01-31T12:00:00.123Z"
    for text in ("", "reported by the pod's tarsnode", "at 2026-01-31T12:00:00Z", "x at 2026-13-31T12:00:00.123Z"):
        assert time_in(text) is None
    assert with_time("the message", None) == "the message"
