"""Record when texts became audio, and what the process used meanwhile."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_STATUS: Final = Path("/proc/self/status")


class Ending(NamedTuple):
    """Hold how *texts* texts sent in one request ended: when, after how long, and with what error if any."""

    at: float
    latency: float
    texts: int
    error: str


class Recorder:
    """Record endings; safe from many threads, because it only ever appends."""

    def __init__(self) -> None:
        self._endings: list[Ending] = []

    def succeeded(self, started: float, texts: int = 1) -> None:
        """Record that *texts* texts, asked for at *started*, are audio now."""
        now = time.perf_counter()
        self._endings.append(Ending(now, now - started, texts, ""))

    def took(self, latency: float, texts: int = 1) -> None:
        """Record that *texts* texts are audio now, *latency* seconds after they were asked for."""
        self._endings.append(Ending(time.perf_counter(), latency, texts, ""))

    def failed(self, started: float, error: BaseException | str, texts: int = 1) -> None:
        """Record that *texts* texts, asked for at *started*, will not become audio."""
        now = time.perf_counter()
        name = error if isinstance(error, str) else type(error).__name__
        self._endings.append(Ending(now, now - started, texts, name))

    def between(self, since: float, until: float) -> list[Ending]:
        """Return what ended from *since* up to *until*, in order of time."""
        return sorted(ending for ending in list(self._endings) if since <= ending.at < until)

    def __repr__(self) -> str:
        return f"<Recorder {len(self._endings)} endings>"


def summary(endings: Sequence[Ending], elapsed: float) -> dict[str, Any]:
    """Return the figures of a run of *elapsed* seconds; latencies are those of texts that became audio."""
    bad = [ending for ending in endings if ending.error]
    good = [ending for ending in endings if not ending.error]
    finished = sum(ending.texts for ending in good)
    errors: Counter[str] = Counter()
    for ending in bad:
        errors[ending.error] += ending.texts
    return {
        "asked": sum(ending.texts for ending in endings),
        "finished": finished,
        "elapsed": elapsed,
        "rate": finished / elapsed,
        "peak": peak(good),
        "latency_mean": mean(good),
        "latency_p50": percentile(good, 0.50),
        "latency_p99": percentile(good, 0.99),
        "failed_mean": mean(bad),
        "errors": dict(errors),
    }


def peak(endings: Sequence[Ending], window: float = 1.0) -> float:
    """Return the most texts per second over any *window* seconds; *endings* come in order of time."""
    best = inside = first = 0
    for ending in endings:
        inside += ending.texts
        while endings[first].at <= ending.at - window:
            inside -= endings[first].texts
            first += 1
        best = max(best, inside)
    return best / window


def mean(endings: Sequence[Ending]) -> float | None:
    """Return the mean latency of the texts, or None without any."""
    texts = sum(ending.texts for ending in endings)
    return math.fsum(ending.latency * ending.texts for ending in endings) / texts if texts else None


def percentile(endings: Sequence[Ending], share: float) -> float | None:
    """Return the latency that *share* of the texts did not exceed (nearest rank), or None without any."""
    rank = math.ceil(share * sum(ending.texts for ending in endings))
    for ending in sorted(endings, key=lambda ending: ending.latency):
        rank -= ending.texts
        if rank <= 0:
            return ending.latency
    return None


class Usage:
    """Watch this process from a thread of its own: the most threads at once, itself excluded, and processor time."""

    def __init__(self, interval: float = 0.05) -> None:
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)
        self._cpu = 0.0
        self.threads = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._cpu = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cpu(self) -> float:
        """Return the seconds of processor time used since the start."""
        return time.process_time() - self._cpu

    def start_over(self) -> None:
        """Count from now on; what came before was warm-up."""
        self.threads = 0
        self._cpu = time.process_time()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self.threads = max(self.threads, threads_now() - 1)

    def __repr__(self) -> str:
        return f"<Usage {self.threads} threads, {self.cpu:.1f} s>"


def threads_now() -> int:
    """Return the threads of this process, those Python did not start included where the system counts them."""
    try:
        return _status("Threads")
    except (OSError, StopIteration):
        return threading.active_count()


def resident_bytes() -> int:
    """Return the resident memory of this process now."""
    return _status("VmRSS") * 1024


def peak_bytes() -> int:
    """Return the most resident memory this process has had."""
    return _status("VmHWM") * 1024


def resources() -> dict[str, int]:
    """Return the threads and the open files of this process."""
    return {"threads": threads_now(), "files": len(os.listdir("/proc/self/fd"))}


def settled(look: Callable[[], dict[str, int]], wanted: dict[str, int], seconds: float) -> dict[str, int]:
    """Return what *look* sees as soon as that is *wanted*, or what it sees after *seconds*."""
    end = time.monotonic() + seconds
    while (seen := look()) != wanted and time.monotonic() < end:
        time.sleep(0.01)
    return seen


def _status(name: str) -> int:
    with _STATUS.open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))
