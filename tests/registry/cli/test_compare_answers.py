"""Each kind of difference between two answers, and that there is none where there is none."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cli.compare_answers import MEANINGS, OTHER_FIELDS, Answer, Difference, Kind, differences
from registry.routing.select import Lookup
from tars_protocol.interfaces.query import EndpointF

A, B, C = (f"a-{number}.a" for number in range(3))


def endpoint(host: str = A, **fields: Any) -> EndpointF:
    known: dict[str, Any] = {"host": host, "port": 18100, "timeout": 3000, "istcp": 1, "grid": 0}
    return EndpointF(**known | fields)


def answer(active: Sequence[str | EndpointF] = (), inactive: Sequence[str | EndpointF] = (), **how: Any) -> Answer:
    lists = [tuple(endpoint(e) if isinstance(e, str) else e for e in found) for found in (active, inactive)]
    return Answer(active=lists[0], inactive=lists[1], **how)


def found(first: Answer, second: Answer, *ignored: str) -> list[tuple[str, str, str, str]]:
    """What is different by findObjectById4Any."""
    told = differences({Lookup.ANY: (first, second)}, ignored)
    assert all(functions == [Lookup.ANY] for functions in told.values())
    return [(each.kind.value, each.what, each.first, each.second) for each in told]


def test_equal_answers_have_no_difference() -> None:
    assert found(answer([A, B], [C]), answer([A, B], [C])) == []
    assert found(answer(), answer()) == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (
            answer([A, B, C]),
            answer([A, C, B]),
            ("order", "active, from place 2 on", f"{B}:18100/tcp", f"{C}:18100/tcp"),
        ),
        (answer([A], [B]), answer([A]), ("inactive", f"{B}:18100/tcp", "inactive", "absent")),
        (answer([A]), answer([A], [B]), ("inactive", f"{B}:18100/tcp", "absent", "inactive")),
        (
            answer([A], [B, C]),
            answer([A], [C, B]),
            ("inactive", "inactive, from place 1 on", f"{B}:18100/tcp", f"{C}:18100/tcp"),
        ),
        (
            answer([A], [B]),
            answer([A], [endpoint(B, timeout=1)]),
            ("inactive", f"{B}:18100/tcp", "timeout 3000", "timeout 1"),
        ),
        (answer([A], [B]), answer([A], ["b-1.b"]), None),
        (answer([], [B]), answer(), ("inactive", "endpoints", "1 inactive", "none")),
        (
            answer([A, B]),
            answer([A, "a-1.a.ns.svc.cluster.local"]),
            ("host", "18100/tcp", B, "a-1.a.ns.svc.cluster.local"),
        ),
        (answer([A, B]), answer([A, "10.0.0.2"]), ("host", "18100/tcp", B, "10.0.0.2")),
        (answer([A, "10.0.0.3"]), answer([A, "10.0.0.2"]), ("host", "18100/tcp", "10.0.0.3", "10.0.0.2")),
        (answer([A], ["10.0.0.3"]), answer([A], [B]), ("inactive", "18100/tcp", "10.0.0.3", B)),
        (
            answer([endpoint(A, weight=5, weightType=1)]),
            answer([endpoint(A)]),
            ("fields", f"{A}:18100/tcp", "weight 5, weightType 1", "weight 0, weightType 0"),
        ),
        (answer([A, B]), answer([A], [B]), ("state", f"{B}:18100/tcp", "active", "inactive")),
        (answer([A], [B]), answer([A, B]), ("state", f"{B}:18100/tcp", "inactive", "active")),
        (answer([A, B]), answer([A]), ("only", f"{B}:18100/tcp", "active", "absent")),
        (answer([A]), answer([A, B]), ("only", f"{B}:18100/tcp", "absent", "active")),
        (answer([A, A]), answer([A]), ("only", f"{A}:18100/tcp", "active", "absent")),
        (answer([A, B], [C]), answer(), ("empty", "endpoints", "2 active, 1 inactive", "none")),
        (answer(), answer([A]), ("empty", "endpoints", "none", "1 active")),
        (answer(), answer(ret=-1), ("return", "return value", "0", "-1")),
        (answer([A]), answer(ret=-1), ("return", "return value", "0", "-1")),
        (answer([A]), answer([A], ret=7), ("return", "return value", "0", "7")),
        (answer([A]), Answer(-3, "no such"), ("error", "error", "none", "-3 no such")),
        (Answer(-99, "x"), Answer(-3), ("error", "error", "-99 x", "-3")),
        (answer(["fd00::1", A]), answer([A]), ("only", "[fd00::1]:18100/tcp", "active", "absent")),
    ],
)
def test_each_kind_of_difference(first: Answer, second: Answer, expected: tuple[str, str, str, str] | None) -> None:
    """And it is the only one that is told; it can be left out."""
    told = found(first, second)
    if expected is None:
        # Two names of two pods are two endpoints.
        assert [kind for kind, *_ in told] == ["inactive", "inactive"]
        return
    assert told == [expected]
    assert found(first, second, expected[0]) == []


def test_two_names_of_different_pods_are_no_other_host() -> None:
    assert [kind for kind, *_ in found(answer([A, B]), answer([A, C]))] == ["only", "only"]


def test_addresses_are_not_paired_where_there_are_more_of_one() -> None:
    assert [kind for kind, *_ in found(answer(["10.0.0.1", "10.0.0.2"]), answer(["10.0.0.3"]))] == ["only"] * 3


def test_another_port_or_network_is_another_endpoint() -> None:
    for other in (endpoint(A, port=1), endpoint(A, istcp=0)):
        assert [kind for kind, *_ in found(answer([A]), answer([other]))] == ["only", "only"]


def test_equal_error_codes_are_alike_whatever_their_texts() -> None:
    assert found(Answer(-99, "not yet"), Answer(-99, "later")) == []


def test_one_pod_in_another_state_and_with_another_host_is_told_as_both() -> None:
    told = found(answer([A, B]), answer([A], ["a-1.a.ns.svc.cluster.local"]))
    assert sorted(kind for kind, *_ in told) == ["host", "state"]


def test_a_field_that_is_not_to_count_hides_no_other() -> None:
    first, second = answer([endpoint(A, timeout=1, weight=2)]), answer([endpoint(A, timeout=2, weight=3)])
    assert found(first, second, "timeout") == [("fields", f"{A}:18100/tcp", "weight 2", "weight 3")]
    assert found(first, second, "timeout", "weight") == []


def test_one_difference_is_told_once_with_the_functions_that_show_it() -> None:
    first, second = answer([A, B]), answer([A], [B])
    answers = dict.fromkeys((Lookup.ANY, Lookup.ALL), (first, second)) | {Lookup.ACTIVE: (answer([A, B]), answer([A]))}
    expected = Difference(Kind.STATE, f"{B}:18100/tcp", "active", "inactive")
    assert differences(answers) == {expected: [Lookup.ANY, Lookup.ALL, Lookup.ACTIVE]}


def test_find_object_by_id_alone_knows_no_inactive_ones() -> None:
    told = differences({Lookup.ACTIVE: (answer([A, B]), answer([A]))})
    assert [each.kind for each in told] == [Kind.ONLY]


def test_find_object_by_id_says_nothing_of_a_difference_in_the_inactive_ones() -> None:
    answers = {
        Lookup.ACTIVE: (answer([A]), answer([A])),
        Lookup.ANY: (answer([A], [B]), answer([A])),
    }
    assert list(differences(answers).values()) == [[Lookup.ANY]]


def test_every_kind_has_a_meaning() -> None:
    assert list(MEANINGS) == list(Kind)
    assert not {*Kind} & {*OTHER_FIELDS}


endpoints = st.builds(
    endpoint,
    host=st.sampled_from([A, B, C, "10.0.0.1", "10.0.0.2", "a-0.a.ns.svc.cluster.local"]),
    port=st.sampled_from([1, 2]),
    istcp=st.sampled_from([0, 1]),
    timeout=st.sampled_from([1, 2]),
)
lists = st.lists(endpoints, max_size=5)
some_answers = st.builds(answer, lists, lists, ret=st.sampled_from([0, -1])) | st.just(Answer(-3, "no"))


@given(some_answers, some_answers)
def test_there_is_a_difference_exactly_where_the_answers_are_not_equal(first: Answer, second: Answer) -> None:
    assert bool(found(first, second)) == (first != second)


@given(some_answers, some_answers)
def test_the_other_way_round_the_kinds_are_the_same(first: Answer, second: Answer) -> None:
    assert sorted(kind for kind, *_ in found(first, second)) == sorted(kind for kind, *_ in found(second, first))


@given(lists, st.randoms())
def test_shuffled_lists_differ_in_order_alone(active: list[EndpointF], chance: random.Random) -> None:
    shuffled = active[:]
    chance.shuffle(shuffled)
    assert {kind for kind, *_ in found(answer(active), answer(shuffled))} <= {"order"}


@given(some_answers, some_answers)
def test_with_all_ignored_nothing_is_left(first: Answer, second: Answer) -> None:
    assert found(first, second, *Kind) == []
