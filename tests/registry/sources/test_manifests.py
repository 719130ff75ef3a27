"""What is in a manifest file, and what of it could not be taken."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.model import Kind, Server
from registry.sources.manifests import BrokenFile, Contents, Flaw, Reason, parse

V = "k8s.tars.io/v1beta3"


def template(name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": V, "kind": "TTemplate", "metadata": {"name": name}, **fields}


def from_yaml(text: str) -> Contents:
    return parse(text.encode(), is_json=False)


def from_json(value: Any) -> Contents:
    return parse(json.dumps(value, indent=1).encode(), is_json=True)


def names(contents: Contents) -> list[str]:
    return [entry.item.name for entry in contents.entries]


def broken(data: bytes, *, is_json: bool = False) -> Flaw:
    with pytest.raises(BrokenFile) as caught:
        parse(data, is_json=is_json)
    assert caught.value.flaw.text in str(caught.value)
    return caught.value.flaw


THREE = f"""\
# two of ours
apiVersion: {V}
kind: TTemplate
metadata: {{name: a}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: other}}
---
---
apiVersion: {V}
kind: TEndpoint
metadata:
  name: b
"""


def test_a_file_may_hold_several_documents() -> None:
    contents = from_yaml(THREE)
    assert [(entry.item.kind, entry.item.name, entry.line) for entry in contents.entries] == [
        (Kind.TEMPLATE, "a", 2),
        (Kind.SERVER, "b", 11),
    ]
    assert contents.flaws == ()


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "\ufeff"])
def test_a_file_without_a_document_holds_nothing(text: str) -> None:
    assert from_yaml(text) == Contents()
    assert parse(text.encode() if "#" not in text and "-" not in text else b"", is_json=True) == Contents()


def test_a_byte_order_mark_is_no_matter() -> None:
    assert names(parse(b"\xef\xbb\xbf" + THREE.encode(), is_json=False)) == ["a", "b"]
    assert names(parse(b"\xef\xbb\xbf" + json.dumps(template("a")).encode(), is_json=True)) == ["a"]


@pytest.mark.parametrize("kind", ["List", "TTemplateList"])
def test_a_list_is_taken_by_its_items(kind: str) -> None:
    items = [template("a"), template("b"), {"apiVersion": "v1", "kind": "Pod"}]
    document = {"apiVersion": "v1", "kind": kind, "items": items}
    assert names(from_json(document)) == ["a", "b"]
    assert names(from_yaml(json.dumps(document))) == ["a", "b"]


def test_items_of_a_list_have_their_lines() -> None:
    text = f"kind: List\nitems:\n- apiVersion: {V}\n  kind: TTemplate\n  metadata: {{name: a}}\n- 3\n"
    contents = from_yaml(text)
    assert [entry.line for entry in contents.entries] == [3]
    assert contents.flaws == (Flaw(Reason.OBJECT, "expected a mapping: the fields of an object", 6),)


@pytest.mark.parametrize("items", ["", "null", "[]"])
def test_a_list_may_be_empty(items: str) -> None:
    assert from_yaml(f"kind: List\nitems: {items}\n") == from_yaml("kind: List\n") == Contents()


@pytest.mark.parametrize("items", ["3", "{a: 1}", "text"])
def test_items_must_be_a_list(items: str) -> None:
    assert broken(f"kind: List\nitems: {items}\n".encode()).line == 2


def test_a_json_file_holds_an_object() -> None:
    contents = from_json(template("a"))
    assert [(entry.item.name, entry.line) for entry in contents.entries] == [("a", 1)]


def test_a_wrong_value_drops_its_object_and_is_found_by_line() -> None:
    text = THREE + 'spec:\n  tars:\n    servants:\n      - name: Obj\n        port: "x"\n---\n' + THREE
    contents = from_yaml(text)
    assert names(contents) == ["a", "a", "b"]
    reason = 'TEndpoint default/b: spec.tars.servants[0].port: expected a whole number, got "x"'
    assert contents.flaws == (Flaw(Reason.OBJECT, reason, 19),)


def test_wrong_values_in_json_are_found_by_line_too() -> None:
    items = [template("a"), template("b", spec={"parent": "p", "content": 5}), template("c")]
    text = json.dumps({"kind": "List", "items": items}, indent=1)
    contents = parse(text.encode(), is_json=True)
    assert names(contents) == ["a", "c"]
    line = 1 + text[: text.index('"content"')].count("\n")
    assert [(flaw.reason, flaw.line) for flaw in contents.flaws] == [(Reason.OBJECT, line)]


def test_a_missing_field_has_the_line_of_what_should_have_it() -> None:
    text = f"apiVersion: {V}\nkind: TEndpoint\nmetadata: {{name: b}}\nstatus:\n  pods:\n  - name: x\n  -\n    uid: u\n"
    assert [(flaw.line, flaw.text) for flaw in from_yaml(text).flaws] == [
        (8, "TEndpoint default/b: status.pods[1]: name is missing")
    ]


def test_an_unknown_version_is_a_flaw_of_its_own_kind() -> None:
    contents = from_yaml("kind: TEndpoint\nmetadata: {name: b}\napiVersion: k8s.tars.io/v2\n")
    assert contents.entries == ()
    (flaw,) = contents.flaws
    assert (flaw.reason, flaw.line) == (Reason.API_VERSION, 3)
    assert "expected k8s.tars.io/v1beta3" in flaw.text


def test_a_date_stays_text_and_a_word_is_a_bool() -> None:
    text = f"apiVersion: {V}\nkind: TEndpoint\nmetadata: {{name: b}}\nspec:\n  app: 2024-05-02\n"
    text += "  tars: {servants: [{name: O, port: 1, isTcp: no}]}\n"
    (entry,) = from_yaml(text).entries
    assert isinstance(entry.item, Server)
    assert entry.item.app == "2024-05-02"
    assert not entry.item.servants[0].is_tcp


@pytest.mark.parametrize("text", ["- 1\n", "text\n", "3\n", "a: 1\n--- x\n"])
def test_a_document_must_be_a_mapping(text: str) -> None:
    flaw = broken(text.encode())
    assert (flaw.reason, flaw.text) == (Reason.SYNTAX, "expected a mapping: the fields of an object")
    assert flaw.line == (2 if "a:" in text else 1)
    assert broken(b"\n\n[]", is_json=True).line == 3


def test_what_is_not_utf_8_is_told_with_its_line() -> None:
    flaw = broken(b"a: 1\nb: \xff\n")
    assert flaw == Flaw(Reason.SYNTAX, "not UTF-8: byte 0xff", 2)
    assert broken("a: 1".encode("utf-16")).reason is Reason.SYNTAX


def test_yaml_errors_have_their_line() -> None:
    flaw = broken(THREE.encode() + b"  name: twice\n")
    assert flaw == Flaw(Reason.SYNTAX, "the key 'name' stands twice in one mapping", 15)
    assert broken(b"a: [\n").reason is Reason.SYNTAX


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ('{"a": 1,\n "b": }', 2, "no JSON: "),
        ('{"a": 1}\n{"a": 2}', 2, "no JSON: Extra data"),
        ('{"a": 1,\n "a": 2}', 2, "the key 'a' stands twice"),
        ('{"a": 1,\n "b": "\\ud800"}', 2, "no JSON: "),
        ("kind: yaml\n", 1, "no JSON: "),
        ('{"a":\n' + "[" * 100_000, 2, "nested"),
        ('{"a": 1' + "0" * 5000 + "}", None, "no JSON: "),
    ],
)
def test_json_errors_have_their_line(text: str, line: int | None, part: str) -> None:
    flaw = broken(text.encode(), is_json=True)
    assert (flaw.reason, flaw.line) == (Reason.SYNTAX, line)
    assert part in flaw.text


def test_pairs_of_escapes_in_json_are_text() -> None:
    (entry,) = parse(json.dumps(template("a", spec={"content": "\U0001f600"})).encode(), is_json=True).entries
    assert "\U0001f600" in str(entry.item)


def test_objects_of_one_alias_are_each_taken() -> None:
    text = f"kind: List\nitems:\n- &a {{apiVersion: {V}, kind: TTemplate, metadata: {{name: a}}}}\n- *a\n"
    assert names(from_yaml(text)) == ["a", "a"]


@given(st.binary() | st.text().map(str.encode), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, is_json: bool) -> None:
    with contextlib.suppress(BrokenFile):
        parse(data, is_json=is_json)
