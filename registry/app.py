"""The service: puts the parts together, starts them, and stops them.

It alone sees the whole configuration; each part is given what it needs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from typing import Final, Protocol

from registry import __version__
from registry.admin.health import AdminServer
from registry.admin.logs import RateLimit
from registry.admin.view import Cache, Listener, Requests, View
from registry.answers import Answers, SelfAddress
from registry.config import Config, ListenAddress, SourceKind
from registry.model import SourceStatus
from registry.routing.hosts import Naming
from registry.servants.query import query_servant
from registry.servants.registry import registry_servants
from registry.sources.base import SourceError
from registry.sources.directory import DirectorySource
from registry.table import TableStore
from tars_protocol.aio.listen import ListenError, bind
from tars_protocol.aio.server import Server
from tars_protocol.connection import Caller, Connection, Lookup, unknown
from tars_protocol.constants import ReturnCode
from tars_protocol.dispatch import Dispatcher
from tars_protocol.interfaces import query as query_interface

log = logging.getLogger(__name__)

_FIRST_RESTART: Final = 1.0
_LONGEST_RESTART: Final = 30.0
"""Seconds before a source that crashed is started again: the first time, and at most."""


class StartError(Exception):
    """Why the service can't start, and what to do about it."""


class Source(Protocol):
    """Something that fills the table for as long as it runs."""

    status: SourceStatus

    async def run(self) -> None:
        """Follow for ever."""


