"""Start the emulator in the foreground: ``python -m cosyclient.emulator --help``."""

import argparse
import sys

from cosyclient.emulator.extra import EmulatorError
from cosyclient.emulator.server.launcher import serve
from cosyclient.emulator.settings import add_arguments, from_arguments


def main(argv: list[str] | None = None) -> int:
    """Serve with the options of the command line until interrupted; return 2 when the emulator cannot start."""
    parser = argparse.ArgumentParser(prog="python -m cosyclient.emulator", description=__doc__)
    add_arguments(parser)
    try:
        serve(from_arguments(parser.parse_args(argv)))
    except (ValueError, EmulatorError) as problem:
        sys.stderr.write(f"{parser.prog}: {problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
