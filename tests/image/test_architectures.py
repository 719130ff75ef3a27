"""The wheels that the lock has for aarch64, so that the image for arm64 can be built: the real ones, looked into."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Final

import pytest

from image.distributions import LOCK, locked, normalised
from tests.image.containers import cache

pytestmark = pytest.mark.image

AARCH64: Final = 183
"""EM_AARCH64, the number in ELF headers."""

GLIBC: Final = (2, 36)
"""Of Debian 12, which the image is built on."""

COMPILED: Final = {
    "aiohttp",
    "frozenlist",
    "msgspec",
    "multidict",
    "propcache",
    "pyyaml",
    "uvloop",
    "watchfiles",
    "yarl",
}
"""The requirements with native code."""


@pytest.fixture(scope="module")
def wheels() -> list[Path]:
    """What pip chose from the lock for Python 3.11 on aarch64, with nothing but wheels allowed."""
    folder = cache() / "wheels"
    if not folder.is_dir():
        pytest.skip("the wheels for aarch64 are not here: run tests/image/install")
    return sorted(folder.glob("*.whl"))


def name_of(wheel: Path) -> str:
    return normalised(wheel.name.partition("-")[0])


def test_every_requirement_has_a_wheel_for_aarch64_whose_hash_is_in_the_lock(wheels: list[Path]) -> None:
    lock = LOCK.read_text()
    found = {}
    for wheel in wheels:
        assert f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" in lock, wheel.name
        found[name_of(wheel)] = wheel.name.split("-")[1]
    assert found == locked()


def test_what_is_compiled_in_them_is_for_aarch64(wheels: list[Path]) -> None:
    compiled = set()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as file:
            for member in file.namelist():
                if (content := file.read(member))[:4] == b"\x7fELF":
                    assert int.from_bytes(content[18:20], "little") == AARCH64, f"{wheel.name}: {member}"
                    compiled.add(name_of(wheel))
    assert compiled == COMPILED


def test_they_run_on_the_libc_that_the_image_has(wheels: list[Path]) -> None:
    for wheel in wheels:
        if not wheel.name.endswith("-any.whl"):
            needed = [(int(major), int(minor)) for major, minor in re.findall(r"manylinux_(\d+)_(\d+)_", wheel.name)]
            assert min(needed, default=(99, 0)) <= GLIBC, wheel.name
