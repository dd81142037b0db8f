"""The shapes in which people write the reply to a batch: as this project defines it, or as it comes to mind.

Read is what can be meant in one way only. What could give a text another's audio is refused: a list of another length,
numbers that are not those of its places, an echo of another text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.json_body import decode_audio
from cosyclient.protocols.codecs.strict import parse_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosyclient.models import Utterance

AUDIO: Final = "audio_data"
# What else a result's audio, and the list of them, are called; the general words count where none of the others is.
_AUDIO: Final = (
    *(
        AUDIO,
        "audio",
        "audio_base64",
        "audioBase64",
        "audio_b64",
        "audioContent",
        "audio_bytes",
        "speech",
        "wav",
        "mp3",
    ),
)
_GENERAL: Final = ("data", "base64", "b64", "b64_json", "content")
_ELSEWHERE: Final = ("url", "audio_url", "path", "file")
_LISTS: Final = (
    *("results", "audios", "audio", "data", "items", "outputs", "output", "speeches", "result", "responses", "wavs"),
    *("audio_data", "batch"),
)
_NUMBERS: Final = ("id", "idx", "i", "number", "position", "order")
_ECHOES: Final = ("text", "input")
_DONE: Final = frozenset({"success", "succeeded", "ok", "okay", "completed", "complete", "done", "finished", "200"})
_ADDRESSES: Final = ("http://", "https://", "file://", "/")
_DATA_URL: Final = "data:"


def find_results(members: dict[str, Any], utterances: Sequence[Utterance]) -> list[Any] | None:
    """Return the one list among *members*, or in an object among them, that can be the results; ``None`` if none is."""
    count = len(utterances)
    for place in (members, *(value for name in _LISTS if isinstance(value := members.get(name), dict))):
        lists = {name: value for name, value in place.items() if isinstance(value, list) and len(value) == count}
        known = [value for name in _LISTS if (value := lists.get(name)) is not None]
        if len(known) == 1:
            return known[0]
        if count == 1 and _names(place):
            return [place]
    return None


def split_audio(element: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return what *element* says beside its audio, and that: bytes, base64, or ``None``.

    Raises `DecodeError` where two members could be the audio.
    """
    if element.get(AUDIO) is not None:
        return element, element.pop(AUDIO)
    names = _names(element)
    if len(names) > 1:
        raise DecodeError(f"audio: {' and '.join(names)} could both be it; call it {AUDIO}")
    if not names:
        if not element.get("error") and any(isinstance(element.get(name), str) for name in _ELSEWHERE):
            raise _not_here()
        return element, None
    found = element[names[0]]
    if isinstance(found, dict):
        inner = next(name for name in (*_AUDIO, *_GENERAL) if isinstance(found.get(name), str))
        return {**found, **element}, found[inner]
    return element, found


def _names(element: dict[str, Any]) -> list[str]:
    """Return the members of *element* that could be its audio."""

    def among(names: Sequence[str]) -> list[str]:
        found = ((name, element.get(name)) for name in names)
        return [name for name, value in found if (isinstance(value, str) and value) or _is_one(value)]

    return among(_AUDIO) or among(_GENERAL)


def _is_one(inner: object) -> bool:
    """Return whether *inner* is an object with audio in it."""
    return isinstance(inner, dict) and sum(isinstance(inner.get(name), str) for name in (*_AUDIO, *_GENERAL)) == 1


def is_success(fields: dict[str, Any], audio: object) -> bool:
    """Return whether an item is a success: it says so, or has audio and says nothing to the contrary."""
    if "status" in fields:
        status = fields["status"]
        return status is True or str(status).casefold() in _DONE
    if fields.get("success") is False or fields.get("ok") is False or fields.get("error"):
        return False
    return audio is not None


class ItemNumbering:
    """Number results without an index by the places they come in, as long as nothing about them says otherwise."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._texts = [utterance.text for utterance in utterances]
        self._next = 0
        self._from: int | None = None
        self._named: bool | None = None

    def index_of(self, element: Any, *, mixed: bool) -> object:
        """Return the index of *element*, its own or that of its place; *mixed* says that both may occur in one list.

        Raises `DecodeError` where its own number, or a text that it repeats, is another's.
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
        number = next((value for name in _NUMBERS if _whole(value := element.get(name))), None)
        if number is not None:
            # Counted from 0 or from 1.
            first = number - place
            if first not in (0, 1) or self._from not in (None, first):
                raise DecodeError("reply: results in another order than their texts; call their number index")
            self._from = first
        for name in _ECHOES:
            said = element.get(name)
            if (
                isinstance(said, str)
                and place < len(self._texts)
                and said != self._texts[place]
                and said in self._texts
            ):
                raise DecodeError("reply: results in another order than their texts; number them with index, from 0")

    @property
    def is_explicit(self) -> bool:
        """Return whether the last one said its index itself."""
        return bool(self._named)

    def __repr__(self) -> str:
        return f"<Numbering {self._next} of {len(self._texts)}>"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def decode_item_audio(coded: object) -> bytes:
    """Return the audio that *coded* is: bytes, or base64 with line ends or as a ``data:`` URL.

    Raises `DecodeError` for anything else; an address is never fetched.
    """
    if isinstance(coded, bytes):
        return coded
    if not isinstance(coded, str):
        raise DecodeError("audio: a successful item without audio", retryable=True)
    if coded.startswith(_DATA_URL) and ";base64," in coded[:200]:
        coded = coded.partition(";base64,")[2]
    try:
        return parse_base64(coded)
    except ValueError:
        pass
    if coded.startswith(_ADDRESSES) and len(coded) < 4096 and not coded.startswith("//"):
        raise _not_here()
    # With line ends, as in MIME, or in the alphabet for URLs and file names (RFC 4648, section 5).
    return decode_audio("".join(coded.split()).replace("-", "+").replace("_", "/"))


def _not_here() -> DecodeError:
    return DecodeError("audio: the reply names an address in place of audio; it is not fetched")
