"""The engines: format, rate and length of their audio, and that speech is audible."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from cosyclient.emulator import echo_text
from tests.emulator.apis.batch.test_request import assert_problem
from tests.emulator.wire import FRAMES, parse_frames, post

if TYPE_CHECKING:
    import numpy.typing as npt

    from cosyclient.emulator import Emulator

TWENTY = "清晨的公园里有很多人在跑步也有人在打太极"
RATES = [8000, 16000, 22050, 24000, 44100, 48000]


def spoken(url: str, *texts: str, **options: Any) -> list[tuple[dict[str, Any], bytes]]:
    """Return each text's item header and audio."""
    frames = parse_frames(post(url, {"texts": list(texts), **options}, accept=FRAMES).body)
    return [(frames.items[index], frames.audio[index]) for index in range(len(texts))]


def decoded(audio: bytes) -> tuple[npt.NDArray[np.float64], int]:
    """Decode a file with libsndfile."""
    samples, rate = soundfile.read(io.BytesIO(audio))
    assert samples.ndim == 1
    return samples, rate


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("format", ["wav", "mp3", "opus"])
def test_a_tone_lasts_as_long_as_its_text(emulator: Emulator, format: str, rate: int) -> None:
    """Twenty Chinese characters are four seconds, at the rate asked for."""
    ((item, audio),) = spoken(emulator.url, TWENTY, format=format, sample_rate=rate)
    samples, actual = decoded(audio)
    if format == "opus":
        assert actual in (8000, 12000, 16000, 24000, 48000)
        assert actual >= rate
    else:
        assert actual == rate
    assert item["duration_ms"] == 4000
    assert len(samples) / actual == pytest.approx(4.0, abs=0.2)
    assert np.sqrt(np.mean(samples**2)) > 0.01


def test_pcm_is_bare_samples(emulator: Emulator) -> None:
    """16-bit samples and nothing else; the media type tells the rate."""
    ((item, audio),) = spoken(emulator.url, TWENTY, format="pcm", sample_rate=16000)
    assert item["media_type"] == "audio/pcm;rate=16000"
    assert len(audio) == 4 * 16000 * 2


def test_wav_has_the_plain_header(emulator: Emulator) -> None:
    """44 bytes whose sizes are true."""
    ((_, audio),) = spoken(emulator.url, TWENTY)
    assert struct.unpack_from("<4sI4s4sIHHIIHH4sI", audio) == (
        *(b"RIFF", len(audio) - 8, b"WAVE", b"fmt ", 16),
        *(1, 1, 24000, 48000, 2, 16, b"data", len(audio) - 44),
    )


def test_opus_has_the_next_rate_it_supports(emulator: Emulator) -> None:
    """Opus has no 44,100 Hz; the reply names the rate it has."""
    reply = post(emulator.url, {"texts": ["好"], "format": "opus", "sample_rate": 44100}).json()
    assert reply["sample_rate"] == 48000


def test_compressed_audio_has_the_size_of_real_speech(emulator: Emulator) -> None:
    """Four seconds at 24 kHz take about 20 KB, as the load model assumes."""
    for format in ("mp3", "opus"):
        ((_, audio),) = spoken(emulator.url, TWENTY, format=format)
        assert 12_000 < len(audio) < 25_000


@pytest.mark.parametrize(
    ("text", "options", "milliseconds"),
    [
        ("好", {}, 300),
        ("hello hello hello hello", {}, 1500),
        ("カタカナひらがな한국", {}, 2000),
        (TWENTY, {"speed": 2.0}, 2000),
        (TWENTY, {"speed": 0.5}, 8000),
    ],
)
def test_the_length_follows_script_and_speed(
    emulator: Emulator, text: str, options: dict[str, float], milliseconds: int
) -> None:
    """A syllable character is 0.2 s, another 0.065 s, nothing is shorter than 0.3 s."""
    ((item, _),) = spoken(emulator.url, text, **options)
    assert item["duration_ms"] == milliseconds


def test_tones_are_deterministic_and_voices_differ(emulator: Emulator) -> None:
    """Equal length, equal bytes; another voice, another pitch."""
    (_, one), (_, two) = spoken(emulator.url, "今天", "明天")
    assert one == two
    ((_, other),) = spoken(emulator.url, "今天", voice="中文男")
    assert other != one
    assert len(other) == len(one)


