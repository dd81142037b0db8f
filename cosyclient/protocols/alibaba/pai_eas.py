"""CosyVoice on Alibaba's PAI-EAS: JSON in, base64 in JSON out, whole or as server-sent events.

help.aliyun.com/zh/pai/use-cases/cosyvoice2-api-description. Its voices are recordings uploaded before, by their ids.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from cosyclient.audio.stream import with_format
from cosyclient.errors import DecodeError
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.codecs import sse
from cosyclient.protocols.codecs.json_body import (
    decode_json_object,
    object_at,
    output_audio,
    read_json_object,
    read_voice_list,
    voice_names,
)
from cosyclient.protocols.replies.errors import check_status, error_from_body, error_from_reply, reclassify
from cosyclient.protocols.replies.headers import media_type, quota
from cosyclient.protocols.replies.speech import check_plausible, check_stream_duration, speech_from_bytes
from cosyclient.protocols.replies.uploads import UploadForm
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance
    from cosyclient.protocols.base import Item, Quota, VoiceUpload
    from cosyclient.wire import WireReply

_JSON: Final = "application/json"
_PATH: Final = "/api/v1/audio/speech"
_RECORDINGS: Final = "/api/v1/audio/reference_audio"
_MODEL: Final = "CosyVoice2-0.5B"
_MODES: Final = {"": "fast_replication", "cross_lingual": "cross_lingual_replication"}
_TOLD: Final = "natural_language_replication"
_ENDS: Final = ("stop", "length")


_UPLOAD: Final = UploadForm(
    path=_RECORDINGS, file_field="file", fields={"transcript": "text"}, required=("transcript",), name_member="id"
)


class PaiEasProtocol:
    """Speak to a CosyVoice service on PAI-EAS; the dialect ``cross_lingual`` speaks other languages than the voice's.

    ``voice`` is the id of a recording uploaded before.
    """

    name: str = "pai-eas"
    capabilities = Capabilities(
        stream=True,
        instruct=True,
        speeds=(0.5, 2.0),
        formats=("wav", "pcm", "mp3"),
        required=("voice",),
        advice="upload the recording once, with upload_voice, and ask for the voice that comes back",
        lists_voices=True,
        keeps_voices=True,
        own_members=own_members(
            "mode",
            "text",
            "stream",
            reference_audio_id="voice",
            output_format="format",
            sample_rate="sample_rate",
            speed="speed",
            instruct="instruct",
            model="model",
        ),
    )

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:  # noqa: ARG002 - every protocol is made with it
        self._mode = _MODES[dialect]

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body."""
        return len(self._body(utterance, stream=False))

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for the one of *utterances*; *key* identifies it across retries."""
        (utterance,) = utterances
        return _request(self._body(utterance, stream=False), key, accept=_JSON)

    def encode_stream(self, utterance: Utterance, *, key: str) -> WireRequest:
        """Return the request for *utterance*'s samples as they are made."""
        return _request(self._body(utterance, stream=True), key, accept=sse.MEDIA_TYPE)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the text's speech once all of it is there."""
        (utterance,) = utterances
        kind = _checked(reply, utterance, wall)
        if not kind.endswith(("/json", "+json")):
            raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not JSON", retryable=True)
        data, over = _heard(read_json_object(reply), reply, utterance, wall)
        if not over:
            raise DecodeError("audio: the reply says that it is not finished", retryable=True)
        speech = speech_from_bytes(utterance, data, {})
        yield [(0, check_plausible(utterance, speech) if speech.duration else speech)]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive."""
        kind = _checked(reply, utterance, wall)
        if kind.endswith(("/json", "+json")):
            # An error that had no time to become an event.
            _heard(read_json_object(reply), reply, utterance, wall)
        if kind != sse.MEDIA_TYPE:
            raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not a stream", retryable=True)
        pieces = check_stream_duration(utterance, _pieces(reply, utterance, wall))
        yield from with_format(pieces, PcmFormat(utterance.settings.sample_rate))

    def encode_voices(self) -> WireRequest:
        """Return the request for the list of recordings."""
        return WireRequest(method="GET", path=_RECORDINGS, headers=(("Accept", _JSON),), body=b"")

    def decode_voices(self, reply: WireReply, *, wall: float) -> list[str]:
        """Return the ids of the recordings; raises like `decode`."""
        if reply.status >= 300:
            raise error_from_reply(reply, (), wall=wall)
        listed = read_voice_list(reply)
        listed = listed.get("data") if isinstance(listed, dict) else listed
        if not isinstance(listed, list):
            raise DecodeError("reply: no list of recordings", retryable=True)
        return voice_names((each for each in listed if isinstance(each, dict)), ("id",))

    def encode_upload(self, recording: VoiceUpload) -> WireRequest:
        """Return the request that hands *recording* over."""
        return _UPLOAD.encode(self.name, recording)

    def decode_upload(self, reply: WireReply, recording: VoiceUpload, *, wall: float) -> str:
        """Return the id of the recording; raises like `decode`."""
        return _UPLOAD.decode(reply, recording, wall=wall)

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits."""
        return quota(reply.headers)

    def _body(self, utterance: Utterance, *, stream: bool) -> bytes:
        settings = utterance.settings
        wanted: dict[str, Any] = {
            "mode": self._mode if settings.instruct is None else _TOLD,
            "text": utterance.text,
            "reference_audio_id": settings.voice_name,
            "sample_rate": settings.sample_rate,
            "speed": settings.speed,
            "output_format": settings.format,
        }
        if settings.instruct is not None:
            wanted["instruct"] = settings.instruct
        wanted |= settings.extra or {}
        document = {"model": settings.model or _MODEL, "input": wanted, "stream": stream}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def __repr__(self) -> str:
        return f"<PaiEasProtocol {self._mode}>"


def _request(body: bytes, key: str, *, accept: str) -> WireRequest:
    headers = (("Content-Type", f"{_JSON}; charset=utf-8"), ("Accept", accept), ("X-Request-Id", key))
    return WireRequest(method="POST", path=_PATH, headers=headers, body=body)


def _checked(reply: WireReply, utterance: Utterance, wall: float) -> str:
    """Return the media type of a success; raises what anything else stands for."""
    check_status(reply, [utterance], wall=wall)
    return media_type(reply.headers)


def _pieces(reply: WireReply, utterance: Utterance, wall: float) -> Iterator[bytes]:
    """Yield the audio of every event; returns only when the service has said that this was all."""
    over = False
    for event in sse.decode_events(reply.chunks()):
        if not event.data.startswith("{"):
            continue
        data, over = _heard(decode_json_object(event.data), reply, utterance, wall)
        if data:
            yield data
    if not over:
        raise DecodeError("audio: the stream ends before it says that it is finished", retryable=True)


def _heard(document: dict[str, Any], reply: WireReply, utterance: Utterance, wall: float) -> tuple[bytes, bool]:
    """Return the audio of one object and whether it was the last; raises the error it stands for."""
    output = object_at(document, "output")
    error = document.get("error") or output.get("error")
    if error or (not output and document.get("code")):
        found = error_from_body(reply, {**document, "error": error} if error else document, [utterance], wall=wall)
        raise reclassify(found, type(found), request_id=document.get("request_id"))
    return output_audio(output), output.get("finish_reason") in _ENDS
