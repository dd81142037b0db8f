"""Run a CosyVoice service on this machine until Ctrl-C (needs the extra emulator)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient emulator``."""
    from cosyclient.emulator import settings

    settings.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve in the foreground."""
    from cosyclient.emulator import EmulatorError, serve, settings

    try:
        chosen = settings.from_arguments(arguments)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        serve(chosen)
    except EmulatorError as error:
        raise ConfigurationError(str(error)) from None
    return 0
