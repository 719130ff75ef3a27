"""The service as a process of its own, when the machine fails it: no file descriptors, no disk, a reader that hangs, a
clock that jumps. It goes on and says so. And how it ends, and takes another configuration."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from registry.app import App
from tars_protocol.aio.client import Client
from tars_protocol.errors import CallError
from tars_protocol.interfaces.query import QUERY, SERVANT
from tests.support.hello import SERVANT as HELLO
from tests.support.in_process import running
from tests.support.manifests import hello, write
from tests.support.service import Service, serving

PODS = ["10.0.0.1", "10.0.0.2"]


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """A directory with Test.HelloServer."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder / "hello.yaml", hello(*PODS))
    return folder


async def ask(port: int) -> list[str]:
    """The hosts of Test.HelloServer, by a connection of its own."""
    async with Client("127.0.0.1", port, SERVANT, QUERY) as client:
        return await asked(client)


async def asked(client: Client) -> list[str]:
    value, active, _ = await client.call("findObjectById4Any", HELLO)
    assert value == 0
    return [each.host for each in active]


async def metric(service: Service, name: str) -> float:
    """The sum of a metric's samples."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{service.admin_port}/metrics") as page,
    ):
        text = await page.text()
    found = re.findall(rf"^tars_registry_{name} ([0-9.e+-]+)$", text, re.MULTILINE)
    assert found, text
    return sum(map(float, found))


async def until_metric(service: Service, name: str, least: float) -> None:
    """Wait until a metric is at least so large."""
    async with asyncio.timeout(20):
        while await metric(service, name) < least:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)


async def garbage(port: int, count: int) -> None:
    """Connections that are worth a log line each, as each is of another address."""
    for _ in range(count):
        address = f"127.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writer.write(b"\x00\x00\x00\x00")
        await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


# -- file descriptors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_without_file_descriptors_it_serves_who_is_connected_and_goes_on_when_there_are_some(
    loop: str, manifests: Path
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    async with serving(manifests, f"--event-loop={loop}", "--endpoint-host=pod-ip") as service:
        async with Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client:
            assert await asked(client) == PODS
            pid = service.process.pid
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            highest = max(int(each) for each in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            # Where numbers below the highest are free, some are let in.
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(100):
                    if "no connection can be let in" in service.log:
                        break
                    sock = stack.enter_context(socket.socket())
                    sock.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", service.query_port))
                    assert await asked(client) == PODS
                await service.says(r"ERROR .*query: no connection can be let in: Too many open files; .*ulimit -n")
                assert await asked(client) == PODS
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            assert await asked(client) == PODS
        assert await ask(service.query_port) == PODS
        assert await metric(service, r'connections_refused_total\{listener="query",reason="no_file_descriptors"\}') > 0


async def test_a_limit_of_open_files_that_is_too_low_is_told_with_numbers_and_what_to_do(manifests: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f"ulimit -n 100; exec {sys.executable} -m registry serve --source directory --manifests {manifests} "
        "--query-listen 127.0.0.1:0 --registry-listen 127.0.0.1:0 --admin-listen off",
        stderr=asyncio.subprocess.PIPE,
    )
    _, text = await process.communicate()
    assert process.returncode == 2
    assert b"there may be 100 open files, and 20128 are needed for 10000 connections on 2 ports" in text
    assert b"raise the hard limit (ulimit -Hn in a shell" in text


# -- the log ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def unread(manifests: Path, stderr: int, *options: str) -> AsyncIterator[Service]:
    """The service with a standard error that nobody reads; its ports are given."""
    ports = []
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    command = f"-m registry serve --source directory --manifests {manifests} --endpoint-host=pod-ip".split()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        f"--query-listen=127.0.0.1:{ports[0]}",
        "--registry-listen=127.0.0.1:0",
        f"--admin-listen=127.0.0.1:{ports[1]}",
        "--drain-delay=0",
        "--reconnect-grace=0.2",
        *options,
        stderr=stderr,
    )
    service = Service(process)
    service.query_port, service.admin_port = ports
    try:
        async with asyncio.timeout(30):
            while not await _answers(service):  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.05)
        yield service
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(service: Service) -> bool:
    try:
        return await ask(service.query_port) == PODS
    except Exception:
        return False


async def test_a_reader_of_the_log_that_hangs_stops_no_answer_and_learns_what_it_missed(manifests: Path) -> None:
    """Nor the end of the service."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    try:
        options = ("--log-burst=100000", "--log-queue-bytes=4Ki")
        async with unread(manifests, theirs, *options) as service:
            os.close(theirs)
            theirs = -1
            async with asyncio.timeout(60):
                while not await metric(service, "log_lines_lost_total"):
                    await garbage(service.query_port, 50)
            assert await ask(service.query_port) == PODS
            found = b""
            while b"log lines are missing here: standard error does not take them" not in found:
                found += await asyncio.to_thread(os.read, ours, 1 << 16)
            await garbage(service.query_port, 1)
            # Again, to the end: nobody reads how it stops.
            lost = await metric(service, "log_lines_lost_total")
            async with asyncio.timeout(60):
                while await metric(service, "log_lines_lost_total") <= lost:
                    await garbage(service.query_port, 50)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


