"""Answers as bytes: computed once for each question and table, kept in the :mod:`registry.cache`, sent as they are.

Only the first look-up of a request's bytes decodes them. What a change of the table makes stale is made again when it
is next asked for. A change of the routing policy makes every answer stale, but one that it spares is not made again.

The caller's group is part of the question, and of the scope before the raw key, where it was found once for the
connection. The group of a question is read off the key that it is kept under: so a scope that is behind the policy, for
the moment until it is renewed, leads to the answer of its old group and never spoils that of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from registry.cache import Answer, AnswerCache, CacheLimits, Cell, Form, Stamp, Tally
from registry.routing.callers import CallerGroup, Callers
from registry.routing.changes import PolicyHistory
from registry.routing.groups import NO_GROUP
from registry.routing.hosts import Naming
from registry.routing.policy import Policy
from registry.routing.select import (
    BY_GROUP,
    NO_MARKS,
    Endpoint,
    Lookup,
    ObjectId,
    Question,
    Selection,
    parse_id,
    select,
)
from registry.table import Change, ServerKey, TableStore
from tars_protocol.bodies import FORMS
from tars_protocol.constants import PacketType, ReturnCode
from tars_protocol.dispatch import Call
from tars_protocol.handlers import Caller
from tars_protocol.interfaces import query as query_interface
from tars_protocol.interfaces.query import QUERY, EndpointF
from tars_protocol.packets import NO_REPLY, Reply, reply

SELF_TIMEOUT: Final = 6_000
"""``timeout`` of the registry's own endpoints, in ms."""


@dataclass(frozen=True, slots=True)
class SelfAddress:
    """Where the registry itself is found: ``host``, or "" for the address that each caller connected to; its ports."""

    host: str = ""
    query_port: int = query_interface.PORT
    registry_port: int = 17891

    def find(self, app: str, server: str, servant: str, caller_reached: str) -> Endpoint | None:
        """The endpoint of one of the registry's own objects; None for any other object."""
        if app.lower() != "tars" or server.lower() != "tarsregistry":
            return None
        if servant == "QueryObj":
            return Endpoint(self.host or caller_reached, self.query_port, SELF_TIMEOUT, is_tcp=True)
        if servant in ("RegistryObj", "Registry"):
            return Endpoint(self.host or caller_reached, self.registry_port, SELF_TIMEOUT, is_tcp=True)
        return None


@dataclass(slots=True)
class AnswerStats:
    """``misses`` are requests that were not known by their bytes; ``computed`` answers were made, or made again."""

    misses: int = 0
    decoded: int = 0
    """Of the answers given, those whose request had to be decoded: all others were hits."""
    computed: int = 0
    spared: int = 0
    """Answers that a change of the policy might have touched, and did not."""


