"""The commands of docs/install.md and of the chart's notes are as helm takes them."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from typing import Final

import pytest

from tests.chart.conftest import Release
from tests.chart.tools import CHART, ROOT

pytestmark = [pytest.mark.chart, pytest.mark.cluster]

PAGE: Final = ROOT / "docs" / "install.md"
NAMES: Final = {"REPOSITORY": "hub/tars-registry", "TAG": "0.1.0", "charts/tars-registry": str(CHART)}


def commands(program: str) -> Iterator[list[str]]:
    """The lines of the page's blocks that run a program, without its name."""
    for block in re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            words = shlex.split(line)
            if words[0] == program:
                yield words[1:]


async def test_each_helm_command_does_what_it_says(release: Release) -> None:
    """In order: two installations, the second of which is tried on its own; helm test has tests of its own."""
    seen = []
    for words in commands("helm"):
        namespace = words.index("--namespace")
        here = [NAMES.get(word, word) for word in words[:namespace] + words[namespace + 2 :]]
        for name, value in NAMES.items():
            here = [re.sub(rf"={name}$", f"={value}", word) for word in here]
        if words[0] != "test":
            await asyncio.to_thread(release.helm.run, *here)
        seen.append(words[0])
    assert seen == ["install", "test", "upgrade", "rollback", "uninstall", "install"]
    await asyncio.to_thread(release.helm.run, "uninstall", "tars-registry")


def test_files_that_kubectl_is_given_are_there() -> None:
    files = [word for words in commands("kubectl") for word in words if word.endswith(".yaml")]
    assert files
    for file in files:
        assert (ROOT / file).is_file()
    assert "deploy/crds.yaml" in PAGE.read_text()
    assert (ROOT / "deploy/crds.yaml").is_file()
