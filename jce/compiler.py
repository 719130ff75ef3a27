"""Compile a schema to straight-line functions: one statement a field, no look-ups of types while bytes are read.

The source of each compiled function is put into :mod:`linecache`, so that tracebacks and debuggers show it.
"""

from __future__ import annotations

import itertools
import linecache
import struct as _struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Generic, TypeVar

from jce import schema, wire, writer
from jce.errors import DecodeError, EncodeError
from jce.reader import Reader
from jce.schema import Field, Map, Scalar, Struct, Type, Vector

T = TypeVar("T")

_READ = {
    schema.INT8: "r.int8()",
    schema.INT16: "r.int16()",
    schema.INT32: "r.int32()",
    schema.INT64: "r.int64()",
    schema.UINT8: "r.uint8()",
    schema.UINT16: "r.uint16()",
    schema.UINT32: "r.uint32()",
    schema.BOOL: "r.boolean()",
    schema.FLOAT: "r.float32()",
    schema.DOUBLE: "r.float64()",
    schema.STRING: "r.string()",
    schema.BYTES: "r.octets({nesting})",
}

_WRITE = {
    schema.BOOL: "put_int(out, {heads}, 1 if {value} else 0)",
    schema.FLOAT: "put_float32(out, {heads}, {value})",
    schema.DOUBLE: "put_float64(out, {heads}, {value})",
    schema.STRING: "put_string(out, {heads}, {value})",
    schema.BYTES: "put_octets(out, {heads}, {value})",
}

_UNFIT = (TypeError, AttributeError, ValueError, ArithmeticError, _struct.error)
"""What a value of the wrong Python type makes the compiled code raise."""

_serial = itertools.count(1)


class Codec(Generic[T]):
    """Encode and decode for one list of fields: the members of a struct, or the parameters of a function.

    ``decode`` reads a whole buffer; ``encode`` gives the bytes of the fields without struct marks around them.
    """

    def __init__(
        self,
        name: str,
        fields: Sequence[Field],
        read: Callable[[Reader, int], T],
        write: Callable[[bytearray, T], None],
    ) -> None:
        self.name = name
        self.fields = tuple(fields)
        self.read = read
        """The fields at the reader's cursor inside ``nesting`` containers; stops before a struct's end mark."""
        self.write = write
        """Append the fields of a value."""

    def decode(self, data: bytes | Reader) -> T:
        """The value of these fields in a buffer, all of which must be well-formed. Raises DecodeError.

        Give a :class:`Reader` at its start instead of bytes to bound, or to share, the number of values.
        """
        reader = data if isinstance(data, Reader) else Reader(data)
        value = self.read(reader, 0)
        reader.end_buffer()
        return value

    def encode(self, value: T) -> bytes:
        """The bytes of a value. Raises EncodeError."""
        out = bytearray()
        self.write(out, value)
        return bytes(out)


_codecs: dict[type[Any], Codec[Any]] = {}


def codec(cls: type[T]) -> Codec[T]:
    """The codec of a struct; made at first use and kept."""
    made = _codecs.get(cls)
    if made is None:
        made = _codecs[cls] = _Compilation(cls.__name__, schema.fields(cls), cls).codec()
    return made


def tuple_codec(name: str, fields: Sequence[Field]) -> Codec[tuple[Any, ...]]:
    """A codec for fields that form no struct: values come and go as a tuple in the order given."""
    schema.in_tag_order(fields, name)
    return _Compilation(name, tuple(fields), None).codec()


@cache
def value_codec(kind: Type) -> Codec[tuple[Any, ...]]:
    """A codec for one value with tag 0 (what TUP keeps in its map), as a tuple of one."""
    return tuple_codec(str(kind), (Field(0, "value", kind),))


