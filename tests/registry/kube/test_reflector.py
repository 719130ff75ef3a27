"""Following a resource: lists in pages and streaming ones, watches, bookmarks; what is asked, and how often."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from registry.kube.reflector import Reflector
from registry.kube.resource import State
from registry.kube.settings import ReflectorSettings
from tests.registry.kube.kube_support import AT_ONCE, THINGS, RecordingStore, Thing, following
from tests.support.scripted_api import (
    FOREVER,
    PATH,
    REFUSED,
    RESET,
    Answer,
    FakeApi,
    Fault,
    ScriptedSession,
    Streaming,
    bookmark,
    error,
    event,
    page,
    streaming_list,
    thing,
)
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time, now

NO_STREAMING = error(422, "Invalid", "sendInitialEvents: Forbidden: not on this server")
LISTED = Answer(streaming_list(5, thing("a", 5, 1)), FOREVER)
QUIET = Answer(FOREVER)
"""A watch that is open, and nothing happens."""


# ------------------------------------------------------------------------------------------------- what is asked


@in_virtual_time
async def test_the_first_request_is_a_streaming_list_without_a_version() -> None:
    session = ScriptedSession(LISTED)
    async with following(session) as follow:
        await follow.holds(a=1)
    (request,) = session.requests
    seconds = request.parameters.pop("timeoutSeconds")
    assert request.path == PATH
    assert request.parameters == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
    }
    assert 300 <= int(seconds) <= 600


@in_virtual_time
async def test_a_list_in_pages_has_a_limit_and_no_version_and_the_watch_starts_from_its_version() -> None:
    pages = [page(7, thing("a", 3, 1), more="c1"), page(7, thing("b", 4, 2), more="c2"), page(7, thing("c", 7, 3))]
    session = ScriptedSession(NO_STREAMING, *(Answer(one) for one in pages), QUIET)
    async with following(session) as follow:
        await follow.until(lambda: len(session.requests) == 5)
        assert follow.store.calls == [("replace", ["a", "b", "c"])]
    _, *lists, watch = session.requests
    assert [request.parameters for request in lists] == [
        {"limit": "100"},
        {"limit": "100", "continue": "c1"},
        {"limit": "100", "continue": "c2"},
    ]
    del watch.parameters["timeoutSeconds"]
    assert watch.parameters == {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": "7"}


@in_virtual_time
async def test_a_resources_own_parameters_go_with_every_request() -> None:
    session = ScriptedSession(NO_STREAMING, Answer(page(7, more="c")), Answer(page(7)), QUIET)
    settings = ReflectorSettings(list_spread=0, page_size=7)
    resource = type(THINGS)(THINGS.name, THINGS.paths, THINGS.decode, {"labelSelector": "x"})
    async with following(session, settings, resource) as follow:
        await follow.until(lambda: len(session.requests) == 4)
    assert [request.parameters["labelSelector"] for request in session.requests] == ["x"] * 4
    assert [request.parameters.get("limit") for request in session.requests] == [None, "7", "7", None]


@in_virtual_time
async def test_each_watch_is_asked_for_another_time_of_300_to_600_seconds() -> None:
    api = FakeApi()
    session = ScriptedSession(model=api)
    async with following(session):
        await asyncio.sleep(6 * 3600)
    seconds = [int(request.parameters["timeoutSeconds"]) for request in session.requests]
    assert all(300 <= one <= 600 for one in seconds), seconds
    assert len(set(seconds)) > len(seconds) / 2
    assert min(seconds) < 350
    assert max(seconds) > 550


@pytest.mark.parametrize("every", [60.0, None], ids=["bookmarks", "no-bookmarks"])
@pytest.mark.parametrize("streaming", Streaming)
@in_virtual_time
async def test_following_a_quiet_resource_costs_at_most_a_request_in_4_seconds(
    every: float | None, streaming: Streaming
) -> None:
    api = FakeApi()
    api.streaming, api.bookmarks_every = streaming, every
    api.put("a", 1)
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await asyncio.sleep(3600)
        assert follow.status.synced
        assert follow.status.relists == 0
    rate = len(session.requests) / 3600
    assert rate <= 0.25, f"{len(session.requests)} requests in an hour: {rate:.3f}/s"
    # Far below it, in fact: each watch lasts for minutes, or for 68 s without bookmarks.
    assert rate <= 1 / 60


# --------------------------------------------------------------------------------------------------- the events


@in_virtual_time
async def test_events_change_the_store_one_by_one_and_move_the_version_on() -> None:
    events = [
        event("ADDED", thing("b", 6, 2)),
        event("MODIFIED", thing("a", 7, 3)),
        event("DELETED", thing("b", 8, 2)),
        event("ADDED", thing("c", 9, 4)),
    ]
    session = ScriptedSession(Answer(streaming_list(5, thing("a", 5, 1)), *events, FOREVER))
    async with following(session) as follow:
        await follow.holds(a=3, c=4)
        assert follow.store.calls == [
            ("replace", ["a"]),
            ("upsert", "b"),
            ("upsert", "a"),
            ("delete", "b"),
            ("upsert", "c"),
        ]
        assert follow.store.things["ns", "a"] == Thing("ns", "a", 7, 3)
        assert follow.status.version == "9"


@in_virtual_time
async def test_events_are_the_same_however_their_bytes_are_cut() -> None:
    body = streaming_list(5, thing("a", 5, 1)) + event("MODIFIED", thing("a", 6, 2)) + event("ADDED", thing("é", 7, 3))
    for size in (1, 2, 3, 7, 64, len(body)):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        async with following(ScriptedSession(Answer(*pieces, FOREVER))) as follow:
            await follow.holds(a=2, é=3)
            assert follow.store.calls == [("replace", ["a"]), ("upsert", "a"), ("upsert", "é")]


@in_virtual_time
async def test_an_event_is_in_the_store_at_the_moment_its_line_is_whole() -> None:
    line = event("MODIFIED", thing("a", 6, 2))
    session = ScriptedSession(Answer(streaming_list(5, thing("a", 5, 1)), 10.0, line[:20], 10.0, line[20:], FOREVER))
    async with following(session) as follow:
        await asyncio.sleep(20.5)
    assert [round(time, 2) for time in follow.store.times] == [0, 20]


@in_virtual_time
async def test_a_bookmark_moves_the_version_on_and_the_watch_resumes_from_there() -> None:
    session = ScriptedSession(Answer(streaming_list(5), 60.0, bookmark(50)), QUIET)
    async with following(session) as follow:
        await follow.until(lambda: len(session.requests) == 2, 100)
        assert follow.status.version == "50"
        assert follow.store.calls == [("replace", [])]
    assert session.requests[1].version == "50"


@in_virtual_time
async def test_an_event_of_a_kind_that_is_not_known_is_passed_over() -> None:
    session = ScriptedSession(
        Answer(streaming_list(5), event("RENAMED", thing("a", 6, 1)), event("ADDED", thing("b", 7, 2)), FOREVER)
    )
    async with following(session) as follow:
        await follow.holds(b=2)
        assert follow.status.errors == {"unknown_event": 1}
    assert len(session.requests) == 1


@in_virtual_time
async def test_empty_lines_between_events_are_nothing() -> None:
    session = ScriptedSession(Answer(streaming_list(5), b"\n \n", event("ADDED", thing("b", 7, 2)), b"\n\n", FOREVER))
    async with following(session) as follow:
        await follow.holds(b=2)
        assert not follow.status.errors


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b'{"type": 5, "object": {}}\n',
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": {"metadata": 5}}\n',
        b'{"type": "ADDED", "object": 5}\n',
        b'{"type": "BOOKMARK", "object": {"metadata": 5}}\n',
        b'{"type": "BOOKMARK", "object": {}}\n',
        b'{"type": "ERROR", "object": 5}\n',
        b'{"type": "ERROR", "object": {"code": "x"}}\n',
        b"\xff\xfe\n",
    ],
)
@pytest.mark.parametrize("listing", [True, False], ids=["list", "watch"])
@in_virtual_time
async def test_a_line_that_is_no_event_costs_a_new_request_and_nothing_else(line: bytes, listing: bool) -> None:
    first = Answer(line, FOREVER) if listing else Answer(streaming_list(5, thing("a", 5, 1)), line, FOREVER)
    rest = event("MODIFIED", thing("a", 6, 2))
    session = ScriptedSession(first, Answer(streaming_list(6, thing("a", 6, 2)) if listing else rest, FOREVER))
    async with following(session) as follow:
        await follow.holds(a=2)
        assert follow.status.errors.total() == 1
    assert session.kinds == ["streaming list", "streaming list" if listing else "watch"]


# ------------------------------------------------------------------------------------------------ ends of watches


@in_virtual_time
async def test_a_watch_that_ends_is_resumed_from_the_last_version_without_a_list() -> None:
    session = ScriptedSession(
        Answer(streaming_list(5, thing("a", 5, 1)), 300.0, event("MODIFIED", thing("a", 9, 2))),
        Answer(40.0),
        Answer(event("ADDED", thing("b", 10, 3)), FOREVER),
        most=10,
    )
    settings = ReflectorSettings(list_spread=0, watch_idle_timeout=1000)
    async with following(session, settings) as follow:
        await follow.holds(400, a=2, b=3)
        assert follow.status.relists == 0
        assert not follow.status.errors
    assert session.kinds == ["streaming list", "watch", "watch"]
    assert [request.version for request in session.requests] == ["", "9", "9"]


@pytest.mark.parametrize(
    "body",
    [b"", b'{"type": "ADD', bookmark(5), event("NEW", thing("a", 5)), event("MODIFIED", thing("a", 5, 1))],
    ids=["empty", "truncated", "bookmark", "unknown", "known"],
)
@in_virtual_time
async def test_watches_that_end_at_once_and_tell_nothing_new_are_not_opened_one_after_the_other(body: bytes) -> None:
    session = ScriptedSession(Answer(streaming_list(5, thing("a", 5, 1))), *[Answer(body)] * 1000)
    async with following(session) as follow:
        await asyncio.sleep(60)
        first_minute = len(session.requests)
        await asyncio.sleep(600)
        later = (len(session.requests) - first_minute) / 10
        assert follow.status.relists == 0
        assert follow.store.values == {"a": 1}
    assert first_minute <= 20, f"{first_minute} requests in the first minute"
    assert later <= 10, f"{later} requests a minute"


@in_virtual_time
async def test_watches_that_end_after_each_event_are_not_opened_one_after_the_other() -> None:
    versions = itertools.count(6)
    watches = (Answer(event("MODIFIED", thing("a", version, version))) for version in versions)
    session = ScriptedSession(Answer(streaming_list(5, thing("a", 5, 5))), *itertools.islice(watches, 2000))
    async with following(session) as follow:
        await asyncio.sleep(60)
        assert follow.status.relists == 0
        assert follow.status.errors.total() == 0
    assert len(session.requests) <= 250, f"{len(session.requests)} requests in a minute"


@in_virtual_time
async def test_a_line_that_is_cut_off_is_dropped_and_comes_again_with_the_resumed_watch() -> None:
    line = event("MODIFIED", thing("a", 6, 2))
    for cut in (1, 20, len(line) - 1):
        session = ScriptedSession(
            Answer(streaming_list(5, thing("a", 5, 1)), line[:cut]), Answer(line, FOREVER), most=10
        )
        async with following(session) as follow:
            await follow.holds(a=2)
            assert follow.status.errors["truncated"] == 1
            assert follow.store.calls == [("replace", ["a"]), ("upsert", "a")]
        assert session.requests[1].version == "5"


@in_virtual_time
async def test_a_connection_that_breaks_is_resumed_from_the_last_version_without_a_list() -> None:
    session = ScriptedSession(
        Answer(streaming_list(5), event("ADDED", thing("a", 9, 1)), event("ADDED", thing("b", 10))[:30], RESET),
        REFUSED,
        Answer(event("ADDED", thing("b", 10, 2)), FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(a=1, b=2)
        assert follow.status.errors == {"connection": 2}
        assert follow.status.relists == 0
    assert [request.version for request in session.requests] == ["", "9", "9"]


# ---------------------------------------------------------------------------------------------------- no byte


@in_virtual_time
async def test_a_watch_without_a_byte_for_68_seconds_is_resumed() -> None:
    session = ScriptedSession(
        Answer(streaming_list(5, thing("a", 5, 1)), FOREVER), Answer(event("MODIFIED", thing("a", 6, 2)), FOREVER)
    )
    async with following(session) as follow:
        seconds = await follow.holds(75, a=2)
        assert 68 < seconds < 69
        assert follow.status.errors == {"idle": 1}
    assert session.requests[0].closed == pytest.approx(68, abs=0.01)
    assert session.requests[1].version == "5"


@in_virtual_time
async def test_a_byte_in_time_keeps_a_watch_open() -> None:
    steps = [step for version in range(10, 20) for step in (67.0, bookmark(version))]
    session = ScriptedSession(Answer(streaming_list(5), *steps, FOREVER))
    async with following(session) as follow:
        await asyncio.sleep(67 * 10)
        assert not follow.status.errors
    assert len(session.requests) == 1


@in_virtual_time
async def test_watches_without_a_byte_are_resumed_after_short_pauses_however_many_there_were() -> None:
    session = ScriptedSession(Answer(streaming_list(5), FOREVER), *[QUIET] * 50)
    async with following(session):
        await asyncio.sleep(3000)
    pairs = list(itertools.pairwise(session.requests))
    assert len(pairs) > 40
    assert all(68 < later.at - earlier.at < 70.1 for earlier, later in pairs)


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.CUT, Fault.END])
@in_virtual_time
async def test_changes_that_a_lost_watch_did_not_tell_are_there_within_75_seconds(fault: Fault) -> None:
    api = FakeApi()
    api.put("a", 1)
    api.put("b", 1)
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.holds(a=1, b=1)
        await asyncio.sleep(100)
        api.befall(fault)
        api.put("a", 2)
        api.remove("b")
        await follow.holds(75 if fault is Fault.STALL else 3, a=2)
        assert follow.status.relists == 0
        assert ("replace", ["a"]) not in follow.store.calls


@pytest.mark.parametrize("answer", [Answer(delay=FOREVER), Answer(page(5)[:10], FOREVER)], ids=["answer", "rest"])
@in_virtual_time
async def test_a_page_that_stays_away_for_30_seconds_is_asked_for_again(answer: Answer) -> None:
    session = ScriptedSession(NO_STREAMING, answer, Answer(page(5, thing("a", 5, 1))), QUIET)
    async with following(session) as follow:
        assert 30 < await follow.holds(40, a=1) < 31


@in_virtual_time
async def test_a_watch_that_is_not_answered_for_30_seconds_is_asked_for_again() -> None:
    session = ScriptedSession(
        Answer(streaming_list(5), RESET), Answer(delay=FOREVER), Answer(event("ADDED", thing("a", 6, 1)), FOREVER)
    )
    async with following(session) as follow:
        assert 30 < await follow.holds(40, a=1) < 32
        assert follow.status.errors == {"connection": 1, "timeout": 1}
        assert follow.status.relists == 0


# ----------------------------------------------------------------------------------------------- streaming lists


@in_virtual_time
async def test_a_streaming_list_fills_the_store_when_it_is_whole_and_goes_on_as_a_watch() -> None:
    api = FakeApi()
    for number in range(20):
        api.put(f"t{number}", number)
    api.chunk_size, api.chunk_delay = 100, 0.1
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await asyncio.sleep(2)
        assert (follow.store.calls, follow.status.synced, follow.status.state) == ([], False, State.LISTING)
        api.put("t0", 100)
        await follow.until(lambda: follow.status.synced, 60)
        assert len(follow.store.things) == 20
        api.put("t1", 101)
        await follow.until(lambda: follow.store.values.get("t1") == 101)
        assert follow.store.values["t0"] == 100
        assert follow.status.state == "watching"
    assert [what for what, _ in follow.store.calls].count("replace") == 1
    assert session.kinds == ["streaming list"]


@in_virtual_time
async def test_changes_in_the_midst_of_a_streaming_list_are_part_of_it() -> None:
    lines = [
        event("ADDED", thing("a", 3, 1)),
        event("ADDED", thing("b", 4, 1)),
        event("MODIFIED", thing("a", 5, 2)),
        event("DELETED", thing("b", 6, 1)),
        event("ADDED", thing("c", 7, "wrong")),
        event("DELETED", thing("c", 8, "wrong")),
        bookmark(8, ends_list=True),
    ]
    async with following(ScriptedSession(Answer(*lines, FOREVER))) as follow:
        await follow.holds(a=2)
        assert follow.store.calls == [("replace", ["a"])]
        assert follow.status.version == "8"
        assert follow.status.dropped == {}


@pytest.mark.parametrize(
    "refusal",
    [
        error(422, "Invalid", "sendInitialEvents: Forbidden"),
        error(400, "BadRequest", "unknown"),
        Answer(event("ERROR", {"code": 400, "reason": "BadRequest", "message": "no"}), FOREVER),
    ],
    ids=["422", "400", "400 in the stream"],
)
@in_virtual_time
async def test_a_server_without_streaming_lists_is_asked_for_pages_at_once_and_ever_after(refusal: Answer) -> None:
    session = ScriptedSession(
        refusal,
        Answer(page(5, thing("a", 5, 1))),
        error(410, "Expired"),
        Answer(page(7, thing("a", 7, 2))),
        QUIET,
    )
    async with following(session) as follow:
        assert await follow.holds(a=1) < 0.1
        await follow.holds(a=2)
        await follow.until(lambda: len(session.requests) == 5)
        assert follow.status.errors == {"expired": 1}
    assert session.kinds == ["streaming list", "list", "watch", "list", "watch"]


@pytest.mark.parametrize("every", [None, 20.0, 60.0])
@in_virtual_time
async def test_a_server_that_takes_a_streaming_list_for_a_watch_is_asked_for_pages(every: float | None) -> None:
    """What shows it is that nothing comes any more, or a bookmark of another kind than the one that is due."""
    api = FakeApi()
    api.put("a", 1)
    api.streaming, api.bookmarks_every = Streaming.IGNORED, every
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.holds(35, a=1)
        api.put("b", 2)
        await follow.holds(a=1, b=2)
    assert session.kinds == ["streaming list", "list", "watch"]


@in_virtual_time
async def test_a_streaming_list_that_breaks_in_the_middle_is_asked_for_again_and_nothing_of_it_is_taken() -> None:
    whole = streaming_list(9, thing("a", 8, 2), thing("b", 9, 3))
    session = ScriptedSession(
        Answer(streaming_list(5, thing("a", 5, 1)), event("ERROR", {"code": 410})),
        Answer(whole[:150], RESET),
        Answer(whole, FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(a=2, b=3)
        assert follow.store.calls == [("replace", ["a"]), ("replace", ["a", "b"])]
    assert session.kinds == ["streaming list"] * 3


@pytest.mark.parametrize("body", [b"", streaming_list(5, thing("a", 5, 1))[:-30]], ids=["empty", "cut"])
@in_virtual_time
async def test_after_a_streaming_list_that_ends_before_it_is_whole_pages_are_asked_for(body: bytes) -> None:
    session = ScriptedSession(Answer(body), Answer(page(5, thing("a", 5, 1))), QUIET)
    async with following(session) as follow:
        await follow.holds(a=1)
    assert session.kinds[:2] == ["streaming list", "list"]


# -------------------------------------------------------------------------------------------------- whole lists


@pytest.mark.parametrize("streaming", [Streaming.ON, Streaming.REFUSED])
@in_virtual_time
async def test_the_store_goes_from_one_whole_list_to_the_next_whatever_happens_between(streaming: Streaming) -> None:
    api = FakeApi()
    api.streaming = streaming
    for number in range(12):
        api.put(f"t{number:02}", 1)
    settings = ReflectorSettings(list_spread=0, page_size=5)
    session = ScriptedSession(model=api)
    async with following(session, settings) as follow:
        await follow.until(lambda: follow.status.synced)
        before = dict(follow.store.things)
        api.go_down()
        for number in range(6):
            api.remove(f"t{number:02}")
        for number in range(6, 12):
            api.put(f"t{number:02}", 2)
        api.come_up(forgetful=True)
        api.chunk_size, api.chunk_delay = 100, 0.5
        while len(follow.store.calls) == 1:
            assert follow.store.things == before
            await asyncio.sleep(0.1)
        assert follow.store.values == {f"t{number:02}": 2 for number in range(6, 12)}
        assert len(follow.store.calls) == 2
        assert follow.status.relists == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", page(5, thing("a", 5))[:-5], b'{"metadata": {}}'])
@in_virtual_time
async def test_an_answer_that_is_no_list_is_not_taken_for_an_empty_one(body: bytes) -> None:
    session = ScriptedSession(NO_STREAMING, Answer(body), Answer(page(6, thing("a", 6, 2))), QUIET)
    async with following(session) as follow:
        await follow.holds(a=2)
        assert follow.store.calls == [("replace", ["a"])]
        assert follow.status.errors == {"bad_answer": 1}


@pytest.mark.parametrize("items", [b"null", b"[]"])
@in_virtual_time
async def test_a_list_of_nothing_is_a_list(items: bytes) -> None:
    body = b'{"metadata": {"resourceVersion": "5"}, "items": ' + items + b"}"
    session = ScriptedSession(NO_STREAMING, Answer(body), QUIET)
    async with following(session) as follow:
        await follow.until(lambda: follow.status.synced)
        assert follow.store.calls == [("replace", [])]


@in_virtual_time
async def test_an_older_list_is_not_taken_while_its_server_may_catch_up() -> None:
    expired = event("ERROR", {"code": 410, "reason": "Expired"})
    session = ScriptedSession(
        Answer(streaming_list(50, thing("a", 50, 2)), expired),
        *[Answer(streaming_list(40, thing("a", 40, 1)), FOREVER)] * 3,
        Answer(streaming_list(50, thing("a", 50, 2), thing("b", 49, 3)), FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(20, a=2, b=3)
        assert follow.store.calls == [("replace", ["a"]), ("replace", ["a", "b"])]
        assert follow.status.errors == {"expired": 1, "old_list": 3}


@in_virtual_time
async def test_a_list_older_than_the_last_event_or_bookmark_is_not_taken() -> None:
    expired = event("ERROR", {"code": 410})
    for last in (event("MODIFIED", thing("a", 60, 2)), bookmark(60), event("DELETED", thing("a", 60, 1))):
        session = ScriptedSession(
            Answer(streaming_list(50, thing("a", 50, 1)), last, expired),
            Answer(streaming_list(55, thing("a", 50, 1)), FOREVER),
            Answer(streaming_list(60, thing("b", 59, 3)), FOREVER),
        )
        async with following(session) as follow:
            await follow.holds(b=3)
            assert follow.store.calls[-1:] + follow.store.calls[:1] == [("replace", ["b"]), ("replace", ["a"])]
            assert follow.status.errors["old_list"] == 1


@in_virtual_time
async def test_older_lists_now_and_then_between_good_ones_are_never_taken() -> None:
    expired = event("ERROR", {"code": 410})
    rounds = (
        [Answer(streaming_list(40)), Answer(streaming_list(50, thing("a", 50, 2)), 50.0, expired)] for _ in range(20)
    )
    session = ScriptedSession(
        Answer(streaming_list(50, thing("a", 50, 2)), expired), *itertools.chain.from_iterable(rounds)
    )
    async with following(session) as follow:
        await asyncio.sleep(900)
        assert follow.status.errors["old_list"] >= 15
        assert {str(names) for _, names in follow.store.calls} == {"['a']"}


@in_virtual_time
async def test_an_older_list_is_taken_when_the_server_has_nothing_newer_for_5_minutes() -> None:
    session = ScriptedSession(
        Answer(streaming_list(50, thing("a", 50, 2)), event("ERROR", {"code": 410})),
        *[Answer(streaming_list(40, thing("a", 40, 1)), FOREVER)] * 100,
    )
    settings = ReflectorSettings(list_spread=0, watch_idle_timeout=10_000)
    store = RecordingStore()
    task = asyncio.create_task(Reflector(session, THINGS, store, settings).run())
    await asyncio.sleep(295)
    assert store.values == {"a": 2}
    await asyncio.sleep(40)
    assert store.values == {"a": 1}
    assert len(session.requests) <= 50
    task.cancel()
    await asyncio.wait([task])


@in_virtual_time
async def test_old_lists_of_two_incidents_are_not_taken_for_one_long_one() -> None:
    expired = event("ERROR", {"code": 410})
    old = Answer(streaming_list(40, thing("a", 40, 1)), FOREVER)
    session = ScriptedSession(
        Answer(streaming_list(50, thing("a", 50, 2)), expired),
        old,
        *[REFUSED] * 500,
        model=FakeApi(),
    )
    async with following(session) as follow:
        await asyncio.sleep(350)
        assert follow.status.errors["old_list"] == 1
        session.script.clear()
        session.script.append(old)
        session.script.append(Answer(streaming_list(60, thing("a", 60, 3)), FOREVER))
        await follow.holds(60, a=3)


# ------------------------------------------------------------------------------------------------------- stopping


def _moments() -> Iterator[float]:
    """Through a first list, a watch, a break, waiting, an expiry and the list after it."""
    yield from (number * 0.0005 for number in range(40))
    yield from (0.02 + number * 0.05 for number in range(140))


@pytest.mark.parametrize("streaming", [Streaming.ON, Streaming.REFUSED])
def test_cancelled_at_any_moment_it_leaves_no_task_and_no_open_answer(streaming: Streaming) -> None:
    @in_virtual_time
    async def cancelled_at(moment: float) -> None:
        api = FakeApi()
        api.streaming = streaming
        for number in range(5):
            api.put(f"t{number}", number)
        api.chunk_size, api.chunk_delay = 150, 0.0007
        session = ScriptedSession(model=api)
        loop = asyncio.get_running_loop()
        loop.call_later(1, api.go_down)
        loop.call_later(2.5, lambda: api.come_up(forgetful=True))
        loop.call_later(4, lambda: api.put("t0", 9))
        loop.call_later(5, lambda: api.befall(Fault.STALL))
        # That nothing is left is for the loop to check.
        async with following(session, ReflectorSettings(page_size=2, watch_idle_timeout=1.0)):
            await asyncio.sleep(moment)
        assert (session.open, api.watchers) == (0, 0)

    for moment in _moments():
        cancelled_at(moment)


@pytest.mark.parametrize("line", [event("ERROR", {"code": 410}), b"no json\n"], ids=["expired", "no event"])
@in_virtual_time
async def test_an_answer_that_is_left_half_read_is_closed_there_and_then(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by tasks that the garbage collector makes, which a stop could miss."""
    loop = asyncio.get_running_loop()
    made: list[str] = []
    make = loop.create_task

    def recorded(work: Any, **named: Any) -> asyncio.Task[Any]:
        made.append(repr(work))
        return make(work, **named)

    async with following(ScriptedSession(Answer(streaming_list(5), line, FOREVER))) as follow:
        monkeypatch.setattr(loop, "create_task", recorded)
        await follow.until(lambda: follow.status.errors.total() > 0)
        await asyncio.sleep(1)
        assert made == []


