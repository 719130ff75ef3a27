"""A fleet of simulated tarsnodes on a real API server: real frames from an address each, real pods, real services.

up      every tarsnode reports that its server starts, and then that it serves
flip    many report at once that theirs does not, and then that it does
die     some of the pods are deleted and made again with another address; their old tarsnodes report once more, which
        must be refused
return  the new ones report
one     with several registries: one report at a time to one, until another answers so
outage  the API server is killed while all report on and on, and started again

A tarsnode that is told of an error goes on to the next registry, as the C++ client does.

After each, every condition of every pod and every answer must be exact, and no more may have been written than states
that were reported. The API server's programs are those of tests/cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.cluster.numbers import Figure, table
from benchmarks.fleet.fleet import NAMESPACE, Fleet
from benchmarks.fleet.life import Life
from benchmarks.fleet.propagation import propagation
from benchmarks.machine import process_seconds
from tests.cluster.apiserver import ApiServer, find
from tests.cluster.client import NAMESPACES, Client
from tests.cluster.support_service import Registry, following
from tests.cluster.tars_controller import TarsController
from tests.cluster.tarsnodes import background
from tests.prove.outages import commit, machine


@contextlib.asynccontextmanager
async def _cluster(folder: Path) -> AsyncIterator[tuple[ApiServer, Client]]:
    programs = find()
    if programs is None:
        raise SystemExit("the API server is not built: run tests/cluster/install")
    async with ApiServer(programs, folder) as server, server.client(namespace=NAMESPACE) as admin:
        await server.create_crds()
        await admin.create({"apiVersion": NAMESPACES.version, "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield server, admin


async def _run(options: argparse.Namespace) -> Life:
    with tempfile.TemporaryDirectory(prefix="tars-registry-fleet-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            server, admin = await stack.enter_async_context(_cluster(Path(folder)))
            kubeconfig = server.kubeconfig(namespace=NAMESPACE)
            registries = [await stack.enter_async_context(following(kubeconfig)) for _ in range(options.registries)]
            ports = [registry.service.registry_port for registry in registries]
            fleet = Fleet(options.nodes, ports, random.Random(options.seed))
            stack.push_async_callback(fleet.stop_all)
            controller = TarsController(admin)
            await stack.enter_async_context(background(asyncio.create_task(controller.run())))
            life = Life(fleet, registries, server, admin)
            await _live(life, controller, options)
        return life


async def _live(life: Life, controller: TarsController, options: argparse.Namespace) -> None:
    fleet, flipping = life.fleet, options.flip or options.nodes
    _tell(f"making {fleet.size} pods")
    await life.make()
    _tell("up")
    before = _processor_time(life)
    await life.up(options.seconds)
    for name, seconds in _processor_time(life).items():
        each = 1000 * (seconds - before[name]) / (2 * fleet.size)
        life.figures.append(Figure(f"up: processor time for a state, {name}", "ms", [each]))
    _tell("flip")
    await life.flip(flipping)
    _tell("die and return")
    await life.die_and_return(max(1, flipping // 10))
    if len(life.registries) > 1:
        _tell("one at a time")
        life.figures += await propagation(fleet, life.registries, controller, options.reports)
    if options.outage:
        _tell(f"outage of {options.outage:g} s")
        await life.outage(options.outage)
    await _count(life, controller)


def _processor_time(life: Life) -> dict[str, float]:
    """Seconds, by program."""
    return {
        "API server": process_seconds(life.server.apiserver.pid) + process_seconds(life.server.etcd.pid),
        "service": sum(registry.service.cpu_seconds() for registry in life.registries),
        "tarsnodes and controller": time.process_time(),
    }


async def _count(life: Life, controller: TarsController) -> None:
    fleet = life.fleet

    async def count(registry: Registry, name: str, **labels: str) -> float:
        try:
            return await registry.metric(name, **labels)
        except AssertionError:
            return 0.0  # it never happened

    async def total(name: str, **labels: str) -> float:
        return sum([await count(registry, name, **labels) for registry in life.registries])

    life.figures += [
        Figure("states that were reported", "", [float(fleet.states)]),
        Figure(
            "writes of the registry",
            "",
            [await total("api_requests_total", verb="patch", code="200")],
            float(fleet.states),
        ),
        Figure(
            "writes refused, as the pod was changed meanwhile",
            "",
            [await total("api_requests_total", verb="patch", code="409")],
        ),
        Figure(
            "reports for which there was a later one already", "", [await total("reports_total", outcome="superseded")]
        ),
        Figure("tarsnodes that went on to another registry", "", [float(fleet.changes.total())]),
        Figure("reads of the registry", "", [await total("api_requests_total", verb="get")]),
        Figure("writes of the stand-in for the controller", "", [float(controller.writes)]),
        Figure("callers told that their state is not yet written", "", [float(fleet.codes[-99])]),
        Figure(
            "callers told anything else",
            "",
            [float(fleet.codes.total() - fleet.codes[0] - fleet.codes[-99])],
            0.0,
        ),
        Figure("callers that had no answer in their 6 s", "", [float(fleet.unanswered)], 0.0),
    ]


def report(life: Life, command: str, began: datetime, seconds: float) -> str:
    """The report, as Markdown."""
    good = not life.wrong and all(each.verdict in ("", "met") for each in life.figures)
    return "\n".join(
        [
            "# Reports of a fleet",
            "",
            f"Written by `make prove-fleet` (benchmarks/fleet): {life.fleet.size:,} simulated tarsnodes, each with an",
            f"address of its own, {len(life.registries)} registries, a real API server. After each phase, every",
            "condition and every answer of every registry is checked. `python -m benchmarks.fleet --help` says what",
            "the phases are.",
            "",
            f"**{'All held.' if good else 'NOT all held.'}**",
            "",
            "| | |",
            "|---|---|",
            f"| command | `{command}` |",
            f"| commit | {commit()} |",
            f"| date | {began:%Y-%m-%d %H:%M} UTC, {seconds:.0f} s |",
            f"| machine | {machine()} |",
            f"| conditions and answers that were wrong | {len(life.wrong)} |",
            "",
            "```",
            table(life.figures),
            *life.wrong[:20],
            "```",
            "",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a table; 1 where anything was not exact."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=2_000, help="tarsnodes (default: %(default)s)")
    parser.add_argument("--registries", type=int, default=1, help="that they report to (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="in which they come up (default: %(default)s)")
    parser.add_argument("--flip", type=int, default=0, help="of them flip, and a tenth of that die (default: all)")
    parser.add_argument("--reports", type=int, default=200, help="one at a time (default: %(default)s)")
    parser.add_argument(
        "--outage", type=float, default=0, metavar="SECONDS", help="without the API server (default: none)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is left to chance (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write all of it there, too")
    options = parser.parse_args(arguments)
    began = datetime.now(UTC)
    started = time.monotonic()
    # With the objects of 20,000 tarsnodes one pass takes a second, in which nobody's answer is read.
    gc.disable()
    life = asyncio.run(_run(options))
    print(table(life.figures))
    for what in life.wrong[:20]:
        print(f"wrong: {what}")
    print(f"{len(life.wrong)} conditions and answers were wrong")
    if options.report:
        command = " ".join(["python -m benchmarks.fleet", *arguments])
        options.report.write_text(report(life, command, began, time.monotonic() - started))
    return bool(life.wrong)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
