"""What alerts and dashboard ask for is in the /metrics of a registry that follows a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alerts.support_metrics import ask_and_be_refused, check, listed, scrape
from tests.cluster.conftest import Cluster
from tests.cluster.heartbeats import POD, kube_pod
from tests.cluster.support_service import QUICK, Registry, following, lists
from tests.support import manifests
from tests.support.tables import HELLO
from tests.support.tarsnode import Tarsnode

pytestmark = pytest.mark.cluster


async def test_a_registry_of_a_cluster_has_all_that_is_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.admin.create(manifests.hello("127.0.0.1"))
    await cluster.admin.create(kube_pod(POD, "127.0.0.1"))
    kubeconfig = cluster.server.kubeconfig(namespace=cluster.namespace)
    options = (*QUICK, f"--snapshot-path={tmp_path / 'snapshot'}", "--routing-policy-configmap=routing")
    async with following(kubeconfig, *options) as registry:
        await registry.until(HELLO, lists("127.0.0.1"))
        await ask_and_be_refused(registry.service)
        await report(registry)
        page = await scrape(registry.service)
    check(page)
    for name in ("reports_total", "events_total", "api_requests_total", "source_state", "requests_total"):
        assert page[f"tars_registry_{name}"] == listed()[f"tars_registry_{name}"]


async def report(registry: Registry) -> None:
    """One that is taken, and one that is refused with an Event."""
    async with Tarsnode("127.0.0.1", registry.service.registry_port) as node:
        await node.report(POD, "Active", "Active")
    async with Tarsnode("127.0.0.2", registry.service.registry_port) as other:
        await other.refused(POD, "Active", "Active")
    await registry.until_metric(lambda sent: sent == 1, "events_total", result="sent")
