"""AdminF: a tarsnode or an operator to a server, on the server's administration port. Servant ``AdminObj``.

Source: AdminF.tars.
"""

from __future__ import annotations

from typing import Final

from jce import Int64
from tars_protocol.interface import Interface, function

ADMIN: Final = Interface(
    "AdminF",
    function("shutdown", None),
    function("notify", str, command=str),
    function("getPid", Int64),
)
