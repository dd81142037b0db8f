"""Samples as float32 and as 16-bit integers, and recordings at the rate a model hears: numpy where it is installed."""

from __future__ import annotations

import sys
from array import array
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import ConfigurationError, DecodeError

if TYPE_CHECKING:
    from cosyclient.voices import Prompt

HEARD_RATE: Final = 16000
"""Hz of the recordings that CosyVoice's gRPC and Triton servers take; neither says so on the wire."""
_FULL: Final = 32768.0


def s16_of_f32(data: bytes) -> bytes:
    """Return float32 samples (±1, little-endian) as signed 16-bit ones; `DecodeError` if one is no number.

    Scaled by 32768 as CosyVoice's own servers do, and clipped, which they leave to the model.
    """
    if len(data) % 4:
        raise DecodeError(f"audio: {len(data)} bytes end inside a sample of 4", retryable=True)
    numpy = _optional("numpy")
    if numpy is not None:
        values = numpy.frombuffer(data, "<f4") * _FULL
        if not numpy.isfinite(values).all():
            raise _no_number()
        clipped: bytes = numpy.clip(numpy.rint(values), -32768, 32767).astype("<i2").tobytes()
        return clipped
    samples = _native(array("f", data))
    try:
        return _native(array("h", [max(-32768, min(32767, round(value * _FULL))) for value in samples])).tobytes()
    except (ValueError, OverflowError):
        raise _no_number() from None


def f32_of_s16(data: bytes) -> bytes:
    """Return signed 16-bit samples as float32 ones."""
    return _native(array("f", [sample / _FULL for sample in _native(array("h", data))])).tobytes()


def heard(prompt: Prompt) -> bytes:
    """Return the recording as signed 16-bit samples at 16 kHz, made once; raises `ConfigurationError` without soxr."""
    return prompt.form("s16le 16000", _resampled)


def heard_f32(prompt: Prompt) -> bytes:
    """Return the recording as float32 samples at 16 kHz, made once; raises `ConfigurationError` without soxr."""
    return prompt.form("f32le 16000", lambda prompt: f32_of_s16(heard(prompt)))


def heard_samples(prompt: Prompt) -> int:
    """Return the most samples that the recording has at 16 kHz, without making them."""
    return len(prompt.samples) // 2 * HEARD_RATE // prompt.sample_rate + 1


def _resampled(prompt: Prompt) -> bytes:
    if prompt.sample_rate == HEARD_RATE:
        return prompt.samples
    soxr, numpy = _optional("soxr"), _optional("numpy")
    if soxr is None or numpy is None:
        raise ConfigurationError(
            f"voice: the service takes recordings of {HEARD_RATE} Hz, this one has {prompt.sample_rate}; converting it "
            f"needs soxr: pip install 'cosyclient[grpc]', or convert it, as with: "
            f"ffmpeg -i recording -ac 1 -ar {HEARD_RATE} -sample_fmt s16 prompt.wav"
        )
    samples = numpy.frombuffer(prompt.samples, "<i2")
    made: bytes = soxr.resample(samples, prompt.sample_rate, HEARD_RATE).astype("<i2").tobytes()
    return made


def _native(samples: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _no_number() -> DecodeError:
    return DecodeError("audio: a sample that is no number", retryable=True)
