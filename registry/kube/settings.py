"""Settings of the list-watch, each with the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass

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
        30.0, "Longest pause while the API server refuses or is overloaded.", unit="seconds", minimum=0.001
    )
    retry_unreachable: float = setting(
        2.0,
        "Longest pause while the API server can't be reached, or has only just come back: the table is to be current "
        "within 3 s of its return.",
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
