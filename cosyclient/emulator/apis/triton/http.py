"""Triton over HTTP: the KServe v2 protocol with binary tensors or plain JSON, for builds that do not stream."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from cosyclient.emulator.apis.base import render
from cosyclient.emulator.apis.http import HttpApi, encoded, read_object
from cosyclient.emulator.apis.triton.models import DECOUPLED_OVER_HTTP, MODELS, TYPES, Input, TritonModels
from cosyclient.emulator.core.problems import Problem
from cosyclient.emulator.faults import injection

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.server.exchange import Exchange, Scope

_MOST_BYTES = 64 << 20
_LENGTH = "inference-header-content-length"
_EXTENSIONS = ["model_repository", "model_configuration", "statistics", "binary_tensor_data"]
_BINARY, _JSON = "application/octet-stream", "application/json"


class TritonHttpApi(HttpApi):
    """Serve inference and health."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.models = TritonModels(service)

    def routes(self) -> list[BaseRoute]:
        """Return the routes it answers."""
        return [
            *(
                Route(f"/v2/models/{{model}}{version}/{what}", self, methods=[method])
                for version in ("", "/versions/{version}")
                for what, method in (("infer", "POST"), ("ready", "GET"), ("config", "GET"), ("stats", "GET"))
            ),
            Route("/v2/models/{model}", self, methods=["GET"]),
            Route("/v2/models/{model}/versions/{version}", self, methods=["GET"]),
            Route("/v2/repository/index", self, methods=["POST"]),
            Route("/v2/health/{state}", self, methods=["GET"]),
            Route("/v2", self, methods=["GET"]),
        ]

    async def serve(self, exchange: Exchange, scope: Scope) -> None:
        """Answer one request."""
        path, given = scope["path"], scope.get("path_params", {})
        model, last = given.get("model", ""), path.rpartition("/")[2]
        known = model in MODELS and given.get("version", "1") == "1"
        if last == "ready" and model:
            await exchange.reply(200 if known else 400, _JSON, b"")
        elif path.startswith("/v2/health/"):
            await exchange.reply(200, _JSON, b"")
        elif model and not known:
            self.models.check(model)
            raise Problem("validation_failed", f"Request for unknown model: '{model}' version {given['version']}")
        elif last == "infer":
            await self._infer(exchange, model)
        elif last == "index":
            index = [{"name": name, "version": "1", "state": "READY"} for name in MODELS]
            await exchange.reply(200, _JSON, encoded(index))
        elif model:
            await exchange.reply(200, _JSON, encoded(self._describe(model, last)))
        else:
            await exchange.reply(
                200, _JSON, encoded({"name": "triton", "version": "2.59.0", "extensions": _EXTENSIONS})
            )

    def _describe(self, model: str, what: str) -> dict[str, Any]:
        """Return the configuration, the statistics or the tensors of a *model*."""
        if what == "config":
            decoupled = self.models.is_decoupled(model)
            return {"name": model, "backend": "python", "model_transaction_policy": {"decoupled": decoupled}}
        if what == "stats":
            count = self.service.counters.texts
            stats = {"name": model, "version": "1", "inference_count": count, "execution_count": count}
            return {"model_stats": [stats]}
        inputs = [{"name": name, "datatype": kind, "shape": [-1, -1]} for name, kind in TYPES.items()]
        outputs = [{"name": "waveform", "datatype": "FP32", "shape": [-1, -1]}]
        return {"name": model, "versions": ["1"], "platform": "python", "inputs": inputs, "outputs": outputs}

    async def _infer(self, exchange: Exchange, model: str) -> None:
        body = _inflated(await exchange.body(_MOST_BYTES), exchange.header("content-encoding"))
        if self.models.is_decoupled(model):
            raise Problem("internal", DECOUPLED_OVER_HTTP, status=501)
        document, inputs = _read(body, exchange.header(_LENGTH))
        request = self.models.read_request(model, inputs, api="triton", stream=False)
        answered, fault = await self.apply_early_fault(exchange)
        if answered:
            return
        audio = await render(self.service, request)
        samples = audio.data[: self.models.cap(len(audio.data))]
        if fault is not None and fault.name == "truncated_audio":
            samples = samples[: len(samples) // 40 * 2]
        values = self.models.floats(samples)
        if fault is not None and fault.name == "not_audio":
            values = injection.PAGE
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
        """Refuse as Triton does, which has five statuses."""
        status = problem.status
        # Triton has one status for invalid arguments; a refusal by a gateway keeps its own.
        status = 400 if status in (405, 406, 415, 422) else status
        await exchange.reply(status, _JSON, encoded({"error": problem.detail}), problem.headers())


def _inflated(body: bytes, coding: str) -> bytes:
    """Return *body* without its gzip or deflate, which Triton takes as well."""
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "deflate"):
        raise Problem("unsupported_media_type", f"Unsupported Content-Encoding: {coding}")
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        plain = inflater.decompress(body, _MOST_BYTES)
    except zlib.error:
        raise Problem("validation_failed", "Unable to decompress the request body") from None
    if inflater.unconsumed_tail:
        raise Problem("body_too_large", f"the request body has more than {_MOST_BYTES} bytes")
    return plain


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
