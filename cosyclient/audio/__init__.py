"""Audio formats as byte arithmetic: how long audio is, and whether it is whole. There is no decoder.

PCM, WAV, Ogg Opus and MP3.

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
    """Hold whole audio and what it is."""

    info: AudioInfo
    """Its duration is 0 where there is not a sample in it."""
    data: bytes
    """The audio; a WAV file whose header was not true has been written anew."""
    states_length: bool
    """Whether it says by itself how long it is, so that nothing of it can be missing."""
    is_silent: bool
    """Whether all its samples are alike: it is silence."""


def inspect(format: str, data: bytes, sample_rate: int, channels: int = 1) -> InspectedAudio:
    """Return *data* and what it is if it is whole audio of that *format*, empty or not.

    *sample_rate* and *channels* fill gaps. Raises `DecodeError`, retryable where another try may bring what this one
    lacked (cut off, noise) and not where the service plainly sent another format.
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
    """Return what *data* says of itself if it is whole audio of that *format*; raises as `inspect`, and if empty."""
    info = inspect(format, data, sample_rate, channels).info
    if info.duration == 0:
        raise empty_error(format)
    return info


def duration(format: str, data: bytes, sample_rate: int, channels: int = 1) -> float | None:
    """Return the seconds of sound in *data*, or ``None`` where its bytes do not tell."""
    try:
        return check(format, data, sample_rate, channels).duration
    except DecodeError:
        return None
