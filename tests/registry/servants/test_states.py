"""updateServerState from the call to the state that is kept: what is taken, how long callers wait, what is logged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest

from registry.kube.conditions import GET_PODS
from registry.kube.events import PodEvents
from registry.kube.reports import Outcome, Result, Wanted
from registry.kube.rights import Rights
from registry.kube.settings import WriterSettings
from registry.kube.writer import Writer
from registry.model import Kind, Pod, Server
from registry.servants import memory_states
from registry.servants.audit import Audit
from registry.servants.memory_states import MemoryStates
from registry.servants.own_readiness import OwnReadiness
from registry.servants.pod_states import PodStates
from registry.servants.states import StateReport, StateReports, StateSettings
from registry.table import TableStore
from tars_protocol.dispatch import Call
from tars_protocol.errors import CallError
from tars_protocol.handlers import Caller
from tars_protocol.interfaces.registry import PID_KEY, REGISTRY, SERVANT
from tars_protocol.packets import RequestPacket
from tests.support.scripted_pods import FakePods
from tests.support.tables import filled_store, sync
from tests.support.virtual_time import in_virtual_time, now

POD = "test-hello-0"


def call(
    pod: str = POD, setting: str = "Active", present: str = "Active", pid: str = "1", peer: str = "10.0.0.1"
) -> Call:
    request = RequestPacket(
        iVersion=1,
        iRequestId=1,
        sServantName=SERVANT,
        sFuncName="updateServerState",
        sBuffer=b"",
        context={PID_KEY: pid} if pid else {},
    )
    caller = Caller(peer, 40_000, "10.0.0.99", 17_891)
    return Call(request, REGISTRY["updateServerState"], (pod, setting, present), caller, None)


def report(pod: str = POD, present: str = "Active", peer: str = "10.0.0.1") -> StateReport:
    return StateReport(pod, "Active", present, "1", Caller(peer, 40_000, "10.0.0.99", 17_891))


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "registry.audit"]


class FakeStates:
    """Keeps what it is told, and answers as a test says."""

    problem = ""

    def __init__(self, answer: Outcome | None) -> None:
        self.reports: list[StateReport] = []
        self.refusals: list[str] = []
        self._answer = answer

    def report(self, report: StateReport) -> asyncio.Future[Outcome]:
        """Keep a state."""
        self.reports.append(report)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._answer:
            future.set_result(self._answer)
        return future

    def refuse(self, report: StateReport, reason: str, text: str) -> None:
        """Note a refusal."""
        self.refusals.append(reason)


WRITTEN = Outcome(Result.WRITTEN)


async def code_of(answering: Awaitable[Any]) -> tuple[int, str]:
    try:
        assert await answering == ()
    except CallError as error:
        return error.code, error.description
    return 0, ""


# ------------------------------------------------------------------------------------------------------- answers


async def test_a_report_has_the_process_id_of_the_context() -> None:
    states = FakeStates(WRITTEN)
    reports = StateReports(states)
    assert await code_of(reports.answer(call(pid="27"))) == (0, "")
    assert await code_of(reports.answer(call(present="Activating", pid=""))) == (0, "")
    assert [(each.reason, each.active) for each in states.reports] == [
        ("Active/Active/27", True),
        ("Active/Activating", False),
    ]
    assert reports.outcomes == {"written": 2}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"pod": ""}, "bad_name"),
        ({"pod": "Test-0"}, "bad_name"),
        ({"pod": "a\n"}, "bad_name"),
        ({"pod": "-a"}, "bad_name"),
        ({"pod": "a" * 254}, "bad_name"),
        ({"setting": "a/b"}, "bad_state"),
        ({"present": "/"}, "bad_state"),
        ({"pid": "1/2"}, "bad_state"),
        ({"present": "x" * 65}, "bad_state"),
        ({"setting": "\udc80"}, "bad_state"),
    ],
)
async def test_what_can_not_be_kept_is_refused_before_it_is_handed_on(wrong: dict[str, str], reason: str) -> None:
    states = FakeStates(WRITTEN)
    reports = StateReports(states)
    code, text = await code_of(reports.answer(call(**wrong)))
    assert code == -99
    assert len(text) < 400
    assert (states.reports, states.refusals) == ([], [reason])
    assert reports.outcomes == {reason: 1}


@in_virtual_time
async def test_a_caller_waits_for_a_bounded_time_and_is_told_why_in_vain() -> None:
    states = FakeStates(None)
    states.problem = "the API server can't be reached"
    code, text = await code_of(StateReports(states).answer(call()))
    assert now() == 3.5
    assert (code, text) == (-99, f"the state of {POD} is not written yet, but will be: the API server can't be reached")


@in_virtual_time
async def test_more_callers_than_may_wait_are_told_at_once_that_their_state_is_queued() -> None:
    states = FakeStates(None)
    reports = StateReports(states, StateSettings(max_waiting_reports=10))
    answers = [asyncio.create_task(code_of(reports.answer(call(f"pod-{n}")))) for n in range(12)]
    await asyncio.sleep(0.001)
    assert [answer.done() for answer in answers] == [False] * 10 + [True] * 2
    assert len(states.reports) == 12
    assert {(await answer)[0] for answer in answers} == {-99}
    assert now() == 3.5
    states.reports.clear()
    again = asyncio.create_task(code_of(reports.answer(call())))
    await asyncio.sleep(0.001)
    assert not again.done()
    await again


@in_virtual_time
async def test_whoever_waits_the_most_often_makes_room_for_others_that_wait() -> None:
    """One address with thousands of reports can't have those of others told at once that they are late."""
    states = FakeStates(None)
    reports = StateReports(states, StateSettings(max_waiting_reports=10))
    flood = [asyncio.create_task(code_of(reports.answer(call(f"pod-{n}", peer="10.0.9.9")))) for n in range(30)]
    await asyncio.sleep(1)
    others = [asyncio.create_task(code_of(reports.answer(call(peer=f"10.0.0.{n}")))) for n in range(6)]
    await asyncio.sleep(1)
    assert [answer.done() for answer in flood].count(False) == 4
    assert not any(answer.done() for answer in others)
    assert {(await answer)[0] for answer in (*flood, *others)} == {-99}
    assert reports.outcomes == {"late": 36}
    assert len(states.reports) == 36


