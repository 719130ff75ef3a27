"""Numbers of the TARS protocol, from the public RequestF.tars and the C++ runtime."""

from __future__ import annotations

import enum
from typing import Final


class Version(enum.IntEnum):
    """``iVersion``: how the body of a call is encoded. 2 (older TUP) and 4 (XML) exist and are not served."""

    TARS = 1
    TUP = 3
    JSON = 5


class PacketType(enum.IntEnum):
    """``cPacketType``."""

    NORMAL = 0
    ONE_WAY = 1
    """No response is sent, not even for an error."""


class ReturnCode(enum.IntEnum):
    """``iRet`` of a response. A C++ client takes anything below -99 for a broken connection."""

    SUCCESS = 0
    SERVER_DECODE = -1
    SERVER_ENCODE = -2
    NO_FUNCTION = -3
    NO_SERVANT = -4
    RESET_GRID = -5
    QUEUE_TIMEOUT = -6
    CALL_TIMEOUT = -7
    PROXY_CONNECT = -8
    OVERLOAD = -9
    ADAPTER_NULL = -10
    INVALID_SET = -11
    CLIENT_DECODE = -12
    SEND_FAILED = -13
    UNKNOWN = -99


class MessageType(enum.IntFlag):
    """``iMessageType``: flags that were seen on the wire. A response repeats those of its request."""

    NONE = 0
    HASH = 0x01
    GRID = 0x02
    DYED = 0x04
    SAMPLE = 0x08
    ASYNC = 0x10
    SET_NAME = 0x80
    TRACE = 0x100


PING: Final = "tars_ping"
"""The function that every servant has: answers 0 with an empty body."""

RECONNECT: Final = "_reconnect_"
"""``sResultDesc`` of a response with request id 0: the server is about to close; connect again (TarsGo)."""

STATUS_RESULT_CODE: Final = "STATUS_RESULT_CODE"
"""Key in the status of a TUP answer: the return code, where it is not 0."""

STATUS_RESULT_DESC: Final = "STATUS_RESULT_DESC"
"""Key in the status of a TUP answer: the text for that code."""
