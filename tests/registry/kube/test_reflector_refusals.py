"""Following a resource whose API server refuses, forgets, is overloaded or away, or gives what can't be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from registry.kube.resource import State
from registry.kube.settings import ReflectorSettings
from tests.registry.kube.kube_support import EITHER_VERSION, following, truth
from tests.support.scripted_api import (
    FOREVER,
    LATENCY,
    OLDER_PATH,
    PATH,
    REFUSED,
    RESET,
    Answer,
    FakeApi,
    Fault,
    ScriptedSession,
    Streaming,
    encode,
    error,
    event,
    page,
    status,
    streaming_list,
    thing,
)
from tests.support.virtual_time import in_virtual_time, now

NO_STREAMING = error(422, "Invalid", "sendInitialEvents: Forbidden")
LISTED = Answer(streaming_list(5, thing("a", 5, 1)), FOREVER)
THEN_WATCHED = (Answer(streaming_list(5, thing("a", 5, 1)), RESET), Answer(FOREVER))


def pauses(session: ScriptedSession) -> list[float]:
    """The pauses between the end of a request and the next one."""
    following_ones = zip(session.requests, session.requests[1:], strict=False)
    return [later.at - earlier.closed for earlier, later in following_ones if earlier.closed is not None]


# ---------------------------------------------------------------------------------------------- expired versions


EXPIRED = event("ERROR", status(410, "Expired", "too old resource version: 5 (90)"))
GONE = error(410, "Gone", "too old")


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        ([Answer(streaming_list(5, thing("a", 5, 1)), EXPIRED)], ["streaming list"]),
        ([Answer(streaming_list(5, thing("a", 5, 1)), RESET), GONE], ["streaming list", "watch"]),
        ([Answer(streaming_list(5, thing("a", 5, 1)), RESET), Answer(EXPIRED)], ["streaming list", "watch"]),
        (
            [Answer(streaming_list(5, thing("a", 5, 1)), RESET), Answer(b"too old", status=410)],
            ["streaming list", "watch"],
        ),
        (
            # As an older server says it: another code, the same reason.
            [Answer(streaming_list(5, thing("a", 5, 1)), event("ERROR", status(0, "Expired")))],
            ["streaming list"],
        ),
    ],
    ids=["in the stream", "at the start", "in the stream of a resumed watch", "as text", "by its reason"],
)
@in_virtual_time
async def test_where_a_watch_says_expired_there_is_a_new_list_and_the_old_one_stays_till_then(
    script: list[Answer | Exception], kinds: list[str]
) -> None:
    fresh = streaming_list(95, thing("b", 95, 2))
    session = ScriptedSession(*script, Answer(fresh[:50], 5.0, fresh[50:], FOREVER))
    async with following(session) as follow:
        await asyncio.sleep(4)
        assert follow.store.values == {"a": 1}
        await follow.holds(b=2)
        assert follow.store.calls == [("replace", ["a"]), ("replace", ["b"])]
        assert follow.status.errors["expired"] == 1
        assert follow.status.relists == 1
    assert session.kinds == [*kinds, "streaming list"]


@in_virtual_time
async def test_a_list_that_expires_between_two_pages_is_begun_anew_and_nothing_of_it_is_kept() -> None:
    session = ScriptedSession(
        NO_STREAMING,
        Answer(page(5, thing("a", 5, 1), more="c")),
        error(410, "Expired", "The provided continue parameter is too old"),
        Answer(page(9, thing("b", 9, 2), more="d")),
        Answer(page(9, thing("c", 8, 3))),
        Answer(FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(b=2, c=3)
        assert follow.store.calls == [("replace", ["b", "c"])]
    assert session.kinds[1:5] == ["list", "page", "list", "page"]


@in_virtual_time
async def test_a_list_that_is_itself_expired_is_asked_for_again() -> None:
    session = ScriptedSession(NO_STREAMING, GONE, Answer(page(9, thing("b", 9, 2))), Answer(FOREVER))
    async with following(session) as follow:
        await follow.holds(b=2)


@pytest.mark.parametrize(
    "script",
    [
        lambda at: [Answer(streaming_list(at), EXPIRED)],
        lambda at: [Answer(streaming_list(at)), GONE],
        lambda at: [Answer(streaming_list(at), event("ADDED", thing("a", at + 1, 1)), EXPIRED)],
        lambda at: [GONE],
    ],
    ids=["in the stream", "at the start", "after an event", "at the list"],
)
@in_virtual_time
async def test_a_server_that_says_expired_again_and_again_is_not_asked_for_lists_without_end(
    script: Callable[[int], list[Answer | Exception]],
) -> None:
    session = ScriptedSession(*(answer for round in range(1000) for answer in script(10 * round + 5)))
    async with following(session, ReflectorSettings()) as follow:
        await asyncio.sleep(600)
        assert follow.status.problem
    # A list in 15 s on average, once the pauses are long; each may be megabytes.
    lists = session.kinds.count("streaming list")
    assert lists <= 70, f"{lists} lists in 10 minutes"


@in_virtual_time
async def test_a_version_that_expires_now_and_then_costs_no_long_pause() -> None:
    api = FakeApi()
    session = ScriptedSession(model=api)
    async with following(session, ReflectorSettings()) as follow:
        for number in range(20):
            api.put("a", number)
            await follow.holds(a=number)
            await asyncio.sleep(12)
            api.compact()
            api.elsewhere()
            api.compact()
            api.befall(Fault.CUT)
            api.put("a", -1)
            await follow.holds(3.5)


@in_virtual_time
async def test_a_version_that_the_server_has_not_reached_is_asked_for_again_without_a_list() -> None:
    """As from a server that was restarted and has not read everything yet."""
    too_large = error(504, "Timeout", "Too large resource version: 50, current: 40", retry_after=1.0)
    session = ScriptedSession(
        Answer(streaming_list(50, thing("a", 50, 1))),
        *[too_large] * 3,
        Answer(event("MODIFIED", thing("a", 51, 2)), FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(20, a=2)
        assert follow.status.errors == {"server": 3}
        assert follow.status.relists == 0
    assert [request.version for request in session.requests] == ["", *["50"] * 4]


# -------------------------------------------------------------------------------------------- overload, restarts


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("at", ["list", "page", "watch"])
@in_virtual_time
async def test_a_server_in_trouble_is_asked_again_for_the_same_after_a_pause(code: int, at: str) -> None:
    trouble: list[Answer | Exception] = [Answer(b"<html>upstream is busy</html>", status=code)] * 4
    script: list[Answer | Exception] = {
        "list": [NO_STREAMING, *trouble, Answer(page(5, thing("a", 5, 1)))],
        "page": [NO_STREAMING, *[Answer(page(5, more="c")), trouble[0]] * 4, Answer(page(5, thing("a", 5, 1)))],
        "watch": [NO_STREAMING, Answer(page(5, thing("a", 5, 1))), *trouble],
    }[at]
    session = ScriptedSession(*script, Answer(event("MODIFIED", thing("a", 6, 2)), FOREVER))
    async with following(session) as follow:
        await follow.holds(60, a=2)
        assert [call for call, _ in follow.store.calls] == ["replace", "upsert"]
        assert follow.status.errors == {"throttled" if code == 429 else "server": 4}
    assert len([pause for pause in pauses(session) if pause > 0.001]) >= 4, pauses(session)


@in_virtual_time
async def test_a_server_that_says_how_long_to_wait_is_left_alone_for_so_long() -> None:
    session = ScriptedSession(*[error(429, retry_after=7.0)] * 5, LISTED)
    async with following(session) as follow:
        await follow.holds(200, a=1)
    waited = pauses(session)
    assert len(waited) == 5
    assert all(pause > 7 for pause in waited), waited
    # And not all the replicas that were told so come back in one moment.
    assert len({round(pause, 3) for pause in waited}) == 5


@in_virtual_time
async def test_pauses_while_the_server_refuses_grow_to_30_seconds_and_are_drawn_from_all_of_that() -> None:
    session = ScriptedSession(*[Answer(b"busy", status=503)] * 400)
    async with following(session):
        await asyncio.sleep(3600)
    waited = pauses(session)
    bounds = [min(0.8 * 2**number, 30.0) for number in range(len(waited))]
    assert all(pause <= bound + 1e-6 for pause, bound in zip(waited, bounds, strict=True))
    long = sorted(waited[6:])
    assert long[0] < 3
    assert long[-1] > 27
    assert 12 < sum(long) / len(long) < 18
    assert len(session.requests) <= 3600 / 10


@pytest.mark.parametrize("trouble", [REFUSED, Answer(streaming_list(5)[:40], RESET)], ids=["refused", "broken"])
@in_virtual_time
async def test_pauses_while_the_server_is_out_of_reach_grow_to_2_seconds(trouble: Answer | Exception) -> None:
    session = ScriptedSession(*[trouble] * 2000)
    async with following(session) as follow:
        await asyncio.sleep(1200)
        assert follow.status.state is State.WAITING
    waited = pauses(session)
    assert max(waited) <= 2
    assert max(waited) > 1.9
    assert min(waited[3:]) < 0.1
    assert 0.8 < sum(waited) / len(waited) < 1.2


@pytest.mark.parametrize("forgetful", [False, True], ids=["resumes", "expired"])
@pytest.mark.parametrize("streaming", [Streaming.ON, Streaming.REFUSED])
@pytest.mark.parametrize("gap", [0.2, 5.0, 300.0])
@in_virtual_time
async def test_the_store_is_current_within_3_seconds_of_the_servers_return(
    gap: float, streaming: Streaming, forgetful: bool
) -> None:
    api = FakeApi()
    api.streaming = streaming
    session = ScriptedSession(model=api, most=100_000)
    async with following(session, ReflectorSettings()) as follow:
        await asyncio.sleep(1)
        for number in range(5 if gap > 100 else 20):
            api.go_down()
            api.put("a", number)
            await asyncio.sleep(gap)
            api.come_up(forgetful=forgetful)
            await follow.holds(3, a=number)


@in_virtual_time
async def test_only_lists_that_came_count_as_relists() -> None:
    api = FakeApi()
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.until(lambda: follow.status.synced)
        api.elsewhere()
        api.compact()
        api.next_answers.extend([Answer(event("ERROR", status(410))), *[error(500)] * 5])
        api.befall(Fault.CUT)
        await asyncio.sleep(120)
        assert follow.status.errors["server"] == 5
        assert follow.status.relists == 1


@in_virtual_time
async def test_a_server_that_is_starting_is_asked_again_soon_whatever_it_says() -> None:
    """For some seconds after its start a server says 403, 404, 429, 500 or 503, and to wait longer than it takes."""
    session = ScriptedSession(
        Answer(streaming_list(5, thing("a", 5, 1)), RESET),
        *[REFUSED] * 5,
        error(403, "Forbidden", "RBAC: not yet"),
        error(429, retry_after=5.0),
        Answer(b"starting", status=503, retry_after=5.0),
        error(500, "InternalError"),
        Answer(event("MODIFIED", thing("a", 6, 2)), FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(20, a=2)
    assert max(pauses(session)[5:]) <= 2, pauses(session)


@in_virtual_time
async def test_a_pause_starts_short_again_after_two_healthy_minutes() -> None:
    api = FakeApi()
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.until(lambda: follow.status.synced)
        # No sooner: what breaks every minute is not healthy.
        firsts: dict[float, list[float]] = {60.0: [], 125.0: []}
        for healthy, first in firsts.items():
            for _ in range(12):
                await asyncio.sleep(healthy)
                api.befall(Fault.CUT)
                await asyncio.sleep(4)
                first.append(pauses(session)[-1])
        assert max(firsts[60.0]) > 0.8
        assert max(firsts[125.0][1:]) <= 0.8


@pytest.mark.parametrize(("healthy", "short"), [(100.0, False), (130.0, True)])
@in_virtual_time
async def test_a_pause_after_a_refusal_starts_short_again_after_two_healthy_minutes(
    healthy: float, short: bool
) -> None:
    last: list[float] = []
    for seed in range(10):
        session = ScriptedSession(
            *[Answer(b"busy", status=503)] * 8,
            Answer(streaming_list(5), 60.0, b"\n", healthy - 60, event("ERROR", status(500)), FOREVER),
        )
        async with following(session, seed=seed):
            await asyncio.sleep(500)
        last.append(pauses(session)[8])
    assert max(last) <= 0.8 if short else max(last) > 20, last


@in_virtual_time
async def test_a_problem_is_logged_once_while_it_stays_the_same_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="registry.kube")
    session = ScriptedSession(*[REFUSED] * 20, LISTED)
    async with following(session) as follow:
        await asyncio.sleep(0.01)
        assert (follow.status.problem, follow.status.state) == ("connection refused", State.WAITING)
        await follow.holds(60, a=1)
        assert (follow.status.problem, follow.status.state) == ("", State.WATCHING)
    assert caplog.messages == ["things in ns: connection refused", "things in ns: watching again"]


# ------------------------------------------------------------------------------------------------ rights, tokens


@pytest.mark.parametrize("at", ["list", "watch"])
@in_virtual_time
async def test_where_the_token_is_refused_it_is_read_again_and_used_at_once(at: str) -> None:
    api = FakeApi()
    api.put("a", 1)
    session = ScriptedSession(model=api)

    def rotate() -> None:
        session.token = "second"

    session.on_reload = rotate
    if at == "list":
        api.token = "second"
    async with following(session) as follow:
        await follow.holds(a=1)
        if at == "watch":
            api.token = "second"
            api.befall(Fault.CUT)
            api.put("a", 2)
            await follow.holds(a=2)
    refused = session.requests[-2]
    assert session.reloads == [pytest.approx(refused.at + LATENCY)]
    assert session.requests[-1].at == pytest.approx(session.reloads[0])


@in_virtual_time
async def test_while_the_new_token_is_refused_too_it_is_read_again_after_each_pause() -> None:
    api = FakeApi()
    api.put("a", 1)
    api.token = "right"
    session = ScriptedSession(model=api)

    def read() -> None:
        if now() > 300:
            session.token = "right"

    session.on_reload = read
    async with following(session) as follow:
        await asyncio.sleep(300)
        assert len(session.requests) <= 60
        assert len(session.reloads) >= len(session.requests) - 1
        assert "does not take our credentials" in follow.status.problem
        assert not follow.status.synced
        await follow.holds(31, a=1)


@in_virtual_time
async def test_a_token_that_rotates_again_is_again_read_at_once() -> None:
    api = FakeApi()
    session = ScriptedSession(model=api)

    def read() -> None:
        session.token = api.token

    session.on_reload = read
    async with following(session) as follow:
        for number in range(5):
            api.put("a", number)
            await follow.holds(3, a=number)
            api.token = f"token {number}"
            api.befall(Fault.END)
    assert len(session.reloads) == 4
    refused = {request.closed for request in session.requests}
    assert refused.issuperset(session.reloads)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (
            error(403, "Forbidden", 'things.test is forbidden: User "u" cannot list resource "things"'),
            ['User "u" cannot list', "grant it with: kubectl grant things"],
        ),
        (Answer(b"", status=403), ["forbidden", "grant it with: kubectl grant things"]),
        (
            Answer(b"404 page not found\n", status=404),
            ["has no things in ns", "404 page not found", "install it with: kubectl install things"],
        ),
    ],
)
@in_virtual_time
async def test_what_is_missing_is_named_with_the_command_that_mends_it_and_then_it_goes_on(
    answer: Answer, parts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    session = ScriptedSession(*[answer] * 5, LISTED)
    async with following(session) as follow:
        await follow.until(lambda: bool(follow.status.problem))
        assert all(part in follow.status.problem for part in parts), follow.status.problem
        assert not follow.status.synced
        assert follow.store.calls == []
        await follow.holds(60, a=1)
        assert follow.status.problem == ""
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1


@pytest.mark.parametrize("answer", [error(403, "Forbidden"), Answer(b"not found", status=404)], ids=["403", "404"])
@in_virtual_time
async def test_without_an_optional_resource_it_goes_on_until_there_is_one(answer: Answer) -> None:
    session = ScriptedSession(*[answer] * 5, LISTED)
    async with following(session, optional=True) as follow:
        await follow.until(lambda: follow.status.synced)
        assert follow.store.calls == [("replace", [])]
        await follow.holds(60, a=1)
        assert follow.store.calls == [("replace", []), ("replace", ["a"])]


@pytest.mark.parametrize(
    "answer", [Answer(b"busy", status=503), error(401), REFUSED, Answer(b"")], ids=["503", "401", "refused", "empty"]
)
@in_virtual_time
async def test_an_optional_resource_counts_as_absent_only_where_the_server_says_so(answer: Answer | Exception) -> None:
    async with following(ScriptedSession(*[answer] * 500), optional=True) as follow:
        await asyncio.sleep(120)
        assert not follow.status.synced
        assert follow.store.calls == []


@in_virtual_time
async def test_an_optional_resource_that_was_there_keeps_its_last_objects_when_the_right_to_it_goes() -> None:
    session = ScriptedSession(Answer(streaming_list(5, thing("a", 5, 1)), RESET), *[error(403)] * 50)
    async with following(session, optional=True) as follow:
        await asyncio.sleep(120)
        assert follow.store.values == {"a": 1}
        assert follow.status.problem


@pytest.mark.parametrize("optional", [False, True])
@in_virtual_time
async def test_an_older_version_of_the_api_is_found_at_once_and_stayed_with(optional: bool) -> None:
    api = FakeApi()
    api.served = (OLDER_PATH,)
    api.put("a", 1)
    session = ScriptedSession(model=api)
    async with following(session, resource=EITHER_VERSION, optional=optional) as follow:
        assert await follow.holds(a=1) < 0.1
        assert follow.store.calls == [("replace", ["a"])]
        api.befall(Fault.CUT)
        api.put("b", 2)
        await follow.holds(a=1, b=2)
    assert [request.path for request in session.requests] == [PATH, OLDER_PATH, OLDER_PATH]


@in_virtual_time
async def test_a_newer_version_of_the_api_is_found_when_the_older_one_goes() -> None:
    api = FakeApi()
    api.served = (OLDER_PATH,)
    session = ScriptedSession(model=api)
    async with following(session, resource=EITHER_VERSION) as follow:
        await follow.until(lambda: follow.status.synced)
        api.served = (PATH,)
        api.befall(Fault.CUT)
        api.put("a", 1)
        await follow.holds(a=1)
        assert follow.status.relists == 0
    assert [request.path for request in session.requests[-2:]] == [OLDER_PATH, PATH]
    assert session.requests[-1].at == session.requests[-2].closed


@pytest.mark.parametrize("optional", [False, True])
@in_virtual_time
async def test_where_no_version_of_the_api_is_there_all_are_tried_again_and_again(optional: bool) -> None:
    api = FakeApi()
    api.served = ()
    session = ScriptedSession(model=api)
    async with following(session, resource=EITHER_VERSION, optional=optional) as follow:
        await asyncio.sleep(600)
        assert follow.status.synced == optional
        assert "kubectl install things" in follow.status.problem
        asked = len(session.requests)
        assert asked <= 150, f"{asked} requests in 10 minutes"
        api.served = (OLDER_PATH,)
        api.put("a", 1)
        await follow.holds(31, a=1)


@in_virtual_time
async def test_an_error_in_the_stream_that_has_no_path_for_it_is_not_followed_by_requests_without_pause() -> None:
    lost = Answer(event("ERROR", status(404, "NotFound")))
    session = ScriptedSession(Answer(streaming_list(5)), *[lost] * 1000)
    async with following(session, resource=EITHER_VERSION):
        await asyncio.sleep(60)
    assert len(session.requests) <= 30


# ---------------------------------------------------------------------------------------------- errors in streams


@pytest.mark.parametrize(
    ("code", "reason"), [(500, "server"), (429, "throttled"), (403, "forbidden"), (401, "unauthorized"), (0, "refused")]
)
@in_virtual_time
async def test_an_error_in_a_watch_ends_it_and_it_is_resumed_after_a_pause(code: int, reason: str) -> None:
    line = event("ERROR", status(code, "", "etcdserver: no leader"))
    session = ScriptedSession(
        Answer(streaming_list(5), event("ADDED", thing("a", 9, 1)), line, FOREVER),
        Answer(event("MODIFIED", thing("a", 10, 2)), FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(a=2)
        assert follow.status.errors == {reason: 1}
        assert follow.status.relists == 0
    assert session.requests[1].version == "9"


@in_virtual_time
async def test_errors_in_streams_that_were_opened_count_as_failures_in_a_row() -> None:
    line = event("ERROR", status(500, "InternalError", "etcdserver: no leader"))
    session = ScriptedSession(Answer(streaming_list(5)), *[Answer(line)] * 1000)
    async with following(session):
        await asyncio.sleep(600)
    assert len(session.requests) <= 80


@in_virtual_time
async def test_an_error_whose_text_does_not_end_counts_as_an_answer_that_stays_away() -> None:
    session = ScriptedSession(Answer(b'{"kind":', FOREVER, status=500), LISTED)
    async with following(session) as follow:
        assert 30 < await follow.holds(40, a=1) < 32
        assert follow.status.errors == {"timeout": 1}


@in_virtual_time
async def test_a_long_text_of_a_proxy_is_cut_in_the_problem() -> None:
    session = ScriptedSession(Answer(b"x" * 100_000, status=502))
    async with following(session) as follow:
        await follow.until(lambda: bool(follow.status.problem))
        assert len(follow.status.problem) < 400
        assert "502" in follow.status.problem


# ------------------------------------------------------------------------------------- objects that can't be read


@pytest.mark.parametrize("wrong", ["text", None, 1.5, [], 2_000_000], ids=["str", "null", "float", "list", "refused"])
@pytest.mark.parametrize("streaming", [Streaming.ON, Streaming.REFUSED])
@in_virtual_time
async def test_an_object_with_a_value_of_the_wrong_type_is_left_out_alone_until_it_is_mended(
    wrong: object, streaming: Streaming, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakeApi()
    api.streaming = streaming
    api.put("a", 1)
    api.put("b", wrong)
    api.put("c", 3)
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.holds(a=1, c=3)
        assert list(follow.status.dropped) == [("ns", "b")]
        assert follow.status.errors == {"object": 1}
        assert [message for message in caplog.messages if "ns/b is left out" in message]
        api.put("b", 2)
        await follow.holds(a=1, b=2, c=3)
        assert follow.status.dropped == {}
        api.put("a", wrong)
        await follow.holds(b=2, c=3)
        assert list(follow.status.dropped) == [("ns", "a")]
        api.put("a", 5)
        await follow.holds(a=5, b=2, c=3)
    assert "watch" not in session.kinds[2 if streaming is Streaming.REFUSED else 1 :][1:]


@pytest.mark.parametrize("readable", [True, False], ids=["mended", "wrong"])
@in_virtual_time
async def test_an_object_that_was_left_out_and_is_deleted_is_no_longer_named(readable: bool) -> None:
    session = ScriptedSession(
        Answer(
            streaming_list(5, thing("a", 4, 1), thing("b", 5, "wrong")),
            1.0,
            event("DELETED", thing("b", 6, 1 if readable else "wrong")),
            1.0,
            event("MODIFIED", thing("a", 7, 2)),
            FOREVER,
        )
    )
    async with following(session) as follow:
        await follow.holds(a=1)
        assert list(follow.status.dropped) == [("ns", "b")]
        await follow.holds(a=2)
        assert follow.status.dropped == {}
        assert follow.status.version == "7"


@in_virtual_time
async def test_an_object_that_is_left_out_is_logged_and_counted_once_while_its_fault_is_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = FakeApi()
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.until(lambda: follow.status.synced)
        for _ in range(5):
            api.put("a", "wrong")
        await follow.until(lambda: follow.status.version == str(api.version))
        api.put("a", [])
        await follow.until(lambda: follow.status.version == str(api.version))
        assert follow.status.errors == {"object": 2}
    assert len([message for message in caplog.messages if "is left out" in message]) == 2


@in_virtual_time
async def test_what_the_resource_does_not_keep_is_deleted_when_it_is_no_longer_kept() -> None:
    api = FakeApi()
    api.put("a", 1)
    api.put("b", -1)
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.holds(a=1)
        api.put("b", 2)
        api.put("a", -1)
        await follow.holds(b=2)
        assert follow.status.dropped == {}
    assert truth(api) == {"b": 2}


# -------------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("befall", "reason"),
    [
        (lambda api: api.befall(Fault.CUT), "connection"),
        (lambda api: api.go_down(), "connection"),
        (lambda api: api.befall(Fault.STALL), "idle"),
        (lambda api: (api.elsewhere(), api.compact(), api.befall(Fault.CUT)), "expired"),
    ],
    ids=["cut", "down", "stall", "expired"],
)
@in_virtual_time
async def test_errors_are_counted_by_their_reason(befall: Callable[[FakeApi], None], reason: str) -> None:
    api = FakeApi()
    session = ScriptedSession(model=api)
    async with following(session) as follow:
        await follow.until(lambda: follow.status.synced)
        befall(api)
        await asyncio.sleep(80)
        assert follow.status.errors[reason] >= 1


@in_virtual_time
async def test_the_last_byte_is_when_anything_last_came() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    session = ScriptedSession(Answer(streaming_list(5), 10.0, b"\n", 30.0, event("ADDED", thing("a", 6, 1)), FOREVER))
    async with following(session) as follow:

        def last_byte() -> float:
            return follow.status.last_byte or 0.0

        assert last_byte() == 0
        for wait, last in ((5, 0), (10, 10), (20, 10), (10, 40)):
            await asyncio.sleep(wait)
            assert last_byte() - start == pytest.approx(last, abs=0.01)


@in_virtual_time
async def test_a_version_that_is_no_number_is_only_ever_compared_for_being_there() -> None:
    """Versions are opaque by the API's own rules; that they are numbers is used only to refuse older lists."""
    session = ScriptedSession(
        Answer(streaming_list("x9", thing("a", 5, 1)), event("ERROR", status(410))),
        Answer(streaming_list("x1", thing("a", 6, 2)), RESET),
        Answer(encode({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "x2"}}}) + b"\n", RESET),
        Answer(FOREVER),
    )
    async with following(session) as follow:
        await follow.holds(a=2)
        await follow.until(lambda: len(session.requests) == 4)
    assert [request.version for request in session.requests] == ["", "", "x1", "x2"]