class App:
    """One registry: :meth:`start` it, :meth:`stop` it."""

    def __init__(self, config: Config, log_limit: RateLimit | None = None) -> None:
        """Raises StartError where the configuration can't be served."""
        service, limits = config.service, config.server
        self._config = config
        self._log_limit = log_limit or RateLimit()
        self.store = TableStore()
        self._source = self._make_source()
        self.query = Server("query", self._connect_query, limits)
        self.registry = Server("registry", self._connect_registry, limits)
        self._admin_sockets: dict[str, list[socket.socket]] = {}
        # The ports are part of an answer, so they are taken before there are any.
        self._bind()
        own = SelfAddress(service.chosen_self_host, self.query.port, self.registry.port)
        naming = Naming(service.endpoint_host, service.cluster_domain)
        self.answers = Answers(self.store, naming=naming, self_address=own, limits=config.cache)
        self._query = Dispatcher({query_interface.SERVANT: query_servant(self.answers)}, max_values=limits.max_values)
        self._registry = Dispatcher(registry_servants(), max_values=limits.max_values)
        self.synced = asyncio.Event()
        self._stopping = False
        self._crashes = 0
        self._task: asyncio.Task[None] | None = None
        self._admin: AdminServer | None = None

    async def start(self) -> None:
        """Let callers in, and begin to follow the source."""
        self.store.subscribe(lambda _: self._note_synced())
        self._task = asyncio.create_task(self._follow(), name="source")
        self._admin = AdminServer(self._view())
        for sockets in self._admin_sockets.values():
            await self._admin.start(sockets)
        await self.query.start()
        await self.registry.start()
        service = self._config.service
        log.info("tars-registry %s, source %s", __version__, self._source.status.name)
        log.info("queries: %s", ListenAddress(service.query_listen.host, self.query.port))
        log.info("tarsnodes: %s", ListenAddress(service.registry_listen.host, self.registry.port))
        for option, sockets in self._admin_sockets.items():
            host, port = sockets[0].getsockname()[:2]
            log.info("health and metrics (%s): http://%s/", option, ListenAddress(host, port))

    async def stop(self) -> None:
        """Stop listening, send what is answered, close everything."""
        self._stopping = True
        grace = self._config.service.stop_timeout
        await asyncio.gather(self.query.stop(grace), self.registry.stop(grace))
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._admin:
            await self._admin.stop()

    def example_id(self) -> str | None:
        """The id of some object in the table, for those who want to try."""
        for group in self.store.table.servers.values():
            for server in group:
                for servant in server.servants:
                    if server.app and server.server and any(pod.active for pod in server.pods):
                        return f"{server.app}.{server.server}.{servant.name}"
        return None

    def _bind(self) -> None:
        """Take every address, or none of them and raise StartError."""
        service = self._config.service
        wanted: dict[str, ListenAddress | None] = {
            "--query-listen": service.query_listen,
            "--registry-listen": service.registry_listen,
            "--admin-listen": service.admin_listen,
            "--metrics-listen": service.metrics_listen,
        }
        servers = {"--query-listen": self.query, "--registry-listen": self.registry}
        for option, address in wanted.items():
            if address is None:
                continue
            try:
                if option in servers:
                    servers[option].bind(address.host, address.port)
                else:
                    self._admin_sockets[option] = bind(address.host, address.port)
            except ListenError as error:
                self._unbind()
                raise StartError(
                    f"{error}; choose another address with {option} HOST:PORT, or stop what uses it"
                ) from None

    def _unbind(self) -> None:
        self.query.unbind()
        self.registry.unbind()
        for bound in [each for sockets in self._admin_sockets.values() for each in sockets]:
            bound.close()

    # -- parts ---------------------------------------------------------------------------------------------------

    def _make_source(self) -> Source:
        service = self._config.service
        if service.chosen_source is SourceKind.KUBERNETES:
            raise StartError("the kubernetes source is not in this release; use --source directory --manifests DIR")
        if service.manifests is None:
            raise StartError("no directory to read; name one with --manifests DIR")
        source = DirectorySource(service.manifests, self.store, self._config.directory)
        try:
            source.check()
        except SourceError as error:
            raise StartError(str(error)) from None
        return source

    def _connect_query(self, caller: Caller) -> Connection:
        return self._connect(caller, self._query, self.answers.lookup, self.answers.scope(caller))

    def _connect_registry(self, caller: Caller) -> Connection:
        return self._connect(caller, self._registry, unknown, b"")

    def _connect(self, caller: Caller, dispatcher: Dispatcher, lookup: Lookup, scope: bytes) -> Connection:
        limits = self._config.server
        return Connection(
            caller,
            dispatcher.handle,
            lookup,
            scope=scope,
            max_frame_bytes=limits.max_frame_bytes,
            max_unsent_bytes=limits.max_unsent_bytes,
        )

    async def _follow(self) -> None:
        """Run the source; after a crash, which is a bug, again a little later."""
        pause = _FIRST_RESTART
        while True:
            try:
                await self._source.run()
                raise RuntimeError("the source ended")
            except Exception:
                self._crashes += 1
                self._source.status.state = "crashed"
                self._source.status.count("crash")
                log.exception("the %s source crashed; it starts again in %g s", self._source.status.name, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_RESTART)

    def _note_synced(self) -> None:
        if self.store.table.synced and not self.synced.is_set():
            size = self.store.size()
            log.info("synchronised: %d servers, %d of %d pods active", size.servers, size.active_pods, size.pods)
            self.synced.set()

    # -- what operators see --------------------------------------------------------------------------------------

    def not_ready(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        reasons = ["stopping"] if self._stopping else []
        status = self._source.status
        if not self.store.table.synced:
            waiting = ", ".join(sorted(self.store.waiting_for))
            reasons.append(f"source {status.name}: not synchronised yet; waiting for {waiting}")
        if status.state == "crashed":
            reasons.append(f"source {status.name}: crashed; it is started again, and the log has the trace")
        return reasons

    def _view(self) -> View:
        return View(
            version=__version__,
            event_loop=type(asyncio.get_running_loop()).__module__.split(".")[0],
            table=lambda: self.store.table,
            table_size=self.store.size,
            sources=lambda: [self._source.status],
            requests=self._requests,
            cache=self._cache,
            listeners=lambda: [
                Listener(server.name, server.open_connections, server.stats.accepted, server.stats.refused)
                for server in (self.query, self.registry)
            ],
            not_ready=self.not_ready,
            log_lines_left_out=lambda: self._log_limit.left_out,
        )

    def _requests(self) -> Requests:
        answers: Counter[tuple[str, str, str]] = Counter()
        for (function, result), tally in self.answers.tallies.items():
            answers[query_interface.SERVANT, str(function), result] += tally.count
        for dispatcher in (self._query, self._registry):
            for (servant, function, code), count in dispatcher.stats.answers.items():
                answers[servant, function, _result(code)] += count
        # Only queries can be hits, so only there is a miss a miss.
        seconds = self._query.stats.seconds
        bugs = self._query.stats.bugs + self._registry.stats.bugs + self._crashes
        return Requests(answers, seconds.cumulative(), seconds.total, bugs)

    def _cache(self) -> Cache:
        stats = self.answers.stats
        given = sum(tally.count for tally in self.answers.tallies.values())
        return Cache(
            hits=given - stats.decoded,
            misses=stats.misses,
            computed=stats.computed,
            dropped=stats.dropped,
            entries=self.answers.entries,
            bytes=self.answers.kept_bytes,
        )


def _result(code: int) -> str:
    """A return code as a label."""
    if code == ReturnCode.SUCCESS:
        return "ok"
    return ReturnCode(code).name.lower() if code in set(ReturnCode) else "other_code"
