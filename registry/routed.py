"""Routing put together: the policy from its file or ConfigMap, the zones of nodes, and connections that follow both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from registry.answers import Answers
from registry.config import Config
from registry.explain import Explainer, Explanation
from registry.model import Kind, SourceStatus
from registry.routing.hosts import Naming
from registry.sources.base import SourceError
from registry.sources.kubernetes import NODES, Followed, KubernetesSource
from registry.sources.pod_hosts import PodHosts
from registry.sources.policy_file import PART as POLICY_FILE
from registry.sources.policy_file import PolicyFile
from registry.sources.routing_keeper import RoutingKeeper
from registry.sources.scopes import Scopes
from registry.table import Part, TableStore
from tars_protocol.connection import Connection

Run = Callable[[], Awaitable[None]]


def check_policy(config: Config, *, in_cluster: bool) -> None:
    """Raise SourceError where the policy can't be had as it is configured."""
    settings = config.routing
    if settings.routing_policy_configmap and not in_cluster:
        raise SourceError(
            "--routing-policy-configmap goes with the kubernetes source; name a file with --routing-policy"
        )
    if settings.routing_policy and settings.routing_policy_configmap:
        raise SourceError("--routing-policy and --routing-policy-configmap: name one of them")
    if settings.routing_policy:
        PolicyFile(settings.routing_policy, TableStore(), config.directory).check()


def policy_in_cluster(config: Config, namespace: str) -> list[Followed]:
    """The ConfigMap that is to be followed, if one is; in ``namespace`` where it is named without."""
    chosen, _, name = config.routing.routing_policy_configmap.rpartition("/")
    return [Followed(Kind.POLICY, chosen or namespace, optional=True, name=name)] if name else []


def kept_parts(config: Config, *, in_cluster: bool) -> list[Part]:
    """What a snapshot keeps beside what the sources are awaited for."""
    parts = [POLICY_FILE] if config.routing.routing_policy else []
    if in_cluster and config.routing.configured:
        parts.append(NODES.part)  # the policy may want them
    return parts


class Routed:
    """Routing at work. ``tasks``, by name, are to be kept going; ``statuses`` tell how it is.

    ``source`` is asked to follow what a policy wants of a cluster, where it is the one that can.
    """

    def __init__(
        self,
        config: Config,
        store: TableStore,
        answers: Answers,
        naming: Naming,
        source: object,
        connections: Callable[[], Iterable[Connection]],
    ) -> None:
        self._store = store
        self._source = source
        self._explainer = Explainer(store, answers, naming)
        self.tasks: dict[str, Run] = {}
        self.statuses: list[SourceStatus] = []
        if not config.routing.configured:
            return
        scopes = Scopes(answers, connections)
        where = (
            f"ConfigMap {config.routing.routing_policy_configmap}"
            if config.routing.routing_policy_configmap
            else str(config.routing.routing_policy)
        )
        keeper = RoutingKeeper(store, answers, scopes.moved, self._follow_topology, where)
        self.tasks = {"the routing policy": keeper.run, "callers' groups": scopes.run}
        self.statuses = [keeper.status]
        if config.routing.routing_policy:
            store.also_await(POLICY_FILE)
            self.tasks["the policy file"] = PolicyFile(config.routing.routing_policy, store, config.directory).run

    def explain(self, parameters: Mapping[str, str]) -> Explanation:
        """What a caller would be answered and why (see :meth:`Explainer.page`). Raises ValueError."""
        return self._explainer.page(parameters)

    def _follow_topology(self, hosts: PodHosts) -> str | None:
        """Have the nodes in the table, and where pods are; why not, where that can't be."""
        if not isinstance(self._source, KubernetesSource):
            return "nodes are known from the kubernetes source only"
        self._store.also_await(NODES.part)
        self._source.follow_topology(hosts)
        return None
