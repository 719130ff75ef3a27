"""promtool, and what can be read off queries without it."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CHART: Final = ROOT / "charts" / "tars-registry"
RULES: Final = CHART / "rules" / "alerts.yaml"


@cache
def _program() -> Path:
    folder = subprocess.run([HERE / "install", "--print-path"], capture_output=True, text=True, check=True)
    return Path(folder.stdout.strip()) / "promtool"


def promtool(*arguments: str | Path) -> tuple[int, str]:
    """Run it: its exit status and all that it said. Skips where it is not built."""
    if not _program().exists():
        pytest.skip("promtool is not built: run tests/alerts/install")
    done = subprocess.run([_program(), *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads((CHART / "dashboards" / "tars-registry.json").read_text(encoding="utf-8"))
    return found


def queries() -> list[tuple[str, str]]:
    """Every query of the dashboard, with the title of its panel."""
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_METRIC: Final = re.compile(r"\b((?:tars_registry|process|python)_\w+)\s*(?:\{([^}]*)\})?")
_GROUPING: Final = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """The metrics that a query names, each with the labels that it is asked to have."""
    plain = _TEXT.sub('""', query)
    return [(name, set(re.findall(r"(\w+)\s*[=!]", inside))) for name, inside in _METRIC.findall(plain)]


def groupings(query: str) -> set[str]:
    """The labels by which it groups and joins."""
    return {name for inside in _GROUPING.findall(query) for name in re.findall(r"\w+", inside)}
