"""Voices: a recording is checked once, a name is a name, and equal voices are one fingerprint."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import pytest

from cosyclient import BadUtterance, ConfigurationError, CosyClient, Voice
from cosyclient.audio import parse_wav, wav_bytes
from cosyclient.models import Utterance, VoiceSettings
from cosyclient.testing import scripted_client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def recording(seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> bytes:
    """Return a WAV file of a tone, each channel at its own loudness."""
    frames = (
        [round(1000 * (channel + 1) * math.sin(position / 7)) for channel in range(channels)]
        for position in range(int(seconds * rate))
    )
    return wav_bytes(b"".join(struct.pack(f"<{channels}h", *frame) for frame in frames), rate, channels)


def test_a_voice_by_name_equals_its_name() -> None:
    """One name, one fingerprint, whichever way it is given."""
    assert VoiceSettings(voice=Voice("longanyang")) == VoiceSettings(voice="longanyang")
    by_object = Utterance("a", VoiceSettings(voice=Voice("longanyang")))
    assert by_object.fingerprint == Utterance("a", VoiceSettings(voice="longanyang")).fingerprint
    assert VoiceSettings(voice=Voice("longanyang")).voice_kind == "named"
    assert repr(Voice("longanyang")) == "<Voice 'longanyang'>"


def test_a_recording_is_read_from_bytes_and_files(tmp_path: Path) -> None:
    """Both are the same voice, and its forms are made once."""
    data = recording()
    path = tmp_path / "prompt.wav"
    path.write_bytes(data)
    from_bytes, from_file = Voice.clone(data, "你好"), Voice.clone(path, "你好")
    assert from_bytes == from_file
    assert hash(from_bytes) == hash(from_file)
    assert from_bytes.kind == "clone"
    assert Voice.cross_lingual(data).kind == "cross_lingual"
    assert Voice.cross_lingual(data) != from_bytes
    assert Voice.clone(data, "再见") != from_bytes
    prompt = from_bytes.prompt
    assert prompt is not None
    assert (prompt.wav, prompt.sample_rate, prompt.seconds) == (data, 16000, 1.0)
    assert prompt.data_url.startswith("data:audio/wav;base64,UklGR")
    assert prompt.form("half", lambda each: each.samples[:10]) == prompt.samples[:10]
    assert prompt.form("half", lambda _: b"made again") == prompt.samples[:10]


def test_channels_are_averaged() -> None:
    """CosyVoice speaks with one mouth."""
    prompt = Voice.cross_lingual(recording(channels=3)).prompt
    assert prompt is not None
    left = struct.unpack("<3h", parse_wav(recording(channels=3)).samples[600:606])
    assert struct.unpack_from("<h", prompt.samples, 200)[0] == sum(left) // 3


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (recording(rate=8000), "8000 Hz, at least 16000"),
        (recording(0.0), "empty"),
        (wav_bytes(bytes(2 * 16000 * 31), 16000), "31.0 s, at most 30 s"),
        (b"ID3\x03" + bytes(100), "no WAV file of plain samples"),
        (recording()[:3000], "truncated"),
        (bytes((10 << 20) + 1), "at most 10485760"),
    ],
)
def test_invalid_recordings_are_refused_naming_the_rule(data: bytes, rule: str) -> None:
    """The rule, and what to do about it."""
    with pytest.raises(BadUtterance, match=rule):
        Voice.clone(data, "你好")


def test_a_missing_file_and_a_missing_transcript_are_errors(tmp_path: Path) -> None:
    """Before anything is sent."""
    with pytest.raises(BadUtterance, match="cannot read the recording"):
        Voice.cross_lingual(tmp_path / "none.wav")
    with pytest.raises(BadUtterance, match="use cross_lingual"):
        Voice.clone(recording(), " ")
    with pytest.raises(BadUtterance, match="non-blank str"):
        Voice(" ")


def test_fingerprints_of_voices_differ_and_are_stable() -> None:
    """A fingerprint is a cache key: options that came later must not change the old ones."""
    assert Utterance("你好", VoiceSettings()).fingerprint == Utterance("你好", VoiceSettings(words=False)).fingerprint
    prints = {
        Utterance("a", VoiceSettings(voice=voice, words=words)).fingerprint
        for voice in (None, "a", Voice.clone(recording(), "a"), Voice.clone(recording(), "b"))
        for words in (False, True)
    }
    assert len(prints) == 8


def test_a_repr_shows_no_recording() -> None:
    """Length and digest, as for texts."""
    shown = repr(Voice.clone(recording(), "a secret"))
    assert "1.0 s at 16000 Hz" in shown
    assert "secret" not in shown
    assert len(shown) < 100


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"name", "must be a non-blank str, got bytes"),
        (5, "must be a non-blank str, got int"),
        (None, "must be a non-blank str, got NoneType"),
        ([], "must be a non-blank str, got list"),
        ("", "must be a non-blank str, got ''"),
        (" \n", "must be a non-blank str"),
        ("a\0b", r"control character U\+0000 at position 1"),
        ("a\x1b[31m", r"control character U\+001B at position 1"),
        ("a\ud800", r"lone surrogate U\+D800 at position 1"),
        ("x" * 100_000, "100000 code points, at most"),
    ],
)
def test_an_invalid_name_is_refused_when_the_voice_is_made(value: Any, says: str) -> None:
    """Voices, models, instructions, transcripts and uploads; the error is the library's, and short."""
    data = recording()

    def upload(name: Any = "n", consent: Any = "c") -> None:
        client, transport = scripted_client([], protocol="openai:vllm-omni")
        try:
            client.upload_voice(Voice.clone(data, "hello"), name, consent=consent)
        finally:
            assert transport.requests == []
            client.close()

    makers: list[Callable[[], object]] = [
        lambda: Voice(value),
        lambda: Voice.clone(data, value),
        lambda: upload(name=value),
    ]
    if value is not None:
        makers += [
            lambda: VoiceSettings(voice=value),
            lambda: VoiceSettings(model=value),
            lambda: VoiceSettings(instruct=value),
            lambda: upload(consent=value),
        ]
    for make in makers:
        with pytest.raises(BadUtterance, match=says if "non-blank" not in says else None) as caught:
            make()
        assert len(str(caught.value)) < 300
    if value is not None:
        for make in (
            lambda: CosyClient("http://tts.test", voice=value),
            lambda: CosyClient("http://tts.test", model=value),
        ):
            with pytest.raises(ConfigurationError):
                make()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (5, "a recording is the path of a file or its bytes, not int"),
        (None, "not NoneType"),
        (bytearray(b"RIFF"), "not bytearray"),
        ("a\0.wav", "is no path"),
        ("a\ud800.wav", "no path|cannot read"),
        ("x" * 100_000, "cannot read the recording"),
        ("/nope/me.wav", "cannot read the recording '/nope/me.wav': No such file"),
        ("/", "cannot read the recording '/': Is a directory"),
    ],
)
def test_a_value_that_is_no_recording_is_refused_naming_the_rule(given: Any, says: str) -> None:
    """A file that is not there, a name that no file can have, a thing that is none."""
    for make in (Voice.cross_lingual, lambda wav: Voice.clone(wav, "hello")):
        with pytest.raises(BadUtterance, match=f"voice: .*({says})") as caught:
            make(given)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "options", [{"format": "f" * 100_000}, {"seed": 10**5000}, {"speed": "s" * 9999}, {"words": [1] * 999}]
)
def test_a_long_invalid_option_is_shortened_in_the_error(options: dict[str, Any]) -> None:
    """An error is a line."""
    with pytest.raises(BadUtterance) as caught:
        VoiceSettings(**options)
    assert len(str(caught.value)) < 300


def test_uploads_need_a_voice_and_listeners_must_be_callable() -> None:
    """Raised at once."""
    client, _ = scripted_client([], protocol="openai:vllm-omni")
    with pytest.raises(BadUtterance, match="voice: must be a Voice, got str"):
        client.upload_voice("me", "n", consent="c")  # type: ignore[arg-type]
    client.close()
    for listeners in (5, [5], "on_event"):
        with pytest.raises(ConfigurationError, match="listeners: must be functions"):
            CosyClient("http://tts.test", listeners=listeners)  # type: ignore[arg-type]
