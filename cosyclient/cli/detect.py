"""Find out what answers at an address: questions that cost nothing, and what each answer can only mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cosyclient.clock import Deadline
from cosyclient.errors import CosyError, Forbidden, Unauthorized
from cosyclient.protocols.codecs.json_audio import is_voice_name, read_prefix
from cosyclient.protocols.codecs.strict import parse_json
from cosyclient.util.redaction import single_line
from cosyclient.wire import WireRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cosyclient.clock import Clock
    from cosyclient.transports.base import Transport

_MOST_BYTES: Final = 1 << 20
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what came back for one question; ``document`` is its JSON, or ``None``."""

    status: int
    headers: Mapping[str, str]
    document: Any


@dataclass(frozen=True, slots=True)
class Question:
    """Ask one thing of a service, and name the protocol that the answer means, if it means one."""

    path: str
    means: Callable[[Answer], str | None]
    body: bytes | None = None


def _has(answer: Answer, *names: str) -> bool:
    return answer.status == 200 and isinstance(answer.document, dict) and all(n in answer.document for n in names)


def _by_nothing(answer: Answer) -> str | None:
    """Read what an empty batch is answered with: problem details, of the request and not of its path, or no audio."""
    details = answer.headers.get("content-type", "").startswith("application/problem+json")
    found = answer.document
    if isinstance(found, dict):
        found = next((found[name] for name in ("results", "audios", "data") if name in found), None)
    empty = answer.status == 200 and found == []
    return "batch" if empty or (details and answer.status not in (404, 405)) else None


def _takes_posts(answer: Answer) -> bool:
    """Return whether a route was asked for in vain that may be posted to."""
    return answer.status == 405 and "POST" in answer.headers.get("allow", "").upper()


def _by_routes(answer: Answer) -> str | None:
    """Read a FastAPI description: the routes a server has tell what it is."""
    routes = answer.document.get("paths") if _has(answer, "paths") else None
    if not isinstance(routes, dict):
        return None
    for route, protocol in (
        ("/inference_sft", "runtime"),
        ("/inference_zero_shot", "lighttts"),
        ("/api/v1/audio/reference_audio", "pai-eas"),
        ("/v1/audio/speech/batch", "openai:vllm-omni"),
        ("/v1/uploads/audio/voice", "openai:async-cosyvoice"),
        ("/v1/audio/speech", "openai"),
        ("/audio/speech", "openai:triton-bridge"),
        ("/batch", "batch"),
    ):
        if route in routes:
            return protocol
    return None


def _names_fields(answer: Answer) -> bool:
    """Return whether a request was refused as FastAPI does it, field by field."""
    document = answer.document if isinstance(answer.document, dict) else {}
    return answer.status == 422 and isinstance(document.get("detail"), list)


def _lists(answer: Answer) -> bool:
    return answer.status == 200 and (isinstance(answer.document, list) or _has(answer, "data"))


def _by_code(answer: Answer) -> str | None:
    """Read a refusal as Model Studio words it."""
    document = answer.document if isinstance(answer.document, dict) else {}
    named = isinstance(document.get("code"), str) and "request_id" in document
    return "model-studio-http" if answer.status >= 400 and named else None


def _by_owner(answer: Answer) -> str | None:
    """Read who a list of models says they belong to: some servers sign with their own name."""
    owner = str(_first_model(answer).get("owned_by", "")).lower()
    return next((protocol for name, protocol in _OWNERS.items() if name in owner), None)


def _first_model(answer: Answer) -> dict[str, Any]:
    """Return what is said of the first model of a list as OpenAI makes them, nothing if there is none."""
    models = answer.document.get("data") if _has(answer, "data") else None
    first = models[0] if isinstance(models, list) and models else None
    return first if isinstance(first, dict) else {}


_OWNERS: Final = {
    "vllm": "openai:vllm-omni",
    "sglang": "openai:sglang-omni",
    "xinference": "openai:xinference",
    "vox-box": "openai:vox-box",
}


# An empty batch is refused before anything is spoken, in words that only this protocol has, or it holds no audio.
_QUESTIONS: Final = (
    Question(
        "/batch",
        _by_nothing,
        b'{"texts":[]}',
    ),
    Question("/v1/models", _by_owner),
    Question("/v1/audio/voices", lambda answer: "openai:vllm-omni" if _has(answer, "uploaded_voices") else None),
    Question("/v1/voices", lambda answer: "openai:vox-box" if _has(answer, "voices") else None),
    Question("/openapi.json", _by_routes),
    Question("/v2", lambda answer: "triton" if _has(answer, "name", "extensions") else None),
    Question("/v1/audio/voice/list", lambda answer: "openai:siliconflow" if _has(answer, "result") else None),
    # Everybody has models; who has nothing else is the plainest.
    Question("/v1/models", lambda answer: "openai" if _has(answer, "data") else None),
    Question("/audio/speech", lambda answer: "openai:triton-bridge" if _names_fields(answer) else None, b"{}"),
    Question("/api/v1/audio/reference_audio", lambda answer: "pai-eas" if _lists(answer) else None),
    Question("/api/v1/services/audio/tts/SpeechSynthesizer", _by_code, b"{}"),
)
# A server of somebody's own may have nothing but its one route.
_LAST: Final = (
    Question("/v1/audio/speech", lambda answer: "openai" if _takes_posts(answer) else None),
    Question("/batch", lambda answer: "batch" if _takes_posts(answer) else None),
)


