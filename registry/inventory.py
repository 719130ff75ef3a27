"""Which objects can be asked for: the ids of all servants in a table, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from registry.routing.select import parse_id
from registry.table import ServerKey, Table

MOST_IDS: Final = 250
"""In one page: with 10,000 servers it takes some 5 ms to sort their names and make one, in which nobody is served."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some ids, in their order; ``next`` is the last of them where there are more, to be given as ``after``."""

    objects: list[str] = field(default_factory=list)
    next: str | None = None


def page(table: Table, parameters: Mapping[str, str]) -> Page:
    """The ids that come after the id ``after`` (default: from the first on), at most ``limit`` of them.

    In order of application and server in lower case, then of the servant; as they are spelt where they are declared.
    With those that the up-chain names. Raises ValueError that says what would be right.
    """
    unknown = parameters.keys() - {"after", "limit"}
    if unknown:
        raise ValueError(f"no parameter {min(unknown)!r}; there are after, limit")
    after = parameters.get("after", "")
    if after and parse_id(after) is None:
        raise ValueError(f"after: expected an object id as in App.Server.Obj, got {after[:60]!r}")
    text = parameters.get("limit", str(MOST_IDS))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_IDS):
        raise ValueError(f"limit: expected a number from 1 to {MOST_IDS}, got {text[:60]!r}")
    found = _first(table, _position(after) if after else ("", ""), int(text) + 1)
    more = len(found) > int(text)
    objects = found[: int(text)]
    return Page(objects, objects[-1] if more else None)


_Position = tuple[str, str]
"""``app.server`` in lower case, and the servant: a page begins behind one of these."""


def _position(object_id: str) -> _Position:
    app, server, servant = object_id.split(".", 2)
    return f"{app}.{server}".lower(), servant


def _first(table: Table, after: _Position, limit: int) -> list[str]:
    """So many ids from behind a position."""
    named = {name for key in table.servers if (name := _name(key)) >= after[0]}
    chained: dict[str, list[str]] = {}
    for text in filter(_is_id, table.up_chain):
        chained.setdefault(_position(text)[0], []).append(text)
    named.update(name for name in chained if name >= after[0])
    found: list[str] = []
    for name in sorted(named):
        ids: dict[_Position, str] = {}
        for text in (*_ids(table, name), *chained.get(name, ())):
            ids.setdefault(_position(text), text)
        found += [ids[position] for position in sorted(ids) if position > after]
        if len(found) >= limit:
            break
    return found[:limit]


def _name(key: ServerKey) -> str:
    """``app.server``; of an object that names neither, the object's name at its first dash says as much."""
    return ".".join(key) if key[0] else key[1].replace("-", ".", 1)


def _ids(table: Table, name: str) -> Iterator[str]:
    """The ids of the servants of one server; none of one whose names have dots, which can't be asked for."""
    app, _, server_name = name.partition(".")
    for server in table.find(app, server_name):
        spelt = f"{server.app}.{server.server}" if server.app and server.server else name
        for servant in server.servants:
            if _is_id(f"{spelt}.{servant.name}"):
                yield f"{spelt}.{servant.name}"


def _is_id(text: str) -> bool:
    """True for what can be asked for as it is; the up-chain's default is no id."""
    parsed = parse_id(text)
    return parsed is not None and parsed.text == text
