"""Replies that mean harm, to every protocol: numbers beyond all bounds, damaged bytes, documents of the wrong shape.

Whatever comes, a decoder yields what it should or raises one of our errors, and never something foreign.
"""

from __future__ import annotations

import json
import math
import random
import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import WireConfig
from cosyclient.errors import CosyError, DecodeError
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.protocols.alibaba.model_studio_ws import Task
from cosyclient.protocols.base import (
    ListingProtocol,
    PcmFormat,
    StreamingProtocol,
    UploadingProtocol,
    VoiceUpload,
    WireProtocol,
)
from cosyclient.protocols.batch.frames import FrameDecoder
from cosyclient.protocols.codecs.json_results import ResultReader
from cosyclient.protocols.codecs.protobuf import encode_field, encode_message
from cosyclient.protocols.codecs.sse import decode_events
from cosyclient.protocols.codecs.strict import parse_json
from cosyclient.protocols.lighttts.ws import Bistream
from cosyclient.protocols.registry import protocol_for
from cosyclient.protocols.triton.tensors import decode_grpc_response, http_waveform
from cosyclient.protocols.vllm_omni.ws import Session
from cosyclient.testing import ScriptedReply
from tests.protocols import wire, wire_openai, wire_runtime
from tests.protocols.cases import CASES
from tests.protocols.wire_runtime import CLONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.wire import MessageSession
    from tests.protocols.protocol_case import ProtocolCase

ABSURD: list[Any] = [
    *(True, False, None, 0, -1, 1, 999, 10**10, 2**32 - 1, 2**63, 10**400, -(10**400), 1e308, 0.5, math.nan, math.inf),
    *("", "x", "9" * 5000, "\ud800", "\x1b[2J", [], {}, [[]], {"a": 1}),
]
KINDS = [
    *("application/json", "text/event-stream", "audio/wav", "audio/pcm;rate=0;channels=9", "audio/L16;rate=99999999"),
    *(
        wire.FRAMES_TYPE,
        "application/octet-stream",
        "application/problem+json",
        "audio/pcm;rate=٣٣٣٣",
        "text/plain",
        "",
    ),
]
# Every name that one of our decoders looks for.
NAMES = re.findall(
    r"\S+",
    """
    audio audio_b64 audio_base64 audio_data audio_url audios b64_json base64 batch begin_index begin_time
    binary_data_size channels characters code content data datatype detail duration_ms end_ms end_time error
    error_code error_message errors event failed file finish_reason format header i id idx index input items
    kind media_type message metadata model mp3 name number object ok order output outputs parameters payload
    pointer position request_id responses result results retry_after_ms retryable sample_rate sentence shape
    speech speeches start_ms status status_code succeeded success task_id text timestamps title total
    total_bytes type uploaded_voices uri url usage voice_id voices wav wavs word words
    """,
)

cases = pytest.mark.parametrize("case", CASES, ids=str)
numbers = st.sampled_from(ABSURD)
documents: st.SearchStrategy[Any] = st.recursive(
    st.one_of(numbers, st.sampled_from(["success", "stop", "wav", "pcm", "AAAA", "UklGRg==", "waveform", "FP32"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=6)
    ),
    max_leaves=20,
)
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(KINDS)},
    optional={
        "x-sample-rate": st.sampled_from(["0", "-1", "1e9", "9" * 5000, "24000", "²", ""]),
        "x-channels": st.sampled_from(["0", "9", "true", "2"]),
        "x-word-timestamps": documents.map(json.dumps),
        "inference-header-content-length": st.sampled_from(["0", "1", "5", "-1", "9" * 5000, "²", "10"]),
        "retry-after": st.sampled_from(["0", "nan", "1e400", "9" * 5000]),
        "ratelimit": st.sampled_from(['"a";r=0;t=0', '"a";q=0;w=0;r=0', "x"]),
        "location": st.sampled_from(["http://[::1", "//\x1b[2J", "http://" + "a" * 5000]),
        "x-request-id": st.sampled_from(["\x1b[2J", "a" * 5000]),
    },
)
statuses = st.sampled_from([200, 200, 200, 201, 203, 204, 302, 400, 401, 429, 500, 599])


