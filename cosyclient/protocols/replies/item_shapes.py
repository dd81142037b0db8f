"""Forms of JSON batch replies that home-made services use, beside the one of this project's batch protocol.

Only what is unambiguous is read. What could assign one text's audio to another raises `DecodeError`: a list of another
length, item numbers that do not match the places, an echo of another text. Addresses of audio are never fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.json_body import decode_audio
from cosyclient.protocols.codecs.json_whole import ALL_AUDIO_NAMES, AUDIO_NAMES, GENERAL_AUDIO_NAMES
from cosyclient.protocols.codecs.strict import parse_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.models import Utterance

_ADDRESS_NAMES: Final = ("url", "audio_url", "path", "file")
_LIST_NAMES: Final = (
    *("results", "audios", "audio", "data", "items", "outputs", "output", "speeches", "result", "responses", "wavs"),
    *("audio_data", "batch"),
)
_NUMBER_NAMES: Final = ("id", "idx", "i", "number", "position", "order")
_ECHO_NAMES: Final = ("text", "input")
_SUCCESS_STATES: Final = frozenset(
    {"success", "succeeded", "ok", "okay", "completed", "complete", "done", "finished", "200"}
)
_ADDRESS_PREFIXES: Final = ("http://", "https://", "file://", "/")
_DATA_URL_PREFIX: Final = "data:"


def find_results(members: dict[str, Any], utterances: Sequence[Utterance]) -> list[Any] | None:
    """Return the only list among *members*, or in an object among them, that can be the items; ``None`` without one."""
    count = len(utterances)
    for place in (members, *(value for name in _LIST_NAMES if isinstance(value := members.get(name), dict))):
        lists = {name: value for name, value in place.items() if isinstance(value, list) and len(value) == count}
        known = [value for name in _LIST_NAMES if (value := lists.get(name)) is not None]
        if len(known) == 1:
            return known[0]
        if count == 1 and _audio_members(place):
            return [place]
    return None


def split_audio(element: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the members of *element* and its audio: bytes, base64 text, or ``None``.

    Raises `DecodeError` where two members could be the audio.
    """
    preferred = AUDIO_NAMES[0]
    if element.get(preferred) is not None:
        return element, element.pop(preferred)
    names = _audio_members(element)
    if len(names) > 1:
        raise DecodeError(f"audio: {' and '.join(names)} could both be it; call it {preferred}")
    if not names:
        if not element.get("error") and any(isinstance(element.get(name), str) for name in _ADDRESS_NAMES):
            raise _address_error()
        return element, None
    found = element[names[0]]
    if isinstance(found, dict):
        inner = next(name for name in ALL_AUDIO_NAMES if isinstance(found.get(name), str))
        return {**found, **element}, found[inner]
    return element, found


def _audio_members(element: dict[str, Any]) -> list[str]:
    """Return the names of the members of *element* that could be its audio."""

    def among(names: Sequence[str]) -> list[str]:
        return [
            name
            for name in names
            if (value := element.get(name)) and (isinstance(value, (str, bytes)) or _holds_audio(value))
        ]

    # The general names count only where no specific one is used.
    return among(AUDIO_NAMES) or among(GENERAL_AUDIO_NAMES)


def _holds_audio(inner: object) -> bool:
    """Return whether *inner* is an object with exactly one member that could be audio."""
    return isinstance(inner, dict) and sum(isinstance(inner.get(name), str) for name in ALL_AUDIO_NAMES) == 1


def is_success(fields: dict[str, Any], audio: object) -> bool:
    """Return whether an item succeeded: by its status, else by having audio and no sign of an error."""
    if "status" in fields:
        status = fields["status"]
        return status is True or str(status).casefold() in _SUCCESS_STATES
    if fields.get("success") is False or fields.get("ok") is False or fields.get("error"):
        return False
    return audio is not None


class ItemNumbering:
    """Assigns an index to each item: its own, or its place in the list if nothing in the item contradicts it."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = utterances
        self._next = 0
        self._from: int | None = None
        self._named: bool | None = None

    def index_of(self, element: Any, *, mixed: bool) -> object:
        """Return the index of the next *element*; *mixed* allows items with and without an index in one list.

        Raises `DecodeError` where its number or the text that it repeats belongs to another place.
        """
        place, self._next = self._next, self._next + 1
        named = element.get("index") if isinstance(element, dict) else None
        if not mixed and self._named is not None and self._named is not (named is not None):
            raise DecodeError("reply: a result names no index where others do")
        self._named = named is not None
        if named is not None:
            return named
        if isinstance(element, dict):
            self._check(element, place)
        return place

    def _check(self, element: dict[str, Any], place: int) -> None:
        number = next((value for name in _NUMBER_NAMES if _is_int(value := element.get(name))), None)
        if number is not None:
            # Numbers count from 0 or from 1.
            first = number - place
            if first not in (0, 1) or self._from not in (None, first):
                raise DecodeError("reply: results in another order than their texts; call their number index")
            self._from = first
        for name in _ECHO_NAMES:
            echo = element.get(name)
            if (
                isinstance(echo, str)
                and place < len(self._utterances)
                and echo != self._utterances[place].text
                and any(echo == utterance.text for utterance in self._utterances)
            ):
                raise DecodeError("reply: results in another order than their texts; number them with index, from 0")

    @property
    def is_explicit(self) -> bool:
        """Return whether the last item named its index itself."""
        return bool(self._named)

    def __repr__(self) -> str:
        return f"<ItemNumbering {self._next} of {len(self._utterances)}>"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def decode_item_audio(encoded: object) -> bytes:
    """Return the audio in *encoded*: bytes, or base64 text, also with line ends, URL-safe or as a ``data:`` URL.

    Raises `DecodeError` for anything else.
    """
    if isinstance(encoded, bytes):
        return encoded
    if not isinstance(encoded, str):
        raise DecodeError("audio: a successful item without audio", retryable=True)
    if encoded.startswith(_DATA_URL_PREFIX) and ";base64," in encoded[:200]:
        encoded = encoded.partition(";base64,")[2]
    try:
        return parse_base64(encoded)
    except ValueError:
        pass
    if encoded.startswith(_ADDRESS_PREFIXES) and len(encoded) < 4096 and not encoded.startswith("//"):
        raise _address_error()
    # With line ends, as in MIME, or in the alphabet for URLs and file names (RFC 4648, section 5).
    return decode_audio("".join(encoded.split()).replace("-", "+").replace("_", "/"))


def _address_error() -> DecodeError:
    return DecodeError("audio: the reply names an address in place of audio; it is not fetched")
