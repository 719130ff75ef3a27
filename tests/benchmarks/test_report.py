"""The write-up: what was measured becomes tables and plots, and a repeat changes nothing."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import charts, plots, report
from benchmarks.histogram import Histogram
from benchmarks.interleaved import Runs, Scenario
from benchmarks.load import BOTTLENECK, Outcome
from benchmarks.machine import describe
from benchmarks.plots import Chart, Series
from benchmarks.results import Results


def outcome(cost: float, *, load_share: float = 0.5, late: int = 0) -> Outcome:
    """A run of a second and 100,000 answers, so many CPU seconds for a million."""
    latency, lateness = Histogram(), Histogram()
    for number in range(1, 101):
        latency.add(number * 10_000)
    lateness.add(late)
    return Outcome(
        program="c",
        seconds=1.0,
        asked=100_000,
        answered=100_000,
        wrong=0,
        first_wrong="",
        unanswered=0,
        lost=0,
        connects=16,
        connect_seconds=0.01,
        bytes_in=1,
        load_cpu_seconds=load_share,
        server_cpu_seconds=cost / 10,
        server_system_share=0.75,
        latency=latency,
        late=lateness,
        others_share=0.0,
    )


def runs(name: str, *costs: float, **options: Any) -> Runs:
    return Runs(name, [outcome(cost, **options) for cost in costs], [50 << 10 for _ in costs])


def test_slices_together_are_one_run() -> None:
    """What it cost, by all answers; shares by what they are shares of."""
    cheap, dear = outcome(4.0), outcome(10.0)
    other = dataclasses.replace(dear, seconds=3.0, answered=300_000, server_cpu_seconds=3.0, server_system_share=0.35)
    other = dataclasses.replace(other, others_share=0.4, first_wrong="another answer")
    whole = Outcome.of_slices([cheap, other])
    assert (whole.seconds, whole.answered, whole.connects) == (4.0, 400_000, 32)
    assert whole.per_million == pytest.approx(3.4 / 0.4)
    assert whole.server_system_share == pytest.approx((0.4 * 0.75 + 3.0 * 0.35) / 3.4)
    assert whole.others_share == pytest.approx(0.3)
    assert whole.load_share == pytest.approx(1.0 / 4.0)
    assert whole.first_wrong == "another answer"
    assert whole.latency.count == 200
    assert Outcome.of_slices([cheap]) is cheap


@pytest.fixture
def said() -> dict[str, Any]:
    results = Results(describe("python -m benchmarks") | {"load generator": "C"})
    floor = runs("floor", 6.0, 6.0, 6.0, load_share=0.97)
    facts = {"endpoints": 3.0, "connections": 16.0, "outstanding": 1.0}
    for group in ("CPU seconds by the floor's", "All loads, CPU seconds by the floor's"):
        scenario = Scenario(group, "3 endpoints, 16 x 1", [runs("service", 7.2, 7.2, 7.2), floor], 1.3, facts)
        results.scenarios.append(scenario)
        results.figures.append(scenario.figure())
    results.more["attribution"] = {"3 endpoints": {"a hit, from bytes to bytes": 1.25}}
    loaded: dict[str, Any] = json.loads(json.dumps(results.to_json()))
    return loaded


def test_a_ratio_is_the_median_of_pairs_and_not_of_all_runs() -> None:
    scenario = Scenario("", "", [runs("service", 6.0, 12.0, 30.0), runs("floor", 6.0, 10.0, 15.0)], 1.3)
    assert scenario.ratios() == pytest.approx([1.0, 1.2, 2.0])
    assert scenario.figure().median == pytest.approx(1.2)


def test_it_is_told_when_the_generator_could_not_go_faster_or_was_late() -> None:
    assert runs("floor", 6.0, load_share=BOTTLENECK + 0.01).notes() == [
        "floor: the load generator was the bottleneck (91% of a processor)"
    ]
    assert runs("floor", 6.0, load_share=BOTTLENECK - 0.01).notes() == []
    assert "the generator itself was 0.50 ms late at p99" in runs("floor", 6.0, late=500_000).notes()[0]


def test_the_marked_parts_of_the_page_are_made_and_nothing_else_is_touched(said: dict[str, Any]) -> None:
    page = "By hand.\n<!-- measured: targets -->\nold\n<!-- end -->\nMore.\n<!-- measured: where -->\n<!-- end -->\n"
    filled = report.fill(page, said)
    assert "| 3 endpoints, 16 x 1 | 1.20 | 1.20 – 1.20 | 3 | 1.30 | met |" in filled
    assert "old" not in filled
    assert filled.startswith("By hand.\n")
    assert "\nMore.\n" in filled
    assert "| the kernel: read, write, wait | 5.40 |" in filled
    assert report.fill(filled, said) == filled


def test_a_later_file_renews_what_it_measured_and_nothing_else(said: dict[str, Any]) -> None:
    results = Results(describe("python -m benchmarks --only floor") | {"load generator": "C"})
    results.scenarios.append(Scenario("CPU seconds by the floor's", "new", [runs("service", 9.0), runs("floor", 6.0)]))
    results.figures.append(results.scenarios[0].figure())
    later = json.loads(json.dumps(results.to_json()))
    both = report.merged(said, later)
    assert [each["name"] for each in both["figures"]] == ["3 endpoints, 16 x 1", "new"]
    assert [each["group"] for each in both["scenarios"]] == [said["figures"][1]["group"], said["figures"][0]["group"]]
    assert both["more"] == said["more"]
    assert "| in part renewed by | `python -m benchmarks --only floor`" in report.fill(
        "<!-- measured: machine -->\n<!-- end -->", both
    )
    assert "renewed" not in said


def test_what_is_kept_gives_the_same_page_and_plots(said: dict[str, Any], tmp_path: Path) -> None:
    page = report.PAGE.read_text()
    assert report.fill(page, report.kept(said)) == report.fill(page, said)
    for name, results in (("all", said), ("kept", report.kept(said))):
        charts.write_plots(results, tmp_path / name)
    for path in (tmp_path / "all").iterdir():
        assert path.read_text() == (tmp_path / "kept" / path.name).read_text()
    assert "latency" not in report.kept(said)["scenarios"][1]["sides"][0]


def test_every_part_of_the_page_is_known_and_every_known_part_is_on_it() -> None:
    marked = re.findall(r"<!-- measured: ([a-z-]+) -->", report.PAGE.read_text())
    assert sorted(marked) == sorted(report.PARTS)


def test_every_plot_on_the_page_is_made_and_every_plot_that_is_made_is_on_it() -> None:
    shown = re.findall(r"performance/([a-z-]+)\.svg", report.PAGE.read_text())
    assert sorted(shown) == sorted(charts.CHARTS)


def test_plots_are_written_for_what_was_measured_alone(said: dict[str, Any], tmp_path: Path) -> None:
    written = [path.stem for path in charts.write_plots(said, tmp_path)]
    assert written == ["latency-closed-loop", "cost-connections", "cost-answer-size"]
    for path in tmp_path.iterdir():
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_a_chart_keeps_its_points_inside_its_axes_and_its_text_plain() -> None:
    chart = Chart("a < b & c", "x", "y", [Series("one", [(1, 0.01), (10, 3), (100, 50)], [(0.005, 0.02)])], True, True)
    drawn = ET.fromstring(plots.svg(chart))
    (line,) = [element for element in drawn.iter() if element.tag.endswith("polyline")]
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)
    assert plots.LEFT <= min(xs) <= max(xs) <= plots.LEFT + plots.WIDTH
    assert plots.TOP <= min(ys) <= max(ys) <= plots.TOP + plots.HEIGHT
    assert "a < b & c" in [element.text for element in drawn.iter()]


@given(st.lists(st.floats(1e-4, 1e7), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_any_numbers_above_zero_can_be_drawn(values: list[float], log_x: bool, log_y: bool) -> None:
    series = Series("one", [(x, y) for x, y in zip(sorted(values), values, strict=True)])
    drawn = ET.fromstring(plots.svg(Chart("title", "x", "y", [series], log_x, log_y)))
    assert len([element for element in drawn.iter() if element.tag.endswith("circle")]) == len(values)


def test_results_are_written_as_json_that_reads_back(said: dict[str, Any], tmp_path: Path) -> None:
    results = Results({"commit": "abc"})
    results.add("group", "name", "ms", [1.23456789, 2.0], 5.0, "note", "")
    results.write(tmp_path / "folder" / "results.json")
    read = json.loads((tmp_path / "folder" / "results.json").read_text())
    assert read["machine"] == {"commit": "abc"}
    assert read["figures"][0]["runs"] == [1.23457, 2.0]
    assert read["figures"][0]["notes"] == ["note"]
