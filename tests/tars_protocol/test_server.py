"""The server's shell over loopback: what only a socket has. Each test runs on asyncio's own event loop and on uvloop.

Time is not waited for: deadlines are driven by looking at them as if so many seconds had passed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import Any, Final

import pytest

from tars_protocol.aio import listen as listen_module
from tars_protocol.aio import peer as peer_module
from tars_protocol.aio import server as server_module
from tars_protocol.aio.listen import ListenError, bind
from tars_protocol.aio.server import Server, ServerLimits, plain_address
from tars_protocol.connection import Connection
from tars_protocol.frames import frame
from tars_protocol.handlers import Caller
from tars_protocol.packets import reply
from tests.tars_protocol.served import Peer, Served, connected, serving, until
from tests.tars_protocol.shared import Kinds, on_every_loop, request

BIG: Final = reply(1, 0, bytes(100_000)).frame(7)
"""A large answer."""


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Wait until the server takes no more questions from a peer that does not read."""
    counts = {"paused": 0, "seen": 0}
    waiting: list[asyncio.Future[None]] = []
    real = peer_module.Peer.pause_writing

    def pause_writing(self: Any) -> None:
        real(self)
        counts["paused"] += 1
        for future in waiting:
            future.set_result(None)
        waiting.clear()

    async def wait() -> None:
        while counts["paused"] == counts["seen"]:
            waiting.append(asyncio.get_running_loop().create_future())
            await waiting[-1]
        counts["seen"] = counts["paused"]

    monkeypatch.setattr(peer_module.Peer, "pause_writing", pause_writing)
    return wait


# -- answers -------------------------------------------------------------------------------------------------------


@on_every_loop
async def test_a_call_is_answered_and_the_connection_goes_on() -> None:
    async with serving() as served, connected(served) as peer:
        for n in range(3):
            peer.send(request("add", n, 1))
            assert (await peer.response()).body == bytes((0, n + 1))
        assert (served.server.stats.accepted, served.server.open_connections, served.refused) == (1, 1, {})


@on_every_loop
async def test_several_calls_in_one_write_and_one_in_many_are_answered_in_order() -> None:
    stream = b"".join(request("add", n, n, iRequestId=n) for n in range(1, 60))
    async with serving() as served, connected(served) as peer:
        peer.send(stream)
        assert [(await peer.response()).request_id for _ in range(1, 60)] == list(range(1, 60))
        for at in range(0, 600, 7):
            peer.send(stream[at : min(at + 7, 600)])
            await served.connections[0].has_taken(len(stream) + min(at + 7, 600))
        assert (await peer.response()).request_id == 1


@on_every_loop
async def test_the_answers_of_one_read_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    real = peer_module.Peer.connection_made

    def connection_made(self: Any, transport: Any) -> None:
        counting: Any = _CountingTransport(transport, writes)
        real(self, counting)

    monkeypatch.setattr(peer_module.Peer, "connection_made", connection_made)
    async with serving(turn_time=3600) as served, connected(served) as peer:
        peer.send(request("add", 1, 2) * 20)
        size = 0
        for _ in range(20):
            size += len(await peer.frame())
        assert sum(writes) == size
        assert len(writes) < 20, "the 20 questions came in a few reads at most"


class _CountingTransport:
    def __init__(self, transport: Any, writes: list[int]) -> None:
        self._transport = transport
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._writes.append(len(data))
        self._transport.write(data)


@on_every_loop
async def test_answers_that_take_time_come_when_they_are_ready() -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle) as served, connected(served) as peer:
        for n in (1, 2, 3):
            peer.send(request("later", n, iRequestId=n))
        assert [await kinds.arrived.get() for _ in range(3)] == [1, 2, 3]
        peer.send(request("add", 1, 2, iRequestId=4))
        assert (await peer.response()).request_id == 4
        for n in (3, 1, 2):
            kinds.release(n, n)
            assert (await peer.response()).request_id == n


@on_every_loop
async def test_an_answer_that_nobody_waits_for_is_cancelled() -> None:
    kinds = Kinds()
    async with serving(kinds.dispatcher.handle) as served:
        async with connected(served) as peer:
            peer.send(request("later", 1))
            await kinds.arrived.get()
            (connection,) = served.server._peers
            (task,) = connection._tasks
            gate = kinds.gates[1]
            peer.reset()
        with pytest.raises(asyncio.CancelledError):
            await gate
        with pytest.raises(asyncio.CancelledError):
            await task


