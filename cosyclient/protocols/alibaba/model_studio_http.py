"""Alibaba Model Studio over HTTP: JSON in, server-sent events with base64 audio out.

help.aliyun.com/zh/model-studio/cosyvoice-tts-http-api. Without events the service answers with the address of a file;
nothing here fetches an address that a reply names, so the events serve for whole speeches as well.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cosyclient.audio.stream import with_format
from cosyclient.errors import DecodeError, ServiceError, TransportError
from cosyclient.protocols.alibaba.errors import OWN_MEMBERS, WordTimings, extra_and_headers, reclassify_by_code
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.capabilities import Capabilities
from cosyclient.protocols.codecs import sse
from cosyclient.protocols.codecs.json_body import decode_json_object, object_at, output_audio, read_json_object
from cosyclient.protocols.replies.errors import MAX_ERROR_BODY_BYTES, check_status, error_from_body, read_error_body
from cosyclient.protocols.replies.headers import media_type, quota
from cosyclient.protocols.replies.pcm import speech_from_pcm
from cosyclient.protocols.replies.speech import check_plausible, check_stream_duration, speech_from_bytes
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.wire import WireReply

_PATH: Final = "/api/v1/services/audio/tts/SpeechSynthesizer"
_HEADERS: Final = (
    ("Content-Type", "application/json; charset=utf-8"),
    ("Accept", sse.MEDIA_TYPE),
    ("X-DashScope-SSE", "enable"),
)


class ModelStudioHttpProtocol:
    """Speak to Model Studio's CosyVoice over HTTP; voices belong to a generation of models, so both must be named."""

    name: str = "model-studio-http"
    capabilities = Capabilities(
        stream=True,
        instruct=True,
        seed=True,
        words=True,
        speeds=(0.5, 2.0),
        required=("model", "voice"),
        advice="enrol the recording with Model Studio once, and pass the voice id that comes back",
        own_members=OWN_MEMBERS,
        # Its servers let connections idle for a minute.
        idle_limit=55.0,
    )

    def __init__(self, wire: WireConfig) -> None:
        pass

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        return len(_body(utterance))

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one of *utterances*; *key* identifies it across retries."""
        (utterance,) = utterances
        headers = (*_HEADERS, *extra_and_headers(utterance.settings)[1], ("X-Request-Id", key))
        return WireRequest(method="POST", path=_PATH, headers=headers, body=_body(utterance))

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made, which is the same as for the whole."""
        return self.encode([utterance], key=key)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech once all of it is there."""
        (utterance,) = utterances
        words = WordTimings()
        data = b"".join(_pieces(reply, utterance, words, wall))
        asked = utterance.settings
        speech = speech_from_pcm(utterance, data) if asked.format == "wav" else speech_from_bytes(utterance, data, {})
        if asked.words:
            speech = replace(speech, words=words.in_order())
        yield [(0, check_plausible(utterance, speech) if speech.duration else speech)]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive."""
        pieces = check_stream_duration(utterance, _pieces(reply, utterance, WordTimings(), wall))
        yield from with_format(pieces, PcmFormat(utterance.settings.sample_rate))

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits."""
        return quota(reply.headers)

    def __repr__(self) -> str:
        return "<ModelStudioHttpProtocol>"


def _body(utterance: Utterance) -> bytes:
    settings = utterance.settings
    wanted: dict[str, Any] = {
        "text": utterance.text,
        "voice": settings.voice_name,
        # The header of a WAV file that is made while it is sent cannot say how long it is: ours can.
        "format": "pcm" if settings.format == "wav" else settings.format,
        "sample_rate": settings.sample_rate,
        "rate": settings.speed,
    }
    options = {
        "seed": settings.seed,
        "instruction": settings.instruct,
        "word_timestamp_enabled": settings.words or None,
    }
    wanted |= {name: value for name, value in options.items() if value is not None}
    wanted |= extra_and_headers(settings)[0]
    document = {"model": settings.model, "input": wanted}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _pieces(reply: WireReply, utterance: Utterance, words: WordTimings, wall: float) -> Iterator[bytes]:
    """Yield the audio of every event; returns only when the service has said that this was all."""
    check_status(reply, [utterance], wall=wall, make_error=_error_from_reply)
    kind = media_type(reply.headers)
    if kind == "application/json":
        _no_events(reply, read_json_object(reply), utterance, wall)
    if kind != sse.MEDIA_TYPE:
        raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not a stream", retryable=True)
    over, some = False, False
    for event in sse.decode_events(reply.chunks()):
        if event.name == "error":
            raise _error_from_body(reply, decode_json_object(event.data), utterance, wall)
        if not event.data.startswith("{"):
            continue
        document = decode_json_object(event.data)
        output = object_at(document, "output")
        if document.get("code") and not output:
            raise _error_from_body(reply, document, utterance, wall)
        words.add(output.get("sentence"))
        last = output.get("finish_reason") == "stop"
        # The last event may hold all of it once more, besides the address of the whole.
        if not (last and some) and (piece := output_audio(output)):
            some = True
            yield piece
        over = over or last
    if not over:
        raise DecodeError("audio: the stream ends before it says that it is finished", retryable=True)


def _no_events(reply: WireReply, document: dict[str, Any], utterance: Utterance, wall: float) -> None:
    """Raise what a JSON reply to a request for events stands for."""
    if document.get("code"):
        raise _error_from_body(reply, document, utterance, wall)
    if object_at(document, "output", "audio").get("url"):
        raise DecodeError("audio: the reply names an address in place of audio; it is not fetched")


def _error_body(reply: WireReply) -> object:
    """Return the body of an error reply, which is an event where events were asked for."""
    if media_type(reply.headers) != sse.MEDIA_TYPE:
        return read_error_body(reply)
    try:
        for event in sse.decode_events(reply.chunks(), max_event_bytes=MAX_ERROR_BODY_BYTES):
            return decode_json_object(event.data)
    except (TransportError, DecodeError):
        pass  # the status has already said what matters
    return None


def _error_from_reply(reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
    return _error_from_body(reply, _error_body(reply), utterances[0], wall)


def _error_from_body(reply: WireReply, body: object, utterance: Utterance, wall: float) -> ServiceError:
    error = error_from_body(reply, body, [utterance], wall=wall)
    return reclassify_by_code(error, request_id=body.get("request_id") if isinstance(body, dict) else None)
