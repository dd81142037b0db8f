"""The batch protocol's requests: what is asked, in which bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyclient.config import WireConfig
from cosyclient.errors import (
    BadUtterance,
    ConfigurationError,
)
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.protocols.batch.protocol import BatchProtocol
from cosyclient.protocols.registry import protocol_for
from tests.protocols import wire
from tests.protocols.reading import PLAIN

if TYPE_CHECKING:
    from cosyclient.wire import WireRequest


def header(request: WireRequest, name: str) -> str | None:
    """Return one header of a request."""
    return dict(request.headers).get(name)


def test_the_request_has_every_setting() -> None:
    """Defaults are explicit, what is left to the service is absent, text is sent as it is."""
    request = PLAIN.encode([Utterance('你好，"世界"\n', VoiceSettings())], key="k-1")
    assert (request.method, request.path) == ("POST", "/batch")
    assert request.body.decode() == ('{"texts":["你好，\\"世界\\"\\n"],"format":"wav","sample_rate":24000,"speed":1.0}')
    assert dict(request.headers) == {
        "Content-Type": "application/json; charset=utf-8",
        "Accept": "application/vnd.cosyvoice.batch-frames;v=1, application/json;q=0.9, application/problem+json",
        "Idempotency-Key": '"k-1"',
        "X-Request-Id": "k-1",
    }


def test_every_option_is_sent() -> None:
    """Each setting has its member."""
    voice = VoiceSettings(
        voice="晓", model="m", format="mp3", sample_rate=8000, speed=1.5, instruct='用"四川话"', seed=0
    )
    body = json.loads(PLAIN.encode([Utterance("a", voice), Utterance("b", voice)], key="k").body)
    assert body == {
        "texts": ["a", "b"],
        "voice": "晓",
        "model": "m",
        "format": "mp3",
        "sample_rate": 8000,
        "speed": 1.5,
        "instruct": '用"四川话"',
        "seed": 0,
    }


def test_without_frames_only_json_is_accepted() -> None:
    """A configuration may turn frames off."""
    protocol = BatchProtocol(WireConfig(frames=False))
    request = protocol.encode(wire.texts(1), key="k")
    assert header(request, "Accept") == "application/json, application/problem+json"
    assert (repr(protocol), repr(PLAIN)) == ("<BatchProtocol JSON>", "<BatchProtocol frames or JSON>")


SPEAKABLE = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=50).filter(str.strip)


@given(st.lists(SPEAKABLE | st.just('\\"\n\t\r'.replace("\n", "\nx")), min_size=1, max_size=8), st.integers(0, 1))
@settings(deadline=None)
def test_weights_bound_the_body_and_texts_are_sent_unchanged(texts: list[str], instructed: int) -> None:
    """The sum of the weights is never less than the body."""
    voice = VoiceSettings(instruct='"\\' * 100 if instructed else None)
    utterances = [Utterance(text, voice) for text in texts]
    body = PLAIN.encode(utterances, key="k").body
    assert len(body) <= sum(map(PLAIN.weigh, utterances))
    assert json.loads(body)["texts"] == texts


def test_mixed_settings_are_refused_before_anything_is_sent() -> None:
    """One request has one voice."""
    mixed = [Utterance("a", VoiceSettings()), Utterance("a", VoiceSettings(speed=1.1))]
    with pytest.raises(BadUtterance, match="share their settings"):
        PLAIN.encode(mixed, key="k")


def test_an_unknown_protocol_is_refused_with_the_known_names() -> None:
    """A protocol that does not exist is a configuration error."""
    assert isinstance(protocol_for("batch", WireConfig()), BatchProtocol)
    with pytest.raises(ConfigurationError, match="protocol: 'soap' is not one of batch"):
        protocol_for("soap", WireConfig())
