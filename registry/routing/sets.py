"""Sets: servers and callers that belong together, named ``name.area.group``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from registry.routing.groups import Trail

WILDCARD: Final = "*"


class InSet(Protocol):
    """What is chosen from by set."""

    @property
    def set_id(self) -> str:
        """The set it is in; "" for none."""


S = TypeVar("S", bound=InSet)


def is_set(text: str) -> bool:
    """True for ``name.area.group``: three parts, of which only the last may be ``*``."""
    parts = text.split(".", 3)
    return len(parts) == 3 and all(parts) and WILDCARD not in parts[:2]


def by_set(pool: Sequence[S], set_id: str, trail: Trail | None = None) -> Sequence[S] | None:
    """Those in a set, or else in its wildcard set; with ``*`` as its group all of its area; may be none at all.

    None where no endpoint is in a set of that name, so that sets say nothing here. ``set_id`` is one.
    """
    name, _, group = set_id.split(".")
    family = [each for each in pool if each.set_id.partition(".")[0] == name and each.set_id]
    if not family:
        if trail:
            trail(f"no endpoint is in a set named {name!r}: chosen by group instead")
        return None
    area = set_id[: -len(group)]  # with its dot
    if group == WILDCARD:
        found = [each for each in family if each.set_id.startswith(area)]
        if trail:
            trail(f"every set of {area}*: {len(found)} endpoints")
        return found
    for wanted in (set_id, area + WILDCARD):
        found = [each for each in family if each.set_id == wanted]
        if trail:
            trail(f"set {wanted}: {len(found)} endpoints")
        if found:
            return found
    return ()
