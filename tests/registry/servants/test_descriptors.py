"""getServerDescriptor as tarsnodes call it: over frames, from a table."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from registry.model import Object, Pod, ServantSpec, Server, Template
from registry.profile import ProfileLimits, join
from registry.servants.descriptors import Descriptors
from tars_protocol.dispatch import Call
from tars_protocol.handlers import Caller
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


# -------------------------------------------------------------------------------------------------- long profiles


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The texts that were joined, each time."""
    seen: list[tuple[str, ...]] = []

    def counted(texts: tuple[str, ...]) -> str:
        seen.append(texts)
        return join(texts)

    monkeypatch.setattr("registry.servants.descriptors.join", counted)
    return seen


def long(end: str = "</tars>\n") -> str:
    return "<tars>\n" + "".join(f"key{n}=value{n}\n" for n in range(10_000)) + end


async def test_a_long_profile_is_joined_once_for_all_who_ask_at_once(joins: list[tuple[str, ...]]) -> None:
    asked = descriptors(hello(profile=long()), template(), limits=ProfileLimits(profile_cache_bytes=0))
    answers = [asyncio.create_task(asked.answer(call("Test", "Hello"))) for _ in range(16)]
    await asyncio.sleep(0)
    answers[0].cancel()
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError), "whoever is gone takes nothing from the others"
    assert all(isinstance(each, tuple) and each[0] == 0 for each in found[1:])
    assert len(joins) == 1
    assert (await asked.answer(call("Test", "Hello")))[0] == 0
    assert len(joins) == 2, "it is too long to be kept"


async def test_all_who_ask_for_a_long_profile_that_is_wrong_are_told_so(joins: list[tuple[str, ...]]) -> None:
    asked = descriptors(hello(profile=long(end="</other>\n")), template())
    answers = await asyncio.gather(*(asked.answer(call("Test", "Hello")) for _ in range(16)))
    assert answers == [NOTHING] * 16
    assert asked.refused == {"profile": 16}
    assert len(joins) == 1


async def test_long_profiles_are_joined_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = most = 0

    def counted(texts: tuple[str, ...]) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        joined = join(texts)
        at_once -= 1
        return joined

    monkeypatch.setattr("registry.servants.descriptors.join", counted)
    servers = [
        Server("tars", f"s-{n}", app="Test", server=f"S{n}", template="tars.cpp", profile=f"#{n}\n{long()}")
        for n in range(4)
    ]
    asked = descriptors(*servers, template())
    answers = await asyncio.gather(*(asked.answer(call("Test", f"S{n}")) for n in range(4)))
    assert [value for value, _ in answers] == [0] * 4
    assert most == 1
