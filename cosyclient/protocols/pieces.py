"""Audio in base64 inside JSON, whole or piece by piece: what Alibaba's HTTP services share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cosyclient.errors import DecodeError
from cosyclient.protocols.coding import unbase64

if TYPE_CHECKING:
    from cosyclient.wire import WireReply


def read_json(reply: WireReply) -> dict[str, Any]:
    """Return the JSON object that the whole of *reply* is."""
    return parsed(b"".join(reply.chunks()))


def parsed(data: bytes | str) -> dict[str, Any]:
    """Return the JSON object that *data* is; `DecodeError` otherwise, for it may have been cut off."""
    document = any_json(data)
    if not isinstance(document, dict):
        raise DecodeError("reply: JSON that is no object", retryable=True)
    return document


def any_json(data: bytes | str) -> Any:
    """Return the JSON that *data* is; `DecodeError` otherwise."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DecodeError(f"reply: {len(data)} bytes that are not JSON", retryable=True) from None


def member(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object called *name*, an empty one if there is none."""
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def audio_in(output: dict[str, Any]) -> bytes:
    """Return the audio of one ``output``, nothing if it carries none."""
    coded = member(output, "audio").get("data")
    if not coded:
        return b""
    try:
        return unbase64(coded)
    except (ValueError, TypeError):
        raise DecodeError("audio: not base64", retryable=True) from None
