"""Verdicts: what may be said of several runs, and what not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.memory import fit
from benchmarks.numbers import Figure, quartiles, text_table, verdict

numbers = st.floats(0.01, 1e6)


def test_runs_that_agree_are_below_or_above_the_target() -> None:
    assert verdict([1.18, 1.19, 1.20, 1.21, 1.22], 1.3) == "met"
    assert verdict([1.38, 1.39, 1.40, 1.41, 1.42], 1.3) == "missed"


def test_a_spread_wider_than_the_margin_decides_nothing() -> None:
    assert verdict([1.0, 1.1, 1.2, 1.4, 1.5], 1.25) == "undecided"
    assert verdict([1.0, 1.1, 1.3, 1.4, 1.5], 1.25) == "undecided"


def test_one_run_that_went_astray_does_not_take_the_verdict_from_the_others() -> None:
    assert verdict([1.19, 1.20, 1.20, 1.20, 1.21, 1.20, 1.19, 1.21, 9.0], 1.3) == "met"


def test_the_median_on_the_target_is_met_only_without_any_spread() -> None:
    assert verdict([0.0, 0.0, 0.0], 0.0) == "met"
    assert verdict([0.9, 1.0, 1.1], 1.0) == "undecided"


def test_nothing_is_missed_on_a_machine_where_the_floor_misses_it_too() -> None:
    assert verdict([40.0, 40.1, 40.2], 5.0) == "missed"
    assert verdict([40.0, 40.1, 40.2], 5.0, [0.1, 0.1, 0.2]) == "missed"
    assert verdict([40.0, 40.1, 40.2], 5.0, [8.0, 9.0, 9.5]) == "undecided"
    assert verdict([1.0, 1.0, 1.1], 5.0, [8.0, 9.0, 9.5]) == "met"


def test_there_is_no_verdict_without_a_target() -> None:
    assert verdict([1.0, 2.0], None) == ""
    assert verdict([], 1.0) == ""


@given(st.lists(numbers, min_size=1, max_size=20), numbers)
def test_a_verdict_is_never_given_against_the_median(values: list[float], target: float) -> None:
    said = verdict(values, target)
    middle = Figure("", "", "", values).median
    assert said != "met" or middle <= target
    assert said != "missed" or middle > target
    low, high = quartiles(values)
    assert (said == "undecided") == (high - low > abs(target - middle))


def test_a_figure_comes_back_from_json_as_it_was() -> None:
    figure = Figure("ratios", "3 endpoints", "ms", [1.0, 2.0, 3.0], 5.0, ["a note"], [0.5])
    assert Figure.from_json(json.loads(json.dumps(figure.to_json()))) == figure


def test_the_table_shows_median_spread_target_verdict_and_notes_under_each_heading() -> None:
    shown = text_table(
        [
            Figure("ratios", "a", "", [1.1, 1.2, 1.3], 2.0, ["the load generator was the bottleneck"]),
            Figure("ratios", "b", "ms", [3.0]),
            Figure("memory", "c", "MiB", [1000.0]),
        ]
    )
    lines = shown.splitlines()
    assert [line for line in lines if line.startswith(("ratios", "memory"))] == [lines[0], lines[6]]
    assert lines[2].split() == ["a", "1.20", "1.15", "..", "1.25", "3", "2.00", "met"]
    assert lines[3] == "    the load generator was the bottleneck"
    assert lines[4].split() == ["b,", "ms", "3.00", "3.00", "..", "3.00", "1"]


@given(st.lists(numbers, min_size=3, max_size=3), st.integers(4, 12))
def test_a_fit_finds_the_factors_that_values_were_made_with(factors: list[float], count: int) -> None:
    rows = [(1.0, float(n), float(n * n)) for n in range(count)]
    values = [sum(a * b for a, b in zip(factors, row, strict=True)) for row in rows]
    assert fit(rows, values) == pytest.approx(factors, rel=1e-3, abs=1e-2 * max(factors))
