"""Measure what a failing service hears of each client: load amplification, probes, and the way back after an outage."""

from __future__ import annotations

import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import machine
from benchmarks.harness.extra import require_extra
from benchmarks.harness.results import write_json
from benchmarks.suites.storm.clients import CLIENTS, Log, Weather, weather
from benchmarks.suites.storm.report import BACK, MOST, conclusions, draw, introduction, tabulate, tabulate_outage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from benchmarks.harness.options import Options
    from cosyclient.emulator import Emulator

SHARES: Final = (0.01, 0.10, 0.25, 0.50, 0.90, 1.00)
_GOODPUT: Final = 0.99
_LOOK: Final = 0.2
"""Seconds between two looks at the service during the outage."""
_IN_FLIGHT: Final = 0.5
"""Seconds after the breaker opened in which requests sent before may still arrive."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how hard and how long."""

    rate: float = 40.0
    rtt: float = 0.05
    seconds: float = 25.0
    open_for: float = 30.0
    healthy: float = 30.0
    """As long as the breaker's window reaches back: successes in it keep the breaker closed at first."""
    outage: float = 60.0
    after: float = 45.0


QUICK: Final = Plan(seconds=1.2, open_for=1.5, healthy=1.5, outage=3.0, after=2.5)


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Hold one client's way through an outage; spans in seconds."""

    client: str
    heard: int
    """Requests that reached the dead service."""
    heard_open: int | None
    """Those after the breaker had first opened."""
    probes: int | None
    """Probes that the half-open breaker was allowed meanwhile."""
    wanted: int
    """Calls made during the outage."""
    back: float | None
    """Seconds from recovery until 99 % goodput, or None if that never came."""
    opening: float
    """Seconds of them in which the breaker was still open."""
    lost_after: int
    """Calls made after the recovery that failed."""
    goodput: Sequence[tuple[float, float]]
    """Share of the calls made in each second, counted from the beginning of the outage, that succeeded."""

    @property
    def beyond(self) -> float | None:
        """Return the seconds until 99 % goodput beyond the time the breaker was still open."""
        return None if self.back is None else max(0.0, self.back - self.opening)


def run(options: Options) -> None:
    """Measure, print the tables, and write ``storm.json`` and ``storm.svg``."""
    require_extra()
    plan, about = QUICK if options.quick else Plan(), machine.describe()
    print(f"storm: {introduction(plan, options.repeat)}\n\n{machine.sentence(about)}\n", flush=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(CLIENTS), mp_context=spawn) as processes:
        rows = [row for turn in range(options.repeat) for row in storms(plan, options.audio, processes, turn)]
        rows = medians(rows)
        print(f"{tabulate(rows)}\n", flush=True)
        outages = outage(plan, options.audio, processes)
    print(f"{tabulate_outage(outages)}\n\n{conclusions(rows, outages)}")
    write_json(
        options.output / "storm.json",
        {
            "benchmark": "storm",
            "quick": options.quick,
            "repeat": options.repeat,
            "machine": about,
            "parameters": {**asdict(plan), "clients": CLIENTS},
            "targets": {"amplification": MOST, "seconds_beyond_the_open_time": BACK},
            "rows": rows,
            "outage": [{**asdict(each), "beyond": each.beyond} for each in outages],
        },
    )
    draw(options.output / "storm.svg", rows, outages, plan, about)
    print(f"\nwritten: {options.output / 'storm.json'}, {options.output / 'storm.svg'}")


# A share of all requests fails


def storms(plan: Plan, audio: str, processes: Executor, turn: int) -> list[dict[str, Any]]:
    """Return a row per client and share; in each slot every client meets another share, so all run side by side."""
    rows = []
    with ExitStack() as stack:
        services = _services(stack, plan, [{"error": each} for each in SHARES], seed=turn)
        for slot in range(len(SHARES)):
            met = {client: (slot + place) % len(SHARES) for place, client in enumerate(CLIENTS)}
            for place in met.values():
                services[place].reset()
            running = {
                client: processes.submit(weather, _order(plan, client, services[place], audio, plan.seconds))
                for client, place in met.items()
            }
            for client, place in met.items():
                log = running[client].result()
                rows.append(_row(client, SHARES[place], log, services[place].counters().requests))
    return rows


def _services(stack: ExitStack, plan: Plan, faults: Sequence[dict[str, float]], seed: int) -> list[Emulator]:
    from cosyclient.emulator import Emulator, Settings

    with ThreadPoolExecutor(4) as starters:
        settings = [Settings(engine="tone", rtt=plan.rtt, fault=fault, seed=seed + n) for n, fault in enumerate(faults)]
        return [stack.enter_context(service) for service in list(starters.map(Emulator, settings))]


