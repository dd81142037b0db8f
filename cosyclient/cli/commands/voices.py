"""List the voices of a service."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from cosyclient.cli.options import add_limits, add_service, add_voice, connected
from cosyclient.cli.terminal import printable
from cosyclient.errors import ConfigurationError, CosyError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient voices``."""
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a name a line")
    add_service(parser)
    add_voice(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the names; return 2 if the service does not list them."""
    with connected(arguments) as (_, client, _):
        try:
            names = client.voices()
        except ConfigurationError:
            raise
        except CosyError as error:
            print(f"cosyclient voices: {type(error).__name__}: {error}", file=sys.stderr)
            return 2
    print(json.dumps(names, ensure_ascii=False) if arguments.json else "\n".join(map(printable, names)))
    return 0
