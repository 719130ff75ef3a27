"""What a server lets one peer, one address and all of them use up. Each test runs on both event loops."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tars_protocol.aio import accept as accept_module
from tars_protocol.aio import peer as peer_module
from tars_protocol.aio import server as server_module
from tars_protocol.aio.limits import RateLimitMode, ServerLimits
from tars_protocol.aio.listen import BACKLOG
from tars_protocol.aio.peers import Addresses, admit
from tars_protocol.aio.server import Server
from tars_protocol.constants import ReturnCode
from tars_protocol.dispatch import Dispatcher, Servant
from tars_protocol.frames import frame
from tars_protocol.handlers import Caller, unknown
from tars_protocol.packets import decode_response, reply
from tests.tars_protocol.served import Peer, Served, connected, serving, until
from tests.tars_protocol.shared import KINDS, SERVANT, Kinds, on_every_loop, request

# -- connections of one address ------------------------------------------------------------------------------------


@on_every_loop
async def test_one_address_has_no_more_connections_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    """And another one is let in all the same."""
    async with serving(host="", max_connections_per_peer=2) as served, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(connected(served, "127.0.0.1")) for _ in range(2)]
        for peer in peers:
            peer.send(request("add", 1, 2))
            await peer.frame()
        async with connected(served, "127.0.0.1") as third:
            assert await third.rest() == b""
        assert served.refused == {"too_many_connections_of_peer": 1}
        reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, local_addr=("127.0.0.2", 0))
        other = Peer(reader, writer)
        other.send(request("add", 1, 2))
        assert (await other.response()).code == 0
        await other.close()
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.limit_key == "127.0.0.1"  # type: ignore[attr-defined]  # set by extra=
    assert record.getMessage() == (
        "test: closed a connection of 127.0.0.1 at once: there are 2 (max_connections_per_peer)"
    )


@on_every_loop
async def test_an_address_whose_connection_is_gone_may_connect_again() -> None:
    async with serving(max_connections_per_peer=1) as served:
        for _ in range(3):
            async with connected(served) as peer:
                peer.send(request("add", 1, 2))
                await peer.frame()
            await until(lambda: served.server.open_connections == 0)
        assert served.refused == {}
        assert len(served.server._addresses) == 0


# -- deadlines -----------------------------------------------------------------------------------------------------


@on_every_loop
async def test_a_connection_that_never_sends_anything_is_cut_long_before_one_that_did() -> None:
    async with (
        serving(first_byte_timeout=30, idle_timeout=900) as served,
        connected(served) as silent,
        connected(served) as good,
    ):
        await served.connection(1)
        good.send(request("add", 1, 2))
        await good.frame()
        served.pass_time(30)
        assert served.refused == {}
        served.pass_time(1)
        assert await silent.rest() == b""
        assert served.refused == {"first_byte_timeout": 1}
        served.pass_time(800)
        assert served.server.open_connections == 1


@on_every_loop
async def test_a_bug_in_the_look_at_one_connection_spares_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(idle_timeout=10) as served, connected(served) as first, connected(served) as second:
        for peer in (first, second):
            peer.send(request("add", 1, 2))
            await peer.frame()
        broken = served.connections[0]
        monkeypatch.setattr(type(broken), "waiting", property(lambda self: 0 // (self is not broken)))
        served.pass_time(5)
        assert served.refused == {"bug": 1}
        assert await first.rest() == b""
        served.pass_time(6)
        assert served.refused == {"bug": 1, "idle_timeout": 1}
    assert "ZeroDivisionError" in caplog.text


# -- answers under way ---------------------------------------------------------------------------------------------


@on_every_loop
async def test_with_too_many_answers_under_way_a_connection_is_not_read_until_there_are_fewer() -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle, max_outstanding=3) as served, connected(served) as peer:
        for n in range(8):
            peer.send(request("later", n, iRequestId=n + 1))
        peer.send(request("add", 1, 2, iRequestId=100))
        assert [await kinds.arrived.get() for _ in range(3)] == [0, 1, 2]
        (connection,) = served.server._peers
        await until(lambda: not connection.transport.is_reading())
        assert served.server.load.in_flight == 3
        assert kinds.arrived.empty()
        served.pass_time(1000)
        assert served.refused == {}, "it is not the peer that is slow"
        async with connected(served) as other:
            other.send(request("add", 1, 2))
            assert (await other.response()).code == 0
        answered = []
        for n in range(8):
            kinds.release(n, n)
            answered.append((await peer.response()).request_id)
            if n + 3 < 8:
                assert await kinds.arrived.get() == n + 3
        answered.append((await peer.response()).request_id)
        assert sorted(answered) == [*range(1, 9), 100]
        assert (served.server.load.in_flight, connection.transport.is_reading()) == (0, True)


@on_every_loop
async def test_answers_under_way_of_a_connection_that_is_lost_are_none_any_more() -> None:
    """Those that have not even begun give no warning either."""
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle, turn_time=3600) as served:
        async with connected(served) as peer:
            peer.send(b"".join(request("later", n, iRequestId=n + 1) for n in range(8)))
            await until(lambda: served.server.load.in_flight == 8)
            peer.reset()
        await until(lambda: served.server.load.in_flight == 0)
        async with connected(served) as peer:
            peer.send(b"".join(request("later", n, iRequestId=n + 1) for n in range(100, 108)))
            await (await served.connection(1)).has_taken(1)
            for each in served.server._peers:
                each.abort()
            await peer.rest()
        await until(lambda: served.server.load.in_flight == 0)
    gc.collect()


@on_every_loop
async def test_above_max_in_flight_a_call_that_takes_time_is_refused_at_once_and_a_quick_one_answered() -> None:
    """The function that is refused has not begun."""
    kinds = Kinds()
    served_by: list[Dispatcher] = []

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        return served_by[0].handle(data, key, caller)

    async with (
        serving(handle, max_in_flight=2) as served,
        connected(served) as peer,
        connected(served) as other,
    ):
        served_by.append(Dispatcher({SERVANT: Servant(KINDS, kinds.functions)}, load=served.server.load))
        for n in (1, 2):
            peer.send(request("later", n, iRequestId=n))
            await kinds.arrived.get()
        for version in (1, 3, 5):
            other.send(request("later", 3, version=version, iRequestId=3))
            refused = await other.response()
            assert (refused.code, refused.request_id) == (ReturnCode.OVERLOAD, 3)
            assert refused.description == "2 calls are under way: ask again"
        other.send(request("add", 1, 2))
        assert (await other.response()).code == 0
        assert kinds.arrived.empty()
        assert served.server.load.refused == 3
        kinds.release(1, 1)
        assert (await peer.response()).request_id == 1
        other.send(request("later", 4, iRequestId=4))
        assert await kinds.arrived.get() == 4
        kinds.release(2, 1)
        kinds.release(4, 1)
        assert (await other.response()).request_id == 4


@on_every_loop
async def test_an_answer_that_fails_outside_of_a_servant_ends_its_connection_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kinds = Kinds()

    async def broken() -> bytes:
        raise ZeroDivisionError("a mistake on the way")

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        return broken() if b"crash" in data else kinds.dispatcher.handle(data, key, caller)

    async with serving(handle) as served, connected(served) as bad, connected(served) as good:
        bad.send(request("crash"))
        assert await bad.rest() == b""
        good.send(request("add", 1, 2))
        assert (await good.response()).code == 0
        assert (served.refused, served.server.load.in_flight) == ({"bug": 1}, 0)
    assert "a mistake on the way" in caplog.text


@on_every_loop
async def test_a_bug_in_a_servant_is_answered_and_the_connection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served, connected(served) as peer:
        peer.send(request("crash") + request("add", 1, 2, iRequestId=8))
        assert (await peer.response()).code == ReturnCode.UNKNOWN
        assert (await peer.response()).request_id == 8
        assert served.refused == {}
    assert "a mistake in a servant" in caplog.text


# -- the end of what a peer sends ------------------------------------------------------------------------------------


@on_every_loop
@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (b"\x00\x00\x00\x00", "frame_too_short"),
        (b"\xff\xff\xff\xff", "frame_too_long"),
        (frame(b"\xff\xff\xff"), "undecodable"),
        (None, ""),
    ],
)
async def test_whatever_ends_a_connection_what_came_before_is_answered(last: bytes | None, reason: str) -> None:
    """An answer under way, and what waits for its turn. None: the peer only says that it sends no more."""
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle, turn_time=0) as served, connected(served) as peer:
        stream = request("later", 1, iRequestId=1)
        stream += b"".join(request("add", n, 0, iRequestId=n) for n in range(2, 9))
        peer.send(stream + (last or b""))
        if last is None:
            peer.half_close()
        assert [(await peer.response()).request_id for _ in range(7)] == list(range(2, 9))
        await until(lambda: served.refused == ({reason: 1} if reason else {}))
        (connection,) = served.server._peers
        assert not connection.transport.is_closing()
        assert not connection.transport.is_reading()
        kinds.release(1, 5)
        assert (await peer.response()).request_id == 1
        assert await peer.rest() == b""
        assert served.refused == ({reason: 1} if reason else {})


@on_every_loop
async def test_an_answer_that_never_comes_keeps_an_ended_connection_for_write_timeout() -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle, write_timeout=30) as served, connected(served) as peer:
        peer.send(request("later", 1))
        await kinds.arrived.get()
        peer.half_close()
        (connection,) = served.server._peers
        await until(lambda: not connection.transport.is_reading())
        served.pass_time(30)
        assert served.refused == {}
        served.pass_time(1)
        assert served.refused == {"write_timeout": 1}
        assert await peer.rest() == b""
        await until(lambda: served.server.load.in_flight == 0)


# -- turns ---------------------------------------------------------------------------------------------------------


@on_every_loop
async def test_a_thousand_requests_of_many_connections_hold_up_a_kept_answer_for_one_stretch() -> None:
    """However many connections ask: of all together one request is decoded between two looks at the sockets."""
    kinds = Kinds()
    done: list[int] = []
    known = reply(1, 0, b"known")

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        done.append(caller.peer_port)
        return kinds.dispatcher.handle(data, key, caller)

    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            serving(handle, lambda key: known if b"say" in key else None, turn_time=0, turn_timeout=1000)
        )
        many = [await stack.enter_async_context(connected(served)) for _ in range(40)]
        modest = await stack.enter_async_context(connected(served))
        await served.connection(40)
        for peer in many:
            peer.send(b"".join(request("add", n, 0, iRequestId=n) for n in range(1, 26)))
        await until(lambda: len(done) > 40)
        for _ in range(5):
            before = len(done)
            modest.send(request("say", "x"))
            assert (await modest.response()).code == 0
            assert len(done) - before < 10, "the requests of many others came before"
        assert len(done) < 1000
        for peer in many:
            assert [(await peer.response()).request_id for _ in range(25)] == list(range(1, 26))


@on_every_loop
async def test_addresses_have_their_turns_one_after_the_other() -> None:
    """Who has one connection waits for one request of another address, not for one of each of its connections."""
    done: list[str] = []
    kinds = Kinds()

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        done.append(caller.peer)
        return kinds.dispatcher.handle(data, key, caller)

    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(handle, host="", turn_time=0, turn_timeout=1000))
        many = [await stack.enter_async_context(connected(served, "127.0.0.1")) for _ in range(30)]
        other = Peer(*await asyncio.open_connection("127.0.0.1", served.server.port, local_addr=("127.0.0.2", 0)))
        stack.push_async_callback(other.close)
        await served.connection(30)
        for peer in many:
            peer.send(b"".join(request("add", n, 0, iRequestId=n) for n in range(1, 26)))
        await until(lambda: len(done) > 40)
        other.send(b"".join(request("add", n, 0, iRequestId=n) for n in range(1, 6)))
        for _ in range(5):
            await other.frame()
        first, last = done.index("127.0.0.2"), len(done) - 1 - done[::-1].index("127.0.0.2")
        assert done[first : last + 1].count("127.0.0.1") <= 8
        for peer in many:
            for _ in range(25):
                await peer.frame()


async def _always_three_open(peer: Peer, count: int) -> None:
    """Ask so many questions, one for each answer; leave three that are not answered."""
    for number in range(1, 4):
        peer.send(request("add", number, 0, iRequestId=number))
    for number in range(4, 4 + count):
        assert (await peer.response()).code == 0
        peer.send(request("add", number, 0, iRequestId=number))


@on_every_loop
async def test_who_always_has_questions_open_has_not_waited_since_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that it asks were too late once it had gone on for so long."""
    since: set[float | None] = set()
    go_on = peer_module.Peer.go_on

    def watched(self: peer_module.Peer, *, late: bool) -> None:
        since.add(self.since)
        go_on(self, late=late)

    monkeypatch.setattr(peer_module.Peer, "go_on", watched)
    async with serving(turn_time=0, turn_timeout=1000) as served, connected(served) as peer:
        await _always_three_open(peer, 600)
        assert len(since) > 3


