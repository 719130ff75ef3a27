"""Settings of the list-watch and of what is written, each with the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tars_protocol.settings import setting


@dataclass(frozen=True, slots=True)
class ReflectorSettings:
    """How a resource is followed."""

    page_size: int = setting(
        100,
        "Objects in a page of a list: a page is decoded at one stretch of the API server's time, and 500 large objects "
        "would be megabytes.",
        minimum=1,
    )
    watch_timeout: float = setting(
        300.0,
        "Shortest time that a watch is asked for; the longest is twice that, drawn for each, so that many replicas do "
        "not ask in one moment.",
        unit="seconds",
        minimum=2,
    )
    watch_idle_timeout: float = setting(
        68.0,
        "A watch without a byte for so long is taken for dead and resumed. Bookmarks come about every 60 s.",
        unit="seconds",
        minimum=0.001,
    )
    list_timeout: float = setting(
        30.0, "Without a byte of the answer to a list, or to the opening of a watch.", unit="seconds", minimum=0.001
    )
    retry_first: float = setting(
        0.8,
        "Longest pause after a first failure; it doubles with each in a row. Pauses are drawn from 0 up to it.",
        unit="seconds",
        minimum=0.001,
    )
    retry_longest: float = setting(
        30.0,
        "Longest pause while the API server refuses a list or is overloaded, and before a pod is tried again whose "
        "state could not be written for a reason of its own; the longest Retry-After that a write waits for.",
        unit="seconds",
        minimum=0.001,
    )
    retry_unreachable: float = setting(
        2.0,
        "Longest pause while the API server can't be reached, or has only just come back: the table is to be current "
        "within 3 s of its return. While no state can be written one pod is tried so often, so that the first that can "
        "be shows it.",
        unit="seconds",
        minimum=0.001,
    )
    retry_reset: float = setting(
        120.0, "Healthy time after which pauses start short again.", unit="seconds", minimum=0.001
    )
    list_spread: float = setting(
        0.3,
        "A first list, and one after a version expired, waits up to so long, drawn at random: many replicas that need "
        "one in the same moment do not ask together.",
        unit="seconds",
        minimum=0,
    )
    old_list_patience: float = setting(
        300.0,
        "For so long no list is taken that is older than what the table holds; after that the API server's history was "
        "replaced (by a restored backup, say), and it is.",
        unit="seconds",
        minimum=0,
    )
    work_slice: float = setting(
        0.002, "Longest time to decode at a stretch before callers get their turn.", unit="seconds", minimum=0.0001
    )


class CallerCheck(StrEnum):
    """What becomes of a report whose caller does not have an address of the pod that it is about."""

    AUTO = "auto"
    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How states are written to the API server."""

    caller_check: CallerCheck = setting(
        CallerCheck.AUTO,
        "A report is to come from an address of the pod that it is about: enforce refuses others, warn logs them, off "
        "does not look. auto enforces where the registry may get pods, and warns elsewhere. Where hostNetwork, "
        "address translation or a mesh hide the callers' addresses, it takes warn or off.",
    )
    write_rate: float = setting(
        200.0,
        "Pods a second whose state is looked at (one read) and written (one write, where it changed); 0.4 of a "
        "processor core here. Two replicas keep up with 20,000 pods that report within a minute, and of an API server "
        "it takes a few of the 200 changes that it works on at a time.",
        minimum=0.1,
    )
    write_burst: int = setting(
        400, "Pods that are taken at once after a quiet time: a server of many pods that is rolled out.", minimum=1
    )
    write_concurrency: int = setting(
        32, "Pods worked on at a time: enough for write_rate while each request takes 80 ms.", minimum=1
    )
    api_timeout: float = setting(
        5.0, "For one request; after that it is taken for lost, and tried again.", unit="seconds", minimum=0.1
    )
    max_queued_pods: int = setting(
        50_000,
        "Pods whose state waits to be written, for an outage of the API server: about 1 KB each. For more, the address "
        "that has reported for the most of them gives one up, which is refused. Those that are being written are not "
        "counted.",
        minimum=1,
    )
    remembered_for: float = setting(
        300.0,
        "Without the right to get pods: a state that was written for a pod is not written again for so long. Less than "
        "the 420 s after which a tarsnode repeats its state, so that the repeat mends what went wrong.",
        unit="seconds",
        minimum=0,
    )
    event_rate: float = setting(
        1.0, "Kubernetes Events a second about refused reports; more are counted only.", minimum=0.001
    )
    event_interval: float = setting(600.0, "Shortest time between two Events about one pod.", unit="seconds", minimum=0)
    rights_interval: float = setting(
        300.0,
        "Between two looks at what the registry may do; what is granted is used from the next one on.",
        unit="seconds",
        minimum=1,
    )
