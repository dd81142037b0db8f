"""Inspect PCM, WAV, Ogg Opus and MP3 without decoding: format, sample rate, duration, completeness, silence.

`check` says what audio is or raises `DecodeError`, `parse_wav` and `wav_bytes` convert between WAV files and samples,
`silence` makes a silent file. The client checks every reply with them.

```python
from cosyclient.audio import check, parse_wav, sniff, wav_bytes

audio = wav_bytes(bytes(48000), sample_rate=24000)  # signed 16-bit little-endian samples
print(sniff(audio), check("wav", audio, 24000).duration)  # wav 1.0
print(len(parse_wav(audio).samples))  # 48000
```
"""

from __future__ import annotations

from typing import NamedTuple

from cosyclient.audio import wav
from cosyclient.audio.base import MEDIA_TYPES, AudioInfo, empty_error, sniff, wrong_format_error
from cosyclient.audio.mp3 import detect_format, inspect_mp3, mp3_is_silence
from cosyclient.audio.ogg import inspect_opus, opus_is_silence
from cosyclient.audio.pcm import is_constant
from cosyclient.audio.silent_file import silence
from cosyclient.audio.wav import WavInfo, parse_wav, wav_bytes
from cosyclient.errors import DecodeError

__all__ = [
    "MEDIA_TYPES",
    "AudioInfo",
    "WavInfo",
    "check",
    "detect_format",
    "duration",
    "parse_wav",
    "silence",
    "sniff",
    "wav_bytes",
]


class InspectedAudio(NamedTuple):
    """What `inspect` found: complete audio and its properties."""

    info: AudioInfo
    """Its duration is 0 if there is no sample."""
    data: bytes
    """The audio; a WAV file with an inaccurate header has been rewritten with an accurate one."""
    states_length: bool
    """Whether the audio states its own length, so that a missing end would have been noticed."""
    is_silent: bool
    """Whether no sound is in it."""


def inspect(format: str, data: bytes, sample_rate: int, channels: int = 1) -> InspectedAudio:
    """Return *data* and its properties if it is complete audio of *format*, which may be empty.

    *sample_rate* and *channels* apply where the bytes do not state them. Raises `DecodeError`: retryable for
    faults that another attempt may not have (truncation, noise), not retryable for audio of another format.
    """
    if format == "pcm":
        if other := sniff(data):
            raise wrong_format_error("pcm", other)
        block = 2 * channels
        if len(data) % block:
            raise DecodeError(f"audio: pcm of {len(data)} bytes ends inside a frame of {block}", retryable=True)
        info = AudioInfo(sample_rate, channels, len(data) / (block * sample_rate))
        return InspectedAudio(info, data, False, is_constant(data, 0, len(data), block))
    if format not in MEDIA_TYPES:
        raise DecodeError(f"audio: format {format!r} is not one of {', '.join(MEDIA_TYPES)}")
    if not data:
        return InspectedAudio(AudioInfo(sample_rate, channels, 0.0), data, True, False)
    if format == "wav":
        layout = wav.parse_layout(data)
        kind = layout.sample_format
        seconds = layout.samples_bytes / (kind.block_bytes * kind.sample_rate)
        still = True
        for start, end in layout.spans:
            if not is_constant(data, start, end, kind.block_bytes):
                still = False
                break
        return InspectedAudio(
            AudioInfo(kind.sample_rate, kind.channels, seconds),
            wav.with_accurate_header(data, layout),
            layout.states_length,
            still,
        )
    other = sniff(data)
    if other not in (None, {"opus": "ogg"}.get(format, format)):
        raise wrong_format_error(format, other)
    if format == "opus":
        info = inspect_opus(data, sample_rate)
        return InspectedAudio(info, data, True, opus_is_silence(data, info.duration or 0.0))
    return InspectedAudio(inspect_mp3(data), data, True, mp3_is_silence(data))


def check(format: str, data: bytes, sample_rate: int, channels: int = 1) -> AudioInfo:
    """Return the properties of complete audio of *format*; raises like `inspect`, and `DecodeError` if it is empty."""
    info = inspect(format, data, sample_rate, channels).info
    if info.duration == 0:
        raise empty_error(format)
    return info


def duration(format: str, data: bytes, sample_rate: int, channels: int = 1) -> float | None:
    """Return the seconds of sound in *data*; ``None`` if its bytes do not state them, or are not complete."""
    try:
        return check(format, data, sample_rate, channels).duration
    except DecodeError:
        return None
