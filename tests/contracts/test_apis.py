"""The contract of every protocol with the emulator over real sockets; a family has its rows in an ``apis_…`` module."""

from __future__ import annotations

import logging
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import (
    BadRequest,
    BadUtterance,
    ClientConfig,
    CosyClient,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    PartialFailure,
    RetryConfig,
    TransportError,
    Voice,
)
from cosyclient.emulator.speech.echo import echo_text
from tests.protocols.wire_runtime import CLONE, CROSS, recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator
    from tests.contracts.api_case import ApiCase

_FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("apis_*.py"))
ROWS: list[ApiCase] = [row for name in _FAMILIES for row in import_module(f"tests.contracts.{name}").ROWS]
TEXTS = ["你好，世界。", "hello", "第三句，比前面的长一些，为了看看它会不会也完整地回来。", "four", "五"]
# Seconds that a busy machine may need to notice that a connection was closed.
_TIMEOUT = 20.0

rows = pytest.mark.parametrize("row", ROWS, ids=str)
thorough = pytest.mark.parametrize("row", [row for row in ROWS if row.thorough], ids=str)
streaming = pytest.mark.parametrize("row", [row for row in ROWS if row.streams], ids=str)


@pytest.fixture
def emulator(start: Callable[..., Emulator], row: ApiCase) -> Emulator:
    """Return an emulator whose audio carries its text, with the options of the row."""
    return start(engine="echo", **row.emulator_options)


def until(seen: Callable[[], bool]) -> None:
    """Wait until *seen*."""
    end = time.monotonic() + _TIMEOUT
    while not seen():
        assert time.monotonic() < end, "not seen in time"
        time.sleep(0.01)


@rows
def test_a_text_comes_back_as_its_own_audio(row: ApiCase, emulator: Emulator) -> None:
    """It is whole and its rate is known; the service receives the options of the call."""
    with row.client(emulator) as client:
        for text in TEXTS[:3]:
            speech = client.synthesize(text)
            assert echo_text(speech.audio) == text
            assert (speech.format, speech.sample_rate, speech.channels) == ("wav", row.sample_rate, 1)
            assert speech.duration > 0
    received = emulator.received()[-3:]
    assert [entry["text"] for entry in received] == TEXTS[:3]
    for entry in received:
        assert {name: entry[name] for name in row.received} == row.received


@rows
def test_raw_samples_equal_those_of_the_file(row: ApiCase, emulator: Emulator) -> None:
    """With or without a header around them."""
    with row.client(emulator) as client:
        bare = client.synthesize(TEXTS[0], format="pcm")
        whole = client.synthesize(TEXTS[0])
        assert (bare.audio, bare.sample_rate) == (whole.pcm(), whole.sample_rate)


@rows
def test_many_texts_come_back_in_their_order(row: ApiCase, emulator: Emulator) -> None:
    """Several connections at once, nothing mixed up."""
    wanted = [f"{text} {number}" for number in range(4) for text in TEXTS]
    with row.client(emulator) as client:
        assert [echo_text(audio) for audio in client.batch_synth(wanted)] == wanted


@rows
def test_bad_input_sends_nothing(row: ApiCase, emulator: Emulator) -> None:
    """The error is raised first, and names the option."""
    with row.client(emulator) as client:
        before = emulator.counters().requests
        for name, value in row.bad.items():
            with pytest.raises(BadUtterance, match=f"^{name}: "):
                client.synthesize("hello", **{name: value})
        with pytest.raises(BadUtterance, match="^text: "):
            client.synthesize(" ")
        assert emulator.counters().requests == before


@rows
def test_refusals_are_classified(row: ApiCase, emulator: Emulator) -> None:
    """Each service's own form of a refusal becomes one of the client's errors."""
    for fault, params, kind in [
        *(("error", {"status": status}, kind) for status, kind in row.refusals.items()),
        ("throttle", {"retry_after": 1}, row.refusals[429]),
    ]:
        # A client for each: one that got a Retry-After would wait.
        with row.client(emulator) as client:
            emulator.inject(fault, **params)
            with pytest.raises(CosyError) as caught:
                client.synthesize("hello")
            assert type(caught.value) is kind, params


