"""`replies.errors` and `replies.error_rules`: which error a reply becomes, and what its message may contain."""

from __future__ import annotations

from http import HTTPStatus
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadRequest,
    CosyError,
    DecodeError,
    Forbidden,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    TooLarge,
    TransportError,
    Unauthorized,
)
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.batch.protocol import BatchProtocol
from cosyclient.protocols.replies.errors import check_status, error_from_reply
from cosyclient.testing import ScriptedReply
from tests.protocols import wire

PROTOCOL = BatchProtocol(WireConfig())


def error_of(reply: ScriptedReply, *texts: str) -> ServiceError:
    """Return the error that *reply* stands for."""
    utterances = [Utterance(text, VoiceSettings()) for text in texts] or wire.texts(2)
    with pytest.raises(ServiceError) as caught:
        list(PROTOCOL.decode(reply, utterances, wall=784111777.0))
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "endpoint_fault", "wait"),
    [
        (400, BadRequest, False, False, None),
        (401, Unauthorized, False, False, None),
        (402, Forbidden, False, False, None),
        (403, Forbidden, False, False, None),
        (404, NotFound, False, False, None),
        (405, BadRequest, False, False, None),
        (406, BadRequest, False, False, None),
        (408, ServiceError, True, False, None),
        (409, ServiceError, True, False, 1.0),
        (410, NotFound, False, False, None),
        (413, TooLarge, False, False, None),
        (414, TooLarge, False, False, None),
        (415, BadRequest, False, False, None),
        (418, BadRequest, False, False, None),
        (422, BadRequest, False, False, None),
        (425, ServiceError, True, False, None),
        (429, Throttled, True, False, None),
        (431, TooLarge, False, False, None),
        (499, BadRequest, False, False, None),
        (500, ServiceFault, True, True, None),
        (501, ServiceFault, False, True, None),
        (502, ServiceFault, True, True, None),
        (503, ServiceFault, True, True, None),
        (504, ServiceFault, True, True, None),
        (505, ServiceFault, False, True, None),
        (520, ServiceFault, True, True, None),
        (301, ServiceError, False, False, None),
        (304, ServiceError, False, False, None),
        (999, ServiceFault, True, True, None),
    ],
)
@pytest.mark.parametrize("form", ["problem", "text", "empty", "html", "cut", "garbage"])
def test_each_status_has_its_error(
    status: int, kind: type[ServiceError], retryable: bool, endpoint_fault: bool, wait: float | None, form: str
) -> None:
    """The status decides, whatever the body is."""
    reply = {
        "problem": wire.problem_reply(status, title="T", status=status, code="some_code"),
        "text": ScriptedReply(status, {"Content-Type": "text/plain"}, [b"Internal Server Error"]),
        "empty": ScriptedReply(status),
        "html": ScriptedReply(status, {"Content-Type": "text/html"}, [b"<html>secret"]),
        "cut": ScriptedReply(status, {"Content-Type": "application/json"}, [b'{"code":', TransportError("cut")]),
        "garbage": ScriptedReply(status, {"Content-Type": "application/json"}, [b"[" * 60000, b"\xff"]),
    }[form]
    error = error_of(reply)
    assert type(error) is kind
    assert (error.retryable, error.endpoint_fault, error.retry_after) == (retryable, endpoint_fault, wait)
    assert (error.sent, error.throttled, error.status) == (True, kind is Throttled, status)
    assert error.code == ("some_code" if form == "problem" else None)
    assert str(error).startswith(f"HTTP {status}")
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (ScriptedReply(502, {"Content-Type": "text/html"}, [b"<html>"]), "HTTP 502: Bad Gateway"),
        (ScriptedReply(599), "HTTP 599"),
        (
            wire.problem_reply(
                422,
                title="Validation failed",
                code="validation_failed",
                detail="two texts are too long",
                errors=[{"pointer": "/texts/3", "detail": "…"}, {"pointer": "/texts/4"}, 7, {"pointer": "/texts/5"}],
            ),
            "HTTP 422 validation_failed: Validation failed; two texts are too long (at /texts/3, /texts/4)",
        ),
        (wire.json_reply({"detail": "Not Found"}, 404), "HTTP 404: Not Found"),
        (
            wire.json_reply({"detail": [{"type": "missing", "loc": ["body", "spk_id"], "input": "secret"}]}, 422),
            f"HTTP 422: {HTTPStatus(422).phrase} (at /body/spk_id: missing)",
        ),
        (
            wire.json_reply({"error": {"message": "no such model", "type": "NotFoundError", "code": 404}}, 404),
            "HTTP 404 NotFoundError: Not Found; no such model",
        ),
        (
            wire.json_reply({"message": "slow down", "code": "rate_limited"}, 429),
            "HTTP 429 rate_limited: Too Many Requests; slow down",
        ),
        (wire.json_reply({"error": "broken"}, 500), "HTTP 500: Internal Server Error; broken"),
        (wire.problem_reply(500, type="https://example.org/internal", title="Oh"), "HTTP 500: Oh"),
        (
            ScriptedReply(503, {"Content-Type": "text/plain; charset=utf-8"}, [b"  line one\n\x1b[31mline\ttwo "]),
            "HTTP 503: Service Unavailable; line one [31mline two",
        ),
        (
            ScriptedReply(302, {"Location": "https://login.example.org/sso?token=hidden"}),
            "HTTP 302 points to login.example.org; redirects are not followed, set base_url to the final address",
        ),
        (
            ScriptedReply(308, {"Location": "/v2/batch"}),
            "HTTP 308 points to another path; redirects are not followed, set base_url to the final address",
        ),
        (
            ScriptedReply(301, {"Location": "http://[broken"}),
            "HTTP 301 points to another path; redirects are not followed, set base_url to the final address",
        ),
    ],
)
def test_a_message_names_status_code_title_detail_and_place(reply: ScriptedReply, message: str) -> None:
    """On one line."""
    assert str(error_of(reply)) == message