class Answers:
    """Answers questions from the store's table; subscribes to its changes."""

    def __init__(
        self,
        store: TableStore,
        *,
        naming: Naming | None = None,
        self_address: SelfAddress | None = None,
        limits: CacheLimits | None = None,
        caller_group: CallerGroup = CallerGroup.ADDRESS,
    ) -> None:
        self._store = store
        self.policies = PolicyHistory()
        self.callers = Callers(caller_group)
        self._naming = naming or Naming()
        self._self = self_address or SelfAddress()
        self.cache = AnswerCache(limits or CacheLimits())
        self._cells: WeakValueDictionary[ServerKey, Cell] = WeakValueDictionary()
        self._stamp = Stamp(0)
        """Of all cells whose server has not changed since it was made."""
        self._fixed = Cell(self._stamp)
        """For answers that no table changes: the registry's own objects."""
        self.stats = AnswerStats()
        self.tallies: dict[tuple[str, str], Tally] = {}
        """Answers given, by function and result: ``found``, ``empty``, ``refused``, ``not_synchronised``."""
        store.subscribe(self._changed)

    # -- what connections call -----------------------------------------------------------------------------------

    def scope(self, caller: Caller) -> bytes:
        """What must stand before a caller's raw keys: all that its answers depend on beside its bytes.

        It may be another after a change of the policy, see :meth:`route`.
        """
        local = b"" if self._self.host else caller.local.encode()
        return self.callers.scope(caller.peer) + local

    def give(self, answer: Answer) -> bool:
        """Give an answer that was found, made again where the table has changed since. False where that fails."""
        if answer.stamp is not answer.cell.stamp:
            try:
                self._refresh(answer)
            except Exception:
                # A bug: the longer way through the dispatcher meets it again, logs it and answers -99.
                return False
        answer.tally.count += 1
        return True

    def answer(self, call: Call) -> Answer:
        """The answer to a decoded call of one of the six look-ups; found by its raw key from now on."""
        object_id = parse_id(call.arguments[0])
        argument = call.arguments[1] if len(call.arguments) > 1 else ""
        lookup, request, group = Lookup(call.function.name), call.request, NO_GROUP
        if lookup in BY_GROUP:
            asked_set = argument if lookup is Lookup.SAME_SET else ""
            group = self.callers.group(call.key, call.caller.peer, request, asked_set)
        question = Question(lookup, object_id, argument, group)
        own = object_id is not None and self._self.find(object_id.app, object_id.server, object_id.servant, "")
        form = Form(
            request.iVersion,
            request.iMessageType,
            request.cPacketType == PacketType.ONE_WAY,
            call.caller.local if own and not self._self.host else "",
        )
        answer = self.cache.find_made(question, form)
        if answer is None:
            answer = Answer(question, form, self._fixed if own else self._cell(question))
        if answer.stamp is not answer.cell.stamp:
            self._refresh(answer)
        if call.key is not None:
            self.cache.keep(call.key, answer)
        self.stats.decoded += 1
        answer.tally.count += 1
        return answer

    def own(self, object_id: ObjectId, reached: str) -> Endpoint | None:
        """The endpoint of one of the registry's own objects, to who connected to ``reached``; None for any other."""
        return self._self.find(object_id.app, object_id.server, object_id.servant, reached)

    # -- routing -------------------------------------------------------------------------------------------------

    def route(self, policy: Policy, hosts: Mapping[str, str]) -> bool:
        """Answer by another policy from now on. ``hosts`` tells for the address of a pod that of its node.

        True where the scopes of callers may be others now: whoever holds some renews them.
        """
        change = self.policies.change(policy)
        self.callers.use(policy, hosts)
        count = self.policies.count
        now = {self._stamp: Stamp(count, self._stamp.state)}
        for cell in list(self._cells.values()):
            if cell.stamp not in now:
                now[cell.stamp] = Stamp(count, cell.stamp.state)
            cell.stamp = now[cell.stamp]
        self._stamp = now[self._stamp]
        if self.callers.asks_anew_after(change):
            self.cache.forget_requests()
        return self.callers.moved_by(change)

    def pods_moved(self) -> None:
        """Pods may be on other nodes now than ``hosts`` told when requests were looked at."""
        if self.callers.asks_anew_after_pods_moved:
            self.cache.forget_requests()

    def _refresh(self, answer: Answer) -> None:
        """Bring an answer up to date: by making it again, unless only policies changed, which spare it."""
        was, now = answer.stamp, answer.cell.stamp
        if was is not None and was.state is now.state:
            question = answer.question
            servers = self._store.table.find(question.id.app, question.id.server) if question.id else ()
            station = question.argument if question.lookup is Lookup.SAME_STATION else None
            if self.policies.spared_since(was.policies, servers, question.group, station):
                answer.stamp = now
                self.stats.spared += 1
                return
        self._compute(answer)

    # -- the table -----------------------------------------------------------------------------------------------------

    def _cell(self, question: Question) -> Cell:
        key = (question.id.app.lower(), question.id.server.lower()) if question.id else ("", "")
        known = self._cells.get(key)
        if known is not None:
            return known
        made = self._cells[key] = Cell(self._stamp)
        return made

    def _changed(self, change: Change) -> None:
        if change.everything:
            self._stamp = Stamp(self.policies.count)
            for cell in list(self._cells.values()):
                cell.stamp = self._stamp
            return
        for app, server in change.servers:
            names = [(app, server)] if app else _names_of_object(server)
            for name in names:
                touched = self._cells.get(name)
                if touched is not None:
                    touched.stamp = Stamp(self.policies.count)

    # -- computing -----------------------------------------------------------------------------------------------

    def _compute(self, answer: Answer) -> None:
        """Make the bytes of an answer from the table as it is."""
        self.stats.computed += 1
        old_size = answer.size
        question, form = answer.question, answer.form
        selection = self._selection(question, form)
        made, result = NO_REPLY, "not_synchronised"
        if selection is None and question.lookup is Lookup.ACTIVE:
            # It has no return value to say it with.
            made = reply(
                form.version,
                form.message_type,
                FORMS[form.version].empty,
                code=ReturnCode.UNKNOWN,
                description="not synchronised: ask again",
                servant=query_interface.SERVANT,
                function=question.lookup,
            )
        else:
            if selection is None:
                selection = Selection(ret=-1)
            elif selection.ret:
                result = "refused"
            else:
                result = "found" if selection.active else "empty"
            made = self._encode(question.lookup, form, selection)
        answer.heads, answer.tail = ((), b"") if form.one_way else (made.heads, made.tail)
        answer.stamp = answer.cell.stamp
        answer.tally = self.tallies.setdefault((question.lookup, result), Tally())
        self.cache.resized(answer, answer.size - old_size)

    def _selection(self, question: Question, form: Form) -> Selection | None:
        """Who answers a question; None where that is not known yet."""
        if question.id is not None:
            own = self._self.find(question.id.app, question.id.server, question.id.servant, form.reached)
            if own is not None:
                return Selection(active=(own,))
        if not self._store.table.synced:
            return None
        return select(self._store.table, self._naming, question, self.policies.policy)

    def _encode(self, lookup: Lookup, form: Form, selection: Selection) -> Reply:
        function = QUERY[lookup]
        active = tuple(map(_endpoint_f, selection.active))
        values: tuple[object, ...] = (active,)
        if lookup is not Lookup.ACTIVE:
            values = (selection.ret, active, tuple(map(_endpoint_f, selection.inactive)))
        body = FORMS[form.version].encode(function.results, values)
        return reply(form.version, form.message_type, body, servant=query_interface.SERVANT, function=function.name)


def _names_of_object(name: str) -> list[ServerKey]:
    """The app and server that an object's name may stand for: split at each of its hyphens."""
    parts = name.split("-")
    return [("-".join(parts[:at]), "-".join(parts[at:])) for at in range(1, len(parts))]


def _endpoint_f(endpoint: Endpoint) -> EndpointF:
    marks = endpoint.marks
    if marks is NO_MARKS:
        return EndpointF(
            host=endpoint.host, port=endpoint.port, timeout=endpoint.timeout, istcp=int(endpoint.is_tcp), grid=0
        )
    return EndpointF(
        host=endpoint.host,
        port=endpoint.port,
        timeout=endpoint.timeout,
        istcp=int(endpoint.is_tcp),
        grid=0,
        groupworkid=marks.group_work,
        grouprealid=marks.group_real,
        setId=marks.set_id,
        weight=marks.weight,
        weightType=marks.weight_type,
    )
