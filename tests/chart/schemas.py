"""JSON schemas for kubeconform, made from what an API server says of itself (/openapi/v2).

Stricter than there: a field that is not listed is an error, as for `kubectl apply --validate=strict`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

LOCATION: Final = "{{.Group}}-{{.ResourceAPIVersion}}-{{.ResourceKind}}.json"
"""The names of the files, as kubeconform fills them in."""

_PREFIX: Final = "#/definitions/"
_TEXT_OR_NUMBER: Final = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def write(openapi: Mapping[str, Any], folder: Path) -> None:
    """A file for each kind that the API server knows."""
    definitions: dict[str, Schema] = {name: _strict(each) for name, each in openapi["definitions"].items()}
    definitions.update(copy.deepcopy(_TEXT_OR_NUMBER))
    for name, found in openapi["definitions"].items():
        for kind in found.get("x-kubernetes-group-version-kind", ()):
            schema = {
                **definitions[name],
                "definitions": {used: definitions[used] for used in _used(definitions, definitions[name])},
            }
            group = kind["group"] or kind["version"]
            (folder / f"{group}-{kind['version']}-{kind['kind'].lower()}.json").write_text(json.dumps(schema))


def _strict(definition: Schema) -> Schema:
    """With nothing allowed that is not listed, where anything is."""
    strict = copy.deepcopy(definition)
    if "properties" in strict:
        strict.setdefault("additionalProperties", False)
        # What stands there with no value is left out by the server.
        for each in strict["properties"].values():
            if isinstance(each.get("type"), str):
                each["type"] = [each["type"], "null"]
    return strict


def _used(definitions: Mapping[str, Schema], schema: Schema) -> set[str]:
    """The definitions that a schema refers to, and those that these do."""
    used: set[str] = set()
    waiting = [schema]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in used:
                used.add(name)
                waiting.append(definitions[name])
    return used


def _references(part: object) -> Iterable[str]:
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference.removeprefix(_PREFIX)
        for each in part.values():
            yield from _references(each)
    elif isinstance(part, list):
        for each in part:
            yield from _references(each)
