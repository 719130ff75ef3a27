"""The client over loopback: against our server, and against one by hand that does what servers should not.

Each test runs on asyncio's own event loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from jce import EncodeError
from tars_protocol.aio.client import Client, ClientSettings
from tars_protocol.aio.server import Server
from tars_protocol.constants import ReturnCode
from tars_protocol.errors import CallError, CallTimeout, NotConnected
from tars_protocol.frames import frame
from tars_protocol.packets import REQUEST, RequestPacket, reply
from tests.tars_protocol.shared import EVERYTHING, KINDS, NOTHING, SERVANT, VERSIONS, Kinds, on_every_loop

QUICK = ClientSettings(timeout=5.0, first_retry=0.001, longest_retry=0.01)
BRIEF = 0.05
"""Seconds after which calls that get no answer end."""

RECONNECT = reply(1, 0, b"", description="_reconnect_").frame(0)
"""What a server sends unasked before it closes."""


@contextlib.asynccontextmanager
async def serving(kinds: Kinds | None = None, port: int = 0) -> AsyncIterator[Server]:
    server = Server("test", (kinds or Kinds()).connect)
    server.bind("127.0.0.1", port)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def client(port: int, version: int = 1, settings: ClientSettings = QUICK) -> Client:
    return Client("127.0.0.1", port, SERVANT, KINDS, version=version, settings=settings)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Peer:
    """One connection of a server by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> RequestPacket:
        """The next call."""
        header = await self.reader.readexactly(4)
        return REQUEST.decode(await self.reader.readexactly(int.from_bytes(header, "big") - 4))

    def answer(self, request: RequestPacket, body: bytes, **fields: Any) -> None:
        self.writer.write(reply(request.iVersion, 0, body, **fields).frame(request.iRequestId))

    async def ended(self) -> bool:
        """Wait until the client closes."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class ByHand:
    """A server whose every byte the test says."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.all: list[Peer] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.all.append(Peer(reader, writer))
        self.peers.put_nowait(self.all[-1])


@contextlib.asynccontextmanager
async def by_hand() -> AsyncIterator[ByHand]:
    made = ByHand()
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for peer in made.all:
            await peer.close()


