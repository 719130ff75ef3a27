"""The figures that operators see, gathered from the parts of the service whenever somebody looks.

The parts count with plain integers, where it costs least; what belongs together is put together here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from registry.admin.health import AdminServer
from registry.admin.view import Cache, Listener, Requests
from registry.answers import Answers
from tars_protocol.aio.server import Server
from tars_protocol.constants import ReturnCode
from tars_protocol.dispatch import Dispatcher
from tars_protocol.interfaces import query as query_interface


def listeners(servers: Iterable[Server], admin: AdminServer | None) -> list[Listener]:
    """Each port: its connections, and what was refused there."""
    found = [
        Listener(
            server.name,
            server.open_connections,
            server.stats.accepted,
            server.stats.refused,
            server.load.in_flight,
            {
                "overload": server.load.refused,
                "rate": server.stats.rate_refused,
                "turn_timeout": server.turns.refused,
            },
            server.stats.over_rate,
        )
        for server in servers
    ]
    if admin:
        found.append(Listener("admin", admin.open_connections, admin.stats.accepted, admin.stats.refused))
    return found


def requests(
    answers: Answers, query: Dispatcher, registry: Dispatcher, servers: Iterable[Server], crashes: int
) -> Requests:
    """What was asked and how it was answered, from kept bytes and by the dispatchers of both ports.

    ``crashes`` of parts of the service count as bugs, and so do connections that had to be closed for one.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for (function, result), tally in answers.tallies.items():
        counts[query_interface.SERVANT, str(function), result] += tally.count
    for dispatcher in (query, registry):
        for (servant, function, code), count in dispatcher.stats.answers.items():
            counts[servant, function, _result(code)] += count
    # Only queries can be hits, so only there is a miss a miss.
    seconds = query.stats.seconds
    bugs = query.stats.bugs + registry.stats.bugs + sum(server.stats.refused["bug"] for server in servers) + crashes
    return Requests(counts, seconds.cumulative(), seconds.total, bugs)


def cache(answers: Answers) -> Cache:
    """The kept answers."""
    given = sum(tally.count for tally in answers.tallies.values())
    return Cache(
        hits=given - answers.stats.decoded,
        misses=answers.stats.misses,
        computed=answers.stats.computed,
        dropped=answers.cache.dropped,
        entries=answers.cache.entries,
        bytes=answers.cache.bytes,
    )


def _result(code: int) -> str:
    """A return code as a label."""
    if code == ReturnCode.SUCCESS:
        return "ok"
    return ReturnCode(code).name.lower() if code in set(ReturnCode) else "other_code"
