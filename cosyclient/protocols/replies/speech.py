"""From one item's bytes to a `Speech`, and from items to positions: what every batching protocol checks alike."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cosyclient import audio as _audio
from cosyclient.audio.format import PcmFormat
from cosyclient.errors import DecodeError
from cosyclient.models import SAMPLE_RATES, Speech, Utterance, has_speech
from cosyclient.util.numbers import parse_int_in_range, seconds_from_ms, valid_channel_count, valid_sample_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cosyclient.models import VoiceSettings

T = TypeVar("T", PcmFormat | bytes, bytes)

# What formats are called where the bytes do not say what they are; the registered name is in `audio.MEDIA_TYPES`.
_CALLED: Final = {
    **{kind: format for format, kind in _audio.MEDIA_TYPES.items()},
    **dict.fromkeys(("audio/x-wav", "audio/wave", "audio/vnd.wave"), "wav"),
    **dict.fromkeys(("audio/x-pcm", "audio/raw", "audio/l16"), "pcm"),
    **dict.fromkeys(("audio/mp3", "audio/x-mp3"), "mp3"),
    **dict.fromkeys(("audio/opus", "application/ogg"), "opus"),
    "audio/aac": "aac",
    "audio/flac": "flac",
}

_LEAST: Final = 0.1
_MOST: Final = 10.0
_LEEWAY: Final = 30.0
# What a service announces may be rounded to whole seconds, or count pauses that it did not send.
_ROUNDED: Final = 1.0
_OVERSTATED: Final = 1.5
SILENCE_SECONDS: Final = 0.3
"""Seconds of silence that stand for a text without speech."""


def speech_from_bytes(utterance: Utterance, data: bytes, fields: dict[str, Any]) -> Speech:
    """Return the speech that *data* is, with *fields* as the reply described it.

    What the bytes say of format, rate and length is believed before what the reply says. Raises `DecodeError` where
    *data* is not whole audio of the format asked for, or silence; `silent_speech_or_error` takes texts without speech.
    """
    asked = utterance.settings
    said = fields.get("media_type")
    kind, named = _parameters(said[:256]) if isinstance(said, str) else ("", {})
    rate = valid_sample_rate(named.get("rate", fields.get("sample_rate"))) or asked.sample_rate
    channels = valid_channel_count(named.get("channels", fields.get("channels"))) or 1
    if asked.format == "pcm" and _audio.sniff(data) == "wav":
        # Samples all the same, and their header tells what no label tells better.
        wav = _audio.parse_wav(data)
        data, rate, channels = wav.samples, wav.sample_rate, wav.channels
    else:
        check_media_type(asked.format, data, kind)
    info, data, told, still = _audio.inspect(asked.format, data, rate, channels)
    if info.duration == 0 or (still and has_speech(utterance.text)):
        fault = f"{info.duration:.2f} s of silence" if still else f"empty {asked.format}"
        return silent_speech_or_error(utterance, fault, sample_rate=info.sample_rate)
    announced = seconds_from_ms(fields.get("duration_ms"))
    if not told and announced is not None and announced > _OVERSTATED * (info.duration or 0.0) + _ROUNDED:
        # Raw samples and streaming headers do not tell that their end is missing; the reply's own figure may.
        raise DecodeError(
            f"audio: {announced:.2f} s announced, {info.duration:.2f} s there", retryable=True, endpoint_fault=False
        )
    return Speech(
        audio=data,
        format=asked.format,
        sample_rate=info.sample_rate,
        channels=info.channels,
        duration=info.duration if info.duration is not None else announced or 0.0,
        fingerprint=utterance.fingerprint,
    )


def check_media_type(format: str, data: bytes, kind: str) -> None:
    """Raise the `DecodeError` of *data* that does not tell what it is where its media type *kind* tells it is another.

    A label is wrong more often than bytes are: one that the bytes contradict counts for nothing.
    """
    called = _CALLED.get(kind)
    if not data or called == format or _audio.sniff(data):
        return
    if format == "pcm":
        # Samples look like nothing at all; so does AAC. What else it is called would be seen.
        audible = not kind or kind.startswith("audio/") or kind.endswith("/octet-stream") or called is not None
        if audible and called != "aac" and (called != "mp3" or _audio.detect_format(data) != "mp3"):
            return
    elif called is None or _audio.detect_format(data):
        return
    shown = called or "another media type"
    raise DecodeError(f"audio: asked for {format}, the reply calls it {shown}", endpoint_fault=False)


def check_pcm_start(opening: bytes, kind: str) -> None:
    """Raise the `DecodeError` of a stream of media type *kind* whose first bytes tell that it is not samples."""
    if (other := _audio.sniff(opening)) not in (None, "wav"):
        raise DecodeError(f"audio: asked for pcm, got {other}", endpoint_fault=False)
    check_media_type("pcm", opening, kind)


def silent_speech_or_error(utterance: Utterance, fault: str, *, sample_rate: int | None = None) -> Speech:
    """Return the silence that stands for a text without speech, of which a service made no audio.

    Raises `DecodeError`: of a text that has something to be spoken *fault* says what came of it, and it is worth
    another try; of one that has not it says so, and neither is it tried again nor is the service to blame.
    """
    asked = utterance.settings
    rate = sample_rate if sample_rate in SAMPLE_RATES else asked.sample_rate
    data = silent_audio_or_error(utterance.text, asked, fault, sample_rate=rate)
    info = _audio.check(asked.format, data, rate)
    return Speech(
        audio=data,
        format=asked.format,
        sample_rate=info.sample_rate,
        duration=info.duration or 0.0,
        fingerprint=utterance.fingerprint,
    )


def silent_audio_or_error(text: str, asked: VoiceSettings, fault: str, *, sample_rate: int) -> bytes:
    """Return the audio that stands for *text*; raises like `silent_speech_or_error`."""
    if has_speech(text):
        raise DecodeError(f"audio: {fault}", retryable=True)
    if asked.on_silent != "silence":
        raise DecodeError(
            "audio: none, for the text has nothing to be spoken; on_silent='silence' puts a short silence there",
            endpoint_fault=False,
        )
    return _audio.silence(asked.format, sample_rate, SILENCE_SECONDS)


def check_plausible(utterance: Utterance, speech: Speech) -> Speech:
    """Return *speech* if its length is one that *utterance* can have; `DecodeError` otherwise.

    For services whose reply says nothing of how long its audio should be: a stream cut short looks whole then. The
    bounds are wide, for an estimate by characters is off by a factor at times.
    """
    check_duration(utterance, speech.duration)
    return speech


def check_duration(utterance: Utterance, seconds: float) -> None:
    """Raise the `DecodeError` of *seconds* of audio that *utterance* cannot have.

    It is tried again, for it may be whole then, but the endpoint is not blamed: what is expected is an estimate.
    """
    expected = utterance.expected_seconds
    if seconds > _MOST * expected + _LEEWAY:
        raise DecodeError(
            f"audio: {seconds:.0f} s, about {expected:.1f} s were expected", retryable=True, endpoint_fault=False
        )
    if seconds < _LEAST * expected:
        # Rows of dashes and the like are not spoken.
        letters = "".join(filter(str.isalnum, utterance.text))
        expected = Utterance(letters, utterance.settings).expected_seconds if letters else 0.0
        if expected > 1.0 and seconds < _LEAST * expected:
            raise DecodeError(
                f"audio: {seconds:.2f} s, about {expected:.1f} s were expected", retryable=True, endpoint_fault=False
            )


def check_stream_duration(utterance: Utterance, pieces: Iterable[T]) -> Iterator[T]:
    """Yield *pieces* of a stream: samples, mono at the rate asked for where no `PcmFormat` says what they are.

    Raises the `DecodeError` of a length that *utterance* cannot have: of too little at its end, of too much at once,
    for a stream without an end would go on until the deadline. What becomes of none at all is for the caller to say.
    """
    most = _MOST * utterance.expected_seconds + _LEEWAY
    count, per_second = 0, 2 * utterance.settings.sample_rate
    for piece in pieces:
        if isinstance(piece, PcmFormat):
            per_second = 2 * piece.channels * piece.sample_rate
        else:
            count += len(piece)
            if count > most * per_second:
                check_duration(utterance, count / per_second)
        yield piece
    if count:
        check_duration(utterance, count / per_second)


# A service says the same with every item.
@lru_cache(maxsize=64)
def _parameters(said: str) -> tuple[str, Mapping[str, int]]:
    """Return a media type and its numeric parameters (``audio/pcm;rate=24000``)."""
    kind, *parameters = said.lower().split(";")
    pairs = (parameter.strip().partition("=") for parameter in parameters)
    numbers = {
        name: number for name, _, value in pairs if (number := parse_int_in_range(value, 0, 1 << 31)) is not None
    }
    return kind.strip(), numbers
