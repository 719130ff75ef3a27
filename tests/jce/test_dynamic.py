"""Dumps of bytes whose declaration is not known."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from jce import dynamic, wire
from jce.errors import DecodeError, Reason
from jce.reader import Reader

DUMPS: dict[str, tuple[str, dict[int, Any]]] = {
    "nothing": ("", {}),
    "integers of every width": (
        "0c10012101003200010000430000000080000000",
        {0: 0, 1: 1, 2: 256, 3: 65536, 4: 2**31},
    ),
    "negative integers": ("00ff11ff0022ffff0000338000000000000000", {0: -1, 1: -256, 2: -65536, 3: -(2**63)}),
    "floats": ("043fc0000015bff8000000000000", {0: 1.5, 1: -1.5}),
    "strings": ("0601611700000002c3a9", {0: "a", 1: "é"}),
    "a string that is not UTF-8": ("0601ff", {0: "\udcff"}),
    "a simple list": ("0d00000200ff", {0: b"\x00\xff"}),
    "a list": ("0900030c0001060161", {0: [0, 1, "a"]}),
    "a list of int8 is no bytes": ("09000200010002", {0: [1, 2]}),
    "a map": ("08000206016110010601621002", {0: {"a": 1, "b": 2}}),
    "an empty map": ("080c", {0: {}}),
    "a map by bytes": ("0800010d00000161160162", {0: {b"a": "b"}}),
    "a map by struct": ("0800010a0c0b1001", {0: [({0: 0}, 1)]}),
    "a map by list": ("0800010900010c1001", {0: [([0], 1)]}),
    "a map by keys of several kinds": ("0800020c1001090c1002", {0: [(0, 1), ([], 2)]}),
    "a struct": ("0a0c1a3c0bf0ff070b", {0: {0: 0, 1: {3: 0}, 255: 7}}),
    "tags in any order": ("1001000220031c", {1: 1, 0: 2, 2: 3}),
}


@pytest.mark.parametrize(("data", "fields"), DUMPS.values(), ids=DUMPS.keys())
def test_bytes_are_shown_as_the_wire_has_them(data: str, fields: dict[int, Any]) -> None:
    found = dynamic.decode(bytes.fromhex(data))
    assert found == fields
    assert repr(found) == repr(fields), "types and order too"


def test_the_first_of_two_fields_with_one_tag_counts() -> None:
    assert dynamic.decode(bytes.fromhex("100110021003")) == {1: 1}


def test_the_first_of_two_pairs_with_one_key_counts_and_pairs_keep_their_order() -> None:
    data = bytes.fromhex("080003060162100106016110020601621003")
    assert list(dynamic.decode(data)[0].items()) == [("b", 1), ("a", 2)]


def test_nan_is_a_value_like_any_other() -> None:
    found = dynamic.decode(b"\x04" + struct.pack(">f", float("nan")))[0]
    assert found != found


def test_a_budget_can_be_given_and_is_spent() -> None:
    reader = Reader(bytes.fromhex("0c1c"), max_values=3)
    dynamic.decode(reader)
    assert reader.budget == 1
    with pytest.raises(DecodeError) as caught:
        dynamic.decode(b"\x0c" * (wire.DEFAULT_MAX_VALUES + 1))
    assert caught.value.reason is Reason.LIMIT
