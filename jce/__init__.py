"""JCE, the binary encoding of TARS: structs declared in Python, compiled to encoders and decoders.

No I/O, standard library only (but for :mod:`jce.grammar`, the executable specification, which no other module of this
package imports).
"""

from jce.compiler import Codec, codec, tuple_codec, value_codec
from jce.errors import DecodeError, EncodeError, JceError, Reason, SchemaError
from jce.reader import Reader
from jce.schema import (
    Double,
    Field,
    Float,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    field,
    struct,
)

__all__ = [
    "Codec",
    "DecodeError",
    "Double",
    "EncodeError",
    "Field",
    "Float",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "JceError",
    "Reader",
    "Reason",
    "SchemaError",
    "UInt8",
    "UInt16",
    "UInt32",
    "codec",
    "field",
    "struct",
    "tuple_codec",
    "value_codec",
]
