"""What the tests of the directory source share: manifests, and a sink that records."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.model import Kind, Object, ObjectKey, Template
from registry.sources.directory import DirectorySource

V = "k8s.tars.io/v1beta3"


def template(name: str, content: str = "x") -> str:
    return f"---\napiVersion: {V}\nkind: TTemplate\nmetadata: {{name: {name}}}\nspec: {{content: '{content}'}}\n"


def wrong_template(name: str) -> str:
    return template(name).replace("'x'", "5")


def make(path: Path, text: str | None = None) -> None:
    """A file with that text, or a directory."""
    if text is None:
        path.mkdir()
    else:
        path.write_text(text)


def move(path: Path, to: Path) -> None:
    path.rename(to)


class Recorder:
    """A sink that keeps what it is given and in which order it was called."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[ObjectKey, Object]] = {kind: {} for kind in Kind}
        self.calls: list[tuple[str, Any]] = []

    def replace(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> None:
        self.objects[kind] = {(item.namespace, item.name): item for item in objects}
        self.calls.append(("replace", kind))

    def replacing(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> Iterator[None]:
        self.replace(kind, objects, namespace)
        yield

    def upsert(self, item: Object) -> None:
        self.objects[item.kind][item.namespace, item.name] = item
        self.calls.append(("upsert", item.name))

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        self.objects[kind].pop(key, None)
        self.calls.append(("delete", key[1]))

    def synced(self, kind: Kind, namespace: str = "") -> None:
        self.calls.append(("synced", kind))

    @property
    def contents(self) -> dict[str, str]:
        """The templates by name."""
        return {item.name: item.content for item in self.objects[Kind.TEMPLATE].values() if isinstance(item, Template)}

    def new_calls(self) -> list[tuple[str, Any]]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


def reasons(source: DirectorySource) -> list[str]:
    return [str(problem) for problem in source.status.problems]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def settle(root: Path) -> None:
    """Make all files look as if they had been written long ago."""
    for number, path in enumerate(sorted(root.rglob("*"))):
        if path.is_file():
            os.utime(path, ns=(0, 1_000_000_000 * number))
