"""The HTTP pages: /healthz, /readyz, /metrics."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from aiohttp import web

from registry.admin.metrics import Metrics
from registry.admin.view import View

_INDEX = """tars-registry {version}
/healthz   200 while the process runs
/readyz    200 when it can answer; else 503 and why not
/metrics   for Prometheus
"""


class AdminServer:
    """Serves the pages on sockets that are bound already."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._metrics = Metrics(view)
        self._runners: list[web.AppRunner] = []

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on these sockets."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_page),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        for bound in sockets:
            await web.SockSite(runner, bound).start()

    async def stop(self) -> None:
        """Stop serving."""
        for runner in self._runners:
            await runner.cleanup()

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text=_INDEX.format(version=self._view.version))

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = self._view.not_ready()
        if not reasons:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="".join(f"not ready: {reason}\n" for reason in reasons))

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
