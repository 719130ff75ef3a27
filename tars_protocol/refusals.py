"""What a server says without having looked at a call: that there is too much to do, or that it is about to go."""

from __future__ import annotations

from typing import Final

from tars_protocol.bodies import FORMS
from tars_protocol.constants import RECONNECT, PacketType, ReturnCode, Version
from tars_protocol.frames import HEADER_BYTES
from tars_protocol.packets import identify, reply

RECONNECT_FRAME: Final = reply(Version.TARS, 0, b"", description=RECONNECT).frame(0)
"""Pushed unasked before a connection is closed. TarsGo connects anew for its next call and loses none; to a C++ client
a response with id 0 is an error that closes the connection, which is to be closed anyhow. Both speak TARS."""


def speaks(frame: bytes) -> int | None:
    """The version of a request; None where its head can't be read."""
    identity = identify(frame[HEADER_BYTES:])
    return identity.version if identity else None


def overloaded(frame: bytes, why: str) -> bytes | None:
    """-9 for a request that is not decoded: nothing of it is read but its head.

    Empty where the caller wants no answer; None where the request id can't be read.
    """
    identity = identify(frame[HEADER_BYTES:])
    if identity is None:
        return None
    if identity.packet_type == PacketType.ONE_WAY:
        return b""
    form = FORMS.get(identity.version)
    made = reply(
        identity.version,
        identity.message_type,
        form.empty if form else b"",
        code=ReturnCode.OVERLOAD,
        description=why,
    )
    return made.frame(identity.request_id)