def test_too_large_a_batch_is_told_which_option_makes_it_smaller() -> None:
    """The service names its limit, the client its option; a single text cannot become fewer."""
    too_large = wire.json_reply({"detail": "at most 8 texts"}, 413)
    lead = f"HTTP 413: {HTTPStatus(413).phrase}; at most 8 texts"
    assert str(error_from_reply(too_large, wire.texts(9), wall=0.0)) == (
        f"{lead}; the request held 9 texts, max_batch= makes it fewer"
    )
    assert str(error_from_reply(too_large, wire.texts(1), wall=0.0)) == lead
    long = wire.json_reply({"detail": "d" * 5000}, 413)
    assert len(str(error_from_reply(long, wire.texts(64), wall=0.0))) <= 300


@pytest.mark.parametrize("kind", ["Missing!", "a" * 31, 7, None, "tell me"])
def test_only_an_identifier_is_shown_as_a_type_of_fault(kind: object) -> None:
    """Anything else could quote the text."""
    reply = wire.json_reply({"detail": [{"type": kind, "loc": ["body", "texts"]}]}, 422)
    assert str(error_of(reply)).endswith("(at /body/texts)")


def test_messages_and_the_bytes_read_are_bounded() -> None:
    """An error page of any size costs 64 KiB and a line of 300 characters."""
    long = wire.problem_reply(400, title="T" * 5000, detail="d" * 5000, errors=[{"pointer": "/" + "p" * 5000}] * 9)
    assert len(str(error_of(long))) <= 300
    pieces: list[bytes | Exception] = [b"x" * 60000, b"y" * 60000, RuntimeError("read too far")]
    assert len(str(error_of(ScriptedReply(500, {"Content-Type": "text/plain"}, pieces)))) <= 300


@pytest.mark.parametrize("text", ["my secret diary, page one", "你好", "秘", "tell"])
def test_a_detail_that_quotes_a_text_is_withheld(text: str) -> None:
    """Errors are logged, texts are not."""
    error = error_of(wire.problem_reply(422, title="Bad", detail=f"cannot speak '{text[:20]}…'"), "other", text)
    assert str(error) == "HTTP 422: Bad; detail withheld, it quotes a text"
    item = {"kind": "item", "index": 0, "status": "error", "error": {"code": "x", "detail": f"cannot speak {text}"}}
    body = wire.frame(wire.opening(1)) + wire.frame(item) + wire.frame(wire.end(0, 1))
    ((found,),) = PROTOCOL.decode(wire.frames_reply(body), [Utterance(text, VoiceSettings())], wall=0.0)
    assert str(found[1]) == "item failed x: detail withheld, it quotes a text"


