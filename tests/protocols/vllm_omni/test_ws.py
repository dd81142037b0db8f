"""Sessions of vLLM-Omni over WebSocket, message by message, without a socket."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadRequest,
    BadUtterance,
    DecodeError,
    NotFound,
    ServiceError,
    ServiceFault,
)
from cosyclient.models import Utterance, VoiceSettings, Word
from cosyclient.protocols.base import TextInProtocol
from cosyclient.protocols.registry import protocol_for
from cosyclient.protocols.vllm_omni.ws import Session
from tests.protocols.wire_runtime import CLONE, TRANSCRIPT
from tests.protocols.wire_websocket import read, received


def session(text: str | None = "hello", *, stream: bool = False, **options: Any) -> Session:
    """Return an utterance that has been opened."""
    made = Session(VoiceSettings(voice=CLONE).replace(options), text, stream=stream)
    made.open()
    return made


def vllm(kind: str, **members: Any) -> str:
    """Return a message of vLLM-Omni."""
    return json.dumps({"type": kind, **members})


def test_a_session_sends_its_whole_configuration() -> None:
    """Also what it does not: the conversation before may have wanted it."""
    config, text, done = read(Session(VoiceSettings(voice=CLONE, seed=7, model="m"), "hello").open())
    assert config.pop("ref_audio").startswith("data:audio/wav;base64,")
    assert config == {
        "type": "session.config",
        "model": "m",
        "voice": None,
        "ref_text": TRANSCRIPT,
        "response_format": "wav",
        "speed": 1.0,
        "seed": 7,
        "stream_audio": False,
        "split_granularity": "none",
        "word_timestamps": False,
    }
    assert (text, done) == ({"type": "input.text", "text": "hello"}, {"type": "input.done"})
    (config,) = read(Session(VoiceSettings(voice="uploaded", format="pcm"), None, stream=True).open())
    assert (config["voice"], config["ref_audio"], config["ref_text"]) == ("uploaded", None, None)
    assert (config["stream_audio"], config["split_granularity"]) == (True, "sentence")


def test_a_session_ends_after_whole_sentences_and_its_last_message() -> None:
    """Each announces how many bytes it had."""
    made = session(stream=True, format="pcm")
    _, audio, done = received(
        made,
        [
            vllm("audio.start", format="pcm", sample_rate=24000, sentence_index=0),
            b"abcd",
            b"ef",
            vllm("audio.done", total_bytes=6, error=False),
            vllm("audio.start", format="pcm", sample_rate=24000, sentence_index=1),
            b"gh",
            vllm("audio.done", total_bytes=2, error=False),
            vllm("session.done", total_sentences=2),
        ],
    )
    assert (audio, done, made.reusable, made.sample_rate) == (b"abcdefgh", True, True, 24000)


@pytest.mark.parametrize(
    "messages",
    [
        [b"early"],
        [vllm("audio.start", format="mp3")],
        [vllm("audio.start"), b"ab", vllm("audio.done", total_bytes=3)],
        [vllm("audio.start"), vllm("audio.chunk", audio_b64="!")],
        [vllm("audio.start"), vllm("audio.chunk", audio_b64=7)],
        ["nonsense"],
        [vllm("audio.start", sample_rate=24000), vllm("audio.start", sample_rate=16000)],
    ],
)
def test_incomplete_sentences_are_errors(messages: list[str | bytes]) -> None:
    """Neither truncated nor mislabelled audio is handed on."""
    with pytest.raises(DecodeError):
        received(session(stream=True, format="pcm"), messages)


def test_a_session_must_not_end_before_its_text() -> None:
    """Somebody else's end is not ours."""
    with pytest.raises(DecodeError):
        session(None, stream=True).receive(vllm("session.done"))


