"""Show the sizes that Little's Law gives for a rate and a latency: permits, threads, connections, queue."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from cosyclient.config.sizing import littles_law
from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

# The command line's names of the library's arguments.
_OPTIONS: Final = {"connection_limit": "--connections", "max_batch": "--max-batch"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient sizing``."""
    parser.add_argument("--rate", type=float, nargs="+", default=[100.0], help="requests per second (default: 100)")
    parser.add_argument("--latency", type=float, nargs="+", default=[0.2], help="seconds a request (default: 0.2)")
    parser.add_argument("--headroom", type=float, default=2.0, help="factor above the average (default: 2)")
    parser.add_argument("--connections", type=int, default=50, help="the service's connection limit (default: 50)")
    parser.add_argument("--max-batch", type=int, default=64, help="texts per request (default: 64)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each pair of rate and latency."""
    rows = []
    for rate in arguments.rate:
        for latency in arguments.latency:
            try:
                sizing = littles_law(
                    rate=rate,
                    latency=latency,
                    headroom=arguments.headroom,
                    connection_limit=arguments.connections,
                    max_batch=arguments.max_batch,
                )
            except ConfigurationError as error:
                name, _, rule = str(error).partition(": ")
                raise ConfigurationError(f"{_OPTIONS.get(name, f'--{name}')}: {rule}") from None
            rows.append({"rate": rate, "latency": latency, "in_flight": rate * latency, **asdict(sizing)})
    if arguments.json:
        print(json.dumps(rows))
        return 0
    heads = ("requests/s", "latency s", "in flight", "permits", "threads", "connections", "queue", "texts/s at most")
    print("  ".join(f"{head:>11}" for head in heads))
    for row in rows:
        print("  ".join(f"{value:>{max(11, len(head))}.6g}" for head, value in zip(heads, row.values(), strict=True)))
    return 0
