"""The service: puts the parts together, starts them, and stops them.

It alone sees the whole configuration; each part is given what it needs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

from registry import __version__, figures, inventory
from registry.admin.clock import ClockWatch
from registry.admin.health import AdminServer
from registry.admin.logs import Logs
from registry.admin.view import View
from registry.alike import Alike
from registry.answers import Answers, SelfAddress
from registry.config import Config, ListenAddress, SourceKind, inside_pod
from registry.heartbeats import Heartbeats, with_cluster, without_cluster
from registry.memory import EVERY, Memory
from registry.model import SourceStatus
from registry.routed import Routed, check_policy, kept_parts, policy_in_cluster
from registry.routing.hosts import Naming
from registry.servants.query import query_servant
from registry.sources.base import SourceError
from registry.sources.directory import DirectorySource
from registry.sources.kubernetes import KubernetesSource, followed
from registry.sources.snapshot_keeper import SnapshotKeeper
from registry.sources.supervise import supervise
from registry.table import DIRECTORY_PARTS, Part, TableStore
from tars_protocol.aio.listen import ListenError, bind
from tars_protocol.aio.server import Server
from tars_protocol.connection import Connection
from tars_protocol.dispatch import Dispatcher
from tars_protocol.handlers import Caller, Handler, Lookup, Near, unknown
from tars_protocol.interfaces import query as query_interface

log = logging.getLogger(__name__)


_LAST_SECONDS: Final = 2.0
"""Of drain_timeout, what is kept for the time after the last connection: to write the snapshot, to close the rest."""


class StartError(Exception):
    """Why the service can't start, and what to do about it."""


class Source(Protocol):
    """Something that fills the table for as long as it runs."""

    @property
    def statuses(self) -> list[SourceStatus]:
        """How each of its parts is."""

    async def run(self) -> None:
        """Follow for ever."""


async def build(config: Config, logs: Logs | None = None) -> App:
    """The service for a configuration. Raises StartError where that can't be served."""
    try:
        check_policy(config, in_cluster=config.service.chosen_source is SourceKind.KUBERNETES)
    except SourceError as error:
        raise StartError(str(error)) from None
    if config.service.chosen_source is SourceKind.KUBERNETES:
        return await _from_kubernetes(config, logs)
    if config.service.manifests is None:
        raise StartError("no directory to read; name one with --manifests DIR")
    store = TableStore(DIRECTORY_PARTS)
    source = DirectorySource(config.service.manifests, store, config.directory)
    try:
        source.check()
    except SourceError as error:
        raise StartError(str(error)) from None
    return App(config, store, source, DIRECTORY_PARTS, logs)


async def _from_kubernetes(config: Config, logs: Logs | None) -> App:
    # It takes 40 MiB and 0.4 s, which only this source needs.
    from registry.kube.client import ClusterConfigError, Credentials, KubeClient

    settings = config.kubernetes
    in_cluster = inside_pod() and settings.kubeconfig is None
    client = KubeClient(Credentials(in_cluster, settings.kubeconfig, settings.context or None))
    try:
        await client.start()
    except ClusterConfigError as error:
        raise StartError(f"{error}; name another with --kubeconfig and --context, or use --source directory") from None
    names = [name.strip() for name in settings.namespace.split(",") if name.strip()] or [client.namespace]
    what = followed(settings.discover, dict.fromkeys(names)) + policy_in_cluster(config, names[0])
    store = TableStore(part.part for part in what)
    source = KubernetesSource(client, store, what, config.reflector)
    log.info("following %s of %s in %s", settings.discover, client.server, ", ".join(names))
    try:
        parts = [part.part for part in what]
        heartbeats = with_cluster(config, store, client, client.namespace, list(dict.fromkeys(names)))
        return App(
            config, store, source, parts, logs, close=client.close, new_credentials=client.reload, heartbeats=heartbeats
        )
    except StartError:
        await client.close()
        raise