@on_every_loop
async def test_who_always_has_questions_open_is_asked_to_reconnect_too() -> None:
    async with serving(turn_time=0, turn_timeout=1000) as served, connected(served) as peer:
        await _always_three_open(peer, 10)
        draining = await _draining(served.server)
        asked, answered = 13, 10
        while (found := await peer.response()).description != "_reconnect_":
            assert found.code == 0
            answered += 1
            asked += 1
            peer.send(request("add", 1, 0, iRequestId=asked))
        while answered < asked:
            assert (await peer.response()).code == 0
            answered += 1
        await peer.close()
        await draining


@on_every_loop
async def test_what_has_waited_too_long_for_its_turn_is_answered_that_it_is_too_much(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(turn_time=0, turn_timeout=0) as served, connected(served) as peer:
        peer.send(b"".join(request("add", n, 0, iRequestId=n) for n in range(1, 401)))
        answers = [await peer.response() for _ in range(400)]
        assert [each.request_id for each in answers] == list(range(1, 401))
        codes = [each.code for each in answers]
        assert (codes[0], codes[-1]) == (0, ReturnCode.OVERLOAD)
        assert served.server.turns.refused == codes.count(ReturnCode.OVERLOAD)
        await until(lambda: not len(served.server.rounds))
        peer.send(request("add", 1, 2))
        assert (await peer.response()).code == 0, "it had its turn at once"
    (line,) = [record for record in caplog.records if "turn_timeout" in record.getMessage()]
    assert line.getMessage().startswith("test: requests of 127.0.0.1 had to wait for more than 0 s")
    assert line.limit_key == "127.0.0.1"  # type: ignore[attr-defined]


@on_every_loop
async def test_requests_that_wait_for_their_turn_count_among_what_is_held() -> None:
    """Over the limit those go that hold the most, before more than that is kept."""
    one = len(request("add", 1, 0))
    limits: dict[str, Any] = {"turn_time": 0, "turn_timeout": 1000, "max_buffered_bytes": 2_000 * one}
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(**limits))
        many = [await stack.enter_async_context(connected(served)) for _ in range(8)]
        for peer in many:
            peer.send(b"".join(request("add", n, 0, iRequestId=n) for n in range(1, 901)))
        await until(lambda: served.refused.get("buffers_full", 0) > 0)
        held = sum(each.held + each.waiting for each in served.connections)
        assert 0 < held == served.server._held <= limits["max_buffered_bytes"]
        for peer in many:
            peer.reset()
        await until(lambda: served.server._held == 0)
        assert not len(served.server.rounds)


