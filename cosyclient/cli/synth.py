"""Turn a file of sentences into audio files and a manifest."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cosyclient.audio import MEDIA_TYPES
from cosyclient.cli.job import Job
from cosyclient.cli.lines import open_input, read_lines
from cosyclient.cli.manifest import Manifest
from cosyclient.client import CosyClient
from cosyclient.config import ClientConfig, QueueConfig
from cosyclient.errors import (
    BadUtterance,
    ConfigurationError,
    CosyError,
)
from cosyclient.models import SAMPLE_RATES, VoiceSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


# The library's names of what is called otherwise on the command line.
_OPTIONS: Final = {
    "base_url": "--url",
    "requests_per_second": "--rate",
    "max_connections": "--connections",
    "max_batch": "--max-batch",
    "max_retries": "--retries",
    "sample_rate": "--sample-rate",
    **{
        name: f"--{name}"
        for name in ("concurrency", "timeout", "voice", "model", "format", "speed", "instruct", "seed")
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cosyclient synth``."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a text file (a sentence a line), a .jsonl file (an object a line with text and perhaps id, voice, model, "
        "format, sample_rate, speed, instruct, seed) or - for standard input",
    )
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="where the audio and manifest.jsonl go")
    parser.add_argument(
        "--url", help="the service; without it COSYCLIENT_BASE_URL, else an emulator is started on this machine"
    )
    parser.add_argument("--jsonl", action="store_true", help="read INPUT as JSONL whatever its name")
    parser.add_argument(
        "--resume", action="store_true", help="skip what an earlier run has made of the same text and options"
    )
    parser.add_argument("--join", metavar="FILE", help="also write all speeches, in order, into one WAV file")
    parser.add_argument("--gap", type=float, default=0.2, help="seconds of silence between joined speeches (0.2)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on standard output")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary, only what failed")
    voice = parser.add_argument_group("voice")
    voice.add_argument("--voice", metavar="NAME", help="default: COSYCLIENT_VOICE, else the service's choice")
    voice.add_argument("--model", metavar="NAME", help="default: COSYCLIENT_MODEL, else the service's choice")
    voice.add_argument("--format", default="wav", choices=tuple(MEDIA_TYPES), help="of the audio files (wav)")
    voice.add_argument(
        "--sample-rate",
        type=int,
        default=24000,
        choices=SAMPLE_RATES,
        metavar="HZ",
        help=f"{', '.join(map(str, SAMPLE_RATES))} (24000)",
    )
    voice.add_argument("--speed", type=float, default=1.0, metavar="FACTOR", help="0.5 to 2.0 (1)")
    voice.add_argument("--instruct", metavar="WORDS", help="how to speak, in words")
    voice.add_argument("--seed", type=int, metavar="N", help="0 to 65535: the same again (default: none)")
    limits = parser.add_argument_group("limits (the API key is read from COSYCLIENT_API_KEY)")
    limits.add_argument(
        "--rate", type=float, default=100.0, metavar="N", help="the service's quota in requests per second (100)"
    )
    limits.add_argument("--connections", type=int, default=50, metavar="N", help="the service's connection limit (50)")
    limits.add_argument("--concurrency", type=int, metavar="N", help="requests in flight (default: by Little's Law)")
    limits.add_argument("--max-batch", type=int, default=64, metavar="N", help="texts per request (64)")
    limits.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="per text (default: 30 and 1 per 20 characters)"
    )
    limits.add_argument("--retries", type=int, default=3, metavar="N", help="tries after the first (3)")


def run(arguments: argparse.Namespace) -> int:
    """Synthesize; return 0 all, 1 some failed, 2 no service, 130 interrupted."""
    voice = _voice(arguments)
    source, jsonl = open_input(arguments.input)
    directory = Path(arguments.output)
    with contextlib.ExitStack() as stack:
        if source is not sys.stdin.buffer:
            stack.enter_context(source)
        _make_directory("--output", directory)
        _check_join(arguments)
        url = arguments.url or os.environ.get("COSYCLIENT_BASE_URL")
        if not url:
            # Say what is wrong with the options before a service is started for them.
            _client(arguments, "http://127.0.0.1").close()
            url = stack.enter_context(_embedded())
        client = stack.enter_context(_client(arguments, url))
        manifest = stack.enter_context(Manifest(directory, resume=arguments.resume))
        job = Job(arguments, client, voice, directory, manifest)
        return job.run(read_lines(source, jsonl=jsonl or arguments.jsonl), url)


def _voice(arguments: argparse.Namespace) -> VoiceSettings:
    try:
        return VoiceSettings(
            voice=arguments.voice if arguments.voice is not None else os.environ.get("COSYCLIENT_VOICE") or None,
            model=arguments.model if arguments.model is not None else os.environ.get("COSYCLIENT_MODEL") or None,
            format=arguments.format,
            sample_rate=arguments.sample_rate,
            speed=arguments.speed,
            instruct=arguments.instruct,
            seed=arguments.seed,
        )
    except BadUtterance as error:
        raise _in_our_words(error) from None


def _check_join(arguments: argparse.Namespace) -> None:
    if not math.isfinite(arguments.gap) or arguments.gap < 0:
        raise ConfigurationError(f"--gap: must be zero or more seconds, got {arguments.gap:g}")
    if not arguments.join:
        return
    if arguments.format not in ("wav", "pcm"):
        raise ConfigurationError(f"--join: needs --format wav or pcm, not {arguments.format}")
    if Path(arguments.join).is_dir():
        raise ConfigurationError(f"--join: {arguments.join}: Is a directory")
    _make_directory("--join", Path(arguments.join).parent)


def _make_directory(option: str, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise ConfigurationError(f"{option}: {directory}: {reason}") from None


@contextlib.contextmanager
def _embedded() -> Iterator[str]:
    from cosyclient.emulator import running

    try:
        emulator = running(engine="espeak")
        url = emulator.__enter__()
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigurationError(f"--url: none given, and the embedded emulator did not start: {error}") from None
    print(f"no --url: started the embedded emulator at {url.url} (eSpeak NG voices, not CosyVoice)", file=sys.stderr)
    try:
        yield url.url
    finally:
        emulator.__exit__(None, None, None)


def _client(arguments: argparse.Namespace, url: str) -> CosyClient:
    try:
        return CosyClient(
            url,
            voice=arguments.voice,
            model=arguments.model,
            format=arguments.format,
            sample_rate=arguments.sample_rate,
            speed=arguments.speed,
            requests_per_second=arguments.rate,
            max_connections=arguments.connections,
            concurrency=arguments.concurrency,
            max_batch=arguments.max_batch,
            timeout=arguments.timeout,
            max_retries=arguments.retries,
            # A file is read faster than a lone text is sent: a moment's wait fills the first batches.
            config=ClientConfig(queue=QueueConfig(linger=0.01)),
        )
    except ConfigurationError as error:
        raise _in_our_words(error) from None


def _in_our_words(error: CosyError) -> ConfigurationError:
    """Name the option where the library names its argument."""
    name, colon, rule = str(error).partition(": ")
    return ConfigurationError(f"{_OPTIONS.get(name, name)}{colon}{rule}")
