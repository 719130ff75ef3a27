"""``tars.tarsregistry.RegistryObj``: what tarsnodes report. None of its functions is served yet: each answers -3."""

from __future__ import annotations

from tars_protocol.dispatch import Servant
from tars_protocol.interfaces.registry import REGISTRY


def registry_servant() -> Servant:
    """The servant, which so far answers tars_ping alone."""
    return Servant(REGISTRY, {})