@on_every_loop
async def test_others_are_answered_between_the_expensive_requests_of_one_read() -> None:
    """Every request of the first takes all of a turn; the others wait for one of them and not for all."""
    done: list[int] = []
    kinds = Kinds()

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        answer = kinds.dispatcher.handle(data, key, caller)
        done.append(caller.peer_port)
        return answer

    async with serving(handle, turn_time=0) as served, connected(served) as greedy, connected(served) as modest:
        await served.connection(1)
        stream = b"".join(request("add", n, 0, iRequestId=n) for n in range(1, 201))
        greedy.send(stream)
        modest.send(request("add", 1, 2))
        assert (await modest.response()).code == 0
        assert [(await greedy.response()).request_id for _ in range(200)] == list(range(1, 201))
        port = modest.writer.get_extra_info("sockname")[1]
        assert done.index(port) < 20, "it waited for the turns of others before it"
        assert len(done) == 201
        greedy.send(stream)
        for _ in range(200):
            await greedy.frame()


@on_every_loop
async def test_what_waits_for_its_turn_is_not_lost_when_the_connection_goes() -> None:
    async with serving(turn_time=0) as served:
        async with connected(served) as peer:
            peer.send(b"".join(request("add", n, 0, iRequestId=n) for n in range(1, 501)))
            await peer.frame()
            peer.writer.transport.abort()
        await until(lambda: served.server.open_connections == 0)


