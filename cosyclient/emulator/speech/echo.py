"""Hide a text in samples and read it back, so that a test can prove whose audio it holds."""

from __future__ import annotations

import struct

_MAGIC = struct.pack("<4h", 0x43, 0x6F, 0x73, 0x79)
_BLOCK = 0.1


def echo_samples(text: str, sample_rate: int, seconds: float = 0.0) -> bytes:
    """Return s16le samples that carry the text: magic, length, one sample per UTF-8 byte, silence up to 0.1 s.

    They last *seconds* at least.
    """
    encoded = text.encode()
    payload = bytearray(2 * len(encoded))
    payload[::2] = encoded
    samples = _MAGIC + struct.pack("<I", len(encoded)) + payload
    samples += bytes(max(0, round(seconds * sample_rate) * 2 - len(samples)))
    block = round(sample_rate * _BLOCK) * 2
    return samples + bytes(-len(samples) % block)


def echo_text(audio: bytes) -> str:
    """Return the text inside audio of the ``echo`` engine, given as WAV or bare PCM; several in a row are joined.

    ValueError says that these samples carry no text.
    """
    pcm = _wav_payload(audio) if audio[:4] == b"RIFF" else audio
    if pcm[:8] != _MAGIC or len(pcm) < 12:
        raise ValueError("this is not audio of the emulator's echo engine")
    at, texts = 0, []
    while at >= 0:
        (length,) = struct.unpack_from("<I", pcm, at + 8)
        end = at + 12 + 2 * length
        encoded = pcm[at + 12 : end : 2]
        if len(encoded) != length:
            raise ValueError(f"the echo audio is cut: {len(encoded)} of {length} bytes of text are left")
        texts.append(encoded.decode())
        # Silence follows, and perhaps another.
        at = pcm.find(_MAGIC, end)
    return "".join(texts)


def _wav_payload(wav: bytes) -> bytes:
    at = 12
    while at + 8 <= len(wav):
        name, size = struct.unpack_from("<4sI", wav, at)
        if name == b"data":
            return wav[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise ValueError("this WAV has no data chunk")
