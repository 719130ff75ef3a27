"""The pages for probes: alive, ready, and if not, why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from registry.admin.health import AdminServer
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
async def pages(reasons: list[str]) -> AsyncIterator[int]:
    """The pages of a registry that is not ready for these reasons; their port."""
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
    server = AdminServer(view)
    sockets = bind("127.0.0.1", 0)
    await server.start(sockets)
    try:
        yield sockets[0].getsockname()[1]
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