# -- requests a second ---------------------------------------------------------------------------------------------

ENFORCE: dict[str, Any] = {"rate_limit": RateLimitMode.ENFORCE}
STANDING = 0.000_5
"""Requests a second that are as good as none: a second's worth is one."""


@on_every_loop
async def test_requests_above_the_rate_are_answered_at_once_that_it_is_too_much() -> None:
    """Not decoded, and counted; the connection stays, and so does that of another address."""
    kinds = Kinds()
    async with (
        serving(kinds.dispatcher.handle, host="", max_requests_per_peer=3.0, **ENFORCE) as served,
        connected(served, "127.0.0.1") as peer,
    ):
        peer.send(b"".join(request("add", n, 0, iRequestId=n, version=v) for n, v in enumerate((1, 3, 5, 1, 3, 5), 1)))
        answers = [await peer.response() for _ in range(6)]
        refused = [answer for answer in answers if answer.code]
        assert [answer.request_id for answer in refused] == [4, 5, 6]
        assert {answer.code for answer in refused} == {ReturnCode.OVERLOAD}
        assert {answer.description for answer in refused} == {"more requests a second than max_requests_per_peer"}
        assert [answer.version for answer in refused] == [1, 3, 5]
        assert sorted(answer.request_id for answer in answers) == [1, 2, 3, 4, 5, 6]
        assert len(kinds.calls) == 3
        stats = served.server.stats
        assert (stats.over_rate, stats.rate_refused, served.refused) == (3, 3, {})
        reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, local_addr=("127.0.0.2", 0))
        other = Peer(reader, writer)
        other.send(request("add", 1, 2))
        assert (await other.response()).code == 0
        await other.close()


