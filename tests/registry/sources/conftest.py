"""A directory of manifests, a sink, and the source between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.sources.directory import DirectorySource
from tests.registry.sources.directory_support import Recorder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    path.mkdir()
    return path


@pytest.fixture
def sink() -> Recorder:
    return Recorder()


@pytest.fixture
def source(root: Path, sink: Recorder) -> DirectorySource:
    return DirectorySource(root, sink)
