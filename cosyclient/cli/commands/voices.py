"""List the voices of a service."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from cosyclient.cli.options import (
    add_limits,
    add_service,
    add_voice,
    address_of,
    check_capability,
    connected,
    protocols_with,
)
from cosyclient.cli.terminal import printable
from cosyclient.errors import ConfigurationError, CosyError

if TYPE_CHECKING:
    import argparse

    from cosyclient.protocols.capabilities import Capabilities


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient voices``."""
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a name a line")
    add_service(parser, by_default=False)
    add_voice(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the names; return 2 if the service does not list them."""
    if address_of(arguments) is None and not arguments.emulator:
        able = ", ".join(protocols_with(_lists_voices))
        raise ConfigurationError(f"--url: name the service, and its protocol; protocols that list voices: {able}")
    check_capability(arguments, _lists_voices, "cannot list voices; see what its service says")
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


def _lists_voices(can: Capabilities) -> bool:
    return can.lists_voices
