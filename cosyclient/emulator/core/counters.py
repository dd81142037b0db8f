"""Count what the service did, and show it as JSON, as Prometheus text and as a record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What the emulator counted since it started or was last reset.

    Requests are those for ``/batch``; health checks and the emulator's own pages are not counted.
    """

    requests: int
    """Requests that arrived."""
    batches: int
    """Valid batches, faults and replays included."""
    texts: int
    """Texts in those batches."""
    items_failed: int
    """Items answered with an error inside a 200 reply."""
    audio_seconds: float
    """Seconds of audio sent."""
    gpu_seconds: float
    """GPU seconds of the texts taken into the queue."""
    gpu_seconds_wasted: float
    """Those of them spent on texts whose client had left before they were ready."""
    replies: Mapping[int, int]
    """Replies by status; what a fault left without a status is missing here."""
    faults: Mapping[str, int]
    """Faults served, by name."""
    batch_sizes: Mapping[int, int]
    """Batches by their number of texts."""
    replays: int
    """Finished replies sent again for a known idempotency key."""
    stragglers: int
    """Requests whose round trip took ten times as long."""
    in_flight: int
    """Requests being answered now."""
    in_flight_peak: int
    """Most requests ever answered at once."""
    connections_seen: int
    """Connections that arrived, refused ones included."""
    connections_open: int
    """Connections admitted and open now."""
    connections_peak: int
    """Most connections admitted at once."""
    connections_refused: int
    """Connections refused."""
    bytes_in: int
    """Bytes of request bodies, as they were sent."""
    bytes_out: int
    """Bytes of reply bodies, as they were sent."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Counters:
        """Read the document of ``/_emulator/counters``; JSON turned the numeric keys into strings."""
        values = {each.name: document[each.name] for each in fields(cls)}
        for name in ("replies", "batch_sizes"):
            values[name] = {int(key): count for key, count in values[name].items()}
        return cls(**values)


class CounterState:
    """The counters of one service; used on the event loop only."""

    def __init__(self) -> None:
        self.clear()

    def __repr__(self) -> str:
        return f"<CounterState requests={self.requests} in_flight={self.in_flight}>"

    def clear(self) -> None:
        """Count from zero; requests being answered stay in flight."""
        self.requests = self.batches = self.texts = self.items_failed = self.replays = self.stragglers = 0
        self.bytes_in = self.bytes_out = 0
        self.audio_seconds = self.gpu_seconds = self.gpu_seconds_wasted = 0.0
        self.replies: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.batch_sizes: Counter[int] = Counter()
        self.in_flight = getattr(self, "in_flight", 0)
        self.in_flight_peak = self.in_flight

    def start_request(self) -> None:
        """Note a request that arrived."""
        self.requests += 1
        self.in_flight += 1
        self.in_flight_peak = max(self.in_flight_peak, self.in_flight)

    def end_request(self) -> None:
        """Note a request that is over, however it ended."""
        self.in_flight -= 1

    def add_batch(self, size: int) -> None:
        """Note a valid batch."""
        self.batches += 1
        self.texts += size
        self.batch_sizes[size] += 1


def prometheus(counts: Mapping[str, Any]) -> str:
    """Render the counters' document in the Prometheus text format."""
    gauges = {"in_flight", "in_flight_peak", "connections_open", "connections_peak"}
    labels = {"replies": "status", "faults": "fault"}
    lines: list[str] = []
    for name, value in counts.items():
        if name == "batch_sizes":
            continue
        kind = "gauge" if name in gauges else "counter"
        metric = f"cosyvoice_emulator_{name}{'' if kind == 'gauge' else '_total'}"
        lines.append(f"# TYPE {metric} {kind}")
        if name in labels:
            lines += [f'{metric}{{{labels[name]}="{key}"}} {count}' for key, count in sorted(value.items())]
        else:
            lines.append(f"{metric} {value}")
    sizes = {int(size): count for size, count in counts["batch_sizes"].items()}
    metric = "cosyvoice_emulator_batch_texts"
    lines.append(f"# TYPE {metric} histogram")
    for bound in _BUCKETS:
        lines.append(f'{metric}_bucket{{le="{bound}"}} {sum(n for size, n in sizes.items() if size <= bound)}')
    lines.append(f'{metric}_bucket{{le="+Inf"}} {sum(sizes.values())}')
    lines.append(f"{metric}_sum {sum(size * count for size, count in sizes.items())}")
    lines.append(f"{metric}_count {sum(sizes.values())}")
    return "\n".join(lines) + "\n"
