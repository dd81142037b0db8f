"""Texts of bulk calls wait for a service that is down: no outage shorter than their deadline loses one."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

from cosyclient import (
    BreakerConfig,
    CircuitOpen,
    ClientConfig,
    ConnectFailed,
    CosyClient,
    DeadlineExceeded,
    PartialFailure,
    RetryConfig,
    ServiceFault,
    Throttled,
    TransportError,
)
from cosyclient.emulator import Emulator, Settings
from cosyclient.events import ServiceDown, ServiceUp
from cosyclient.testing import FakeClock, RecordingListener, scripted_client
from tests.support.ports import quiet_port
from tests.support.service import answer, refuse, text_in, texts_of
from tests.support.waiting import GENEROUS, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cosyclient.wire import WireReply, WireRequest

TEXTS = [f"text {n}" for n in range(200)]


class Clock(FakeClock):
    """Advance in small steps, so that the timer of one thread does not skip what others still do."""

    def wait(self, gate: threading.Lock, seconds: float) -> bool:
        """Advance by at most 0.1 s."""
        if gate.acquire(timeout=0.001):
            return True
        self.advance(min(seconds, 0.1))
        return False


def service(
    clock: FakeClock, outages: Iterable[tuple[float, float]], fault: Callable[[], WireReply | Exception]
) -> Callable[[WireRequest], WireReply | Exception]:
    """Return a service that answers in 0.1 s, and with *fault* during the *outages* (seconds from now)."""
    spans = [(clock.now() + begin, clock.now() + end) for begin, end in outages]

    def act(request: WireRequest) -> WireReply | Exception:
        if any(begin <= clock.now() < end for begin, end in spans):
            return fault()
        clock.advance(0.1)
        return answer(request)

    return act


FAULTS: dict[str, Callable[[], WireReply | Exception]] = {
    "refused": lambda: ConnectFailed("connection refused"),
    "reset": lambda: TransportError("connection reset"),
    "503": lambda: refuse(503),
    "502": lambda: refuse(502),
}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", ["refused", "503", "502"])
def test_an_outage_of_eight_seconds_loses_no_text(kind: str, ordered: bool) -> None:
    clock = Clock()
    listener = RecordingListener()
    client, transport = scripted_client(
        service(clock, [(0.5, 8.5)], FAULTS[kind]), clock=clock, max_batch=8, listeners=[listener]
    )
    with client:
        outcomes = sorted(client.synthesize_many(TEXTS, ordered=ordered), key=lambda outcome: outcome.index)
        assert [text_in(outcome.unwrap()) for outcome in outcomes] == TEXTS
        assert client.stats().pending == 0
    assert [down.error.retryable or isinstance(down.error, CircuitOpen) for down in listener.of(ServiceDown)] == [True]
    (up,) = listener.of(ServiceUp)
    assert 2 < up.seconds < 30
    # First attempts and retries of what was in flight, then a single text now and then.
    assert len(transport.requests) < 25 + 120


def test_any_outage_shorter_than_the_deadline_is_waited_out() -> None:
    dice = random.Random(7)
    for _ in range(15):
        clock = FakeClock()
        begin = dice.uniform(0.3, 3.0)
        outages = [(begin, begin + dice.uniform(0.1, 20.0))]
        outages.append((outages[0][1] + dice.uniform(0.0, 2.0), outages[0][1] + dice.uniform(2.0, 12.0)))
        fault = FAULTS[dice.choice(["refused", "503", "502"])]
        client, _ = scripted_client(service(clock, outages, fault), clock=clock, max_batch=dice.choice([1, 5, 64]))
        with client:
            # A service that has answered before is waited for until the deadline.
            client.synthesize("hello")
            assert [text_in(audio) for audio in client.batch_synth(TEXTS[:60])] == TEXTS[:60]


def test_a_service_that_has_never_answered_is_waited_for_half_a_minute() -> None:
    clock = FakeClock()
    client, _ = scripted_client(service(clock, [(0.0, 20.0)], FAULTS["refused"]), clock=clock)
    with client:
        assert len(client.batch_synth(TEXTS)) == len(TEXTS)
    clock = FakeClock()
    client, _ = scripted_client(service(clock, [(0.0, 1e9)], FAULTS["refused"]), clock=clock)
    began = clock.now()
    with client, pytest.raises(PartialFailure) as caught:
        client.batch_synth(TEXTS)
    assert len(caught.value.errors) == len(TEXTS)
    assert 29 < clock.now() - began < 120


def test_a_text_that_waited_in_vain_fails_with_the_error_of_its_attempts() -> None:
    """The first batches are sent; the others find the breaker open, which names what they never saw."""
    clock = FakeClock()
    client, _ = scripted_client(
        lambda _: ConnectFailed("no such host, key s3cret-key"), clock=clock, max_batch=8, api_key="s3cret-key"
    )
    with client:
        outcomes = list(client.synthesize_many(TEXTS))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert len(errors) == len(TEXTS)
    assert {type(error) for error in errors if error.attempts} == {ConnectFailed}
    for error in errors:
        assert "no such host" in str(error)
        assert "s3cret" not in str(error)
        assert [attempt.number for attempt in error.attempts] == list(range(1, len(error.attempts) + 1))
    assert not any(error.sent for error in errors)
    assert all("it opened after: ConnectFailed: " in str(error) for error in errors if isinstance(error, CircuitOpen))
    assert max(len(error.attempts) for error in errors) > 4, "those of earlier sends are listed as well"


def test_calls_that_find_the_breaker_open_say_what_opened_it() -> None:
    client, _ = scripted_client(lambda _: ConnectFailed("no such host"), clock=FakeClock())
    with client:
        for _ in range(8):
            with pytest.raises((ConnectFailed, CircuitOpen), match="ConnectFailed: no such host|^no such host"):
                client.synthesize("text")
        with pytest.raises(CircuitOpen):
            client.synthesize("text")


@pytest.mark.parametrize(("wait", "least", "most"), [(0.0, 0.0, 10.0), (5.0, 4.0, 20.0)])
def test_the_wait_for_a_service_is_configurable(wait: float, least: float, most: float) -> None:
    clock = FakeClock()
    client, _ = scripted_client(
        service(clock, [(0.3, 1e9)], FAULTS["refused"]),
        clock=clock,
        config=ClientConfig(retry=RetryConfig(wait_for_service=wait)),
    )
    began = clock.now()
    with client:
        client.synthesize("hello")
        clock.advance(1.0)
        outcomes = list(client.synthesize_many(TEXTS))
        assert all(isinstance(outcome.error, (ConnectFailed, CircuitOpen)) for outcome in outcomes)
        assert least < clock.now() - began - 1.0 < most
        # Later texts do not wait again.
        again = clock.now()
        assert isinstance(next(client.synthesize_many(["more"])).error, (ConnectFailed, CircuitOpen))
        assert clock.now() - again < 5.0


def test_a_deadline_during_an_outage_carries_its_cause() -> None:
    clock = FakeClock()
    client, _ = scripted_client(service(clock, [(0.3, 1e9)], FAULTS["refused"]), clock=clock)
    with client:
        client.synthesize("hello")
        clock.advance(1.0)
        future = client.submit("text", priority="bulk", timeout=40.0)
        with pytest.raises(DeadlineExceeded, match="waiting for the service to recover: ") as caught:
            future.result(GENEROUS)
        assert isinstance(caught.value.__cause__, (ConnectFailed, CircuitOpen))
        assert not caught.value.sent
        assert client.stats().pending == 0


def test_a_text_that_fails_for_its_own_reason_fails_alone() -> None:
    """Other texts are answered meanwhile, so the service is not down; alone at the end, it gets a few more attempts."""
    clock = FakeClock()

    def act(request: WireRequest) -> WireReply:
        clock.advance(0.01)
        return refuse(500) if "poison" in texts_of(request) else answer(request)

    client, transport = scripted_client(act, clock=clock, max_batch=1)
    began = clock.now()
    with client:
        outcomes = list(client.synthesize_many([*TEXTS[:50], "poison", *TEXTS[50:100]]))
        assert [outcome.index for outcome in outcomes if outcome.error] == [50]
        assert isinstance(outcomes[50].error, ServiceFault)
        assert isinstance(next(client.synthesize_many(["poison"])).error, ServiceFault)
    assert sum("poison" in texts_of(request) for request in transport.requests) <= 2 * 4 * 4
    assert clock.now() - began < 300, "long before its deadline"


def test_throttling_is_waited_out_as_well() -> None:
    clock = FakeClock()
    client, _ = scripted_client(
        service(clock, [(0.0, 25.0)], lambda: refuse(429, **{"Retry-After": "1"})), clock=clock, max_retries=1
    )
    with client:
        assert len(client.batch_synth(TEXTS[:10])) == 10
    client, transport = scripted_client(lambda _: refuse(429, "insufficient_quota"))
    with client:
        assert isinstance(next(client.synthesize_many(["text"])).error, Throttled)
    assert len(transport.requests) == 1, "no wait helps here"


def test_a_call_for_one_text_fails_at_once_and_the_bulk_call_goes_on() -> None:
    clock = FakeClock()
    down = threading.Event()

    def act(request: WireRequest) -> WireReply | Exception:
        return ConnectFailed("connection refused") if down.is_set() else answer(request)

    # Time moves only by the sleeps of the calls, so nothing checks whether the service is back.
    class Still(FakeClock):
        def wait(self, gate: threading.Lock, seconds: float) -> bool:
            return gate.acquire(timeout=0.01)

    clock = Still()
    client, _ = scripted_client(act, clock=clock)
    with client:
        client.synthesize("hello")
        down.set()
        bulk = client.submit("same", priority="bulk", timeout=600.0)
        assert not bulk.done()
        with pytest.raises((ConnectFailed, CircuitOpen)):
            client.synthesize("same")
        assert not bulk.done()
        down.clear()
        clock.advance(60.0)
        assert text_in(bulk.result(GENEROUS)) == "same"
        assert bulk.result().attempts > 4
        assert client.stats().pending == 0


def test_closing_ends_the_wait_with_its_cause() -> None:
    clock = FakeClock()
    clock.wait = lambda gate, seconds: gate.acquire(timeout=0.01)  # type: ignore[method-assign]
    client, _ = scripted_client(lambda _: ConnectFailed("connection refused"), clock=clock)
    futures = [client.submit(text, priority="bulk") for text in TEXTS[:20]]
    assert client.stats().pending == 20
    assert futures[0].cancel()
    assert client.stats().pending == 19
    client.close()
    for future in futures[1:]:
        assert isinstance(future.exception(GENEROUS), (ConnectFailed, CircuitOpen))
    assert client.stats().pending == 0


def test_a_retry_after_of_the_service_is_kept() -> None:
    clock = FakeClock()
    sent: list[float] = []

    def act(request: WireRequest) -> WireReply:
        sent.append(clock.now())
        return refuse(503, **{"Retry-After": "200"}) if len(sent) == 1 else answer(request)

    client, _ = scripted_client(act, clock=clock, config=ClientConfig(retry=RetryConfig(wait_for_service=300.0)))
    with client:
        assert client.batch_synth(["text"])
    assert sent[1] - sent[0] >= 200


@pytest.mark.parametrize("call", ["batch_synth", "as finished", "submit"])
def test_a_restart_of_the_service_during_a_job_loses_no_text(call: str) -> None:
    """Over sockets: connections are reset, then refused for two seconds, until the service is back on the same port."""
    settings = Settings(engine="echo", rtt=0.05, port=quiet_port())
    texts = [f"text {n}" for n in range(600)]
    first = Emulator(settings)
    later: list[Emulator] = []

    def restart() -> None:
        eventually(lambda: first.counters().texts > 60, "some were spoken")
        first.close()
        down.wait(2.0)
        later.append(Emulator(settings))

    down = threading.Event()
    thread = threading.Thread(target=restart)
    config = ClientConfig(breaker=BreakerConfig(open_for=3.0))
    try:
        with CosyClient(first.url, max_batch=4, concurrency=8, config=config) as client:
            thread.start()
            if call == "batch_synth":
                assert len(client.batch_synth(texts)) == len(texts)
            elif call == "submit":
                futures = [client.submit(text, priority="bulk") for text in texts]
                assert all(future.result(GENEROUS) for future in futures)
            else:
                assert not [o.error for o in client.synthesize_many(texts, ordered=False) if o.error]
            assert later, "it was restarted during the job"
    finally:
        thread.join()
        for emulator in (first, *later):
            emulator.close()
