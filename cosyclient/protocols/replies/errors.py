"""What a refusal means: status, code and problem details become one error that says who may do what about it.

Problem details from RFC 9457, statuses from RFC 9110; the error bodies of OpenAI-like services and of FastAPI are read
too. A message names code, title and the place of the fault, is bounded, and leaves out a detail that quotes a text.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cosyclient.errors import BadRequest, CosyError, DecodeError, ServiceError, ServiceFault, TooLarge, TransportError
from cosyclient.protocols.codecs.strict import unjson
from cosyclient.protocols.replies.error_rules import BY_CODE, SPENT, Verdict, said_verdict, told_status, verdict_on
from cosyclient.protocols.replies.headers import media_type, retry_after
from cosyclient.util.quoting import plain, quotes, word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cosyclient.models import Utterance
    from cosyclient.protocols.replies.error_rules import Sayings
    from cosyclient.wire import WireReply

MAX_ERROR_BODY_BYTES: Final = 65536
MAX_MESSAGE: Final = 300
_KIND: Final = re.compile(r"[a-z_]{1,30}")


def refusal(reply: WireReply, utterances: Sequence[Utterance], *, wall: float, sayings: Sayings = ()) -> ServiceError:
    """Return the error that *reply* stands for, reading at most 64 KiB of it; its server's *sayings* go first."""
    return refusal_of(reply, said_by(reply), utterances, wall=wall, sayings=sayings)


def refusal_of(
    reply: WireReply, body: object, utterances: Sequence[Utterance], *, wall: float, sayings: Sayings = ()
) -> ServiceError:
    """Return the error that *reply* stands for, whose *body* has been read: parsed JSON, or text."""
    problem = _problem(body)
    status = reply.status
    code = _code(problem, utterances)
    if status < 300:
        # A refusal dressed as a success is what its body says: a status of its own, or a code.
        status = told_status(problem) or status
    verdict = (
        said_verdict(problem.get("detail"), sayings)
        or verdict_on(status)
        or Verdict(BY_CODE.get(code or "", ServiceFault))
    )
    retryable = problem.get("retryable")
    if not isinstance(retryable, bool):
        # OpenAI's word to its own clients, which they obey before all rules.
        retryable = {"true": True, "false": False}.get(reply.headers.get("x-should-retry") or "")
    if code in SPENT:
        retryable = False
    wait = retry_after(reply.headers, problem.get("retry_after_ms"), wall=wall)
    lead = f"HTTP {reply.status}"
    if 300 <= status < 400:
        message = f"{lead} points to {_target(reply)}; redirects are not followed, set base_url to the final address"
    else:
        message = _message(lead, code, {"title": _phrase(reply.status), **problem}, _texts(utterances))
    if verdict.kind is TooLarge and len(utterances) > 1:
        message = f"{message[: MAX_MESSAGE - 80]}; the request held {len(utterances)} texts, max_batch= makes it fewer"
    return verdict.kind(
        message,
        status=reply.status,
        code=code,
        request_id=word(reply.headers.get("x-request-id"), 128) or None,
        retryable=verdict.retryable if retryable is None else retryable,
        endpoint_fault=verdict.endpoint_fault,
        retry_after=verdict.wait if wait is None else wait,
    )


def item_error(
    error: object,
    utterances: Sequence[Utterance],
    *,
    status: int,
    lead: str = "item failed",
    endpoint_fault: bool | None = False,
    sayings: Sayings = (),
) -> ServiceError:
    """Return the error one failed item stands for: *error* as our object, as vLLM-Omni's string, or absent.

    A cause this code does not know counts as transient unless the service says otherwise. *lead* begins its message;
    *endpoint_fault* ``None`` leaves it to the cause whether the endpoint is to blame; a server's *sayings* go first.
    """
    problem = _problem(error)
    code = _code(problem, utterances)
    said = problem.get("retryable")
    verdict = (
        said_verdict(problem.get("detail"), sayings)
        or verdict_on(told_status(problem) or 0)
        or Verdict(BY_CODE.get(code or "") or (BadRequest if said is False else ServiceFault))
    )
    return verdict.kind(
        _message(lead, code, problem, _texts(utterances)),
        status=status,
        code=code,
        retryable=said if isinstance(said, bool) else verdict.retryable,
        endpoint_fault=endpoint_fault,
        retry_after=retry_after({}, problem.get("retry_after_ms"), wall=0.0),
    )


