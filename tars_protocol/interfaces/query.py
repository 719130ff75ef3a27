"""QueryF: where is an object? Servant ``tars.tarsregistry.QueryObj``, port 17890.

Source: QueryF.tars and EndpointF.tars.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jce import Int32, field, struct
from tars_protocol.interface import Interface, Out, function

SERVANT: Final = "tars.tarsregistry.QueryObj"
PORT: Final = 17890


@struct
class EndpointF:
    """One address of an object. ``timeout`` in ms; ``istcp`` 0 udp, 1 tcp, 2 ssl; ``weightType`` 0 loop, 1 static."""

    host: str = field(0)
    port: Int32 = field(1)
    timeout: Int32 = field(2)
    istcp: Int32 = field(3)
    grid: Int32 = field(4)
    groupworkid: Int32 = field(5, default=0)
    grouprealid: Int32 = field(6, default=0)
    setId: str = field(7, default="")
    qos: Int32 = field(8, default=0)
    bakFlag: Int32 = field(9, default=0)
    weight: Int32 = field(11, default=0)
    weightType: Int32 = field(12, default=0)
    authType: Int32 = field(13, default=0)
    nodeName: str = field(14, default="")


@struct
class GetMasterSlaveLock:
    """The argument of getLocker."""

    application: str = field(0, default="")
    server_name: str = field(1, default="")
    node_name: str = field(2, default="")
    isMaster: bool = field(3, default=False)
    lastErr: bool = field(4, default=False)
    timeout: Int32 = field(5, default=0)
    bakType: Int32 = field(6, default=0)


_Endpoints = tuple[EndpointF, ...]
_LISTS: Final = {"activeEp": Out(_Endpoints), "inactiveEp": Out(_Endpoints)}

QUERY: Final = Interface(
    "QueryF",
    function("findObjectById", _Endpoints, id=str),
    function("findObjectById4Any", Int32, id=str, **_LISTS),
    function("findObjectById4All", Int32, id=str, **_LISTS),
    function("findObjectByIdInSameGroup", Int32, id=str, **_LISTS),
    function("findObjectByIdInSameStation", Int32, id=str, sStation=str, **_LISTS),
    function("findObjectByIdInSameSet", Int32, id=str, setId=str, **_LISTS),
    function("findObjectNodeName", Int32, id=str, nodeName=Out(tuple[str, ...])),
    function("registerChange", Int32, timestamp=Mapping[str, str], name=str),
    function("registerQuery", Int32, id=str, name=str),
    function("getLocker", Int32, req=GetMasterSlaveLock),
)
