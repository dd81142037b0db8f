"""Recordings at the rate that a model takes, resampled if soxr and numpy are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.audio.pcm import import_optional, s16_to_float32
from cosyclient.errors import ConfigurationError

if TYPE_CHECKING:
    from cosyclient.voices import Prompt

PROMPT_RATE: Final = 16000
"""Hz of the recordings that CosyVoice's gRPC and Triton servers take; no message states it."""


def prompt_at_16k(prompt: Prompt) -> bytes:
    """Return the recording as signed 16-bit samples at 16 kHz, cached; raises `ConfigurationError` without soxr."""
    return prompt.form("s16le 16000", _resampled)


def prompt_at_16k_f32(prompt: Prompt) -> bytes:
    """Return the recording as float32 samples at 16 kHz, cached; raises `ConfigurationError` without soxr."""
    return prompt.form("f32le 16000", lambda prompt: s16_to_float32(prompt_at_16k(prompt)))


def max_samples_at_16k(prompt: Prompt) -> int:
    """Return an upper bound of the recording's samples at 16 kHz, without resampling."""
    return len(prompt.samples) // 2 * PROMPT_RATE // prompt.sample_rate + 1


def _resampled(prompt: Prompt) -> bytes:
    if prompt.sample_rate == PROMPT_RATE:
        return prompt.samples
    soxr, numpy = import_optional("soxr"), import_optional("numpy")
    if soxr is None or numpy is None:
        raise ConfigurationError(
            f"voice: the service takes recordings of {PROMPT_RATE} Hz, this one has {prompt.sample_rate}; converting "
            f"it needs soxr: pip install '.[grpc]' in the checkout, or convert it, as with: "
            f"ffmpeg -i recording -ac 1 -ar {PROMPT_RATE} -sample_fmt s16 prompt.wav"
        )
    samples = numpy.frombuffer(prompt.samples, "<i2")
    made: bytes = soxr.resample(samples, prompt.sample_rate, PROMPT_RATE).astype("<i2").tobytes()
    return made
