"""The audit log: a line for each state that was written, and for each report that was refused.

They are kept from the limit on log lines: what is written is bounded by the rate of writing, and refusals, which
anybody can bring about, by a limit of their own.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from registry.servants.states import StateReport, shown

log = logging.getLogger("registry.audit")

_EXEMPT: Final = {"unlimited": True}

_REFUSALS: Final = 50
"""Lines about refusals in a second; the next line then says how many were left out."""

_REFUSALS_OF_ONE: Final = 10
"""Of these, lines about what one address reported: it can't hide what others do."""


class Audit:
    """Writes the lines. ``left_out`` counts refusals without one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = 0.0
        self._lines: Counter[str] = Counter()
        """In this second, by address."""
        self._unsaid = 0
        self.left_out = 0

    def written(self, report: StateReport, before: str, where: str = "", suspect: str = "") -> None:
        """A state was written in the place of another. ``suspect``: why the caller should not have been the one."""
        log.info(
            "state of pod %s: %s -> %s, reported from %s%s",
            where or report.pod,
            before or "(none)",
            shown(report.reason),
            report.caller,
            f", though {suspect}" if suspect else "",
            extra=_EXEMPT,
        )

    def refused(self, report: StateReport, reason: str, text: str) -> None:
        """A report was refused."""
        now = self._clock()
        if now - self._second >= 1:
            self._second = now
            self._lines.clear()
        if self._lines.total() >= _REFUSALS or self._lines[report.caller.peer] >= _REFUSALS_OF_ONE:
            self._unsaid += 1
            self.left_out += 1
            return
        self._lines[report.caller.peer] += 1
        unsaid, self._unsaid = self._unsaid, 0
        log.warning(
            "refused (%s): state %s of pod %s, reported from %s: %s%s",
            reason,
            shown(report.reason),
            shown(report.pod),
            report.caller,
            text,
            f" (and {unsaid} more refusals before)" if unsaid else "",
            extra=_EXEMPT,
        )