def asked(case: ProtocolCase, count: int = 1) -> list[Utterance]:
    return [Utterance(case.text or utterance.text, case.settings) for utterance in wire.texts(count)]


def everything(protocol: WireProtocol, case: ProtocolCase, reply: Callable[[], ScriptedReply], count: int = 1) -> None:
    """Decode *reply* in every way the protocol knows; only our errors pass, and only what can be is believed."""
    utterances = asked(case, count)
    with suppress(CosyError):
        for items in protocol.decode(reply(), utterances, wall=0.0):
            for position, outcome in items:
                assert 0 <= position < count
                assert isinstance(outcome, (Speech, CosyError))
                if isinstance(outcome, Speech):
                    assert 1000 <= outcome.sample_rate <= 768_000
                    assert 1 <= outcome.channels <= 255
                    assert all(0 <= word.start < 1e7 and 0 <= word.end < 1e7 for word in outcome.words)
    if isinstance(protocol, StreamingProtocol):
        with suppress(CosyError):
            for piece in protocol.decode_stream(reply(), utterances[0], wall=0.0):
                if isinstance(piece, PcmFormat):
                    assert 1000 <= piece.sample_rate <= 768_000
                    assert 1 <= piece.channels <= 8
    if isinstance(protocol, ListingProtocol):
        with suppress(CosyError):
            assert all(name and name.isprintable() for name in protocol.decode_voices(reply(), wall=0.0))
    if isinstance(protocol, UploadingProtocol) and protocol.capabilities.keeps_voices:
        with suppress(CosyError):
            assert protocol.decode_upload(reply(), VoiceUpload(CLONE, "me"), wall=0.0).isprintable()
    protocol.quota(reply())


@cases
@given(status=statuses, fields=headers, document=documents, style=st.integers(0, 3))
@settings(max_examples=60)
def test_no_document_raises_anything_foreign(
    case: ProtocolCase, status: int, fields: dict[str, str], document: Any, style: int
) -> None:
    """JSON, JSON with bytes after it, events and frames, of whatever is in them."""
    text = json.dumps(document).encode()
    body = {
        0: text,
        1: text + b"\xff\x00" * 8,
        2: b"event: speech.audio.delta\ndata: %b\n\ndata: [DONE]\n\n" % text,
        3: wire.frame(wire.opening(1)) + wire.frame(text, b"x") + wire.frame(text),
    }[style]
    protocol = protocol_for(case.protocol, WireConfig())
    everything(protocol, case, lambda: ScriptedReply(status, fields, [body]))


@cases
@given(data=st.data())
@settings(max_examples=50)
def test_no_damage_raises_anything_foreign(case: ProtocolCase, data: st.DataObject) -> None:
    """Whole replies with bytes changed, left out and put in, and with numbers that are none."""
    count = data.draw(st.integers(1, min(3, case.most)))
    body = bytearray(case.whole(count))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, min(len(body), 400) - 1)))
        match data.draw(st.integers(0, 3)):
            case 0:
                body[at : at + 1] = data.draw(st.binary(min_size=1, max_size=4))
            case 1:
                del body[at : at + data.draw(st.integers(1, 40))]
            case 2:
                body[at : at + 4] = data.draw(st.sampled_from([b"\xff\xff\xff\xff", bytes(4), b"\x00\x00\x00\x80"]))
            case 3:
                found = list(re.finditer(rb"[:\[,]\s*(\d+)", body))
                if found:
                    spot = found[at % len(found)].span(1)
                    body[spot[0] : spot[1]] = json.dumps(data.draw(numbers)).encode()
    pieces = case.pieces(bytes(body), data.draw(st.sampled_from([0, 1, 7])))
    fields = {"content-type": case.media_type, **case.headers}
    everything(protocol_for(case.protocol, WireConfig()), case, lambda: ScriptedReply(200, fields, pieces), count)


