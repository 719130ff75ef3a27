"""From the API server's acknowledgement of a change to a bare watcher, and to a client of the service.

So many pod changes a second are made, each a JSON patch of one pod's state in a TEndpoint's status. Half of them are of
one server, which a client asks for without pause; the others are spread over all servers. The pods of that one server
are switched in the order of a Gray code, so each change is of one pod and each answer says which change it is of.

For each change there are three moments on one clock:

    acknowledged   the API server's answer to the patch has reached the one who wrote it
    watched        the line with the event has reached a bare watcher (:mod:`benchmarks.cluster.watcher`), not decoded
    answered       an answer with the change has reached the client (:mod:`benchmarks.cluster.poller`)

The event may be there before the acknowledgement; then the time is negative. The client asks again at most one interval
(told with the result) after the change could first be answered; that is part of what is measured.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster.contents import NAMESPACE, Contents, name_of, object_id
from benchmarks.cluster.helper import Helper, now
from benchmarks.cluster.service import service
from tests.cluster.apiserver import ApiServer
from tests.cluster.client import TENDPOINTS, Client

ASKED: Final = 0
"""Number of the server whose changes are timed."""

WRITERS: Final = 8
SETTLE: Final = 1.0
GRAY_PODS: Final = 10


@dataclass
class Run:
    """What one run saw; times in milliseconds."""

    watched: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    difference: list[float] = field(default_factory=list)
    patches: list[float] = field(default_factory=list)
    """How long the API server took for a patch."""
    trips: list[float] = field(default_factory=list)
    """Of the asking client: from a question to its answer."""
    intervals: list[float] = field(default_factory=list)
    """Of the asking client: from one answer to the next."""
    load_trips: list[float] = field(default_factory=list)
    changes_per_second: float = 0.0
    questions_per_second: float = 0.0
    unanswered: int = 0
    events: int = 0
    service_cpu: float = 0.0
    load_cpu: float = 0.0


def gray(number: int) -> int:
    """The Gray code of a number: that of the next differs in one bit."""
    return number ^ number >> 1


class Writer:
    """Makes the changes."""

    def __init__(self, admin: Client, contents: Contents, rate: float) -> None:
        self._admin = admin
        self._contents = contents
        self._pods = min(contents.pods, GRAY_PODS)
        self._rate = rate / 2
        self._chance = random.Random(1)
        self._states: dict[tuple[int, int], bool] = {}
        self.acknowledged: list[float] = []
        """When each change of the one server was."""
        self.patches: list[float] = []
        self.made = 0

    async def run(self, seconds: float) -> None:
        """Write for so long."""
        end = now() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_one(end))
            for number in range(WRITERS):
                group.create_task(self._write_others(end, number))

    async def _write_one(self, end: float) -> None:
        due = now()
        while (due := max(due + 1 / self._rate, now())) < end:
            await asyncio.sleep(due - now())
            code, before = gray(len(self.acknowledged) + 1), gray(len(self.acknowledged))
            pod = (code ^ before).bit_length() - 1
            if pod >= self._pods:  # the code starts anew: from 100…0 back to 0
                pod = self._pods - 1
            await self._switch(ASKED, pod)
            self.acknowledged.append(now())

    async def _write_others(self, end: float, number: int) -> None:
        every = WRITERS / self._rate
        due = now() + every * number / WRITERS
        while due < end:
            await asyncio.sleep(max(0.0, due - now()))
            server = self._chance.randrange(1, self._contents.servers)
            await self._switch(server, self._chance.randrange(self._contents.pods))
            due += every

    async def _switch(self, server: int, pod: int) -> None:
        """The other state for a pod."""
        active = not self._states.get((server, pod), True)
        self._states[server, pod] = active
        change = [
            {"op": "replace", "path": f"/status/pods/{pod}/presentState", "value": "Active" if active else "Inactive"}
        ]
        began = now()
        await self._admin.patch(TENDPOINTS, name_of(server), change, how="json", subresource="status")
        self.patches.append(now() - began)
        self.made += 1


def states(pods: int, changes: int) -> list[frozenset[int]]:
    """Which pods are active at first and after each change of the one server, as the writer makes them."""
    active = frozenset(range(pods))
    found = [active]
    for number in range(changes):
        pod = min((gray(number + 1) ^ gray(number)).bit_length() - 1, min(pods, GRAY_PODS) - 1)
        active = active ^ {pod}
        found.append(active)
    return found


def first_seen(seen: Sequence[tuple[float, frozenset[int]]], expected: Sequence[frozenset[int]]) -> list[float]:
    """For each change, when the state after it, or a later one, was first seen. SystemExit where one never was."""
    times: list[float] = []
    for came, active in seen:
        try:
            # A state comes again after a whole round of the code; nobody is so far behind.
            number = expected.index(active, len(times), len(times) + 2 ** min(len(expected[0]), GRAY_PODS))
        except ValueError:
            if active in expected[max(0, len(times) - 1) : len(times) + 1]:
                continue
            raise SystemExit(f"a state that never was, after change {len(times)}: {sorted(active)}") from None
        times += [came] * (number + 1 - len(times))
    if len(times) != len(expected):
        raise SystemExit(f"{len(expected) - len(times)} of {len(expected) - 1} changes were never seen")
    return times[1:]


async def measure(
    server: ApiServer, contents: Contents, folder: Path, *, changes: float, questions: float, seconds: float
) -> Run:
    """One run: a service of its own, so many changes and questions a second for so long."""
    kubeconfig = server.kubeconfig(namespace=NAMESPACE)
    async with server.client(namespace=NAMESPACE) as admin:
        await _all_active(admin, contents)
        with service(kubeconfig, contents, folder) as running:
            await asyncio.to_thread(running.wait_ready)
            watcher = Helper(
                "watcher",
                *("--port", server.port, "--ca", server.ca_file, "--token", server.tokens["admin"]),
                *("--path", TENDPOINTS.path(NAMESPACE), "--name", name_of(ASKED)),
            )
            poller = Helper("poller", "--port", running.port, "--id", object_id(ASKED), "--pause", 0.0003)
            load = Helper(
                "load",
                *("--port", running.port, "--rate", questions, "--connections", 50),
                *("--objects", min(1000, contents.servers - 1)),
            )
            async with watcher, poller, load:
                await asyncio.sleep(SETTLE)
                writer = Writer(admin, contents, changes)
                began, processor = now(), running.cpu_seconds()
                await writer.run(seconds)
                took, processor = now() - began, running.cpu_seconds() - processor
                await asyncio.sleep(SETTLE)
                loaded, polled, watched = await load.finish(), await poller.finish(), await watcher.finish()
    expected = states(contents.pods, len(writer.acknowledged))
    at_watcher = first_seen([(-math.inf, expected[0]), *_watched(watched)], expected)
    at_client = first_seen(_polled(polled), expected)
    run = Run(
        watched=_ms(seen - ack for seen, ack in zip(at_watcher, writer.acknowledged, strict=True)),
        answered=_ms(seen - ack for seen, ack in zip(at_client, writer.acknowledged, strict=True)),
        difference=_ms(client - bare for client, bare in zip(at_client, at_watcher, strict=True)),
        patches=_ms(writer.patches),
        trips=_ms(polled["trips"]),
        intervals=_ms(polled["intervals"]),
        load_trips=_ms(loaded["trips"]),
    )
    run.changes_per_second = writer.made / took
    run.questions_per_second = loaded["asked"] / loaded["seconds"]
    run.unanswered = loaded["asked"] - loaded["answered"]
    run.events = watched["events"]
    run.service_cpu, run.load_cpu = processor / took, loaded["cpu_seconds"] / loaded["seconds"]
    return run


async def _all_active(admin: Client, contents: Contents) -> None:
    """Undo what an earlier run left of the one server."""
    pods = (await admin.get(TENDPOINTS, name_of(ASKED)))["status"]["pods"]
    assert len(pods) == contents.pods
    change = {"status": {"pods": [{**pod, "presentState": "Active"} for pod in pods]}}
    await admin.patch(TENDPOINTS, name_of(ASKED), change, subresource="status")


def _watched(said: Any) -> list[tuple[float, frozenset[int]]]:
    return [(came, frozenset(n for n, active in enumerate(pods) if active)) for came, pods in said["seen"]]


def _polled(said: Any) -> list[tuple[float, frozenset[int]]]:
    # POD.OBJECT, the pod's name ending in its number
    return [
        (came, frozenset(int(host.partition(".")[0].rpartition("-")[2]) for host in hosts))
        for came, hosts in said["seen"]
    ]


def _ms(seconds: Iterable[float]) -> list[float]:
    return [1000 * each for each in seconds]
