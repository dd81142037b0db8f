"""The client as its caller sees it, with a scripted service and a fake clock: attempts, executions, results."""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import (
    AdaptiveConfig,
    BadRequest,
    BadUtterance,
    BreakerConfig,
    CircuitOpen,
    ClientClosed,
    ClientConfig,
    ConfigurationError,
    ConnectFailed,
    CosyClient,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    PacingConfig,
    PartialFailure,
    QueueConfig,
    RateLimited,
    Rejected,
    RetryBudgetSpent,
    RetryConfig,
    ServiceFault,
    Throttled,
    TransportError,
    WireConfig,
)
from cosyclient.events import (
    AttemptFinished,
    AttemptStarted,
    BatchSealed,
    BreakerChanged,
    RetryScheduled,
    UtteranceFinished,
)
from cosyclient.pipeline.pipeline import Pipeline
from cosyclient.policies.adaptive import Sample
from cosyclient.policies.base import Estimate
from cosyclient.testing import FakeClock, RecordingListener, ScriptedReply, ScriptedTransport, scripted_client
from tests.protocols.wire import FRAMES_TYPE, frame, opening
from tests.protocols.wire import item as framed
from tests.support.service import answer, audio_of, body_of, failed, item, refuse, reply, text_in, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from cosyclient.clock import Deadline
    from cosyclient.models import Outcome, Speech
    from cosyclient.wire import WireReply, WireRequest

    Answer = Callable[[WireRequest], WireReply | Exception]


def after(*first: WireReply | Exception) -> Answer:
    """Answer with *first* in order, then properly."""
    waiting = iter(first)
    return lambda request: next(waiting, None) or answer(request)


def key_of(request: WireRequest) -> str:
    return dict(request.headers)["Idempotency-Key"]


