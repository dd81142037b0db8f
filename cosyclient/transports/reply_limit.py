"""The limit on a reply's size, ``wire.max_reply_bytes``, for every transport."""

from __future__ import annotations

from cosyclient.errors import DecodeError


class ReplyLimit:
    """Count the bytes of one reply after decompression, up to *limit_bytes*."""

    __slots__ = ("limit_bytes", "received_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.received_bytes = 0

    def add(self, size_bytes: int) -> None:
        """Count *size_bytes* more; raises `DecodeError` beyond the limit."""
        self.received_bytes += size_bytes
        if self.received_bytes > self.limit_bytes:
            raise too_large(self.limit_bytes)


def too_large(limit_bytes: int) -> DecodeError:
    """Return the error for a reply of more than *limit_bytes*."""
    return DecodeError(f"reply larger than {limit_bytes} bytes (wire.max_reply_bytes)")