def calling(awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
    """Begin a call."""
    return asyncio.ensure_future(awaitable)


async def error_of(call: Awaitable[Any]) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


# -- against our server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@on_every_loop
async def test_calls_of_every_kind_work_from_end_to_end(version: int) -> None:
    kinds = Kinds()
    async with serving(kinds) as server, client(server.port, version) as caller:
        for value in (EVERYTHING, NOTHING):
            assert await caller.call("echo", value, "näme") == (value, "näme", value, 4)
        assert await caller.call("add", 1, -1) == (0,)
        assert await caller.call("note", "x") == ()
        await caller.ping()
        assert server.stats.accepted == 1


@pytest.mark.parametrize("version", VERSIONS)
@on_every_loop
async def test_an_answer_larger_than_any_read_arrives_whole(version: int) -> None:
    text = "x" * 600_000
    async with serving() as server, client(server.port, version) as caller:
        assert await asyncio.gather(*[caller.call("say", text) for _ in range(3)]) == [(text,)] * 3


@pytest.mark.parametrize("version", VERSIONS)
@on_every_loop
async def test_a_return_code_is_a_call_error(version: int) -> None:
    async with serving() as server, client(server.port, version) as caller:
        failed = await error_of(caller.call("fail", -9, "too busy"))
        assert (failed.code, failed.description, str(failed)) == (-9, "too busy", "too busy (-9, overload)")
        assert (await error_of(caller.call("fail", 77, ""))).code == 77
        assert (await error_of(caller.call("absent", 1))).code == -3
        assert (await error_of(caller.call("crash"))).code == -99
        caller.servant = "nobody"
        assert (await error_of(caller.ping())).code == -4
        caller.servant = SERVANT
        assert await caller.call("add", 1, 2) == (3,)
        assert server.stats.accepted == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CallError(-3, "no"), "no (-3, no function)"),
        (CallError(0, ""), "return code 0 (success)"),
        (CallError(77, ""), "return code 77 (unknown code)"),
        (CallTimeout("late"), "late (-7, call timeout)"),
        (NotConnected("gone"), "gone (-8, proxy connect)"),
    ],
    ids=str,
)
def test_a_call_error_is_shown_with_its_code(error: CallError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("version", VERSIONS)
@on_every_loop
async def test_a_one_way_call_is_run_and_waits_for_nothing(version: int) -> None:
    kinds = Kinds()
    async with serving(kinds) as server, client(server.port, version) as caller:
        await caller.call_one_way("note", "heard")
        await caller.call_one_way("later", 5)
        assert await kinds.arrived.get() == 5, "on the same connection, so the first was run before"
        assert [call.arguments for call in kinds.calls] == [("heard",), (5,)]
        assert {call.request.cPacketType for call in kinds.calls} == {1}
        kinds.release(5, 0)


@on_every_loop
async def test_a_one_way_call_is_sent_even_where_the_client_is_closed_at_once() -> None:
    kinds = Kinds()
    async with serving(kinds) as server:
        async with client(server.port) as caller:
            await caller.call_one_way("later", 5)
        assert await kinds.arrived.get() == 5
        kinds.release(5, 0)


@on_every_loop
async def test_what_a_call_carries_along_reaches_the_servant() -> None:
    kinds = Kinds()
    async with serving(kinds) as server, client(server.port) as caller:
        await caller.call("add", 1, 2, timeout=1.5, context={"PID": "7"}, status={"s": "t"}, message_type=0x80)
        await caller.call("add", 1, 2)
    first, second = (call.request for call in kinds.calls)
    assert (first.iTimeout, first.context, first.status, first.iMessageType) == (1500, {"PID": "7"}, {"s": "t"}, 128)
    assert (second.iTimeout, second.context, second.status, second.iMessageType) == (5000, {}, {}, 0)
    assert (first.iRequestId, second.iRequestId) == (1, 2)


@on_every_loop
async def test_calls_share_a_connection_and_take_their_answers_in_any_order() -> None:
    kinds = Kinds()
    async with serving(kinds) as server, client(server.port) as caller:
        calls = [calling(caller.call("later", n)) for n in range(20)]
        assert sorted([await kinds.arrived.get() for _ in calls]) == list(range(20))
        assert await caller.call("add", 1, 2) == (3,)
        for n in reversed(range(20)):
            kinds.release(n, n * 10)
            assert await calls[n] == (n * 10,)
        assert server.stats.accepted == 1


@on_every_loop
async def test_a_call_without_an_answer_times_out_and_the_connection_goes_on() -> None:
    """The answer that comes too late is for nobody, and not for the call after it."""
    kinds = Kinds()
    async with serving(kinds) as server, client(server.port) as caller:
        failed = await error_of(caller.call("later", 1, timeout=BRIEF))
        assert isinstance(failed, CallTimeout)
        assert str(failed) == f"no answer from 127.0.0.1:{server.port} in 0.05 s (-7, call timeout)"
        after = calling(caller.call("later", 2))
        assert [await kinds.arrived.get(), await kinds.arrived.get()] == [1, 2]
        kinds.release(1, 10)
        kinds.release(2, 20)
        assert await after == (20,)
        assert server.stats.accepted == 1


@on_every_loop
async def test_a_call_that_is_cancelled_is_forgotten() -> None:
    kinds = Kinds()
    async with serving(kinds) as server, client(server.port) as caller:
        call = calling(caller.call("later", 1))
        await kinds.arrived.get()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        kinds.release(1, 10)
        assert await caller.call("add", 1, 2) == (3,)
        assert caller._link is not None
        assert caller._link._waiting == {}


@pytest.mark.parametrize("version", VERSIONS)
@on_every_loop
async def test_arguments_that_do_not_fit_are_an_error_before_anything_is_sent(version: int) -> None:
    async with serving() as server, client(server.port, version) as caller:
        for arguments in ((1,), (1, 2, 3), (1, "x"), (1, 1 << 31)):
            with pytest.raises(EncodeError):
                await caller.call("add", *arguments)
            with pytest.raises(EncodeError):
                await caller.call_one_way("add", *arguments)
        with pytest.raises(EncodeError):
            await caller.call("crash", "no parameters")
        assert server.stats.accepted == 0


@on_every_loop
async def test_a_header_that_does_not_fit_is_an_error_and_the_connection_goes_on() -> None:
    async with serving() as server, client(server.port) as caller:
        with pytest.raises(EncodeError, match="iMessageType"):
            await caller.call("add", 1, 2, message_type=1 << 31)
        assert await caller.call("add", 1, 2) == (3,)


@on_every_loop
async def test_request_ids_begin_again_before_they_run_out() -> None:
    kinds = Kinds()
    async with serving(kinds) as server, client(server.port) as caller:
        caller._last_id = (1 << 31) - 3
        for _ in range(4):
            assert await caller.call("add", 1, 2) == (3,)
    assert [call.request.iRequestId for call in kinds.calls] == [(1 << 31) - 2, (1 << 31) - 1, 1, 2]


@on_every_loop
async def test_a_client_that_is_not_to_try_again_tells_at_once_why_it_has_no_connection() -> None:
    port = free_port()
    async with client(port, settings=ClientSettings(first_retry=0)) as caller:
        failed = await error_of(caller.call("add", 1, 2))
    assert isinstance(failed, NotConnected)
    assert str(failed).startswith(f"no connection to 127.0.0.1:{port}: ")


# -- connections ---------------------------------------------------------------------------------------------------


@on_every_loop
async def test_where_nobody_listens_a_call_times_out() -> None:
    port = free_port()
    async with client(port) as caller:
        for call in (caller.call("add", 1, 2, timeout=BRIEF), caller.ping(timeout=BRIEF)):
            failed = await error_of(call)
            assert isinstance(failed, CallTimeout)
            assert str(failed).startswith(f"no connection to 127.0.0.1:{port} in 0.05 s: ")
    async with client(port, settings=ClientSettings(timeout=BRIEF)) as caller:
        assert isinstance(await error_of(caller.call_one_way("note", "x")), CallTimeout)


@on_every_loop
async def test_calls_wait_for_a_server_that_comes_late() -> None:
    port = free_port()
    async with client(port) as caller:
        calls = [calling(caller.call("add", n, n)) for n in range(5)]
        await asyncio.sleep(0)
        async with serving(port=port) as server:
            assert await asyncio.gather(*calls) == [(2 * n,) for n in range(5)]
            assert server.stats.accepted == 1


@on_every_loop
async def test_a_server_that_starts_again_is_found_again() -> None:
    async with serving() as server:
        caller = client(server.port)
        assert await caller.call("add", 1, 2) == (3,)
        port = server.port
    async with serving(port=port) as server, caller:
        assert await caller.call("add", 2, 2) == (4,)
        assert server.stats.accepted == 1


@on_every_loop
async def test_a_server_that_closes_ends_the_calls_in_flight_and_the_next_one_connects_again() -> None:
    async with by_hand() as server, client(server.port) as caller:
        calls = [calling(caller.call("add", 1, n)) for n in range(3)]
        peer = await server.peers.get()
        for _ in calls:
            await peer.request()
        await peer.close()
        for call in calls:
            failed = await error_of(call)
            assert isinstance(failed, NotConnected)
            assert str(failed).startswith("the server closed the connection")
        again = calling(caller.call("add", 1, 2))
        peer = await server.peers.get()
        peer.answer(await peer.request(), b"\x00\x03")
        assert await again == (3,)


@on_every_loop
async def test_a_server_that_resets_ends_the_calls_in_flight() -> None:
    async with by_hand() as server, client(server.port) as caller:
        call = calling(caller.call("add", 1, 2))
        peer = await server.peers.get()
        await peer.request()
        peer.writer.transport.abort()
        assert isinstance(await error_of(call), NotConnected)


@on_every_loop
async def test_a_call_does_not_go_to_a_connection_that_is_closing() -> None:
    """Between the end of the stream and the word that the connection is lost."""
    async with by_hand() as server, client(server.port) as caller:
        call = calling(caller.call("add", 1, 2))
        first = await server.peers.get()
        first.answer(await first.request(), b"\x00\x03")
        await call
        assert caller._link is not None
        assert caller._link._transport is not None
        answering = calling(_answer_on_the_next(server))
        caller._link._transport.close()
        assert await caller.call("add", 1, 2) == (3,)
        await answering
        assert len(server.all) == 2


async def _answer_on_the_next(server: ByHand) -> None:
    peer = await server.peers.get()
    peer.answer(await peer.request(), b"\x00\x03")


@on_every_loop
async def test_a_server_that_announces_its_end_gets_no_new_calls_and_still_answers_the_old() -> None:
    async with by_hand() as server, client(server.port) as caller:
        old, asked = calling(caller.call("add", 1, 2)), calling(caller.call("add", 3, 4))
        first = await server.peers.get()
        requests = [await first.request(), await first.request()]
        first.writer.write(RECONNECT)
        first.answer(requests[1], b"\x00\x07")
        assert await asked == (7,), "and so the push before it was read"
        new = calling(caller.call("add", 2, 2))
        second = await server.peers.get()
        second.answer(await second.request(), b"\x00\x04")
        assert await new == (4,)
        first.answer(requests[0], b"\x00\x03")
        assert await old == (3,)
        await first.close()
        again = calling(caller.call("add", 3, 3))
        second.answer(await second.request(), b"\x00\x06")
        assert await again == (6,), "the end of the old connection is not that of the new one"
        assert len(server.all) == 2


@on_every_loop
async def test_only_the_push_itself_is_taken_for_one() -> None:
    """The text in an answer to a call is an answer, and another text without a call is for nobody."""
    async with by_hand() as server, client(server.port) as caller:
        call = calling(caller.call("add", 1, 2))
        peer = await server.peers.get()
        peer.writer.write(reply(1, 0, b"", description="hello").frame(0))
        peer.answer(await peer.request(), b"\x00\x03", description="_reconnect_")
        assert await call == (3,)
        again = calling(caller.call("add", 1, 2))
        peer.answer(await peer.request(), b"\x00\x03")
        assert await again == (3,)
        assert len(server.all) == 1


# -- answers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        frame(b"\xff"),
        frame(bytes.fromhex("1009 2c")),
        b"\x00\x00\x00\x00",
        b"\x7f\xff\xff\xff",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["no packet", "no id", "zero", "too long", "http"],
)
@on_every_loop
async def test_bytes_that_are_no_answer_end_the_connection(answer: bytes) -> None:
    """All calls in flight on it fail: the answer could have been to any of them."""
    async with by_hand() as server, client(server.port) as caller:
        calls = [calling(caller.call("add", 1, n)) for n in range(2)]
        peer = await server.peers.get()
        for _ in calls:
            await peer.request()
        peer.writer.write(answer)
        for call in calls:
            assert (await error_of(call)).code == ReturnCode.CLIENT_DECODE
        assert await peer.ended()
        again = calling(caller.call("add", 1, 2))
        peer = await server.peers.get()
        peer.answer(await peer.request(), b"\x00\x03")
        assert await again == (3,)


