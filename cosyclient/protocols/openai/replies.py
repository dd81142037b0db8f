"""Replies of OpenAI-compatible servers: labelled audio, events, word timestamps in a header, lists of voices."""

from __future__ import annotations

import re
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from cosyclient.audio import sniff
from cosyclient.audio.wav import is_wav, parse_header
from cosyclient.errors import DecodeError
from cosyclient.protocols.base import PcmFormat
from cosyclient.protocols.codecs.json_body import (
    decode_audio,
    decode_json_object,
    read_voice_list,
    voice_names,
    word_timing,
)
from cosyclient.protocols.codecs.sse import MEDIA_TYPE, decode_events
from cosyclient.protocols.codecs.strict import parse_json
from cosyclient.protocols.replies.errors import (
    check_status,
    error_from_body,
    error_from_item,
    error_from_reply,
    read_error_body,
)
from cosyclient.protocols.replies.headers import is_json, media_type
from cosyclient.protocols.replies.peeked import PeekedReply
from cosyclient.util.numbers import (
    CHANNEL_COUNT_RANGE,
    SAMPLE_RATE_RANGE,
    parse_int_in_range,
    valid_sample_rate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cosyclient.audio.wav import SampleFormat
    from cosyclient.errors import CosyError
    from cosyclient.models import Utterance, Word
    from cosyclient.protocols.replies.error_rules import MessageRules
    from cosyclient.wire import WireReply

EVENTS: Final = MEDIA_TYPE
OCTETS: Final = "/octet-stream"
"""The media type of every format in OpenAI's description, below ``application/``; object stores use ``binary/``."""

WORD_HEADERS: Final = ("x-word-timestamps", "x-word-timestamps-omitted")
"""A server that was asked for words and can time them sends one of these."""

# RFC 2586 has L16 big-endian; servers that use it here send the little-endian samples that others call PCM.
_L16: Final = "audio/l16"
_RATE: Final = re.compile(r";\s*rate=(\d+)\b", re.IGNORECASE)
_CHANNELS: Final = re.compile(r";\s*channels=(\d+)\b", re.IGNORECASE)
_MAX_LABEL: Final = 256
_LISTS: Final = ("voices", "uploaded_voices", "result", "results", "data")
_NAMES: Final = ("uri", "name", "voice_id", "id")


def open_reply(
    reply: WireReply, utterances: Sequence[Utterance], *, wall: float, rules: MessageRules = (), hint: str = ""
) -> tuple[PeekedReply, str]:
    """Return *reply* with its first bytes read, and its media type; raises the error of anything but a success.

    The media type is empty if the first bytes are audio, whatever the header says. JSON may be a batch, or the error
    that Vox-Box sends with 200.
    """
    kind = media_type(reply.headers)
    check_status(reply, utterances, wall=wall, make_error=partial(error_from_reply, rules=rules))
    read = PeekedReply(reply, hint=hint)
    if sniff(read.start):
        kind = ""
    elif is_json(kind):
        return read, kind
    listed = len(utterances) != 1
    if listed or not (not kind or kind == EVENTS or kind.startswith("audio/") or kind.endswith(OCTETS)):
        wanted = "a batch" if listed else "audio"
        raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} is not {wanted}", retryable=True)
    return read, kind


def error_from_json(reply: WireReply, utterance: Utterance, *, wall: float, rules: MessageRules = ()) -> CosyError:
    """Return the error of a reply with a success status that has JSON in place of audio."""
    body = read_error_body(reply)
    if isinstance(body, dict) and any(map(body.get, ("error", "code", "status_code", "detail"))):
        return error_from_body(reply, body, [utterance], wall=wall, rules=rules)
    return DecodeError(f"HTTP {reply.status}: JSON instead of audio", retryable=True)


def label_from_headers(reply: WireReply) -> dict[str, Any]:
    """Return what the headers of *reply* state about its audio, by the names of `speech_from_bytes`."""
    headers = reply.headers
    kind, content_type = media_type(headers), (headers.get("content-type") or "")[:_MAX_LABEL]
    rate, channels = _RATE.search(content_type), _CHANNELS.search(content_type)
    label: dict[str, Any] = {
        "sample_rate": parse_int_in_range(rate[1] if rate else headers.get("x-sample-rate"), *SAMPLE_RATE_RANGE),
        "channels": parse_int_in_range(channels[1] if channels else headers.get("x-channels"), *CHANNEL_COUNT_RANGE),
    }
    if kind != EVENTS:
        label["media_type"] = "audio/pcm" if kind == _L16 else kind
    return {name: value for name, value in label.items() if value is not None}


