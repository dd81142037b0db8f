"""The first call of a new user: nothing but an address, to a server that knows nothing of this client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cosyclient import ClientConfig, CosyClient, WireConfig
from tests.integration.apps.naive import fastapi_service, flask_service, nginx_before, plain_service
from tests.support.service import text_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

TEXTS = [f"第{number}句：今天天气很好，我们出去走走。 And number {number} in English." for number in range(200)]


@pytest.fixture(params=["fastapi", "flask", "nginx"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of each server in turn."""
    if request.param == "fastapi":
        with fastapi_service() as address:
            yield address
    elif request.param == "flask":
        with flask_service() as address:
            yield address
    else:
        with plain_service() as behind, nginx_before(behind, tmp_path) as address:
            yield address


def test_two_hundred_texts_at_the_first_try(url: str) -> None:
    """The drop-in call as the README has it: every text its own audio, no attempt too many, a closed breaker."""
    with CosyClient(url) as cosy:
        assert [text_in(audio) for audio in cosy.batch_synth(TEXTS)] == TEXTS
        stats = cosy.stats()
    assert (stats.failed, stats.retries, stats.throttled, set(stats.breakers.values())) == (0, 0, 0, {"closed"})


def test_single_calls_and_text_streams_succeed_at_the_first_try(url: str) -> None:
    """One text; a generator of them; a future."""
    with CosyClient(url) as cosy:
        assert text_in(cosy.synthesize("hello")) == "hello"
        assert [text_in(outcome.unwrap()) for outcome in cosy.synthesize_many(iter(TEXTS[:30]))] == TEXTS[:30]
        assert text_in(cosy.submit("later").result(60)) == "later"


@pytest.mark.parametrize("around", ["{}/", " {} ", "{}\r\n", '"{}"', "{}/batch", "{}/batch/\n"])
def test_an_address_may_have_quotes_blanks_or_a_route_around_it(around: str) -> None:
    """Out of a terminal, a file of settings, the documentation of the server."""
    with plain_service() as url, CosyClient(around.format(url)) as cosy:
        assert text_in(cosy.synthesize("hello")) == "hello"


@pytest.mark.parametrize("service", [fastapi_service, flask_service])
def test_servers_without_gzip_are_recognised_at_once(
    service: Callable[[], AbstractContextManager[str]],
) -> None:
    """Asked for wrongly, it costs the first requests a second one, and no text, no retry and no failure."""
    config = ClientConfig(wire=WireConfig(gzip_requests=True))
    with service() as url, CosyClient(url, config=config) as cosy:
        assert [text_in(audio) for audio in cosy.batch_synth(TEXTS)] == TEXTS
        stats = cosy.stats()
    assert (stats.failed, stats.retries, set(stats.breakers.values())) == (0, 0, {"closed"})
