"""What is made from the chart and the code: ``make manifests``. The tests hold the files against it.

    python -m tests.chart.generate

writes the part of values.schema.json that is about settings, the table of values in the chart's README, and the plain
manifests in deploy/.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml

from registry.config import Setting, settings
from tests.chart.tools import CHART, KUBERNETES, ROOT, Helm, Values, find

SCHEMA: Final = CHART / "values.schema.json"
README: Final = CHART / "README.md"
DEPLOY: Final = ROOT / "deploy"
NAMESPACE: Final = "tars"

OWN_VALUES: Final = frozenset(
    {
        "caller_check",
        "context",
        "discover",
        "endpoint_host",
        "kubeconfig",
        "manifests",
        "metrics_listen",
        "namespace",
        "pod_name",
        "query_listen",
        "registry_listen",
        "routing_policy",
        "routing_policy_configmap",
        "self_host",
        "snapshot_path",
        "source",
    }
)
"""Settings that follow from other values of the chart, or from what it makes, so that `config` may not hold them."""

BEGIN: Final = "<!-- values: made by make manifests -->\n"
END: Final = "<!-- end of values -->\n"

PLAIN: Final[dict[str, tuple[str, Values]]] = {
    "tars-registry.yaml": ("The registry for a cluster with TARS's controller: it follows its TEndpoints.", {}),
    "tars-registry-pods.yaml": (
        "The registry for a cluster without TARS's controller: it follows labelled Pods.",
        {"discover": "pods"},
    ),
}


# ------------------------------------------------------------------------------------------------ settings


def schema() -> str:
    """values.schema.json: as it is, with the settings that the code declares."""
    whole = json.loads(SCHEMA.read_text())
    whole["properties"]["config"]["properties"] = {
        item.name: _value_of(item) for item in settings() if item.name not in OWN_VALUES
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _value_of(item: Setting) -> dict[str, Any]:
    """What a setting may be in YAML, where a bare off is false."""
    kind, forms = item.kind, list[dict[str, Any]]()
    if issubclass(kind, StrEnum):
        forms.append({"enum": [*kind, *([False] if "off" in list(kind) else [])]})
    elif kind in (int, float):
        number: dict[str, Any] = {"type": "integer" if kind is int else "number"}
        if item.minimum is not None:
            number["minimum"] = item.minimum
        if item.maximum is not None:
            number["maximum"] = item.maximum
        forms.append(number)
        if item.unit == "bytes":
            forms.append({"type": "string", "pattern": "^[0-9]+([KMG]iB?)?$"})
    else:
        forms.append({"type": "string"})
    if item.optional:
        forms.append({"enum": [None, False]})
    return {"description": item.meaning, **(forms[0] if len(forms) == 1 else {"anyOf": forms})}


# -------------------------------------------------------------------------------------------------- values


def values_table() -> str:
    """Every value with its default and meaning, from the comments of values.yaml, as Markdown."""
    rows = ["| value | default | |", "|---|---|---|"]
    rows += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in documented(CHART / "values.yaml")]
    return "\n".join(rows) + "\n"


def documented(file: Path) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each value that has a comment with "--"."""
    text = file.read_text()
    defaults = yaml.safe_load(text)
    path: list[tuple[int, str]] = []
    meaning, shown = "", ""
    for line in text.splitlines():
        if found := re.match(r"\s*# @default -- (.*)", line):
            shown = f"`{found[1]}`"
        elif found := re.match(r"\s*# -- (.*)", line):
            meaning = found[1]
        elif found := re.match(r"\s*# (.*)", line):
            meaning += f" {found[1]}" if meaning and not shown else ""
        elif found := re.match(r"( *)([A-Za-z]+):", line):
            indent = len(found[1])
            path = [(depth, name) for depth, name in path if depth < indent] + [(indent, found[2])]
            if meaning:
                yield ".".join(name for _, name in path), shown or _default(defaults, path), meaning.replace("|", "\\|")
            meaning, shown = "", ""


def _default(defaults: Any, path: list[tuple[int, str]]) -> str:
    for _, name in path:
        defaults = defaults[name]
    return f"`{json.dumps(defaults)}`".replace("|", "\\|")


def readme() -> str:
    """The chart's README, with the table."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{values_table()}\n{END}{after}"


# ----------------------------------------------------------------------------------------------- manifests


def manifests(helm: Helm) -> dict[str, str]:
    """The files of deploy/, by name."""
    crds = "".join(file.read_text() for file in sorted((CHART / "charts/tars-crds/crds").glob("*.yaml")))
    files = {
        "crds.yaml": "# TEndpoint, TTemplate and TFrameworkConfig, for a cluster that does not have them. Never apply\n"
        "# this where a chart of TARS has made them: it would take their place. With\n"
        "#   kubectl create -f deploy/crds.yaml\n"
        "# those that are there are left as they are. Made by `make manifests`.\n" + crds
    }
    for name, (what, values) in PLAIN.items():
        text = helm.run(
            "template", "tars-registry", CHART, "--no-hooks", "--kube-version", KUBERNETES, values={**values}
        )
        files[name] = (
            f"# {what}\n"
            "#\n"
            f"#   kubectl create namespace {NAMESPACE}\n"
            f"#   kubectl apply -f deploy/{name}\n"
            "#\n"
            f"# Made from the chart by `make manifests`; for another namespace, name or whatever else, use the chart.\n"
            f"{_without_helm(text)}"
        )
    return files


def _without_helm(text: str) -> str:
    """A rendered text without what says that Helm looks after it."""
    lines = (line for line in text.splitlines(keepends=True))
    return "".join(
        line
        for line in lines
        if not re.match(r"# Source: |\s+helm\.sh/chart: |\s+app\.kubernetes\.io/managed-by: ", line)
    )


def files(helm: Helm) -> dict[Path, str]:
    """All that is generated, by file."""
    return {
        SCHEMA: schema(),
        README: readme(),
        **{DEPLOY / name: text for name, text in manifests(helm).items()},
    }


def main() -> int:
    """Write them; 0, or 2 where helm is not built."""
    programs = find()
    if programs is None:
        print("helm is not built: run tests/chart/install", file=sys.stderr)
        return 2
    # The chart is rendered by the schema that is there, so that one comes first.
    SCHEMA.write_text(schema())
    with tempfile.TemporaryDirectory() as home:
        for file, text in files(Helm(programs, Path(home), namespace=NAMESPACE)).items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
