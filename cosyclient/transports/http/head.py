"""Write the head of a request as bytes, and parse the head of a reply that leaves no room for interpretation.

Any other head of a reply is left to http.client (see `cosyclient.transports.http.response`), which is slower.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx

from cosyclient.util.redaction import RedactedBytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Field = tuple[bytes, bytes]

# Possessive (++, *+), as are all patterns here: one that fails takes no longer than one that matches.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_REQUEST_LINE: Final = re.compile(rb"%b [\x21-\x7e]++ HTTP/1\.1\r\n" % _TOKEN)
_FIELDS: Final = re.compile(rb"(?:%b: [^\r\n\0]*+\r\n)*+" % _TOKEN)

# No control characters but tabs: parsers disagree about those.
_TEXT: Final = rb"[\t\x20-\x7e\xa0-\xff]*+"
_REPLY: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: (%b))?\r\n((?:%b:%b\r\n)*+)\r\n" % (_TEXT, _TOKEN, _TEXT))
_LINE: Final = re.compile(r"([^:]++):[\t ]*+([^\r]*+)\r\n")


class RawRequest(NamedTuple):
    """Hold one request ready to be sent: the bytes of its head, and its content, bytes or an iterable used once."""

    method: str
    head: bytes
    content: bytes | Iterable[bytes] = b""
    chunked: bool = False

    def __repr__(self) -> str:
        return f"<RawRequest {self.method}, a head of {len(self.head)} bytes>"


def request_line(method: str, target: bytes) -> bytes:
    """Return a request's first line; raises `ValueError` for a method or target that would end it early."""
    line = b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), target)
    if not _REQUEST_LINE.fullmatch(line):
        raise ValueError(f"not a method and a target: {method[:20]!r} {target[:200]!r}")
    return line


def field_lines(fields: Sequence[Field]) -> bytes:
    """Return the lines of *fields*; raises `ValueError` for a name or value that would add a line."""
    return _checked(RedactedBytes(b"".join([b"%b: %b\r\n" % field for field in fields])), len(fields))


def text_lines(fields: Sequence[tuple[str, str]]) -> bytes:
    """Return the lines of *fields* as `field_lines` does, of names and values that are text."""
    return _checked(
        RedactedBytes("".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1")), len(fields)
    )


def _checked(block: bytes, count: int) -> bytes:
    # Each line is a field, and there are as many lines as fields: so no field contains a line end.
    if block.count(b"\n") != count or not _FIELDS.fullmatch(block):
        raise ValueError("a header field with a line end, or an invalid name")
    return block


def encode_request(request: httpx.Request) -> RawRequest:
    """Return *request* as bytes; raises `httpx.LocalProtocolError` for one that cannot be sent."""
    content = _content_of(request)
    fields = [(name, RedactedBytes(value)) for name, value in request.headers.raw]
    names = {name.lower() for name, _ in fields}
    if b"host" not in names:
        fields.insert(0, (b"Host", RedactedBytes(request.url.netloc)))
    chunked = b"transfer-encoding" in names
    if not chunked and b"content-length" not in names:
        if not isinstance(content, bytes):
            chunked = True
            fields.append((b"Transfer-Encoding", RedactedBytes(b"chunked")))
        elif content:
            fields.append((b"Content-Length", RedactedBytes(b"%d" % len(content))))
    try:
        head = RedactedBytes(request_line(request.method, request.url.raw_path) + field_lines(fields) + b"\r\n")
    except ValueError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    return RawRequest(request.method, head, content, chunked)


def _content_of(request: httpx.Request) -> bytes | Iterable[bytes]:
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        return b"".join(stream)
    if isinstance(stream, httpx.SyncByteStream):
        return stream
    raise httpx.LocalProtocolError("an asynchronous content cannot be sent by a synchronous transport")


def parse_head(data: bytes) -> tuple[int, int, str, list[tuple[str, str]]] | None:
    """Return the size of a final reply's head, its status, reason and fields; None unless *data* begins with one.

    All of it must have come, and no two parsers may read it differently; any other head gives None, too.
    """
    match = _REPLY.match(data)
    if match is None:
        return None
    status, reason, block = match.groups(b"")
    return match.end(), int(status), reason.decode("latin-1").strip(), _LINE.findall(block.decode("latin-1"))
