"""Triton over HTTP: the KServe v2 protocol with binary tensors or plain JSON, for builds that do not stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from cosyclient.emulator import sabotage
from cosyclient.emulator.faces.base import speak
from cosyclient.emulator.faces.http import HttpFace, encoded, read_object
from cosyclient.emulator.faces.triton import DECOUPLED_OVER_HTTP, MODELS, Input, TritonModels
from cosyclient.emulator.problems import Problem

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from cosyclient.emulator.exchange import Exchange, Scope
    from cosyclient.emulator.service import Service

_MOST_BYTES = 64 << 20
_LENGTH = "inference-header-content-length"
_BINARY, _JSON = "application/octet-stream", "application/json"


class TritonHttpFace(HttpFace):
    """Serve inference and health."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.models = TritonModels(service)

    def routes(self) -> list[BaseRoute]:
        """Return the paths it answers."""
        return [
            Route("/v2/models/{model}/infer", self, methods=["POST"]),
            Route("/v2/models/{model}/ready", self, methods=["GET"]),
            Route("/v2/health/{state}", self, methods=["GET"]),
            Route("/v2", self, methods=["GET"]),
        ]

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer one request."""
        path = scope["path"]
        model = scope.get("path_params", {}).get("model", "")
        if path.endswith("/infer"):
            await self._infer(exchange, model)
        elif path.endswith("/ready") and model:
            await exchange.reply(200 if model in MODELS else 400, _JSON, b"")
        elif model or path.startswith("/v2/health/"):
            await exchange.reply(200, _JSON, b"")
        else:
            await exchange.reply(
                200, _JSON, encoded({"name": "triton", "version": "2.59.0", "extensions": ["binary_tensor_data"]})
            )

    async def _infer(self, exchange: Exchange, model: str) -> None:
        body = await exchange.body(_MOST_BYTES)
        if self.models.is_decoupled(model):
            raise Problem("internal", DECOUPLED_OVER_HTTP, status=501)
        document, inputs = _read(body, exchange.header(_LENGTH))
        wish = self.models.wish(model, inputs, face="triton", stream=False)
        answered, fault = await self.faulty(exchange)
        if answered:
            return
        audio = await speak(self.service, wish)
        samples = audio.data[: self.models.cap(len(audio.data))]
        if fault is not None and fault.name == "truncated_audio":
            samples = samples[: len(samples) // 40 * 2]
        values = self.models.floats(samples)
        if fault is not None and fault.name == "not_audio":
            values = sabotage.PAGE
        binary = _wants_binary(document)
        output: dict[str, Any] = {"name": "waveform", "datatype": "FP32", "shape": [1, len(samples) // 2]}
        if binary:
            output["parameters"] = {"binary_data_size": len(values)}
        else:
            output["data"] = memoryview(values).cast("f").tolist()
        reply = {"model_name": model, "model_version": "1", "outputs": [output]}
        if "id" in document:
            reply["id"] = document["id"]
        lead = encoded(reply)
        if not binary:
            await self.send_whole(exchange, fault, _JSON, lead)
            return
        exchange.headers.append((_LENGTH.encode(), b"%d" % len(lead)))
        await self.send_whole(exchange, fault, _BINARY, lead + values)

    async def refuse(self, exchange: Exchange, problem: Problem) -> None:
        """Refuse in Triton's way, which has five statuses."""
        status = problem.status
        # Invalid arguments are all alike to Triton; what a gateway before it says keeps its own.
        status = 400 if status in (405, 406, 415, 422) else status
        await exchange.reply(status, _JSON, encoded({"error": problem.detail}), problem.headers())


def _read(body: bytes, announced: str) -> tuple[dict[str, Any], list[Input]]:
    size = len(body)
    if announced:
        if not announced.isdigit() or int(announced) > size:
            raise Problem("validation_failed", "Unable to parse Inference-Header-Content-Length")
        size = int(announced)
    try:
        document = read_object(body[:size])
    except Problem as problem:
        raise Problem("validation_failed", f"failed to parse the request JSON buffer: {problem.detail}") from None
    inputs, place = [], size
    for each in document.get("inputs") or []:
        length = (each.get("parameters") or {}).get("binary_data_size")
        raw = None
        if length is not None:
            raw = body[place : place + length]
            place += length
        shape = tuple(each.get("shape") or ())
        inputs.append(Input(each.get("name", ""), each.get("datatype", ""), shape, raw, each.get("data")))
    if place != len(body):
        raise Problem("validation_failed", "unexpected additional input data")
    return document, inputs


def _wants_binary(document: dict[str, Any]) -> bool:
    for output in document.get("outputs") or []:
        if "binary_data" in (output.get("parameters") or {}):
            return bool(output["parameters"]["binary_data"])
    return bool((document.get("parameters") or {}).get("binary_data_output"))
