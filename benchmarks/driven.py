"""The service with a source that the harness drives, for what a directory of manifests can't give: so many changes of
the table a second, each on its own as the Kubernetes API sends them, and a clock on the garbage collector.

Everything but the source is the service as ``tars-registry serve`` starts it. An object goes the way of a watch event:
decoded from its JSON line, converted, handed to the table. Commands on standard input, one a line, each answered with a
JSON object in a line: ``flip`` changes the servers that change, once; ``churn RATE`` goes on doing so; ``still`` stops
that; ``pauses`` gives the collector's pauses since it was last asked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import resource
import sys
import time
from typing import Any, Final

from benchmarks.tables import NAMESPACE, Table, tendpoint
from registry import cli
from registry.admin.logs import Logs
from registry.app import App
from registry.cli import serve
from registry.config import Config
from registry.kube.objects import decode_event, decoder
from registry.model import CUSTOM_RESOURCES, Kind, SourceStatus
from registry.sources.tendpoints import TEndpoint
from registry.table import DIRECTORY_PARTS, TableStore

AT_ONCE: Final = 100
"""Objects that are decoded before the event loop gets a turn, as in a page of a list."""


class DrivenSource:
    """Hands over a table, and changes it when it is told to."""

    def __init__(self, table: Table, changing: int, sink: TableStore) -> None:
        self._table = table
        self._sink = sink
        self._decode = decoder(TEndpoint, lambda found: found.to_model(NAMESPACE))
        self._changing = range(min(changing, table.servers))
        self._lines = [
            tuple(_line(number, table.pods_of(number), inactive) for inactive in (0, 1)) for number in self._changing
        ]
        self._inactive = [0 for _ in self._changing]
        self._next = 0
        self._churn: asyncio.Task[None] | None = None
        self.changes = 0
        self.statuses = [SourceStatus("driven", state="watching")]

    async def run(self) -> None:
        """Hand over the table, then do nothing."""
        servers = []
        for number in range(self._table.servers):
            line = _line(number, self._table.pods_of(number), 0)
            servers.append(self._decode(decode_event(line).object).item)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._sink.replace(Kind.SERVER, [server for server in servers if server is not None])
        del servers
        for kind in CUSTOM_RESOURCES:
            self._sink.synced(kind)
        self.statuses[0].synced = True
        self.statuses[0].last_success = time.monotonic()
        await asyncio.Event().wait()

    def change(self) -> None:
        """The next server that changes: its last pod is no longer active, or is again."""
        at = self._next
        self._next = (at + 1) % len(self._lines)
        self._inactive[at] ^= 1
        found = self._decode(decode_event(self._lines[at][self._inactive[at]]).object).item
        assert found is not None
        self._sink.upsert(found)
        self.changes += 1

    def flip(self) -> None:
        """Change every one of them once."""
        for _ in self._lines:
            self.change()

    def churn(self, rate: float) -> None:
        """So many changes a second from now on; 0 for none."""
        if self._churn:
            self._churn.cancel()
        self._churn = asyncio.get_running_loop().create_task(self._go_on(rate)) if rate else None

    async def _go_on(self, rate: float) -> None:
        began, made = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0.0, began + made / rate - time.monotonic()))
            self.change()
            made += 1


def _line(number: int, pods: int, inactive: int) -> bytes:
    event = {"type": "MODIFIED", "object": tendpoint(number, pods, pods - inactive)}
    return json.dumps(event, separators=(",", ":")).encode()


class Collections:
    """How long each collection of garbage took, from the first look on.

    Not from the start: each note lives on, and so would the page of memory that it lies on, where memory is measured.
    """

    def __init__(self) -> None:
        self._began = 0, 0
        self._pauses: list[tuple[int, int, int]] = []

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter_ns(), time.thread_time_ns()
        else:
            began, worked = self._began
            pause = time.perf_counter_ns() - began, time.thread_time_ns() - worked
            self._pauses.append((info["generation"], *pause))

    def take(self) -> list[tuple[int, int, int]]:
        """Since the last look: the generation, nanoseconds by the clock, and those that it worked."""
        if self._note not in gc.callbacks:
            gc.callbacks.append(self._note)
        taken, self._pauses = self._pauses, []
        return taken


class Commands:
    """Does what standard input says."""

    def __init__(self, source: DrivenSource, collections: Collections) -> None:
        self._source = source
        self._collections = collections
        self._partial = b""
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            print(json.dumps(self._do(*line.decode().split())), flush=True)

    def _do(self, command: str, *arguments: str) -> dict[str, Any]:
        if command == "flip":
            self._source.flip()
        elif command in ("churn", "still"):
            self._source.churn(float(arguments[0]) if command == "churn" else 0)
        elif command == "pauses":
            return {
                "pauses": self._collections.take(),
                "thresholds": gc.get_threshold(),
                "frozen": gc.get_freeze_count(),
            }
        else:
            return {"error": f"no command {command}"}
        return {"changes": self._source.changes}


def _with_descriptors(config: Config) -> Config:
    """The configuration as it is; the service itself would keep half of the file descriptors for the other port."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return config


def main() -> None:
    """Serve; options that are not known here are those of ``tars-registry serve``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--servers", type=int, required=True)
    parser.add_argument("--pods", type=int, required=True)
    parser.add_argument("--first", type=int, help="pods of the first server, if it has another number")
    parser.add_argument("--changing", type=int, default=0, help="servers that change")
    parser.add_argument("--load-module", action="append", default=[], help="import it, for the memory that it takes")
    parser.add_argument(
        "--one-port",
        action="store_true",
        help="callers come on the query port alone: as many connections there as there are file descriptors",
    )
    options, rest = parser.parse_known_args()
    for module in options.load_module:
        importlib.import_module(module)
    collections = Collections()

    async def build(config: Config, logs: Logs | None = None) -> App:
        store = TableStore(DIRECTORY_PARTS)
        source = DrivenSource(Table(options.servers, options.pods, options.first), options.changing, store)
        Commands(source, collections)
        return App(config, store, source, DIRECTORY_PARTS, logs)

    if options.one_port:
        serve.fitted = _with_descriptors  # type: ignore[attr-defined]
    serve.build = build  # type: ignore[attr-defined]  # the one thing that is not as it is served
    sys.exit(cli.main(["serve", "--source=directory", *rest]))


if __name__ == "__main__":
    main()