class TestOneText:
    """`synthesize` and `submit`."""

    def test_a_call_returns_the_speech_of_its_text(self) -> None:
        """One call is one request and one attempt."""
        client, transport = scripted_client(answer, voice="calm", speed=1.5)
        speech = client.synthesize("你好，世界")
        assert text_in(speech) == "你好，世界"
        assert (speech.attempts, speech.cached, speech.media_type) == (1, False, "audio/wav")
        assert len(transport.requests) == 1
        assert body_of(transport.requests[0]) == {
            "texts": ["你好，世界"], "voice": "calm", "format": "wav", "sample_rate": 24000, "speed": 1.5,
        }  # fmt: skip

    def test_a_single_text_is_sent_on_its_callers_thread(self) -> None:
        """No other text is queued, so no worker starts; its permit is released."""
        threads = []

        def note(request: WireRequest) -> WireReply:
            threads.append(threading.current_thread())
            return answer(request)

        with CosyClient("http://scripted.test", transport=ScriptedTransport(note)) as client:
            assert text_in(client.synthesize("hello")) == "hello"
            assert threads == [threading.current_thread()]
            assert (client.stats().workers, client.stats().in_flight, client.stats().pending) == (0, 0, 0)

    def test_a_text_sent_on_its_callers_thread_emits_the_same_events(self) -> None:
        """Its latency counts from the call, and it did not wait."""
        clock, listener = FakeClock(), RecordingListener()

        def slow(request: WireRequest) -> WireReply:
            clock.advance(0.25)
            return answer(request)

        client, _ = scripted_client(slow, clock=clock, listeners=[listener])
        client.synthesize("hello")
        (sealed,), (finished,) = listener.of(BatchSealed), listener.of(UtteranceFinished)
        assert (sealed.waited, sealed.texts) == (0.0, 1)
        assert finished.latency == pytest.approx(0.25)

    def test_a_worker_retries_a_text_sent_on_its_callers_thread(self) -> None:
        """A retry waits, maybe longer than this caller does."""
        threads = []

        def refuse_once(request: WireRequest) -> WireReply:
            threads.append(threading.current_thread())
            return refuse(503) if len(threads) == 1 else answer(request)

        config = ClientConfig(retry=RetryConfig(initial=0.001, cap=0.001))
        with CosyClient("http://scripted.test", transport=ScriptedTransport(refuse_once), config=config) as client:
            assert client.synthesize("hello").attempts == 2
        assert threads[0] is threading.current_thread()
        assert threads[1] is not threads[0]

    def test_interrupting_the_sending_caller_does_not_fail_the_other_texts_of_its_batch(self) -> None:
        """Ctrl-C ends the call, not the text that another caller has asked for as well."""
        joined: list[Future[Speech]] = []

        def interrupt_once(request: WireRequest) -> WireReply:
            if not joined:
                joined.append(client.submit("hello"))
                raise KeyboardInterrupt
            return answer(request)

        with CosyClient("http://scripted.test", transport=ScriptedTransport(interrupt_once)) as client:
            with pytest.raises(KeyboardInterrupt):
                client.synthesize("hello")
            assert text_in(joined[0].result(60.0)) == "hello"
            assert (client.stats().in_flight, client.stats().pending) == (0, 0)

    def test_interrupting_a_caller_that_sends_for_itself_alone_sends_nothing_more(self) -> None:
        """No other caller wants the text: it ends with its caller."""

        def interrupt(_: WireRequest) -> WireReply:
            raise KeyboardInterrupt

        with CosyClient("http://scripted.test", transport=(wire := ScriptedTransport(interrupt))) as client:
            with pytest.raises(KeyboardInterrupt):
                client.synthesize("hello")
            stats = client.stats()
        assert (stats.in_flight, stats.pending, stats.queued, len(wire.requests)) == (0, 0, 0, 1)

    def test_options_of_the_call_override_those_of_the_client(self) -> None:
        """Options of the call override those of a view, and these those of the client."""
        client, transport = scripted_client(answer, voice="calm")
        client.with_options(voice="loud", seed=7).synthesize("hello", voice="shrill")
        asked = body_of(transport.requests[0])
        assert (asked["voice"], asked["seed"]) == ("shrill", 7)

    @pytest.mark.parametrize("texts", [None, 3, object()])
    def test_what_is_no_series_of_texts_is_refused_at_once(self, texts: Any) -> None:
        client, transport = scripted_client(answer)
        for call in (client.synthesize_many, client.batch_synth, client.stream_text):
            with pytest.raises(ConfigurationError, match=f"^texts: must be .*, got {type(texts).__name__}$"):
                call(texts)
        assert transport.requests == []

    def test_on_done_that_cannot_be_called_is_refused_at_once(self) -> None:
        client, transport = scripted_client(answer)
        with pytest.raises(ConfigurationError, match="^on_done: must be a function of one Outcome, got int$"):
            client.submit("text", on_done=3)  # type: ignore[arg-type]
        assert transport.requests == []
        assert client.stats().pending == 0

    def test_what_on_done_raises_is_logged_under_its_name(self, caplog: pytest.LogCaptureFixture) -> None:
        def save_speech(_: Outcome) -> None:
            raise ValueError("disk")

        client, _ = scripted_client(answer)
        client.submit("text", save_speech).result(0)
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "save_speech" in record.getMessage()
        assert "failed" in record.getMessage()
        assert isinstance(record.exc_info and record.exc_info[1], ValueError)

    def test_submit_returns_a_future_and_calls_on_done(self) -> None:
        """The callback gets the outcome, a speech or an error."""
        client, _ = scripted_client(after(refuse(400)), max_retries=0)
        outcomes: list[Outcome] = []
        future = client.submit("bad", on_done=outcomes.append)
        assert isinstance(future.exception(0), BadRequest)
        assert text_in(client.submit("good", on_done=outcomes.append).result(0)) == "good"
        assert [type(outcome.error) for outcome in outcomes] == [BadRequest, type(None)]
        assert outcomes[1].unwrap() is outcomes[1].speech

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("", "empty"),
            (" \n\t", "blank"),
            ("x" * 4097, "4097 code points"),
            ("a\ud800b", "lone surrogate"),
            ("a\x00b", "control character"),
            (None, "must be a str"),
        ],
    )
    def test_a_bad_text_is_refused_before_anything_is_sent(self, text: Any, rule: str) -> None:
        """The error names the rule, and is a `ValueError` as well."""
        client, transport = scripted_client(answer)
        with pytest.raises(BadUtterance, match=rule) as caught:
            client.synthesize(text)
        assert isinstance(caught.value, ValueError)
        assert transport.requests == []

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"format": "flac"}, "format"),
            ({"sample_rate": 11025}, "sample_rate"),
            ({"speed": 3}, "speed"),
            ({"seed": -1}, "seed"),
            ({"instruct": "x" * 501}, "instruct"),
            ({"voice": " "}, "voice"),
            ({"timeout": -1}, "timeout"),
            ({"timeout": True}, "timeout"),
            ({"pitch": 1}, "pitch"),
        ],
    )
    def test_a_bad_option_is_named(self, options: dict[str, Any], named: str) -> None:
        """The message of the error contains the option's name."""
        client, transport = scripted_client(answer)
        with pytest.raises(CosyError, match=named):
            client.synthesize("hello", **options)
        assert transport.requests == []


