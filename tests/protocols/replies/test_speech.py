"""`replies.speech`: what bytes and labels make a speech, of which format, rate and duration, or which error."""

from __future__ import annotations

import base64
import io
import itertools
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from cosyclient.audio import wav_bytes
from cosyclient.audio.format import PcmFormat
from cosyclient.errors import (
    DecodeError,
)
from cosyclient.models import Speech, Utterance, VoiceSettings
from cosyclient.protocols.replies import speech as replies_speech
from cosyclient.protocols.replies.speech import check_duration, check_stream_duration, speech_from_bytes
from tests.protocols import wire
from tests.protocols.reading import base64_by, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def encoded_wav(samples: bytes) -> str:
    """Return *samples* as a WAV file in base64."""
    return base64.b64encode(wav_bytes(samples, wire.RATE)).decode()


@pytest.mark.parametrize(
    "label", ["audio/mpeg", "application/octet-stream", "binary/octet-stream", "text/plain", "nonsense", "", None, 7]
)
@pytest.mark.parametrize("format", ["wav", "mp3", "opus", "pcm"])
def test_the_bytes_decide_before_the_media_type(label: object, format: str) -> None:
    """Audio of the requested format is accepted under any media type."""
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
def test_another_format_is_named_and_not_retried(asked: str, sent: str) -> None:
    """Under any media type; another attempt would bring the same, and the endpoint is not at fault."""
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
def test_samples_labelled_as_a_format_without_signature_are_an_error(label: str) -> None:
    """They could be noise."""
    audio = base64.b64encode(encoded["pcm"]).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio, "media_type": label}
    found, _ = decode(wire.json_reply({"results": [entry]}), wire.texts(1, "pcm"))
    assert isinstance(found[0], DecodeError)
    assert not found[0].retryable


def test_a_wav_file_in_place_of_samples_is_unpacked() -> None:
    """With samples of any kind; its header decides the rate before the reply's members."""
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
def test_no_audio_for_a_text_without_speech_is_silence_or_a_final_error(format: str, on_silent: str) -> None:
    """By ``on_silent``; the error is neither retryable nor the endpoint's fault."""
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
        samples, rate = soundfile.read(io.BytesIO(found[0].audio))
        assert rate in (24000, 48000)
        assert np.abs(samples).max() < 1e-9


def test_the_services_own_silence_is_kept_for_a_text_without_speech() -> None:
    """No other silence replaces it."""
    results = [wire.result(0, audio_data=encoded_wav(bytes(4800)))]
    found, error = decode(wire.json_reply({"results": results}), [Utterance("……！？", VoiceSettings())])
    assert error is None
    assert found[0].duration == 0.1


@pytest.mark.parametrize(
    ("announced", "good"), [(100, True), (999, True), (1000, True), (1200, False), (60_000, False)]
)
def test_samples_much_shorter_than_announced_are_an_error(announced: float, good: bool) -> None:
    """Samples do not show that their end is missing; a second may be rounding."""
    audio = base64.b64encode(bytes(range(240)) * 20).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio, "duration_ms": announced}
    found, _ = decode(wire.json_reply({"results": [entry]}), wire.texts(1, "pcm"))
    assert isinstance(found[0], Speech) is good
    if not good:
        assert "s announced, 0.10 s there" in str(found[0])
        assert (found[0].retryable, found[0].endpoint_fault) == (True, False)


@pytest.mark.parametrize("value", [None, "x", True, -1, 10**400, 1e300, 1, 19.999, 21, 2000, 60_000, [1]])
def test_a_file_that_states_its_length_overrides_the_announced_duration(value: object) -> None:
    """Whether that is absent, unreadable or wrong."""
    found, error = decode(
        wire.json_reply(wire.json_body([wire.result(0), wire.result(1, duration_ms=value)])), wire.texts(2)
    )
    assert error is None
    assert found[1].duration == pytest.approx(0.02)


