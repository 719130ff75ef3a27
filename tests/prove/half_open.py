"""A connection that is half open: the other end is gone, nobody says so. With all settings as they are by default."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.cluster.apiserver import ApiServer
from tests.cluster.client import Client
from tests.cluster.proxy import Proxy
from tests.cluster.support_service import Lists, asking, following
from tests.prove.rounds import STEADY, STEADY_AT
from tests.support.manifests import pod, tendpoint

NOTICED_WITHIN: Final = 75.0
"""Seconds from when the connection went silent until a change made then is answered."""

_GIVEN_UP_AFTER: Final = 120.0


async def half_open(server: ApiServer, admin: Client) -> tuple[float, list[str]]:
    """Seconds until a change behind a half-open connection is answered, and the questions that failed meanwhile.

    The watches' connections go silent without an end; new ones go another way.
    """
    clock = asyncio.get_running_loop().time
    async with (
        Proxy("127.0.0.1", server.port) as proxy,
        following(server.kubeconfig(port=proxy.port), discover="both") as registry,
        asking(registry, STEADY, STEADY_AT) as asker,
    ):
        proxy.stall()
        silent = clock()
        await proxy.refuse()
        await admin.apply(tendpoint("Test", "Behind", [pod("test-behind-0", "10.200.1.1")]))
        way = Proxy("127.0.0.1", server.port)
        way.port = proxy.port
        async with way:
            await registry.until("Test.Behind.HelloObj", Lists(("10.200.1.1:18100",)), timeout=_GIVEN_UP_AFTER)
            took = clock() - silent
        return took, asker.failures
