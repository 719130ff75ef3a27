"""The locks under requirements/ are all that an installation goes by."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
INSTALLING: Final = ["Makefile", "Dockerfile", "tests/matrix", "tests/image/install"]


def locked(name: str) -> dict[str, Requirement]:
    """What a lock pins, by name."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pins = [Requirement(line.removesuffix("\\").strip()) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return {canonicalize_name(pin.name): pin for pin in pins}


@pytest.mark.parametrize("name", INSTALLING)
def test_an_installation_takes_the_locks_and_looks_for_nothing_else(name: str) -> None:
    """pip looks for the newest release of what a distribution wants with an extra, pinned or not, and then refuses it
    for the want of a hash: a release elsewhere would break every installation of ours."""
    commands = re.sub(r"\\\n", " ", (ROOT / name).read_text()).splitlines()
    installing = [line for line in commands if "--require-hashes" in line]
    assert installing
    assert all("--no-deps" in line for line in installing)


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_the_locks_have_all_that_what_they_pin_needs(name: str) -> None:
    """As pip does not look for it any more."""
    pins = locked(name)
    missing = []
    needed = [(pin, extra) for pin in pins.values() for extra in ("", *pin.extras)]
    looked = set()
    while needed:
        pin, extra = needed.pop()
        if (pin.name, extra) in looked or (pin.marker and not pin.marker.evaluate()):
            continue
        looked.add((pin.name, extra))
        for line in importlib.metadata.requires(pin.name) or []:
            wanted = Requirement(line)
            if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
                continue
            found = pins.get(canonicalize_name(wanted.name))
            if found is None or not wanted.specifier.contains(
                str(found.specifier).removeprefix("=="), prereleases=True
            ):
                missing.append(f"{pin.name} needs {wanted}")
            else:
                needed += [(found, more) for more in wanted.extras]
    assert missing == []
    assert len(looked) >= 10
