"""How limits and settings are declared: a dataclass beside the code that they bound, a documented field for each.

Configuration, command line and the reference page are made from these declarations.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: int | None = None,
    reloadable: bool = False,
) -> Any:
    """A field of a settings dataclass.

    ``meaning`` says what it does and why the default is what it is; ``unit`` is shown beside the value; a number below
    ``minimum`` or above ``maximum`` is refused where the configuration is read. A ``reloadable`` one can change while
    the program runs.
    """
    metadata = {
        "meaning": meaning,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "reloadable": reloadable,
    }
    return dataclasses.field(default=default, metadata=metadata)
