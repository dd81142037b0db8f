"""Build one error from an error reply: from its status, its code and its problem details.

Reads problem details (RFC 9457), statuses (RFC 9110) and the error bodies of OpenAI-like services and of FastAPI, at
most `MAX_ERROR_BODY_BYTES` of them. What a status, code or message means is looked up in `error_rules`. A message names
code, title and the place of the fault, has at most `MAX_MESSAGE` characters, and omits a detail that quotes a text.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from cosyclient.errors import BadRequest, CosyError, DecodeError, ServiceError, ServiceFault, TooLarge, TransportError
from cosyclient.protocols.codecs.strict import parse_json
from cosyclient.protocols.replies.error_rules import (
    BY_CODE,
    QUOTA_EXHAUSTED,
    ErrorRule,
    rule_for_message,
    rule_for_status,
    status_in,
)
from cosyclient.protocols.replies.headers import is_json, media_type, retry_after
from cosyclient.util.redaction import quotes_any, short_token, single_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cosyclient.models import Utterance
    from cosyclient.protocols.replies.error_rules import MessageRules
    from cosyclient.wire import WireReply

PROBLEM_TYPE: Final = "application/problem+json"
MAX_ERROR_BODY_BYTES: Final = 65536
MAX_MESSAGE: Final = 300
"""Characters of an error's message."""
_KIND: Final = re.compile(r"[a-z_]{1,30}")


class ErrorFactory(Protocol):
    """Builds the error that an error reply stands for; `error_from_reply` unless a protocol knows more."""

    def __call__(self, reply: WireReply, utterances: Sequence[Utterance], *, wall: float) -> ServiceError: ...


def check_status(
    reply: WireReply, utterances: Sequence[Utterance], *, wall: float, make_error: ErrorFactory | None = None
) -> None:
    """Raise unless the head of *reply* announces a complete result.

    Raises what *make_error* (`error_from_reply` if not given) builds of an error status or a body of problem details,
    and `DecodeError` for a success that is not the whole result.
    """
    if reply.status >= 300 or media_type(reply.headers) == PROBLEM_TYPE:
        raise (make_error or error_from_reply)(reply, utterances, wall=wall)
    # 203 is a 200 that a proxy changed. 202, 204, 206 and the like are not the complete result.
    if reply.status not in (200, 201, 203):
        raise DecodeError(f"HTTP {reply.status}: not a finished reply", retryable=True)


def error_from_reply(
    reply: WireReply, utterances: Sequence[Utterance], *, wall: float, rules: MessageRules = ()
) -> ServiceError:
    """Return the error that *reply* stands for, reading its body; the *rules* of its server precede all others.

    *utterances* are those of the request, which the message must not quote; *wall* is the present in epoch seconds.
    """
    return error_from_body(reply, read_error_body(reply), utterances, wall=wall, rules=rules)


def error_from_body(
    reply: WireReply, body: object, utterances: Sequence[Utterance], *, wall: float, rules: MessageRules = ()
) -> ServiceError:
    """Return the error that *reply* stands for whose *body*, parsed JSON or text, has been read already."""
    problem = _problem(body)
    status = reply.status
    code = _code(problem, utterances)
    if status < 300:
        # An error sent with a success status: the body holds the true status, or a code.
        status = status_in(problem) or status
    rule = (
        rule_for_message(problem.get("detail"), rules)
        or rule_for_status(status)
        or ErrorRule(BY_CODE.get(code or "", ServiceFault))
    )
    retryable = problem.get("retryable")
    if not isinstance(retryable, bool):
        # OpenAI's header to its own clients, which obey it before all rules.
        retryable = {"true": True, "false": False}.get(reply.headers.get("x-should-retry") or "")
    if code in QUOTA_EXHAUSTED:
        retryable = False
    wait = retry_after(reply.headers, problem.get("retry_after_ms"), wall=wall)
    lead = f"HTTP {reply.status}"
    if 300 <= status < 400:
        message = f"{lead} points to {_target(reply)}; redirects are not followed, set base_url to the final address"
    else:
        message = _message(lead, code, {"title": _phrase(reply.status), **problem}, _texts(utterances))
    if rule.error_type is TooLarge and len(utterances) > 1:
        message = f"{message[: MAX_MESSAGE - 80]}; the request held {len(utterances)} texts, max_batch= makes it fewer"
    return rule.error_type(
        message,
        status=reply.status,
        code=code,
        request_id=short_token(reply.headers.get("x-request-id"), 128) or None,
        retryable=rule.retryable if retryable is None else retryable,
        endpoint_fault=rule.endpoint_fault,
        retry_after=rule.retry_after if wait is None else wait,
    )


def error_from_item(
    error: object,
    utterances: Sequence[Utterance],
    *,
    status: int,
    lead: str = "item failed",
    endpoint_fault: bool | None = False,
    rules: MessageRules = (),
) -> ServiceError:
    """Return the error of one failed item of a batch, or of one error event of a stream.

    *error* is an object with our members, a string as from vLLM-Omni, or ``None``. An unknown cause counts as transient
    unless the service says otherwise. *lead* begins the message; with *endpoint_fault* ``None`` the cause decides
    whether the endpoint is to blame.
    """
    problem = _problem(error)
    code = _code(problem, utterances)
    retryable = problem.get("retryable")
    rule = (
        rule_for_message(problem.get("detail"), rules)
        or rule_for_status(status_in(problem) or 0)
        or ErrorRule(BY_CODE.get(code or "") or (BadRequest if retryable is False else ServiceFault))
    )
    return rule.error_type(
        _message(lead, code, problem, _texts(utterances)),
        status=status,
        code=code,
        retryable=retryable if isinstance(retryable, bool) else rule.retryable,
        endpoint_fault=endpoint_fault,
        retry_after=retry_after({}, problem.get("retry_after_ms"), wall=0.0),
    )


