"""Heads as bytes: write that of a request, and take that of a reply apart where it is written as all write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from cosyclient.util.redaction import RedactedBytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Field = tuple[bytes, bytes]

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_START: Final = re.compile(rb"%b [\x21-\x7e]++ HTTP/1\.1\r\n" % _TOKEN)
_FIELDS: Final = re.compile(rb"(?:%b: [^\r\n\0]*+\r\n)*+" % _TOKEN)

# No control characters but tabs: readers disagree about those. What does not match is http.client's to judge.
_TEXT: Final = rb"[\t\x20-\x7e\xa0-\xff]*+"
_REPLY: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: (%b))?\r\n((?:%b:%b\r\n)*+)\r\n" % (_TEXT, _TOKEN, _TEXT))
_LINE: Final = re.compile(rb"([^:]++):[\t ]*+([^\r]*+)\r\n")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Hold one request ready to be written: its head, and its content, bytes or what can be iterated once."""

    method: str
    head: bytes
    content: bytes | Iterable[bytes] = b""
    chunked: bool = False

    def __repr__(self) -> str:
        return f"<Outgoing {self.method}, a head of {len(self.head)} bytes>"


def start(method: str, target: bytes) -> bytes:
    """Return a request's first line; `ValueError` for what would end it early."""
    line = b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), target)
    if not _START.fullmatch(line):
        raise ValueError(f"not a method and a target: {method[:20]!r} {target[:200]!r}")
    return line


def lines(fields: Sequence[Field]) -> bytes:
    """Return the lines of *fields*; `ValueError` for what would smuggle another one in."""
    block = RedactedBytes(b"".join([b"%b: %b\r\n" % field for field in fields]))
    # Each line is a field, and there are no more lines than fields: so no field holds the end of a line.
    if block.count(b"\n") != len(fields) or not _FIELDS.fullmatch(block):
        raise ValueError("a header field with a line end, or a name that is none")
    return block


def outgoing(request: httpx.Request) -> Outgoing:
    """Return *request* as it is written; raises `httpx.LocalProtocolError` for what cannot be."""
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
        head = RedactedBytes(start(request.method, request.url.raw_path) + lines(fields) + b"\r\n")
    except ValueError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    return Outgoing(request.method, head, content, chunked)


def _content_of(request: httpx.Request) -> bytes | Iterable[bytes]:
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        return b"".join(stream)
    if isinstance(stream, httpx.SyncByteStream):
        return stream
    raise httpx.LocalProtocolError("an asynchronous content cannot be sent by a synchronous transport")


def take_apart(data: bytes) -> tuple[int, int, str, list[Field]] | None:
    """Return a final reply's size of head, status, reason and fields, or None unless *data* begins with a plain one.

    Plain is a head that is there to its end and that no two readers could understand differently.
    """
    match = _REPLY.match(data)
    if match is None:
        return None
    status, reason, block = match.groups(b"")
    return match.end(), int(status), reason.decode("latin-1").strip(), _LINE.findall(block)