@in_virtual_time
async def test_a_caller_that_is_gone_waits_no_more() -> None:
    states = FakeStates(None)
    reports = StateReports(states, StateSettings(max_waiting_reports=1))
    gone = asyncio.create_task(code_of(reports.answer(call())))
    await asyncio.sleep(0.1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
    waits = asyncio.create_task(code_of(reports.answer(call())))
    await asyncio.sleep(0.1)
    assert not waits.done()
    await waits


async def test_what_becomes_of_a_report_is_told_to_its_caller() -> None:
    refused = Outcome(Result.REFUSED, "wrong_caller", "no")
    reports = StateReports(FakeStates(refused))
    assert await code_of(reports.answer(call())) == (-99, "no")
    assert reports.outcomes == {"wrong_caller": 1}


# ------------------------------------------------------------------------------------------------- the audit log


def test_each_state_that_is_written_is_a_line_whatever_is_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    audit = Audit()
    audit.written(report(), "", "tars/test-hello-0")
    audit.written(report(present="a\nforged"), "Active/Active/1", suspect="no")
    assert audit_lines(caplog) == [
        "state of pod tars/test-hello-0: (none) -> 'Active/Active/1', reported from 10.0.0.1:40000",
        "state of pod test-hello-0: Active/Active/1 -> 'Active/a\\nforged/1', reported from 10.0.0.1:40000, though no",
    ]
    assert all(record.unlimited for record in caplog.records)  # type: ignore[attr-defined]


def test_refusals_are_lines_up_to_so_many_a_second_and_the_others_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    time = [0.0]
    audit = Audit(lambda: time[0])
    for n in range(120):
        audit.refused(report(peer=f"10.0.0.{1 + n % 6}"), "wrong_caller", "no")
    time[0] = 1.0
    audit.refused(report(), "wrong_caller", "no")
    lines = audit_lines(caplog)
    assert len(lines) == 51
    assert lines[0] == (
        "refused (wrong_caller): state 'Active/Active/1' of pod 'test-hello-0', reported from 10.0.0.1:40000: no"
    )
    assert lines[-1].endswith(": no (and 70 more refusals before)")
    assert audit.left_out == 70


def test_one_address_does_not_keep_the_refusals_of_others_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    time = [0.0]
    audit = Audit(lambda: time[0])
    for second in range(10):
        time[0] = float(second)
        for _ in range(60):
            audit.refused(report(peer="10.0.9.9"), "bad_state", "no")
        audit.refused(report(), "wrong_caller", "no")
    lines = audit_lines(caplog)
    assert sum("10.0.9.9" in line for line in lines) == 10 * 10
    assert sum("10.0.0.1:" in line for line in lines) == 10
    assert audit.left_out == 10 * 50


# ------------------------------------------------------------------------------------------------------ in memory


async def test_without_a_cluster_the_last_state_of_each_pod_is_held(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    states = MemoryStates(Audit())
    answers = [
        await states.report(report(pod, present)) for pod, present in (("b", "x"), ("a", "y"), ("b", "z"), ("b", "z"))
    ]
    assert [answer.word for answer in answers] == ["written", "written", "written", "unchanged"]
    assert [(state.pod, state.state, state.active) for state in states.states()] == [
        ("a", "Active/y/1", False),
        ("b", "Active/z/1", False),
    ]
    assert len(audit_lines(caplog)) == 3


async def test_the_pods_held_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_states, "_MAX_PODS", 3)
    states = MemoryStates(Audit())
    for pod in "abacd":
        await states.report(report(pod))
    assert [state.pod for state in states.states()] == ["a", "c", "d"]


# ------------------------------------------------------------------------------------------------- in a cluster


@contextlib.asynccontextmanager
async def cluster(
    api: FakePods, store: TableStore | None = None, namespaces: Sequence[str] = ("tars",), **settings: Any
) -> AsyncIterator[tuple[StateReports, Writer, list[tuple[Wanted, Outcome]]]]:
    """The servant as it is in a cluster."""
    declared = WriterSettings(**settings)
    rights = Rights(api, (GET_PODS,), namespaces, declared)
    writer = Writer(api, rights, declared, chance=random.Random(1))
    events = PodEvents(api, rights, declared)
    states = PodStates(writer, store or filled_store(), namespaces, Audit(), events)
    outcomes: list[tuple[Wanted, Outcome]] = []
    writer.subscribe(lambda wanted, outcome: outcomes.append((wanted, outcome)))
    tasks = [asyncio.create_task(writer.run()), asyncio.create_task(events.run())]
    try:
        yield StateReports(states), writer, outcomes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@in_virtual_time
async def test_what_is_written_and_refused_is_told_also_where_nobody_waits_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    api = FakePods()
    api.make(POD, "10.0.0.1")
    async with cluster(api) as (reports, writer, _):
        api.down = True
        late = await asyncio.gather(
            code_of(reports.answer(call())), code_of(reports.answer(call(present="Inactive", peer="10.0.0.2")))
        )
        assert [code for code, _ in late] == [-99, -99]
        assert audit_lines(caplog) == []
        api.down = False
        await asyncio.sleep(10)
        assert not writer.queued
    first, second = sorted(audit_lines(caplog))
    assert first.startswith(
        "refused (wrong_caller): state 'Active/Inactive/1' of pod 'test-hello-0', reported from 10.0.0.2"
    )
    assert second.startswith("state of pod tars/test-hello-0: (none) -> 'Active/Active/1'")
    (event,) = api.events
    assert event["message"].startswith("state 'Active/Inactive/1' reported from 10.0.0.2:40000: 10.0.0.2 is no address")
    assert reports.outcomes == {"late": 2}
    assert writer.unheard == {"wrong_caller": 1}, "it was told to nobody, so nobody else counts it"


@in_virtual_time
async def test_a_state_that_can_not_be_kept_is_an_event_of_the_pod_where_there_is_one() -> None:
    api = FakePods()
    api.make(POD, "10.0.0.1", namespace="games")
    store = filled_store(of_pods("games", "one", (POD, "10.0.0.2"), ("nobody-0", "10.0.0.3")))
    async with cluster(api, store, ("tars", "games")) as (reports, writer, outcomes):
        for pod, present in ((POD, "a/b\n\udc80"), ("nobody-0", "x" * 65), ("No Pod\n", "Active"), ("made-up-0", "/")):
            assert (await code_of(reports.answer(call(pod, present=present))))[0] == -99
        await asyncio.sleep(1)
        assert (outcomes, writer.queued) == ([], 0)
    (event,) = api.events
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "games",
        "name": POD,
        "uid": api.pods["games", POD].uid,
    }
    assert event["message"] == (
        r"state 'Active/a/b\n\udc80/1' reported from 10.0.0.1:40000: present state 'a/b\n\udc80': "
        "a slash would shift the parts of the reason"
    )
    assert {asked.name for asked in api.asked if asked.verb == "get"} == {POD, "nobody-0"}


