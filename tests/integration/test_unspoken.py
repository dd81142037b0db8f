"""Audio that is none, or another than was asked for, from its caller's side: what is sent again, and who is blamed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import BadRequest, ConfigurationError, CosyClient, DecodeError, ServiceFault
from cosyclient.audio import wav_bytes
from cosyclient.models import has_speech, join
from cosyclient.testing import ScriptedReply, ScriptedTransport, scripted_client
from tests.support.service import failed, item, refuse, reply, text_in, texts_of

if TYPE_CHECKING:
    from cosyclient.wire import WireRequest


class TestTextsWithoutSpeech:
    """Punctuation and emoji, for which services make no audio: no fault of the service, sent once."""

    SPOKEN = wav_bytes(bytes(range(250)) * 400, 24000)

    def speak(self, request: WireRequest) -> ScriptedReply:
        """Answer as a server does that drops what cannot be spoken."""
        said = json.loads(request.body)["input"]
        return ScriptedReply(200, {"Content-Type": "audio/wav"}, [self.SPOKEN if has_speech(said) else b""])

    def client(self, script: Any, **arguments: Any) -> tuple[CosyClient, ScriptedTransport]:
        """Return a client of an OpenAI-compatible server."""
        return scripted_client(script, protocol="openai", model="m", voice="v", **arguments)

    def test_silent_texts_neither_open_the_breaker_nor_are_sent_twice(self) -> None:
        """Forty of them leave the service as good as it is."""
        client, transport = self.client(self.speak)
        texts = [f"{'…' * (number + 1)}😀" for number in range(40)]
        outcomes = list(client.synthesize_many([*texts, *(f"text {number}" for number in range(30))]))
        assert all(isinstance(outcome.error, DecodeError) for outcome in outcomes[:40])
        assert all(outcome.error is not None and not outcome.error.retryable for outcome in outcomes[:40])
        assert all(outcome.unwrap().duration > 2 for outcome in outcomes[40:])
        assert len(transport.requests) == 70
        assert (set(client.stats().breakers.values()), client.stats().retries) == ({"closed"}, 0)

    def test_silent_texts_become_a_short_silence_if_configured(self) -> None:
        """For a client, a view and a call."""
        client, _ = self.client(self.speak, on_silent="silence")
        assert client.batch_synth(["……", "hello"])[1] == self.SPOKEN
        assert client.synthesize("😀").duration == 0.3
        assert join([client.synthesize("hello"), client.synthesize("……")]).duration > 2.3
        with pytest.raises(DecodeError, match="nothing to be spoken"):
            client.synthesize("……", on_silent="error")
        assert client.with_options(format="mp3").synthesize("……").duration == pytest.approx(0.3, abs=0.03)
        assert client.stats().failed == 1
        with pytest.raises(ConfigurationError, match="on_silent: must be 'error' or 'silence'"):
            self.client(self.speak, on_silent="skip")

    def test_a_server_that_refuses_silent_texts_is_treated_the_same(self) -> None:
        """Alone or in a batch; what else it refuses stays refused."""

        def refusing(request: WireRequest) -> ScriptedReply:
            return self.speak(request) if "good" in json.loads(request.body)["input"] else refuse(400)

        client, _ = self.client(refusing, on_silent="silence")
        assert client.synthesize("……").duration == 0.3
        with pytest.raises(BadRequest):
            client.synthesize("bad")
        with pytest.raises(BadRequest):
            client.synthesize("……", on_silent="error")

        def per_text(request: WireRequest) -> ScriptedReply:
            texts = texts_of(request)
            return reply(
                [
                    failed(n, retryable=False, code="validation_failed") if n else item(n, text)
                    for n, text in enumerate(texts)
                ]
            )

        client, _ = scripted_client(per_text, on_silent="silence")
        good, silent, bad = client.synthesize_many(["good", "……", "bad"])
        assert text_in(good.unwrap()) == "good"
        assert silent.unwrap().duration == 0.3
        assert isinstance(bad.error, BadRequest)

    def test_a_server_that_fails_on_silent_texts_is_not_unhealthy(self) -> None:
        """Tried again, as it may be something else, but not held against it."""

        def fail(request: WireRequest) -> ScriptedReply:
            return self.speak(request) if has_speech(json.loads(request.body)["input"]) else refuse(500)

        client, transport = self.client(fail, max_retries=1)
        outcomes = list(client.synthesize_many([*("…" * (number + 1) for number in range(40)), "good"]))
        assert outcomes[-1].unwrap().audio == self.SPOKEN
        assert all(isinstance(outcome.error, ServiceFault) for outcome in outcomes[:40])
        assert len(transport.requests) == 81
        assert set(client.stats().breakers.values()) == {"closed"}


def test_a_wrong_format_is_requested_once() -> None:
    """The error names the format found, although the reply is labelled as the one asked for."""
    wav = wav_bytes(bytes(range(250)) * 400, 24000)
    client, transport = scripted_client(
        [ScriptedReply(200, {"Content-Type": "audio/mpeg"}, [wav])],
        protocol="openai",
        model="m",
        voice="v",
        format="mp3",
    )
    with pytest.raises(DecodeError, match="asked for mp3, got wav"):
        client.synthesize("hello, how are you?")
    assert len(transport.requests) == 1


def test_silence_is_tried_again() -> None:
    """A service that gave nothing but zeros may do better."""
    good = wav_bytes(bytes(range(250)) * 400, 24000)
    replies = [
        ScriptedReply(200, {"Content-Type": "audio/wav"}, [body]) for body in (wav_bytes(bytes(99_000), 24000), good)
    ]
    client, transport = scripted_client(replies, protocol="openai", model="m", voice="v")
    assert client.synthesize("hello").audio == good
    assert len(transport.requests) == 2
