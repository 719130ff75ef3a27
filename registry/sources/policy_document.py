"""The routing policy as it is written: from YAML to a :class:`PolicyDocument`, or to all that is wrong with it.

grouping: annotated          # or all: every server that does not say otherwise
from_topology: false         # zones of nodes as groups, regions as stations
groups:
  - id: 1
    name: shenzhen-a
    addresses: [10.1.0.0/16, 10.2.3.*, "fd00:1::/64"]
    sets: [shop.sz.*]        # of callers, with caller_group: set
    node_names: [node-7]     # of callers, with caller_group: node_name
priorities:                  # in order; each is a station as well
  - station: shenzhen
    groups: [1, shenzhen-b]
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from registry.routing.groups import Prefix, Rule, parse_prefix
from registry.routing.policy import MAX_GROUP, Group, PolicyDocument, Station
from registry.routing.sets import is_set
from registry.sources.tendpoints import format_path
from registry.sources.yaml_values import Place, YamlError, read_documents


@dataclass(frozen=True, slots=True)
class PolicyFlaw:
    """Something wrong in a policy: the line, the place in it as in ``groups[0].id``, and what would be right."""

    line: int
    path: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path}: {self.reason}" if self.path else f"line {self.line}: {self.reason}"


class PolicyError(Exception):
    """A policy that can't be used; with everything that is wrong in it."""

    def __init__(self, flaws: Sequence[PolicyFlaw]) -> None:
        super().__init__(flaws)
        self.flaws = tuple(flaws)

    def __str__(self) -> str:
        more = f" (and {len(self.flaws) - 1} more)" if len(self.flaws) > 1 else ""
        return f"{self.flaws[0]}{more}"


def read_policy(text: str) -> PolicyDocument:
    """The policy in a text; an empty one is a policy without groups. Raises PolicyError."""
    lines: dict[Place, int] = {}
    try:
        documents = list(read_documents(text, lines, lambda _: True))
    except YamlError as error:
        raise PolicyError([PolicyFlaw(error.line, "", error.reason)]) from None
    reader = _Reader(lines)
    if len(documents) > 1:
        reader.flaws.append(PolicyFlaw(lines[1,], "", "expected one document"))
    document = reader.read(documents[0] if documents else None)
    if reader.flaws:
        raise PolicyError(sorted(reader.flaws, key=lambda flaw: flaw.line))
    return document


_TOP: Final = ("grouping", "from_topology", "groups", "priorities")
_GROUP: Final = ("id", "name", "addresses", "sets", "node_names")
_PRIORITY: Final = ("station", "groups")
_LISTS: Final = ("groups", "priorities", "addresses", "sets", "node_names")
_GROUPING: Final = ("annotated", "all")

_HINTS: Final = 10
"""Names that are compared with all there are, to say which one was meant: that takes 3 ms a name among 2,000."""

_LONGEST_HINTED: Final = 100
"""Characters of a name that are compared."""


