"""The OpenAI speech protocol in the dialects of the servers that implement it: one text or a batch, whole or streamed.

``openai`` uses what all of them accept; ``openai:vllm-omni`` and the others (`dialects.DIALECTS`) use what their server
has beyond: cloned voices, batches, word timestamps. Servers changed the meaning of ``stream`` between versions, so a
reply is read by its media type.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import lru_cache
from json.encoder import encode_basestring as _quote
from typing import TYPE_CHECKING, Any, Final

from cosyclient.audio import parse_wav, wav_bytes
from cosyclient.audio.stream import collect_pcm, strip_headers
from cosyclient.errors import BadUtterance, CosyError
from cosyclient.models import Speech, Utterance
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.codecs.forms import encode_form, max_form_bytes
from cosyclient.protocols.cosyvoice.prompt_text import END_OF_PROMPT
from cosyclient.protocols.openai import replies
from cosyclient.protocols.openai.dialects import DIALECTS
from cosyclient.protocols.replies.headers import is_json, media_type
from cosyclient.protocols.replies.items import items_from_json
from cosyclient.protocols.replies.speech import (
    check_pcm_start,
    check_plausible,
    check_stream_duration,
    speech_from_bytes,
)
from cosyclient.protocols.single_text import SingleTextProtocol
from cosyclient.voices import Voice
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import VoiceSettings
    from cosyclient.protocols.base import Item, VoiceUpload
    from cosyclient.wire import WireReply

logger = logging.getLogger("cosyclient")

_JSON: Final = "application/json"
_NATIVE_RATE: Final = 24000
# Recordings make these large, and a program has few settings.
_CACHED_SETTINGS: Final = 16
# More than the JSON around a text, alone or in a batch.
_FRAMING_BYTES: Final = 64


class OpenAISpeechProtocol(SingleTextProtocol):
    """Implements an OpenAI-compatible server in one *dialect*, without one in the standard; some take batches."""

    def __init__(self, wire: WireConfig, *, dialect: str = "") -> None:
        self.name = f"openai:{dialect}" if dialect else "openai"
        self._dialect = DIALECTS[dialect]
        self.capabilities = replace(self._dialect.capabilities, own_members=self._dialect.own_members())
        self._warned_missing_words = False
        self._max_request_bytes = wire.max_request_bytes
        # Consecutive texts share their settings, which are encoded once.
        self._encoded_members = lru_cache(maxsize=_CACHED_SETTINGS)(self._encode_members)

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body.

        A text that the batch route cannot carry weighs as much as a whole request, so that it is sent alone.
        """
        settings, text = utterance.settings, self._text(utterance)
        if self._is_form(settings):
            return max_form_bytes(*self._form(utterance, self._members(settings, stream=True)))
        weight = len(_quote(text).encode()) + len(self._encoded_members(settings, False)) + _FRAMING_BYTES
        return max(weight, self._max_request_bytes) if self._needs_own_request(settings) else weight

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for *utterances*, which share their settings; *key* identifies it across retries."""
        if len(utterances) == 1:
            return self._request(utterances[0], key, stream=False)
        settings = utterances[0].settings
        if any(utterance.settings is not settings and utterance.settings != settings for utterance in utterances):
            raise BadUtterance("utterances: those of one batch must share their settings")
        if not self._dialect.batch_path or self._needs_own_request(settings):
            raise BadUtterance(f"utterances: protocol {self.name} takes one such text per request")
        items = ",".join([f'{{"input":{_quote(self._text(utterance))}}}' for utterance in utterances])
        body = b"".join((b'{"items":[', items.encode(), b"]", self._encoded_members(settings, False)))
        return _post(self._dialect.batch_path, key, _JSON, body)

    def encode_voices(self) -> WireRequest:
        """Return the request for the list of voices."""
        return WireRequest(method="GET", path=self._dialect.voices_path, headers=(("Accept", _JSON),), body=b"")

    def encode_upload(self, upload: VoiceUpload) -> WireRequest:
        """Return the request that sends *upload*."""
        if self._dialect.upload is None:
            raise BadUtterance(f"voice: protocol {self.name} keeps no recordings")
        return self._dialect.upload.encode(self.name, upload, model=self._dialect.defaults.get("model"))

    def decode_upload(self, reply: WireReply, upload: VoiceUpload, *, wall: float) -> str:
        """Return the name by which the voice is chosen from now on; raises like `decode`."""
        assert self._dialect.upload is not None  # noqa: S101 - it made the request
        return self._dialect.upload.decode(reply, upload, wall=wall)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the texts' speeches and errors as soon as they arrive, every position exactly once."""
        rules = self._dialect.message_rules
        reply, kind = replies.open_reply(reply, utterances, wall=wall, rules=rules, hint=self._dialect.early_end_hint)
        sent = [self._as_requested(utterance) for utterance in utterances]
        if is_json(kind):
            for items in items_from_json(reply, sent, wall=wall, rules=rules):
                yield [(position, _outcome_as_asked(outcome, utterances[position])) for position, outcome in items]
            return
        label = replies.label_from_headers(reply)
        if kind != replies.EVENTS:
            data = b"".join(reply.chunks())
        elif sent[0].settings.format in ("wav", "pcm"):
            labelled = replies.format_from_label(label, sent[0].settings.sample_rate)
            head, data = collect_pcm(replies.read_event_pcm(reply, utterances[0], labelled, rules=rules), labelled)
            label |= {"sample_rate": head.sample_rate, "channels": head.channels}
            if sent[0].settings.format == "wav" and data:
                data = wav_bytes(data, head.sample_rate, head.channels)
        else:
            data = b"".join(audio for audio, _ in replies.read_audio_events(reply, utterances[0], rules=rules))
        speech = self._speech(sent[0], data, label)
        if utterances[0].settings.words:
            speech = replace(speech, words=replies.words_from_headers(reply.headers))
            self._warn_missing_words(reply)
        yield [(0, _as_asked(speech, utterances[0]))]

    def decode_stream(self, reply: WireReply, utterance: Utterance, *, wall: float) -> Iterator[PcmFormat | bytes]:
        """Yield one `PcmFormat`, then samples as they arrive, whichever way the service streams them."""
        rules = self._dialect.message_rules
        reply, kind = replies.open_reply(reply, [utterance], wall=wall, rules=rules, hint=self._dialect.early_end_hint)
        if is_json(kind):
            raise replies.error_from_json(reply, utterance, wall=wall, rules=rules)
        if kind != replies.EVENTS:
            check_pcm_start(reply.start, media_type(reply.headers))
        head = replies.format_from_label(replies.label_from_headers(reply), utterance.settings.sample_rate)
        if kind == replies.EVENTS:
            pieces = replies.read_event_pcm(reply, utterance, head, rules=rules)
        else:
            pieces = strip_headers(reply.chunks(), head)
        # Only the duration shows that a server has left sentences out.
        yield from check_stream_duration(utterance, map(self._with_actual_rate, pieces))

    def decode_voices(self, reply: WireReply, *, wall: float) -> list[str]:
        """Return the names of the voices; raises like `decode`."""
        names = replies.read_voices(reply, wall=wall)
        if not self._dialect.placeholder_voice:
            return names
        # The server lists an uploaded voice in lower case as well, and accepts it in any case.
        return list({name.lower(): name for name in names if name != self._dialect.placeholder_voice}.values())

    # Requests

    def _request(self, utterance: Utterance, key: str, *, stream: bool) -> WireRequest:
        settings = utterance.settings
        if self._is_form(settings):
            kind, body = encode_form(*self._form(utterance, self._members(settings, stream=stream)))
            return _post(self._dialect.path, key, kind, body)
        body = f'{{"input":{_quote(self._text(utterance))}'.encode() + self._encoded_members(settings, stream)
        return _post(self._dialect.path, key, _JSON, body)

    def _encode_members(self, settings: VoiceSettings, stream: bool) -> bytes:
        """Return the members beside the texts, with the comma before them."""
        written = json.dumps(self._members(settings, stream=stream), ensure_ascii=False, separators=(",", ":"))
        return (f",{written[1:]}" if len(written) > 2 else "}").encode()

    def _members(self, settings: VoiceSettings, *, stream: bool) -> dict[str, Any]:
        """Return the members that *settings* become in this dialect, without the file."""
        dialect = self._dialect
        values = {**_values(settings), "format": self._format(settings)}
        if dialect.instruct_or_transcript and settings.instruct is not None:
            values["transcript"] = None
        for name, default in dialect.defaults.items():
            if values[name] is None:
                values[name] = default
        if dialect.voice_template and values["voice"] and ":" not in values["voice"]:
            values["voice"] = dialect.voice_template.format_map(values)
        members = {
            **dialect.fixed_fields,
            **_renamed(values, dialect.fields),
            **(dialect.stream_fields if stream else {}),
        }
        kwargs = _renamed(values, dialect.kwargs_fields)
        # A server that takes what the standard lacks inside ``kwargs`` takes the caller's ``extra`` there, too.
        (kwargs if dialect.kwargs_fields else members).update(settings.extra or {})
        if kwargs:
            members["kwargs"] = json.dumps(kwargs, ensure_ascii=False)
        if dialect.reference_fields and values["recording"] is not None:
            members["references"] = [_renamed(values, dialect.reference_fields)]
        return members

    def _is_form(self, settings: VoiceSettings) -> bool:
        return bool(self._dialect.file_part) and settings.voice_kind != "named"

    def _form(self, utterance: Utterance, members: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, Any]]:
        """Return the fields and the file of a multipart form."""
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in members.items()}
        voice = utterance.settings.voice
        prompt = voice.prompt if isinstance(voice, Voice) else None
        return {"input": self._text(utterance), **fields}, (self._dialect.file_part, prompt)

    def _text(self, utterance: Utterance) -> str:
        instruct = utterance.settings.instruct
        return (
            f"{instruct}{END_OF_PROMPT}{utterance.text}"
            if self._dialect.instruct_in_text and instruct is not None
            else utterance.text
        )

    def _needs_own_request(self, settings: VoiceSettings) -> bool:
        if settings.extra and not self._dialect.batch_extra.issuperset(settings.extra):
            return True
        # 0 is a seed; only None and False are unset.
        asked = (getattr(settings, name) for name in self._dialect.single_only)
        return any(value is not None and value is not False for value in asked)

    # Replies

    def _warn_missing_words(self, reply: WireReply) -> None:
        """Warn once that a service leaves the words out; this is no error, for the audio is complete and paid for."""
        if self._warned_missing_words or any(reply.headers.get(name) is not None for name in replies.WORD_HEADERS):
            return
        self._warned_missing_words = True
        logger.warning(
            "%s: the reply names no words, so Speech.words is empty; vLLM-Omni before 0.28 never does over HTTP, and "
            "later versions do not where the alignment fails",
            self.name,
        )

    def _format(self, settings: VoiceSettings) -> str:
        """Return the format to request: samples at another rate than the model's as WAV, whose header states the rate.

        Raw samples would not show that a service has not resampled.
        """
        resampled = "sample_rate" in self._dialect.fields and settings.sample_rate != _NATIVE_RATE
        return "wav" if settings.format == "pcm" and resampled else settings.format

    def _with_actual_rate(self, piece: PcmFormat | bytes) -> PcmFormat | bytes:
        """Return *piece* with the actual rate if the dialect has one: its server states another."""
        if isinstance(piece, PcmFormat) and self._dialect.actual_rate:
            return PcmFormat(self._dialect.actual_rate, piece.channels)
        return piece

    def _as_requested(self, utterance: Utterance) -> Utterance:
        format = self._format(utterance.settings)
        if format == utterance.settings.format:
            return utterance
        return Utterance(utterance.text, utterance.settings.replace({"format": format}))

    def _speech(self, sent: Utterance, data: bytes, label: dict[str, Any]) -> Speech:
        rate = self._dialect.actual_rate
        if rate is not None:
            label["sample_rate"] = rate
            if sent.settings.format == "wav" and data[:4] == b"RIFF":
                wav = parse_wav(data)
                data = wav_bytes(wav.samples, rate, wav.channels)
        if "media_type" in label:
            # The parameters are in the label already.
            label["media_type"] = label["media_type"].partition(";")[0]
        return speech_from_bytes(sent, data, label)

    def __repr__(self) -> str:
        return f"<OpenAISpeechProtocol {self.name}>"


