"""Audio in base64 inside JSON, whole or piece by piece: what Alibaba's HTTP services share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeGuard

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.strict import parse_base64, parse_json
from cosyclient.voices import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cosyclient.wire import WireReply

_MAX_LIST_BYTES: Final = 4 << 20


def read_json_object(reply: WireReply) -> dict[str, Any]:
    """Return the JSON object that the whole of *reply* is."""
    return decode_json_object(b"".join(reply.chunks()))


def decode_json_object(data: bytes | str) -> dict[str, Any]:
    """Return the JSON object that *data* is; `DecodeError` otherwise, for it may have been cut off."""
    document = decode_json(data)
    if not isinstance(document, dict):
        raise DecodeError("reply: JSON that is no object", retryable=True)
    return document


def decode_json(data: bytes | bytearray | str) -> Any:
    """Return the JSON that *data* is; `DecodeError` otherwise."""
    try:
        return parse_json(data)
    except ValueError:
        raise DecodeError(f"reply: {len(data)} bytes that are not JSON", retryable=True) from None


def read_prefix(reply: WireReply, max_bytes: int) -> bytes:
    """Return the first *most* bytes of *reply*, or all if it has fewer; no more is read."""
    content = bytearray()
    for chunk in reply.chunks():
        content += chunk
        if len(content) >= max_bytes:
            break
    return bytes(content[:max_bytes])


def read_voice_list(reply: WireReply) -> Any:
    """Return the JSON that the whole of *reply* is, a list of voices or what holds one; `DecodeError` otherwise."""
    body = bytearray()
    for chunk in reply.chunks():
        body += chunk
        if len(body) > _MAX_LIST_BYTES:
            raise DecodeError(f"reply: a list of voices of more than {_MAX_LIST_BYTES} bytes")
    return decode_json(body)


def is_voice_name(said: object) -> TypeGuard[str]:
    """Return whether *said* can be asked for: a text, no longer than any name, and without control characters."""
    return isinstance(said, str) and 0 < len(said) <= MAX_NAME and said.isprintable()


def voice_names(entries: Iterable[object], members: Sequence[str]) -> list[str]:
    """Return the name of each of *entries*, itself or the first of its *members* that is text, once each.

    What nobody can ask for is left out.
    """
    names: dict[str, None] = {}
    for entry in entries:
        if isinstance(entry, dict):
            entry = next((value for member in members if isinstance(value := entry.get(member), str)), None)
        if is_voice_name(entry):
            names[entry] = None
    return list(names)


def member(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object called *name*, an empty one if there is none."""
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def output_audio(output: dict[str, Any]) -> bytes:
    """Return the audio of one ``output``, nothing if it carries none."""
    coded = member(output, "audio").get("data")
    if not coded:
        return b""
    try:
        return parse_base64(coded)
    except (ValueError, TypeError):
        raise DecodeError("audio: not base64", retryable=True) from None
