"""The connection to the API server, beside a server of ours on loopback that behaves badly."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from registry.kube import client as client_module
from registry.kube.client import ClusterConfigError, Credentials, KubeClient
from registry.kube.resource import Reply

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def connected(folder: Path, serve: Serve, scheme: str = "http") -> AsyncIterator[KubeClient]:
    """A client of a server that treats each connection so."""
    ended: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ended.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = KubeClient(Credentials(in_cluster=False, kubeconfig=kubeconfig(folder, f"{scheme}://127.0.0.1:{port}")))
    await client.start()
    try:
        yield client
    finally:
        await client.close()
        server.close()
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended)


def kubeconfig(folder: Path, server: str) -> Path:
    """A file that names a server, and nobody to go there as."""
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "tars"}}],
    }
    path.write_text(json.dumps(content))
    return path


async def begin_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a request, and give the beginning of an answer of 1,000 bytes."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe beginning")
    await writer.drain()


async def test_every_watch_gets_a_connection_however_many_there_are(tmp_path: Path) -> None:
    """One for each resource and namespace, each held for minutes: with a limit the last ones would wait for ever."""
    watches = 120

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await begin_answer(reader, writer)
        await asyncio.Event().wait()

    async with connected(tmp_path, serve) as client, AsyncExitStack() as stack, asyncio.timeout(30):
        for _ in range(watches):
            response = await stack.enter_async_context(client.get("/api", {"watch": "1"}))
            assert await anext(aiter(response.chunks())) == b"the beginning"


async def test_an_answer_that_ends_in_its_middle_is_a_broken_connection(tmp_path: Path) -> None:
    async with connected(tmp_path, begin_answer) as client, client.get("/api", {}) as response:
        chunks = aiter(response.chunks())
        assert await anext(chunks) == b"the beginning"
        with pytest.raises(ConnectionError, match=r"^the connection was closed in the middle of it$"):
            await anext(chunks)


@pytest.mark.parametrize(
    ("header", "date"),
    [("Date: Sat, 31 Jan 2026 12:00:00 GMT\r\n", 1_769_860_800.0), ("", None), ("Date: yesterday\r\n", None)],
)
async def test_an_answer_has_the_date_that_the_server_made_it_at(
    tmp_path: Path, header: str, date: float | None
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{header}\r\n{{}}".encode())
        await writer.drain()

    async with connected(tmp_path, serve) as client:
        assert await client.send("GET", "/api") == Reply(200, b"{}", 0.0, date)


async def test_a_server_that_never_shakes_hands_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_CONNECT_TIMEOUT", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with connected(tmp_path, serve, scheme="https") as client:
        expected = f"^{re.escape(client.server)} can't be reached: no connection in time$"
        with pytest.raises(ConnectionError, match=expected):
            async with client.get("/api", {}):
                pass


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with connected(tmp_path, begin_answer) as client:
        pass
    async with AsyncExitStack() as stack:
        gone = KubeClient(Credentials(in_cluster=False, kubeconfig=tmp_path / "kubeconfig"))
        await gone.start()
        stack.push_async_callback(gone.close)
        with pytest.raises(
            ConnectionError, match=f"^{re.escape(client.server)} can't be reached: .*Connect call failed"
        ):
            async with gone.get("/api", {}):
                pass


async def test_a_kubeconfig_that_is_missing_is_named(tmp_path: Path) -> None:
    client = KubeClient(Credentials(in_cluster=False, kubeconfig=tmp_path / "nothing"))
    with pytest.raises(ClusterConfigError, match=f"^kubeconfig {re.escape(str(tmp_path / 'nothing'))}: "):
        await client.start()


async def answer_with_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give back the head of the request."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(head), head))
    await writer.drain()


async def test_the_credentials_are_the_kubeconfigs_whatever_a_netrc_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with connected(tmp_path, answer_with_the_request) as client:
        reply = await client.send("GET", "/api")
    assert reply.status == 200
    assert b"authorization: bearer secret\r\n" in reply.body.lower()


@pytest.mark.parametrize(("bypassed", "reached"), [("", b"GET http://kubernetes.test/api "), ("kubernetes.test", b"")])
async def test_the_environments_proxy_is_used_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bypassed: str, reached: bytes
) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer_with_the_request(reader, writer)
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("no_proxy", bypassed)
        client = KubeClient(Credentials(in_cluster=False, kubeconfig=kubeconfig(tmp_path, "http://kubernetes.test")))
        await client.start()
        try:
            if reached:
                assert (await client.send("GET", "/api")).body.startswith(reached)
            else:
                with pytest.raises(ConnectionError, match=r"kubernetes\.test can't be reached"):
                    await client.send("GET", "/api")
        finally:
            await client.close()
