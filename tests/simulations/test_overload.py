"""Overload in fake time: GPUs with endless queues, limits on requests in flight, stalls, changes of capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cosyclient.config import AdaptiveConfig, ClientConfig
from tests.support.simulation import ConcurrencyQuota, Gpus, Network, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEEDS = range(2)
OFF = ClientConfig(adaptive=AdaptiveConfig(enabled=False))
MEAN_SECONDS = 4.0


def overload(
    seed: int,
    load: float,
    seconds: float,
    *,
    service: Gpus | None = None,
    timeout: float = 10.0,
    max_batch: int = 64,
    changes: Sequence[tuple[float, int]] = (),
    config: ClientConfig | None = None,
) -> Simulation:
    """Return a run of texts of 2 to 6 s that arrive at random, *load* times as many as *service* can render."""
    service = service or Gpus()
    world = Simulation(service, seed=seed, max_batch=max_batch, config=config)
    gap = MEAN_SECONDS / (load * service.capacity)

    def arrive() -> None:
        world.submit("字" * world.dice.randint(10, 30), timeout)
        world.at(world.now + world.dice.expovariate(1 / gap), arrive)

    world.at(0.0, arrive)
    for instant, count in changes:
        world.at(instant, lambda count=count: service.resize(count, world.now))
    world.run(seconds)
    return world


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [2.0, 5.0])
def test_overload_costs_no_goodput(load: float, seed: int) -> None:
    """At two and five times the capacity 95 % of it goes to texts that are in time."""
    world = overload(seed, load, 75.0)
    assert world.goodput(20.0, 75.0) >= 0.95 * 4 / 0.06
    # Nearly all others were not sent, so nothing is rendered in vain.
    lost = world.failures()
    assert lost["DeadlineExceeded unsent"] >= 0.97 * lost.total()


@pytest.mark.parametrize("load", [2.0, 5.0])
def test_without_the_adaptive_limit_overload_costs_nearly_all_goodput(load: float) -> None:
    """Forty batches of 64 in flight: replies come too late. So the test above measures the limit."""
    assert overload(1, load, 75.0, config=OFF).goodput(20.0, 75.0) <= 0.1 * 4 / 0.06


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("service", "max_batch"),
    [
        (lambda: Gpus(1), 64),
        (lambda: Gpus(8), 64),
        (lambda: Gpus(4), 1),
        (lambda: Gpus(4, whole=True), 1),
        (lambda: Gpus(4, whole=True), 64),
        (lambda: Gpus(4, noise=0.5), 64),
        (lambda: Gpus(4, noise=0.5), 1),
    ],
    ids=["one", "eight", "single texts", "slots", "a request a slot", "noisy", "noisy single texts"],
)
def test_the_capacity_is_used_for_any_queue(service: Callable[[], Gpus], max_batch: int, seed: int) -> None:
    """One GPU or eight, one text or a whole request at a time, rendering times that vary by half."""
    made = service()
    world = overload(seed, 3.0, 90.0, service=made, max_batch=max_batch)
    assert world.goodput(40.0, 90.0) >= 0.9 * made.capacity


@pytest.mark.parametrize("timeout", [5.0, 31.0])
def test_the_capacity_is_used_whatever_the_time_limit(timeout: float) -> None:
    """Five seconds, or the default."""
    assert overload(1, 3.0, 120.0, timeout=timeout).goodput(50.0, 120.0) >= 0.95 * 4 / 0.06


@pytest.mark.parametrize("seed", SEEDS)
def test_a_changed_capacity_is_used_soon(seed: int) -> None:
    """Half of it within 15 s, twice that within 2 s, twice that again within 2 s."""
    world = overload(seed, 4.0, 180.0, changes=[(60.0, 2), (100.0, 4), (140.0, 8)])
    assert world.goodput(75.0, 100.0) >= 0.95 * 2 / 0.06
    assert world.goodput(102.0, 140.0) >= 0.95 * 4 / 0.06
    assert world.goodput(142.0, 180.0) >= 0.95 * 8 / 0.06


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stall", [2.5, 15.0])
def test_a_service_that_stalled_is_used_again(stall: float, seed: int) -> None:
    """Also when it stalls for longer than any text waits: old texts and old estimates block nothing."""
    world = overload(seed, 2.0, 120.0, service=Gpus(stall=stall))
    assert world.goodput(60.0, 120.0) >= 0.85 * 4 / 0.06


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_minutes_of_overload_change_nothing(seed: int) -> None:
    """The latency of a lone attempt is remembered though there is none: the service's queue stays short."""
    world = overload(seed, 2.0, 600.0)
    for since in range(100, 600, 100):
        assert world.goodput(since, since + 100.0) >= 0.95 * 4 / 0.06


