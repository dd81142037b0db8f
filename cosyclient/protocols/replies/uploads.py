"""Upload a recorded voice to a service that keeps it under a name: one multipart form, one JSON object in return.

Reads at most 64 KiB of the answer. Used by PAI-EAS and the OpenAI dialects whose servers keep voices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosyclient.errors import BadUtterance, DecodeError
from cosyclient.protocols.codecs.forms import encode_form
from cosyclient.protocols.codecs.json_body import decode_json, is_voice_name, read_prefix
from cosyclient.protocols.replies.errors import error_from_reply
from cosyclient.util.redaction import quotes_any
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cosyclient.protocols.base import VoiceUpload
    from cosyclient.wire import WireReply

_MAX_ANSWER_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadForm:
    """How one service takes a recording, as data: path, names of the form's fields, member of the answer.

    ``fields`` maps ``name``, ``transcript``, ``consent`` and ``model`` to the service's names; ``required`` are those
    that must be given. ``name_member`` is the member of the answer with the voice's name; where it is empty, the voice
    has the name that was chosen.
    """

    path: str
    file_field: str
    fields: Mapping[str, str]
    required: tuple[str, ...] = ()
    name_member: str = ""

    def encode(self, protocol: str, upload: VoiceUpload, *, model: str | None = None) -> WireRequest:
        """Return the request that sends *upload*; *protocol* is named in errors. Raises `BadUtterance`."""
        values = {
            "name": upload.name,
            "transcript": upload.voice.transcript,
            "consent": upload.consent,
            "model": model,
        }
        for field in self.required:
            if not values[field]:
                raise BadUtterance(f"{field}: protocol {protocol} keeps no voice without one")
        prompt = upload.voice.prompt
        if prompt is None:
            raise BadUtterance("voice: has a name already; upload one made with Voice.clone or Voice.cross_lingual")
        fields = {theirs: value for ours, theirs in self.fields.items() if (value := values[ours])}
        kind, body = encode_form(fields, (self.file_field, prompt))
        headers = (("Content-Type", kind), ("Accept", "application/json"))
        return WireRequest(method="POST", path=self.path, headers=headers, body=body)

    def decode(self, reply: WireReply, upload: VoiceUpload, *, wall: float) -> str:
        """Return the name by which the service knows the voice from now on; raises like `WireProtocol.decode`."""
        if reply.status >= 300:
            error = error_from_reply(reply, (), wall=wall)
            if quotes_any(str(error), [upload.voice.transcript or "", upload.consent or ""]):
                error.args = (f"HTTP {reply.status}: detail withheld, it quotes the transcript",)
            raise error
        answer = decode_json(read_prefix(reply, _MAX_ANSWER_BYTES))
        if not isinstance(answer, dict):
            raise DecodeError(f"HTTP {reply.status}: no answer to an upload")
        if answer.get("success") is False or answer.get("error"):
            raise DecodeError("upload: the service says that it failed")
        if not self.name_member:
            return upload.name
        name = answer.get(self.name_member)
        if not is_voice_name(name):
            raise DecodeError(f"upload: the answer has no {self.name_member}")
        return name
