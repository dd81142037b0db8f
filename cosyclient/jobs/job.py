"""One run of ``cosyclient synth``: every line of the input becomes a file and a record of the manifest."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from cosyclient.audio import parse_wav
from cosyclient.clock import Mailbox
from cosyclient.config import TimeoutConfig
from cosyclient.errors import CircuitOpen, CosyError, DeadlineExceeded, DecodeError, did_you_mean
from cosyclient.events import AttemptFinished, ServiceDown, ServiceUp
from cosyclient.jobs.input import OPTIONS
from cosyclient.jobs.outage import REPEAT_INTERVAL, OutageState
from cosyclient.jobs.report import Report
from cosyclient.jobs.stopping import RepeatedFailures, StopReason, describe_error, is_outage, is_unreachable
from cosyclient.models import Speech, Utterance, VoiceSettings, has_speech, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from cosyclient.client import CosyClient
    from cosyclient.events import Event
    from cosyclient.jobs.input import Line
    from cosyclient.jobs.manifest import Manifest
    from cosyclient.jobs.report import Progress
    from cosyclient.pipeline.queue.pending import SpeechFuture

STOPPED_EARLY: Final = 3
NO_OUTPUT: Final = 4
_NO_SPEECH: Final = "nothing in it to be spoken"
_SAMPLE_BYTES: Final = 2
_CANCEL_INTERVAL: Final = 0.2
"""Seconds between two attempts to cancel unsent texts once the job is to end."""
# Errors of the directory, not of one file name: the next file would fail alike.
_DIRECTORY_ERRORS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOENT, errno.ENOTDIR}
)


class Interrupt(Protocol):
    """What asks a job to end early; ``pressed`` is the number of the signal that did, or None."""

    pressed: int | None

    def until_pressed(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Yield *lines* until the job is asked to end."""


class Target(NamedTuple):
    """The service of a job: its address, and whether it is the emulator that the command started."""

    url: str
    emulator: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """Options of one job: those of every text, seconds to wait for the service, where to join the speeches."""

    speech: Mapping[str, Any] = field(default_factory=dict)
    wait_for_service: float = 300.0
    join: str | None = None
    gap: float = 0.2
    quiet: bool = False
    json: bool = False


class _Submitted(NamedTuple):
    """A text under way: its line, its utterance, and the name of its file."""

    line: Line
    utterance: Utterance
    file: str


