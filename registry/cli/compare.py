"""``tars-registry compare``: ask two registries the same questions, and tell what they answer differently."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import IO, Any, Final

from registry.admin.logs import one_line
from registry.cli.compare_answers import MEANINGS, OTHER_FIELDS, Difference, Kind
from registry.cli.compare_asking import Outcome, Plan, compare
from registry.cli.errors import CommandError
from registry.cli.pages import Pages
from registry.config import ListenAddress
from registry.routing.select import Lookup
from tars_protocol.constants import Version
from tars_protocol.interfaces.query import PORT

_NOBODYS_SET: Final = "tars-registry.compare.1"
"""A set that can be asked for and that nobody is in: the answer is that of findObjectByIdInSameGroup."""

_LONGEST_TIMEOUT: Final = 1_000
_MOST_AT_ONCE: Final = 256
_MOST_RETRIES: Final = 10
_SECONDS_BETWEEN: Final = 1.0


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in MEANINGS.items())
    command = commands.add_parser(
        "compare",
        help="ask two registries the same, and tell what they answer differently",
        description="Ask two registries for the same objects with every function of QueryF, and tell what they answer "
        "differently. What differs, or is not answered, is asked again (--retries), so that a change that one of them "
        "knows a moment before the other is no difference. Exit status 0: there is no difference; 1: there are some; "
        f"2: an error, which a question that is not answered is too. Kinds of differences: {kinds}.",
        allow_abbrev=False,
    )
    command.add_argument("ids", metavar="ID", nargs="*", help="an object, as in App.Server.Obj")
    command.add_argument(
        "--registry", metavar="HOST:PORT", default=f"127.0.0.1:{PORT}", help="the first (default: %(default)s)"
    )
    command.add_argument("--with", dest="other", metavar="HOST:PORT", required=True, help="the second")
    command.add_argument(
        "--admin",
        metavar="HOST:PORT",
        help="the --admin-listen of the first: compare all objects that it knows, those of its up-chain included",
    )
    command.add_argument(
        "--function",
        choices=[str(lookup) for lookup in Lookup],
        metavar="NAME",
        action="append",
        help="ask only with this function; may be repeated: " + ", ".join(Lookup),
    )
    command.add_argument(
        "--set",
        metavar="NAME.AREA.GROUP",
        default=_NOBODYS_SET,
        help="the set to ask for in findObjectByIdInSameSet (default: %(default)s, which nobody is in)",
    )
    command.add_argument(
        "--station", default="", metavar="STATION", help="the station to ask for in findObjectByIdInSameStation"
    )
    command.add_argument(
        "--ignore",
        metavar="WHAT",
        action="append",
        default=[],
        choices=[*Kind, *OTHER_FIELDS],
        help=f"a kind of difference, or a field, that is not to count; may be repeated: {', '.join(Kind)}, "
        f"{', '.join(OTHER_FIELDS)}",
    )
    command.add_argument(
        "--protocol", choices=[v.name.lower() for v in Version], default="tars", help="encoding (default: tars)"
    )
    command.add_argument(
        "--timeout", type=float, default=3.0, metavar="SECONDS", help="for an answer (default: %(default)g)"
    )
    command.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="ask so often again where answers differ or are missing, after 0.5 s, 1 s, … (default: %(default)d)",
    )
    command.add_argument(
        "--concurrency", type=int, default=16, metavar="N", help="objects asked for at once (default: %(default)d)"
    )
    command.add_argument("--progress", action="store_true", help="tell how far it is also where no terminal is")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask both, print, and tell by the exit status whether they differ."""
    addresses = _address("--registry", options.registry), _address("--with", options.other)
    plan = _plan(options)
    ids = list(options.ids)
    if options.admin:
        ids += Pages(options.admin, options.timeout).objects()
    elif not ids:
        raise CommandError("which objects? name them, as in App.Server.Obj, or have all of --admin HOST:PORT")
    progress = _Progress(sys.stderr, wanted=options.progress)
    try:
        outcome = asyncio.run(compare((options.registry, options.other), addresses, plan, ids, progress.tell))
    finally:
        progress.end()
    if options.json:
        print(json.dumps(_plain(options, plan, outcome), indent=2))
    else:
        _print(options, plan, outcome)
    return 2 if outcome.unanswered else 1 if outcome.different else 0


def _address(option: str, text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r}: {error}") from None


