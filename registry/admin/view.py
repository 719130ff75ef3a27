"""What health and metrics may see of the running service; the app fills it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from registry.model import PodState, SourceStatus
from registry.table import Table, TableSize


@dataclass(frozen=True, slots=True)
class Listener:
    """One port as metrics show it: its name, connections open now and accepted in all, refusals by reason."""

    name: str
    open: int
    accepted: int
    refused: Mapping[str, int]
    in_flight: int = 0
    """Answers that are under way."""
    requests_refused: Mapping[str, int] = field(default_factory=dict)
    """Requests answered -9, by reason."""
    over_rate: int = 0
    """Requests above the rate limit, answered or not."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The kept answers as metrics show them."""

    hits: int
    misses: int
    computed: int
    dropped: int
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Requests:
    """Answers by (servant, function, result); the time of those that had to be decoded; bugs met."""

    answers: Mapping[tuple[str, str, str], int]
    miss_buckets: list[tuple[float, int]]
    miss_seconds: float
    bugs: int


@dataclass(frozen=True, slots=True)
class Reports:
    """What tarsnodes reported and asked, and what of it is written: counters by word, and what waits.

    ``requests`` to the API server by verb and code; ``oldest`` in seconds.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    descriptors_refused: Mapping[str, int] = field(default_factory=dict)
    audit_lines_left_out: int = 0
    queued: int = 0
    oldest: float = 0.0
    requests: Mapping[tuple[str, str], int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    missing_rights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """Callables, each of which gives a picture of one part as of now."""

    version: str
    event_loop: str
    table: Callable[[], Table]
    table_size: Callable[[], TableSize]
    sources: Callable[[], list[SourceStatus]]
    requests: Callable[[], Requests]
    cache: Callable[[], Cache]
    listeners: Callable[[], list[Listener]]
    not_ready: Callable[[], list[str]]
    """Why the service is not ready, in words; empty when it is."""
    staleness: Callable[[], float] = field(default=lambda: 0.0)
    """Seconds since all of the table was last known to be current."""
    snapshot: Callable[[], tuple[float | None, int] | None] = field(default=lambda: None)
    """Unix time of the snapshot file (None: no file yet) and failed writings; None where there is to be no file."""
    explain: Callable[[Mapping[str, str]], object] | None = None
    """What a caller would be answered and why, for JSON, by the parameters of its page. Raises ValueError."""
    objects: Callable[[Mapping[str, str]], object] | None = None
    """The ids of a page of objects, for JSON, by the parameters of its page. Raises ValueError."""
    log_lines_left_out: Callable[[], int] = field(default=lambda: 0)
    log_lines_lost: Callable[[], int] = field(default=lambda: 0)
    """Log lines that standard error did not take."""
    clock_jumps: Callable[[], int] = field(default=lambda: 0)
    """How often the time of day was set."""
    reports: Callable[[], Reports] = field(default=Reports)
    states: Callable[[], list[PodState] | None] = field(default=lambda: None)
    """The states that the registry itself keeps; None where the cluster does."""