SPOKEN = VoiceSettings(voice="v", model="m", words=True)
SESSIONS: dict[str, Callable[[], MessageSession]] = {
    "model-studio": lambda: Task(SPOKEN, "好。"),
    "vllm-omni-ws": lambda: Session(SPOKEN, "好。"),
    "vllm-omni-ws stream": lambda: Session(VoiceSettings(voice="v"), stream=True),
    "lighttts-ws": lambda: Bistream(VoiceSettings(voice=CLONE), "好。"),
}
EVENTS = [
    *("audio.start", "audio.chunk", "audio.done", "session.done", "error", "task-started", "task-failed"),
    *("result-generated", "task-finished"),
]


@pytest.mark.parametrize("name", SESSIONS)
@given(messages=st.lists(st.tuples(st.sampled_from(EVENTS), documents, documents), max_size=5))
@settings(max_examples=60)
def test_no_message_raises_anything_foreign(name: str, messages: list[tuple[str, Any, Any]]) -> None:
    """Of those that conversations are made of."""
    session: Any = SESSIONS[name]()
    with suppress(CosyError):
        session.receive(json.dumps({"type": "audio.start"}))
        for event, payload, more in messages:
            header = {"event": event, "task_id": getattr(session, "id", "")}
            extra = more if isinstance(more, dict) else {"timestamps": more, "words": more}
            for text in (json.dumps({**extra, "type": event, "header": header, "payload": payload}), json.dumps(more)):
                turn = session.receive(text)
                assert isinstance(turn.audio, bytes)
    assert all(0 <= word.start < 1e7 for word in session.words)


# --- one by one, for what is said of each ---


@pytest.mark.parametrize("field", ["X-Sample-Rate", "X-Channels"])
@pytest.mark.parametrize("value", ["0", "-1", "9" * 5000, "true"])
def test_impossible_rates_and_channels_in_headers_are_ignored(field: str, value: str) -> None:
    """Then samples are what they were asked to be."""
    reply = ScriptedReply(200, {"Content-Type": "audio/pcm", field: value}, [bytes(2400)])
    protocol = protocol_for("openai", WireConfig())
    assert isinstance(protocol, StreamingProtocol)
    head, *_ = protocol.decode_stream(reply, Utterance("ok", VoiceSettings(voice="v", model="m")), wall=0.0)
    assert head == PcmFormat(24000, 1)


@pytest.mark.parametrize("rate", [0, True, 10**10, 10**400])
def test_an_absurd_rate_of_an_event_is_ignored(rate: int) -> None:
    """It was written into a header once, which has four bytes for it."""
    body = wire_openai.event({"audio": {"data": "AAAA", "sample_rate": rate}}) + wire_openai.DONE
    protocol = protocol_for("openai:sglang-omni", WireConfig())
    reply = ScriptedReply(200, {"Content-Type": "text/event-stream"}, [body])
    assert isinstance(protocol, StreamingProtocol)
    head, samples = protocol.decode_stream(reply, Utterance("o", VoiceSettings(voice="v", model="m")), wall=0.0)
    assert (head, samples) == (PcmFormat(24000, 1), bytes(3))


@pytest.mark.parametrize(
    "shape",
    [[2**63] * 20, [10**300] * 4000, [1] * 33, [-1, -240], [True, 240], [240.0], [0] * 5, None, "240"],
    ids=lambda shape: str(shape)[:20],
)
def test_a_shape_must_match_the_samples(shape: object) -> None:
    """Its product is never made of numbers without end."""
    output = {"name": "waveform", "datatype": "FP32", "shape": shape, "data": [0.5] * 240}
    with pytest.raises(DecodeError, match="960 bytes for"):
        http_waveform(json.dumps({"outputs": [output]}).encode(), None)
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 64 for size in shape):
        return
    tensor = (
        encode_field(1, "waveform") + encode_field(2, "FP32") + b"".join(b"\x18" + wire_varint(size) for size in shape)
    )
    with pytest.raises(DecodeError):
        decode_grpc_response(encode_message(2, encode_message(5, tensor), encode_message(6, bytes(960))))


