"""Samples of one text while they arrive: retried until the first, in whole frames, none lost, no permit kept."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from cosyclient import (
    BadRequest,
    BadUtterance,
    CircuitOpen,
    ClientClosed,
    ClientConfig,
    CosyClient,
    CosyError,
    DeadlineExceeded,
    DecodeError,
    Rejected,
    ServiceFault,
    SpeechStream,
    TransportError,
)
from cosyclient.audio import parse_wav
from cosyclient.config import BreakerConfig, RetryConfig, WireConfig
from cosyclient.events import AttemptFinished, RetryScheduled
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.batch.protocol import BatchProtocol
from cosyclient.protocols.capabilities import Capabilities
from cosyclient.testing import FakeClock, RecordingListener, ScriptedReply, ScriptedTransport, scripted_client
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cosyclient.models import Utterance
    from cosyclient.wire import WireReply


SOUND = bytes(range(1, 241)) * 10


class PlainProtocol(BatchProtocol):
    """Stream a body as it is, after a head; an empty header ``rate`` leaves the head out."""

    name = "plain"
    capabilities = Capabilities(stream=True)

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return a request that carries the text."""
        return WireRequest(method="POST", path="/stream", headers=(("Key", key),), body=utterance.text.encode())

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield the format, then the chunks of the body."""
        status = int(reply.headers.get("status", reply.status))
        if status != 200:
            raise (ServiceFault if status >= 500 else BadRequest)(f"HTTP {status}", status=status)
        rate = reply.headers.get("rate", "24000")
        if rate:
            yield PcmFormat(int(rate), int(reply.headers.get("channels", "1")))
        yield from reply.chunks()


def pieces(*chunks: bytes | Exception, **headers: str) -> ScriptedReply:
    """Return a stream of *chunks*."""
    return ScriptedReply(200, headers, chunks)


def streaming(
    script: Sequence[WireReply | Exception] | Callable[[WireRequest], Any], **arguments: Any
) -> tuple[CosyClient, ScriptedTransport]:
    """Return a scripted client that speaks `PlainProtocol`."""
    client, transport = scripted_client(script, **arguments)
    client._shared._protocol = PlainProtocol(WireConfig())
    return client, transport


def in_flight(client: CosyClient) -> int:
    """Return the number of permits in use."""
    return client.stats().in_flight


def test_samples_come_as_they_arrive_in_whole_frames() -> None:
    """An odd byte waits for the rest of its frame; the sample rate is known before."""
    client, transport = streaming([pieces(b"", b"\1", b"\2\3", b"\4\5\6\7", b"\x08", rate="22050")])
    with client.stream("你好") as stream:
        assert isinstance(stream, SpeechStream)
        assert (stream.sample_rate, stream.channels) == (22050, 1)
        assert list(stream) == [b"\1\2", b"\3\4\5\6", b"\7\x08"]
        assert list(stream) == [b"\1\2", b"\3\4\5\6", b"\7\x08"], "what has come is not lost"
        assert in_flight(client) == 0
    assert transport.requests[0].body == "你好".encode()


def test_a_stream_becomes_a_speech_and_a_file(tmp_path: Path) -> None:
    """However much was read before."""
    client, _ = streaming([pieces(b"\1\2\3\4", b"\5\6\7\x08", channels="2")])
    with client.stream("a") as stream:
        assert next(iter(stream)) == b"\1\2\3\4"
        speech = stream.speech()
        path = stream.save(tmp_path / "a.wav")
    assert parse_wav(speech.audio).samples == b"\1\2\3\4\5\6\7\x08"
    assert (speech.sample_rate, speech.channels, speech.duration, speech.attempts) == (24000, 2, 2 / 24000, 1)
    assert path.read_bytes() == speech.audio


@pytest.mark.parametrize(
    "first",
    [
        ScriptedReply(503),
        TransportError("reset"),
        pieces(TransportError("reset")),
        pieces(b"\1", TransportError("reset")),
        pieces(),
        pieces(b"\1"),
        pieces(b"\1\2", rate=""),
    ],
)
def test_a_stream_is_retried_until_its_first_samples(first: WireReply | Exception) -> None:
    """Nothing was yielded yet, so nothing is yielded twice."""
    listener = RecordingListener()
    client, transport = streaming([first, pieces(b"\1\2")], listeners=[listener])
    assert list(client.stream("a")) == [b"\1\2"]
    assert len(transport.requests) == 2
    assert transport.requests[0] == transport.requests[1], "the same bytes under the same key"
    assert len(listener.of(RetryScheduled)) == 1
    assert [event.failed for event in listener.of(AttemptFinished)] == [1, 0]
    assert client.stats().retries == 1
    assert in_flight(client) == 0


@pytest.mark.parametrize("value", ["0", "-1", "99999999999", "true", "9" * 5000])
def test_an_impossible_rate_or_channel_count_is_ignored(value: str) -> None:
    """Two replies with a head of 0 Hz once stopped a client for good: their permits were lost."""

    def handler(_: httpx.Request) -> httpx.Response:
        fields = {"Content-Type": "audio/pcm", "X-Sample-Rate": value, "X-Channels": value}
        return httpx.Response(200, headers=fields, content=SOUND)

    with CosyClient(
        "http://cosy.test",
        protocol="openai",
        model="m",
        voice="v",
        concurrency=2,
        timeout=5.0,
        transport=httpx.MockTransport(handler),
    ) as client:
        for _ in range(6):
            with client.stream("o") as stream:
                assert (stream.sample_rate, stream.channels, b"".join(stream)) == (24000, 1, SOUND)
        assert client.stats().in_flight == 0


def test_after_the_first_samples_nothing_is_retried() -> None:
    """The error has the audio that had come."""
    client, transport = streaming([pieces(b"\1\2\3\4", TransportError("reset"))])
    with client.stream("a") as stream, pytest.raises(TransportError, match="reset") as caught:
        list(stream)
    assert len(transport.requests) == 1
    assert caught.value.partial is not None
    assert parse_wav(caught.value.partial.audio).samples == b"\1\2\3\4"
    assert [attempt.error is not None for attempt in caught.value.attempts] == [True]
    assert in_flight(client) == 0


def test_a_stream_that_ends_inside_a_frame_is_an_error() -> None:
    """Half a sample is no sample."""
    client, _ = streaming([pieces(b"\1\2", b"\3")])
    with client.stream("a") as stream, pytest.raises(DecodeError, match="inside a frame") as caught:
        list(stream)
    assert caught.value.partial is not None


def test_a_refusal_and_a_spent_budget_end_the_retries() -> None:
    """A refusal is final, and each retry costs tokens."""
    client, transport = streaming([ScriptedReply(400)])
    with pytest.raises(BadRequest):
        client.stream("a")
    assert len(transport.requests) == 1
    client, transport = streaming(lambda _: ScriptedReply(500), config=ClientConfig(retry=RetryConfig(budget=14)))
    with pytest.raises(CosyError, match="retry budget is spent"):
        client.stream("a")
    assert len(transport.requests) == 2
    assert in_flight(client) == 0


def test_failed_streams_open_the_breaker() -> None:
    """Streams pass the same policies as other calls."""
    config = ClientConfig(breaker=BreakerConfig(minimum_failures=5))
    client, transport = streaming(lambda _: ScriptedReply(500), config=config, max_retries=0)
    for _ in range(5):
        with pytest.raises(ServiceFault):
            client.stream("a")
    with pytest.raises(CircuitOpen):
        client.stream("a")
    assert len(transport.requests) == 5


def test_closing_early_frees_the_connection_and_counts_no_failure() -> None:
    """The caller had enough: the service is not at fault."""
    reply = pieces(b"\1\2", b"\3\4")
    listener = RecordingListener()
    client, _ = streaming([reply], listeners=[listener])
    stream = client.stream("a")
    assert in_flight(client) == 1
    stream.close()
    stream.close()
    assert in_flight(client) == 0
    assert reply.closed
    (event,) = listener.of(AttemptFinished)
    assert isinstance(event.error, Rejected)
    assert client.stats().breakers == {"http://scripted.test": "closed"}
    assert "closed" in repr(stream)


def test_a_forgotten_stream_keeps_no_permit() -> None:
    """The garbage collector closes it, as it closes a file."""
    client, _ = streaming([pieces(b"\1\2", b"\3\4")])
    client.stream("a")
    gc.collect()
    assert in_flight(client) == 0


def test_closing_the_client_ends_its_streams() -> None:
    """Their readers get the same error as all callers, and a closed client opens none."""
    client, _ = streaming([pieces(b"\1\2", b"\3\4")])
    stream = client.stream("a")
    client.close()
    with pytest.raises(ClientClosed, match="amid the stream") as caught:
        list(stream)[5]
    assert caught.value.sent
    assert caught.value.partial is not None
    with pytest.raises(ClientClosed):
        client.stream("a")


@pytest.mark.parametrize("closed", ["client", "stream"])
def test_closing_raises_no_transport_error(closed: str) -> None:
    """A thread that waits for samples gets the error of the client, not of the connection."""

    class ClosedMeanwhile(ScriptedReply):
        def chunks(self) -> Iterator[bytes]:
            yield b"\1\2"
            client.close(drain=False) if closed == "client" else stream.close()
            raise TransportError("shut down from our side")

    client, _ = streaming([ClosedMeanwhile(200, {"rate": "24000"})])
    stream = client.stream("a")
    for _ in range(2):
        with pytest.raises(Rejected, match=f"the {closed} was closed") as caught:
            list(stream)
        assert isinstance(caught.value, ClientClosed) is (closed == "client")
        assert caught.value.partial is not None
    client.close()


def test_a_client_closed_while_a_stream_opens_raises_client_closed() -> None:
    """Also in the last attempt."""

    def answer(_: WireRequest) -> Exception:
        client.close(drain=False)
        return TransportError("shut down from our side")

    client, transport = streaming(answer, max_retries=0)
    with pytest.raises(ClientClosed) as caught:
        client.stream("a")
    assert isinstance(caught.value.__cause__, TransportError)
    assert len(caught.value.attempts) == len(transport.requests) == 1


def test_a_forked_child_leaves_the_stream_to_its_parent() -> None:
    """The child's copy is closed, and nothing is sent to the service."""
    reply = pieces(b"\1\2", b"\3\4")
    client, _ = streaming([reply])
    stream = client.stream("a")
    client._shared.reset_after_fork()
    with pytest.raises(Rejected):
        list(stream)
    del stream
    gc.collect()
    assert not reply.closed


