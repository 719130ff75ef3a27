"""What tarsnodes and servers report to, on port 17891. Nothing of it is served yet: every function answers -3."""

from __future__ import annotations

from tars_protocol.dispatch import Servant
from tars_protocol.interfaces import registry, self_registration


def registry_servants() -> dict[str, Servant]:
    """The servants of the port, which so far answer tars_ping alone."""
    return {
        registry.SERVANT: Servant(registry.REGISTRY, {}),
        self_registration.SERVANT: Servant(self_registration.SELF_REGISTRATION, {}),
    }
