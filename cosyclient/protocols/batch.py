"""The batch protocol: up to 64 texts in one POST, one audio file or one error per text in the reply.

This project's own definition, compatible with vLLM-Omni's batch reply: JSON with base64 audio, a bare JSON array, or
length-prefixed frames, all decoded while they arrive. A reply is what its media type says, never what its status hopes.
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from json.encoder import encode_basestring as _quote
from typing import TYPE_CHECKING, Any, Final

from cosyclient.errors import BadUtterance, CosyError, DecodeError
from cosyclient.protocols import frames
from cosyclient.protocols.base import Capabilities
from cosyclient.protocols.coding import unbase64
from cosyclient.protocols.frames import FrameDecoder
from cosyclient.protocols.headers import media_type, quota
from cosyclient.protocols.refusals import item_error, refusal, refusal_of
from cosyclient.protocols.results import ResultReader
from cosyclient.protocols.speeches import Positions, speech_of
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosyclient.config import WireConfig
    from cosyclient.models import Speech, Utterance, VoiceSettings
    from cosyclient.protocols.base import Item, Quota
    from cosyclient.wire import WireReply

_JSON: Final = "application/json"
_MAX_PAYLOAD_BYTES: Final = 64 << 20
_OPENING: Final = b'{"texts":['
_SPOKEN: Final = {"status": "success"}
_OPTIONS: Final = ("model", "voice", "format", "sample_rate", "speed", "instruct", "seed")


class BatchProtocol:
    """Speak the batch protocol, version 1."""

    name: str = "batch"
    capabilities = Capabilities(batch=64, instruct=True, seed=True, speeds=(0.5, 2.0))

    def __init__(self, wire: WireConfig) -> None:
        self._gzip_above_bytes = wire.gzip_above_bytes
        self._max_payload_bytes = min(_MAX_PAYLOAD_BYTES, wire.max_reply_bytes)
        accept = f"{frames.MEDIA_TYPE};v=1, {_JSON};q=0.9" if wire.frames else _JSON
        self._headers = (
            ("Content-Type", f"{_JSON}; charset=utf-8"),
            ("Accept", f"{accept}, application/problem+json"),
        )
        # Texts come in runs that share their settings, so these are written out once.
        self._members = lru_cache(maxsize=64)(_members)

    def weigh(self, utterance: Utterance) -> int:
        """Return an upper bound of the bytes *utterance* adds to a request's body.

        Each is charged what surrounds the texts too, so that the sum over a batch bounds the whole body.
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
        headers: tuple[tuple[str, str], ...] = (*self._headers, ("Idempotency-Key", f'"{key}"'), ("X-Request-Id", key))
        if self._gzip_above_bytes is not None and len(body) > self._gzip_above_bytes:
            packed = gzip.compress(body, 1, mtime=0)
            if len(packed) < len(body):
                headers, body = (*headers, ("Content-Encoding", "gzip")), packed
        return WireRequest(method="POST", path="/batch", headers=headers, body=body)

    def decode(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> Iterator[list[Item]]:
        """Yield the texts' speeches and errors as soon as they arrive, every position exactly once.

        Raises the `ServiceError` a refusal stands for, or `DecodeError` when the reply is not what was asked for.
        """
        kind = media_type(reply.headers)
        if reply.status >= 300 or kind == "application/problem+json":
            raise refusal(reply, utterances, wall=wall)
        # 203 is a 200 that a proxy has touched; 202, 204, 206 and the like are not the finished whole.
        if reply.status not in (200, 201, 203):
            raise DecodeError(f"HTTP {reply.status}: not a finished reply", retryable=True)
        if kind == frames.MEDIA_TYPE:
            yield from self._from_frames(reply, utterances)
        elif kind.endswith(("/json", "+json")):
            yield from _from_json(reply, utterances, wall)
        else:
            seen = _kind_of(next((chunk for chunk in reply.chunks() if chunk), b""))
            raise DecodeError(f"HTTP {reply.status}: {kind or 'no media type'} ({seen}) is no batch", retryable=True)

    def quota(self, reply: WireReply) -> Quota | None:
        """Return what the reply's headers announce of the service's limits."""
        return quota(reply.headers)

    def _from_frames(self, reply: WireReply, utterances: Sequence[Utterance]) -> Iterator[list[Item]]:
        decoder = FrameDecoder(max_payload_bytes=self._max_payload_bytes)
        positions = Positions(len(utterances))
        shared: dict[str, Any] = {}
        for chunk in reply.chunks():
            items: list[Item] = []
            try:
                for frame in decoder.feed(chunk):
                    fields = frame.header
                    if frame.kind == "item":
                        index = positions.take(fields.get("index"))
                        items.append((index, _outcome(fields, frame.payload, shared, utterances, index, reply.status)))
                    elif frame.kind == "batch":
                        shared = fields
                        positions.expect(shared.get("total"))
            except DecodeError:
                # What was whole before the fault stands.
                yield items
                raise
            if items:
                yield items
        decoder.close()
        positions.close()

    def __repr__(self) -> str:
        return f"<BatchProtocol {'frames or JSON' if frames.MEDIA_TYPE in self._headers[1][1] else 'JSON'}>"


def _members(settings: VoiceSettings) -> bytes:
    # What is set is said, defaults included, so that a service's own defaults cannot surprise.
    said = {name: value for name in _OPTIONS if (value := getattr(settings, name)) is not None}
    return ("]," + json.dumps(said, ensure_ascii=False, separators=(",", ":"))[1:]).encode()


def _from_json(reply: WireReply, utterances: Sequence[Utterance], wall: float) -> Iterator[list[Item]]:
    reader = ResultReader(reply.chunks(), most=len(utterances))
    positions = Positions(len(utterances))
    shared = reader.members
    # What has to wait for the end of the reply: audio that goes by its place, which only the right number of them
    # makes sure, and audio that comes before the members that tell how many there are and what they are.
    held: list[tuple[int, Any]] = []
    place = 0
    for results in reader.results():
        items: list[Item] = []
        early = "total" in shared
        if early:
            positions.expect(shared["total"])
        try:
            for element in results:
                named = element.get("index") if isinstance(element, dict) else None
                index = positions.take(place if named is None and reader.bare else named)
                place += 1
                if early:
                    items.append((index, _outcome_of(element, shared, utterances, index, reply.status)))
                else:
                    held.append((index, element))
        except DecodeError:
            # What was whole before the fault stands.
            if items:
                yield items
            raise
        if items:
            yield items
    if not reader.listed:
        if shared.get("results") is None and (shared.get("error") or shared.get("code")):
            raise refusal_of(reply, shared, utterances, wall=wall)
        raise DecodeError(f"HTTP {reply.status}: JSON without a list of results")
    positions.expect(shared.get("total", len(utterances)))
    positions.close()
    if held:
        yield [(index, _outcome_of(element, shared, utterances, index, reply.status)) for index, element in held]


def _outcome_of(
    element: Any, shared: dict[str, Any], utterances: Sequence[Utterance], index: int, status: int
) -> Speech | CosyError:
    """Return what one element of a JSON reply stands for: an object, audio alone, or null for a text that failed."""
    if isinstance(element, dict):
        return _outcome(element, element.pop("audio_data", None), shared, utterances, index, status)
    return _outcome({} if element is None else _SPOKEN, element, shared, utterances, index, status)


def _outcome(
    fields: dict[str, Any],
    audio: Any,
    shared: dict[str, Any],
    utterances: Sequence[Utterance],
    index: int,
    status: int,
) -> Speech | CosyError:
    """Return the speech, or the error, that one item stands for; *audio* is bytes, or base64 in JSON."""
    if fields.get("status") != "success":
        return item_error(fields.get("error"), utterances, status=status)
    try:
        if not isinstance(audio, bytes):
            audio = _unbase64(audio)
        return speech_of(utterances[index], audio, {**shared, **fields})
    except CosyError as error:
        return error


def _unbase64(coded: Any) -> bytes:
    if not isinstance(coded, str):
        raise DecodeError("audio: a successful item without audio", retryable=True)
    try:
        return unbase64(coded)
    except ValueError:
        raise DecodeError(f"audio: {len(coded)} characters that are not base64", retryable=True) from None


def _kind_of(first: bytes) -> str:
    start = first[:64].lstrip().lower()
    for magic, kind in ((b"<", "HTML or XML"), (b"{", "JSON"), (b"[", "JSON"), (b"riff", "WAV"), (b"\x1f\x8b", "gzip")):
        if start.startswith(magic):
            return kind
    if not first:
        return "empty"
    return "text" if start.decode("latin-1").isprintable() else "binary"
