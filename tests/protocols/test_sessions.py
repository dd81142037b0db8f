"""What the protocols over WebSocket have in common, without a socket."""

from __future__ import annotations

import pytest

from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadUtterance,
    Unauthorized,
)
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.base import PcmFormat, StreamingProtocol, TextInProtocol
from cosyclient.protocols.registry import check_supported, protocol_for
from cosyclient.testing import ScriptedReply
from tests.protocols.wire_runtime import CLONE
from tests.protocols.wire_websocket import event

NAMES = ("model-studio", "vllm-omni-ws", "lighttts-ws")


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_a_format_and_samples(name: str) -> None:
    """Cut as they came."""
    protocol = protocol_for(name, WireConfig())
    assert isinstance(protocol, StreamingProtocol)
    settings = VoiceSettings(voice=CLONE if name == "lighttts-ws" else "v", model="m", format="pcm")
    utterance = Utterance("a", settings)
    assert protocol.encode_stream(utterance, key="k").new_session is not None
    pieces = list(protocol.decode_stream(ScriptedReply(200, {}, [b"abc", b"d"]), utterance, wall=0.0))
    assert pieces == [PcmFormat(24000), b"abc", b"d"]
    with pytest.raises(Unauthorized):
        list(protocol.decode_stream(ScriptedReply(401), utterance, wall=0.0))


@pytest.mark.parametrize("name", NAMES)
def test_a_duplex_session_sends_later_text(name: str) -> None:
    """Opened without text."""
    protocol = protocol_for(name, WireConfig())
    assert isinstance(protocol, TextInProtocol)
    settings = VoiceSettings(voice=CLONE if name == "lighttts-ws" else "v", model="m", format="pcm")
    request = protocol.encode_duplex(settings, key="k")
    assert request.new_session is not None
    made = request.new_session()
    assert not any("later" in str(message) for message in made.open())
    assert made.writer_timeout > 0
    said = [*made.send_text("later"), *made.end_text()]
    if name == "model-studio":
        said = [*made.receive(event(made, "task-started")).send]
    assert "later" in str(said[0])
    assert (made.writer_timeout, made.end_text()) == (0.0, ())
    assert "text ended" in repr(made)


@pytest.mark.parametrize("name", NAMES)
def test_settings_without_a_default_are_required(name: str) -> None:
    """By its name, before anything is sent."""
    protocol = protocol_for(name, WireConfig())
    with pytest.raises(BadUtterance, match="^voice: "):
        check_supported(protocol, VoiceSettings(model="m"))
    if name == "model-studio":
        with pytest.raises(BadUtterance, match="^model: "):
            check_supported(protocol, VoiceSettings(voice="v"))
