"""Decode server-sent events while they arrive, with every field, comment and line end of the standard.

WHATWG HTML, section 9.2.6 ("Interpreting an event stream"), with two departures for existing servers: an event that the
end of the stream cuts off is yielded too (some servers omit the last blank line, and the reader of its data notices
whether it is complete), and ``retry`` is ignored, as nothing reconnects. A line or an event's data is at most
`MAX_EVENT_BYTES` long.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cosyclient.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEDIA_TYPE: Final = "text/event-stream"
MAX_EVENT_BYTES: Final = 16 << 20
"""Half a minute of audio in base64 is 2 MB; the rest is for servers that send a whole recording in one event."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event: its name (``message`` if it has none), its data lines joined, and the last id so far."""

    name: str
    data: str
    id: str = ""


def decode_events(chunks: Iterable[bytes], *, max_event_bytes: int = MAX_EVENT_BYTES) -> Iterator[SseEvent]:
    """Yield each event of a stream as soon as it is complete, wherever *chunks* are cut.

    Raises `DecodeError` for a line, or an event's data, longer than *max_event_bytes*.
    """
    # One buffer, with a line feed before each line: a list of a million empty lines would take far more memory.
    data, name, last_id = bytearray(), b"", b""
    for line in _lines(chunks, max_event_bytes):
        if not line:
            if data:
                yield _event(name, data, last_id)
            data, name = bytearray(), b""
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        # The field of a comment, a line that begins with a colon, is empty.
        if field == b"data":
            if len(data) + len(value) >= max_event_bytes:
                raise _too_long(max_event_bytes)
            data += b"\n"
            data += value
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            last_id = value
    if data:
        yield _event(name, data, last_id)


def _event(name: bytes, data: bytearray, last_id: bytes) -> SseEvent:
    return SseEvent(_text(name) or "message", _text(data[1:]), _text(last_id))


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield the lines without their ends, the unfinished last one too."""
    buffer = bytearray()
    # A carriage return ends a line at once; a line feed at the start of the next chunk still belongs to it.
    after_return = False
    seen = 0
    first = True
    for chunk in chunks:
        if not chunk:
            continue
        buffer += chunk[1:] if after_return and chunk[0] == 0x0A else chunk
        after_return = False
        if first:
            if len(buffer) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(buffer):
                continue
            first = False
            if buffer.startswith(_BYTE_ORDER_MARK):
                del buffer[: len(_BYTE_ORDER_MARK)]
        start = 0
        # Bytes before `seen` were searched already.
        while match := _LINE_END.search(buffer, max(start, seen)):
            yield bytes(buffer[start : match.start()])
            start = match.end()
            after_return = match[0] == b"\r" and start == len(buffer)
        del buffer[:start]
        seen = len(buffer)
        if seen > limit:
            raise _too_long(limit)
    if buffer:
        yield bytes(buffer)


def _text(raw: bytes | bytearray) -> str:
    return raw.decode("utf-8", "replace")


def _too_long(limit: int) -> DecodeError:
    return DecodeError(f"reply: an event of more than {limit} bytes")
