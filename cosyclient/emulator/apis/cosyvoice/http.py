"""The official FastAPI runtime: a form in, samples out by the segment, and a broken connection for every fault."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

from starlette.routing import Route

from cosyclient.emulator.apis.base import SpeechRequest
from cosyclient.emulator.apis.cosyvoice.models import error_in, generate, sample_rate_of, split_instruction
from cosyclient.emulator.apis.forms import MOST_BYTES, read_form, require_fields
from cosyclient.emulator.apis.http import HttpApi, NotAllowed, apply_to_samples, openapi_route

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from cosyclient.emulator.apis.forms import Form
    from cosyclient.emulator.server.exchange import Exchange, Scope

# Form fields of every mode; a file is named after them.
_MODES = {
    "sft": ("tts_text", "spk_id"),
    "zero_shot": ("tts_text", "prompt_text", "prompt_wav"),
    "cross_lingual": ("tts_text", "prompt_wav"),
    "instruct": ("tts_text", "spk_id", "instruct_text"),
    "instruct2": ("tts_text", "instruct_text", "prompt_wav"),
}
_FILE = "prompt_wav"
_LOWEST_RATE = 16000


class RuntimeHttpApi(HttpApi):
    """Serve ``/inference_sft`` and its four siblings."""

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        return [
            *(Route(f"/inference_{mode}", self) for mode in _MODES),
            openapi_route(f"/inference_{m}" for m in _MODES),
        ]

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer a form, by GET or POST alike."""
        if scope["method"] not in ("GET", "POST"):
            raise NotAllowed
        mode = scope["path"].rpartition("/inference_")[2]
        form = read_form(exchange.header("content-type"), await exchange.body(MOST_BYTES))
        names = _MODES[mode]
        require_fields(form, [name for name in names if name != _FILE], [_FILE] if _FILE in names else [])
        answered, fault = await self.apply_early_fault(exchange)
        if answered:
            return
        seconds = 0.0
        if _FILE in names:
            try:
                seconds = _prompt_seconds(form.files[_FILE])
            except (wave.Error, EOFError, ValueError):
                await exchange.reply(500, "text/plain; charset=utf-8", b"Internal Server Error")
                return
        request = self._read(mode, form)
        error = error_in(self.service.settings, request, seconds)
        await self.send_pieces(exchange, fault, "", apply_to_samples(generate(self.service, request, error), fault))

    def _read(self, mode: str, form: Form) -> SpeechRequest:
        fields = form.fields
        instruction, text = split_instruction(fields["tts_text"])
        return SpeechRequest(
            api="runtime",
            mode=mode,
            text=text,
            voice=fields.get("spk_id", ""),
            prompt=form.files.get(_FILE),
            prompt_text=fields.get("prompt_text", ""),
            instruct=fields.get("instruct_text", instruction),
            sample_rate=sample_rate_of(self.service.settings),
        )


def _prompt_seconds(data: bytes) -> float:
    with wave.open(io.BytesIO(data)) as recording:
        rate = recording.getframerate()
        if rate < _LOWEST_RATE:
            raise ValueError("wav sample rate must be greater than 16000")
        return float(recording.getnframes() / rate)