# -- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "to", "address"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost", None),
        ("", "127.0.0.1", "127.0.0.1"),
        pytest.param("::1", "::1", "::1", marks=needs_ipv6),
        pytest.param("", "::1", "::1", marks=needs_ipv6),
        pytest.param("::", "::1", "::1", marks=needs_ipv6),
        pytest.param("::", "127.0.0.1", "127.0.0.1", marks=needs_ipv6),
    ],
)
@on_every_loop
async def test_callers_are_known_by_plain_addresses(host: str, to: str, address: str | None) -> None:
    """An IPv4 caller of a socket for both is the same caller as on a socket for IPv4."""
    async with serving(host=host) as served, connected(served, to) as peer:
        peer.send(request("add", 1, 2))
        await peer.frame()
        (connection,) = served.connections
        caller = connection.caller
        assert caller.peer_port == peer.writer.get_extra_info("sockname")[1]
        assert caller.local_port == served.server.port
        assert caller.peer == caller.local
        assert address is None or caller.peer == address
        shown = f"[{caller.peer}]" if ":" in caller.peer else caller.peer
        assert str(caller) == f"{shown}:{caller.peer_port}"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0A00:0001", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::1", "::1"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_an_address_is_written_in_one_way(text: str, plain: str) -> None:
    assert plain_address(text) == plain


