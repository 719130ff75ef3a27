"""docs/routing.md: its policies and manifests are right, and its commands print what it shows."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.app import build
from registry.cli import main
from registry.routing.hosts import EndpointHost
from registry.sources.policy_document import read_policy
from registry.sources.routing_facts import _FIELDS
from registry.sources.routing_keeper import RoutingSettings
from tests.support.in_process import loopback

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")
EXAMPLES = Path("examples") / "routing"

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
POLICIES = [text for kind, text in BLOCKS if kind == "yaml" and "apiVersion" not in text]
ROLES = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml" and "apiVersion" in text]
COMMANDS = [text.partition("\n")[::2] for kind, text in BLOCKS if kind == "console"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in [name for name in os.environ if name.startswith("TARS_REGISTRY_")]:
        monkeypatch.delenv(name)


def test_the_page_has_something_to_check() -> None:
    assert (len(POLICIES), len(ROLES), len(COMMANDS)) == (2, 3, 4)


@pytest.mark.parametrize("text", POLICIES)
def test_its_policies_can_be_used(text: str) -> None:
    assert read_policy(text).groups or read_policy(text).from_topology


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role["metadata"]["name"])
def test_its_rights_are_to_follow_and_no_more(role: dict[str, Any]) -> None:
    for rule in role["rules"]:
        assert set(rule["verbs"]) == {"get", "list", "watch"}
        assert rule["resources"] in (["nodes"], ["pods"]) or rule["resourceNames"]


def test_every_annotation_is_on_the_page() -> None:
    rows = set(re.findall(r"^\| `(tars\.io/[a-z-]+)` \|", PAGE, re.MULTILINE))
    assert rows == set(_FIELDS)


@pytest.mark.parametrize(("command", "expected"), COMMANDS, ids=[command for command, _ in COMMANDS])
async def test_its_commands_print_what_it_shows(
    command: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(command.removeprefix("$ "))
    assert program == "tars-registry"
    config = dataclasses.replace(
        loopback(EXAMPLES / "manifests", endpoint_host=EndpointHost.POD_IP),
        routing=RoutingSettings(routing_policy=EXAMPLES / "policy.yaml"),
    )
    app = await build(config)
    await app.start()
    try:
        await app.synced.wait()
        if arguments[0] == "explain":
            ((bound, *_),) = app._admin_sockets.values()
            arguments += ["--admin", f"127.0.0.1:{bound.getsockname()[1]}"]
        await asyncio.to_thread(main, arguments)
    finally:
        await app.stop()
    assert capsys.readouterr().out == expected
