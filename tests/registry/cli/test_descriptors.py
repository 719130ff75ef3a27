"""File descriptors are held against the settings before anybody is let in."""

from __future__ import annotations

import dataclasses
import logging
import resource
from collections.abc import Callable

import pytest

from registry.cli import descriptors
from registry.cli.descriptors import fitted, needed
from registry.cli.errors import CommandError
from registry.config import Config
from tars_protocol.aio.limits import ServerLimits

CONFIG = Config(server=ServerLimits(max_connections=1_000))
NEEDED = 2 * 1_000 + 64 + 64

Limits = Callable[[int, int], list[tuple[int, int]]]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """The system's limits as a test says; those that are set are remembered."""

    def use(soft: int, hard: int) -> list[tuple[int, int]]:
        changes: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _, pair: changes.append(pair))
        return changes

    return use


def test_both_ports_the_pages_and_the_service_itself_are_counted() -> None:
    assert needed(CONFIG) == NEEDED


@pytest.mark.parametrize(
    ("soft", "hard", "changes"),
    [
        (NEEDED, NEEDED, []),
        (10**6, 10**6, []),
        (1_024, NEEDED, [(NEEDED, NEEDED)]),
        (1_024, 10**6, [(NEEDED, 10**6)]),
        (1_024, resource.RLIM_INFINITY, [(NEEDED, resource.RLIM_INFINITY)]),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_the_soft_limit_is_raised_to_what_is_needed(
    soft: int, hard: int, changes: list[tuple[int, int]], limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    made = limits(soft, hard)
    assert fitted(CONFIG) is CONFIG
    assert made == changes
    assert caplog.records == []


@pytest.mark.parametrize(("hard", "fits"), [(NEEDED - 1, 999), (1_024, 448), (130, 1)])
def test_with_too_few_there_are_fewer_connections_and_it_is_said_what_to_do(
    hard: int, fits: int, limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    made = limits(100, hard)
    config = fitted(CONFIG)
    assert made == [(hard, hard)]
    assert config == dataclasses.replace(CONFIG, server=dataclasses.replace(CONFIG.server, max_connections=fits))
    assert needed(config) <= hard
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text.startswith(f"there may be {hard} open files, and {NEEDED} are needed for 1000 connections on 2 ports")
    assert f"serving {fits} connections a port: raise the hard limit (ulimit -Hn in a shell, " in text


@pytest.mark.parametrize("hard", [129, 64, 20])
def test_with_hardly_any_it_does_not_start(hard: int, limits: Limits) -> None:
    limits(hard, hard)
    with pytest.raises(CommandError, match=rf"there may be {hard} open files, and {NEEDED} are needed .*ulimit -Hn"):
        fitted(CONFIG)


def test_the_reserve_is_enough_for_what_the_service_opens_itself() -> None:
    """Two sockets for each of four addresses, the loop's own, files, and connections to the API server."""
    assert descriptors._OWN >= 2 * 4 + 10 + 20
