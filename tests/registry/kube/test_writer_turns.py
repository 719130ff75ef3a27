"""Who has to wait when writing fails: the pod, or everybody. In made-up time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from registry.kube.pods import Condition
from registry.kube.reports import MAX_CALLERS, Result, Wanted
from registry.kube.resource import JSON, Body, Reply
from registry.kube.rights import Rights
from registry.kube.settings import WriterSettings
from registry.kube.writer import Writer
from tests.registry.kube.writer_support import IP, POD, World, wanted, writing
from tests.support.scripted_pods import CONDITION, FakePods, refusal
from tests.support.virtual_time import in_virtual_time, now

OWN = Wanted(("tars",), "registry-0", Condition(CONDITION, True, "Active/Active", "the registry has its table"))


class SomeFail(FakePods):
    """``replies`` by the beginning of a pod's name and the namespace: what is said to each PATCH; None: nothing."""

    def __init__(self, latency: float = 0.005) -> None:
        super().__init__(latency)
        self.replies: Mapping[str, Reply | None] = {}

    async def send(self, method: str, path: str, body: Body | None = None, content_type: str = JSON) -> Reply:
        """Answer a request."""
        for part, reply in self.replies.items():
            if method == "PATCH" and f"/{part}" in path:
                await asyncio.sleep(self.latency if reply else 3600)
                assert reply
                return reply
        return await super().send(method, path, body, content_type)


async def longest_wait(world: World, pods: int, pause: float, **more: Any) -> float:
    """Have healthy pods report one after the other; how long the slowest of them waited."""
    for n in range(pods):
        world.api.make(f"ok-{n}", f"10.2.0.{n}", namespace=more.get("namespaces", ("tars",))[0])
    waits = []
    for n in range(pods):
        began = now()
        assert (await world.report(name=f"ok-{n}", peer=f"10.2.0.{n}", **more)).result is Result.WRITTEN
        waits.append(now() - began)
        await asyncio.sleep(pause)
    return max(waits)


@pytest.mark.parametrize("code", [0, 429, 500, 503])
@pytest.mark.parametrize("retry_after", [0, 30])
def test_one_pod_that_gets_no_good_answer_holds_up_no_other(code: int, retry_after: int) -> None:
    @in_virtual_time
    async def test() -> None:
        api = SomeFail()
        api.make("poison", IP)
        api.replies = {"pods/poison": refusal(code, retry_after=retry_after) if code else None}
        async with writing(api=api) as world:
            world.writer.submit(wanted(name="poison"))
            assert await longest_wait(world, 200, 0.2) < 0.1

    test()


@pytest.mark.parametrize("poisoned", [3, 50])
def test_pods_that_can_never_be_written_let_others_be_written_between(poisoned: int) -> None:
    @in_virtual_time
    async def test() -> None:
        api = SomeFail()
        api.replies = {"pods/poison": refusal(500, "failed calling webhook")}
        async with writing(api=api) as world:
            for n in range(poisoned):
                api.make(f"poison-{n}", IP)
                world.writer.submit(wanted(name=f"poison-{n}", peer=IP))
            await asyncio.sleep(120)
            assert await longest_wait(world, 30, 0) < 4.1
            assert await longest_wait(world, 30, 5) < 4.1

    test()


@pytest.mark.parametrize(("poisoned", "longest"), [(4, 2.5), (50, 7.0)])
def test_pods_whose_writes_are_never_answered_hold_up_others_no_longer_than_one_answer(
    poisoned: int, longest: float
) -> None:
    """Those that wait for one do not keep the next from being tried."""

    @in_virtual_time
    async def test() -> None:
        api = SomeFail()
        api.replies = {"pods/poison": None}
        async with writing(api=api) as world:
            for n in range(poisoned):
                api.make(f"poison-{n}", IP)
                world.writer.submit(wanted(name=f"poison-{n}", peer=f"10.1.0.{n}"))
            await asyncio.sleep(120)
            assert await longest_wait(world, 30, 1) < longest

    test()


