"""How an interface is declared: its functions with their parameters, once, in the order of the interface file.

    QUERY = Interface("QueryF", function("findObjectById4Any", Int32, id=str, activeEp=Out(ENDPOINTS), ...), ...)

A parameter's tag is its position, counted from 1, input and output alike; the return value has tag 0. All three forms
of a body (:mod:`tars_protocol.bodies`) come from this one declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jce import Field, SchemaError
from jce.schema import Type, type_of
from tars_protocol.errors import InterfaceError


@dataclass(frozen=True, slots=True)
class Out:
    """An output parameter of the annotated type."""

    annotation: Any


@dataclass(frozen=True)
class Function:
    """A function: ``inputs`` and ``outputs`` are its parameters in order, ``returns`` its type, None for void."""

    name: str
    returns: Type | None
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]

    @property
    def results(self) -> tuple[Field, ...]:
        """What an answer carries: the return value, named "", where there is one; then the outputs."""
        return (Field(0, "", self.returns), *self.outputs) if self.returns else self.outputs


def function(name: str, returns: Any, /, **parameters: Any) -> Function:
    """Declare a function by the annotations of its return value (None for void) and parameters (``Out`` for outputs).

    Raises InterfaceError for a type that the wire does not have.
    """
    inputs: list[Field] = []
    outputs: list[Field] = []
    try:
        returned = None if returns is None else type_of(returns, f"{name} returns")
        for position, (parameter, annotation) in enumerate(parameters.items(), start=1):
            is_out = isinstance(annotation, Out)
            kind = type_of(annotation.annotation if is_out else annotation, f"{name}({parameter})")
            (outputs if is_out else inputs).append(Field(position, parameter, kind))
    except SchemaError as error:
        raise InterfaceError(str(error)) from error
    return Function(name, returned, tuple(inputs), tuple(outputs))


class Interface(Mapping[str, Function]):
    """The functions of a servant, by name."""

    def __init__(self, name: str, *functions: Function) -> None:
        self.name = name
        self._functions = {declared.name: declared for declared in functions}
        if len(self._functions) != len(functions):
            raise InterfaceError(f"{name}: a function is declared twice")

    def __getitem__(self, name: str) -> Function:
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return f"<Interface {self.name}>"
