"""Encode 16-bit mono samples as WAV, PCM, MP3 or Ogg Opus, at the rate asked for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, cast

import soundfile
import soxr

from cosyclient.emulator.speech.items import Audio
from cosyclient.emulator.speech.wav import wav_header

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.int16]

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)

# libsndfile maps compression 0..1 onto the bitrates that MPEG allows at a rate; these come out at 34 to 57 kbit/s,
# about 20 KB for four seconds at 24 kHz.
_MP3_COMPRESSION = {8000: 0.5, 16000: 0.75, 22050: 0.8, 24000: 0.8, 44100: 0.9, 48000: 0.9}
_OPUS_COMPRESSION = 0.9


def actual_rate(format: str, sample_rate: int) -> int:
    """Return the rate of the audio: the requested one, or for Opus the next rate it has, not below."""
    if format != "opus":
        return sample_rate
    return next(rate for rate in _OPUS_RATES if rate >= sample_rate)


def media_type(format: str, sample_rate: int) -> str:
    """Return the media type; for PCM with its rate, which a container holds itself."""
    return {
        "wav": "audio/wav",
        "pcm": f"audio/pcm;rate={sample_rate}",
        "mp3": "audio/mpeg",
        "opus": "audio/ogg;codecs=opus",
    }[format]


def encode(samples: Samples, format: str, sample_rate: int) -> Audio:
    """Encode samples that already have the actual rate."""
    match format:
        case "wav":
            pcm = samples.astype("<i2").tobytes()
            data = wav_header(len(pcm), sample_rate) + pcm
        case "pcm":
            data = samples.astype("<i2").tobytes()
        case "mp3":
            data = _write(
                samples, sample_rate, "MP3", "MPEG_LAYER_III", _MP3_COMPRESSION[sample_rate], bitrate_mode="CONSTANT"
            )
        case _:
            data = _write(samples, sample_rate, "OGG", "OPUS", _OPUS_COMPRESSION)
    duration_ms = round(len(samples) * 1000 / sample_rate)
    return Audio(data, media_type(format, sample_rate), sample_rate, duration_ms)


def resample(samples: Samples, source_rate: int, sample_rate: int) -> Samples:
    """Convert samples from one rate to another."""
    if source_rate == sample_rate or not len(samples):
        return samples
    return cast("Samples", soxr.resample(samples, source_rate, sample_rate))


def _write(
    samples: Samples, sample_rate: int, format: str, subtype: str, compression: float, bitrate_mode: str | None = None
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        samples,
        sample_rate,
        format=format,
        subtype=subtype,
        compression_level=compression,
        bitrate_mode=bitrate_mode,
    )
    return buffer.getvalue()
