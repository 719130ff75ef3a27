"""The routing policy as a value: groups, stations in order of priority, and what a change of it can change.

A :class:`PolicyDocument` is what an operator wrote; a :class:`Policy` is that made ready to be asked, together with the
zones and regions of the cluster's nodes where the document wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from registry.model import Node, Pod, RoutingFacts
from registry.routing.groups import NO_GROUP, Prefix, Prefixes, Rule
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

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """What the rules are about, wherever they stand."""
        return tuple([rule.prefix for rule in self.rules])


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
        "empty",
        "ids",
        "stations",
    )

    def __init__(
        self,
        document: PolicyDocument | None = None,
        nodes: Iterable[Node] = (),
        prefixes: Prefixes | None = None,
    ) -> None:
        """``nodes`` count where the document wants topology; ``prefixes`` are those of its rules, made already."""
        self.document = document = document or PolicyDocument()
        known = sorted(nodes, key=lambda node: node.name) if document.from_topology else []
        self.ids = {group.name: group.id for group in document.groups if group.name}
        self._names = {group.id: group.name for group in document.groups}
        """Also those without a name."""
        self._add_zones(sorted({node.zone for node in known if node.zone}))
        self._nodes = {address: self.ids[node.zone] for node in known if node.zone for address in node.addresses}
        self._prefixes = prefixes or Prefixes(rule for group in document.groups for rule in group.rules)
        self._sets = {each: group.id for group in document.groups for each in group.sets}
        self._node_names = {each: group.id for group in document.groups for each in group.node_names}
        self.stations = {station.name: frozenset(self._resolve(station.groups)) for station in document.priorities}
        for region in sorted({node.region for node in known if node.region} - self.stations.keys()):
            zones = {self.ids[node.zone] for node in known if node.region == region and node.zone}
            self.stations[region] = frozenset(zones)
        self.empty = not self._names and not self.stations
        """True where there is nothing by which callers or endpoints could be told apart."""
        self._priorities: dict[int, list[tuple[str, frozenset[int]]]] = {}
        """By caller's group."""
        for step in self.stations.items():
            for group in step[1]:
                self._priorities.setdefault(group, []).append(step)

    def with_nodes(self, nodes: Iterable[Node]) -> Policy:
        """The same document with other nodes."""
        return Policy(self.document, nodes, self._prefixes)

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
    def everywhere(self) -> bool:
        """True where grouping is on for every object that does not say otherwise."""
        return self.document.everywhere

    @property
    def zones(self) -> Mapping[str, int]:
        """The groups of the addresses of nodes, where the topology counts."""
        return self._nodes

    @property
    def callers(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """The groups of callers by set and by node name."""
        return self._sets, self._node_names

    @property
    def groups(self) -> Mapping[int, str]:
        """The names of all groups, by number."""
        return self._names

    def priorities_of(self, group: int) -> Sequence[tuple[str, frozenset[int]]]:
        """The stations with a group, in order of priority."""
        return self._priorities.get(group, ())

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

    def group_of_node_name(self, name: str, host_address: str = "") -> int:
        """The group of callers that say this node name: that which names it, else as of an address."""
        found = self._node_names.get(name)
        return self.group_of_address(name, host_address) if found is None else found

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
