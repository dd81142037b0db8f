"""Redaction: what is quoted of a service is one short line without texts and secrets."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyclient import CosyClient
from cosyclient.config.proxy import Proxy
from cosyclient.config.resolve import Secret
from cosyclient.errors import CosyError, TransportError
from cosyclient.events import AttemptFinished
from cosyclient.transports.registry import transport_for
from cosyclient.transports.tunnels import open_tunnel
from cosyclient.util.redaction import (
    MASK,
    RedactedBytes,
    RedactedText,
    mask_secrets,
    quotes_any,
    redact_error,
    single_line,
)
from tests.support.hostile import answers, drips_head, hostile, never_answers, never_reads
from tests.transports.websocket_wire import session_request
from tests.transports.wire import CLOCK, request, settings, soon

if TYPE_CHECKING:
    from cosyclient.wire import WireRequest

KEY = "sk-Alpha0123456789Omega"
TEXT = "The quick brown fox jumps over the lazy dog, twice."


@given(st.text(), st.integers(2, 40))
def test_a_quoted_line_is_short_and_printable(value: str, limit: int) -> None:
    """Whatever a service writes there."""
    line = single_line(value, limit)
    assert len(line) <= limit
    assert line.isprintable()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("a\r\nERROR forged\x1b[2J", "a ERROR forged [2J"),
        ("\ud800x\u202ey", "x y"),
        ("x" * 50, "x" * 19 + "…"),
        ("\n" * 200 + "late", "…"),
        (b"bytes", ""),
        (None, ""),
    ],
)
def test_control_characters_and_line_breaks_are_removed(value: object, line: str) -> None:
    """No further line, no colours, nothing from right to left."""
    assert single_line(value, 20) == line


@pytest.mark.parametrize(
    "said",
    [
        TEXT,
        TEXT.upper(),
        f"invalid input {TEXT.lower()[:20]!r}",
        f"cannot speak: …{TEXT[12:44]}…",
    ],
)
def test_a_text_is_found_however_it_is_quoted(said: str) -> None:
    """Its beginning, or any longer passage, in upper case too."""
    assert quotes_any(said, ["another", TEXT])


@pytest.mark.parametrize("said", ["", "the voice is unknown", "input too long", "The quick"])
def test_a_message_that_quotes_no_text_is_recognised(said: str) -> None:
    """Few words in common are no quotation."""
    assert not quotes_any(said, ["another", TEXT])


def test_a_quotation_across_pieces_is_found() -> None:
    """The pieces of a text stream are one text, whatever the message has between them."""
    assert quotes_any(
        "the engine failed at\n'fox  jumps over the lazy dog,'", ["fox jumps ", "over ", "the lazy", " dog", ","]
    )


def test_a_quotation_escaped_as_json_is_found() -> None:
    """As JSON inside a message."""
    assert quotes_any(json.dumps({"input": "你好，世界。"}), ["你好，世界。"])


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (f"Incorrect API key provided: {KEY}.", f"Incorrect API key provided: {MASK}."),
        (f"BEARER {KEY.upper()}", f"BEARER {MASK}"),
        (f"{KEY}{KEY}", MASK * 2),
        (f"cut: {KEY[:12]}…", f"cut: {MASK}…"),
        ("sk- is how they begin", "sk- is how they begin"),
        ("nothing…", "nothing…"),
    ],
)
def test_secrets_are_masked(said: str, left: str) -> None:
    """Whole, in any case, and where the message was cut in the middle of one."""
    assert mask_secrets(said, [KEY]) == left


def test_short_secrets_are_not_masked() -> None:
    """They would be found in every other word."""
    assert mask_secrets("the key is a", ["a", "key"]) == "the key is a"


def test_secrets_are_masked_in_causes_too() -> None:
    """A traceback prints them."""
    cause = ValueError(f"bad status line {KEY}")
    error = TransportError(f"read: {KEY}")
    error.__cause__ = cause
    cause.__context__ = OSError(5, f"at {KEY}")
    redact_error(error, [KEY])
    assert KEY not in "".join(map(str, (error, cause, *cause.args, *cause.__context__.args)))


# --- of services ---

ECHOES: dict[str, Any] = {
    "problem": lambda said: httpx.Response(401, json={"title": "Unauthorized", "detail": said}),
    "openai": lambda said: httpx.Response(401, json={"error": {"message": said, "code": said, "type": said}}),
    "code": lambda said: httpx.Response(400, json={"code": said, "errors": [{"pointer": said}]}),
    "text": lambda said: httpx.Response(500, text=said),
    "request id": lambda said: httpx.Response(503, headers={"X-Request-Id": said}),
    "location": lambda said: httpx.Response(302, headers={"Location": f"http://{said}/"}),
    "coding": lambda said: httpx.Response(200, headers={"Content-Encoding": said}, json={}),
    "type": lambda said: httpx.Response(200, headers={"Content-Type": f"{said}/{said}"}, content=b"x"),
    "item": lambda said: httpx.Response(
        200, json={"total": 1, "results": [{"index": 0, "status": "error", "error": {"code": said, "detail": said}}]}
    ),
    "dressed": lambda said: httpx.Response(200, json={"error": said}),
}


@pytest.mark.parametrize("where", ECHOES)
@pytest.mark.parametrize("said", [KEY, f"header value {KEY} refused", "t0k3n-of-a-tenant", TEXT.upper(), "x" * 5000])
def test_no_error_shows_what_was_sent(where: str, said: str) -> None:
    """Neither the key nor a header's value nor a text, in its message, its code or its cause, in events or attempts."""
    events: list[AttemptFinished] = []

    def listen(event: object) -> None:
        if isinstance(event, AttemptFinished):
            events.append(event)

    def handler(_: httpx.Request) -> httpx.Response:
        response: httpx.Response = ECHOES[where](said)
        return response

    with CosyClient(
        "http://cosy.test",
        api_key=KEY,
        headers={"X-Tenant": "t0k3n-of-a-tenant"},
        max_retries=0,
        transport=httpx.MockTransport(handler),
        listeners=[listen],
    ) as client:
        for call in (client.synthesize, lambda text: client.submit(text).result()):
            with pytest.raises(CosyError) as caught:
                call(TEXT)
            told: list[BaseException | None] = [caught.value, *(each.error for each in caught.value.attempts)]
            told += [event.error for event in events]
            while told:
                error = told.pop()
                if error is None:
                    continue
                told += [error.__cause__]
                words = " ".join(map(str, (error, *error.args, *vars(error).values())))
                assert len(str(error)) < 600
                assert str(error).isprintable()
                for secret in (KEY, "t0k3n-of-a-tenant", TEXT[:16]):
                    assert secret.casefold() not in words.casefold()


