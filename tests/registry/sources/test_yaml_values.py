"""YAML as kubectl reads it, with the lines of what is asked for."""

from __future__ import annotations

import math
import runpy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry.sources import yaml_values
from registry.sources.yaml_values import MAX_ALIASED, MAX_DEPTH, Place, YamlError, find_lines, read_documents


def read_all(text: str) -> list[Any]:
    return list(read_documents(text, {}, lambda _: False))


def read(text: str) -> Any:
    documents = read_all(text)
    assert len(documents) == 1
    return documents[0]


def error_of(text: str) -> YamlError:
    with pytest.raises(YamlError) as caught:
        read_all(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("abc", "abc"),
        ("", None),
        ("~", None),
        ("Null", None),
        ("true", True),
        ("Yes", True),
        ("on", True),
        ("y", True),
        ("FALSE", False),
        ("no", False),
        ("Off", False),
        ("n", False),
        ("nO", "nO"),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        ("-0", 0),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("-017", -15),
        ("08", "08"),
        ("0x", "0x"),
        ("0x_", "0x_"),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        (".", "."),
        ("-.", "-."),
        ("1.2.3.4", "1.2.3.4"),
        ("10:30", "10:30"),
        ("2024-05-02", "2024-05-02"),
        ("2024-05-02T08:00:03Z", "2024-05-02T08:00:03Z"),
        ("9" * 30, int("9" * 30)),
        ("9" * 10_000, "9" * 10_000),
        ("=", "="),
        ("<<", "<<"),
        ("'12'", "12"),
        ('"yes"', "yes"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("!!float 1.5", 1.5),
        ("!!bool 'no'", False),
        ("!!null ''", None),
    ],
)
def test_scalars_are_read_as_kubectl_does(text: str, value: object) -> None:
    found = read(f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(read("a: .NaN")["a"])


def test_keys_are_text() -> None:
    assert read("{1: a, yes: b, ~: c, 1.5: d}") == {"1": "a", "yes": "b", "~": "c", "1.5": "d"}


def test_documents_come_one_by_one() -> None:
    assert read_all("a: 1\n---\n# nothing\n---\n- 2\n...\n---\n") == [{"a": 1}, None, [2], None]
    assert read_all("") == read_all("# only a comment\n") == []


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**18), 10**18)
        | st.floats(allow_nan=False)
        | st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff", exclude_categories=["Cc"])),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc ", min_size=1), inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_is_dumped_is_read_again(value: Any) -> None:
    # In quotes and with tags: PyYAML writes some text plain (N, 1e3) that is a bool or a number to kubectl.
    assert read(yaml.safe_dump(value, default_style='"')) == value


@given(st.text() | st.text(st.sampled_from("ab:-&*!<{[]}, \n\t\"'#|>%?~1")))
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    lines = sum(text.count(end) for end in "\n\r\x85\u2028\u2029") + 1
    try:
        read_all(text)
    except YamlError as error:
        found = error.line
    else:
        found = 1
    assert 1 <= found <= lines + 1


def test_the_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML was built without libyaml."""
    monkeypatch.delattr(yaml, "CSafeLoader")
    module = runpy.run_path(yaml_values.__file__)
    assert yaml.SafeLoader in module["_Loader"].__mro__
    text = "a: &x {b: [1, 'é', no]}\nc: {<<: *x, d: !!str 3}\n--- |\n  text\n"
    lines: dict[Place, int] = {}
    assert list(module["read_documents"](text, lines, {(0, "c", "d")}.__contains__)) == read_all(text)
    assert lines == {(0, "c", "d"): 2}
    for wrong in ("a: é\nb: [", "a: éé\nb: \x01", "a: 1\na: 2"):
        with pytest.raises(module["YamlError"]) as caught:
            list(module["read_documents"](wrong, {}, lambda _: False))
        assert caught.value.line == 2


# --------------------------------------------------------------------------------------- aliases and merging


def test_aliases_stand_for_what_has_the_anchor() -> None:
    assert read("a: &x [1, &y 2]\nb: *x\nc: {k: *y}\n") == {"a": [1, 2], "b": [1, 2], "c": {"k": 2}}


def test_an_alias_may_be_a_key() -> None:
    assert read("&k name: a\nother: {*k : b}\n") == {"name": "a", "other": {"name": "b"}}
    assert error_of("a: &x [1]\nb: {*x : 1}\n").reason == "a key must be text"


def test_an_anchor_may_be_used_again() -> None:
    assert read("- &a 1\n- *a\n- &a 2\n- *a\n") == [1, 1, 2, 2]


@pytest.mark.parametrize(
    "text", ["a: 1\nb: *x\n", "b: 0\na: &x [*x]\n", "x: &x 1\na: &x {b: *x}\n", "--- &x 1\n--- *x\n"]
)
def test_an_alias_needs_a_whole_anchor_before_it(text: str) -> None:
    error = error_of(text)
    assert (error.line, error.reason) == (2, "the alias *x has no anchor before it")


def test_merge_keys_give_what_is_not_there() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: *a, y: 5}\nd: {<<: [*a, *b]}\ne: {'<<': 1}\n"
    assert read(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"y": 3, "z": 4},
        "c": {"x": 1, "y": 5},
        "d": {"x": 1, "y": 2, "z": 4},
        "e": {"<<": 1},
    }


def test_only_mappings_are_merged() -> None:
    assert error_of("a: 1\nb:\n  <<: 3\n").line == 3


def test_aliases_can_not_stand_for_more_than_is_bounded() -> None:
    """A few lines that would be 9**9 values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    error = error_of("\n".join(lines))
    assert error.reason == f"the aliases stand for more than {MAX_ALIASED} values"
    assert error.line == 7


