"""Which values the chart refuses, and that what is made from values and code is up to date."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from registry import config as registry_config
from tests.chart.generate import OWN_VALUES, documented, files
from tests.chart.tools import (
    CHART,
    ROOT,
    Helm,
    HelmError,
    Object,
    Values,
)
from tests.chart.variants import ALL_ON

pytestmark = pytest.mark.chart


# ------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": 0}, "/replicas"),
        ({"discover": "endpoints"}, "'tendpoints', 'pods', 'both'"),
        ({"image": {"tag": 1.1}}, "/image/tag"),
        ({"image": {"repository": "r:1"}}, "/image/repository"),
        ({"service": {"name": "Tars"}}, "/service/name"),
        ({"service": {"ipFamilies": ["ipv4"]}}, "/service/ipFamilies/0"),
        ({"namespaces": "tars"}, "/namespaces"),
        ({"namespaces": ["a b"]}, "/namespaces/0"),
        ({"config": {"drain_dealy": 3}}, "drain_dealy"),
        ({"config": {"drain_delay": "3s"}}, "/config/drain_delay"),
        ({"config": {"log_level": "loud"}}, "/config/log_level"),
        ({"config": {"max_connections": 0}}, "/config/max_connections"),
        ({"config": {"discover": "pods"}}, "discover"),
        ({"commonLabels": {"a": 1}}, "/commonLabels/a"),
        ({"podDisruptionBudget": {"maxUnavailable": "half"}}, "/podDisruptionBudget/maxUnavailable"),
        ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "/metrics/serviceMonitor/interval"),
        ({"crds": {"enabled": "yes"}}, "/crds/enabled"),
        ({"terminationGracePeriodSeconds": 50}, "terminationGracePeriodSeconds (50) must be more than"),
        ({"config": {"drain_delay": 50}}, "config.drain_delay (50 s) must be less than config.drain_timeout (50 s)"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_a_wrong_value_is_refused_by_its_name(values: Values, said: str, helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render(values)
    assert said in str(refused.value)


@pytest.mark.parametrize("version", ["1.21.0", "1.33.1-gke.100"])
def test_clusters_from_1_21_on_will_do(version: str, helm: Helm) -> None:
    assert "kind: Deployment" in helm.run("template", "r", CHART, "--kube-version", version)


def test_an_older_cluster_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmError, match="chart requires kubeVersion"):
        helm.run("template", "r", CHART, "--kube-version", "1.20.15")


# ------------------------------------------------------------------------------------------------ in order


def test_what_is_made_from_chart_and_code_is_as_it_would_be_made_now(helm: Helm) -> None:
    for file, text in files(helm).items():
        assert file.read_text() == text, f"{file.relative_to(ROOT)} is out of date: run `make manifests`"


def test_every_value_is_documented_and_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    names = {name for name, _, _ in documented(CHART / "values.yaml")}

    def leaves(part: Any, path: str = "") -> set[str]:
        if path in names or not isinstance(part, dict) or not part:
            return {path}
        return {leaf for key, value in part.items() for leaf in leaves(value, f"{path}.{key}".lstrip("."))}

    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert leaves(defaults) == names
    for name in names:
        part = schema
        for key in name.split("."):
            part = part["properties"][key]
    strict(schema, "values")


def strict(schema: Object, path: str) -> None:
    """Every object of the schema lists what it may hold, or says that it is free."""
    if "properties" in schema:
        assert schema["additionalProperties"] is False, path
        for name, part in schema["properties"].items():
            strict(part, f"{path}.{name}")


def test_settings_that_follow_from_values_are_settings() -> None:
    assert {item.name for item in registry_config.settings()} >= OWN_VALUES


def test_nothing_has_an_address_of_somebody(helm: Helm) -> None:
    texts = [json.dumps(helm.render(ALL_ON))]
    texts += [file.read_text() for folder in (CHART, ROOT / "deploy") for file in folder.rglob("*") if file.is_file()]
    for text in texts:
        found = set(re.findall(r"https?://[^\s\"'<>)]+", text))
        assert found <= {"http://json-schema.org/draft-07/schema#"}, found
        assert not re.search(r"\b(?:\d{1,3}\.){3}\d{1,3}\b", text.replace("127.0.0.1:17891", ""))
