"""Manifest files: from the bytes of a file to the objects in it, and what could not be taken of it.

Pure: files are read in :mod:`registry.sources.files`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from registry.model import Kind, Object, ObjectKey, Server
from registry.sources.tendpoints import KINDS, ApiVersionError, ConversionError, convert, object_name
from registry.sources.yaml_values import Place, YamlError, find_lines, read_documents

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why something was not taken: the key under which it is counted."""

    UNREADABLE = "unreadable"
    SYNTAX = "syntax"
    OBJECT = "object"
    DUPLICATE = "duplicate"
    API_VERSION = "api_version"
    ANNOTATION = "annotation"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that could not be taken; ``line`` counts from 1, None where it is not known."""

    reason: Reason
    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An object that was taken, and the line where it begins, None where it is not known."""

    item: Object
    line: int | None

    @property
    def key(self) -> tuple[Kind, ObjectKey]:
        """What no other object may have."""
        return self.item.kind, (self.item.namespace, self.item.name)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds, in its order."""

    entries: tuple[Entry, ...] = ()
    flaws: tuple[Flaw, ...] = ()


class BrokenFile(Exception):
    """A file that can't be read as a whole, so that nothing is known of what it should hold; with the flaw."""

    def __init__(self, reason: Reason, text: str, line: int | None = None) -> None:
        super().__init__(reason, text, line)
        self.flaw = Flaw(reason, text, line)

    def __str__(self) -> str:
        return f"line {self.flaw.line}: {self.flaw.text}" if self.flaw.line else self.flaw.text


def parse(data: bytes, *, is_json: bool) -> Contents:
    """The objects of a manifest file: YAML documents, or one JSON document; each an object or a List of them.

    Raises:
        BrokenFile: it is not UTF-8, not YAML or JSON, or a document is no mapping.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BrokenFile(Reason.SYNTAX, f"not UTF-8: byte 0x{data[error.start]:02x}", line) from None
    lines: dict[Place, int] = {}
    if is_json:
        documents = [_read_json(text)] if text.strip() else []
        lines[0,] = text[: len(text) - len(text.lstrip())].count("\n") + 1
    else:
        try:
            documents = list(read_documents(text, lines, _is_object_place))
        except YamlError as error:
            raise BrokenFile(Reason.SYNTAX, error.reason, error.line) from None
    for number, document in enumerate(documents):
        if not isinstance(document, (dict, type(None))):
            raise BrokenFile(Reason.SYNTAX, "expected a mapping: the fields of an object", lines.get((number,)))
        if document and _is_list(document) and not isinstance(document.get("items"), (list, type(None))):
            raise BrokenFile(Reason.SYNTAX, "items: expected a list of objects", lines.get((number, "items")))
    return _convert(documents, lines, text)


def _is_object_place(place: Place) -> bool:
    """True for a document, the items of a list, and each of them."""
    return len(place) == 1 or (len(place) <= 3 and place[1] == "items")


def _convert(documents: list[Any], lines: Mapping[Place, int], text: str) -> Contents:
    entries: list[Entry] = []
    flaws: list[tuple[Reason, str, Place]] = []
    for place, raw in _objects(documents):
        if not isinstance(raw, dict):
            flaws.append((Reason.OBJECT, "expected a mapping: the fields of an object", place))
            continue
        try:
            item = convert(raw)
        except ApiVersionError as error:
            flaws.append((Reason.API_VERSION, str(error), place + error.steps))
        except ConversionError as error:
            flaws.append((Reason.OBJECT, str(error), place + error.steps))
        else:
            if item is None:
                log.debug("not used: %s", object_name(raw))
            else:
                entries.append(Entry(item, lines.get(place)))
                if isinstance(item, Server) and item.routing is not None:
                    for what in item.routing.flaws:
                        steps = "metadata", "annotations", what.partition(":")[0]
                        flaws.append((Reason.ANNOTATION, f"{object_name(raw)}: {what}", place + steps))
    found = find_lines(text, {place for _, _, place in flaws}) if flaws else {}
    return Contents(tuple(entries), tuple(Flaw(reason, what, found[place]) for reason, what, place in flaws))


_LISTS: Final = frozenset({"List", *(f"{kind}List" for kind in KINDS)})


def _objects(documents: list[Any]) -> Iterator[tuple[Place, Any]]:
    """What should be an object, and its place: the documents, the items of those that are lists; no empty ones."""
    for number, document in enumerate(documents):
        if document is None:
            continue
        if _is_list(document):
            for position, item in enumerate(document.get("items") or ()):
                yield (number, "items", position), item
        else:
            yield (number,), document


def _is_list(document: Mapping[str, Any]) -> bool:
    """True for what kubectl prints of several objects."""
    kind = document.get("kind")
    return isinstance(kind, str) and kind in _LISTS


# --------------------------------------------------------------------------------------------------- JSON


class _TwiceError(ValueError):
    """A key that stands twice."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _TwiceError(f"the key {name!r} stands twice in one mapping")
    return items


def _read_json(text: str) -> Any:
    try:
        if "\\u" in text:
            # Tells half a surrogate pair, which json lets through and nothing could encode afterwards.
            msgspec.json.decode(text)
        return json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise BrokenFile(Reason.SYNTAX, f"no JSON: {error.msg}", error.lineno) from None
    except _TwiceError as error:
        raise BrokenFile(Reason.SYNTAX, str(error), _yaml_line(text)) from None
    except RecursionError:
        raise BrokenFile(Reason.SYNTAX, "nested too deep", _yaml_line(text)) from None
    except (ValueError, msgspec.DecodeError) as error:
        raise BrokenFile(Reason.SYNTAX, f"no JSON: {error}", _yaml_line(text)) from None


def _yaml_line(text: str) -> int | None:
    """The line of an error that JSON has no line for: JSON is nearly YAML, which finds the same."""
    try:
        for _ in read_documents(text, {}, lambda _: False):
            pass
    except YamlError as error:
        return error.line
    return None