class TestRetry:
    """Attempts, executions and the error that the caller gets."""

    def test_a_service_fault_is_retried_with_the_same_key_and_body(self) -> None:
        """The request is encoded once and sent per attempt, so that the service may recognise it."""
        client, transport = scripted_client(after(refuse(503), TransportError("cut")))
        speech = client.synthesize("hello")
        assert speech.attempts == 3
        assert len({key_of(request) for request in transport.requests}) == 1
        assert len({request.body for request in transport.requests}) == 1
        assert client.stats().retries == 2

    def test_the_error_carries_its_attempts_oldest_first(self) -> None:
        """Each caller gets a copy of its own, which can be pickled."""
        client, _ = scripted_client(lambda _: refuse(502), max_retries=2)
        with pytest.raises(ServiceFault) as caught:
            client.synthesize("hello")
        assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3]
        assert all(isinstance(attempt.error, ServiceFault) for attempt in caught.value.attempts)
        assert pickle.loads(pickle.dumps(caught.value)).status == 502

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 413, 415, 422, 501])
    def test_a_refusal_is_not_retried(self, status: int) -> None:
        """No other 4xx is ever tried again."""
        client, transport = scripted_client(lambda _: refuse(status))
        with pytest.raises(CosyError):
            client.synthesize("hello")
        assert len(transport.requests) == 1

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_a_transient_status_is_retried(self, status: int) -> None:
        """The list of section 0."""
        client, transport = scripted_client(after(refuse(status)))
        client.synthesize("hello")
        assert len(transport.requests) == 2

    def test_waits_double_with_full_jitter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """200 ms × 2ⁿ is the ceiling of the nth wait."""
        monkeypatch.setattr("random.uniform", lambda _, high: high)
        clock = FakeClock()
        client, _ = scripted_client(lambda _: refuse(500), clock=clock)
        with pytest.raises(ServiceFault):
            client.synthesize("hello")
        assert clock.slept == pytest.approx([0.2, 0.4, 0.8])

    def test_retry_after_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Never earlier, and pacing delays all other calls as well."""
        monkeypatch.setattr("random.uniform", lambda low, _: low)
        clock = FakeClock()
        client, _ = scripted_client(after(refuse(429, **{"Retry-After": "7"})), clock=clock)
        client.synthesize("hello")
        assert sum(clock.slept) >= 7.0

    def test_a_retry_after_beyond_the_deadline_is_raised_at_once(self) -> None:
        """There is no wait that cannot end in time; the error carries the value."""
        clock = FakeClock()
        client, transport = scripted_client(lambda _: refuse(429, **{"Retry-After": "100"}), clock=clock)
        with pytest.raises(Throttled) as caught:
            client.synthesize("hello")
        assert caught.value.retry_after == 100.0
        assert clock.slept == []
        assert len(transport.requests) == 1

    def test_a_text_that_would_wait_beyond_its_deadline_for_pacing_is_refused_at_once(self) -> None:
        """The error carries the time to retry after."""
        client, transport = scripted_client(lambda _: refuse(429, **{"Retry-After": "100"}), clock=FakeClock())
        with pytest.raises(Throttled):
            client.synthesize("hello")
        with pytest.raises(RateLimited) as caught:
            client.synthesize("world")
        assert caught.value.retry_after == pytest.approx(100.0, abs=1.0)
        assert len(transport.requests) == 1

    def test_the_retry_budget_ends_a_retry_storm(self) -> None:
        """Forty may be in flight, so the whole client can afford forty retries; then each call is one execution."""
        config = ClientConfig(breaker=BreakerConfig(minimum_failures=10_000))
        client, transport = scripted_client(lambda _: refuse(500), config=config)
        errors = [outcome.error for outcome in (one(client, f"text {n}") for n in range(50))]
        assert len(transport.requests) == 50 + 40
        assert isinstance(errors[-1], RetryBudgetSpent)
        assert isinstance(errors[-1].__cause__, ServiceFault)

    def test_a_success_refunds_its_retries_to_the_budget(self) -> None:
        """So a service that mostly works never uses up the budget."""
        client, _ = scripted_client(after(refuse(500)))
        client.synthesize("hello")
        assert client.stats().retry_budget == 560

    def test_a_deadline_ends_the_retries(self) -> None:
        """A wait that would outlast the deadline is not begun."""
        clock = FakeClock()
        client, transport = scripted_client(lambda _: refuse(500), clock=clock, timeout=0.1, max_retries=50)
        with pytest.raises(CosyError):
            client.synthesize("hello")
        assert sum(clock.slept) < 0.1
        assert len(transport.requests) < 50


def one(client: CosyClient, text: str) -> Outcome:
    # Interactive, or it would wait for a service that is down.
    return next(client.synthesize_many([text], priority="interactive"))


class TestBatch:
    """Texts that share a request."""

    def test_a_thousand_texts_are_sixteen_requests(self) -> None:
        """64 to a request, in order."""
        client, transport = scripted_client(answer)
        texts = [f"text {number}" for number in range(1000)]
        assert [text_in(audio) for audio in client.batch_synth(texts)] == texts
        assert len(transport.requests) == 16

    def test_only_failed_items_are_sent_again(self) -> None:
        """In a new request with a new key; an item that failed for good is an error, the others are delivered."""

        def partly(request: WireRequest) -> WireReply:
            texts = texts_of(request)
            if len(texts) == 1:
                return answer(request)
            return reply(
                [item(0, texts[0]), failed(1, retryable=True), failed(2, retryable=False, code="text_too_long")]
            )

        client, transport = scripted_client(partly)
        outcomes = list(client.synthesize_many(["a", "b", "c"]))
        assert [texts_of(request) for request in transport.requests] == [["a", "b", "c"], ["b"]]
        assert key_of(transport.requests[0]) != key_of(transport.requests[1])
        assert [outcome.speech and outcome.speech.attempts for outcome in outcomes] == [1, 2, None]
        assert isinstance(outcomes[2].error, BadRequest)

    def test_after_a_truncated_body_only_the_missing_texts_are_sent_again(self) -> None:
        """What arrived before is delivered and not billed twice."""

        def cut(request: WireRequest) -> WireReply:
            texts = texts_of(request)
            if len(texts) < 3:
                return answer(request)
            whole = frame(opening(len(texts))) + b"".join(
                frame(framed(index, duration_ms=None), audio_of(text)) for index, text in enumerate(texts)
            )
            return ScriptedReply(
                200,
                {"Content-Type": FRAMES_TYPE},
                [whole[: len(whole) * 2 // 3], TransportError("cut")],
            )

        client, transport = scripted_client(cut)
        assert [text_in(audio) for audio in client.batch_synth(["a", "b", "c"])] == ["a", "b", "c"]
        assert 1 <= len(texts_of(transport.requests[1])) < 3

    def test_texts_that_fail_out_of_order_keep_their_own_audio(self) -> None:
        """One item fails, then the body is cut: texts and callers of the second request are in one order."""

        def out_of_order(request: WireRequest) -> WireReply:
            texts = texts_of(request)
            if len(transport.requests) > 1:
                return answer(request)
            error = {"kind": "item", "index": 1, "status": "error", "error": {"code": "internal", "retryable": True}}
            return ScriptedReply(
                200, {"Content-Type": FRAMES_TYPE}, [frame(opening(len(texts))) + frame(error), TransportError("cut")]
            )

        client, transport = scripted_client(out_of_order)
        assert [text_in(audio) for audio in client.batch_synth(["a", "b", "c"])] == ["a", "b", "c"]
        assert [texts_of(request) for request in transport.requests] == [["a", "b", "c"]] * 2

    def test_after_a_finished_reply_a_retry_has_a_new_key(self) -> None:
        """The service would repeat its reply for the old one."""
        client, transport = scripted_client(after(reply([failed(0, retryable=True), failed(1, retryable=True)])))
        assert len(client.batch_synth(["a", "b"])) == 2
        assert len({key_of(request) for request in transport.requests}) == 2

    def test_a_reply_with_a_wrong_number_of_results_fails_all_its_texts(self) -> None:
        """Results are never assigned by guess; there is no retry, as its reply would be the same."""
        client, transport = scripted_client(lambda request: reply([item(0, texts_of(request)[0])]))
        with pytest.raises(PartialFailure) as caught:
            client.batch_synth(["a", "b"])
        assert {type(error) for error in caught.value.errors.values()} == {DecodeError}
        assert len(transport.requests) == 1

    def test_one_bad_text_fails_no_other(self) -> None:
        """`PartialFailure` has every finished speech by position."""
        client, _ = scripted_client(answer)
        with pytest.raises(PartialFailure, match="1 of 3 texts failed; the first is index 1: BadUtterance") as caught:
            client.batch_synth(["a", " ", "c"])
        assert {n: text_in(speech) for n, speech in caught.value.speeches.items()} == {0: "a", 2: "c"}

    def test_equal_texts_are_sent_once(self) -> None:
        """One request, and a speech for each of them."""
        client, transport = scripted_client(answer)
        assert len(client.batch_synth(["same"] * 10 + ["other"])) == 11
        assert [texts_of(request) for request in transport.requests] == [["same", "other"]]

    def test_large_texts_make_smaller_batches(self) -> None:
        """The body stays below the service's limit."""
        config = ClientConfig(wire=WireConfig(max_request_bytes=20_000))
        client, transport = scripted_client(answer, config=config)
        client.batch_synth([f"{number:03d}x" * 1000 for number in range(12)])
        assert len(transport.requests) == 3
        assert all(len(request.body) <= 20_000 for request in transport.requests)

    @pytest.mark.parametrize("ordered", [True, False])
    def test_an_endless_generator_is_read_as_it_is_consumed(self, ordered: bool) -> None:
        """At most a window of texts is read beyond the outcomes taken."""
        client, _ = scripted_client(answer)
        read = itertools.count()
        endless = (f"text {next(read)}" for _ in itertools.count())
        outcomes = client.synthesize_many(endless, ordered=ordered)
        taken = list(itertools.islice(outcomes, 10))
        assert sorted(outcome.index for outcome in taken) == list(range(10))
        assert next(read) <= 10 + client.window
        outcomes.close()

    @pytest.mark.parametrize("ordered", [True, False])
    def test_audio_that_is_not_read_is_bounded(self, ordered: bool) -> None:
        """A slow reader holds a bounded amount of memory, not all that fits the window."""
        config = ClientConfig(queue=QueueConfig(max_audio_bytes=1_920_000))
        client, _ = scripted_client(answer, max_batch=4, config=config)
        read = itertools.count()
        endless = ("字" * 16 + f"{next(read):04d}" for _ in itertools.count())
        outcomes = client.synthesize_many(endless, ordered=ordered, format="wav")
        taken = list(itertools.islice(outcomes, 30))
        assert all(outcome.speech for outcome in taken)
        # 192,000 bytes each: ten of them, and the thirty that were read.
        assert next(read) <= 40 < client.window
        outcomes.close()

    def test_a_string_is_not_several_texts(self) -> None:
        """The error names the call for one text."""
        client, _ = scripted_client(answer)
        for call in (client.batch_synth, client.synthesize_many):
            with pytest.raises(ConfigurationError, match="for one use synthesize"):
                call("hello")

    def test_an_error_of_the_texts_iterator_is_raised_to_the_caller(self) -> None:
        """It is raised unchanged."""

        def broken() -> Iterator[str]:
            yield "a"
            raise LookupError("mine")

        client, _ = scripted_client(answer)
        with pytest.raises(LookupError, match="mine"):
            list(client.synthesize_many(broken()))