@pytest.mark.parametrize("body", [b"", b"\x06\x00", b"\x00", b"\x03" + bytes(8)])
@on_every_loop
async def test_results_that_do_not_decode_fail_their_call_only(body: bytes) -> None:
    async with by_hand() as server, client(server.port) as caller:
        call, other = calling(caller.call("add", 1, 2)), calling(caller.call("add", 3, 4))
        peer = await server.peers.get()
        peer.answer(await peer.request(), body)
        failed = await error_of(call)
        assert failed.code == ReturnCode.CLIENT_DECODE
        assert failed.description.startswith("the answer to add: return: ")
        peer.answer(await peer.request(), b"\x00\x07")
        assert await other == (7,)


@on_every_loop
async def test_the_size_of_an_answer_is_bounded_by_the_settings() -> None:
    settings = ClientSettings(timeout=5.0, first_retry=0.001, max_frame_bytes=1000, max_values=30)
    async with serving() as server, client(server.port, settings=settings) as caller:
        assert await caller.call("say", "x" * 500) == ("x" * 500,)
        assert (await error_of(caller.call("say", "x" * 1000))).code == ReturnCode.CLIENT_DECODE
        echo = await error_of(caller.call("echo", EVERYTHING, ""))
        assert echo.code == ReturnCode.CLIENT_DECODE
        assert await caller.call("add", 1, 2) == (3,)


