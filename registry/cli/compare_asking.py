"""Asks two registries the same questions, many at once, and again where that may help.

What differs at first may be a change that one registry knows and the other will in a moment; what is not answered may
be a connection that was lost. So both are asked again, after a pause, and only what the last round finds counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from jce import EncodeError
from registry.cli.compare_answers import Answer, Difference, differences
from registry.cli.errors import CommandError
from registry.config import ListenAddress
from registry.routing.select import Lookup
from tars_protocol.aio.client import Client, ClientSettings
from tars_protocol.bodies import FORMS
from tars_protocol.constants import ReturnCode, Version
from tars_protocol.errors import CallError, CallTimeout, NotConnected
from tars_protocol.interfaces.query import QUERY, SERVANT

_FIRST_PAUSE: Final = 0.5
"""Seconds before all is asked again; twice that before the next time."""

_SILENCE: Final = 10.0
"""Seconds (two time-outs at least) without any answer, after which a registry is taken to be gone."""

_MOST_UNANSWERED: Final = 20
"""Objects that are still not answered when they are asked for one at a time; with more it is given up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked and how: each function with its second argument, if it has one.

    ``ignored`` are kinds of differences and names of fields. ``concurrency``: objects at once; ``retries``: further
    rounds.
    """

    functions: Sequence[tuple[Lookup, str | None]]
    ignored: Sequence[str] = ()
    version: Version = Version.TARS
    timeout: float = 3.0
    concurrency: int = 16
    retries: int = 2


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question that a registry did not answer, and why."""

    registry: str
    function: Lookup
    reason: str
    too_late: bool


@dataclass(slots=True)
class Outcome:
    """What came of it, by object id. Objects in neither are answered alike by both."""

    asked: int = 0
    different: dict[str, dict[Difference, list[Lookup]]] = field(default_factory=dict)
    unanswered: dict[str, list[Unanswered]] = field(default_factory=dict)


Progress = Callable[[int, int, Outcome], None]
"""Told how many objects of how many were asked for in this round, and what was found so far."""


async def compare(
    names: tuple[str, str],
    addresses: tuple[ListenAddress, ListenAddress],
    plan: Plan,
    ids: Iterable[str],
    tell: Progress,
) -> Outcome:
    """Ask two registries for all these objects. Raises CommandError where a registry can't be asked at all."""
    objects = list(dict.fromkeys(ids))
    _check(objects, plan)
    settings = ClientSettings(timeout=plan.timeout, first_retry=0)
    clients = [
        Client(address.host or "127.0.0.1", address.port, SERVANT, QUERY, version=plan.version, settings=settings)
        for address in addresses
    ]
    async with clients[0], clients[1]:
        pair = _Asked(names[0], clients[0], plan), _Asked(names[1], clients[1], plan)
        await asyncio.gather(*(each.reach() for each in pair))
        return await _Rounds(*pair, plan, tell).run(objects)


def _check(objects: Iterable[str], plan: Plan) -> None:
    """Raise CommandError for what no request can hold."""
    for object_id in objects:
        for lookup, argument in plan.functions:
            arguments = (object_id,) if argument is None else (object_id, argument)
            try:
                FORMS[plan.version].encode(QUERY[lookup].inputs, arguments)
            except EncodeError as error:
                raise CommandError(f"{object_id!r} can't be asked for: {error}") from None


class _Asked:
    """One of the two registries."""

    def __init__(self, name: str, client: Client, plan: Plan) -> None:
        self.name = name
        self._client = client
        self._plan = plan
        self._answered = 0.0
        self.gone = ""
        """Why it is not to be asked any more."""

    async def reach(self) -> None:
        """See that it is there. Raises CommandError."""
        attempts = self._plan.retries + 1
        for attempt in range(attempts):
            try:
                await self._client.ping()
                break
            except CallError as error:
                if _is_answer(error):
                    break
                if attempt + 1 == attempts:
                    raise CommandError(f"{self.name}: {error}") from None
            await asyncio.sleep(_FIRST_PAUSE * 2**attempt)
        self._answered = asyncio.get_running_loop().time()

    async def ask(self, lookup: Lookup, object_id: str, argument: str | None) -> Answer | Unanswered:
        """Its answer."""
        arguments = (object_id,) if argument is None else (object_id, argument)
        now = asyncio.get_running_loop().time
        try:
            results = await self._client.call(lookup, *arguments)
        except CallError as error:
            if not _is_answer(error):
                if now() - self._answered > max(_SILENCE, 2 * self._plan.timeout):
                    self.gone = self.gone or f"{self.name}: no answer for {now() - self._answered:.0f} s: {error}"
                return Unanswered(self.name, lookup, str(error), isinstance(error, CallTimeout))
            answer = Answer(error.code, error.description)
        else:
            answer = Answer(active=results[0]) if lookup is Lookup.ACTIVE else Answer(0, "", *results)
        self._answered = now()
        return answer


