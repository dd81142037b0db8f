"""What errors add to the service's message: the request, the setting to change, and never a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import CosyClient, CosyError, DecodeError, NotFound, PartialFailure, ServiceError, Unauthorized
from cosyclient.cli import main
from cosyclient.config.resolve import resolve
from cosyclient.emulator import running
from cosyclient.testing import ScriptedReply, scripted_client
from tests.support.hostile import answers, hostile, reply
from tests.support.service import refuse

if TYPE_CHECKING:
    from pathlib import Path

NEXT = "if {} is not what is spoken there, name another with protocol=, or find out with: cosyclient doctor --url {}"


def error_of(script: Any, **arguments: Any) -> CosyError:
    """Return the error of a call whose request is answered by *script*."""
    client, _ = scripted_client([script], max_retries=0, **arguments)
    with pytest.raises(CosyError) as caught:
        client.synthesize("hello", voice="v", model="m")
    client.close()
    return caught.value


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize(
    ("url", "protocol", "asked"),
    [
        ("http://h:8091", "batch", "POST http://h:8091/batch"),
        ("http://h:8091/v1", "openai", "POST http://h:8091/v1/audio/speech"),
        ("http://h/tts", "model-studio-http", "POST http://h/tts/api/v1/services/audio/tts/SpeechSynthesizer"),
    ],
)
def test_an_unknown_route_is_named_with_the_next_step(status: int, url: str, protocol: str, asked: str) -> None:
    """The error holds method, address and protocol."""
    error = error_of(ScriptedReply(status, {"Content-Type": "text/plain"}), base_url=url, protocol=protocol)
    assert str(error).startswith(f"HTTP {status}")
    assert str(error).endswith(f"; the request was {asked}; {NEXT.format(protocol, url)}")


def test_an_unknown_model_or_voice_is_not_taken_for_a_wrong_route() -> None:
    """The service was found, and its message says what is missing."""
    for code in ("unknown_voice", "unknown_model", "model_not_found"):
        error = error_of(refuse(404, code), base_url="http://h")
        assert isinstance(error, NotFound)
        assert str(error).endswith("; the request was POST http://h/batch")


@pytest.mark.parametrize(
    "other",
    [
        ScriptedReply(200, {"Content-Type": "text/html"}, [b"<!DOCTYPE html>"]),
        ScriptedReply(200, {"Content-Type": "application/json"}, [b'{"hello": "world"}']),
        ScriptedReply(204),
    ],
)
def test_a_reply_of_another_kind_of_server_is_named_as_one(other: ScriptedReply) -> None:
    """A web page, another JSON, or nothing at all."""
    error = error_of(other, base_url="http://h")
    assert isinstance(error, DecodeError)
    assert str(error).endswith(f"; the request was POST http://h/batch; {NEXT.format('batch', 'http://h')}")


def test_broken_audio_is_not_taken_for_a_wrong_protocol() -> None:
    """The reply was understood, so the address is right."""
    body = json.dumps({"results": [{"index": 0, "status": "success", "audio_data": "!!"}]}).encode()
    assert "doctor" not in str(error_of(ScriptedReply(200, {"Content-Type": "application/json"}, [body])))


def test_the_default_protocol_at_an_openai_server_gives_one_hint() -> None:
    """Over a socket, with retries: each error has one hint, the last one too."""
    with running(engine="tone", serve="openai") as emulator, CosyClient(emulator.url) as cosy:
        with pytest.raises(NotFound) as caught:
            cosy.synthesize("hello")
        with pytest.raises(PartialFailure) as failed:
            cosy.batch_synth(["one", "two"])
    for error in (caught.value, *failed.value.errors.values()):
        assert str(error).count("cosyclient doctor --url") == 1


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("https", {}, "what answers there speaks no TLS; if that is meant, write http://"),
        ("grpc", {"voice": "v"}, "what answers there is no gRPC server; write its own scheme"),
        (
            "ws",
            {"voice": "v", "protocol": "vllm-omni-ws"},
            "the request was GET ws://127.0.0.1:{port}/v1/audio/speech/stream; if",
        ),
    ],
)
def test_a_wrong_scheme_is_named_as_one(scheme: str, options: dict[str, Any], message: str) -> None:
    """Over a socket: the messages of OpenSSL, grpcio and Starlette get one of ours beside them."""
    with running(engine="tone", serve="batch") as emulator:
        port = emulator.url.rpartition(":")[2]
        cosy = CosyClient(f"{scheme}://127.0.0.1:{port}", max_retries=0, **options)
        with cosy, pytest.raises(CosyError) as caught:
            cosy.synthesize("hello", timeout=20)
    assert message.format(port=port) in str(caught.value)


def test_the_hint_is_quoted_for_a_shell() -> None:
    """An address may hold characters with a meaning to a shell."""
    error = error_of(ScriptedReply(404), base_url="http://h/a;b&c$(d)")
    assert "doctor --url 'http://h/a;b&c$(d)'" in str(error)


# --- keys ---


def test_an_unauthorized_error_names_the_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the source of the key that was refused; never its value."""
    monkeypatch.delenv("COSYCLIENT_API_KEY", raising=False)
    error = error_of(refuse(401, "unauthorized"), base_url="http://h")
    assert isinstance(error, Unauthorized)
    assert str(error).endswith("; no API key was sent; pass api_key=, or set COSYCLIENT_API_KEY")
    error = error_of(refuse(403, "forbidden"), base_url="https://api.openai.com")
    assert str(error).endswith("; without an API key; pass api_key=, or set COSYCLIENT_API_KEY or OPENAI_API_KEY")
    error = error_of(refuse(401, "unauthorized"), base_url="http://h", api_key="s3cret")
    assert str(error).endswith("; the key that was sent came from api_key=")
    monkeypatch.setenv("COSYCLIENT_API_KEY", "s3cret")
    error = error_of(refuse(401, "unauthorized"), base_url="http://h")
    assert str(error).endswith("; the key that was sent came from COSYCLIENT_API_KEY")
    assert "s3cret" not in str(error)
    error = error_of(refuse(401, "unauthorized"), base_url="http://h", headers={"authorization": "Basic s3cret"})
    assert str(error).endswith("; the Authorization header among headers= was sent")
    assert "s3cret" not in str(error)


