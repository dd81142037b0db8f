"""Watch resident memory while a million texts go through the client: it must stay flat, and small."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from statistics import linear_regression, median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.harness.measure import peak_bytes, resident_bytes
from benchmarks.harness.pictures import DASHED, OTHERS, OURS, canvas, made_by, tidy
from benchmarks.harness.prepared import Replies, serving, wav
from benchmarks.harness.processes import read_parameters, run_module
from benchmarks.harness.results import announce, publish
from benchmarks.harness.tables import number, seconds, table
from benchmarks.harness.texts import DIFFERENT, text
from benchmarks.harness.transports import InstantTransport
from cosyclient import ClientConfig, CosyClient, PacingConfig
from cosyclient.testing import ScriptedReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.harness.options import Options
    from cosyclient import Outcome
    from cosyclient.wire import WireReply, WireRequest

_POINTS: Final = 200
_TARGET_BYTES: Final = 150 << 20


def run(options: Options) -> None:
    """Measure, print the table, and write ``memory.json`` and ``memory.svg``."""
    count = 12_000 if options.quick else 1_000_000
    about = announce("memory", _introduction(count))
    rows = [{"job": job, **_measure_apart(job, count // each.share)} for job, each in JOBS.items()]
    print(tabulate(rows))
    publish("memory", options, about, {"texts": count, "rows": rows}, lambda path: draw(path, rows, about))


def _introduction(count: int) -> str:
    return (
        f"resident memory while {count:,} texts pass\n\n"
        "Texts of 20 Chinese characters in requests of up to 64, the default 40 in flight, no pacing; the service\n"
        "answers at once. To disk: each speech is appended to one file, which is emptied at 64 MB. Each row is a\n"
        "fresh process. The slope is that between a third and nine tenths, the peak the system's own figure,\n"
        "interpreter and libraries included."
    )


def _measure_apart(job: str, count: int) -> dict[str, Any]:
    with serving("frames", JOBS[job].audio_bytes) as url:
        return run_module("benchmarks.suites.memory", {"job": job, "count": count, "url": url})


# In a process of its own


class CountingTransport(InstantTransport):
    """Answer every request at once with as many speeches as it has texts."""

    def __init__(self, replies: Replies) -> None:
        super().__init__(replies.media_type)
        self._replies = replies

    def send(self, request: WireRequest, **_: object) -> WireReply:
        """Return the reply, its bytes made anew as a socket would."""
        body = self._replies.body(len(json.loads(request.body)["texts"]))
        return ScriptedReply(200, self._headers, (body,))


class Watch:
    """Record resident memory at even steps of the count."""

    def __init__(self, count: int) -> None:
        self._step = max(1, count // _POINTS)
        self.points: list[tuple[int, int]] = []
        self.count = 0

    def note(self) -> None:
        """Count one speech more."""
        self.count += 1
        if self.count % self._step == 0:
            self.points.append((self.count, resident_bytes()))

    def __repr__(self) -> str:
        return f"<Watch {self.count} speeches, {len(self.points)} points>"


def measure(job: str, count: int, url: str) -> dict[str, Any]:
    """Run one job in this process and return its figures."""
    watch = Watch(count)
    before, started, cpu = resident_bytes(), time.perf_counter(), time.process_time()
    with _client(JOBS[job], url) as client:
        errors = JOBS[job].work(client, count, watch)
        threads = threading.active_count()
    elapsed = time.perf_counter() - started
    # Neither the filling of the window at the start nor its emptying at the end is a trend.
    later = watch.points[len(watch.points) // 3 : -len(watch.points) // 10]
    slope, _ = linear_regression([count for count, _ in later], [held for _, held in later])
    return {
        "texts": count,
        "finished": watch.count,
        "errors": errors[:5],
        "failed": len(errors),
        "before": before,
        "peak": peak_bytes(),
        "plateau": median(held for _, held in later),
        "slope": slope * 100_000,
        "elapsed": elapsed,
        "cpu": (time.process_time() - cpu) / count,
        "threads": threads,
        "points": watch.points,
    }


def _client(job: Job, url: str) -> CosyClient:
    return CosyClient(
        url,
        requests_per_second=1e6,
        concurrency=40,
        config=ClientConfig(pacing=PacingConfig(burst=1_000_000)),
        transport=None if job.socket else CountingTransport(Replies("frames", wav(job.audio_bytes))),
    )


def _wanted(count: int) -> Iterator[str]:
    return (text(number % DIFFERENT) for number in range(count))


def _to_disk(client: CosyClient, count: int, watch: Watch, **options: Any) -> list[str]:
    errors = []
    with tempfile.TemporaryFile() as file:
        for outcome in client.synthesize_many(_wanted(count), **options):
            if outcome.speech is None:
                errors.append(str(outcome.error))
                continue
            if file.write(outcome.speech.audio) and file.tell() > 64 << 20:
                file.seek(0)
                file.truncate()
            watch.note()
    return errors


def _unordered(client: CosyClient, count: int, watch: Watch) -> list[str]:
    return _to_disk(client, count, watch, ordered=False)


def _submit(client: CosyClient, count: int, watch: Watch) -> list[str]:
    errors: list[str] = []
    lock = threading.Lock()

    def done(outcome: Outcome) -> None:
        with lock:
            if outcome.error is None:
                watch.note()
            else:
                errors.append(str(outcome.error))

    # Nothing is kept and nothing waited for: a full queue is what slows this down.
    for each in _wanted(count):
        client.submit(each, on_done=done)
    client.close()
    return errors


class Job(NamedTuple):
    """Name one way of sending many texts and what answers them."""

    label: str
    work: Callable[[CosyClient, int, Watch], list[str]]
    socket: bool = False
    audio_bytes: int = 20_000
    share: int = 1
    """The part of all texts it is given: some cost several times as much a text."""


JOBS: Final = {
    "socket": Job("synthesize_many to disk", _to_disk, socket=True),
    "nothing": Job("synthesize_many to disk", _to_disk),
    "unordered": Job("synthesize_many, ordered=False", _unordered),
    "submit": Job("submit with on_done", _submit),
    "wav": Job("synthesize_many to disk", _to_disk, socket=True, audio_bytes=190_000, share=10),
}


# Table and picture


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return the table."""
    heads = [
        "job",
        "answered by",
        "audio",
        "texts",
        "failed",
        "before",
        "plateau",
        "peak",
        "slope per\n100,000",
        "< 150 MB",
        "CPU a text",
        "texts/s",
    ]
    return table(
        heads,
        [
            [
                job.label,
                "a socket" if job.socket else "no socket",
                number(job.audio_bytes / 1000, unit=" KB"),
                number(row["texts"]),
                number(row["failed"]),
                _mb(row["before"]),
                _mb(row["plateau"]),
                _mb(row["peak"]),
                number(row["slope"] / 1024, unit=" KB"),
                "yes" if row["peak"] < _TARGET_BYTES else "no",
                seconds(row["cpu"]),
                number(row["finished"] / row["elapsed"]),
            ]
            for row in rows
            if (job := JOBS[row["job"]])
        ],
    )


