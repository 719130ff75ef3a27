"""Custom resource definitions of the tars kinds that the registry reads.

Versions, subresources, defaults and limits are those of TARS on Kubernetes. Two things are looser, on purpose: a
TEndpoint may hold anything (there, too, nothing of it is validated, and tests want objects that make no sense), and
TFrameworkConfig needs no conversion between its versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

GROUP: Final = "k8s.tars.io"
SERVED: Final = ("v1beta2", "v1beta3")
"""The versions that an installation serves; the last one is stored."""

ANYTHING: Final[dict[str, Any]] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
TEXT_LIMIT: Final = 1_560_000
LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
OBJECT_NAME: Final = {"type": "string", "maxLength": 253, "pattern": rf"^{LABEL}(\.{LABEL})*$"}

TENDPOINT: Final = {"type": "object", "properties": {"spec": ANYTHING, "status": ANYTHING}}
TTEMPLATE: Final = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["content", "parent"],
            "properties": {"content": {"type": "string", "maxLength": TEXT_LIMIT}, "parent": OBJECT_NAME},
        }
    },
}
UP_CHAIN_ENTRY: Final = {
    "type": "object",
    "required": ["host", "port"],
    "properties": {
        "host": {"type": "string"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "timeout": {"type": "integer", "default": 6000},
        "isTcp": {"type": "boolean", "default": True},
    },
}
TFRAMEWORKCONFIG: Final = {
    **ANYTHING,  # what else it holds is for others
    "properties": {
        "upChain": {
            "type": "object",
            "default": {},
            "additionalProperties": {"type": "array", "minItems": 1, "items": UP_CHAIN_ENTRY},
        }
    },
}


def definitions(served: Sequence[str] = SERVED) -> list[dict[str, Any]]:
    """The definitions, with these versions."""
    return [
        _definition("TEndpoint", "te", TENDPOINT, served, {"status": {}}),
        _definition("TTemplate", "tt", TTEMPLATE, served),
        _definition("TFrameworkConfig", "tfc", TFRAMEWORKCONFIG, served),
    ]


def _definition(
    kind: str,
    short: str,
    schema: dict[str, Any],
    served: Sequence[str],
    subresources: dict[str, Any] | None = None,
) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    versions = [
        {
            "name": version,
            "served": True,
            "storage": version == served[-1],
            "deprecated": version != "v1beta3",
            "schema": {"openAPIV3Schema": schema},
            **({"subresources": subresources} if subresources else {}),
        }
        for version in served
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "shortNames": [short]},
            "versions": versions,
        },
    }