@pytest.mark.parametrize("row", [row for row in ROWS if row.mistakes], ids=str)
def test_a_callers_mistake_is_not_the_endpoints_fault(row: ApiCase, emulator: Emulator) -> None:
    """It raises with the service's message, is not retried, and the endpoint serves other texts."""
    with row.client(emulator, max_retries=3, config=ClientConfig(retry=RetryConfig(initial=0.01))) as client:
        for mistake in row.mistakes:
            options = dict(mistake)
            text = options.pop("text", "hello")
            for _ in range(4):
                before = emulator.counters().requests
                with pytest.raises(CosyError) as caught:
                    client.synthesize(text, **options)
                error = caught.value
                assert (type(error), error.endpoint_fault) == (row.mistaken, False), (mistake, error)
                if not error.retryable:
                    # A session that is refused at its start is not counted as a request.
                    assert (len(error.attempts), emulator.counters().requests <= before + 1) == (1, True), mistake
        assert echo_text(client.synthesize("hello").audio) == "hello"


def test_a_mistake_in_a_batch_is_an_error_of_each_text(start: Callable[..., Emulator]) -> None:
    """The items have messages, but no codes."""
    row = next(row for row in ROWS if str(row) == "openai:vllm-omni-clone")
    emulator = start(engine="echo", **row.emulator_options)
    with row.client(emulator, max_retries=3) as client:
        for voice in ("nobody", Voice.clone(recording(0.2), "short")):
            before = emulator.counters().requests
            with pytest.raises(PartialFailure) as caught:
                client.batch_synth(TEXTS, voice=voice)
            errors = caught.value.errors.values()
            assert [type(error) for error in errors] == [BadRequest] * len(TEXTS)
            assert not any(error.retryable or error.endpoint_fault for error in errors)
            assert emulator.counters().requests - before <= len(TEXTS)
            assert emulator.counters().batch_sizes.keys() - {1}, "no batch was sent"


@pytest.mark.parametrize("protocol", ["runtime", "grpc"])
def test_the_runtime_gets_the_marks_of_its_model(start: Callable[..., Emulator], protocol: str) -> None:
    """An instruction ends with one; CosyVoice3 always requires one, and without it the error shows how to write it."""

    def connected(model: str, dialect: str = "", **options: Any) -> tuple[Emulator, CosyClient]:
        emulator = start(engine="echo", grpc=True, runtime_model=model)
        url = emulator.grpc_url if protocol == "grpc" else emulator.url
        return emulator, CosyClient(url, protocol=f"{protocol}{dialect}", max_retries=0, **options)

    emulator, client = connected("cosyvoice-300m", voice="中文女", sample_rate=22050)
    with client:
        assert echo_text(client.synthesize("hello", instruct="softly").audio) == "hello"
    assert (emulator.received()[-1]["mode"], emulator.received()[-1]["instruct"]) == (
        "instruct",
        "softly<|endofprompt|>",
    )
    for voice in (CLONE, CROSS):
        emulator, client = connected("cosyvoice3", voice=voice)
        with client, pytest.raises(CosyError, match=f"use protocol='{protocol}:cosyvoice3'") as caught:
            client.synthesize("hello")
        assert not caught.value.endpoint_fault
        # Over HTTP the reply breaks off, which may have been the wire.
        assert isinstance(caught.value, TransportError if protocol == "runtime" else BadRequest)
        emulator, client = connected("cosyvoice3", ":cosyvoice3", voice=voice)
        with client:
            assert echo_text(client.synthesize("hello").audio) == "hello"


@thorough
def test_a_transient_fault_is_retried(row: ApiCase, emulator: Emulator) -> None:
    """The caller does not see it."""
    with row.client(emulator, max_retries=3) as client:
        # The reset first: on a connection that was used before, the pool would hide it.
        emulator.inject("reset")
        emulator.inject("error", status=500)
        speech = client.synthesize("hello")
        assert echo_text(speech.audio) == "hello"
        assert speech.attempts == 3


