"""The alerts: each fires when it should, and nothing else does, by promtool's own evaluation of the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.alerts.scenarios import HEALTHY, REPLICAS, SCENARIOS, Scenario
from tests.alerts.support_promtool import ROOT, RULES, alerts, promtool

ALERTS = alerts()
PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")


def series(scenario: Scenario) -> list[dict[str, str]]:
    """The series of both replicas."""
    found = []
    for replica in REPLICAS:
        as_first = scenario.both or replica == REPLICAS[0]
        for name, values in (HEALTHY | scenario.otherwise if as_first else HEALTHY).items():
            metric, _, labels = name.rstrip("}").partition("{")
            every = ",".join(filter(None, (labels, 'namespace="tars",job="registry"', f'instance="{replica}"')))
            if values:
                found.append({"series": f"{metric}{{{every}}}", "values": values})
    return found


def expected(scenario: Scenario) -> list[dict[str, object]]:
    """The alerts that fire, as samples of ALERTS."""
    found = []
    for replica in REPLICAS if scenario.both else REPLICAS[:1]:
        for name, labels in scenario.fires.items():
            place = {"namespace": "tars", "job": "registry", "instance": replica}
            if name in scenario.of_all:
                del place["instance"]
            if name in scenario.of_none:
                place = {}
            every = {
                "alertname": name,
                "alertstate": "firing",
                "severity": ALERTS[name]["labels"]["severity"],
                **place,
                **labels,
            }
            text = ",".join(f'{label}="{value}"' for label, value in every.items())
            sample: dict[str, object] = {"labels": f"ALERTS{{{text}}}", "value": 1}
            if sample not in found:
                found.append(sample)
    return found


@pytest.mark.alerts
def test_the_rules_are_well_formed() -> None:
    status, said = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert status == 0, said


@pytest.mark.alerts
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_in_each_scenario_just_what_should_fire_fires(scenario: Scenario, tmp_path: Path) -> None:
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series(scenario),
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": f"{scenario.at}m",
                        "exp_samples": expected(scenario),
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    status, said = promtool("test", "rules", tmp_path / "test.yaml")
    assert status == 0, said


def test_every_alert_fires_in_some_scenario_and_every_series_is_healthy_at_first() -> None:
    assert {name for scenario in SCENARIOS for name in scenario.fires} == set(ALERTS)
    assert not SCENARIOS[0].otherwise
    assert not SCENARIOS[0].fires


@pytest.mark.parametrize("name", ALERTS)
def test_what_an_alert_says_of_labels_it_has(name: str) -> None:
    """A label that is not there would be an empty word in a message in the night."""
    scenario = next(each for each in SCENARIOS if name in each.fires)
    labels = {"severity", "namespace", "job", "instance"} | set(scenario.fires[name])
    labels -= {"instance"} if name in scenario.of_all else set()
    labels -= {"instance", "namespace", "job"} if name in scenario.of_none else set()
    for text in ALERTS[name]["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_all_that_one_needs_and_its_section_on_the_page(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
    section = re.search(rf"^### {name}\n\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/alerts.md has no section {name}"
    assert f"Severity: {rule['labels']['severity']}." in section[1]
    assert "**What it means.**" in section[1]
    assert "**What to do.**" in section[1]


def test_the_page_has_no_section_of_an_alert_that_is_not_there() -> None:
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == list(ALERTS)


def test_no_rule_names_a_job() -> None:
    assert not re.search(r'\b(job|instance|namespace|pod)\s*[=!]~?"', RULES.read_text(encoding="utf-8"))
