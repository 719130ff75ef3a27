"""What a change of the routing policy can change, so that all else that was made from the old one is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from registry.model import Server
from registry.routing.groups import Prefix, Prefixes, Rule
from registry.routing.policy import NO_POLICY, Policy

_REMEMBERED: Final = 8
"""Changes that are remembered: what was not looked at since an older one is taken to be touched."""


class PolicyChange:
    """What may be another under a new policy than under an old one; all else is spared."""

    __slots__ = (
        "_groups",
        "_names",
        "_nodes",
        "_prefixes",
        "_same",
        "_stations",
        "_whole",
        "callers_by_address",
        "callers_by_request",
    )

    def __init__(self, old: Policy, new: Policy) -> None:
        self._whole = old.empty != new.empty or old.everywhere != new.everywhere
        changed: set[tuple[Prefix, int]] = set()
        if old.document is not new.document:
            before, after = ({group.id: group.prefixes for group in p.document.groups} for p in (old, new))
            for number in before.keys() | after.keys():
                ours, theirs = before.get(number, ()), after.get(number, ())
                if ours != theirs:
                    changed |= {(prefix, number) for prefix in set(ours) ^ set(theirs)}
        self._prefixes = Prefixes(Rule(prefix, group) for prefix, group in changed)
        self._names = _differing(old.ids, new.ids)
        self._nodes = _differing(old.zones, new.zones)
        self._stations = _differing(old.stations, new.stations)
        if bool(old.stations) != bool(new.stations):
            self._whole = True  # an unknown station is refused only where there are any
        self._groups = frozenset(
            group
            for group in {*old.groups, *new.groups}
            if (group in old.groups) != (group in new.groups)
            or self._steps(old, group) != self._steps(new, group)
            or not self._stations.isdisjoint(self._steps(new, group))
        )
        self.callers_by_request = (
            old._sets != new._sets or old._node_names != new._node_names or bool(self._prefixes) or bool(self._nodes)
        )
        """True where a caller that is known by what its requests say may be in another group."""
        self.callers_by_address = bool(self._prefixes) or bool(self._nodes)
        """True where a caller that is known by its address may be in another group."""
        self._same = not (self._whole or self._prefixes or self._names or self._nodes or self._stations or self._groups)

    @staticmethod
    def _steps(policy: Policy, group: int) -> list[str]:
        """The names of a group's priorities: what they hold is compared once, not for each group in it."""
        return [name for name, _ in policy.priorities_of(group)]

    def spares(self, servers: Iterable[Server], group: int, station: str | None) -> bool:
        """True where the answer about these servers to a caller of a group, or about a station, is surely the same."""
        if self._same:
            return True
        if self._whole or group in self._groups or station in self._stations:
            return False
        for server in servers:
            if self._names and server.routing is not None and server.routing.group_name in self._names:
                return False
            for pod in server.pods:
                if self._nodes and (pod.host_ip in self._nodes or pod.pod_ip in self._nodes):
                    return False
                if self._prefixes and self._prefixes.find(pod.pod_ip) is not None:
                    return False
        return True


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> frozenset[str]:
    return frozenset(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


class PolicyHistory:
    """The policy that counts now, and its last changes."""

    __slots__ = ("_changes", "count", "policy")

    def __init__(self) -> None:
        self.policy = NO_POLICY
        self.count = 0
        """How often it was changed."""
        self._changes: deque[PolicyChange] = deque(maxlen=_REMEMBERED)

    def change(self, policy: Policy) -> PolicyChange:
        """Another policy from now on."""
        change = PolicyChange(self.policy, policy)
        self.policy = policy
        self.count += 1
        self._changes.append(change)
        return change

    def spared_since(self, count: int, servers: Iterable[Server], group: int, station: str | None) -> bool:
        """True where no change since there were so many touches such an answer (see :meth:`PolicyChange.spares`)."""
        changes = self.count - count
        if changes > len(self._changes):
            return False
        servers = tuple(servers)
        return all(change.spares(servers, group, station) for change in list(self._changes)[-changes:])