def _order(plan: Plan, client: str, service: Emulator, audio: str, span: float) -> Weather:
    return Weather(client=client, url=service.url, audio=audio, rate=plan.rate, seconds=span, open_for=plan.open_for)


def _row(client: str, failing: float, log: Log, requests: int) -> dict[str, Any]:
    errors, wanted = log.errors, len(log.calls)
    return {
        "client": client,
        "share": failing,
        "wanted": wanted,
        "requests": requests,
        "amplification": requests / wanted,
        "succeeded": log.succeeded,
        "circuit_open": errors["CircuitOpen"],
        "budget_spent": errors["RetryBudgetSpent"],
        "errors": dict(errors),
        "slept": log.slept,
    }


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per client and share: the median of each figure, and the spread of the amplification."""
    found = []
    for client in CLIENTS:
        for failing in SHARES:
            runs = [row for row in rows if (row["client"], row["share"]) == (client, failing)]
            figures = {name: median(run[name] for run in runs) for name, value in runs[0].items() if _is_figure(value)}
            factors = [run["amplification"] for run in runs]
            found.append({**runs[0], **figures, "lowest": min(factors), "highest": max(factors)})
    return found


def _is_figure(value: object) -> bool:
    return isinstance(value, (int, float))


# Everything fails for a while


def outage(plan: Plan, audio: str, processes: Executor) -> list[Outage]:
    """Return how each client goes through an outage; all at once, each with a service of its own."""
    with ExitStack() as stack:
        services = dict(zip(CLIENTS, _services(stack, plan, [{}] * len(CLIENTS), seed=0), strict=True))
        whole = plan.healthy + plan.outage + plan.after
        # The first seconds are the processes' own start.
        running = {
            client: processes.submit(weather, _order(plan, client, service, audio, whole))
            for client, service in services.items()
        }
        while not all(service.counters().requests for service in services.values()):
            time.sleep(_LOOK)
        time.sleep(plan.healthy)
        with ThreadPoolExecutor(len(services)) as hands:
            begun = time.monotonic()
            list(hands.map(lambda service: service.inject("error", count=100_000, status=500), services.values()))
            before = {client: service.counters().requests for client, service in services.items()}
            looks: dict[str, list[tuple[float, int]]] = {client: [] for client in services}
            while time.monotonic() < begun + plan.outage:
                for client, counted in zip(
                    services, hands.map(lambda each: each.counters(), services.values()), strict=True
                ):
                    looks[client].append((time.monotonic(), counted.requests - before[client]))
                time.sleep(_LOOK)
            list(hands.map(lambda service: service.reset(), services.values()))
            ended = time.monotonic()
        return [story(client, running[client].result(), looks[client], begun, ended) for client in services]


def story(client: str, log: Log, looks: Sequence[tuple[float, int]], begun: float, ended: float) -> Outage:
    """Return what *log* and the *looks* at the service say of an outage from *begun* to *ended*."""
    opened = [at for at, state in log.changes if state == "open"]
    heard_open = probes = None
    if opened:
        heard_open = looks[-1][1] - next((count for at, count in looks if at >= opened[0] + _IN_FLIGHT), looks[-1][1])
        probes = 5 * sum(opened[0] < at < ended for at, state in log.changes if state == "half-open")
    still = [at for at, state in log.changes if state == "half-open" and at >= ended]
    was_open = bool(still) and [state for at, state in log.changes if at < ended][-1:] == ["open"]
    return Outage(
        client=client,
        heard=looks[-1][1],
        heard_open=heard_open,
        probes=probes,
        wanted=sum(begun <= call.made < ended for call in log.calls),
        back=back_after(log, ended),
        opening=still[0] - ended if was_open else 0.0,
        lost_after=sum(bool(call.error) and call.made >= ended for call in log.calls),
        goodput=goodput(log, begun),
    )


def back_after(log: Log, ended: float) -> float | None:
    """Return the seconds after *ended* from which on 99 % of the calls made, in all and in the next second, succeed."""
    calls = sorted(call for call in log.calls if call.made >= ended)
    last = calls[-1].made if calls else ended
    for step in range(int((last - ended) * 10)):
        since = ended + step / 10
        rest = [not call.error for call in calls if call.made >= since]
        soon = [not call.error for call in calls if since <= call.made < since + 1.0]
        if rest and soon and min(sum(rest) / len(rest), sum(soon) / len(soon)) >= _GOODPUT:
            return step / 10
    return None


def goodput(log: Log, begun: float) -> list[tuple[float, float]]:
    """Return for each second, counted from *begun*, the share of the calls made then that succeeded."""
    seconds: dict[int, list[bool]] = {}
    for call in log.calls:
        seconds.setdefault(math.floor(call.made - begun), []).append(not call.error)
    return [(float(second), sum(ends) / len(ends)) for second, ends in sorted(seconds.items())]
