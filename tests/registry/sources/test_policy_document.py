"""The routing policy as it is written: what it says, and what is told where it can't be used."""

from __future__ import annotations

import contextlib
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry.routing.groups import Rule, parse_prefix
from registry.routing.policy import Group, PolicyDocument, Station
from registry.sources.policy_document import PolicyError, read_policy

FULL = """\
grouping: all
from_topology: true
groups:
  - id: 1
    name: north
    addresses:
      - 10.1.0.0/16
      - 10.2.3.*
      - "fd00:1::/64"
    sets: [shop.sz.*]
  - id: 2
    node_names: [node-7]
priorities:
  - station: cn
    groups: [1, 2, zone-a]
"""


def rule(text: str, group: int, line: int) -> Rule:
    return Rule(parse_prefix(text), group, text, line)


def test_all_that_a_policy_can_say() -> None:
    north = (rule("10.1.0.0/16", 1, 7), rule("10.2.3.*", 1, 8), rule("fd00:1::/64", 1, 9))
    assert read_policy(FULL) == PolicyDocument(
        (Group(1, "north", north, ("shop.sz.*",)), Group(2, node_names=("node-7",))),
        (Station("cn", (1, 2, "zone-a")),),
        everywhere=True,
        from_topology=True,
    )


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "{}", "groups: []\npriorities: []\n"])
def test_an_empty_policy_is_one_without_groups(text: str) -> None:
    assert read_policy(text) == PolicyDocument()


