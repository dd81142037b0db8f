"""Replies that are samples and nothing else: no label, no rate, no length, so only what is odd about them tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient import audio as _audio
from cosyclient.audio.format import PcmFormat
from cosyclient.audio.stream import collect_pcm, strip_headers
from cosyclient.errors import DecodeError
from cosyclient.protocols.replies.errors import check_status
from cosyclient.protocols.replies.headers import media_type
from cosyclient.protocols.replies.peeked import explain_early_end
from cosyclient.protocols.replies.speech import check_pcm_start, check_stream_duration, speech_from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cosyclient.models import Speech, Utterance
    from cosyclient.protocols.replies.errors import ErrorFactory
    from cosyclient.wire import WireReply

# So many bytes in a row are all printable ASCII in text only: the upper halves of samples are mostly 0x00 or 0xFF.
_TELLING_BYTES: Final = 48


def read_pcm(
    reply: WireReply, utterance: Utterance, *, wall: float, make_error: ErrorFactory | None = None, hint: str = ""
) -> Iterator[PcmFormat | bytes]:
    """Yield the format of *reply*'s samples, then the samples as they arrive; nothing if there are none.

    Returns only when they are complete and their duration is plausible for *utterance*. Raises what *make_error* builds
    of an error reply, and `DecodeError`. *hint* is appended to the transport's error if the reply breaks off before its
    first byte.
    """
    check_status(reply, [utterance], wall=wall, make_error=make_error)
    said = PcmFormat(utterance.settings.sample_rate)
    yield from check_stream_duration(
        utterance, strip_headers(_samples(reply, explain_early_end(reply.chunks(), hint)), said)
    )


def speech_from_stream(utterance: Utterance, pieces: Iterable[PcmFormat | bytes]) -> Speech:
    """Return the speech that *pieces* are, a head and its samples, in the format that was asked for."""
    head, data = collect_pcm(pieces, PcmFormat(utterance.settings.sample_rate))
    return speech_from_pcm(utterance, data, head)


def speech_from_pcm(utterance: Utterance, data: bytes, head: PcmFormat | None = None) -> Speech:
    """Return the speech of samples, mono at the rate asked for unless *head* says otherwise."""
    asked = utterance.settings
    head = head or PcmFormat(asked.sample_rate)
    _audio.inspect("pcm", data, head.sample_rate, head.channels)
    whole = _audio.wav_bytes(data, head.sample_rate, head.channels) if asked.format == "wav" and data else data
    return speech_from_bytes(utterance, whole, {"sample_rate": head.sample_rate, "channels": head.channels})


def _samples(reply: WireReply, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of *reply* once its first bytes have told that it can be samples, or a file of them."""
    opening = b""
    while len(opening) < _TELLING_BYTES and (chunk := next(chunks, None)) is not None:
        opening += chunk
    if opening:
        try:
            check_pcm_start(opening, media_type(reply.headers))
        except DecodeError as error:
            raise DecodeError(f"HTTP {reply.status}: {error}", retryable=True) from None
        yield _not_text(opening)
    yield from chunks


def _not_text(opening: bytes) -> bytes:
    if len(opening) >= _TELLING_BYTES // 2 and opening.isascii() and opening.decode("ascii").isprintable():
        raise DecodeError("audio: text instead of samples", retryable=True)
    return opening
