"""`replies.uploads`: a recording is uploaded once and spoken by name afterwards, with every protocol that can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import BadUtterance, ConnectFailed, CosyClient, DecodeError, ServiceFault, Voice
from cosyclient.config import WireConfig
from cosyclient.emulator.speech.echo import echo_text
from cosyclient.protocols.registry import every_name, protocol_for
from cosyclient.testing import ScriptedReply, scripted_client
from tests.test_voices import recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from cosyclient.emulator import Emulator
    from cosyclient.wire import WireReply

SWITCHES: dict[str, dict[str, Any]] = {
    "openai:vllm-omni": {"serve": "openai", "dialect": "vllm-omni"},
    "openai:siliconflow": {"serve": "openai", "dialect": "siliconflow"},
    "openai:async-cosyvoice": {"serve": "openai", "dialect": "async-cosyvoice"},
    "pai-eas": {"serve": "pai-eas"},
}
TEXT = "你好，世界。Hello."


@pytest.mark.parametrize("name", SWITCHES)
def test_an_uploaded_recording_is_spoken_by_its_name(start: Callable[..., Emulator], name: str) -> None:
    """The returned voice is all that later calls need."""
    emulator = start(engine="echo", **SWITCHES[name])
    with CosyClient(emulator.url, protocol=name) as cosy:
        kept = cosy.upload_voice(Voice.clone(recording(), "一段话"), "me", consent="yes, on 1 May")
        assert kept.kind == "named"
        speech = cosy.synthesize(TEXT, voice=kept)
    assert echo_text(speech.audio) == TEXT
    assert emulator.received()[-1]["voice"] == kept.name or emulator.received()[-1]["prompt_bytes"]


def test_every_protocol_that_keeps_voices_is_tested_here() -> None:
    """A new one adds a row."""
    keeping = {name for name in every_name() if protocol_for(name, WireConfig()).capabilities.keeps_voices}
    assert keeping - {"pai-eas:cross_lingual"} == SWITCHES.keys()


def test_missing_fields_are_refused_before_anything_is_sent() -> None:
    """By their names; so is a protocol that keeps no recordings."""
    clone = Voice.clone(recording(), "一段话")
    client, transport = scripted_client([], protocol="openai:vllm-omni")
    with pytest.raises(BadUtterance, match="consent: protocol openai:vllm-omni keeps no voice without one"):
        client.upload_voice(clone, "me")
    with pytest.raises(BadUtterance, match="has a name already"):
        client.upload_voice(Voice("me"), "me", consent="yes")
    client, _ = scripted_client([], protocol="openai:siliconflow")
    with pytest.raises(BadUtterance, match="transcript: "):
        client.upload_voice(Voice.cross_lingual(recording()), "me")
    client, _ = scripted_client([])
    with pytest.raises(BadUtterance, match="protocol batch keeps no recordings"):
        client.upload_voice(clone, "me")
    assert transport.requests == []


@pytest.mark.parametrize(
    ("answer", "error", "sent"),
    [
        (ScriptedReply(500, {}, [b"no"]), ServiceFault, 1),
        (ScriptedReply(200, {}, [b'{"success":false,"error":"no"}']), DecodeError, 1),
        (ScriptedReply(200, {}, [b'{"uri":""}']), DecodeError, 1),
        (ScriptedReply(200, {}, [b"<html>"]), DecodeError, 1),
        (ConnectFailed("refused"), None, 2),
        (ScriptedReply(429, {}, [b"{}"]), None, 2),
    ],
)
def test_an_upload_that_may_have_arrived_is_not_repeated(
    answer: WireReply | Exception, error: type[Exception] | None, sent: int
) -> None:
    """One that has certainly not arrived is retried."""
    kept = ScriptedReply(200, {}, [b'{"uri":"speech:me:a:b"}'])
    client, transport = scripted_client([answer, kept], protocol="openai:siliconflow")
    clone = Voice.clone(recording(), "一段话")
    if error is None:
        assert client.upload_voice(clone, "me") == Voice("speech:me:a:b")
    else:
        with pytest.raises(error):
            client.upload_voice(clone, "me")
    assert len(transport.requests) == sent
    assert client.stats().in_flight == 0
