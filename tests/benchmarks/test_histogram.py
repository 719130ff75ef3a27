"""The histogram of latencies: its steps, its percentiles, its form in JSON."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.histogram import Histogram, bucket_of, upper_end

times = st.integers(0, 1 << 50)


@given(times)
def test_a_value_is_in_its_bucket_which_is_at_most_a_128th_wide(value: int) -> None:
    bucket = bucket_of(value)
    assert value <= upper_end(bucket)
    assert bucket == 0 or upper_end(bucket - 1) < value
    assert upper_end(bucket) - value <= value / 128


@given(st.lists(times, min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_that_of_the_values_good_to_the_step(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]
    assert exact <= histogram.percentile(share) <= exact * (1 + 1 / 128)
    assert histogram.percentile(100) == histogram.max == max(values)


def test_nothing_recorded_has_percentiles_of_zero() -> None:
    assert Histogram().percentile(99) == 0


@given(st.lists(times), st.lists(times))
def test_two_merged_are_as_one_that_recorded_all(first: list[int], second: list[int]) -> None:
    histograms = [Histogram(), Histogram(), Histogram()]
    for histogram, values in zip(histograms, (first, second, first + second), strict=True):
        for value in values:
            histogram.add(value)
    merged = Histogram.merged(histograms[:2])
    assert merged.to_json() == histograms[2].to_json()
    assert Histogram.from_json(json.loads(json.dumps(merged.to_json()))).to_json() == merged.to_json()


def test_a_curve_rises_to_all_of_the_values() -> None:
    histogram = Histogram()
    for value in (1_000_000, 2_000_000, 2_000_000, 9_000_000):
        histogram.add(value)
    shares, ends = zip(*histogram.curve(), strict=True)
    assert shares == (25, 75, 100)
    assert [round(end) for end in ends] == [1, 2, 9]
