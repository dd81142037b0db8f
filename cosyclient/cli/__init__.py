"""The ``cosyclient`` command: one module a subcommand, each with `add_arguments` and `run`."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

from cosyclient import __version__
from cosyclient.cli.commands import doctor, emulator, protocols, sizing, stream, synth, voices
from cosyclient.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, SOME_FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 all done, 1 some texts failed, 2 usage, no service or no access, 3 the job stopped early because of the
    service, 4 because the output cannot be written, 130 after Ctrl-C and 143 after SIGTERM.
    """
    parser = argparse.ArgumentParser(
        prog="cosyclient",
        description="Turn texts into speech through a CosyVoice service, as fast as its quota allows.",
    )
    parser.add_argument("--version", action="version", version=f"cosyclient {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in (
        ("synth", synth),
        ("stream", stream),
        ("voices", voices),
        ("doctor", doctor),
        ("protocols", protocols),
        ("emulator", emulator),
        ("sizing", sizing),
    ):
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = commands.choices[parsed.command]
        option = unknown[0].partition("=")[0]
        near = did_you_mean(option, re.findall(r"--[\w-]+", command.format_usage())) if option.startswith("--") else ""
        command.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    try:
        code = int(parsed.run(parsed))
        # Flushed here: an error at interpreter exit could not be handled.
        sys.stdout.flush()
    except ConfigurationError as error:
        print(f"cosyclient {parsed.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt as interrupt:
        return 128 + getattr(interrupt, "signal", signal.SIGINT)
    except BrokenPipeError:
        # The reader of the output is gone, as after `head`; that is no error to report. Python flushes once more at
        # exit, so standard output needs an open file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    return code
