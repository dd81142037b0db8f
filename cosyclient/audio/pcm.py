"""Convert samples of WAV files to signed 16-bit little-endian ones, and detect silence in samples.

Integer and IEEE float samples as in "Multiple Channel Audio Data and WAVE Files" (Microsoft), A-law and mu-law as in
ITU-T G.711. numpy is used where it is installed.
"""

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
"""What `to_s16` takes: format tag of WAVE and bits of a sample."""
_FULL_SCALE: Final = 32768.0
_FLIP_SIGN_BIT: Final = bytes(value ^ 0x80 for value in range(256))
# Fewer do not distinguish silence from the onset of a sound.
MIN_SILENCE_FRAMES: Final = 240
_PROBES: Final = 16


def to_s16(tag: int, bits: int, data: bytes) -> bytes:
    """Return samples of one of the `CONVERTIBLE` kinds as signed 16-bit ones; wider ones lose their low bits.

    Raises `DecodeError` for a float that is not finite.
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
        # Only samples of 8 bits are unsigned.
        samples[1::2] = data[step - 1 :: step] if step > 1 else data.translate(_FLIP_SIGN_BIT)
        return bytes(samples)
    low, high = _g711_tables(tag)
    samples[0::2], samples[1::2] = data.translate(low), data.translate(high)
    return bytes(samples)


def float32_to_s16(data: bytes) -> bytes:
    """Return float32 samples (±1, little-endian) as signed 16-bit ones; `DecodeError` if one is not finite.

    Scales by 32768 like CosyVoice's own servers, and clips, which they leave to the model.
    """
    if len(data) % 4:
        raise DecodeError(f"audio: {len(data)} bytes end inside a sample of 4", retryable=True)
    numpy = import_optional("numpy")
    if numpy is None:
        return _rounded(array("f", data))
    values = numpy.frombuffer(data, "<f4")
    if not numpy.isfinite(values).all():
        raise _not_finite_error()
    # Clipped before scaling, so that nothing overflows.
    scaled = numpy.rint(numpy.clip(values, -1.0, 1.0) * _FULL_SCALE)
    clipped: bytes = numpy.minimum(scaled, 32767).astype("<i2").tobytes()
    return clipped


def s16_to_float32(data: bytes) -> bytes:
    """Return signed 16-bit samples as float32 ones."""
    return native_byte_order(
        array("f", [sample / _FULL_SCALE for sample in native_byte_order(array("h", data))])
    ).tobytes()


def is_constant(data: bytes, start: int, end: int, frame_bytes: int) -> bool:
    """Return whether all frames of *data* from *start* to *end* are equal, and enough of them: it is silence.

    Sound differs within a few frames spread over the range; only a candidate for silence is compared completely.
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
    """Swap the bytes of *samples*, little-endian data, on a big-endian machine; return them."""
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def import_optional(name: str) -> Any:
    """Return the package *name*, or ``None`` if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def _rounded(values: array[float]) -> bytes:
    try:
        rounded = [max(-32768, min(32767, round(value * _FULL_SCALE))) for value in native_byte_order(values)]
    except (ValueError, OverflowError):
        raise _not_finite_error() from None
    return native_byte_order(array("h", rounded)).tobytes()


@cache
def _g711_tables(tag: int) -> tuple[bytes, bytes]:
    """Return the low and the high bytes of the samples of all 256 codes."""
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


def _not_finite_error() -> DecodeError:
    return DecodeError("audio: a sample that is no number", retryable=True)
