"""Connections that are open are moved to the groups that their callers are in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from registry.answers import Answers
from registry.routing.policy import Policy
from registry.sources.policy_document import read_policy
from registry.sources.scopes import Scopes
from registry.sources.supervise import supervise
from registry.table import TableStore
from tars_protocol.connection import Connection
from tars_protocol.handlers import Caller, unknown
from tests.support.virtual_time import in_virtual_time

GROUPED = Policy(read_policy("groups: [{id: 1, addresses: [10.0.0.0/8]}]"))


def connection() -> Connection:
    async def nobody(*_: object) -> None:
        """Nothing is asked."""

    return Connection(Caller("10.0.0.1", 1, "10.0.0.2", 2), nobody, unknown, scope=b"old")  # type: ignore[arg-type]


@in_virtual_time
async def test_all_are_moved_though_many_and_some_leave_meanwhile() -> None:
    answers = Answers(TableStore())
    there = [connection() for _ in range(1000)]
    scopes = Scopes(answers, lambda: list(there))
    task = asyncio.create_task(scopes.run())
    await asyncio.sleep(10)
    answers.route(GROUPED, {})
    scopes.moved()
    for _ in range(2):
        await asyncio.sleep(0)
    del there[::2]
    await asyncio.sleep(2)
    assert {each.scope for each in there} == {answers.scope(there[0].caller)}
    assert there[0].scope.startswith(b"\xff")
    task.cancel()
    await asyncio.wait([task])


@in_virtual_time
async def test_answers_are_told_that_pods_moved() -> None:
    answers = Answers(TableStore())
    told = asyncio.Event()
    answers.pods_moved = told.set  # type: ignore[method-assign]
    scopes = Scopes(answers, list)
    task = asyncio.create_task(scopes.run())
    await asyncio.sleep(10)
    told.clear()
    scopes.moved()
    await asyncio.wait_for(told.wait(), 2)
    task.cancel()
    await asyncio.wait([task])


@in_virtual_time
async def test_a_run_after_one_that_ended_in_the_middle_moves_the_rest() -> None:
    answers = Answers(TableStore())
    answers.route(GROUPED, {})
    there = [connection() for _ in range(5)]
    broken = [True]

    def connections() -> Iterator[Connection]:
        yield there[0]
        if broken:
            broken.clear()
            raise RuntimeError("a bug")
        yield from there[1:]

    scopes = Scopes(answers, connections)
    scopes.moved()
    task = asyncio.create_task(supervise("scopes", scopes.run, lambda _: None, lambda: None))
    await asyncio.sleep(10)
    assert all(each.scope.startswith(b"\xff") for each in there)
    task.cancel()
    await asyncio.wait([task])
