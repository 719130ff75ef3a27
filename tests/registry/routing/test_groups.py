"""Which group an address falls in: written rules, and the longest prefix."""

from __future__ import annotations

import ipaddress
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.routing.groups import NO_GROUP, Prefix, Prefixes, Rule, address_bits, parse_prefix
from registry.routing.policy import Group, Policy, PolicyDocument, Station


def prefixes(**groups: str) -> Prefixes:
    return Prefixes(
        Rule(parse_prefix(text), int(name.removeprefix("g")), text)
        for name, texts in groups.items()
        for text in texts.split()
    )


def group_in(found: Prefixes, address: str) -> int:
    rule = found.find(address)
    return NO_GROUP if rule is None else rule.group


@pytest.mark.parametrize(
    ("pattern", "as_range"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.2.*", "10.1.2.0/24"),
        ("10.1.*.*", "10.1.0.0/16"),
        ("10.*.*.*", "10.0.0.0/8"),
        ("*.*.*.*", "0.0.0.0/0"),
        ("fd00:1::5", "fd00:1::5/128"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
    ],
)
def test_addresses_and_star_patterns_are_ranges(pattern: str, as_range: str) -> None:
    assert parse_prefix(pattern) == parse_prefix(as_range)
    network = ipaddress.ip_network(as_range)
    assert str(parse_prefix(pattern)) == (str(network) if network.num_addresses > 1 else str(network[0]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected an address"),
        ("10.1.2", "expected an address"),
        ("10.1.2.256", "expected an address"),
        ("host-1", "expected an address"),
        ("10.1.2.3/", "expected an address"),
        ("10.1.2.3/x", "expected an address"),
        ("fe80::1%eth0", "expected an address"),
        ("10.1.2.0/33", "the length of an IPv4 range is 0 to 32"),
        ("fd00::/129", "the length of an IPv6 range is 0 to 128"),
        ("::ffff:10.1.0.0/90", "the length of an IPv4 range that is written as IPv6 is 96 to 128"),
        (f"{'*' * 5000}", f"got '{'*' * 60}'"),
        ("10.1.2.3/16", "did you mean 10.1.0.0/16?"),
        ("fd00::1/16", "did you mean fd00::/16?"),
        ("10.*.2.3", "stars stand for whole numbers at the end of four"),
        ("10.*.1.*", "stars stand for whole numbers at the end of four"),
        ("*.1.2.3", "stars stand for whole numbers at the end of four"),
        ("10.1.*", "stars stand for whole numbers at the end of four"),
        ("10.1.2*.*", "stars stand for whole numbers at the end of four"),
        ("300.*.*.*", "expected an address"),
        ("fd00::*", "stars stand for whole numbers at the end of four"),
    ],
)
def test_what_is_no_rule_is_told_with_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"(expected|did you mean|stars|length)") as caught:
        parse_prefix(text)
    assert says in str(caught.value)


def test_an_exact_address_stands_before_a_range_and_a_longer_range_before_a_shorter() -> None:
    found = prefixes(g1="10.0.0.0/8", g2="10.1.0.0/16 fd00::/16", g3="10.1.2.3", g4="10.1.2.*", g5="fd00:1::/32")
    assert group_in(found, "10.1.2.3") == 3
    assert group_in(found, "10.1.2.4") == 4
    assert group_in(found, "10.1.3.3") == 2
    assert group_in(found, "10.2.0.1") == 1
    assert group_in(found, "11.0.0.1") == NO_GROUP
    assert group_in(found, "fd00:1:2::3") == 5
    assert group_in(found, "fd00:2::3") == 2
    assert group_in(found, "::ffff:10.1.2.3") == 3


@pytest.mark.parametrize("text", ["", "nobody", "10.1", "1.2.3.4.5", "10.1.2.3\0", ":", "münchen"])
def test_what_is_no_address_is_in_no_group(text: str) -> None:
    assert address_bits(text) is None
    assert prefixes(g1="0.0.0.0/0 ::/0").find(text) is None


networks = st.one_of(
    st.builds(lambda n, size: Prefix(4, n >> (32 - size), size), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda n, size: Prefix(6, n >> (128 - size), size), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)


@given(rules=st.lists(st.tuples(networks, st.integers(1, 5)), max_size=8), seed=st.integers(0, 2**32))
def test_the_longest_prefix_is_that_of_the_standard_library(rules: list[tuple[Prefix, int]], seed: int) -> None:
    unique = dict(rules)
    found = Prefixes(Rule(prefix, group) for prefix, group in unique.items())
    chance = random.Random(seed)
    for prefix in list(unique) or [Prefix(4, 0, 0)]:
        bits = 32 if prefix.version == 4 else 128
        number = (prefix.bits << (bits - prefix.length)) | chance.getrandbits(bits) >> prefix.length
        address = ipaddress.ip_address(number.to_bytes(bits // 8, "big"))
        if prefix.version == 6 and isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            continue
        fitting = [p for p in unique if p.version == prefix.version and number >> (bits - p.length) == p.bits]
        expected = max(fitting, key=lambda p: p.length, default=None)
        rule = found.find(str(address))
        assert (rule and rule.prefix) == expected


@given(networks)
def test_a_prefix_reads_back_from_its_text(prefix: Prefix) -> None:
    text = str(prefix)
    if not (prefix.version == 6 and "ffff:" in text):
        assert parse_prefix(text) == prefix


# -- who is in which group -------------------------------------------------------------------------------------------


def test_callers_are_known_by_a_set_or_else_its_wildcard_set() -> None:
    policy = Policy(PolicyDocument((Group(1, sets=("app.sz.*",)), Group(2, sets=("app.sz.7",)))))
    assert [policy.group_of_set(text) for text in ("app.sz.1", "app.sz.7", "app.sh.1", "", "app")] == [1, 2, -1, -1, -1]


def test_callers_are_known_by_a_node_name_or_else_by_the_address_that_it_is() -> None:
    rules = (Rule(parse_prefix("10.0.0.0/8"), 1),)
    policy = Policy(PolicyDocument((Group(1, rules=rules), Group(2, node_names=("node-7",)))))
    assert [policy.group_of_node_name(name) for name in ("node-7", "10.1.2.3", "node-8", "")] == [2, 1, -1, -1]


def test_the_priorities_of_a_group_are_those_that_name_it_in_their_order() -> None:
    priorities = (Station("a", (1, 2)), Station("b", (3,)), Station("c", (2, 3)))
    policy = Policy(PolicyDocument((Group(1), Group(2), Group(3)), priorities))
    assert [name for name, _ in policy.priorities_of(2)] == ["a", "c"]
    assert [name for name, _ in policy.priorities_of(3)] == ["b", "c"]
    assert policy.priorities_of(9) == ()
