"""CosyVoice on Alibaba's PAI-EAS: JSON in, base64 in JSON out, whole or as server-sent events.

help.aliyun.com/zh/pai/use-cases/cosyvoice2-api-description. Its voices are uploaded recordings, chosen by their ids.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import DecodeError
from cosyclient.protocols.alibaba.common import output_audio
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.codecs import sse
from cosyclient.protocols.codecs.json_body import (
    decode_json_object,
    object_at,
    read_json_object,
    read_voice_list,
    voice_names,
)
from cosyclient.protocols.replies.errors import error_from_body, error_from_reply, reclassify
from cosyclient.protocols.replies.headers import is_json, media_type
from cosyclient.protocols.replies.speech import check_plausible, speech_from_bytes
from cosyclient.protocols.replies.uploads import UploadForm
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosyclient.audio.format import PcmFormat
    from cosyclient.config import WireConfig
    from cosyclient.models import Speech, Utterance
    from cosyclient.protocols.base import VoiceUpload
    from cosyclient.wire import WireReply

_JSON: Final = "application/json"
_PATH: Final = "/api/v1/audio/speech"
_RECORDINGS: Final = "/api/v1/audio/reference_audio"
_MODEL: Final = "CosyVoice2-0.5B"
_MODES: Final = {"": "fast_replication", "cross_lingual": "cross_lingual_replication"}
_INSTRUCT_MODE: Final = "natural_language_replication"
_FINISH_REASONS: Final = ("stop", "length")


_UPLOAD: Final = UploadForm(
    path=_RECORDINGS, file_field="file", fields={"transcript": "text"}, required=("transcript",), name_member="id"
)


class PaiEasProtocol(SingleTextProtocol):
    """Implements CosyVoice on PAI-EAS; the dialect ``cross_lingual`` is for other languages than the recording's.

    ``voice`` is the id of an uploaded recording.
    """

    name = "pai-eas"
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

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        super().__init__(wire)
        self._mode = _MODES[dialect]

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

    def encode_upload(self, upload: VoiceUpload) -> WireRequest:
        """Return the request that sends *upload*."""
        return _UPLOAD.encode(self.name, upload)

    def decode_upload(self, reply: WireReply, upload: VoiceUpload, *, wall: float) -> str:
        """Return the id of the recording; raises like `decode`."""
        return _UPLOAD.decode(reply, upload, wall=wall)

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        accept = sse.MEDIA_TYPE if stream else _JSON
        headers = (("Content-Type", f"{_JSON}; charset=utf-8"), ("Accept", accept), ("X-Request-Id", key))
        return WireRequest(method="POST", path=_PATH, headers=headers, body=self._body(utterance, stream=stream))

    def _read_speech(self, reply: WireReply, utterance: Utterance, wall: float) -> Speech:
        """Return the speech of the one JSON object that a whole reply is."""
        kind = media_type(reply.headers)
        if not is_json(kind):
            raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not JSON", retryable=True)
        data, finished = _read_output(read_json_object(reply), reply, utterance, wall)
        if not finished:
            raise DecodeError("audio: the reply says that it is not finished", retryable=True)
        speech = speech_from_bytes(utterance, data, {})
        return check_plausible(utterance, speech) if speech.duration else speech

    def _read_pcm(self, reply: WireReply, utterance: Utterance, wall: float) -> Iterator[PcmFormat | bytes]:
        kind = media_type(reply.headers)
        if is_json(kind):
            # An error before the first event.
            _read_output(read_json_object(reply), reply, utterance, wall)
        if kind != sse.MEDIA_TYPE:
            raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not a stream", retryable=True)
        finished = False
        for event in sse.decode_events(reply.chunks()):
            if not event.data.startswith("{"):
                continue
            data, finished = _read_output(decode_json_object(event.data), reply, utterance, wall)
            if data:
                yield data
        if not finished:
            raise DecodeError("audio: the stream ends before it says that it is finished", retryable=True)

    def _body(self, utterance: Utterance, *, stream: bool) -> bytes:
        settings = utterance.settings
        members: dict[str, Any] = {
            "mode": self._mode if settings.instruct is None else _INSTRUCT_MODE,
            "text": utterance.text,
            "reference_audio_id": settings.voice_name,
            "sample_rate": settings.sample_rate,
            "speed": settings.speed,
            "output_format": settings.format,
        }
        if settings.instruct is not None:
            members["instruct"] = settings.instruct
        members |= settings.extra or {}
        document = {"model": settings.model or _MODEL, "input": members, "stream": stream}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _read_output(document: dict[str, Any], reply: WireReply, utterance: Utterance, wall: float) -> tuple[bytes, bool]:
    """Return the audio of one object and whether it is the last; raises the error that it states."""
    output = object_at(document, "output")
    error = document.get("error") or output.get("error")
    if error or (not output and document.get("code")):
        found = error_from_body(reply, {**document, "error": error} if error else document, [utterance], wall=wall)
        raise reclassify(found, type(found), request_id=document.get("request_id"))
    return output_audio(output), output.get("finish_reason") in _FINISH_REASONS