@contextmanager
def discreet(utterances: Sequence[Utterance]) -> Iterator[None]:
    """Have the errors that a transport raises say nothing of the texts, which transports do not know."""
    try:
        yield
    except CosyError as error:
        if quotes(str(error), _texts(utterances)):
            lead = str(error).partition(":")[0] if isinstance(error, ServiceError) else type(error).__name__
            error.args = (f"{lead}: detail withheld, it quotes a text",)
        raise


def described(lead: str, code: str | None, detail: object, texts: Iterable[str]) -> str:
    """Return a message for an error that came in another way than as a reply; it is bounded and quotes no text."""
    return _message(lead, code, {"detail": detail}, texts)


def said_by(reply: WireReply) -> object:
    """Return the body of a refusal, parsed JSON or text, reading at most 64 KiB of it."""
    pieces = bytearray()
    try:
        for chunk in reply.chunks():
            pieces += chunk[: MAX_ERROR_BODY_BYTES - len(pieces)]
            if len(pieces) >= MAX_ERROR_BODY_BYTES:
                break
    except (TransportError, DecodeError):
        # The status has already said what matters; a body that breaks off or will not unpack takes nothing from it.
        pass
    kind = media_type(reply.headers)
    if kind.endswith(("/json", "+json")):
        try:
            return unjson(pieces)
        except ValueError:
            return None
    return pieces.decode("utf-8", "replace") if kind == "text/plain" else None


def _problem(body: object) -> dict[str, Any]:
    """Return one shape for all: problem details, ``{"error": {…}}``, ``{"message": …}``, a string, or nothing."""
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
        # RFC 9457's type is an address, OpenAI's a word; only the word is a code.
        if isinstance(value, str) and value and "/" not in value and ":" not in value:
            code = plain(value, 64)
            return None if quotes(code, _texts(utterances)) else code
    return None


def _message(lead: str, code: str | None, problem: dict[str, Any], texts: Iterable[str]) -> str:
    texts = list(texts)
    parts = [f"{lead} {code}" if code else lead]
    for name in ("title", "detail"):
        said = plain(problem.get(name), MAX_MESSAGE)
        if said and said.casefold() != parts[-1].casefold():
            parts.append(f"{name} withheld, it quotes a text" if quotes(said, texts) else said)
    message = ": ".join(parts[:2]) + "".join(f"; {part}" for part in parts[2:])
    if (pointers := _pointers(problem)) and not quotes(" ".join(pointers), texts):
        message = f"{message[: MAX_MESSAGE - 140]} (at {', '.join(pointers)})"
    return plain(message, MAX_MESSAGE)


def _pointers(problem: dict[str, Any]) -> list[str]:
    """Return the places of at most three faults: JSON pointers of our errors, or FastAPI's ``loc`` written as such."""
    faults = problem.get("errors", problem.get("detail"))
    found = []
    for fault in faults[:3] if isinstance(faults, list) else ():
        place = fault.get("pointer", fault.get("loc")) if isinstance(fault, dict) else None
        kind = None
        if isinstance(place, list):
            place = "".join(f"/{plain(str(step)[:40], 40)}" for step in place[:8] if isinstance(step, (str, int)))
            kind = fault.get("type")
        if shown := plain(place, 40):
            # What FastAPI says of a fault quotes the input; its kind ("missing", "too_long") does not.
            found.append(f"{shown}: {plain(kind, 30)}" if isinstance(kind, str) and _KIND.fullmatch(kind) else shown)
    return found


def _texts(utterances: Sequence[Utterance]) -> list[str]:
    """Return all that was said with *utterances*: their texts, and how and by which words they were to be spoken."""
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
    return word(host, 100) or "another path"


def retold(error: ServiceError, kind: type[ServiceError], *, request_id: object = None) -> ServiceError:
    """Return *error* as one of *kind*, for a service whose codes say more than its statuses."""
    same = kind is type(error)
    return kind(
        str(error),
        status=error.status,
        code=error.code,
        request_id=error.request_id or word(request_id, 128) or None,
        retryable=error.retryable if same else None,
        endpoint_fault=error.endpoint_fault if same else None,
        retry_after=error.retry_after,
    )
