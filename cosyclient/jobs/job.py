"""One run of ``cosyclient synth``: every line of the input seen through to its file and its manifest line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from cosyclient.audio import parse_wav
from cosyclient.cli.terminal import Interruptible, progress_bar
from cosyclient.clock import Mailbox
from cosyclient.config import TimeoutConfig
from cosyclient.errors import CircuitOpen, CosyError, DeadlineExceeded, DecodeError, did_you_mean
from cosyclient.events import AttemptFinished, ServiceDown, ServiceUp
from cosyclient.jobs.input import OPTIONS
from cosyclient.jobs.stopping import Stop, Verdicts, is_nobody, is_outage, trouble_in
from cosyclient.models import Speech, Utterance, VoiceSettings, has_speech, join

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from cosyclient.client import CosyClient
    from cosyclient.events import Event
    from cosyclient.jobs.input import Line
    from cosyclient.jobs.manifest import Manifest
    from cosyclient.pipeline.queue.pending import SpeechFuture

STOPPED_EARLY: Final = 3
NO_OUTPUT: Final = 4
_NO_SPEECH: Final = "nothing in it to be spoken"
_SHOWN: Final = 5
"""Failures told one by one on stderr; the manifest has them all."""
_SAMPLE_BYTES: Final = 2
_STRAGGLING: Final = 2.0
"""Seconds after which a speech that comes is no straggler from before the service went down."""
_TAKEN_BACK: Final = 0.2
"""Seconds between two looks for what can be taken back once the job is to end."""
_TOLD_AGAIN: Final = 30.0
"""Seconds after which a wait that goes on is told of again."""
# What is wrong with the folder and not with one name in it: the next file would meet the same.
_FOLDER: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOENT, errno.ENOTDIR}
)


class Target(NamedTuple):
    """Say who speaks: the service's address, and whether it is the emulator of this command."""

    url: str
    emulator: bool


class _Under(NamedTuple):
    """Keep what belongs to a text that is under way."""

    line: Line
    utterance: Utterance
    file: str