def format_from_label(label: Mapping[str, Any], rate: int) -> PcmFormat:
    """Return the format of samples with this *label*, at *rate* if it has none."""
    return PcmFormat(label.get("sample_rate", rate), label.get("channels", 1))


def read_audio_events(
    reply: WireReply, utterance: Utterance, *, rules: MessageRules = ()
) -> Iterator[tuple[bytes, int | None]]:
    """Yield the audio of each event and its rate, if it has one; returns only after the event that ends the audio.

    OpenAI's and vLLM-Omni's ``speech.audio.…`` events and SGLang-Omni's chunks that end with ``[DONE]``. Raises the
    `ServiceError` that an error among them stands for, or `DecodeError`.
    """
    for event in decode_events(reply.chunks()):
        if event.data == "[DONE]":
            return
        message = decode_json_object(event.data)
        name = message.get("type") or event.name
        if message.get("error") or name in ("error", "speech.audio.error"):
            raise error_from_item(
                message.get("error") or message,
                [utterance],
                status=reply.status,
                lead="the stream failed",
                endpoint_fault=None,
                rules=rules,
            )
        if name == "speech.audio.done":
            return
        rate: Any = None
        audio: Any = message.get("audio")
        if isinstance(audio, dict):
            audio, rate = audio.get("data"), audio.get("sample_rate")
        if isinstance(audio, str) and audio:
            yield decode_audio(audio), valid_sample_rate(rate)
    raise DecodeError("reply: the events end without saying that they are all", retryable=True)


def read_event_pcm(
    reply: WireReply, utterance: Utterance, labelled: PcmFormat, *, rules: MessageRules = ()
) -> Iterator[PcmFormat | bytes]:
    """Yield the format and the samples of events, of which each, only the first or none may be a WAV file."""
    head: PcmFormat | None = None
    kind: SampleFormat | None = None
    rest = b""
    for audio, rate in read_audio_events(reply, utterance, rules=rules):
        this = PcmFormat(rate, labelled.channels) if rate else head or labelled
        if is_wav(audio):
            found = parse_header(audio, growing=True)
            if found is None:
                raise DecodeError("audio: an event that ends inside a WAV header", retryable=True)
            kind, rest = found.sample_format, b""
            this = PcmFormat(kind.sample_rate, kind.channels)
            audio = audio[found.samples_start :][: found.samples_bytes]
        if head is None:
            head = this
            yield head
        elif this != head:
            raise DecodeError("audio: the stream changes its rate in the middle")
        if kind is not None:
            audio = rest + audio
            whole = len(audio) - len(audio) % kind.block_bytes
            audio, rest = kind.to_s16(audio[:whole]), audio[whole:]
        yield audio


def words_from_headers(headers: Mapping[str, str]) -> tuple[Word, ...]:
    """Return the words that vLLM-Omni sends in a header, in seconds; none if it is missing or unreadable.

    Beyond 4 KB the server omits it and sends ``X-Word-Timestamps-Omitted``.
    """
    try:
        listed = parse_json(headers.get("x-word-timestamps") or "[]")
    except ValueError:
        return ()
    words = [word_from_json(entry) for entry in listed] if isinstance(listed, list) else []
    readable = tuple(word for word in words if word is not None)
    # Some of the words would be taken for all of them.
    return readable if len(readable) == len(words) else ()


def read_voices(reply: WireReply, *, wall: float) -> list[str]:
    """Return the names in a list of voices, in any of its forms; raises the error of an error reply."""
    if reply.status >= 300:
        raise error_from_reply(reply, (), wall=wall)
    document = read_voice_list(reply)
    lists = [document] if isinstance(document, list) else []
    if isinstance(document, dict):
        lists = [value for name in _LISTS if isinstance(value := document.get(name), list)]
    if not lists:
        raise DecodeError("reply: JSON without a list of voices")
    # Some servers list uploaded voices twice.
    return voice_names(chain.from_iterable(lists), _NAMES)


def word_from_json(entry: object) -> Word | None:
    """Return one word as vLLM-Omni times it, or ``None`` if that is not readable."""
    return word_timing(entry, text="word", start="start_ms", end="end_ms")
