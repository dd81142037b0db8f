"""Refuse in the words of each OpenAI-compatible server; what turns requests away in front of it keeps its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cosyclient.emulator.faces.forms import Invalid
from cosyclient.emulator.faces.http import JSON, HttpFace, encoded
from cosyclient.emulator.faces.openai_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.emulator.exchange import Exchange
    from cosyclient.emulator.problems import Problem
    from cosyclient.emulator.service import Service

Words = tuple[int, Any]
"""The status and the document of a refusal."""

_VLLM_TYPES = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError", 503: "ServiceUnavailableError"}
_SILICONFLOW_CODES = {400: 20012, 404: 20012, 429: 50603, 500: 50500, 503: 50505, 504: 50505}
_AT_THE_DOOR = frozenset({"unauthorized", "rate_limited", "too_many_connections"})


class OpenAIHttpFace(HttpFace):
    """Answer as the server that the settings choose."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.server = SERVERS[service.settings.dialect]

    async def refuse(self, exchange: Exchange, problem: Problem) -> None:
        """Refuse the request in this server's words."""
        status, document = _WORDS[self.server.envelope](problem)
        headers = problem.headers()
        if self.server.envelope == "fastapi":
            # Xinference limits requests, and says of a loading model alone when to come back.
            headers = [each for each in headers if each[0] != b"retry-after" or problem.status != 429]
        await exchange.reply(status, JSON, encoded(document), headers)


def _status(problem: Problem) -> int:
    """Return the status of servers that know no 422."""
    return 400 if problem.status in (415, 422) else problem.status


def _openai(problem: Problem) -> Words:
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


def _vllm(problem: Problem) -> Words:
    status = _status(problem)
    if status == 401:
        return status, {"error": "Unauthorized"}
    kind = _VLLM_TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    param = getattr(problem, "param", None)
    return status, {"error": {"message": problem.detail, "type": kind, "param": param, "code": status}}


def _sglang(problem: Problem) -> Words:
    status = _status(problem)
    kind = "BadRequestError"
    said: int | str | None = status
    if status >= 500:
        kind, said = "server_error", None
    if problem.code == "unknown_model":
        kind, said = "invalid_request_error", "model_not_found"
    param = getattr(problem, "param", None)
    return status, {"error": {"message": problem.detail, "type": kind, "param": param, "code": said}}


def _fastapi(problem: Problem) -> Words:
    return problem.status, {"detail": problem.faults if isinstance(problem, Invalid) else problem.detail}


def _vox_box(problem: Problem) -> Words:
    """Say it with 200: the handler returns the exception instead of raising it."""
    if isinstance(problem, Invalid) or problem.code in _AT_THE_DOOR:
        return _fastapi(problem)
    return 200, {"status_code": _status(problem), "detail": problem.detail, "headers": None}


def _siliconflow(problem: Problem) -> Words:
    status = _status(problem)
    if status == 401:
        return status, "Invalid token"
    return status, {"code": _SILICONFLOW_CODES.get(status, 20012), "message": problem.detail, "data": None}


_WORDS: Mapping[str, Callable[[Problem], Words]] = {
    "openai": _openai,
    "vllm": _vllm,
    "sglang": _sglang,
    "fastapi": _fastapi,
    "vox-box": _vox_box,
    "siliconflow": _siliconflow,
}


def told(envelope: str, problem: Problem) -> Any:
    """Return what a failed item of a batch says: a sentence, or SGLang's object."""
    return _sglang(problem)[1]["error"] if envelope == "sglang" else problem.detail
