"""The pages for probes: alive, ready, and if not, why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.admin.health import AdminLimits, AdminServer
from registry.admin.view import Cache, Requests, View
from registry.app import build
from registry.config import ListenAddress
from registry.table import TableStore
from tars_protocol.aio.listen import bind
from tests.support import manifests
from tests.support.in_process import admin_ports, loopback, running

Page = tuple[int, str]


async def get(port: int, path: str, method: str = "GET") -> Page:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


@asynccontextmanager
async def pages(reasons: list[str], **limits: Any) -> AsyncIterator[int]:
    """The pages of a registry that is not ready for these reasons; their port."""
    async with page_server(reasons, **limits) as (_, port):
        yield port


@asynccontextmanager
async def page_server(reasons: list[str], **limits: Any) -> AsyncIterator[tuple[AdminServer, int]]:
    store = TableStore()
    view = View(
        version="1.2.3",
        event_loop="asyncio",
        table=lambda: store.table,
        table_size=store.size,
        sources=list,
        requests=lambda: Requests({}, [(float("inf"), 0)], 0.0, 0),
        cache=lambda: Cache(0, 0, 0, 0, 0, 0),
        listeners=list,
        not_ready=lambda: list(reasons),
    )
    server = AdminServer(view, AdminLimits(**limits))
    sockets = bind("127.0.0.1", 0)
    await server.start(sockets)
    try:
        yield server, sockets[0].getsockname()[1]
    finally:
        await server.stop()


async def test_ready_is_asked_anew_each_time() -> None:
    """503 with every reason on a line of its own, 200 as soon as there is none, and back again."""
    reasons = ["source directory: not synchronised yet", "stopping"]
    async with pages(reasons) as port:
        assert await get(port, "/readyz") == (
            503,
            "not ready: source directory: not synchronised yet\nnot ready: stopping\n",
        )
        reasons.clear()
        assert await get(port, "/readyz") == (200, "ready\n")
        reasons.append("stopping")
        assert (await get(port, "/readyz"))[0] == 503


async def test_a_registry_that_is_not_ready_is_alive_and_measured() -> None:
    """A restart would not help: only readiness tells."""
    async with pages(["x"]) as port:
        assert await get(port, "/healthz") == (200, "ok\n")
        status, text = await get(port, "/metrics")
        assert status == 200
        assert "tars_registry_ready 0.0" in text


async def test_the_first_page_names_the_others() -> None:
    async with pages([]) as port:
        status, text = await get(port, "/")
        assert status == 200
        assert text.startswith("tars-registry 1.2.3\n")
        for line in text.splitlines()[1:]:
            assert (await get(port, line.split()[0]))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/readyz", 405), ("DELETE", "/", 405), ("GET", "/../etc/passwd", 404)],
)
async def test_other_pages_and_methods_are_refused(method: str, path: str, status: int) -> None:
    async with pages([]) as port:
        assert (await get(port, path, method))[0] == status


async def test_probes_may_ask_for_the_head_alone() -> None:
    async with pages(["x"]) as port:
        assert await get(port, "/readyz", "HEAD") == (503, "")


async def test_bytes_that_are_no_http_do_no_harm() -> None:
    async with pages([]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x00\x00\x00\x05x\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        assert await get(port, "/readyz") == (200, "ready\n")


async def test_the_service_is_ready_once_it_has_read_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifests.write(tmp_path / "hello.yaml", manifests.hello("10.0.0.1"))
    caplog.set_level(logging.INFO)
    app = await build(loopback(tmp_path))
    assert app.not_ready() == ["not synchronised yet: waiting for TEndpoint, TFrameworkConfig, TTemplate"]
    await app.start()
    try:
        await app.synced.wait()
        assert app.not_ready() == []
        assert await get(admin_ports(caplog.text)[0], "/readyz") == (200, "ready\n")
    finally:
        await app.stop()
    assert app.not_ready() == ["stopping"]


async def test_the_pages_for_probes_are_served_on_a_port_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path, metrics_listen=ListenAddress("127.0.0.1", 0)):
        ports = admin_ports(caplog.text)
        assert len(set(ports)) == 2
        for port in ports:
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await get(port, path))[0] == 200


async def test_without_addresses_there_are_no_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path, admin_listen=None):
        assert "queries: 127.0.0.1:" in caplog.text
        assert admin_ports(caplog.text) == []


async def test_one_connection_too_many_is_closed_at_once_and_others_come_after_it() -> None:
    async with page_server([], admin_max_connections=2) as (server, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert (server.open_connections, dict(server.stats.refused)) == (2, {"too_many_connections": 1})
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(20):
            while server.open_connections:  # noqa: ASYNC110  # nobody else could set an event
                await asyncio.sleep(0)
        assert await get(port, "/readyz") == (200, "ready\n")


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /healthz HTTP/1.1\r\nX: y\r\n"])
async def test_who_does_not_send_a_request_in_time_is_cut(sent: bytes) -> None:
    async with page_server([], admin_timeout=0.05) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        assert dict(server.stats.refused) == {"timeout": 1}
        assert server.stats.accepted == 1


async def test_a_connection_serves_one_request_so_that_one_deadline_is_enough() -> None:
    async with pages([]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        text = await reader.read()
        assert text.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in text
        writer.close()
        await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        writer.close()
        await writer.wait_closed()
