"""``tars-registry serve``: run the registry."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry import config
from registry.admin import logs
from registry.app import App, StartError, build
from registry.cli.errors import CommandError
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
    try:
        loaded = config.load(given, os.environ, Path(file) if file else None)
    except config.ConfigError as error:
        raise CommandError(str(error)) from None
    limit = logs.set_up(loaded.service.log_level, loaded.service.log_format, loaded.log)
    with asyncio.Runner(loop_factory=_loop_factory(loaded.service.event_loop)) as runner:
        return runner.run(_serve(loaded, limit))


def _raise_descriptor_limit(wanted: int) -> None:
    """Ask the system for as many file descriptors as the connections of both ports may take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        soft = reachable
    if soft != resource.RLIM_INFINITY and soft < wanted:
        log.warning(
            "%d file descriptors at most, fewer than max_connections on two ports may take (%d): raise the hard limit "
            "(ulimit -Hn), or lower --max-connections",
            soft,
            wanted,
        )


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


async def _serve(loaded: Config, limit: logs.RateLimit) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        app = await build(loaded, limit)
    except StartError as error:
        raise CommandError(str(error)) from None
    _raise_descriptor_limit(2 * loaded.server.max_connections)
    # What was imported stays for good; the garbage collector would look through it again and again, 50 ms each time.
    gc.collect()
    gc.freeze()
    await app.start()
    hint = asyncio.create_task(_tell_how_to_ask(app, loaded))
    await stop.wait()
    hint.cancel()
    log.info("stopping")
    await app.stop()
    return 0


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
    near = os.path.relpath(sys.argv[0])
    return sys.argv[0] if near.startswith("..") else near