@rows
def test_incomplete_audio_is_an_error(row: ApiCase, emulator: Emulator) -> None:
    """A status of 200 proves nothing; the next call succeeds."""
    with row.client(emulator) as client:
        for fault, params in row.broken:
            emulator.inject(fault, **params)
            with pytest.raises((DecodeError, TransportError)):
                client.synthesize(TEXTS[2])
            assert emulator.counters().faults[fault], fault
            assert echo_text(client.synthesize("hello").audio) == "hello"


@thorough
def test_a_deadline_is_kept_and_the_connection_closed(row: ApiCase, emulator: Emulator) -> None:
    """The service sees its client disconnect."""
    with row.client(emulator) as client:
        emulator.inject("hang")
        with pytest.raises(DeadlineExceeded):
            client.synthesize("hello", timeout=0.3)
        until(lambda: emulator.counters().in_flight == 0)


@thorough
def test_a_cancelled_text_ends_at_the_service(row: ApiCase, emulator: Emulator) -> None:
    """Its connection is closed."""
    with row.client(emulator) as client:
        emulator.inject("hang")
        future = client.submit("hello")
        until(lambda: emulator.counters().faults.get("hang") == 1)
        assert future.cancel()
        until(lambda: emulator.counters().in_flight == 0)


@streaming
def test_a_stream_is_the_same_audio(row: ApiCase, emulator: Emulator) -> None:
    """In pieces, of whole frames, at a rate known from the start."""
    with row.client(emulator) as client:
        whole = client.synthesize(TEXTS[2])
        with client.stream(TEXTS[2]) as stream:
            assert stream.sample_rate == row.sample_rate
            pieces = list(stream)
            assert all(len(piece) % 2 == 0 for piece in pieces)
        assert b"".join(pieces) == whole.pcm()
        assert echo_text(stream.speech().audio) == TEXTS[2]


@pytest.mark.parametrize("row", [row for row in ROWS if row.streams and row.thorough], ids=str)
def test_a_stream_closed_early_closes_the_connection(row: ApiCase, start: Callable[..., Emulator]) -> None:
    """The service can stop rendering."""
    emulator = start(**{**row.emulator_options, "engine": "tone", "chunk_seconds": 0.2, "chunk_gap": 60.0})
    with row.client(emulator) as client:
        # Two segments for those that send one at a time.
        with client.stream(f"{'很长的一句话' * 12}。{'还有一句' * 18}。", timeout=300.0) as stream:
            first = next(iter(stream))
            assert first
            assert emulator.counters().in_flight == 1
        until(lambda: emulator.counters().in_flight == 0)
        assert client.stats().in_flight == 0


def stream_fault(row: ApiCase, emulator: Emulator, fault: str, **params: Any) -> CosyError:
    """Return what a stream of *row* ends with under a fault."""
    with row.client(emulator) as client:
        emulator.inject(fault, **params)
        with pytest.raises(CosyError) as caught, client.stream(TEXTS[2]) as stream:
            list(stream)
    return caught.value


@streaming
def test_a_stream_that_ends_early_is_an_error(row: ApiCase, emulator: Emulator) -> None:
    """Before the first samples and after some of them."""
    for fault, params in row.broken:
        if fault in ("cut", "reset", "empty", "html"):
            error = stream_fault(row, emulator, fault, **params)
            assert isinstance(error, (DecodeError, TransportError)), (fault, error)
    assert type(stream_fault(row, emulator, "error", status=503)) is row.refusals[503]


@rows
def test_no_log_holds_the_key_or_a_text(
    row: ApiCase, emulator: Emulator, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not at any level, neither from this library nor from those below it."""
    key, secrets = "sk-5ecret-0f-the-user", ["private words, sent once", "private words, sent twice"]
    with caplog.at_level(logging.DEBUG), row.client(emulator, api_key=key) as client:
        assert [echo_text(client.synthesize(text).audio) for text in secrets] == secrets
        assert [echo_text(audio) for audio in client.batch_synth(secrets)] == secrets
        if row.streams:
            with client.stream(secrets[0]) as stream:
                b"".join(stream)
    logged = " ".join(f"{record.getMessage()} {vars(record)!r}" for record in caplog.records) + "".join(
        capfd.readouterr()
    )
    assert [leaked for leaked in (key, *secrets) if leaked in logged] == []
