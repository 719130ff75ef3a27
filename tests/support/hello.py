"""A servant behind the registry: Test.HelloServer.HelloObj, which says where it is."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from jce import Int32
from tars_protocol.aio.server import Server
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Call, Dispatcher, Servant
from tars_protocol.interface import Interface, Out, function

SERVANT = "Test.HelloServer.HelloObj"
HELLO = Interface("Hello", function("testHello", Int32, sReq=str, sRsp=Out(str)))


@contextlib.asynccontextmanager
async def saying_hello(*hosts: str) -> AsyncIterator[int]:
    """Serve the object on each of these loopback addresses; the port, which is the same on all."""
    servers: list[Server] = []
    port = 0
    try:
        for host in hosts:
            server = _server(host)
            server.bind(host, port)
            servers.append(server)
            await server.start()
            port = server.port
        yield port
    finally:
        for server in servers:
            await server.stop()


def _server(host: str) -> Server:
    def answer(call: Call) -> tuple[int, str]:
        return 0, f"{call.arguments[0]} from {host}"

    dispatcher = Dispatcher({SERVANT: Servant(HELLO, {"testHello": answer})})
    return Server(f"hello {host}", lambda caller: Connection(caller, dispatcher.handle))
