"""YAML as values, the way kubectl reads it: from the parser's events, without a tree of nodes.

A tree takes six times as long and some hundred bytes a node; so lines are noted only for the places that are asked for.

- Mappings, lists and scalars as in JSON: a mapping's key is its text; a date stays text.
- YAML 1.1 words: yes, no, on, off, y, n are true and false, as in kubectl. Numbers in base 60 are text, as there.
- A key that stands twice in a mapping is an error. Merge keys (``<<``) are resolved.
- What aliases would write out is bounded, so that a few lines can't stand for gigabytes; so is the depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

MAX_DEPTH: Final = 100
"""Mappings and lists within each other; a manifest has about ten."""

MAX_ALIASED: Final = 1_000_000
"""Values that the aliases of a file stand for, in all: about a second of work."""

Place = tuple[str | int, ...]
"""Where a value stands in a file: the number of the document, then keys and list positions."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its parser is used. The C one is ten times as fast."""


class YamlError(Exception):
    """Text that is no YAML, or is out of bounds: the line, counted from 1, and why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class YamlReader:
    """Reads the documents of a text.

    ``noted`` says for which places the line is wanted; a place is asked for only where the one above it was wanted.
    The lines are in ``lines``, counted from 1.
    """

    def __init__(self, text: str, noted: Callable[[Place], bool]) -> None:
        self.lines: dict[Place, int] = {}
        self._text = text
        self._noted = noted
        self._next: Callable[[], Any] = Event
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self._aliased = 0

    def documents(self) -> Iterator[Any]:
        """The value of each document, in order. Raises YamlError where the text stops being right."""
        try:
            loader = _Loader(self._text)
        except yaml.YAMLError as error:
            raise _explained(error, self._text) from None
        self._next = loader.get_event
        try:
            self._next()  # start of the stream
            number = 0
            while not isinstance(self._next(), StreamEndEvent):
                self._anchors.clear()
                yield self._value(self._next(), (number,), 0)
                self._next()  # end of the document
                number += 1
        except yaml.YAMLError as error:
            raise _explained(error, self._text) from None
        finally:
            loader.dispose()

    def _value(self, event: Any, place: Place | None, depth: int) -> Any:
        if place is not None:
            if self._noted(place):
                self.lines[place] = event.start_mark.line + 1
            else:
                place = None
        if isinstance(event, AliasEvent):
            return self._alias(event)
        before = self._values
        self._values += 1
        if depth > MAX_DEPTH:
            raise _error(event, f"nested more than {MAX_DEPTH} deep")
        value: Any
        if isinstance(event, ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, MappingStartEvent):
            value = self._mapping(event, place, depth)
        else:
            value = self._list(event, place, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._values - before
        return value

    def _alias(self, event: Any) -> Any:
        try:
            value, size = self._anchors[event.anchor]
        except KeyError:
            raise _error(event, f"the alias *{event.anchor} has no anchor before it") from None
        self._values += size
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise _error(event, f"the aliases stand for more than {MAX_ALIASED} values")
        return value

    def _list(self, event: Any, place: Place | None, depth: int) -> list[Any]:
        _check_tag(event, "seq")
        # An anchor that was there before is another one from here on.
        self._anchors.pop(event.anchor, None)
        items: list[Any] = []
        while not isinstance(item := self._next(), SequenceEndEvent):
            items.append(self._value(item, None if place is None else (*place, len(items)), depth + 1))
        return items

    def _mapping(self, event: Any, place: Place | None, depth: int) -> dict[str, Any]:
        _check_tag(event, "map")
        self._anchors.pop(event.anchor, None)
        items: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(key := self._next(), MappingEndEvent):
            name = self._key(key)
            value = self._next()
            if name == "<<" and key.implicit[0]:
                merged.append((key, self._value(value, None, depth + 1)))
            elif name in items:
                raise _error(key, f"the key {name!r} stands twice in one mapping")
            else:
                items[name] = self._value(value, None if place is None else (*place, name), depth + 1)
        for key, value in merged:
            for one in value if isinstance(value, list) else [value]:
                if not isinstance(one, dict):
                    raise _error(key, "'<<' merges mappings only")
                for name, merge in one.items():
                    items.setdefault(name, merge)
        return items

    def _key(self, event: Any) -> str:
        if isinstance(event, AliasEvent):
            key = self._alias(event)
        elif isinstance(event, ScalarEvent):
            key = event.value
            if event.anchor is not None:
                self._anchors[event.anchor] = key, 1
        else:
            key = None
        if not isinstance(key, str):
            raise _error(event, "a key must be text")
        return key


def find_lines(text: str, wanted: set[Place]) -> dict[Place, int]:
    """The line of each place in a text; where it has no such place, that of the nearest one around it."""
    around = {place[:length] for place in wanted for length in range(1, len(place) + 1)}
    reader = YamlReader(text, around.__contains__)
    try:
        for _ in reader.documents():
            pass
    except YamlError:
        pass  # JSON that is no YAML: what was found up to there
    return {place: next((reader.lines[part] for part in _parts(place) if part in reader.lines), 1) for place in wanted}


def _parts(place: Place) -> Iterator[Place]:
    return (place[:length] for length in range(len(place), 0, -1))


# ------------------------------------------------------------------------------------------------ scalars

_WORDS: Final[dict[str, bool | float | None]] = {
    word: value
    for value, words in (
        (None, "null ~"),
        (True, "true yes on y"),
        (False, "false no off n"),
        (float("inf"), ".inf +.inf"),
        (float("-inf"), "-.inf"),
        (float("nan"), ".nan"),
    )
    for lower in words.split()
    for word in (lower, lower.capitalize(), lower.upper(), lower.replace("inf", "Inf").replace("nan", "NaN"))
} | {"": None}

# Longer ones are no port and no time-out either, and take long to read.
_INT: Final = re.compile(r"[-+]?(?:0b[01_]{1,70}|0x[0-9a-fA-F_]{1,20}|0o?[0-7_]{1,30}|[1-9][0-9_]{0,30}|0)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")

_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = {f"{_TAG}{name}": name for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag is None:
        return _plain(text) if event.implicit[0] else text
    if event.tag == "!":
        return text
    name = _check_tag(event, "str", "int", "float", "bool", "null", "timestamp")
    if name in ("str", "timestamp"):
        return text
    value = _plain(text)
    if name == "float" and type(value) is int:
        return float(value)
    if name != {int: "int", float: "float", bool: "bool", type(None): "null"}.get(type(value)):
        raise _error(event, f"{text!r} is no !!{name}")
    return value


def _plain(text: str) -> Any:
    """The value of text without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "-+.0123456789":
        if _INT.fullmatch(text):
            digits = text.replace("_", "")
            octal = re.fullmatch(r"([-+]?)0([0-7]+)", digits)
            try:
                return int(f"{octal[1]}0o{octal[2]}" if octal else digits, 0)
            except ValueError:
                return text  # nothing but underscores after the prefix
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def _check_tag(event: Any, *allowed: str) -> str:
    """The short name of an explicit tag; the first allowed where there is none."""
    if event.tag is None or event.tag == "!":
        return allowed[0]
    name = _TAGS.get(event.tag, "")
    if name not in allowed:
        raise _error(event, f"the tag {event.tag.replace(_TAG, '!!')} is not known here")
    return name


def _error(event: Any, reason: str) -> YamlError:
    return YamlError(event.start_mark.line + 1, reason)


def _explained(error: yaml.YAMLError, text: str) -> YamlError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.problem, error.context) if part)
        return YamlError(mark.line + 1 if mark else 1, f"no YAML: {reason}")
    # Something that may not stand in YAML at all; the position is in bytes of UTF-8 or in characters, by parser.
    if isinstance(error, yaml.reader.ReaderError):
        before = text.encode()[: error.position] if _Loader is not yaml.SafeLoader else text[: error.position].encode()
        return YamlError(before.count(b"\n") + 1, f"no YAML: character {error.character!r:.10}: {error.reason}")
    return YamlError(1, f"no YAML: {error}")
