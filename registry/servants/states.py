"""updateServerState: what a tarsnode reports of its server, checked and handed to whatever keeps states."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Protocol

from registry.kube.fair import Shares
from registry.kube.pods import is_pod_name
from registry.kube.reports import Outcome
from registry.model import ACTIVE
from tars_protocol.constants import ReturnCode
from tars_protocol.dispatch import Call
from tars_protocol.errors import CallError
from tars_protocol.handlers import Caller
from tars_protocol.interfaces.registry import PID_KEY
from tars_protocol.settings import setting

log = logging.getLogger(__name__)

ACTIVE_CONDITION: Final = "tars.io/active"
"""The condition of a pod that its readiness gate looks at, and in whose reason a report is kept."""

_MAX_LENGTH: Final = 64
"""Characters of a state or process id; the longest state in use has twelve."""

_MAX_SHOWN: Final = 260
"""Characters of a caller's text that go into a log line or an answer: room for the longest name of a pod."""


@dataclass(frozen=True, slots=True)
class StateSettings:
    """How reports are answered."""

    report_timeout: float = setting(
        3.5,
        "A tarsnode that reports waits so long for its state to be written, and is then told that it is not yet: its "
        "own time-out is 6 s, and 2,000 that are told so in one moment take a second, more on a slow machine. The "
        "state is written all the same.",
        unit="seconds",
        minimum=0.1,
    )
    max_waiting_reports: int = setting(
        2_000,
        "Tarsnodes that wait at a time. More are told at once that their state is queued, first those behind the "
        "address that has the most of them: so many answers are never under way (max_in_flight) that a report could "
        "not even be queued.",
        minimum=1,
    )
    readiness_interval: float = setting(
        420.0,
        "The registry's own condition tars.io/active is looked at again so often, as tarsnodes do with theirs, so that "
        "whatever happened to it is mended.",
        unit="seconds",
        minimum=1,
    )
    leave_timeout: float = setting(
        2.0,
        "A registry that is stopped waits so long for its own condition to be cleared, before which nothing else is "
        "written.",
        unit="seconds",
        minimum=0,
    )


@dataclass(frozen=True, slots=True)
class StateReport:
    """A report: the states as they are set and as they are, the process id ("": not said), and who says so."""

    pod: str
    setting: str
    present: str
    pid: str
    caller: Caller

    @property
    def active(self) -> bool:
        """True where the pod is meant to serve and does."""
        return self.setting == ACTIVE and self.present == ACTIVE

    @property
    def reason(self) -> str:
        """How it is kept: setting/present/pid."""
        return "/".join((self.setting, self.present, *([self.pid] if self.pid else [])))


class States(Protocol):
    """Where states go."""

    @property
    def problem(self) -> str:
        """Why nothing is kept now; "" while all is well."""

    def report(self, report: StateReport) -> asyncio.Future[Outcome]:
        """Keep a state. Whoever does not wait for the answer, and cancels it, does not take that back."""

    def refuse(self, report: StateReport, reason: str, text: str) -> None:
        """Note a report that was refused before it came to that."""


class StateReports:
    """Answers updateServerState. ``outcomes`` counts reports by what became of them."""

    def __init__(self, states: States, settings: StateSettings | None = None) -> None:
        self._states = states
        self._settings = settings or StateSettings()
        self._waiting: Shares[asyncio.Future[Outcome]] = Shares()
        self.outcomes: Counter[str] = Counter()

    async def answer(self, call: Call) -> tuple[Any, ...]:
        """The implementation of updateServerState(pod, setting, present). Raises CallError (-99)."""
        pod, setting_state, present = call.arguments
        pid = call.request.context.get(PID_KEY, "")
        report = StateReport(pod, setting_state, present, pid, call.caller)
        if problem := _problem(report):
            reason, text = problem
            self.outcomes[reason] += 1
            self._states.refuse(report, reason, text)
            raise CallError(ReturnCode.UNKNOWN, text)
        answer = await self._wait(self._states.report(report), call.caller.peer)
        if answer is None:
            raise self._late(pod)
        self.outcomes[answer.word] += 1
        if answer.error:
            raise CallError(ReturnCode.UNKNOWN, answer.error)
        return ()

    async def _wait(self, pending: asyncio.Future[Outcome], peer: str) -> Outcome | None:
        """What became of a report; None where that takes too long, or others may wait rather than this one."""
        if pending.done():
            return pending.result()
        if len(self._waiting) >= self._settings.max_waiting_reports:
            # Whoever is cancelled so is told that it takes too long.
            surplus = self._waiting.surplus(peer)
            if surplus is None:
                pending.cancel()
                return None
            self._waiting.discard(*surplus)
            surplus[1].cancel()
        self._waiting.add(peer, pending)
        try:
            done, _ = await asyncio.wait([pending], timeout=self._settings.report_timeout)
        finally:
            self._waiting.discard(peer, pending)
            pending.cancel()
        return pending.result() if done and not pending.cancelled() else None

    def _late(self, pod: str) -> CallError:
        self.outcomes["late"] += 1
        problem = self._states.problem or "too much is to be written"
        log.warning("the state of a pod is not written yet: %s", problem)
        return CallError(ReturnCode.UNKNOWN, f"the state of {pod} is not written yet, but will be: {problem}")


def _problem(report: StateReport) -> tuple[str, str] | None:
    """Why a report can't be kept: a word, and a text."""
    if not is_pod_name(report.pod):
        return "bad_name", f"no pod can be called {shown(report.pod)}"
    for what, text in (("setting state", report.setting), ("present state", report.present), ("PID", report.pid)):
        if "/" in text:
            return "bad_state", f"{what} {shown(text)}: a slash would shift the parts of the reason"
        if len(text) > _MAX_LENGTH:
            return "bad_state", f"{what} {shown(text)}: more than {_MAX_LENGTH} characters"
        try:
            text.encode()
        except UnicodeEncodeError:
            return "bad_state", f"{what} {shown(text)}: no UTF-8"
    return None


def shown(text: str) -> str:
    """A caller's text in quotes, in one line, of a bounded length, as what UTF-8 can hold."""
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")
