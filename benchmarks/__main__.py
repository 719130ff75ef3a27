"""Measure the service over loopback, beside the least that any Python service must do to answer (the floor).

python -m benchmarks                     what must be reached, 3 to 4 minutes (make bench)
python -m benchmarks --full              everything, about half an hour (make bench-full)
python -m benchmarks --target HOST:PORT --id ID [--pid PID]
                                         another registry, with the same loads
python -m benchmarks report FILE         what --json wrote, put into docs/performance.md and its plots

Every answer is checked; one that is wrong ends the run. Ratios are medians of pairs of runs that were made in turn;
where their quartiles are further apart than the median is from the target, the verdict is 'undecided'.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import charts, load, machine, report
from benchmarks.numbers import text_table
from benchmarks.results import Results
from benchmarks.servers import WrongAnswer
from benchmarks.suite import Suite


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--full", action="store_true", help="everything, about half an hour")
    parser.add_argument("--only", default="", help="some parts, with commas; --list names them")
    parser.add_argument("--list", action="store_true", help="the parts there are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was measured, all of it")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="plots of what was measured, as SVG")
    parser.add_argument(
        "--python-load", action="store_true", help="the load generator in Python, also where C can be had"
    )
    parser.add_argument("--target", metavar="HOST:PORT", help="another registry that is running")
    parser.add_argument("--id", help="with --target: an object that it knows")
    parser.add_argument("--pid", type=int, default=0, help="with --target: its process, where it is of this machine")
    return parser


def _measure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    results = Results(machine.describe(" ".join(["python -m benchmarks", *sys.argv[1:]])))
    command = load.generator(in_python=options.python_load)
    results.machine["load generator"] = "Python" if command == load.PYTHON else "C"
    with tempfile.TemporaryDirectory(prefix="tars-registry-bench-") as folder:
        suite = Suite(results, command, Path(folder), full=options.full)
        parts = suite.parts()
        wanted = options.only.split(",") if options.only else list(parts)
        if unknown := set(wanted) - set(parts):
            parser.error(f"--only: {', '.join(sorted(unknown))}: not one of {', '.join(parts)}")
        if options.list:
            for name, part in parts.items():
                print(f"{name:12} {(part.__doc__ or '').strip()}")
            return
        try:
            if options.target:
                host, _, port = options.target.rpartition(":")
                suite.target(host, int(port), options.id, options.pid)
            else:
                for name in wanted:
                    parts[name]()
        except (WrongAnswer, load.LoadError) as error:
            raise SystemExit(f"benchmarks: {error}") from None
        finally:
            if options.json:
                results.write(options.json)
    print(", ".join(f"{name}: {value}" for name, value in results.machine.items()), end="\n\n")
    print(text_table(results.figures))
    print(report.text_extras(results.more), end="")
    if options.plots:
        charts.write_plots(json.loads(json.dumps(results.to_json())), options.plots)


def main() -> None:
    """Measure and print, or write up what was measured."""
    if sys.argv[1:2] == ["report"]:
        report.main(sys.argv[2:])
        return
    parser = _parser()
    options = parser.parse_args()
    # So that what was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.target and not (options.id and options.target.rpartition(":")[2].isdigit()):
        parser.error("--target HOST:PORT needs an --id that it knows")
    _measure(parser, options)


if __name__ == "__main__":
    main()
