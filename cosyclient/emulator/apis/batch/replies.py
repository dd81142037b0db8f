"""Encode finished items as the reply that the client accepts: JSON or frames."""

from __future__ import annotations

import itertools
import json
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cosyclient.emulator.speech.items import Audio, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Reply:
    """Hold a finished batch: one item per text, in order, with the index it is sent under."""

    id: str
    model: str
    format: str
    sample_rate: int
    items: Sequence[Audio | Failure]
    characters: Sequence[int]
    indices: Sequence[int]

    def audios(self) -> set[Audio]:
        """Return the distinct pieces of audio."""
        return {item for item in self.items if isinstance(item, Audio)}

    def failed(self) -> int:
        """Count the items without audio."""
        return sum(isinstance(item, Failure) for item in self.items)

    def altered(self, **changes: Any) -> Reply:
        """Return a copy that differs in some members."""
        return replace(self, **changes)


def frames(reply: Reply) -> Iterator[bytes]:
    """Yield the reply as frames: head, one piece or two per item, end."""
    yield frames_head(reply)
    for index, item in zip(reply.indices, reply.items, strict=True):
        yield from frame_of(index, item)
    yield frames_end(reply)


def frames_head(reply: Reply) -> bytes:
    """Return the first frame."""
    members = {
        "kind": "batch",
        "id": reply.id,
        "model": reply.model,
        "format": reply.format,
        "sample_rate": reply.sample_rate,
        "total": len(reply.items),
    }
    return _frame(members)


def frame_of(index: int, item: Audio | Failure) -> tuple[bytes, ...]:
    """Return the frame of one item, in pieces that need no copying."""
    if isinstance(item, Audio):
        return _item_head(index, item), item.data
    return (_frame({"kind": "item", "index": index, "status": "error", "error": item.document()}),)


def frames_end(reply: Reply) -> bytes:
    """Return the last frame."""
    failed = reply.failed()
    return _frame({"kind": "end", "succeeded": len(reply.items) - failed, "failed": failed})


def _item_head(index: int, audio: Audio) -> bytes:
    head = audio.frame_heads.get(index)
    if head is None:
        members = {
            "kind": "item",
            "index": index,
            "status": "success",
            "media_type": audio.media_type,
            "duration_ms": audio.duration_ms,
        }
        head = audio.frame_heads[index] = _frame(members, len(audio.data))
    return head


def _frame(members: dict[str, Any], payload_length: int = 0) -> bytes:
    header = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    return struct.pack(">II", len(header), payload_length) + header


def json_pieces(reply: Reply, shape: str) -> list[bytes]:
    """Return the reply as JSON, in pieces: ``object``, bare ``array`` of base64, or bare array of item ``objects``."""
    if shape == "array":
        return _array([[b'"', each.base64(), b'"'] if isinstance(each, Audio) else [b"null"] for each in reply.items])
    # Written by hand: megabytes of base64 need neither escaping nor a second copy as text.
    results = _array(list(map(_object, reply.indices, reply.items, reply.characters)))
    if shape == "objects":
        return results
    failed = reply.failed()
    members = {
        "id": reply.id,
        "model": reply.model,
        "format": reply.format,
        "sample_rate": reply.sample_rate,
        "total": len(reply.items),
        "succeeded": len(reply.items) - failed,
        "failed": failed,
    }
    head = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    return [head[:-1], b',"results":', *results, b"}"]


def _array(elements: list[list[bytes]]) -> list[bytes]:
    for element in elements[1:]:
        element.insert(0, b",")
    return [b"[", *itertools.chain.from_iterable(elements), b"]"]


def _object(index: int, item: Audio | Failure, characters: int) -> list[bytes]:
    if isinstance(item, Audio):
        return [
            b'{"index":%d,"status":"success","audio_data":"' % index,
            item.base64(),
            f'","media_type":"{item.media_type}","duration_ms":{item.duration_ms},"characters":{characters}}}'.encode(),
        ]
    error = json.dumps(item.document(), ensure_ascii=False).encode()
    return [b'{"index":%d,"status":"error","error":%b}' % (index, error)]
