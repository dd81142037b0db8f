"""OpenAI's own client against the emulator: what it understands of each server is what it would of the real one."""

from __future__ import annotations

import base64
import json
import wave
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import openai
import pytest

from cosyclient.emulator import echo_text
from tests.contracts.apis_openai import at
from tests.protocols.wire_runtime import TRANSCRIPT, recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cosyclient.emulator import Emulator

    Start = Callable[..., Emulator]

TEXT = "你好，世界"
PROMPT = "data:audio/wav;base64," + base64.b64encode(recording()).decode()
MODEL = "cosyvoice2"


@contextmanager
def client(emulator: Emulator, **more: Any) -> Iterator[openai.OpenAI]:
    """Yield a client whose retries cost no time to speak of."""
    options = {"api_key": "k", "max_retries": 0, "base_url": f"{emulator.url}/v1", **more}
    with openai.OpenAI(**options) as sdk:
        yield sdk


@pytest.mark.parametrize(
    ("dialect", "voice", "extra"),
    [
        ("any", "alloy", {}),
        ("openai", "alloy", {}),
        ("vllm-omni", "default", {"ref_audio": PROMPT, "ref_text": TRANSCRIPT}),
        ("sglang-omni", "default", {"ref_audio": PROMPT}),
        ("xinference", "中文女", {}),
        ("vox-box", "Chinese Female", {}),
        ("async-cosyvoice", "中文女", {}),
    ],
)
def test_it_speaks_with_every_server(start: Start, dialect: str, voice: str, extra: dict[str, Any]) -> None:
    """By its plain call, and the fields beyond the standard by ``extra_body``."""
    emulator = at(start, dialect)
    with client(emulator) as sdk:
        made = sdk.audio.speech.create(
            model=MODEL, voice=voice, input=TEXT, response_format="wav", extra_body=extra or None
        )
    with wave.open(BytesIO(made.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24000, 1, 2)
        assert echo_text(file.readframes(1 << 20)) == TEXT
    received = emulator.received()[0]
    # vLLM-Omni takes that name for none.
    spoken = "" if dialect == "vllm-omni" else voice
    assert (received["text"], received["voice"], received["model"]) == (TEXT, spoken, MODEL)
    assert received.get("prompt_bytes") == (len(recording()) if extra else None)


def test_its_options_are_understood(start: Start) -> None:
    """Instructions, speed, and a voice by its id."""
    emulator = start(engine="echo")
    with client(emulator) as sdk:
        sdk.audio.speech.create(
            model=MODEL, voice={"id": "mine"}, input="a", instructions="softly", speed=1.5, response_format="pcm"
        )
    received = emulator.received()[0]
    assert {name: received[name] for name in ("voice", "instruct", "speed", "format")} == {
        "voice": "mine",
        "instruct": "softly",
        "speed": 1.5,
        "format": "pcm",
    }


def test_it_streams_bare_audio(start: Start) -> None:
    """Piece by piece, while it is made."""
    emulator = at(start, "openai")
    with (
        client(emulator) as sdk,
        sdk.audio.speech.with_streaming_response.create(
            model="tts-1", voice="nova", input=TEXT, response_format="pcm", stream_format="audio"
        ) as reply,
    ):
        assert reply.headers["content-type"] == "application/octet-stream"
        pieces = list(reply.iter_bytes())
    assert len(pieces) > 1
    assert echo_text(b"".join(pieces)) == TEXT


def test_it_streams_events(start: Start) -> None:
    """Its own two kinds."""
    emulator = at(start, "openai")
    with (
        client(emulator) as sdk,
        sdk.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="nova", input=TEXT, response_format="pcm", stream_format="sse"
        ) as reply,
    ):
        assert reply.headers["content-type"] == "text/event-stream"
        lines = [line for line in reply.iter_lines() if line.startswith("data:")]
    found = [json.loads(line.removeprefix("data:")) for line in lines]
    assert [each["type"] for each in found] == ["speech.audio.delta"] * (len(found) - 1) + ["speech.audio.done"]
    assert echo_text(b"".join(base64.b64decode(each["audio"]) for each in found[:-1])) == TEXT
    assert found[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("dialect", "fields", "kind", "message"),
    [
        ("openai", {"model": "gpt-9"}, openai.NotFoundError, "does not exist"),
        ("openai", {"extra_body": {"seed": 1}}, openai.BadRequestError, "Unknown parameter"),
        ("openai", {"input": "x" * 4097}, openai.BadRequestError, "at most 4096"),
        ("vllm-omni", {"voice": "nobody"}, openai.BadRequestError, "Unknown voice"),
        ("sglang-omni", {"voice": "nobody"}, openai.BadRequestError, "exactly one speech reference"),
        ("xinference", {"model": "x"}, openai.NotFoundError, "Model not found"),
        ("xinference", {"voice": "nobody"}, openai.InternalServerError, "Invalid voice nobody"),
        ("async-cosyvoice", {"input": " "}, openai.BadRequestError, "non-empty"),
    ],
)
def test_it_understands_refusals(
    start: Start, dialect: str, fields: dict[str, Any], kind: type[openai.APIStatusError], message: str
) -> None:
    """As the classes of its own, whatever the envelope."""
    with client(at(start, dialect)) as sdk, pytest.raises(kind) as caught:
        sdk.audio.speech.create(**{"model": MODEL, "voice": "alloy", "input": "a", **fields})
    assert message in caught.value.response.text
    assert caught.value.request_id


def test_it_takes_vox_boxs_errors_for_audio(start: Start) -> None:
    """They come with 200: this is why the media type counts and not the status."""
    with client(at(start, "vox-box")) as sdk:
        made = sdk.audio.speech.create(model=MODEL, voice="nobody", input="a")
    assert json.loads(made.content)["status_code"] == 500


def test_it_shows_its_key(start: Start) -> None:
    """And is turned away with another."""
    emulator = at(start, "openai", api_key="right")
    asked: dict[str, Any] = {"model": "tts-1", "voice": "nova", "input": "a", "response_format": "pcm"}
    with client(emulator, api_key="right") as sdk:
        assert echo_text(sdk.audio.speech.create(**asked).content) == "a"
    with client(emulator, api_key="wrong") as sdk, pytest.raises(openai.AuthenticationError):
        sdk.audio.speech.create(**asked)


def test_it_tries_again_when_told_to_wait(start: Start) -> None:
    """By the time that a 429 names, or not at all."""
    emulator = at(start, "openai")
    with client(emulator, max_retries=2) as sdk:
        emulator.inject("throttle", retry_after=1)
        made = sdk.audio.speech.create(model="tts-1", voice="nova", input="a", response_format="pcm")
        assert echo_text(made.content) == "a"
        assert emulator.counters().replies == {429: 1, 200: 1}
        emulator.inject("throttle_bare")
        with pytest.raises(openai.RateLimitError):
            sdk.with_options(max_retries=0).audio.speech.create(model="tts-1", voice="nova", input="a")


def test_it_lists_models(start: Start) -> None:
    """Under their owner's name."""
    with client(at(start, "sglang-omni")) as sdk:
        assert {model.owned_by for model in sdk.models.list()} == {"sglang"}
