"""Samples: any kind that a WAV file holds as signed 16-bit little-endian ones, and whether they are all alike."""

from __future__ import annotations

import sys
from array import array
from functools import cache
from importlib import import_module
from typing import Any, Final

from cosyclient.errors import DecodeError

PCM, FLOAT, A_LAW, MU_LAW = 0x0001, 0x0003, 0x0006, 0x0007
CONVERTIBLE: Final = frozenset(
    {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64), (A_LAW, 8), (MU_LAW, 8)}
)
"""What is converted: the format tag of WAVE, and the bits that a sample takes."""
_FULL: Final = 32768.0
_FLIP: Final = bytes(value ^ 0x80 for value in range(256))
# Fewer are not enough to tell silence from a sound that has just begun.
MIN_SILENCE_FRAMES: Final = 240
_PROBES: Final = 16


def to_s16(tag: int, bits: int, data: bytes) -> bytes:
    """Return samples of one of `KINDS` as signed 16-bit ones; wider ones lose their low bits.

    Raises `DecodeError` where a float is no number.
    """
    if (tag, bits) == (PCM, 16):
        return data
    if tag == FLOAT:
        return float32_to_s16(data) if bits == 32 else _rounded(array("d", data))
    samples = bytearray(2 * (len(data) * 8 // bits))
    if tag == PCM:
        step = bits // 8
        if step > 1:
            samples[0::2] = data[step - 2 :: step]
        # Samples of 8 bits, alone of all, are unsigned.
        samples[1::2] = data[step - 1 :: step] if step > 1 else data.translate(_FLIP)
        return bytes(samples)
    low, high = _law(tag)
    samples[0::2], samples[1::2] = data.translate(low), data.translate(high)
    return bytes(samples)


def float32_to_s16(data: bytes) -> bytes:
    """Return float32 samples (±1, little-endian) as signed 16-bit ones; `DecodeError` if one is no number.

    Scaled by 32768 as CosyVoice's own servers do, and clipped, which they leave to the model.
    """
    if len(data) % 4:
        raise DecodeError(f"audio: {len(data)} bytes end inside a sample of 4", retryable=True)
    numpy = import_optional("numpy")
    if numpy is None:
        return _rounded(array("f", data))
    values = numpy.frombuffer(data, "<f4")
    if not numpy.isfinite(values).all():
        raise _no_number()
    # Beyond ±1 all is one: clipped before it is scaled, nothing can overflow.
    scaled = numpy.rint(numpy.clip(values, -1.0, 1.0) * _FULL)
    clipped: bytes = numpy.minimum(scaled, 32767).astype("<i2").tobytes()
    return clipped


def s16_to_float32(data: bytes) -> bytes:
    """Return signed 16-bit samples as float32 ones."""
    return native_byte_order(array("f", [sample / _FULL for sample in native_byte_order(array("h", data))])).tobytes()


def is_constant(data: bytes, start: int, end: int, frame_bytes: int) -> bool:
    """Return whether every frame of *data* from *start* to *end* is as the first: silence, and no speech.

    What moves shows it in a few frames looked at here and there; only what does not is looked at whole.
    """
    count = (end - start) // frame_bytes
    if count < MIN_SILENCE_FRAMES:
        return False
    first, step = data[start : start + frame_bytes], count // _PROBES * frame_bytes
    for place in range(start + step, start + _PROBES * step, step):
        if data[place : place + frame_bytes] != first:
            return False
    end = start + count * frame_bytes
    return data[start + frame_bytes : end] == data[start : end - frame_bytes]


def native_byte_order(samples: array[Any]) -> array[Any]:
    """Return *samples*, read or to be written as little-endian, the way this machine has them."""
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def import_optional(name: str) -> Any:
    """Return the package *name*, or ``None`` where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def _rounded(values: array[float]) -> bytes:
    try:
        rounded = [max(-32768, min(32767, round(value * _FULL))) for value in native_byte_order(values)]
    except (ValueError, OverflowError):
        raise _no_number() from None
    return native_byte_order(array("h", rounded)).tobytes()


@cache
def _law(tag: int) -> tuple[bytes, bytes]:
    """Return the low and the high byte of every code of G.711."""
    values = [(_a_law if tag == A_LAW else _mu_law)(code) & 0xFFFF for code in range(256)]
    return bytes(value & 0xFF for value in values), bytes(value >> 8 for value in values)


def _mu_law(code: int) -> int:
    code ^= 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -size if code & 0x80 else size


def _a_law(code: int) -> int:
    code ^= 0x55
    step = code >> 4 & 7
    size = ((code & 0x0F) << 4) + 8
    size = size + 0x100 << step - 1 if step else size
    return size if code & 0x80 else -size


def _no_number() -> DecodeError:
    return DecodeError("audio: a sample that is no number", retryable=True)