class Job:
    """See every line of one input through to its file and its manifest line.

    `hear` is to be told the client's events: a service that is down is waited for, and the wait is told of.
    """

    def __init__(
        self, arguments: argparse.Namespace, voice: VoiceSettings, directory: Path, manifest: Manifest
    ) -> None:
        self._arguments = arguments
        self._voice = voice
        self._directory = directory
        self._manifest = manifest
        self._options: dict[str, Any] = {"priority": "bulk"}
        self._options |= {
            name: value for name in ("instruct", "seed") if (value := getattr(arguments, name)) is not None
        }
        # None among the finished wakes whoever waits for one.
        self._finished: Mailbox[Future[Speech] | None] = Mailbox()
        self._waiting: dict[Future[Speech], _Under] = {}
        self._audio = 0.0
        self._parts: list[tuple[str, VoiceSettings]] = []
        self._good: set[str] = set()
        self._succeeded = self._failed = self._skipped = self._told = 0
        self._seconds = 0.0
        self._members: set[str] = set()
        self._verdicts = Verdicts()
        self._trouble: CosyError | None = None
        self._stop: Stop | None = None
        self._down: float | None = None
        self._told_at = 0.0
        self._progress: Any = None

    def hear(self, event: Event) -> None:
        """Tell of the service's going and coming; called on the client's threads."""
        if isinstance(event, ServiceDown):
            self._down = self._told_at = time.monotonic()
            self._trouble = trouble_in(event.error) or self._trouble
            if isinstance(self._trouble, DecodeError) and not self._succeeded:
                # It is there, and has never said anything but that: no wait helps.
                self._end(Stop.of_refusal(self._trouble))
                return
            wait = self._arguments.wait_for_service
            if wait:
                said = _named(self._trouble or event.error)
                self._say(f"waiting for the service, {wait:g} s at most (--wait-for-service): {said}")
        elif isinstance(event, ServiceUp):
            self._is_up()
        elif isinstance(event, AttemptFinished) and event.error is not None:
            # An open breaker says no more than that something was wrong before: this is what.
            self._trouble = trouble_in(event.error) or self._trouble

    def _is_up(self) -> None:
        down, self._down = self._down, None
        if down is not None:
            self._say(f"the service answers again, after {time.monotonic() - down:.0f} s")

    def run(self, lines: Iterator[Line], client: CosyClient, target: Target, timeout: float | None) -> int:
        """Synthesize *lines*; return the exit code. Without a *timeout* each text has that of a bulk call."""
        self._client, self._timeout = client, timeout
        started = time.monotonic()
        bar = progress_bar(self._arguments.input, quiet=self._arguments.quiet)
        try:
            with Interruptible(lambda: self._finished.put(None)) as interrupt, bar as self._progress:
                self._interrupt = interrupt
                for line in interrupt.until_pressed(lines):
                    self._take(line)
                    self._collect(leave=client.window if self._has_room() else 0)
                    if self._stop is not None:
                        break
                self._collect(leave=0)
        except KeyboardInterrupt:
            print("stopped; the same command with --resume goes on from here", file=sys.stderr)
            raise
        pressed, stop = interrupt.pressed, self._stop
        cut_short = pressed is not None or stop is not None
        joined = self._join() if self._arguments.join and not cut_short else None
        self._report(time.monotonic() - started, joined, target, interrupted=pressed is not None)
        if stop is not None:
            print(f"cosyclient synth: {stop.told(target.url)}", file=sys.stderr)
        if cut_short:
            why = "interrupted" if pressed is not None else "stopped"
            print(f"{why}; the same command with --resume goes on from here", file=sys.stderr)
        if stop is not None and stop.output:
            return NO_OUTPUT
        if pressed is not None:
            return 128 + pressed
        if stop is not None:
            return STOPPED_EARLY
        return 1 if self._failed or (self._arguments.join and joined is None) else 0

    def _take(self, line: Line) -> None:
        utterance = None
        self._warn_of_slips(line)
        try:
            if line.error is not None:
                raise line.error
            utterance = Utterance(line.text, self._voice.replace(line.options) if line.options else self._voice)
            if utterance.settings.on_silent == "error" and not has_speech(line.text):
                self._pass_over(line, utterance)
                return
            if (record := self._manifest.finished(line, utterance.fingerprint)) is not None:
                self._keep(line, utterance, record)
                return
            under = _Under(line, utterance, self._manifest.file_for(line, utterance.settings.format))
            if self._arguments.join:
                self._parts.append((under.file, utterance.settings))
            self._send(under)
        except CosyError as error:
            self._fail(line, utterance, error)

    def _warn_of_slips(self, line: Line) -> None:
        for name in line.extra.keys() - self._members:
            self._members.add(name)
            if near := did_you_mean(name, OPTIONS, cutoff=0.8):
                self._say(f"line {line.number}: {json.dumps(name)} goes to the manifest only{near}", always=True)

    def _pass_over(self, line: Line, utterance: Utterance) -> None:
        """Note that there is nothing to be spoken in *line*."""
        self._skipped += 1
        nothing = dict.fromkeys(("file", "bytes", "duration"))
        self._note(line, fingerprint=utterance.fingerprint, **nothing, attempts=0, error=None, skipped=_NO_SPEECH)
        self._progress.update()

    def _note(self, line: Line, **record: Any) -> bool:
        """Write the record of *line*; return whether that went well, the job ends otherwise."""
        try:
            self._manifest.write(line, **record)
        except OSError as problem:
            self._end(Stop.of_output(self._manifest.path, problem))
            return False
        return True

    def _keep(self, line: Line, utterance: Utterance, record: dict[str, Any]) -> None:
        self._skipped += 1
        self._good.add(record["file"])
        if self._arguments.join:
            self._parts.append((record["file"], utterance.settings))
        try:
            self._manifest.keep(line, record)
        except OSError as problem:
            self._end(Stop.of_output(self._manifest.path, problem))
        self._progress.update()

    def _send(self, under: _Under) -> None:
        seconds = under.utterance.expected_seconds
        span = self._timeout or TimeoutConfig().of_job(self._audio + seconds)
        waiter = self._client.submit(under.line.text, **{"timeout": span, **self._options, **under.line.options})
        self._audio += seconds
        self._waiting[waiter] = under
        waiter.add_done_callback(self._finished.put)

    def _collect(self, *, leave: int) -> None:
        """Write what has finished; block only while more than *leave* texts are under way."""
        while self._waiting:
            try:
                waiter = self._next(block=len(self._waiting) > leave)
            except Empty:
                return
            if waiter is None:
                self._withdraw()
                continue
            under = self._waiting.pop(waiter)
            self._audio -= under.utterance.expected_seconds
            if not waiter.cancelled():
                self._record(under, waiter.exception() or waiter.result())

    def _has_room(self) -> bool:
        """Return whether the disk holds twice what is under way, as far as is known: one text at a time goes else."""
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError:
            return True
        return free > 2 * self._audio * _SAMPLE_BYTES * self._voice.sample_rate

    def _next(self, *, block: bool) -> Future[Speech] | None:
        while block:
            leaving = self._stop is not None or self._interrupt.pressed is not None
            try:
                return self._finished.get(_TAKEN_BACK if leaving else _TOLD_AGAIN)
            except Empty:
                down, now = self._down, time.monotonic()
                if leaving:
                    # What was in flight may have come back to wait for the service.
                    self._withdraw()
                elif down is not None and now - self._told_at > _TOLD_AGAIN - 1.0:
                    self._told_at = now
                    self._say(f"still waiting for the service, {now - down:.0f} s by now")
        return self._finished.get(0.0)

    def _withdraw(self) -> None:
        """Take back what has not been sent yet, or all of it where the results have nowhere to go."""
        for waiter in list(self._waiting):
            if self._stop is not None and self._stop.output:
                waiter.cancel()
            else:
                cast("SpeechFuture", waiter).cancel_if_unsent()

    def _record(self, under: _Under, result: Speech | BaseException) -> None:
        if isinstance(result, Speech):
            self._write(under, result)
            return
        if self._goes_back(result):
            # Its time passed while there was nobody to speak it, and nobody waits for it alone.
            try:
                self._send(under)
            except CosyError as error:
                result = error
            else:
                return
        self._fail(under.line, under.utterance, result)

    def _goes_back(self, error: BaseException) -> bool:
        if self._stop is not None or self._interrupt.pressed is not None or self._waited():
            return False
        if isinstance(error, CircuitOpen):
            return bool(self._arguments.wait_for_service)
        return self._down is not None and (
            isinstance(error, DeadlineExceeded) or (isinstance(error, CosyError) and is_nobody(error))
        )

    def _waited(self) -> bool:
        """Return whether the service is down and was waited for as long as it was to be."""
        # A text that fails alone, and makes the client wait for its sake, does so for a few seconds only.
        down = self._down
        return down is not None and time.monotonic() - down >= 0.9 * float(self._arguments.wait_for_service)

    def _write(self, under: _Under, speech: Speech) -> None:
        if self._stop is not None and self._stop.output:
            return  # bought before, but there is nowhere to put it
        self._verdicts.spoken()
        if self._down is not None and time.monotonic() - self._down > _STRAGGLING:
            self._is_up()
        path = self._directory / under.file
        try:
            speech.save(path)
        except OSError as problem:
            if problem.errno in _FOLDER or not os.access(self._directory, os.W_OK):
                self._end(Stop.of_output(self._directory, problem))
                return
            self._fail(under.line, under.utterance, f"cannot write the audio: {problem.strerror}", speech.attempts)
            return
        if not self._note(
            under.line,
            fingerprint=speech.fingerprint,
            file=under.file,
            bytes=len(speech.audio),
            duration=round(speech.duration, 6),
            attempts=speech.attempts,
            error=None,
        ):
            return
        self._good.add(under.file)
        self._succeeded += 1
        self._seconds += speech.duration
        self._progress.update()

    def _fail(
        self, line: Line, utterance: Utterance | None, error: BaseException | str, attempts: int | None = None
    ) -> None:
        said = error if isinstance(error, str) else _named(error)
        if isinstance(error, CosyError):
            self._trouble = trouble_in(error) or self._trouble
            if self._is_outage(error):
                # Not this text's failure: the next run makes it. What is left would hear the same.
                self._end(Stop.of_outage(self._trouble or error))
                return
            if (stop := self._verdicts.failed(error)) is not None:
                self._end(stop)
        self._failed += 1
        self._progress.update()
        if self._told < _SHOWN and self._stop is None:
            self._told += 1
            self._say(f"line {line.number}: {said}", always=True)
        self._note(
            line,
            fingerprint=utterance.fingerprint if utterance else None,
            file=None,
            bytes=None,
            duration=None,
            attempts=len(getattr(error, "attempts", ())) if attempts is None else attempts,
            # A line that is none has no id to be found by.
            error=f"line {line.number}: {said}" if line.error is not None else said,
        )

    def _is_outage(self, error: CosyError) -> bool:
        if self._stop is not None and self._stop.reason == "service down" and error.retryable:
            return True
        if not self._arguments.wait_for_service:
            return is_outage(error, waited=False) or (not self._succeeded and is_nobody(error))
        return is_outage(error, waited=self._waited())

    def _end(self, stop: Stop) -> None:
        """Read no further and send nothing more."""
        if self._stop is None or (stop.output and not self._stop.output):
            self._stop = stop
            self._finished.put(None)

    def _say(self, words: str, *, always: bool = False) -> None:
        if always or not self._arguments.quiet:
            self._progress.write(words, file=sys.stderr)

    def _join(self) -> str | None:
        # A text that failed has no file; its place in the whole is left out, as the exit code says.
        try:
            parts = [self._part(self._directory / name, made) for name, made in self._parts if name in self._good]
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

    def _report(self, elapsed: float, joined: str | None, target: Target, *, interrupted: bool) -> None:
        if self._failed > self._told and self._stop is None:
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
            "stopped": None if self._stop is None else self._stop.reason,
            "emulator": target.emulator,
        }
        if self._arguments.json:
            print(json.dumps(summary, ensure_ascii=False))
        if not self._arguments.quiet:
            speaker = " of the emulator, not of CosyVoice" if target.emulator else ""
            print(
                f"{self._succeeded} speeches{speaker}, {self._seconds:.1f} s of audio in {elapsed:.1f} s "
                f"({summary['requests']} requests); {self._failed} failed, {self._skipped} skipped; "
                f"see {self._manifest.path}",
                file=sys.stderr,
            )


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
