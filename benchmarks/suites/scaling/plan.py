"""What the scaling benchmark runs, and the record of its runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

DELAY: Final = 0.05
"""Seconds after which the service answers."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Describe one client, and the package it needs."""

    label: str
    client: str
    """Module and class."""
    needs: str = ""
    decode: bool = True
    """Whether replies become audio; otherwise they are only read."""
    plain: bool = True
    """Whether replies hold a little WAV, or 4 s of compressed audio; both are JSON with base64."""
    quick: bool = True
    """Whether a quick run has time for it."""
    ours: bool = False

    @property
    def work(self) -> tuple[bool, bool]:
        """Return what it does; peers are compared where that is the same."""
        return self.decode, self.plain


_AT: Final = "benchmarks.peers"
_URLLIB3: Final = Peer(label="urllib3", client=f"{_AT}.urllib3_threads.Urllib3Threads")
_COSYCLIENT: Final = Peer(label="cosyclient", client=f"{_AT}.ours.OurClient", ours=True)
PEERS: Final = (
    _URLLIB3,
    _COSYCLIENT,
    Peer(label="requests", client=f"{_AT}.requests_threads.RequestsThreads", needs="requests"),
    Peer(label="httpx", client=f"{_AT}.httpx_threads.HttpxThreads"),
    Peer(label="httpx2", client=f"{_AT}.httpx_threads.Httpx2Threads", needs="httpx2"),
    Peer(label="httpx on pyreqwest", client=f"{_AT}.httpx_threads.PyreqwestThreads", needs="pyreqwest"),
    Peer(label="aiohttp, tasks", client=f"{_AT}.aiohttp_tasks.AiohttpTasks", needs="aiohttp"),
    replace(_URLLIB3, plain=False),
    replace(_COSYCLIENT, plain=False),
    Peer(label="raw sockets", client=f"{_AT}.raw_sockets.RawSockets", decode=False),
    replace(_URLLIB3, decode=False),
    Peer(label="our transport", client=f"{_AT}.ours.OurTransport", decode=False, ours=True),
    Peer(label="httpx on our pool", client=f"{_AT}.httpx_threads.OurPoolUnderHttpx", decode=False, ours=True),
    Peer(
        label="requests",
        client=f"{_AT}.requests_threads.RequestsThreads",
        needs="requests",
        decode=False,
        quick=False,
    ),
    Peer(label="httpx", client=f"{_AT}.httpx_threads.HttpxThreads", decode=False, quick=False),
    Peer(
        label="httpx on pyreqwest",
        client=f"{_AT}.httpx_threads.PyreqwestThreads",
        needs="pyreqwest",
        decode=False,
        quick=False,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Define how many threads call at once, and how long."""

    steps: tuple[int, ...] = (8, 64, 128, 256)
    warm_up: float = 1.0
    seconds: float = 3.0
    repeat: int = 3
    quick: bool = False

    @property
    def peers(self) -> list[Peer]:
        """Return the peers whose package is installed."""
        return [peer for peer in PEERS if (not peer.needs or find_spec(peer.needs)) and (peer.quick or not self.quick)]


QUICK: Final = Plan(steps=(128,), warm_up=0.5, seconds=0.5, repeat=1, quick=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one peer's runs at one step."""

    peer: Peer
    threads: int
    runs: Sequence[dict[str, Any]]

    def median(self, name: str) -> float | None:
        """Return the median of one figure, or None where no run has it."""
        values = [run[name] for run in self.runs if run[name] is not None]
        return median(values) if values else None

    @property
    def rate(self) -> float:
        """Return requests per second."""
        return self.median("rate") or 0.0

    @property
    def cpu(self) -> float | None:
        """Return the processor seconds the client spent per request that succeeded."""
        spent = [run["cpu"] / run["finished"] for run in self.runs if run["finished"]]
        return median(spent) if spent else None

    @property
    def errors(self) -> Counter[str]:
        """Return how many requests failed, by error, over all runs."""
        return sum((Counter(run["errors"]) for run in self.runs), Counter())
