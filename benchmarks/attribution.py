"""Where the service's own time for a hit goes, by calling its parts alone.

Only what is Python of ours: what is left of the user time of a whole answer is the event loop and the interpreter
between them, and the system time is the kernel's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Final

from benchmarks.load.plan import FIRST_ID, question
from benchmarks.tables import NAMESPACE, Table, object_id, tendpoint
from registry.alike import Alike
from registry.answers import Answers
from registry.model import CUSTOM_RESOURCES, Kind, Server
from registry.servants.query import query_servant
from registry.sources.tendpoints import convert
from registry.table import TableStore
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Dispatcher
from tars_protocol.handlers import Caller, unknown
from tars_protocol.interfaces.query import SERVANT
from tars_protocol.packets import KEY_ID, layout_of, split_request

CALLS: Final = 20_000
ROUNDS: Final = 7
CALLER: Final = Caller("127.0.0.1", 40_000, "127.0.0.1", 17_890)


class Inside:
    """The service without sockets: its answers and a connection to them."""

    def __init__(self, table: Table) -> None:
        store = TableStore()
        servers = (convert(tendpoint(number, table.pods_of(number)), NAMESPACE) for number in range(table.servers))
        store.replace(Kind.SERVER, [server for server in servers if isinstance(server, Server)])
        for kind in CUSTOM_RESOURCES:
            store.synced(kind)
        self.answers = Answers(store)
        self.dispatcher = Dispatcher({SERVANT: query_servant(self.answers)})
        self.alike = Alike(self.answers, self.dispatcher)

    def connect(self, *, cached: bool = True) -> Connection:
        """A caller's connection; with ``cached`` off it decodes every request."""
        lookup = self.answers.cache.lookup if cached else unknown
        scope = self.answers.scope(CALLER)
        # Nobody reads here: no answer waits for that.
        return Connection(CALLER, self.alike.handle, lookup, self.alike.answer, scope=scope, max_unsent_bytes=1 << 30)


def seconds_a_call(function: Callable[[bytes], object], inputs: Iterable[bytes]) -> float:
    """Processor time, the least of several rounds' mean: what it takes where nothing comes between."""
    given = list(inputs)
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for each in given:
            function(each)
        rounds.append((time.thread_time() - began) / len(given))
    return min(rounds)


def measure(endpoints: int) -> dict[str, float]:
    """Microseconds for a hit, and for what it is made of; and for a request of bytes not seen before."""
    inside = Inside(Table(1, first=endpoints))
    connection = inside.connect()
    frames = [question(object_id(0), FIRST_ID + number) for number in range(CALLS)]
    distinct = [question(object_id(0), FIRST_ID, node_name=f"10.{number:08d}") for number in range(CALLS // ROUNDS)]
    found = split_request(frames[0])
    assert found is not None
    before, request_id, behind = found.groups()
    key = inside.answers.scope(CALLER) + before + KEY_ID + behind
    into, unpack, *_ = layout_of(before, len(request_id))
    connection.receive(frames[0])
    nothing = seconds_a_call(lambda _: None, frames)
    parts = {
        "a hit, from bytes to bytes": seconds_a_call(connection.receive, frames),
        "of that: to take the frame apart": seconds_a_call(lambda frame: (unpack(frame), frame[into:]), frames)
        - nothing,
        "of that: to look the answer up": seconds_a_call(lambda _: inside.answers.cache.lookup(key), frames) - nothing,
        "16 hits in one read, each": seconds_a_call(connection.receive, _joined(frames, 16)) / 16,
        "a request of bytes not seen before": _once(connection, distinct),
    }
    return {name: 1e6 * each for name, each in parts.items()}


def _joined(frames: list[bytes], count: int) -> list[bytes]:
    return [b"".join(frames[at : at + count]) for at in range(0, len(frames) - count, count)]


def _once(connection: Connection, frames: list[bytes]) -> float:
    """No round twice: the second time they would be hits."""
    rounds = []
    size = len(frames) // ROUNDS
    for number in range(ROUNDS):
        part = frames[number * size : (number + 1) * size]
        began = time.thread_time()
        for each in part:
            connection.receive(each)
        rounds.append((time.thread_time() - began) / size)
    return statistics.median(rounds)
