"""Rolling restarts: a pair of registries behind one address, each stopped and replaced while TarsGo asks and calls."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.clients.driver import RealClient
from tests.support.cluster_service import ClusterService
from tests.support.hello import SERVANT, saying_hello
from tests.support.manifests import hello, write
from tests.support.service import Service, serving

NOTICED_AFTER: Final = 0.2
"""Seconds until nobody is sent any more to a registry that is told to stop."""

OPTIONS: Final = ("--endpoint-host=pod-ip", "--drain-delay=0.4", "--reconnect-grace=2", "--drain-timeout=10")
DRAINED_WITHIN: Final = 10.0
REFRESH_MS: Final = 50
WORKERS: Final = 4
CLIENTS: Final = 2


@dataclass
class Count:
    """What became of one kind of work."""

    done: int = 0
    failed: int = 0
    slowest_ms: int = 0

    def add(self, told: dict[str, Any]) -> None:
        """One client's."""
        self.done += told["done"]
        self.failed += told["failed"]
        self.slowest_ms = max(self.slowest_ms, told["slowest_ms"])


@dataclass
class Restarts:
    """What was seen. ``drains`` are the seconds from SIGTERM to the exit of each registry that was stopped."""

    rounds: int = 0
    calls: Count = field(default_factory=Count)
    queries: Count = field(default_factory=Count)
    errors: list[str] = field(default_factory=list)
    drains: list[float] = field(default_factory=list)
    drained_within: float = DRAINED_WITHIN
    statuses: set[int] = field(default_factory=set)
    client: str = ""

    @property
    def good(self) -> bool:
        """Nothing was lost, and every registry ended as it should."""
        worked = self.calls.done > 0 and self.queries.done > 0
        lost = self.calls.failed or self.queries.failed
        return worked and not lost and self.statuses == {0} and max(self.drains) <= self.drained_within


class _Registry:
    """One of the pair."""

    def __init__(self, manifests: Path, options: Sequence[str], noticed_after: float) -> None:
        self._manifests = manifests
        self._options = options
        self._noticed_after = noticed_after
        self._stack = contextlib.AsyncExitStack()
        self.service: Service | None = None

    async def start(self, address: ClusterService) -> None:
        """Start one, and let callers go to it once it is ready."""
        self.service = await self._stack.enter_async_context(serving(self._manifests, *self._options))
        address.ports.append(self.service.query_port)

    async def replace(self, address: ClusterService, seen: Restarts) -> None:
        """Stop it as Kubernetes does, and start another."""
        service = self.service
        assert service is not None
        clock = asyncio.get_running_loop().time
        began = clock()
        service.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(self._noticed_after)
        address.ports.remove(service.query_port)
        seen.statuses.add(await service.process.wait())
        seen.drains.append(clock() - began)
        await self._stack.aclose()
        await self.start(address)

    async def close(self) -> None:
        """Stop it for good, without the delay that callers would need."""
        if self.service is not None and self.service.process.returncode is None:
            self.service.process.send_signal(signal.SIGINT)
        await self._stack.aclose()


@contextlib.asynccontextmanager
async def _pair(
    manifests: Path, address: ClusterService, options: Sequence[str], noticed_after: float
) -> AsyncIterator[list[_Registry]]:
    pair = [_Registry(manifests, options, noticed_after) for _ in range(2)]
    try:
        for registry in pair:
            await registry.start(address)
        yield pair
    finally:
        for registry in pair:
            await registry.close()


async def roll(
    argv: list[str],
    folder: Path,
    rounds: int,
    told: Callable[[int, Restarts], None] = lambda *_: None,
    options: Sequence[str] = OPTIONS,
    noticed_after: float = NOTICED_AFTER,
    drained_within: float = DRAINED_WITHIN,
) -> Restarts:
    """Restart both registries of a pair, one after the other, so many times; ``told`` after each round.

    ``argv`` starts the TarsGo client, ``options`` are those of the registries. For ``noticed_after`` seconds callers
    are still sent to one that stops, and it must end within ``drained_within``.
    """
    manifests = folder / "manifests"
    manifests.mkdir()
    seen = Restarts(drained_within=drained_within)
    async with saying_hello("127.0.0.1", "127.0.0.2") as port, ClusterService() as address:
        write(manifests / "hello.yaml", hello("127.0.0.1", "127.0.0.2", port=port))
        async with _pair(manifests, address, options, noticed_after) as pair, contextlib.AsyncExitStack() as stack:
            locator = f"tars.tarsregistry.QueryObj@tcp -h 127.0.0.1 -p {address.port}"
            clients = [RealClient(argv, locator=locator, folder=folder, refresh_ms=REFRESH_MS) for _ in range(CLIENTS)]
            for client in clients:
                await stack.enter_async_context(client)
                begun = await client.request({"op": "load", "obj": SERVANT, "text": "hi", "workers": WORKERS})
                assert begun["ok"], begun
            seen.client = clients[0].name
            for _ in range(rounds):
                for registry in pair:
                    await registry.replace(address, seen)
                seen.rounds += 1
                told(seen.rounds, seen)
            for client in clients:
                ended = await client.request({"op": "loaded"})
                seen.calls.add(ended["calls"])
                seen.queries.add(ended["queries"])
                seen.errors += ended["errors"] or []
    if address.refused:
        seen.errors.append(f"{address.refused} connections went to a registry that did not listen")
    return seen
