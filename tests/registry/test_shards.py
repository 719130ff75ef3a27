"""Mappings that stay as they are and share what does not change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.shards import Shards

KEYS = st.integers(0, 600)
CHANGES = st.lists(st.dictionaries(KEYS, st.one_of(st.none(), st.integers()), max_size=30), max_size=6)


@given(CHANGES)
def test_each_is_what_a_dict_would_be_and_stays_so(changes: list[dict[int, int | None]]) -> None:
    shards: Shards[int, int] = Shards()
    naive: dict[int, int] = {}
    made: list[tuple[Shards[int, int], dict[int, int]]] = [(shards, {})]
    for change in changes:
        shards = shards.changed(change)
        naive = {key: value for key, value in (naive | change).items() if value is not None}
        made.append((shards, naive))
    for each, right in made:
        assert each == right
        assert dict(each) == right
        assert len(each) == len(right)
        assert sorted(each) == sorted(right)
        assert [each.get(key) for key in range(601)] == [right.get(key) for key in range(601)]
        assert all((key in each) == (key in right) for key in range(601))


@given(CHANGES, CHANGES)
def test_what_differs_from_another_is_found(
    first: list[dict[int, int | None]], then: list[dict[int, int | None]]
) -> None:
    before: Shards[int, int] = Shards()
    for change in first:
        before = before.changed(change)
    after = before
    for change in then:
        after = after.changed(change)
    differing = [key for key in range(601) if before.get(key) != after.get(key)]
    assert set(differing) <= set(after.differing(before)) == set(before.differing(after))
    assert list(after.differing(after)) == []


def test_a_small_change_copies_a_small_part() -> None:
    nothing: Shards[int, int] = Shards()
    many = nothing.changed(dict.fromkeys(range(10000), 0))
    changed = many.changed({7: 1})
    shared = [mine is its for mine, its in zip(many._parts, changed._parts, strict=True)]
    assert shared.count(False) == 1
    assert list(changed.differing(many)) == [7]