def test_the_wav_header_decides_rate_and_channels() -> None:
    """Before the reply's members and the request."""
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
def test_the_format_of_samples_comes_from_the_reply(
    shared: dict[str, Any], own: dict[str, Any], expected: tuple[int, int, float]
) -> None:
    """From the item's members, then the reply's, then the request."""
    audio = base64.b64encode(bytes(range(240)) * 8).decode()
    entry = {"index": 0, "status": "success", "audio_data": audio, "media_type": "audio/pcm", **own}
    found, error = decode(wire.json_reply({"results": [entry], **shared}), wire.texts(1, "pcm"))
    assert error is None
    assert (found[0].sample_rate, found[0].channels, found[0].duration) == (*expected[:2], pytest.approx(expected[2]))


def test_a_duration_far_from_the_estimate_is_a_retryable_error() -> None:
    """The endpoint is not blamed, as the estimate may be wrong; rows of dashes count as no text."""
    text = Utterance("一二三四五六七八九十" * 5, VoiceSettings())
    expected = text.expected_seconds
    for seconds in (0.1 * expected, expected, 10 * expected + 30):
        check_duration(text, seconds)
    for seconds in (0.09 * expected, 10 * expected + 31):
        with pytest.raises(DecodeError, match="s were expected") as caught:
            check_duration(text, seconds)
        assert (caught.value.retryable, caught.value.endpoint_fault) == (True, False)
    check_duration(Utterance("—" * 400, VoiceSettings()), 0.1)


def test_a_stream_of_too_much_audio_ends_at_once_and_of_too_little_at_its_end() -> None:
    """In bytes of the format among its pieces; a stream without audio is left to the caller."""
    text = Utterance("你好。", VoiceSettings())
    endless: Iterator[PcmFormat | bytes] = itertools.chain([PcmFormat(8000, 2)], itertools.repeat(bytes(32000)))
    checked = check_stream_duration(text, endless)
    for _ in range(1 + int(10 * text.expected_seconds + 30)):
        next(checked)
    with pytest.raises(DecodeError, match="s were expected"):
        next(checked)
    assert list(check_stream_duration(text, [])) == []
    long = Utterance("一二三四五六七八九十" * 5, VoiceSettings())
    short = check_stream_duration(long, [b"ab"])
    assert next(short) == b"ab"
    with pytest.raises(DecodeError, match="s were expected"):
        next(short)


@pytest.mark.parametrize(
    "file", [encoded["wav"], wav_bytes(bytes(range(200)) * 9, 8000, 2), wav_bytes(bytes(960), 24000)]
)
@pytest.mark.parametrize(
    "label",
    [
        {"media_type": "audio/mpeg", "sample_rate": 48000, "channels": 2, "duration_ms": 1e6},
        {"media_type": "audio/l16;rate=8000"},
        {},
    ],
)
@pytest.mark.parametrize("text", ["Hello.", "…"])
def test_a_plain_wav_file_is_read_as_any_other(
    file: bytes, label: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same speech or error, whatever labels it has."""
    utterance = Utterance(text, VoiceSettings(on_silent="silence"))

    def found() -> object:
        try:
            return speech_from_bytes(utterance, file, label, {"channels": 3})
        except DecodeError as error:
            return repr(error)

    fast = found()
    monkeypatch.setattr(replies_speech, "plain_format", lambda _: None)
    assert fast == found()


def test_members_of_an_item_precede_those_of_its_reply() -> None:
    """Also one that is null."""
    utterance = Utterance("Hello.", VoiceSettings(format="pcm"))
    data, shared = bytes(range(240)) * 8, {"sample_rate": 48000, "channels": 2}
    for fields, expected in (({}, (48000, 2)), ({"channels": 1}, (48000, 1)), ({"sample_rate": None}, (24000, 2))):
        speech = speech_from_bytes(utterance, data, fields, shared)
        assert (speech.sample_rate, speech.channels) == expected
