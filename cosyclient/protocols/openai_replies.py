"""What OpenAI-compatible servers answer: audio under a label or in events, words in a header, voices in a list."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import DecodeError
from cosyclient.models import Word
from cosyclient.protocols.base import StreamHead
from cosyclient.protocols.coding import unbase64
from cosyclient.protocols.headers import media_type
from cosyclient.protocols.refusals import item_error, refusal, refusal_of, said_by
from cosyclient.protocols.samples import is_wav, wav_opening
from cosyclient.protocols.sse import MEDIA_TYPE, events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cosyclient.errors import CosyError
    from cosyclient.models import Utterance
    from cosyclient.protocols.verdicts import Sayings
    from cosyclient.wire import WireReply

EVENTS: Final = MEDIA_TYPE
OCTETS: Final = "application/octet-stream"
"""What OpenAI's own description calls every format."""

# RFC 2586 has L16 big-endian; whoever says it here means the little-endian samples that the others call PCM.
_L16: Final = "audio/l16"
_RATE: Final = re.compile(r";\s*rate=(\d{4,6})\b", re.IGNORECASE)
_CHANNELS: Final = re.compile(r";\s*channels=([1-8])\b", re.IGNORECASE)
_MAX_LIST_BYTES: Final = 4 << 20
_MAX_LABEL: Final = 256
_LISTS: Final = ("voices", "uploaded_voices", "result", "results", "data")
_NAMES: Final = ("uri", "name", "voice_id", "id")


def kind_of(reply: WireReply, utterances: Sequence[Utterance], *, wall: float, sayings: Sayings = ()) -> str:
    """Return the media type of a reply that is a finished success by its head; raises what it stands for otherwise.

    JSON may be either: a batch, or the error that Vox-Box says with 200.
    """
    kind = media_type(reply.headers)
    if reply.status >= 300 or kind == "application/problem+json":
        raise refusal(reply, utterances, wall=wall, sayings=sayings)
    # 203 is a 200 that a proxy has touched; 202, 204, 206 and the like are not the finished whole.
    if reply.status not in (200, 201, 203):
        raise DecodeError(f"HTTP {reply.status}: not a finished reply", retryable=True)
    listed = len(utterances) != 1
    if not is_json(kind) and (listed or not (kind.startswith("audio/") or kind in (OCTETS, EVENTS))):
        wanted = "a batch" if listed else "audio"
        raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not {wanted}", retryable=True)
    return kind


def is_json(kind: str) -> bool:
    """Return whether *kind* is JSON, under whichever name."""
    return kind.endswith(("/json", "+json"))


def refusal_in(reply: WireReply, utterance: Utterance, *, wall: float, sayings: Sayings = ()) -> CosyError:
    """Return the error that JSON in place of audio stands for, the status being that of a success."""
    body = said_by(reply)
    if isinstance(body, dict) and any(map(body.get, ("error", "code", "status_code", "detail"))):
        return refusal_of(reply, body, [utterance], wall=wall, sayings=sayings)
    return DecodeError(f"HTTP {reply.status}: JSON instead of audio", retryable=True)


def label_of(reply: WireReply) -> dict[str, Any]:
    """Return what the head of *reply* says of its audio, in the names of `speech_of`."""
    headers = reply.headers
    kind, said = media_type(headers), (headers.get("content-type") or "")[:_MAX_LABEL]
    rate, channels = _RATE.search(said), _CHANNELS.search(said)
    label: dict[str, Any] = {
        "sample_rate": int(rate[1]) if rate else _number(headers.get("x-sample-rate")),
        "channels": int(channels[1]) if channels else _number(headers.get("x-channels")),
    }
    if kind not in (OCTETS, EVENTS):
        label["media_type"] = "audio/pcm" if kind == _L16 else kind
    return {name: value for name, value in label.items() if value is not None}


def head_of(label: Mapping[str, Any], rate: int) -> StreamHead:
    """Return what samples labelled so are, at *rate* where the label does not say."""
    return StreamHead(label.get("sample_rate", rate), label.get("channels", 1))


