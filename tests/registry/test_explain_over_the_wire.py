"""What a running registry explains to its operator is what it answers to a caller that connects from that address."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import aiohttp
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.app import App, build
from registry.config import ListenAddress
from registry.model import Framework, RoutingFacts, Server, Upstream
from registry.routing.hosts import EndpointHost
from registry.routing.select import Lookup
from registry.sources.routing_keeper import RoutingSettings
from tests.support.in_process import loopback
from tests.support.tables import small_routed_servers
from tests.support.wire import CallerAt

ID: Final = "Alpha.One.Obj"
CALLERS: Final = {"127.0.0.1": ("127.0.1.1", "127.0.2.2", "127.0.9.9"), "::1": ("::1",)}
"""By the address that they connect to."""
POLICIES: Final = (
    "",
    """\
groups:
  - {id: 1, name: one, addresses: [127.0.1.*, 10.0.0.1]}
  - {id: 2, name: two, addresses: [127.0.0.0/16, "::1", 10.0.0.2]}
""",
    """\
grouping: all
groups:
  - {id: 1, name: one, addresses: [127.0.1.0/24, 10.0.0.2]}
  - {id: 2, name: two, addresses: [127.0.2.2, "::/0", 10.0.0.0/8]}
  - {id: 3, name: three, addresses: [127.0.0.0/8]}
priorities:
  - {station: x, groups: [three, 1]}
  - {station: z, groups: [two]}
""",
    "priorities: [{station: x, groups: []}]",
)
QUESTIONS: Final = (
    *((lookup, None) for lookup in (Lookup.ACTIVE, Lookup.ANY, Lookup.ALL, Lookup.SAME_GROUP)),
    *((Lookup.SAME_STATION, station) for station in ("x", "z")),
    *((Lookup.SAME_SET, set_id) for set_id in ("n.a.1", "n.a.9", "n.a.*", "m.b.1", "n.a")),
)

facts = st.builds(
    RoutingFacts,
    set_id=st.sampled_from(("", "n.a.1", "n.a.2", "n.a.*", "n.b.1")),
    weight=st.sampled_from((None, 0, 50)),
    flow_off=st.sampled_from((False, False, True)),
    flow_off_pods=st.sampled_from((frozenset[str](), frozenset(("alpha-one-2",)))),
    grouping=st.sampled_from((None, True, False)),
    group_name=st.sampled_from(("", "", "two", "nobody")),
    backup=st.sampled_from((False, False, False, True)),
)
servers = st.builds(
    lambda found, said: replace(found, routing=said, app="Alpha", server="One"), small_routed_servers, st.none() | facts
)


Answer = tuple[Any, ...]
"""Return value, active and inactive endpoints with all that is told of them."""


async def wire(app: App, reached: str, caller: str, lookup: Lookup, argument: str | None) -> Answer:
    """What a caller at this address is answered."""
    async with CallerAt(caller, app.query.port, reached) as connected:
        ret, active, inactive = await connected.ask(lookup, ID, argument)
    lists = (
        [(e.host, e.port, e.istcp, e.setId, e.grouprealid, e.groupworkid, (e.weight, e.weightType)) for e in found]
        for found in (active, inactive)
    )
    return (ret, *lists)


async def explained(
    app: App, pages: aiohttp.ClientSession, caller: str, lookup: Lookup, argument: str | None
) -> Answer:
    """What the admin port says that it would be."""
    parameters = {"id": ID, "from": caller, "function": str(lookup)}
    if argument is not None:
        parameters["station" if lookup is Lookup.SAME_STATION else "set"] = argument
    async with pages.get("/explain", params=parameters) as response:
        assert response.status == 200
        told = json.loads(await response.text())
    lists = (
        [
            (
                e["host"],
                e["port"],
                int(e["network"] == "tcp"),
                e["set_id"],
                e["group"],
                e["works_for"],
                (0, 0) if e["weight"] is None else (e["weight"], 1),
            )
            for e in found
        ]
        for found in (told["active"], told["inactive"])
    )
    return (told["ret"], *lists)


async def compare(policy: Path, found: list[Server], reached: str) -> None:
    service = loopback(
        policy.parent, endpoint_host=EndpointHost.POD_IP, query_listen=ListenAddress(reached, 0), reconnect_grace=0.0
    )
    app = await build(dataclasses.replace(service, routing=RoutingSettings(routing_policy=policy)))
    await app.start()
    try:
        await app.synced.wait()
        for server in found:
            app.store.upsert(server)
        app.store.upsert(Framework("tars", "tars-framework", {"default": (Upstream("up", 5),)}))
        port = app._admin_sockets["--admin-listen"][0].getsockname()[1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as pages:
            for caller in CALLERS[reached]:
                for lookup, argument in QUESTIONS:
                    told = await explained(app, pages, caller, lookup, argument)
                    assert told == await wire(app, reached, caller, lookup, argument), (caller, lookup, argument)
    finally:
        await app.stop()


@settings(max_examples=30)
@given(policy=st.sampled_from(POLICIES), found=st.lists(servers, max_size=3), reached=st.sampled_from(sorted(CALLERS)))
def test_the_endpoints_explained_are_those_that_a_caller_from_that_address_gets(
    policy: str, found: list[Server], reached: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.yaml")
        path.write_text(policy)
        asyncio.run(compare(path, found, reached))