class _Compilation:
    """The source of one codec's two functions, and the names that it refers to."""

    def __init__(self, name: str, fields: tuple[Field, ...], make: type[Any] | None) -> None:
        self.name = name
        self.fields = fields
        self.make = make
        self.ordered = schema.in_tag_order(fields, name)
        self.names: dict[str, Any] = {
            "DecodeError": DecodeError,
            "EncodeError": EncodeError,
            "UNFIT": _UNFIT,
            "END": writer.STRUCT_END,
            "make": make,
            "out_of_range": _out_of_range,
            "unfit": _unfit,
            **{name: getattr(writer, name) for name in dir(writer) if name.startswith("put_")},
        }
        self.inner: list[str] = []

    def codec(self) -> Codec[Any]:
        source = "\n".join([*self._reader(), "", *self._writer()])
        source = "\n".join([*self.inner, source, ""])
        filename = f"<jce codec {next(_serial)}: {self.name}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), self.names)  # noqa: S102 - source made from checked declarations
        return Codec(self.name, self.fields, self.names["read"], self.names["write"])

    def _bind(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    # -- reading -------------------------------------------------------------------------------------------------

    def _reader(self) -> list[str]:
        lines = ["def read(r, nesting):"]
        if self.ordered:
            lines += ["    at = None", "    try:"]
        for field in self.ordered:
            lines += [
                f"        at = {field.name!r}",
                f"        if r.tag == {field.tag} or r.tag < {field.tag} and r.seek({field.tag}, nesting):",
                f"            v{self.fields.index(field)} = {self._read(field.type)}",
                "        else:",
            ]
            if field.required:
                lines.append("            raise r.missing()")
            else:
                default = self._bind("default", field.default)
                copy = ".copy()" if isinstance(field.default, dict) else ""
                lines.append(f"            v{self.fields.index(field)} = {default}{copy}")
        if self.ordered:
            lines += ["    except DecodeError as error:", "        error.within(at)", "        raise"]
        values = [f"v{index}" for index in range(len(self.fields))]
        if self.make is None:
            lines.append(f"    return ({''.join(value + ', ' for value in values)})")
        else:
            pairs = (f"{field.name}={value}" for field, value in zip(self.fields, values, strict=True))
            lines.append(f"    return make({', '.join(pairs)})")
        return lines

    def _read(self, kind: Type, nesting: str = "nesting") -> str:
        """An expression that reads one value whose head is held."""
        match kind:
            case Scalar():
                return _READ[kind].format(nesting=nesting)
            case Struct(cls):
                return f"{self._read_struct(cls)}(r, {nesting})"
            case Vector(element):
                return f"{self._read_vector(element)}(r, {nesting})"
            case Map(key, value):
                return f"{self._read_map(key, value)}(r, {nesting})"
        raise AssertionError(kind)

    def _read_struct(self, cls: type[Any]) -> str:
        fields = self._bind("fields", codec(cls).read)
        name = self._bind("struct", None)
        self.inner += [
            f"def {name}(r, nesting):",
            "    r.begin_struct(nesting)",
            f"    value = {fields}(r, nesting + 1)",
            "    r.end_struct(nesting + 1)",
            "    return value",
            "",
        ]
        return name

    def _read_vector(self, element: Type) -> str:
        name = self._bind("vector", None)
        read = self._read(element, "nesting + 1")
        self.inner += [
            f"def {name}(r, nesting):",
            "    out = []",
            "    count = r.begin_list(nesting)",
            "    try:",
            "        while len(out) < count:",
            "            if r.tag:",
            "                r.item(0)",
            f"            out.append({read})",
            "    except DecodeError as error:",
            "        error.within(len(out))",
            "        raise",
            "    return tuple(out)",
            "",
        ]
        return name

    def _read_map(self, key: Type, value: Type) -> str:
        name = self._bind("map", None)
        read_key = self._read(key, "nesting + 1")
        read_value = self._read(value, "nesting + 1")
        self.inner += [
            f"def {name}(r, nesting):",
            "    out = {}",
            "    count = r.begin_map(nesting)",
            f"    index = {'r.texts(count, out)' if key == value == schema.STRING else 0}",
            "    try:",
            "        while index < count:",
            "            if r.tag:",
            "                r.item(0)",
            f"            key = {read_key}",
            "            if r.tag != 1:",
            "                r.item(1)",
            f"            value = {read_value}",
            "            out.setdefault(key, value)",
            "            index += 1",
            "    except DecodeError as error:",
            "        error.within(index)",
            "        raise",
            "    return out",
            "",
        ]
        return name

    # -- writing -------------------------------------------------------------------------------------------------

    def _writer(self) -> list[str]:
        values = "".join(f"v{index}, " for index in range(len(self.fields)))
        lines = ["def write(out, value):"]
        if not self.ordered:
            return [*lines, "    pass"]
        lines += ["    at = None", "    try:"]
        if self.make is None:
            lines.append(f"        {values} = value")
        for field in self.ordered:
            source = f"v{self.fields.index(field)}" if self.make is None else f"value.{field.name}"
            lines += [f"        at = {field.name!r}", f"        v = {source}"]
            write = self._write(field.type, "v", field.tag)
            if not field.required:
                lines.append(f"        if v != {self._bind('default', field.default)}:")
                write = ["    " + line for line in write]
            lines += ["        " + line for line in write]
        return [
            *lines,
            "    except EncodeError as error:",
            "        error.within(at)",
            "        raise",
            "    except UNFIT as error:",
            "        raise unfit(error, at) from error",
        ]

    def _write(self, kind: Type, value: str, tag: int) -> list[str]:
        """Statements that append one value."""
        heads = writer.heads(tag)
        match kind:
            case Scalar() if kind in schema.INTEGERS:
                return [
                    f"if not {kind.minimum} <= {value} <= {kind.maximum}:",
                    f"    raise out_of_range({value}, {kind.name!r})",
                    f"put_int(out, {self._bind('heads', heads)}, {value})",
                ]
            case Scalar():
                return [_WRITE[kind].format(heads=self._bind("heads", heads), value=value)]
            case Struct(cls):
                return [
                    f"out += {heads[wire.STRUCT_BEGIN]!r}",
                    f"{self._bind('fields', codec(cls).write)}(out, {value})",
                    "out += END",
                ]
            case Vector(element):
                return [f"{self._write_vector(element, heads[wire.LIST])}(out, {value})"]
            case Map(key, item):
                return [f"{self._write_map(key, item, heads[wire.MAP])}(out, {value})"]
        raise AssertionError(kind)

    def _write_vector(self, element: Type, head: bytes) -> str:
        name = self._bind("vector", None)
        self.inner += [
            f"def {name}(out, items):",
            f"    put_count(out, {head!r}, len(items))",
            "    index = 0",
            "    try:",
            "        for index, item in enumerate(items):",
            *("            " + line for line in self._write(element, "item", 0)),
            *_INDEXED_ERRORS,
        ]
        return name

    def _write_map(self, key: Type, value: Type, head: bytes) -> str:
        name = self._bind("map", None)
        self.inner += [
            f"def {name}(out, items):",
            f"    put_count(out, {head!r}, len(items))",
            "    index = 0",
            "    try:",
            "        for index, (key, item) in enumerate(items.items()):",
            *("            " + line for line in self._write(key, "key", 0)),
            *("            " + line for line in self._write(value, "item", 1)),
            *_INDEXED_ERRORS,
        ]
        return name


_INDEXED_ERRORS = [
    "    except EncodeError as error:",
    "        error.within(index)",
    "        raise",
    "    except UNFIT as error:",
    "        raise unfit(error, index) from error",
    "",
]


def _out_of_range(value: object, declared: str) -> EncodeError:
    return EncodeError(f"{value!r} does not fit {declared}")


def _unfit(cause: Exception, step: str | int | None) -> EncodeError:
    error = EncodeError(str(cause))
    if step is not None:
        error.within(step)
    return error