class App:
    """One registry: :meth:`start` it, :meth:`stop` it. Made by :func:`build`."""

    def __init__(
        self,
        config: Config,
        store: TableStore,
        source: Source,
        parts: Iterable[Part],
        logs: Logs | None = None,
        *,
        close: Callable[[], Awaitable[None]] | None = None,
        new_credentials: Callable[[], Awaitable[None]] | None = None,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        """``close`` is called at the end, ``new_credentials`` to have credentials read again.

        Without ``heartbeats``, states are held in memory.

        Raises StartError where an address can't be listened on.
        """
        service, limits = config.service, config.server
        self.config = config
        """As it is now: see ``change``."""
        self._logs = logs
        self._close = close
        self._new_credentials = new_credentials
        self._clock = ClockWatch()
        self.memory = Memory()
        self.store = store
        self._source = source
        parts = [*parts, *kept_parts(config, in_cluster=isinstance(source, KubernetesSource))]
        path = config.snapshot.snapshot_path
        self._snapshot = SnapshotKeeper(store, parts, path, config.snapshot.snapshot_interval) if path else None
        self.query = Server("query", self._connect_query, limits)
        self.registry = Server("registry", self._connect_registry, limits)
        self._admin_sockets: dict[str, list[socket.socket]] = {}
        # The ports are part of an answer, so they are taken before there are any.
        self._bind()
        own = SelfAddress(service.chosen_self_host, self.query.port, self.registry.port)
        naming = Naming(service.endpoint_host, service.cluster_domain)
        self.answers = Answers(
            store, naming=naming, self_address=own, limits=config.cache, caller_group=config.routing.caller_group
        )
        self._routed = Routed(config, store, self.answers, naming, source, lambda: self.query.connections)
        queries = {query_interface.SERVANT: query_servant(self.answers)}
        self._query = Dispatcher(queries, max_values=limits.max_values, load=self.query.load)
        self._alike = Alike(self.answers, self._query)
        self._heartbeats = heartbeats or without_cluster(config, store)
        self._registry = Dispatcher(self._heartbeats.servants, max_values=limits.max_values, load=self.registry.load)
        self.synced = asyncio.Event()
        self._stopping = False
        self._crashes = 0
        self._crashed: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._admin: AdminServer | None = None

    async def start(self) -> None:
        """Let callers in, and begin to follow the source."""
        self.store.subscribe(lambda _: self._note_synced())
        if self._snapshot:
            self._snapshot.restore()
            self._keep_going("the snapshot", self._snapshot.run)
        self._keep_going("the source", self._source.run)
        for name, run in (*self._routed.tasks.items(), *self._heartbeats.tasks.items()):
            self._keep_going(name, run)
        self._keep_going("the look at the clock", self._clock.run)
        self._keep_going("the look at the memory", self._keep_small)
        self._admin = AdminServer(self._view(), self.config.admin)
        for option, sockets in self._admin_sockets.items():
            await self._admin.start(sockets, inside=option == "--admin-listen")
        await self.query.start()
        await self.registry.start()
        service = self.config.service
        log.info("tars-registry %s, source %s", __version__, service.chosen_source)
        log.info("queries: %s", ListenAddress(service.query_listen.host, self.query.port))
        log.info("tarsnodes: %s", ListenAddress(service.registry_listen.host, self.registry.port))
        for option, sockets in self._admin_sockets.items():
            host, port = sockets[0].getsockname()[:2]
            log.info("health and metrics (%s): http://%s/", option, ListenAddress(host, port))

    async def stop(self, delay: float = 0.0, hurry: asyncio.Event | None = None) -> bool:
        """Not ready from now on; after ``delay`` stop listening, answer what is in flight, ask clients to connect
        elsewhere, write the states that are queued, close everything. With a ``hurry``, as soon as that is set, all
        without waiting for anybody.

        False where it was not done within drain_timeout: what is left then may hang for ever.
        """
        self._stopping = True
        leaving = asyncio.create_task(self._heartbeats.leave())
        service = self.config.service
        clock = asyncio.get_running_loop().time
        end = clock() + service.drain_timeout
        rest = min(_LAST_SECONDS, service.drain_timeout / 4)
        if delay:
            log.info("not ready any more; connections are still taken for %g s (drain_delay)", delay)
            await _unless(hurry, min(delay, end - rest - clock()))
        grace = max(0.0, end - rest - clock())
        await asyncio.gather(
            *(server.drain(grace, service.reconnect_grace, hurry) for server in (self.query, self.registry))
        )
        if hurry and hurry.is_set():
            leaving.cancel()
        await _told(leaving)
        await _told(self._heartbeats.finish(lambda: _unless(hurry, end - rest - clock())))
        try:
            async with asyncio.timeout_at(max(end, clock() + rest)):
                await self._finish()
        except TimeoutError:
            log.error(
                "not all was closed within drain_timeout (%g s); the rest is left as it is", service.drain_timeout
            )
            return False
        return True

    async def _finish(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._snapshot:
            await self._snapshot.write()
        if self._admin:
            await self._admin.stop()
        if self._close:
            await self._close()

    def change(self, config: Config) -> None:
        """Go on with another configuration, of which only what is reloadable differs."""
        self.config = config
        if self._logs:
            self._logs.change(config.service.log_level, config.log)
        for server in (self.query, self.registry):
            server.change_limits(config.server)
        for dispatcher in (self._query, self._registry):
            dispatcher.max_values = config.server.max_values
        if self._admin:
            self._admin.limits = config.admin

    async def read_credentials(self) -> None:
        """Read those for the cluster again, where there are any."""
        if self._new_credentials:
            await self._new_credentials()

    def example_id(self) -> str | None:
        """The id of some object in the table, for those who want to try."""
        servers = self.store.table.servers
        for key in sorted(servers):
            for server in servers[key]:
                for servant in server.servants:
                    if server.app and server.server and any(pod.active for pod in server.pods):
                        return f"{server.app}.{server.server}.{servant.name}"
        return None

    def _bind(self) -> None:
        """Take every address, or none of them and raise StartError."""
        service = self.config.service
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

    def _connect_query(self, caller: Caller) -> Connection:
        return self._connect(
            caller,
            self.query,
            self._alike.handle,
            self.answers.cache.lookup,
            near=self._alike.answer,
            scope=self.answers.scope(caller),
        )

    def _connect_registry(self, caller: Caller) -> Connection:
        return self._connect(caller, self.registry, self._registry.handle)

    def _connect(
        self,
        caller: Caller,
        server: Server,
        handle: Handler,
        lookup: Lookup = unknown,
        near: Near | None = None,
        scope: bytes = b"",
    ) -> Connection:
        limits = self.config.server
        return Connection(
            caller,
            handle,
            lookup,
            near,
            scope=scope,
            max_frame_bytes=limits.max_frame_bytes,
            max_unsent_bytes=limits.max_unsent_bytes,
            max_outstanding=limits.max_outstanding,
            turns=server.turns,
            load=server.load,
        )

    async def _keep_small(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            self.memory.look_for_garbage()
            await asyncio.to_thread(self.memory.give_back)

    def _keep_going(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part that should never end; where it does, that is told and it is started again."""

        def crashed(reason: str) -> None:
            self._crashes += 1
            self._crashed[name] = reason

        def started() -> None:
            self._crashed.pop(name, None)

        going = supervise(name, run, crashed, started)
        self._tasks.append(asyncio.create_task(going, name=name))

    def _note_synced(self) -> None:
        if self.store.table.synced and not self.synced.is_set():
            if not self.store.waiting_for:  # else it was restored, which was logged
                size = self.store.size()
                log.info("synchronised: %d servers, %d of %d pods active", size.servers, size.active_pods, size.pods)
            self.synced.set()

    # -- what operators see --------------------------------------------------------------------------------------

    def not_ready(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        reasons = ["stopping"] if self._stopping else []
        statuses = self._source.statuses
        if not self.store.table.synced:
            reasons.append(f"not synchronised yet: waiting for {', '.join(self.store.waiting_for)}")
            reasons += [f"{problem}" for status in statuses for problem in status.problems if not status.synced]
        reasons += [f"{name} crashed ({reason}); it is started again" for name, reason in self._crashed.items()]
        reasons += [f"{status.name} crashed; it is started again" for status in statuses if status.state == "crashed"]
        longest = self.config.kubernetes.stale_after
        if longest and self.staleness() > longest:
            reasons.append(f"the table was last known to be current {self.staleness():.0f} s ago (stale_after)")
        return reasons

    def staleness(self) -> float:
        """Seconds since all of the table was last known to be current; endless where it never was."""
        now = time.monotonic()
        ages = [_age(status, now) for status in self._source.statuses if not status.aside]
        if None in ages:
            restored = self._snapshot.age if self._snapshot and self.store.table.synced else None
            return float("inf") if restored is None else restored
        return max((age for age in ages if age is not None), default=0.0)

    def _view(self) -> View:
        return View(
            version=__version__,
            event_loop=type(asyncio.get_running_loop()).__module__.split(".")[0],
            table=lambda: self.store.table,
            table_size=self.store.size,
            sources=lambda: [*self._source.statuses, *self._routed.statuses],
            requests=lambda: figures.requests(
                self.answers, self._query, self._registry, (self.query, self.registry), self._crashes
            ),
            cache=lambda: figures.cache(self.answers),
            listeners=lambda: figures.listeners((self.query, self.registry), self._admin),
            not_ready=self.not_ready,
            staleness=self.staleness,
            explain=self._routed.explain,
            objects=lambda parameters: inventory.page(self.store.table, parameters),
            snapshot=lambda: (self._snapshot.written, self._snapshot.errors) if self._snapshot else None,
            log_lines_left_out=lambda: self._logs.left_out if self._logs else 0,
            log_lines_lost=lambda: self._logs.lost if self._logs else 0,
            clock_jumps=lambda: self._clock.jumps,
            reports=self._heartbeats.shown,
            states=self._heartbeats.states,
        )


async def _told(telling: Awaitable[None]) -> None:
    """Wait until the cluster was told something; a bug in that holds up nothing else."""
    (left,) = await asyncio.gather(telling, return_exceptions=True)
    if isinstance(left, Exception):
        log.error("the cluster could not be told that this registry stops", exc_info=left)


async def _unless(hurry: asyncio.Event | None, seconds: float) -> None:
    """Wait so long, or until there is a hurry."""
    if hurry is None:
        await asyncio.sleep(seconds)
        return
    try:
        await asyncio.wait_for(hurry.wait(), max(0.0, seconds))
    except TimeoutError:
        pass


def _age(status: SourceStatus, now: float) -> float | None:
    """Seconds since a part was last known to be current; None where it never was."""
    return None if status.last_success is None else max(0.0, now - status.last_success)