KEYS = {"OPENAI_API_KEY": "open", "DASHSCOPE_API_KEY": "dash", "SILICONFLOW_API_KEY": "silicon"}


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://api.openai.com", "open"),
        ("https://api.openai.com/v1/audio/speech", "open"),
        ("https://API.OpenAI.com", "open"),
        ("wss://dashscope.aliyuncs.com/api-ws/v1/inference", "dash"),
        ("https://dashscope-intl.aliyuncs.com", "dash"),
        ("https://ws-1.cn-beijing.maas.aliyuncs.com", "dash"),
        ("https://api.siliconflow.cn", "silicon"),
        # No TLS, no key.
        ("http://api.openai.com", None),
        ("ws://dashscope.aliyuncs.com", None),
        # Other hosts with the same protocol or a similar name.
        ("https://tts.example.com", None),
        ("http://127.0.0.1:8091/v1/audio/speech", None),
        ("https://api.openai.com.evil.test", None),
        ("https://evil-api.openai.com", None),
        ("https://evilmaas.aliyuncs.com", None),
        ("https://openai.com", None),
        ("https://bucket.oss.aliyuncs.com", None),
    ],
)
def test_a_providers_key_is_sent_to_its_own_hosts_only(url: str, key: str | None) -> None:
    """Whatever protocol is named; our own variable and an argument override it."""
    for protocol in (None, "openai:openai", "model-studio"):
        found = resolve(base_url=url, protocol=protocol, environ=KEYS)
        assert (found.api_key.reveal() if found.api_key else None) == key
        assert found.key_source == next((name for name, value in KEYS.items() if value == key), "")
    ours = resolve(base_url=url, environ={**KEYS, "COSYCLIENT_API_KEY": "mine"}).api_key
    assert ours is not None
    assert ours.reveal() == "mine"
    given = resolve(base_url=url, api_key="given", environ={**KEYS, "COSYCLIENT_API_KEY": "mine"}).api_key
    assert given is not None
    assert given.reveal() == "given"


def test_a_providers_key_is_checked_like_ours() -> None:
    """The error names its variable."""
    with pytest.raises(CosyError, match=r"^OPENAI_API_KEY: must be printable ASCII .*value not shown"):
        resolve(base_url="https://api.openai.com", environ={"OPENAI_API_KEY": "two words"})
    found = resolve(base_url="https://api.openai.com", environ={"OPENAI_API_KEY": "Bearer k\n"}).api_key
    assert found is not None
    assert found.reveal() == "k"


def test_a_redirect_sends_no_key_elsewhere() -> None:
    """It is raised as an error, and not followed."""
    with hostile(answers(reply(status="307 Moved", headers=("Location: http://evil.test/",)))) as service:
        with CosyClient(service.url, api_key="s3cret", max_retries=0) as cosy, pytest.raises(ServiceError) as caught:
            cosy.synthesize("hello")
        assert service.seen == 1
    assert "set base_url to the final address" in str(caught.value)


# --- the doctor ---


def test_doctor_accepts_the_address_of_a_route(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It reports the protocol and the base URL."""
    with running(engine="tone", serve="openai") as emulator:
        arguments = ["doctor", "--url", f"{emulator.url}/v1/audio/speech", "--voice", "alloy", "--model", "tts-1"]
        code = main([*arguments, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (code, report["protocol"], report["url"]) == (0, "openai", emulator.url)