def test_merging_can_not_stand_for_more_than_is_bounded_either() -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{key}: 0" for key in range(9)) + "}"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}")
    assert str(MAX_ALIASED) in error_of("\n".join(lines)).reason


def test_a_long_chain_of_merges_is_refused() -> None:
    """The last one is needed before those that it is made of."""
    chain = "".join(f"  - &a{level} {{<<: *a{level - 1}}}\n" for level in range(1, 980))
    assert "merging" in error_of("x:\n  y:\n  - &a0 {k: 1}\n" + chain + "z: {<<: *a979}\n").reason


def test_merging_counts_as_aliases_do() -> None:
    big = ", ".join(f"k{key}: 0" for key in range(1000))
    assert str(MAX_ALIASED) in error_of(f"a: &a {{{big}}}\nb:\n" + "- {<<: *a}\n" * 1001).reason


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (
            "items: [{a: [1]}, 2, [3], &x {b: 4}, {<<: *x, c: *x}]",
            [{"a": [1]}, 2, [3], {"b": 4}, {"b": 4, "c": {"b": 4}}],
        ),
        ("x: &x {a: 1}\nitems: &i [*x, {b: 2}]\nz: {<<: *i}", [{"a": 1}, {"b": 2}]),
        ("items: {a: {b: 1}}", {"a": {"b": 1}}),
        ("a: 1\n--- {items: [{b: &b 2}, *b]}", [{"b": 2}, 2]),
    ],
)
def test_items_are_read_as_all_else_is(text: str, items: object) -> None:
    """They are values early, as their nodes would take much memory."""
    last = read_all(text)[-1]
    assert last["items"] == items
    assert last.get("z") in (None, {"a": 1, "b": 2})


def test_depth_is_bounded() -> None:
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert error_of("[" * (MAX_DEPTH + 2)).reason == f"nested more than {MAX_DEPTH} deep"
    assert error_of("a:\n" + "[" * 50_000).line == 2


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' stands twice in one mapping"),
        ("a:\n  - {x: 1,\n     x: 2}\n", 3, "the key 'x' stands twice in one mapping"),
        ("a: 1\n? [b]\n: 2\n", 2, "a key must be text"),
        ("a: 1\n{b: 1}: 2\n", 2, "a key must be text"),
        ("a: 1\nb: !!python/name:os.system\n", 2, "the tag !!python/name:os.system can't be used here"),
        ("a: !mine 1\n", 1, "the tag !mine can't be used here"),
        ("a: !mine [1]\n", 1, "the tag !mine can't be used here"),
        ("a: ! 12\n", 1, "the tag ! can't be used here"),
        ("a: !!binary aGk=\n", 1, "the tag !!binary can't be used here"),
        ("a: !!timestamp 2024-05-02\n", 1, "the tag !!timestamp can't be used here"),
        ("a: !!set {x}\n", 1, "the tag !!set can't be used here"),
        ("a: !!int x\n", 1, "the tag !!int can't be used here"),
        (f"a: !!int 0x{'f' * 5000}\n", 1, "the tag !!int can't be used here"),
        ("a: !!float 0x1\n", 1, "the tag !!float can't be used here"),
        ("a: !!int [1]\n", 1, "the tag !!int can't be used here"),
        ("a: !!seq x\n", 1, "no YAML: expected a sequence node, but found scalar"),
        ("a: !!str [x]\n", 1, "no YAML: expected a scalar node, but found sequence"),
    ],
)
def test_errors_have_line_and_reason(text: str, line: int, reason: str) -> None:
    error = error_of(text)
    assert (error.line, error.reason) == (line, reason)
    assert str(error) == f"line {line}: {reason}"


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: [1, 2\nc: 3\n", 3), ("a: 1\n\tb: 2\n", 2), ("a: 'x\n", 2), ("a: é\nb: \x01\n", 2), ("a: b: c\n", 1)],
)
def test_text_that_is_no_yaml_is_told_with_its_line(text: str, line: int) -> None:
    error = error_of(text)
    assert error.line == line
    assert error.reason.startswith("no YAML: ")


# ---------------------------------------------------------------------------------------------------- lines

TEXT = """\
# a comment
kind: A
list:
  - x: 1
    y: &y
      z: |
        several
        lines
  - x: 2
    y: *y
---
kind:
  B
"""


def test_lines_are_those_of_the_values() -> None:
    assert find_lines(TEXT, {(0,), (0, "list", 0, "y", "z"), (0, "list", 1, "x"), (1,), (1, "kind")}) == {
        (0,): 2,
        (0, "list", 0, "y", "z"): 6,
        (0, "list", 1, "x"): 9,
        (1,): 12,
        (1, "kind"): 13,
    }


def test_what_is_not_there_has_the_line_around_it() -> None:
    assert find_lines(TEXT, {(0, "list", 1, "nothing", 3), (0, "list", 1, "y", "z"), (5, "a")}) == {
        (0, "list", 1, "nothing", 3): 9,
        (0, "list", 1, "y", "z"): 10,
        (5, "a"): 1,
    }


def test_lines_before_an_error_are_found() -> None:
    assert find_lines('{"a": 1,\n"b": "\\ud83d"}', {(0, "a"), (0, "b")}) == {(0, "a"): 1, (0, "b"): 1}