class TestBreaker:
    """A service that is down is left alone."""

    def test_opens_at_half_of_twenty_and_probes_after_thirty_seconds(self) -> None:
        """Calls fail fast while it is open; then five probes decide."""
        clock = FakeClock()
        listener = RecordingListener()
        up = False
        client, transport = scripted_client(
            lambda request: answer(request) if up else refuse(500),
            clock=clock, listeners=[listener], max_retries=0, requests_per_second=1e6,
        )  # fmt: skip
        errors = [one(client, f"text {number}").error for number in range(30)]
        assert len(transport.requests) == 20
        assert isinstance(errors[-1], CircuitOpen)
        assert errors[-1].retry_after == pytest.approx(30.0, abs=3.1)
        assert client.stats().breakers == {"http://scripted.test": "open"}
        up = True
        clock.advance(34.0)
        assert all(one(client, f"again {number}").error is None for number in range(6))
        assert [event.new for event in listener.of(BreakerChanged)] == ["open", "half-open", "closed"]

    @pytest.mark.parametrize("status", [400, 404, 422, 429])
    def test_errors_that_are_not_endpoint_faults_do_not_count_for_the_breaker(self, status: int) -> None:
        """4xx and 429 are caused by the client."""
        client, transport = scripted_client(lambda _: refuse(status), max_retries=0, requests_per_second=1e6)
        for number in range(40):
            one(client, f"text {number}")
        assert len(transport.requests) == 40

    @pytest.mark.parametrize(
        ("spent", "others", "state"), [(0.01, False, "closed"), (6.0, False, "open"), (6.0, True, "closed")]
    )
    def test_a_short_deadline_of_the_caller_does_not_count_for_the_breaker(
        self, spent: float, others: bool, state: str
    ) -> None:
        """A service with too little time is not at fault, nor a slow one that answers other requests meanwhile."""
        clock = FakeClock()

        def slow(_: WireRequest) -> Exception:
            clock.advance(spent / 2)
            if others:
                client._shared.pipeline()._endpoint.stats.last_answer_at = clock.now()
            clock.advance(spent / 2)
            return DeadlineExceeded("too late")

        config = ClientConfig(breaker=BreakerConfig(window=1000.0))
        client, _ = scripted_client(slow, clock=clock, max_retries=0, config=config)
        for number in range(25):
            one(client, f"text {number}")
        assert client.stats().breakers == {"http://scripted.test": state}


