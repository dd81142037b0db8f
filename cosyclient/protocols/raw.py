"""Replies that are samples and nothing else: no label, no rate, no length, so only what is odd about them tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cosyclient import audio as _audio
from cosyclient.errors import DecodeError, TransportError
from cosyclient.protocols.headers import media_type
from cosyclient.protocols.refusals import refusal
from cosyclient.protocols.speeches import speech_of, timed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cosyclient.errors import ServiceError
    from cosyclient.models import Speech, Utterance
    from cosyclient.wire import WireReply

# These servers name no type; what a proxy may put there is believed as well.
_LABELS: Final = frozenset({"", "application/octet-stream", "audio/pcm", "audio/x-pcm", "audio/raw", "audio/l16"})
# So many bytes in a row are all printable ASCII in text only: the upper halves of samples are mostly 0x00 or 0xFF.
_TELLING_BYTES: Final = 48


class Refusal(Protocol):
    """Make the error that a refusing reply stands for."""

    def __call__(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError: ...


def samples(
    reply: WireReply, utterance: Utterance, *, wall: float, refuse: Refusal = refusal, hint: str = ""
) -> Iterator[bytes]:
    """Yield the samples of *reply* as they arrive; returns only when they are all there and can be *utterance*'s.

    Raises what *refuse* makes of a refusal, and `DecodeError`. *hint* is added to what the transport says when the
    reply breaks off before its first byte.
    """
    if reply.status >= 300:
        raise refuse(reply, [utterance], wall=wall)
    if reply.status not in (200, 203):
        raise DecodeError(f"HTTP {reply.status}: not a finished reply", retryable=True)
    if (kind := media_type(reply.headers)) not in _LABELS:
        raise DecodeError(f"HTTP {reply.status}: {kind} is not samples", retryable=True)
    yield from timed(utterance, _pieces(reply, utterance, hint))


def _pieces(reply: WireReply, utterance: Utterance, hint: str) -> Iterator[bytes]:
    count, opening = 0, b""
    for chunk in excused(reply.chunks(), hint) if hint else reply.chunks():
        count += len(chunk)
        if count - len(chunk) < _TELLING_BYTES:
            opening += chunk
            if count < _TELLING_BYTES:
                continue
            chunk, opening = _not_text(opening), b""
        yield chunk
    if opening:
        yield _not_text(opening)
    if not count:
        raise silent(utterance)


def excused(chunks: Iterable[bytes], hint: str) -> Iterator[bytes]:
    """Yield *chunks*; an end before the first, behind a head that promised them, is not held against the endpoint.

    Servers that send their heads before they look at the request end so for whatever is wrong with it, and say
    nothing: *hint* says what it may be.
    """
    begun = False
    try:
        for chunk in chunks:
            begun = begun or bool(chunk)
            yield chunk
    except TransportError as error:
        if not begun and type(error) is TransportError:
            error.args = (f"{error}; {hint}",)
            error.endpoint_fault = False
        raise


def speech_of_samples(utterance: Utterance, data: bytes) -> Speech:
    """Return the speech that mono *data* at the rate asked for is, as a WAV file if that was asked for."""
    asked = utterance.settings
    _audio.check("pcm", data, asked.sample_rate)
    whole = _audio.wav_bytes(data, asked.sample_rate) if asked.format == "wav" else data
    return speech_of(utterance, whole, {})


def _not_text(opening: bytes) -> bytes:
    if len(opening) >= _TELLING_BYTES // 2 and opening.isascii() and opening.decode("ascii").isprintable():
        raise DecodeError("audio: text instead of samples", retryable=True)
    return opening


def silent(utterance: Utterance) -> DecodeError:
    """Return why there is no audio: CosyVoice drops sentences of punctuation only, and says nothing of it."""
    if any(character.isalnum() for character in utterance.text):
        return DecodeError("audio: empty pcm", retryable=True)
    return DecodeError("audio: none, for the text has nothing to be spoken", endpoint_fault=False)
