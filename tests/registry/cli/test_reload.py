"""What of a configuration changes while the service runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from registry import config
from registry.cli.reload import compare
from registry.config import Config, Setting

SETTINGS = list(config.settings())


def test_nothing_changed() -> None:
    changes = compare(Config(), Config())
    assert (changes.config, changes.applied, changes.later) == (Config(), [], [])


def another(item: Setting) -> Any:
    """Some other value."""
    if isinstance(item.default, bool):
        return not item.default
    if isinstance(item.default, int | float):
        return item.default + 1
    choices = list(item.kind) if hasattr(item.kind, "__members__") else []
    return next((choice for choice in choices if choice != item.default), "another")


@pytest.mark.parametrize("item", SETTINGS, ids=lambda item: item.name)
def test_a_setting_changes_at_once_where_it_is_reloadable_and_else_with_the_next_start(item: Setting) -> None:
    part = dataclasses.replace(getattr(Config(), item.part), **{item.name: another(item)})
    wanted = dataclasses.replace(Config(), **{item.part: part})
    changes = compare(Config(), wanted)
    (text,) = changes.applied or changes.later
    assert text.startswith(f"{item.name} from {item.shown_default} to ")
    assert bool(changes.applied) == item.reloadable
    assert changes.config == (wanted if item.reloadable else Config())


def test_every_limit_of_peers_is_reloadable() -> None:
    assert all(item.reloadable for item in SETTINGS if item.part in ("server", "admin", "log"))