class TestOverload:
    """What is known of the service's speed orders texts and sets timeouts."""

    def test_a_text_that_can_hardly_meet_its_deadline_is_sent_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The duration of an attempt is an estimate: it orders texts, and refuses none."""
        client, transport = scripted_client(answer)
        endpoint = client._shared.pipeline()._endpoint
        monkeypatch.setattr(endpoint, "estimate", lambda: Estimate(safe_latency=40.0))
        assert text_in(client.submit("hello", timeout=20.0).result()) == "hello"
        assert len(transport.requests) == 1

    def test_a_long_queue_at_the_service_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first byte may take as long as replies take now, where that is more than the audio's share."""
        given: list[float] = []

        class Timed(ScriptedTransport):
            def send(self, request: WireRequest, **terms: Any) -> WireReply:
                given.append(terms["read_timeout"])
                return super().send(request)

        client, _ = scripted_client(answer)
        endpoint = client._shared.pipeline()._endpoint
        endpoint.transport = Timed(answer)
        client.synthesize("字" * 20)
        sample = Sample(4.0, 0.0, 0.0, 30.0, read_timeout=60.0)
        monkeypatch.setattr(endpoint.concurrency, "start", lambda *_, **__: sample)
        client.synthesize("文" * 20)
        assert given == [pytest.approx(9.0), 60.0]

    def test_stats_show_the_limit(self) -> None:
        """All permits from the first call on, whether the limit is adaptive or not."""
        client, _ = scripted_client(answer)
        assert client.stats().limit == 0
        client.synthesize("hello")
        assert client.stats().limit == 40
        off, _ = scripted_client(answer, config=ClientConfig(adaptive=AdaptiveConfig(enabled=False)))
        off.synthesize("hello")
        assert off.stats().limit == 40


