"""Replies whose first bytes are looked at before it is decided how to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosyclient.audio.base import MAGIC_BYTES
from cosyclient.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cosyclient.wire import WireReply


class PeekedReply:
    """A `WireReply` with its first bytes in ``start``: `MAGIC_BYTES` or more, fewer only if it has no more.

    `chunks` yields them again, so that it is read like any reply. *hint* is passed to `explain_early_end`.
    """

    def __init__(self, reply: WireReply, *, hint: str = "") -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self._reply = reply
        self._chunks = explain_early_end(reply.chunks(), hint)
        self.start = b""
        while len(self.start) < MAGIC_BYTES and (chunk := next(self._chunks, None)) is not None:
            self.start += chunk

    def chunks(self) -> Iterator[bytes]:
        """Yield the content from its beginning."""
        yield self.start
        yield from self._chunks

    def close(self) -> None:
        """Close the reply."""
        self._reply.close()

    def __repr__(self) -> str:
        return f"<PeekedReply {self._reply!r}>"


def explain_early_end(chunks: Iterable[bytes], hint: str) -> Iterator[bytes]:
    """Yield *chunks*; append *hint* to a `TransportError` before the first byte, and do not blame the endpoint for it.

    For servers that send their headers before they look at the request: whatever is wrong with it, they close the
    connection without a word. *hint* names the likely causes; without one nothing changes.
    """
    started = False
    try:
        for chunk in chunks:
            started = started or bool(chunk)
            yield chunk
    except TransportError as error:
        if hint and not started and type(error) is TransportError:
            error.args = (f"{error}; {hint}",)
            error.endpoint_fault = False
        raise