def audio_events(
    reply: WireReply, utterance: Utterance, *, sayings: Sayings = ()
) -> Iterator[tuple[bytes, int | None]]:
    """Yield the audio of each event, and its rate if it names one; returns only when the service said that is all.

    OpenAI's and vLLM-Omni's ``speech.audio.…`` events and SGLang-Omni's chunks that end with ``[DONE]``. Raises the
    `ServiceError` that an error among them stands for, or `DecodeError`.
    """
    for event in events(reply.chunks()):
        if event.data == "[DONE]":
            return
        try:
            message = json.loads(event.data)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise DecodeError(f"reply: an event of {len(event.data)} characters that is no JSON object", retryable=True)
        name = message.get("type") or event.name
        if message.get("error") or name in ("error", "speech.audio.error"):
            raise item_error(
                message.get("error") or message,
                [utterance],
                status=reply.status,
                lead="the stream failed",
                endpoint_fault=None,
                sayings=sayings,
            )
        if name == "speech.audio.done":
            return
        rate: Any = None
        audio: Any = message.get("audio")
        if isinstance(audio, dict):
            audio, rate = audio.get("data"), audio.get("sample_rate")
        if isinstance(audio, str) and audio:
            try:
                yield unbase64(audio), rate if isinstance(rate, int) and rate > 0 else None
            except ValueError:
                raise DecodeError(f"audio: {len(audio)} characters that are not base64", retryable=True) from None
    raise DecodeError("reply: the events end without saying that they are all", retryable=True)


def event_samples(
    reply: WireReply, utterance: Utterance, said: StreamHead, *, sayings: Sayings = ()
) -> Iterator[StreamHead | bytes]:
    """Yield the head and the samples of events; each may be a WAV of its own, the first alone, or none."""
    head: StreamHead | None = None
    for audio, rate in audio_events(reply, utterance, sayings=sayings):
        this = StreamHead(rate, said.channels) if rate else head or said
        if is_wav(audio):
            opening = wav_opening(audio)
            if opening is None:
                raise DecodeError("audio: an event that ends inside a WAV header", retryable=True)
            this, audio = opening.head, audio[opening.start :]
        if head is None:
            head = this
            yield head
        elif this != head:
            raise DecodeError("audio: the stream changes its rate in the middle")
        yield audio


def words_of(headers: Mapping[str, str]) -> tuple[Word, ...]:
    """Return the words that vLLM-Omni names in a header, in seconds; none where it left them out or nobody can read it.

    It leaves them out beyond 4 KB, and says so in ``X-Word-Timestamps-Omitted``.
    """
    try:
        listed = json.loads(headers.get("x-word-timestamps") or "[]")
        return tuple(_word(entry) for entry in listed) if isinstance(listed, list) else ()
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def voices_of(reply: WireReply, *, wall: float) -> list[str]:
    """Return the names in a list of voices, whichever of its forms it has; raises what a refusal stands for."""
    if reply.status >= 300:
        raise refusal(reply, (), wall=wall)
    body = bytearray()
    for chunk in reply.chunks():
        body += chunk
        if len(body) > _MAX_LIST_BYTES:
            raise DecodeError(f"reply: a list of voices of more than {_MAX_LIST_BYTES} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise DecodeError(f"reply: {len(body)} bytes that are no list of voices", retryable=True) from None
    lists = [document] if isinstance(document, list) else []
    if isinstance(document, dict):
        lists = [value for name in _LISTS if isinstance(value := document.get(name), list)]
    if not lists:
        raise DecodeError("reply: JSON without a list of voices")
    named = (_name(entry) for entries in lists for entry in entries)
    # Uploaded ones are named twice at times.
    return list(dict.fromkeys(name for name in named if name))


def _word(entry: Any) -> Word:
    start, end = entry["start_ms"], entry["end_ms"]
    if not all(isinstance(at, (int, float)) and math.isfinite(at) and at >= 0 for at in (start, end)):
        raise ValueError("not an instant")
    return Word(str(entry["word"]), start / 1000, end / 1000)


def _name(entry: Any) -> str:
    if isinstance(entry, dict):
        entry = next((value for name in _NAMES if isinstance(value := entry.get(name), str)), None)
    return entry if isinstance(entry, str) else ""


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 7 else None