@in_virtual_time
async def test_twenty_thousand_reports_of_unknown_pods_from_one_address_hold_up_no_other_tarsnode() -> None:
    """Each of them takes a look at the API server, 200 a second: the others have their turns in between."""
    api = FakePods(latency=0.02)
    for n in range(100):
        api.make(f"pod-{n}", f"10.0.1.{n}")
    async with cluster(api) as (reports, writer, _):
        flood = [asyncio.create_task(code_of(reports.answer(call(f"no-{n}", peer="10.0.9.9")))) for n in range(20_000)]
        await asyncio.sleep(2)
        assert writer.queued > 18_000
        began = now()
        codes = await asyncio.gather(
            *(code_of(reports.answer(call(f"pod-{n}", peer=f"10.0.1.{n}"))) for n in range(100))
        )
        assert {code for code, _ in codes} == {0}
        assert now() - began < 2
        assert writer.queued > 17_000
        await asyncio.sleep(120)
        assert not writer.queued
        assert {(await answer)[0] for answer in flood} == {-99}
    assert reports.outcomes["no_pod"] + writer.unheard["no_pod"] == 20_000


@in_virtual_time
async def test_in_a_storm_of_20_000_pods_in_a_minute_every_caller_is_answered_within_5_seconds() -> None:
    """Each pod reports that it starts, and some seconds later that it serves; what is last ends up in the cluster."""
    api = FakePods(latency=0.02)
    chance = random.Random(2)
    waits: list[float] = []
    codes: Counter[int] = Counter()

    async def pod(n: int, reports: StateReports) -> None:
        await asyncio.sleep(chance.uniform(0, 60))
        for present in ("Activating", "Active"):
            began = now()
            code, _ = await code_of(reports.answer(call(f"pod-{n}", present=present)))
            codes[code] += 1
            waits.append(now() - began)
            await asyncio.sleep(3)

    for n in range(20_000):
        api.make(f"pod-{n}", "10.0.0.1")
    async with cluster(api) as (reports, writer, _):
        await asyncio.gather(*(pod(n, reports) for n in range(20_000)))
        await asyncio.sleep(200)
        assert not writer.queued
    assert {each.reason for each in api.pods.values()} == {"Active/Active/1"}
    assert max(waits) < 5
    assert codes.keys() <= {0, -99}
    assert api.count("patch") <= 2 * 20_000
    assert api.busiest_second("patch") <= 200 + 400 + 32


