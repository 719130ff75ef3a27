"""SIGHUP: what changed in the configuration, and which of it can be changed while the service runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from registry import config
from registry.config import Config, Setting


class Changes(NamedTuple):
    """``applied`` and ``later`` (those that need a restart) in words; ``config`` is the one to go on with."""

    config: Config
    applied: list[str]
    later: list[str]


def compare(running: Config, read: Config) -> Changes:
    """What is to change from the configuration that runs to the one that was read."""
    applied, later = [], []
    parts: dict[str, dict[str, Any]] = {}
    for item in config.settings():
        old, new = (getattr(getattr(each, item.part), item.name) for each in (running, read))
        if old == new:
            continue
        text = f"{item.name} from {_shown(item, old)} to {_shown(item, new)}"
        if item.reloadable:
            applied.append(text)
            parts.setdefault(item.part, {})[item.name] = new
        else:
            later.append(text)
    return Changes(_with(running, parts), applied, later)


def _with(running: Config, parts: Mapping[str, Mapping[str, Any]]) -> Config:
    changed = {name: dataclasses.replace(getattr(running, name), **values) for name, values in parts.items()}
    return dataclasses.replace(running, **changed)


def _shown(item: Setting, value: Any) -> str:
    return dataclasses.replace(item, default=value).shown_default
