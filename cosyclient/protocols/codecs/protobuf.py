"""The wire format of Protocol Buffers, as far as the gRPC services need it: fields as tags, lengths and bytes.

Written by hand, as the messages are few and flat, and generated code breaks in two ways: it must match the version of
the protobuf runtime, and two modules that define one name (tritonclient's and ours, or a user's ``cosyvoice_pb2``)
cannot be imported into one process. Format: protobuf.dev/programming-guides/encoding. Bound: `MAX_FIELDS` a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cosyclient.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
MAX_FIELDS: Final = 500
"""Fields of one message; those of the services have a dozen."""
_WIDTHS: Final = {_FIXED64: 8, _FIXED32: 4}


def encode_varint(value: int) -> bytes:
    """Return *value*, zero or more, in seven bits a byte, the lowest first (base 128)."""
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def encode_field(number: int, content: bytes | str | bool) -> bytes:
    """Return one field, of bytes or text with their length or of a bool; no bytes for an empty one.

    proto3 does not send defaults.
    """
    if isinstance(content, bool):
        return encode_varint(number << 3 | _VARINT) + encode_varint(content) if content else b""
    data = content.encode() if isinstance(content, str) else content
    return b"".join((encode_varint(number << 3 | _BYTES), encode_varint(len(data)), data)) if data else b""


def encode_message(number: int, *fields: bytes) -> bytes:
    """Return a field that holds a message of *fields*; sent even without any, as presence has a meaning."""
    data = b"".join(fields)
    return b"".join((encode_varint(number << 3 | _BYTES), encode_varint(len(data)), data))


def encode_packed(number: int, values: Iterable[int]) -> bytes:
    """Return a packed repeated field of integers, zero or more each."""
    return encode_field(number, b"".join(map(encode_varint, values)))


def decode_fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of each field of a message: an int for varints, bytes for all others.

    Raises `DecodeError` for malformed bytes and for more than `MAX_FIELDS` fields: messages nest, and reading millions
    cannot be interrupted.
    """
    position, end, count = 0, len(data), 0
    while position < end:
        count += 1
        if count > MAX_FIELDS:
            raise _malformed(data)
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise _malformed(data)
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in _WIDTHS:
            size = _WIDTHS[kind]
        else:
            raise _malformed(data)
        if position + size > end:
            raise _malformed(data)
        yield number, data[position : position + size]
        position += size


def decode_packed(data: bytes, *, max_values: int) -> list[int]:
    """Return the integers of a packed field; `DecodeError` for more than *max_values*."""
    values: list[int] = []
    position = 0
    while position < len(data):
        if len(values) == max_values:
            raise _malformed(data)
        value, position = _varint(data, position)
        values.append(value)
    return values


def as_text(value: bytes | int) -> str:
    """Return a field's value as text; `DecodeError` if it is a number."""
    if isinstance(value, int):
        raise DecodeError("reply: a number where text belongs", retryable=True)
    return value.decode("utf-8", "replace")


def as_bytes(value: bytes | int) -> bytes:
    """Return a field's value as bytes; `DecodeError` if it is a number."""
    if isinstance(value, int):
        raise DecodeError("reply: a number where bytes belong", retryable=True)
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(position, min(len(data), position + _MAX_VARINT_BYTES)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise _malformed(data)


def _malformed(data: bytes) -> DecodeError:
    return DecodeError(f"reply: {len(data)} bytes that are no whole protobuf message", retryable=True)
