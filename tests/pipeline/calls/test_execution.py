"""Attempts of every kind of call are reported alike: to breaker, limiter, statistics and events."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import BreakerConfig, ClientConfig, CosyClient, RetryConfig, TimeoutConfig
from cosyclient.errors import DeadlineExceeded, ServiceFault
from cosyclient.events import AttemptFinished, AttemptStarted
from cosyclient.testing import FakeClock, RecordingListener, ScriptedReply, ScriptedTransport, scripted_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.wire import WireReply, WireRequest

SAMPLES = bytes(range(256)) * 40


def _synthesize(client: CosyClient) -> None:
    client.synthesize("hello")


def _stream(client: CosyClient) -> None:
    with client.stream("hello") as stream:
        assert list(stream)


def _voices(client: CosyClient) -> None:
    assert client.voices() == ["a"]


CALLS = pytest.mark.parametrize("call", [_synthesize, _stream, _voices])


def _reply(request: WireRequest, **headers: str) -> WireReply:
    if request.method == "GET":
        return ScriptedReply(200, {"Content-Type": "application/json", **headers}, [b'{"voices": ["a"]}'])
    return ScriptedReply(200, {"Content-Type": "audio/pcm", **headers}, [SAMPLES] * 3)


def _client(script: Callable[[WireRequest], WireReply | Exception], **options: Any) -> CosyClient:
    config = ClientConfig(timeouts=TimeoutConfig(first_byte=5.0))
    defaults = {"protocol": "openai:vllm-omni", "model": "m", "voice": "v", "format": "pcm"}
    return scripted_client(script, **{**defaults, "config": config, **options})[0]


@CALLS
def test_silence_until_the_deadline_is_an_endpoint_fault(call: Callable[[CosyClient], None]) -> None:
    """The service had a fair time and answered no other request either: the breaker counts it, whatever the call."""
    clock = FakeClock()

    def silent(_: WireRequest) -> Exception:
        clock.advance(6.0)
        return DeadlineExceeded("the deadline passed", sent=True)

    with _client(silent, clock=clock, timeout=5.5, max_retries=0) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            call(client)
        assert caught.value.attempts[-1].error is not None
        assert caught.value.attempts[-1].error.endpoint_fault
        assert "1 of 1 failed" in repr(client._shared.pipeline()._endpoint.breaker)


@CALLS
def test_a_quota_in_a_reply_is_kept(call: Callable[[CosyClient], None]) -> None:
    """Seven requests a second, in the headers of any reply."""
    headers = {"RateLimit-Policy": '"default";q=7;w=1', "RateLimit": '"default";r=6;t=1'}
    with _client(lambda request: _reply(request, **headers)) as client:
        call(client)
        assert client._shared.pipeline()._endpoint.limiter.rate == 7.0


@CALLS
def test_each_attempt_emits_a_start_and_an_end(call: Callable[[CosyClient], None]) -> None:
    """Both have the same batch and number, so that a tracing exporter can pair them."""
    listener = RecordingListener()
    refusals = iter([ScriptedReply(500, {}, [b""])])
    config = ClientConfig(retry=RetryConfig(initial=0.001))
    with _client(
        lambda request: next(refusals, None) or _reply(request), listeners=[listener], config=config
    ) as client:
        call(client)
    started, finished = listener.of(AttemptStarted), listener.of(AttemptFinished)
    assert [(event.batch, event.number) for event in started] == [(event.batch, event.number) for event in finished]
    assert [event.number for event in started] == [1, 2]
    assert {event.endpoint for event in started} == {"http://scripted.test"}
    assert [type(event.error) for event in finished] == [ServiceFault, type(None)]
    assert [event.failed for event in finished] == [1, 0]


@CALLS
def test_each_attempt_doubles_the_read_timeout(call: Callable[[CosyClient], None]) -> None:
    """A read timeout is an estimate; one that was too short is not used again."""
    given: list[float] = []

    class Transport(ScriptedTransport):
        def send(self, request: WireRequest, **options: Any) -> WireReply:
            given.append(options["read_timeout"])
            return super().send(request, **options)

    refusals = iter([ScriptedReply(500, {}, [b""])])
    config = ClientConfig(retry=RetryConfig(initial=0.001))
    options: dict[str, Any] = {"protocol": "openai:vllm-omni", "model": "m", "voice": "v", "format": "pcm"}
    transport = Transport(lambda request: next(refusals, None) or _reply(request))
    with CosyClient("http://x.test", transport=transport, config=config, **options) as client:
        call(client)
    assert given[1] == pytest.approx(2 * given[0])


@pytest.mark.parametrize("before", [0, 2], ids=["at once", "after samples"])
@CALLS
def test_no_error_quotes_the_key_or_a_header_of_the_caller(call: Callable[[CosyClient], None], before: int) -> None:
    """Wherever in the reply it comes: raised, in the attempts, in the event, and in the causes."""
    key, ticket = "sk-5ecret-0f-the-user", "ticket-0f-the-caller"
    listener = RecordingListener()

    def quoting(_: WireRequest) -> WireReply:
        fault = ServiceFault(f"HTTP 500: {key} and {ticket} are not welcome")
        fault.__cause__ = ValueError(f"{key}, {ticket}")
        return ScriptedReply(200, {"Content-Type": "audio/pcm"}, [*[SAMPLES] * before, fault])

    options: dict[str, Any] = {"api_key": key, "headers": {"X-Ticket": ticket}, "max_retries": 0}
    with _client(quoting, listeners=[listener], **options) as client, pytest.raises(ServiceFault) as caught:
        call(client)
    (event,) = listener.of(AttemptFinished)
    errors = [caught.value, caught.value.__cause__, caught.value.attempts[-1].error, event.error, event.error.__cause__]
    assert [shown for shown in map(str, errors) if key in shown or ticket in shown] == []


@CALLS
def test_a_reply_whose_quota_cannot_be_read_is_closed(
    call: Callable[[CosyClient], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example by an interrupt: the caller never gets the reply, so nothing else closes it."""
    replies: list[ScriptedReply] = []

    def noted(request: WireRequest) -> WireReply:
        reply = _reply(request)
        assert isinstance(reply, ScriptedReply)
        replies.append(reply)
        return reply

    def interrupted(_: WireReply) -> None:
        raise KeyboardInterrupt

    with _client(noted) as client:
        monkeypatch.setattr(client._shared._protocol, "quota", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(client)
        assert [reply.closed for reply in replies] == [True]
        assert client.stats().in_flight == 0


@CALLS
@pytest.mark.parametrize("recovers", [False, True], ids=["final", "retried"])
def test_a_failed_attempt_leaves_no_reference_cycle(call: Callable[[CosyClient], None], recovers: bool) -> None:
    """A cycle through the error's traceback would keep texts and speeches until the garbage collector runs."""
    asked = 0

    def failing(request: WireRequest) -> WireReply:
        nonlocal asked
        asked += 1
        return _reply(request) if recovers and not asked % 2 else ScriptedReply(503, {}, [b""])

    config = ClientConfig(retry=RetryConfig(initial=0.001, budget=10**9), breaker=BreakerConfig(minimum_failures=10**9))
    with _client(failing, config=config, max_retries=1) as client:
        for collected in (False, True):  # what is made once is made by the first call
            if collected:
                gc.collect()
                gc.disable()
            with contextlib.suppress(ServiceFault):
                call(client)
        try:
            assert gc.collect() == 0
        finally:
            gc.enable()
