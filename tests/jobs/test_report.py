"""What a job prints: the first failures, and a summary for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cosyclient.jobs.report import MAX_SHOWN_FAILURES, Report

SUMMARY: dict[str, Any] = {
    "elapsed": 2.0,
    "requests": 3,
    "read": 7,
    "total": 7,
    "joined": None,
    "interrupted": False,
    "emulator": False,
}


@pytest.mark.parametrize("quiet", [True, False])
def test_the_first_failures_are_printed_and_the_rest_is_counted(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(Path("m"), quiet=quiet, as_json=False)
    for number in range(MAX_SHOWN_FAILURES + 2):
        report.add_failure(f"line {number}", show=True)
    report.print_summary(**SUMMARY, stopped=None)
    printed = capsys.readouterr().err.splitlines()
    assert printed[:MAX_SHOWN_FAILURES] == [f"line {number}" for number in range(MAX_SHOWN_FAILURES)]
    assert printed[MAX_SHOWN_FAILURES] == "… and 2 more failed; see m"
    assert len(printed) == MAX_SHOWN_FAILURES + (1 if quiet else 2)


def test_failures_after_the_job_has_stopped_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Path("m"), quiet=True, as_json=False)
    report.add_failure("line 1", show=False)
    report.print_summary(**SUMMARY, stopped="refused")
    assert (report.failed, capsys.readouterr().err) == (1, "")


def test_the_summary_counts_every_text_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Path("m"), quiet=True, as_json=True)
    report.add_success(1.5)
    report.add_skipped()
    report.add_failure("line 3", show=False)
    report.print_summary(**SUMMARY, stopped="output")
    summary = json.loads(capsys.readouterr().out)
    assert summary == {
        "texts": 3, "succeeded": 1, "failed": 1, "skipped": 1, "not_sent": 4, "audio_seconds": 1.5,
        "elapsed_seconds": 2.0, "requests": 3, "manifest": "m", "joined": None, "interrupted": False,
        "stopped": "output", "emulator": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("read", "total", "unsent"),
    [
        (3, 3, ""),
        (5, 9, ", 6 not sent"),
        (5, None, ", 2 not sent, the rest of the input not read"),
        (3, None, ", the rest of the input not read"),
    ],
)
def test_the_summary_tells_how_many_texts_were_not_sent(
    read: int, total: int | None, unsent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(Path("m"), quiet=False, as_json=True)
    for _ in range(3):
        report.add_skipped()
    report.print_summary(**{**SUMMARY, "read": read, "total": total}, stopped="refused")
    printed = capsys.readouterr()
    assert printed.err.endswith(f"; 0 failed, 3 skipped{unsent}; see m\n")
    assert json.loads(printed.out)["not_sent"] == (total or read) - 3
