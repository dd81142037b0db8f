"""Stream one text: samples to standard output, into a WAV file, or to a player."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cosyclient.cli.options import (
    add_limits,
    add_service,
    add_voice,
    check_capability,
    command_line_words,
    connected,
)
from cosyclient.errors import BadUtterance, ConfigurationError, CosyError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from cosyclient.pipeline.calls.stream import SpeechStream

# The arguments by which each player takes raw 16-bit little-endian samples from its standard input.
_PLAYERS: Final[dict[str, Callable[[str, str], list[str]]]] = {
    "ffplay": lambda rate, channels: [
        *("-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", rate, "-ch_layout"),
        *("mono" if channels == "1" else "stereo", "-i", "-"),
    ],
    "aplay": lambda rate, channels: ["-q", "-t", "raw", "-f", "S16_LE", "-r", rate, "-c", channels, "-"],
    "pacat": lambda rate, channels: ["--raw", "--format=s16le", f"--rate={rate}", f"--channels={channels}"],
    "play": lambda rate, channels: [
        *("-q", "-t", "raw", "-e", "signed", "-b", "16", "-L", "-r", rate, "-c", channels, "-"),
    ],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient stream``."""
    parser.add_argument("text", metavar="TEXT", help="the text, or - to read it from standard input")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write a WAV file instead of raw samples to standard output"
    )
    parser.add_argument("--play", action="store_true", help=f"play it: the first of {', '.join(_PLAYERS)} on the PATH")
    add_service(parser)
    add_voice(parser, formats=False)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Stream; return 0 for all, 1 if it broke off (what came is written), 2 for usage or no service."""
    if arguments.play and arguments.output:
        raise ConfigurationError("--play: give either --play or --output")
    if not (arguments.play or arguments.output) and sys.stdout.isatty():
        raise ConfigurationError("output: samples do not belong on a terminal; redirect them, or use -o FILE or --play")
    if arguments.output:
        _check_output(Path(arguments.output))
    # Before anything is sent that may be billed.
    player = _player() if arguments.play else None
    text = sys.stdin.read().strip() if arguments.text == "-" else arguments.text
    options: dict[str, Any] = {} if arguments.instruct is None else {"instruct": arguments.instruct}
    if arguments.seed is not None:
        options["seed"] = arguments.seed
    advice = "use cosyclient synth, or another protocol; "
    check_capability(arguments, lambda can: can.stream, "sends audio whole only", advice=advice)
    with connected(arguments) as (_, client, _):
        try:
            with client.stream(text, **options) as stream:
                return _deliver(stream, arguments, player)
        except ConfigurationError:
            raise
        except CosyError as error:
            print(f"cosyclient stream: {type(error).__name__}: {command_line_words(str(error))}", file=sys.stderr)
            if arguments.output and error.partial is not None:
                print(f"what had arrived is in {error.partial.save(arguments.output)}", file=sys.stderr)
            return 2 if isinstance(error, BadUtterance) else 1


def _check_output(path: Path) -> None:
    """Raise `ConfigurationError` if *path* cannot be written, before anything is sent."""
    reason = None
    if path.is_dir():
        reason = errno.EISDIR
    elif not path.parent.is_dir():
        reason = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        reason = errno.EACCES
    if reason is not None:
        raise ConfigurationError(f"--output: {path}: {os.strerror(reason)}")


def _deliver(stream: SpeechStream, arguments: argparse.Namespace, player: str | None) -> int:
    if arguments.output:
        path = stream.save(arguments.output)
        print(f"{path}: {stream.sample_rate} Hz, {stream.channels} channel(s)", file=sys.stderr)
        return 0
    if player is None:
        print(f"s16le, {stream.sample_rate} Hz, {stream.channels} channel(s)", file=sys.stderr)
        for chunk in stream:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return 0
    command = [player, *_PLAYERS[Path(player).name](str(stream.sample_rate), str(stream.channels))]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as playing:  # noqa: S603 - one of the players named above
        assert playing.stdin is not None  # noqa: S101 - set by PIPE
        for chunk in stream:
            playing.stdin.write(chunk)
            playing.stdin.flush()
    return int(playing.returncode != 0)


def _player() -> str:
    for name in _PLAYERS:
        if path := shutil.which(name):
            return path
    raise ConfigurationError(f"--play: none of {', '.join(_PLAYERS)} is on the PATH; install one, or use -o FILE")
