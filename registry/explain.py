"""Why a caller gets the endpoints that it gets, and for each other one the rule that took it out.

The choice itself is that of :mod:`registry.routing.select`; here it is only told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.answers import Answers
from registry.model import Server
from registry.routing.callers import CallerGroup
from registry.routing.groups import NO_GROUP, address_bits
from registry.routing.hosts import Naming
from registry.routing.policy import Policy
from registry.routing.select import (
    BY_GROUP,
    Candidate,
    Endpoint,
    Lookup,
    Question,
    candidates,
    choose,
    is_refused,
    parse_id,
    select,
)
from registry.table import Table, TableStore


@dataclass(frozen=True, slots=True)
class Told:
    """One endpoint. ``why``: for an inactive one what makes it so, for one that is not given the rule."""

    host: str
    port: int
    network: str
    object: str = ""
    pod: str = ""
    set_id: str = ""
    group: int = 0
    works_for: int = 0
    weight: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a caller is answered: return value, endpoints, those left out, and the steps that led there."""

    id: str
    function: str
    argument: str
    caller_group: int
    caller: str
    """How the caller's group was found, in words."""
    ret: int = 0
    active: list[Told] = field(default_factory=list)
    inactive: list[Told] = field(default_factory=list)
    left_out: list[Told] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


class Explainer:
    """Explains from the table and the policy that a running service answers by."""

    def __init__(self, store: TableStore, answers: Answers, naming: Naming) -> None:
        self._store = store
        self._answers = answers
        self._naming = naming

    def page(self, parameters: Mapping[str, str]) -> Explanation:
        """For the parameters id, set, station, from, function. Raises ValueError that says what would be right."""
        unknown = parameters.keys() - {"id", "set", "station", "from", "function"}
        if unknown:
            raise ValueError(f"no parameter {min(unknown)!r}; there are id, set, station, from, function")
        text = parameters.get("id", "")
        if not text:
            raise ValueError("which object? id=App.Server.Obj")
        lookup, argument = _look_up(parameters)
        group, caller = self._caller(parameters.get("from", ""), parameters.get("set", ""))
        object_id = parse_id(text)
        question = Question(lookup, object_id, argument, group if lookup in BY_GROUP else NO_GROUP)
        own = object_id and self._answers.own(object_id, "(the address that the caller connected to)")
        if own:
            told = Explanation(text, lookup, argument, group, caller, steps=["this is the registry itself"])
            told.active.append(_plain(own, ""))
            return told
        policy = self._answers.policies.policy
        told = explain(self._store.table, self._naming, policy, question, caller, text)
        return replace(told, caller_group=group)

    def _caller(self, address: str, set_id: str) -> tuple[int, str]:
        """The group of a caller, and how it was found."""
        policy, mode = self._answers.policies.policy, self._answers.callers.mode
        if mode is not CallerGroup.NODE_NAME:
            address = _written_as_known(address)
        if policy.empty:
            return NO_GROUP, "in no group: there is no policy with groups"
        if mode is CallerGroup.OFF:
            return NO_GROUP, "in no group: caller_group is off"
        if mode is CallerGroup.SET:
            group = policy.group_of_set(set_id)
            return group, f"by its set {set_id!r} (caller_group is set): {_group(group, policy)}"
        if not address:
            what = "node name" if mode is CallerGroup.NODE_NAME else "address"
            return NO_GROUP, f"in no group: no {what} was given to find it by (from)"
        if mode is CallerGroup.NODE_NAME:
            group = self._answers.callers.by_node_name(address)
            return group, f"by its node name {address!r} (caller_group is node_name): {_group(group, policy)}"
        group, rule = self._answers.callers.by_address(address), policy.rule_of(address)
        if rule is None:
            how = "the zone of its node" if group != NO_GROUP else "no rule fits"
        else:
            how = f"the rule {rule.text}" + (f" in line {rule.line} of the policy" if rule.line else "")
        return group, f"{address}: {how}: {_group(group, policy)}"


def _written_as_known(address: str) -> str:
    """An address in the spelling in which a caller's is known. Raises ValueError for what is none."""
    if not address:
        return ""
    bits = address_bits(address)
    if bits is None:
        raise ValueError(f"from: expected an address as in 10.1.2.3, got {address[:60]!r}")
    version, number = bits
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


def _look_up(parameters: Mapping[str, str]) -> tuple[Lookup, str]:
    """The function that is meant, as by ``tars-registry resolve``, and its second argument."""
    chosen = parameters.get("function")
    if chosen and chosen not in set(Lookup):
        raise ValueError(f"no function {chosen[:60]!r}; there are {', '.join(Lookup)}")
    needs = {Lookup.SAME_SET: parameters.get("set"), Lookup.SAME_STATION: parameters.get("station")}
    if not chosen and None not in needs.values():
        raise ValueError("set and station: name one of them, each asks another function; or name that (function)")
    implied = next((lookup for lookup, value in needs.items() if value is not None), Lookup.SAME_GROUP)
    lookup = Lookup(chosen) if chosen else implied
    if needs[Lookup.SAME_STATION] is not None and lookup is not Lookup.SAME_STATION:
        raise ValueError(f"{lookup} takes no station")
    if lookup in needs and needs[lookup] is None:
        raise ValueError(f"{lookup} needs {'a set' if lookup is Lookup.SAME_SET else 'a station'}")
    return lookup, needs.get(lookup) or ""


