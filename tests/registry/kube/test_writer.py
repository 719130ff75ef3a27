"""Conditions of pods are written: once, the newest, by whom it may, and in the end always. In made-up time."""

from __future__ import annotations

import asyncio

import pytest

from registry.kube.reports import MAX_CALLERS, Result
from registry.kube.rights import Rights
from registry.kube.settings import CallerCheck, WriterSettings
from registry.kube.writer import Writer
from tests.registry.kube.writer_support import IP, POD, wanted, writing
from tests.support.scripted_pods import CONDITION, FakePods, refusal
from tests.support.virtual_time import in_virtual_time, now


@in_virtual_time
async def test_a_state_is_written_as_a_condition_with_the_time_of_its_change() -> None:
    async with writing() as world:
        assert (await world.report("Active/Activating/27")).result is Result.WRITTEN
        pod = world.api.pods["tars", POD]
        condition = dict(pod.conditions[CONDITION])
        assert condition.pop("lastTransitionTime").endswith("Z")
        assert condition == {
            "type": CONDITION,
            "status": "False",
            "reason": "Active/Activating/27",
            "message": "as reported",
        }
        assert (await world.report("Active/Active/27")).before == "Active/Activating/27"
        assert pod.conditions[CONDITION]["status"] == "True"


@in_virtual_time
async def test_the_time_of_the_change_stays_while_the_status_does() -> None:
    async with writing() as world:
        await world.report("Active/Activating/27")
        await world.report("Active/Deactivating/27")
        patches = [asked.body for asked in world.api.asked if asked.verb == "patch"]
        has_time = ["lastTransitionTime" in patch["status"]["conditions"][0] for patch in patches if patch]
        assert has_time == [True, False]


@in_virtual_time
async def test_nothing_is_written_when_nothing_changed() -> None:
    async with writing() as world:
        results = [(await world.report()).result for _ in range(3)]
        assert results == [Result.WRITTEN, Result.UNCHANGED, Result.UNCHANGED]
        assert (world.api.count("get"), world.api.count("patch")) == (3, 1)


@in_virtual_time
async def test_a_pod_that_was_made_again_is_written_though_its_state_is_the_same() -> None:
    async with writing() as world:
        await world.report()
        again = world.api.make(POD, "10.0.0.2")
        assert (await world.report(peer="10.0.0.2")).result is Result.WRITTEN
        assert again.reason == "Active/Active/1"


@in_virtual_time
async def test_a_condition_that_somebody_else_changed_is_written_again() -> None:
    async with writing() as world:
        await world.report()
        world.api.pods["tars", POD].conditions[CONDITION]["status"] = "False"
        assert (await world.report()).result is Result.WRITTEN


@in_virtual_time
async def test_a_pod_that_is_made_again_between_read_and_patch_is_read_again() -> None:
    async with writing() as world:
        world.api.before_patch.append(lambda: world.api.make(POD, IP))
        assert (await world.report()).result is Result.WRITTEN
        assert world.api.pods["tars", POD].reason == "Active/Active/1"


@in_virtual_time
async def test_a_pod_that_is_made_again_with_another_address_does_not_get_the_old_ones_state() -> None:
    async with writing() as world:
        world.api.before_patch.append(lambda: world.api.make(POD, "10.0.0.2"))
        outcome = await world.report()
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "wrong_caller")
        assert world.api.pods["tars", POD].conditions == {}


@in_virtual_time
async def test_a_pod_that_goes_between_read_and_patch_is_no_pod() -> None:
    async with writing() as world:
        world.api.before_patch.append(world.api.pods.clear)
        outcome = await world.report()
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "no_pod")
        assert world.writer.queued == 0


@in_virtual_time
async def test_a_pod_that_is_not_there_is_refused() -> None:
    async with writing() as world:
        outcome = await world.report(name="other-0")
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "no_pod")
        assert outcome.text == "there is no pod other-0 in tars"


# --------------------------------------------------------------------------------------------------- callers


@in_virtual_time
async def test_a_caller_without_an_address_of_the_pod_is_refused_and_told_which_it_has() -> None:
    async with writing() as world:
        outcome = await world.report(peer="10.0.0.9")
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "wrong_caller")
        assert outcome.text == f"10.0.0.9 is no address of pod tars/{POD} ({IP})"
        assert outcome.pod
        assert world.api.count("patch") == 0