@pytest.mark.parametrize("count", [3, 10, 25])
def test_a_limit_on_requests_in_flight_is_found_by_its_refusals(count: int) -> None:
    """429 beyond so many at once, 200 ms each, with one and a half times as many as that allows."""
    world = Simulation(ConcurrencyQuota(Network(lambda audio, dice: 0.2), count), seed=1, max_batch=1)

    def arrive() -> None:
        world.submit("字" * 20, 10.0)
        world.at(world.now + world.dice.expovariate(1.5 * count / 0.2), arrive)

    world.at(0.0, arrive)
    world.run(60.0)
    served = sum(result.at >= 20.0 for result in world.successes) / 40.0
    assert served >= 0.75 * count / 0.2
    # By then pacing is what holds it back.
    assert min(limit for at, limit in world.limits if at < 10.0) <= count
    assert world.requests <= 1.2 * len(world.results)


@pytest.mark.parametrize("max_batch", [1, 64])
def test_a_job_at_a_slow_gpu_loses_no_text(max_batch: int) -> None:
    """Forty at once, 1.3 s each: the last is answered after most of a minute, and is not retried."""
    world = Simulation(Gpus(1, rtf=0.25, rtt=0.2), seed=1, max_batch=max_batch)
    world.submit_job([f"{number:03}" + "字" * 26 for number in range(100)], None)
    world.run()
    assert not world.failures()
    assert world.requests <= 100
    assert world.endpoint.breaker.state == "closed"


def test_calls_at_a_slow_gpu_lose_no_text() -> None:
    """Twenty at once with the default deadline, which leaves time for all."""
    world = Simulation(Gpus(1, rtf=0.25, rtt=0.2), seed=1, max_batch=1)
    for number in range(20):
        world.submit(f"{number:03}" + "字" * 26, 31.45)
    world.run()
    assert not world.failures()
    assert world.requests == 20


@pytest.mark.parametrize("seed", SEEDS)
def test_many_calls_at_once_do_not_open_the_breaker(seed: int) -> None:
    """Two hundred callers at once at 1.7 times the capacity: they wait for each other."""
    world = Simulation(Gpus(4), seed=seed)

    def go_on(_: object = None) -> None:
        if world.now < 90.0:
            world.submit("字" * world.dice.randint(24, 30), 10.0, go_on)

    for _ in range(200):
        go_on()
    world.run(120.0)
    assert world.endpoint.breaker.state == "closed"
    assert not world.failures()["CircuitOpen unsent"]
    assert world.goodput(40.0, 90.0) >= 0.9 * 4 / 0.06


@pytest.mark.parametrize("gpus", [1, 4])
def test_a_bulk_job_at_slow_gpus_loses_no_text(gpus: int) -> None:
    """More than a minute's work at once without a time-out: a job has as long as its audio may take."""
    world = Simulation(Gpus(gpus, rtf=0.06 * gpus), seed=1)
    world.submit_job([f"{number:04}" + "字" * 20 for number in range(1000)], None)
    world.run()
    assert not world.failures()
    assert len(world.successes) == 1000
