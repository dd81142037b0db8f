"""The forms of a batch's reply."""

from __future__ import annotations

from tests.protocols import wire
from tests.protocols.protocol_case import ProtocolCase

# A reply with no media type, or a vague one, is read by its first byte.
_UNSAID = ("", "text/plain", "text/html", "application/octet-stream")
CASES = [
    ProtocolCase(protocol="batch", form="frames", media_type=wire.FRAMES_TYPE, whole=wire.frames_body, keeps=True),
    ProtocolCase(
        protocol="batch",
        form="json",
        also=_UNSAID,
        media_type="application/json; charset=utf-8",
        whole=lambda count: wire.json_body([wire.result(index) for index in range(count)]),
        keeps=True,
    ),
    ProtocolCase(
        protocol="batch",
        form="array",
        also=_UNSAID,
        media_type="application/json",
        whole=lambda count: (
            b"[" + b",".join(b'"%b"' % wire.result(index)["audio_data"].encode() for index in range(count)) + b"]"
        ),
        keeps=False,
    ),
]