def detect(transport: Transport, clock: Clock) -> tuple[str, str] | None:
    """Return the protocol that is spoken at the other end of *transport*, and what gave it away.

    ``None`` if nothing did. Raises the `CosyError` of a service that cannot be reached at all, or that lets nobody in.
    """
    failure: CosyError | None = None
    answered = False
    statuses: set[int] = set()
    for question in (*_QUESTIONS, *_LAST):
        # Who lets nobody in has answered nothing yet: the key comes first.
        if question in _LAST and statuses & {401, 403}:
            break
        try:
            answer = _ask(transport, clock, question)
        except CosyError as error:
            failure = error
            continue
        answered = True
        statuses.add(answer.status)
        if (protocol := question.means(answer)) is not None:
            method = "GET" if question.body is None else "POST"
            return protocol, f"{method} {question.path} answered {answer.status}"
    if failure is not None and not answered:
        raise failure
    if closed := statuses & {401, 403}:
        status = min(closed)
        kind = Unauthorized if status == 401 else Forbidden
        raise kind(f"HTTP {status} to the questions that tell what it is", status=status)
    return None


@dataclass(frozen=True, slots=True)
class Maker:
    """Say where servers of a kind tell their version, and what an older one does that no reply of its shows."""

    name: str
    path: str
    notes: tuple[tuple[tuple[int, int], str], ...] = ()
    """What is to be known before each version."""


_VLLM: Final = Maker(
    "vLLM",
    "/version",
    (
        ((0, 30), "its own faults may come as 400, and vllm-omni-ws ignores a seed"),
        ((0, 28), "openai:vllm-omni tells no word times: words stays empty"),
        ((0, 26), "vllm-omni-ws may refuse to speak a whole text as one (split_granularity)"),
    ),
)
_MAKERS: Final = {
    "openai:vllm-omni": _VLLM,
    "vllm-omni-ws": _VLLM,
    "openai:xinference": Maker("Xinference", "/v1/cluster/version", (((4, 0), "CosyVoice ignores the speed"),)),
    "triton": Maker("Triton", "/v2"),
}
_NUMBERS: Final = re.compile(r"v?(\d{1,4})\.(\d{1,4})")


def first_model(transport: Transport, clock: Clock) -> str | None:
    """Return the name of the first model that is listed as OpenAI lists them, if any is."""
    try:
        answer = _ask(transport, clock, Question("/v1/models", lambda _: None))
    except CosyError:
        return None
    name = _first_model(answer).get("id")
    return name if is_voice_name(name) and name.strip() else None


def software(transport: Transport, clock: Clock, protocol: str) -> dict[str, str]:
    """Return which server speaks *protocol* at the other end and what to know of its version, as far as it tells."""
    maker = _MAKERS.get(protocol.partition(":")[0]) or _MAKERS.get(protocol)
    if maker is None:
        return {}
    try:
        answer = _ask(transport, clock, Question(maker.path, lambda _: None))
    except CosyError:
        return {}
    version = answer.document.get("version") if _has(answer, "version") else None
    if not isinstance(version, str) or not (numbers := _NUMBERS.match(version)):
        return {}
    found = (int(numbers[1]), int(numbers[2]))
    return {
        "version": f"{maker.name} {single_line(version, 40)}",
        **{f"before {major}.{minor}": note for (major, minor), note in maker.notes if found < (major, minor)},
    }


def _ask(transport: Transport, clock: Clock, question: Question) -> Answer:
    headers = (("Accept", "application/json"), *((("Content-Type", "application/json"),) if question.body else ()))
    request = WireRequest(
        method="GET" if question.body is None else "POST",
        path=question.path,
        headers=headers,
        body=question.body or b"",
    )
    reply = transport.send(request, deadline=Deadline.after(clock, 2 * _PATIENCE), read_timeout=_PATIENCE)
    try:
        content = read_prefix(reply, _MOST_BYTES)
        try:
            document = parse_json(content)
        except ValueError:
            document = None
        return Answer(reply.status, dict(reply.headers), document)
    finally:
        reply.close()
