"""Do no harm: whatever the traffic, a service that keeps up sees no text refused unsent, lost by us, or held back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from cosyclient.config import AdaptiveConfig, ClientConfig
from tests.simulation import Flaky, Network, Service, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation import Told

SEEDS: Final = 1000
CHUNKS: Final = 20
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
    """Describe a service that keeps up and the traffic it sees; made from a seed alone."""

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
        """Return the world of *seed*."""
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
        """Return the service anew."""
        latency, scale = self.latency, self.latency / LONGEST
        speeds: dict[str, Callable[[Sequence[float], random.Random], float]] = {
            "fixed": lambda audio, dice: latency,
            "jittered": lambda audio, dice: latency * dice.lognormvariate(-0.32, 0.8),
            "as long as the longest": lambda audio, dice: 0.01 + scale * max(audio),
            "as long as all": lambda audio, dice: 0.01 + scale * sum(audio),
            "two speeds": lambda audio, dice: latency * (4.0 if dice.random() < 0.5 else 1.0),
            "stragglers": lambda audio, dice: latency * (10.0 if dice.random() < 0.03 else 1.0),
        }
        service: Service = Seasons(latency) if self.kind == "two times" else Network(speeds[self.kind])
        return Flaky(service, self.flaky) if self.flaky else service

    def run(self, config: ClientConfig | None = None) -> Simulation:
        """Let the traffic happen and return the run."""
        world = Simulation(self.service(), seed=self.seed, config=config, concurrency=PERMITS, max_batch=self.max_batch)
        dice = random.Random(self.seed + 1)

        def words() -> str:
            return "字" * dice.randint(1, self.longest)

        def synthesize(left: int) -> Callable[[Told], object]:
            def go_on(_: Told) -> None:
                if left:
                    pause = dice.expovariate(1 / self.pause) if self.pause else 0.0
                    world.at(world.now + pause, lambda: world.ask(words(), self.timeout, synthesize(left - 1)))

            return go_on

        submitters = dice.choice([0, self.callers // 2])
        for caller in range(self.callers):
            begins = dice.choice([0.0, dice.uniform(0.0, 3.0 * self.latency)])
            if caller < submitters:
                for _ in range(min(self.texts, 10)):
                    world.at(begins, lambda: world.ask(words(), self.timeout))
            else:
                world.at(begins, lambda: world.ask(words(), self.timeout, synthesize(self.texts - 1)))
        if self.job:
            # `batch_synth` and `synthesize_many`; one with a time-out of its own only where nothing goes before it.
            alone = self.callers <= PERMITS // 2
            texts = [words() for _ in range(self.job)]
            world.at(dice.uniform(0.0, self.latency), world.job, texts, 2 * self.timeout if alone else None)
        world.run()
        return world


class Seasons:
    """Take four times as long in every other span of seven seconds."""

    def __init__(self, latency: float) -> None:
        self._latency = latency

    def answer(self, now: float, audio: Sequence[float], dice: random.Random) -> Sequence[float]:
        return [now + self._latency * (1.0 if int(now / 7.0) % 2 else 4.0)] * len(audio)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_service_that_keeps_up_sees_no_difference(chunk: int) -> None:
    """A thousand worlds: nothing refused unsent, nothing lost but to four failures in a row, no time lost.

    Plain threads with the same retries lose just those: a text whose four requests all failed.
    """
    for seed in range(chunk, SEEDS, CHUNKS):
        world = World.of(seed)
        ours = world.run()
        lost = ours.lost()
        assert not (lost - type(lost)({"ServiceFault": lost["ServiceFault"]})), (world, lost)
        assert lost["ServiceFault"] <= 4 * world.max_batch * bool(world.flaky), (world, lost)
        if ours.done_at:
            without = world.run(OFF)
            assert ours.done_at <= 1.3 * without.done_at, (world, ours.done_at, without.done_at)