@pytest.mark.parametrize("kind", ["full disk", "closed pipe"])
async def test_a_log_that_can_not_be_written_stops_no_answer(kind: str, manifests: Path) -> None:
    if kind == "full disk":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        ours, target = os.pipe()
        os.close(ours)
    try:
        async with unread(manifests, target) as service:
            await garbage(service.query_port, 3)
            await until_metric(service, "log_lines_lost_total", 3)
            assert await ask(service.query_port) == PODS
    finally:
        os.close(target)


# -- the disk --------------------------------------------------------------------------------------------------------


async def test_a_full_disk_costs_the_snapshot_only_and_is_told_until_there_is_room(
    manifests: Path, tmp_path: Path
) -> None:
    """As far as a process can be given a full disk: no file of it may grow."""
    snapshot = tmp_path / "table"
    options = (f"--snapshot-path={snapshot}", "--snapshot-interval=0.1", "--endpoint-host=pod-ip")
    async with serving(manifests, *options) as service:
        await service.says("synchronised:")
        async with asyncio.timeout(20):
            while not snapshot.exists():  # noqa: ASYNC110  # nobody else could set an event
                await asyncio.sleep(0.01)
        good = snapshot.read_bytes()
        pid = service.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        write(manifests / "hello.yaml", hello(*PODS, "10.0.0.3"))
        await service.says("ERROR .*table: the snapshot can't be written: File too large; the old one stays")
        assert await metric(service, "snapshot_errors_total") > 0
        assert snapshot.read_bytes() == good
        assert [name for name in os.listdir(tmp_path) if name.startswith(".table")] == []  # noqa: PTH208
        assert await ask(service.query_port) == [*PODS, "10.0.0.3"]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        write(manifests / "hello.yaml", hello(*PODS))
        await service.says("the snapshot is written again")


