"""Set-up for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI", "").lower() == "true"

# Deadlines measure the machine; what is slow is found in benchmarks/.
settings.register_profile("default", deadline=None, max_examples=100)
settings.register_profile(
    "ci", deadline=None, max_examples=300, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if IN_CI else "default")

NEEDS_MORE_THAN_PYTHON = ("alerts", "chart", "clients", "cluster", "image")
"""Markers of tests that need programs which .ci/run installs: there, a skip of one is a failure."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With CI=true, turn a skip of a test that needs installed programs into a failure."""
    report: pytest.TestReport = yield  # type: ignore[assignment]  # what a wrapper is sent
    if IN_CI and report.skipped and any(item.get_closest_marker(name) for name in NEEDS_MORE_THAN_PYTHON):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: must not be skipped in CI: {report.longrepr}"
    return report  # type: ignore[return-value]
