"""A question over a socket, from an address of one's choice: what a caller there is answered."""

from __future__ import annotations

import asyncio
from typing import Self

from registry.routing.select import Lookup
from tests.support.tables import Lists, arguments_of, read_lists, request


class CallerAt:
    """A connection from one of this machine's addresses, as an async context manager."""

    def __init__(self, caller: str, port: int, reached: str = "127.0.0.1") -> None:
        self._caller = caller
        self._port = port
        self._reached = reached

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._reached, self._port, local_addr=(self._caller, 0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, lookup: Lookup, object_id: str, argument: str | None = None) -> Lists:
        """The answer to a question, which must be a success."""
        self._writer.write(request(lookup, *arguments_of(lookup, object_id, argument)))
        head = await self._reader.readexactly(4)
        return read_lists(lookup, head + await self._reader.readexactly(int.from_bytes(head, "big") - 4))