# -- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [10.0**8, -(10.0**8)], ids=["forward", "back"])
async def test_a_clock_that_jumps_cuts_nobody_and_ages_nothing(
    by: float, manifests: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three years, both ways: connections stay, new ones come, changes are seen, the table is as fresh as before."""
    async with running(manifests) as app, Client("127.0.0.1", app.query.port, SERVANT, QUERY) as client:
        value, active, _ = await client.call("findObjectById4Any", HELLO)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + by)
        async with asyncio.timeout(20):
            while app._clock.jumps == 0:  # noqa: ASYNC110  # nobody else could set an event
                await asyncio.sleep(0.01)
        for server in (app.query, app.registry):
            server.check_peers(1.0)
        assert (value, len(active)) == (0, 2)
        assert await _sees(app, client, manifests)
        assert app.query.open_connections == 1
        assert app.query.stats.refused == {}
        assert app.staleness() < 60
        assert app.not_ready() == []
    assert "the clock was set" in caplog.text


async def _sees(app: App, client: Client, manifests: Path) -> bool:
    write(manifests / "hello.yaml", hello(*PODS, "10.0.0.3"))
    async with asyncio.timeout(20):
        while True:
            _, active, _ = await client.call("findObjectById4Any", HELLO)
            if len(active) == 3:
                return True


# -- the end ---------------------------------------------------------------------------------------------------------


async def readiness(service: Service) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{service.admin_port}/readyz") as page,
    ):
        return page.status, await page.text()


async def test_told_to_stop_it_is_not_ready_but_lets_callers_in_until_told_again(manifests: Path) -> None:
    options = ("--endpoint-host=pod-ip", "--drain-delay=60", "--reconnect-grace=60", "--drain-timeout=120")
    async with (
        serving(manifests, *options) as service,
        Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client,
    ):
        assert await asked(client) == PODS
        service.process.send_signal(signal.SIGTERM)
        await service.says("not ready any more; connections are still taken for 60 s")
        assert await readiness(service) == (503, "not ready: stopping\n")
        assert await ask(service.query_port) == PODS
        assert await asked(client) == PODS
        service.process.send_signal(signal.SIGTERM)
        await service.says("told again to stop: waiting for nobody")
        async with asyncio.timeout(15):
            assert await service.process.wait() == 0


async def test_at_a_terminal_it_stops_at_once(manifests: Path) -> None:
    async with serving(manifests, "--drain-delay=60", "--drain-timeout=120") as service:
        service.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(15):
            assert await service.process.wait() == 0


async def test_whatever_a_peer_does_it_ends_within_drain_timeout(manifests: Path) -> None:
    """This one has sent half a question and reads nothing."""
    async with serving(manifests, "--drain-timeout=2") as service:
        _, writer = await asyncio.open_connection("127.0.0.1", service.query_port)
        writer.write(b"\x00\x00\x01\x00\x10\x01")
        await writer.drain()
        service.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await service.process.wait() == 0
        writer.transport.abort()


# -- another configuration -------------------------------------------------------------------------------------------


async def test_sighup_changes_what_can_be_changed_and_names_the_rest(manifests: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("max_connections: 100\nrate_limit: off\n")
    options = (f"--config={file}", "--endpoint-host=pod-ip", "--idle-timeout=700")
    async with serving(manifests, *options) as service:
        assert await ask(service.query_port) == PODS
        file.write_text(
            "max_connections: 2\nlog_level: debug\nidle_timeout: 800\nrate_limit: enforce\n"
            "max_requests_per_peer: 0.01\ncache_entries: 5\n"
        )
        service.process.send_signal(signal.SIGHUP)
        said = await service.says(r"read the configuration again; changed: (.*)")
        assert set(said[1].split("; ")) == {
            "max_connections from 100 to 2",
            "log_level from info to debug",
            "rate_limit from off to enforce",
            "max_requests_per_peer from 1000 to 0.01",
        }, "an option stands over the file: idle_timeout did not change"
        await service.says(r"only from the next start on: cache_entries from 200000 to 5")
        codes = []
        async with Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client:
            for _ in range(2):
                try:
                    await client.ping()
                    codes.append(0)
                except CallError as error:
                    codes.append(error.code)
        assert codes == [0, -9]

        file.write_text("max_connections: many\n")
        service.process.send_signal(signal.SIGHUP)
        await service.says(r"ERROR .*which can't be used; all stays as it is: .*max_connections: 'many': expected")
        file.unlink()
        service.process.send_signal(signal.SIGHUP)
        await service.says(r"ERROR .*all stays as it is: --config .*: No such file or directory")
        file.write_text("max_connections: 3\nrate_limit: off\n")
        service.process.send_signal(signal.SIGHUP)
        await service.says(r"changed: .*max_connections from 2 to 3")
        assert await ask(service.query_port) == PODS


async def test_a_sighup_without_a_change_changes_nothing(manifests: Path) -> None:
    async with serving(manifests) as service:
        service.process.send_signal(signal.SIGHUP)
        await service.says("read the configuration again; changed: nothing")
