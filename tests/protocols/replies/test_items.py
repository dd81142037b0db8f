"""One item of a batch reply: its error, or its audio and what is known of it."""

from __future__ import annotations

import base64
import io
import itertools
import struct
from typing import Any

import numpy as np
import pytest
import soundfile

from cosyclient.audio import wav_bytes
from cosyclient.errors import (
    BadRequest,
    DecodeError,
    NotFound,
    ServiceError,
    ServiceFault,
    Throttled,
)
from cosyclient.models import Speech, Utterance, VoiceSettings
from tests.protocols import wire
from tests.protocols.reading import base64_by, decode

__all__ = ["base64_by"]


def _encoded(container: str, subtype: str) -> bytes:
    file = io.BytesIO()
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(12000) / 24000)
    soundfile.write(file, tone, 24000, format=container, subtype=subtype)
    return file.getvalue()


encoded = {
    "wav": _encoded("WAV", "PCM_16"),
    "pcm": _encoded("RAW", "PCM_16"),
    "mp3": _encoded("MP3", "MPEG_LAYER_III"),
    "opus": _encoded("OGG", "OPUS"),
    "flac": _encoded("FLAC", "PCM_16"),
    "mp4": b"\0\0\0\x20ftypM4A " + bytes(1000),
}


def coded(index: int) -> str:
    """Return the tagged audio as base64."""
    return base64.b64encode(wire.tagged_wav(index)).decode()


def spoken(samples: bytes) -> str:
    """Return *samples* as a WAV file in base64."""
    return base64.b64encode(wav_bytes(samples, wire.RATE)).decode()


def noise() -> str:
    """Return what begins like nothing in use."""
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
        ({"audio_data": spoken(bytes(4800))}, "0.10 s of silence", True),
        ({"audio_data": spoken(b"\x34\x12" * 2400)}, "0.10 s of silence", True),
        ({"audio_data": noise(), "media_type": "audio/mpeg"}, "asked for wav, the reply calls it mp3", False),
        ({"audio_data": noise(), "media_type": "text/x-secret"}, "got unknown bytes", True),
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


@pytest.mark.parametrize(
    "label", ["audio/mpeg", "application/octet-stream", "binary/octet-stream", "text/plain", "nonsense", "", None, 7]
)
@pytest.mark.parametrize("format", ["wav", "mp3", "opus", "pcm"])
def test_the_bytes_are_believed_before_the_label(label: object, format: str) -> None:
    """What begins as the format asked for is that, whatever it is called."""
    audio = encoded[format]
    entry = {"index": 0, "status": "success", "audio_data": base64.b64encode(audio).decode(), "media_type": label}
    found, error = decode(wire.json_reply({"results": [entry]}), wire.texts(1, format))
    assert error is None
    if format == "pcm" and label in ("text/plain", "nonsense"):
        assert str(found[0]) == "audio: asked for pcm, the reply calls it another media type"
        return
    assert found[0].audio == audio
    assert found[0].duration == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(("asked", "sent"), list(itertools.permutations(["wav", "mp3", "opus", "flac", "mp4"], 2)))
def test_another_format_is_named_at_once(asked: str, sent: str) -> None:
    """Whatever it is called; asking again would bring the same, and the service is not ill."""
    if asked not in ("wav", "mp3", "opus", "pcm"):
        return
    for label in ("audio/wav", "audio/mpeg", "audio/ogg", "application/octet-stream", None):
        audio = base64.b64encode(encoded[sent]).decode()
        entry = {"index": 0, "status": "success", "audio_data": audio, "media_type": label}
        found, _ = decode(wire.json_reply({"results": [entry]}), wire.texts(1, asked))
        named = {"opus": "ogg"}.get(sent, sent)
        assert str(found[0]) == f"audio: asked for {asked}, got {named}"
        assert (found[0].retryable, found[0].endpoint_fault) == (False, False)