@in_virtual_time
async def test_a_namespace_without_the_right_to_write_slows_down_no_other() -> None:
    api = SomeFail()
    api.replies = {"namespaces/a/": refusal(403, "may not patch in a")}
    async with writing(api=api, namespaces=("a", "b")) as world:
        for n in range(200):
            api.make(f"pod-{n}", IP, namespace="a")
            world.writer.submit(wanted(name=f"pod-{n}", namespaces=("a",)))
        await asyncio.sleep(60)
        assert await longest_wait(world, 20, 3, namespaces=("b",)) < 0.1
        assert world.writer.problem == ""


@in_virtual_time
async def test_pods_without_an_address_show_that_the_server_is_back() -> None:
    async with writing() as world:
        for n in range(500):
            world.api.make(f"new-{n}")
        world.api.down = True
        for n in range(500):
            world.writer.submit(wanted(name=f"new-{n}", peer=f"10.1.{n // 250}.{n % 250}"))
        mine = world.writer.submit(wanted())
        await asyncio.sleep(30)
        world.api.down = False
        back = now()
        assert (await mine).result is Result.WRITTEN
        assert now() - back < 4.5
        assert world.writer.problem == ""


@in_virtual_time
async def test_an_outage_does_not_count_as_failures_of_the_pod() -> None:
    async with writing() as world:
        world.api.down = True
        answer = world.writer.submit(wanted())
        await asyncio.sleep(60)
        world.api.down = False
        world.api.answers["patch"] = refusal(409)
        await world.until(lambda: world.writer.errors["conflict"] > 0)
        failed = now()
        del world.api.answers["patch"]
        await answer
        assert now() - failed < 0.6


@in_virtual_time
async def test_a_404_of_something_between_here_and_the_api_server_says_nothing_of_pods() -> None:
    async with writing() as world:
        world.api.answers["get"] = Reply(404, b"<html>default backend - 404</html>")
        answer = world.writer.submit(wanted())
        await asyncio.sleep(10)
        assert not answer.done()
        assert world.writer.errors.keys() == {"bad_answer"}
        del world.api.answers["get"]
        assert (await answer).result is Result.WRITTEN


# ------------------------------------------------------------------------------------------- the own readiness


@in_virtual_time
async def test_the_registrys_own_condition_goes_before_all_that_waits() -> None:
    async with writing() as world:
        own = world.api.make("registry-0", "10.0.0.50")
        for n in range(2000):
            world.api.make(f"pod-{n}", IP)
            world.writer.submit(wanted(name=f"pod-{n}", peer=f"10.2.{n // 250}.{n % 250}"))
        await asyncio.sleep(3)
        assert world.writer.queued > 900
        began = now()
        await world.writer.submit(OWN)
        assert now() - began < 0.1
        assert own.reason == "Active/Active"


@in_virtual_time
async def test_the_registrys_own_condition_has_room_in_a_crowd_of_strangers() -> None:
    async with writing() as world:
        own = world.api.make("registry-0", "10.0.0.50")
        world.api.down = True
        for n in range(MAX_CALLERS):
            world.writer.submit(wanted("Inactive/Inactive", name="registry-0", peer=f"10.0.9.{n}"))
        answer = world.writer.submit(OWN)
        await asyncio.sleep(10)
        assert not answer.done()
        world.writer.submit(wanted("Active/Active/1", name="registry-0", peer="10.0.8.8", listed=True))
        assert not answer.done(), "nor is it what makes room for others"
        world.api.down = False
        assert (await answer).result is Result.WRITTEN
        assert own.reason == "Active/Active"


@in_virtual_time
async def test_an_own_condition_that_can_not_be_written_holds_up_nobody() -> None:
    api = SomeFail()
    api.make("registry-0", "10.0.0.50")
    api.replies = {"pods/registry-0": refusal(500), "pods/poison": refusal(500)}
    async with writing(api=api) as world:
        for name in ("poison-0", "poison-1", "poison-2"):
            api.make(name, IP)
            world.writer.submit(wanted(name=name))
        world.writer.submit(OWN)
        await asyncio.sleep(60)
        assert world.writer.problem
        api.replies = {"pods/registry-0": refusal(500)}
        await asyncio.sleep(10)
        assert all(api.pods["tars", f"poison-{n}"].reason for n in range(3))


