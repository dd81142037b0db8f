"""`cosyclient.audio.silent_file`, and silence as `inspect` detects it in every format."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from cosyclient import audio
from cosyclient.audio import check, inspect


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("how", [("MP3", "MPEG_LAYER_III", "mp3"), ("OGG", "OPUS", "opus"), ("WAV", "FLOAT", "wav")])
def test_silence_is_detected_in_every_format(rate: int, channels: int, how: tuple[str, str, str]) -> None:
    """Unlike a tone, faint noise, and speech after or before a pause of two seconds."""
    container, subtype, format = how
    if format == "opus" and rate in (22050, 44100):
        rate = 24000
    rng = np.random.default_rng(3)
    sounds = {
        "silence": np.zeros(3 * rate),
        "tone": 0.3 * np.sin(2 * np.pi * 220 * np.arange(3 * rate) / rate),
        "faint": 2e-4 * rng.standard_normal(3 * rate),
        "late": np.concatenate([np.zeros(2 * rate), 0.1 * rng.standard_normal(rate // 4)]),
        "early": np.concatenate([0.1 * rng.standard_normal(rate // 4), np.zeros(2 * rate)]),
        "short": np.zeros(200),
    }
    for name, samples in sounds.items():
        file = io.BytesIO()
        soundfile.write(file, np.stack([samples] * channels, 1), rate, format=container, subtype=subtype)
        assert inspect(format, file.getvalue(), rate).is_silent is (name == "silence"), name
    assert inspect(format, audio.silence(format, rate, 1.0), rate).is_silent


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("format", ["wav", "pcm", "mp3", "opus"])
def test_a_silent_file_is_complete_audio(format: str, rate: int) -> None:
    """Other decoders accept it."""
    made = audio.silence(format, rate, 0.3)
    info = check(format, made, rate)
    assert (info.sample_rate, info.channels) == (rate, 1)
    assert info.duration == pytest.approx(0.3, abs=0.08)
    if format != "pcm":
        received, _ = soundfile.read(io.BytesIO(made))
        assert np.abs(received).max() < 1e-9
        assert len(received)
