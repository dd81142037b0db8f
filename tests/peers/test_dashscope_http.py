"""Alibaba's SDK, its HTTP synthesizer, against the emulator's Model Studio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from dashscope.api_entities.http_request import close_shared_sync_session
from dashscope.audio.http_tts.http_speech_synthesizer import HttpSpeechSynthesizer

from cosyclient.emulator import Emulator, running
from cosyclient.emulator.speech.echo import echo_text

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-peer"
TEXT = "你好，世界。今天天气怎么样，我们出去走走吧，顺便买点东西。"


@pytest.fixture(scope="module")
def service() -> Iterator[Emulator]:
    """Run an emulator that wants a key, and let go of the SDK's connections afterwards."""
    with running(engine="echo", api_key=KEY) as emulator:
        yield emulator
        close_shared_sync_session()


def call(service: Emulator, **more: Any) -> Any:
    """Ask the SDK for speech."""
    wanted = {"model": "cosyvoice-v3-flash", "text": TEXT, "voice": "longanyang", "api_key": KEY, **more}
    return HttpSpeechSynthesizer.call(url=f"{service.url}/api/v1", **wanted)


def test_a_stream_is_the_whole_audio(service: Emulator) -> None:
    """Its pieces and its last result, with the sentences' words."""
    results = list(call(service, stream=True, audio_format="pcm", word_timestamp_enabled=True, seed=7))
    pieces, last = [result.audio_data for result in results[:-1]], results[-1]
    assert echo_text(b"".join(pieces)) == TEXT
    assert last.audio_data == b"".join(pieces)
    words = [word for sentence in last.sentences for word in sentence["words"]]
    assert "".join(word["text"] for word in words) == "".join(filter(str.isalnum, TEXT))
    assert all(word["begin_time"] < word["end_time"] for word in words)
    received = service.received()[-1]
    assert {name: received[name] for name in ("api", "voice", "format", "sample_rate", "seed", "stream")} == {
        "api": "model-studio-http",
        "voice": "longanyang",
        "format": "pcm",
        "sample_rate": 24000,
        "seed": 7,
        "stream": True,
    }


def test_a_whole_reply_names_a_file(service: Emulator) -> None:
    """Which is there, once."""
    result = call(service)
    assert result.status_code == 200
    assert result.audio_url.startswith(service.url)
    assert result.usage["characters"] > len(TEXT)
    # Its address is enough to get it: real ones are signed, and take no key.
    fetched = httpx.get(result.audio_url, trust_env=False)
    assert echo_text(fetched.content) == TEXT


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"api_key": "sk-wrong"}, 401, "InvalidApiKey"),
        ({"voice": "alloy"}, 400, "InvalidParameter"),
        ({"model": "qwen-tts"}, 404, "ModelNotFound"),
        ({"sample_rate": 12345}, 400, "InvalidParameter"),
    ],
)
def test_a_refusal_is_read_by_the_sdk(service: Emulator, more: dict[str, Any], status: int, code: str) -> None:
    """Status, code and message arrive where the SDK looks for them."""
    result = call(service, **more)
    assert (result.status_code, result.code) == (status, code)
    assert result.message
    assert result.request_id


def test_throttling_is_read_by_the_sdk(service: Emulator) -> None:
    """The code family and the message of the documentation."""
    service.inject("throttle")
    result = call(service)
    assert (result.status_code, result.code) == (429, "Throttling.RateQuota")
    assert result.message == "Requests rate limit exceeded, please try again later."


def test_an_error_amid_the_stream_is_raised_by_the_sdk(service: Emulator) -> None:
    """After a 200, as an event."""
    service.inject("error_event", after=1, code="InternalError")
    results = call(service, stream=True, text=TEXT * 4)
    assert next(results).audio_data
    with pytest.raises(RuntimeError, match="Request failed"):
        list(results)