@in_virtual_time
async def test_any_address_of_the_pod_will_do_however_it_is_spelt() -> None:
    async with writing() as world:
        world.api.make(POD, IP, "FD00:0::1")
        assert (await world.report(peer="fd00::1")).result is Result.WRITTEN


@in_virtual_time
async def test_the_table_may_be_old_so_the_pod_itself_is_asked_before_anything_is_refused() -> None:
    async with writing() as world:
        assert (await world.report(listed=False)).result is Result.WRITTEN


@pytest.mark.parametrize(("check", "suspect"), [(CallerCheck.WARN, True), (CallerCheck.OFF, False)])
def test_where_callers_are_not_refused_they_are_written(check: CallerCheck, suspect: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        async with writing(caller_check=check) as world:
            outcome = await world.report(peer="10.0.0.9")
            assert (outcome.result, bool(outcome.suspect)) == (Result.WRITTEN, suspect)

    test()


@in_virtual_time
async def test_a_report_of_somebody_else_does_not_push_out_that_of_the_pod() -> None:
    async with writing() as world:
        world.api.down = True
        mine = world.writer.submit(wanted("Active/Active/1"))
        others = [world.writer.submit(wanted("Inactive/Inactive", peer=f"10.0.9.{n}")) for n in range(20)]
        await asyncio.sleep(1)
        world.api.down = False
        assert (await mine).result is Result.WRITTEN
        reasons = [(await other).reason for other in others]
        assert reasons == ["wrong_caller"] * (MAX_CALLERS - 1) + ["overload"] * (21 - MAX_CALLERS)
        assert [reason for _, reason in world.api.pods["tars", POD].reasons] == ["Active/Active/1"]


@in_virtual_time
async def test_a_pod_without_an_address_yet_is_waited_for() -> None:
    async with writing() as world:
        pod = world.api.make(POD)
        answer = world.writer.submit(wanted())
        await asyncio.sleep(2)
        assert not answer.done()
        assert not world.writer.problem
        pod.ips.append(IP)
        assert (await answer).result is Result.WRITTEN


@in_virtual_time
async def test_of_several_namespaces_the_one_whose_pod_has_the_callers_address_is_meant() -> None:
    async with writing(namespaces=("tars", "more", "third")) as world:
        other = world.api.make(POD, "10.0.0.2", namespace="third")
        both = ("tars", "more", "third")
        first, second = await asyncio.gather(
            world.report("Active/Active/1", namespaces=both),
            world.report("Active/Active/2", namespaces=both, peer="10.0.0.2"),
        )
        assert (first.namespace, second.namespace) == ("tars", "third")
        assert (world.api.pods["tars", POD].reason, other.reason) == ("Active/Active/1", "Active/Active/2")
        outcome = await world.report(namespaces=both, peer="10.0.0.3")
        assert (outcome.reason, outcome.namespace) == ("wrong_caller", "tars")


# ----------------------------------------------------------------------------------------- without some rights


@in_virtual_time
async def test_without_the_right_to_read_states_are_written_and_callers_only_looked_at() -> None:
    async with writing() as world:
        world.api.forbidden.add("get")
        pod = world.api.pods["tars", POD]
        assert world.writer.check("tars") is CallerCheck.ENFORCE
        assert (await world.report(peer="10.0.0.9", listed=False)).suspect
        assert world.writer.check("tars") is CallerCheck.WARN
        assert (await world.report("Active/Active/2", listed=True)).suspect == ""
        assert [reason for _, reason in pod.reasons] == ["Active/Active/1", "Active/Active/2"]
        assert now() < 4, "some refusals were needed to be certain"
        assert world.api.count("get") < 6


@in_virtual_time
async def test_a_server_that_refuses_everything_for_a_moment_takes_no_right_away_and_lets_no_stranger_write() -> None:
    """As one does that has just started, and has not read its roles yet."""
    async with writing() as world:
        world.api.forbidden |= {"get", "patch"}
        stranger = world.writer.submit(wanted("Inactive/Inactive/1", peer="10.0.0.9"))
        mine = world.writer.submit(wanted())
        await asyncio.sleep(1.5)
        assert not stranger.done()
        assert not mine.done()
        world.api.forbidden.clear()
        assert (await stranger).reason == "wrong_caller"
        assert (await mine).result is Result.WRITTEN
        assert world.rights.missing == []


@in_virtual_time
async def test_without_the_right_to_read_enforcing_goes_by_the_table() -> None:
    async with writing(caller_check=CallerCheck.ENFORCE) as world:
        world.api.forbidden.add("get")
        assert (await world.report(listed=True)).result is Result.WRITTEN
        for listed in (False, None):
            assert (await world.report("x", listed=listed)).reason == "wrong_caller"


@in_virtual_time
async def test_without_the_right_to_read_a_repeat_is_not_written_for_a_while_and_then_mends() -> None:
    async with writing() as world:
        world.api.forbidden.add("get")
        results = []
        for pause in (0, 1, 298, 2):
            await asyncio.sleep(pause)
            results.append((await world.report()).result)
        assert results == [Result.WRITTEN, Result.UNCHANGED, Result.UNCHANGED, Result.WRITTEN]
        assert (await world.report("Active/Active/2")).result is Result.WRITTEN


@in_virtual_time
async def test_without_the_right_to_read_what_somebody_else_had_written_since_is_no_repeat() -> None:
    async with writing() as world:
        world.api.forbidden.add("get")
        await world.report()
        await world.report("Active/Inactive/1", peer="10.0.0.2")
        assert (await world.report()).result is Result.WRITTEN
        assert world.api.pods["tars", POD].reason == "Active/Active/1"


@in_virtual_time
async def test_without_the_right_to_read_what_was_written_is_forgotten_in_time() -> None:
    async with writing() as world:
        world.api.forbidden.add("get")
        for n in range(1000):
            world.api.make(f"pod-{n}", IP)
            await world.report(name=f"pod-{n}")
        await asyncio.sleep(300)
        await world.report()
        assert world.writer.remembered == 1


@in_virtual_time
async def test_without_the_right_to_write_callers_are_told_so_and_states_are_written_once_it_is_granted() -> None:
    async with writing() as world:
        world.api.forbidden.add("patch")
        began = now()
        outcome = await world.report()
        assert (outcome.result, outcome.reason) == (Result.FAILED, "forbidden")
        assert "may not patch" in outcome.text
        assert now() - began < 4, "a caller waits no longer"
        again = await world.report("Active/Active/2", name=POD)
        assert (again.result, again.reason) == (Result.FAILED, "forbidden")
        assert world.writer.queued == 1
        await asyncio.sleep(600)
        assert world.api.count("patch") < 60
        world.api.forbidden.clear()
        await world.until(lambda: world.api.pods["tars", POD].reason == "Active/Active/2")
        assert world.writer.queued == 0


@in_virtual_time
async def test_without_the_right_to_read_each_namespace_is_tried() -> None:
    several = ("a", "b", "c", "d", "tars")
    async with writing(namespaces=several) as world:
        world.api.forbidden.add("get")
        outcome = await world.report(namespaces=several)
        assert (outcome.result, outcome.namespace) == (Result.WRITTEN, "tars")
        outcome = await world.report(namespaces=several, name="other-0")
        assert (outcome.result, outcome.text) == (Result.REFUSED, "there is no pod other-0 in a, b, c, d, tars")


# ------------------------------------------------------------------------------------------------------ storms


@in_virtual_time
async def test_a_storm_for_one_pod_is_written_as_its_newest_state() -> None:
    async with writing() as world:
        world.api.down = True
        answers = [world.writer.submit(wanted(f"Active/Active/{n}")) for n in range(1000)]
        await asyncio.sleep(1)
        world.api.down = False
        assert {(await answer).result for answer in answers} == {Result.WRITTEN}
        assert [reason for _, reason in world.api.pods["tars", POD].reasons] == ["Active/Active/999"]
        assert len(world.outcomes) == 1


@in_virtual_time
async def test_what_comes_in_while_a_state_is_written_is_written_after_it() -> None:
    async with writing() as world:
        first = world.writer.submit(wanted("Active/Active/1"))
        await asyncio.sleep(0.007)  # read, not yet patched
        second = world.writer.submit(wanted("Active/Active/2"))
        assert (await first).result is Result.WRITTEN
        assert not second.done()
        assert (await second).before == "Active/Active/1"


@in_virtual_time
async def test_twenty_thousand_pods_that_report_within_a_minute_are_written_at_the_rate_that_is_set() -> None:
    async with writing(latency=0.02) as world:
        for n in range(20_000):
            world.api.make(f"pod-{n}", IP)
        answers = []
        for n in range(20_000):
            for state in ("Activating", "Active"):
                answers.append(world.writer.submit(wanted(f"Active/{state}/{n}", name=f"pod-{n}")))
            if n % 100 == 99:
                await asyncio.sleep(0.3)
        assert now() == pytest.approx(60)
        await world.worked_off()
        assert {(await answer).result for answer in answers} == {Result.WRITTEN}
        assert {pod.reason for (_, name), pod in world.api.pods.items() if name != POD} == {
            f"Active/Active/{n}" for n in range(20_000)
        }
        assert now() < (20_000 - 400) / 200 + 2
        for verb in ("get", "patch"):
            assert world.api.busiest_second(verb) <= 200 + 400 + 32
            assert world.api.count(verb) == 20_000
        assert world.api.most_in_flight <= 32


@in_virtual_time
async def test_two_thousand_that_flip_at_once_are_each_written_at_most_once_for_each_state() -> None:
    async with writing(latency=0.02) as world:
        for n in range(2_000):
            world.api.make(f"pod-{n}", IP)
        for state in ("Active", "Inactive", "Active", "Inactive"):
            for n in range(2_000):
                world.writer.submit(wanted(f"Active/{state}/1", name=f"pod-{n}"))
        await world.worked_off()
        histories = [pod.reasons for (_, name), pod in world.api.pods.items() if name != POD]
        assert {history[-1][1] for history in histories} == {"Active/Inactive/1"}
        assert world.api.count("patch") == 2_000


@in_virtual_time
async def test_pods_take_turns_so_one_that_never_rests_holds_up_nobody() -> None:
    async with writing(write_rate=10, write_burst=1) as world:

        async def restless() -> None:
            for n in range(100_000):
                await world.report(f"Active/Active/{n}")

        task = asyncio.create_task(restless())
        await asyncio.sleep(10)
        for n in range(5):
            world.api.make(f"pod-{n}", IP)
        began = now()
        await asyncio.gather(*(world.report(name=f"pod-{n}") for n in range(5)))
        assert now() - began < 1.5
        task.cancel()


@in_virtual_time
async def test_more_pods_than_may_wait_are_refused() -> None:
    async with writing(max_queued_pods=2) as world:
        world.api.down = True
        answers = [world.writer.submit(wanted(name=f"pod-{n}")) for n in range(3)]
        assert (await answers[2]).reason == "overload"
        repeat = world.writer.submit(wanted("Active/Inactive/1", name="pod-0"))
        assert not repeat.done()
        assert [outcome.reason for _, outcome in world.outcomes] == ["overload"]


@in_virtual_time
async def test_whoever_has_the_most_waiting_makes_room_for_a_pod_of_another_address() -> None:
    """A flood from one address can't have the state of a new pod refused, in an outage either."""
    async with writing(max_queued_pods=10) as world:
        world.api.down = True
        flood = [world.writer.submit(wanted(name=f"pod-{n}", peer="10.0.9.9")) for n in range(12)]
        assert [answer.done() for answer in flood] == [False] * 10 + [True] * 2
        await asyncio.sleep(5)
        mine = world.writer.submit(wanted())
        assert not mine.done()
        refused = [answer for answer in flood if answer.done()]
        assert {(await answer).reason for answer in refused} == {"overload"}
        assert len(refused) == 3
        assert world.writer.queued == 10
        world.api.down = False
        assert (await mine).result is Result.WRITTEN
        await world.worked_off()
        assert sorted(outcome.reason for _, outcome in world.outcomes) == ["", *["no_pod"] * 9, *["overload"] * 3]
        assert world.writer.unheard == {}


@in_virtual_time
async def test_where_no_address_has_more_than_others_those_that_wait_stay() -> None:
    async with writing(max_queued_pods=4) as world:
        world.api.down = True
        waiting = [world.writer.submit(wanted(name=f"pod-{n}", peer=f"10.0.9.{n}")) for n in range(4)]
        assert (await world.report(name="pod-4", peer="10.0.9.0")).reason == "overload"
        assert (await world.report(name="pod-5", peer="10.0.9.5")).reason == "overload"
        own = world.writer.submit(wanted(name="registry-0", peer=""))
        assert not any(answer.done() for answer in (*waiting, own)), "the registry's own pod always has room"


@in_virtual_time
async def test_a_pod_that_the_table_knows_by_its_caller_is_not_kept_out_by_strangers() -> None:
    """As many as may wait about one pod have reported for it from elsewhere."""
    async with writing() as world:
        world.api.down = True
        strangers = [world.writer.submit(wanted("Inactive/Inactive", peer=f"10.0.9.{n}")) for n in range(MAX_CALLERS)]
        await asyncio.sleep(1)
        mine = world.writer.submit(wanted(listed=True))
        world.api.down = False
        assert (await mine).result is Result.WRITTEN
        reasons = [(await stranger).reason for stranger in strangers]
        assert reasons == ["wrong_caller"] * (MAX_CALLERS - 1) + ["overload"]


@in_virtual_time
async def test_a_report_that_is_being_written_is_not_pushed_out() -> None:
    """It would be told to be refused, and be written all the same."""
    async with writing(max_queued_pods=2, latency=5.0, api_timeout=60) as world:
        busy = [world.writer.submit(wanted(name=f"pod-{n}", peer="10.0.9.9")) for n in range(2)]
        await asyncio.sleep(1)
        assert world.api.in_flight == 2
        waiting = [world.writer.submit(wanted(name=f"pod-{n}", peer="10.0.9.9")) for n in (2, 3)]
        assert (await world.report()).result is Result.WRITTEN
        assert [(await answer).reason for answer in (*busy, *waiting)] == ["no_pod"] * 3 + ["overload"]
        await world.worked_off()
        assert len(world.writer._reports._shares) == 0


# ----------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("kind", ["down", "silent"])
def test_through_an_outage_of_30_seconds_every_last_state_is_written(kind: str) -> None:
    @in_virtual_time
    async def test() -> None:
        async with writing() as world:
            for n in range(500):
                world.api.make(f"pod-{n}", IP)
                world.writer.submit(wanted(f"Active/Activating/{n}", name=f"pod-{n}"))
            await asyncio.sleep(0.1)
            setattr(world.api, kind, True)
            asked = len(world.api.asked)
            for second in range(30):
                for n in range(500):
                    world.writer.submit(wanted(f"Active/{'Active' if second == 29 else second}/{n}", name=f"pod-{n}"))
                await asyncio.sleep(1)
            assert world.writer.problem
            assert len(world.api.asked) - asked < 32 + 120  # it asks now and then whether it is back
            assert world.writer.oldest > 29
            setattr(world.api, kind, False)
            back = now()
            await world.worked_off()
            assert now() - back < (12 if kind == "silent" else 6)
            assert not world.writer.problem
            for n in range(500):
                assert world.api.pods["tars", f"pod-{n}"].reason == f"Active/Active/{n}"

    test()


@pytest.mark.parametrize(("code", "reason"), [(429, "throttled"), (503, "unavailable"), (500, "server")])
def test_a_server_that_refuses_everything_is_asked_about_once_a_second(code: int, reason: str) -> None:
    @in_virtual_time
    async def test() -> None:
        async with writing() as world:
            world.api.answers["get"] = refusal(code)
            for n in range(100):
                world.api.make(f"pod-{n}", IP)
                world.writer.submit(wanted(name=f"pod-{n}"))
            await asyncio.sleep(300)
            assert 200 < len(world.api.asked) < 32 + 330
            assert world.writer.errors[reason] == len(world.api.asked)
            del world.api.answers["get"]
            await world.worked_off()
            assert all(pod.reason for (_, name), pod in world.api.pods.items() if name != POD)

    test()


@in_virtual_time
async def test_a_server_that_asks_to_wait_is_not_asked_before() -> None:
    async with writing() as world:
        world.api.answers["get"] = refusal(429, retry_after=20)
        answer = world.writer.submit(wanted())
        await asyncio.sleep(19.9)
        assert world.api.count("get") == 1
        del world.api.answers["get"]
        assert (await answer).result is Result.WRITTEN


@in_virtual_time
@pytest.mark.parametrize("asked", ["get", POD])
async def test_a_server_that_asks_to_wait_for_a_day_is_asked_again_within_a_minute(asked: str) -> None:
    async with writing() as world:
        world.api.answers[asked] = refusal(429, retry_after=86_400)
        answer = world.writer.submit(wanted())
        await asyncio.sleep(1)
        del world.api.answers[asked]
        began = now()
        assert (await answer).result is Result.WRITTEN
        assert now() - began < 60


@in_virtual_time
async def test_a_pod_whose_writing_fails_holds_up_no_other() -> None:
    async with writing() as world:
        world.api.make("poison", IP)
        world.api.answers["poison"] = refusal(500)
        poison = world.writer.submit(wanted(name="poison"))
        began = now()
        for n in range(100):
            await world.report(f"Active/Active/{n}")
        assert now() - began < 3
        assert world.writer.problem == ""
        assert not poison.done()
        await asyncio.sleep(120)
        assert sum(asked.name == "poison" for asked in world.api.asked) < 20
        del world.api.answers["poison"]
        assert (await poison).result is Result.WRITTEN


@in_virtual_time
async def test_one_pod_that_never_can_be_written_keeps_a_quiet_cluster_from_nothing() -> None:
    """However often it fails with nothing else to do, the next one's turn comes at once."""
    async with writing() as world:
        world.api.make("poison", IP)
        world.api.answers["poison"] = refusal(500)
        world.writer.submit(wanted(name="poison"))
        await asyncio.sleep(600)
        assert world.writer.errors["server"] > 5
        began = now()
        await world.report()
        assert now() - began < 0.1


@in_virtual_time
async def test_a_patch_whose_answer_got_lost_counts_as_written_once_it_is_seen() -> None:
    async with writing() as world:
        await world.report("Active/Activating/1")
        world.api.lose_next_patch = True
        outcome = await world.report("Active/Active/1")
        assert (outcome.result, outcome.before) == (Result.WRITTEN, "Active/Activating/1")
        assert world.api.count("patch") == 2
        assert (await world.report("Active/Active/1")).result is Result.UNCHANGED


@in_virtual_time
async def test_what_the_server_never_takes_is_refused_with_its_words() -> None:
    async with writing() as world:
        world.api.answers["patch"] = refusal(422, "reason: too long")
        outcome = await world.report()
        assert (outcome.result, outcome.reason) == (Result.REFUSED, "invalid")
        assert "reason: too long" in outcome.text
        assert world.writer.queued == 0


@in_virtual_time
async def test_credentials_that_are_not_taken_are_read_again() -> None:
    async with writing() as world:
        world.api.answers["get"] = refusal(401)
        answer = world.writer.submit(wanted())
        await asyncio.sleep(0.02)
        assert world.api.reloads == 1
        del world.api.answers["get"]
        assert (await answer).result is Result.WRITTEN


@in_virtual_time
async def test_a_bug_costs_one_turn_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with writing() as world:

        def bug() -> None:
            raise RuntimeError("a bug")

        world.api.before_patch.append(bug)
        assert (await world.report()).result is Result.WRITTEN
        assert world.writer.errors == {"bug": 1}
    assert "a bug" in caplog.text


@in_virtual_time
async def test_what_is_queued_outlives_a_run() -> None:
    api = FakePods()
    api.make(POD, IP)
    writer = Writer(api, Rights(api, (), (), WriterSettings()))
    api.down = True
    answer = writer.submit(wanted())
    for pause in (0.001, 1.0):
        run = asyncio.create_task(writer.run())
        await asyncio.sleep(pause)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    api.down = False
    run = asyncio.create_task(writer.run())
    assert (await answer).result is Result.WRITTEN
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


@in_virtual_time
async def test_whoever_stops_waiting_takes_nothing_away() -> None:
    async with writing() as world:
        world.api.down = True
        for n in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4.5):
                    await world.report(f"Active/Active/{n}")
        world.api.down = False
        await world.worked_off()
        assert world.api.pods["tars", POD].reason == "Active/Active/2"
