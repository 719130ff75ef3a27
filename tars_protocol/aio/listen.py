"""Sockets to listen on: for one address, or for all of them in IPv4 and IPv6."""

from __future__ import annotations

import errno
import socket

from tars_protocol.errors import TarsError

BACKLOG = 1024
"""Connections that wait to be let in."""


class ListenError(TarsError):
    """An address that can't be listened on; the text says why."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to a host and port; "" is every address, IPv4 and IPv6. Raises ListenError."""
    sockets: list[socket.socket] = []
    try:
        candidates = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:  # the latter for a label that is empty or too long
        why = error.strerror if isinstance(error, OSError) else error
        raise ListenError(f"{host!r} is no address of this machine: {why}") from None
    # IPv4 first: where any port will do, it chooses, and IPv6 takes the same.
    candidates.sort(key=lambda info: info[0] != socket.AF_INET)
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(candidates):
        if sockets and not host and port == 0:
            address = (address[0], sockets[0].getsockname()[1], *address[2:])
        try:
            sockets.append(_bound(family, kind, protocol, address, v6only=not host))
        except OSError as error:
            failure = error
            if not host and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT):
                continue  # A machine without IPv6, or without IPv4.
            break
        if host:
            break  # A name may have several addresses; the first that works is what was asked for.
    if not sockets or (failure and failure.errno == errno.EADDRINUSE):
        for opened in sockets:
            opened.close()
        shown = f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"
        if failure and failure.errno == errno.EADDRINUSE:
            raise ListenError(f"{shown} is in use by another program")
        raise ListenError(f"can't listen on {shown}: {failure.strerror if failure else 'no address'}")
    return sockets


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...], *, v6only: bool) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        made.setblocking(False)
        made.bind(address)
        # Only this tells whether another program listens there: with SO_REUSEADDR both may bind.
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