@on_every_loop
async def test_an_answer_with_an_unknown_id_is_for_nobody() -> None:
    async with by_hand() as server, client(server.port) as caller:
        call = calling(caller.call("add", 1, 2))
        peer = await server.peers.get()
        request = await peer.request()
        for other in (0, -1, request.iRequestId + 1, 1 << 30):
            peer.writer.write(reply(1, 0, b"\x00\x63").frame(other))
        peer.answer(request, b"\x00\x03")
        peer.answer(request, b"\x00\x63")
        assert await call == (3,)
        again = calling(caller.call("add", 1, 2))
        peer.answer(await peer.request(), b"\x00\x04")
        assert await again == (4,)


# -- the end -------------------------------------------------------------------------------------------------------


@on_every_loop
async def test_closing_ends_the_calls_in_flight_and_every_later_one() -> None:
    kinds = Kinds()
    async with serving(kinds) as server:
        caller = client(server.port)
        calls = [calling(caller.call("later", n)) for n in range(3)]
        for _ in calls:
            await kinds.arrived.get()
        await caller.close()
        for call in calls:
            assert isinstance(await error_of(call), NotConnected)
        for late in (caller.call("add", 1, 2), caller.ping(), caller.call_one_way("note", "x")):
            failed = await error_of(late)
            assert isinstance(failed, NotConnected)
            assert failed.description == "the client was closed"
        await caller.close()