def test_a_slow_reader_does_not_count_as_a_slow_service() -> None:
    """The time that the reader takes between two pieces is not the service's."""
    clock = FakeClock()
    client, _ = streaming([pieces(b"\1\2", b"\3\4", b"\5\6")], clock=clock)
    for _ in client.stream("a"):
        clock.advance(5.0)
    assert client.stats().latency < 1.0


def test_a_stream_keeps_its_deadline() -> None:
    """After it no request is sent."""
    clock = FakeClock()

    def late(_: WireRequest) -> WireReply:
        clock.advance(9.0)
        return ScriptedReply(503)

    client, transport = streaming(late, clock=clock)
    with pytest.raises((DeadlineExceeded, ServiceFault)):
        client.stream("a", timeout=5.0)
    assert len(transport.requests) == 1


def test_bad_options_are_rejected_before_anything_is_sent() -> None:
    """Each error names the alternative."""
    client, transport = streaming([])
    with pytest.raises(BadUtterance, match="use synthesize for files"):
        client.stream("a", format="mp3")  # type: ignore[call-arg]
    with pytest.raises(BadUtterance, match="blank"):
        client.stream(" ")
    with pytest.raises(BadUtterance, match="instruct: protocol plain does not take it; protocols that can do it: ba"):
        client.stream("a", instruct="gently")
    whole, _ = scripted_client([])
    with pytest.raises(BadUtterance, match="protocol batch sends audio whole only"):
        whole.stream("a")
    assert transport.requests == []