class _Reader:
    """Goes through a document and notes what is wrong, all of it."""

    def __init__(self, lines: dict[Place, int]) -> None:
        self.flaws: list[PolicyFlaw] = []
        self._lines = lines
        self._taken: dict[tuple[str, object], Place] = {}
        """What may be there once only (a kind of thing, and which), and where it is."""
        self._ids: set[int] = set()
        self._names: set[str] = set()
        self._hints = _HINTS
        """How many more are looked for."""

    def read(self, raw: Any) -> PolicyDocument:
        """The document; of what has a flaw, whatever could be read."""
        top = self._mapping(raw, (), _TOP, "the fields of a policy")
        grouping = top.get("grouping", "annotated")
        if grouping not in _GROUPING:
            self._flaw(("grouping",), f"expected annotated or all, got {_shown(grouping)}")
        from_topology = top.get("from_topology", False)
        if not isinstance(from_topology, bool):
            self._flaw(("from_topology",), f"expected true or false, got {_shown(from_topology)}")
        groups = tuple(self._group(item, path) for path, item in self._items(top, (), "groups"))
        priorities = tuple(
            self._priority(item, path, bool(from_topology)) for path, item in self._items(top, (), "priorities")
        )
        return PolicyDocument(groups, priorities, grouping == "all", bool(from_topology))

    def _group(self, raw: Any, path: Place) -> Group:
        fields = self._mapping(raw, path, _GROUP, "a group")
        number = fields.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MAX_GROUP:
            self._flaw((*path, "id"), f"expected a whole number from 1 to {MAX_GROUP}, got {_shown(number)}")
            number = 0
        else:
            self._once("group", number, (*path, "id"))
            self._ids.add(number)
        name = fields.get("name", "")
        if not isinstance(name, str):
            self._flaw((*path, "name"), f"expected text, got {_shown(name)}{_quotes(name)}")
            name = ""
        elif name:
            self._once("group name", name, (*path, "name"))
            self._names.add(name)
        return Group(
            number,
            name,
            tuple(self._rules(fields, path, number)),
            tuple(self._texts(fields, path, "sets", "set")),
            tuple(self._texts(fields, path, "node_names", "node name")),
        )

    def _rules(self, fields: dict[str, Any], path: Place, group: int) -> Iterator[Rule]:
        for place, text in self._items(fields, path, "addresses"):
            if not isinstance(text, str):
                # 10.1 is a number in YAML.
                self._flaw(place, f"expected an address as text, got {_shown(text)}{_quotes(text)}")
                continue
            try:
                prefix: Prefix = parse_prefix(text.strip())
            except ValueError as error:
                self._flaw(place, str(error))
                continue
            self._once("address", prefix, place, text)
            yield Rule(prefix, group, text.strip(), self._line(place))

    def _texts(self, fields: dict[str, Any], path: Place, key: str, what: str) -> Iterator[str]:
        for place, text in self._items(fields, path, key):
            if not isinstance(text, str) or not text:
                self._flaw(place, f"expected a {what} as text, got {_shown(text)}{_quotes(text)}")
            elif key == "sets" and not is_set(text):
                self._flaw(place, f"expected name.area.group, of which only the group may be *, got {_shown(text)}")
            else:
                self._once(what, text, place)
                yield text

    def _priority(self, raw: Any, path: Place, from_topology: bool) -> Station:
        fields = self._mapping(raw, path, _PRIORITY, "a priority")
        name = fields.get("station")
        if not isinstance(name, str) or not name:
            self._flaw((*path, "station"), f"expected the name of a station as text, got {_shown(name)}{_quotes(name)}")
            name = ""
        else:
            self._once("station", name, (*path, "station"))
        groups: list[int | str] = []
        for place, group in self._items(fields, path, "groups"):
            if isinstance(group, bool) or not isinstance(group, int | str):
                self._flaw(place, f"expected the number or name of a group, got {_shown(group)}{_quotes(group)}")
                continue
            known = group in self._ids if isinstance(group, int) else group in self._names
            if not known and not (isinstance(group, str) and from_topology):
                self._flaw(place, f"there is no group {_shown(group)}{self._hint(group)}")
            else:
                groups.append(group)
        return Station(name, tuple(groups))

    def _hint(self, group: int | str) -> str:
        ids = {str(number): number for number in self._ids} if self._hints else {}
        if isinstance(group, str) and group in ids:
            return "; write a number without quotes"
        near = self._nearest(str(group), [*self._names, *ids])
        return f"; did you mean {near}?" if near else ""

    def _nearest(self, text: str, known: Sequence[str]) -> str:
        """Which of the known ones may be meant; "" for none."""
        if not self._hints:
            return ""
        self._hints -= 1
        return next(iter(difflib.get_close_matches(text[:_LONGEST_HINTED], known, 1)), "")

    # -- what all of them need -------------------------------------------------------------------------------------

    def _mapping(self, raw: Any, path: Place, keys: Sequence[str], what: str) -> dict[str, Any]:
        if raw is None and not path:
            return {}
        if not isinstance(raw, dict):
            self._flaw(path, f"expected {what}: {', '.join(keys)}; got {_shown(raw)}")
            return {}
        for key in raw:
            if key not in keys:
                near = self._nearest(key, keys)
                hint = f"did you mean {near}?" if near else f"there are {', '.join(keys)}"
                self._flaw((*path, key), f"no such field; {hint}")
        # A field without a value is one that is not there; but not a list, see `_items`.
        return {key: value for key, value in raw.items() if value is not None or key in _LISTS}

    def _items(self, fields: dict[str, Any], path: Place, key: str) -> list[tuple[Place, Any]]:
        found = fields.get(key, [])
        if key in fields and found is None:
            # Also what a file looks like that is only half written: not to be taken for a policy without groups.
            self._flaw((*path, key), "expected a list, got nothing; write [] for an empty one, or leave the field out")
            return []
        if not isinstance(found, list):
            self._flaw((*path, key), f"expected a list, got {_shown(found)}")
            return []
        return [((*path, key, number), item) for number, item in enumerate(found)]

    def _once(self, what: str, which: object, place: Place, text: str = "") -> None:
        first = self._taken.setdefault((what, which), place)
        if first is not place:
            shown = text or which
            there = f"{format_path(first)} in line {self._line(first)}"
            self._flaw(place, f"the {what} {shown} stands in {there} already")

    def _flaw(self, place: Place, reason: str) -> None:
        self.flaws.append(PolicyFlaw(self._line(place), format_path(place), reason))

    def _line(self, place: Place) -> int:
        """The line of a place, or of the nearest one around it."""
        full: Place = (0, *place)
        return next((self._lines[full[:end]] for end in range(len(full), 0, -1) if full[:end] in self._lines), 1)


def _quotes(value: Any) -> str:
    """What to do where a text was taken for a number, or for true or false, as ``y`` and ``on`` are."""
    return "; put it in quotes" if isinstance(value, bool | int | float) else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    return repr(value)[:60]
