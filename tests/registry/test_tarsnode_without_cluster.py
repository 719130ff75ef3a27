"""A tarsnode on a laptop: the registry with a directory of manifests serves it as one in a cluster would."""

from __future__ import annotations

import logging
from pathlib import Path

import aiohttp
import pytest

from tars_protocol.constants import Version
from tests.support import manifests
from tests.support.in_process import admin_ports, running
from tests.support.tarsnode import Tarsnode

TEMPLATE = {
    "apiVersion": "k8s.tars.io/v1beta3",
    "kind": "TTemplate",
    "metadata": {"name": "tars.cpp", "namespace": "tars"},
    "spec": {"parent": "tars.cpp", "content": "<tars>\n<application>\nenableset=n\n</application>\n</tars>"},
}


@pytest.mark.parametrize("version", [Version.TARS, Version.TUP, Version.JSON])
async def test_it_gets_its_descriptor_and_its_reports_are_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int
) -> None:
    caplog.set_level(logging.INFO)
    manifests.write(tmp_path / "all.yaml", manifests.hello("127.0.0.1"), TEMPLATE)
    async with running(tmp_path) as app, Tarsnode("127.0.0.1", app.registry.port, version) as node:
        value, found = await node.descriptor("Test", "HelloServer")
        assert value == 0
        assert found.profile == "<tars>\n  <application>\n    enableset=n\n  </application>\n</tars>\n"
        assert [adapter.endpoint for adapter in found.adapters.values()] == ["tcp -h ${localip} -p 18100 -t 3000"]
        assert (await node.descriptor("Test", "NoServer"))[0] == -1

        (port,) = admin_ports(caplog.text)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as pages:

            async def page(name: str) -> str:
                async with pages.get(name) as response:
                    assert response.status == 200
                    return await response.text()

            assert await page("/states") == "nothing was reported yet\n"
            await node.report("laptop-0", "Active", "Activating", pid="26")
            await node.report("laptop-0", "Active", "Active", pid="27")
            await node.report("another-0", "Active", 'x"\n<b>')
            assert "slash" in await node.refused("laptop-0", "Active/Active", "Active")
            another, laptop = (await page("/states")).splitlines()
            assert laptop.startswith("laptop-0 Active/Active/27 20")
            assert "127.0.0.1:" in laptop
            assert another.startswith('another-0 Active/x"\\n<b>/27 20')
            metrics = await page("/metrics")
        assert 'tars_registry_reports_total{outcome="written"} 3.0' in metrics
        assert 'tars_registry_reports_total{outcome="bad_state"} 1.0' in metrics
        assert 'tars_registry_descriptors_refused_total{reason="unknown_server"} 1.0' in metrics
