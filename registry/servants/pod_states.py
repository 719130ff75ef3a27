"""States in a cluster: each becomes the condition ``tars.io/active`` of its pod."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from registry.kube.events import PodEvents
from registry.kube.pods import Condition
from registry.kube.reports import Outcome, Result, Wanted
from registry.kube.writer import Writer
from registry.servants.audit import Audit
from registry.servants.states import ACTIVE_CONDITION, StateReport, shown
from registry.table import ServerKey, TableStore

EVENT_REASON: Final = "TarsStateRefused"
MESSAGE: Final = "reported by the pod's tarsnode"


class PodStates:
    """Hands reports to the writer, and tells what became of each."""

    def __init__(
        self,
        writer: Writer,
        store: TableStore,
        namespaces: Sequence[str],
        audit: Audit,
        events: PodEvents | None = None,
    ) -> None:
        self._addresses = _Addresses(store)
        self._namespaces = tuple(namespaces)
        self._audit = audit
        self._events = events
        self._writer = writer
        writer.subscribe(self._done)

    @property
    def problem(self) -> str:
        """Why nothing is written now."""
        return self._writer.problem

    def report(self, report: StateReport) -> asyncio.Future[Outcome]:
        """Have a state written."""
        peer = report.caller.peer
        namespaces, listed = self._addresses.look(report.pod, peer, self._namespaces)
        condition = Condition(ACTIVE_CONDITION, report.active, report.reason, MESSAGE)
        wanted = Wanted(namespaces, report.pod, condition, peer, listed, report)
        return self._writer.submit(wanted)

    def refuse(self, report: StateReport, reason: str, text: str) -> None:
        """Note a report that was refused before it came to a look at the pod."""
        self._audit.refused(report, reason, text)
        if self._events is None:
            return
        peer = report.caller.peer
        namespaces, listed = self._addresses.look(report.pod, peer, self._namespaces)
        if listed is None:
            # Names can be made up without end, and each would be a look at the API server.
            self._events.leave_out()
        else:
            self._events.warn_of(namespaces, report.pod, EVENT_REASON, _event_text(report, text), peer)

    def _done(self, wanted: Wanted, outcome: Outcome) -> None:
        """Tell of what became of a report, in the audit log and as an Event of the pod."""
        report = wanted.origin
        if not isinstance(report, StateReport):
            return
        if outcome.result is Result.WRITTEN:
            where = f"{outcome.namespace}/{report.pod}"
            self._audit.written(report, outcome.before, where, outcome.suspect)
        elif outcome.result is Result.REFUSED:
            self._audit.refused(report, outcome.reason, outcome.text)
            if outcome.pod is not None and self._events is not None:
                self._events.warn(outcome.pod, EVENT_REASON, _event_text(report, outcome.text), report.caller.peer)


def _event_text(report: StateReport, why: str) -> str:
    return f"state {shown(report.reason)} reported from {report.caller}: {why}"


class _Addresses:
    """The addresses of pods as the table has them, by name. What changes in it is taken over when somebody asks."""

    def __init__(self, store: TableStore) -> None:
        self._store = store
        self._changed: set[ServerKey] = set(store.table.servers)
        self._names: dict[ServerKey, list[str]] = {}
        self._places: dict[str, dict[ServerKey, list[tuple[str, str]]]] = {}
        """By name of a pod and server: namespaces and addresses."""
        store.subscribe(lambda change: self._changed.update(change.servers))

    def look(self, pod: str, peer: str, namespaces: tuple[str, ...]) -> tuple[tuple[str, ...], bool | None]:
        """Where a pod may be, the likeliest first, and whether it has an address; None where it is not known."""
        while self._changed:
            self._take_over(self._changed.pop())
        known = [place for places in self._places.get(pod, {}).values() for place in places if place[0] in namespaces]
        here = next((namespace for namespace, address in known if address == peer), None)
        if here is not None:
            return (here,), True
        # Where the table has a pod of that name with another address, it is the least likely.
        others = {namespace for namespace, _ in known}
        return tuple(sorted(namespaces, key=lambda each: each in others)), False if known else None

    def _take_over(self, key: ServerKey) -> None:
        for name in self._names.pop(key, ()):
            self._places[name].pop(key, None)
            if not self._places[name]:
                del self._places[name]
        names: dict[str, None] = {}
        for server in self._store.table.servers.get(key, ()):
            for pod in server.pods:
                names[pod.name] = None
                places = self._places.setdefault(pod.name, {}).setdefault(key, [])
                places.append((server.namespace, pod.pod_ip))
        if names:
            self._names[key] = list(names)
