"""Pauses between attempts: how long, how spread, and when they start short again."""

from __future__ import annotations

import random

import pytest

from registry.kube.backoff import Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Longest(random.Random):
    """Draws the longest that may be drawn."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        return b


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bounds(clock: Clock) -> Backoff:
    """Its pauses are the bounds of those that others would have."""
    return Backoff(0.8, 30.0, 120.0, clock, Longest())


def test_the_bound_doubles_with_each_failure_up_to_the_longest(bounds: Backoff) -> None:
    assert [bounds.pause() for _ in range(8)] == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_longest_below_the_first_bounds_that_too() -> None:
    backoff = Backoff(5.0, 2.0, 120.0, Clock(), Longest())
    assert [backoff.pause() for _ in range(3)] == [2.0, 2.0, 2.0]


def test_after_thousands_of_failures_it_is_still_the_longest(bounds: Backoff) -> None:
    assert {bounds.pause() for _ in range(5000)} == {0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0}


def test_pauses_are_drawn_from_all_of_the_time_up_to_the_bound(clock: Clock) -> None:
    firsts = sorted(Backoff(0.8, 30.0, 120.0, clock, random.Random(seed)).pause() for seed in range(1000))
    for number in range(1, 10):
        # A tenth of them lies in each tenth.
        assert firsts[number * 100] == pytest.approx(0.08 * number, abs=0.06)


@pytest.mark.parametrize(("healthy", "after"), [(0.0, 3.2), (119.9, 3.2), (120.0, 0.8), (5000.0, 0.8)])
def test_only_after_a_healthy_while_the_next_pause_is_short_again(
    bounds: Backoff, clock: Clock, healthy: float, after: float
) -> None:
    bounds.pause()
    bounds.pause()
    bounds.healthy()
    clock.now += healthy
    assert bounds.pause() == after


def test_time_without_being_healthy_does_not_make_it_short(bounds: Backoff, clock: Clock) -> None:
    bounds.pause()
    clock.now += 10_000
    assert bounds.pause() == 1.6


def test_a_failure_ends_the_healthy_while(bounds: Backoff, clock: Clock) -> None:
    for bound in (0.8, 1.6, 3.2):
        bounds.healthy()
        clock.now += 100
        assert bounds.pause() == bound
    clock.now += 500
    assert bounds.pause() == 6.4


def test_being_healthy_again_and_again_counts_from_the_first_time(bounds: Backoff, clock: Clock) -> None:
    bounds.pause()
    for _ in range(4):
        bounds.healthy()
        clock.now += 30
    assert bounds.pause() == 0.8
