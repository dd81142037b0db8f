"""Turn a file of sentences into audio files and a manifest."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosyclient.cli.job import Job
from cosyclient.cli.lines import open_input, read_lines
from cosyclient.cli.manifest import Manifest
from cosyclient.cli.service import add_limits, add_service, add_voice, connected, voice_of
from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient synth``."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a text file (a sentence a line), a .jsonl file (an object a line with text and perhaps id, voice, model, "
        "format, sample_rate, speed, instruct, seed) or - for standard input",
    )
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="where the audio and manifest.jsonl go")
    add_service(parser)
    parser.add_argument("--jsonl", action="store_true", help="read INPUT as JSONL whatever its name")
    parser.add_argument(
        "--resume", action="store_true", help="skip what an earlier run has made of the same text and options"
    )
    parser.add_argument("--join", metavar="FILE", help="also write all speeches, in order, into one WAV file")
    parser.add_argument("--gap", type=float, default=0.2, help="seconds of silence between joined speeches (0.2)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary, only what failed")
    add_voice(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Synthesize; return 0 all, 1 some failed, 2 no service, 130 interrupted."""
    voice = voice_of(arguments)
    source, jsonl = open_input(arguments.input)
    directory = Path(arguments.output)
    with contextlib.ExitStack() as stack:
        if source is not sys.stdin.buffer:
            stack.enter_context(source)
        _make_directory("--output", directory)
        _check_join(arguments, voice.format)
        url, client = stack.enter_context(connected(arguments))
        manifest = stack.enter_context(Manifest(directory, resume=arguments.resume))
        job = Job(arguments, client, voice, directory, manifest)
        return job.run(read_lines(source, jsonl=jsonl or arguments.jsonl), url)


def _check_join(arguments: argparse.Namespace, format: str) -> None:
    if not math.isfinite(arguments.gap) or arguments.gap < 0:
        raise ConfigurationError(f"--gap: must be zero or more seconds, got {arguments.gap:g}")
    if not arguments.join:
        return
    if format not in ("wav", "pcm"):
        raise ConfigurationError(f"--join: needs --format wav or pcm, not {format}")
    if Path(arguments.join).is_dir():
        raise ConfigurationError(f"--join: {arguments.join}: Is a directory")
    _make_directory("--join", Path(arguments.join).parent)


def _make_directory(option: str, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise ConfigurationError(f"{option}: {directory}: {reason}") from None