# ---------------------------------------------------------------------------------- pods without an address yet


@in_virtual_time
async def test_the_first_report_of_a_pod_does_not_wait_for_what_strangers_reports_wait_for() -> None:
    async with writing() as world:
        pod = world.api.make("new-0")
        world.writer.submit(wanted("Inactive/Inactive", name="new-0", peer="10.0.9.9", listed=True))
        await asyncio.sleep(300)
        pod.ips.append(IP)
        began = now()
        assert (await world.report(name="new-0", listed=True)).result is Result.WRITTEN
        assert now() - began < 0.1


@in_virtual_time
async def test_a_report_that_waits_for_its_pods_address_is_none_that_waits_for_the_registry() -> None:
    async with writing() as world:
        world.api.make("new-0")
        world.writer.submit(wanted(name="new-0", listed=True))
        await asyncio.sleep(600)
        assert (world.writer.queued, world.writer.oldest) == (1, 0.0)
        world.api.down = True
        world.writer.submit(wanted())
        await asyncio.sleep(100)
        assert world.writer.oldest == pytest.approx(100)


@in_virtual_time
async def test_a_stranger_does_not_wait_for_ever_for_the_address_of_a_pod() -> None:
    """However often it reports: the pod's own tarsnode does not run before there is an address."""
    async with writing() as world:
        world.api.make("new-0")
        first = world.writer.submit(wanted("Inactive/Inactive/1", name="new-0", peer="10.0.9.9", listed=False))
        await asyncio.sleep(110)
        assert not first.done()
        outcome = await world.report("Inactive/Inactive/2", name="new-0", peer="10.0.9.9", listed=False)
        assert (outcome.reason, outcome.text) == (
            "wrong_caller",
            "pod tars/new-0 has no address yet, so 10.0.9.9 can't be checked",
        )
        assert 120 <= now() < 160
        assert (await first).reason == "wrong_caller"
        assert world.writer.queued == 0


# ----------------------------------------------------------------------------------------- until all is written


@in_virtual_time
async def test_whoever_waits_for_all_to_be_written_does_not_wait_for_what_may_take_for_ever() -> None:
    async with writing(write_rate=10, write_burst=1) as world:
        await world.writer.worked_off()
        for n in range(20):
            world.api.make(f"pod-{n}", IP)
            world.writer.submit(wanted(name=f"pod-{n}"))
        world.api.make("new-0")
        world.writer.submit(wanted(name="new-0", listed=True))
        await world.writer.worked_off()
        assert now() == pytest.approx(2, abs=0.2)
        assert all(world.api.pods["tars", f"pod-{n}"].reason for n in range(20))
        assert world.writer.queued == 1


@in_virtual_time
async def test_a_run_that_starts_over_keeps_no_pod_without_reports() -> None:
    api = FakePods(5.0)
    writer = Writer(api, Rights(api, (), (), WriterSettings()), WriterSettings(api_timeout=60))
    run = asyncio.create_task(writer.run())
    older = writer.submit(wanted("Active/Activating/1", name="x-0", namespaces=("a", "b")))
    await asyncio.sleep(1)
    api.make("x-0", IP, namespace="a")
    newer = writer.submit(wanted("Active/Active/1", name="x-0", namespaces=("a",)))
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    run = asyncio.create_task(writer.run())
    assert [(await answer).result for answer in (older, newer)] == [Result.WRITTEN, Result.WRITTEN]
    assert writer.queued == 0
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


@in_virtual_time
async def test_a_refusal_now_and_then_between_thousands_of_good_answers_takes_no_right_away() -> None:
    async with writing() as world:
        world.api.make("other-0", IP)
        for second in range(30):
            world.api.answers["other-0"] = refusal(403)
            other = world.writer.submit(wanted(name="other-0"))
            await asyncio.sleep(0.5)
            del world.api.answers["other-0"]
            await world.report(f"Active/Active/{second}")
            await asyncio.sleep(0.5)
            await other
        assert world.rights.missing == []
        assert (await world.report("Inactive/Inactive", peer="10.0.9.9")).reason == "wrong_caller"
    assert world.api.pods["tars", POD].reason == "Active/Active/29"
