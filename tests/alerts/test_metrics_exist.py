"""What alerts and dashboard ask for is in the /metrics of a running registry, and on the page that lists them."""

from __future__ import annotations

from pathlib import Path

from registry.admin.reference import reference_page
from tests.alerts.support_metrics import ASKED, OF_THE_SCRAPE, ask_and_be_refused, asked, check, listed, scrape
from tests.alerts.support_promtool import ROOT, groupings, selectors
from tests.support import manifests
from tests.support.service import serving


def test_the_page_of_metrics_is_made_from_the_code() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == reference_page(), "run `make docs`"


def test_every_label_that_is_asked_for_is_one_of_its_metric() -> None:
    known = listed()
    for where, name, labels in asked():
        if name.startswith("tars_registry_"):
            assert labels <= known[name], f"{where}: {name}"


def test_every_label_that_is_grouped_by_is_one_of_a_metric_in_the_query() -> None:
    known = listed() | {"python_gc_collections_total": {"generation"}}
    for where, query in ASKED:
        labels = set().union(*(known.get(name, set()) for name, _ in selectors(query)))
        assert groupings(query) <= labels | OF_THE_SCRAPE, where


async def test_a_registry_of_a_directory_has_all_that_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    policy = tmp_path / "policy.yaml"
    policy.write_text("groups: [{id: 1, name: north, addresses: [10.1.0.0/16]}]\n")
    manifests.write(folder / "hello.yaml", manifests.hello("10.0.0.1"))
    options = (f"--snapshot-path={tmp_path / 'snapshot'}", f"--routing-policy={policy}")
    async with serving(folder, *options) as service:
        await ask_and_be_refused(service)
        page = await scrape(service)
    check(page)
    assert page["tars_registry_connections_refused_total"] == {"listener", "reason"}
    assert page["tars_registry_source_age_seconds"] == {"source"}