@on_every_loop
async def test_closing_ends_the_calls_that_wait_for_a_connection() -> None:
    """And no connection is left over for which nobody would care."""
    caller = client(free_port())
    calls = [calling(caller.call("add", 1, n)) for n in range(3)]
    await asyncio.sleep(0)
    await caller.close()
    for call in calls:
        assert isinstance(await error_of(call), NotConnected)


@on_every_loop
async def test_a_connection_that_is_made_while_the_client_closes_is_closed() -> None:
    async with by_hand() as server:
        caller = client(server.port)
        call = calling(caller.call("add", 1, 2))
        await asyncio.sleep(0)
        assert caller._connecting.locked()
        await caller.close()
        assert isinstance(await error_of(call), NotConnected)
        if server.all:
            assert await server.all[0].ended()
        await caller.close()
        assert caller._links == set()


@on_every_loop
async def test_a_client_that_made_no_call_has_nothing_to_close() -> None:
    async with client(free_port()):
        pass


@on_every_loop
async def test_closing_leaves_no_tasks_and_no_sockets() -> None:
    """What is left over would fail the test at its end; this counts them before."""
    before = asyncio.all_tasks()
    async with serving() as server:
        running = asyncio.all_tasks()
        async with client(server.port) as caller:
            await asyncio.gather(*[caller.call("add", n, n) for n in range(10)])
            assert asyncio.all_tasks() == running
        assert (asyncio.all_tasks(), caller._links) == (running, set())
    assert len(before) == 1
