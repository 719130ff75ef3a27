"""ServerF: a server to the tarsnode beside it, on 127.0.0.1:19386. Servant ``tars.tarsnode.ServerObj``.

Source: NodeF.tars.
"""

from __future__ import annotations

from typing import Final

from jce import Int32, UInt32, field, struct
from tars_protocol.interface import Interface, function

SERVANT: Final = "tars.tarsnode.ServerObj"
PORT: Final = 19386


@struct
class ServerInfo:
    """The process that reports; ``adapter`` is the adapter that it reports for, "" for the process as a whole."""

    application: str = field(0)
    serverName: str = field(1)
    pid: Int32 = field(2)
    adapter: str = field(3, default="")


SERVER: Final = Interface(
    "ServerF",
    function("keepAlive", Int32, serverInfo=ServerInfo),
    function("keepActiving", Int32, serverInfo=ServerInfo),
    function("reportVersion", Int32, app=str, serverName=str, version=str),
    function("getLatestKeepAliveTime", UInt32),
)
