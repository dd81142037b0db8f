"""From one item's bytes to a `Speech`, and from items to positions: what every batching protocol checks alike."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cosyclient import audio as _audio
from cosyclient import bounds
from cosyclient.errors import DecodeError
from cosyclient.models import Speech, Utterance
from cosyclient.protocols.base import StreamHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

T = TypeVar("T", StreamHead | bytes, bytes)

# Names in use for the media types of ours; the registered one is in `audio.MEDIA_TYPES`.
_ALSO_CALLED: Final = {
    "wav": ("audio/x-wav", "audio/wave", "audio/vnd.wave"),
    "pcm": ("audio/x-pcm", "audio/raw", "application/octet-stream"),
    "mp3": ("audio/mp3", "audio/x-mp3"),
    "opus": ("audio/opus", "application/ogg"),
}

_LEAST: Final = 0.1
_MOST: Final = 10.0
_LEEWAY: Final = 30.0


class Positions:
    """See to it that each of *count* positions is taken exactly once; nothing is ever put in order silently."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = set(range(count))

    def expect(self, total: object) -> None:
        """Compare the *total* a service announces with what was sent."""
        if total != self._count or isinstance(total, bool):
            shown = total if isinstance(total, int) and abs(total) < 1 << 31 else "no readable number of"
            raise DecodeError(f"reply: {shown} results announced for {self._count} texts")

    def take(self, index: object) -> int:
        """Return *index* if it is one of ours and new."""
        if not isinstance(index, int) or isinstance(index, bool):
            raise DecodeError("reply: a result names no index")
        if not 0 <= index < self._count:
            raise DecodeError(f"reply: a result outside the {self._count} texts")
        if index not in self._free:
            raise DecodeError(f"reply: two results for text {index}")
        self._free.remove(index)
        return index

    def close(self) -> None:
        """Raise if a position is still free although the reply is complete."""
        if self._free:
            raise DecodeError(f"reply: no result for {len(self._free)} of {self._count} texts, first {min(self._free)}")

    def __repr__(self) -> str:
        return f"<Positions {self._count - len(self._free)} of {self._count} taken>"


def speech_of(utterance: Utterance, data: bytes, fields: dict[str, Any]) -> Speech:
    """Return the speech that *data* is, with *fields* as the reply described it.

    Raises `DecodeError` where *data* is not whole audio of the format asked for, is silent in length, or is shorter
    than announced. What the bytes say of rate and length is believed before what the reply says.
    """
    asked = utterance.settings
    said = fields.get("media_type")
    named = _parameters(asked.format, said[:256]) if isinstance(said, str) else {}
    rate = bounds.sample_rate(named.get("rate", fields.get("sample_rate"))) or asked.sample_rate
    channels = bounds.channels(named.get("channels", fields.get("channels"))) or 1
    info = _audio.check(asked.format, data, rate, channels)
    announced = bounds.seconds(fields.get("duration_ms"))
    if info.duration is not None and announced is not None and announced > 1.1 * info.duration + 0.1:
        # Raw samples and streaming headers do not tell that their end is missing; the reply's own figure does.
        raise DecodeError(
            f"audio: {announced:.2f} s announced, {info.duration:.2f} s there", retryable=True, endpoint_fault=False
        )
    return Speech(
        audio=data,
        format=asked.format,
        sample_rate=info.sample_rate,
        channels=info.channels,
        duration=info.duration if info.duration is not None else announced or 0.0,
        fingerprint=utterance.fingerprint,
    )


def plausible(utterance: Utterance, speech: Speech) -> Speech:
    """Return *speech* if its length is one that *utterance* can have; `DecodeError` otherwise.

    For services whose reply says nothing of how long its audio should be: a stream cut short looks whole then. The
    bounds are wide, for an estimate by characters is off by a factor at times.
    """
    check_seconds(utterance, speech.duration)
    return speech


def check_seconds(utterance: Utterance, seconds: float) -> None:
    """Raise the `DecodeError` of *seconds* of audio that *utterance* cannot have.

    It is tried again, for it may be whole then, but the endpoint is not blamed: what is expected is an estimate.
    """
    expected = utterance.expected_seconds
    if seconds > _MOST * expected + _LEEWAY:
        raise DecodeError(
            f"audio: {seconds:.0f} s, about {expected:.1f} s were expected", retryable=True, endpoint_fault=False
        )
    if seconds < _LEAST * expected:
        # Rows of dashes and the like are not spoken.
        letters = "".join(filter(str.isalnum, utterance.text))
        expected = Utterance(letters, utterance.settings).expected_seconds if letters else 0.0
        if expected > 1.0 and seconds < _LEAST * expected:
            raise DecodeError(
                f"audio: {seconds:.2f} s, about {expected:.1f} s were expected", retryable=True, endpoint_fault=False
            )


def timed(utterance: Utterance, pieces: Iterable[T]) -> Iterator[T]:
    """Yield *pieces* of a stream: samples, mono at the rate asked for where no `StreamHead` says what they are.

    Raises the `DecodeError` of a length that *utterance* cannot have: of too little at its end, of too much at once,
    for a stream without an end would go on until the deadline.
    """
    most = _MOST * utterance.expected_seconds + _LEEWAY
    count, per_second = 0, 2 * utterance.settings.sample_rate
    for piece in pieces:
        if isinstance(piece, StreamHead):
            per_second = 2 * piece.channels * piece.sample_rate
        else:
            count += len(piece)
            if count > most * per_second:
                check_seconds(utterance, count / per_second)
        yield piece
    check_seconds(utterance, count / per_second)


# A service has a name or two for each format, and says it with every item.
@lru_cache(maxsize=64)
def _parameters(format: str, said: str) -> Mapping[str, int]:
    """Return the numeric parameters of an item's media type (``audio/pcm;rate=24000``), if it is of *format*."""
    kind, *parameters = said.lower().split(";")
    kind = kind.strip()
    if kind != _audio.MEDIA_TYPES[format] and kind not in _ALSO_CALLED[format]:
        shown = next((name for name, known in _audio.MEDIA_TYPES.items() if known == kind), "another media type")
        raise DecodeError(f"audio: asked for {format}, the reply calls it {shown}")
    pairs = (parameter.strip().partition("=") for parameter in parameters)
    return {name: number for name, _, value in pairs if (number := bounds.written(value, 0, 1 << 31)) is not None}
