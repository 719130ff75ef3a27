"""The rules of routing as a slow and obviously right model: written from their sentences, sharing no code with them.

A table is a list of objects of one server, each a dict as an operator would describe it. Addresses are compared bit by
bit, every rule with every address; nothing is prepared, kept or cut short.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ModelPolicy:
    """Groups by number: their name and what their addresses look like. Priorities: a station and group numbers each."""

    names: dict[int, str] = field(default_factory=dict)
    addresses: list[tuple[str, int]] = field(default_factory=list)
    priorities: list[tuple[str, list[int]]] = field(default_factory=list)
    everywhere: bool = False

    @property
    def says_something(self) -> bool:
        return bool(self.names or self.priorities)


def fits(address: str, pattern: str) -> int:
    """How many bits of an address a pattern names; -1 where it does not fit."""
    if "*" in pattern:
        named = [part for part in pattern.split(".") if part != "*"]
        same = ":" not in address and address.split(".")[: len(named)] == named
        return 8 * len(named) if same else -1
    network = ipaddress.ip_network(pattern)
    one = ipaddress.ip_address(address)
    if one.version != network.version:
        return -1
    return network.prefixlen if one in network else -1


def group_of(policy: ModelPolicy, address: str) -> int:
    """The group with the pattern that names the most bits of an address; -1 where none fits."""
    best, group = -1, -1
    for pattern, number in policy.addresses:
        if address and fits(address, pattern) > best:
            best, group = fits(address, pattern), number
    return group


@dataclass
class ModelEndpoint:
    """One pod of one object."""

    host: str
    order: tuple[str, int, str]
    active: bool
    set_id: str
    weight: int | None
    real: int
    work: int


def usable_set(text: str) -> bool:
    parts = text.split(".")
    return (
        len(parts) == 3 and "" not in parts and parts[0] != "*" and parts[1] != "*" and "*" not in parts[0] + parts[1]
    )


def endpoints(objects: list[dict[str, Any]], policy: ModelPolicy) -> list[ModelEndpoint]:
    """Every pod but those of backups."""
    found = []
    for item in objects:
        if item["backup"]:
            continue
        for pod in item["pods"]:
            named = [number for number, name in policy.names.items() if name and name == item["group_name"]]
            real = named[0] if named else group_of(policy, pod["ip"])
            grouping = policy.everywhere if item["grouping"] is None else item["grouping"]
            reachable = bool(pod["ip"])
            found.append(
                ModelEndpoint(
                    host=pod["ip"],
                    order=pod["order"],
                    active=pod["active"] and reachable and not item["flow_off"] and pod["name"] not in item["off_pods"],
                    set_id=item["set_id"] if usable_set(item["set_id"]) else "",
                    weight=item["pod_weights"].get(pod["name"], item["weight"]),
                    real=real,
                    work=real if grouping else -1,
                )
            )
    return sorted(found, key=lambda one: one.order)


Answer = tuple[int, list[tuple[Any, ...]], list[tuple[Any, ...]]]


def ask(objects: list[dict[str, Any]], policy: ModelPolicy, function: str, argument: str, caller: int) -> Answer:
    """The return value, and of the active and inactive endpoints (host, set, groups, weight, weight type) each."""
    pool = endpoints(objects, policy)
    chosen: list[ModelEndpoint] | None
    if function in ("findObjectById", "findObjectById4Any"):
        chosen = pool
    elif function in ("findObjectById4All", "findObjectByIdInSameGroup"):
        chosen = in_same_group(pool, policy, caller)
    elif function == "findObjectByIdInSameStation":
        chosen = in_same_station(pool, policy, argument)
    else:
        chosen = in_same_set(pool, policy, argument, caller)
    if chosen is None:
        return -1, [], []
    weighted = any(one.weight is not None and one.weight > 0 for one in pool)
    active = shown([one for one in chosen if one.active], weighted, policy)
    inactive = shown([one for one in chosen if not one.active and one.host], weighted, policy)
    return 0, active, inactive


def in_same_group(pool: list[ModelEndpoint], policy: ModelPolicy, caller: int) -> list[ModelEndpoint]:
    if caller == -1 or caller not in policy.names:
        return pool
    own = [one for one in pool if one.work == caller]
    if any(one.active for one in own):
        return own
    for _, groups in policy.priorities:
        if caller in groups:
            step = [one for one in pool if one.work in groups]
            if any(one.active for one in step):
                return step
    groupless = [one for one in pool if one.work == -1]
    if any(one.active for one in groupless):
        return groupless
    return pool


def in_same_station(pool: list[ModelEndpoint], policy: ModelPolicy, station: str) -> list[ModelEndpoint] | None:
    if not policy.priorities:
        return pool
    for name, groups in policy.priorities:
        if name == station:
            return [one for one in pool if one.real in groups]
    return None


def in_same_set(pool: list[ModelEndpoint], policy: ModelPolicy, set_id: str, caller: int) -> list[ModelEndpoint] | None:
    if not usable_set(set_id):
        return None
    name, area, group = set_id.split(".")
    if not any(one.set_id and one.set_id.split(".")[0] == name for one in pool):
        return in_same_group(pool, policy, caller)
    if group == "*":
        return [one for one in pool if one.set_id and one.set_id.split(".")[:2] == [name, area]] or None
    exactly = [one for one in pool if one.set_id == set_id]
    if exactly:
        return exactly
    return [one for one in pool if one.set_id == f"{name}.{area}.*"] or None


def shown(chosen: list[ModelEndpoint], weighted: bool, policy: ModelPolicy) -> list[tuple[Any, ...]]:
    weights = [100 if one.weight is None else one.weight for one in chosen]
    if not weighted or all(weight == 0 for weight in weights):
        pairs = [(0, 0)] * len(chosen)
    else:
        pairs = [(weight, 1) for weight in weights]
    groups = [(one.work, one.real) if policy.says_something else (0, 0) for one in chosen]
    return [(one.host, one.set_id, *g, *w) for one, g, w in zip(chosen, groups, pairs, strict=True)]
