"""getServerDescriptor as tarsnodes call it: over frames, from a table."""

from __future__ import annotations

from typing import Any

import pytest

from registry.model import Object, Pod, ServantSpec, Server, Template
from registry.profile import ProfileLimits
from registry.servants.descriptors import Descriptors
from tars_protocol.connection import Caller
from tars_protocol.dispatch import Call
from tars_protocol.interfaces.registry import REGISTRY, SERVANT, ServerDescriptor
from tars_protocol.packets import RequestPacket
from tests.support.tables import filled_store

NOTHING = (-1, ServerDescriptor(profile="", adapters={}))


def template(name: str = "tars.cpp", content: str = "<tars>\na=1\n</tars>", **more: Any) -> Template:
    return Template(more.pop("namespace", "tars"), name, content=content, **more)


def hello(**more: Any) -> Server:
    given = {"namespace": "tars", "template": "tars.cpp", "servants": (ServantSpec("HelloObj", 18100),), **more}
    return Server(name="test-hello", app="Test", server="Hello", **given)


def call(app: str, server: str, peer: str = "10.0.0.1") -> Call:
    request = RequestPacket(
        iVersion=1, iRequestId=1, sServantName=SERVANT, sFuncName="getServerDescriptor", sBuffer=b""
    )
    caller = Caller(peer, 40_000, "10.0.0.99", 17_891)
    return Call(request, REGISTRY["getServerDescriptor"], (app, server), caller, None)


def descriptors(*objects: Object, synced: bool = True, limits: ProfileLimits | None = None) -> Descriptors:
    store = filled_store(*objects, synced=synced)
    return Descriptors(lambda: store.table, limits)


async def test_a_server_is_found_in_any_case_and_described_in_the_case_of_the_call() -> None:
    value, found = await descriptors(hello(profile="<tars>\nb=2\n</tars>"), template()).answer(call("TEST", "hello"))
    assert value == 0
    assert found.profile == "<tars>\n  a=1\n  b=2\n</tars>\n"
    assert found.asyncThreadNum == 3
    assert list(found.adapters) == ["TEST.hello.HelloObjAdapter"]


@pytest.mark.parametrize(
    ("app", "server", "reason"),
    [
        ("", "Hello", "empty_name"),
        ("Test", "", "empty_name"),
        ("Test", "Other", "unknown_server"),
        ("Test", "Bare", "profile"),
        ("Test", "Lost", "profile"),
        ("Test", "Broken", "profile"),
        ("Test", "Round", "profile"),
    ],
)
async def test_where_there_is_no_descriptor_the_answer_is_minus_one_with_nothing_else(
    app: str, server: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    templates = (template(), template("broken", "<a>"), template("x", parent="y"), template("y", parent="x"))
    servers = [
        Server("tars", f"test-{name.lower()}", "Test", name, template=used)
        for name, used in (("Bare", ""), ("Lost", "none"), ("Broken", "broken"), ("Round", "x"))
    ]
    asked = descriptors(hello(), *templates, *servers)
    assert await asked.answer(call(app, server)) == NOTHING
    assert asked.refused == {reason: 1}
    assert f"no descriptor of {app}.{server} for 10.0.0.1:40000" in caplog.text


async def test_nothing_is_known_before_the_table_is_whole() -> None:
    asked = descriptors(hello(), template(), synced=False)
    assert await asked.answer(call("Test", "Hello")) == NOTHING
    assert asked.refused == {"not_synchronised": 1}


async def test_of_two_namespaces_the_one_with_the_callers_pod_counts() -> None:
    asked = descriptors(
        hello(namespace="a", profile="<a>\n</a>", pods=(Pod("test-hello-0", pod_ip="10.0.0.1"),)),
        hello(namespace="b", profile="<b>\n</b>", pods=(Pod("test-hello-0", pod_ip="10.0.0.2"),)),
        template(content="", namespace="a"),
        template(content="", namespace="b"),
    )
    profiles = {}
    for peer in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        profiles[peer] = (await asked.answer(call("Test", "Hello", peer)))[1].profile
    assert profiles == {"10.0.0.1": "<a>\n</a>\n", "10.0.0.2": "<b>\n</b>\n", "10.0.0.3": "<a>\n</a>\n"}


async def test_a_template_that_changes_changes_the_next_descriptor_however_long_it_is() -> None:
    store = filled_store(hello(), template(content="<a>\nx=1\n</a>"))
    asked = Descriptors(lambda: store.table)
    for text in ("x=2", "\n".join(f"key{n}=value" for n in range(10_000)), "x=2"):
        store.upsert(template(content=f"<a>\n{text}\n</a>"))
        for _ in range(2):
            value, found = await asked.answer(call("Test", "Hello"))
            assert (value, found.profile.count("\n")) == (0, text.count("\n") + 3)
