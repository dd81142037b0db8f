"""Make a `Speech` of audio bytes and what the reply says about them, and check that its duration can be the text's.

The bytes decide before any label: headers of files (`cosyclient.audio`), then media types with the parameters of RFC
4856 (``audio/l16;rate=24000;channels=1``), then the members ``sample_rate``, ``channels`` and ``duration_ms``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cosyclient import audio as _audio
from cosyclient.audio.format import PcmFormat
from cosyclient.audio.pcm import is_constant
from cosyclient.audio.wav import PLAIN_HEADER_BYTES, plain_format
from cosyclient.errors import DecodeError
from cosyclient.models import SAMPLE_RATES, Utterance, has_speech, speech_of
from cosyclient.util.numbers import parse_int_in_range, seconds_from_ms, valid_channel_count, valid_sample_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cosyclient.models import Speech, VoiceSettings

T = TypeVar("T", PcmFormat | bytes, bytes)

# Formats by media type, for bytes that do not tell their format; the registered names are in `audio.MEDIA_TYPES`.
_FORMAT_OF_MEDIA_TYPE: Final = {
    **{kind: format for format, kind in _audio.MEDIA_TYPES.items()},
    **dict.fromkeys(("audio/x-wav", "audio/wave", "audio/vnd.wave"), "wav"),
    **dict.fromkeys(("audio/x-pcm", "audio/raw", "audio/l16"), "pcm"),
    **dict.fromkeys(("audio/mp3", "audio/x-mp3"), "mp3"),
    **dict.fromkeys(("audio/opus", "application/ogg"), "opus"),
    "audio/aac": "aac",
    "audio/flac": "flac",
}

# A plausible duration is from _MIN_RATIO to _MAX_RATIO times the estimate, plus _EXTRA_SECONDS.
_MIN_RATIO: Final = 0.1
_MAX_RATIO: Final = 10.0
_EXTRA_SECONDS: Final = 30.0
# An announced duration may be rounded to whole seconds, or count pauses that were not sent.
_ROUNDING_SECONDS: Final = 1.0
_OVERSTATEMENT: Final = 1.5
_MAX_MEDIA_TYPE: Final = 256
SILENCE_SECONDS: Final = 0.3
"""Seconds of silence returned for a text without speech."""


def speech_from_bytes(
    utterance: Utterance, data: bytes, fields: Mapping[str, Any], shared: Mapping[str, Any] | None = None
) -> Speech:
    """Return the speech in *data*; *fields* may hold ``media_type``, ``sample_rate``, ``channels``, ``duration_ms``.

    *shared* holds those of the whole reply, for where *fields* lacks them. Raises `DecodeError` unless *data* is
    complete audio of the requested format, and not silence. Empty or silent audio of a text without speech is handled
    by `silent_speech_or_error`.
    """
    requested = utterance.settings
    # Nearly all audio is this: its header states everything, so that no label counts (2 µs a text in place of 8).
    if (
        requested.format == "wav"
        and (plain := plain_format(data)) is not None
        and not is_constant(data, PLAIN_HEADER_BYTES, len(data), plain.block_bytes)
    ):
        seconds = (len(data) - PLAIN_HEADER_BYTES) / (plain.block_bytes * plain.sample_rate)
        return speech_of(utterance, data, sample_rate=plain.sample_rate, channels=plain.channels, duration=seconds)
    if shared:
        fields = {**shared, **fields}
    label = fields.get("media_type")
    kind, parameters = _parse_media_type(label[:_MAX_MEDIA_TYPE]) if isinstance(label, str) else ("", {})
    rate = valid_sample_rate(parameters.get("rate", fields.get("sample_rate"))) or requested.sample_rate
    channels = valid_channel_count(parameters.get("channels", fields.get("channels"))) or 1
    if requested.format == "pcm" and _audio.sniff(data) == "wav":
        # Samples were requested, and a WAV header states their format more reliably than any label.
        wav = _audio.parse_wav(data)
        data, rate, channels = wav.samples, wav.sample_rate, wav.channels
    else:
        check_media_type(requested.format, data, kind)
    info, data, states_length, is_silent = _audio.inspect(requested.format, data, rate, channels)
    if info.duration == 0 or (is_silent and has_speech(utterance.text)):
        fault = same_sample_fault(info.duration or 0.0) if is_silent else f"empty {requested.format}"
        return silent_speech_or_error(utterance, fault, sample_rate=info.sample_rate)
    announced = seconds_from_ms(fields.get("duration_ms"))
    if (
        not states_length
        and announced is not None
        and announced > _OVERSTATEMENT * (info.duration or 0.0) + _ROUNDING_SECONDS
    ):
        # Raw samples and streaming headers do not show that their end is missing; the announced duration may.
        raise DecodeError(
            f"audio: {announced:.2f} s announced, {info.duration:.2f} s there", retryable=True, endpoint_fault=False
        )
    return speech_of(
        utterance,
        data,
        sample_rate=info.sample_rate,
        channels=info.channels,
        duration=info.duration if info.duration is not None else announced or 0.0,
    )


def check_media_type(format: str, data: bytes, kind: str) -> None:
    """Raise `DecodeError` if the media type *kind* names another format than *format*.

    Labels are wrong more often than bytes: one that *data* contradicts is ignored.
    """
    labelled = _FORMAT_OF_MEDIA_TYPE.get(kind)
    if not data or labelled == format or _audio.sniff(data):
        return
    if format == "pcm":
        # Samples have no signature, and neither has AAC. Other formats would show in the bytes.
        is_audio = not kind or kind.startswith("audio/") or kind.endswith("/octet-stream") or labelled is not None
        if is_audio and labelled != "aac" and (labelled != "mp3" or _audio.detect_format(data) != "mp3"):
            return
    elif labelled is None or _audio.detect_format(data):
        return
    shown = labelled or "another media type"
    raise DecodeError(f"audio: asked for {format}, the reply calls it {shown}", endpoint_fault=False)


def check_pcm_start(start: bytes, kind: str) -> None:
    """Raise `DecodeError` if the first bytes of a stream, or its media type *kind*, show that it is not samples."""
    if (other := _audio.sniff(start)) not in (None, "wav"):
        raise DecodeError(f"audio: asked for pcm, got {other}", endpoint_fault=False)
    check_media_type("pcm", start, kind)


def same_sample_fault(seconds: float) -> str:
    """Return what to call *seconds* of audio that do not move, which no speech is; stubs of servers send zeros."""
    return f"{seconds:.2f} s of the same sample; a test server must send real samples"


def silent_speech_or_error(utterance: Utterance, fault: str, *, sample_rate: int | None = None) -> Speech:
    """Return the silence for a text without speech, of which a service made no audio; raise if the text has speech.

    Raises a retryable `DecodeError` of *fault* for a text with speech. For one without, unless ``on_silent="silence"``,
    raises one that is neither retried nor blamed on the endpoint.
    """
    requested = utterance.settings
    rate = sample_rate if sample_rate in SAMPLE_RATES else requested.sample_rate
    data = silent_audio_or_error(utterance.text, requested, fault, sample_rate=rate)
    info = _audio.check(requested.format, data, rate)
    return speech_of(utterance, data, sample_rate=info.sample_rate, duration=info.duration or 0.0)


def silent_audio_or_error(text: str, requested: VoiceSettings, fault: str, *, sample_rate: int) -> bytes:
    """Return the bytes of silence for *text*; raises like `silent_speech_or_error`."""
    if has_speech(text):
        raise DecodeError(f"audio: {fault}", retryable=True)
    if requested.on_silent != "silence":
        raise DecodeError(
            "audio: none, for the text has nothing to be spoken; on_silent='silence' puts a short silence there",
            endpoint_fault=False,
        )
    return _audio.silence(requested.format, sample_rate, SILENCE_SECONDS)


def check_plausible(utterance: Utterance, speech: Speech) -> Speech:
    """Return *speech* if its duration is plausible for *utterance*; raises like `check_duration`.

    For services whose replies do not say how long the audio should be: a stream that was cut off looks complete then.
    """
    check_duration(utterance, speech.duration)
    return speech


def check_duration(utterance: Utterance, seconds: float) -> None:
    """Raise `DecodeError` if *seconds* of audio are implausible for *utterance*.

    The error is retryable, as another attempt may be complete, and does not blame the endpoint, as the expectation is
    an estimate by characters. It is off by a factor at times, so the bounds are wide.
    """
    expected = utterance.expected_seconds
    if seconds > _MAX_RATIO * expected + _EXTRA_SECONDS:
        raise DecodeError(
            f"audio: {seconds:.0f} s, about {expected:.1f} s were expected", retryable=True, endpoint_fault=False
        )
    if seconds < _MIN_RATIO * expected:
        # Rows of dashes and the like are not spoken: estimate again by letters and digits alone.
        letters = "".join(filter(str.isalnum, utterance.text))
        expected = Utterance(letters, utterance.settings).expected_seconds if letters else 0.0
        if expected > 1.0 and seconds < _MIN_RATIO * expected:
            raise DecodeError(
                f"audio: {seconds:.2f} s, about {expected:.1f} s were expected", retryable=True, endpoint_fault=False
            )


def check_stream_duration(utterance: Utterance, pieces: Iterable[T]) -> Iterator[T]:
    """Yield *pieces* of a stream, samples in the format of a `PcmFormat` among them, else mono at the requested rate.

    Raises the error of `check_duration`: for too much audio at once, as an endless stream would last until the
    deadline; for too little at the end. A stream without audio is left to the caller.
    """
    max_seconds = _MAX_RATIO * utterance.expected_seconds + _EXTRA_SECONDS
    count, bytes_per_second = 0, PcmFormat(utterance.settings.sample_rate).bytes_per_second
    for piece in pieces:
        if isinstance(piece, PcmFormat):
            bytes_per_second = piece.bytes_per_second
        else:
            count += len(piece)
            if count > max_seconds * bytes_per_second:
                check_duration(utterance, count / bytes_per_second)
        yield piece
    if count:
        check_duration(utterance, count / bytes_per_second)


# A service sends the same media type with every item.
@lru_cache(maxsize=64)
def _parse_media_type(label: str) -> tuple[str, Mapping[str, int]]:
    """Return a media type in lower case and its integer parameters."""
    kind, *parameters = label.lower().split(";")
    pairs = (parameter.strip().partition("=") for parameter in parameters)
    found = {name: parse_int_in_range(value, 0, 1 << 31) for name, _, value in pairs}
    return kind.strip(), {name: number for name, number in found.items() if number is not None}
