"""The exposition for Prometheus: well-formed, complete, and with labels that no peer can add to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from registry.admin.metrics import Metrics
from registry.admin.view import Cache, Listener, Reports, Requests, View
from registry.model import Problem, SourceStatus
from registry.table import Table, TableSize
from tars_protocol.aio.client import Client
from tars_protocol.constants import Version
from tars_protocol.errors import CallError
from tars_protocol.interface import Interface, function
from tars_protocol.interfaces import query, registry
from tests.support import manifests
from tests.support.in_process import admin_ports, running
from tests.support.tables import HELLO, LOOKUPS, VERSIONS, arguments_of

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def families(text: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text.decode("utf-8"))}


def samples(text: bytes) -> Samples:
    found = {}
    for family in families(text).values():
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "one series twice: Prometheus refuses the whole page"
            found[key] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"tars_registry_{name}", frozenset(labels.items())]


def a_view(**changes: object) -> View:
    source = SourceStatus("directory", "watching", synced=True, last_success=time.monotonic() - 5)
    source.problems = (Problem("a.yaml:1", "x"), Problem("b.yaml:1", "y"))
    source.errors = {"parse": 3, "gone": 1}
    fields: dict[str, object] = {
        "version": "1.2.3",
        "event_loop": "uvloop",
        "table": lambda: Table(version=7, synced=True),
        "table_size": lambda: TableSize(servers=4, pods=10, active_pods=6, templates=2),
        "sources": lambda: [source],
        "requests": lambda: Requests(
            {("s", "f", "found"): 5, ("s", "f", "empty"): 2}, [(0.001, 1), (0.01, 3), (float("inf"), 4)], 0.25, 1
        ),
        "cache": lambda: Cache(hits=1, misses=2, computed=3, dropped=4, entries=5, bytes=6),
        "listeners": lambda: [
            Listener("query", 3, 9, {"idle_timeout": 2, "bug": 1}),
            Listener("registry", 0, 0, {}),
        ],
        "not_ready": list,
        "log_lines_left_out": lambda: 8,
        "reports": lambda: Reports(
            outcomes={"written": 3, "wrong_caller": 1},
            descriptors_refused={"profile": 2},
            audit_lines_left_out=4,
            queued=5,
            oldest=6.5,
            requests={("get", "200"): 7, ("patch", "none"): 8},
            errors={"connection": 9},
            events={"sent": 10},
            missing_rights=("get pods in tars",),
        ),
    }
    return View(**fields | changes)  # type: ignore[arg-type]


def test_every_number_of_the_view_is_there() -> None:
    found = samples(Metrics(a_view()).text())
    assert value(found, "requests_total", servant="s", function="f", result="found") == 5
    assert value(found, "requests_total", servant="s", function="f", result="empty") == 2
    assert value(found, "miss_duration_seconds_bucket", le="0.001") == 1
    assert value(found, "miss_duration_seconds_bucket", le="+Inf") == 4
    assert value(found, "miss_duration_seconds_count") == 4
    assert value(found, "miss_duration_seconds_sum") == 0.25
    assert value(found, "bugs_total") == 1
    names = ("hits_total", "misses_total", "computed_total", "dropped_total", "entries", "bytes")
    assert [value(found, f"cache_{name}") for name in names] == [1, 2, 3, 4, 5, 6]
    assert value(found, "table_servers") == 4
    assert value(found, "table_pods", state="active") == 6
    assert value(found, "table_pods", state="inactive") == 4
    assert value(found, "table_templates") == 2
    assert value(found, "table_version") == 7
    assert value(found, "table_synchronised") == 1
    assert value(found, "source_state", source="directory", state="watching") == 1
    assert value(found, "source_synchronised", source="directory") == 1
    assert value(found, "source_age_seconds", source="directory") == pytest.approx(5, abs=2)
    assert value(found, "source_problems", source="directory") == 2
    assert value(found, "source_errors_total", source="directory", reason="parse") == 3
    assert value(found, "connections", listener="query") == 3
    assert value(found, "connections_accepted_total", listener="query") == 9
    assert value(found, "connections_refused_total", listener="query", reason="idle_timeout") == 2
    assert value(found, "ready") == 1
    assert value(found, "log_lines_left_out_total") == 8
    assert value(found, "reports_total", outcome="written") == 3
    assert value(found, "reports_total", outcome="wrong_caller") == 1
    assert value(found, "descriptors_refused_total", reason="profile") == 2
    assert value(found, "audit_lines_left_out_total") == 4
    assert value(found, "reports_queued") == 5
    assert value(found, "reports_oldest_seconds") == 6.5
    assert value(found, "api_requests_total", verb="get", code="200") == 7
    assert value(found, "api_requests_total", verb="patch", code="none") == 8
    assert value(found, "write_errors_total", reason="connection") == 9
    assert value(found, "events_total", result="sent") == 10
    assert value(found, "rights_missing") == 1
    python = next(labels for name, labels in found if name == "tars_registry_build_info")
    assert {("version", "1.2.3"), ("event_loop", "uvloop")} < python


def test_every_family_is_ours_or_of_the_process() -> None:
    """All have a help text, so that one need not look anything up."""
    found = families(Metrics(a_view()).text())
    assert all(name.startswith(("tars_registry_", "process_", "python_")) for name in found)
    assert all(family.documentation.endswith(".") for name, family in found.items() if name.startswith("tars_"))


def test_what_is_not_known_yet_is_left_out() -> None:
    """No age before there was anything; and not ready is 0."""
    view = a_view(
        sources=lambda: [SourceStatus("directory")],
        not_ready=lambda: ["stopping"],
        table=Table,
        requests=lambda: Requests({}, [(float("inf"), 0)], 0.0, 0),
    )
    found = samples(Metrics(view).text())
    assert value(found, "ready") == 0
    assert value(found, "table_synchronised") == 0
    assert value(found, "source_synchronised", source="directory") == 0
    assert not [name for name, _ in found if name == "tars_registry_source_age_seconds"]


def test_every_resource_has_numbers_of_its_own() -> None:
    """State, age, silence, version, lists, watches and errors by reason, for each in each namespace."""
    now = time.monotonic()
    pods = SourceStatus("pods in a", "watching", synced=True, last_success=now, last_byte=now - 30, version="4711")
    pods.relists, pods.reconnects, pods.errors = 2, 40, {"connection": 3, "expired": 1, "crash": 1}
    away = SourceStatus("pods in b", "backing off", synced=True, last_success=now - 90, last_byte=now - 90, version="9")
    away.problems = (Problem("pods in b", "can't be reached"),)
    new = SourceStatus("ttemplates in a", "listing")
    odd = SourceStatus("ttemplates in b", "crashed", version="not a number")
    found = samples(Metrics(a_view(sources=lambda: [pods, away, new, odd], staleness=lambda: 90.5)).text())
    states = {
        frozenset(labels) for name, labels in found if name == "tars_registry_source_state" and found[name, labels] == 1
    }
    assert states == {frozenset({("source", one.name), ("state", one.state)}) for one in (pods, away, new, odd)}
    for status in (pods, away, new, odd):
        assert value(found, "source_synchronised", source=status.name) == status.synced
        assert value(found, "source_problems", source=status.name) == len(status.problems)
        assert value(found, "source_relists_total", source=status.name) == status.relists
        assert value(found, "source_watches_total", source=status.name) == status.reconnects
    assert value(found, "source_age_seconds", source="pods in a") == pytest.approx(0, abs=2)
    assert value(found, "source_age_seconds", source="pods in b") == pytest.approx(90, abs=2)
    assert value(found, "source_silence_seconds", source="pods in a") == pytest.approx(30, abs=2)
    assert value(found, "source_resource_version", source="pods in a") == 4711
    for reason, count in pods.errors.items():
        assert value(found, "source_errors_total", source="pods in a", reason=reason) == count
    assert value(found, "staleness_seconds") == 90.5
    unknown = {
        (name.removeprefix("tars_registry_source_"), dict(labels)["source"])
        for name, labels in found
        if name.startswith("tars_registry_source_")
    }
    for status in (new, odd):
        assert not {("age_seconds", status.name), ("silence_seconds", status.name)} & unknown
        assert ("resource_version", status.name) not in unknown


@pytest.mark.parametrize(("age", "shown"), [(0.0, 0.0), (12.5, 12.5), (float("inf"), float("inf"))])
def test_the_age_of_the_whole_table_is_one_number(age: float, shown: float) -> None:
    """Endless where nothing is known yet, which every alert on it takes for too old."""
    assert value(samples(Metrics(a_view(staleness=lambda: age)).text()), "staleness_seconds") == shown


@pytest.mark.parametrize(
    ("snapshot", "written", "errors"), [((1_700_000_000.5, 3), 1_700_000_000.5, 3), ((None, 7), 0, 7)]
)
def test_the_snapshot_file_has_a_time_and_failures(
    snapshot: tuple[float | None, int], written: float, errors: int
) -> None:
    """0 where there is to be a file and is none, which is as old as can be."""
    found = samples(Metrics(a_view(snapshot=lambda: snapshot)).text())
    assert value(found, "snapshot_timestamp_seconds") == written
    assert value(found, "snapshot_errors_total") == errors


def test_without_a_snapshot_file_there_is_nothing_to_alert_on() -> None:
    assert not [name for name, _ in samples(Metrics(a_view()).text()) if "snapshot" in name]


def test_odd_text_in_labels_leaves_the_page_well_formed() -> None:
    odd = 'a "b" \\ \n c'
    found = samples(Metrics(a_view(sources=lambda: [SourceStatus(odd, odd, errors={odd: 1})])).text())
    assert value(found, "source_errors_total", source=odd, reason=odd) == 1


async def scrape(port: int) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return await answer.read()


async def test_counters_move_with_the_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifests.write(tmp_path / "hello.yaml", manifests.hello("10.0.0.1", "10.0.0.2", inactive=["10.0.0.3"]))
    caplog.set_level(logging.INFO)
    async with running(tmp_path) as app:
        port = admin_ports(caplog.text)[0]
        before = samples(await scrape(port))
        for version in VERSIONS:
            async with Client("127.0.0.1", app.query.port, query.SERVANT, query.QUERY, version=version) as client:
                await client.ping()
                for lookup in LOOKUPS:
                    for _ in range(3):
                        await client.call(lookup, *arguments_of(lookup, HELLO))
                    await client.call(lookup, *arguments_of(lookup, "Nobody.Server.Obj"))
                    await client.call_one_way(lookup, *arguments_of(lookup, HELLO))
                await client.call("findObjectByIdInSameSet", HELLO, "bad")
        after = samples(await scrape(port))

    assert not [name for name, _ in before if name == "tars_registry_requests_total"]
    for lookup in LOOKUPS:
        labels = {"servant": query.SERVANT, "function": str(lookup)}
        assert value(after, "requests_total", **labels, result="found") == 3 * 4
        assert value(after, "requests_total", **labels, result="empty") == 3
    refused = {"servant": query.SERVANT, "function": "findObjectByIdInSameSet", "result": "refused"}
    assert value(after, "requests_total", **refused) == 3
    assert value(after, "requests_total", servant=query.SERVANT, function="tars_ping", result="ok") == 3
    # Each look-up of three in a row, but the first: the same bytes but for the id.
    hits, misses = value(after, "cache_hits_total"), value(after, "cache_misses_total")
    assert (hits, misses) == (3 * 6 * 2, 3 * (1 + 6 * 3 + 1))
    assert value(after, "miss_duration_seconds_count") == misses
    assert value(after, "cache_computed_total") == 3 * (6 * 3 + 1)
    assert value(after, "cache_entries") > 0
    assert value(after, "cache_bytes") > 0
    assert value(after, "connections_accepted_total", listener="query") == 3
    assert value(after, "table_servers") == 1
    assert (value(after, "table_pods", state="active"), value(after, "table_pods", state="inactive")) == (2, 1)
    assert value(after, "bugs_total") == 0
    assert value(after, "ready") == 1


async def test_no_peer_makes_new_series(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever servants and functions they make up, and whatever they send in their place."""
    names = [f"Made.Up.Obj{number}" for number in range(40)]
    odd = Interface("Odd", *(function(f"madeUp{number}", None, x=str) for number in range(40)))
    caplog.set_level(logging.INFO)
    async with running(tmp_path) as app:
        port = admin_ports(caplog.text)[0]

        async def ask(listener: int, version: Version) -> None:
            own = query.SERVANT if listener == app.query.port else "tars.tarsregistry.RegistryObj"
            for name, called in zip(names, odd, strict=True):
                for servant in (name, own):
                    async with Client("127.0.0.1", listener, servant, odd, version=version) as client:
                        with pytest.raises(CallError):
                            await client.call(called, name)

        async def declared() -> None:
            async with Client(
                "127.0.0.1", app.registry.port, "tars.tarsregistry.RegistryObj", registry.REGISTRY
            ) as client:
                with pytest.raises(CallError):
                    await client.call("destroyNode", "x")
            async with Client("127.0.0.1", app.query.port, query.SERVANT, query.QUERY) as client:
                for number in range(200):
                    await client.call("findObjectById4Any", f"Made.Up{number}.Obj")

        await ask(app.query.port, Version.TARS)
        await ask(app.registry.port, Version.TUP)
        await declared()
        first = samples(await scrape(port))
        names[:] = [f"Another.Made.Up{number}" for number in range(40)]
        await ask(app.query.port, Version.JSON)
        await declared()
        second = samples(await scrape(port))

    requests = {labels for name, labels in second if name == "tars_registry_requests_total"}
    assert {dict(labels)["servant"] for labels in requests} == {
        "other",
        query.SERVANT,
        "tars.tarsregistry.RegistryObj",
    }
    assert {dict(labels)["function"] for labels in requests} == {"other", "destroyNode", "findObjectById4Any"}
    assert second.keys() == first.keys()
    gone = {"servant": "other", "function": "other", "result": "no_servant"}
    assert value(second, "requests_total", **gone) == 120
    lost = {"servant": query.SERVANT, "function": "other", "result": "no_function"}
    assert value(second, "requests_total", **lost) == 80


async def test_what_hostile_bytes_cost_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A frame that is none ends its connection, and that has a reason."""
    caplog.set_level(logging.INFO)
    async with running(tmp_path) as app:
        for data in (b"\x00\x00\x00\x01x", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x06\xff\xff"):
            reader, writer = await asyncio.open_connection("127.0.0.1", app.query.port)
            writer.write(data)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        found = samples(await scrape(admin_ports(caplog.text)[0]))
    for reason in ("frame_too_short", "frame_too_long", "undecodable"):
        assert value(found, "connections_refused_total", listener="query", reason=reason) == 1
