"""What alerts and dashboard ask for, and what running registries have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from registry.admin.reference import reference_page
from registry.routing.select import Lookup
from tars_protocol.aio.client import Client
from tars_protocol.interfaces.query import QUERY, SERVANT
from tests.alerts.scenarios import HEALTHY, SCENARIOS
from tests.alerts.support_promtool import alerts, queries, selectors
from tests.support.service import Service
from tests.support.tables import HELLO, arguments_of

OF_THE_SCRAPE: Final = {"job", "instance", "namespace", "pod"}
"""Labels that Prometheus adds."""

ASKED: Final = [*((name, rule["expr"]) for name, rule in alerts().items()), *queries()]

Labels = Mapping[str, set[str]]


def read(text: str) -> dict[str, set[str]]:
    """The metrics of a page, by the names of their samples, with the labels that these have."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        # One that has no sample yet is announced all the same.
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        found.setdefault(family.name + suffix, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def listed() -> dict[str, set[str]]:
    """The metrics of the page of docs with their labels."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", reference_page(), re.MULTILINE)
    found: dict[str, set[str]] = {}
    for name, kind, labels in rows:
        for suffix in ("_bucket", "_count", "_sum") if kind == "histogram" else ("",):
            found[name + suffix] = set(re.findall(r"`(\w+)`", labels)) | ({"le"} if suffix == "_bucket" else set())
    return found


def asked() -> Iterator[tuple[str, str, set[str]]]:
    """Every metric that is asked for, with its labels, and by whom."""
    for where, query in ASKED:
        for name, labels in selectors(query):
            yield where, name, labels - OF_THE_SCRAPE
    for scenario in SCENARIOS:
        for name in (*HEALTHY, *scenario.otherwise):
            for metric, labels in selectors(name):
                yield scenario.name, metric, labels


async def scrape(service: Service) -> dict[str, set[str]]:
    """What Prometheus gets of a running registry."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{service.admin_port}/metrics") as answer,
    ):
        return read(await answer.text())


async def ask_and_be_refused(service: Service) -> None:
    """A look-up that finds something, and a caller that is cut off."""
    async with Client("127.0.0.1", service.query_port, SERVANT, QUERY) as client:
        for lookup in Lookup:
            await client.call(lookup, *arguments_of(lookup, HELLO))
    reader, writer = await asyncio.open_connection("127.0.0.1", service.query_port)
    writer.write(b"\0" * 8)
    assert await reader.read() == b""
    writer.close()


def check(page: Labels) -> None:
    """All that is asked for is there; a metric that has samples has the labels, too."""
    for where, name, labels in asked():
        assert name in page or re.sub(r"_(bucket|count|sum)$", "", name) in page, f"{where}: there is no {name}"
        if page.get(name):
            assert labels <= page[name], f"{where}: {name} has {page[name]}"
    ours = {name for name in page if name.startswith("tars_registry_")}
    assert ours <= set(listed()) | {"tars_registry_miss_duration_seconds"}, "run `make docs`"
