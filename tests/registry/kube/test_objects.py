"""Decoding lists, events, errors and objects of the Kubernetes API."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw, Struct

from registry.kube.objects import (
    Meta,
    Undecodable,
    decode_event,
    decode_metadata,
    decode_page,
    decode_status,
    decoder,
)
from tests.support.scripted_api import bookmark, encode, event, page, status, thing


class _Sized(Struct):
    metadata: Meta
    size: int


class _Loose(Struct, rename="camel"):
    """Metadata as a source may declare it, with nothing certain but the name."""

    name: str
    namespace: str | None = None
    resource_version: str | None = None


class _LooseObject(Struct):
    metadata: _Loose


def _odd(found: _Sized) -> int | None:
    if found.size == 13:
        raise ValueError("13 is unlucky")
    return found.size if found.size % 2 else None


decode_sized = decoder(_Sized, _odd)


def _raw(value: object) -> Raw:
    return Raw(encode(value))


def test_a_page_has_its_version_the_way_to_the_next_and_its_items_undecoded() -> None:
    first = decode_page(page(7, thing("a", 3), thing("b", 4), more="token"))
    assert (first.metadata.resource_version, first.metadata.continue_) == ("7", "token")
    assert [decode_metadata(item).name for item in first.items or ()] == ["a", "b"]
    last = decode_page(page(7))
    assert (last.metadata.continue_, last.items) == ("", [])


def test_a_page_need_not_have_items() -> None:
    assert decode_page(b'{"metadata": {"resourceVersion": "7"}}').items is None
    assert decode_page(b'{"metadata": {"resourceVersion": "7"}, "items": null}').items is None


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'{"items": []}', b'{"metadata": [], "items": []}', b"\xff"])
def test_what_is_no_list_is_not_read_as_one(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_page(data)


def test_an_event_has_its_type_and_its_object_undecoded() -> None:
    line = decode_event(event("ADDED", thing("a", 3, 5)))
    assert line.type == "ADDED"
    assert msgspec.json.decode(line.object) == thing("a", 3, 5)


def test_the_metadata_of_a_bookmark_has_no_name() -> None:
    meta = decode_metadata(decode_event(bookmark(9, ends_list=True)).object)
    assert (meta.name, meta.resource_version) == ("", "9")
    assert meta.annotations == {"k8s.io/initial-events-end": "true"}


def test_an_error_of_the_api_server_is_read() -> None:
    found = decode_status(encode(status(410, "Expired", "too old")))
    assert (found.code, found.reason, found.message) == (410, "Expired", "too old")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"404 page not found\n", "404 page not found"),
        (b"", ""),
        (b"<html>\xff</html>", "<html>\ufffd</html>"),
        (b'"text"', '"text"'),
        (b'{"code": "410"}', '{"code": "410"}'),
        (b'{"message": null}', '{"message": null}'),
        (b"x" * 1000, "x" * 200),
    ],
)
def test_an_error_that_is_no_status_is_its_text_without_a_code(data: bytes, message: str) -> None:
    found = decode_status(data)
    assert (found.code, found.reason, found.message) == (0, "", message)


def test_an_object_is_decoded_with_its_key_its_version_and_what_is_kept() -> None:
    decoded = decode_sized(_raw({**thing("a", 3), "size": 5}))
    assert (decoded.key, decoded.version, decoded.item) == (("ns", "a"), "3", 5)


def test_of_an_object_nothing_may_be_kept() -> None:
    decoded = decode_sized(_raw({**thing("a", 3), "size": 4}))
    assert (decoded.key, decoded.version, decoded.item) == (("ns", "a"), "3", None)


@pytest.mark.parametrize(
    ("size", "reason"),
    [("5", "Expected `int`, got `str` - at `$.size`"), (None, "got `null`"), (13, "13 is unlucky")],
)
def test_a_value_that_can_not_be_taken_is_told_with_the_objects_key_version_and_the_reason(
    size: object, reason: str
) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_sized(_raw({**thing("a", 3), "size": size}))
    assert (caught.value.key, caught.value.version) == (("ns", "a"), "3")
    assert reason in caught.value.reason
    assert str(caught.value) == f"ns/a: {caught.value.reason}"


@pytest.mark.parametrize("value", [5, [], {}, {"metadata": 5}, {"metadata": {"name": 5}}])
def test_an_object_without_metadata_is_none_that_could_be_left_out_by_name(value: object) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_sized(_raw(value))


def test_metadata_that_is_absent_or_null_is_empty() -> None:
    decoded = decoder(_LooseObject, lambda found: found.metadata.name)(_raw({"metadata": {"name": "a"}}))
    assert (decoded.key, decoded.version, decoded.item) == (("", "a"), "", "a")
    nothing = {"name": "a", "namespace": None, "resourceVersion": None}
    decoded = decoder(_LooseObject, lambda found: found.metadata.name)(_raw({"metadata": nothing}))
    assert (decoded.key, decoded.version) == (("", "a"), "")


def test_what_is_not_used_of_an_object_may_be_anything() -> None:
    decoded = decode_sized(_raw({**thing("a", 3), "size": 5, "status": "odd", "spec": [1]}))
    assert decoded.item == 5