@on_every_loop
async def test_the_connections_of_one_address_share_its_rate_and_a_new_one_brings_none() -> None:
    async with serving(max_requests_per_peer=STANDING, **ENFORCE) as served:
        codes = []
        for _ in range(3):
            async with connected(served) as peer:
                peer.send(request("add", 1, 2))
                codes.append((await peer.response()).code)
            await until(lambda: served.server.open_connections == 0)
        served.pass_time(1)
        assert codes == [0, -9, -9]
        assert len(served.server._addresses) == 1


@on_every_loop
async def test_one_way_requests_above_the_rate_get_no_answer_and_garbage_is_closed() -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle, max_requests_per_peer=STANDING, **ENFORCE) as served:
        async with connected(served) as peer:
            peer.send(request("add", 1, 2) + request("note", "x", cPacketType=1) + request("add", 1, 2, iRequestId=9))
            assert {(await peer.response()).request_id for _ in range(2)} == {7, 9}
            assert len(kinds.calls) == 1
            peer.send(b"\x00\x00\x00\x07\xff\xff\xff")
            assert await peer.rest() == b""
        assert served.refused == {"undecodable": 1}


@on_every_loop
async def test_garbage_above_the_rate_loses_none_of_the_requests_that_are_within_it() -> None:
    limits: dict[str, Any] = {"max_requests_per_peer": 2.0, "turn_time": 0}
    async with serving(**limits, **ENFORCE) as served, connected(served) as peer:
        within = request("add", 1, 1, iRequestId=1) + request("add", 1, 1, iRequestId=2)
        peer.send(within + request("add", 1, 1, iRequestId=3) + frame(b"\xff\xff\xff") + request("add", 1, 1))
        answers = {each.request_id: each.code for each in [await peer.response() for _ in range(3)]}
        assert answers == {1: 0, 2: 0, 3: ReturnCode.OVERLOAD}
        assert await peer.rest() == b""
        assert served.refused == {"undecodable": 1}


