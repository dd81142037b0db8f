"""What a status and its headers mean to a caller, and the client's own headers: on respx, no socket."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
import respx

from cosyclient import (
    BadRequest,
    CosyClient,
    CosyError,
    DecodeError,
    Forbidden,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
    TooLarge,
    Unauthorized,
)
from cosyclient.testing import FakeClock, InlineExecutor
from tests.support.service import item, text_in

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://tts.test/v1"


class Inline(CosyClient):
    """A client without threads, on a clock of its own; its requests still go through httpx."""

    _executor = InlineExecutor()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock()
    monkeypatch.setattr(Inline, "_clock", made)
    return made


@pytest.fixture
def router(clock: FakeClock) -> respx.MockRouter:
    return respx.MockRouter(assert_all_called=False)


@pytest.fixture
def service(router: respx.MockRouter) -> respx.Route:
    """Return the one route there is; anything else that is asked for fails the test."""
    return router.post(f"{URL}/batch")


@pytest.fixture
def client(router: respx.MockRouter) -> Callable[..., CosyClient]:
    return partial(Inline, URL, transport=httpx.MockTransport(router.handler))


def spoken(text: str = "hello", **headers: str) -> httpx.Response:
    return httpx.Response(200, json={"results": [item(0, text)]}, headers=headers)


def test_the_headers_of_every_request(service: respx.Route, client: Callable[..., CosyClient]) -> None:
    """Who asks, for what, in which forms the answer may come, and under which key it is asked for."""
    service.mock(return_value=spoken())
    assert text_in(client(api_key="sk-1").synthesize("hello")) == "hello"
    (call,) = service.calls
    sent = call.request.headers
    assert sent["authorization"] == "Bearer sk-1"
    assert sent["user-agent"].startswith("cosyclient/")
    assert sent["accept"].startswith("application/vnd.cosyvoice.batch-frames;v=1, application/json;q=0.9")
    assert sent["accept-encoding"] == "gzip"
    assert sent["content-type"] == "application/json; charset=utf-8"
    assert sent["idempotency-key"].strip('"') == sent["x-request-id"]
    assert "cookie" not in sent
    assert json.loads(call.request.content)["texts"] == ["hello"]


def test_without_a_key_nothing_is_shown(service: respx.Route, client: Callable[..., CosyClient]) -> None:
    """No empty Authorization either."""
    service.mock(return_value=spoken())
    client().synthesize("hello")
    assert "authorization" not in service.calls.last.request.headers


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (301, ServiceError, 1),
        (400, BadRequest, 1),
        (401, Unauthorized, 1),
        (403, Forbidden, 1),
        (404, NotFound, 1),
        (408, ServiceError, 4),
        (409, ServiceError, 4),
        (413, TooLarge, 1),
        (418, BadRequest, 1),
        (422, BadRequest, 1),
        (425, ServiceError, 4),
        (429, Throttled, 4),
        (500, ServiceFault, 4),
        (501, ServiceFault, 1),
        (502, ServiceFault, 4),
        (503, ServiceFault, 4),
        (504, ServiceFault, 4),
    ],
)
def test_each_status_has_its_error_and_number_of_attempts(
    service: respx.Route, client: Callable[..., CosyClient], status: int, kind: type[CosyError], requests: int
) -> None:
    """Retried where that may help, with the same key; the error names status and code."""
    service.mock(return_value=httpx.Response(status, headers={"x-request-id": "r-7"}))
    with pytest.raises(kind) as caught:
        client().synthesize("hello")
    assert type(caught.value) is kind
    assert isinstance(caught.value, ServiceError)
    assert (caught.value.status, caught.value.request_id) == (status, "r-7")
    assert service.call_count == requests == len(caught.value.attempts)
    assert len({call.request.headers["idempotency-key"] for call in service.calls}) == 1


@pytest.mark.parametrize("status", [202, 204, 206])
def test_an_incomplete_success_is_an_error(
    service: respx.Route, client: Callable[..., CosyClient], status: int
) -> None:
    """2xx alone proves nothing."""
    service.mock(return_value=httpx.Response(status))
    with pytest.raises(DecodeError):
        client(max_retries=0).synthesize("hello")


@pytest.mark.parametrize(
    ("headers", "body", "least"),
    [
        ({"retry-after": "3"}, {}, 3.0),
        ({"retry-after": "0.5"}, {}, 0.5),
        ({"retry-after-ms": "700"}, {}, 0.7),
        ({"retry-after": "1"}, {"retry_after_ms": 2500}, 2.5),
        ({"retry-after": "soon"}, {}, 0.0),
        ({"retry-after": "-4"}, {}, 0.0),
    ],
)
def test_retry_after_in_all_its_forms(
    service: respx.Route,
    client: Callable[..., CosyClient],
    clock: FakeClock,
    headers: dict[str, str],
    body: dict[str, int],
    least: float,
) -> None:
    """Header or body, the longer one; never sent again before."""
    refusal = httpx.Response(429, headers={**headers, "content-type": "application/problem+json"}, json=body)
    service.mock(side_effect=[refusal, spoken()])
    before = clock.now()
    assert client().synthesize("hello").attempts == 2
    assert least <= clock.now() - before < least + 1.5


def test_retry_after_as_a_date(service: respx.Route, client: Callable[..., CosyClient], clock: FakeClock) -> None:
    """Counted from the wall clock, waited for on the monotonic one."""
    from email.utils import formatdate

    date = formatdate(clock.wall() + 6.0, usegmt=True)
    service.mock(side_effect=[httpx.Response(503, headers={"retry-after": date}), spoken()])
    before = clock.now()
    client().synthesize("hello")
    assert clock.now() - before >= 5.0


def test_a_gzipped_reply_is_read(service: respx.Route, client: Callable[..., CosyClient]) -> None:
    """Though audio should not be compressed."""
    import gzip

    plain = json.dumps({"results": [item(0, "hello")]}).encode()
    reply = httpx.Response(
        200, content=gzip.compress(plain), headers={"content-type": "application/json", "content-encoding": "gzip"}
    )
    service.mock(return_value=reply)
    assert text_in(client().synthesize("hello")) == "hello"


def test_the_services_quota_lowers_the_pace(
    service: respx.Route, client: Callable[..., CosyClient], clock: FakeClock
) -> None:
    """``RateLimit-Policy`` overrides the configured rate if it is lower."""
    service.mock(side_effect=lambda request: spoken(**{"RateLimit-Policy": '"ip";q=4;w=2'}))
    cosy = client()
    before = clock.now()
    for number in range(12):
        cosy.synthesize(f"text {number}")
    assert clock.now() - before >= 3.0
