"""Fill a quota that a real Envoy enforces, and find out one that is stricter than told."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from benchmarks.harness import gateway, machine
from benchmarks.harness.extra import NEEDED, require_extra
from benchmarks.harness.loads import Order
from benchmarks.harness.results import Row, Run, medians, write_json
from benchmarks.harness.tables import number, share
from benchmarks.harness.worker import run as run_worker
from benchmarks.suites.quota.report import (
    BATCH,
    CONNECTIONS,
    ROUND_TRIP,
    TOLD,
    conclusions,
    draw,
    introduction,
    tabulate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness.gateway import Gateway, GatewayCounters
    from benchmarks.harness.options import Options
    from cosyclient.emulator import Emulator


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Name one row: which client, under which load, against which gateway."""

    name: str
    label: str
    peer: str
    load: str
    callers: int = 1
    rate: float = TOLD
    """Requests a second that the gateway lets through."""
    bucket: int = 100
    calls: float = 0.0
    """Calls a second of an open load."""
    warm_up: float = 5.0

    @property
    def ours(self) -> bool:
        """Return whether it is cosyclient."""
        return self.peer == "d"

    @property
    def bound(self) -> float:
        """Return the texts per second that can come of it."""
        return min(self.rate * BATCH, self.calls or self.rate * BATCH)


CONTESTS: Final = (
    Contest(name="threads", label="1,750 threads synthesize", peer="d", load="callers", callers=1750),
    Contest(name="submit", label="one caller submits", peer="d", load="submit", callers=3840),
    Contest(name="open", label="3,000 synthesize/s", peer="d", load="open", callers=900, calls=3000.0),
    Contest(
        name="strict60",
        label="submit, gateway at 60/s",
        peer="d",
        load="submit",
        callers=3840,
        rate=60.0,
        bucket=60,
        warm_up=10.0,
    ),
    Contest(
        name="strict6",
        label="the same, its bucket 6",
        peer="d",
        load="submit",
        callers=3840,
        rate=60.0,
        bucket=6,
        warm_up=10.0,
    ),
    Contest(name="asyncio200", label="asyncio, 200 at once", peer="b", load="stream"),
    Contest(name="asyncio20", label="asyncio, 20 at once", peer="b20", load="stream"),
)

QUICK: Final = tuple(
    replace(each, warm_up=each.warm_up / 2) for each in CONTESTS if each.name not in ("strict6", "asyncio20")
)


@dataclass(frozen=True, kw_only=True)
class GatewayRun(Run):
    """Hold what the gateway saw besides; ``requests``, ``throttled`` and ``refused`` are its counts as well."""

    early_throttled: float
    """Requests it refused before the measured part."""
    gateway_cpu: float | None
    """Share of one core that it used."""
    used: float
    """Share of its quota of requests that was used."""

    @property
    def refused_share(self) -> float:
        """Return the share of the requests that was refused with 429."""
        return self.throttled / self.requests if self.requests else 0.0


@dataclass(frozen=True, kw_only=True)
class GatewayRow(Row):
    """Hold one contest's runs."""

    runs: Sequence[GatewayRun]

    @property
    def median(self) -> GatewayRun:
        """Return the medians over the runs."""
        return medians(self.runs)


def run(options: Options) -> None:
    """Measure, print the table, and write ``quota.json`` and ``quota.svg``."""
    require_extra((*NEEDED, "envoy"))
    span = 2.0 if options.quick else 60.0
    contests = QUICK if options.quick else CONTESTS
    about = machine.describe()
    print(f"quota: {introduction(span, contests, options)}\n\n{machine.sentence(about)}\n", flush=True)
    rows = measure(contests, span, options, lambda line: print(line, flush=True))
    print(f"\n{tabulate(contests, rows)}\n\n{conclusions(contests, rows)}")
    document = {
        "benchmark": "quota",
        "quick": options.quick,
        "repeat": options.repeat,
        "machine": about,
        "parameters": {"seconds": span, "audio": options.audio, "contests": [asdict(each) for each in contests]},
        "rows": [row.document() for row in rows],
    }
    write_json(options.output / "quota.json", document)
    draw(options.output / "quota.svg", contests, rows, about)
    print(f"\nwritten: {options.output / 'quota.json'}, {options.output / 'quota.svg'}")


def measure(
    contests: Sequence[Contest], span: float, options: Options, tell: Callable[[str], object]
) -> list[GatewayRow]:
    """Return a row per contest; each run is a fresh client against a fresh Envoy, before the same emulator."""
    from cosyclient.emulator import running

    runs: dict[str, list[GatewayRun]] = {each.name: [] for each in contests}
    with running(engine="tone", rtt=ROUND_TRIP) as service:
        machine.confine(service.pid, machine.part_cores()[1])
        for turn in range(1, options.repeat + 1):
            for each in contests:
                done = measure_one(service, each, span, options.audio)
                runs[each.name].append(done)
                tell(
                    f"  run {turn}/{options.repeat} {each.name:11}{number(done.rate):>7} texts/s, "
                    f"{share(done.refused_share)} refused, {share(done.error_rate)} errors"
                )
    return [GatewayRow(name=each.name, label=each.label, sentence=each.load, runs=runs[each.name]) for each in contests]


def measure_one(service: Emulator, contest: Contest, span: float, audio: str) -> GatewayRun:
    """Return one run of *span* measured seconds, in a process of its own, with what Envoy and the service saw."""
    service.reset()
    plan = gateway.Plan(
        upstream=service.url, rate=contest.rate, bucket=contest.bucket, connections=CONNECTIONS, threads=1
    )
    with gateway.gateway(plan) as front:
        machine.confine(front.pid, machine.part_cores()[1])
        order = Order(
            peer=contest.peer,
            url=front.url,
            audio=audio,
            texts=0,
            callers=contest.callers,
            seconds=span,
            warm_up=contest.warm_up,
            pause=0.0,
            load=contest.load,
            rate=contest.calls,
        )
        looks: list[_Look] = []
        figures = run_worker(order, lambda: looks.append(_look(front, service)))
    before, after = looks
    elapsed = after.at - before.at
    requests = after.seen.requests - before.seen.requests
    throttled = after.seen.rate_limited - before.seen.rate_limited
    return GatewayRun(
        **figures,
        requests=requests,
        throttled=throttled,
        connections=after.seen.connections,
        refused=after.seen.connections_refused,
        service_cpu=_cores(before.service, after.service, elapsed),
        early_throttled=before.seen.rate_limited,
        gateway_cpu=_cores(before.gateway, after.gateway, elapsed),
        used=(requests - throttled) / elapsed / contest.rate,
    )


@dataclass(frozen=True)
class _Look:
    at: float
    seen: GatewayCounters
    gateway: float | None
    service: float | None


def _look(front: Gateway, service: Emulator) -> _Look:
    used = machine.cpu_seconds(front.pid), machine.cpu_seconds(service.pid)
    return _Look(time.monotonic(), front.counters(), *used)


def _cores(before: float | None, after: float | None, elapsed: float) -> float | None:
    return None if before is None or after is None else (after - before) / elapsed
