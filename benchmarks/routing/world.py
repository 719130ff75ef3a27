"""The registries that are compared: one with sets and groups, one without, and one without but with longer names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from registry.alike import Alike
from registry.answers import Answers
from registry.cache import CacheLimits
from registry.model import Kind, Pod, RoutingFacts, ServantSpec, Server
from registry.routing.groups import Rule, parse_prefix
from registry.routing.policy import Group, Policy, PolicyDocument, Station
from registry.routing.select import Lookup
from registry.servants.query import query_servant
from registry.table import DIRECTORY_PARTS, TableStore
from tars_protocol.bodies import FORMS
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Dispatcher
from tars_protocol.handlers import Caller
from tars_protocol.interfaces.query import QUERY, SERVANT
from tars_protocol.packets import RequestPacket, encode_request

PODS: Final = 10
SETS: Final = 300
GROUPS: Final = 50
RULES: Final = 10_000
SERVANTS: Final = (ServantSpec("MainObj", 21010),)

LONGER: Final = 9
"""Characters that names are longer by in the third registry, twice in a host: what set and groups take in an answer."""


def servers(count: int, *, routed: bool, longer: bool = False) -> Iterator[Server]:
    """The servers; each in one set, its pods in two groups."""
    facts = [RoutingFacts(f"shop.area{n // 10}.{n % 10}", grouping=True) for n in range(SETS)]
    for number in range(count):
        name = f"bench-server{number}{'x' * LONGER if longer else ''}"
        pods = tuple(
            Pod(
                f"{name}-{n}",
                pod_ip=f"10.{(number + n // 5) % GROUPS}.{number // GROUPS % 200}.{n}",
                setting_state="Active",
                present_state="Active",
            )
            for n in range(PODS)
        )
        yield Server(
            "bench",
            name,
            app="Bench",
            server=f"Server{number}",
            servants=SERVANTS,
            pods=pods,
            routing=facts[number % SETS] if routed else None,
        )


def policy() -> Policy:
    """50 groups with 10,000 rules of several lengths, and priorities."""
    groups = []
    for number in range(GROUPS):
        texts = [f"10.{number}.{n}.0/24" for n in range(RULES // GROUPS - 2)] + [
            f"10.{number}.*.*",
            f"fd00:{number:x}::/32",
        ]
        groups.append(Group(number + 1, f"g{number}", tuple(Rule(parse_prefix(t), number + 1) for t in texts)))
    stations = tuple(Station(f"s{n}", tuple(range(n * 5 + 1, n * 5 + 6))) for n in range(GROUPS // 5))
    return Policy(PolicyDocument(tuple(groups), stations))


class Registry:
    """A registry without sockets, and connections to it from callers in each group."""

    def __init__(self, name: str, count: int, *, routed: bool = False, longer: bool = False) -> None:
        self.name = name
        self.store = TableStore()
        self.store.replace(Kind.SERVER, servers(count, routed=routed, longer=longer))
        for part in DIRECTORY_PARTS:
            self.store.synced(*part)
        self.answers = Answers(self.store, limits=CacheLimits(cache_bytes=2 << 30, cache_entries=10_000_000))
        if routed:
            self.answers.route(policy(), {})
        self._alike = Alike(self.answers, Dispatcher({SERVANT: query_servant(self.answers)}))
        self._callers = [self._connect(f"10.{group}.1.1") for group in range(GROUPS)]

    def _connect(self, peer: str) -> Connection:
        caller = Caller(peer, 40_000, "10.255.0.1", 17_890)
        scope = self.answers.scope(caller)
        return Connection(caller, self._alike.handle, self.answers.cache.lookup, self._alike.answer, scope=scope)

    def near(self, server: int) -> Connection:
        """The connection of a caller in one of the groups of a server."""
        return self._callers[server % GROUPS]

    def far(self, server: int) -> Connection:
        """That of one in a group, and with priorities, in which the server has no pods."""
        return self._callers[(server + GROUPS // 2) % GROUPS]


CASES: Final = {
    "in the caller's set": (Lookup.SAME_SET, Registry.near),
    "in the caller's group": (Lookup.SAME_GROUP, Registry.near),
    "for a caller of a group without any": (Lookup.ALL, Registry.far),
    "in a station": (Lookup.SAME_STATION, Registry.near),
}
"""What is asked for: by which look-up, and from where."""


def question(lookup: Lookup, server: int) -> bytes:
    """The frame of a question as clients ask it."""
    arguments = [f"Bench.Server{server}.MainObj"]
    if lookup is Lookup.SAME_SET:
        arguments.append(f"shop.area{server % SETS // 10}.{server % SETS % 10}")
    if lookup is Lookup.SAME_STATION:
        arguments.append(f"s{server % GROUPS // 5}")
    body = FORMS[1].encode(QUERY[lookup].inputs, tuple(arguments))
    packet = RequestPacket(
        iVersion=1, iRequestId=server + 1, sServantName=SERVANT, sFuncName=str(lookup), sBuffer=body, iTimeout=3_000
    )
    return encode_request(packet)