class Job:
    """One run over one input: call `run`, then `conclude`; `on_event` is to be a listener of the client.

    An `Interrupt` calls `wake` when it asks the job to end.
    """

    def __init__(self, options: JobOptions, voice: VoiceSettings, directory: Path, manifest: Manifest) -> None:
        self._options = options
        self._voice = voice
        self._directory = directory
        self._manifest = manifest
        self._report = Report(manifest.path, quiet=options.quiet, as_json=options.json)
        self._outage = OutageState(options.wait_for_service, self._report.print)
        self._failures = RepeatedFailures()
        # None wakes the thread that waits for the next finished text.
        self._finished: Mailbox[Future[Speech] | None] = Mailbox()
        self._submitted: dict[Future[Speech], _Submitted] = {}
        self._submitted_seconds = 0.0
        self._read = 0
        self._read_all = False
        self._to_join: list[tuple[str, VoiceSettings]] = []
        self._written: set[str] = set()
        self._checked_members: set[str] = set()
        self._stop: StopReason | None = None
        self._started = time.monotonic()

    def on_event(self, event: Event) -> None:
        """Follow outages of the service; called on the client's threads."""
        if isinstance(event, ServiceDown):
            self._outage.begin(event.error)
            cause = self._outage.cause
            if isinstance(cause, DecodeError) and not self._report.succeeded:
                # The service answers, but it has never answered with audio: waiting does not help.
                self._stop_early(StopReason.refused(cause))
            else:
                self._outage.announce_wait(event.error)
        elif isinstance(event, ServiceUp):
            self._outage.end()
        elif isinstance(event, AttemptFinished) and event.error is not None:
            self._outage.observe(event.error)

    def wake(self) -> None:
        """Wake the job while it waits for a finished text; called from a signal handler."""
        self._finished.put(None)

    def run(
        self,
        lines: Iterator[Line],
        client: CosyClient,
        *,
        timeout: float | None,
        progress: Progress,
        interrupt: Interrupt,
    ) -> None:
        """Synthesize *lines* until the last or an early end; without *timeout* texts have that of a bulk call."""
        self._client, self._timeout, self._interrupt = client, timeout, interrupt
        self._report.progress = progress
        self._started = time.monotonic()
        for line in interrupt.until_pressed(lines):
            self._read += 1
            self._begin(line)
            self._finish(max_submitted=client.window if self._disk_has_room() else 0)
            if self._stop is not None:
                break
        else:
            self._read_all = interrupt.pressed is None
        self._finish(max_submitted=0)

    def conclude(self, target: Target, *, count: Callable[[], int | None]) -> int:
        """Join the speeches if that was asked for, print the summary, and return the exit code.

        *count* counts the texts of the whole input, None if that cannot be done; it is called if not all were read.
        """
        pressed = self._interrupt.pressed
        if self._stop is None and pressed is None and not self._written:
            self._stop = self._failures.refusal_of_every_text()
        stop = self._stop
        cut_short = pressed is not None or stop is not None
        if not (self._read or cut_short):
            return self.conclude_empty(emulator=target.emulator)
        joined = self._join() if self._options.join and not cut_short else None
        self._report.print_summary(
            elapsed=time.monotonic() - self._started,
            requests=self._client.stats().executions,
            read=self._read,
            total=self._read if self._read_all else count(),
            joined=joined,
            interrupted=pressed is not None,
            stopped=None if stop is None else stop.kind,
            emulator=target.emulator,
        )
        if stop is not None:
            print(f"cosyclient synth: {stop.message(target.url)}", file=sys.stderr)
        if cut_short:
            why = "interrupted" if pressed is not None else "stopped"
            mending = "after mending this, " if stop is not None and stop.kind == "refused" else ""
            print(f"{why}; {mending}the same command with --resume goes on from here", file=sys.stderr)
        if stop is not None and stop.is_output:
            return NO_OUTPUT
        if pressed is not None:
            return 128 + pressed
        if stop is not None:
            return STOPPED_EARLY
        return 1 if self._report.failed or (self._options.join and joined is None) else 0

    def conclude_empty(self, *, emulator: bool) -> int:
        """Print the summary of an input without a text, for which `run` need not be called, and return 0."""
        self._report.print_summary(
            elapsed=time.monotonic() - self._started,
            requests=0,
            read=0,
            total=0,
            joined=None,
            interrupted=False,
            stopped=None,
            emulator=emulator,
        )
        unmade = f"; {self._options.join} is not written" if self._options.join else ""
        print(f"cosyclient synth: nothing to speak: the input has no text{unmade}", file=sys.stderr)
        return 0

    def _begin(self, line: Line) -> None:
        """Submit the text of *line*, or skip it."""
        utterance = None
        self._warn_of_misspelled_options(line)
        try:
            if line.error is not None:
                raise line.error
            utterance = Utterance(line.text, self._voice.replace(line.options) if line.options else self._voice)
            if utterance.settings.on_silent == "error" and not has_speech(line.text):
                self._skip_silent(line, utterance)
                return
            if (record := self._manifest.finished(line, utterance.fingerprint)) is not None:
                self._keep_earlier(line, utterance, record)
                return
            submitted = _Submitted(line, utterance, self._manifest.file_for(line, utterance.settings.format))
            if self._options.join:
                self._to_join.append((submitted.file, utterance.settings))
            self._submit(submitted)
        except CosyError as error:
            self._fail(line, utterance, error)

    def _warn_of_misspelled_options(self, line: Line) -> None:
        for name in line.extra.keys() - self._checked_members:
            self._checked_members.add(name)
            if near := did_you_mean(name, OPTIONS, cutoff=0.8):
                message = f"line {line.number}: {json.dumps(name)} goes to the manifest only{near}"
                self._report.print(message, always=True)

    def _skip_silent(self, line: Line, utterance: Utterance) -> None:
        """Record that *line* contains nothing to be spoken."""
        nothing = dict.fromkeys(("file", "bytes", "duration"))
        self._record(line, fingerprint=utterance.fingerprint, **nothing, attempts=0, error=None, skipped=_NO_SPEECH)
        self._report.add_skipped()

    def _record(self, line: Line, **record: Any) -> bool:
        """Write the record of *line* and return whether that succeeded; if not, the job stops."""
        try:
            self._manifest.write(line, **record)
        except OSError as error:
            self._stop_early(StopReason.output_failed(self._manifest.path, error))
            return False
        return True

    def _keep_earlier(self, line: Line, utterance: Utterance, record: dict[str, Any]) -> None:
        """Keep the speech that an earlier run made of the text of *line*."""
        self._written.add(record["file"])
        if self._options.join:
            self._to_join.append((record["file"], utterance.settings))
        try:
            self._manifest.keep(line, record)
        except OSError as error:
            self._stop_early(StopReason.output_failed(self._manifest.path, error))
        self._report.add_skipped()

    def _submit(self, submitted: _Submitted) -> None:
        seconds = submitted.utterance.expected_seconds
        timeout = self._timeout or TimeoutConfig().of_job(self._submitted_seconds + seconds)
        options: dict[str, Any] = {"timeout": timeout, "priority": "bulk", **self._options.speech}
        future = self._client.submit(submitted.line.text, **{**options, **submitted.line.options})
        self._submitted_seconds += seconds
        self._submitted[future] = submitted
        future.add_done_callback(self._finished.put)

    def _finish(self, *, max_submitted: int) -> None:
        """Write what has finished; wait only while more than *max_submitted* texts are under way."""
        while self._submitted:
            try:
                future = self._next_finished(wait=len(self._submitted) > max_submitted)
            except Empty:
                return
            if future is None:
                self._cancel_unsent()
                continue
            submitted = self._submitted.pop(future)
            self._submitted_seconds -= submitted.utterance.expected_seconds
            if not future.cancelled():
                self._complete(submitted, future.exception() or future.result())

    def _disk_has_room(self) -> bool:
        """Return whether the disk holds twice what is under way, if that is known; if not, texts go one by one."""
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError:
            return True
        return free > 2 * self._submitted_seconds * _SAMPLE_BYTES * self._voice.sample_rate

    def _next_finished(self, *, wait: bool) -> Future[Speech] | None:
        while wait:
            ending = self._is_ending
            try:
                return self._finished.get(_CANCEL_INTERVAL if ending else REPEAT_INTERVAL)
            except Empty:
                if ending:
                    # A text that was in flight may have been queued again to wait for the service.
                    self._cancel_unsent()
                else:
                    self._outage.announce_again()
        return self._finished.get(0.0)

    @property
    def _is_ending(self) -> bool:
        return self._stop is not None or self._interrupt.pressed is not None

    def _cancel_unsent(self) -> None:
        """Cancel what has not been sent yet, or everything where the results cannot be written."""
        for future in list(self._submitted):
            if self._stop is not None and self._stop.is_output:
                future.cancel()
            else:
                cast("SpeechFuture", future).cancel_if_unsent()

    def _complete(self, submitted: _Submitted, result: Speech | BaseException) -> None:
        if isinstance(result, Speech):
            self._save(submitted, result)
            return
        if self._should_submit_again(result):
            try:
                self._submit(submitted)
            except CosyError as error:
                result = error
            else:
                return
        self._fail(submitted.line, submitted.utterance, result)

    def _should_submit_again(self, error: BaseException) -> bool:
        """Return whether a text failed only because the service is down, and the job still waits for it."""
        if self._is_ending or self._outage.waited_long_enough:
            return False
        if isinstance(error, CircuitOpen):
            return bool(self._outage.max_wait)
        return self._outage.is_down and (
            isinstance(error, DeadlineExceeded) or (isinstance(error, CosyError) and is_unreachable(error))
        )

    def _save(self, submitted: _Submitted, speech: Speech) -> None:
        if self._stop is not None and self._stop.is_output:
            return
        self._failures.record_success()
        self._outage.end_by_speech()
        line, utterance, file = submitted
        try:
            speech.save(self._directory / file)
        except OSError as error:
            if error.errno in _DIRECTORY_ERRORS or not os.access(self._directory, os.W_OK):
                self._stop_early(StopReason.output_failed(self._directory, error))
                return
            self._fail(line, utterance, f"cannot write the audio: {error.strerror}", speech.attempts)
            return
        if not self._record(
            line,
            fingerprint=speech.fingerprint,
            file=file,
            bytes=len(speech.audio),
            duration=round(speech.duration, 6),
            attempts=speech.attempts,
            error=None,
        ):
            return
        self._written.add(file)
        self._report.add_success(speech.duration)

    def _fail(
        self, line: Line, utterance: Utterance | None, error: BaseException | str, attempts: int | None = None
    ) -> None:
        message = error if isinstance(error, str) else describe_error(error)
        if isinstance(error, CosyError):
            self._outage.observe(error)
            if self._is_outage(error):
                # Not recorded as this text's failure, so that the next run makes it.
                self._stop_early(StopReason.service_down(self._outage.cause or error))
                return
            if (stop := self._failures.record_failure(error)) is not None:
                self._stop_early(stop)
        self._report.add_failure(f"line {line.number}: {message}", show=self._stop is None)
        self._record(
            line,
            fingerprint=utterance.fingerprint if utterance else None,
            file=None,
            bytes=None,
            duration=None,
            attempts=len(getattr(error, "attempts", ())) if attempts is None else attempts,
            error=message,
        )

    def _is_outage(self, error: CosyError) -> bool:
        if self._stop is not None and self._stop.kind == "service down" and error.retryable:
            return True
        if not self._outage.max_wait:
            return is_outage(error, waited=False) or (not self._report.succeeded and is_unreachable(error))
        return is_outage(error, waited=self._outage.waited_long_enough)

    def _stop_early(self, stop: StopReason) -> None:
        """Read and send nothing more."""
        if self._stop is None or (stop.is_output and not self._stop.is_output):
            self._stop = stop
            self.wake()

    def _join(self) -> str | None:
        """Join the speeches into one file and return its path; None if that fails."""
        # A text that failed has no file and is left out; the exit code tells of it.
        try:
            parts = [
                self._read_speech(self._directory / file, settings)
                for file, settings in self._to_join
                if file in self._written
            ]
            return str(join(parts, gap=self._options.gap).save(cast("str", self._options.join)))
        except (CosyError, OSError) as error:
            print(f"cosyclient synth: --join {self._options.join}: {error}", file=sys.stderr)
            return None

    def _read_speech(self, path: Path, settings: VoiceSettings) -> Speech:
        audio = path.read_bytes()
        if settings.format != "wav":
            return Speech(audio=audio, format=settings.format, sample_rate=settings.sample_rate)
        wav = parse_wav(audio)
        return Speech(audio=audio, format="wav", sample_rate=wav.sample_rate, channels=wav.channels)
