"""The HTTP pages: /healthz, /readyz, /metrics, /states; and, where the inside may be seen, /explain and /objects."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import cast

import msgspec
from aiohttp import web

from registry.admin.logs import one_line
from registry.admin.metrics import Metrics
from registry.admin.view import View
from tars_protocol.aio.accept import Acceptor
from tars_protocol.aio.limits import ServerStats
from tars_protocol.settings import setting

log = logging.getLogger(__name__)

_INDEX = """tars-registry {version}
/healthz   200 while the process runs
/readyz    200 when it can answer; else 503 and why not
/metrics   for Prometheus
/states    what tarsnodes reported, where no cluster keeps it
"""
_INSIDE = """/explain   ?id=App.Server.Obj with set, station, from (an address), function: what a caller gets
           and why not the other endpoints
/objects   the ids of all objects, a page at a time: ?after=ID&limit=N, and the last page has next null
"""


@dataclass(frozen=True, slots=True)
class AdminLimits:
    """What the pages may use up."""

    admin_max_connections: int = setting(
        64,
        "Connections to the pages at once; one more is closed at once. Probes and scrapers need a few, and each takes "
        "a file descriptor.",
        minimum=1,
        reloadable=True,
    )
    admin_timeout: float = setting(
        10.0,
        "For a connection to the pages as a whole, which serves one request: kubelet's probes wait 1 s, Prometheus "
        "10 s by default.",
        unit="seconds",
        minimum=1,
        reloadable=True,
    )


class AdminServer:
    """Serves the pages on sockets that are bound already."""

    def __init__(self, view: View, limits: AdminLimits | None = None) -> None:
        self.limits = limits or AdminLimits()
        self.stats = ServerStats()
        self._view = view
        self._metrics = Metrics(view)
        self._acceptors: list[Acceptor] = []
        self._open = 0
        self._runners: dict[bool, web.AppRunner] = {}
        """By whether the inside is shown."""

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return self._open

    async def start(self, sockets: Sequence[socket.socket], *, inside: bool = False) -> None:
        """Serve on these sockets; with ``inside`` also what health and metrics do not tell."""
        if inside not in self._runners:
            self._runners[inside] = await self._serving(inside)
        acceptor = Acceptor("admin", partial(self._accepted, inside), self.stats.refused)
        acceptor.start(sockets)
        self._acceptors.append(acceptor)

    async def stop(self) -> None:
        """Stop serving."""
        for acceptor in self._acceptors:
            await acceptor.stop()
        for runner in self._runners.values():
            await runner.cleanup()

    async def _serving(self, inside: bool) -> web.AppRunner:
        app = web.Application(middlewares=[_one_request])
        if inside:
            app.add_routes(
                [
                    web.get("/", self._index_inside),
                    web.get("/explain", partial(_asked, self._view.explain)),
                    web.get("/objects", partial(_asked, self._view.objects)),
                ]
            )
        else:
            app.add_routes([web.get("/", self._index)])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_page),
                web.get("/states", self._states),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        return runner

    def _accepted(self, inside: bool, _: socket.socket, address: tuple[str, int]) -> asyncio.Protocol | None:
        self.stats.accepted += 1
        if self._open >= self.limits.admin_max_connections:
            self.stats.refused["too_many_connections"] += 1
            log.warning(
                "admin: closed a connection of %s at once: there are %d (admin_max_connections)",
                address[0],
                self.limits.admin_max_connections,
                extra={"limit_key": address[0]},
            )
            return None
        runner = self._runners.get(inside)
        make_handler = runner.server if runner is not None else None
        if make_handler is None:  # it is stopping
            return None
        self._open += 1
        return _Page(self, make_handler(), address[0])

    def closed(self) -> None:
        """A connection is gone."""
        self._open -= 1

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text=_INDEX.format(version=self._view.version))

    async def _index_inside(self, _: web.Request) -> web.Response:
        return web.Response(text=_INDEX.format(version=self._view.version) + _INSIDE)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = self._view.not_ready()
        if not reasons:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="".join(f"not ready: {reason}\n" for reason in reasons))

    async def _states(self, _: web.Request) -> web.Response:
        states = self._view.states()
        if states is None:
            return web.Response(text="the states are in the conditions tars.io/active of the pods\n")
        lines = [f"{state.pod} {one_line(state.state)} {_time(state.reported)} {state.caller}\n" for state in states]
        return web.Response(text="".join(lines) or "nothing was reported yet\n")

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


async def _asked(tell: Callable[[Mapping[str, str]], object] | None, request: web.Request) -> web.Response:
    """A page that says something about what its parameters name."""
    if tell is None:
        raise web.HTTPNotFound
    try:
        told = tell(request.query)
    except ValueError as error:
        return web.Response(status=400, text=f"{error}\n")
    return web.Response(body=msgspec.json.encode(told), content_type="application/json")


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@web.middleware
async def _one_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Close after the answer, so that one deadline is enough for a connection."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.force_close()
        raise
    response.force_close()
    return response


class _Page(asyncio.Protocol):
    """One connection: aiohttp's own protocol, which waits for a request for ever, with a deadline."""

    def __init__(self, server: AdminServer, handler: web.RequestHandler, peer: str) -> None:
        self._server = server
        self._handler = handler
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used now."""
        self._transport = cast(asyncio.Transport, transport)
        seconds = self._server.limits.admin_timeout
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._too_slow)
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        self._handler.data_received(data)

    def eof_received(self) -> None:
        """No more will come."""
        self._handler.eof_received()

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, or never came to be."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._handler.connection_lost(exc)
        self._server.closed()

    def _too_slow(self) -> None:
        self._server.stats.refused["timeout"] += 1
        log.info("admin: cut %s: admin_timeout is over", self._peer, extra={"limit_key": self._peer})
        if self._transport is not None:
            self._transport.abort()
