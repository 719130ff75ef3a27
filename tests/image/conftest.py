"""The image, built once for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from image import archive, debian
from tests.image.containers import ROOT, Tools, find


@dataclass(frozen=True)
class Built:
    """The image in the storage, saved, and read."""

    name: str
    path: Path
    image: archive.Image


def kept(path: str) -> bool:
    """The files whose contents the tests look at."""
    return debian.wanted(path) or ".dist-info/" in path or path.endswith((".pyc", ".so")) or path.startswith("etc/")


@pytest.fixture(scope="session")
def tools() -> Tools:
    """What builds and runs images; skips where it is not prepared."""
    found = find()
    if found is None:
        pytest.skip("nothing to build and run containers with: run tests/image/install as root")
    return found


@pytest.fixture(scope="session")
def built(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The image of this checkout, as ``make image`` builds it."""
    folder = tmp_path_factory.mktemp("image")
    name, path = "localhost/tars-registry:test", folder / "image.tar"
    tools.output_of("env", f"IMAGE={name}", ROOT / "image" / "build", "--save", path)
    yield Built(name, path, archive.read(path, kept))
    shutil.rmtree(folder)
