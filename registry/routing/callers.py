"""Which group a caller is in: by its address, or by what its requests say where addresses are hidden.

A group that was found by address stands in the scope of the caller's connection, before the raw keys of its requests;
the group of a question is read off there again. What a request itself says of its caller is part of its bytes anyhow.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from registry.routing.changes import PolicyChange
from registry.routing.groups import NO_GROUP
from registry.routing.policy import NO_POLICY, Policy
from tars_protocol.packets import RequestPacket

SET_STATUS: Final = "TARS_SETNAME"
"""Where a request's status carries the caller's set."""

NODE_NAME_CONTEXT: Final = "node_name"
"""Where a request's context carries the caller's node name."""

_MARK: Final = 0xFF
"""First byte of a scope with a group, which follows in four: no frame that decodes begins with it, nor an address."""


class CallerGroup(StrEnum):
    """What tells a caller's group."""

    ADDRESS = "address"
    SET = "set"
    NODE_NAME = "node_name"
    OFF = "off"


class Callers:
    """Finds the groups of callers in one way."""

    __slots__ = ("_hosts", "_policy", "mode")

    def __init__(self, mode: CallerGroup = CallerGroup.ADDRESS) -> None:
        self.mode = mode
        self._policy = NO_POLICY
        self._hosts: Mapping[str, str] = {}

    def use(self, policy: Policy, hosts: Mapping[str, str]) -> None:
        """Go by this policy; ``hosts`` tells for the address of a pod that of its node, and may change."""
        self._policy, self._hosts = policy, hosts

    def by_address(self, peer: str) -> int:
        """The group of a caller by its address, where that is what counts; NO_GROUP elsewhere."""
        if self._policy.empty or self.mode is not CallerGroup.ADDRESS:
            return NO_GROUP
        return self._policy.group_of_address(peer, self._hosts.get(peer, ""))

    def by_node_name(self, name: str) -> int:
        """The group of a caller by the node name in its requests, which may be the address of a pod or of a node."""
        return self._policy.group_of_node_name(name, self._hosts.get(name, ""))

    def scope(self, peer: str) -> bytes:
        """What of a connection's scope tells the group of its caller; empty for none."""
        group = self.by_address(peer)
        return b"" if group == NO_GROUP else bytes((_MARK,)) + group.to_bytes(4, "big")

    def group(self, key: bytes | None, peer: str, request: RequestPacket, asked_set: str) -> int:
        """The group of who asks. ``key`` is the request's, if it has one; ``asked_set`` the set that it asks for."""
        match self.mode:
            case CallerGroup.ADDRESS:
                if key is None:
                    return self.by_address(peer)
                # Also where there is no policy now: under that key stays what is kept, for callers of that group.
                return int.from_bytes(key[1:5], "big") if key[:1] == bytes((_MARK,)) else NO_GROUP
            case CallerGroup.SET:
                return self._policy.group_of_set(asked_set or request.status.get(SET_STATUS, ""))
            case CallerGroup.NODE_NAME:
                return self.by_node_name(request.context.get(NODE_NAME_CONTEXT, ""))
        return NO_GROUP

    @property
    def in_requests(self) -> bool:
        """True where the group of who asks is told by what stands in a request beside its call."""
        return self.mode in (CallerGroup.SET, CallerGroup.NODE_NAME) and not self._policy.empty

    @property
    def asks_anew_after_pods_moved(self) -> bool:
        """True where requests may ask other questions when pods are on other nodes."""
        return self.mode is CallerGroup.NODE_NAME and bool(self._policy.zones)

    def moved_by(self, change: PolicyChange) -> bool:
        """True where scopes may be others after a change."""
        return self.mode is CallerGroup.ADDRESS and change.callers_by_address

    def asks_anew_after(self, change: PolicyChange) -> bool:
        """True where requests may ask other questions after a change."""
        return self.mode in (CallerGroup.SET, CallerGroup.NODE_NAME) and change.callers_by_request
