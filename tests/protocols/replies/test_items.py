"""`replies.items`: each item of a JSON batch is a speech or an error, and every position comes exactly once."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from cosyclient.audio import wav_bytes
from cosyclient.errors import (
    BadRequest,
    DecodeError,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
)
from cosyclient.models import Speech
from cosyclient.protocols.replies.items import PositionCheck
from tests.protocols import wire
from tests.protocols.reading import base64_by, decode

__all__ = ["base64_by"]


def encoded_audio(index: int) -> str:
    """Return the tagged audio as base64."""
    return base64.b64encode(wire.tagged_wav(index)).decode()


def encoded_wav(samples: bytes) -> str:
    """Return *samples* as a WAV file in base64."""
    return base64.b64encode(wav_bytes(samples, wire.RATE)).decode()


def encoded_noise() -> str:
    """Return bytes without any known signature in base64."""
    return base64.b64encode(bytes(range(100, 200))).decode()


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
        ("engine failed", ServiceFault, True),
        (None, ServiceFault, True),
        (17, ServiceFault, True),
        ({"code": "validation_failed", "retryable": True}, BadRequest, True),
    ],
)
def test_item_errors_are_classified(error: object, kind: type[ServiceError], retryable: bool) -> None:
    """Our error object, vLLM-Omni's string, or nothing at all; none is the endpoint's fault, which has answered."""
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
        ({"audio_data": encoded_audio(1)[:-1]}, "not base64", True),
        ({"audio_data": encoded_audio(1) + "\n!"}, "not base64", True),
        ({"audio_data": "é"}, "not base64", True),
        ({"audio_data": None}, "without audio", True),
        ({"audio_data": 5}, "without audio", True),
        ({"audio_data": ""}, "empty wav", True),
        ({"audio_data": base64.b64encode(wire.tagged_wav(1)[:-2]).decode()}, "truncated wav, 960 bytes", True),
        ({"audio_data": base64.b64encode(wire.tagged_wav(1)[:44]).decode()}, "truncated wav", True),
        ({"audio_data": base64.b64encode(b"<html>oh</html>").decode()}, "got unknown bytes", True),
        ({"audio_data": base64.b64encode(b"OggS" + bytes(50)).decode()}, "asked for wav, got ogg", False),
        (
            {"audio_data": encoded_wav(bytes(4800))},
            "0.10 s of the same sample; a test server must send real samples",
            True,
        ),
        (
            {"audio_data": encoded_wav(b"\x34\x12" * 2400)},
            "0.10 s of the same sample; a test server must send real samples",
            True,
        ),
        ({"audio_data": encoded_noise(), "media_type": "audio/mpeg"}, "asked for wav, the reply calls it mp3", False),
        ({"audio_data": encoded_noise(), "media_type": "text/x-secret"}, "got unknown bytes", True),
    ],
)
def test_damaged_audio_fails_only_its_own_text(changes: dict[str, Any], match: str, retryable: bool) -> None:
    """The other texts have speeches."""
    results = [wire.result(0), wire.result(1, **changes)]
    found, error = decode(wire.json_reply(wire.json_body(results)), wire.texts(2))
    assert error is None
    assert isinstance(found[0], Speech)
    assert isinstance(found[1], DecodeError)
    assert match in str(found[1])
    assert found[1].retryable is retryable


def test_each_position_is_claimed_exactly_once() -> None:
    """Another total, an index twice, outside or missing is an error; its repr is a status line."""
    check = PositionCheck(2)
    check.check_total(2)
    for total in (3, True, "2", None, 10**400):
        with pytest.raises(DecodeError, match="results announced for 2 texts"):
            check.check_total(total)
    assert check.claim(1) == 1
    for index, fault in (
        (1, "two results"),
        (2, "the reply has index 2; only 0 to 1 were sent"),
        (-1, "has index -1; only"),
        (True, "names no index"),
        ("0", "names no"),
    ):
        with pytest.raises(DecodeError, match=fault):
            check.claim(index)
    with pytest.raises(DecodeError, match="no result for 1 of 2 texts, first 0"):
        check.check_complete()
    check.claim(0)
    check.check_complete()
    assert repr(check) == "<PositionCheck 2 of 2 claimed>"
