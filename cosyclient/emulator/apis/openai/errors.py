"""Refuse as each OpenAI-compatible server does; a refusal by what stands before the server keeps its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cosyclient.emulator.apis.forms import Invalid
from cosyclient.emulator.apis.http import JSON, HttpApi, encoded
from cosyclient.emulator.apis.openai.request import BadRequest
from cosyclient.emulator.apis.openai.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.emulator.core.problems import Problem
    from cosyclient.emulator.core.service import Service
    from cosyclient.emulator.server.exchange import Exchange

Refusal = tuple[int, Any]
"""The status and the document of a refusal."""

_VLLM_TYPES = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError", 503: "ServiceUnavailableError"}
_SILICONFLOW_CODES = {400: 20012, 404: 20012, 429: 50603, 500: 50500, 503: 50505, 504: 50505}
_BEFORE_THE_SERVER = frozenset({"unauthorized", "rate_limited", "too_many_connections"})


class OpenAIHttpApi(HttpApi):
    """Answer as the server that the settings choose."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.server = SERVERS[service.settings.dialect]

    async def refuse(self, exchange: Exchange, problem: Problem) -> None:
        """Refuse the request as this server does."""
        envelope = self.server.envelope
        status, document = _REFUSALS[envelope](problem)
        headers = problem.headers()
        if envelope == "xinference" and isinstance(document, str):
            await exchange.reply(status, "text/plain; charset=utf-8", document.encode(), headers)
            return
        if envelope == "xinference":
            # It sends Retry-After for a loading model, not for a rate limit.
            headers = [each for each in headers if each[0] != b"retry-after" or problem.status != 429]
        if envelope == "vllm" and problem.code == "internal" and self.service.settings.dialect_old:
            # Before 0.30 it answered its own failures with 400.
            status, document = _vllm(BadRequest("", f"Speech generation failed: {problem.detail}"))
        await exchange.reply(status, JSON, encoded(document), headers)


def _status(problem: Problem) -> int:
    """Return the status for servers without 422."""
    return 400 if problem.status in (415, 422) else problem.status


def _openai(problem: Problem) -> Refusal:
    status = _status(problem)
    code = {
        "unauthorized": "invalid_api_key",
        "unknown_model": "model_not_found",
        "rate_limited": "rate_limit_exceeded",
    }
    return status, {
        "error": {
            "message": problem.detail,
            "type": "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error",
            "param": getattr(problem, "param", None),
            "code": code.get(problem.code),
        }
    }


def _vllm(problem: Problem) -> Refusal:
    status = _status(problem)
    if status == 401:
        return status, {"error": "Unauthorized"}
    kind = _VLLM_TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    # The model is the only field it names.
    param = "model" if problem.code == "unknown_model" else None
    return status, {"error": {"message": problem.detail, "type": kind, "param": param, "code": status}}


def _sglang(problem: Problem) -> Refusal:
    status = _status(problem)
    kind = "BadRequestError"
    code: int | str | None = status
    if status >= 500:
        kind, code = "server_error", None
    param = getattr(problem, "param", None)
    return status, {"error": {"message": problem.detail, "type": kind, "param": param, "code": code}}


def _fastapi(problem: Problem) -> Refusal:
    return problem.status, {"detail": problem.faults if isinstance(problem, Invalid) else problem.detail}


def _xinference(problem: Problem) -> Refusal:
    """Return 500 for a broken rule: Xinference reads the request inside its handler."""
    if isinstance(problem, Invalid):
        faults = "\n".join(f"{each['loc'][-1]}\n  field required" for each in problem.faults)
        return 500, f"Internal Server Error: {len(problem.faults)} validation error for SpeechRequest\n{faults}"
    return 500 if isinstance(problem, BadRequest) else problem.status, {"detail": problem.detail}


def _vox_box(problem: Problem) -> Refusal:
    """Return 200: the handler returns the exception instead of raising it."""
    if isinstance(problem, Invalid) or problem.code in _BEFORE_THE_SERVER:
        return _fastapi(problem)
    return 200, {"status_code": _status(problem), "detail": problem.detail, "headers": None}


def _siliconflow(problem: Problem) -> Refusal:
    status = _status(problem)
    if status == 401:
        return status, "Invalid token"
    return status, {"code": _SILICONFLOW_CODES.get(status, 20012), "message": problem.detail, "data": None}


_REFUSALS: Mapping[str, Callable[[Problem], Refusal]] = {
    "openai": _openai,
    "vllm": _vllm,
    "sglang": _sglang,
    "fastapi": _fastapi,
    "vox-box": _vox_box,
    "xinference": _xinference,
    "siliconflow": _siliconflow,
}


def item_error(envelope: str, problem: Problem) -> Any:
    """Return the error of a failed batch item: a message, or SGLang's object."""
    return _sglang(problem)[1]["error"] if envelope == "sglang" else problem.detail
