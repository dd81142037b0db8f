"""A healthy service, whatever the traffic: the client rejects no text unsent, loses none and delays none."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from cosyclient.config import AdaptiveConfig, ClientConfig
from tests.support.simulation import Flaky, Network, Quota, Service, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.simulation import Result

SEEDS: Final = 240
CHUNKS: Final = 8
OFF: Final = ClientConfig(adaptive=AdaptiveConfig(enabled=False))
PERMITS: Final = 40
SECONDS_A_CHARACTER: Final = 0.2
LONGEST: Final = 400 * SECONDS_A_CHARACTER
KINDS: Final = (
    "fixed",
    "jittered",
    "as long as the longest",
    "as long as all",
    "two speeds",
    "two times",
    "stragglers",
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Describe a service that keeps up and the traffic it sees; made from a seed."""

    seed: int
    kind: str
    latency: float
    flaky: float
    max_batch: int
    callers: int
    texts: int
    job: int
    pause: float
    longest: int
    timeout: float

    @classmethod
    def of(cls, seed: int) -> World:
        """Return the case of *seed*."""
        dice = random.Random(seed)
        kind = dice.choice(KINDS)
        latency = 10 ** dice.uniform(-1.7, 0.5)
        flaky = dice.choice([0.0, 0.0, dice.uniform(0.0, 0.2)])
        max_batch = dice.choice([1, 8, 64])
        callers = dice.choice([1, 3, 10, 40, 100, 300])
        longest = dice.choice([5, 40, 400])
        # The longest that a service takes for an attempt, but for jitter: there three times the mean.
        worst = {
            "jittered": 3.0 * latency,
            "as long as all": latency * max_batch,
            "two speeds": 4.0 * latency,
            "two times": 4.0 * latency,
            "stragglers": 10.0 * latency,
        }.get(kind, latency)
        # Callers beyond the permits wait for each other.
        rounds = 1.0 + callers / (PERMITS * max_batch)
        timeout = dice.uniform(10.0, 40.0) * worst * rounds
        return cls(
            seed=seed,
            kind=kind,
            latency=latency,
            flaky=flaky,
            max_batch=max_batch,
            callers=callers,
            texts=max(2, 300 // callers),
            job=dice.choice([0, 0, 50, 400]),
            pause=dice.choice([0.0, 0.0, 1.0, 20.0]) * latency,
            longest=longest,
            # The back-off of three retries is a wait of ours, which plain threads have as well.
            timeout=max(timeout, 8.0) if flaky else timeout,
        )

    def service(self) -> Service:
        """Return a new service."""
        latency, scale = self.latency, self.latency / LONGEST
        speeds: dict[str, Callable[[Sequence[float], random.Random], float]] = {
            "fixed": lambda audio, dice: latency,
            "jittered": lambda audio, dice: latency * dice.lognormvariate(-0.32, 0.8),
            "as long as the longest": lambda audio, dice: 0.01 + scale * max(audio),
            "as long as all": lambda audio, dice: 0.01 + scale * sum(audio),
            "two speeds": lambda audio, dice: latency * (4.0 if dice.random() < 0.5 else 1.0),
            "stragglers": lambda audio, dice: latency * (10.0 if dice.random() < 0.03 else 1.0),
        }
        service: Service = (
            Steps(4.0 * latency, latency, 7.0) if self.kind == "two times" else Network(speeds[self.kind])
        )
        return Flaky(service, self.flaky) if self.flaky else service

    def run(self, config: ClientConfig | None = None) -> Simulation:
        """Run the traffic and return the simulation."""
        world = Simulation(self.service(), seed=self.seed, config=config, concurrency=PERMITS, max_batch=self.max_batch)
        dice = random.Random(self.seed + 1)

        def words() -> str:
            return "字" * dice.randint(1, self.longest)

        def synthesize(left: int) -> Callable[[Result], object]:
            def go_on(_: Result) -> None:
                if left:
                    pause = dice.expovariate(1 / self.pause) if self.pause else 0.0
                    world.at(world.now + pause, lambda: world.submit(words(), self.timeout, synthesize(left - 1)))

            return go_on

        submitters = dice.choice([0, self.callers // 2])
        for caller in range(self.callers):
            begins = dice.choice([0.0, dice.uniform(0.0, 3.0 * self.latency)])
            if caller < submitters:
                for _ in range(min(self.texts, 10)):
                    world.at(begins, lambda: world.submit(words(), self.timeout))
            else:
                world.at(begins, lambda: world.submit(words(), self.timeout, synthesize(self.texts - 1)))
        if self.job:
            # `batch_synth` and `synthesize_many`; one with a time-out of its own only where nothing goes before it.
            alone = self.callers <= PERMITS // 2
            texts = [words() for _ in range(self.job)]
            world.at(dice.uniform(0.0, self.latency), world.submit_job, texts, 2 * self.timeout if alone else None)
        world.run()
        return world


class Steps:
    """Answer after *first* seconds, then after *then*, in turns of *every* seconds, whatever is in flight."""

    def __init__(self, first: float, then: float, every: float) -> None:
        self._latencies = (first, then)
        self._every = every

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Sequence[float]:
        return [now + self._latencies[int(now / self._every) % 2]] * len(audio)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_service_that_keeps_up_loses_no_text(chunk: int) -> None:
    """No text is rejected unsent, only four failures in a row lose one, and it takes at most 1.3 × the time.

    Plain threads with the same retries lose just those: a text whose four requests all failed.
    """
    for seed in range(chunk, SEEDS, CHUNKS):
        world = World.of(seed)
        ours = world.run()
        lost, without = ours.failures(), world.run(OFF)
        assert set(lost) <= {"ServiceFault"}, (world, lost)
        assert lost.total() <= without.failures().total() + world.max_batch, (world, lost)
        assert ours.done_at <= 1.3 * without.done_at, (world, ours.done_at, without.done_at)


# Open load: callers do not wait for each other, so more is in flight because a service is slow, not the other way


def open_load(service: Service, seed: int, *, rate: float, timeout: float, config: ClientConfig | None) -> Simulation:
    """Run two minutes of *rate* texts a second that arrive at random, and return the simulation."""
    world = Simulation(service, seed=seed, config=config)
    dice = random.Random(seed)

    def arrive() -> None:
        world.submit("字" * dice.randint(1, 40), timeout)
        if world.now < 120.0:
            world.at(world.now + dice.expovariate(rate), arrive)

    world.at(0.0, arrive)
    world.run()
    return world


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("quick", "slow", "every", "rate", "timeout"),
    [
        (0.2, 3.0, 30.0, 100.0, 31.0),
        (0.2, 3.0, 30.0, 100.0, 7.0),
        (0.5, 5.0, 30.0, 20.0, 50.0),
        (0.2, 2.5, 5.0, 50.0, 25.0),
    ],
)
def test_a_service_that_becomes_slower_by_itself_loses_no_text(
    quick: float, slow: float, every: float, rate: float, timeout: float, seed: int
) -> None:
    """More is in flight then, because it is slow; with less it is not faster, so the limit is lifted."""
    ours = open_load(Steps(quick, slow, every), seed, rate=rate, timeout=timeout, config=None)
    assert not ours.failures()
    without = open_load(Steps(quick, slow, every), seed, rate=rate, timeout=timeout, config=OFF)
    waits, usual = (sum(result.waited for result in world.results) for world in (ours, without))
    assert waits <= 1.3 * usual


# Refusals that have nothing to do with how much is asked for: a sick node, another client's share of a quota


def job_of_calls(service: Service, seed: int, *, calls: int = 4000, rate: float = 100.0) -> Simulation:
    """Return a run of forty callers with single texts at *rate* requests a second."""
    world = Simulation(service, seed=seed, max_batch=1, rate=rate)
    left = [calls]

    def go_on(_: object = None) -> None:
        if left[0]:
            left[0] -= 1
            world.submit("字" * 20, 60.0, go_on)

    for _ in range(40):
        go_on()
    world.run()
    return world


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("share", "most"), [(0.002, 1.4), (0.01, 1.45), (0.05, 2.5), (0.2, 2.6)])
def test_refusals_by_chance_are_not_taken_for_a_quota(share: float, most: float, seed: int) -> None:
    """429 for some requests at any rate: a lower rate is tried, and given up as it does not help."""
    world = job_of_calls(Flaky(Network(lambda audio, dice: 0.05), share, throttled=True), seed)
    assert world.done_at <= most * 40.0 / (1.0 - share)
    lost = world.failures()
    assert set(lost) <= {"Throttled"}
    assert lost.total() <= 4 + 4000 * 2 * share**4


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_only_refused_calls_wait_for_a_retry_after_by_chance(share: float) -> None:
    """A pause of a second for all after each refusal by chance would be most of the time."""
    for seed in range(3):
        service = Flaky(Network(lambda audio, dice: 0.05), share, throttled=True, retry_after=1.0)
        world = job_of_calls(service, seed)
        assert world.done_at <= 150.0
        assert not world.failures()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("burst", [6.0, 60.0])
@pytest.mark.parametrize("share", [0.0, 0.01])
def test_a_stricter_quota_is_found_among_refusals_by_chance(share: float, burst: float, seed: int) -> None:
    """60 a second though 100 are configured, with or without refusals by chance."""
    service: Service = Quota(Network(lambda audio, dice: 0.05), 60.0, burst)
    world = job_of_calls(Flaky(service, share, throttled=True) if share else service, seed)
    assert world.failures().total() <= (6 if share else 0)
    assert world.done_at <= 4000 / 60.0 * (1.3 if share else 1.2)
    assert world.requests <= 4000 * (1.16 if share else 1.02)


@pytest.mark.parametrize("seed", range(2))
def test_a_quota_that_is_halved_is_followed(seed: int) -> None:
    """The proven rate is no longer accepted, and is forgotten soon."""
    service = Quota(Network(lambda audio, dice: 0.05), 60.0, 10.0)
    world = Simulation(service, seed=seed, max_batch=1, rate=100.0)

    def arrive() -> None:
        if world.now < 120.0:
            world.submit("字" * 20, 300.0)
            world.at(world.now + 1 / 90.0, arrive)

    world.at(0.0, arrive)
    world.at(60.0, lambda: setattr(service, "_rate", 30.0))
    before = []
    world.at(60.0, lambda: before.append(world.requests))
    world.at(120.0, lambda: before.append(world.requests))
    world.run()
    assert world.failures().total() <= 2
    # A thousand and eight hundred were accepted in that minute; few more were asked.
    assert before[1] - before[0] <= 1.06 * 1800
