"""helm and kubeconform for the tests of the chart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chart.tools import Helm, find


@pytest.fixture(scope="session")
def chart_programs() -> Path:
    """The folder with helm and kubeconform; skips where they are not built."""
    programs = find()
    if programs is None:
        pytest.skip("helm and kubeconform are not built: run tests/chart/install")
    return programs


@pytest.fixture(scope="session")
def helm(chart_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm without a cluster."""
    return Helm(chart_programs, tmp_path_factory.mktemp("helm"))
