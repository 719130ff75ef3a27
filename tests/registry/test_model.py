"""The values that the table holds: states and order of pods, equality by content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.model import Framework, Kind, Pod, Problem, Server, SourceStatus, Template
from tests.support.tables import small_servers


@pytest.mark.parametrize("setting", ["Active", "active", "Inactive", ""])
@pytest.mark.parametrize("present", ["Active", "ACTIVE", "Activating", "Terminating", "Active/Active", ""])
def test_a_pod_is_active_only_where_both_states_say_so_exactly(setting: str, present: str) -> None:
    found = Pod("x-0", setting_state=setting, present_state=present).active
    assert found is (setting == "Active" and present == "Active")


def test_pods_are_ordered_by_name_and_their_ordinals_by_number() -> None:
    shuffled = ["b-0", "a-10", "a-2", "a", "a-x", "a-007", "a-7", "a-b-1", "a-1"]
    assert sorted(shuffled, key=lambda name: Pod(name).order) == [
        "a",
        "a-1",
        "a-2",
        "a-007",
        "a-7",
        "a-10",
        "a-b-1",
        "a-x",
        "b-0",
    ]


@pytest.mark.parametrize(
    "name", ["", "-", "-0", "x-", "x--1", "x-" + "9" * 5_000, "x-٣", "x-²", "x\n-1", "x-1\n", "x-+1", "x- 1"]
)
def test_any_name_has_an_order(name: str) -> None:
    """Digits that are none to us, and more of them than int takes, are text; nothing is raised."""
    assert Pod(name).order[2] == name


@given(st.lists(st.text("ab-019\n", max_size=6), unique=True))
def test_the_order_of_pods_is_total(names: list[str]) -> None:
    """However they came, they end up in one order: an unchanged set gives unchanged bytes."""
    backwards = names[::-1]
    names.sort(key=lambda name: Pod(name).order)
    backwards.sort(key=lambda name: Pod(name).order)
    assert names == backwards


def test_every_object_names_its_kind() -> None:
    assert Server("n", "x").kind is Kind.SERVER
    assert Template("n", "x").kind is Kind.TEMPLATE
    assert Framework("n", "x").kind is Kind.FRAMEWORK


@given(small_servers)
def test_objects_are_compared_by_content(item: Server) -> None:
    copy = replace(item, host_ports=dict(item.host_ports), pods=tuple(map(replace, item.pods)))
    assert copy == item
    assert replace(item, profile="other") != item


def test_objects_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Server("n", "x").app = "y"  # type: ignore[misc]


def test_objects_of_one_fetch_share_no_default() -> None:
    """A mapping that one object was made without must not be that of the next."""
    assert Server("n", "x").host_ports is not Server("n", "y").host_ports
    assert Framework("n", "x").up_chain is not Framework("n", "y").up_chain


def test_a_problem_says_where_first() -> None:
    assert str(Problem("servers.yaml:3", "no name")) == "servers.yaml:3: no name"


def test_errors_of_a_source_are_counted_by_reason() -> None:
    status = SourceStatus("directory")
    for reason in ("parse", "gone", "parse"):
        status.count(reason)
    assert status.errors == {"parse": 2, "gone": 1}
    assert SourceStatus("other").errors == {}
