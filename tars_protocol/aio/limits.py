"""What peers may use up of a server, as settings, and the counters of what was refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from jce.wire import DEFAULT_MAX_VALUES
from tars_protocol.connection import DEFAULT_MAX_OUTSTANDING
from tars_protocol.frames import DEFAULT_MAX_FRAME_BYTES, MIN_FRAME_BYTES
from tars_protocol.settings import setting


class RateLimitMode(StrEnum):
    """What becomes of requests above ``max_requests_per_peer``."""

    OFF = "off"
    COUNT = "count"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one peer, and all of them, may use up."""

    max_frame_bytes: int = setting(
        DEFAULT_MAX_FRAME_BYTES,
        "Longest frame taken; a longer one closes the connection. Callers send their old endpoint lists along: "
        "500 endpoints are about 20 kB.",
        unit="bytes",
        minimum=MIN_FRAME_BYTES,
        reloadable=True,
    )
    max_values: int = setting(
        DEFAULT_MAX_VALUES,
        "Values (fields, elements, keys) in one frame, of which a list, map, struct or run of bytes counts for three; "
        "with more it is answered -1. 500 endpoints of 14 fields are 8,500, and each value costs as much to read as an "
        "honest one.",
        minimum=1,
        reloadable=True,
    )
    max_connections: int = setting(
        10_000,
        "Connections open at once on a port; one more is closed at once. Each takes a file descriptor.",
        minimum=1,
        reloadable=True,
    )
    max_connections_per_peer: int = setting(
        2_000,
        "Of these, connections from one address. Behind one address there may be a whole node: 250 pods with up to 4 "
        "connections each (Java) are 1,000, and twice that while they are replaced. It keeps one machine from taking "
        "all of max_connections.",
        minimum=1,
        reloadable=True,
    )
    first_byte_timeout: float = setting(
        30.0,
        "From connecting to the first byte. Clients connect when they have something to ask; who connects and says "
        "nothing has no reason to be kept for idle_timeout.",
        unit="seconds",
        minimum=1,
        reloadable=True,
    )
    frame_timeout: float = setting(
        10.0,
        "From a frame's first byte to its last. Clients write a frame at once; a slower peer is broken or hostile.",
        unit="seconds",
        minimum=1,
        reloadable=True,
    )
    idle_timeout: float = setting(
        900.0,
        "Without a byte from the peer. Clients ask every 60 s over one connection; shorter than 600 s would make them "
        "connect anew.",
        unit="seconds",
        minimum=1,
        reloadable=True,
    )
    write_timeout: float = setting(
        30.0,
        "For a peer that does not read its answers; until then no more of its questions are taken.",
        unit="seconds",
        minimum=1,
        reloadable=True,
    )
    max_unsent_bytes: int = setting(
        1 << 18,
        "Answers made for one connection at a stretch. While the system does not take all of them, because the peer "
        "does not read, no more questions are taken from it.",
        unit="bytes",
        minimum=1,
        reloadable=True,
    )
    send_buffer_bytes: int = setting(
        256 << 10,
        "The system's send buffer of a connection (SO_SNDBUF; Linux gives net.core.wmem_max at most, and twice what it "
        "gives) once its peer has read what did not fit; half of it before. Left to itself it grows to 4 MiB, and a "
        "thousand peers that ask and never read would take the network memory of the whole machine. An answer with 500 "
        "endpoints has 20 kB; in rows of 16, which do not fit into half of it, each costs half as much again there.",
        unit="bytes",
        minimum=1,
        maximum=1 << 30,
        reloadable=True,
    )
    max_buffered_bytes: int = setting(
        64 << 20,
        "Incomplete frames, questions that wait for their turn, and answers that wait for peers to read (with the "
        "system's send buffers of peers that do not), of all connections of a port together; over it the connections "
        "that hold the most are cut, until an eighth is free. An honest client's frame is complete and answered at "
        "once.",
        unit="bytes",
        minimum=1,
        reloadable=True,
    )
    max_outstanding: int = setting(
        DEFAULT_MAX_OUTSTANDING,
        "Answers of one connection that are under way (those that wait for the Kubernetes API); until there are fewer "
        "no more is read from it. A tarsnode has one or two.",
        minimum=1,
        reloadable=True,
    )
    max_in_flight: int = setting(
        5_000,
        "The same of all connections of a port together; one more is answered -9 at once. Each takes about 5 kB, and "
        "an answer that comes later than a tarsnode waits (6 s) is worth nothing.",
        minimum=1,
        reloadable=True,
    )
    turn_time: float = setting(
        0.001,
        "Longest time for which requests are decoded and answered at a stretch, those of all connections together, "
        "before whatever else has come has its turn. A question whose answer is kept, alone in its read, never waits; "
        "one request alone may take longer.",
        unit="seconds",
        minimum=0,
        reloadable=True,
    )
    turn_timeout: float = setting(
        1.0,
        "A request that has waited so long to be decoded is answered -9, undecoded: clients wait for 3 to 5 s and then "
        "ask another registry, and should have the time to.",
        unit="seconds",
        minimum=0,
        reloadable=True,
    )
    rate_limit: RateLimitMode = setting(
        RateLimitMode.OFF,
        "What becomes of requests above max_requests_per_peer: nothing; they are counted; or they are answered -9 "
        "without being decoded. Off because behind one address there may be a whole node: count first.",
        reloadable=True,
    )
    max_requests_per_peer: float = setting(
        1_000.0,
        "Requests from one address on a port, on average; up to a second's worth may come at once. A client asks once "
        "a minute for each object that it calls: 250 pods with 20 objects each are 83.",
        unit="requests a second",
        minimum=0.001,
        reloadable=True,
    )


@dataclass(slots=True)
class ServerStats:
    """Connections of one listener: ``accepted`` in all, ``refused`` and cut ones by reason."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    over_rate: int = 0
    """Requests above max_requests_per_peer, answered or not."""
    rate_refused: int = 0
    """Of these, those that were answered -9."""