def wire_varint(value: int) -> bytes:
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*pieces, value])


@pytest.mark.parametrize("size", [-1, 10**400, True, 961, "960"])
def test_an_output_is_no_larger_than_the_reply(size: object) -> None:
    """Nor smaller than nothing: what lies before it is not audio."""
    output = {"name": "other", "parameters": {"binary_data_size": size}}
    speech = {"name": "waveform", "datatype": "FP32", "shape": [240], "parameters": {"binary_data_size": 960}}
    lead = json.dumps({"outputs": [output, speech]}).encode()
    with pytest.raises(DecodeError):
        http_waveform(lead + bytes(960), str(len(lead)))


def test_a_triton_reply_with_bytes_that_are_no_text_is_read_by_its_header() -> None:
    """The JSON ends where it says; what follows is read by nobody."""
    lead = json.dumps({"error": "out of memory"}).encode()
    reply = ScriptedReply(
        200,
        {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(lead))},
        [lead + b"\xff\xfe\x00"],
    )
    with pytest.raises(CosyError, match="out of memory"):
        list(protocol_for("triton", WireConfig()).decode(reply, wire.texts(1), wall=0.0))


def test_booleans_are_no_samples() -> None:
    """Though Python counts with them."""
    output = {"name": "waveform", "datatype": "FP32", "shape": [240], "data": [True] * 240}
    with pytest.raises(DecodeError, match="not made of numbers"):
        http_waveform(json.dumps({"outputs": [output]}).encode(), None)


# --- size and time ---


