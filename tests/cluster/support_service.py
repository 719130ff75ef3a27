"""The real service on a real API server, and how its callers and its operators see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tars_protocol.aio.client import Client
from tars_protocol.interfaces.query import QUERY, SERVANT
from tests.support.service import Service, serving

HAPPENS_WITHIN: Final = 10.0
LOOKS_EVERY: Final = 0.01
QUICK: Final = ("--retry-longest=0.5", "--list-spread=0")
"""For tests in which something is mended: the pause while the server refuses is up to 30 s otherwise."""


class Lists(NamedTuple):
    """An answer: addresses as HOST:PORT, in the order given."""

    active: tuple[str, ...] = ()
    inactive: tuple[str, ...] = ()


def lists(*active: str, inactive: Sequence[str] = ()) -> Lists:
    """An answer as a test expects it; hosts without a port are those of tests.support.manifests."""
    with_ports = [tuple(host if ":" in host else f"{host}:18100" for host in hosts) for hosts in (active, inactive)]
    return Lists(*with_ports)


class Registry:
    """A running service, with a connection for queries and one for its pages."""

    def __init__(self, service: Service, client: Client, pages: aiohttp.ClientSession) -> None:
        self.service = service
        self.client = client
        self._pages = pages

    async def ask(self, object_id: str) -> Lists:
        """Where an object is. Raises what the client raises, and AssertionError for a return value other than 0."""
        value, active, inactive = await self.client.call("findObjectById4Any", object_id)
        assert value == 0, f"{object_id}: returned {value}"
        return Lists(*(tuple(f"{each.host}:{each.port}" for each in found) for found in (active, inactive)))

    async def until(self, object_id: str, expected: Lists, timeout: float = HAPPENS_WITHIN) -> float:
        """Wait until this is the answer; seconds that it took."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while (answer := await self.ask(object_id)) != expected:
            waited = clock() - began
            assert waited < timeout, f"{object_id} is {answer} after {waited:.1f} s, not {expected}\n{self.service.log}"
            await asyncio.sleep(LOOKS_EVERY)
        return clock() - began

    async def readiness(self) -> tuple[int, str]:
        """/readyz: status and text."""
        async with self._pages.get("/readyz") as response:
            return response.status, await response.text()

    async def page(self, path: str) -> str:
        """The text of a page of the admin port."""
        async with self._pages.get(path) as response:
            return await response.text()

    async def until_ready(self, timeout: float = HAPPENS_WITHIN) -> None:
        """Wait until /readyz says so."""
        status, text = await self.readiness()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while status != 200:
                    await asyncio.sleep(LOOKS_EVERY)
                    status, text = await self.readiness()
        assert status == 200, f"{text}\n{self.service.log}"

    async def until_not_ready(self, *words: str, timeout: float = HAPPENS_WITHIN) -> str:
        """Wait until /readyz is 503 with all these words; its text."""
        status, text = await self.readiness()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while status != 503 or not all(word in text for word in words):
                    await asyncio.sleep(LOOKS_EVERY)
                    status, text = await self.readiness()
        assert status == 503, f"ready: {text}"
        for word in words:
            assert word in text, f"{word!r} is not in {text!r}"
        return text

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name (without tars_registry_) and these labels."""
        async with self._pages.get("/metrics") as response:
            text = await response.text()
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"tars_registry_{name}" and labels.items() <= sample.labels.items()
        ]
        assert found, f"no metric {name} with {labels}"
        return sum(found)

    async def until_metric(
        self, condition: Callable[[float], bool], name: str, timeout: float = HAPPENS_WITHIN, **labels: str
    ) -> float:
        """Wait until a metric is so; its value."""
        value = await self.metric(name, **labels)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not condition(value):
                    await asyncio.sleep(LOOKS_EVERY)
                    value = await self.metric(name, **labels)
        assert condition(value), f"{name} of {labels} is {value}\n{self.service.log}"
        return value


@contextlib.asynccontextmanager
async def following(
    kubeconfig: Path, *options: str, namespace: str = "", discover: str = "tendpoints", synced: bool = True
) -> AsyncIterator[Registry]:
    """Run the service on the cluster of this kubeconfig; by default wait until it has its table.

    Endpoints are given by the pods' addresses. Without a namespace it follows the one of the kubeconfig.
    """
    options = (
        "--source=kubernetes",
        f"--kubeconfig={kubeconfig}",
        f"--discover={discover}",
        "--endpoint-host=pod-ip",
        *([f"--namespace={namespace}"] if namespace else []),
        *options,
    )
    # An option that is given twice counts as the last says; there is no directory of manifests.
    async with (
        serving(Path("no-manifests"), *options, synced=synced) as service,
        Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client,
        aiohttp.ClientSession(f"http://127.0.0.1:{service.admin_port}") as pages,
    ):
        yield Registry(service, client, pages)


class Asker:
    """Asks on and on, as clients do, and counts what was no good answer: an error, or another one than expected."""

    def __init__(self, port: int, steady: str, expected: Lists, others: Sequence[str] = (), pause: float = 0.005):
        """``steady`` is always to be answered as ``expected``; of ``others`` there is to be an answer."""
        self._port = port
        self._expected = expected
        self._steady = steady
        self._others = others
        self._pause = pause
        self.asked = 0
        self.failures: list[str] = []
        self.slowest = 0.0

    async def run(self) -> None:
        """Ask until cancelled."""
        clock = asyncio.get_running_loop().time
        async with Client("127.0.0.1", self._port, SERVANT, QUERY) as client:
            while True:
                for object_id in (self._steady, *self._others):
                    began = clock()
                    try:
                        value, active, inactive = await client.call("findObjectById4Any", object_id)
                    except Exception as error:
                        self.failures.append(f"{object_id}: {type(error).__name__}: {error}")
                    else:
                        answer = Lists(
                            *(tuple(f"{each.host}:{each.port}" for each in found) for found in (active, inactive))
                        )
                        if value or (object_id == self._steady and answer != self._expected):
                            self.failures.append(f"{object_id}: {value} {answer}")
                    self.asked += 1
                    self.slowest = max(self.slowest, clock() - began)
                    await asyncio.sleep(self._pause)

    def good(self) -> None:
        """Every question had a good answer."""
        assert self.asked > 0
        assert self.failures == []


@contextlib.asynccontextmanager
async def asking(
    registry: Registry, steady: str, expected: Lists, others: Sequence[str] = (), pause: float = 0.005
) -> AsyncIterator[Asker]:
    """Ask in the background; in the end every question must have had a good answer."""
    asker = Asker(registry.service.query_port, steady, expected, others, pause)
    task = asyncio.create_task(asker.run())
    try:
        yield asker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    asker.good()
