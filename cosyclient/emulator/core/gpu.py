"""Model the GPUs: each renders one text at a time, first come, first served."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class GpuQueue:
    """Compute when each text is rendered by GPUs that take texts in order.

    A text takes its audio seconds × RTF. The whole queue is arithmetic: because the order is fixed at arrival,
    every finishing time is known at once. A client that disconnects frees no GPU, as in a real service.
    """

    def __init__(self, gpus: int, rtf: float) -> None:
        self._rtf = rtf
        # A heap of the times at which the GPUs come free; empty when the model is off.
        self._free_at = [0.0] * gpus if rtf else []

    def __repr__(self) -> str:
        return f"<GpuQueue gpus={len(self._free_at)} rtf={self._rtf:g}>"

    def backlog(self, now: float) -> float:
        """Return the seconds a text arriving now would wait for a GPU."""
        return max(0.0, self._free_at[0] - now) if self._free_at else 0.0

    def schedule(self, durations: Iterable[float], now: float) -> list[float]:
        """Queue texts by their audio seconds; return the time each is ready, or nothing when GPUs are off."""
        if not self._free_at:
            return []
        ready = []
        for duration in durations:
            end = max(now, self._free_at[0]) + duration * self._rtf
            heapq.heapreplace(self._free_at, end)
            ready.append(end)
        return ready

    def work(self, duration: float) -> float:
        """Return the GPU seconds that a text of *duration* audio seconds takes now; nothing when GPUs are off."""
        return duration * self._rtf if self._free_at else 0.0

    def resize(self, gpus: int, rtf: float, now: float) -> None:
        """Change the GPUs: queued texts keep their finishing times, and GPUs that are removed finish theirs."""
        self._rtf = rtf
        if not rtf:
            gpus = 0
        # The GPUs that are free first are removed; the others keep their queue.
        kept = heapq.nlargest(gpus, self._free_at)
        self._free_at = kept + [now] * (gpus - len(kept))
        heapq.heapify(self._free_at)

    def clear(self) -> None:
        """Drop the queue."""
        self._free_at = [0.0] * len(self._free_at)
