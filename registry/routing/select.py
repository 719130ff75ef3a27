"""Which endpoints answer a question: a pure function of table, naming, policy, question and caller's group.

A :class:`Candidate` is an endpoint of the object with all that the rules look at. :func:`choose` applies the rules, to
answer (:func:`select`) as well as to tell why (:mod:`registry.explain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from registry.model import Pod, ServantSpec, Server, Upstream
from registry.routing.groups import NO_GROUP, Trail, by_priority
from registry.routing.hosts import Naming
from registry.routing.policy import NO_POLICY, Policy
from registry.routing.sets import by_set, is_set
from registry.table import Table


class Lookup(StrEnum):
    """The six ways to ask for an object, by the name of their function."""

    ACTIVE = "findObjectById"
    ANY = "findObjectById4Any"
    ALL = "findObjectById4All"
    SAME_GROUP = "findObjectByIdInSameGroup"
    SAME_STATION = "findObjectByIdInSameStation"
    SAME_SET = "findObjectByIdInSameSet"


BY_GROUP: Final = frozenset((Lookup.ALL, Lookup.SAME_GROUP, Lookup.SAME_SET))
"""The look-ups whose answer may depend on the caller's group."""


_ARGUED: Final = frozenset((Lookup.SAME_SET, Lookup.SAME_STATION))
"""The look-ups with a second argument, which may be refused."""


@dataclass(frozen=True, slots=True)
class ObjectId:
    """``App.Server.Obj``. ``text`` is the three joined as the caller spelt them."""

    app: str
    server: str
    servant: str

    @property
    def text(self) -> str:
        """The id without what may have followed it."""
        return f"{self.app}.{self.server}.{self.servant}"


MAX_ID_CHARS: Final = 1_000
"""An id can't name anything above this: the names of servers have up to 63 characters each."""


def parse_id(text: str) -> ObjectId | None:
    """The object that an id names: three non-empty parts; what follows ``@`` or ``#`` is not looked at. None if not."""
    if len(text) > MAX_ID_CHARS:
        return None
    parts = text.partition("@")[0].partition("#")[0].split(".", 3)
    return ObjectId(*parts) if len(parts) == 3 and all(parts) else None


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks. ``id`` is None where what it sent is no object id.

    ``argument`` is the station of SAME_STATION or the set of SAME_SET, "" otherwise; ``group`` is the caller's, for the
    look-ups in BY_GROUP.
    """

    lookup: Lookup
    id: ObjectId | None
    argument: str = ""
    group: int = NO_GROUP


@dataclass(frozen=True, slots=True)
class Marks:
    """What an endpoint says of sets, groups and weights. The groups are 0 where no policy has any."""

    set_id: str = ""
    group_work: int = 0
    group_real: int = 0
    weight: int = 0
    weight_type: int = 0


NO_MARKS: Final = Marks()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address in an answer. ``timeout`` in ms."""

    host: str
    port: int
    timeout: int
    is_tcp: bool
    marks: Marks = NO_MARKS


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer to a question, before it is encoded."""

    ret: int = 0
    active: tuple[Endpoint, ...] = ()
    inactive: tuple[Endpoint, ...] = ()


NOTHING: Final = Selection()
REFUSED: Final = Selection(ret=-1)

STATIC_WEIGHT: Final = 1
"""``weightType`` of endpoints that are to be called in proportion to their weights."""

DEFAULT_WEIGHT: Final = 100
"""Of an endpoint that has none, where others have."""


NO_WEIGHTS: Final[Mapping[str, int]] = {}


class Candidate:
    """An endpoint of the object that is asked for. Without a ``host`` it can't be given, and is not active.

    ``real`` is the group that it is in, ``work`` the one that it works for; ``weight`` None where none is given.
    """

    __slots__ = ("active", "host", "pod", "port", "real", "servant", "server", "set_id", "weight", "work")

    def __init__(
        self,
        server: Server,
        pod: Pod,
        servant: ServantSpec,
        naming: Naming,
        policy: Policy,
        weights: Mapping[str, int] = NO_WEIGHTS,
    ) -> None:
        """``weights`` are those of single pods of the server, by name."""
        self.server = server
        self.pod = pod
        self.servant = servant
        self.host, self.port = naming.address(server, pod, servant)
        facts = server.routing
        self.active = bool(self.host) and pod.active
        self.set_id = ""
        self.weight: int | None = None
        if facts is not None:
            self.active = self.active and facts.has_flow(pod.name)
            self.set_id = facts.set_id
            self.weight = weights.get(pod.name, facts.weight)
        self.real = self.work = 0
        if not policy.empty:
            self.real = policy.real_group(facts, pod)
            self.work = self.real if policy.is_grouped(facts) else NO_GROUP


def select(table: Table, naming: Naming, question: Question, policy: Policy = NO_POLICY) -> Selection:
    """Answer a question from a table that is synchronised.

    Where no policy is and no object says anything of routing, all six functions give the same endpoints, but for a set
    that can't be one, which is refused.
    """
    if question.lookup in _ARGUED and is_refused(question, policy):
        return REFUSED
    if question.id is None:
        return NOTHING
    servers = table.find(question.id.app, question.id.server)
    if not servers:
        return Selection(active=_upstream(table, question.id))
    if policy.empty and not _say_something(servers):
        active, inactive = _endpoints(servers, naming, question.id.servant)
        return Selection(active=active, inactive=inactive)
    pool = candidates(servers, naming, policy, question.id.servant)
    chosen = choose(pool, policy, question)
    if chosen is None:
        return REFUSED
    weighted = has_weights(pool)
    return Selection(
        active=_marked([each for each in chosen if each.active], weighted),
        inactive=_marked([each for each in chosen if not each.active and each.host], weighted),
    )


def _say_something(servers: Iterable[Server]) -> bool:
    """True where an object says anything of routing."""
    for server in servers:  # noqa: SIM110 - half the cost of any()
        if server.routing is not None:
            return True
    return False


def is_refused(question: Question, policy: Policy) -> bool:
    """True for a set that can't be one, and for a station that the policy does not know, where it knows any."""
    if question.lookup is Lookup.SAME_SET:
        return not is_set(question.argument)
    if question.lookup is Lookup.SAME_STATION:
        return bool(policy.stations) and question.argument not in policy.stations
    return False


