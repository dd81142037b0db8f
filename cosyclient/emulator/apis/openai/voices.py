"""List, store and delete voices as OpenAI-compatible servers do, and list their models."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from cosyclient.emulator.apis.forms import MOST_BYTES, read_form, require_fields
from cosyclient.emulator.apis.http import JSON, encoded, read_object
from cosyclient.emulator.apis.openai.errors import OpenAIHttpApi
from cosyclient.emulator.apis.openai.request import BadRequest
from cosyclient.emulator.apis.vllm_omni.rules import NO_VOICE
from cosyclient.emulator.speech.voices import MODELS, VOICES

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.server.exchange import Exchange, Scope

_MOST_SAMPLE_BYTES = 10 << 20
_MOST_UPLOADS = 1000
_ACCOUNT = "emulated"


@dataclass(frozen=True)
class Upload:
    """An uploaded voice."""

    name: str
    sample: bytes
    text: str
    model: str
    consent: str
    created: int


class OpenAIVoicesApi(OpenAIHttpApi):
    """Keep the uploaded voices of one server, until a reset."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.uploads: dict[str, Upload] = service.uploads

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        paths = {
            "models": ["/v1/models"],
            "vllm-version": ["/version"],
            "xinference-version": ["/v1/cluster/version"],
            "voices": ["/v1/audio/voices", "/v1/audio/voices/{name}"],
            "vox-voices": ["/v1/voices"],
            "siliconflow-voices": [
                "/v1/uploads/audio/voice",
                "/v1/audio/voice/list",
                "/v1/audio/voice/deletions",
            ],
        }
        return [Route(path, self) for group, listed in paths.items() if group in self.server.routes for path in listed]

    def reset(self) -> None:
        """Drop the uploaded voices."""
        self.uploads.clear()

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer a request about voices or models."""
        method, path = scope["method"], scope["path"]
        status = 200
        match method, path.removeprefix("/v1/"):
            case "GET", "models":
                document: Any = self._models()
            case "GET", "/version":
                document = {"version": "0.22.0" if self.service.settings.dialect_old else "0.30.0"}
            case "GET", "cluster/version":
                document = {"version": "3.2.1" if self.service.settings.dialect_old else "4.1.0"}
            case "GET", "audio/voices":
                document = self._listed()
            case "GET", "voices":
                document = {"voices": list(self._presets())}
            case "GET", "audio/voice/list":
                document = {"result": [self._row(uri, each) for uri, each in self.uploads.items()]}
            case "POST", "audio/voices":
                document = await self._upload(exchange)
            case "POST", "uploads/audio/voice":
                document = await self._upload_with_name(exchange)
            case "POST", "audio/voice/deletions":
                document = self._delete(str(read_object(await exchange.body(MOST_BYTES)).get("uri", "")))
            case "DELETE", _ if "name" in scope.get("path_params", {}):
                name = scope["path_params"]["name"]
                document = self._delete(name)
                status = 200 if document["success"] else 404
            case _:
                raise BadRequest("", "Method Not Allowed", status=405, code="method_not_allowed")
        await exchange.reply(status, JSON, encoded(document))

    def _presets(self) -> tuple[str, ...]:
        return tuple(VOICES) if self.server.voices is None else self.server.voices

    def _models(self) -> dict[str, Any]:
        names = MODELS if self.server.models is None else self.server.models
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": 0, "owned_by": self.server.owner} for name in names],
        }

    def _listed(self) -> dict[str, Any]:
        uploaded = [
            {
                "name": each.name,
                "consent": each.consent,
                "created_at": each.created,
                "file_size": len(each.sample),
                "mime_type": "audio/wav",
                **({"ref_text": each.text} if each.text else {}),
            }
            for each in self.uploads.values()
        ]
        names = [*self._presets(), *(each.name for each in self.uploads.values())]
        if self.server.envelope == "vllm":
            names = sorted({NO_VOICE, *self.uploads})
        return {"voices": names, "uploaded_voices": uploaded}

    async def _upload(self, exchange: Exchange) -> dict[str, Any]:
        form = read_form(exchange.header("content-type"), await exchange.body(MOST_BYTES))
        require_fields(form, ["consent", "name"], ["audio_sample"])
        sample, name = form.files["audio_sample"], form.fields["name"].strip()
        if len(sample) > _MOST_SAMPLE_BYTES:
            raise BadRequest("audio_sample", f"audio_sample must be at most {_MOST_SAMPLE_BYTES} bytes")
        if not name or any(each in name for each in "/\\\0"):
            raise BadRequest("name", "Invalid voice name: must be non-empty, no path separators")
        if len(self.uploads) >= _MOST_UPLOADS:
            raise BadRequest("name", f"at most {_MOST_UPLOADS} voices are kept")
        self.uploads[name.lower()] = Upload(
            name, sample, form.fields.get("ref_text", ""), "", form.fields["consent"], int(time.time())
        )
        return {"success": True, "voice": self._listed()["uploaded_voices"][-1]}

    async def _upload_with_name(self, exchange: Exchange) -> dict[str, Any]:
        form = read_form(exchange.header("content-type"), await exchange.body(MOST_BYTES))
        require_fields(form, ["customName", "text"], ["file"])
        name = form.fields["customName"]
        uri = f"speech:{name}:{_ACCOUNT}:{uuid.uuid4().hex[:12]}"
        self.uploads[uri.lower()] = Upload(
            uri, form.files["file"], form.fields["text"], form.fields.get("model", ""), "", int(time.time())
        )
        return {"uri": uri}

    def _row(self, uri: str, each: Upload) -> dict[str, Any]:
        return {"model": each.model, "customName": uri.split(":")[1], "text": each.text, "uri": each.name}

    def _delete(self, name: str) -> dict[str, Any]:
        if self.uploads.pop(name.lower(), None) is None:
            return {"success": False, "error": f"Voice '{name}' not found"}
        return {"success": True, "message": f"Voice '{name}' deleted successfully"}