@on_every_loop
async def test_the_mode_that_counts_refuses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    mode: dict[str, Any] = {"rate_limit": RateLimitMode.COUNT}
    async with serving(max_requests_per_peer=STANDING, **mode) as served, connected(served) as peer:
        peer.send(request("add", 1, 2) * 5)
        assert [(await peer.response()).code for _ in range(5)] == [0] * 5
        assert (served.server.stats.over_rate, served.server.stats.rate_refused) == (4, 0)
    assert "asks more than 0.0005 times a second (max_requests_per_peer); it is answered all the same" in caplog.text


@on_every_loop
async def test_without_a_limit_of_the_rate_nothing_is_counted() -> None:
    async with serving(max_requests_per_peer=STANDING) as served, connected(served) as peer:
        peer.send(request("add", 1, 2) * 5)
        assert [(await peer.response()).code for _ in range(5)] == [0] * 5
        assert served.server.stats.over_rate == 0


@on_every_loop
async def test_limits_can_change_while_connections_are_open() -> None:
    async with serving(max_requests_per_peer=STANDING) as served, connected(served) as peer:
        peer.send(request("add", 1, 2) * 5)
        assert [(await peer.response()).code for _ in range(5)] == [0] * 5
        served.server.change_limits(ServerLimits(max_requests_per_peer=STANDING, max_connections=1, **ENFORCE))
        peer.send(request("add", 1, 2) * 2)
        assert sorted([(await peer.response()).code for _ in range(2)]) == [-9, 0]
        async with connected(served) as second:
            assert await second.rest() == b""
        served.server.change_limits(ServerLimits(max_in_flight=7))
        peer.send(request("add", 1, 2) * 5)
        assert [(await peer.response()).code for _ in range(5)] == [0] * 5
        assert served.server.load.most == 7


