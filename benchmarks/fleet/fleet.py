"""The tarsnodes of a fleet: where each is, what it last reported, and how it was answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tars_protocol.errors import CallError
from tests.cluster.tars_controller import APP, GATE, SERVER
from tests.support.tarsnode import Tarsnode

NAMESPACE: Final = "fleet"
PODS_A_SERVER: Final = 20
PID: Final = "27"

_ASKS: Final = 100
_AT_A_TIME: Final = 40

_HELD: Final = 8_000
"""Of more tarsnodes than this each connects when it has something to say: a process has 20,000 files at most here."""


@dataclass
class Fleet:
    """The pods. Each reports to one of the registries that listen on ``ports``, and after an error to the next one, as
    the C++ client does: what it said to the one before may wait there still."""

    size: int
    ports: Sequence[int]
    chance: random.Random
    addresses: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    """By pod: the state that it last reported."""
    waits: dict[str, list[float]] = field(default_factory=dict)
    """By phase: seconds until a report was answered."""
    codes: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    """Reports that had no answer when the tarsnode's own time-out was over."""
    states: int = 0
    """States that were reported and are another than the one before: what may be written."""
    changes: Counter[str] = field(default_factory=Counter)
    """By pod: how often its tarsnode went on to another registry."""
    _nodes: dict[str, Tarsnode] = field(default_factory=dict)
    _made: int = 0

    @property
    def servers(self) -> int:
        """How many servers they are of."""
        return -(-self.size // PODS_A_SERVER)

    def names(self) -> list[str]:
        """All pods."""
        return [f"bench-server{n // PODS_A_SERVER}-{n % PODS_A_SERVER}" for n in range(self.size)]

    def registry_of(self, name: str) -> int:
        """To which registry a pod's tarsnode reports now."""
        return (int(name.rpartition("-")[2]) + self.changes[name]) % len(self.ports)

    def new_address(self) -> str:
        """One that nobody had before."""
        self._made += 1
        return f"127.{1 + self._made // 62_500}.{1 + self._made // 250 % 250}.{1 + self._made % 250}"

    @contextlib.asynccontextmanager
    async def tarsnode(self, name: str, address: str = "") -> AsyncIterator[Tarsnode]:
        """That of a pod, or of one that had this address before."""
        if not address and self.size <= _HELD:
            if name not in self._nodes:
                # As late as this: a registry closes connections on which nothing comes.
                await self._connect(name)
            yield self._nodes[name]
            return
        async with Tarsnode(address or self.addresses[name], self.ports[self.registry_of(name)]) as node:
            yield node

    async def start(self, name: str) -> None:
        """A tarsnode in a pod, which asks for its server's descriptor until there is one."""
        await self._connect(name)
        server = server_of(name)
        async with self.tarsnode(name) as node:
            for _ in range(_ASKS):
                value, found = await node.descriptor("Bench", server)
                if value == 0 and f"Bench.{server}.HelloObjAdapter" in found.adapters:
                    return
                await asyncio.sleep(0.1)
        raise SystemExit(f"no descriptor of Bench.{server}")

    async def _connect(self, name: str) -> None:
        """To the registry that a tarsnode reports to now."""
        await self.stop(name)
        if self.size <= _HELD:
            node = Tarsnode(self.addresses[name], self.ports[self.registry_of(name)])
            self._nodes[name] = await node.__aenter__()

    async def stop(self, name: str) -> None:
        """The end of a tarsnode."""
        node = self._nodes.pop(name, None)
        if node is not None:
            await node.__aexit__(None, None, None)

    async def stop_all(self) -> None:
        """The end of all."""
        for name in list(self._nodes):
            await self.stop(name)

    async def report(self, phase: str, name: str, present: str) -> None:
        """Report as a tarsnode does: whatever is answered, it goes on."""
        self.states += self.last.get(name) != present
        self.last[name] = present
        good = False
        async with self.tarsnode(name) as node:
            began = time.monotonic()
            try:
                await node.report(name, "Active", present, PID)
                self.codes[0] += 1
                good = True
            except CallError as error:
                self.codes[error.code] += 1
            except TimeoutError:
                self.unanswered += 1
        self.waits.setdefault(phase, []).append(time.monotonic() - began)
        if not good and len(self.ports) > 1:
            self.changes[name] += 1
            await self.stop(name)

    async def everybody(self, phase: str, states: Iterable[str], names: list[str], within: float = 0.0) -> None:
        """Each reports these states one after the other, beginning at some moment within so many seconds."""

        async def one(name: str, pause: float) -> None:
            await asyncio.sleep(pause)
            for present in states:
                await self.report(phase, name, present)

        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(one(name, self.chance.uniform(0, within)))


async def each(names: Iterable[str], make: Callable[[str], Awaitable[Any]]) -> None:
    """Do something for each, some at a time."""
    slots = asyncio.Semaphore(_AT_A_TIME)

    async def one(name: str) -> None:
        async with slots:
            await make(name)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(one(name))


def server_of(name: str) -> str:
    """The server that a pod is one of."""
    return name.split("-")[1].capitalize()


def object_of(name: str) -> str:
    """What clients of a pod's server ask for."""
    return f"Bench.{server_of(name)}.HelloObj"


def pod(name: str, address: str) -> dict[str, Any]:
    """A pod with an address, as the kubelet would have given it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {APP: "Bench", SERVER: server_of(name)}},
        "spec": {
            "nodeName": "node",
            "containers": [{"name": "c", "image": "i"}],
            "readinessGates": [{"conditionType": GATE}],
        },
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    }