@pytest.mark.parametrize("label", ["audio/aac", "text/html", "application/json"])
def test_samples_that_are_called_something_that_shows_in_no_bytes_are_refused(label: str) -> None:
    """Noise must not pass for speech."""
    audio = base64.b64encode(encoded["pcm"]).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio, "media_type": label}
    found, _ = decode(wire.json_reply({"results": [entry]}), wire.texts(1, "pcm"))
    assert isinstance(found[0], DecodeError)
    assert not found[0].retryable


def test_samples_in_a_file_are_samples() -> None:
    """Of any kind; the header knows their rate better than the reply."""
    samples = bytes(range(240)) * 8
    wide = b"".join(b"\0" + samples[place : place + 2] for place in range(0, len(samples), 2))
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + len(wide), b"WAVEfmt ", 16, 1, 1, 16000, 48000, 3, 24)
    file = head + struct.pack("<4sI", b"data", len(wide)) + wide
    entry = {"index": 0, "status": "success", "audio_data": base64.b64encode(file).decode(), "media_type": "audio/wav"}
    found, error = decode(wire.json_reply({"results": [entry], "sample_rate": 48000}), wire.texts(1, "pcm"))
    assert error is None
    assert (found[0].audio, found[0].sample_rate, found[0].pcm()) == (samples, 16000, samples)


@pytest.mark.parametrize("on_silent", ["error", "silence"])
@pytest.mark.parametrize("format", ["wav", "pcm", "mp3", "opus"])
def test_a_text_without_speech_is_nobodys_fault(format: str, on_silent: str) -> None:
    """No audio of it is what was to be expected: an error that is not tried again, or silence that is audio."""
    settings = VoiceSettings(format=format, on_silent=on_silent)
    results = [{"index": 0, "status": "success", "audio_data": ""}]
    found, error = decode(wire.json_reply({"results": results}), [Utterance("……！？", settings)])
    assert error is None
    if on_silent == "error":
        assert str(found[0]).startswith("audio: none, for the text has nothing to be spoken; on_silent='silence'")
        assert (found[0].retryable, found[0].endpoint_fault) == (False, False)
        return
    assert isinstance(found[0], Speech)
    assert (found[0].format, found[0].sample_rate) == (format, 24000)
    assert 0.3 <= found[0].duration <= 0.33
    assert found[0].fingerprint == Utterance("……！？", settings).fingerprint
    if format != "pcm":
        heard, rate = soundfile.read(io.BytesIO(found[0].audio))
        assert rate in (24000, 48000)
        assert np.abs(heard).max() < 1e-9


def test_silence_is_what_a_text_without_speech_may_become() -> None:
    """The service's own is as good as ours."""
    results = [wire.result(0, audio_data=spoken(bytes(4800)))]
    found, error = decode(wire.json_reply({"results": results}), [Utterance("……！？", VoiceSettings())])
    assert error is None
    assert found[0].duration == 0.1


@pytest.mark.parametrize(
    ("announced", "good"), [(100, True), (999, True), (1000, True), (1200, False), (60_000, False)]
)
def test_samples_alone_are_believed_unless_the_service_announced_far_more(announced: float, good: bool) -> None:
    """Nothing in them shows that their end is missing; a second may be the service's rounding."""
    audio = base64.b64encode(bytes(range(240)) * 20).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio, "duration_ms": announced}
    found, _ = decode(wire.json_reply({"results": [entry]}), wire.texts(1, "pcm"))
    assert isinstance(found[0], Speech) is good
    if not good:
        assert "s announced, 0.10 s there" in str(found[0])
        assert (found[0].retryable, found[0].endpoint_fault) == (True, False)


@pytest.mark.parametrize("value", [None, "x", True, -1, 10**400, 1e300, 1, 19.999, 21, 2000, 60_000, [1]])
def test_the_bytes_are_believed_before_the_announced_duration(value: object) -> None:
    """A duration that is absent, unreadable or off does no harm to a file that knows its own."""
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
    audio = base64.b64encode(bytes(range(240)) * 8).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio, "media_type": "audio/pcm", **own}
    found, error = decode(wire.json_reply({"results": [entry], **shared}), wire.texts(1, "pcm"))
    assert error is None
    assert (found[0].sample_rate, found[0].channels, found[0].duration) == (*expected[:2], pytest.approx(expected[2]))
