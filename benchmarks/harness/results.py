"""Hold what was measured: one record per run, the median of several; announce a benchmark and publish its results."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.harness import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness.options import Options


@dataclass(frozen=True, kw_only=True)
class Run:
    """Hold one client's figures: what its user saw, and what the service saw meanwhile."""

    asked: float
    """Texts that ended, one way or the other."""
    finished: float
    """Texts that became audio."""
    elapsed: float
    rate: float
    """Texts per second that became audio, over the whole run."""
    peak: float
    """The same over the best second."""
    latency_mean: float | None
    latency_p50: float | None
    latency_p99: float | None
    failed_mean: float | None
    """Mean seconds until a text that did not become audio was given up."""
    threads: float
    """Most threads of the process at once, callers included."""
    callers: float
    cpu: float
    """Seconds of processor time the client's process used."""
    requests: float
    throttled: float
    """Replies with status 429."""
    early_throttled: float
    """The same before the measured part."""
    refused: float
    """Connections the service refused."""
    service_cpu: float | None
    """Share of one core that the service used."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Texts that did not become audio, by error."""

    @property
    def error_rate(self) -> float:
        """Return the share of the texts asked for that did not become audio."""
        return 1 - self.finished / self.asked if self.asked else 0.0

    @property
    def cpu_per_text(self) -> float | None:
        """Return the processor seconds the client spent per text that became audio."""
        return self.cpu / self.finished if self.finished else None

    @property
    def refused_share(self) -> float:
        """Return the share of the requests that was refused with 429."""
        return self.throttled / self.requests if self.requests else 0.0


def medians(runs: Sequence[Run]) -> Run:
    """Return the run whose every figure is the median of that figure; errors are means."""
    figures: dict[str, Any] = {}
    for each in fields(runs[0]):
        values = [value for run in runs if (value := getattr(run, each.name)) is not None]
        if each.name != "errors":
            figures[each.name] = median(values) if values else None
    errors: Counter[str] = Counter()
    for run in runs:
        errors.update(run.errors)
    return Run(**figures, errors={name: count / len(runs) for name, count in errors.items()})


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one client's name and its runs."""

    name: str
    label: str
    sentence: str
    runs: Sequence[Run]

    @property
    def median(self) -> Run:
        """Return the medians over the runs."""
        return medians(self.runs)

    @property
    def spread(self) -> tuple[float, float]:
        """Return the lowest and the highest rate."""
        rates = [run.rate for run in self.runs]
        return min(rates), max(rates)

    def document(self) -> dict[str, Any]:
        """Return plain values."""
        median = self.median
        derived = {"error_rate": median.error_rate, "cpu_per_text": median.cpu_per_text}
        return {
            "name": self.name,
            "label": self.label,
            "sentence": self.sentence,
            "median": {**asdict(median), **derived},
            "runs": [asdict(run) for run in self.runs],
        }


def announce(name: str, introduction: str) -> dict[str, Any]:
    """Print what the benchmark *name* measures and on what machine; return the machine's description."""
    about = machine.describe()
    print(f"{name}: {introduction}\n\n{machine.sentence(about)}\n", flush=True)
    return about


def publish(
    name: str,
    options: Options,
    about: dict[str, Any],
    figures: Mapping[str, Any],
    draw: Callable[[Path], object],
) -> None:
    """Write the *figures* to ``NAME.json``, have *draw* write ``NAME.svg``, and print where both are."""
    document, picture = options.output / f"{name}.json", options.output / f"{name}.svg"
    write_json(document, {"benchmark": name, "quick": options.quick, "machine": about, **figures})
    draw(picture)
    print(f"\nwritten: {document}, {picture}")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write *document* for machines, and still legible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
