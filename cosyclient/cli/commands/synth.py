"""Turn a file of sentences into audio files and a manifest."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosyclient.cli.options import (
    add_limits,
    add_service,
    add_voice,
    address_of,
    check_options,
    check_voice_of_every_text,
    connected,
    settings_of,
    voice_of,
)
from cosyclient.cli.terminal import Interruptible, count_lines, progress_bar
from cosyclient.errors import BadUtterance, ConfigurationError
from cosyclient.jobs.input import FieldNames, open_input, read_lines
from cosyclient.jobs.job import Job, JobOptions, Target
from cosyclient.jobs.manifest import Manifest
from cosyclient.models import Utterance

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cosyclient.jobs.input import Line
    from cosyclient.models import VoiceSettings


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
        "--text-field", default="text", metavar="NAME", help="the member of a JSONL line that is its text (text)"
    )
    parser.add_argument(
        "--id-field", default="id", metavar="NAME", help="the member of a JSONL line that names it (id)"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="skip what an earlier run has made of the same text and options"
    )
    again.add_argument("--overwrite", action="store_true", help="make everything anew where an earlier run has been")
    parser.add_argument(
        "--wait-for-service",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait while the service is down before stopping early; 0 stops at once (300)",
    )
    parser.add_argument("--join", metavar="FILE", help="also write all speeches, in order, into one WAV file")
    parser.add_argument("--gap", type=float, default=0.2, help="seconds of silence between joined speeches (0.2)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary, only what failed")
    add_voice(parser)
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Synthesize; return 0 all, 1 some failed, 3 stopped early, 4 cannot be written, 130 or 143 interrupted."""
    voice = voice_of(arguments)
    names = FieldNames(arguments.text_field, arguments.id_field)
    source, jsonl = open_input(arguments.input)
    jsonl = jsonl or arguments.jsonl
    directory = Path(arguments.output)
    with contextlib.ExitStack() as stack:
        if source is not sys.stdin.buffer:
            stack.enter_context(source)
        make_directory("--output", directory)
        _check_join(arguments, voice.format)
        check_options(arguments)
        if not jsonl:
            # A line of JSONL may have settings of its own.
            check_voice_of_every_text(arguments, voice)
        manifest = Manifest(
            directory,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            emulator=address_of(arguments) is None,
        )
        stack.enter_context(manifest)
        if manifest.has_finished and source.seekable():
            manifest.release_names_except(set(_fingerprints(read_lines(source, jsonl=jsonl, names=names), voice)))
            source.seek(0)
        job = Job(_job_options(arguments), voice, directory, manifest)
        if source.seekable():
            if next(read_lines(source, jsonl=jsonl, names=names), None) is None:
                return job.conclude_empty(emulator=False)
            source.seek(0)
        url, client, emulator = stack.enter_context(connected(arguments, job.on_event))
        lines = read_lines(source, jsonl=jsonl, names=names)
        timeout = settings_of(arguments, url).timeout
        bar = progress_bar(arguments.input, quiet=arguments.quiet)
        try:
            with Interruptible(job.wake) as interrupt, bar as progress:
                job.run(lines, client, timeout=timeout, progress=progress, interrupt=interrupt)
        except KeyboardInterrupt:
            print("stopped; the same command with --resume goes on from here", file=sys.stderr)
            raise
        return job.conclude(Target(url, emulator), count=lambda: count_lines(arguments.input))


def _job_options(arguments: argparse.Namespace) -> JobOptions:
    speech = {name: value for name in ("instruct", "seed") if (value := getattr(arguments, name)) is not None}
    return JobOptions(
        speech=speech,
        wait_for_service=arguments.wait_for_service,
        join=arguments.join,
        gap=arguments.gap,
        quiet=arguments.quiet,
        json=arguments.json,
    )


def _fingerprints(lines: Iterator[Line], voice: VoiceSettings) -> Iterator[str]:
    for line in lines:
        with contextlib.suppress(BadUtterance):
            yield Utterance(line.text, voice.replace(line.options) if line.options else voice).fingerprint


def _check_join(arguments: argparse.Namespace, format: str) -> None:
    if not math.isfinite(arguments.gap) or arguments.gap < 0:
        raise ConfigurationError(f"--gap: must be zero or more seconds, got {arguments.gap:g}")
    if not arguments.join:
        return
    if format not in ("wav", "pcm"):
        raise ConfigurationError(f"--join: needs --format wav or pcm, not {format}")
    if Path(arguments.join).is_dir():
        raise ConfigurationError(f"--join: {arguments.join}: Is a directory")
    make_directory("--join", Path(arguments.join).parent)


def make_directory(option: str, directory: Path) -> None:
    """Make *directory*; raises `ConfigurationError` naming *option*."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise ConfigurationError(f"{option}: {directory}: {reason}") from None
