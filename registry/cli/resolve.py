"""``tars-registry resolve``: ask a registry where an object is, over the wire."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from jce import EncodeError
from jce.schema import fields
from registry.admin.logs import one_line
from registry.cli.errors import CommandError
from registry.config import ListenAddress
from registry.routing.select import Lookup, parse_id
from tars_protocol.aio.client import Client, ClientSettings
from tars_protocol.constants import Version
from tars_protocol.errors import CallError
from tars_protocol.interfaces.query import PORT, QUERY, SERVANT, EndpointF

_NETWORKS = {0: "udp", 1: "tcp", 2: "ssl"}
_LONGEST_TIMEOUT = 1_000_000
"""Seconds; a request has room for 32 bits of milliseconds."""


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "resolve",
        help="ask a registry where an object is",
        description="Ask a registry over the wire where an object is. Exit status 0: it has active endpoints; 1: it "
        "has none; 2: an error.",
        allow_abbrev=False,
    )
    command.add_argument("id", metavar="ID", help="the object, as in App.Server.Obj")
    command.add_argument(
        "--registry",
        metavar="HOST:PORT",
        default=f"127.0.0.1:{PORT}",
        help="the registry to ask (default: %(default)s)",
    )
    command.add_argument(
        "--function",
        choices=[str(lookup) for lookup in Lookup],
        metavar="NAME",
        help="which look-up: " + ", ".join(Lookup) + " (default: findObjectByIdInSameGroup, as clients do; "
        "findObjectByIdInSameSet with --set, findObjectByIdInSameStation with --station)",
    )
    command.add_argument("--set", metavar="NAME.AREA.GROUP", help="the caller's set")
    command.add_argument("--station", metavar="STATION", help="the station to look in")
    command.add_argument(
        "--protocol", choices=[v.name.lower() for v in Version], default="tars", help="encoding (default: tars)"
    )
    command.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="(default: %(default)g)")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask, print, and tell by the exit status whether there is an active endpoint."""
    lookup, arguments = _question(options)
    try:
        address = ListenAddress.parse(options.registry)
    except ValueError as error:
        raise CommandError(f"--registry {options.registry!r}: {error}") from None
    if not 0 < options.timeout <= _LONGEST_TIMEOUT:
        raise CommandError(f"--timeout: expected a number of seconds above 0, {_LONGEST_TIMEOUT:,} at most")
    try:
        results = asyncio.run(_ask(address, lookup, arguments, options))
    except CallError as error:
        raise CommandError(f"{options.registry}: {error}") from None
    except EncodeError as error:
        raise CommandError(f"{options.id!r} can't be asked for: {error}") from None
    ret, active, inactive = (0, results[0], ()) if lookup is Lookup.ACTIVE else results
    if options.json:
        print(_as_json(options.id, lookup, ret, active, inactive))
    else:
        _print(options.id, lookup, ret, active, inactive)
    return 0 if active else 1


def _question(options: argparse.Namespace) -> tuple[Lookup, list[str]]:
    """The look-up that the options ask for, and its arguments."""
    chosen = Lookup(options.function) if options.function else None
    needs = {Lookup.SAME_SET: options.set, Lookup.SAME_STATION: options.station}
    if chosen is None:
        chosen = next((lookup for lookup, value in needs.items() if value is not None), Lookup.SAME_GROUP)
    for lookup, option in ((Lookup.SAME_SET, "--set"), (Lookup.SAME_STATION, "--station")):
        if lookup is chosen and needs[lookup] is None:
            raise CommandError(f"{chosen} needs {option}")
        if lookup is not chosen and needs[lookup] is not None:
            raise CommandError(f"{option} goes with {lookup}, not with {chosen}")
    value = needs.get(chosen)
    return chosen, [options.id] if value is None else [options.id, value]


async def _ask(address: ListenAddress, lookup: Lookup, arguments: list[str], options: argparse.Namespace) -> Any:
    settings = ClientSettings(timeout=options.timeout, first_retry=0)
    version = Version[options.protocol.upper()]
    host = address.host or "127.0.0.1"
    async with Client(host, address.port, SERVANT, QUERY, version=version, settings=settings) as client:
        return await client.call(lookup, *arguments)


def _as_json(
    object_id: str, lookup: Lookup, ret: int, active: tuple[EndpointF, ...], inactive: tuple[EndpointF, ...]
) -> str:
    def plain(endpoint: EndpointF) -> dict[str, Any]:
        return {field.name: getattr(endpoint, field.name) for field in fields(EndpointF)}

    return json.dumps(
        {
            "id": object_id,
            "function": lookup,
            "return": ret,
            "active": [plain(endpoint) for endpoint in active],
            "inactive": [plain(endpoint) for endpoint in inactive],
        },
        indent=2,
    )


def _print(
    object_id: str, lookup: Lookup, ret: int, active: tuple[EndpointF, ...], inactive: tuple[EndpointF, ...]
) -> None:
    rows = [("active", endpoint) for endpoint in active] + [("inactive", endpoint) for endpoint in inactive]
    shown_id = one_line(object_id)
    if ret:
        print(f"{shown_id}: {lookup} returned {ret}")
    if not rows:
        hint = "" if parse_id(object_id) else " (an id is App.Server.Obj)"
        print(f"{shown_id}: no endpoints{hint}")
        return
    width = max(len(one_line(endpoint.host)) for _, endpoint in rows)
    for state, endpoint in rows:
        network = _NETWORKS.get(endpoint.istcp, str(endpoint.istcp))
        line = (
            f"{state:8}  {one_line(endpoint.host):{width}}  {endpoint.port:5}  {network}  timeout {endpoint.timeout} ms"
        )
        line += f"  set {one_line(endpoint.setId)}" if endpoint.setId else ""
        line += f"  weight {endpoint.weight}" if endpoint.weightType else ""
        print(line)