def _is_answer(error: CallError) -> bool:
    """True for a return code that the registry sent; the others come from this end."""
    return not isinstance(error, CallTimeout | NotConnected) and error.code != ReturnCode.CLIENT_DECODE


T = TypeVar("T")


def _keep(kept: dict[str, T], object_id: str, new: T) -> None:
    """Note what was found of an object, or that it was nothing."""
    if new:
        kept[object_id] = new
    else:
        kept.pop(object_id, None)


class _Rounds:
    """All questions, some of them several times."""

    def __init__(self, first: _Asked, second: _Asked, plan: Plan, tell: Progress) -> None:
        self._pair = first, second
        self._plan = plan
        self._tell = tell
        self._outcome = Outcome()
        self._done = 0
        self._of = 0

    async def run(self, objects: Sequence[str]) -> Outcome:
        """Ask for everything, then again for what was different or not answered."""
        self._outcome.asked = len(objects)
        await self._round(objects)
        pause = _FIRST_PAUSE
        for _ in range(self._plan.retries):
            again, alone = list(self._outcome.different), list(self._outcome.unanswered)
            if not again and not alone:
                break
            await asyncio.sleep(pause)
            pause *= 2
            await self._round([each for each in again if each not in self._outcome.unanswered])
            # One bad answer ends the connection, and with it the questions that are under way on it. So these are
            # asked one at a time: what is not answered then is at fault itself.
            await self._one_at_a_time(alone)
        order = {object_id: number for number, object_id in enumerate(objects)}
        self._outcome.different = dict(sorted(self._outcome.different.items(), key=lambda item: order[item[0]]))
        return self._outcome

    async def _round(self, objects: Sequence[str]) -> None:
        self._start(objects)
        waiting = iter(objects)
        await asyncio.gather(*(self._work(waiting) for _ in range(min(self._plan.concurrency, len(objects)))))
        self._give_up_if_gone()

    async def _one_at_a_time(self, objects: Sequence[str]) -> None:
        self._start(objects)
        bad = 0
        for object_id in objects:
            await self._object(object_id, alone=True)
            self._give_up_if_gone()
            bad += object_id in self._outcome.unanswered
            if bad > _MOST_UNANSWERED:
                problem = self._outcome.unanswered[object_id][0]
                raise CommandError(
                    f"{problem.registry}: more than {_MOST_UNANSWERED} objects are not answered, asked for one at a "
                    f"time; the last of them is {object_id}: {problem.reason}"
                )

    def _start(self, objects: Sequence[str]) -> None:
        self._done, self._of = 0, len(objects)

    def _give_up_if_gone(self) -> None:
        for each in self._pair:
            if each.gone:
                raise CommandError(each.gone)

    async def _work(self, waiting: Iterable[str]) -> None:
        for object_id in waiting:
            await self._object(object_id, alone=False)
            if any(each.gone for each in self._pair):
                return
            if object_id in self._outcome.unanswered:
                # A registry that is started anew needs a moment; until then all questions would be spent on it.
                await asyncio.sleep(_FIRST_PAUSE)

    async def _object(self, object_id: str, *, alone: bool) -> None:
        """Ask both for an object, and note what comes of it."""
        answers: dict[Lookup, tuple[Answer, Answer]] = {}
        problems: list[Unanswered] = []

        async def ask(lookup: Lookup, argument: str | None) -> None:
            first, second = await asyncio.gather(*(each.ask(lookup, object_id, argument) for each in self._pair))
            if isinstance(first, Answer) and isinstance(second, Answer):
                answers[lookup] = first, second
            problems.extend(each for each in (first, second) if isinstance(each, Unanswered))

        if alone:
            for question in self._plan.functions:
                await ask(*question)
                if any(problem.too_late for problem in problems):
                    break
        else:
            await asyncio.gather(*(ask(*question) for question in self._plan.functions))
        self._done += 1
        found = differences(answers, self._plan.ignored)
        _keep(self._outcome.different, object_id, found)
        _keep(self._outcome.unanswered, object_id, problems)
        self._tell(self._done, self._of, self._outcome)