@on_every_loop
async def test_less_that_may_be_held_holds_at_once_and_another_send_buffer_for_new_connections() -> None:
    huge = reply(1, 0, bytes(3_000_000)).frame(7)
    limits: dict[str, Any] = {"send_buffer_bytes": 65_536}
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(lambda data, key, caller: huge, **limits))
        for _ in range(4):
            peer = await stack.enter_async_context(connected(served))
            peer.pause()
            peer.send(request("add", 1, 2))
        await until(lambda: len(served.server._holders) == 4)
        held = served.server._held
        assert held > 4 * 65_536
        served.server.change_limits(ServerLimits(send_buffer_bytes=1 << 30, max_buffered_bytes=held))
        served.pass_time(0)
        assert served.refused == {}
        served.server.change_limits(ServerLimits(max_buffered_bytes=held // 2))
        assert served.refused["buffers_full"] >= 2
        assert served.server._held <= held // 2


@on_every_loop
async def test_what_could_not_have_its_turn_is_not_told_that_it_waited_for_it() -> None:
    """While its peer did not read, or too many of its answers were under way."""
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle, turn_time=0) as served, connected(served) as peer:
        peer.send(request("later", 1, iRequestId=1))
        await kinds.arrived.get()
        (connection,) = served.server._peers
        turns = served.server.turns
        turns.renew()
        turns.left = turns.known_left = -1.0  # others have used up the stretch
        connection.data_received(request("add", 1, 2, iRequestId=2))
        waits = [connection.since is not None]
        connection.pause_writing()
        waits.append(connection.since is not None)
        connection.resume_writing()
        waits.append(connection.since is not None)
        assert waits == [True, False, True]
        answer = await peer.response()
        assert (answer.request_id, answer.code) == (2, 0)
        kinds.release(1, 5)
        await peer.response()


def test_an_address_may_send_its_rate_on_average_and_a_second_s_worth_at_once() -> None:
    limits = ServerLimits(rate_limit=RateLimitMode.ENFORCE, max_requests_per_peer=10)
    addresses = Addresses()
    address = addresses.enter("10.0.0.1", limits, 100.0)
    assert address is not None
    for wanted, now, admitted in (
        (15, 100.0, 10),
        (1, 100.0625, 0),
        (5, 100.125, 1),
        (5, 100.375, 2),
        (50, 1_000.0, 10),
    ):
        assert sum(admit(address, limits, now) for _ in range(wanted)) == admitted
    addresses.leave(address, limits)
    addresses.forget(limits, 1_000.5)
    assert len(addresses) == 1, "it has not earned a second's worth again"
    addresses.forget(limits, 1_001.0)
    assert len(addresses) == 0


# -- file descriptors ----------------------------------------------------------------------------------------------


@pytest.fixture
def few_descriptors() -> Any:
    """Lowers the limit of open files to so many more than there are, until the end of the test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def lower(more: int) -> None:
        with socket.socket() as probe:
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno() + more, before[1]))

    yield lower
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@on_every_loop
async def test_without_file_descriptors_callers_are_closed_at_once_and_let_in_when_there_are_some(
    few_descriptors: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as served, connected(served) as good:
        good.send(request("add", 1, 2))
        await good.frame()
        # The callers' ends are of this process too, so they are made before.
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
        few_descriptors(0)
        loop = asyncio.get_running_loop()
        for caller in callers:
            await loop.sock_connect(caller, ("127.0.0.1", served.server.port))
            try:
                assert await loop.sock_recv(caller, 1) == b""
            except ConnectionResetError:
                pass
            good.send(request("add", 1, 2))
            assert (await good.response()).code == 0
        assert served.refused["no_file_descriptors"] == 3
        assert "no connection can be let in: Too many open files" in caplog.text
        assert "ulimit -n" in caplog.text
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for caller in callers:
            caller.close()
        async with connected(served) as peer:
            peer.send(request("add", 1, 2))
            assert (await peer.response()).code == 0
        assert served.refused["no_file_descriptors"] == 3


class _Failing:
    """A socket that is listened on whose accept fails at first."""

    def __init__(self, real: socket.socket, *errors: int) -> None:
        self._real = real
        self._errors = list(errors)

    def accept(self) -> Any:
        if self._errors:
            number = self._errors.pop(0)
            raise OSError(number, "made up")
        return self._real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNABORTED, None),
        (errno.EPROTO, None),
        (errno.ENFILE, "no_file_descriptors"),
        (errno.ENOBUFS, "no_file_descriptors"),
        (errno.EIO, "accept_failed"),
    ],
)
@on_every_loop
async def test_after_whatever_error_of_accept_callers_are_let_in(
    number: int, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where closing one did not help it pauses, so that it does not turn in circles."""
    monkeypatch.setattr(accept_module, "_PAUSE", 0.01)
    served = Served(Kinds().dispatcher.handle, unknown, ServerLimits())
    served.server.bind("127.0.0.1", 0)
    failing: Any = _Failing(served.server._sockets[0], number, number)
    served.server._sockets[0] = failing
    await served.server.start()
    try:
        async with connected(served) as peer:
            peer.send(request("add", 1, 2))
            assert (await peer.response()).code == 0
        assert served.refused.keys() == ({reason} if reason else set())
    finally:
        await served.server.stop()


@on_every_loop
async def test_a_server_can_be_stopped_while_it_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(Kinds().dispatcher.handle, unknown, ServerLimits())
    served.server.bind("127.0.0.1", 0)
    failing: Any = _Failing(served.server._sockets[0], *[errno.EIO] * 100)
    served.server._sockets[0] = failing
    await served.server.start()
    async with connected(served) as peer:
        await until(lambda: served.refused.get("accept_failed", 0) > 0)
        await served.server.stop()
        assert await peer.rest() == b""


# -- the end -------------------------------------------------------------------------------------------------------


class _Endless:
    """A socket that is listened on to which callers come faster than they can be let in."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.accepted = 0

    def accept(self) -> Any:
        ours, theirs = socket.socketpair()
        theirs.close()
        self.accepted += 1
        return ours, ("127.0.0.1", self.accepted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@on_every_loop
async def test_the_end_waits_for_no_more_callers_than_may_wait_to_be_let_in() -> None:
    """A flood of connections must not keep a service from stopping."""
    served = Served(Kinds().dispatcher.handle, unknown, ServerLimits(max_connections=5))
    served.server.bind("127.0.0.1", 0)
    endless: Any = _Endless(served.server._sockets[0])
    served.server._sockets[0] = endless
    await served.server.start()
    async with asyncio.timeout(60):
        await served.server.drain(seconds=0.1, farewell=0.1)
    assert endless.accepted == BACKLOG


async def _draining(server: Server, **options: Any) -> asyncio.Task[None]:
    return asyncio.create_task(server.drain(**({"seconds": 20.0, "farewell": 20.0} | options)))


async def _refuses(served: Served) -> None:
    """Wait until nobody is let in any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
        except ConnectionRefusedError:
            return
        writer.transport.abort()
        await asyncio.sleep(0)


@on_every_loop
async def test_a_drain_answers_what_is_in_flight_then_asks_to_reconnect_and_answers_until_the_client_goes() -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle) as served, connected(served) as peer:
        peer.send(request("later", 1, iRequestId=1))
        await kinds.arrived.get()
        draining = await _draining(served.server)
        await _refuses(served)
        peer.send(request("add", 1, 2, iRequestId=2))
        assert (await peer.response()).request_id == 2
        kinds.release(1, 5)
        assert (await peer.response()).request_id == 1
        told = await peer.response()
        assert (told.request_id, told.description, told.code, told.version) == (0, "_reconnect_", 0, 1)
        peer.send(request("add", 1, 2, iRequestId=3))
        assert (await peer.response()).request_id == 3
        assert not draining.done()
        peer.writer.write_eof()
        await draining
        assert await peer.rest() == b"", "it is asked once"