@pytest.mark.parametrize(
    ("reply", "wait"),
    [
        (wire.problem_reply(429, {"Retry-After": "7"}), 7.0),
        (wire.problem_reply(429, {"Retry-After": "1"}, retry_after_ms=2500), 2.5),
        (wire.problem_reply(429, {"Retry-After": "3"}, retry_after_ms=2500), 3.0),
        (wire.problem_reply(503, {"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT"}), 10.0),
        (wire.problem_reply(429, {"Retry-After": "never"}), None),
        (wire.problem_reply(409, {"Retry-After": "4"}), 4.0),
        (wire.problem_reply(409, {"Retry-After": "0"}), 0.0),
    ],
)
def test_the_error_carries_the_requested_wait(reply: ScriptedReply, wait: float | None) -> None:
    """The longer of header and body; a date is measured from the given present."""
    assert error_of(reply).retry_after == wait


@pytest.mark.parametrize(("said", "retryable"), [(True, True), (False, False), ("yes", True), (None, True)])
def test_the_service_may_decide_whether_to_retry(said: Any, retryable: bool) -> None:
    """Its own member precedes the table."""
    assert error_of(wire.problem_reply(503, retryable=said)).retryable is retryable
    assert error_of(wire.problem_reply(422, retryable=said)).retryable is (said is True)


def test_only_a_valid_request_id_is_kept() -> None:
    """It is for support; it cannot break a log line or contain a text."""
    assert error_of(wire.problem_reply(500, {"X-Request-Id": "abc-1"})).request_id == "abc-1"
    assert error_of(wire.problem_reply(500, {"X-Request-Id": "c" * 128})).request_id == "c" * 128
    for said in ("a\x07b", "two words", "c" * 129, "é"):
        assert error_of(wire.problem_reply(500, {"X-Request-Id": said})).request_id is None
    assert error_of(wire.problem_reply(500)).request_id is None


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (wire.problem_reply(200, status=503, code="overloaded"), ServiceFault),
        (wire.problem_reply(200, status=429), Throttled),
        (wire.problem_reply(200, code="unknown_voice"), NotFound),
        (wire.problem_reply(200), ServiceFault),
        (wire.json_reply({"error": {"code": "unauthorized", "message": "key"}}), Unauthorized),
        (wire.json_reply({"error": {"message": "no", "type": "BadRequestError", "code": 400}}), BadRequest),
        (wire.json_reply({"code": "rate_limited"}), Throttled),
        (wire.json_reply({"error": "out of memory"}), ServiceFault),
    ],
)
def test_an_error_sent_with_a_success_status_is_an_error(reply: ScriptedReply, kind: type[ServiceError]) -> None:
    """By the status or the code in its body."""
    assert type(error_of(reply)) is kind


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (ScriptedReply(200), None),
        (ScriptedReply(201), None),
        (ScriptedReply(203), None),
        (ScriptedReply(103), DecodeError),
        (ScriptedReply(202), DecodeError),
        (ScriptedReply(204), DecodeError),
        (ScriptedReply(206), DecodeError),
        (ScriptedReply(301), ServiceError),
        (ScriptedReply(429), Throttled),
        (wire.problem_reply(200, status=503), ServiceFault),
    ],
)
def test_only_a_complete_success_passes_the_check(reply: ScriptedReply, kind: type[CosyError] | None) -> None:
    """A partial one is a `DecodeError`; an error reply is what the protocol's own function makes of it."""
    if kind is None:
        check_status(reply, wire.texts(1), wall=0.0)
        return
    with pytest.raises(kind):
        check_status(reply, wire.texts(1), wall=0.0)
    if kind is not DecodeError:
        with pytest.raises(NotFound, match="its own"):
            check_status(reply, wire.texts(1), wall=0.0, make_error=lambda *_, **__: NotFound("its own"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["code", "type", "title", "detail", "error", "errors", "status", "retryable", "loc", "message"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.integers(200, 599), JSON_VALUES)
@settings(deadline=None)
def test_any_body_raises_only_errors_of_this_library(status: int, body: Any) -> None:
    """Whatever JSON a service sends."""
    try:
        found = list(chain.from_iterable(PROTOCOL.decode(wire.json_reply(body, status), wire.texts(1), wall=0.0)))
    except CosyError:
        return
    # What is left is a success with one failed item, such as the bare array [null].
    assert [(index, isinstance(outcome, CosyError)) for index, outcome in found] == [(0, True)]