@pytest.mark.parametrize("text", ["[]," * 200_000, "{}," * 200_000, "0," * 200_000, "[" * 200_000])
def test_json_of_a_million_values_is_not_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs thirty times its bytes, and nobody could interrupt it."""
    loads = json.loads

    def only_small(data: str | bytes) -> Any:
        assert len(data) < 1000
        return loads(data)

    monkeypatch.setattr("cosyclient.protocols.codecs.strict.json.loads", only_small)
    raw = f"[{text}0]".encode()
    for data in (raw.decode(), raw, bytearray(raw)):
        with pytest.raises(ValueError, match="more than 100000 values"):
            parse_json(data)
    with pytest.raises(DecodeError):
        list(ResultReader([b'{"total":1,"results":[', raw], max_results=1).results())


def test_json_of_a_large_batch_is_parsed() -> None:
    """64 texts with a megabyte of audio and the times of a thousand words each; 30 s written out as numbers."""
    words = [{"word": "好", "start_ms": at, "end_ms": at + 200} for at in range(1000)]
    results = [wire.result(index, audio_data="A" * (1 << 20), words=words) for index in range(64)]
    body = wire.json_body(results)
    found = [result for batch in ResultReader([body], max_results=64).results() for result in batch]
    assert len(found) == 64
    assert all(len(result["words"]) == 1000 and len(result["audio_data"]) == 3 << 18 for result in found)
    output = {"name": "waveform", "datatype": "FP32", "shape": [1, 719_000], "data": [0.25] * 719_000}
    assert len(http_waveform(json.dumps({"outputs": [output]}).encode(), None)) == 4 * 719_000


@pytest.mark.parametrize(
    ("feed", "most"),
    [
        (b'{"results":[' + b"[" * 150_000, 1),
        (b'{"results":[[' + b"[]," * 150_000, 1),
        (b"{" + b",".join(b'"m%d":1' % number for number in range(2000)), 1),
    ],
    ids=["deep", "wide", "members"],
)
def test_an_endless_reply_is_not_buffered(feed: bytes, most: int) -> None:
    """It is refused before it has ended, and it never ends."""

    def chunks() -> Iterator[bytes]:
        yield feed
        raise AssertionError("read on")

    with pytest.raises(DecodeError):
        list(ResultReader(chunks(), max_results=most).results())


def test_runs_of_backslashes_are_scanned_in_linear_time() -> None:
    """Not one by one: a hundred megabytes of them are a hundred kilobytes on the wire."""
    for count in (1, 63, 64, 65, 1023, 1 << 20):
        text = b"\\" * (2 * count)
        body = b'{"total":1,"results":[{"index":0,"status":"error","error":"%b\\"%b"}]}' % (text, text)
        ((result,),) = ResultReader([body], max_results=1).results()
        assert result["error"] == "\\" * count + '"' + "\\" * count
    looked = []

    class Watched(bytearray):
        def __getitem__(self, place: Any) -> Any:
            looked.append(place)
            return super().__getitem__(place)

    reader = ResultReader([], max_results=1)
    reader._buffer = Watched(b'"' + b"\\" * (1 << 20) + b'"')
    assert not reader._is_escaped((1 << 20) + 1)
    assert len(looked) < 10


@pytest.mark.parametrize("count", [501, 100_000])
def test_the_fields_of_a_protobuf_message_are_bounded(count: int) -> None:
    """Millions of two bytes each would be read in one go."""
    for data in (b"\x48\x01" * count, encode_message(2, b"\x48\x01" * count)):
        with pytest.raises(DecodeError, match="no whole protobuf message"):
            decode_grpc_response(data)
    assert not decode_grpc_response(b"\x48\x01" * 500).final


class Endless(ScriptedReply):
    """Hand out the same piece a hundred times."""

    left = 100

    def chunks(self) -> Iterator[bytes]:
        while self.left:
            self.left -= 1
            yield from self._pieces  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", ["runtime", "lighttts", "grpc", "openai", "triton-grpc", "pai-eas", "model-studio-http"]
)
def test_an_endless_stream_is_an_error(name: str) -> None:
    """As soon as it is longer than its text can be, and not at the deadline."""
    case = next(case for case in CASES if case.protocol == name)
    samples = random.Random(1).randbytes(2 * 24000 * 10)
    pieces = {
        "grpc": encode_field(1, samples),
        "triton-grpc": encode_message(2, triton_piece(samples)),
        "pai-eas": wire_runtime.sse_event(wire_runtime.pai_body(samples, finish=None)) + b"\n\n",
        "model-studio-http": wire_runtime.model_studio_events(
            wire_runtime.sentence("sentence-synthesis", audio=samples)
        )
        + b"\n\n",
    }
    kind = wire_openai.SSE if name in ("pai-eas", "model-studio-http") else case.media_type
    reply = Endless(200, {"Content-Type": kind}, [pieces.get(name, samples)])
    protocol = protocol_for(name, WireConfig())
    assert isinstance(protocol, StreamingProtocol)
    with pytest.raises(DecodeError, match=r"s, about .* expected"):
        list(protocol.decode_stream(reply, asked(case)[0], wall=0.0))
    assert reply.left > 80


def triton_piece(samples: bytes) -> bytes:
    values = struct.pack(f"<{len(samples) // 2}f", *([0.25] * (len(samples) // 2)))
    tensor = encode_field(1, "waveform") + encode_field(2, "FP32") + b"\x18" + wire_varint(len(values) // 4)
    return encode_message(5, tensor) + encode_message(6, values)


def test_events_of_empty_lines_take_no_more_memory_than_their_bytes() -> None:
    """A million of them are one event of a million line ends."""
    ((event),) = decode_events([b"data:\n" * 1_000_000, b"\n"], max_event_bytes=1 << 20)
    assert event.data == "\n" * 999_999
    with pytest.raises(DecodeError, match="more than"):
        list(decode_events([b"data:\n" * 1_100_000], max_event_bytes=1 << 20))


def test_booleans_are_no_counts() -> None:
    """The end of a batch counts its items."""
    decoder = FrameDecoder()
    frames = wire.frame(wire.opening(1)) + wire.frame(wire.item(0), b"x")
    assert len(list(decoder.feed(frames))) == 2
    with pytest.raises(DecodeError, match="something else"):
        list(decoder.feed(wire.frame({"kind": "end", "succeeded": True, "failed": False})))
