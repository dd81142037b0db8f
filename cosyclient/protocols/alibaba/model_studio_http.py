"""Alibaba Model Studio over HTTP: JSON in, server-sent events with base64 audio out.

help.aliyun.com/zh/model-studio/cosyvoice-tts-http-api. Without events the service answers with the address of a file.
The client fetches no address that a reply names, so it uses events for whole speeches as well.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import DecodeError, ServiceError, TransportError
from cosyclient.protocols.alibaba.common import (
    OWN_MEMBERS,
    WordTimings,
    extra_and_headers,
    output_audio,
    reclassify_by_code,
)
from cosyclient.protocols.capabilities import Capabilities
from cosyclient.protocols.codecs import sse
from cosyclient.protocols.codecs.json_body import decode_json_object, object_at, read_json_object
from cosyclient.protocols.replies.errors import MAX_ERROR_BODY_BYTES, error_from_body, read_error_body
from cosyclient.protocols.replies.headers import media_type
from cosyclient.protocols.replies.pcm import speech_from_pcm
from cosyclient.protocols.replies.speech import check_plausible, speech_from_bytes
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.audio.format import PcmFormat
    from cosyclient.models import Speech, Utterance
    from cosyclient.wire import WireReply

_PATH: Final = "/api/v1/services/audio/tts/SpeechSynthesizer"
_HEADERS: Final = (
    ("Content-Type", "application/json; charset=utf-8"),
    ("Accept", sse.MEDIA_TYPE),
    ("X-DashScope-SSE", "enable"),
)


class ModelStudioHttpProtocol(SingleTextProtocol):
    """Implements Model Studio over HTTP; a voice belongs to one generation of models, so both must be given."""

    name = "model-studio-http"
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

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        # Events serve for whole speeches as well.
        headers = (*_HEADERS, *extra_and_headers(utterance.settings)[1], ("X-Request-Id", key))
        return WireRequest(method="POST", path=_PATH, headers=headers, body=_body(utterance))

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        return _read_events(reply, utterance, WordTimings(), wall)

    def _read_speech(self, reply: WireReply, utterance: Utterance, wall: float) -> Speech:
        """Return the speech of all events, with the words they time; for wav it asks for samples, see `_body`."""
        words = WordTimings()
        data = b"".join(_read_events(reply, utterance, words, wall))
        asked = utterance.settings
        speech = speech_from_pcm(utterance, data) if asked.format == "wav" else speech_from_bytes(utterance, data, {})
        if asked.words:
            speech = replace(speech, words=words.in_order())
        return check_plausible(utterance, speech) if speech.duration else speech

    def _error_from_reply(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError:
        return _error_from_body(reply, _error_body(reply), utterances[0], wall)


def _body(utterance: Utterance) -> bytes:
    settings = utterance.settings
    members: dict[str, Any] = {
        "text": utterance.text,
        "voice": settings.voice_name,
        # The header of a WAV file made while it is sent states no length; the client writes one that does.
        "format": "pcm" if settings.format == "wav" else settings.format,
        "sample_rate": settings.sample_rate,
        "rate": settings.speed,
    }
    options = {
        "seed": settings.seed,
        "instruction": settings.instruct,
        "word_timestamp_enabled": settings.words or None,
    }
    members |= {name: value for name, value in options.items() if value is not None}
    members |= extra_and_headers(settings)[0]
    document = {"model": settings.model, "input": members}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _read_events(reply: WireReply, utterance: Utterance, words: WordTimings, wall: float) -> Iterator[bytes]:
    """Yield the audio of every event, adding times to *words*; returns only after the event that ends the audio."""
    kind = media_type(reply.headers)
    if kind == "application/json":
        _check_json(reply, read_json_object(reply), utterance, wall)
    if kind != sse.MEDIA_TYPE:
        raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not a stream", retryable=True)
    finished, has_audio = False, False
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
        # The last event may repeat all of it, besides the address of the whole.
        if not (last and has_audio) and (piece := output_audio(output)):
            has_audio = True
            yield piece
        finished = finished or last
    if not finished:
        raise DecodeError("audio: the stream ends before it says that it is finished", retryable=True)


def _check_json(reply: WireReply, document: dict[str, Any], utterance: Utterance, wall: float) -> None:
    """Raise the error that a JSON reply states where events were asked for."""
    if document.get("code"):
        raise _error_from_body(reply, document, utterance, wall)
    if object_at(document, "output", "audio").get("url"):
        raise DecodeError("audio: the reply names an address in place of audio; it is not fetched")


def _error_body(reply: WireReply) -> object:
    """Return the body of an error reply, which may be an event."""
    if media_type(reply.headers) != sse.MEDIA_TYPE:
        return read_error_body(reply)
    try:
        for event in sse.decode_events(reply.chunks(), max_event_bytes=MAX_ERROR_BODY_BYTES):
            return decode_json_object(event.data)
    except (TransportError, DecodeError):
        pass  # the status alone makes the error
    return None


def _error_from_body(reply: WireReply, body: object, utterance: Utterance, wall: float) -> ServiceError:
    error = error_from_body(reply, body, [utterance], wall=wall)
    return reclassify_by_code(error, request_id=body.get("request_id") if isinstance(body, dict) else None)
