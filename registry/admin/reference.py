"""The page of docs that lists every metric, made from the metrics themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client.core import Metric

from registry.admin.metrics import Metrics
from registry.admin.view import Cache, Listener, Reports, Requests, View
from registry.model import SourceStatus
from registry.table import Table, TableSize

_HEAD = """# Metrics

Made from the code by `make docs`. `/metrics` on the admin address has all of these, and on the address of
`--metrics-listen` for scrapers from elsewhere. Beside them are those that every Python program has: `process_*`
(memory, processor time, file descriptors, start time) and `python_*`.

A counter with labels is there from its first event on, `snapshot_*` with `--snapshot-path`, and of the source what it
has to tell. [alerts.md](alerts.md) says which of them to be woken by, and
[charts/tars-registry/dashboards](../charts/tars-registry/dashboards) shows them in Grafana.

| metric | type | labels | |
|---|---|---|---|
"""


def reference_page() -> str:
    """The page, in Markdown."""
    return _HEAD + "".join(f"{row}\n" for row in _rows(Metrics(_one_of_each()).collect()))


def _rows(families: Iterable[Metric]) -> Iterable[str]:
    for family in families:
        # What is added to tell the parts of a histogram and the bounds of its buckets is no label of ours.
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        shown = ", ".join(f"`{label}`" for label in labels)
        kind = "gauge" if family.type == "info" else family.type
        yield f"| `{family.name}{suffix}` | {kind} | {shown} | {family.documentation} |"


def _one_of_each() -> View:
    """A view in which every family has a sample, so that its labels can be seen."""
    now = time.monotonic()
    source = SourceStatus("source", "watching", last_success=now, last_byte=now, version="1", errors={"reason": 1})
    one = {"word": 1}
    return View(
        version="",
        event_loop="",
        table=Table,
        table_size=lambda: TableSize(0, 0, 0, 0),
        sources=lambda: [source],
        requests=lambda: Requests({("servant", "function", "result"): 1}, [(float("inf"), 0)], 0.0, 0),
        cache=lambda: Cache(0, 0, 0, 0, 0, 0),
        listeners=lambda: [Listener("listener", 0, 0, one, 0, one)],
        not_ready=list,
        snapshot=lambda: (0.0, 0),
        reports=lambda: Reports(one, one, requests={("verb", "code"): 1}, errors=one, events=one),
    )
