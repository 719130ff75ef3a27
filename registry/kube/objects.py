"""Lists, events and errors of the Kubernetes API, as far as following a resource needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Key = tuple[str, str]
"""Namespace and name of an object."""

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the first part of a streaming list."""


class Meta(Struct, rename="camel", gc=False):
    """Metadata of any object; a bookmark's has no name."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _HasMeta(Struct, gc=False):
    metadata: Meta


class ListMeta(Struct, rename="camel", gc=False):
    """Metadata of a list; ``continue_`` leads to the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(Struct):
    """One page of a list; its items are decoded later, one by one."""

    metadata: ListMeta
    items: list[Raw] | None = None


class Event(Struct):
    """One line of a watch."""

    type: str
    object: Raw


class Status(Struct, gc=False):
    """An error, as an answer's body or as the object of an ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""


class Decoded(Generic[T]):
    """An object of a resource: where it stands, its version, and what is kept of it (None: nothing)."""

    __slots__ = ("item", "key", "version")

    def __init__(self, key: Key, version: str, item: T | None) -> None:
        self.key = key
        self.version = version
        self.item = item


class Undecodable(Exception):
    """An object with a value of the wrong type: it is dropped, and nothing else is."""

    def __init__(self, key: Key, version: str, reason: str) -> None:
        super().__init__(f"{'/'.join(key)}: {reason}")
        self.key = key
        self.version = version
        self.reason = reason


class Store(Protocol[T_contra]):
    """What a reflector fills: the smallest thing that can hold a resource."""

    def replacing(self, items: Iterable[T_contra]) -> Iterator[None]:
        """All objects there are, as a whole: what is not among them is gone. In small steps, one of which does it."""

    def upsert(self, item: T_contra) -> None:
        """An object that is new or changed."""

    def delete(self, key: Key) -> None:
        """An object that is gone; nothing happens where it was not known."""


decode_page: Final = msgspec.json.Decoder(Page).decode
decode_event: Final = msgspec.json.Decoder(Event).decode
_decode_meta: Final = msgspec.json.Decoder(_HasMeta).decode
_decode_status: Final = msgspec.json.Decoder(Status).decode


def decode_metadata(raw: bytes | Raw) -> Meta:
    """The metadata of an object. Raises msgspec.MsgspecError."""
    return _decode_meta(raw).metadata


def decode_status(raw: bytes | Raw) -> Status:
    """An error as the API server gives it; what is no Status (a proxy's text) is one without a code."""
    try:
        return _decode_status(raw)
    except msgspec.MsgspecError:
        return Status(message=bytes(raw)[:200].decode("utf-8", "replace").strip())


def decoder(struct: type[Any], convert: Callable[[Any], T | None]) -> Callable[[Raw], Decoded[T]]:
    """Decode a resource's objects by a msgspec struct that has ``metadata``, then keep what ``convert`` gives.

    The decoder raises Undecodable.
    """
    decode = msgspec.json.Decoder(struct).decode

    def decoded(raw: Raw) -> Decoded[T]:
        try:
            found = decode(raw)
            meta = found.metadata
            return Decoded((meta.namespace or "", meta.name), meta.resource_version or "", convert(found))
        except (msgspec.MsgspecError, ValueError) as error:
            meta = decode_metadata(raw)
            raise Undecodable((meta.namespace, meta.name), meta.resource_version, str(error)) from None

    return decoded
