"""The choice of the transport, and the checks when a client is made."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
import respx

from cosyclient import ConfigurationError, CosyClient, CosyError
from cosyclient.testing import ScriptedTransport


class Asynchronous(httpx.AsyncBaseTransport):
    """Carry nothing."""


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (httpx.Client, "got a class"),
        (httpx.MockTransport, "got a class"),
        (respx.MockRouter(), r"httpx\.MockTransport\(router\.handler\)"),
        (Asynchronous(), "synchronous"),
        (object(), "httpx.BaseTransport"),
        ("http://proxy.test", "got builtins.str"),
        (httpx.Client(), "not a client"),
        (httpx.AsyncClient(), "not a client"),
    ],
)
def test_an_invalid_transport_is_an_error_when_the_client_is_made(given: Any, hint: str) -> None:
    """The error names what to pass instead."""
    with pytest.raises(ConfigurationError, match=f"^transport: .*{hint}"):
        CosyClient("http://tts.test", transport=given)


def test_httpx_transports_and_objects_with_the_same_methods_are_accepted() -> None:
    """And objects with the methods of a cosyclient transport."""

    class Passes:
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(404)

        def close(self) -> None:
            pass

    router = respx.MockRouter()
    router.post("http://tts.test/v1/speech").respond(404)
    passes: Any = Passes()
    for given in (httpx.MockTransport(router.handler), passes, ScriptedTransport([])):
        CosyClient("http://tts.test", transport=given).close()
    with (
        CosyClient("http://tts.test", transport=passes, max_retries=0) as client,
        pytest.raises(CosyError, match="404"),
    ):
        client.synthesize("hello")


def test_an_interpreter_patched_too_late_is_an_error_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """By eventlet; a late patch of gevent does no harm."""
    CosyClient("http://tts.test").close()
    green = type("GreenSocket", (socket.socket,), {"__module__": "eventlet.greenio.base"})
    monkeypatch.setattr(socket, "socket", green)
    with pytest.raises(ConfigurationError, match=r"^eventlet: call eventlet\.monkey_patch\(\) before"):
        CosyClient("http://tts.test")
    monkeypatch.setattr(green, "__module__", "gevent._socket3")
    CosyClient("http://tts.test").close()
