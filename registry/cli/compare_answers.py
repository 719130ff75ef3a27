"""What is different between the answers of two registries to one question, and of what kind that is: pure functions.

The endpoints of two answers are paired: first those that are equal, then those of one address, then those of one pod
under another host. What is left has no counterpart.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from jce.schema import fields
from registry.routing.select import Lookup
from tars_protocol.interfaces.query import EndpointF


class Kind(StrEnum):
    """What a difference is about."""

    ORDER = "order"
    INACTIVE = "inactive"
    HOST = "host"
    FIELDS = "fields"
    STATE = "state"
    ONLY = "only"
    EMPTY = "empty"
    RETURN = "return"
    ERROR = "error"


MEANINGS: Final[dict[Kind, str]] = {
    Kind.ORDER: "the same active endpoints in another order",
    Kind.INACTIVE: "only the inactive endpoints are others, have other fields, or another order",
    Kind.HOST: "the same endpoint under another host name or address",
    Kind.FIELDS: "the same address with another timeout, set, weight, …",
    Kind.STATE: "active here, inactive there",
    Kind.ONLY: "an active endpoint that only one of them has",
    Kind.EMPTY: "one of them has active endpoints, the other has no endpoint at all",
    Kind.RETURN: "another return value",
    Kind.ERROR: "an error, or another error",
}

_ADDRESS: Final = ("host", "port", "istcp")
OTHER_FIELDS: Final = tuple(field.name for field in fields(EndpointF) if field.name not in _ADDRESS)
"""What an endpoint says beside its address."""

_NETWORKS: Final = {0: "udp", 1: "tcp", 2: "ssl"}
_STATES: Final = {True: "active", False: "inactive"}
_ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry answered: a return code of the call with its text, else a return value and two lists."""

    code: int = 0
    description: str = ""
    ret: int = 0
    active: tuple[EndpointF, ...] = ()
    inactive: tuple[EndpointF, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One difference: what it is about, and how that is in the ``first`` and in the ``second`` registry, in words."""

    kind: Kind
    what: str
    first: str
    second: str


class _Item(NamedTuple):
    """An endpoint in an answer."""

    endpoint: EndpointF
    active: bool
    place: int


class _Pair(NamedTuple):
    """An endpoint as the two registries have it."""

    first: _Item
    second: _Item


def differences(
    answers: Mapping[Lookup, tuple[Answer, Answer]], ignored: Collection[str] = ()
) -> dict[Difference, list[Lookup]]:
    """What is different between two registries' answers about one object, and by which of the functions it shows.

    ``ignored`` are kinds and names of fields.
    """
    found: dict[Difference, list[Lookup]] = {}
    for lookup, (first, second) in answers.items():
        known = answers.get(Lookup.ANY) if lookup is Lookup.ACTIVE else None
        told = _between(first, second, known, [name for name in ignored if name in OTHER_FIELDS])
        # An endpoint may be listed twice.
        for difference in dict.fromkeys(told):
            if difference.kind not in ignored:
                found.setdefault(difference, []).append(lookup)
    return found


def _between(
    first: Answer, second: Answer, known: tuple[Answer, Answer] | None, without: Sequence[str]
) -> list[Difference]:
    """The differences between two answers.

    findObjectById does not tell of inactive endpoints; ``known`` are the answers that do, so that one that is active
    here and inactive there is not taken for one that is missing.
    """
    if first.code != second.code:
        return [Difference(Kind.ERROR, "error", _error(first), _error(second))]
    if first.code:
        return []
    if known is not None and not any(each.code or each.ret for each in known):
        told = replace(first, inactive=known[0].inactive), replace(second, inactive=known[1].inactive)
        # What is different about the inactive ones is told where it was seen.
        return [each for each in _between(*told, None, without) if each.kind is not Kind.INACTIVE]
    found = []
    if first.ret != second.ret:
        found.append(Difference(Kind.RETURN, "return value", str(first.ret), str(second.ret)))
    sizes = [len(each.active) + len(each.inactive) for each in (first, second)]
    if all(sizes):
        found += _between_lists(_items(first, without), _items(second, without))
    elif any(sizes) and first.ret == second.ret:
        kind = Kind.EMPTY if first.active or second.active else Kind.INACTIVE
        found.append(Difference(kind, "endpoints", _counts(first), _counts(second)))
    return found


def _between_lists(first: list[_Item], second: list[_Item]) -> list[Difference]:
    pairs: list[_Pair] = []
    first, second = _paired(first, second, lambda item: (item.endpoint, item.active), pairs)
    first, second = _paired(first, second, lambda item: (_address(item.endpoint), item.active), pairs)
    first, second = _paired(first, second, lambda item: _address(item.endpoint), pairs)
    first, second = _paired(first, second, lambda item: (_pod(item), _but_host(item)), pairs)
    first, second = _paired(first, second, lambda item: (_pod(item), _but_host(item)[:2]), pairs)
    first, second = _paired_by_number(first, second, pairs)
    found = [each for pair in pairs for each in _of_pair(pair)]
    for item, here, there in [(item, True, False) for item in first] + [(item, False, True) for item in second]:
        kind = Kind.ONLY if item.active else Kind.INACTIVE
        state = _state(item)
        found.append(Difference(kind, _shown(item), state if here else _ABSENT, state if there else _ABSENT))
    for active, kind in ((True, Kind.ORDER), (False, Kind.INACTIVE)):
        found += [Difference(kind, *each) for each in _order(pairs, active)]
    return found


def _order(pairs: Iterable[_Pair], active: bool) -> Iterable[tuple[str, str, str]]:
    """Where the order of the active ones, or of the others, parts."""
    of_list = [pair for pair in pairs if pair.first.active == pair.second.active == active]
    here = sorted(of_list, key=lambda pair: pair.first.place)
    there = sorted(of_list, key=lambda pair: pair.second.place)
    for place, (one, other) in enumerate(zip(here, there, strict=True), 1):
        if one is not other:
            what = f"{_STATES[active]}, from place {place} on"
            yield what, _shown(one.first), _shown(other.second)
            return


_Key = Callable[[_Item], Hashable]


def _paired(first: list[_Item], second: list[_Item], key: _Key, pairs: list[_Pair]) -> tuple[list[_Item], list[_Item]]:
    """Pair those of one key, in order; what is left of both."""
    waiting: defaultdict[Hashable, list[_Item]] = defaultdict(list)
    for item in reversed(second):
        waiting[key(item)].append(item)
    left = []
    for item in first:
        if same := waiting.get(key(item)):
            pairs.append(_Pair(item, same.pop()))
        else:
            left.append(item)
    rest = {item for items in waiting.values() for item in items}
    return left, [item for item in second if item in rest]


def _paired_by_number(first: list[_Item], second: list[_Item], pairs: list[_Pair]) -> tuple[list[_Item], list[_Item]]:
    """Where both have as many that are alike but for the host, and one of them names hosts by address, these are one.

    Two names of different pods are never one.
    """
    known: set[_Item] = set()
    groups: defaultdict[Hashable, tuple[list[_Item], list[_Item]]] = defaultdict(lambda: ([], []))
    for number, items in enumerate((first, second)):
        for item in items:
            groups[_but_host(item)][number].append(item)
    for here, there in groups.values():
        by_address = any(all(_is_ip(item.endpoint.host) for item in items) for items in (here, there))
        if len(here) == len(there) and by_address:
            pairs += map(_Pair, here, there)
            known.update(here, there)
    return [item for item in first if item not in known], [item for item in second if item not in known]


def _of_pair(pair: _Pair) -> Iterable[Difference]:
    """How the two are different."""
    first, second = pair.first.endpoint, pair.second.endpoint
    inactive = not pair.first.active and not pair.second.active
    if first.host != second.host:
        what = f"{first.port}/{_network(first)}"
        yield Difference(Kind.INACTIVE if inactive else Kind.HOST, what, first.host, second.host)
    if pair.first.active != pair.second.active:
        yield Difference(Kind.STATE, _shown(pair.first), _state(pair.first), _state(pair.second))
    names = [name for name in OTHER_FIELDS if getattr(first, name) != getattr(second, name)]
    if names:
        values = [", ".join(f"{name} {getattr(each, name)}" for name in names) for each in (first, second)]
        yield Difference(Kind.INACTIVE if inactive else Kind.FIELDS, _shown(pair.first), *values)


def _items(answer: Answer, without: Sequence[str]) -> list[_Item]:
    lists = ((True, answer.active), (False, answer.inactive))
    return [_Item(_plain(each, without), active, n) for active, found in lists for n, each in enumerate(found)]


def _plain(endpoint: EndpointF, without: Sequence[str]) -> EndpointF:
    """Without the fields that are not to count."""
    if not without:
        return endpoint
    known = {field.name: getattr(endpoint, field.name) for field in fields(EndpointF)}
    return EndpointF(**known | {name: type(known[name])() for name in without})


def _address(endpoint: EndpointF) -> Hashable:
    return endpoint.host, endpoint.port, endpoint.istcp


def _but_host(item: _Item) -> tuple[int, int, bool]:
    """All that tells an endpoint but its host; other fields may be different all the same."""
    return item.endpoint.port, item.endpoint.istcp, item.active


def _pod(item: _Item) -> str:
    """The pod's name in a host name such as POD.SERVICE or POD.SERVICE.NAMESPACE.svc.cluster.local."""
    host = item.endpoint.host
    return host if _is_ip(host) else host.partition(".")[0]


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _network(endpoint: EndpointF) -> str:
    return _NETWORKS.get(endpoint.istcp, str(endpoint.istcp))


def _shown(item: _Item) -> str:
    host = f"[{item.endpoint.host}]" if ":" in item.endpoint.host else item.endpoint.host
    return f"{host}:{item.endpoint.port}/{_network(item.endpoint)}"


def _state(item: _Item) -> str:
    return _STATES[item.active]


def _counts(answer: Answer) -> str:
    parts = [f"{len(each)} {name}" for name, each in (("active", answer.active), ("inactive", answer.inactive)) if each]
    return ", ".join(parts) or "none"


def _error(answer: Answer) -> str:
    return f"{answer.code} {answer.description}".strip() if answer.code else "none"
