"""The routing policy as a value: groups, stations in order of priority, and what a change of it can change.

A :class:`PolicyDocument` is what an operator wrote; a :class:`Policy` is that made ready to be asked, together with the
zones and regions of the cluster's nodes where the document wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from registry.model import Node, Pod, RoutingFacts, Server
from registry.routing.groups import NO_GROUP, Prefixes, Rule
from registry.routing.sets import WILDCARD

MAX_GROUP: Final = 2**31 - 1
"""Group ids go out as an int of the protocol. 0 is what says nothing there."""

_ZONE_IDS: Final = 1 << 30
"""Groups made from zones get numbers from here on, each from its name: the same on every replica, at any time."""


@dataclass(frozen=True, slots=True)
class Group:
    """Addresses (of callers and endpoints) that belong together. ``sets`` and ``node_names`` are of callers only."""

    id: int
    name: str = ""
    rules: tuple[Rule, ...] = ()
    sets: tuple[str, ...] = ()
    node_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Station:
    """A station, which is also a step of priority: its groups by id, or by name where that may be a zone."""

    name: str
    groups: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """What the policy says. ``priorities`` in their order; ``everywhere``: grouping is on for every object."""

    groups: tuple[Group, ...] = ()
    priorities: tuple[Station, ...] = ()
    everywhere: bool = False
    from_topology: bool = False


class Policy:
    """A policy that can be asked. Made once for each document and set of nodes, never changed."""

    __slots__ = (
        "_names",
        "_node_names",
        "_nodes",
        "_prefixes",
        "_priorities",
        "_sets",
        "document",
        "ids",
        "stations",
    )

    def __init__(self, document: PolicyDocument | None = None, nodes: Iterable[Node] = ()) -> None:
        """``nodes`` count where the document wants topology."""
        self.document = document = document or PolicyDocument()
        known = sorted(nodes, key=lambda node: node.name) if document.from_topology else []
        self.ids = {group.name: group.id for group in document.groups if group.name}
        self._names = {group.id: group.name for group in document.groups}
        """Also those without a name."""
        self._add_zones(sorted({node.zone for node in known if node.zone}))
        self._nodes = {address: self.ids[node.zone] for node in known if node.zone for address in node.addresses}
        self._prefixes = Prefixes(rule for group in document.groups for rule in group.rules)
        self._sets = {each: group.id for group in document.groups for each in group.sets}
        self._node_names = {each: group.id for group in document.groups for each in group.node_names}
        self.stations = {station.name: frozenset(self._resolve(station.groups)) for station in document.priorities}
        for region in sorted({node.region for node in known if node.region} - self.stations.keys()):
            zones = {self.ids[node.zone] for node in known if node.region == region and node.zone}
            self.stations[region] = frozenset(zones)
        self._priorities: dict[int, tuple[tuple[str, frozenset[int]], ...]] = {}
        """By caller's group; filled as they are asked for."""

    def _add_zones(self, zones: Iterable[str]) -> None:
        """A group for each zone that no group is named after."""
        for zone in zones:
            if zone not in self.ids:
                number = _ZONE_IDS + crc32(zone.encode()) % _ZONE_IDS
                while number in self._names:  # two names of one number: the next that is free
                    number = _ZONE_IDS + (number + 1) % _ZONE_IDS
                self.ids[zone] = number
                self._names[number] = zone

    def _resolve(self, groups: Iterable[int | str]) -> Iterable[int]:
        for group in groups:
            number = group if isinstance(group, int) else self.ids.get(group)
            if number is not None:  # else a zone that has no node now
                yield number

    @property
    def empty(self) -> bool:
        """True where there is nothing by which callers or endpoints could be told apart."""
        return not self._names and not self.stations

    @property
    def everywhere(self) -> bool:
        """True where grouping is on for every object that does not say otherwise."""
        return self.document.everywhere

    @property
    def groups(self) -> Mapping[int, str]:
        """The names of all groups, by number."""
        return self._names

    def priorities_of(self, group: int) -> tuple[tuple[str, frozenset[int]], ...]:
        """The stations with a group, in order of priority."""
        found = self._priorities.get(group)
        if found is None:
            found = tuple((name, groups) for name, groups in self.stations.items() if group in groups)
            self._priorities[group] = found
        return found

    # -- who is in which group -----------------------------------------------------------------------------------

    def rule_of(self, address: str) -> Rule | None:
        """The rule that an address falls under."""
        return self._prefixes.find(address)

    def group_of_address(self, address: str, host_address: str = "") -> int:
        """The group of an address: by the rules, else by the zone of the node that has it or that it is on."""
        rule = self._prefixes.find(address)
        if rule is not None:
            return rule.group
        if self._nodes:
            zone = self._nodes.get(address)
            return self._nodes.get(host_address, NO_GROUP) if zone is None else zone
        return NO_GROUP

    def group_of_set(self, set_id: str) -> int:
        """The group of callers in a set: that which names it, else that which names its wildcard set."""
        found = self._sets.get(set_id)
        if found is None:
            found = self._sets.get(f"{set_id.rpartition('.')[0]}.{WILDCARD}")
        return NO_GROUP if found is None else found

    def group_of_node_name(self, name: str) -> int:
        """The group of callers that say this node name: that which names it, else as of an address."""
        found = self._node_names.get(name)
        return self.group_of_address(name) if found is None else found

    def real_group(self, facts: RoutingFacts | None, pod: Pod) -> int:
        """The group of an endpoint: that which its object names, else that of its address."""
        if facts is not None and facts.group_name:
            named = self.ids.get(facts.group_name)
            if named is not None:
                return named
        return self.group_of_address(pod.pod_ip, pod.host_ip)

    def is_grouped(self, facts: RoutingFacts | None) -> bool:
        """True where an object's endpoints work for their group."""
        if facts is not None and facts.grouping is not None:
            return facts.grouping
        return self.everywhere


NO_POLICY: Final = Policy()


class PolicyChange:
    """What may be another under a new policy than under an old one; all else is spared."""

    __slots__ = ("_groups", "_names", "_nodes", "_prefixes", "_same", "_stations", "_whole", "callers_by_request")

    def __init__(self, old: Policy, new: Policy) -> None:
        self._whole = old.empty != new.empty or old.everywhere != new.everywhere
        before, after = (
            {(rule.prefix, rule.group) for group in policy.document.groups for rule in group.rules}
            for policy in (old, new)
        )
        self._prefixes = Prefixes(Rule(prefix, group) for prefix, group in before ^ after)
        self._names = _differing(old.ids, new.ids)
        self._nodes = _differing(old._nodes, new._nodes)
        self._stations = _differing(old.stations, new.stations)
        if bool(old.stations) != bool(new.stations):
            self._whole = True  # an unknown station is refused only where there are any
        self._groups = frozenset(
            group
            for group in {*old.groups, *new.groups}
            if old.priorities_of(group) != new.priorities_of(group) or (group in old.groups) != (group in new.groups)
        )
        self.callers_by_request = old._sets != new._sets or old._node_names != new._node_names or bool(self._prefixes)
        """True where a caller that is known by what its requests say may be in another group."""
        self._same = not (self._whole or self._prefixes or self._names or self._nodes or self._stations or self._groups)

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