def explain(table: Table, naming: Naming, policy: Policy, question: Question, caller: str, text: str) -> Explanation:
    """Answer a question that came as ``text``, and say why so. ``caller``: how its group was found."""
    told = Explanation(text, question.lookup, question.argument, question.group, caller)
    if not table.synced:
        told.steps.append("the table is not synchronised yet: answered with -1, so that clients keep what they have")
        return replace(told, ret=-1)
    if is_refused(question, policy):
        told.steps.append(_refusal(question, policy))
        return replace(told, ret=-1)
    if question.id is None:
        told.steps.append("this is no object id (App.Server.Obj): an empty answer")
        return told
    servers = table.find(question.id.app, question.id.server)
    if not servers:
        active = select(table, naming, question, policy).active
        told.steps.append(
            f"no server {question.id.app}.{question.id.server} is known: "
            f"the up-chain has {len(active) or 'no'} endpoint{'' if len(active) == 1 else 's'} for it"
        )
        told.active.extend(_plain(endpoint) for endpoint in active)
        return told
    _leave_out_objects(told, servers, question.id.servant, naming)
    pool = candidates(servers, naming, policy, question.id.servant)
    chosen = choose(pool, policy, question, told.steps.append)
    rule = told.steps[-1] if told.steps else ""
    if chosen is None:
        told.left_out.extend(_told(each, _not_chosen(each, question, policy, rule)) for each in pool)
        return replace(told, ret=-1)
    given = set(map(id, chosen))
    answer = select(table, naming, question, policy)
    # In the same order: of those that are given, active and not.
    given_active, given_inactive = iter(answer.active), iter(answer.inactive)
    for each in pool:
        if id(each) not in given:
            told.left_out.append(_told(each, _not_chosen(each, question, policy, rule)))
        elif not each.host:
            told.left_out.append(_told(each, "it has no address yet of the kind that endpoint_host asks for"))
        elif not each.active and question.lookup is Lookup.ACTIVE:
            told.left_out.append(_told(each, f"{question.lookup} gives active endpoints alone; {_inactive(each)}"))
        else:
            marks = next(given_active if each.active else given_inactive).marks
            weight = marks.weight if marks.weight_type else None
            (told.active if each.active else told.inactive).append(
                _told(each, "" if each.active else _inactive(each), weight)
            )
    return told


def _refusal(question: Question, policy: Policy) -> str:
    if question.lookup is Lookup.SAME_SET:
        return f"{question.argument!r} is no set that can be asked for (name.area.group, only the group may be *): -1"
    known = ", ".join(policy.stations)
    return f"the policy has no station {question.argument!r} (it has {known}): -1"


def _leave_out_objects(told: Explanation, servers: Sequence[Server], servant_name: str, naming: Naming) -> None:
    """Tell of objects none of whose pods are even looked at."""
    for server in servers:
        name = f"{server.kind} {server.namespace}/{server.name}"
        servant = next((s for s in server.servants if s.is_called(servant_name)), None)
        if servant is None:
            has = ", ".join(s.name for s in server.servants) or "none"
            told.steps.append(f"{name} has no servant {servant_name} (it has {has}; case counts)")
        elif server.routing is not None and server.routing.backup:
            for pod in server.pods:
                host, port = naming.address(server, pod, servant)
                network = "tcp" if servant.is_tcp else "udp"
                why = "its object is a backup (tars.io/backup), which is given to nobody"
                told.left_out.append(Told(host, port, network, name, pod.name, server.routing.set_id, why=why))
        for flaw in server.routing.flaws if server.routing is not None else ():
            told.steps.append(f"{name}: {flaw}")
        named = server.routing.group_name if server.routing is not None else ""
        if named:
            told.steps.append(f"{name}: its group is named {named!r} (tars.io/group-name)")


def _told(each: Candidate, why: str, weight: int | None = None) -> Told:
    server = each.server
    return Told(
        each.host,
        each.port,
        "tcp" if each.servant.is_tcp else "udp",
        f"{server.kind} {server.namespace}/{server.name}",
        each.pod.name,
        each.set_id,
        each.real,
        each.work,
        weight,
        why,
    )


def _plain(endpoint: Endpoint, why: str = "from the up-chain") -> Told:
    return Told(endpoint.host, endpoint.port, "tcp" if endpoint.is_tcp else "udp", why=why)


def _inactive(each: Candidate) -> str:
    facts = each.server.routing
    if facts is not None and facts.flow_off:
        return "flow is off for its object (tars.io/flow)"
    if facts is not None and not facts.has_flow(each.pod.name):
        return "flow is off for this pod (tars.io/flow-off-pods)"
    return f"its state is {each.pod.setting_state or 'none'}/{each.pod.present_state or 'none'}, not Active/Active"


def _not_chosen(each: Candidate, question: Question, policy: Policy, rule: str) -> str:
    """The rule that took an endpoint out."""
    if question.lookup is Lookup.SAME_STATION:
        return f"it is in {_group(each.real, policy)}, which is not of station {question.argument!r}"
    by_set = question.lookup is Lookup.SAME_SET and not rule.endswith("taken")
    if by_set:
        own = f"its set is {each.set_id}" if each.set_id else "it is in no set"
        return f"{own}, the caller asks for {question.argument}"
    if each.work == NO_GROUP:
        off = "" if each.real == NO_GROUP else " (grouping is off for its object, tars.io/group)"
        return f"it works for no group{off}; {rule}"
    return f"it works for {_group(each.work, policy)}; {rule}"


def _group(number: int, policy: Policy) -> str:
    if number == NO_GROUP:
        return "no group"
    name = policy.groups.get(number, "")
    return f"group {number}{f' ({name})' if name else ''}"
