"""States without a cluster: held in memory and shown, so that a tarsnode on a laptop has somebody to report to."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final

from registry.kube.reports import Outcome, Result
from registry.model import PodState
from registry.servants.audit import Audit
from registry.servants.states import StateReport

_MAX_PODS: Final = 10_000
"""The one not heard of for the longest goes for a new one: here nobody says which pods there are."""


class MemoryStates:
    """The last state of each pod. Nobody is refused: there are no pods to hold an address against."""

    problem = ""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._states: OrderedDict[str, PodState] = OrderedDict()

    def report(self, report: StateReport) -> asyncio.Future[Outcome]:
        """Keep a state."""
        before = self._states.get(report.pod)
        changed = before is None or before.state != report.reason
        self._states[report.pod] = PodState(report.pod, report.reason, report.active, str(report.caller), time.time())
        self._states.move_to_end(report.pod)
        if len(self._states) > _MAX_PODS:
            self._states.popitem(last=False)
        if changed:
            self._audit.written(report, before.state if before else "")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        answer.set_result(Outcome(Result.WRITTEN if changed else Result.UNCHANGED))
        return answer

    def refuse(self, report: StateReport, reason: str, text: str) -> None:
        """Note a report that was refused."""
        self._audit.refused(report, reason, text)

    def states(self) -> list[PodState]:
        """All of them, by name of the pod."""
        return [self._states[name] for name in sorted(self._states)]
