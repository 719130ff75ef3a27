"""Which endpoints answer a question: a pure function of table, naming, question and caller's group."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from registry.model import Server, Upstream
from registry.routing.hosts import Naming
from registry.table import Table


class Lookup(StrEnum):
    """The six ways to ask for an object, by the name of their function."""

    ACTIVE = "findObjectById"
    ANY = "findObjectById4Any"
    ALL = "findObjectById4All"
    SAME_GROUP = "findObjectByIdInSameGroup"
    SAME_STATION = "findObjectByIdInSameStation"
    SAME_SET = "findObjectByIdInSameSet"


NO_GROUP: Final = -1
"""The group of a caller, or of an endpoint, that is in none."""


@dataclass(frozen=True, slots=True)
class ObjectId:
    """``App.Server.Obj``. ``text`` is the three joined as the caller spelt them."""

    app: str
    server: str
    servant: str

    @property
    def text(self) -> str:
        """The id without what may have followed it."""
        return f"{self.app}.{self.server}.{self.servant}"


MAX_ID_CHARS: Final = 1_000
"""An id can't name anything above this: the names of servers have up to 63 characters each."""


def parse_id(text: str) -> ObjectId | None:
    """The object that an id names: three non-empty parts; what follows ``@`` or ``#`` is not looked at. None if not."""
    if len(text) > MAX_ID_CHARS:
        return None
    parts = text.partition("@")[0].partition("#")[0].split(".", 3)
    return ObjectId(*parts) if len(parts) == 3 and all(parts) else None


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks. ``id`` is None where what it sent is no object id.

    ``argument`` is the station of SAME_STATION or the set of SAME_SET, "" otherwise; ``group`` is the caller's.
    """

    lookup: Lookup
    id: ObjectId | None
    argument: str = ""
    group: int = NO_GROUP


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address in an answer. ``timeout`` in ms."""

    host: str
    port: int
    timeout: int
    is_tcp: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer to a question, before it is encoded."""

    ret: int = 0
    active: tuple[Endpoint, ...] = ()
    inactive: tuple[Endpoint, ...] = ()


NOTHING: Final = Selection()
REFUSED: Final = Selection(ret=-1)


def select(table: Table, naming: Naming, question: Question) -> Selection:
    """Answer a question from a table that is synchronised.

    Groups, stations and sets are not told apart where no policy and no set is configured: all six functions give the
    same endpoints, but for a set that can't be one, which is refused.
    """
    if question.lookup is Lookup.SAME_SET and not is_set(question.argument):
        return REFUSED
    if question.id is None:
        return NOTHING
    servers = table.find(question.id.app, question.id.server)
    if not servers:
        return Selection(active=_upstream(table, question.id))
    active, inactive = _endpoints(servers, naming, question.id.servant)
    return Selection(active=active, inactive=inactive)


def is_set(text: str) -> bool:
    """True for ``name.area.group``: three parts, of which only the last may be ``*``."""
    parts = text.split(".", 3)
    return len(parts) == 3 and all(parts) and "*" not in parts[:2]


def _endpoints(
    servers: tuple[Server, ...], naming: Naming, servant_name: str
) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:
    """Active and inactive endpoints of a servant, pods in their order: the same set gives the same bytes."""
    found: list[tuple[tuple[str, int, str], bool, Endpoint]] = []
    for server in servers:
        servant = next((s for s in server.servants if s.is_called(servant_name)), None)
        if servant is None:
            continue
        for pod in server.pods:
            host, port = naming.address(server, pod, servant)
            if host:
                found.append((pod.order, pod.active, Endpoint(host, port, servant.timeout, servant.is_tcp)))
    if len(servers) > 1:
        found.sort(key=lambda entry: entry[0])
    return (
        tuple(endpoint for _, active, endpoint in found if active),
        tuple(endpoint for _, active, endpoint in found if not active),
    )


def _upstream(table: Table, object_id: ObjectId) -> tuple[Endpoint, ...]:
    # An object may be listed with no address, so that the default does not apply to it.
    entries: tuple[Upstream, ...] = table.up_chain.get(object_id.text, table.up_chain.get("default", ()))
    return tuple(Endpoint(entry.host, entry.port, entry.timeout, entry.is_tcp) for entry in entries)
