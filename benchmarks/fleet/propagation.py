"""From a report to one registry to the answer of another, without what the controller between them takes."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks.cluster.numbers import Figure, percentile
from benchmarks.fleet.fleet import PID, Fleet, object_of, server_of
from tests.cluster.support_service import Registry
from tests.cluster.tars_controller import TarsController, object_name

TARGET: Final = 100.0
CHANGES_WITHIN: Final = 10.0
ASKS_EVERY: Final = 0.001
PAUSE: Final = 0.05


async def propagation(fleet: Fleet, registries: list[Registry], controller: TarsController, count: int) -> list[Figure]:
    """One pod after the other changes its state; seconds until a registry that it did not report to says so.

    The controller's part is from when it saw the pod's change until its write was answered.
    """
    clock = asyncio.get_running_loop().time
    whole, theirs, answered = [], [], []
    for name in fleet.chance.choices(fleet.names(), k=count):
        own = fleet.registry_of(name)
        other = registries[(own + 1) % len(registries)]
        present = "Deactivating" if fleet.last[name] == "Active" else "Active"
        address = f"{fleet.addresses[name]}:18100"
        server = object_name("Bench", server_of(name))
        fleet.states += 1
        fleet.last[name] = present
        began = clock()

        async def report(name: str = name, present: str = present, began: float = began) -> float:
            async with fleet.tarsnode(name) as node:
                await node.report(name, "Active", present, PID)
            return clock() - began

        reporting = asyncio.create_task(report())
        async with asyncio.timeout(CHANGES_WITHIN):
            while True:
                answer = await other.ask(object_of(name))
                if (address in answer.active) == (present == "Active"):
                    break
                await asyncio.sleep(ASKS_EVERY)
        changed = clock()
        answered.append(1000 * await reporting)
        # Where the answer was faster than the end of the write, that is no part of what it took.
        seen, written = controller.seen_at[name], max(began, controller.written_at.get(server, 0.0))
        if written == began:
            written = changed
        whole.append(1000 * (changed - began))
        theirs.append(1000 * (seen - began + max(0.0, changed - written)))
        await asyncio.sleep(PAUSE)
    figures = []
    for what, values, target in (
        ("a caller's wait", answered, None),
        ("until another registry answers so", whole, None),
        ("the same without the controller's part", theirs, TARGET),
    ):
        for share in (50, 99):
            goal = target if share == 99 else None
            figures.append(Figure(f"one report: {what}, p{share}", "ms", [percentile(values, share)], goal))
    return figures
