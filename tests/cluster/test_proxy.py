"""The proxy of the tests, before a server that says back what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest

from tests.cluster.proxy import Proxy

Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], Awaitable[Connection]]

SOON = 10.0
NOT_YET = 0.2


class Echo:
    """A server that says back what it is told, and remembers how each connection ended."""

    def __init__(self) -> None:
        self.port = 0
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        self.said = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = "end"
        try:
            while data := await reader.read(65536):
                self.said += len(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            end = "reset"
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.ends.put_nowait(end)

    async def end(self) -> str:
        async with asyncio.timeout(SOON):
            return await self.ends.get()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    """The server."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    async with server:
        yield echo


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    """The proxy before it."""
    async with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


@pytest.fixture
async def connect(proxy: Proxy) -> AsyncIterator[Connect]:
    """Makes connections, and closes them in the end."""
    made: list[asyncio.StreamWriter] = []

    async def connect() -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        made.append(writer)
        return reader, writer

    yield connect
    for writer in made:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def says(connection: Connection, text: bytes, timeout: float = SOON) -> bytes:
    """What comes back for a text."""
    reader, writer = connection
    writer.write(text)
    async with asyncio.timeout(timeout):
        return await reader.readexactly(len(text))


async def test_bytes_pass_and_are_counted(proxy: Proxy, connect: Connect) -> None:
    one, other = await connect(), await connect()
    assert await says(one, b"one") == b"one"
    assert await says(other, b"other") == b"other"
    assert (proxy.accepted, proxy.open, proxy.bytes_up, proxy.bytes_down) == (2, 2, 8, 8)


async def test_much_passes_unchanged(proxy: Proxy, connect: Connect) -> None:
    sent = bytes(range(256)) * 32768
    assert await says(await connect(), sent) == sent
    assert proxy.bytes_down == len(sent)


async def test_the_end_of_one_side_reaches_the_other(proxy: Proxy, connect: Connect, echo: Echo) -> None:
    reader, writer = connection = await connect()
    assert await says(connection, b"last") == b"last"
    writer.write_eof()
    assert await reader.read() == b""
    assert await echo.end() == "end"
    await proxy.until(lambda proxy: not proxy.open)


async def test_the_reset_of_one_side_reaches_the_other(proxy: Proxy, connect: Connect, echo: Echo) -> None:
    _, writer = connection = await connect()
    assert await says(connection, b"one") == b"one"
    proxy.stall()
    writer.transport.abort()
    proxy.resume()
    assert await echo.end() in ("end", "reset")
    await proxy.until(lambda proxy: not proxy.open)


async def test_a_cut_resets_both_sides_and_lets_new_connections_in(proxy: Proxy, connect: Connect, echo: Echo) -> None:
    one = await connect()
    assert await says(one, b"one") == b"one"
    await proxy.cut()
    assert proxy.open == 0
    with pytest.raises(ConnectionResetError):
        await one[0].read()
    assert await echo.end() == "reset"
    assert await says(await connect(), b"other") == b"other"


async def test_a_stall_passes_nothing_and_ends_nothing_until_it_is_over(
    proxy: Proxy, connect: Connect, echo: Echo
) -> None:
    one, other = await connect(), await connect()
    assert await says(one, b"one") == b"one"
    assert await says(other, b"other") == b"other"
    before = (proxy.bytes_up, proxy.bytes_down)
    proxy.stall()
    with pytest.raises(TimeoutError):
        await says(one, b"two", NOT_YET)
    late = await connect()
    with pytest.raises(TimeoutError):
        await says(late, b"late", NOT_YET)
    other[1].transport.abort()
    assert (proxy.bytes_up, proxy.bytes_down, proxy.open, echo.said) == (*before, 3, 8)
    assert echo.ends.empty()
    proxy.resume()
    assert await one[0].readexactly(3) == b"two"
    assert await late[0].readexactly(4) == b"late"
    assert await echo.end() in ("end", "reset")


async def test_a_stall_holds_back_even_what_the_other_side_was_slow_to_take(proxy: Proxy, connect: Connect) -> None:
    reader, writer = await connect()
    sent = bytes(32 * 1024 * 1024)  # more than all buffers between hold, and nobody reads
    writer.write(sent)
    passed = -1
    while passed != proxy.bytes_down:
        passed = proxy.bytes_down
        with contextlib.suppress(TimeoutError):
            await proxy.until(lambda proxy, passed=passed: proxy.bytes_down > passed, NOT_YET)  # type: ignore[misc]
    proxy.stall()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(NOT_YET):
            await reader.readexactly(len(sent))
    assert proxy.bytes_down == passed
    proxy.resume()
    await proxy.until(lambda proxy: proxy.bytes_down > passed)


async def test_a_delay_is_added_in_each_direction(proxy: Proxy, connect: Connect) -> None:
    clock = asyncio.get_running_loop().time
    one = await connect()
    proxy.delay(0.1)
    started = clock()
    assert await says(one, b"one") == b"one"
    assert clock() - started >= 0.2
    proxy.delay(0)
    assert await says(one, b"two") == b"two"


async def test_a_throttle_holds_for_all_connections_together(proxy: Proxy, connect: Connect) -> None:
    clock = asyncio.get_running_loop().time
    one, other = await connect(), await connect()
    proxy.throttle(20_000)
    started = clock()
    await asyncio.gather(says(one, bytes(5_000)), says(other, bytes(5_000)))
    assert 0.4 <= clock() - started < 5
    proxy.throttle(None)
    assert await says(one, bytes(1_000_000)) == bytes(1_000_000)


async def test_a_throttle_that_is_taken_off_holds_back_no_more(proxy: Proxy, connect: Connect) -> None:
    one = await connect()
    proxy.throttle(10)
    with pytest.raises(TimeoutError):
        await says(one, bytes(1000), NOT_YET)
    proxy.throttle(None)
    await proxy.until(lambda proxy: proxy.bytes_down == 1000)


async def test_new_connections_can_be_refused_while_old_ones_go_on(proxy: Proxy, connect: Connect) -> None:
    one = await connect()
    await proxy.until(lambda proxy: proxy.open == 1)
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect()
    assert await says(one, b"one") == b"one"
    await proxy.listen()
    assert proxy.port == port
    assert await says(await connect(), b"other") == b"other"
    assert proxy.accepted == 2


async def test_where_the_target_is_away_connections_are_reset(connect: Connect, proxy: Proxy) -> None:
    async with Proxy("127.0.0.1", proxy.port) as front:
        await proxy.refuse()
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
