"""Do no harm, over real sockets: traffic by chance at services that keep up, and what used to be harmed."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from cosyclient import CosyClient, CosyError, PacingConfig, PartialFailure, ServiceFault
from cosyclient.config import ClientConfig
from cosyclient.emulator import running
from cosyclient.events import BreakerChanged, LimitChanged
from cosyclient.testing import RecordingListener
from tests.support.waiting import eventually

UNPACED: dict[str, Any] = {"requests_per_second": 1e5, "config": ClientConfig(pacing=PacingConfig(burst=1000))}


class Kept:
    """A client and the events its listeners received."""

    def __init__(self, url: str, **terms: Any) -> None:
        self.received = RecordingListener()
        self.cosy = CosyClient(url, format="opus", listeners=[self.received], **terms)

    def lost(self, *texts: str, **options: Any) -> Counter[str]:
        """Return the errors of a bulk call."""
        try:
            self.cosy.batch_synth(texts, **options)
        except PartialFailure as failure:
            return Counter(type(error).__name__ for error in failure.errors.values())
        return Counter()

    def assert_left_alone(self) -> None:
        """Neither limit nor breaker has moved, so nothing was held back, and all permits are back."""
        assert not self.received.of(LimitChanged)
        assert not self.received.of(BreakerChanged)
        # A worker whose texts are all done may hold its permit a moment longer.
        eventually(lambda: not (self.cosy.stats().in_flight or self.cosy.stats().pending), "everything came back")
        assert self.cosy.stats().rejected == 0


def test_all_submits_after_a_light_load_succeed() -> None:
    """Three short calls showed 4 s of audio a second; three hundred long texts need not be done at that pace."""
    with running(engine="tone", rtt=0.2) as service, Kept(service.url).cosy as cosy:
        for number in range(3):
            cosy.synthesize(f"短{number}")
        futures = [cosy.submit(f"{number:03}" + "长" * 257, timeout=10.0) for number in range(300)]
        assert all(future.result().duration > 10 for future in futures)
        assert cosy.stats().limit == 40


def test_a_pool_of_batches_after_one_small_call_loses_nothing() -> None:
    """The drop-in: fifty threads, each with forty texts."""
    with running(engine="tone", rtt=0.2) as service:
        kept = Kept(service.url)
        with kept.cosy, ThreadPoolExecutor(50) as threads:
            kept.cosy.synthesize("短")
            parts = [[f"{part} {number} 春暖花开" for number in range(40)] for part in range(50)]
            assert sum(threads.map(lambda part: kept.lost(*part).total(), parts)) == 0
            kept.assert_left_alone()


def test_a_new_client_uses_its_configured_concurrency() -> None:
    """A thousand texts leave in sixteen requests, as many at once as there are."""
    with running(engine="tone", rtt=0.2) as service:
        kept = Kept(service.url)
        with kept.cosy:
            assert not kept.lost(*(f"{number} 春暖花开" for number in range(1000)))
            counters = service.counters()
            assert counters.batches == 16
            kept.assert_left_alone()


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_flaky_service_is_not_slowed_down(share: float) -> None:
    """503 at once, for one request in twenty or in five: what is lost had failed four times."""
    with running(engine="tone", rtt=0.02, seed=1, fault={"unavailable": share}) as service:
        kept = Kept(service.url, max_batch=1, concurrency=32, **UNPACED)
        with kept.cosy, ThreadPoolExecutor(32) as threads:

            def call(number: int) -> CosyError | None:
                try:
                    kept.cosy.synthesize(f"{number} 春暖花开")
                except CosyError as error:
                    return error
                return None

            lost = [error for error in threads.map(call, range(600)) if error is not None]
            assert all(isinstance(error, ServiceFault) and len(error.attempts) == 4 for error in lost)
            assert len(lost) <= 600 * share**4 + 6
            kept.assert_left_alone()


@pytest.mark.parametrize("max_batch", [1, 64])
@pytest.mark.parametrize(
    "switches",
    [
        {"rtt": 0.05, "jitter": 0.8},
        {"rtt": 0.03, "stragglers": 0.03},
        {"rtt": 0.01, "gpus": 2560, "rtf": 0.02},
    ],
    ids=["jitter", "stragglers", "time by length"],
)
def test_any_traffic_at_a_service_that_keeps_up(switches: dict[str, Any], max_batch: int) -> None:
    """Calls, submits and jobs at once, 5 to 47 characters: all is spoken, and nothing moves."""
    with running(engine="tone", seed=max_batch, **switches) as service:
        dice = random.Random(max_batch)
        lengths = range(1, 50, 7)
        with CosyClient(service.url, format="opus") as first:
            # Rendering a length for the first time takes the service longer than it should.
            first.batch_synth("0000" + "字" * length for length in lengths)
        kept = Kept(service.url, max_batch=max_batch, **UNPACED)
        with kept.cosy as cosy, ThreadPoolExecutor(24) as threads:

            def words(number: int) -> str:
                return f"{number:04}" + "字" * dice.choice(lengths)

            job = threads.submit(kept.lost, *(words(1000 + n) for n in range(200)))
            many = threads.submit(_spoken, cosy, [words(2000 + n) for n in range(60)])
            calls = [threads.submit(cosy.synthesize, words(n), timeout=30.0) for n in range(150)]
            futures = [cosy.submit(words(3000 + n), timeout=30.0) for n in range(100)]
            assert all(each.result().audio for each in (*calls, *futures))
            assert not job.result()
            assert many.result() == 60
            kept.assert_left_alone()


def _spoken(cosy: CosyClient, texts: list[str]) -> int:
    return sum(outcome.unwrap().duration > 0 for outcome in cosy.synthesize_many(texts, ordered=False))


class Restarting(httpx.BaseTransport):
    """Accept all forty requests that may be in flight, fail them together, and answer from then on."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.number = itertools.count()
        self.all_out = threading.Barrier(40)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if next(self.number) < 40:
            self.all_out.wait(10.0)
            raise httpx.ReadError("connection reset by peer", request=request)
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


def test_a_restart_that_resets_all_in_flight_loses_nothing() -> None:
    """Forty failures at a job's start are one event: the breaker stays closed, and the budget affords their retries."""
    with running(engine="tone") as service, Restarting() as transport:
        kept = Kept(service.url, transport=transport, **UNPACED, concurrency=40)
        with kept.cosy:
            assert kept.lost(*(f"第{number}句话。" for number in range(5120))) == {}
            kept.assert_left_alone()