def shown(error: BaseException) -> str:
    """Return what a tool that shows the local variables of the library's frames would show of *error*."""
    found = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None:
            continue
        todo += [each.__cause__, each.__context__]
        trace = each.__traceback__
        while trace is not None:
            if "/cosyclient/" in trace.tb_frame.f_code.co_filename:
                found += [f"{name}={value!r}" for name, value in trace.tb_frame.f_locals.items()]
            trace = trace.tb_next
    return "\n".join(found)


@pytest.mark.parametrize("medium", ["http", "websocket", "grpc"])
@pytest.mark.parametrize(
    "behaviour", [never_answers(), never_reads(), drips_head(), answers(b"nonsense\r\n\r\n"), None]
)
def test_no_traceback_shows_what_was_sent(medium: str, behaviour: Any) -> None:
    """Error trackers send the variables of each frame along: neither the key nor a body is among them."""
    with hostile(behaviour or never_answers()) as service:
        url = service.url.replace("http", {"http": "http", "websocket": "ws", "grpc": "grpc"}[medium], 1)
        if behaviour is None:
            url = url.replace(str(service.port), "1")
        transport = transport_for(medium, settings(url, api_key=KEY), clock=CLOCK)
        body = TEXT.encode() * (400_000 if behaviour is not None else 1)
        under = RedactedText("t0k3n-of-a-tenant")
        wanted: WireRequest = request(body, Authorization_Tenant=under)
        if medium == "websocket":
            wanted = session_request(texts=(TEXT,))
        assert KEY not in repr(vars(transport))
        with pytest.raises(CosyError) as caught:
            list(transport.send(wanted, deadline=soon(0.3), read_timeout=0.2).chunks())
        told = shown(caught.value)
        assert told
        for secret in (KEY, "t0k3n-of-a-tenant", TEXT[:16]):
            assert secret not in told, [line[:200] for line in told.splitlines() if secret in line]
        with suppress(CosyError):
            transport.close()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_no_traceback_shows_the_password_of_a_proxy(scheme: str) -> None:
    """Which is sent in the clear, and to the proxy alone."""
    proxy = Proxy.parse("proxy", f"{scheme}://me:{KEY}@127.0.0.1:1")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\5\2")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError) as caught:
            open_tunnel(proxy, "cosy.test", 443, ours, lambda: 5.0)
        said = theirs.recv(4096)
    told = shown(caught.value)
    assert KEY.encode() in said or base64.b64encode(f"me:{KEY}".encode()) in said
    assert KEY not in told
    assert base64.b64encode(f"me:{KEY}".encode()).decode() not in told


def test_redacted_values_equal_the_plain_ones() -> None:
    """But for their repr."""
    assert (repr(RedactedText(KEY)), str(RedactedText(KEY)), f"{RedactedText(KEY)}") == (f"<{MASK}>", KEY, KEY)
    assert (repr(RedactedBytes(b"abc")), RedactedBytes(b"abc")) == ("<3 bytes>", b"abc")
    assert Secret(KEY).bearer() == f"Bearer {KEY}"
    assert KEY not in repr([Secret(KEY), Secret(KEY).bearer()])
