"""Histories of metrics, minute by minute, and which alerts fire in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

MINUTES: Final = 90
"""How long each of them is, unless it says otherwise."""

REPLICAS: Final = ("10.0.0.1:17893", "10.0.0.2:17893")

STEADY: Final = f"x{MINUTES}"

HEALTHY: Final[dict[str, str]] = {
    "tars_registry_ready": f"1{STEADY}",
    "tars_registry_build_info": f"1{STEADY}",
    "tars_registry_bugs_total": f"0{STEADY}",
    "tars_registry_staleness_seconds": f"0{STEADY}",
    'tars_registry_requests_total{servant="q",function="f",result="found"}': f"0+6000{STEADY}",
    'tars_registry_requests_total{servant="q",function="f",result="empty"}': f"0+600{STEADY}",
    'tars_registry_requests_total{servant="q",function="f",result="refused"}': f"0+6{STEADY}",
    'tars_registry_requests_total{servant="q",function="f",result="server_decode"}': f"0+6{STEADY}",
    'tars_registry_miss_duration_seconds_bucket{le="0.001"}': f"0+60{STEADY}",
    'tars_registry_miss_duration_seconds_bucket{le="0.025"}': f"0+60{STEADY}",
    'tars_registry_miss_duration_seconds_bucket{le="0.1"}': f"0+60{STEADY}",
    'tars_registry_miss_duration_seconds_bucket{le="+Inf"}': f"0+60{STEADY}",
    'tars_registry_source_age_seconds{source="tendpoints in tars"}': f"0{STEADY}",
    # What counts of the policy is when it changed last.
    'tars_registry_source_age_seconds{source="routing policy"}': f"0+60{STEADY}",
    'tars_registry_source_synchronised{source="tendpoints in tars"}': f"1{STEADY}",
    'tars_registry_source_errors_total{source="tendpoints in tars",reason="connection"}': f"3{STEADY}",
    'tars_registry_source_errors_total{source="tendpoints in tars",reason="expired"}': f"0+2{STEADY}",
    'tars_registry_source_problems{source="tendpoints in tars"}': f"0{STEADY}",
    'tars_registry_source_problems{source="routing policy"}': f"0{STEADY}",
    "tars_registry_table_servers": f"100{STEADY}",
    "tars_registry_snapshot_errors_total": f"0{STEADY}",
    "tars_registry_reports_oldest_seconds": f"0{STEADY}",
    'tars_registry_reports_total{outcome="written"}': f"0+20{STEADY}",
    'tars_registry_reports_total{outcome="no_pod"}': f"0+1{STEADY}",
    'tars_registry_write_errors_total{reason="connection"}': f"2{STEADY}",
    'tars_registry_descriptors_refused_total{reason="unknown_server"}': f"0+1{STEADY}",
    "tars_registry_rights_missing": f"0{STEADY}",
    'tars_registry_connections_refused_total{listener="query",reason="idle_timeout"}': f"0+5{STEADY}",
    'tars_registry_requests_refused_total{listener="query",reason="overload"}': f"0{STEADY}",
    "tars_registry_log_lines_lost_total": f"0{STEADY}",
    "process_open_fds": f"200{STEADY}",
    "process_max_fds": f"20000{STEADY}",
    "process_start_time_seconds": f"1000{STEADY}",
}
"""Of each replica, where all is well."""


@dataclass(frozen=True)
class Scenario:
    """What is otherwise on the first replica (a value of "" takes a series away), and what fires at the end.

    ``fires`` are the alerts, with the labels that they have beside those of the replica; ``both``: the second replica
    is as the first; ``of_all``: the alerts have no label instance, ``of_none``: none at all.
    """

    name: str
    otherwise: dict[str, str] = field(default_factory=dict)
    fires: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    at: int = MINUTES
    both: bool = False
    of_all: Sequence[str] = ("TarsRegistryNoneReady", "TarsRegistryReplicasDisagree")
    of_none: Sequence[str] = ("TarsRegistryAbsent",)


def last(value: str, minutes: int, before: str = "0") -> str:
    """A series that is ``before`` and then, in the last minutes, another."""
    return f"{before}x{MINUTES - minutes} {value}x{minutes - 1}"


def grows(per_minute: float, minutes: int, start: int = 0) -> str:
    """A counter that stands still and then, in the last minutes, grows."""
    return f"{start}x{MINUTES - minutes} {start + per_minute:g}+{per_minute:g}x{minutes - 1}"


def begins(per_minute: int, minutes: int) -> str:
    """A counter that is not there before it grows."""
    return f"_x{MINUTES - minutes} {per_minute}+{per_minute}x{minutes - 1}"


def once(minutes: int) -> str:
    """A counter that is not there before the one event that it counts, some minutes ago."""
    return f"_x{MINUTES - minutes} 1x{minutes - 1}"


TENDPOINTS: Final = {"source": "tendpoints in tars"}
REQUESTS: Final = 'tars_registry_requests_total{servant="q",function="f",result="%s"}'
AGE: Final = 'tars_registry_source_age_seconds{source="tendpoints in tars"}'
ERRORS: Final = 'tars_registry_source_errors_total{source="tendpoints in tars",reason="%s"}'
PROBLEMS: Final = 'tars_registry_source_problems{source="%s"}'
REPORTS: Final = 'tars_registry_reports_total{outcome="%s"}'
CONNECTIONS: Final = 'tars_registry_connections_refused_total{listener="query",reason="%s"}'
STALENESS: Final = "tars_registry_staleness_seconds"
SERVERS: Final = "tars_registry_table_servers"
BUCKET: Final = 'tars_registry_miss_duration_seconds_bucket{le="%s"}'

SCENARIOS: Final = (
    Scenario("all is well"),
    Scenario(
        "nobody is scraped",
        dict.fromkeys(HEALTHY, ""),
        {"TarsRegistryAbsent": {}},
        both=True,
    ),
    Scenario(
        "none is ready for two minutes",
        {"tars_registry_ready": last("0", 3, "1")},
        {"TarsRegistryNoneReady": {}},
        both=True,
    ),
    Scenario("one of two is not ready for a moment", {"tars_registry_ready": last("0", 4, "1")}),
    Scenario(
        "one of two is not ready for long", {"tars_registry_ready": last("0", 8, "1")}, {"TarsRegistryNotReady": {}}
    ),
    Scenario(
        "callers are told to ask again",
        {REQUESTS % "not_synchronised": begins(100, 12)},
        {"TarsRegistryNotSynchronised": {}},
    ),
    Scenario("callers were told to ask again at the start", {REQUESTS % "not_synchronised": once(4)}),
    Scenario("errors are many", {REQUESTS % "server_decode": grows(120, 25)}, {"TarsRegistryErrors": {}}),
    Scenario("errors are few", {REQUESTS % "server_decode": grows(50, 25)}),
    Scenario("a bug", {"tars_registry_bugs_total": grows(1, 1)}, {"TarsRegistryBug": {}}),
    Scenario("a bug that was long ago", {"tars_registry_bugs_total": f"0x10 1x{MINUTES}"}),
    Scenario(
        "misses are slow",
        {BUCKET % "0.001": f"0{STEADY}", BUCKET % "0.025": f"0{STEADY}"},
        {"TarsRegistrySlow": {}},
    ),
    Scenario("few misses are slow", {BUCKET % "0.001": f"0+59.9{STEADY}", BUCKET % "0.025": f"0+59.9{STEADY}"}),
    Scenario("the table is old", {STALENESS: "0x20 0+60x8"}, {"TarsRegistryStale": {}}, at=28),
    Scenario("the table is a little old", {STALENESS: "0x20 0+60x8"}, at=25),
    Scenario(
        "the table is very old",
        {STALENESS: "0x20 0+60x70"},
        {"TarsRegistryStale": {}, "TarsRegistryVeryStale": {}},
    ),
    Scenario(
        "there never was a table",
        {STALENESS: " ".join(["Inf"] * (MINUTES + 1))},
        {"TarsRegistryStale": {}, "TarsRegistryVeryStale": {}},
    ),
    Scenario("a watch is not alive", {AGE: "0x20 0+60x8"}, {"TarsRegistryWatchFailing": TENDPOINTS}, at=26),
    Scenario("a watch is resumed late", {AGE: "0x20 0+60x2 0x90"}, at=30),
    Scenario(
        "a source was never listed",
        {AGE: "", 'tars_registry_source_synchronised{source="tendpoints in tars"}': f"0{STEADY}"},
        {"TarsRegistryWatchFailing": TENDPOINTS},
    ),
    Scenario("the API server refuses", {ERRORS % "server": begins(3, 20)}, {"TarsRegistryWatchErrors": TENDPOINTS}),
    Scenario("versions expire", {ERRORS % "expired": grows(30, 20)}),
    Scenario("a connection is lost now and then", {ERRORS % "connection": grows(0.5, 60, 3)}),
    Scenario("a part crashed for the first time", {ERRORS % "crash": once(2)}, {"TarsRegistryCrashing": TENDPOINTS}),
    Scenario("a part crashed two hours ago", {ERRORS % "crash": f"1{STEADY}"}),
    Scenario(
        "an object can't be taken",
        {PROBLEMS % "tendpoints in tars": last("2", 8)},
        {"TarsRegistryObjectsLeftOut": TENDPOINTS},
    ),
    Scenario("an object was mended at once", {PROBLEMS % "tendpoints in tars": last("2", 3)}),
    Scenario(
        "the policy is broken",
        {PROBLEMS % "routing policy": last("1", 3)},
        {"TarsRegistryPolicyBroken": {"source": "routing policy"}},
    ),
    Scenario(
        "half of the servers are gone",
        {SERVERS: last("49", 8, "100")},
        {"TarsRegistryTableShrank": {}},
        both=True,
    ),
    Scenario("some servers are gone", {SERVERS: last("60", 8, "100")}, both=True),
    Scenario("half of a few servers are gone", {SERVERS: last("4", 8, "9")}, both=True),
    Scenario("replicas disagree", {SERVERS: last("99", 14, "100")}, {"TarsRegistryReplicasDisagree": {}}),
    Scenario("replicas disagree for a moment", {SERVERS: last("99", 5, "100")}),
    Scenario(
        "the snapshot can't be written",
        {"tars_registry_snapshot_errors_total": grows(1, 20)},
        {"TarsRegistrySnapshotFailing": {}},
    ),
    Scenario(
        "a state waits", {"tars_registry_reports_oldest_seconds": last("0+60", 6)}, {"TarsRegistryWriterBacklog": {}}
    ),
    Scenario("a state waits for a moment", {"tars_registry_reports_oldest_seconds": last("50", 20)}),
    Scenario(
        "states can't be written",
        {'tars_registry_write_errors_total{reason="connection"}': grows(5, 20, 2)},
        {"TarsRegistryWriteErrors": {"reason": "connection"}},
    ),
    Scenario(
        "a state had to be written again", {'tars_registry_write_errors_total{reason="connection"}': grows(0.5, 20)}
    ),
    Scenario(
        "somebody speaks for another pod",
        {REPORTS % "wrong_caller": once(8)},
        {"TarsRegistryReportsRefused": {"outcome": "wrong_caller"}},
    ),
    Scenario("somebody spoke for another pod an hour ago", {REPORTS % "wrong_caller": once(60)}),
    Scenario("reports for pods that are gone", {REPORTS % "no_pod": grows(50, 20)}),
    Scenario(
        "a profile is broken",
        {'tars_registry_descriptors_refused_total{reason="profile"}': begins(1, 10)},
        {"TarsRegistryDescriptorsRefused": {}},
    ),
    Scenario("rights are missing", {"tars_registry_rights_missing": last("2", 20)}, {"TarsRegistryRightsMissing": {}}),
    Scenario(
        "a limit on connections is reached",
        {CONNECTIONS % "too_many_connections_of_peer": begins(10, 10)},
        {"TarsRegistryConnectionsRefused": {"listener": "query", "reason": "too_many_connections_of_peer"}},
    ),
    Scenario("garbage comes in", {CONNECTIONS % "undecodable": begins(100, 30)}),
    Scenario(
        "there is too much to do",
        {'tars_registry_requests_refused_total{listener="query",reason="overload"}': grows(10, 12)},
        {"TarsRegistryRequestsRefused": {"listener": "query", "reason": "overload"}},
    ),
    Scenario(
        "file descriptors run out",
        {"process_open_fds": last("17000", 8, "200")},
        {"TarsRegistryDescriptorsNearLimit": {}},
    ),
    Scenario(
        "it is started again and again",
        {"process_start_time_seconds": "1000x60 2000x5 3000x5 4000x5 5000x20"},
        {"TarsRegistryRestarting": {}},
    ),
    Scenario("it was started again", {"process_start_time_seconds": last("5000", 30, "1000")}),
    Scenario(
        "the log is not read", {"tars_registry_log_lines_lost_total": grows(3, 20)}, {"TarsRegistryLogLinesLost": {}}
    ),
    Scenario(
        "another program has few file descriptors left",
        {
            "tars_registry_build_info": "",
            "process_open_fds": last("17000", 8, "200"),
            "process_start_time_seconds": "1000x60 2000x5 3000x5 4000x5 5000x20",
        },
    ),
)
