"""File descriptors: as many as the settings need, or the settings made to fit, and that said."""

from __future__ import annotations

import dataclasses
import logging
import resource
from typing import Final

from registry.cli.errors import CommandError
from registry.config import Config

log = logging.getLogger(__name__)

_OWN: Final = 64
"""For all but callers: sockets that are listened on, the API server, files, the event loop, a few in reserve."""

_PORTS: Final = 2
"""Each may have max_connections."""

_HOW: Final = (
    "raise the hard limit (ulimit -Hn in a shell, LimitNOFILE= in a unit, --ulimit nofile= of a container), or lower "
    "--max-connections"
)


def needed(config: Config) -> int:
    """File descriptors that the settings may take."""
    return _PORTS * config.server.max_connections + config.admin.admin_max_connections + _OWN


def fitted(config: Config) -> Config:
    """The configuration, with no more connections than there can be file descriptors for.

    The soft limit is raised as far as the hard one lets. Connections must not take the descriptors that the service
    needs to follow the cluster, so where there are too few, max_connections is lowered, with a warning. Raises
    CommandError where there would be hardly any.
    """
    wanted = needed(config)
    limit = _raised(wanted)
    if limit is None or limit >= wanted:
        return config
    fits = (limit - config.admin.admin_max_connections - _OWN) // _PORTS
    most = config.server.max_connections
    if fits < 1:
        raise CommandError(
            f"there may be {limit} open files, and {wanted} are needed for {most} connections on {_PORTS} ports "
            f"(max_connections), {config.admin.admin_max_connections} for the pages (admin_max_connections) and {_OWN} "
            f"for the rest: {_HOW}"
        )
    log.warning(
        "there may be %d open files, and %d are needed for %d connections on %d ports (max_connections), %d for the "
        "pages (admin_max_connections) and %d for the rest; serving %d connections a port: %s",
        limit,
        wanted,
        most,
        _PORTS,
        config.admin.admin_max_connections,
        _OWN,
        fits,
        _HOW,
    )
    return dataclasses.replace(config, server=dataclasses.replace(config.server, max_connections=fits))


def _raised(wanted: int) -> int | None:
    """The limit of open files, raised to what is wanted where that is allowed; None for no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        return reachable
    return soft
