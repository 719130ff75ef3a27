"""A rolling upgrade under load, with the times that the chart gives."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.chart.tools import Helm, configuration, one
from tests.clients.driver import find
from tests.prove.restarts import roll

pytestmark = [pytest.mark.chart, pytest.mark.clients, pytest.mark.timeout(300)]

DNS_RECORDS_LIVE: Final = 30.0
"""Seconds for which CoreDNS has callers keep the addresses of a headless Service, as kubeadm sets it up."""


async def test_an_upgrade_with_the_times_of_the_chart_fails_no_call_while_callers_have_old_addresses(
    helm: Helm, tmp_path: Path
) -> None:
    argv = find("go")
    if argv is None:
        pytest.skip("the TarsGo client is not built: run tests/clients/install go")
    objects = helm.render()
    config = configuration(objects)
    grace = one(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert config["drain_delay"] > DNS_RECORDS_LIVE
    seen = await roll(
        argv,
        tmp_path,
        rounds=1,
        options=(
            "--endpoint-host=pod-ip",
            f"--drain-delay={config['drain_delay']}",
            f"--drain-timeout={config['drain_timeout']}",
            "--reconnect-grace=2",
        ),
        noticed_after=DNS_RECORDS_LIVE,
        drained_within=grace,
    )
    assert seen.errors == []
    assert seen.good, seen
