"""Turns and shares by address: nobody waits for what another address has too much of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.kube.fair import Lines, Shares

ADDRESSES = st.sampled_from("abcd")


def test_the_lines_take_turns_and_each_keeps_its_order() -> None:
    lines: Lines[int] = Lines()
    for number in range(5):
        lines.put("a", number)
    lines.put("b", 10)
    lines.put("b", 11)
    lines.put("c", 20)
    assert [lines.take() for _ in range(9)] == [0, 10, 20, 1, 11, 2, 3, 4, None]


def test_nothing_stands_in_a_line_twice_but_it_may_in_several() -> None:
    lines: Lines[int] = Lines()
    assert not lines
    lines.put("a", 1)
    lines.put("a", 1)
    lines.put("b", 1)
    assert lines
    assert [lines.take() for _ in range(3)] == [1, 1, None]
    assert not lines


def test_what_is_of_no_address_goes_first() -> None:
    lines: Lines[int] = Lines()
    for number in range(3):
        lines.put("a", number)
    assert lines.take() == 0
    lines.put("", 10)
    lines.put("", 11)
    assert [lines.take() for _ in range(4)] == [10, 11, 1, 2]


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 5), st.booleans())))
def test_shares_are_those_of_a_plain_count(steps: list[tuple[str, int, bool]]) -> None:
    shares: Shares[int] = Shares()
    model: dict[str, list[int]] = {}
    for address, item, more in steps:
        has = model.setdefault(address, [])
        if more:
            shares.add(address, item)
            if item not in has:
                has.append(item)
        else:
            shares.discard(address, item)
            if item in has:
                has.remove(item)
        assert len(shares) == sum(map(len, model.values()))
        most = max(map(len, model.values()))
        for asking in "abcde":
            found = shares.surplus(asking)
            if most <= len(model.get(asking, ())) + 1:
                assert found is None
            else:
                assert found is not None
                assert len(model[found[0]]) == most
                assert found[1] == model[found[0]][-1]
