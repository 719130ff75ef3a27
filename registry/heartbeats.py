"""Port 17891 put together: what tarsnodes ask and report, and where it goes.

In a cluster states go to the pods' conditions; with a directory of manifests they are held in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from registry.admin.view import Reports
from registry.config import Config
from registry.kube.conditions import GET_PODS, PATCH_STATUS
from registry.kube.events import CREATE_EVENTS, PodEvents
from registry.kube.resource import Writing
from registry.kube.rights import Rights
from registry.kube.writer import Writer
from registry.model import PodState
from registry.servants.audit import Audit
from registry.servants.descriptors import Descriptors
from registry.servants.memory_states import MemoryStates
from registry.servants.own_readiness import OwnReadiness
from registry.servants.pod_states import PodStates
from registry.servants.registry import registry_servants
from registry.servants.states import StateReports, States
from registry.table import TableStore
from tars_protocol.dispatch import Servant

Run = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Cluster:
    """What writes to a cluster."""

    writer: Writer
    rights: Rights
    events: PodEvents
    own: OwnReadiness | None


@dataclass(slots=True)
class Heartbeats:
    """The ``servants`` of the port, and ``tasks``, by name, that are to be kept going."""

    servants: dict[str, Servant]
    tasks: dict[str, Run]
    _reports: StateReports
    _descriptors: Descriptors
    _audit: Audit
    _memory: MemoryStates | None = None
    _cluster: _Cluster | None = field(default=None)

    async def leave(self) -> None:
        """Tell the cluster that this registry is about to stop, while the tasks still run."""
        if self._cluster and self._cluster.own:
            await self._cluster.own.leave()

    async def finish(self, patience: Run) -> None:
        """Wait until the states that are queued are written, while the tasks still run, or until ``patience`` ends.

        Callers were told that they would be.
        """
        if self._cluster:
            await self._cluster.writer.finish(patience)

    def states(self) -> list[PodState] | None:
        """The states that are held here; None where the cluster has them."""
        return self._memory.states() if self._memory else None

    def shown(self) -> Reports:
        """How it is, for metrics."""
        cluster = self._cluster
        return Reports(
            outcomes=self._reports.outcomes + (cluster.writer.unheard if cluster else Counter()),
            descriptors_refused=Counter(self._descriptors.refused),
            audit_lines_left_out=self._audit.left_out,
            queued=cluster.writer.queued if cluster else 0,
            oldest=cluster.writer.oldest if cluster else 0.0,
            requests=Counter(cluster.writer.requests) if cluster else Counter(),
            errors=Counter(cluster.writer.errors) if cluster else Counter(),
            events=Counter(cluster.events.counts) if cluster else Counter(),
            missing_rights=tuple(cluster.rights.missing) if cluster else (),
        )


def without_cluster(config: Config, store: TableStore) -> Heartbeats:
    """Without a cluster."""
    audit = Audit()
    memory = MemoryStates(audit)
    return _put_together(config, store, memory, audit, {}, memory=memory)


def with_cluster(config: Config, store: TableStore, api: Writing, own: str, namespaces: Sequence[str]) -> Heartbeats:
    """With a cluster: ``own`` is the namespace of this registry's pod, ``namespaces`` are those of the servers."""
    settings, pod = config.writer, config.service.chosen_pod_name
    audit = Audit()
    everywhere = dict.fromkeys((*namespaces, own) if pod else namespaces)
    rights = Rights(api, (GET_PODS, PATCH_STATUS, CREATE_EVENTS), everywhere, settings)
    writer = Writer(api, rights, settings, config.reflector)
    events = PodEvents(api, rights, settings, pod)
    states = PodStates(writer, store, namespaces, audit, events)
    tasks: dict[str, Run] = {"the rights": rights.run, "the writer": writer.run, "the events": events.run}
    readiness = OwnReadiness(writer, store, own, pod, config.states) if pod else None
    if readiness:
        tasks["the own readiness"] = readiness.run
    return _put_together(config, store, states, audit, tasks, cluster=_Cluster(writer, rights, events, readiness))


def _put_together(
    config: Config,
    store: TableStore,
    states: States,
    audit: Audit,
    tasks: dict[str, Run],
    memory: MemoryStates | None = None,
    cluster: _Cluster | None = None,
) -> Heartbeats:
    descriptors = Descriptors(lambda: store.table, config.profile)
    reports = StateReports(states, config.states)
    servants = registry_servants(descriptors, reports)
    return Heartbeats(servants, tasks, reports, descriptors, audit, memory, cluster)