def test_groups_may_be_named_in_priorities_before_the_zones_are_known_only_with_topology() -> None:
    with pytest.raises(PolicyError, match="there is no group 'zone-a'"):
        read_policy(FULL.replace("true", "false"))


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("groups: [", "no YAML: "),
        ("a: 1\n---\nb: 2", "line 1: a: no such field; there are grouping, from_topology, groups, priorities"),
        ("{}\n---\n{}", "line 3: expected one document"),
        ("[1]", "line 1: expected the fields of a policy: grouping, from_topology, groups, priorities; got a list"),
        ("group: []", "line 1: group: no such field; did you mean groups?"),
        ("\ngroups: 5", "line 2: groups: expected a list, got 5"),
        ("groups:", "line 1: groups: expected a list, got nothing; write [] for an empty one, or leave the field out"),
        ("groups: []\npriorities:\n", "line 2: priorities: expected a list, got nothing"),
        ("groups:\n- id: 1\n  addresses:\n", "line 3: groups[0].addresses: expected a list, got nothing"),
        ("groups:\n- 5", "line 2: groups[0]: expected a group: id, name, addresses, sets, node_names; got 5"),
        ("groups:\n- name: a", "line 2: groups[0].id: expected a whole number from 1 to 2147483647, got nothing"),
        ("groups:\n- {id: 0}", "line 2: groups[0].id: expected a whole number from 1 to 2147483647, got 0"),
        ("groups:\n- {id: true}", "line 2: groups[0].id: expected a whole number from 1 to 2147483647, got true"),
        ("groups:\n- {id: 1, name: 5}", "line 2: groups[0].name: expected text, got 5; put it in quotes"),
        ("groups:\n- {id: 1}\n- {id: 1}", "line 3: groups[1].id: the group 1 stands in groups[0].id in line 2 already"),
        (
            "groups:\n- {id: 1, name: a}\n- {id: 2, name: a}",
            "line 3: groups[1].name: the group name a stands in groups[0].name in line 2 already",
        ),
        (
            "groups:\n- {id: 1, addresses: [10.1]}",
            "line 2: groups[0].addresses[0]: expected an address as text, got 10.1; put it in quotes",
        ),
        (
            "groups:\n- id: 1\n  addresses:\n  - 10.0.0.1\n  - 10.1.2.3/16",
            "line 5: groups[0].addresses[1]: '10.1.2.3/16' has bits set beyond its length; did you mean 10.1.0.0/16?",
        ),
        (
            "groups:\n- {id: 1, addresses: [10.1.2.*]}\n- {id: 2, addresses: [10.1.2.0/24]}",
            "the address 10.1.2.0/24 stands in groups[0].addresses[0] in line 2 already",
        ),
        ("groups:\n- {id: 1, sets: [a.b]}", "line 2: groups[0].sets[0]: expected name.area.group, of which only"),
        ("groups:\n- {id: 1, node_names: [5]}", "line 2: groups[0].node_names[0]: expected a node name as text, got 5"),
        ("grouping: on", "line 1: grouping: expected annotated or all, got true"),
        ("from_topology: 1", "line 1: from_topology: expected true or false, got 1"),
        ("priorities:\n- groups: []", "line 2: priorities[0].station: expected the name of a station as text"),
        ("priorities:\n- {station: s, groups: [7]}", "line 2: priorities[0].groups[0]: there is no group 7"),
        ("priorities:\n- {station: s, groups: [[]]}", "expected the number or name of a group, got a list"),
        (
            "groups: [{id: 1, name: north}]\npriorities: [{station: s, groups: [nord]}]",
            "line 2: priorities[0].groups[0]: there is no group 'nord'; did you mean north?",
        ),
        (
            'groups: [{id: 1}]\npriorities: [{station: s, groups: ["1"]}]',
            "there is no group '1'; write a number without quotes",
        ),
        ('groups: [{id: 1}]\npriorities: [{station: s, groups: ["²"]}]', "there is no group '²'"),
        (
            f'groups: [{{id: 1}}]\npriorities: [{{station: s, groups: ["{"1" * 5000}"]}}]',
            f"line 2: priorities[0].groups[0]: there is no group '{'1' * 59}",
        ),
        ("priorities:\n- {station: on}", "expected the name of a station as text, got true; put it in quotes"),
        ("priorities:\n- {station: s, groups: [y]}", "name of a group, got true; put it in quotes"),
        ("groups:\n- {id: 1, addresses: [{}]}", "addresses[0]: expected an address as text, got a mapping"),
        (
            "priorities:\n- {station: s}\n- {station: s}",
            "line 3: priorities[1].station: the station s stands in priorities[0].station in line 2 already",
        ),
        ("groups: []\ngroups: []", "line 2: the key 'groups' stands twice in one mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_place(text: str, flaw: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(text)
    assert flaw in str(caught.value.flaws[0])


def test_everything_that_is_wrong_is_told_at_once_in_order() -> None:
    text = """\
        groups:
          - id: x
            addresses: [nowhere]
        priorities:
          - groups: [9]
    """
    with pytest.raises(PolicyError) as caught:
        read_policy(dedent(text))
    assert [flaw.line for flaw in caught.value.flaws] == [2, 3, 5, 5]
    assert str(caught.value).endswith("(and 3 more)")


def test_only_for_some_wrong_names_it_is_looked_for_what_was_meant() -> None:
    """All the same they are all told: with 10,000 groups it would take minutes to look for each."""
    names = ", ".join(f"nord{number}" for number in range(30))
    with pytest.raises(PolicyError) as caught:
        read_policy(f"groups: [{{id: 1, name: nord}}]\npriorities: [{{station: s, groups: [{names}]}}]")
    told = [str(flaw) for flaw in caught.value.flaws]
    assert len(told) == 30
    assert ["did you mean nord?" in flaw for flaw in told] == [True] * 10 + [False] * 20


fields = st.sampled_from(("groups", "id", "name", "addresses", "priorities", "station", "sets", "node_names", "x"))
values = st.recursive(
    st.text() | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(fields, inner),
    max_leaves=15,
)


@given(values)
def test_no_value_is_more_than_an_error(value: object) -> None:
    with contextlib.suppress(PolicyError):
        read_policy(yaml.safe_dump(value, allow_unicode=True))