@in_virtual_time
async def test_two_thousand_that_flip_at_once_are_answered_in_time_and_end_as_they_last_said() -> None:
    api = FakePods(latency=0.02)
    for n in range(2_000):
        api.make(f"pod-{n}", "10.0.0.1")

    async def flip(n: int, reports: StateReports) -> int:
        code = 0
        for present in ("Active", "Inactive", "Active"):
            began = now()
            code, _ = await code_of(reports.answer(call(f"pod-{n}", present=present)))
            assert now() - began < 5
        return code

    async with cluster(api) as (reports, writer, _):
        codes = Counter(await asyncio.gather(*(flip(n, reports) for n in range(2_000))))
        await asyncio.sleep(30)
        assert not writer.queued
    assert codes.keys() <= {0, -99}
    assert {each.reason for each in api.pods.values()} == {"Active/Active/1"}


@in_virtual_time
async def test_twenty_thousand_that_flip_in_an_outage_are_answered_in_time_and_written_after_it() -> None:
    """Most of them find so many waiting already that they are not kept waiting too."""
    api = FakePods(latency=0.02)
    for n in range(20_000):
        api.make(f"pod-{n}", "10.0.0.1")
    async with cluster(api) as (reports, writer, _):
        api.down = True
        for present in ("Inactive", "Active"):
            answers = [
                asyncio.create_task(code_of(reports.answer(call(f"pod-{n}", present=present)))) for n in range(20_000)
            ]
            await asyncio.sleep(15)
            assert all(answer.done() for answer in answers)
            assert {(await answer)[0] for answer in answers} == {-99}
        assert writer.queued == 20_000
        api.down = False
        await asyncio.sleep(110)
        assert not writer.queued
    assert {(each.reason, len(each.reasons)) for each in api.pods.values()} == {("Active/Active/1", 1)}


