"""JSON documents in replies, events and messages: objects, their members, base64 audio, word timestamps, voices.

Everything raises `DecodeError`, retryable, for what is not the JSON expected, as it may have been cut off. A list of
voices is read up to 4 MiB; the bounds of one document are those of `strict.parse_json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeGuard

from cosyclient.errors import DecodeError
from cosyclient.models import Word
from cosyclient.protocols.codecs.strict import parse_base64, parse_json
from cosyclient.util.numbers import seconds_from_ms
from cosyclient.voices import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosyclient.wire import WireReply

_MAX_LIST_BYTES: Final = 4 << 20


def decode_json(data: bytes | bytearray | str) -> Any:
    """Return the JSON value in *data*."""
    try:
        return parse_json(data)
    except ValueError:
        unit = "characters" if isinstance(data, str) else "bytes"
        raise DecodeError(f"reply: {len(data)} {unit} that are not JSON", retryable=True) from None


def decode_json_object(data: bytes | str) -> dict[str, Any]:
    """Return the JSON object in *data*."""
    document = decode_json(data)
    if not isinstance(document, dict):
        raise DecodeError("reply: JSON that is no object", retryable=True)
    return document


def object_at(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the object found by following the members *names*, an empty one if there is none."""
    for name in names:
        inner = document.get(name)
        if not isinstance(inner, dict):
            return {}
        document = inner
    return document


def decode_audio(encoded: object) -> bytes:
    """Return the audio that the base64 text *encoded* holds."""
    try:
        if isinstance(encoded, str):
            return parse_base64(encoded)
    except ValueError:
        pass
    shown = f"{len(encoded)} characters that are" if isinstance(encoded, str) else "a value that is"
    raise DecodeError(f"audio: {shown} not base64", retryable=True)


def word_timing(entry: object, *, text: str, start: str, end: str) -> Word | None:
    """Return the word in *entry*, or ``None`` unless it is an object whose members of these names are readable.

    *text* names the member with the word, *start* and *end* those with its times in milliseconds.
    """
    if not isinstance(entry, dict) or not isinstance(word := entry.get(text), str):
        return None
    first, last = seconds_from_ms(entry.get(start)), seconds_from_ms(entry.get(end))
    return None if first is None or last is None else Word(word, first, last)


def read_json_object(reply: WireReply) -> dict[str, Any]:
    """Read all of *reply* and return the JSON object that it is."""
    return decode_json_object(b"".join(reply.chunks()))


def read_prefix(reply: WireReply, max_bytes: int) -> bytes:
    """Read and return the first *max_bytes* bytes of *reply*, or all if it has fewer."""
    content = bytearray()
    for chunk in reply.chunks():
        content += chunk
        if len(content) >= max_bytes:
            break
    return bytes(content[:max_bytes])


def read_voice_list(reply: WireReply) -> Any:
    """Read all of *reply* and return its JSON, which should be a list of voices or hold one."""
    body = bytearray()
    for chunk in reply.chunks():
        body += chunk
        if len(body) > _MAX_LIST_BYTES:
            raise DecodeError(f"reply: a list of voices of more than {_MAX_LIST_BYTES} bytes")
    return decode_json(body)


def is_voice_name(value: object) -> TypeGuard[str]:
    """Return whether *value* can name a voice in a request: non-empty text, printable, not too long."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def voice_names(entries: Iterable[object], members: Sequence[str]) -> list[str]:
    """Return the distinct names of *entries*: each is a name, or an object whose first text among *members* is one.

    Entries without a usable name are left out.
    """
    names: dict[str, None] = {}
    for entry in entries:
        if isinstance(entry, dict):
            entry = next((value for member in members if isinstance(value := entry.get(member), str)), None)
        if is_voice_name(entry):
            names[entry] = None
    return list(names)
