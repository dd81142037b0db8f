"""The service and its schedule: phases drawn from a seed, faults, and restarts on the same port."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, Final, Self

from cosyclient.emulator import Emulator, Settings

FAULTS: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "throttle": (("throttle", {"retry_after": 1}), ("throttle", {"ms": 200}), ("throttle_bare", {})),
    "error": (("error", {"status": 500}), ("error", {"status": 500, "after": 0.1})),
    "unavailable": (("unavailable", {}), ("error", {"status": 503})),
    "reset": (("reset", {}), ("reset", {"at": 0}), ("reset", {"at": 300})),
    "cut": (("cut", {"share": 0.5, "chunked": True}), ("cut", {"share": 0.9}), ("empty", {})),
    "garbage": (("garbage", {}), ("html", {})),
    "hang": (("hang", {}), ("hang_body", {"seconds": 8.0})),
    "restart": (),
}
"""What is injected for each kind of fault; a restart injects nothing."""
_RTF: Final = 0.1
"""GPU seconds a second of audio while the service is slow: texts wait for each other."""
_PORTS: Final = range(18000, 32000)
"""Ports outside the range from which the system assigns them: while the service is down, its own stay free."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Define what happens in one part of a run."""

    kind: str
    """``calm``, ``slow``, ``idle``, or a kind of fault."""
    seconds: float
    faults: int
    """Requests that meet a fault."""
    interrupts: float
    """Interrupts a second."""
    forks: int
    closes: int
    """Clients that are made, used, and closed during their calls."""
    seed: int


def schedule(seed: int, seconds: float, *, interrupts: bool = True) -> list[Phase]:
    """Return the phases of a run: quiet ones and ones with a fault in turn, each kind of fault equally often."""
    rng = random.Random(seed)
    phases: list[Phase] = []
    faults: list[str] = []
    length = min(3.0, max(1.0, seconds / 20))
    while sum(phase.seconds for phase in phases) < seconds:
        if not faults:
            faults = rng.sample(list(FAULTS), len(FAULTS))
        quiet = rng.choices(("calm", "slow", "idle"), (4, 2, 1))[0]
        phases += [_phase(kind, length, rng, interrupts) for kind in (quiet, faults.pop())]
    return phases


def _phase(kind: str, length: float, rng: random.Random, interrupts: bool) -> Phase:
    return Phase(
        kind=kind,
        seconds=rng.uniform(0.6, 1.4) * length,
        faults=rng.randint(10, 120),
        interrupts=rng.choice((0.0, 20.0, 200.0)) * interrupts,
        forks=rng.choice((0, 0, 1)),
        closes=rng.choice((0, 1, 2)),
        seed=rng.getrandbits(32),
    )


class Service:
    """Run an emulator at one address, though its process is killed and started again meanwhile."""

    def __init__(self) -> None:
        first, second = _free_ports()
        self._settings = Settings(engine="echo", grpc=True, port=first, grpc_port=second)
        self._emulator = Emulator(self._settings)
        self.url, self.grpc_url = self._emulator.url, self._emulator.grpc_url
        self.restarts = 0

    def run_phase(self, phase: Phase) -> None:
        """Inject what *phase* says, and wait until it is over."""
        rng, end = random.Random(phase.seed), time.monotonic() + phase.seconds
        if phase.kind == "restart":
            self.restart(down=phase.seconds / 2)
        elif phase.kind == "slow":
            self._emulator.set_gpus(gpus=2, rtf=_RTF)
        elif phase.kind in FAULTS:
            for _ in range(4):
                name, params = rng.choice(FAULTS[phase.kind])
                self._emulator.inject(name, count=max(1, phase.faults // 4), **params)
        time.sleep(max(0.0, end - time.monotonic()))
        if phase.kind == "slow":
            self._emulator.set_gpus(gpus=0)

    def restart(self, *, down: float) -> None:
        """Kill the process, leave its port closed for *down* seconds, and start another on it."""
        os.kill(self._emulator.pid, signal.SIGKILL)
        self._emulator.close()
        time.sleep(down)
        self._emulator = Emulator(self._settings)
        self.restarts += 1

    def recover(self) -> None:
        """Drop the faults that no request has met yet."""
        self._emulator.reset()

    def close(self) -> None:
        """End the process."""
        self._emulator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Service {self.url} restarts={self.restarts}>"


def _free_ports() -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found[:2]