def of_pods(namespace: str, name: str, *pods: tuple[str, str]) -> Server:
    return Server(namespace, name, pods=tuple(Pod(pod, pod_ip=address) for pod, address in pods))


@in_virtual_time
async def test_the_table_says_which_namespace_is_meant_and_follows_its_changes() -> None:
    api = FakePods()
    for namespace, address in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        api.make(POD, address, namespace=namespace)
    store = filled_store(of_pods("a", "one", (POD, "10.0.0.1")))
    async with cluster(api, store, ("a", "b")) as (reports, _, outcomes):

        async def asked(peer: str) -> list[tuple[tuple[str, ...], bool | None, str]]:
            await code_of(reports.answer(call(peer=peer, pid=str(len(outcomes)))))
            return [(wanted.namespaces, wanted.listed, outcome.namespace) for wanted, outcome in outcomes[-1:]]

        assert await asked("10.0.0.1") == [(("a",), True, "a")]
        assert await asked("10.0.0.2") == [(("b", "a"), False, "b")]
        store.upsert(of_pods("b", "two", (POD, "10.0.0.2")))
        assert await asked("10.0.0.2") == [(("b",), True, "b")]
        store.delete(Kind.SERVER, ("a", "one"))
        assert await asked("10.0.0.1") == [(("a", "b"), False, "a")]
        store.delete(Kind.SERVER, ("b", "two"))
        assert await asked("10.0.0.1") == [(("a", "b"), None, "a")]


# ------------------------------------------------------------------------------------------------- own readiness


@contextlib.asynccontextmanager
async def own(api: FakePods, store: TableStore) -> AsyncIterator[OwnReadiness]:
    writer = Writer(api, Rights(api, (), (), WriterSettings()), chance=random.Random(1))
    readiness = OwnReadiness(writer, store, "tars", "registry-0", StateSettings())
    tasks = [asyncio.create_task(run()) for run in (writer.run, readiness.run)]
    try:
        yield readiness
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@in_virtual_time
async def test_the_own_condition_is_set_when_the_table_is_whole_and_kept_so_and_cleared() -> None:
    api = FakePods()
    pod = api.make("registry-0", "10.0.0.50")
    store = filled_store(synced=False)
    async with own(api, store) as readiness:
        store.restore({})
        await asyncio.sleep(100)
        assert pod.reason == ""
        sync(store)
        await asyncio.sleep(1)
        assert pod.reason == "Active/Active"
        pod.conditions.clear()
        await asyncio.sleep(420)
        assert pod.reason == "Active/Active"
        await readiness.leave()
        assert pod.reason == "Active/Deactivating"
        await asyncio.sleep(1000)
        assert pod.reason == "Active/Deactivating"


@in_virtual_time
async def test_a_registry_that_is_told_to_stop_before_its_table_is_whole_is_never_ready() -> None:
    api = FakePods()
    pod = api.make("registry-0", "10.0.0.50")
    store = filled_store(synced=False)
    async with own(api, store) as readiness:
        await asyncio.sleep(100)
        await readiness.leave()
        sync(store)
        await asyncio.sleep(1000)
        assert pod.reason == ""


@in_virtual_time
async def test_an_own_condition_that_could_not_be_set_is_tried_again_soon() -> None:
    api = FakePods()
    async with own(api, filled_store()):
        await asyncio.sleep(10)
        pod = api.make("registry-0", "10.0.0.50")
        await asyncio.sleep(6)
        assert pod.reason == "Active/Active"
        asked = api.count("get")
        await asyncio.sleep(400)
        assert api.count("get") == asked


@in_virtual_time
async def test_a_right_that_is_missing_is_said_once_and_leaving_takes_no_longer_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = FakePods()
    pod = api.make("registry-0", "10.0.0.50")
    api.forbidden.add("patch")
    async with own(api, filled_store()) as readiness:
        await asyncio.sleep(2000)
        said = [record.getMessage() for record in caplog.records if "own readiness" in record.getMessage()]
        assert len(said) == 1
        api.forbidden.clear()
        await asyncio.sleep(6)
        assert pod.reason == "Active/Active"
        api.down = True
        began = now()
        await readiness.leave()
        assert now() - began == 2