def _plan(options: argparse.Namespace) -> Plan:
    if not 0 < options.timeout <= _LONGEST_TIMEOUT:
        raise CommandError(f"--timeout: expected a number of seconds above 0, {_LONGEST_TIMEOUT:,} at most")
    if not 1 <= options.concurrency <= _MOST_AT_ONCE:
        raise CommandError(f"--concurrency: expected a number from 1 to {_MOST_AT_ONCE}")
    if not 0 <= options.retries <= _MOST_RETRIES:
        raise CommandError(f"--retries: expected a number from 0 to {_MOST_RETRIES}")
    chosen = dict.fromkeys(map(Lookup, options.function)) if options.function else Lookup
    arguments = {Lookup.SAME_SET: options.set, Lookup.SAME_STATION: options.station}
    return Plan(
        [(lookup, arguments.get(lookup)) for lookup in chosen],
        options.ignore,
        Version[options.protocol.upper()],
        options.timeout,
        options.concurrency,
        options.retries,
    )


class _Progress:
    """How far it is, on standard error: one line that changes on a terminal, else a line now and then."""

    def __init__(self, stream: IO[str], *, wanted: bool) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._wanted = wanted or self._terminal
        self._next = time.monotonic() + _SECONDS_BETWEEN
        self._width = 0

    def tell(self, done: int, of: int, outcome: Outcome) -> None:
        """So many objects of so many were asked for."""
        if not self._wanted or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SECONDS_BETWEEN
        text = f"{done:,} of {of:,} objects asked for, {len(outcome.different):,} differ"
        if outcome.unanswered:
            text += f", {len(outcome.unanswered):,} not answered"
        self._write(f"\r{text:{self._width}}" if self._terminal else f"{text}\n")
        self._width = len(text)

    def end(self) -> None:
        """Leave nothing behind on a terminal."""
        if self._terminal and self._width:
            self._write(f"\r{'':{self._width}}\r")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _plain(options: argparse.Namespace, plan: Plan, outcome: Outcome) -> dict[str, Any]:
    return {
        "registry": options.registry,
        "with": options.other,
        "objects": outcome.asked,
        "functions": [lookup for lookup, _ in plan.functions],
        "differences": [
            {
                "id": object_id,
                "kind": difference.kind,
                "what": difference.what,
                "registry": difference.first,
                "with": difference.second,
                "functions": functions,
            }
            for object_id, found in outcome.different.items()
            for difference, functions in found.items()
        ],
        "unanswered": [
            {"id": object_id, "registry": each.registry, "function": each.function, "reason": each.reason}
            for object_id, problems in outcome.unanswered.items()
            for each in problems
        ],
    }


def _print(options: argparse.Namespace, plan: Plan, outcome: Outcome) -> None:
    if outcome.different:
        print(one_line(f"difference: {options.registry} | {options.other}"))
    for object_id, found in outcome.different.items():
        print(one_line(object_id))
        for difference, functions in sorted(found.items()):
            print(one_line(_line(difference, functions, plan)))
    for object_id, problems in outcome.unanswered.items():
        for each in problems:
            print(one_line(f"{object_id}: {each.function} is not answered by {each.registry}: {each.reason}"))
    print(_summary(outcome))


def _line(difference: Difference, functions: Sequence[Lookup], plan: Plan) -> str:
    line = f"  {difference.kind:8}  {difference.what}: {difference.first} | {difference.second}"
    left = [lookup for lookup, _ in plan.functions if lookup not in functions]
    if not left:
        return line
    # findObjectById has no inactive endpoints to differ in.
    if left == [Lookup.ACTIVE] and difference.kind is Kind.INACTIVE:
        return line
    return f"{line}  (by {', '.join(functions)})"


def _summary(outcome: Outcome) -> str:
    objects = f"{outcome.asked:,} object{'' if outcome.asked == 1 else 's'} asked for"
    parts = []
    if outcome.different:
        kinds = Counter(str(difference.kind) for found in outcome.different.values() for difference in found)
        count = len(outcome.different)
        shown = ", ".join(f"{number:,} {kind}" for kind, number in sorted(kinds.items()))
        parts.append(f"{count:,} differ{'s' if count == 1 else ''} ({shown})")
    if outcome.unanswered:
        parts.append(f"{len(outcome.unanswered):,} not answered")
    return f"{objects}: {', '.join(parts) or 'no difference'}"
