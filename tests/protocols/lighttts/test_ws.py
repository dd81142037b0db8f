"""Sessions of LightTTS over WebSocket, message by message, without a socket."""

from __future__ import annotations

import json

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadRequest,
    ServiceError,
    ServiceFault,
)
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.lighttts.ws import Bistream
from cosyclient.protocols.registry import protocol_for
from cosyclient.voices import Voice
from tests.protocols.wire_runtime import CLONE, TRANSCRIPT, recording
from tests.protocols.wire_websocket import read, received


def test_a_bistream_begins_with_the_voice_and_ends_with_the_connection() -> None:
    """Closed in good order, after everything was said; anything else is a break."""
    made = Bistream(VoiceSettings(voice=CLONE, model="m"), "hello")
    head, wav, text, finish = read(made.open())
    assert head == {"prompt_text": TRANSCRIPT, "tts_model_name": "m"}
    assert wav == recording()
    assert (text, finish) == ({"tts_text": "hello"}, {"finish": True})
    assert received(made, [b"ab", b"cd", "{}"]) == ([], b"abcd", False)
    assert made.closed(1000)
    assert not any(made.closed(code) for code in (1001, 1006, 1011))
    assert not made.reusable
    assert not Bistream(VoiceSettings(voice=CLONE)).closed(1000)


def test_an_error_of_a_bistream_is_a_service_error() -> None:
    """It has no codes."""
    with pytest.raises(ServiceFault, match="no such model"):
        Bistream(VoiceSettings(voice=CLONE), "hello").receive('{"error":"no such model"}')


def test_errors_of_lighttts_are_classified_by_message_and_close_code() -> None:
    """A text too long, a model it does not serve and a recording it cannot read are the caller's."""
    settings = VoiceSettings(voice=CLONE, model="m")
    for said, kind in (
        ("Server error: The input is too long and the resulting audio will be incomplete", BadRequest),
        ("Server error: 'm'", BadRequest),
        ("Server error: 'n'", ServiceFault),
        ("Server error: CUDA error", ServiceFault),
    ):
        with pytest.raises(ServiceError) as caught:
            Bistream(settings, "hello").receive(json.dumps({"error": said}))
        assert type(caught.value) is kind, said
    with pytest.raises(BadRequest, match="recording"):
        Bistream(settings, "hello").closed(1003)
    assert Bistream(settings, "hello").closed(1011) is False


def test_lighttts_sends_the_system_prompt_for_cosyvoice3() -> None:
    """Once: a transcript that has it is left alone."""
    protocol = protocol_for("lighttts-ws:cosyvoice3", WireConfig())
    marked = f"You are a helpful assistant.<|endofprompt|>{TRANSCRIPT}"
    for transcript in (TRANSCRIPT, marked):
        voice = Voice.clone(recording(), transcript)
        request = protocol.encode([Utterance("a", VoiceSettings(voice=voice))], key="k")
        assert request.new_session is not None
        head, _, *_ = request.new_session().open()
        assert json.loads(head)["prompt_text"] == marked