@pytest.mark.parametrize("version", [3, 5])
@on_every_loop
async def test_who_does_not_speak_tars_is_closed_when_all_is_answered(version: int) -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle) as served, connected(served) as peer:
        peer.send(request("later", 1, version=version))
        await kinds.arrived.get()
        draining = await _draining(served.server)
        await _refuses(served)
        kinds.release(1, 5)
        assert (await peer.response()).code == 0
        assert await peer.rest() == b""
        await draining


@on_every_loop
async def test_a_client_that_has_just_connected_is_answered_in_a_drain() -> None:
    """Its question is on the way."""
    async with serving() as served, connected(served) as peer:
        draining = await _draining(served.server)
        await _refuses(served)
        half = request("add", 1, 2)
        peer.send(half[:10])
        await (await served.connection(0)).has_taken(10)
        peer.send(half[10:])
        assert (await peer.response()).code == 0
        assert (await peer.response()).description == "_reconnect_"
        await peer.close()
        await draining


@on_every_loop
async def test_a_client_that_stays_is_closed_after_the_farewell_and_one_that_says_nothing_too() -> None:
    async with serving() as served, connected(served) as stays, connected(served) as silent:
        await served.connection(1)
        stays.send(request("add", 1, 2))
        await stays.frame()
        await served.server.drain(20.0, 0.1)
        assert decode_response(await stays.rest()).description == "_reconnect_"
        assert await silent.rest() == b""


@on_every_loop
async def test_a_hurry_waits_for_no_peer_to_read_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_FLUSH_SECONDS", 3600.0)
    huge = reply(1, 0, bytes(30_000_000)).frame(7)
    async with serving(lambda data, key, caller: huge) as served, connected(served) as peer:
        peer.pause()
        peer.send(request("add", 1, 2))
        await (await served.connection(0)).has_taken(1)
        hurry = asyncio.Event()
        draining = await _draining(served.server, seconds=7200.0, hurry=hurry)
        await _refuses(served)
        hurry.set()
        async with asyncio.timeout(10):
            await draining
        assert served.server.open_connections == 0


@pytest.mark.parametrize("how", ["time", "hurry"])
@on_every_loop
async def test_a_drain_ends_in_time_or_in_a_hurry_whatever_is_in_flight(how: str) -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle) as served, connected(served) as peer:
        peer.send(request("later", 1))
        await kinds.arrived.get()
        hurry = asyncio.Event()
        draining = await _draining(served.server, seconds=0.1 if how == "time" else 20.0, hurry=hurry)
        if how == "hurry":
            await _refuses(served)
            hurry.set()
        await draining
        assert await peer.rest() == b""
        assert served.server.open_connections == 0
