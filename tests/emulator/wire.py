"""Speak HTTP to the emulator with as little help as possible, and read its frames with a parser of our own."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

FRAMES = "application/vnd.cosyvoice.batch-frames;v=1"
TIMEOUT = 20.0


@dataclass
class Answer:
    """Hold one reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)

    @property
    def media_type(self) -> str:
        """Return the content type without parameters."""
        return self.headers.get("content-type", "").partition(";")[0]


def call(url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    """Send one request on a connection of its own."""
    connection = connect(url)
    try:
        return exchange(connection, method, path, body, headers)
    finally:
        connection.close()


def connect(url: str) -> http.client.HTTPConnection:
    """Return a connection to keep."""
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request on a connection that stays open."""
    connection.request(method, path, body, headers or {})
    with connection.getresponse() as response:
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read())


def post(url: str, document: Any, **headers: str) -> Answer:
    """Send a batch; header names have underscores for dashes."""
    body = document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode()
    return call(url, "POST", "/batch", body, named({"content_type": "application/json", **headers}))


def named(headers: dict[str, str]) -> dict[str, str]:
    """Turn keyword names into header names."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def open_socket(url: str) -> socket.socket:
    """Return a bare TCP connection."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=TIMEOUT)


def raw_request(document: Any, **headers: str) -> bytes:
    """Return the bytes of a batch request."""
    body = json.dumps(document, ensure_ascii=False).encode()
    lines = ["POST /batch HTTP/1.1", "Host: emulator", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in named(headers).items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(connection: socket.socket) -> tuple[bytes, bool]:
    """Read until the peer ends; tell whether it ended with a reset."""
    received = bytearray()
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return bytes(received), True
        if not piece:
            return bytes(received), False
        received += piece


@dataclass
class Frames:
    """Hold a frames reply taken apart."""

    head: dict[str, Any] = field(default_factory=dict)
    items: dict[int, dict[str, Any]] = field(default_factory=dict)
    audio: dict[int, bytes] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)


def parse_frames(body: bytes) -> Frames:
    """Take a frames reply apart; what is cut off at the end is left out."""
    frames = Frames()
    at = 0
    while at + 8 <= len(body):
        header_length, payload_length = struct.unpack_from(">II", body, at)
        assert header_length <= 65536
        assert payload_length <= 64 << 20
        end = at + 8 + header_length + payload_length
        if end > len(body):
            break
        header = json.loads(body[at + 8 : at + 8 + header_length])
        payload = body[at + 8 + header_length : end]
        assert not frames.end, "a frame after the last"
        match header["kind"]:
            case "batch":
                assert at == 0
                assert not payload
                frames.head = header
            case "item":
                frames.items[header["index"]] = header
                frames.order.append(header["index"])
                if header["status"] == "success":
                    frames.audio[header["index"]] = payload
                else:
                    assert not payload
            case "end":
                assert not payload
                frames.end = header
            case other:
                raise AssertionError(other)
        at = end
    return frames
