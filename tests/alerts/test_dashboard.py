"""The dashboard: its queries can be read, and ask for what there is."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from registry.admin.reference import reference_page
from tests.alerts.support_promtool import dashboard, groupings, promtool, queries, selectors

DASHBOARD: Final = dashboard()
PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES: Final = queries()
VARIABLES: Final = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
ROWS: Final = ["Now", "Traffic", "Latency", "Table", "Watch", "Writes", "Limits", "Routing", "Process"]


def test_it_has_its_rows_and_variables() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    assert list(VARIABLES) == ["datasource", "namespace", "pod"]
    for name in ("namespace", "pod"):
        # Where a scrape gives no such label, all is still all.
        assert (VARIABLES[name]["includeAll"], VARIABLES[name]["allValue"]) == (True, ".*")
    assert DASHBOARD["uid"] == "tars-registry"
    assert "id" not in DASHBOARD


def test_every_panel_is_one_of_its_kind_and_lies_on_no_other() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = [
            one[start] + one[size] <= other[start] or other[start] + other[size] <= one[start]
            for start, size in (("x", "w"), ("y", "h"))
        ]
        assert any(apart), (one, other)


def test_every_query_goes_to_the_chosen_data_source_and_names_only_variables_that_there_are() -> None:
    known = {*VARIABLES, "__rate_interval"}
    for panel in PANELS:
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
    for _, query in QUERIES:
        assert set(re.findall(r"\$(\w+)", query)) <= known
        for name, labels in selectors(query):
            assert {"namespace", "pod"} <= labels, f"{name} of every namespace and pod: {query}"


@pytest.mark.alerts
def test_every_query_can_be_read(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m").replace("$", "")}
        for number, (_, query) in enumerate(QUERIES)
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    status, said = promtool("check", "rules", tmp_path / "rules.yaml")
    assert status == 0, said
    assert f"{len(QUERIES)} rules found" in said


@pytest.mark.alerts
def test_a_query_that_can_not_be_read_would_be_found(tmp_path: Path) -> None:
    rules = [{"record": "query:0", "expr": "sum by (x) (rate(y[5m])"}]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert promtool("check", "rules", tmp_path / "rules.yaml")[0] != 0


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel['id']} {panel['title']}")
def test_a_legend_names_only_labels_that_its_query_leaves(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        query = target["expr"]
        # Where nothing is summed, all labels are left.
        grouped = groupings(query) if re.search(r"\bby \(", query) else None
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert grouped is None or label in grouped, query


def test_every_metric_of_ours_is_shown() -> None:
    """One that nobody can see might as well not be counted."""
    listed = set(re.findall(r"^\| `(tars_registry_\w+)`", reference_page(), re.MULTILINE))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for _, query in QUERIES for name, _ in selectors(query)}
    assert {name for name in shown if name.startswith("tars_")} == listed