@pytest.mark.parametrize(
    ("messages", "kind", "retryable"),
    [
        ([vllm("error", message="speed must be from 0.25 to 4.0")], BadRequest, False),
        ([vllm("error", message="idle timeout")], ServiceError, True),
        ([vllm("audio.start"), vllm("error", message="boom", partial_audio=True)], ServiceFault, True),
        ([vllm("error", message="boom", partial_audio=True)], ServiceFault, True),
        ([vllm("audio.start"), vllm("audio.done", error=True)], ServiceFault, True),
        ([vllm("error")], BadRequest, False),
        ([vllm("error", message="The model `x` does not exist.")], NotFound, False),
        ([vllm("error", message="word_timestamps=true but the server was launched without")], BadRequest, False),
        ([vllm("error", message="Internal error: boom")], ServiceFault, True),
        *(
            ([vllm("audio.start"), vllm("error", message=f"Generation failed for utterance 3, sentence 12: {said}")],
             kind, kind is ServiceFault)
            for said, kind in (
                ("Unknown voice 'x'. CosyVoice3 has no built-in speakers.", BadRequest),
                ("CosyVoice3 requires 'ref_text' (transcript of the reference audio)", BadRequest),
                ("Reference audio too short (0.2s).", BadRequest),
                ("Input text cannot be empty", BadRequest),
                ("CUDA error: an illegal memory access was encountered", ServiceFault),
                # What is quoted further inside is no saying of the server's.
                ("the engine died at: Unknown voice '", ServiceFault),
            )
        ),
    ],
)  # fmt: skip
def test_errors_of_a_session_are_classified(messages: list[str], kind: type[ServiceError], retryable: bool) -> None:
    """There are no codes: before the first sound it is about the request, after it the words tell."""
    with pytest.raises(ServiceError) as caught:
        received(session(), messages)
    assert (type(caught.value), caught.value.retryable) == (kind, retryable)


def test_timed_words_come_with_their_audio() -> None:
    """In base64, the times with the last piece; null is a failed alignment, an empty list silence."""
    made = session(words=True, stream=True)
    times = [{"word": "你", "start_ms": 0, "end_ms": 100}, {"word": 3}, "x"]
    second = base64.b64encode(b"\0\0" * 12000).decode()
    _, audio, done = received(
        made,
        [
            vllm("audio.start", format="pcm", sample_rate=24000),
            vllm("audio.chunk", audio_b64=second),
            vllm("audio.chunk", audio_b64="", timestamps=times),
            vllm("audio.chunk", audio_b64="", timestamps=None),
            vllm("audio.done", total_bytes=24000),
            # Each sentence counts from its own beginning.
            vllm("audio.start", format="pcm", sample_rate=24000),
            vllm("audio.chunk", audio_b64="YWJj"),
            vllm("audio.chunk", audio_b64="", timestamps=times),
            vllm("audio.done", total_bytes=3),
            vllm("session.done"),
        ],
    )
    assert (len(audio), done, made.words) == (24003, True, (Word("你", 0.0, 0.1), Word("你", 0.5, 0.6)))


def test_timed_words_are_requested_with_a_stream_of_samples() -> None:
    """The service times nothing else; a file is made of them here."""
    protocol = protocol_for("vllm-omni-ws", WireConfig())
    for format in ("wav", "pcm"):
        request = protocol.encode([Utterance("a", VoiceSettings(voice=CLONE, words=True, format=format))], key="k")
        assert request.new_session is not None
        config, *_ = read(request.new_session().open())
        assert [config[name] for name in ("stream_audio", "response_format", "word_timestamps")] == [True, "pcm", True]
    for options in ({"format": "mp3"}, {"speed": 1.5}):
        settings = VoiceSettings(voice=CLONE, words=True).replace(options)
        with pytest.raises(BadUtterance, match="words: "):
            protocol.encode([Utterance("a", settings)], key="k")


def test_long_text_stays_within_a_message_of_vllm() -> None:
    """128 KiB of UTF-8."""
    made = session(None, stream=True)
    messages = made.send_text("😀" * 40_000)
    assert [len(message) <= 200_000 for message in messages] == [True, True]
    assert all(len(document["text"].encode()) <= 128 << 10 for document in read(messages))


def test_vllm_streams_at_speed_1_only() -> None:
    """Told before anything is sent."""
    protocol = protocol_for("vllm-omni-ws", WireConfig())
    assert isinstance(protocol, TextInProtocol)
    for options in ({"speed": 1.5}, {"words": True}):
        settings = VoiceSettings(voice=CLONE, format="pcm").replace(options)
        with pytest.raises(BadUtterance):
            protocol.encode_stream(Utterance("a", settings), key="k")
        with pytest.raises(BadUtterance):
            protocol.encode_duplex(settings, key="k")