def candidates(servers: Sequence[Server], naming: Naming, policy: Policy, servant_name: str) -> list[Candidate]:
    """The endpoints of a servant, pods in their order, but for those that only stand by."""
    pool: list[Candidate] = []
    for server in servers:
        servant = next((s for s in server.servants if s.is_called(servant_name)), None)
        if servant is None or (server.routing is not None and server.routing.backup):
            continue
        weights = dict(server.routing.pod_weights) if server.routing is not None else NO_WEIGHTS
        pool += [Candidate(server, pod, servant, naming, policy, weights) for pod in server.pods]
    if len(servers) > 1:
        pool.sort(key=lambda each: each.pod.order)
    return pool


def choose(
    pool: Sequence[Candidate], policy: Policy, question: Question, trail: Trail | None = None
) -> Sequence[Candidate] | None:
    """The endpoints that a caller may know of, active or not; None where it is to be refused.

    The question itself was found good before (:func:`is_refused`). ``trail`` is told each step.
    """
    if question.lookup is Lookup.SAME_STATION and policy.stations:
        groups = policy.stations[question.argument]
        found = [each for each in pool if each.real in groups]
        if trail:
            trail(f"station {question.argument!r}, groups {sorted(groups)}: {len(found)} endpoints")
        return found
    if question.lookup is Lookup.SAME_SET:
        in_set = by_set(pool, question.argument, trail)
        if in_set is not None:
            return in_set or None
    if question.lookup in BY_GROUP and question.group in policy.groups:
        return by_priority(pool, question.group, policy.priorities_of(question.group), trail)
    if trail:
        trail("all endpoints: taken")
    return pool


def has_weights(pool: Iterable[Candidate]) -> bool:
    """True where some endpoint of an object has a weight above 0: then every one has one."""
    return any(each.weight for each in pool)


def _marked(chosen: Sequence[Candidate], weighted: bool) -> tuple[Endpoint, ...]:
    """Endpoints as they are given: in one list all have weights, of which one is above 0, or none has."""
    weights = [DEFAULT_WEIGHT if each.weight is None else each.weight for each in chosen] if weighted else []
    if not any(weights):
        weights, weight_type = [0] * len(chosen), 0
    else:
        weight_type = STATIC_WEIGHT
    return tuple(
        Endpoint(
            each.host,
            each.port,
            each.servant.timeout,
            each.servant.is_tcp,
            Marks(each.set_id, each.work, each.real, weight, weight_type),
        )
        for each, weight in zip(chosen, weights, strict=True)
    )


def _endpoints(
    servers: tuple[Server, ...], naming: Naming, servant_name: str
) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:
    """Active and inactive endpoints of a servant, pods in their order: the same set gives the same bytes."""
    found: list[tuple[tuple[str, int, str], bool, Endpoint]] = []
    for server in servers:
        servant = next((s for s in server.servants if s.is_called(servant_name)), None)
        if servant is None:
            continue
        for pod in server.pods:
            host, port = naming.address(server, pod, servant)
            if host:
                found.append((pod.order, pod.active, Endpoint(host, port, servant.timeout, servant.is_tcp)))
    if len(servers) > 1:
        found.sort(key=lambda entry: entry[0])
    return (
        tuple(endpoint for _, active, endpoint in found if active),
        tuple(endpoint for _, active, endpoint in found if not active),
    )


def _upstream(table: Table, object_id: ObjectId) -> tuple[Endpoint, ...]:
    # An object may be listed with no address, so that the default does not apply to it.
    entries: tuple[Upstream, ...] = table.up_chain.get(object_id.text, table.up_chain.get("default", ()))
    return tuple(Endpoint(entry.host, entry.port, entry.timeout, entry.is_tcp) for entry in entries)
