"""``tars-registry serve``: run the registry."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry import config
from registry.admin import logs
from registry.app import App, StartError, build
from registry.cli.descriptors import fitted
from registry.cli.errors import CommandError
from registry.cli.reload import compare
from registry.config import Config, EventLoop, ListenAddress, SourceKind

log = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    """Add the command and an option for every setting."""
    command = commands.add_parser(
        "serve",
        help="run the registry",
        description="Run the registry. Every option can also be set in the configuration file and as an environment "
        "variable: --query-listen is query_listen there and TARS_REGISTRY_QUERY_LISTEN here.",
        allow_abbrev=False,
    )
    command.add_argument("--config", metavar="FILE", help="a YAML file with settings (TARS_REGISTRY_CONFIG)")
    groups = {part: command.add_argument_group(title) for part, title in config.TITLES.items()}
    for item in config.settings():
        default = f"{item.shown_default} {item.unit}".strip()
        groups[item.part].add_argument(
            item.option,
            metavar=item.placeholder,
            help=f"{item.meaning} (default: {default})".replace("%", "%%"),
        )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    given = {name: value for name, value in vars(options).items() if isinstance(value, str)}
    file = given.pop("config", None) or os.environ.get(config.ENVIRONMENT_PREFIX + "CONFIG")

    def read() -> Config:
        return config.load(given, os.environ, Path(file) if file else None)

    try:
        loaded = read()
    except config.ConfigError as error:
        raise CommandError(str(error)) from None
    log_set_up = logs.set_up(loaded.service.log_level, loaded.service.log_format, loaded.log)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(loaded.service.event_loop)) as runner:
            closed = runner.run(_serve(loaded, read, log_set_up))
            if not closed:
                # The runner would wait for what hangs, a file system perhaps.
                log_set_up.close()
                os._exit(0)
    finally:
        log_set_up.close()
    return 0


def _loop_factory(choice: EventLoop) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None for asyncio's own."""
    if choice is EventLoop.ASYNCIO:
        return None
    try:
        import uvloop
    except ImportError:
        if choice is EventLoop.UVLOOP:
            raise CommandError("uvloop is not installed; install it, or use --event-loop asyncio") from None
        return None
    return uvloop.new_event_loop


async def _serve(loaded: Config, read: Callable[[], Config], log_set_up: logs.Logs) -> bool:
    """Serve until a signal says otherwise; False where something could not be closed in time."""
    signals = _Signals(asyncio.get_running_loop())
    try:
        app = await build(loaded, log_set_up)
    except StartError as error:
        raise CommandError(str(error)) from None
    try:
        app.change(fitted(loaded))
    except CommandError:
        await app.stop()
        raise
    app.memory.own_process()
    await app.start()
    hint = asyncio.create_task(_tell_how_to_ask(app, loaded))
    reloading = asyncio.create_task(_reload_when_told(app, loaded, read, signals.reload))
    await signals.stop.wait()
    hint.cancel()
    reloading.cancel()
    delay = app.config.service.drain_delay if signals.stopped_by == signal.SIGTERM else 0.0
    log.info("stopping")
    return await app.stop(delay, signals.hurry)


class _Signals:
    """SIGTERM and SIGINT stop the service, a second of them hurries; SIGHUP has the configuration read again.

    SIGINT is of somebody at a terminal: no cluster is to be given time to notice.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = asyncio.Event()
        self.stopped_by = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def _stop(self, number: int) -> None:
        if self.stop.is_set():
            log.info("told again to stop: waiting for nobody")
            self.hurry.set()
            return
        self.stopped_by = number
        self.stop.set()


async def _reload_when_told(app: App, loaded: Config, read: Callable[[], Config], told: asyncio.Event) -> None:
    while True:
        await told.wait()
        told.clear()
        try:
            wanted = read()
            changes = compare(loaded, wanted)
            fitting = fitted(changes.config)
        except (config.ConfigError, CommandError) as error:
            log.error("told to read the configuration again, which can't be used; all stays as it is: %s", error)
            continue
        try:
            app.change(fitting)
            await app.read_credentials()
        except Exception:
            log.exception("the configuration was read again, but not all of it could be changed")
            continue
        loaded = changes.config
        log.info("read the configuration again; changed: %s", "; ".join(changes.applied) or "nothing")
        if changes.later:
            log.warning("changed in the configuration, but only from the next start on: %s", "; ".join(changes.later))


async def _tell_how_to_ask(app: App, loaded: Config) -> None:
    """On somebody's own machine: what to type next."""
    if loaded.service.chosen_source is not SourceKind.DIRECTORY:
        return
    await app.synced.wait()
    example = app.example_id()
    if example:
        near = ListenAddress(loaded.service.query_listen.host or "127.0.0.1", app.query.port)
        where = "" if str(near) in ("127.0.0.1:17890", "0.0.0.0:17890") else f" --registry {near}"
        log.info("ask it with: %s resolve %s%s", _program(), example, where)


def _program() -> str:
    """This program as one would type it from here."""
    name = Path(sys.argv[0]).name
    found = shutil.which(name)
    if found and os.path.realpath(found) == os.path.realpath(sys.argv[0]):
        return name
    near = os.path.relpath(sys.argv[0])
    return sys.argv[0] if near.startswith("..") else near