def _post(path: str, key: str, kind: str, body: bytes) -> WireRequest:
    headers = (("Content-Type", kind), ("Accept", "*/*"), ("X-Request-Id", key))
    return WireRequest(method="POST", path=path, headers=headers, body=body)


def _values(settings: VoiceSettings) -> dict[str, Any]:
    """Return *settings* by the names of `Dialect.fields`; ``None`` for what is not sent."""
    voice = settings.voice if isinstance(settings.voice, Voice) else None
    prompt = voice.prompt if voice is not None else None
    return {
        "model": settings.model,
        "voice": settings.voice_name,
        "sample_rate": settings.sample_rate,
        "speed": settings.speed if settings.speed != 1.0 else None,
        "instruct": settings.instruct,
        "seed": settings.seed,
        "words": settings.words or None,
        "recording": prompt.data_url if prompt is not None else None,
        "transcript": voice.transcript if voice is not None else None,
    }


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {theirs: values[ours] for ours, theirs in names.items() if values[ours] is not None}


def _outcome_as_asked(outcome: Speech | CosyError, utterance: Utterance) -> Speech | CosyError:
    if not isinstance(outcome, Speech):
        return outcome
    try:
        return _as_asked(outcome, utterance)
    except CosyError as error:
        return error


def _as_asked(speech: Speech, utterance: Utterance) -> Speech:
    """Return *speech* in the format asked for, if it is one that *utterance* can have."""
    check_plausible(utterance, speech)
    if speech.format == utterance.settings.format:
        return speech
    wav = parse_wav(speech.audio)
    return replace(speech, audio=wav.samples, format="pcm", fingerprint=utterance.fingerprint)