def reclassify(error: ServiceError, error_type: type[ServiceError], *, request_id: object = None) -> ServiceError:
    """Return *error* as an *error_type*, for a service whose codes or messages are more exact than its statuses.

    Whether it is retryable and the endpoint to blame is kept only if the type stays the same.
    """
    same = error_type is type(error)
    return error_type(
        str(error),
        status=error.status,
        code=error.code,
        request_id=error.request_id or short_token(request_id, 128) or None,
        retryable=error.retryable if same else None,
        endpoint_fault=error.endpoint_fault if same else None,
        retry_after=error.retry_after,
    )


@contextmanager
def redact_texts(utterances: Sequence[Utterance]) -> Iterator[None]:
    """Replace the message of an error raised inside that quotes *utterances*; transports do not know the texts."""
    try:
        yield
    except CosyError as error:
        if quotes_any(str(error), _texts(utterances)):
            lead = str(error).partition(":")[0] if isinstance(error, ServiceError) else type(error).__name__
            error.args = (f"{lead}: detail withheld, it quotes a text",)
        raise


def error_message(lead: str, code: str | None, detail: object, texts: Iterable[str]) -> str:
    """Return the message of an error that came as a message of a session; it is bounded and quotes none of *texts*."""
    return _message(lead, code, {"detail": detail}, texts)


def read_error_body(reply: WireReply) -> object:
    """Return the body of an error reply: parsed JSON, text, or ``None``; reads at most `MAX_ERROR_BODY_BYTES`."""
    body = bytearray()
    try:
        for chunk in reply.chunks():
            body += chunk[: MAX_ERROR_BODY_BYTES - len(body)]
            if len(body) >= MAX_ERROR_BODY_BYTES:
                break
    except (TransportError, DecodeError):
        # The status alone determines the error; a body that breaks off or cannot be decompressed does not change it.
        pass
    kind = media_type(reply.headers)
    if is_json(kind):
        try:
            return parse_json(body)
        except ValueError:
            return None
    return body.decode("utf-8", "replace") if kind == "text/plain" else None


def _problem(body: object) -> dict[str, Any]:
    """Return *body* as problem details; it is those, ``{"error": {…}}``, ``{"message": …}``, a string or nothing."""
    if isinstance(body, str):
        return {"detail": body}
    if not isinstance(body, dict):
        return {}
    inner = body.get("error")
    if isinstance(inner, (dict, str)):
        return {**body, **_problem(inner)}
    if "detail" not in body and isinstance(body.get("message"), str):
        return {**body, "detail": body["message"]}
    return body


def _code(problem: dict[str, Any], utterances: Sequence[Utterance]) -> str | None:
    for name in ("code", "type"):
        value = problem.get(name)
        # In RFC 9457 the type is a URL, at OpenAI a word; only the word is a code.
        if isinstance(value, str) and value and "/" not in value and ":" not in value:
            code = single_line(value, 64)
            return None if quotes_any(code, _texts(utterances)) else code
    return None


def _message(lead: str, code: str | None, problem: dict[str, Any], texts: Iterable[str]) -> str:
    texts = list(texts)
    parts = [f"{lead} {code}" if code else lead]
    for name in ("title", "detail"):
        value = single_line(problem.get(name), MAX_MESSAGE)
        if value and value.casefold() != parts[-1].casefold():
            parts.append(f"{name} withheld, it quotes a text" if quotes_any(value, texts) else value)
    message = ": ".join(parts[:2]) + "".join(f"; {part}" for part in parts[2:])
    if (pointers := _pointers(problem)) and not quotes_any(" ".join(pointers), texts):
        message = f"{message[: MAX_MESSAGE - 140]} (at {', '.join(pointers)})"
    return single_line(message, MAX_MESSAGE)


def _pointers(problem: dict[str, Any]) -> list[str]:
    """Return where at most three faults are: JSON pointers, or FastAPI's ``loc`` written as JSON pointers."""
    faults = problem.get("errors", problem.get("detail"))
    found = []
    for fault in faults[:3] if isinstance(faults, list) else ():
        place = fault.get("pointer", fault.get("loc")) if isinstance(fault, dict) else None
        kind = None
        if isinstance(place, list):
            place = "".join(f"/{single_line(str(step)[:40], 40)}" for step in place[:8] if isinstance(step, (str, int)))
            kind = fault.get("type")
        if shown := single_line(place, 40):
            # FastAPI's message quotes the input; its type of fault ("missing", "too_long") does not.
            found.append(
                f"{shown}: {single_line(kind, 30)}" if isinstance(kind, str) and _KIND.fullmatch(kind) else shown
            )
    return found


def _texts(utterances: Sequence[Utterance]) -> list[str]:
    """Return every text sent with *utterances*, none of which an error may quote: also instruction and transcript."""
    texts = [utterance.text for utterance in utterances]
    if utterances:
        settings = utterances[0].settings
        texts += filter(None, (settings.instruct, getattr(settings.voice, "transcript", None)))
    return texts


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _target(reply: WireReply) -> str:
    try:
        host = urlsplit(reply.headers.get("location") or "").hostname
    except ValueError:
        host = None
    return short_token(host, 100) or "another path"
