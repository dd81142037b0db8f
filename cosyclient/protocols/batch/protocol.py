"""The batch protocol: up to 64 texts in one POST, one audio file or one error per text in the reply.

This project's own definition, compatible with vLLM-Omni's batch reply: JSON with base64 audio, a bare JSON array, or
length-prefixed frames, all decoded while they arrive. A reply is read by its media type.
"""

from __future__ import annotations

import json
from functools import lru_cache
from json.encoder import encode_basestring as _quote
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import BadUtterance, DecodeError
from cosyclient.protocols.batch import frames
from cosyclient.protocols.batch.frames import FrameDecoder
from cosyclient.protocols.capabilities import Capabilities, own_members
from cosyclient.protocols.replies.errors import check_status
from cosyclient.protocols.replies.headers import is_json, media_type, quota
from cosyclient.protocols.replies.items import PositionCheck, item_result, items_from_json
from cosyclient.protocols.replies.peeked import PeekedReply
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Utterance, VoiceSettings
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.wire import WireReply

_JSON: Final = "application/json"
_MAX_PAYLOAD_BYTES: Final = 64 << 20
_OPENING: Final = b'{"texts":['
# Media types that frameworks set by default, as Flask text/html for a string; the first byte decides then.
_UNSPECIFIC: Final = frozenset({"", "text/plain", "text/html", "application/octet-stream", "binary/octet-stream"})
_OPTIONS: Final = ("model", "voice", "format", "sample_rate", "speed", "instruct", "seed")


class BatchProtocol:
    """Implements the batch protocol, version 1."""

    name: str = "batch"
    capabilities = Capabilities(
        batch=64,
        instruct=True,
        seed=True,
        speeds=(0.5, 2.0),
        own_members=own_members("texts", **{name: name for name in _OPTIONS}),
    )

    def __init__(self, wire: WireConfig) -> None:
        self._max_payload_bytes = min(_MAX_PAYLOAD_BYTES, wire.max_reply_bytes)
        accept = f"{frames.MEDIA_TYPE};v=1, {_JSON};q=0.9" if wire.frames else _JSON
        self._headers = (
            ("Content-Type", f"{_JSON}; charset=utf-8"),
            ("Accept", f"{accept}, application/problem+json"),
        )
        # Consecutive texts share their settings, which are encoded once.
        self._members = lru_cache(maxsize=64)(_members)

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body.

        It includes what surrounds the texts, so that the sum over a batch bounds the whole body.
        """
        return len(_quote(utterance.text).encode()) + 1 + len(_OPENING) + len(self._members(utterance.settings))

    def encode(self, utterances: Sequence[Utterance], *, key: str) -> WireRequest:
        """Return the request for *utterances*, which share their settings; *key* identifies it across retries.

        The same utterances and key give the same bytes: a service may compare them.
        """
        settings = utterances[0].settings
        if any(utterance.settings is not settings and utterance.settings != settings for utterance in utterances):
            raise BadUtterance("utterances: those of one batch must share their settings")
        texts = ",".join([_quote(utterance.text) for utterance in utterances])
        body = b"".join((_OPENING, texts.encode(), self._members(settings)))
        headers = (*self._headers, ("Idempotency-Key", f'"{key}"'), ("X-Request-Id", key))
        return WireRequest(method="POST", path="/batch", headers=headers, body=body)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the texts' speeches and errors as soon as they arrive, every position exactly once.

        Raises the `ServiceError` of an error reply, or `DecodeError` when the reply is not what was asked for.
        """
        kind = media_type(reply.headers)
        check_status(reply, utterances, wall=wall)
        if kind == frames.MEDIA_TYPE:
            yield from self._from_frames(reply, utterances)
        elif is_json(kind):
            yield from items_from_json(reply, utterances, wall=wall)
        else:
            peeked = PeekedReply(reply)
            if (seen := _kind_of(peeked.start)) != "JSON" or kind not in _UNSPECIFIC:
                raise DecodeError(
                    f"HTTP {reply.status}: {kind or 'no media type'} ({seen}) is no batch", retryable=True
                )
            yield from items_from_json(peeked, utterances, wall=wall)

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits."""
        return quota(reply.headers)

    def _from_frames(self, reply: WireReply, utterances: Sequence[Utterance]) -> Iterator[list[Item]]:
        decoder = FrameDecoder(max_payload_bytes=self._max_payload_bytes)
        positions = PositionCheck(len(utterances))
        shared: dict[str, Any] = {}
        for chunk in reply.chunks():
            items: list[Item] = []
            try:
                for frame in decoder.feed(chunk):
                    fields = frame.header
                    if frame.kind == "item":
                        index = positions.claim(fields.get("index"))
                        items.append(
                            (index, item_result(fields, frame.payload, shared, utterances, index, reply.status))
                        )
                    elif frame.kind == "batch":
                        shared = fields
                        positions.check_total(shared.get("total"))
            except DecodeError:
                # Items complete before the fault stay valid.
                yield items
                raise
            if items:
                yield items
        decoder.close()
        positions.check_complete()

    def __repr__(self) -> str:
        return f"<BatchProtocol {'frames or JSON' if frames.MEDIA_TYPE in self._headers[1][1] else 'JSON'}>"


def _members(settings: VoiceSettings) -> bytes:
    # Defaults are sent as well, so that a service's own defaults do not apply.
    members = {name: value for name in _OPTIONS if (value := getattr(settings, name)) is not None}
    members |= settings.extra or {}
    return ("]," + json.dumps(members, ensure_ascii=False, separators=(",", ":"))[1:]).encode()


def _kind_of(first: bytes) -> str:
    start = first[:64].lstrip().lower()
    for magic, kind in ((b"<", "HTML or XML"), (b"{", "JSON"), (b"[", "JSON"), (b"riff", "WAV"), (b"\x1f\x8b", "gzip")):
        if start.startswith(magic):
            return kind
    if not first:
        return "empty"
    return "text" if start.decode("latin-1").isprintable() else "binary"