# ------------------------------------------------------------------------------------------------ work in slices


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "pages"])
@in_virtual_time
async def test_while_a_big_list_is_decoded_others_get_their_turn(
    streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock on which each object takes 0.5 ms: with slices of 2 ms the loop goes round for every fourth."""
    ticks = itertools.count()
    monkeypatch.setattr("registry.kube.reflector.perf_counter", lambda: next(ticks) * 0.0005)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    things = [thing(f"t{number}", number + 1, number) for number in range(2000)]
    script = [Answer(streaming_list(2000, *things), FOREVER)]
    if not streaming:
        script = [NO_STREAMING, Answer(page(2000, *things)), QUIET]
    async with following(ScriptedSession(*script)) as follow:
        before = loop.turns
        await follow.until(lambda: follow.status.synced)
        turns = loop.turns - before
    assert turns >= 2000 / 5, f"the loop went round {turns} times"
    assert now() < 0.02
    assert follow.store.calls == [("replace", sorted(f"t{number}" for number in range(2000)))]


@in_virtual_time
async def test_a_flood_of_events_gives_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("registry.kube.reflector.perf_counter", lambda: next(ticks) * 0.0005)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    flood = b"".join(event("MODIFIED", thing("a", version, version)) for version in range(6, 2006))
    session = ScriptedSession(Answer(streaming_list(5), flood, FOREVER))
    async with following(session, AT_ONCE) as follow:
        before = loop.turns
        await follow.holds(a=2005)
        assert loop.turns - before >= 2000 / 5
