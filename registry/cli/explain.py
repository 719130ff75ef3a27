"""``tars-registry explain``: ask a running registry why a caller gets the endpoints that it gets."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from registry.admin.logs import one_line
from registry.cli.errors import CommandError
from registry.cli.pages import Pages
from registry.routing.select import Lookup

_ADMIN: Final = "127.0.0.1:17892"

_FIELDS: Final = frozenset(("id", "function", "argument", "caller", "steps", "ret", "active", "inactive", "left_out"))
"""What an explanation has, at least."""


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    command = commands.add_parser(
        "explain",
        help="tell why a caller gets which endpoints",
        description="Ask the admin port of a running registry which endpoints a caller would get and, for each other "
        "one, which rule took it out. Exit status 0: there are active endpoints; 1: there are none; 2: an error.",
        allow_abbrev=False,
    )
    command.add_argument("id", metavar="ID", help="the object, as in App.Server.Obj")
    command.add_argument("--set", metavar="NAME.AREA.GROUP", help="the caller's set: asks findObjectByIdInSameSet")
    command.add_argument("--station", metavar="STATION", help="asks findObjectByIdInSameStation")
    command.add_argument(
        "--from",
        dest="address",
        metavar="IP",
        help="the caller's address, or with caller_group node_name its node name, which tells its group (default: no "
        "group)",
    )
    command.add_argument(
        "--function",
        choices=[str(lookup) for lookup in Lookup],
        metavar="NAME",
        help="which look-up (default: findObjectByIdInSameGroup, as clients do; with --set or --station theirs)",
    )
    command.add_argument(
        "--admin", metavar="HOST:PORT", default=_ADMIN, help="the registry's --admin-listen (default: %(default)s)"
    )
    command.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="(default: %(default)g)")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask, print, and tell by the exit status whether there is an active endpoint."""
    pages = Pages(options.admin, options.timeout)
    if not 0 < options.timeout <= 1_000:
        raise CommandError("--timeout: expected a number of seconds above 0, 1000 at most")
    given = {
        "id": options.id,
        "set": options.set,
        "station": options.station,
        "from": options.address,
        "function": options.function,
    }
    told = pages.get("/explain", {name: value for name, value in given.items() if value is not None}, _FIELDS)
    if options.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _print(told)
    return 0 if told["active"] else 1


def _print(told: dict[str, Any]) -> None:
    argument = f" {told['argument']!r}" if told["argument"] else ""
    print(f"{one_line(told['id'])} by {told['function']}{one_line(argument)}")
    print(f"caller: {one_line(told['caller'])}")
    for step in told["steps"]:
        print(f"  {one_line(step)}")
    if told["ret"]:
        print(f"returns {told['ret']}")
    rows = [(state, each) for state in ("active", "inactive", "left_out") for each in told[state]]
    width = max((len(one_line(_address(each))) for _, each in rows), default=0)
    for state, each in rows:
        facts = [f"set {each['set_id']}"] if each["set_id"] else []
        facts += [f"group {each['group']}"] if each["group"] > 0 else []
        facts += [f"weight {each['weight']}"] if each["weight"] is not None else []
        tail = "; ".join([*facts, *([each["why"]] if each["why"] else [])])
        print(one_line(f"{state.replace('_', ' '):8}  {_address(each):{width}}  {tail}").rstrip())
    if not rows:
        print("no endpoints")


def _address(each: dict[str, Any]) -> str:
    return f"{each['host'] or each['pod']}:{each['port']}/{each['network']}"