def test_a_stream_of_silence_is_an_error() -> None:
    """It is raised at the end, as a pause at the beginning is legitimate; the error has the samples."""
    client, transport = streaming([pieces(bytes(1000), bytes(9001), bytes(999), rate="24000")], max_retries=0)
    with client.stream("你好") as stream:
        with pytest.raises(
            DecodeError, match="audio: 0.23 s of the same sample; a test server must send real"
        ) as caught:
            list(stream)
        assert caught.value.retryable
        assert caught.value.partial is not None
        assert caught.value.partial.pcm() == bytes(11000)
    assert len(transport.requests) == 1


@pytest.mark.parametrize(
    "chunks",
    [[bytes(48000), b"\1\0", bytes(48000)], [bytes(2), b"\1\0" * 5000], [bytes(478)], [bytes(9999), b"\1"]],
    ids=["a click", "the first sample alone", "too short to tell", "the last sample alone"],
)
def test_a_stream_with_any_sound_is_not_silence(chunks: list[bytes]) -> None:
    """However long the pause before it."""
    client, _ = streaming([pieces(*chunks)])
    assert b"".join(client.stream("你好")) == b"".join(chunks)
    silent, _ = streaming([pieces(bytes(10000))])
    assert b"".join(silent.stream("……")) == bytes(10000), "a text without speech may be silence"


def test_what_an_empty_stream_becomes_depends_on_its_text() -> None:
    """It is retried, a final error, or a short silence."""
    client, transport = streaming([pieces(), pieces(rate=""), pieces(b"\1\2")])
    assert b"".join(client.stream("你好")) == b"\1\2"
    assert len(transport.requests) == 3
    client, transport = streaming([pieces(), pieces(rate="")])
    for _ in range(2):
        with pytest.raises(DecodeError, match="the text has nothing to be spoken") as caught:
            client.stream("……")
        assert (caught.value.retryable, caught.value.endpoint_fault) == (False, False)
    assert len(transport.requests) == 2
    client, _ = streaming([pieces(rate="16000", channels="2"), pieces(rate="")], on_silent="silence")
    for rate, channels in ((16000, 2), (24000, 1)):
        with client.stream("……") as stream:
            assert b"".join(stream) == bytes(round(0.3 * rate) * 2 * channels)
            assert (stream.sample_rate, stream.channels) == (rate, channels)
            assert stream.speech().duration == 0.3
    assert in_flight(client) == 0


def test_a_text_without_speech_is_never_an_endpoint_fault() -> None:
    """A refusal may become silence as well, and a fault of the service does not count against it."""
    client, transport = streaming([pieces(status="400")] * 2 + [pieces(status="500")] * 2, max_retries=1)
    with client.stream("……", on_silent="silence") as stream:
        assert b"".join(stream) == bytes(round(0.3 * 24000) * 2)
        assert stream.speech().duration == 0.3
    with pytest.raises(BadRequest):
        client.stream("……")
    with pytest.raises(ServiceFault) as caught:
        client.stream("……", on_silent="silence")
    assert not caught.value.endpoint_fault
    assert len(transport.requests) == 4
    assert in_flight(client) == 0
