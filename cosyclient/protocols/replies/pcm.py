"""Replies that are raw samples, without label, rate or length; WAV headers in them are removed.

Used by the protocols of the official runtime and of LightTTS. Text in place of samples is recognised by its first 48
bytes; callers check the duration, which reveals a truncated reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient import audio as _audio
from cosyclient.audio.format import PcmFormat
from cosyclient.audio.stream import collect_pcm, strip_headers
from cosyclient.errors import DecodeError
from cosyclient.protocols.replies.headers import media_type
from cosyclient.protocols.replies.peeked import explain_early_end
from cosyclient.protocols.replies.speech import check_pcm_start, speech_from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cosyclient.models import Speech, Utterance
    from cosyclient.wire import WireReply

# So many bytes in a row are printable ASCII only in text: the high bytes of samples are mostly 0x00 or 0xFF.
_TEXT_CHECK_BYTES: Final = 48


def read_pcm(reply: WireReply, utterance: Utterance, *, hint: str = "") -> Iterator[PcmFormat | bytes]:
    """Yield the format of *reply*'s samples, then the samples as they arrive; nothing if there are none.

    Raises `DecodeError` for a reply that cannot be samples. *hint* is appended to the transport's error if the reply
    breaks off before its first byte.
    """
    chunks = _checked_chunks(reply, explain_early_end(reply.chunks(), hint))
    yield from strip_headers(chunks, PcmFormat(utterance.settings.sample_rate))


def speech_from_stream(utterance: Utterance, pieces: Iterable[PcmFormat | bytes]) -> Speech:
    """Return the speech of a format and its samples, as `read_pcm` yields them, in the requested format."""
    pcm_format, data = collect_pcm(pieces, PcmFormat(utterance.settings.sample_rate))
    return speech_from_pcm(utterance, data, pcm_format)


def speech_from_pcm(utterance: Utterance, data: bytes, pcm_format: PcmFormat | None = None) -> Speech:
    """Return the speech of samples as ``wav`` or ``pcm``; without *pcm_format* they are mono at the requested rate."""
    requested = utterance.settings
    rate, channels = (pcm_format.sample_rate, pcm_format.channels) if pcm_format else (requested.sample_rate, 1)
    _audio.inspect("pcm", data, rate, channels)
    if requested.format == "wav" and data:
        data = _audio.wav_bytes(data, rate, channels)
    return speech_from_bytes(utterance, data, {"sample_rate": rate, "channels": channels})


def _checked_chunks(reply: WireReply, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of *reply* once its first bytes have shown that it can be samples, or WAV files."""
    start = b""
    while len(start) < _TEXT_CHECK_BYTES and (chunk := next(chunks, None)) is not None:
        start += chunk
    if start:
        try:
            check_pcm_start(start, media_type(reply.headers))
        except DecodeError as error:
            raise DecodeError(f"HTTP {reply.status}: {error}", retryable=True) from None
        if len(start) >= _TEXT_CHECK_BYTES // 2 and start.isascii() and start.decode("ascii").isprintable():
            raise DecodeError("audio: text instead of samples", retryable=True)
        yield start
    yield from chunks
