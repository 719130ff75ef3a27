"""What routing costs: the first answer of a key, and every later one beside that of an unrouted registry.

    python -m benchmarks.routing

10,000 servers of 10 pods, in 300 sets and 50 groups with 10,000 rules, asked through connections and the dispatcher as
a caller's bytes are, without sockets. The later answers are timed in turns with those of the same servers without sets
and groups, in one process, so that whatever else the machine does is the same for both: the figure is their ratio.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Iterator
from statistics import median
from time import perf_counter
from typing import Final

from registry.answers import Answers, CacheLimits
from registry.model import Kind, Pod, RoutingFacts, ServantSpec, Server
from registry.routing.changes import PolicyChange
from registry.routing.groups import Rule, parse_prefix
from registry.routing.policy import Group, Policy, PolicyDocument, Station
from registry.routing.select import Lookup
from registry.servants.query import query_servant
from registry.table import DIRECTORY_PARTS, TableStore
from tars_protocol.bodies import FORMS
from tars_protocol.connection import Caller, Connection
from tars_protocol.dispatch import Dispatcher
from tars_protocol.interfaces.query import QUERY, SERVANT
from tars_protocol.packets import RequestPacket, encode_request

PODS: Final = 10
SETS: Final = 300
GROUPS: Final = 50
RULES: Final = 10_000
SERVANTS: Final = (ServantSpec("MainObj", 21010),)

FIRST_LIMIT: Final = 200.0
"""Microseconds that the first answer of a key may take."""

RATIO_LIMIT: Final = 1.05
"""What a later answer may cost beside an unrouted one."""


def servers(count: int, *, routed: bool) -> Iterator[Server]:
    """The servers; each in one set, its pods in a few groups."""
    facts = [RoutingFacts(f"shop.area{n // 10}.{n % 10}", grouping=True) for n in range(SETS)]
    for number in range(count):
        name = f"bench-server{number}"
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
    """A registry without sockets."""

    def __init__(self, count: int, *, routed: bool) -> None:
        self.store = TableStore()
        self.store.replace(Kind.SERVER, servers(count, routed=routed))
        for part in DIRECTORY_PARTS:
            self.store.synced(*part)
        self.answers = Answers(self.store, limits=CacheLimits(cache_bytes=2 << 30, cache_entries=10_000_000))
        if routed:
            self.answers.route(policy(), {})
        self._dispatcher = Dispatcher({SERVANT: query_servant(self.answers)})

    def connect(self, peer: str) -> Connection:
        """A caller's connection."""
        caller = Caller(peer, 40_000, "10.255.0.1", 17_890)
        scope = self.answers.scope(caller)
        return Connection(caller, self._dispatcher.handle, self.answers.lookup, scope=scope)


def question(lookup: Lookup, server: int) -> bytes:
    """The frame of a question as clients ask it."""
    arguments = [f"Bench.Server{server}.MainObj"]
    if lookup is Lookup.SAME_SET:
        arguments.append(f"shop.area{server % SETS // 10}.{server % SETS % 10}")
    if lookup is Lookup.SAME_STATION:
        arguments.append(f"s{server % (GROUPS // 5)}")
    body = FORMS[1].encode(QUERY[lookup].inputs, tuple(arguments))
    packet = RequestPacket(
        iVersion=1, iRequestId=server + 1, sServantName=SERVANT, sFuncName=str(lookup), sBuffer=body, iTimeout=3_000
    )
    return encode_request(packet)


def first_answers(registry: Registry, lookup: Lookup, count: int) -> list[float]:
    """Microseconds of the first answer of each of so many keys, decoding and all."""
    frames = [question(lookup, n) for n in range(count)]
    connection = registry.connect("10.7.1.1")
    taken = []
    for frame in frames:
        began = perf_counter()
        answer = connection.receive(frame)
        taken.append((perf_counter() - began) * 1e6)
        assert answer
    return taken


def later_answers(one: Registry, other: Registry, lookup: Lookup, keys: int, rounds: int) -> tuple[float, list[float]]:
    """Microseconds of an unrouted later answer, and for each round the cost of a routed one beside it."""
    frames = [question(lookup, n) for n in range(keys)]
    connections = [registry.connect("10.7.1.1") for registry in (one, other)]
    sizes = [sum(len(c.receive(frame)) for frame in frames) for c in connections]
    ratios, plain = [], []
    for number in range(rounds):
        taken = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            receive = connections[which].receive
            began = perf_counter()
            for frame in frames:
                receive(frame)
            taken[which] = perf_counter() - began
        ratios.append(taken[0] / taken[1])
        plain.append(taken[1] / keys * 1e6)
    print(f"  bytes of an answer: routed {sizes[0] // keys}, unrouted {sizes[1] // keys}")
    return median(plain), ratios


def spread(values: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    ordered = sorted(values)
    return {"median": round(median(ordered), 2), "p99": round(ordered[len(ordered) * 99 // 100], 2)}


def main() -> None:
    """Measure and print; exit status 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(prog="benchmarks.routing", description=__doc__)
    parser.add_argument("--servers", type=int, default=10_000, help="servers in the table (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=300, help="turns of later answers (default: %(default)s)")
    parser.add_argument("--keys", type=int, default=100, help="keys asked for in turn (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    routed, plain = (Registry(options.servers, routed=way) for way in (True, False))
    gc.collect()
    gc.freeze()
    results: dict[str, object] = {}
    kept = True
    for lookup in (Lookup.SAME_SET, Lookup.SAME_GROUP, Lookup.ALL, Lookup.SAME_STATION):
        print(f"{lookup}: {options.servers} servers")
        first = {
            name: spread(first_answers(registry, lookup, options.servers))
            for name, registry in (("routed", routed), ("unrouted", plain))
        }
        microseconds, ratios = later_answers(routed, plain, lookup, options.keys, options.rounds)
        ratio = median(ratios)
        kept = kept and first["routed"]["median"] <= FIRST_LIMIT and ratio <= RATIO_LIMIT
        print(f"  first answer of a key, µs: routed {first['routed']}, unrouted {first['unrouted']}")
        print(f"  a later one: unrouted {microseconds:.2f} µs, routed × {ratio:.3f} (rounds: {options.rounds})")
        results[lookup] = {"first_us": first, "later_unrouted_us": microseconds, "later_ratio": ratio}
    document = policy().document
    began = perf_counter()
    Policy(document)
    results["policy_ms"] = (perf_counter() - began) * 1e3
    old, new = policy(), policy()
    began = perf_counter()
    PolicyChange(old, new)
    results["policy_change_ms"] = (perf_counter() - began) * 1e3
    began = perf_counter()
    for n in range(100_000):
        old.group_of_address(f"10.{n % 60}.{n % 250}.7")
    results["group_of_address_us"] = (perf_counter() - began) * 10
    print(f"a policy of {RULES} rules made ready: {results['policy_ms']:.0f} ms")
    print(f"compared with the one before: {results['policy_change_ms']:.0f} ms")
    print(f"the group of an address: {results['group_of_address_us']:.2f} µs")
    if options.json:
        print(json.dumps(results, indent=2))
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
