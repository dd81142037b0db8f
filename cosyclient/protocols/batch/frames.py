"""An incremental decoder of ``application/vnd.cosyvoice.batch-frames``, which turns bytes into frames.

One frame is ``u32be header length | u32be payload length | header (a JSON object in UTF-8) | payload``. The first is of
kind ``batch``, each ``item`` carries one text's audio or error, ``end`` is the last and counts them. A kind this code
does not know is skipped, so that a later version may add some.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cosyclient.errors import DecodeError
from cosyclient.protocols.codecs.strict import parse_json
from cosyclient.util.numbers import int_in_range

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA_TYPE: Final = "application/vnd.cosyvoice.batch-frames"

_PREFIX: Final = struct.Struct(">II")
_decode: Final = json.JSONDecoder().raw_decode
_KINDS: Final = ("batch", "item", "end")
# Smaller pieces are appended to one buffer: a body arriving byte by byte must not become a list of millions.
_SMALL_BYTES: Final = 4096


class Frame(NamedTuple):
    """Hold one frame: its header and its payload."""

    header: dict[str, Any]
    payload: bytes

    @property
    def kind(self) -> str:
        """Return ``batch``, ``item`` or ``end``."""
        kind: str = self.header["kind"]
        return kind

    def __repr__(self) -> str:
        return f"<Frame {self.kind}, {len(self.payload)} bytes>"


class FrameDecoder:
    """Turn the bytes of one reply into frames, however they are split; each payload is copied once.

    Lengths are checked before anything is buffered for them. Not thread-safe.
    """

    def __init__(self, *, max_header_bytes: int = 65536, max_payload_bytes: int = 64 << 20) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_payload_bytes = max_payload_bytes
        self._pieces: list[memoryview | bytearray] = []
        self._held_bytes = 0
        self._wanted_bytes = _PREFIX.size
        self._header_bytes: int | None = None
        self._payload_bytes = 0
        self._header: dict[str, Any] | None = None
        self._begun = False
        self._ended = False
        self._succeeded = 0
        self._failed = 0

    @property
    def ended(self) -> bool:
        """Return whether the ``end`` frame was seen."""
        return self._ended

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that *data* completes; exhaust it before feeding more.

        Raises `DecodeError` for bytes that are no such frames. What was yielded before stands.
        """
        view, end = memoryview(data), len(data)
        position = 0
        while position < end or not self._wanted_bytes:
            # A service that sends more disagrees about where this reply ends, and the bytes may belong to another: an
            # error loses no speech and keeps the connection out of the pool.
            if self._ended:
                raise DecodeError("frames: bytes after the end frame")
            begin, position = position, position + self._wanted_bytes - self._held_bytes
            if position <= end and not self._held_bytes:
                part = data[begin:position]
            else:
                self._hold(view[begin:position])
                if position > end:
                    return
                part = self._release()
            frame = self._advance(part)
            if frame is not None:
                yield frame

    def close(self) -> None:
        """Check the end of the body; raises `DecodeError` (retryable) if the ``end`` frame has not been seen."""
        if not self._ended:
            raise DecodeError(f"frames: the reply ends {self._place()}, before its end frame", retryable=True)

    def _hold(self, piece: memoryview) -> None:
        self._held_bytes += len(piece)
        if self._header is not None and self._header["kind"] not in _KINDS:
            return
        if len(piece) >= _SMALL_BYTES:
            self._pieces.append(piece)
        elif piece:
            if not self._pieces or not isinstance(self._pieces[-1], bytearray):
                self._pieces.append(bytearray())
            self._pieces[-1] += piece  # type: ignore[operator]

    def _release(self) -> bytes:
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self._held_bytes = 0
        return whole

    def _advance(self, part: bytes) -> Frame | None:
        """Process the complete *part*, a prefix, header or payload; return the frame that it completes."""
        if self._header_bytes is None:
            self._measure(part)
            return None
        header = self._header
        if header is None:
            self._header = self._read_header(part)
            self._wanted_bytes = self._payload_bytes
            return None
        self._header, self._header_bytes, self._wanted_bytes = None, None, _PREFIX.size
        kind = header["kind"]
        if kind == "item":
            if header.get("status") == "success":
                self._succeeded += 1
            else:
                self._failed += 1
        elif kind == "end":
            self._count(header)
        elif kind != "batch":
            return None
        return Frame(header, part)

    def _measure(self, prefix: bytes) -> None:
        header_bytes, payload_bytes = _PREFIX.unpack(prefix)
        if not 0 < header_bytes <= self._max_header_bytes:
            raise DecodeError(
                f"frames: a header of {header_bytes} bytes, 1 to {self._max_header_bytes} are accepted", retryable=True
            )
        if payload_bytes > self._max_payload_bytes:
            raise DecodeError(
                f"frames: a payload of {payload_bytes} bytes, at most {self._max_payload_bytes} are accepted"
            )
        self._header_bytes = self._wanted_bytes = header_bytes
        self._payload_bytes = payload_bytes

    def _read_header(self, raw: bytes) -> dict[str, Any]:
        try:
            text = raw.decode()
            header: Any = None
            end = -1
            # Half the cost of json.loads is whitespace around the value, which headers seldom have.
            if text.startswith("{"):
                header, end = _decode(text)
            if end != len(text):
                header = parse_json(text)
        except (ValueError, RecursionError):
            raise DecodeError(f"frames: a header of {len(raw)} bytes is not JSON", retryable=True) from None
        if not isinstance(header, dict) or not isinstance(kind := header.get("kind"), str):
            raise DecodeError("frames: a header is not an object with a kind")
        if (kind == "batch") == self._begun:
            raise DecodeError("frames: a second batch frame" if self._begun else "frames: the first is no batch frame")
        if kind in ("batch", "end") and self._payload_bytes:
            raise DecodeError(f"frames: the {kind} frame carries {self._payload_bytes} bytes, none are expected")
        self._begun = True
        return header

    def _count(self, header: dict[str, Any]) -> None:
        self._ended = True
        announced = tuple(int_in_range(header.get(name), 0, 1 << 31) for name in ("succeeded", "failed"))
        if announced != (self._succeeded, self._failed):
            raise DecodeError(
                f"frames: {self._succeeded} succeeded and {self._failed} failed items came, "
                f"the end frame announces {_shown(announced[0])} and {_shown(announced[1])}"
            )

    def _place(self) -> str:
        if self._header_bytes is None:
            return "between two frames" if not self._held_bytes else "inside a prefix"
        part = "header" if self._header is None else "payload"
        return f"inside a {part}, {self._held_bytes} of {self._wanted_bytes} bytes there"

    def __repr__(self) -> str:
        items = self._succeeded + self._failed
        return f"<FrameDecoder {items} items, {'ended' if self._ended else self._place()}>"


def _shown(value: int | None) -> str:
    return "something else" if value is None else str(value)
