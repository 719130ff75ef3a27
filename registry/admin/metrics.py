"""Metrics for Prometheus: counters that the parts keep anyhow, put into families when somebody scrapes."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from registry.admin.view import View
from registry.model import SourceStatus

_PREFIX = "tars_registry_"


class Metrics(Collector):
    """All metrics of the service."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """The exposition, in the text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Every family, as of now."""
        yield self._build_info()
        yield from self._requests()
        yield from self._cache()
        yield from self._table()
        yield from self._sources()
        yield from self._listeners()
        yield from self._reports()
        yield _gauge("ready", "1 where the service is ready to answer.", float(not self._view.not_ready()))
        yield _counter("log_lines_left_out", "Log lines left out by the rate limit.", self._view.log_lines_left_out())
        yield _counter("log_lines_lost", "Log lines that standard error did not take.", self._view.log_lines_lost())
        yield _counter("clock_jumps", "Times that the time of day was set.", self._view.clock_jumps())

    def _build_info(self) -> Metric:
        view = self._view
        build = {"version": view.version, "python": platform.python_version(), "event_loop": view.event_loop}
        return InfoMetricFamily(_PREFIX + "build", "Version of the service and of what it runs on.", build)

    def _requests(self) -> Iterable[Metric]:
        requests = self._view.requests()
        answered = CounterMetricFamily(
            _PREFIX + "requests",
            "Requests answered, by servant, function and result: found, empty, refused and not_synchronised for "
            "look-ups, ok for other functions, else the name of the return code.",
            labels=["servant", "function", "result"],
        )
        for labels, count in sorted(requests.answers.items()):
            answered.add_metric(list(labels), count)
        yield answered
        yield HistogramMetricFamily(
            _PREFIX + "miss_duration_seconds",
            "Time to answer a request that no kept answer fits.",
            buckets=[("+Inf" if bound == float("inf") else str(bound), n) for bound, n in requests.miss_buckets],
            sum_value=requests.miss_seconds,
        )
        yield _counter("bugs", "Exceptions that should not have been; each has its trace in the log.", requests.bugs)

    def _cache(self) -> Iterable[Metric]:
        cache = self._view.cache()
        yield _counter("cache_hits", "Requests answered without being decoded.", cache.hits)
        yield _counter("cache_misses", "Requests that were not known by their bytes.", cache.misses)
        yield _counter("cache_computed", "Answers made, or made again after a change.", cache.computed)
        yield _counter("cache_dropped", "Entries given up to stay within the limits.", cache.dropped)
        yield _gauge("cache_entries", "Requests and answers kept.", cache.entries)
        yield _gauge("cache_bytes", "Memory of the kept requests and answers, as estimated.", cache.bytes)

    def _table(self) -> Iterable[Metric]:
        table, size = self._view.table(), self._view.table_size()
        yield _gauge("table_servers", "Servers in the table.", size.servers)
        pods = GaugeMetricFamily(_PREFIX + "table_pods", "Pods in the table, by state.", labels=["state"])
        pods.add_metric(["active"], size.active_pods)
        pods.add_metric(["inactive"], size.pods - size.active_pods)
        yield pods
        yield _gauge("table_templates", "Templates in the table.", size.templates)
        yield _gauge("table_version", "Grows by one with each change of the table.", table.version)
        yield _gauge("table_synchronised", "1 once every source has handed over all it has.", float(table.synced))

    def _sources(self) -> Iterable[Metric]:
        now = time.monotonic()
        statuses = self._view.sources()
        state = GaugeMetricFamily(
            _PREFIX + "source_state", "1 for the state a source is in.", labels=["source", "state"]
        )
        for status in statuses:
            state.add_metric([status.name, status.state], 1)
        yield state
        gauges: dict[str, tuple[str, Callable[[SourceStatus], float | None]]] = {
            "source_synchronised": ("1 once all was handed over.", lambda s: s.synced),
            "source_problems": ("What can't be taken now.", lambda s: len(s.problems)),
            "source_age_seconds": ("Since it was last known to be current.", lambda s: _since(s.last_success, now)),
            "source_silence_seconds": ("Since the last byte of the API server.", lambda s: _since(s.last_byte, now)),
            "source_resource_version": (
                "The last resource version seen.",
                lambda s: float(s.version) if s.version.isdigit() else None,
            ),
        }
        for name, (documentation, value) in gauges.items():
            gauge = GaugeMetricFamily(_PREFIX + name, documentation, labels=["source"])
            for status in statuses:
                if (found := value(status)) is not None:
                    gauge.add_metric([status.name], found)
            yield gauge
        relists = CounterMetricFamily(_PREFIX + "source_relists", "Lists after the first.", labels=["source"])
        resumed = CounterMetricFamily(_PREFIX + "source_watches", "Watches opened from a version.", labels=["source"])
        errors = CounterMetricFamily(_PREFIX + "source_errors", "Errors by reason.", labels=["source", "reason"])
        for status in statuses:
            relists.add_metric([status.name], status.relists)
            resumed.add_metric([status.name], status.reconnects)
            for reason, count in sorted(status.errors.items()):
                errors.add_metric([status.name, reason], count)
        yield from (relists, resumed, errors)
        yield _gauge("staleness_seconds", "Since the whole table was last known current.", self._view.staleness())
        snapshot = self._view.snapshot()
        if snapshot is not None:
            written, failures = snapshot
            yield _gauge("snapshot_timestamp_seconds", "When the snapshot file's table was current.", written or 0.0)
            yield _counter("snapshot_errors", "Writings of the snapshot file that failed.", failures)

    def _reports(self) -> Iterable[Metric]:
        reports = self._view.reports()
        yield _counters(
            "reports",
            "States that tarsnodes reported, by what became of them; docs/tarsnodes.md has the outcomes.",
            "outcome",
            reports.outcomes,
        )
        refused = reports.descriptors_refused
        yield _counters("descriptors_refused", "Descriptors asked for in vain, by reason.", "reason", refused)
        yield _gauge("reports_queued", "Pods whose state waits to be written.", reports.queued)
        yield _gauge("reports_oldest_seconds", "For how long one of them has waited.", reports.oldest)
        requests = CounterMetricFamily(
            _PREFIX + "api_requests",
            "Requests to the API server about states, by verb and code; none where there was no answer.",
            labels=["verb", "code"],
        )
        for labels, count in sorted(reports.requests.items()):
            requests.add_metric(list(labels), count)
        yield requests
        yield _counters(
            "write_errors", "States that could not be written at first, by reason.", "reason", reports.errors
        )
        yield _counters("events", "Kubernetes Events about refused reports.", "result", reports.events)
        yield _gauge("rights_missing", "Rights that are missing; the log names them.", len(reports.missing_rights))
        yield _counter("audit_lines_left_out", "Refusals without a line in the log.", reports.audit_lines_left_out)

    def _listeners(self) -> Iterable[Metric]:
        open_now = GaugeMetricFamily(_PREFIX + "connections", "Connections open now.", labels=["listener"])
        accepted = CounterMetricFamily(_PREFIX + "connections_accepted", "Connections in all.", labels=["listener"])
        refused = CounterMetricFamily(
            _PREFIX + "connections_refused",
            "Connections refused or cut, by reason.",
            labels=["listener", "reason"],
        )
        in_flight = GaugeMetricFamily(_PREFIX + "requests_in_flight", "Answers under way.", labels=["listener"])
        overload = CounterMetricFamily(
            _PREFIX + "requests_refused", "Requests answered -9, by reason.", labels=["listener", "reason"]
        )
        over_rate = CounterMetricFamily(
            _PREFIX + "requests_over_rate",
            "Requests above max_requests_per_peer, answered or not.",
            labels=["listener"],
        )
        for listener in self._view.listeners():
            open_now.add_metric([listener.name], listener.open)
            accepted.add_metric([listener.name], listener.accepted)
            in_flight.add_metric([listener.name], listener.in_flight)
            over_rate.add_metric([listener.name], listener.over_rate)
            for reason, count in sorted(listener.refused.items()):
                refused.add_metric([listener.name, reason], count)
            for reason, count in sorted(listener.requests_refused.items()):
                overload.add_metric([listener.name, reason], count)
        yield from (open_now, accepted, refused, in_flight, overload, over_rate)


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, documentation, value=value)


def _counters(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, documentation, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, documentation, value=value)
