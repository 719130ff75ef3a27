"""What sources share: the sink that they fill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from registry.model import Kind, Object, ObjectKey, Problem, SourceStatus

__all__ = ["Problem", "Sink", "SourceError", "SourceStatus"]


class Sink(Protocol):
    """The table as a source sees it. An object equal to the one that is there is no change."""

    def replace(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> None:
        """All objects of a kind (in a namespace, if one is named), as a whole: what is not among them is gone."""

    def replacing(self, kind: Kind, objects: Iterable[Object], namespace: str = "") -> Iterator[None]:
        """The same in small steps, so that others can have their turn in between; one of them makes the change."""

    def upsert(self, item: Object) -> None:
        """An object that is new or changed."""

    def delete(self, kind: Kind, key: ObjectKey) -> None:
        """An object that is gone; nothing happens where it was not known."""

    def synced(self, kind: Kind, namespace: str = "") -> None:
        """Everything of a kind (in a namespace) was handed over: from now on its absence means something."""


class SourceError(Exception):
    """A source that can't be followed as it is configured; the text says what would be right."""
