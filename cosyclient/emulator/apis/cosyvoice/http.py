"""The official FastAPI runtime: a form in, samples out by the segment, and a broken connection for every fault."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

from starlette.routing import Route

from cosyclient.emulator.apis.base import SpeechRequest, segments, stream
from cosyclient.emulator.apis.cosyvoice.rules import END_OF_PROMPT, error_in, hop_of, rate_of
from cosyclient.emulator.apis.forms import MOST_BYTES, read_form, require_fields
from cosyclient.emulator.apis.http import HttpApi, NotAllowed, apply_to_samples, openapi_route
from cosyclient.emulator.core.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
        """Return the paths it answers."""
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
        await self.send_pieces(exchange, fault, "", apply_to_samples(self._generate(request, seconds), fault))

    def _read(self, mode: str, form: Form) -> SpeechRequest:
        said = form.fields
        lead, mark, text = said["tts_text"].rpartition(END_OF_PROMPT)
        return SpeechRequest(
            api="runtime",
            mode=mode,
            text=text,
            voice=said.get("spk_id", ""),
            prompt=form.files.get(_FILE),
            prompt_text=said.get("prompt_text", ""),
            instruct=said.get("instruct_text", lead + mark),
            sample_rate=rate_of(self.service.settings),
        )

    async def _generate(self, request: SpeechRequest, prompt_seconds: float) -> AsyncIterator[bytes]:
        """Yield a piece per segment; what goes wrong does so after the headers have left."""
        if wrong := error_in(self.service.settings, request, prompt_seconds):
            self.service.received.append(request.document())
            raise Problem("internal", wrong)
        marked = "<|" in request.text and "|>" in request.text
        pieces = [request.text] if marked else segments(request.text)
        if pieces:
            async for piece in stream(self.service, request, pieces, hop=hop_of(request.sample_rate)):
                yield piece
        else:
            self.service.received.append(request.document())


def _prompt_seconds(data: bytes) -> float:
    with wave.open(io.BytesIO(data)) as recording:
        rate = recording.getframerate()
        if rate < _LOWEST_RATE:
            raise ValueError("wav sample rate must be greater than 16000")
        return float(recording.getnframes() / rate)