class TestQueue:
    """Backpressure falls on the caller."""

    def test_a_queue_that_rejects_releases_its_permits(self) -> None:
        """Two texts fit, the second submitted while the first is sent; afterwards nothing is held."""
        config = ClientConfig(queue=QueueConfig(max_pending=2, overflow="reject"))
        held: list[int] = []

        def while_full(request: WireRequest) -> WireReply:
            if not held:
                held.append(1)
                client.submit("second")  # runs inline, one level down
            return answer(request)

        client, _ = scripted_client(while_full, config=config)
        client.synthesize("first")
        stats = client.stats()
        assert (stats.pending, stats.queued, stats.workers, stats.in_flight) == (0, 0, 0, 0)

    def test_stats_before_first_use_are_zero(self) -> None:
        """Reading statistics makes no pipeline."""
        client, _ = scripted_client(answer)
        assert client.stats().calls == 0
        assert "idle" in repr(client)


class TestLife:
    """Opening and closing, views, events and statistics."""

    def test_a_closed_client_raises(self) -> None:
        """Closing again does nothing."""
        client, transport = scripted_client(answer)
        client.synthesize("hello")
        client.close()
        client.close()
        assert transport.closed
        with pytest.raises(ClientClosed):
            client.synthesize("hello")
        with pytest.raises(Rejected):
            client.submit("hello")

    def test_a_view_closes_nothing(self) -> None:
        """The connections belong to the client it came from."""
        client, transport = scripted_client(answer)
        with client.with_options(voice="calm") as view:
            view.synthesize("hello")
        assert not transport.closed
        client.synthesize("still here")

    def test_without_a_url_the_error_names_what_to_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An environment variable sets the URL as well."""
        monkeypatch.delenv("COSYCLIENT_BASE_URL", raising=False)
        with pytest.raises(ConfigurationError, match="COSYCLIENT_BASE_URL"):
            CosyClient()
        monkeypatch.setenv("COSYCLIENT_BASE_URL", "https://tts.example/v1/")
        assert "https://tts.example/v1 batch idle" in repr(CosyClient())
        assert "https://other.example" in repr(CosyClient("https://other.example"))

    def test_events_hold_no_text_and_no_audio(self, caplog: pytest.LogCaptureFixture) -> None:
        """Events and log hold fingerprints and lengths."""
        listener = RecordingListener()
        client, _ = scripted_client(after(refuse(500)), listeners=[listener], api_key="hush-hush")
        with caplog.at_level(logging.DEBUG, "cosyclient"):
            speech = client.synthesize("a secret sentence")
        assert [type(event) for event in listener.events] == [
            BatchSealed, AttemptStarted, AttemptFinished, RetryScheduled,
            AttemptStarted, UtteranceFinished, AttemptFinished,
        ]  # fmt: skip
        (finished,) = listener.of(UtteranceFinished)
        assert (finished.fingerprint, finished.characters, finished.attempts) == (speech.fingerprint, 17, 2)
        assert speech.fingerprint in caplog.text
        assert "secret" not in caplog.text
        assert "hush" not in caplog.text + repr(client) + repr(listener.events)

    def test_a_listener_that_raises_fails_no_call(self, caplog: pytest.LogCaptureFixture) -> None:
        """Its error is logged, and the speech is returned."""

        def failing(_: object) -> None:
            raise RuntimeError("broken")

        client, _ = scripted_client(answer, listeners=[failing])
        assert text_in(client.synthesize("hello")) == "hello"
        assert "broken" in caplog.text

    def test_an_unexpected_error_reaches_the_caller(self) -> None:
        """A bug in a transport is an error with its cause, and no future stays pending."""

        def bug(_: WireRequest) -> WireReply:
            raise ZeroDivisionError("bug")

        client, _ = scripted_client(bug)
        with pytest.raises(CosyError, match="unexpected ZeroDivisionError") as caught:
            client.synthesize("hello")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        stats = client.stats()
        assert (stats.pending, stats.in_flight, stats.workers) == (0, 0, 0)

    def test_stats_show_the_sizes_by_littles_law(self) -> None:
        """From the measured rate and latency."""
        clock = FakeClock()

        def slow(request: WireRequest) -> WireReply:
            clock.advance(0.5)
            return answer(request)

        client, _ = scripted_client(slow, clock=clock)
        for number in range(20):
            client.synthesize(f"text {number}")
        stats = client.stats()
        assert stats.latency == pytest.approx(0.5)
        assert stats.rate == pytest.approx(2.0, rel=0.1)
        assert stats.concurrency == pytest.approx(1.0, rel=0.1)
        assert stats.advice is not None
        assert stats.advice.permits == 2

    def test_pacing_keeps_to_the_quota(self) -> None:
        """After the burst there is one request each 1/rate seconds."""
        clock = FakeClock()
        client, transport = scripted_client(
            answer, clock=clock, requests_per_second=10.0, config=ClientConfig(pacing=PacingConfig(burst=5))
        )
        before = clock.now()
        for number in range(25):
            client.synthesize(f"text {number}")
        assert len(transport.requests) == 25
        assert clock.now() - before == pytest.approx(2.0)

    def test_a_stricter_quota_in_a_reply_is_kept(self) -> None:
        """A quota that the service announces lowers the rate."""
        clock = FakeClock()

        def strict(request: WireRequest) -> WireReply:
            results = [item(index, text) for index, text in enumerate(texts_of(request))]
            return reply(results, **{"RateLimit-Policy": '"ip";q=2;w=1', "RateLimit": '"ip";r=1;t=1'})

        client, _ = scripted_client(strict, clock=clock, requests_per_second=100.0)
        before = clock.now()
        for number in range(20):
            client.synthesize(f"text {number}")
        assert clock.now() - before >= 7.0

    def test_a_quota_in_a_refusal_is_kept_too(self) -> None:
        """A 429 that announces the quota lowers the rate before the next attempt."""
        clock = FakeClock()
        client, _ = scripted_client(after(refuse(429, **{"RateLimit-Policy": '"ip";q=1;w=2'})), clock=clock)
        client.synthesize("a")
        before = clock.now()
        for number in range(5):
            client.synthesize(f"text {number}")
        assert clock.now() - before >= 8.0

    def test_connect_failures_are_retried_and_raised(self) -> None:
        """Nothing was sent, so nothing was billed."""
        client, _ = scripted_client(lambda _: ConnectFailed("refused"), config=ClientConfig(retry=RetryConfig()))
        with pytest.raises(ConnectFailed) as caught:
            client.synthesize("hello")
        assert not caught.value.sent
        assert len(caught.value.attempts) == 4


@pytest.mark.parametrize("way", ["synthesize", "submit", "stream"])
def test_the_timeout_counts_from_the_first_line_of_the_call(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's setup on its first call counts as well."""
    clock, made, ends = FakeClock(), Pipeline.__init__, []

    def slow(self: Pipeline, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        clock.advance(1.0)

    def send(self: ScriptedTransport, request: WireRequest, *, deadline: Deadline, **_: Any) -> WireReply:
        ends.append(deadline.at)
        raise BadRequest("that will do")

    monkeypatch.setattr(Pipeline, "__init__", slow)
    monkeypatch.setattr(ScriptedTransport, "send", send)
    client, _ = scripted_client(answer, clock=clock, protocol="openai", model="m", voice="v")
    began = clock.now()
    call = getattr(client, way)
    with client, pytest.raises(BadRequest):
        call("hello", timeout=30).result(30)
    assert ends == [began + 30]
