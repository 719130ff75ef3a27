"""Keeps the routing policy that counts: the last good one that was written, with the zones of the nodes.

It listens to the table, in which the policy stands as text. One that can't be used changes nothing: the last good one
goes on, and that is logged, counted and shown, but never makes the service unready.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registry.answers import Answers
from registry.model import Node, PolicyText, Problem, SourceStatus
from registry.routing.callers import CallerGroup
from registry.routing.policy import Policy, PolicyDocument
from registry.sources.pod_hosts import PodHosts
from registry.sources.policy_document import PolicyError, PolicyFlaw, read_policy
from registry.table import Change, TableStore
from tars_protocol.settings import setting

log = logging.getLogger(__name__)

_SHORT: Final = 4_000
"""Characters of a policy that is read at once, in about 3 ms; a longer one is read in a thread."""

_LOGGED: Final = 10
"""Flaws of one policy that are logged; all of them are shown."""


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Where the routing policy is, and how callers' groups are found."""

    routing_policy: Path | None = setting(
        None, "A file with the routing policy (groups, stations), read again when it changes. See docs/routing.md."
    )
    routing_policy_configmap: str = setting(
        "",
        "The ConfigMap with the routing policy, as NAME (in the first of the namespaces that are followed) or "
        "NAMESPACE/NAME. For the kubernetes source, instead of a file.",
    )
    caller_group: CallerGroup = setting(
        CallerGroup.ADDRESS,
        "What tells the group of a caller: the address that it connects from; or, where that is hidden (by SNAT, a "
        "mesh, a proxy) or shared (hostNetwork), the set or the node name that its requests carry, as the policy's "
        "groups list them; or nothing: every caller is in no group.",
    )

    @property
    def configured(self) -> bool:
        """True where a policy is named."""
        return self.routing_policy is not None or bool(self.routing_policy_configmap)


class RoutingKeeper:
    """Hands ``answers`` the policy that counts. ``run`` it; ``status`` tells how it is.

    ``moved`` is called where open connections may belong to callers of other groups now, ``want_topology`` once,
    when a policy wants that: it makes nodes come into the table and pods into the hosts, or says why that can't be.
    ``where`` the policy is, for people.
    """

    def __init__(
        self,
        store: TableStore,
        answers: Answers,
        moved: Callable[[], None],
        want_topology: Callable[[PodHosts], str | None],
        where: str,
    ) -> None:
        self.status = SourceStatus("routing policy", state="none", synced=True)
        self._store = store
        self._answers = answers
        self._moved = moved
        self._where = where
        self._want_topology: Callable[[PodHosts], str | None] | None = want_topology
        self._document: PolicyDocument | None = None
        self._seen: PolicyText | None = None
        """The text that was judged last."""
        self._nodes: Mapping[str, Node] = {}
        self._hosts = PodHosts(moved)
        """Filled where the topology counts."""
        self._no_topology: Problem | None = None
        self._written = asyncio.Event()
        store.subscribe(self._changed)
        store.when_whole(self._note_missing)

    async def run(self) -> None:
        """Read each new policy, for ever. A long one takes its time, so that is done in a thread."""
        self._written.set()
        while True:
            await self._written.wait()
            self._written.clear()
            text = self._store.table.policy
            if text is not None and text != self._seen and len(text.text) > _SHORT:
                found = await asyncio.to_thread(_judge, text.text)
                if self._store.table.policy == text:
                    self._take(text, found)
                else:
                    self._written.set()
            else:
                self._look()

    def _changed(self, change: Change) -> None:
        if change.routing:
            if not self._store.table.synced or self._store.table.policy is None:
                # The first one counts before the first answer. To read 10,000 rules takes 75 ms.
                self._look()
            else:
                self._written.set()
            if self._store.table.nodes is not self._nodes:
                self._nodes = self._store.table.nodes
                if self._document is not None and self._document.from_topology:
                    self._use(self._answers.policies.policy.with_nodes(self._nodes.values()))
        if (change.servers or change.everything) and self._document is not None and self._document.from_topology:
            self._hosts.follow(self._store.table)

    def _note_missing(self) -> None:
        """Tell that there is no policy at all, when everything there is was handed over: it may be misspelt."""
        if self._store.table.policy is None:
            reason = f"{self._where} is not there, or can't be read; there is no policy until it is"
            self.status.problems = (Problem("routing policy", reason),)
            log.warning("routing policy: %s", reason)

    # -- the policy ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Judge the policy that stands in the table, if that is another than before."""
        text = self._store.table.policy
        if text == self._seen:
            return
        if text is None:
            self._bad(PolicyText("", "", ""), [Problem("routing policy", "it is gone; write an empty one to end it")])
        else:
            self._take(text, _judge(text.text))

    def _take(self, text: PolicyText, found: Policy | PolicyError) -> None:
        name = _name(text)
        self._seen = self._store.table.policy
        if text.problem:
            self._bad(text, [Problem(name, text.problem)])
            return
        if isinstance(found, PolicyError):
            self._bad(text, [Problem(name, str(flaw)) for flaw in found.flaws])
            return
        self._document = found.document
        self.status.state = "current"
        self.status.problems = ()
        self.status.last_change = self.status.last_success = time.monotonic()
        self._topology(found.document)
        policy = found.with_nodes(self._store.table.nodes.values()) if found.document.from_topology else found
        rules = sum(len(group.rules) for group in found.document.groups)
        log.info("%s: %d groups, %d addresses, %d stations", name, len(policy.groups), rules, len(policy.stations))
        self._use(policy)

    def _bad(self, text: PolicyText, problems: list[Problem]) -> None:
        """Go on with the last good one, and tell."""
        self._seen = self._store.table.policy
        goes_on = "the last good one stays" if self._document is not None else "there is none until it is mended"
        self.status.state = "last good" if self._document is not None else "none"
        self.status.count("policy")
        self.status.problems = tuple(problems)
        for problem in problems[:_LOGGED]:
            log.error("the routing policy can't be used; %s: %s", goes_on, problem)
        if len(problems) > _LOGGED:
            log.error("%s: and %d more problems", _name(text), len(problems) - _LOGGED)

    def _use(self, policy: Policy) -> None:
        if self._answers.route(policy, self._hosts):
            self._moved()

    # -- topology --------------------------------------------------------------------------------------------------

    def _topology(self, document: PolicyDocument) -> None:
        if not document.from_topology:
            return
        if self._want_topology is not None:
            want, self._want_topology = self._want_topology, None
            if reason := want(self._hosts):
                log.warning("from_topology is off: %s", reason)
                self._no_topology = Problem("routing policy", f"from_topology is off: {reason}")
        if self._no_topology:
            self.status.problems = (self._no_topology,)
        self._hosts.follow(self._store.table)


def _judge(text: str) -> Policy | PolicyError:
    """The policy in a text, still without the nodes."""
    try:
        return Policy(read_policy(text))
    except PolicyError as error:
        return error
    except Exception as error:
        # A bug, which must not end the source that hands the text over.
        log.exception("a routing policy can't be read because of a bug")
        return PolicyError([PolicyFlaw(1, "", f"it can't be read because of a bug: {error!r}")])


def _name(text: PolicyText) -> str:
    return f"ConfigMap {text.namespace}/{text.name}" if text.namespace else text.name
