"""What annotations and labels say of routing; what they say wrong never takes a server away."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.model import RoutingFacts, Server
from registry.sources import routing_facts
from registry.sources.manifests import Reason, parse
from registry.sources.pods import PodObject, to_server
from registry.sources.routing_facts import facts_of_pod
from registry.sources.tendpoints import ConversionError, TEndpoint, convert
from tests.support.manifests import tendpoint


def facts(**annotations: str) -> RoutingFacts | None:
    """By annotation without its prefix, with _ for -."""
    return facts_of_pod({f"tars.io/{name.replace('_', '-')}": text for name, text in annotations.items()}, None)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"set": "n.a.1"}, RoutingFacts(set_id="n.a.1")),
        ({"set": " n.a.* "}, RoutingFacts(set_id="n.a.*")),
        ({"flow": "off"}, RoutingFacts(flow_off=True)),
        ({"flow": "on"}, RoutingFacts()),
        ({"flow_off_pods": "a-0, a-1 a-2"}, RoutingFacts(flow_off_pods=frozenset(("a-0", "a-1", "a-2")))),
        ({"flow_off_pods": '["a-0"]'}, RoutingFacts(flow_off_pods=frozenset(("a-0",)))),
        ({"weight": "0"}, RoutingFacts(weight=0)),
        ({"weight": "100"}, RoutingFacts(weight=100)),
        ({"pod_weights": '{"a-0": 5, "a-1": 0}'}, RoutingFacts(pod_weights=(("a-0", 5), ("a-1", 0)))),
        ({"group": "on"}, RoutingFacts(grouping=True)),
        ({"group": "off"}, RoutingFacts(grouping=False)),
        ({"group_name": "north"}, RoutingFacts(group_name="north")),
        ({"backup": "true"}, RoutingFacts(backup=True)),
        ({"backup": "false"}, RoutingFacts()),
        ({"weight": " ", "pod_weights": "", "flow_off_pods": ""}, RoutingFacts()),
        ({"other": "x", "servants": "A:1"}, None),
        ({}, None),
    ],
)
def test_each_annotation(annotations: dict[str, str], expected: RoutingFacts | None) -> None:
    assert facts(**annotations) == expected


@pytest.mark.parametrize(
    ("annotations", "flaw"),
    [
        ({"set": "n.a"}, "tars.io/set: expected name.area.group, of which only the group may be *, got 'n.a'"),
        ({"set": "*.a.1"}, "this counts as no set"),
        ({"set": "n.*.1"}, "this counts as no set"),
        ({"set": f"n.a.{'1' * 200}"}, "tars.io/set: 204 characters, more than 200; passed over"),
        ({"group_name": "n" * 201}, "tars.io/group-name: 201 characters, more than 200; passed over"),
        ({"weight": "9" * 5000}, "tars.io/weight: expected a whole number from 0 to 100, got '999"),
        ({"pod_weights": '{"a-0": 1e999}'}, "tars.io/pod-weights"),
        ({"pod_weights": '{"a-0": -1}'}, "got '-1'"),
        ({"weight": "٣"}, "tars.io/weight: expected a whole number"),
        ({"weight": "101"}, "tars.io/weight: expected a whole number from 0 to 100, got '101'"),
        ({"weight": "-1"}, "got '-1'"),
        ({"weight": "1.5"}, "got '1.5'"),
        ({"flow": "of"}, 'tars.io/flow: expected "on" or "off" (or true, false), got \'of\''),
        ({"pod_weights": "a-0=5"}, "tars.io/pod-weights: expected JSON"),
        ({"pod_weights": "[1]"}, "tars.io/pod-weights: expected JSON"),
        ({"pod_weights": '{"a-0": "5"}'}, "tars.io/pod-weights: 'a-0': expected a whole number"),
        ({"pod_weights": '{"a-0": true}'}, "tars.io/pod-weights: 'a-0': expected a whole number"),
        ({"pod_weights": '{"a-0": 101}'}, "got '101'"),
        ({"pod_weights": "{" + " " * 50_000}, "more than 50000"),
        ({"flow_off_pods": "[1]"}, "tars.io/flow-off-pods: expected pod names"),
        ({"flow_off_pods": "a" * 50_001}, "more than 50000"),
        ({"backup": "2"}, "tars.io/backup: expected"),
    ],
)
def test_what_is_wrong_is_passed_over_and_told(annotations: dict[str, str], flaw: str) -> None:
    found = facts(**annotations)
    assert found is not None
    assert len(found.flaws) == 1
    assert flaw in found.flaws[0]
    assert RoutingFacts(flaws=found.flaws) == found


def test_one_wrong_weight_leaves_the_others() -> None:
    found = facts(pod_weights='{"a-0": 500, "a-1": 7}', weight="9")
    assert found is not None
    assert (found.weight, found.pod_weights) == (9, (("a-1", 7),))


def test_an_annotation_stands_over_a_label() -> None:
    label = {"tars.io/set": "n.a.2"}
    assert facts_of_pod(None, label) == RoutingFacts(set_id="n.a.2")
    assert facts_of_pod({"tars.io/set": "n.a.1"}, label) == RoutingFacts(set_id="n.a.1")


def test_long_annotations_are_not_kept_once_they_are_read() -> None:
    """Whoever may make a pod may write some hundred thousand characters into each."""
    before = routing_facts._read_once.cache_info().currsize
    for number in range(5):
        facts(set=f"{number}" * 10_000)
        facts(weight=f"{number}" * 10_000)
    assert routing_facts._read_once.cache_info().currsize == before


@given(st.dictionaries(st.sampled_from(sorted(routing_facts._FIELDS)), st.text(), max_size=8))
def test_no_text_is_more_than_a_flaw(annotations: dict[str, str]) -> None:
    found = facts_of_pod(annotations, None)
    assert (found is None) == (not annotations)


def with_metadata(**metadata: Any) -> dict[str, Any]:
    item = tendpoint("Test", "HelloServer")
    item["metadata"] |= metadata
    return item


def test_a_tendpoint_says_it_in_its_annotations_or_label() -> None:
    item = with_metadata(annotations={"tars.io/weight": "5", "else": "x"}, labels={"tars.io/set": "n.a.1", "b": "c"})
    for found in (convert(item), msgspec.json.decode(msgspec.json.encode(item), type=TEndpoint).to_model()):
        assert isinstance(found, Server)
        assert found.routing == RoutingFacts(set_id="n.a.1", weight=5)


@pytest.mark.parametrize("metadata", [{}, {"annotations": None, "labels": None}, {"annotations": {"a": "b"}}])
def test_a_tendpoint_that_says_nothing_has_no_facts(metadata: dict[str, Any]) -> None:
    found = convert(with_metadata(**metadata))
    assert isinstance(found, Server)
    assert found.routing is None


def test_equal_facts_of_many_objects_are_one() -> None:
    first, second = (convert(with_metadata(annotations={"tars.io/set": "n.a.1"})) for _ in range(2))
    assert isinstance(first, Server)
    assert isinstance(second, Server)
    assert first.routing is second.routing


def test_a_labelled_pod_says_it_for_itself() -> None:
    raw = {
        "metadata": {
            "name": "p-0",
            "labels": {"tars.io/ServerApp": "A", "tars.io/ServerName": "B", "tars.io/set": "n.a.1"},
            "annotations": {"tars.io/flow": "off"},
        }
    }
    found = to_server(msgspec.convert(raw, PodObject))
    assert found is not None
    assert found.routing == RoutingFacts(set_id="n.a.1", flow_off=True)


def test_an_annotation_that_is_no_text_is_told_as_the_api_server_would() -> None:
    with pytest.raises(ConversionError) as caught:
        convert(with_metadata(annotations={"tars.io/weight": 50}))
    assert str(caught.value) == (
        "TEndpoint tars/test-helloserver: metadata.annotations[tars.io/weight]: expected text, got 50; put it in quotes"
    )


def test_a_flaw_in_a_manifest_is_told_with_its_line_and_the_server_stays() -> None:
    text = """\
apiVersion: k8s.tars.io/v1beta3
kind: TEndpoint
metadata:
  name: test-helloserver
  annotations:
    tars.io/set: n.a.1
    tars.io/weight: heavy
spec: {app: Test, server: HelloServer}
"""
    found = parse(text.encode(), is_json=False)
    (entry,) = found.entries
    assert isinstance(entry.item, Server)
    assert entry.item.routing is not None
    assert entry.item.routing.set_id == "n.a.1"
    (flaw,) = found.flaws
    assert (flaw.reason, flaw.line) == (Reason.ANNOTATION, 7)
    assert flaw.text.startswith("TEndpoint default/test-helloserver: tars.io/weight: expected a whole number")
