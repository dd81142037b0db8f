"""Server-sent events while they arrive: every field, comment and line end of the standard, and bounded.

WHATWG HTML, section 9.2.6 ("Interpreting an event stream"). Two departures, for servers as they are: an event that the
end of the stream cuts short is handed on as well (some leave the last blank line out; whoever reads the data finds out
whether it is whole), and ``retry`` is passed over, for nobody reconnects here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cosyclient.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEDIA_TYPE: Final = "text/event-stream"
MAX_EVENT_BYTES: Final = 16 << 20
"""Half a minute of audio in base64 is 2 MB; a server that sends whole recordings as one event needs the rest."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """Hold one event: its name (``message`` where none was given), its data, lines joined, and the last id so far."""

    name: str
    data: str
    id: str = ""


def decode_events(chunks: Iterable[bytes], *, max_event_bytes: int = MAX_EVENT_BYTES) -> Iterator[Event]:
    """Yield the events of a stream as soon as each is complete, however *chunks* cut it.

    Raises `DecodeError` for a line, or an event's data, longer than *max_event_bytes*.
    """
    # A line feed stands before each line of data: one buffer, for a million empty lines must take no more room.
    data, name, last_id = bytearray(), b"", b""
    for line in _lines(chunks, max_event_bytes):
        if not line:
            if data:
                yield _event(name, data, last_id)
            data, name = bytearray(), b""
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        # A line that begins with a colon is a comment: its field is empty.
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


def _event(name: bytes, data: bytearray, last_id: bytes) -> Event:
    return Event(_text(name) or "message", _text(data[1:]), _text(last_id))


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield the lines without their ends; what follows the last end is a line, too."""
    buffer = bytearray()
    # A carriage return ends a line at once; a line feed that opens the next chunk still belongs to it.
    half_ended = False
    seen = 0
    first = True
    for chunk in chunks:
        if not chunk:
            continue
        buffer += chunk[1:] if half_ended and chunk[0] == 0x0A else chunk
        half_ended = False
        if first:
            if len(buffer) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(buffer):
                continue
            first = False
            if buffer.startswith(_BYTE_ORDER_MARK):
                del buffer[: len(_BYTE_ORDER_MARK)]
        start = 0
        # What was looked at before has no end in it.
        while match := _LINE_END.search(buffer, max(start, seen)):
            yield bytes(buffer[start : match.start()])
            start = match.end()
            half_ended = match[0] == b"\r" and start == len(buffer)
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
