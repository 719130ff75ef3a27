"""YAML as values, the way kubectl reads it: PyYAML's safe loader, made stricter.

- Dates and numbers in base 60 stay text; y and n are true and false; 1e3 and 0o17 are numbers.
- A mapping's key is its text; one that stands twice is an error. Tags are those of JSON's values.
- What aliases stand for is bounded, so that a few lines can't stand for gigabytes; so is the depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml
from yaml.composer import Composer
from yaml.nodes import Node, ScalarNode
from yaml.reader import Reader, ReaderError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_DEPTH: Final = 100
"""Mappings and lists within each other; a manifest has about ten."""

MAX_ALIASED: Final = 1_000_000
"""Values that the aliases of a file stand for, in all: about a second of work."""

Place = tuple[str | int, ...]
"""Where a value stands in a file: the number of the document, then keys and list positions."""


class YamlError(Exception):
    """Text that is no YAML, or is out of bounds: the line, counted from 1, and why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def read_documents(text: str, lines: dict[Place, int], noted: Callable[[Place], bool]) -> Iterator[Any]:
    """The value of each document; ``lines`` gets the line of each place that is ``noted``. Raises YamlError."""
    try:
        loader = _Loader(text, lines, noted)
        while loader.check_node():
            node = loader.get_node()
            loader.constructed_objects, loader.items = loader.items, {}
            yield loader.construct_document(node)
            loader.number += 1
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.problem, error.context) if part)
        raise YamlError(mark.line + 1 if mark else 1, f"no YAML: {reason}") from None
    except ReaderError as error:  # its position is in bytes or in characters, by parser
        found = Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        raise YamlError(line, f"no YAML: character {error.character!r:.10}: {error.reason}") from None
    except RecursionError:
        raise YamlError(1, "nested too deep by merging") from None


def find_lines(text: str, wanted: set[Place]) -> dict[Place, int]:
    """The line of each place in a text; where it has no such place, that of the nearest one around it."""
    parts = {place: [place[:length] for length in range(len(place), 0, -1)] for place in wanted}
    lines: dict[Place, int] = {}
    try:
        for _ in read_documents(text, lines, {part for around in parts.values() for part in around}.__contains__):
            pass
    except YamlError:
        pass  # JSON that is no YAML: what was found up to there
    return {place: next((lines[part] for part in around if part in lines), 1) for place, around in parts.items()}


_TAG: Final = "tag:yaml.org,2002:"
_STR, _INT, _FLOAT, _BOOL, _NULL, _MERGE = (_TAG + name for name in ("str", "int", "float", "bool", "null", "merge"))


def _error(where: Any, reason: str) -> YamlError:
    return YamlError(where.start_mark.line + 1, reason)


class _Composer(Composer):
    """Goes first: that of the parser in C can't be extended. (A class of its own, as SafeLoader may be one itself.)"""


class _Loader(_Composer, SafeLoader):
    """The safe loader with the differences above."""

    bool_values = SafeLoader.bool_values | {"y": True, "n": False}

    def __init__(self, text: str, lines: dict[Place, int], noted: Callable[[Place], bool]) -> None:
        SafeLoader.__init__(self, text)
        Composer.__init__(self)
        self.lines, self.noted = lines, noted
        self.number = 0
        self.items: dict[Node, Any] = {}
        self._path: list[Any] = []
        self._nodes = self._aliased = 0
        self._sizes: dict[Any, int] = {}  # of what has an anchor and is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        """``index`` is a list position, the key's node for a value, None for a key."""
        event: Any = self.peek_event()
        before = self._nodes
        if isinstance(index, Node) and not isinstance(index, ScalarNode):
            raise _error(index, "a key must be text")
        self._path.append(index.value if isinstance(index, Node) else index if parent else self.number)
        if self.noted(place := tuple(self._path)):
            self.lines[place] = event.start_mark.line + 1
        if len(place) > MAX_DEPTH + 1:
            raise _error(event, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            self._count(event)
        else:
            self._check_tag(event)
            self._nodes += 1
            self.anchors.pop(event.anchor, None)  # it may be used again
        node: Any = super().compose_node(parent, index)
        self._path.pop()
        if event.anchor is not None:
            self._sizes[node] = self._nodes - before
        elif len(place) == 3 and place[1] == "items" and isinstance(index, int) and not self.anchors:
            # Of the items of a List, which may be many, only values are kept: nodes take several times their memory.
            self.items[node] = self.construct_document(node)
            node.value = None
        return node

    def _count(self, alias: Any) -> None:
        size = self._sizes.get(self.anchors.get(alias.anchor))
        if size is None:
            raise _error(alias, f"the alias *{alias.anchor} has no anchor before it")
        self._nodes += size
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise _error(alias, f"the aliases stand for more than {MAX_ALIASED} values")

    def _check_tag(self: Any, event: Any) -> None:
        if event.tag in (None, _STR, f"{_TAG}map", f"{_TAG}seq"):
            return
        if event.tag != self.resolve(ScalarNode, getattr(event, "value", ""), (True, False)):
            raise _error(event, f"the tag {event.tag.replace(_TAG, '!!')} can't be used here")

    def compose_mapping_node(self, anchor: Any) -> Any:
        """With the text of each key, which must be there once."""
        node: Any = super().compose_mapping_node(anchor)
        seen = set()
        for position, (key, value) in enumerate(node.value):
            if key.tag == _MERGE:
                continue
            if key.value in seen:
                raise _error(key, f"the key {key.value!r} stands twice in one mapping")
            seen.add(key.value)
            if key.tag != _STR:
                node.value[position] = ScalarNode(_STR, key.value, key.start_mark), value
        return node


# "<<" is text where it is no key.
_Loader.yaml_constructors = {**SafeLoader.yaml_constructors, _MERGE: SafeLoader.construct_yaml_str}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag in (_BOOL, _NULL, _MERGE)]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _first, _pattern in (
    (_BOOL, "yYnN", "[yYnN]"),
    # Longer ones are no port and no time-out either, and take long to read.
    (_INT, "-+0123456789", r"[-+]?(0b_*[01][01_]{,70}|0x_*[\da-fA-F][\da-fA-F_]{,20}|0o?_*[0-7][0-7_]{,30})"),
    (_INT, "-+0123456789", r"[-+]?([1-9][\d_]{,30}|0_*)"),
    (_FLOAT, "-+0123456789.", r"[-+]?(\.\d+|\d+\.\d*|\d+(?=[eE]))([eE][-+]?\d+)?"),
    (_FLOAT, "-+.", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z", re.ASCII), list(_first))
