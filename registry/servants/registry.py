"""What tarsnodes and servers report to, on port 17891. What a classic tarsnode calls still answers -3."""

from __future__ import annotations

from registry.servants.descriptors import Descriptors
from registry.servants.states import StateReports
from tars_protocol.dispatch import Servant
from tars_protocol.interfaces import registry, self_registration


def registry_servants(descriptors: Descriptors, states: StateReports) -> dict[str, Servant]:
    """The servants of the port."""
    tarsnode = {"getServerDescriptor": descriptors.answer, "updateServerState": states.answer}
    return {
        registry.SERVANT: Servant(registry.REGISTRY, tarsnode),
        self_registration.SERVANT: Servant(self_registration.SELF_REGISTRATION, {}),
    }
