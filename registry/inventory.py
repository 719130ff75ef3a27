"""Which objects can be asked for: the ids of all servants in a table, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from registry.model import Server
from registry.routing.select import parse_id
from registry.table import ServerKey, Table

MOST_IDS: Final = 1_000
"""In one page."""


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
    names: dict[str, list[ServerKey | str]] = {}
    for key in table.servers:
        name = _name(key)
        if name >= after[0]:
            names.setdefault(name, []).append(key)
    for text in table.up_chain:
        if _is_id(text) and (name := _position(text)[0]) >= after[0]:
            names.setdefault(name, []).append(text)
    found: list[str] = []
    for name in sorted(names):
        ids: dict[_Position, str] = {}
        for what in names[name]:
            for text in [what] if isinstance(what, str) else _ids(what, table.servers[what]):
                ids.setdefault(_position(text), text)
        found += [ids[position] for position in sorted(ids) if position > after]
        if len(found) >= limit:
            break
    return found[:limit]


def _name(key: ServerKey) -> str:
    """``app.server``; of an object that names neither, the object's name at its first dash says as much."""
    return ".".join(key) if key[0] else key[1].replace("-", ".", 1)


def _ids(key: ServerKey, servers: Iterable[Server]) -> Iterable[str]:
    """The ids of the servants of one server."""
    for server in servers:
        name = f"{server.app}.{server.server}" if key[0] else _name(key)
        for servant in server.servants:
            text = f"{name}.{servant.name}"
            if _is_id(text):
                yield text


def _is_id(text: str) -> bool:
    """True for what can be asked for: names with a dot or an ``@`` in them can't, nor what stands for all others."""
    parsed = parse_id(text)
    return parsed is not None and parsed.text == text
