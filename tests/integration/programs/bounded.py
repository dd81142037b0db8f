"""Submit far more than a bounded queue holds, to a service that never answers or answers at once; watch the memory."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosyclient import ClientConfig, CosyClient, PacingConfig, QueueConfig, QueueFull
from cosyclient.transports.base import PoolStats
from tests.support.service import answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from cosyclient.wire import WireReply, WireRequest

PLACES = 1000
LOOKS = 20


def resident() -> int:
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def look(traced: bool) -> dict[str, int]:
    """Return what is in memory a moment from now: a worker may still be putting its last batch away."""
    time.sleep(0.005)
    gc.collect()
    return {
        "resident": resident(),
        "objects": len(gc.get_objects()),
        "traced": tracemalloc.get_traced_memory()[0] if traced else 0,
    }


def least(looks: list[dict[str, int]]) -> dict[str, int]:
    """Return the least of each figure."""
    return {name: min(each[name] for each in looks) for name in looks[0]}


def main(overflow: str, count: int) -> None:
    """Print how many were accepted and refused, the most places taken, and how memory grew after a quarter."""
    free = threading.Event()
    service = _Service(free if overflow == "reject" else None)
    config = ClientConfig(
        pacing=PacingConfig(burst=1_000_000),
        queue=QueueConfig(max_pending=PLACES, overflow="reject" if overflow == "reject" else "block"),
    )
    standing = PLACES if overflow == "reject" else 0
    refused = most = 0
    marks: list[dict[str, int]] = []
    traced = count <= 50_000
    with CosyClient(
        "http://nowhere.test",
        transport=service,
        concurrency=2,
        requests_per_second=1e6,
        timeout=3600,
        config=config,
    ) as client:
        if traced:
            tracemalloc.start()
        for number in range(count):
            try:
                client.submit(f"text {number}")
            except QueueFull:
                refused += 1
            if number % 100 == 0:
                most = max(most, client.stats().pending)
            if number in (count // 4, count - 1):
                # What waits at the moment is no growth: look when as much waits as the last time.
                eventually(lambda: client.stats().pending == standing, "the queue stands still")
                marks.append(least([look(traced) for _ in range(LOOKS)]))
        free.set()
        client.close()
        stats = client.stats()
    grown: dict[str, Any] = {name: marks[1][name] - marks[0][name] for name in marks[0]}
    ended = {"spoken": stats.utterances, "failed": stats.failed, "pending": stats.pending}
    json.dump({"refused": refused, "most": most, "grown": grown, "resident": marks[1]["resident"], **ended}, sys.stdout)


class _Service:
    """Answer each request at once, or not before *free* is set; remember nothing."""

    def __init__(self, free: threading.Event | None) -> None:
        self._free = free

    def send(self, request: WireRequest, **_: object) -> WireReply:
        if self._free is not None:
            self._free.wait()
        return answer(request)

    def stats(self) -> PoolStats:
        return PoolStats()

    def close(self) -> None:
        pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
