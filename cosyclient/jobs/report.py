"""What a job counts and prints: failures as they happen, and the summary."""

from __future__ import annotations

import json
import sys
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

MAX_SHOWN_FAILURES: Final = 5
"""Failures that are printed one by one; the manifest has them all."""


class Progress(Protocol):
    """A progress bar: a job calls `update` for each finished text and prints through `write`."""

    def update(self) -> object:
        """Count one text."""

    def write(self, message: str, file: IO[str]) -> object:
        """Print *message* to *file* above the bar."""


class NoProgress:
    """A progress bar that shows nothing."""

    def update(self) -> None:
        """Show nothing."""

    def write(self, message: str, file: IO[str]) -> None:
        """Print *message* to *file*."""
        print(message, file=file)


class Report:
    """The counters of one job and all its output; *quiet* leaves the failures and what is printed *always*."""

    def __init__(self, manifest: Path, *, quiet: bool, as_json: bool) -> None:
        self.progress: Progress = NoProgress()
        self.succeeded = self.failed = self.skipped = 0
        self.audio_seconds = 0.0
        self._manifest = manifest
        self._quiet = quiet
        self._as_json = as_json
        self._shown_failures = 0

    def add_success(self, audio_seconds: float) -> None:
        """Count a text that was synthesized."""
        self.succeeded += 1
        self.audio_seconds += audio_seconds
        self.progress.update()

    def add_skipped(self) -> None:
        """Count a text that needs no synthesis."""
        self.skipped += 1
        self.progress.update()

    def add_failure(self, message: str, *, show: bool) -> None:
        """Count a text that failed; print *message* if *show*, unless enough were printed."""
        self.failed += 1
        self.progress.update()
        if show and self._shown_failures < MAX_SHOWN_FAILURES:
            self._shown_failures += 1
            self.print(message, always=True)

    def print(self, message: str, *, always: bool = False) -> None:
        """Print *message* to stderr."""
        if always or not self._quiet:
            self.progress.write(message, file=sys.stderr)

    def print_summary(
        self,
        *,
        elapsed: float,
        requests: int,
        read: int,
        total: int | None,
        joined: str | None,
        interrupted: bool,
        stopped: str | None,
        emulator: bool,
    ) -> None:
        """Print the summary: a line on stderr, and JSON on standard output if that was asked for.

        *read* texts were read, of *total* in the input; None if they cannot be counted.
        """
        if self.failed > self._shown_failures and stopped is None:
            print(f"… and {self.failed - self._shown_failures} more failed; see {self._manifest}", file=sys.stderr)
        recorded = self.succeeded + self.failed + self.skipped
        not_sent = max(0, (read if total is None else total) - recorded)
        summary: dict[str, Any] = {
            "texts": recorded,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "skipped": self.skipped,
            "not_sent": not_sent,
            "audio_seconds": round(self.audio_seconds, 3),
            "elapsed_seconds": round(elapsed, 3),
            "requests": requests,
            "manifest": str(self._manifest),
            "joined": joined,
            "interrupted": interrupted,
            "stopped": stopped,
            "emulator": emulator,
        }
        if self._as_json:
            print(json.dumps(summary, ensure_ascii=False))
        if not self._quiet:
            source = " of the emulator, not of CosyVoice" if emulator else ""
            unsent = f", {not_sent} not sent" if not_sent else ""
            if total is None:
                unsent += ", the rest of the input not read"
            print(
                f"{self.succeeded} speeches{source}, {self.audio_seconds:.1f} s of audio in {elapsed:.1f} s "
                f"({requests} requests); {self.failed} failed, {self.skipped} skipped{unsent}; see {self._manifest}",
                file=sys.stderr,
            )
