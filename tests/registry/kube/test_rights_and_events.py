"""Rights are asked for and what is missing is told once; Events are few. In made-up time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from registry.kube.conditions import GET_PODS, PATCH_STATUS
from registry.kube.events import CREATE_EVENTS, PodEvents
from registry.kube.pods import PodView, is_pod_name
from registry.kube.rates import TokenBucket
from registry.kube.rights import Rights
from registry.kube.settings import WriterSettings
from tests.support.scripted_pods import FakePods, refusal
from tests.support.virtual_time import in_virtual_time, now

ALL = (GET_PODS, PATCH_STATUS, CREATE_EVENTS)
PEER = "10.0.9.9"


@contextlib.asynccontextmanager
async def asking(api: FakePods, *namespaces: str) -> AsyncIterator[Rights]:
    rights = Rights(api, ALL, namespaces or ("tars",), WriterSettings())
    task = asyncio.create_task(rights.run())
    await asyncio.sleep(0.1)
    try:
        yield rights
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "registry.kube.rights"]


@in_virtual_time
async def test_what_is_missing_is_told_in_one_line_with_what_is_off_and_how_to_grant_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    api = FakePods()
    api.forbidden |= {"get", "event"}
    async with asking(api) as rights:
        assert rights.missing == ["create events in tars", "get pods in tars"]
        assert [rights.may(right, "tars") for right in ALL] == [False, True, False]
        await asyncio.sleep(1000)
    (line,) = lines(caplog)
    assert "refusing reports of the wrong caller (get pods)" in line
    assert "Events about refused reports (create events)" in line
    assert "kubectl -n tars create role tars-registry-get-pods --verb=get --resource=pods && " in line


@in_virtual_time
async def test_what_is_granted_later_is_used_without_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    api = FakePods()
    api.forbidden.add("patch")
    async with asking(api) as rights:
        assert not rights.may(PATCH_STATUS, "tars")
        api.forbidden.clear()
        await asyncio.sleep(300)
        assert rights.may(PATCH_STATUS, "tars")
    assert lines(caplog)[1] == "all rights are there now"


@in_virtual_time
async def test_a_refusal_counts_until_it_was_looked_at_again_which_is_soon() -> None:
    api = FakePods()
    async with asking(api, "tars", "more") as rights:
        reviews = api.count("review")
        assert not rights.refused(GET_PODS, "more"), "one alone tells nothing"
        await asyncio.sleep(1)
        assert not rights.refused(GET_PODS, "more")
        assert rights.may(GET_PODS, "more")
        await asyncio.sleep(1)
        assert rights.refused(GET_PODS, "more")
        assert not rights.may(GET_PODS, "more")
        assert rights.may(GET_PODS, "tars")
        await asyncio.sleep(4)
        assert api.count("review") == reviews
        await asyncio.sleep(2)
        assert rights.may(GET_PODS, "more")


@in_virtual_time
async def test_refusals_far_apart_tell_nothing_either() -> None:
    api = FakePods()
    async with asking(api) as rights:
        for _ in range(10):
            assert not rights.refused(GET_PODS, "tars")
            await asyncio.sleep(61)
        assert rights.may(GET_PODS, "tars")


@in_virtual_time
async def test_what_is_said_to_be_missing_all_at_once_is_asked_for_again_soon() -> None:
    """The API server may have just started."""
    api = FakePods()
    async with asking(api) as rights:
        api.forbidden |= {"get", "patch"}
        await asyncio.sleep(300)
        assert len(rights.missing) == 2
        api.forbidden.clear()
        await asyncio.sleep(5)
        assert rights.missing == []
        api.forbidden.add("get")
        await asyncio.sleep(310)
        reviews = api.count("review")
        await asyncio.sleep(250)
        assert api.count("review") == reviews, "it stayed so, and is looked at now and then"


@pytest.mark.parametrize("code", [403, 404, 422])
def test_where_rights_may_not_be_asked_for_all_of_them_count_as_granted(code: int) -> None:
    @in_virtual_time
    async def test() -> None:
        api = FakePods()
        api.forbidden.add("patch")
        api.answers["review"] = refusal(code)
        async with asking(api) as rights:
            assert rights.missing == []
            await asyncio.sleep(299)
            assert api.count("review") == len(ALL)

    test()


@in_virtual_time
async def test_while_the_server_is_away_it_is_asked_again_every_few_seconds() -> None:
    api = FakePods()
    api.down = True
    api.forbidden.add("get")
    async with asking(api) as rights:
        await asyncio.sleep(20)
        assert 4 <= api.count("review") <= 6
        api.down = False
        await asyncio.sleep(6)
        assert rights.missing == ["get pods in tars"]


@in_virtual_time
async def test_a_server_that_never_answers_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    api = FakePods()
    api.silent = True
    async with asking(api) as rights:
        await asyncio.sleep(60)
        assert api.count("review") > 3
        api.silent = False
        api.forbidden.add("patch")
        await asyncio.sleep(15)
        assert rights.missing == ["patch pods/status in tars"]


# ------------------------------------------------------------------------------------------------------- events


def pod(name: str = "test-hello-0", uid: str = "uid-1") -> PodView:
    return PodView("tars", name, uid, frozenset(), ())


@contextlib.asynccontextmanager
async def sending(api: FakePods, **settings: float) -> AsyncIterator[PodEvents]:
    events = PodEvents(api, Rights(api, (), (), WriterSettings()), WriterSettings(**settings), "registry-0")  # type: ignore[arg-type]
    task = asyncio.create_task(events.run())
    try:
        yield events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_an_event_is_about_the_pod_and_its_text_has_a_bound() -> None:
    api = FakePods()
    async with sending(api) as events:
        events.warn(pod(), "ReportRefused", "x" * 5000, PEER)
        await asyncio.sleep(1)
    (event,) = api.events
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "tars",
        "name": "test-hello-0",
        "uid": "uid-1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "ReportRefused", "x" * 1000)
    assert event["reportingInstance"] == "registry-0"


@in_virtual_time
async def test_about_one_pod_there_is_an_event_every_ten_minutes() -> None:
    api = FakePods()
    async with sending(api) as events:
        for _ in range(1200):
            events.warn(pod(), "ReportRefused", "no", PEER)
            await asyncio.sleep(1)
    assert len(api.events) == 2
    assert events.counts == Counter(sent=2, left_out=1198)


@in_virtual_time
async def test_events_are_sent_at_a_bounded_rate_and_few_of_them_wait() -> None:
    api = FakePods()
    async with sending(api) as events:
        for n in range(1000):
            events.warn(pod(uid=f"uid-{n}"), "ReportRefused", "no", PEER)
        await asyncio.sleep(10)
        assert len(api.events) == pytest.approx(30, abs=1)
        await asyncio.sleep(1000)
        assert events.counts == Counter(sent=100, left_out=900)


@in_virtual_time
async def test_an_event_that_can_not_be_sent_is_counted_and_gone() -> None:
    api = FakePods()
    async with sending(api) as events:
        api.down = True
        events.warn(pod(uid="1"), "ReportRefused", "no", PEER)
        await asyncio.sleep(1)
        api.down = False
        api.forbidden.add("event")
        events.warn(pod(uid="2"), "ReportRefused", "no", PEER)
        await asyncio.sleep(2)
        events.warn(pod(uid="3"), "ReportRefused", "no", PEER)
        await asyncio.sleep(1)
        assert events.counts == Counter(failed=3)
        api.forbidden.clear()
        events.warn(pod(uid="4"), "ReportRefused", "the right is known to be missing", PEER)
        assert events.counts["left_out"] == 1


@in_virtual_time
async def test_an_event_that_is_never_answered_holds_up_the_next_for_a_bounded_time() -> None:
    api = FakePods()
    async with sending(api) as events:
        api.silent = True
        events.warn(pod(uid="1"), "ReportRefused", "no", PEER)
        events.warn(pod(uid="2"), "ReportRefused", "no", PEER)
        await asyncio.sleep(1)
        api.silent = False
        await asyncio.sleep(5)
        assert events.counts == Counter(sent=1, failed=1)


@in_virtual_time
async def test_an_address_with_many_events_leaves_places_and_turns_to_others() -> None:
    api = FakePods()
    for n in range(20):
        api.make(f"real-{n}", "10.0.0.1")
    async with sending(api) as events:
        for n in range(2000):
            events.warn_of(("tars",), f"nobody-{n}", "ReportRefused", "no", PEER)
            if n % 100 == 99:
                events.warn(pod(f"real-{n // 100}", f"uid-{n}"), "ReportRefused", "no", "10.0.0.7")
                await asyncio.sleep(10)
        await asyncio.sleep(100)
    assert {event["involvedObject"]["name"] for event in api.events} == {f"real-{n}" for n in range(20)}


@in_virtual_time
async def test_only_an_event_that_was_sent_keeps_the_next_one_about_its_pod_away() -> None:
    api = FakePods()
    async with sending(api) as events:
        api.down = True
        events.warn(pod(), "ReportRefused", "no", PEER)
        events.warn(pod(), "ReportRefused", "one waits", PEER)
        await asyncio.sleep(1)
        api.down = False
        for text in ("sent", "too soon"):
            events.warn(pod(), "ReportRefused", text, PEER)
            await asyncio.sleep(1)
    assert [event["message"] for event in api.events] == ["sent"]
    assert events.counts == Counter(sent=1, failed=1, left_out=2)


@in_virtual_time
@pytest.mark.parametrize("end", ["-b", ".b", "-.b"])
async def test_an_event_about_a_pod_with_a_long_name_has_a_name_that_it_may_have(end: str) -> None:
    api = FakePods()
    name = "a" * (200 - len(end) + 1) + end
    async with sending(api) as events:
        events.warn(pod(f"{name}bbb"), "ReportRefused", "no", PEER)
        await asyncio.sleep(1)
    (event,) = api.events
    assert is_pod_name(event["metadata"]["name"])


@in_virtual_time
async def test_without_the_right_to_get_pods_an_event_about_a_pod_that_was_not_read_is_left_out() -> None:
    api = FakePods()
    api.make("test-hello-0", "10.0.0.1")
    api.forbidden.add("get")
    rights = Rights(api, ALL, ("tars",), WriterSettings())
    events = PodEvents(api, rights, WriterSettings())
    task = asyncio.create_task(events.run())
    for n in range(4):
        events.warn_of(("tars",), f"test-hello-{n}", "ReportRefused", "no", PEER)
        await asyncio.sleep(2)
    assert events.counts == Counter(left_out=4)
    assert api.count("get") == 2, "what is certain is remembered"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(10, 5, asyncio.get_running_loop().time)
    at = []
    for _ in range(15):
        await bucket.taken()
        at.append(now())
    assert at[:5] == [0] * 5
    assert at[5:] == pytest.approx([n / 10 for n in range(1, 11)])
    assert not bucket.take()
    await asyncio.sleep(100)
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