def test_speech_is_audible_in_both_languages(start: Any) -> None:
    """Chinese, English and mixed sentences have sound, and sound different."""
    url = start(engine="espeak").url
    texts = ["今天天气真好。", "The weather is fine today.", "我的 WiFi 很慢。"]
    loud = []
    for item, audio in spoken(url, *texts):
        samples, rate = decoded(audio)
        assert rate == 24000
        assert np.sqrt(np.mean(samples**2)) > 0.02
        assert item["duration_ms"] == pytest.approx(len(samples) / 24, abs=1)
        assert 600 < item["duration_ms"] < 6000
        loud.append(audio)
    assert len(set(loud)) == 3


def test_a_mixed_sentence_is_split_into_runs_by_script() -> None:
    """Each script has its voice; digits and punctuation stay with the words before them."""
    from cosyclient.emulator.speech.espeak import runs
    from cosyclient.emulator.speech.voices import VOICES

    voice = VOICES["default"]
    assert list(runs("我的 WiFi 密码是 8 个 8。", voice)) == [
        ("cmn", "我的 "),
        ("en-us", "WiFi "),
        ("cmn", "密码是 8 个 8。"),
    ]
    assert list(runs("日本語です", voice)) == [("ja", "日本語です")]
    assert list(runs("2024", voice)) == [("cmn", "2024")]


@pytest.mark.parametrize("voice", ["default", "中文女", "中文男", "英文女", "英文男", "日语男", "粤语女", "韩语女"])
def test_every_voice_is_audible(start: Any, voice: str) -> None:
    """Every voice of the list gives audio that is not silence."""
    ((_, audio),) = spoken(start(engine="espeak").url, "你好 hello", voice=voice)
    samples, _ = decoded(audio)
    assert np.sqrt(np.mean(samples**2)) > 0.02


def test_speed_changes_speech(start: Any) -> None:
    """Twice the speed takes clearly less time."""
    url = start(engine="espeak").url
    text = "今天天气真好，我们出去走走吧。"
    slow, normal, fast = (spoken(url, text, speed=speed)[0][0]["duration_ms"] for speed in (0.5, 1.0, 2.0))
    assert slow > 1.4 * normal
    assert fast < 0.75 * normal


@pytest.mark.parametrize("format", ["wav", "mp3", "opus"])
@pytest.mark.parametrize("rate", [8000, 24000, 48000])
def test_speech_keeps_its_length_at_every_rate(start: Any, format: str, rate: int) -> None:
    """Resampling changes the rate, not the time."""
    ((item, audio),) = spoken(start(engine="espeak").url, "你好，世界。", format=format, sample_rate=rate)
    samples, actual = decoded(audio)
    assert actual == rate
    assert len(samples) / actual * 1000 == pytest.approx(item["duration_ms"], abs=200)


def test_punctuation_alone_is_silence(start: Any) -> None:
    """A text without a pronounceable character is a short silence, not an empty file."""
    ((item, audio),) = spoken(start(engine="espeak").url, "……")
    assert item["duration_ms"] >= 300
    assert len(audio) > 44


@pytest.mark.parametrize("format", ["wav", "pcm"])
@pytest.mark.parametrize("rate", RATES)
def test_echo_returns_the_text(start: Any, format: str, rate: int) -> None:
    """Any text can be read from its samples."""
    texts = ["a", "你好，世界 🎙️", "x" * 4096]
    items = spoken(start(engine="echo").url, *texts, format=format, sample_rate=rate)
    for text, (item, audio) in zip(texts, items, strict=True):
        assert echo_text(audio) == text
        assert item["duration_ms"] % 100 == 0


def test_echo_needs_a_format_that_keeps_samples(start: Any) -> None:
    """A lossy codec would lose the text."""
    problem = assert_problem(
        post(start(engine="echo").url, {"texts": ["a"], "format": "mp3"}), 422, "validation_failed"
    )
    assert problem["errors"][0]["pointer"] == "/format"


@pytest.mark.parametrize("audio", [b"", b"RIFF", bytes(4800), b"C\0o\0s\0y\0\xff\0\0\0abc"])
def test_audio_without_a_text_is_refused(audio: bytes) -> None:
    """So is audio that carries only part of one."""
    with pytest.raises(ValueError, match="echo|WAV"):
        echo_text(audio)
