"""Choose benchmarks on the command line: ``list``, ``run NAME…``, ``all``, or one by its name."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.catalogue import BENCHMARKS, run
from benchmarks.harness.extra import ExtraMissing
from benchmarks.harness.options import DEFAULT_OUTPUT, FORMATS, Options


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for and return the exit status: 0 done, 2 something is missing, 130 interrupted."""
    given = _parser().parse_args(arguments)
    if given.command == "list":
        for name, suite in BENCHMARKS.items():
            print(f"{name:10}{suite.sentence}")
        return 0
    names = {"all": list(BENCHMARKS), "run": getattr(given, "names", [])}.get(given.command, [given.command])
    options = Options(
        quick=given.quick,
        repeat=given.repeat,
        output=given.output,
        audio=given.format,
        seconds=getattr(given, "seconds", None),
        seed=getattr(given, "seed", None),
    )
    try:
        for name in dict.fromkeys(names):
            run(name, options)
            print()
    except ExtraMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--quick", action="store_true", help="a shorter run, for a first look")
    shared.add_argument(
        "--repeat", type=_count, default=1, metavar="N", help="repeat everything and show medians [default: 1]"
    )
    shared.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help="where to write JSON and pictures [default: benchmarks/results]",
    )
    shared.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="compressed audio, where a benchmark asks for some [default: %(default)s]",
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure cosyclient beside its peers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="name the benchmarks")
    some = commands.add_parser("run", parents=[shared], help="run the benchmarks named")
    some.add_argument("names", nargs="+", choices=list(BENCHMARKS), metavar="NAME")
    commands.add_parser("all", parents=[shared], help="run all of them")
    for name, suite in BENCHMARKS.items():
        one = commands.add_parser(name, parents=[shared], help=suite.sentence)
        if name == "chaos":
            one.add_argument("--seconds", type=_count, metavar="N", help="how long it runs [default: 200]")
            one.add_argument("--seed", type=int, metavar="N", help="draw the phases of an earlier run again")
    return parser


def _count(argument: str) -> int:
    if not argument.isdecimal() or int(argument) < 1:
        raise argparse.ArgumentTypeError(f"{argument!r} is not a whole number of at least 1")
    return int(argument)


if __name__ == "__main__":
    sys.exit(main())
