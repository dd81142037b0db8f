"""One run of ``cosyclient synth``: every line of the input seen through to its file and its manifest line."""

from __future__ import annotations

import json
import sys
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

from cosyclient.audio import parse_wav
from cosyclient.cli.terminal import Interruptible, progress_bar
from cosyclient.errors import CircuitOpen, CosyError, TransportError, Unauthorized
from cosyclient.models import Speech, Utterance, VoiceSettings, join

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from cosyclient.cli.lines import Line
    from cosyclient.cli.manifest import Manifest
    from cosyclient.client import CosyClient
    from cosyclient.waiters import SpeechFuture

_SHOWN: Final = 5
"""Failures told one by one on stderr; the manifest has them all."""


class Job:
    """See every line of one input through to its file and its manifest line."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        client: CosyClient,
        voice: VoiceSettings,
        directory: Path,
        manifest: Manifest,
    ) -> None:
        self._arguments = arguments
        self._client = client
        self._voice = voice
        self._directory = directory
        self._manifest = manifest
        self._options: dict[str, Any] = {"priority": "bulk"}
        self._options |= {
            name: value for name in ("instruct", "seed") if (value := getattr(arguments, name)) is not None
        }
        # None among the finished wakes whoever waits for one.
        self._finished: SimpleQueue[Future[Speech] | None] = SimpleQueue()
        self._waiting: dict[Future[Speech], tuple[Line, Utterance]] = {}
        self._parts: dict[str, VoiceSettings] = {}
        self._good: set[str] = set()
        self._succeeded = self._failed = self._skipped = self._told = 0
        self._seconds = 0.0
        self._lost: CosyError | None = None
        self._trouble: BaseException | None = None
        self._progress: Any = None

    def run(self, lines: Iterator[Line], url: str) -> int:
        """Synthesize *lines*; return the exit code."""
        started = time.monotonic()
        bar = progress_bar(self._arguments.input, quiet=self._arguments.quiet)
        try:
            with Interruptible(lambda: self._finished.put(None)) as interrupt, bar as self._progress:
                for line in interrupt.until_pressed(lines):
                    self._send(line)
                    self._collect(leave=self._client.window)
                    if self._lost is not None:
                        break
                self._collect(leave=0)
        except KeyboardInterrupt:
            print("stopped; the same command with --resume goes on from here", file=sys.stderr)
            raise
        cut_short = interrupt.pressed or self._lost is not None
        joined = self._join() if self._arguments.join and not cut_short else None
        self._report(time.monotonic() - started, joined, interrupted=interrupt.pressed)
        if self._lost is not None:
            print(f"cosyclient synth: no service at {url}: {_named(self._trouble or self._lost)}", file=sys.stderr)
        if cut_short:
            why = "interrupted" if interrupt.pressed else "stopped"
            print(f"{why}; the same command with --resume goes on from here", file=sys.stderr)
        if interrupt.pressed:
            return 130
        if self._lost is not None and not self._succeeded:
            return 2
        return 1 if self._failed or (self._arguments.join and joined is None) else 0

    def _send(self, line: Line) -> None:
        utterance = None
        try:
            if line.error is not None:
                raise line.error
            utterance = Utterance(line.text, self._voice.replace(line.options) if line.options else self._voice)
            name = _file_name(line, utterance)
            if self._arguments.join:
                self._parts[name] = utterance.settings
            if self._manifest.finished(line.id, utterance.fingerprint):
                self._skipped += 1
                self._good.add(name)
                self._progress.update()
                return
            waiter = self._client.submit(line.text, **{**self._options, **line.options})
        except CosyError as error:
            self._record(line, utterance, error)
            return
        self._waiting[waiter] = (line, utterance)
        waiter.add_done_callback(self._finished.put)

    def _collect(self, *, leave: int) -> None:
        """Write what has finished; block only while more than *leave* texts are under way."""
        while self._waiting:
            try:
                waiter = self._finished.get(block=len(self._waiting) > leave)
            except Empty:
                return
            if waiter is None:
                self._withdraw()
                continue
            line, utterance = self._waiting.pop(waiter)
            if not waiter.cancelled():
                self._record(line, utterance, waiter.exception() or waiter.result())

    def _withdraw(self) -> None:
        """Take back what has not been sent yet."""
        for waiter in list(self._waiting):
            cast("SpeechFuture", waiter).withdraw()

    def _record(self, line: Line, utterance: Utterance | None, result: Speech | BaseException) -> None:
        speech = error = None
        if isinstance(result, Speech):
            speech = result
            try:
                assert utterance is not None  # noqa: S101 - what was spoken was an utterance
                name = speech.save(self._directory / _file_name(line, utterance)).name
            except OSError as problem:
                error = f"cannot write the audio: {problem.strerror}"
            else:
                self._good.add(name)
        else:
            error = _named(result)
            # An open breaker says no more than that something was wrong before.
            causes = [attempt.error for attempt in getattr(result, "attempts", ())] + [result]
            self._trouble = next((cause for cause in causes[::-1] if not isinstance(cause, CircuitOpen)), self._trouble)
            if self._lost is None and self._means_no_service(result):
                self._lost = cast("CosyError", result)
                self._finished.put(None)
        self._succeeded += error is None
        self._failed += error is not None
        self._seconds += speech.duration if speech and error is None else 0.0
        self._progress.update()
        if error is not None:
            # That there is no service is said once, at the end.
            if self._told < _SHOWN and self._lost is None:
                self._told += 1
                self._progress.write(f"line {line.number}: {error}", file=sys.stderr)
            # A line that is none has no id to be found by.
            error = f"line {line.number}: {error}" if line.error is not None else error
        self._manifest.write(
            id=line.id,
            fingerprint=utterance.fingerprint if utterance else None,
            file=name if error is None else None,
            duration=round(speech.duration, 6) if speech and error is None else None,
            attempts=speech.attempts if speech else len(getattr(result, "attempts", ())),
            error=error,
        )

    def _means_no_service(self, error: BaseException) -> bool:
        """Tell whether to stop instead of failing the rest of the input one by one."""
        if isinstance(error, CircuitOpen):
            return True
        unsent = isinstance(error, TransportError) and not error.sent
        return not self._succeeded and (unsent or isinstance(error, Unauthorized))

    def _join(self) -> str | None:
        # A text that failed has no file; its place in the whole is left out, as the exit code says.
        names = [name for name in self._parts if name in self._good]
        try:
            parts = [self._part(self._directory / name, self._parts[name]) for name in names]
            return str(join(parts, gap=self._arguments.gap).save(self._arguments.join))
        except (CosyError, OSError) as error:
            print(f"cosyclient synth: --join {self._arguments.join}: {error}", file=sys.stderr)
            return None

    def _part(self, path: Path, settings: VoiceSettings) -> Speech:
        audio = path.read_bytes()
        if settings.format != "wav":
            return Speech(audio=audio, format=settings.format, sample_rate=settings.sample_rate)
        wav = parse_wav(audio)
        return Speech(audio=audio, format="wav", sample_rate=wav.sample_rate, channels=wav.channels)

    def _report(self, elapsed: float, joined: str | None, *, interrupted: bool) -> None:
        if self._failed > self._told and self._lost is None:
            print(f"… and {self._failed - self._told} more failed; see {self._manifest.path}", file=sys.stderr)
        summary = {
            "texts": self._succeeded + self._failed + self._skipped,
            "succeeded": self._succeeded,
            "failed": self._failed,
            "skipped": self._skipped,
            "audio_seconds": round(self._seconds, 3),
            "elapsed_seconds": round(elapsed, 3),
            "requests": self._client.stats().executions,
            "manifest": str(self._manifest.path),
            "joined": joined,
            "interrupted": interrupted,
        }
        if self._arguments.json:
            print(json.dumps(summary, ensure_ascii=False))
        if not self._arguments.quiet:
            print(
                f"{self._succeeded} speeches, {self._seconds:.1f} s of audio in {elapsed:.1f} s "
                f"({summary['requests']} requests); {self._failed} failed, {self._skipped} skipped; "
                f"see {self._manifest.path}",
                file=sys.stderr,
            )


def _file_name(line: Line, utterance: Utterance) -> str:
    return f"{line.id}.{utterance.settings.format}"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