# -- listening -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "", pytest.param("::1", marks=needs_ipv6)])
def test_a_port_in_use_is_told(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        shown = {"": "*", "::1": "[::1]"}.get(host, host)
        with pytest.raises(ListenError) as caught:
            Server("test", Kinds().connect).bind(host, port)
    assert str(caught.value) == f"{shown}:{port} is in use by another program"


@needs_ipv6
def test_a_port_in_use_for_ipv6_only_is_told_and_nothing_stays_open() -> None:
    def can_be_had_after_it_was_refused() -> bool:
        with socket.socket(socket.AF_INET6) as other:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            other.bind(("::", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(ListenError, match="is in use by another program"):
                bind("", port)
            with socket.socket() as again:
                try:
                    again.bind(("127.0.0.1", port))
                except OSError:
                    return False
                return True

    # A connection of another program may happen to have one of these ports, but hardly five times.
    assert any(can_be_had_after_it_was_refused() for _ in range(5))


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("192.0.2.1", "can't listen on 192.0.2.1:0: "),
        ("no.such.host.invalid", "'no.such.host.invalid' is no address of this machine: "),
        ("256.0.0.1", "'256.0.0.1' is no address of this machine: "),
        ("a..b", "'a..b' is no address of this machine: "),
        ("x" * 64, f"'{'x' * 64}' is no address of this machine: "),
    ],
)
def test_an_address_that_is_not_ours_is_told(host: str, text: str) -> None:
    with pytest.raises(ListenError) as caught:
        bind(host, 0)
    assert str(caught.value).startswith(text)
    assert len(str(caught.value)) > len(text)


def test_a_machine_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = listen_module._bound

    def bound(family: int, *args: Any, **kwargs: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **kwargs)

    monkeypatch.setattr(listen_module, "_bound", bound)
    sockets = bind("", 0)
    try:
        assert [opened.family for opened in sockets] == [socket.AF_INET]
    finally:
        for opened in sockets:
            opened.close()


@needs_ipv6
def test_all_addresses_have_one_port() -> None:
    sockets = bind("", 0)
    try:
        assert [opened.family for opened in sockets] == [socket.AF_INET, socket.AF_INET6]
        assert len({opened.getsockname()[1] for opened in sockets}) == 1
    finally:
        for opened in sockets:
            opened.close()


@on_every_loop
async def test_a_port_can_be_had_again_at_once() -> None:
    """Though connections of the server before it are still in TIME_WAIT."""
    async with serving() as served, connected(served) as peer:
        port = served.server.port
        await served.server.stop()
        assert await peer.rest() == b""
        again = Server("again", Kinds().connect)
        again.bind("127.0.0.1", port)
        await again.start()
        await again.stop()


@on_every_loop
async def test_callers_wait_until_the_start_and_a_server_that_never_starts_can_be_stopped() -> None:
    server = Server("test", Kinds().connect)
    server.bind("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    assert server.stats.accepted == 0
    writer.transport.abort()
    await server.stop()
    await server.stop()


@on_every_loop
async def test_a_port_that_another_server_has_bound_but_not_started_is_taken() -> None:
    """SO_REUSEADDR lets both bind: only listening tells."""
    first, second = Server("first", Kinds().connect), Server("second", Kinds().connect)
    first.bind("127.0.0.1", 0)
    with pytest.raises(ListenError, match="in use"):
        second.bind("127.0.0.1", first.port)
    await first.stop()


# -- what is not taken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"\x00\x00\x00\x00", "frame_too_short"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame_too_long"),
        (frame(b"\xff\xff\xff"), "undecodable"),
    ],
    ids=["zero", "http", "no packet"],
)
@on_every_loop
async def test_garbage_ends_its_own_connection_only(
    garbage: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After the answers to what came before it; counted by its reason, and logged so that it can be kept to few."""
    async with serving() as served, connected(served) as good, connected(served) as bad:
        bad.send(request("add", 1, 2) + garbage + request("add", 1, 2))
        assert len(await bad.rest()) == len(reply(1, 0, b"\x00\x03").frame(7))
        assert served.refused == {reason: 1}
        good.send(request("add", 1, 2))
        assert (await good.response()).code == 0
        assert served.server.open_connections == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.limit_key == "127.0.0.1"  # type: ignore[attr-defined]  # set by extra=
    assert record.getMessage().startswith("test: closing 127.0.0.1:")


@on_every_loop
async def test_one_connection_too_many_is_closed_at_once() -> None:
    async with serving(max_connections=2) as served, connected(served) as first:
        async with connected(served) as second:
            for peer in (first, second):
                peer.send(request("add", 1, 2))
                await peer.frame()
            async with connected(served) as third:
                assert await third.rest() == b""
            assert (served.refused, served.server.open_connections) == ({"too_many_connections": 1}, 2)
            assert served.server.stats.accepted == 3
            second.writer.write_eof()
            assert await second.rest() == b""
        async with connected(served) as fourth:
            fourth.send(request("add", 1, 2))
            assert (await fourth.response()).code == 0


@on_every_loop
async def test_deadlines_are_looked_at_while_a_connection_too_many_is_closing() -> None:
    async with serving(max_connections=1) as served, connected(served) as first, connected(served) as second:
        served.pass_time(1)
        assert await second.rest() == b""
        first.send(request("add", 1, 2))
        await first.frame()


@on_every_loop
async def test_a_bug_in_a_connection_ends_that_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    kinds = Kinds()

    def handle(data: bytes, key: bytes | None, caller: Caller) -> bytes | Awaitable[bytes]:
        if b"crash" in data:
            raise ZeroDivisionError("a mistake in the handler")
        return kinds.dispatcher.handle(data, key, caller)

    async with serving(handle) as served, connected(served) as good, connected(served) as bad:
        bad.send(request("crash"))
        assert await bad.rest() == b""
        good.send(request("add", 1, 2))
        assert (await good.response()).code == 0
        assert served.refused == {"bug": 1}
    assert "a mistake in the handler" in caplog.text
    assert "after a bug" in caplog.text


@on_every_loop
async def test_a_bug_while_a_connection_is_made_ends_that_one_only(caplog: pytest.LogCaptureFixture) -> None:
    """And leaves nothing behind on which the look at the deadlines of all others would fail."""
    bugs = [True, False]
    kinds = Kinds()

    def connect(caller: Caller) -> Connection:
        if bugs.pop(0):
            raise ZeroDivisionError("a mistake in the making")
        return kinds.connect(caller)

    async with serving() as served:
        served.server._connect = connect
        async with connected(served) as bad:
            bad.send(request("add", 1, 2))
            assert await bad.rest() == b""
        served.pass_time(1)
        async with connected(served) as good:
            good.send(request("add", 1, 2))
            assert (await good.response()).code == 0
            served.pass_time(1)
        assert served.refused == {"bug": 1}
    assert "a mistake in the making" in caplog.text


@on_every_loop
async def test_a_peer_that_resets_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        async with connected(served) as peer:
            peer.send(request("add", 1, 2) * 100)
            await peer.frame()
            sock = peer.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.writer.transport.abort()
        async with connected(served) as other:
            other.send(request("add", 1, 2))
            await other.frame()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


# -- deadlines -----------------------------------------------------------------------------------------------------


@on_every_loop
async def test_half_a_frame_and_then_silence_is_cut() -> None:
    half = request("add", 1, 2)[:20]
    async with serving(frame_timeout=10) as served, connected(served) as peer, connected(served) as good:
        peer.send(half)
        good.send(request("add", 1, 2))
        await good.frame()
        await (await served.connection(0)).has_taken(len(half))
        for _ in range(10):
            served.pass_time(1)
        assert (served.server.open_connections, served.refused) == (2, {})
        served.pass_time(1)
        assert await peer.rest() == b""
        assert (served.server.open_connections, served.refused) == (1, {"frame_timeout": 1})


@on_every_loop
async def test_a_frame_that_comes_a_byte_a_second_is_cut() -> None:
    """The deadline is for the frame, not for its next byte."""
    slow = request("add", 1, 2)
    async with serving(frame_timeout=10) as served, connected(served) as peer:
        sent = 0
        while served.refused == {}:
            peer.send(slow[sent : sent + 1])
            sent += 1
            await (await served.connection(0)).has_taken(sent)
            served.pass_time(1)
            assert sent <= 11
        assert await peer.rest() == b""
        assert served.refused == {"frame_timeout": 1}


@on_every_loop
async def test_a_slow_drip_of_whole_frames_is_not_cut() -> None:
    """There is always half a frame, but never the same one for long."""
    stream = request("add", 1, 2) * 40
    step = len(request("add", 1, 2)) - 3
    async with serving(frame_timeout=3, idle_timeout=3) as served, connected(served) as peer:
        connection = await served.connection(0)
        for at in range(0, len(stream), step):
            peer.send(stream[at : at + step])
            await connection.has_taken(min(at + step, len(stream)))
            served.pass_time(1)
        for _ in range(40):
            assert (await peer.response()).code == 0
        assert served.refused == {}


@on_every_loop
async def test_a_peer_that_says_nothing_is_cut_after_the_idle_timeout() -> None:
    async with serving(idle_timeout=900) as served, connected(served) as silent, connected(served) as talking:
        await served.connection(1)
        silent.send(request("add", 1, 2))
        await silent.frame()
        for n in range(1, 4):
            talking.send(request("add", 1, 2))
            await talking.frame()
            served.pass_time(300)
            assert served.refused == {}, n
        talking.send(request("add", 1, 2))
        await talking.frame()
        served.pass_time(1)
        assert await silent.rest() == b""
        assert (served.server.open_connections, served.refused) == (1, {"idle_timeout": 1})


@on_every_loop
async def test_deadlines_are_looked_at_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here with a clock that runs faster: nobody calls for the look."""
    monkeypatch.setattr(server_module, "_SWEEP_SECONDS", 0.005)
    async with serving(frame_timeout=0.02) as served, connected(served) as peer:
        peer.send(b"\x00")
        assert await peer.rest() == b""
        assert served.refused == {"frame_timeout": 1}


@on_every_loop
async def test_what_a_crowd_was_kept_in_is_small_again_once_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's sets never shrink by themselves."""
    monkeypatch.setattr(server_module, "_SWEEP_SECONDS", 0.005)
    async with serving() as served:
        few = sys.getsizeof(served.server._peers)
        for _ in range(3):
            async with AsyncExitStack() as stack:
                for _ in range(50):
                    await stack.enter_async_context(connected(served))
                await until(lambda: served.server.open_connections == 50)
                assert sys.getsizeof(served.server._peers) > 4 * few
            await until(lambda: sys.getsizeof(served.server._peers) == few)


# -- peers that do not read ----------------------------------------------------------------------------------------


def unread(peer: Peer) -> None:
    """Send questions and read no answer; more of them than any buffer of the network holds answers to."""
    peer.pause()
    for _ in range(200):
        peer.send(request("add", 1, 2) * 20)


def unsent(served: Served) -> int:
    return sum(peer.transport.get_write_buffer_size() for peer in served.server._peers)


@on_every_loop
async def test_a_peer_that_does_not_read_is_not_read_either_and_then_cut(blocked: Any) -> None:
    async with serving(lambda data, key, caller: BIG, write_timeout=30) as served, connected(served) as peer:
        unread(peer)
        await blocked()
        (connection,) = served.server._peers
        assert not connection.transport.is_reading()
        served.pass_time(30)
        assert served.refused == {}
        served.pass_time(1)
        assert served.refused == {"write_timeout": 1}
        peer.resume()
        await peer.rest()
        assert served.server.open_connections == 0


@on_every_loop
async def test_answers_that_wait_to_be_sent_are_bounded(blocked: Any) -> None:
    """By the limit and one answer, however many questions one read has: the rest of the questions waits."""
    async with serving(lambda data, key, caller: BIG) as served, connected(served) as peer:
        unread(peer)
        await blocked()
        most = 2 * ((1 << 18) + len(BIG))  # one receive may begin just under the limit of the one before
        assert 0 < unsent(served) <= most
        (connection,) = served.connections
        assert connection.held > 0
        before = unsent(served)
        served.pass_time(1)
        assert unsent(served) == before


@on_every_loop
async def test_a_peer_that_reads_again_gets_every_answer(blocked: Any) -> None:
    """Also those to questions that had been read already when it stopped."""
    async with serving(lambda data, key, caller: BIG, write_timeout=30) as served, connected(served) as peer:
        peer.pause()
        for _ in range(30):
            peer.send(request("add", 1, 2) * 20)
        await blocked()
        served.pass_time(29)
        peer.resume()
        for _ in range(600):
            assert await peer.frame() == BIG
        served.pass_time(29)
        assert (served.refused, served.connections[0].held) == ({}, 0)
        peer.send(request("add", 1, 2))
        assert await peer.frame() == BIG


@on_every_loop
async def test_a_peer_that_does_not_read_holds_up_nobody_else(blocked: Any) -> None:
    async with serving(lambda data, key, caller: BIG) as served, connected(served) as peer:
        unread(peer)
        await blocked()
        async with connected(served) as other:
            other.send(request("add", 1, 2))
            assert await other.frame() == BIG


@on_every_loop
async def test_a_peer_that_leaves_few_answers_unread_is_cut_too() -> None:
    """Below the limit from which it is not read any more."""
    huge = reply(1, 0, bytes(30_000_000)).frame(7)
    limits: dict[str, Any] = {"max_unsent_bytes": 1 << 30, "max_buffered_bytes": 1 << 30, "write_timeout": 30}
    async with serving(lambda data, key, caller: huge, **limits) as served, connected(served) as peer:
        peer.pause()
        peer.send(request("add", 1, 2))
        await until(lambda: unsent(served) > 0)
        served.pass_time(30)
        assert served.refused == {}
        served.pass_time(1)
        assert served.refused == {"write_timeout": 1}
        peer.resume()
        await peer.rest()


@on_every_loop
async def test_a_connection_that_was_ended_does_not_wait_for_ever_to_be_read() -> None:
    """A peer that reads a little now and then must not keep it."""
    huge = reply(1, 0, bytes(30_000_000)).frame(7)
    limits: dict[str, Any] = {"max_unsent_bytes": 1 << 30, "max_buffered_bytes": 1 << 30, "write_timeout": 30}
    loop = asyncio.get_running_loop()
    async with serving(lambda data, key, caller: huge, turn_time=3600, **limits) as served:
        with socket.create_connection(("127.0.0.1", served.server.port)) as peer:
            peer.setblocking(False)
            await loop.sock_sendall(peer, request("add", 1, 2) + b"\x00\x00\x00\x00")
            await until(lambda: served.refused == {"frame_too_short": 1})
            for _ in range(30):
                assert await loop.sock_recv(peer, 1000)
                served.pass_time(1)
            assert served.refused == {"frame_too_short": 1}
            served.pass_time(1)
            assert served.refused == {"frame_too_short": 1, "write_timeout": 1}


@on_every_loop
async def test_incomplete_frames_of_all_connections_together_are_bounded() -> None:
    """The connection with the most goes; the others, and what they still have to send, stay."""
    start = (1 << 20).to_bytes(4, "big")
    async with (
        serving(max_buffered_bytes=1000) as served,
        connected(served) as small,
        connected(served) as large,
        connected(served) as last,
    ):
        call = request("add", 1, 2)
        small.send(call[:20])
        large.send(start + bytes(700))
        await until(lambda: served.server._held == 20 + 704)
        last.send(start + bytes(396))
        assert await large.rest() == b""
        assert served.refused == {"buffers_full": 1}
        await until(lambda: served.server._held == 20 + 400)
        small.send(call[20:])
        assert (await small.response()).code == 0
        await until(lambda: served.server._held == 400)


@on_every_loop
async def test_unread_answers_of_all_connections_together_are_bounded() -> None:
    """At once, not at the next look at the deadlines: in a second there may be a thousand of them."""
    async with serving(lambda data, key, caller: BIG, max_buffered_bytes=100_000) as served, connected(served) as peer:
        unread(peer)
        await until(lambda: served.refused == {"buffers_full": 1})
        served.pass_time(1)
        assert served.refused == {"buffers_full": 1}
        peer.resume()
        await peer.rest()


@asynccontextmanager
async def deaf(blocked: Callable[[], Awaitable[None]]) -> AsyncIterator[tuple[Served, Peer]]:
    """A peer that has asked for more than it reads, of a server with small send buffers."""
    async with (
        serving(lambda data, key, caller: BIG, max_buffered_bytes=1 << 30, send_buffer_bytes=65_536) as served,
        connected(served) as peer,
    ):
        unread(peer)
        await blocked()
        yield served, peer


@on_every_loop
async def test_what_the_system_holds_for_a_peer_that_does_not_read_counts_too(blocked: Any) -> None:
    async with deaf(blocked) as (served, peer):
        served.pass_time(0)
        (connection,) = served.server._peers
        unsent = connection.transport.get_write_buffer_size()
        assert unsent
        # Of the last question only a part may have been read.
        of_questions = connection.connection.held + connection.connection.waiting
        assert served.server._held == unsent + of_questions + 65_536, "half, which Linux makes twice that"
        peer.writer.transport.abort()
        await until(lambda: served.server._held == 0)


@on_every_loop
async def test_the_system_s_send_buffer_of_a_connection_is_bounded() -> None:
    """Left alone it grows to 4 MiB."""
    async with serving(send_buffer_bytes=20_000) as served, connected(served) as peer:
        peer.send(request("add", 1, 2))
        await peer.response()
        (connection,) = served.server._peers
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 20_000


@on_every_loop
async def test_a_peer_that_has_read_what_did_not_fit_gets_the_whole_send_buffer(blocked: Any) -> None:
    """Those that never read take no more than half of it."""
    async with deaf(blocked) as (served, peer):
        (connection,) = served.server._peers
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 65_536
        peer.resume()
        await peer.frame()
        await until(lambda: connection._reads)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65_536
        peer.writer.transport.abort()


@on_every_loop
async def test_deadlines_of_many_connections_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once in a second, few at a stretch: else thousands that are cut would hold up all others."""
    monkeypatch.setattr("tars_protocol.aio.server._SLICE", 2)
    monkeypatch.setattr("tars_protocol.aio.server._SWEEP_SECONDS", 0.05)
    looks: list[list[object]] = []
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving())
        peers = [await stack.enter_async_context(connected(served)) for _ in range(5)]
        for peer in peers:
            peer.send(request("add", 1, 2))
            await peer.response()
        real = served.server.check_peers

        def look(passed: float, some: list[Any]) -> None:
            looks.append(list(some))
            real(passed, some)

        monkeypatch.setattr(served.server, "check_peers", look)
        await until(lambda: len(looks) > 9)
        assert max(map(len, looks)) == 2
        for connection in served.server._peers:
            assert sum(connection in some for some in looks[-6:]) == 2


# -- the end -------------------------------------------------------------------------------------------------------


@on_every_loop
async def test_stopping_sends_what_was_answered(blocked: Any) -> None:
    huge = reply(1, 0, bytes(30_000_000)).frame(7)
    async with serving(lambda data, key, caller: huge) as served, connected(served) as peer:
        peer.pause()
        peer.send(request("add", 1, 2))
        await blocked()
        stopping = asyncio.ensure_future(served.server.stop(grace=20))
        peer.resume()
        found = await peer.rest()
        assert len(found) == len(huge)
        await stopping
        assert served.server.open_connections == 0


@on_every_loop
async def test_stopping_does_not_wait_for_a_peer_that_does_not_read(blocked: Any) -> None:
    async with serving(lambda data, key, caller: BIG) as served, connected(served) as peer:
        unread(peer)
        await blocked()
        await served.server.stop(grace=0.01)
        assert served.server.open_connections == 0


@on_every_loop
async def test_stopping_closes_idle_connections_and_lets_nobody_in() -> None:
    async with serving() as served, connected(served) as first, connected(served) as second:
        for peer in (first, second):
            peer.send(request("add", 1, 2))
            await peer.frame()
        await served.server.stop()
        assert (await first.rest(), await second.rest(), served.server.open_connections) == (b"", b"", 0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", served.server.port)


def test_every_limit_says_what_it_is_for() -> None:
    """The reference page of settings is made from these."""
    for name, declared in ServerLimits.__dataclass_fields__.items():
        assert len(declared.metadata["meaning"]) > 10, name
        least = declared.metadata["minimum"]
        assert declared.default >= least if least is not None else isinstance(declared.default, StrEnum), name
