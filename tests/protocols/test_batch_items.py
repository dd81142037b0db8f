"""One item of a batch reply: its error, or its audio and what is known of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from cosyclient.errors import (
    BadRequest,
    DecodeError,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
)
from cosyclient.models import Speech
from tests.protocols import wire
from tests.protocols.reading import base64_by, decode

__all__ = ["base64_by"]


def coded(index: int) -> str:
    """Return the tagged audio as base64."""
    return base64.b64encode(wire.tagged_wav(index)).decode()


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"code": "unknown_voice"}, NotFound, False),
        ({"code": "rate_limited", "retry_after_ms": 5}, Throttled, True),
        ({"code": "rate_limited", "retryable": False}, Throttled, False),
        ({"code": "new_thing", "retryable": True}, ServiceFault, True),
        ({"code": "new_thing", "retryable": False}, BadRequest, False),
        ({"code": "new_thing"}, ServiceFault, True),
        ({"code": ["?"], "retryable": "yes"}, ServiceFault, True),
        ("engine said no", ServiceFault, True),
        (None, ServiceFault, True),
        (17, ServiceFault, True),
        ({"code": "validation_failed", "retryable": True}, BadRequest, True),
    ],
)
def test_item_errors_are_classified(error: object, kind: type[ServiceError], retryable: bool) -> None:
    """Our error object, vLLM-Omni's string, or nothing at all; the endpoint itself has answered."""
    results = [wire.result(0), {"index": 1, "status": "error", "error": error}]
    found, problem = decode(wire.json_reply(wire.json_body(results)), wire.texts(2))
    assert problem is None
    assert isinstance(found[0], Speech)
    assert type(found[1]) is kind
    assert (found[1].retryable, found[1].endpoint_fault) == (retryable, False)


@pytest.mark.parametrize(
    ("changes", "match", "retryable"),
    [
        ({"audio_data": "!!!!"}, "4 characters that are not base64", True),
        ({"audio_data": coded(1)[:-1]}, "not base64", True),
        ({"audio_data": coded(1) + "\n!"}, "not base64", True),
        ({"audio_data": "é"}, "not base64", True),
        ({"audio_data": None}, "without audio", True),
        ({"audio_data": 5}, "without audio", True),
        ({"audio_data": ""}, "empty wav", True),
        ({"audio_data": base64.b64encode(wire.tagged_wav(1)[:-2]).decode()}, "truncated wav, 960 bytes", True),
        ({"audio_data": base64.b64encode(wire.tagged_wav(1)[:44]).decode()}, "truncated wav", True),
        ({"audio_data": base64.b64encode(b"<html>oh</html>").decode()}, "got unknown bytes", True),
        ({"audio_data": base64.b64encode(b"OggS" + bytes(50)).decode()}, "asked for wav, got ogg", False),
        ({"media_type": "audio/mpeg"}, "asked for wav, the reply calls it mp3", False),
        ({"media_type": "text/x-secret"}, "calls it another media type", False),
        ({"duration_ms": 2000}, "2.00 s announced, 0.02 s there", True),
    ],
)
def test_audio_that_is_not_whole_fails_alone(changes: dict[str, Any], match: str, retryable: bool) -> None:
    """One broken item is that text's error; the others are speeches."""
    results = [wire.result(0), wire.result(1, **changes)]
    found, error = decode(wire.json_reply(wire.json_body(results)), wire.texts(2))
    assert error is None
    assert isinstance(found[0], Speech)
    assert isinstance(found[1], DecodeError)
    assert match in str(found[1])
    assert found[1].retryable is retryable


@pytest.mark.parametrize("value", [None, "x", True, -1, 10**400, 1e300, 1, 19.999, 21, [1]])
def test_the_bytes_are_believed_before_the_announced_duration(value: object) -> None:
    """A duration that is absent, unreadable or a little off does no harm."""
    found, error = decode(
        wire.json_reply(wire.json_body([wire.result(0), wire.result(1, duration_ms=value)])), wire.texts(2)
    )
    assert error is None
    assert found[1].duration == pytest.approx(0.02)


def test_a_wav_says_its_own_rate_and_channels() -> None:
    """The header of the audio wins over the reply's fields and the wish."""
    wav = bytearray(wire.tagged_wav(0))
    wav[22:32] = (2).to_bytes(2, "little") + (8000).to_bytes(4, "little") + (32000).to_bytes(4, "little")
    wav[32:34] = (4).to_bytes(2, "little")
    audio = base64.b64encode(wav).decode()
    found, _ = decode(wire.json_reply(wire.json_body([wire.result(0, audio_data=audio)])), wire.texts(1))
    assert (found[0].sample_rate, found[0].channels, found[0].duration) == (8000, 2, pytest.approx(0.015))


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        ({}, {}, (24000, 1, 0.04)),
        ({"sample_rate": 48000}, {}, (48000, 1, 0.02)),
        ({"sample_rate": 48000}, {"sample_rate": 12000}, (12000, 1, 0.08)),
        ({"sample_rate": "fast", "channels": 0}, {}, (24000, 1, 0.04)),
        ({}, {"channels": 2}, (24000, 2, 0.02)),
        ({}, {"media_type": "audio/pcm;rate=48000"}, (48000, 1, 0.02)),
        ({"sample_rate": 8000}, {"media_type": "audio/pcm; Rate=48000; channels=2"}, (48000, 2, 0.01)),
        ({}, {"media_type": 'audio/pcm;rate="fast";channels=9;x'}, (24000, 1, 0.04)),
    ],
)
def test_raw_samples_take_their_shape_from_the_reply(
    shared: dict[str, Any], own: dict[str, Any], expected: tuple[int, int, float]
) -> None:
    """PCM names nothing, so the item's fields, the reply's and the wish are asked in turn."""
    audio = base64.b64encode(bytes(1920)).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio, "media_type": "audio/pcm", **own}
    found, error = decode(wire.json_reply({"results": [entry], **shared}), wire.texts(1, "pcm"))
    assert error is None
    assert (found[0].sample_rate, found[0].channels, found[0].duration) == (*expected[:2], pytest.approx(expected[2]))