def _mb(size: float) -> str:
    return number(size / (1 << 20), unit=" MB")


def draw(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Draw resident memory over texts."""
    caption = (
        f"Resident memory of the client's whole process, interpreter and libraries included; dashed: the target.\n"
        f"{made_by('memory', about)}"
    )
    title = f"Resident memory while {max(row['texts'] for row in rows):,} texts pass"
    with canvas(path, title=title, caption=caption, size=(11.5, 4.6)) as (axis,):
        tidy(axis, "MB, over the share of the texts that are done")
        for row, colour in zip(rows, (OURS, *OTHERS), strict=False):
            job = JOBS[row["job"]]
            done = [count / row["texts"] * 100 for count, _ in row["points"]]
            way = ", a socket" if job.socket else ""
            label = f"{job.label},\n{row['texts']:,} x {job.audio_bytes // 1000} KB{way}"
            axis.plot(done, [held / (1 << 20) for _, held in row["points"]], color=colour, linewidth=1.6, label=label)
        axis.axhline(_TARGET_BYTES >> 20, **DASHED)
        axis.set_xlim(0, 100)
        axis.set_ylim(0)
        axis.set_xlabel("% of the texts")
        axis.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.01, 1), labelspacing=0.9)


if __name__ == "__main__":
    print(json.dumps(measure(**read_parameters())))
